"""Inference calls of ``generate`` that read sequences: score them, and predict what comes next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.core import DataError, UserError
from chainrule.core.progress import tracked
from chainrule.data import SymbolTokenizer
from chainrule.data import lines as inputs
from chainrule.data.encoding import Part
from chainrule.data.formats import record_reader, suffix, table_suffixes
from chainrule.data.symbols import Sequences, name_of
from chainrule.data.token_texts import token_name
from chainrule.inference.batching import longest_first
from chainrule.inference.sampling import pad
from chainrule.inference.scoring import token_nats
from chainrule.runs.run import Run
from chainrule.tasks.inference import unknown_ids

LOGITS = 1 << 24
"""Probabilities (sequences x tokens of the vocabulary) that are computed at once."""


def scored_items(run: Run, input: Any, unit: str = "lines", **_: Any) -> Sequence[Any] | None:
    """Return the items of an input that are scored one by one.

    Args:
        run: a run of ``generate``.
        input: a path, or texts in memory.
        unit: as `score` has it.

    Returns:
        Lines with their bytes as they are, or records of symbols; None for one text.
    """
    if unit == "stream":
        return None
    if isinstance(run.processor.tokenizer, SymbolTokenizer):
        return read_sequences(run, input, "score")
    return inputs.read_texts(input) if inputs.is_path(input) else list(input)


def score(run: Run, input: Any, *, unit: str = "lines", tokens: bool = False) -> dict[str, Any]:
    """Score texts, each read from the start.

    Args:
        run: a run of ``generate``.
        input: a path, or texts in memory; of symbols as `read_sequences` has it.
        unit: ``lines``: every line by itself, its end counted (one is added where the last lacks it); ``stream``: a
            file as one sequence, texts in memory as they are.
        tokens: give the nats of every token too.

    Returns:
        ``nats``, log p of everything (negative); ``bytes`` or ``symbols``; and ``lines``, the same for each text, with
        the number of its tokens that the run does not know (``unknown``) where there are any. With ``tokens`` also
        their ``token_texts`` (None: the end of a record of symbols; U+FFFD: unknown) and ``token_nats``.
    """
    if isinstance(run.processor.tokenizer, SymbolTokenizer):
        part = run.processor.encode(_records(run, input, unit))
        return _scores(run, part, (part.ends - part.starts).tolist(), tokens)
    if not inputs.is_path(input):
        input = inputs.items_of(input)
        _check_texts(run, input, "score")
    return score_texts(run, inputs.read_texts(input, unit), tokens=tokens)


def score_texts(run: Run, texts: Sequence[bytes], *, tokens: bool = False) -> dict[str, Any]:
    """Score texts exactly as they are given, each read from the start.

    Args:
        run: a run of ``generate``.
        texts: the texts; records of symbols as they are written in a file of their kind.
        tokens: give the nats of every token too.

    Returns:
        The result of `score`.
    """
    part = run.processor.encode_texts(list(texts), "lines")
    symbols = part.counted == "symbol"
    return _scores(run, part, (part.ends - part.starts).tolist() if symbols else [*map(len, texts)], tokens)


def _scores(run: Run, part: Part, sizes: Sequence[int], tokens: bool) -> dict[str, Any]:
    """The scores of the records of a part, whose sizes in bytes (or symbols) are known."""
    nats, _ = token_nats(run.model, part, run.compute)
    size, strange = "symbols" if part.counted == "symbol" else "bytes", np.isin(part.ids, unknown_ids(run))
    lines, place = [], 0
    for many, s, e in zip(sizes, part.starts.tolist(), part.ends.tolist()):
        mine = -nats[place : place + e - s]
        place += e - s
        line: dict[str, Any] = {"nats": float(mine.sum()), size: many, "tokens": e - s}
        if unknown := int(strange[s:e].sum()):
            line["unknown"] = unknown
        if tokens:
            line |= {"token_texts": [_token(run, k) for k in part.ids[s:e].tolist()], "token_nats": mine.tolist()}
        lines.append(line)
    return {"nats": float(-nats.sum()), size: sum(sizes), "lines": lines}


def predict(run: Run, input: Any, *, top_k: int = 5) -> dict[str, Any]:
    """Return the ``top_k`` most probable next tokens of each sequence. Sequences of similar length are read together.

    Args:
        run: a run of ``generate``.
        input: a path, or sequences in memory: strings of text, or of symbols what `read_sequences` reads.
        top_k: how many tokens of each sequence, at least 1.

    Returns:
        ``predictions``: for each sequence a list of ``{"token", "p"}``, most probable first; ``p`` is the model's
        probability, and ``token`` None stands for the end of the record. The unknown token is left out. ``unknown``:
        for each sequence, how many of its tokens the run does not know.

    Raises:
        UserError: a run of another task, no sequence, ``top_k`` below 1, or a list where the run reads text.
    """
    if top_k < 1:
        raise UserError(f"--top-k {top_k}: at least 1")
    sequences = read_sequences(run, input, "predict")
    if not sequences:
        raise UserError("predict: give a list of at least one sequence")
    encoded = encoded_all(run, sequences, "predict")
    strange = unknown_ids(run)
    found: list[list[tuple[int, float]]] = [[] for _ in encoded]
    fitting = [_fitting(run, ids) for ids in encoded]
    for group in tracked([*longest_first([*map(len, fitting)], rows=LOGITS // run.model.vocab_size)]):
        log_p_BV = _next_log_p(run, [fitting[b] for b in group], [len(encoded[b]) for b in group])
        for b, row in zip(group, _most_probable(log_p_BV, top_k)):
            found[b] = row
    return {
        "predictions": [[{"token": _token(run, k), "p": p} for k, p in row] for row in found],
        "unknown": [int(np.isin(ids, strange).sum()) for ids in encoded],
    }


@torch.no_grad()
def _next_log_p(run: Run, ids: Sequence[list[int]], lengths: Sequence[int]) -> Tensor:
    """log p of the next token of each sequence, B x V; -inf for what is no answer."""
    inputs_BT, lengths_B = (x.to(run.compute.device) for x in pad(ids, run.model.start_id))
    with run.compute.autocast():
        prediction, _ = run.model.eval()(inputs_BT, None, lengths_B)
        log_p_BV = prediction.select(lengths_B - 1).logits()[:, 0].double().log_softmax(-1)
    tokenizer = run.processor.tokenizer
    turns = tokenizer.turns() if isinstance(tokenizer, SymbolTokenizer) else []
    for b, length in enumerate(lengths if turns else ()):
        log_p_BV[b, turns[length % len(turns)]] = -torch.inf  # where voices are in step, those of other voices
    if tokenizer.unknown is not None:
        log_p_BV[:, tokenizer.unknown] = -torch.inf
    return log_p_BV


def _most_probable(log_p_BV: Tensor, k: int) -> list[list[tuple[int, float]]]:
    """The k most probable tokens of each row and their p, the largest first, of equal ones the lower id."""
    k = min(k, log_p_BV.shape[1])
    values_BK, ids_BK = log_p_BV.topk(k, sorted=False)
    tied_B = (log_p_BV >= values_BK.amin(1, keepdim=True)).sum(1) > k  # topk takes any of those
    if tied_B.any():
        ids_BK[tied_B] = log_p_BV[tied_B].argsort(dim=1, descending=True, stable=True)[:, :k]
    ids_BK = ids_BK.sort(dim=1).values
    values_BK, order_BK = log_p_BV.gather(1, ids_BK).sort(dim=1, descending=True, stable=True)
    rows = zip(ids_BK.gather(1, order_BK).tolist(), values_BK.exp().tolist())
    return [[(k, p) for k, p in zip(*row) if p > 0] for row in rows]


# --- sequences --------------------------------------------------------------------------------------------------------


def _check_lines(run: Run, input: Any, command: str) -> None:
    """Raise UserError for a table of columns where a command reads one sequence of symbols a line."""
    tokenizer = run.processor.tokenizer
    if not isinstance(tokenizer, SymbolTokenizer) or not inputs.is_path(input):
        return
    kind = suffix(Path(input))
    if kind in table_suffixes() and (kind != ".jsonl" or tokenizer.form.kind == "steps"):
        example = " ".join(tokenizer.names[:2])
        raise UserError(
            f"{inputs.where(input)}: a table; {command} reads one sequence a line, such as '{example}'. "
            f"chainrule evaluate RUN {shlex.quote(inputs.where(input))} --predictions records.jsonl scores the table's "
            "records"
        )


def _check_texts(run: Run, items: Sequence[Any], command: str) -> None:
    """Raise UserError for a list of tokens where a run reads text."""
    if not all(isinstance(item, str | bytes) for item in items):
        name = run.processor.tokenizer.name
        raise UserError(f"{command}: this run reads text ({name}): give strings, not lists of tokens")


def read_sequences(run: Run, input: Any, command: str) -> list[Any]:
    """Return the sequences of an input, each as text or as a list of symbols.

    Args:
        run: a run of ``generate``.
        input: a path, or sequences in memory: texts, or of symbols also lists of symbols (of steps where voices are in
            step).
        command: its name, for errors.

    Returns:
        Of text, and of most symbols, a line is a sequence, and so is a blank one. Where a format (FASTA, ABC) has
        records of several lines, these are the sequences, of a file and of each text in memory.

    Raises:
        UserError: a table of columns where a sequence of symbols is a line. And the errors of reading the file.
    """
    _check_lines(run, input, command)
    tokenizer = run.processor.tokenizer
    form = tokenizer.form if isinstance(tokenizer, SymbolTokenizer) else None
    reader = record_reader(form.kind) if form else None
    if inputs.is_path(input):
        lines = inputs.read_lines(input)
        found = reader.split("\n".join(lines)) if reader else lines
        return lines if found == lines else [record for record in found if record.strip()]
    if not form:
        return list(input)
    texts = [item.decode() if isinstance(item, bytes) else item for item in input]
    if not reader:
        return texts
    cut = [form.records(item) if isinstance(item, str) else [] for item in texts]
    return [one for item, found in zip(texts, cut) for one in (found if len(found) > 1 else [item])]


def _records(run: Run, input: Any, unit: str) -> Sequences:
    """The records of an input to score, joined where a file is one sequence; the newline behind a tune is no part."""
    form = run.processor.tokenizer.form
    found = read_sequences(run, input, "score")
    if record_reader(form.kind):
        found = [item.strip("\n") if isinstance(item, str) else item for item in found]
    records = [_symbols(run, sequence) for sequence in found]
    if unit == "stream" and inputs.is_path(input):
        records = [[symbol for record in records for symbol in record]]
    if not any(map(len, records)):
        raise DataError("the input: nothing to score: give at least one record with a symbol")
    return Sequences.of(form, records, None, "the text")


def _symbols(run: Run, sequence: Sequence[Any] | str) -> list[str]:
    """The symbols of a list of symbols (or of steps), or of a record as it is written."""
    form = run.processor.tokenizer.form
    if isinstance(sequence, str):
        return form.read(sequence) if sequence else []
    return form.interleave(sequence) if form.voices else [name_of(item) for item in sequence]


def encoded_all(run: Run, sequences: Sequence[Any], command: str) -> list[list[int]]:
    """Return the ids of sequences in memory; nothing ends them.

    Args:
        run: a run of ``generate``.
        sequences: strings of text, or (of symbols) lists of symbols or records as they are written in a file.
        command: its name, for errors.

    Raises:
        UserError: a list where the run reads text, or a record that cannot be read.
    """
    tokenizer = run.processor.tokenizer
    if not isinstance(tokenizer, SymbolTokenizer):
        _check_texts(run, sequences, command)
        return [tokenizer.encode(sequence.encode()).ids.tolist() for sequence in sequences]
    records = [_symbols(run, sequence) for sequence in sequences]
    encoded, starts, ends = tokenizer.encode_sequences(Sequences.of(tokenizer.form, records, None, "the sequence"))
    return [encoded.ids[s:e].tolist() for s, e in zip(starts.tolist(), ends.tolist())]


def _fitting(run: Run, ids: list[int]) -> list[int]:
    """The end of a sequence that a model of learned positions can read."""
    learned = getattr(run.model.config, "positions", None) == "learned"
    return ids[-(run.model.window - 1) :] if learned and run.model.window else ids


def _token(run: Run, k: int) -> str | None:
    """A token as text; None: the end of the record. U+FFFD stands for the unknown token."""
    tokenizer = run.processor.tokenizer
    ended = isinstance(tokenizer, SymbolTokenizer) and k == tokenizer.end
    return None if ended else token_name(tokenizer, k)
