"""Prediction of the next token of sequences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from chainrule.core import UserError
from chainrule.data import SymbolTokenizer
from chainrule.data.symbols import Sequences, name_of
from chainrule.inference.sampling import pad
from chainrule.runs.run import Run


@torch.no_grad()
def predict_next(run: Run, sequences: Sequence[Sequence[Any] | str], top_k: int = 5) -> dict[str, Any]:
    """Return the ``top_k`` most probable next tokens of each sequence. All sequences are read in one padded batch.

    Args:
        run: a run of ``generate``.
        sequences: strings of text, or (of symbols) lists of symbols or records as they are written in a file.
        top_k: how many tokens of each sequence, at least 1.

    Returns:
        ``predictions``: for each sequence a list of ``{"token", "p"}``, most probable first; ``p`` is the model's
        probability, and ``token`` None stands for the end of the record. The unknown token is left out. ``unknown``:
        for each sequence, how many of its tokens the run does not know.

    Raises:
        UserError: a run of another task, no sequence, ``top_k`` below 1, or a list where the run reads text.
    """
    if run.task != "generate":
        raise UserError(f"predict: this run's task is {run.task}; a run of --task generate predicts next tokens")
    if top_k < 1:
        raise UserError(f"--top-k {top_k}: at least 1")
    if isinstance(sequences, str) or not len(sequences):
        raise UserError("predict: give a list of at least one sequence")
    encoded = [_encode(run, sequence) for sequence in sequences]
    tokenizer, device = run.processor.tokenizer, run.compute.device
    inputs_BT, lengths_B = (x.to(device) for x in pad([_fitting(run, ids) for ids in encoded], run.model.start_id))
    with run.compute.autocast():
        prediction, _ = run.model.eval()(inputs_BT, None, lengths_B)
        log_p_BV = prediction.select(lengths_B - 1).logits()[:, 0].double().log_softmax(-1)
    for b, ids in enumerate(encoded):
        log_p_BV[b, _left_out(run, len(ids))] = -torch.inf
    p_BV, ids_BV = log_p_BV.exp().sort(dim=-1, descending=True, stable=True)  # of equal ones the lower id comes first
    rows = zip(ids_BV[:, :top_k].tolist(), p_BV[:, :top_k].tolist())
    return {
        "predictions": [[{"token": _token(run, k), "p": p} for k, p in zip(*row) if p > 0] for row in rows],
        "unknown": [ids.count(tokenizer.unknown) for ids in encoded],
    }


def _encode(run: Run, sequence: Sequence[Any] | str) -> list[int]:
    """The ids of a sequence; nothing ends it."""
    tokenizer = run.processor.tokenizer
    if not isinstance(tokenizer, SymbolTokenizer):
        if not isinstance(sequence, str):
            raise UserError(f"predict: this run reads text ({tokenizer.name}): give strings, not lists of tokens")
        return tokenizer.encode(sequence.encode()).ids.tolist()
    form = tokenizer.form
    if isinstance(sequence, str):
        symbols = form.read(sequence) if sequence else []
    else:
        symbols = form.interleave(sequence) if form.voices else [name_of(item) for item in sequence]
    return tokenizer.encode_sequences(Sequences.of(form, [symbols], None, "the sequence"))[0].ids.tolist()


def _fitting(run: Run, ids: list[int]) -> list[int]:
    """The end of a sequence that a model of learned positions can read."""
    learned = run.config["model"].get("positions") == "learned"
    return ids[-(run.model.window - 1) :] if learned and run.model.window else ids


def _left_out(run: Run, length: int) -> list[int]:
    """Ids that are no answer: the unknown token, and (where voices are in step) those of other voices."""
    tokenizer = run.processor.tokenizer
    unknown = [] if tokenizer.unknown is None else [tokenizer.unknown]
    turns = tokenizer.turns() if isinstance(tokenizer, SymbolTokenizer) else []
    return unknown + (turns[length % len(turns)] if turns else [])


def _token(run: Run, k: int) -> str | None:
    """A token as text; a byte that is no character by itself as its number."""
    tokenizer = run.processor.tokenizer
    if isinstance(tokenizer, SymbolTokenizer):
        return None if k == tokenizer.end else tokenizer.form.bare(tokenizer.names[k])
    content = tokenizer.decode([k])
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in content)
