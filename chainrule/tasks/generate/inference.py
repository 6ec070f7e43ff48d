"""Inference calls of ``generate``: continue sequences; score them and predict what comes next (``reading``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from chainrule.core import UserError
from chainrule.core.noise import derive_seeds
from chainrule.data import SymbolTokenizer
from chainrule.data.lines import is_path
from chainrule.data.tokenizers import TextTokenizer
from chainrule.inference.beam import Beams
from chainrule.inference.requests import DEFAULT_TOKENS, Constraints, Handle, Request, Sampler
from chainrule.inference.sampling import Filters
from chainrule.inference.scheduler import drafter_of, engine_of
from chainrule.runs.run import Run
from chainrule.tasks.generate import explaining  # noqa: F401  (registers itself)
from chainrule.tasks.generate.reading import encoded_all, predict, read_sequences, score, scored_items
from chainrule.tasks.inference import check_counts, count_unknown, phrases, register_call

register_call("generate", items=scored_items)(score)
register_call("generate", items=lambda run, input, **_: read_sequences(run, input, "predict"))(predict)


@register_call("generate", items=lambda run, prompt=(), input=None, **_: _prompts(run, prompt, input))
def generate(
    run: Run,
    prompt: Sequence[str] = (),
    *,
    input: Any = None,
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
    speculate: str = "auto",
) -> dict[str, Any]:
    """Continue each prompt ``n`` times. A sequence depends on its prompt, the seed and its number among the ``n``
    alone.

    Args:
        run: a run of ``generate``.
        prompt: beginnings of records; none: one that is empty.
        input: a path whose lines (or entries, tunes) are prompts, or prompts in memory, in place of ``prompt``; of
            symbols also lists of symbols.
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
        speculate: ``on``: the table that is kept with the run, where there is one, drafts tokens of samples, and the
            model verifies several of them in one pass; ``off``: not; ``auto``: on, but for bf16.

    Returns:
        ``texts``, without the prompts (``prompts``, where ``input`` holds them); ``nats``, log p of each under the
        model as it is; ``tokens_per_second``; where tokens may be drafted, ``draft_tokens``, how many were, and
        ``accepted_tokens``, how many of them hold. Of symbols: ``sequences``, whole records as lists of symbols (or
        steps), and ``written``, the same as `predict` and `score` read it from a file: a line each, but for formats of
        several.

    Raises:
        UserError: a run of another task, options that exclude each other, or a limit that the model cannot meet.
    """
    check_counts(max_tokens, n)
    filters, prompts = Filters(temperature, top_k, top_p, min_p), _prompts(run, prompt, input)
    if "" in stop:
        raise UserError("--stop '': an empty text; leave it out")
    if beams is not None and (filters, tuple(stop), seed) != (Filters(), (), None):
        raise UserError("--beams does not sample: leave out --temperature, --top-k, --top-p, --min-p, --stop, --seed")
    seed = 42 if seed is None else seed
    if (must or forbid) and beams is None:
        raise UserError("--must and --forbid need beam search: give --beams too, --beams 8 for example")
    if beams is not None and n > beams >= 1:
        raise UserError(f"-n {n}: more than --beams {beams}; give at least as many beams")
    encoded = encoded_all(run, prompts, "generate")
    told: dict[str, Any] = {}
    began = time.perf_counter()
    if beams is not None:
        options = Beams(beams, n, must=phrases(run, "--must", must), forbid=phrases(run, "--forbid", forbid))
        made = _n_best(run, _made(run, encoded, options, [seed], max_tokens, stop), n)
    else:
        handles = _made(run, encoded, filters, derive_seeds(seed, n), max_tokens, stop, speculate=speculate)
        made = [(handle.tokens, handle.total) for handle in handles]
        if drafter_of(run, speculate) is not None:
            told["draft_tokens"] = sum(handle.drafted for handle in handles)
            told["accepted_tokens"] = sum(handle.accepted for handle in handles)
    speed = sum(len(ids) for ids, _ in made) / max(time.perf_counter() - began, 1e-9)
    unknown = [count_unknown(run, ids) for ids in encoded]
    result = _shown_all(run, [p for p in prompts for _ in range(n)], [p for p in encoded for _ in range(n)], made)
    told |= {"prompts": None if input is None else prompts, "unknown": unknown if any(unknown) else None}
    return {**result, **told, "tokens_per_second": speed}


def _prompts(run: Run, prompt: Sequence[str], input: Any) -> list[Any]:
    """The prompts; an empty one where none is given."""
    if prompt and input is not None:
        raise UserError("generate: a file of prompts and --prompt exclude each other: leave out one of them")
    return (
        read_sequences(run, input, "generate") if is_path(input) else list(prompt or ("",) if input is None else input)
    )


def _made(
    run: Run,
    prompts: list[list[int]],
    sampler: Sampler,
    seeds: list[int],
    max_tokens: int | None,
    stop: Sequence[str],
    *,
    speculate: str = "off",
) -> list[Handle]:
    """A finished request of each prompt and seed."""
    engine, rules = engine_of(run, speculate), {**record_rules(run, stop), "speculate": speculate != "off"}

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
