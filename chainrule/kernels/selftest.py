"""May compiled kernels be used here? Asked once for each processor and version, in a process of its own.

LLVM can end the whole process where it does not know an instruction, so that the first compilation runs in a child. It
compiles the kernels into a cache, compares them with torch and writes its finding beside them; later processes read the
finding and load the kernels in a fraction of a second.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from chainrule.core.compute import NARROW
from chainrule.core.progress import phase
from chainrule.kernels.cache import cache_folder

FOUND = "found.json"
"""File of the finding: ``{"why": null}``, or why the kernels may not be used."""
SECONDS = 600
"""Time that a self-test may take."""
CLOSE = {"int8": 2e-2, "int4": 2e-2, "bf16": 5e-3}
"""Largest difference of the logits of a small decoder from torch's, as a share of their spread."""
CLOSE_LAYER = 3e-2
"""Largest difference of outputs and gradients of a recurrent layer, as a share of their norm."""


def missing_instructions() -> str | None:
    """Return which instructions of the kernels this processor lacks, or torch may not use; None: it has all."""
    if (limit := torch.backends.cpu.get_cpu_capability()) in NARROW:
        return f"torch uses {limit} here, not AVX512"
    for name, has in (("VNNI", torch.cpu._is_vnni_supported), ("BF16", torch.cpu._is_avx512_bf16_supported)):
        if not has():
            return f"this processor has no AVX512-{name}"
    return None


@functools.cache
def why_not() -> str | None:
    """Return why compiled kernels may not be used here; None: they may. The first call on a machine compiles them.

    Returns:
        A reason for a note, such as "this processor has no AVX512-VNNI".
    """
    if os.environ.get("CHAINRULE_KERNELS") == "off":
        return "CHAINRULE_KERNELS=off"
    if (missing := missing_instructions()) is not None:
        return missing
    file = cache_folder() / FOUND
    if not file.exists():
        with phase("compiling kernels, once"):
            _ask_child(file)
    try:
        return json.loads(file.read_text(encoding="utf-8"))["why"]
    except (OSError, ValueError, KeyError) as error:
        return f"{file} cannot be read: {error}"


