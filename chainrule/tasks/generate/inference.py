"""Using a run of ``generate``: continue sequences, score texts, predict next tokens."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from chainrule.core import UserError
from chainrule.data import SymbolTokenizer
from chainrule.data import lines as inputs
from chainrule.inference import sampling
from chainrule.inference.beam import Beams, beam_search
from chainrule.inference.sampling import Filters, Generated
from chainrule.inference.scoring import token_nats
from chainrule.runs.run import Run
from chainrule.tasks.generate.predict import predict_next
from chainrule.tasks.inference import need, phrases, register_call, text_of


@register_call("generate")
def score(run: Run, input: Any, *, unit: str = "lines", tokens: bool = False) -> dict[str, Any]:
    """log p (nats, negative) of texts, each read from the start.

    Args:
        run: a run of ``generate``.
        input: a path, or texts in memory.
        unit: ``lines``: every line by itself, its end counted (one is added where the last lacks it); ``stream``: a
            file as one sequence, texts in memory as they are. Symbols have records of their own: lines, tunes, entries.
        tokens: give the nats of every token too.
    """
    need(run, "generate", "score", "has log-probabilities of texts")
    if isinstance(run.processor.tokenizer, SymbolTokenizer):
        texts = inputs.read_texts(input, "stream")
        return score_texts(
            run, [r.encode() for t in texts for r in run.processor.tokenizer.form.records(t.decode())], tokens=tokens
        )
    return score_texts(run, inputs.read_texts(input, unit), tokens=tokens)


def score_texts(run: Run, texts: Sequence[bytes], *, tokens: bool = False) -> dict[str, Any]:
    """log p (nats, negative) of each text, each read from ``start``; the texts are taken as they are.

    Records of symbols are given as they are written in a file of their kind.
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
def predict(run: Run, input: Any, *, top_k: int = 5) -> dict[str, Any]:
    """The ``top_k`` most probable next tokens of each sequence, with probabilities. ``input``: a path, or sequences."""
    return predict_next(run, inputs.read_lines(input) if inputs.is_path(input) else list(input), top_k)


@register_call("generate")
def generate(
    run: Run,
    prompt: Sequence[str] = ("",),
    *,
    max_tokens: int = 200,
    n: int = 1,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    stop: Sequence[str] = (),
    beams: int = 0,
    must: Sequence[str] = (),
    forbid: Sequence[str] = (),
    seed: int = 42,
) -> dict[str, Any]:
    """``n`` continuations of each prompt. Records end at their terminator; ``stop`` ends a text where it appears.

    ``beams`` > 0: the ``n`` best that so many beams find, instead of samples; all hold every text of ``must`` and none
    of ``forbid``, as the tokens that these are encoded to. Of symbols, ``sequences`` are whole records, the prompt
    included, as lists of symbols (of steps, where voices are in step), and ``written`` the same as in a file.
    """
    need(run, "generate", "generate", "continues sequences")
    if max_tokens < 1 or n < 1:
        raise UserError(f"--max-tokens {max_tokens} and -n {n}: both at least 1")
    encoded = [run.processor.tokenizer.encode(p.encode()).ids.tolist() for p in prompt]
    max_tokens = _room(run, max(map(len, encoded)), max_tokens)
    filters = Filters(temperature, top_k, top_p, min_p)
    if beams:
        if (filters, tuple(stop)) != (Filters(), ()):
            raise UserError("--beams draws nothing: leave out --temperature, --top-k, --top-p, --min-p, --stop")
        wanted, unwanted = phrases(run, "--must", must), phrases(run, "--forbid", forbid)
        made = _most_probable(run, encoded, Beams(beams, n, max_length=max_tokens, must=wanted, forbid=unwanted))
    elif must or forbid:
        raise UserError("--must and --forbid are met by beam search: give --beams too, --beams 8 for example")
    else:
        made = _sampled(run, [ids for ids in encoded for _ in range(n)], max_tokens, filters, stop, seed)
    return _shown_all(run, [p for p in prompt for _ in range(n)], [ids for ids in encoded for _ in range(n)], made)


def _sampled(
    run: Run, prompts: list[list[int]], max_tokens: int, filters: Filters, stop: Sequence[str], seed: int
) -> Generated:
    unknown = () if run.processor.tokenizer.unknown is None else (run.processor.tokenizer.unknown,)
    return sampling.generate(
        run.model,
        prompts,
        max_tokens,
        run.compute,
        filters=replace(filters, forbidden=(*filters.forbidden, *unknown)),
        seed=seed,
        finished=_finished(run, stop),
        barred=_barred(run, prompts),
    )


