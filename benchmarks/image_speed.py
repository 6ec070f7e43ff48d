"""Measure a ViT-Ti/16 on images of 224 pixels against transformers: images per second, training and inference in bf16.

    python benchmarks/image_speed.py --threads 2 --rounds 7

The same architecture and size: patches of 16, width 192, 12 layers, 3 heads, 1,000 labels. Training: 16 images, AdamW,
gradients clipped; inference: 32 images. Every engine is a process of its own that waits for its turn. It prints a table
of medians and, last, one JSON object. Measure on a machine on which nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from typing import Any

from engines import Engine, answer_tasks, compare, seconds

WIDTH, LAYERS, HEADS, PIXELS, LABELS = 192, 12, 3, 224, 1000
TASKS = {"training": 16, "inference": 32}
"""Images of a batch."""
ENGINES = ("kernels", "torch", "transformers", "transformers compiled")
AIMS = {"training": 1.4, "inference": 1.3}
"""Ratios to transformers that are to be reached."""


def ours() -> Any:
    """Our module; the environment says whether kernels are used."""
    from chainrule.core import model_type
    from chainrule.core.compute import Compute, keep_freed_memory
    from chainrule.kernels.training import use_kernels

    found = model_type("vit", "classify-images")
    settings: dict[str, Any] = {
        "width": WIDTH,
        "layers": LAYERS,
        "heads": HEADS,
        "num_labels": LABELS,
        "image_size": PIXELS,
        "channels": 3,
        "dropout": 0.0,
    }
    model = found.build(found.configure("base", **settings))
    use_kernels(model, Compute("cpu", True, 2))
    keep_freed_memory()
    return model, model.scores


def theirs(compiled: bool) -> Any:
    """The module of transformers."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification

    sizes: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    config = ViTConfig(image_size=PIXELS, patch_size=16, intermediate_size=4 * WIDTH, num_labels=LABELS, **sizes)
    model: Any = ViTForImageClassification(config)
    run = torch.compile(model) if compiled else model
    return model, lambda pixels: run(pixels).logits


def serve(name: str, threads: int) -> None:
    """Time steps of training, and inference."""
    import torch
    from torch.nn import functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model, scores = ours() if name in ENGINES[:2] else theirs(name.endswith("compiled"))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def training(pixels: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(scores(pixels).float(), torch.arange(len(pixels)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    @torch.no_grad()
    def inference(pixels: torch.Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16):
            scores(pixels)

    def task(kind: str) -> float:
        pixels = torch.randn(TASKS[kind], 3, PIXELS, PIXELS)
        model.train(kind == "training")
        run: Callable[[torch.Tensor], None] = training if kind == "training" else inference
        run(pixels)
        return seconds(lambda: run(pixels), 3)

    answer_tasks(task)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All engines in turns."""
    engines = {
        name: Engine(
            [sys.executable, __file__, "--engine", name, "--threads", str(options.threads)],
            OMP_NUM_THREADS=str(options.threads), **({"CHAINRULE_KERNELS": "off"} if name == "torch" else {}),
        )
        for name in ENGINES
    }  # fmt: skip
    rates: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in ENGINES} for kind in TASKS}
    for turn in range(options.rounds + 1):
        for kind, many in TASKS.items():
            for name, engine in engines.items():
                rate = many / engine.ask(kind=kind)
                if turn:  # the first one warms up
                    rates[kind][name].append(rate)
    medians = {kind: {name: statistics.median(x) for name, x in found.items()} for kind, found in rates.items()}
    ratios = {
        kind: {name: compare(found["kernels"], found[name]) for name in ENGINES[1:]} for kind, found in rates.items()
    }
    return {"threads": options.threads, "rounds": options.rounds, "images_per_second": medians, "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        serve(options.engine, options.threads)
        return
    found = measure(options)
    for kind, rates in found["images_per_second"].items():
        for name, rate in rates.items():
            line = f"{kind:10} {name:22} {rate:7.1f} images/s"
            if name in found["ratios"][kind]:
                one = found["ratios"][kind][name]
                line += "; kernels {:.2f} times ({:.2f} to {:.2f}), aim {}".format(
                    one["ratio"], *one["rounds"], AIMS[kind]
                )
            print(line)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
