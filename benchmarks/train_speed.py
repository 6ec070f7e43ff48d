"""Measure training steps of a GPT of 6 layers x 384 in bf16 against transformers and x-transformers: tokens per second.

    python benchmarks/train_speed.py --threads 2 --rounds 7

Batches of 16 x 256 tokens out of 1,024, AdamW, gradients clipped. Models have the same size, not the same architecture.
Every engine is a process of its own that waits for its turn. "torch" is ours without kernels; what is compiled is by
``torch.compile``; x-transformers is measured where it is installed (``--peers``). It prints a table of medians and,
last, one JSON object. ``--keep-memory`` lets the C library keep freed memory in the processes of peers too, as our
training does. ``--curve 500`` compares losses instead: kernels against torch, three seeds, on tokens of a Markov chain,
four rows at a time.
Measure on a machine on which nothing else runs.
"""

# pyright: reportMissingImports=false
from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engines import Engine, answer_tasks, compare, matmul_rate, seconds

VOCABULARY, CONTEXT, WIDTH, LAYERS, HEADS, ROWS = 1024, 256, 384, 6, 6, 16
RATE, CLIP = 1e-3, 1.0
OURS = ("kernels", "torch")
PEERS = ("transformers", "transformers compiled", "x-transformers compiled")
AIMS = {"torch": 1.45, "transformers compiled": 1.4, "x-transformers compiled": 1.4}
"""Ratios of ours with kernels that are to be reached."""
MULTIPLIED = LAYERS * 12 * WIDTH**2 + VOCABULARY * WIDTH
"""Weights that a token is multiplied with."""
SEEDS, SMOOTH, FEW = (0, 1, 2), 25, 4
"""Of curves: seeds, steps whose losses are averaged, and rows of a batch."""
Step = Callable[[Any], float]
"""Token ids, rows x (context + 1) -> loss."""

# --- engines ----------------------------------------------------------------------------------------------------------


def ours(seed: int, threads: int, optimizer: Any = "adamw") -> Step:
    """Our training step; the environment says whether kernels are used."""
    import torch

    from chainrule.core import Batch, Recipe, model_type
    from chainrule.core.compute import Compute
    from chainrule.kernels.training import use_kernels
    from chainrule.training.losses import NextTokenLoss
    from chainrule.training.rules import GradientRule

    torch.manual_seed(seed)
    found, compute = model_type("gpt"), Compute("cpu", True, threads)
    settings = {"width": WIDTH, "layers": LAYERS, "heads": HEADS, "context": CONTEXT}
    model = found.build(found.configure("tiny", vocab_size=VOCABULARY, **settings)).train()
    use_kernels(model, compute)
    rule = GradientRule(NextTokenLoss(model), Recipe(optimizer=optimizer, lr=RATE, max_grad_norm=CLIP), compute)
    return lambda ids: rule.step(Batch(ids[:, :-1], ids[:, 1:]), 1.0).loss


def transformers_model() -> Any:
    """GPT-2 of transformers, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes: dict[str, Any] = {"n_positions": CONTEXT, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS}
    model: Any = GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False, **sizes)
    )
    model.forward_logits = lambda ids: model(ids).logits
    return model


def x_transformers_model() -> Any:
    """The decoder of x-transformers."""
    from x_transformers import Decoder, TransformerWrapper

    layers = Decoder(dim=WIDTH, depth=LAYERS, heads=HEADS, attn_dim_head=WIDTH // HEADS, rotary_pos_emb=True)
    return TransformerWrapper(num_tokens=VOCABULARY, max_seq_len=CONTEXT, attn_layers=layers)


def peer(name: str) -> Step:
    """A plain training loop around a model of a peer."""
    import torch
    from torch.nn import functional as F

    torch.manual_seed(0)
    model = (x_transformers_model() if name.startswith("x-") else transformers_model()).train()
    logits = getattr(model, "forward_logits", model)

    def loss_of(ids: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16):
            return F.cross_entropy(logits(ids[:, :-1]).float().flatten(0, 1), ids[:, 1:].flatten())

    loss_of = torch.compile(loss_of) if name.endswith("compiled") else loss_of
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)

    def step(ids: Any) -> float:
        loss = loss_of(ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def batches(seed: int, rows: int = ROWS) -> Callable[[], Any]:
    """Batches of tokens of a Markov chain: each token is followed by one of eight."""
    import torch

    following = torch.randint(VOCABULARY, (VOCABULARY, 8), generator=torch.Generator().manual_seed(0))
    draws = torch.Generator().manual_seed(1 + seed)

    def batch() -> Any:
        ids = [torch.randint(VOCABULARY, (rows,), generator=draws)]
        for _ in range(CONTEXT):
            ids.append(following[ids[-1], torch.randint(8, (rows,), generator=draws)])
        return torch.stack(ids, 1)

    return batch


def serve(name: str, threads: int) -> None:
    """Time steps, or return the losses of a seed."""
    import torch

    torch.set_num_threads(threads)
    step, batch = ours(0, threads) if name in OURS else peer(name), batches(0)
    for _ in range(3):
        step(batch())

    def task(steps: int = 0, losses: int = 0, seed: int = 0, optimizer: str = "adamw") -> Any:
        if losses:
            learn, more = ours(seed, threads, optimizer), batches(seed, FEW)
            return [learn(more()) for _ in range(losses)]
        given = iter([batch() for _ in range(steps)])
        return seconds(lambda: step(next(given)), steps)

    answer_tasks(task)


# --- measuring --------------------------------------------------------------------------------------------------------


def start(name: str, options: argparse.Namespace) -> Engine:
    """Start the process of an engine."""
    python = str(Path(options.peers) / "bin" / "python") if name.startswith("x-") else sys.executable
    environment = {"OMP_NUM_THREADS": str(options.threads)}
    if name == "torch":
        environment["CHAINRULE_KERNELS"] = "off"
    elif name != "kernels" and options.keep_memory:
        environment |= {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
    return Engine([python, __file__, "--engine", name, "--threads", str(options.threads)], **environment)


def installed(name: str, options: argparse.Namespace) -> bool:
    """Whether a peer can be imported where it is to run."""
    if not name.startswith("x-"):
        return True
    python = Path(options.peers) / "bin" / "python"
    return (
        python.exists()
        and not subprocess.run([str(python), "-c", "import x_transformers"], capture_output=True).returncode
    )


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All engines in turns."""
    import torch

    torch.set_num_threads(options.threads)
    names = [name for name in (*OURS, *PEERS) if installed(name, options)]
    engines = {name: start(name, options) for name in names}
    rates: dict[str, list[float]] = {name: [] for name in names}
    multiplied = []
    for turn in range(options.rounds + 1):
        for name, engine in engines.items():
            rate = ROWS * CONTEXT / engine.ask(steps=options.steps)
            if turn:  # the first one warms up
                rates[name].append(rate)
        multiplied.append(matmul_rate())
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratios = {name: {**compare(rates["kernels"], rates[name]), "aim": AIMS.get(name)} for name in names[1:]}
    roof = statistics.median(multiplied)
    shares = {name: 6 * MULTIPLIED * rate / roof for name, rate in medians.items()}
    return {
        "threads": options.threads, "rounds": options.rounds, "peers_keep_memory": options.keep_memory,
        "tokens_per_second": medians, "ratios": ratios, "bf16_matmul_gflops": roof / 1e9,
        "share_of_matmul_rate": shares,
    }  # fmt: skip