def _room(run: Run, longest: int, max_tokens: int) -> int:
    """How far a prompt of ``longest`` symbols can be continued: learned positions end."""
    limit = run.model.window if run.config["model"].get("positions") == "learned" else None
    if limit is None or longest + max_tokens < limit:
        return max_tokens
    if longest + 1 >= limit:
        raise UserError(f"learned positions end at {limit} tokens and the prompt has {longest}: shorten the prompt")
    return limit - 1 - longest


def _shown_all(run: Run, prompts: Sequence[str], encoded: list[list[int]], made: Generated) -> dict[str, Any]:
    result = {"nats": made.nats, "tokens_per_second": made.tokens_per_second}
    if isinstance(run.processor.tokenizer, SymbolTokenizer):
        form = run.processor.tokenizer.form
        whole = [run.processor.tokenizer.symbols_of(before + ids) for before, ids in zip(encoded, made.ids)]
        whole = [symbols[: len(symbols) - len(symbols) % form.step] for symbols in whole]
        written = [form.write(symbols, number) for number, symbols in enumerate(whole, 1)]
        return {"sequences": [form.rows(symbols) for symbols in whole], "written": written, **result}
    texts = [_continuation(run, *item) for item in zip(prompts, encoded, made.ids)]
    return {"texts": texts, **result}


def _most_probable(run: Run, prompts: list[list[int]], options: Beams) -> Generated:
    """The n best continuations of each prompt, the end included where there is one; UserError where there are fewer."""
    if isinstance(run.processor.tokenizer, SymbolTokenizer) and run.processor.tokenizer.form.voices:
        raise UserError("--beams: voices in step are drawn, not searched for: leave out --beams, --must and --forbid")
    model, unknown, end = run.model.eval(), run.processor.tokenizer.unknown, _end(run)
    options = replace(options, forbid=(*options.forbid, *(((unknown,),) if unknown is not None else ())))
    began = time.perf_counter()
    inputs_BT, lengths_B = (x.to(run.compute.device) for x in sampling.pad(prompts, model.start_id))
    with torch.no_grad(), run.compute.autocast():
        prediction, state = model(inputs_BT, None, lengths_B)
    found = beam_search(model, (prediction.select(lengths_B - 1), state), end, run.compute, options)
    if any(len(row) < options.n_best for row in found):
        raise UserError(
            f"-n {options.n_best}: there are only {min(map(len, found))} continuations of that length: "
            "give a smaller -n"
        )
    best = [h for row in found for h in row]
    ids = [h.ids + [end] if h.finished and end is not None else h.ids for h in best]
    return Generated(ids, [h.nats for h in best], sum(map(len, ids)) / max(time.perf_counter() - began, 1e-9))


def _end(run: Run) -> int | None:
    """The symbol that ends a record; None where none does, or several together."""
    if isinstance(run.processor.tokenizer, SymbolTokenizer):
        return run.processor.tokenizer.end
    ids = run.processor.tokenizer.encode(run.processor.terminator).ids.tolist() if run.processor.terminator else []
    return ids[0] if len(ids) == 1 else None


def _finished(run: Run, stop: Sequence[str]) -> Callable[[list[int]], bool]:
    """Does a continuation end here?"""
    if isinstance(run.processor.tokenizer, SymbolTokenizer):
        end = run.processor.tokenizer.end
        return lambda ids: ids[-1] == end or any(text_of(run, ids[-64:]).endswith(s) for s in stop)
    ends = [s.encode() for s in stop] + ([run.processor.terminator] if run.processor.terminator else [])

    def finished(ids: list[int]) -> bool:
        tail = run.processor.tokenizer.decode(ids[-64:]) if ends else b""
        return any(tail.endswith(e) for e in ends)

    return finished


def _barred(run: Run, prompts: list[list[int]]) -> Callable[[int, int], Sequence[int]]:
    """What may not come next: where voices are in step, any but the voice whose turn it is."""
    turns = run.processor.tokenizer.turns() if isinstance(run.processor.tokenizer, SymbolTokenizer) else []
    if not turns:
        return lambda row, step: ()
    return lambda row, step: turns[(len(prompts[row]) + step) % len(turns)]


def _continuation(run: Run, prompt: str, before: list[int], ids: list[int]) -> str:
    """The text of ``ids`` after the prompt: words bring a space with them where the prompt ends in a word."""
    whole, start = run.processor.tokenizer.decode(before + ids), prompt.encode()
    if not whole.startswith(start):  # something in the prompt is unknown
        start = run.processor.tokenizer.decode(before)
    return whole[len(start) :].decode(errors="replace")