def _ask_child(file: Path) -> None:
    """Run the self-test in a child process, which writes the finding; where it cannot, this process does."""
    command = [sys.executable, "-c", "from chainrule.kernels.selftest import test; test()"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    try:
        ended = subprocess.run(command, capture_output=True, timeout=SECONDS, env=environment, text=True)
        why = None if ended.returncode == 0 else f"the self-test ended with status {ended.returncode}: {_last(ended)}"
    except (OSError, subprocess.TimeoutExpired) as error:
        why = f"the self-test did not end: {error}"
    if why is not None or not file.exists():
        _write(file, why or "the self-test wrote nothing")


def _last(ended: subprocess.CompletedProcess[str]) -> str:
    return (ended.stderr.strip().splitlines() or ["no message"])[-1]


def _write(file: Path, why: str | None) -> None:
    temporary = file.with_suffix(f".{os.getpid()}")
    temporary.write_text(json.dumps({"why": why}), encoding="utf-8")
    temporary.replace(file)


def test() -> None:
    """Compile the kernels, compare them with torch, and write the finding. Runs in the child."""
    torch.manual_seed(1)
    _write(cache_folder() / FOUND, next((why for why in (*_steps(), *_draws(), *_layers(), *_parts()) if why), None))


def _steps() -> Iterator[str | None]:
    """Compare the compiled steps of small models with torch."""
    from chainrule.core import model_type
    from chainrule.kernels.decoder import PackedDecoder
    from chainrule.kernels.recurrent_step import PackedRecurrent
    from chainrule.kernels.rounding import round_weights

    gpt = {"width": 64, "layers": 2, "heads": 2}
    tested = [
        ("gpt", PackedDecoder, {**gpt, "positions": "rotary", "activation": "relu2"}),
        ("gpt", PackedDecoder, {**gpt, "positions": "learned", "activation": "gelu_tanh"}),
        *((cell, PackedRecurrent, {"width": 64}) for cell in ("rnn", "lstm", "gru")),
    ]
    for name, packed, settings in tested:
        found = model_type(name)
        model: Any = found.build(found.configure("tiny", vocab_size=99, **settings)).eval()
        ids_BT = torch.randint(0, 99, (2, 24))
        for precision, most in CLOSE.items():
            with torch.no_grad():
                got = packed(model, precision, torch.get_num_threads())(ids_BT)[0].logits()
                wanted = (model if precision == "bf16" else round_weights(model, precision))(ids_BT)[0].logits()
            error = float((got - wanted).abs().max() / (wanted.max() - wanted.min()))
            if not error <= most:
                yield f"{precision} kernels of {name} differ from torch by {error:.1e} of the spread of the logits"


def _draws() -> Iterator[str | None]:
    """Compare drawn tokens with those that the noise gives in float64."""
    from chainrule.core.noise import gumbel, uniform
    from chainrule.kernels.draw import draw

    logits_B1V, seeds_B = torch.randn(50, 1, 1111) * 3, torch.arange(50)
    noise_B1V = gumbel(uniform(seeds_B[:, None], seeds_B[:, None], 1111))
    for temperature, wanted_B1V in ((0.0, logits_B1V), (1.5, logits_B1V.double() / 1.5 + noise_B1V)):
        found = draw(logits_B1V, logits_B1V, temperature, seeds_B, seeds_B)
        if found is None or not torch.equal(found[0], wanted_B1V.argmax(-1)):
            yield f"the kernel of drawing gives other tokens than torch at temperature {temperature}"


def _layers() -> Iterator[str | None]:
    """Compare compiled recurrent layers with torch, outputs and gradients."""
    from chainrule.kernels.recurrent_layer import scan
    from chainrule.nn.recurrent import GRU, LSTM, RNN

    for cell in (RNN, LSTM, GRU):
        layer, x_BTD = cell(24, 32), torch.randn(5, 7, 24, requires_grad=True)
        begin = tuple(part[:, 0] for part in layer.initial(5, x_BTD))
        with torch.autocast("cpu", torch.bfloat16):
            found = scan(layer, 0, x_BTD, begin)
        assert found is not None
        wanted, _ = layer(x_BTD)
        pairs = [(found[0].float(), wanted)]
        pairs += zip(*(torch.autograd.grad(out.sum(), [x_BTD, *layer.parameters()]) for out in pairs[0]))
        error = max(float((got - want).norm() / want.norm()) for got, want in pairs)
        if not error <= CLOSE_LAYER:
            yield f"the scan of {cell.__name__} differs from torch by {error:.1e} of the norm"


def _parts() -> Iterator[str | None]:
    """Compare the fused parts of a Transformer with torch, outputs and gradients."""
    from chainrule.kernels import fused_functions as fused
    from chainrule.nn.attention import AttentionBias
    from chainrule.nn.blocks import activate
    from chainrule.nn.positions import rotate, rotation

    x_BHTK = torch.randn(2, 3, 32, 32).bfloat16().requires_grad_()
    x_BTHK, angles = x_BHTK.transpose(1, 2).contiguous(), rotation(torch.arange(32)[None], 32)
    scores_BHTS = (x_BHTK.float() / 32**0.5) @ x_BHTK.float().transpose(-1, -2)
    hidden = torch.ones(32, 32, dtype=torch.bool).triu(1)
    layer_norm, targets_BHT = torch.nn.LayerNorm(32), torch.full((2, 3, 32), 7)
    normed = torch.nn.functional.rms_norm(x_BHTK.float(), (32,), eps=2.0**-23)
    with torch.autocast("cpu", torch.bfloat16):
        found = {
            "activation": (fused.activate(x_BHTK, "gelu"), activate(x_BHTK.float(), "gelu")),
            "softmax": (
                fused.attention_weights(x_BHTK, x_BHTK, AttentionBias(causal=True)),
                scores_BHTS.masked_fill(hidden, -torch.inf).softmax(-1),
            ),
            "attention": (
                fused.attend(x_BHTK, x_BHTK, x_BHTK, AttentionBias(causal=True)),
                (scores_BHTS.masked_fill(hidden, -torch.inf).softmax(-1) @ x_BHTK.float()).transpose(1, 2).flatten(2),
            ),
            "norm": (fused.normalised(x_BHTK.float(), layer_norm), layer_norm(x_BHTK.float())),
            "loss": (fused.log_prob(x_BHTK, targets_BHT), x_BHTK.float().log_softmax(-1)[..., 7]),
            "norm and rotation": (fused.heads(x_BTHK, angles, True), rotate(normed, angles)),
        }
    for name, (got, wanted) in found.items():
        assert got is not None
        weights = torch.randn_like(wanted)
        gradients = (
            torch.autograd.grad((out.float() * weights).sum(), x_BHTK, retain_graph=True)[0] for out in (got, wanted)
        )
        pairs = [(got.float(), wanted), tuple(gradients)]
        error = max(float((a.float() - b.float()).norm() / b.float().norm()) for a, b in pairs)
        if not error <= CLOSE_LAYER:
            yield f"the kernel of {name} differs from torch by {error:.1e} of the norm"