def smooth(losses: list[float]) -> list[float]:
    """Means of consecutive losses."""
    return [statistics.fmean(losses[i : i + SMOOTH]) for i in range(0, len(losses) - SMOOTH + 1, SMOOTH)]


def distance(a: list[float], b: list[float]) -> float:
    """Mean distance of two smoothed curves."""
    return statistics.fmean(abs(x - y) for x, y in zip(smooth(a), smooth(b), strict=True))


def curves(options: argparse.Namespace) -> dict[str, Any]:
    """Losses with kernels and by torch alone, for each seed; and how far seeds are apart."""
    found = {}
    for name in OURS:
        engine = start(name, options)
        found[name] = [engine.ask(seed=seed, losses=options.curve, optimizer=options.optimizer) for seed in SEEDS]
        engine.process.kill()
    apart = [distance(a, b) for a, b in zip(found["kernels"], found["torch"], strict=True)]
    pairs = [(i, j) for j in range(len(SEEDS)) for i in range(j)]
    seeds = [distance(found["torch"][i], found["torch"][j]) for i, j in pairs]
    last = {name: [smooth(losses)[-1] for losses in curves] for name, curves in found.items()}
    about = {"steps": options.curve, "optimizer": options.optimizer}
    return {**about, "kernels_to_torch": apart, "seed_to_seed": seeds, "last": last, "losses": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps of a round; their median counts")
    parser.add_argument("--peers", default=".venv-peers", help="environment of x-transformers")
    parser.add_argument("--keep-memory", action="store_true", help="in the processes of peers too")
    parser.add_argument("--curve", type=int, metavar="STEPS", help=f"compare losses instead; at least {SMOOTH} steps")
    parser.add_argument("--optimizer", default="adamw", choices=("adamw", "muon"), help="of the compared losses")
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        serve(options.engine, options.threads)
    elif options.curve:
        tell_curves(curves(options))
    else:
        tell(measure(options))


def tell_curves(found: dict[str, Any]) -> None:
    """Print how far curves are apart, in nats a token."""
    for seed, apart, *last in zip(SEEDS, found["kernels_to_torch"], *found["last"].values(), strict=True):
        print(f"seed {seed}: {apart:.4f} apart; last losses {last[0]:.4f} and {last[1]:.4f}")
    print(f"seeds of torch: {min(found['seed_to_seed']):.4f} to {max(found['seed_to_seed']):.4f} apart")
    print(json.dumps(found))


def tell(found: dict[str, Any]) -> None:
    """Print the table and the JSON object."""
    for name, rate in found["tokens_per_second"].items():
        line = f"{name:24} {rate:8.0f} tokens/s, {found['share_of_matmul_rate'][name]:.0%} of the matmul rate"
        if name in found["ratios"]:
            one = found["ratios"][name]
            aim = f", aim {one['aim']}" if one["aim"] else ""
            line += "; kernels {:.2f} times ({:.2f} to {:.2f}){}".format(one["ratio"], *one["rounds"], aim)
        print(line)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
