"""Using a trained run: evaluate, score, generate. What the verbs print, as plain values."""

from __future__ import annotations

import gzip
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.checkpoint import RunFolder, write_file
from chainrule.checkpoint.arpa import Arpa, read_arpa, write_arpa
from chainrule.core import Batch, DataError, Encoder, Pictures, Texts, UserError, Words, family, nearest
from chainrule.data import SymbolTokenizer, WordTokenizer
from chainrule.data.codes import lines_of, read_codes
from chainrule.data.images import beside_all, read_parts
from chainrule.data.labelled import Shares
from chainrule.data.pairs import LONGEST
from chainrule.data.pictures import grey
from chainrule.data.processors import PairProcessor, TextProcessor
from chainrule.data.recognise import holds_captions
from chainrule.data.source import suffix
from chainrule.decoding import sample
from chainrule.decoding.beam import Beams, beam_search
from chainrule.decoding.choose import mbr
from chainrule.decoding.forecast import sample_paths
from chainrule.decoding.sample import Filters, Generated
from chainrule.explain.alignment import alignment
from chainrule.layers.counts import levels
from chainrule.layers.words import END, UNKNOWN, Vocabulary
from chainrule.runs.run import Run
from chainrule.scoring.evaluate import token_nats
from chainrule.scoring.forecasts import LEVELS
from chainrule.scoring.words import WordScorer
from chainrule.training.runs import machine, open_run
from chainrule.training.settings import RunConfig
from chainrule.training.tasks import find_task
from chainrule.training.tasks.codes import coded, shown
from chainrule.training.tasks.draw import drawings, nearness, picture_of
from chainrule.training.tasks.translate import length_penalty, spelled, translations

load = open_run
FORMATS = ("arpa", "symbols")
FORECAST_PATHS = 1000
EMBED_SYMBOLS = 1 << 14
"""Symbols that are read at once to embed them."""
MOST_DRAWN = 1024
"""Pictures that are drawn at once."""


