"""Inference calls of ``generate``: continue sequences, score texts, predict next tokens."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from chainrule.core import UserError
from chainrule.core.noise import derive_seeds
from chainrule.data import SymbolTokenizer
from chainrule.data import lines as inputs
from chainrule.data.formats import suffix, table_suffixes
from chainrule.data.symbols import Sequences, name_of
from chainrule.data.tokenizers import TextTokenizer
from chainrule.inference.beam import Beams
from chainrule.inference.requests import DEFAULT_TOKENS, Constraints, Handle, Request, Sampler
from chainrule.inference.sampling import Filters, pad
from chainrule.inference.scheduler import engine_of
from chainrule.inference.scoring import token_nats
from chainrule.runs.run import Run
from chainrule.tasks.inference import check_counts, count_unknown, phrases, register_call, text_of, token_text


@register_call("generate")
def score(run: Run, input: Any, *, unit: str = "lines", tokens: bool = False) -> dict[str, Any]:
    """Score texts, each read from the start.

    Args:
        run: a run of ``generate``.
        input: a path, or texts in memory.
        unit: ``lines``: every line by itself, its end counted (one is added where the last lacks it); ``stream``: a
            file as one sequence, texts in memory as they are. Symbols have records of their own: lines, tunes, entries.
        tokens: give the nats of every token too.

    Returns:
        ``nats``, log p of everything (negative); ``bytes`` or ``symbols``; and ``lines``, the same for each text.
    """
    _check_lines(run, input, "score")
    if isinstance(run.processor.tokenizer, SymbolTokenizer):
        texts = inputs.read_texts(input, "stream")
        return score_texts(
            run, [r.encode() for t in texts for r in run.processor.tokenizer.form.records(t.decode())], tokens=tokens
        )
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
    nats, _ = token_nats(run.model, part, run.compute)
    size = "symbols" if part.counted == "symbol" else "bytes"
    lines = []
    place = 0
    for text, s, e in zip(texts, part.starts.tolist(), part.ends.tolist()):
        mine = -nats[place : place + e - s]
        place += e - s
        line: dict[str, Any] = {
            "nats": float(mine.sum()),
            size: e - s if size == "symbols" else len(text),
            "tokens": e - s,
        }
        if tokens:
            shown = [text_of(run, [i]) for i in part.ids[s:e].tolist()]
            line |= {"token_texts": shown, "token_nats": mine.tolist()}
        lines.append(line)
    return {"nats": float(-nats.sum()), size: sum(line[size] for line in lines), "lines": lines}


@register_call("generate")
@torch.no_grad()
def predict(run: Run, input: Any, *, top_k: int = 5) -> dict[str, Any]:
    """Return the ``top_k`` most probable next tokens of each sequence. All sequences are read in one padded batch.

    Args:
        run: a run of ``generate``.
        input: a path, or sequences in memory: strings of text, or (of symbols) lists of symbols or records as they are
            written in a file.
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
    _check_lines(run, input, "predict")
    sequences = inputs.read_lines(input) if inputs.is_path(input) else list(input)
    if not sequences:
        raise UserError("predict: give a list of at least one sequence")
    encoded = [_encode(run, sequence) for sequence in sequences]
    device = run.compute.device
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
        "unknown": [count_unknown(run, ids) for ids in encoded],
    }


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
    learned = getattr(run.model.config, "positions", None) == "learned"
    return ids[-(run.model.window - 1) :] if learned and run.model.window else ids


def _left_out(run: Run, length: int) -> list[int]:
    """Ids that are no answer: the unknown token, and (where voices are in step) those of other voices."""
    tokenizer = run.processor.tokenizer
    unknown = [] if tokenizer.unknown is None else [tokenizer.unknown]
    turns = tokenizer.turns() if isinstance(tokenizer, SymbolTokenizer) else []
    return unknown + (turns[length % len(turns)] if turns else [])


def _token(run: Run, k: int) -> str | None:
    """A token as text; None: the end of the record."""
    tokenizer = run.processor.tokenizer
    if isinstance(tokenizer, SymbolTokenizer):
        return None if k == tokenizer.end else tokenizer.form.bare(tokenizer.names[k])
    return token_text(run, k)


