"""Inference calls of ``fill``: fill in masks, and embed texts."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import Batch, Encoder, UserError
from chainrule.core.progress import tracked
from chainrule.data import SymbolTokenizer
from chainrule.data.lines import items_of, read_lines, where
from chainrule.data.token_texts import token_name
from chainrule.inference.batching import longest_first
from chainrule.inference.sampling import pad
from chainrule.runs import write_file
from chainrule.runs.run import Run
from chainrule.tasks.fill import explaining  # noqa: F401  (registers itself)
from chainrule.tasks.fill.masked_text import MASK, MaskedText, masked_text
from chainrule.tasks.inference import count_unknown, register_call

LOGITS = 1 << 24
"""Probabilities (masks x tokens of the vocabulary) that are computed at once."""
Ranked = tuple[list[list[int]], list[list[float]]]
"""For each mask the most probable tokens, and their log p."""


def _texts(text: Any) -> list[str]:
    """The lines of an input. Raises UserError, with the place, where one cannot be filled."""
    sources = [text] if isinstance(text, str | os.PathLike) else items_of(text)
    found: list[str] = []
    for source in sources:
        file = isinstance(source, os.PathLike)
        lines = read_lines(source if file else [source])
        for number, line in enumerate(lines, 1):
            if line.strip() and MASK not in line:
                place = (
                    f"{where(source)}:{number}: " if file else f"text {len(found) + 1}: " if len(sources) > 1 else ""
                )
                raise UserError(f'{place}no {MASK} in "{line[:40]}": write {MASK} where something is to be filled in')
            found.append(line)
    if not any(line.strip() for line in found):
        raise UserError(f"fill: the text is empty: write {MASK} where something is to be filled in")
    return found


@register_call("fill", items=lambda _, text, **__: _texts(text))
def fill(run: Run, text: Any, *, top_k: int = 5) -> dict[str, Any]:
    """Predict the tokens behind every ``[MASK]`` of each text.

    A mask is one token of the run: a byte, a character, a word, a piece of BPE (which includes the space before it).

    Args:
        run: a run of ``fill``.
        text: a text, or several, of which a ``Path`` is a file of lines; or such a path.
        top_k: how many tokens are returned for each mask.

    Returns:
        ``unit``, and for each of ``texts``: ``masks``, the ``top_k`` tokens with their probabilities, each mask by
        itself while the others are hidden; ``filled``, the text with all masks filled one after another, the surest
        first; and ``unknown``, how many of its tokens the run does not know, if there are any. A blank line stays as it
        is. The unknown token, and tokens that end a record, are never offered.

    Raises:
        UserError: a run of another task, no text, or one that has no mask or is too long.
    """
    if top_k < 1:
        raise UserError(f"--top-k {top_k}: at least 1")
    texts = _texts(text)
    never = never_filled(run)
    unit = "symbol" if isinstance(run.processor.tokenizer, SymbolTokenizer) else run.processor.tokenizer.name
    masked = {k: masked_text(run, line, "fill") for k, line in enumerate(texts) if line.strip()}
    rows = [text.ids for text in masked.values()]
    found = dict(zip(masked, _candidates(run, rows, never, min(top_k, run.model.vocab_size - len(set(never))))))
    filled = dict(zip(masked, _all_filled(run, rows, never)))
    return {
        "unit": unit,
        "texts": [
            _shown(run, masked[k], found[k], filled[k])
            if k in masked
            else {"text": line, "masks": [], "filled": line}  # a blank line stays as it is
            for k, line in enumerate(texts)
        ],
    }


def never_filled(run: Run) -> list[int]:
    """Return the tokens that are no answer: the unknown one, and those that end a record and so cannot be inside it."""
    tokenizer, terminator = run.processor.tokenizer, run.processor.terminator
    found = [] if tokenizer.unknown is None else [tokenizer.unknown]
    if isinstance(tokenizer, SymbolTokenizer):
        return found if tokenizer.end is None else [*found, tokenizer.end]
    return found + [k for k in range(tokenizer.vocab_size) if terminator and terminator in tokenizer.decode([k])]


def _shown(run: Run, text: MaskedText, found: Ranked, chosen: Sequence[int]) -> dict[str, Any]:
    """Return the answer for one text."""
    name = partial(token_name, run.processor.tokenizer)
    masks = [[{"text": name(k), "p": math.exp(x)} for k, x in zip(*row)] for row in zip(*found)]
    filled = text.pieces[0] + "".join(name(k) + piece for k, piece in zip(chosen, text.pieces[1:]))
    unknown = count_unknown(run, text.ids)
    return {"text": text.line, "masks": masks, "filled": filled, **({"unknown": unknown} if unknown else {})}


@torch.no_grad()
def _candidates(run: Run, rows: Sequence[Sequence[int]], never: Sequence[int], k: int) -> list[Ranked]:
    """The k most probable tokens at every mask of each row, without those of ``never``, and their log p."""
    found: list[Ranked] = [([], []) for _ in rows]
    for group in tracked([*longest_first([*map(len, rows)])]):
        for b, row in zip(group, _ranked(run, [rows[b] for b in group], never, k)):
            found[b] = row
    return found


def _ranked(run: Run, rows: Sequence[Sequence[int]], never: Sequence[int], k: int) -> list[Ranked]:
    """The candidates of rows that are read together."""
    model, ids, log_p = run.model, [], []
    rows_BT, lengths_B = (x.to(run.compute.device) for x in pad([list(row) for row in rows], model.start_id))
    masked_BT = rows_BT == model.mask_id
    with run.compute.autocast():
        hidden_MD = model.encode(Batch(rows_BT, rows_BT, lengths_B))[masked_BT]
        for piece in hidden_MD.split(max(1, LOGITS // model.vocab_size)):
            log_p_MV = model.predict(piece[None]).logits()[0].float().log_softmax(-1)
            log_p_MV[:, list(never)] = -math.inf
            best_MK, ids_MK = log_p_MV.topk(k)
            ids += ids_MK.tolist()
            log_p += best_MK.tolist()
    ends = [0, *masked_BT.sum(1).cumsum(0).tolist()]
    return [(ids[s:e], log_p[s:e]) for s, e in zip(ends, ends[1:])]


def _all_filled(run: Run, rows: Sequence[Sequence[int]], never: Sequence[int]) -> list[list[int]]:
    """Fill the mask of each row that has the most probable token, again and again; the tokens of all masks."""
    filled, mask = [list(row) for row in rows], run.model.mask_id
    while left := [b for b, row in enumerate(filled) if mask in row]:
        for b, (ids, log_p) in zip(left, _candidates(run, [filled[b] for b in left], never, 1)):
            surest = int(np.argmax(log_p))
            places = [t for t, k in enumerate(filled[b]) if k == mask]
            filled[b][places[surest]] = ids[surest][0]
    return [[done for given, done in zip(*row) if given == mask] for row in zip(rows, filled)]


def embed(run: Run, input: Any, *, per: str = "text") -> dict[str, Any]:
    """Return vectors of texts. A long text is read in pieces.

    Args:
        run: a run of a bidirectional encoder.
        input: a path, or texts in memory.
        per: "text": the mean over the tokens of each, 0 where it has none; "token": one for every token, texts one
            after the other.

    Returns:
        ``vectors`` (float32, N x D), ``count``, ``width``, ``per``, and ``tokens`` of each text.

    Raises:
        UserError: a run of another kind, or texts that are all empty.
    """
    _check_encoder(run)
    return embed_ids(run, [run.processor.tokenizer.encode(text.encode()).ids for text in read_lines(input)], per=per)


def _check_encoder(run: Run) -> None:
    if not isinstance(run.model, Encoder):
        raise UserError(
            f"embed needs a bidirectional encoder; this run is {run.name} for {run.task}: "
            "train one with --task fill --model bert"
        )


def embed_ids(run: Run, ids: Sequence[np.ndarray], *, per: str = "text") -> dict[str, Any]:
    """Return vectors of texts that are given as token ids.

    Args:
        run: a run of a bidirectional encoder.
        ids: the ids of each text.
        per: as `embed` takes it.

    Returns:
        The result of `embed`.

    Raises:
        UserError: a run of another kind, or texts that are all empty.
    """
    _check_encoder(run)
    if per not in ("text", "token"):
        raise UserError(f"--per {per}: text or token")
    if not any(map(len, ids)):
        raise UserError("embed: the texts are empty: give at least one with a token")
    made = _token_vectors(run, ids) if per == "token" else _text_vectors(run, ids)
    count, width = made.shape
    return {"vectors": made, "count": count, "width": width, "per": per, "tokens": [len(row) for row in ids]}


def write_vectors(path: Path | str, vectors: np.ndarray) -> None:
    """Write an array as ``.npy``.

    Args:
        path: the file.
        vectors: the array.
    """
    content = io.BytesIO()
    np.save(content, vectors, allow_pickle=False)
    write_file(Path(path), content.getvalue())


def _token_vectors(run: Run, ids: Sequence[np.ndarray]) -> np.ndarray:
    """A vector for each token, texts one after the other."""
    first = np.cumsum([0, *map(len, ids)])
    made = np.zeros((first[-1], 0), np.float32)
    for b, t, rows in _vectors(run, ids):
        made = made if made.shape[1] else np.zeros((first[-1], rows.shape[1]), np.float32)
        made[first[b] + t : first[b] + t + len(rows)] = rows
    return made


def _text_vectors(run: Run, ids: Sequence[np.ndarray]) -> np.ndarray:
    """The mean over the tokens of each text; 0 where it has none."""
    made = np.zeros((len(ids), 0), np.float64)
    for b, _, rows in _vectors(run, ids):
        made = made if made.shape[1] else np.zeros((len(ids), rows.shape[1]))
        made[b] += rows.sum(0, dtype=np.float64) / len(ids[b])
    return made.astype(np.float32)


@torch.no_grad()
def _vectors(run: Run, ids: Sequence[np.ndarray]) -> Iterator[tuple[int, int, np.ndarray]]:
    """The vectors of the tokens of each piece of a text: its number, where the piece begins, tokens x D.

    Pieces of similar length are read together.
    """
    model, compute, size = run.model, run.compute, run.model.window - 1
    pieces = [(b, t, row[t : t + size]) for b, row in enumerate(ids) for t in range(0, len(row), size)]
    for chosen in tracked([*longest_first([len(piece) for *_, piece in pieces])]):
        group = [pieces[k] for k in chosen]
        rows_BT, lengths_B = pad([piece.tolist() for _, _, piece in group], model.start_id)
        with compute.autocast():
            batch = Batch(rows_BT, rows_BT, lengths_B).to(compute.device)
            hidden_BTD = model.encode(batch).float().cpu().numpy()
        for k, (b, t, piece) in enumerate(group):
            yield b, t, hidden_BTD[k, 1 : len(piece) + 1]
