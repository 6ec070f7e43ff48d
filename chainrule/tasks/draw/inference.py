"""Inference calls of ``draw``: images from captions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.core import UserError
from chainrule.core.noise import derive_seeds
from chainrule.inference.sampling import Filters
from chainrule.runs.run import Run
from chainrule.tasks.draw import explaining  # noqa: F401  (registers itself)
from chainrule.tasks.draw.task import drawings, image_of, nearness, settled
from chainrule.tasks.image_codes import coded
from chainrule.tasks.images import MOST_DRAWN
from chainrule.tasks.inference import register_call


@register_call("draw")
def draw(
    run: Run,
    caption: Sequence[str] | str,
    *,
    n: int = 1,
    best_of: int | None = None,
    guidance: float | None = None,
    temperature: float | None = None,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 42,
    begin: np.ndarray | Path | str | None = None,
) -> dict[str, Any]:
    """Draw ``n`` images of each caption, caption after caption.

    Args:
        run: a run of ``draw``.
        caption: one caption or several.
        n: images of each caption.
        best_of: draw so many of each, keep those ``n`` that are closest to the caption, closest first.
        guidance: > 1 follows captions more closely at the price of variety; None: as tuned on validation.
        temperature: divides the logits; None: as tuned on validation.
        top_k: only the k most probable tokens; 0: all.
        top_p: the fewest most probable tokens whose probabilities reach p.
        seed: seed of the noise; an image depends on its caption, the seed and its number among those of the caption.
        begin: an image (a file, or Y x X x C bytes of the run's own size) whose upper half is kept.

    Returns:
        ``images`` (N x Y x X x C bytes), their tokens ``ids`` (N x P), log p of each (nats, given its caption), and how
        close the run's matcher finds each to its caption (cosines).

    Raises:
        UserError: a run of another task, a value out of range, or too many images at once.
    """
    captions = [caption] if isinstance(caption, str) else list(caption)
    each = _how_many(len(captions), n, best_of, guidance)
    wanted = [text for text in captions for _ in range(each)]
    filters = Filters(settled(run)[1] if temperature is None else temperature, top_k, top_p)
    began = time.perf_counter()
    kept_NP = None if begin is None else _kept(run, begin, len(wanted))
    ids_NP, nats_N = drawings(
        run, wanted, filters, guidance, seeds=derive_seeds(seed, each) * len(captions), kept_NP=kept_NP
    )
    images = image_of(run, ids_NP)
    seconds = time.perf_counter() - began
    chosen_N, near_N = np.arange(len(wanted)), None
    if run.model.chooser.taught:
        near_N = nearness(run.model.chooser, run, wanted, images).diagonal()
    if best_of:
        chosen_N = _closest(near_N, len(captions), n)
    return {
        "images": images[chosen_N],
        "ids": ids_NP[chosen_N],
        "captions": [wanted[k] for k in chosen_N],
        "nats": nats_N[chosen_N].tolist(),
        "nearness": None if near_N is None else near_N[chosen_N].tolist(),
        "seconds": seconds,
    }


def _closest(near_N: np.ndarray | None, captions: int, n: int) -> np.ndarray:
    """The n images of each caption that are closest to it, by their numbers."""
    if near_N is None:
        raise UserError(
            "--best-of: this run's training has not ended, so nothing was taught to choose; --resume auto ends it"
        )
    blocks = near_N.reshape(captions, -1)
    return (np.argsort(-blocks, 1, kind="stable")[:, :n] + blocks.shape[1] * np.arange(captions)[:, None]).ravel()


def _how_many(captions: int, n: int, best_of: int | None, guidance: float | None) -> int:
    """Number of images that are drawn of each caption. Raises UserError for too many, or too few to choose from."""
    if guidance is not None and not 0 <= guidance <= 100:
        raise UserError(f"--guidance {guidance}: allowed is 0 to 100; 1 is the model as it is")
    if best_of is not None and best_of < n:
        raise UserError(f"--best-of {best_of}: draws fewer than the {n} to be shown; at least -n")
    each = best_of or n
    if captions * each > MOST_DRAWN:
        raise UserError(
            f"{captions * each:,} images, and at most {MOST_DRAWN:,} are drawn at once: fewer captions, -n or --best-of"
        )
    return each


def _kept(run: Run, begin: np.ndarray | Path | str, rows: int) -> np.ndarray:
    """The tokens of the upper half of an image, for every image to be drawn."""
    image = begin if isinstance(begin, np.ndarray) else run.processor.reader.open(Path(begin))
    codec = run.model.codec
    ids_1P = coded(codec, run.processor.reader, image[None], run.compute)
    return np.repeat(ids_1P[:, : codec.side * (codec.side // 2)], rows, 0)