@register_call("generate")
def generate(
    run: Run,
    prompt: Sequence[str] = ("",),
    *,
    max_tokens: int | None = None,
    n: int = 1,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    stop: Sequence[str] = (),
    beams: int | None = None,
    must: Sequence[str] = (),
    forbid: Sequence[str] = (),
    seed: int | None = None,
) -> dict[str, Any]:
    """Continue each prompt ``n`` times. A sequence depends on its prompt, the seed and its number among the ``n``
    alone.

    Args:
        run: a run of ``generate``.
        prompt: beginnings of records.
        max_tokens: at most so many tokens each; None: 200, or as many as learned positions have room for.
        n: sequences of each prompt.
        temperature: divides the logits; 0 takes the most probable token.
        top_k: only the k most probable tokens; 0: all.
        top_p: the fewest most probable tokens whose probabilities reach p.
        min_p: tokens of at least this share of the largest probability.
        stop: texts that end a sequence where they appear. The end of a record ends it too.
        beams: the ``n`` best that so many beams find; None: samples.
        must: texts that all of these contain, as the tokens that they are encoded to.
        forbid: texts that none of these contains.
        seed: seed of the noise; None: 42.

    Returns:
        ``texts``, without the prompts; ``nats``, log p of each under the model as it is; ``tokens_per_second``. Of
        symbols: ``sequences``, whole records as lists of symbols (or steps), and ``written``, the same as in a file.

    Raises:
        UserError: a run of another task, options that exclude each other, or a limit that the model cannot meet.
    """
    check_counts(max_tokens, n)
    filters = Filters(temperature, top_k, top_p, min_p)
    if "" in stop:
        raise UserError("--stop '': an empty text; leave it out")
    if beams is not None and (filters, tuple(stop), seed) != (Filters(), (), None):
        raise UserError("--beams does not sample: leave out --temperature, --top-k, --top-p, --min-p, --stop, --seed")
    seed = 42 if seed is None else seed
    if (must or forbid) and beams is None:
        raise UserError("--must and --forbid need beam search: give --beams too, --beams 8 for example")
    if beams is not None and n > beams >= 1:
        raise UserError(f"-n {n}: more than --beams {beams}; give at least as many beams")
    encoded = [run.processor.tokenizer.encode(p.encode()).ids.tolist() for p in prompt]
    began = time.perf_counter()
    if beams is not None:
        options = Beams(beams, n, must=phrases(run, "--must", must), forbid=phrases(run, "--forbid", forbid))
        made = _n_best(run, _made(run, encoded, options, [seed], max_tokens, stop), n)
    else:
        handles = _made(run, encoded, filters, derive_seeds(seed, n), max_tokens, stop)
        made = [(handle.tokens, handle.total) for handle in handles]
    seconds = time.perf_counter() - began
    unknown = [count_unknown(run, ids) for ids in encoded]
    result = _shown_all(run, [p for p in prompt for _ in range(n)], [p for p in encoded for _ in range(n)], made)
    speed = sum(len(ids) for ids, _ in made) / max(seconds, 1e-9)
    return {**result, "unknown": unknown if any(unknown) else None, "tokens_per_second": speed}


def _made(
    run: Run, prompts: list[list[int]], sampler: Sampler, seeds: list[int], max_tokens: int | None, stop: Sequence[str]
) -> list[Handle]:
    """A finished request of each prompt and seed."""
    engine, rules = engine_of(run), record_rules(run, stop)

    def limit(ids: list[int]) -> int | None:
        if max_tokens is not None or engine.room is None:
            return max_tokens
        return max(1, min(DEFAULT_TOKENS, engine.room - len(ids)))

    return engine.run(Request(ids, sampler, seed, max_tokens=limit(ids), **rules) for ids in prompts for seed in seeds)


def _n_best(run: Run, handles: Sequence[Handle], n: int) -> list[tuple[list[int], float]]:
    """The n best continuations of each prompt, the end included where there is one; UserError where there are fewer."""
    found = [handle.result() for handle in handles]
    if any(len(row) < n for row in found):
        raise UserError(
            f"-n {n}: there are only {min(map(len, found))} continuations of that length: give a smaller -n"
        )
    end = record_end(run)
    return [(h.ids + [end] if h.finished and end is not None else h.ids, h.nats) for row in found for h in row]


