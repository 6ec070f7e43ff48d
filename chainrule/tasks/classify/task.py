"""classify: a label for every text. Metrics: accuracy, and the calibration of its probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chainrule.core import ModelType
from chainrule.data.dataset import EncodedData
from chainrule.data.labelled import LabelledDataset, Records, read_labelled, read_labelled_part
from chainrule.data.processors import LabelProcessor
from chainrule.data.reading import LONGEST_TEXT, TextReader, are_short, fitted, units_of
from chainrule.runs.run import Run
from chainrule.tasks.base import register_task
from chainrule.tasks.labelling import ClassifyTask
from chainrule.tasks.settings import RunConfig

TOKEN_DROPOUT = 0.2
"""Share of the tokens of long texts that networks do not see in training.

It gains 0.015 of accuracy on mails, and costs accuracy on short texts (names, DNA), where every token counts.
"""


@register_task
class Classify(ClassifyTask):
    """Give every text its label."""

    name = "classify"
    default_models = "ngram,bag,rnn,lstm,gru"
    items = "texts"
    item = "record"
    normalize = "nfc"
    data_options = ("tokenizer", "group", "on_bad", "encoding", "normalize")

    def read(self, settings: RunConfig) -> LabelledDataset:
        return read_labelled(
            settings.data, settings.columns, settings.split, self.decoding(settings.model_dump()), settings.group
        )

    def fit_processor(
        self, dataset: Any, chosen: ModelType | None, settings: RunConfig, learnt: Run | None = None
    ) -> LabelProcessor:
        """Return labels and a reader of texts: short texts are read by characters, long ones by byte pair encoding."""
        texts = dataset.parts["train"].texts
        spec = settings.tokenizer or units_of(texts)
        if chosen is None or chosen.recipe.update == "counting":
            return LabelProcessor(dataset.labels, spec=spec)
        units = (
            learnt.processor.tokenizer if learnt else dataset.remember(("tokenizer", spec), lambda: fitted(texts, spec))
        )
        return LabelProcessor(dataset.labels, TextReader(units, settings.context or LONGEST_TEXT), spec)

    def encode(self, dataset: Any, processor: LabelProcessor, learnt: Run | None = None) -> EncodedData:
        """Return the encoded dataset, with a note if texts are longer than the reader reads."""
        reader, texts, notes = processor.reader, dataset.parts["train"].texts, []
        if isinstance(reader, TextReader):
            lengths = [len(reader.tokenizer.encode(text.encode(errors="replace")).ids) for text in texts]
            if cut := sum(length > reader.longest for length in lengths):
                notes = [
                    f"{cut:,} of {len(texts):,} training texts {'is' if cut == 1 else 'are'} longer than "
                    f"{reader.longest} tokens: only the beginning is read"
                ]
        return EncodedData(dataset, processor, dataset.parts, notes)

    def read_split(self, run: Run[LabelProcessor], source: Path | str, options: dict[str, Any]) -> Records:
        return run.processor.encode(
            read_labelled_part(source, options.get("columns"), self.decoding(options)), str(source)
        )

    def model_dimensions(self, data: EncodedData) -> dict[str, Any]:
        found = data.processor.sizes()
        if data.processor.reader is None:
            return found
        return {**found, "token_dropout": 0.0 if are_short(data.parts["train"].texts) else TOKEN_DROPOUT}

    def shown(self, part: Records) -> Iterator[dict[str, Any]]:
        return ({"text": text} for text in part.texts)
