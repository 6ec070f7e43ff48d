"""Inference calls of ``fill``: fill in masks, and embed texts."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import Batch, Encoder, UserError
from chainrule.data import SymbolTokenizer
from chainrule.data.lines import read_lines
from chainrule.inference.sampling import pad
from chainrule.runs import write_file
from chainrule.runs.run import Run
from chainrule.tasks.fill.metrics import BUDGET, longest_first
from chainrule.tasks.inference import count_unknown, register_call, token_text

MASK = "[MASK]"


@register_call("fill")
def fill(run: Run, text: Any, *, top_k: int = 5) -> dict[str, Any]:
    """Predict the tokens behind every ``[MASK]`` of each text.

    A mask is one token of the run: a byte, a character, a word, a piece of BPE (which includes the space before it).

    Args:
        run: a run of ``fill``.
        text: a path, or one text or several.
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
    texts = read_lines([text] if isinstance(text, str) else text)
    if not any(line.strip() for line in texts):
        raise UserError(f"fill: the text is empty: write {MASK} where something is to be filled in")
    unfit = next((line for line in texts if line.strip() and MASK not in line), None)
    if unfit is not None:
        raise UserError(f'fill: no {MASK} in "{unfit[:40]}": write {MASK} where something is to be filled in')
    never = never_filled(run)
    unit = "symbol" if isinstance(run.processor.tokenizer, SymbolTokenizer) else run.processor.tokenizer.name
    return {"unit": unit, "texts": [_filled(run, line, top_k, never) for line in texts]}


def never_filled(run: Run) -> list[int]:
    """Return the tokens that are no answer: the unknown one, and those that end a record and so cannot be inside it."""
    tokenizer, terminator = run.processor.tokenizer, run.processor.terminator
    found = [] if tokenizer.unknown is None else [tokenizer.unknown]
    if isinstance(tokenizer, SymbolTokenizer):
        return found if tokenizer.end is None else [*found, tokenizer.end]
    return found + [k for k in range(tokenizer.vocab_size) if terminator and terminator in tokenizer.decode([k])]


def _filled(run: Run, line: str, top_k: int, never: Sequence[int]) -> dict[str, Any]:
    """Return the answer for one text; a blank one is returned as it is."""
    if not line.strip():
        return {"text": line, "masks": [], "filled": line}
    pieces, tokenizer = line.split(MASK), run.processor.tokenizer
    if tokenizer.name == "bpe":  # the space before a mask is the first byte of what fills it
        pieces = [piece.removesuffix(" ") for piece in pieces[:-1]] + pieces[-1:]
    ids = _with_masks(run, pieces)
    p_MK, ids_MK = _hidden(run, ids, never).exp().topk(min(top_k, run.model.vocab_size - len(set(never))))
    found = [
        [{"text": token_text(run, k), "p": p} for k, p in zip(*row)] for row in zip(ids_MK.tolist(), p_MK.tolist())
    ]
    chosen = [token_text(run, k) for k in _all_filled(run, ids, never)]
    filled = pieces[0] + "".join(unit + piece for unit, piece in zip(chosen, pieces[1:]))
    unknown = count_unknown(run, ids)
    return {"text": line, "masks": found, "filled": filled, **({"unknown": unknown} if unknown else {})}


def _with_masks(run: Run, pieces: Sequence[str]) -> list[int]:
    """The ids of a text, a mask between its pieces."""
    model, ids = run.model, []
    for k, piece in enumerate(pieces):
        ids += [model.mask_id] * (k > 0)
        if run.processor.tokenizer.name == "word":  # the space between two words is no token
            piece = piece.removeprefix(" " * (k > 0)).removesuffix(" " * (k < len(pieces) - 1))
        ids += run.processor.tokenizer.encode(piece.encode()).ids.tolist()
    if len(ids) >= model.window:
        raise UserError(
            f"fill: the text has {len(ids)} tokens and this run reads {model.window - 1} at once: give a shorter one"
        )
    return ids


@torch.no_grad()
def _hidden(run: Run, ids: Sequence[int], never: Sequence[int]) -> torch.Tensor:
    """log p of the tokens at the masks, M x V; those of ``never`` are no answer."""
    model, compute = run.model, run.compute
    row_1T = torch.tensor([[model.start_id, *ids]], device=compute.device)
    with compute.autocast():
        hidden_1TD = model.encode(Batch(row_1T, row_1T))
        logits_MV = model.predict(hidden_1TD[row_1T == model.mask_id][None]).logits()[0]
    log_p_MV = logits_MV.float().log_softmax(-1)
    log_p_MV[:, list(never)] = -math.inf
    return log_p_MV


def _all_filled(run: Run, ids: Sequence[int], never: Sequence[int]) -> list[int]:
    """Fill the mask that has the most probable token, again and again until none is left; the token of each mask."""
    filled = list(ids)
    masks = [t for t, k in enumerate(ids) if k == run.model.mask_id]
    while left := [t for t in masks if filled[t] == run.model.mask_id]:
        log_p_M, best_M = _hidden(run, filled, never).max(-1)
        surest = int(log_p_M.argmax())
        filled[left[surest]] = int(best_M[surest])
    return [filled[t] for t in masks]


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
    vectors = _vectors(run, ids)
    none = np.zeros(max(rows.shape[1] for rows in vectors), np.float32)
    if per == "text":
        made = np.stack([rows.mean(0) if len(rows) else none for rows in vectors])
    else:
        made = np.concatenate([rows for rows in vectors if len(rows)])
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


@torch.no_grad()
def _vectors(run: Run, ids: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A vector for each token of each text. Pieces of similar length are read together."""
    model, compute, size = run.model, run.compute, run.model.window - 1
    pieces = [(b, t, row[t : t + size]) for b, row in enumerate(ids) for t in range(0, len(row), size)]
    out = [np.zeros((len(row), 0), np.float32) for row in ids]
    for chosen in longest_first([len(piece) for *_, piece in pieces], BUDGET):
        group = [pieces[k] for k in chosen]
        rows_BT, lengths_B = pad([piece.tolist() for _, _, piece in group], model.start_id)
        with compute.autocast():
            batch = Batch(rows_BT, rows_BT, lengths_B).to(compute.device)
            hidden_BTD = model.encode(batch).float().cpu().numpy()
        for k, (b, t, piece) in enumerate(group):
            if not out[b].shape[1]:
                out[b] = np.zeros((len(ids[b]), hidden_BTD.shape[-1]), np.float32)
            out[b][t : t + len(piece)] = hidden_BTD[k, 1 : len(piece) + 1]
    return out