def compare(
    data: str | Path | None = None,
    out: str | Path = "runs/compare",
    *,
    models: str | Sequence[str] | None = None,
    seeds: int = 1,
    lang: str = "en",
    workers: int = 0,
    overwrite: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Compare models on DATA (None: the plays that ship with the package) and return the board.

    ``settings`` are those of ``RunConfig``: budget, tokenizer, unit, split, params, seed, device, precision, threads, ….
    """
    from chainrule import experiment
    from chainrule.data import plays

    config = RunConfig.make({"data": str(data or plays()), "family": "ngram", **settings}).meant()
    return experiment.compare(config, models, out, seeds=seeds, lang=lang, workers=workers, overwrite=overwrite)


def evaluate(
    run: Run,
    data: Path | str,
    *,
    unit: str | None = None,
    on_bad: str = "stop",
    columns: str | None = None,
    group: str | None = None,
    time: str | None = None,
    predictions: Path | None = None,
) -> dict[str, Any]:
    """All metrics of the run's task on a held-out file (generate: every symbol scored, the first from ``start``).

    ``unit``, ``columns``, ``group`` and ``time`` are the run's own where they are not given.
    """
    if predictions and not predictions.parent.is_dir():
        raise UserError(f"--predictions {predictions}: no such folder; make it first")
    told = {k: v for k, v in {"unit": unit, "columns": columns, "group": group, "time": time}.items() if v}
    part = find_task(run.task).read_split(
        run, data, {**run.settings, "unit": run.data["unit"], **told, "on_bad": on_bad}
    )
    return metrics(run, part, predictions=predictions)


def metrics(run: Run, part: Any, *, predictions: Path | None = None) -> dict[str, Any]:
    """The same on a part that was read already."""
    task = find_task(run.task)
    evaluation = task.evaluate(run, part)
    if predictions:
        lines = [json.dumps(item, ensure_ascii=False) for item in task.predictions(run, part, evaluation)]
        write_file(predictions, ("\n".join(lines) + "\n").encode("utf-8", "surrogateescape"))
    notes = getattr(part, "notes", None)
    return {"task": run.task, "model": run.name, **evaluation.metrics, **({"notes": list(notes)} if notes else {})}


def _need(run: Run, task: str, verb: str, does: str) -> None:
    if run.task != task:
        raise UserError(f"{verb}: this run's task is {run.task}; a run of --task {task} {does}")


def _shown(run: Run, ids: Any) -> str:
    return run.processor.tokenizer.decode(ids).decode(errors="replace")


def score(run: Run, texts: Sequence[bytes], *, tokens: bool = False) -> dict[str, Any]:
    """log p (nats, negative) of each text, each read from ``start``; the texts are taken as they are.

    Records of symbols are given as they are written in a file of their kind.
    """
    _need(run, "generate", "score", "has log-probabilities of texts")
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
            shown = [_shown(run, [i]) for i in part.ids[s:e].tolist()]
            line |= {"token_texts": shown, "token_nats": mine.tolist()}
        lines.append(line)
    return {"nats": float(-nats.sum()), size: sum(line[size] for line in lines), "lines": lines}


def score_bytes(
    run: Run, text: bytes, *, unit: str = "lines", tokens: bool = False, where: str = "the text"
) -> dict[str, Any]:
    """``lines``: every line starts afresh, its end counted (one is added where the last lacks it); ``stream``: one sequence.

    Symbols have records of their own, whatever the unit: lines, tunes, entries.
    """
    if unit not in ("lines", "stream"):
        raise UserError(f"--unit {unit}: score takes lines or stream")
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where}: line {line}: not UTF-8 at byte {error.start} of the text") from None
    if not text.strip():
        raise UserError(f"{where}: nothing to score: give at least one line of text")
    if isinstance(run.processor.tokenizer, SymbolTokenizer):
        return score(
            run, [record.encode() for record in run.processor.tokenizer.form.records(text.decode())], tokens=tokens
        )
    lines = [line + b"\n" for line in text.removesuffix(b"\n").split(b"\n")] if unit == "lines" else [text]
    return score(run, lines, tokens=tokens)


def generate(
    run: Run,
    prompts: Sequence[str],
    *,
    max_tokens: int = 200,
    filters: Filters = Filters(),  # noqa: B008 (frozen)
    seed: int = 42,
    stop: Sequence[str] = (),
    count: int = 1,
    beams: int = 0,
    must: Sequence[str] = (),
    forbid: Sequence[str] = (),
) -> dict[str, Any]:
    """``count`` continuations of each prompt. Records end at their terminator; ``stop`` ends a text where it appears.

    ``beams`` > 0: the ``count`` best that so many beams find, instead of draws; all hold every text of ``must`` and none of
    ``forbid``, as the symbols that these are encoded to. Of symbols, ``sequences`` are whole records, the prompt included, as
    lists of symbols (of steps, where voices are in step), and ``written`` the same as they would stand in a file.
    """
    _need(run, "generate", "generate", "continues sequences")
    if max_tokens < 1 or count < 1:
        raise UserError(f"--max-tokens {max_tokens} and -n {count}: both at least 1")
    encoded = [run.processor.tokenizer.encode(p.encode()).ids.tolist() for p in prompts]
    max_tokens = _room(run, max(map(len, encoded)), max_tokens)
    repeated = [ids for ids in encoded for _ in range(count)]
    if beams:
        if (filters, tuple(stop)) != (Filters(), ()):
            raise UserError("--beams draws nothing: leave out --temperature, --top-k, --top-p, --min-p, --stop")
        wanted, unwanted = _phrases(run, "--must", must), _phrases(run, "--forbid", forbid)
        options = Beams(beams, count, max_length=max_tokens, must=wanted, forbid=unwanted)
        made = _most_probable(run, encoded, options)
    elif must or forbid:
        raise UserError("--must and --forbid are met by beam search: give --beams too, --beams 8 for example")
    else:
        blocked = () if run.processor.tokenizer.unknown is None else (run.processor.tokenizer.unknown,)
        made = sample.generate(
            run.model, repeated, max_tokens, run.compute, filters=replace(filters, forbidden=(*filters.forbidden, *blocked)),
            seed=seed, finished=_finished(run, stop), barred=_barred(run, repeated),
        )  # fmt: skip
    return _shown_all(run, [prompt for prompt in prompts for _ in range(count)], repeated, made)


def _room(run: Run, longest: int, max_tokens: int) -> int:
    """How far a prompt of ``longest`` symbols can be continued: learned positions end."""
    limit = run.model.window if run.config["model"].get("positions") == "learned" else None
    if limit is None or longest + max_tokens < limit:
        return max_tokens
    if longest + 1 >= limit:
        raise UserError(f"learned positions end at {limit} symbols and the prompt has {longest}: shorten the prompt")
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


def _phrases(run: Run, flag: str, texts: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The symbols of each text. An unknown one has no symbols of its own: what is never written is not in ``must``, and needs no ``forbid``."""
    tokenizer = run.processor.target if isinstance(run.processor, PairProcessor) else run.processor.tokenizer
    found = [tuple(tokenizer.encode(text.encode()).ids.tolist()) for text in texts]
    for text, ids in zip(texts, found):
        if not ids or tokenizer.unknown in ids:
            raise UserError(
                f"{flag} {text!r}: {'holds a symbol that the run has never seen' if ids else 'holds no symbol'}; leave it out"
            )
    return tuple(found)


def _most_probable(run: Run, prompts: list[list[int]], options: Beams) -> Generated:
    """The n best continuations of each prompt, the end symbol included where there is one; UserError where there are fewer."""
    if isinstance(run.processor.tokenizer, SymbolTokenizer) and run.processor.tokenizer.form.voices:
        raise UserError("--beams: voices in step are drawn, not searched for: leave out --beams, --must and --forbid")
    model, unknown, end = run.model.eval(), run.processor.tokenizer.unknown, _end(run)
    options = replace(options, forbid=(*options.forbid, *(((unknown,),) if unknown is not None else ())))
    began = time.perf_counter()
    inputs_BT, lengths_B = (x.to(run.compute.device) for x in sample.pad(prompts, model.start_symbol))
    with torch.no_grad(), run.compute.autocast():
        prediction, state = model(inputs_BT, None, lengths_B)
    found = beam_search(model, (prediction.select(lengths_B - 1), state), end, run.compute, options)
    if any(len(row) < options.n_best for row in found):
        raise UserError(
            f"-n {options.n_best}: there are only {min(map(len, found))} continuations of that length; give a smaller -n"
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
        return lambda ids: ids[-1] == end or any(_shown(run, ids[-64:]).endswith(s) for s in stop)
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
    """The text of ``ids`` as it goes on from the prompt: words bring a space with them where the prompt ends in a word."""
    whole, start = run.processor.tokenizer.decode(before + ids), prompt.encode()
    if not whole.startswith(start):  # something in the prompt is unknown
        start = run.processor.tokenizer.decode(before)
    return whole[len(start) :].decode(errors="replace")


def _read(run: Run, batch: Batch) -> Batch:
    """With numbers for the strings, where the model reads numbers."""
    reader = run.processor.reader
    return reader.read(batch).to(run.compute.device) if reader else batch


@torch.no_grad()
def tag(run: Run, sequences: Sequence[Sequence[str]]) -> dict[str, Any]:
    """The tags of each sequence of tokens, and log p(these tags | tokens) of each, in nats."""
    _need(run, "tag", "tag", "gives tokens their tags")
    words = tuple(tuple(row) for row in sequences)
    batch = Words(torch.zeros(len(words), 0), torch.zeros(len(words), 0), words=words)
    tags_BT, nats_B = run.model.tag(_read(run, batch))
    tags = [[run.processor.labels[c] for c in row[: len(w)]] for row, w in zip(tags_BT.tolist(), words)]
    return {"tokens": [list(row) for row in words], "tags": tags, "nats": nats_B.tolist()}


def read_lines(text: bytes, where: str, *, blank: bool = False) -> list[str]:
    """The lines of a text, without blank ones unless they are wanted."""
    try:
        lines = [line.rstrip("\r") for line in text.decode("utf-8-sig").split("\n")]
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: line {text.count(10, 0, error.start) + 1}: not UTF-8") from None
    if not any(line.strip() for line in lines):
        raise UserError(f"{where}: only blank lines: give at least one with text")
    return lines[: len(lines) - (not lines[-1])] if blank else [line for line in lines if line.strip()]


def read_sequences(text: bytes, where: str) -> list[list[str]]:
    """Sequences of tokens: one a line with white space between tokens; or, where no line holds two words (what follows a tab
    aside), one token a line with a blank line between sequences.
    """
    lines = [line.split("\t")[0] for line in read_lines(text, where)]
    if any(len(line.split()) > 1 for line in lines):
        return [line.split() for line in lines]
    blocks = text.decode("utf-8-sig").replace("\r\n", "\n").split("\n\n")
    return [
        [line.split("\t")[0].strip() for line in block.split("\n") if line.strip()] for block in blocks if block.strip()
    ]


@torch.no_grad()
def classify(run: Run, texts: Sequence[str]) -> dict[str, Any]:
    """The label of each text, and the probability of every label."""
    _need(run, "classify", "classify", "gives records their labels")
    batch = Texts(torch.zeros(len(texts), 0), torch.zeros(len(texts), 0), texts=tuple(texts))
    log_p_BC = run.model.classify(_read(run, batch))
    labels = [run.processor.labels[c] for c in log_p_BC.argmax(-1).tolist()]
    shares = [dict(zip(run.processor.labels, row)) for row in log_p_BC.exp().tolist()]
    return {"labels": labels, "p": shares}


def draw_captions(
    run: Run,
    captions: Sequence[str],
    *,
    count: int = 1,
    best_of: int | None = None,
    filters: Filters | None = None,
    guidance: float | None = None,
    seed: int = 42,
    begin: np.ndarray | None = None,
) -> dict[str, Any]:
    """``count`` pictures of each caption, caption after caption: ``images`` (N x Y x X x C bytes), their symbols ``ids`` (N x P), log p
    of each (nats, given its caption), and how close the run's matcher finds each to its caption (cosines).

    ``best_of``: draw so many of each, keep those ``count`` that are closest to the caption, closest first. ``guidance`` > 1 follows captions
    more closely at the price of variety. ``begin``: a picture as the run's own are, whose upper half is kept. What is None is as was
    settled on validation.
    """
    _need(run, "draw", "draw", "draws pictures")
    if guidance is not None and not 0 <= guidance <= 100:
        raise UserError(f"--guidance {guidance}: allowed is 0 to 100; 1 is the model as it is")
    if best_of is not None and best_of < count:
        raise UserError(f"--best-of {best_of}: draws fewer than the {count} to be shown; at least -n")
    model, each = run.model, best_of or count
    if len(captions) * each > MOST_DRAWN:
        raise UserError(
            f"{len(captions) * each:,} pictures, and at most {MOST_DRAWN:,} are drawn at once: fewer captions, -n or --best-of"
        )
    wanted = [caption for caption in captions for _ in range(each)]
    kept_NP = None
    if begin is not None:
        ids_1P = coded(model.codec, run.processor.reader, begin[None], run.compute)
        kept_NP = np.repeat(ids_1P[:, : model.codec.side * (model.codec.side // 2)], len(wanted), 0)
    began = time.perf_counter()
    ids_NP, nats_N = drawings(run, wanted, filters, guidance, seed=seed, kept_NP=kept_NP)
    images = picture_of(run, ids_NP)
    seconds = time.perf_counter() - began
    chosen_N, near_N = np.arange(len(wanted)), None
    if model.chooser.taught:
        near_N = nearness(model.chooser, run, wanted, images).diagonal()
    if best_of:
        if near_N is None:
            raise UserError(
                "--best-of: this run's training has not ended, so nothing was taught to choose; --resume auto ends it"
            )
        blocks = near_N.reshape(len(captions), each)
        chosen_N = (np.argsort(-blocks, 1, kind="stable")[:, :count] + each * np.arange(len(captions))[:, None]).ravel()
    return {
        "images": images[chosen_N],
        "ids": ids_NP[chosen_N],
        "captions": [wanted[k] for k in chosen_N],
        "nats": nats_N[chosen_N].tolist(),
        "nearness": None if near_N is None else near_N[chosen_N].tolist(),
        "seconds": seconds,
    }


def draw_symbols(run: Run, lines: Sequence[str], where: str = "the lines") -> dict[str, Any]:
    """Pictures of the symbols of a codec, which a run of ``codes`` is: ``images`` (N x Y x X x C bytes), their symbols ``ids`` (N x P), and
    ``left_out``, how many sequences ended before their picture did. ``lines`` are as ``read_codes`` takes them, and so are its errors.
    """
    _need(run, "codes", "draw --symbols", "shows symbols as pictures")
    ids_NP, short = read_codes(lines, run.model.codes, run.model.side**2, where)
    if len(ids_NP) > MOST_DRAWN:
        raise UserError(
            f"{where}: {len(ids_NP):,} pictures, and at most {MOST_DRAWN:,} are drawn at once: give a part of them"
        )
    began = time.perf_counter()
    images = shown(run.model, run.processor.reader, ids_NP, run.compute)
    return {"images": images, "ids": ids_NP, "left_out": short, "seconds": time.perf_counter() - began}


@torch.no_grad()
def classify_images(run: Run, paths: Sequence[str | Path]) -> dict[str, Any]:
    """The label of each picture (PNG, JPEG or WebP files), and the probability of every label."""
    _need(run, "classify-images", "classify", "gives pictures their labels")
    pixels_BCYX = torch.from_numpy(np.stack([run.processor.reader.open(Path(path)) for path in paths])).movedim(3, 1)
    batch = Pictures(torch.zeros(len(paths), 0), torch.zeros(len(paths), 0), pixels_BCYX=pixels_BCYX)
    log_p_BC = torch.cat([run.model.classify(_read(run, part)) for part in in_turn(batch)])
    labels = [run.processor.labels[c] for c in log_p_BC.argmax(-1).tolist()]
    return {"labels": labels, "p": [dict(zip(run.processor.labels, row)) for row in log_p_BC.exp().tolist()]}


def in_turn(batch: Pictures, rows: int = 256) -> list[Pictures]:
    """So many pictures at once."""
    return [batch.rows(start, start + rows) for start in range(0, len(batch.targets_BT), rows)]


def translate(
    run: Run,
    sources: Sequence[str],
    *,
    n_best: int = 1,
    must: Sequence[str] = (),
    forbid: Sequence[str] = (),
    least_risk: bool = False,
    **search: Any,
) -> dict[str, Any]:
    """The target of each source (of an empty one: nothing), and log p of each (nats, its end included). ``search``: further settings of ``Beams``.

    ``n_best`` > 1: ``n_best`` holds that many a source, best first. ``least_risk``: not the most probable of what the beam found is the
    translation, but the one that is closest to all others, by chrF weighed with their probabilities.
    """
    _need(run, "translate", "translate", "writes targets")
    width = search.pop("width", 4)
    width = max(width, n_best) if width > 0 else width
    phrases = {"must": _phrases(run, "--must", must), "forbid": _phrases(run, "--forbid", forbid)}
    search = {"length_penalty": length_penalty(run), **search}
    options = Beams(width, width if least_risk else n_best, **phrases, **search)
    ids = [run.processor.source.encode(" ".join(text.split()).encode()).ids for text in sources]
    began = time.perf_counter()
    found = translations(run, [x[:LONGEST].astype(np.int32) for x in ids], options)
    seconds = time.perf_counter() - began
    listed = [[{"text": spelled(run, h.ids), "nats": h.nats, "score": h.score} for h in row] for row in found]
    if least_risk:
        best = [mbr([h["text"] for h in row], [h["nats"] for h in row]) for row in listed]
        listed = [[row[k], *row[:k], *row[k + 1 :]] for row, k in zip(listed, best)]
    result: dict[str, Any] = {
        "translations": [row[0]["text"] for row in listed],
        "nats": [row[0]["nats"] for row in listed],
        "tokens_per_second": sum(len(h.ids) + 1 for row in found for h in row[:1]) / max(seconds, 1e-9),
    }
    if n_best > 1:
        result["n_best"] = [row[:n_best] for row in listed]
    cut = sum(len(x) > LONGEST for x in ids)
    return result | ({"cut": cut} if cut else {})


MASK = "[MASK]"


def fill(run: Run, texts: Sequence[str], *, top: int = 5) -> dict[str, Any]:
    """What may stand at every ``[MASK]`` of each text: the ``top`` symbols with their probabilities, each mask for itself, the others
    hidden; and ``filled``, the text with all of them filled, the surest first and each knowing those before it.

    A mask is one unit of the run: a byte, a character, a word, a piece of bpe (which brings the space before it along).
    """
    _need(run, "fill", "fill", f"fills in {MASK}")
    if top < 1:
        raise UserError(f"--top-k {top}: at least 1")
    if unfit := next((text for text in texts if MASK not in text), None):
        raise UserError(f'fill: no {MASK} in "{unfit[:40]}": write {MASK} where something is to be filled in')
    results, known = [], run.model.symbols - (run.processor.tokenizer.unknown is not None)
    for text in texts:
        pieces = text.split(MASK)
        if run.processor.tokenizer.name == "bpe":  # the space before a mask is the first byte of what fills it
            pieces = [piece.removesuffix(" ") for piece in pieces[:-1]] + pieces[-1:]
        ids = _with_masks(run, pieces)
        p_MK, ids_MK = _hidden(run, ids).exp().topk(min(top, known))
        found = [
            [{"text": _unit_text(run, k), "p": p} for k, p in zip(*row)] for row in zip(ids_MK.tolist(), p_MK.tolist())
        ]
        chosen = [_unit_text(run, k) for k in _all_filled(run, ids)]
        filled = pieces[0] + "".join(unit + piece for unit, piece in zip(chosen, pieces[1:]))
        results.append({"text": text, "masks": found, "filled": filled})
    unit = "symbol" if isinstance(run.processor.tokenizer, SymbolTokenizer) else run.processor.tokenizer.name
    return {"unit": unit, "texts": results}


def _with_masks(run: Run, pieces: Sequence[str]) -> list[int]:
    """The ids of a text, a mask between its pieces."""
    model, ids = run.model, []
    for k, piece in enumerate(pieces):
        ids += [model.mask_symbol] * (k > 0)
        if run.processor.tokenizer.name == "word":  # the space between two words is no symbol
            piece = piece.removeprefix(" " * (k > 0)).removesuffix(" " * (k < len(pieces) - 1))
        ids += run.processor.tokenizer.encode(piece.encode()).ids.tolist()
    if len(ids) >= model.window:
        raise UserError(
            f"fill: the text has {len(ids)} symbols and this run reads {model.window - 1} at once: give a shorter one"
        )
    return ids


@torch.no_grad()
def _hidden(run: Run, ids: Sequence[int]) -> torch.Tensor:
    """log p of what stands at the masks, M x V; the unknown symbol is no answer."""
    model, compute = run.model, run.compute
    row_1T = torch.tensor([[model.start_symbol, *ids]], device=compute.device)
    with compute.autocast():
        hidden_1TD = model.encode(Batch(row_1T, row_1T))
        logits_MV = model.predict(hidden_1TD[row_1T == model.mask_symbol][None]).logits()[0]
    log_p_MV = logits_MV.float().log_softmax(-1)
    if run.processor.tokenizer.unknown is not None:
        log_p_MV[:, run.processor.tokenizer.unknown] = -math.inf
    return log_p_MV


def _all_filled(run: Run, ids: Sequence[int]) -> list[int]:
    """What fills each mask: the most probable symbol where it is most probable, again and again until no mask is left."""
    filled = list(ids)
    masks = [t for t, k in enumerate(ids) if k == run.model.mask_symbol]
    while left := [t for t in masks if filled[t] == run.model.mask_symbol]:
        log_p_M, best_M = _hidden(run, filled).max(-1)
        surest = int(log_p_M.argmax())
        filled[left[surest]] = int(best_M[surest])
    return [filled[t] for t in masks]


def _unit_text(run: Run, k: int) -> str:
    """One symbol as text; a byte that is no character by itself as its number."""
    content = run.processor.tokenizer.decode([k])
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "".join(f"\\x{byte:02x}" for byte in content)


def embed(run: Run, texts: Sequence[str], *, per: str = "text") -> dict[str, Any]:
    """Vectors of texts, float32: one each, the mean over its symbols (``per="text"``), or one for every symbol, texts one after the other
    (``per="token"``); ``tokens`` counts those of each text. A text beyond what the run reads at once is read in pieces.
    """
    model = run.model
    if not isinstance(model, Encoder):
        raise UserError(
            f"embed: {run.name} has no vectors that know a whole text: train one with --task fill --model bert"
        )
    if per not in ("text", "token"):
        raise UserError(f"--per {per}: text or token")
    ids = [run.processor.tokenizer.encode(text.encode()).ids for text in texts]
    empty = next((k for k, row in enumerate(ids) if not len(row)), None)
    if empty is not None:
        raise UserError(f"embed: text {empty + 1} is empty: give texts of at least one symbol")
    vectors = _vectors(run, ids)
    made = np.stack([rows.mean(0) for rows in vectors]) if per == "text" else np.concatenate(vectors)
    return {"vectors": made, "tokens": [len(row) for row in ids]}


@torch.no_grad()
def _vectors(run: Run, ids: Sequence[np.ndarray]) -> list[np.ndarray]:
    """A vector for each symbol of each text. Pieces of like length are read together."""
    model, compute, size = run.model, run.compute, run.model.window - 1
    pieces = [(b, t, row[t : t + size]) for b, row in enumerate(ids) for t in range(0, len(row), size)]
    pieces.sort(key=lambda piece: -len(piece[2]))
    out = [np.zeros((len(row), 0), np.float32) for row in ids]
    while pieces:
        group = pieces[: max(1, EMBED_SYMBOLS // (len(pieces[0][2]) + 1))]
        pieces = pieces[len(group) :]
        lengths_B = torch.tensor([len(piece) + 1 for _, _, piece in group])
        rows_BT = torch.zeros(len(group), int(lengths_B.max()), dtype=torch.long)
        for k, (_, _, piece) in enumerate(group):
            rows_BT[k, 0] = model.start_symbol
            rows_BT[k, 1 : len(piece) + 1] = torch.from_numpy(piece.astype(np.int64))
        with compute.autocast():
            batch = Batch(rows_BT, rows_BT, lengths_B).to(compute.device)
            hidden_BTD = model.encode(batch).float().cpu().numpy()
        for k, (b, t, piece) in enumerate(group):
            if not out[b].shape[1]:
                out[b] = np.zeros((len(ids[b]), hidden_BTD.shape[-1]), np.float32)
            out[b][t : t + len(piece)] = hidden_BTD[k, 1 : len(piece) + 1]
    return out


def alignment_of(run: Run, source: str, target: str) -> tuple[np.ndarray, list[str], list[str]]:
    """Where the model looks while it writes ``target`` from ``source``: weights T x S, the symbols of the target, those of the
    source. UserError where the model attends to no source.
    """
    units = run.processor
    ids = [
        tokenizer.encode(" ".join(text.split()).encode()).ids
        for tokenizer, text in ((units.source, source), (units.target, target))
    ]
    sources_1S, targets_1T = (torch.from_numpy(x[:LONGEST].astype(np.int64))[None].to(run.compute.device) for x in ids)
    weights = alignment(
        run.model, sources_1S, torch.tensor([sources_1S.shape[1]], device=sources_1S.device), targets_1T
    )
    shown = [
        [tokenizer.decode([i]).decode(errors="replace").strip() or "␣" for i in x[0].tolist()]
        for tokenizer, x in ((units.target, targets_1T), (units.source, sources_1S))
    ]
    return weights[0].double().cpu().numpy(), shown[0], shown[1]


def forecast(
    run: Run, horizon: int = 24, *, prompts: Sequence[str] = (), count: int = 1, seed: int = 42
) -> dict[str, Any]:
    """Continue a series by ``horizon`` values: the series of the run itself, or each of ``prompts`` ("112 118 132").

    ``sequences`` holds ``count`` sampled paths of each, with their ``nats``; ``quantiles`` the 80 % interval and the median at each
    step, from 1,000 paths. All in the series' own units.
    """
    _need(run, "series", "forecast", "can be forecast")
    if horizon < 1 or count < 1:
        raise UserError(f"--max-tokens {horizon} and -n {count}: both at least 1")
    scaling = run.processor.scaling
    if len(prompts) and len(scaling.columns) > 1:
        raise UserError(
            f"--prompt: the run has {len(scaling.columns)} series; without a prompt each of its own is continued"
        )
    known = [read_numbers(text) for text in prompts] or [np.array(tail) for tail in run.data["tail"]]
    made: dict[str, Any] = {"columns": [], "sequences": [], "nats": [], "levels": list(LEVELS), "quantiles": []}
    began = time.perf_counter()
    for k, values in enumerate(known):
        at = 0 if len(prompts) else k
        found = sample_paths(
            run.model, scaling.seen(at, values), horizon, max(count, FORECAST_PATHS), run.compute, seed
        )
        made["columns"].append(scaling.columns[at])
        made["sequences"] += scaling.own(at, found.values_BT[:count]).tolist()
        made["nats"] += (found.nats_B[:count] - horizon * math.log(scaling.scale[at])).tolist()
        made["quantiles"].append(scaling.own(at, found.quantiles(LEVELS)).tolist())
    drawn = len(known) * horizon * max(count, FORECAST_PATHS)
    return {**made, "tokens_per_second": drawn / max(time.perf_counter() - began, 1e-9)}


def read_numbers(text: str) -> np.ndarray:
    """The numbers of a prompt, separated by white space or commas."""
    try:
        values = np.array([float(x) for x in text.replace(",", " ").split()])
    except ValueError as error:
        raise UserError(
            f'--prompt {text[:40]}: {error}; a series is continued from numbers such as "112 118 132"'
        ) from None
    if not np.isfinite(values).all():
        raise UserError(f"--prompt {text[:40]}: only finite numbers")
    return values


def arpa_of(run: Run) -> Arpa:
    """A word n-gram as KenLM sees it: a line is a sentence, its end is </s>, the start symbol <s>. UserError where the run
    is no such model.
    """
    tables, units = run.model.state_dict(), run.processor.tokenizer
    if run.task != "generate" or not {"keys", "log_table", "log_backoff"} <= tables.keys():
        raise UserError(f"ARPA holds n-grams; this run is {run.name} for {run.task}")
    if not (isinstance(units, WordTokenizer) and units.lines):
        raise UserError("ARPA holds words of lines: train with --tokenizer word --unit lines")
    if run.model.smoothing in ("ml", "add_k"):
        raise UserError(f"ARPA cannot hold smoothing={run.model.smoothing}: train with kneser_ney or witten_bell")
    ended = run.processor.terminator.decode()
    words = [END if word == ended else word.encode() for word in units.words] + [UNKNOWN]
    vocabulary = Vocabulary(words, len(words) - 1, words.index(END))
    keys, log_prob, log_backoff = (tables[name].cpu().numpy() for name in ("keys", "log_table", "log_backoff"))
    return Arpa(vocabulary, run.config["model"]["n"], keys, log_prob, log_backoff[: _contexts(keys, words, run)])


def _contexts(keys: np.ndarray, words: Sequence[bytes], run: Run) -> int:
    """How many windows are shorter than n."""
    return levels(keys, len(words) + 1, run.config["model"]["n"])[-1].start


def word_scorer(source: Run | Path | str, *, base: float | None = 10.0, threads: int = 1) -> WordScorer:
    """Scores of many sentences at once, by a word n-gram that was trained here, or by an ARPA file of any origin. Units are
    log10 as KenLM's, nats where ``base`` is None.
    """
    if isinstance(source, Run):
        arpa = arpa_of(source)
    else:
        arpa = arpa_of(open_run(source)) if Path(source).is_dir() else read_arpa(source)
    return WordScorer(arpa.vocabulary, arpa.n, arpa.tables, base=base, threads=threads)


def export(
    run: Run,
    to: str,
    out: Path | str,
    *,
    data: Path | str | None = None,
    columns: str | None = None,
    split: Shares | None = None,
    on_bad: str = "stop",
) -> dict[str, Any]:
    """``arpa``: write the model in that format. ``symbols``: write pictures (``data``) as the symbols of a codec, a line of JSON each, which
    are records to ``generate``; ``columns`` and ``split`` are the run's own where they are not given.

    Raises UserError, one line: a format, a run or a place that does not fit, ``data`` missing or too much; DataError as ``read_pictures``.
    """
    if to not in FORMATS:
        raise UserError(f"--to {to}: {nearest(to, FORMATS)}")
    told: dict[str, Any] = {"out": str(out), "format": to}
    if to == "symbols":
        reading = {"columns": columns or run.settings.get("columns"), "on_bad": on_bad}
        return told | _write_symbols(run, data, Path(out), split or run.settings["split"], reading)
    if data is not None:
        raise UserError(
            f"--data {data}: an ARPA file is made of the run alone: leave it out; --to symbols takes pictures"
        )
    write_arpa(out, arpa_of(run))
    return told


def _write_symbols(
    run: Run, data: Path | str | None, out: Path, split: Shares, reading: dict[str, Any]
) -> dict[str, Any]:
    """Every picture under its part: given parts are kept, the rest is split as it was to train the codec, by pixels."""
    _need(run, "codes", "export --to symbols", "writes pictures as symbols")
    if data is None:
        raise UserError("export --to symbols: no --data; give the pictures: a folder, a table of paths or an .npz file")
    _check_place(out, Path(data))
    reader, model, notes = run.processor.reader, run.model, []
    beside = beside_all(data, **reading)
    _, parts, _ = read_parts(data, split=split, size=reader.size, beside=beside, notes=notes, **reading)
    lines: list[str] = []
    for name, part in parts.items():
        ids_NP = coded(model, reader, grey(part.images, reader.channels), run.compute)
        lines.extend(lines_of(part, ids_NP, name, beside))
    content = ("\n".join(lines) + "\n").encode(errors="replace")
    write_file(out, gzip.compress(content, mtime=0) if out.name.endswith(".gz") else content)
    sizes = {name: len(part) for name, part in parts.items()}
    return {"pictures": sizes, "codes": model.codes, "codes_per_image": model.side**2, "notes": notes}


def _check_place(out: Path, data: Path) -> None:
    """Said before pictures are read: a file of this name and place is one that is read as symbols, and leaves the pictures as they were."""
    if suffix(out) != ".jsonl" or holds_captions(out):
        raise UserError(
            f"{out}: lines of symbols are told by their name: symbols.jsonl, or symbols.jsonl.gz, for example"
        )
    if not out.parent.is_dir():
        raise UserError(f"{out.parent}: no such folder; make it first")
    if data.resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f"{out}: among the pictures it would be taken for their table: write it outside {data}")


def import_arpa(path: Path | str, out: Path | str, *, overwrite: bool = False) -> dict[str, Any]:
    """Make a run of an ARPA file: it evaluates, scores and generates like any other; an unknown word costs p(<unk>) alone."""
    arpa = read_arpa(path)
    try:
        words = ["\n" if word == END else word.decode() for word in arpa.vocabulary.words[:-1]]
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8: convert it, for example with iconv") from None
    chosen, model = family("ngram"), {"n": arpa.n, "smoothing": "backoff"}
    config = chosen.configure(symbols=len(arpa.vocabulary), **model)
    settings = RunConfig.make({"data": str(path), "family": chosen.name, "unit": "lines", "tokenizer": "word"})
    recipe = {**chosen.recipe.model_dump(), "betas": list(chosen.recipe.betas)}
    folder = RunFolder.create(out, overwrite=overwrite)
    folder.write_description(
        {**settings.model_dump(), "split": list(settings.split), "model": model, "recipe": recipe},
        {"model_type": chosen.name, "task": chosen.task, "model": config.model_dump()},
        {
            "data.json": {"unit": "lines", "counted": "byte", "notes": [f"imported from {Path(path).name}"]},
            "processor.json": TextProcessor(WordTokenizer(words, lines=True), "lines", b"\n").to_json(),
        },
        machine(),
    )
    tables = {"keys": arpa.keys, "log_table": arpa.log_prob, "log_backoff": arpa.log_backoff}
    folder.write_model({name: torch.from_numpy(x) for name, x in tables.items()})
    return {"run": str(out), "n": arpa.n, "words": len(arpa.vocabulary), "ngrams": len(arpa.keys) - 1}
