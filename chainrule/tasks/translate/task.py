"""translate: a target for every source. The main metric is chrF for sentences, errors per symbol for symbols."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core import Autoregressive, ConfigError, ModelType
from chainrule.core.metric import Metric
from chainrule.core.progress import tracked
from chainrule.data.dataset import EncodedData
from chainrule.data.pair_encoding import PairBatches, PairPart, check_pair_tokenizers
from chainrule.data.pairs import PairDataset, read_pairs, read_pairs_part
from chainrule.data.processors import PairProcessor
from chainrule.data.tokenizers import TextTokenizer
from chainrule.inference.beam import Beams
from chainrule.inference.requests import Constraints, Hypothesis, Request, SourcePrompt
from chainrule.inference.scheduler import engine_of
from chainrule.runs.run import Run
from chainrule.tasks.base import Evaluation, Task, register_task
from chainrule.tasks.settings import ResolvedRun, RunConfig
from chainrule.tasks.translate.metrics import judge
from chainrule.training.loop import Source
from chainrule.training.losses import Seq2SeqLoss
from chainrule.training.rules import GradientRule, Rule

ROWS = 64
"""Sources that are read, or translated, at once."""
VALIDATED = 2000
"""Pairs of the validation split that the best weights are chosen on, at most."""
PENALTIES, SETTLED = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6), 128
"""Length penalties that are tried, from short to long, and the number of validation pairs that they are tried on."""
MAX_EXTRA_TOKENS = 10
"""Tokens that a translation may have beyond the length that training pairs suggest."""


@register_task
class Translate(Task):
    """Generate a target for a source."""

    name = "translate"
    card_of_encoding = True
    normalize = "nfc"
    data_options = ("tokenizer", "group", "on_bad", "encoding", "normalize")
    tuning = "tuning the length penalty on the validation set"
    default_models = "rnn:attention=none,gru:attention=none,gru,lstm,transformer"

    def metrics(self, counted: str) -> tuple[Metric, ...]:
        errors = Metric("error_rate", "errors per word", "단어당 오류", of="edits", per="symbols")
        chrf = Metric("chrf", "chrF", "chrF", higher_is_better=True, digits=2, of="statistics", aggregate="chrf",
                      items="pair", min_items=50, min_block=1)  # fmt: skip
        bleu = Metric("bleu", "BLEU", "BLEU", higher_is_better=True, digits=2)
        exact = Metric("exact_match", "exact match", "완전 일치", unit="%", higher_is_better=True, digits=0, of="exact")
        if counted != "symbol":
            return chrf, bleu, exact, errors
        main = replace(
            errors, label="errors per symbol", label_ko="기호당 오류", sentence="{} errors per symbol",
            sentence_ko="기호당 오류 {}", items="symbol", min_items=200, min_block=1,
        )  # fmt: skip
        return main, chrf, bleu, exact

    def validation(self, counted: str) -> Metric:
        """Return the cross-entropy: translating the validation split would take too long."""
        return Metric("nats_per_target_token", "nats per target token", "목표 토큰당 nat", of="nats",
                      sentence="{} nats per target token", sentence_ko="목표 토큰당 {} nat")  # fmt: skip

    def read(self, settings: RunConfig) -> PairDataset:
        """Return pairs; targets from a closed set are evaluated as symbols only under a tokenizer of words."""
        s = settings
        found = read_pairs(s.data, s.columns, s.group, s.split, self.decoding(s.model_dump()))
        target = check_pair_tokenizers(s.tokenizer)[-1].kind if s.tokenizer else "word"
        return found if target == "word" else replace(found, counted="sentence")

    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> PairProcessor:
        spec = settings.tokenizer
        return dataset.remember(("processor", spec), lambda: PairProcessor.fit(dataset, spec))

    def read_split(self, run: Run[PairProcessor], source: Path | str, options: dict[str, Any]) -> PairPart:
        return run.processor.encode(read_pairs_part(source, options.get("columns"), self.decoding(options)))

    def described(self, data: EncodedData) -> dict[str, Any]:
        return {"parts": {n: {"records": len(p)} for n, p in data.parts.items()}, "ratio": ratio(data.parts["train"])}

    def learning(self, model: Any, data: EncodedData, ready: ResolvedRun) -> tuple[Source, Rule]:
        if not isinstance(model, Autoregressive):
            raise ConfigError(f"{ready.model_type.name} generates no targets: it cannot learn to translate")
        r = ready.recipe
        batches = PairBatches(
            data.parts["train"],
            r.batch_size * r.sequence_length,
            ready.settings.seed,
            model.start_id,
            model.vocab_size - 1,
        )
        return Source(batches.steps_per_epoch, batches.at), GradientRule(
            Seq2SeqLoss(model, r.label_smoothing), r, ready.compute
        )

    def validate(self, model: Any, data: EncodedData, ready: ResolvedRun) -> float:
        part = data.parts["valid"]
        chosen = np.arange(0, len(part), math.ceil(len(part) / VALIDATED)).tolist()
        return target_nats(model, part, chosen, ready)

    def tune_decoding(self, run: Run, data: EncodedData) -> dict[str, Any]:
        """Return the length penalty with which translations of validation sources are about as long as their targets.

        Beam search prefers translations that are too short, the more so the less a model has learnt (Murray & Chiang
        2018).
        """
        if run.data["counted"] == "symbol":
            return {}
        part = data.parts["valid"]
        chosen = np.arange(0, len(part), math.ceil(len(part) / SETTLED))
        wanted, gaps = sum(len(part.targets[r]) for r in chosen), {}
        for penalty in tracked(PENALTIES):
            found = translations(run, [part.source_ids[r] for r in chosen], Beams(length_penalty=penalty))
            written = sum(len(spelled(run, best[0].ids)) for best in found)
            gaps[penalty] = abs(math.log(max(1, written) / max(1, wanted)))
            if written >= wanted:
                break
        return {"length_penalty": min(gaps, key=lambda penalty: gaps[penalty])}

    def evaluate(self, run: Run, part: PairPart) -> Evaluation:
        """Translate every source by a beam of 4 and compare it with its target."""
        found = translations(run, part.source_ids)
        texts = [spelled(run, best[0].ids) for best in found]
        scores = judge(texts, part.targets)
        details = {"translations": texts, "nats": [best[0].nats for best in found],
                   "finished": [best[0].finished for best in found]}  # fmt: skip
        items = {name: np.asarray(found, np.float64) for name, found in (
            ("statistics", scores.statistics), ("edits", scores.edits), ("symbols", scores.sizes),
            ("exact", scores.exact))}  # fmt: skip
        return Evaluation(
            self.metrics(run.data["counted"]), items, np.arange(1, len(part) + 1), given={"bleu": scores.bleu},
            info={"sentences": len(part), "signature": scores.signature}, details=details,
        )  # fmt: skip

    def predictions(self, run: Run, part: PairPart, evaluation: Evaluation) -> Iterator[dict[str, Any]]:
        made, nats = evaluation.details["translations"], evaluation.details["nats"]
        for source, target, text, log_p in zip(part.sources, part.targets, made, nats, strict=True):
            yield {"source": source, "target": target, "predicted": text, "nats": log_p}


def ratio(train: PairPart) -> float:
    """Return the 99th percentile of the ratio of target to source tokens."""
    return float(np.quantile([(len(t) + 1) / (len(s) + 1) for s, t in zip(train.source_ids, train.target_ids)], 0.99))


@torch.no_grad()
def target_nats(model: Autoregressive, part: PairPart, chosen: Sequence[int], ready: ResolvedRun) -> float:
    """Return the mean -log p of a target token, ends included, over some pairs."""
    model.eval()
    order = sorted(chosen, key=lambda r: len(part.target_ids[r]))
    objective, total, count = Seq2SeqLoss(model), 0.0, 0
    for k in range(0, len(order), ROWS):
        batch = part.batch(order[k : k + ROWS], model.start_id, model.vocab_size - 1).to(ready.compute.device)
        with ready.compute.autocast():
            terms, _ = objective(batch)
        total, count = total + float(terms["nats"][0]), count + int(terms["nats"][1])
    return total / count


def translations(
    run: Run, sources: Sequence[np.ndarray], options: Beams | None = None, *, full_length: bool = False
) -> list[list[Hypothesis]]:
    """Return the n best translations of each source, best first. Sources of similar length are read together.

    Args:
        run: a run of ``translate``.
        sources: ids of the tokens of each source; the translation of an empty one is empty.
        options: of the beam search; None: the default, with the run's length penalty.
        full_length: every translation may have ``options.max_length`` tokens, even where the length of its source
            suggests fewer.
    """
    options = options or Beams(length_penalty=length_penalty(run))
    order = sorted((i for i in range(len(sources)) if len(sources[i])), key=lambda i: len(sources[i]))
    end, engine = run.model.vocab_size - 1, engine_of(run)
    never = never_in_targets(run.processor.target)
    found: list[list[Hypothesis]] = [[Hypothesis([], 0.0, 0.0, True)] for _ in sources]

    def limit(i: int) -> int:
        suggested = math.ceil(run.data["ratio"] * (len(sources[i]) + 1))
        most = options.max_length if full_length else max(suggested, options.min_length) + MAX_EXTRA_TOKENS
        return min(options.max_length, most)

    for k in tracked(range(0, len(order), ROWS)):
        mine = order[k : k + ROWS]
        handles = engine.run(
            Request(SourcePrompt(sources[i]), options, end=end, constraints=never, max_tokens=limit(i)) for i in mine
        )
        for i, handle in zip(mine, handles, strict=True):
            found[i] = handle.result()
    return found


@lru_cache(maxsize=8)
def never_in_targets(tokenizer: TextTokenizer) -> Constraints:
    """Return the tokens that are never generated: the unknown one, and any with a line break: a target is one line."""
    unknown = () if tokenizer.unknown is None else (tokenizer.unknown,)
    feeds = (k for k in range(tokenizer.vocab_size) if k not in unknown and {10, 13} & {*tokenizer.decode([k])})
    return Constraints((*unknown, *feeds))


def length_penalty(run: Run) -> float:
    """Return the length penalty of the run: tuned on validation, else the default."""
    return float(run.data.get("length_penalty", Beams.length_penalty))


def spelled(run: Run, ids: Sequence[int]) -> str:
    """Return a target as text."""
    return run.processor.decode(list(ids)).decode(errors="replace").strip()