def record_rules(run: Run, stop: Sequence[str] = ()) -> dict[str, Any]:
    """Return what ends a record and what never stands in it, as arguments of a `Request`.

    Args:
        run: a run of ``generate``.
        stop: texts that end a sequence too.

    Returns:
        ``end`` (a token, or None), ``stop`` (a function, or None) and ``constraints``: no unknown token, no token of
        another voice where voices are in step, and none that holds the end of a record and text behind it.
    """
    tokenizer, end = run.processor.tokenizer, record_end(run)
    unknown = () if tokenizer.unknown is None else (tokenizer.unknown,)
    if isinstance(tokenizer, SymbolTokenizer):
        constraints = Constraints(unknown, tuple(map(tuple, tokenizer.turns())))
        if tokenizer.form.kind == "abc":  # a blank line ends a tune
            feeds, spaces = (tuple(k for k, name in enumerate(tokenizer.names) if name in of) for of in ("\n", " \t"))
            constraints = Constraints(unknown, (), feeds, spaces, () if end is None else (end,))
        return {"end": end, "stop": _stopped(run, stop), "constraints": constraints}
    closing, beyond = _ends_inside(tokenizer, run.processor.terminator)
    several = [run.processor.terminator.decode()] if end is None and run.processor.terminator else []
    stopped = _stopped(run, [*stop, *several], frozenset(closing) - {end})
    return {"end": end, "stop": stopped, "constraints": Constraints((*unknown, *beyond))}


def record_end(run: Run) -> int | None:
    """Return the token that ends a record; None where none does, or several together."""
    if isinstance(run.processor.tokenizer, SymbolTokenizer):
        return run.processor.tokenizer.end
    ids = run.processor.tokenizer.encode(run.processor.terminator).ids.tolist() if run.processor.terminator else []
    return ids[0] if len(ids) == 1 else None


@lru_cache(maxsize=8)
def _ends_inside(tokenizer: TextTokenizer, terminator: bytes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Tokens whose bytes end with the terminator, and tokens that hold it with more behind it."""
    if not terminator:
        return (), ()
    holding = [(k, text) for k in range(tokenizer.vocab_size) if terminator in (text := tokenizer.decode([k]))]
    closing = tuple(k for k, text in holding if text.find(terminator) == len(text) - len(terminator))
    return closing, tuple(k for k, _ in holding if k not in closing)


def _stopped(
    run: Run, stop: Sequence[str], closing: frozenset[int] = frozenset()
) -> Callable[[list[int]], bool] | None:
    """The function that tells whether a continuation ends here, by its last bytes or by its last token; None: none
    does."""
    ends, decode = [s.encode() for s in stop], run.processor.tokenizer.decode
    if not ends and not closing:
        return None
    longest = max(map(len, ends), default=0)  # a token stands for at least one byte

    def stopped(ids: list[int]) -> bool:
        if ids[-1] in closing:
            return True
        last = decode(ids[-longest:]) if ends else b""
        return any(end in last for end in ends)

    return stopped


def _shown_all(
    run: Run, prompts: Sequence[str], encoded: list[list[int]], made: Sequence[tuple[list[int], float]]
) -> dict[str, Any]:
    ids, nats = [tokens for tokens, _ in made], [log_p for _, log_p in made]
    if isinstance(run.processor.tokenizer, SymbolTokenizer):
        form = run.processor.tokenizer.form
        whole = [run.processor.tokenizer.symbols_of(before + tokens) for before, tokens in zip(encoded, ids)]
        whole = [symbols[: len(symbols) - len(symbols) % form.step] for symbols in whole]
        written = [form.write(symbols, number) for number, symbols in enumerate(whole, 1)]
        return {"sequences": [form.rows(symbols) for symbols in whole], "written": written, "nats": nats}
    return {"texts": [_continuation(run, *item) for item in zip(prompts, encoded, ids)], "nats": nats}


def _continuation(run: Run, prompt: str, before: list[int], ids: list[int]) -> str:
    """The text of ``ids`` after the prompt: words bring a space with them where the prompt ends in a word."""
    whole, start = run.processor.tokenizer.decode(before + ids), prompt.encode()
    if not whole.startswith(start):  # something in the prompt is unknown
        start = run.processor.tokenizer.decode(before)
    return whole[len(start) :].decode(errors="replace")
