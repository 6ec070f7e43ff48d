"""The processors of the tasks that ship with the package: text, symbols, pairs, labels, images, captions, series."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from chainrule.core.errors import DataError, UserError, nearest
from chainrule.core.plural import plural
from chainrule.data.captioned import Captions
from chainrule.data.corpus import ALL_COLUMNS, SymbolDataset, TextDataset, read_held_out
from chainrule.data.encoding import Part, encode_spans, encode_symbols, encode_texts, entropy
from chainrule.data.image_files import ImageReader
from chainrule.data.pair_encoding import PairProcessor  # noqa: F401  (registers itself)
from chainrule.data.processor import PROCESSORS, Processor, register_processor
from chainrule.data.reading import Reader, reader_from_json
from chainrule.data.series import Scaling, Stretch
from chainrule.data.split import Spans
from chainrule.data.symbols import Sequences, SymbolTokenizer
from chainrule.data.table import TableOptions
from chainrule.data.text_encoding import PLAIN, Decoding
from chainrule.data.tokenizers import Spec, TextTokenizer, check_tokenizer, fit_tokenizer, text_tokenizer_from_json


class TokenProcessor(Processor):
    """Base of the processors of text and symbols: one tokenizer for all records."""

    tokenizer: Any
    unit: str
    terminator: bytes = b""
    """The bytes that end a record; empty if records have no terminator in the text."""

    def decode(self, ids: Any) -> bytes:
        """Return the text of ids."""
        return self.tokenizer.decode(ids)

    def encode_texts(self, texts: list[bytes], unit: str | None = None) -> Part:
        """Encode records that are in memory, exactly as given; no terminator is added.

        Args:
            texts: the records.
            unit: what a record is, if other than in training.
        """
        return encode_texts(texts, self.tokenizer, unit or self.unit)

    def sizes(self) -> dict[str, int]:
        """Return the size of the vocabulary."""
        return {"vocab_size": self.tokenizer.vocab_size}

    @property
    def special_tokens(self) -> dict[str, int]:
        """The ids of ``unknown``, ``end`` (of a record of symbols) and ``start``."""
        unknown, end = self.tokenizer.unknown, getattr(self.tokenizer, "end", None)
        named = {"unknown": unknown, "end": end, "start": self.tokenizer.vocab_size}
        return {name: k for name, k in named.items() if k is not None}

    def notes(self, parts: dict[str, Part]) -> list[str]:
        """Return a note on out-of-vocabulary tokens if the training split has some."""
        train = parts["train"]
        count = len(train.unknown_at)
        if not count:
            return []
        share = f"{count:,} of {len(train):,} ({count / len(train):.1%})"
        return [f"Out-of-vocabulary tokens in train: {share}; each costs p(unknown) and 8 bits for each of its bytes"]

    def card(self, parts: dict[str, Part]) -> dict[str, Any]:
        """Return the tokenizer, its vocabulary, tokens by split, and the entropy of single training tokens in bits."""
        return {
            "tokenizer": self.tokenizer.name,
            "vocab_size": self.tokenizer.vocab_size,
            "entropy": entropy(parts["train"], self.tokenizer.vocab_size),
            "parts": {name: {"tokens": len(p), "unknown": len(p.unknown_at)} for name, p in parts.items()},
        }


@register_processor("text")
class TextProcessor(TokenProcessor):
    """Encodes text: a tokenizer, what a record is, and what ends it."""

    def __init__(self, tokenizer: TextTokenizer, unit: str, terminator: bytes, spec: str | None = None):
        self.tokenizer, self.unit, self.terminator = tokenizer, unit, terminator
        self.spec = spec or tokenizer.name

    @classmethod
    def fit(cls, dataset: TextDataset, spec: str | None = None) -> Self:
        """Return the processor of a dataset.

        Args:
            dataset: the tokenizer is fitted on its training split.
            spec: ``byte``, ``char`` (with an unknown token), ``char:complete`` (without), ``word``, ``word:28000`` (the
                most frequent), ``bpe``, ``bpe:4096``, or the path of a ``tokenizer.json``; None: the tokenizer in the
                folder of the data, else bytes.

        Raises:
            UserError: another ``spec``.
        """
        own = dataset.tokenizer_file
        chosen = check_tokenizer(spec) if spec else Spec("file", file=own) if own else Spec("byte")
        fitted = fit_tokenizer(chosen, dataset.parts["train"], lines=dataset.unit == "lines")
        sized = f"{fitted.name}:{fitted.vocab_size}" if spec == "bpe" else spec
        return cls(fitted, dataset.unit, dataset.terminator, sized or str(chosen.file or chosen.kind))

    def encode(self, part: Spans) -> Part:
        """Return the ids of one split."""
        return encode_spans(part, self.tokenizer, self.unit)

    def notes(self, parts: dict[str, Part]) -> list[str]:
        """Return notes on the tokenizer."""
        tokenizer, found = self.tokenizer, []
        if str(self.spec).endswith(".json"):
            found.append(f"tokenizer: {self.spec} ({tokenizer.name}, {tokenizer.vocab_size:,} symbols)")
        if tokenizer.normalises:
            dropped = sum(int(p.record_bytes.sum()) - p.nbytes for p in parts.values() if p.record_bytes is not None)
            found.append(
                "words: a run of white space counts as one space; "
                f"{plural(dropped, 'byte of white space is', 'bytes of white space are')} dropped"
            )
        if tokenizer.name == "bpe":
            found.append("bpe: one segmentation of many is scored, so that bits per byte are an upper bound")
        return found + super().notes(parts)

    def to_json(self) -> dict[str, Any]:
        """Return all settings; see `Processor.to_json`."""
        settings = {"unit": self.unit, "terminator": self.terminator.decode(), "spec": self.spec}
        return {"type": self.kind, **settings, "tokenizer": self.tokenizer.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """Return the saved processor."""
        tokenizer = text_tokenizer_from_json(saved["tokenizer"])
        return cls(tokenizer, saved["unit"], saved["terminator"].encode(), saved["spec"])


@register_processor("symbols")
class SymbolProcessor(TokenProcessor):
    """Encodes records of symbols without bytes: an alphabet, and how records are written."""

    spec = "none"

    def __init__(self, tokenizer: SymbolTokenizer, unit: str):
        self.tokenizer, self.unit = tokenizer, unit

    @classmethod
    def fit(cls, dataset: SymbolDataset) -> Self:
        """Return the processor with the symbols that occur twice or more in the training split."""
        return cls(SymbolTokenizer.fit(dataset.parts["train"], ends=dataset.unit != "stream"), dataset.unit)

    def encode(self, part: Sequences) -> Part:
        """Return the ids of one split."""
        return encode_symbols(part, self.tokenizer, self.unit)

    def to_json(self) -> dict[str, Any]:
        """Return all settings; see `Processor.to_json`."""
        return {"type": self.kind, "unit": self.unit, "tokenizer": self.tokenizer.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """Return the saved processor."""
        return cls(SymbolTokenizer.from_json(saved["tokenizer"]), saved["unit"])


def fit_tokens(dataset: TextDataset | SymbolDataset, spec: str | None = None) -> TextProcessor | SymbolProcessor:
    """Return the processor of text or of symbols, fitted once for each ``spec``.

    Args:
        dataset: text or symbols.
        spec: the value of ``--tokenizer``.

    Raises:
        UserError: ``spec`` does not suit the data.

    >>> from chainrule.data import plays, read
    >>> fit_tokens(read(plays()), "byte").sizes()
    {'vocab_size': 256}
    """
    if isinstance(dataset, SymbolDataset):
        if spec not in (None, "none"):
            raise UserError(f"--tokenizer {spec}: {dataset.name} are symbols, which have no bytes: --tokenizer none")
        return dataset.remember(("processor", spec), lambda: SymbolProcessor.fit(dataset))
    if spec == "none":
        raise UserError("--tokenizer none: symbols have no bytes and take none; text takes byte, char, word or bpe")
    return dataset.remember(("processor", spec), lambda: TextProcessor.fit(dataset, spec))


def encode_held_out(
    processor: TextProcessor | SymbolProcessor,
    source: str | Path,
    unit: str,
    decoding: Decoding = PLAIN,
    table: TableOptions = ALL_COLUMNS,
) -> Part:
    """Read and encode a held-out file, or all files of a folder.

    Args:
        processor: the processor of a run.
        source, unit, decoding, table: as `chainrule.data.corpus.read_held_out` takes them.
    """
    form = processor.tokenizer.form if isinstance(processor, SymbolProcessor) else None
    found, notes = read_held_out(source, unit, decoding, table, form)
    if isinstance(processor, TextProcessor):
        processor = TextProcessor(processor.tokenizer, unit, processor.terminator)
    part = processor.encode(found)  # type: ignore[arg-type]
    part.notes = notes
    return part


# -------------------------------------------------------------------------------------------------------- other tasks


@register_processor("labels")
class LabelProcessor(Processor):
    """Numbers labels (or tags).

    Args:
        labels: the labels by number.
        reader: turns texts, tokens or images into tensors; None: the model reads strings.
        spec: the value of ``--tokenizer``.
    """

    def __init__(self, labels: tuple[str, ...], reader: Reader | None = None, spec: str | None = None):
        self.labels, self.reader, self.spec = labels, reader, spec

    def encode(self, part: Any, where: str = "held out") -> Any:
        """Return the split with a number for every label; UNKNOWN for a label that training does not have."""
        return part.numbered(self.labels, where)

    def encode_parts(self, parts: dict[str, Any]) -> dict[str, Any]:
        """Return the splits as they are: a dataset numbers its own labels, which are those of this processor."""
        return parts

    def sizes(self) -> dict[str, Any]:
        """Return the number of labels, and the sizes of the reader."""
        return {"num_labels": len(self.labels), **(self.reader.sizes() if self.reader else {})}

    def to_json(self) -> dict[str, Any]:
        """Return all settings; see `Processor.to_json`."""
        reader = self.reader.to_json() if self.reader else None
        return {"type": self.kind, "labels": list(self.labels), "spec": self.spec, "reader": reader}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """Return the saved processor."""
        reader = reader_from_json(saved["reader"]) if saved["reader"] else None
        return cls(tuple(saved["labels"]), reader, saved["spec"])


@register_processor("images")
class ImageProcessor(Processor):
    """Images: their size, their channels, and mean and scale of each channel in training."""

    def __init__(self, reader: ImageReader):
        self.reader = reader

    def sizes(self) -> dict[str, Any]:
        """Return the size of images and their channels."""
        return self.reader.sizes()

    def to_json(self) -> dict[str, Any]:
        """Return all settings; see `Processor.to_json`."""
        return {"type": self.kind, "reader": self.reader.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """Return the saved processor."""
        return cls(ImageReader.from_json(saved["reader"]))


@register_processor("captions")
class CaptionProcessor(ImageProcessor):
    """Captions and images as records of one vocabulary.

    Args:
        captions: tokenizer of captions, and how many tokens of a caption are read.
        reader: the reader of images.
        codec: the codec that gives the ids of images.
        spec: the value of ``--tokenizer``.
    """

    def __init__(self, captions: Captions, reader: ImageReader, codec: dict[str, Any], spec: str):
        super().__init__(reader)
        self.captions, self.codec, self.spec = captions, codec, spec

    def decode(self, ids: Any) -> bytes:
        """Return the text of the ids of a caption."""
        return self.captions.tokenizer.decode(ids)

    def sizes(self) -> dict[str, Any]:
        """Return the sizes of the vocabulary and of captions, and the settings of the codec."""
        c = self.captions
        return {"vocab_size": c.vocab_size, "words": c.words, "caption": c.places, "codec": self.codec}

    def to_json(self) -> dict[str, Any]:
        """Return all settings; see `Processor.to_json`."""
        c = self.captions
        captions = {"tokenizer": c.tokenizer.to_json(), "places": c.places, "codebook_size": c.codebook_size}
        return {**super().to_json(), "captions": captions, "codec": self.codec, "spec": self.spec}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """Return the saved processor."""
        c = saved["captions"]
        captions = Captions(text_tokenizer_from_json(c["tokenizer"]), c["places"], c["codebook_size"])
        return cls(captions, ImageReader.from_json(saved["reader"]), saved["codec"], saved["spec"])


@register_processor("series")
class SeriesProcessor(Processor):
    """Scales every series by the mean and spread of its training split."""

    def __init__(self, scaling: Scaling):
        self.scaling = scaling

    def card(self, parts: dict[str, Stretch]) -> dict[str, Any]:
        """Return mean and scale of each series."""
        return {"mean": list(self.scaling.mean), "scale": list(self.scaling.scale)}

    def to_json(self) -> dict[str, Any]:
        """Return all settings; see `Processor.to_json`."""
        return {"type": self.kind, **self.scaling.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """Return the saved processor."""
        return cls(Scaling.from_json(saved))


def processor_from_json(saved: dict[str, Any]) -> Processor:
    """Return the processor that ``to_json`` saved.

    Raises:
        UserError: nobody registered its name. DataError: the content is not what ``to_json`` writes.

    >>> processor_from_json({"type": "labels", "labels": ["ham", "spam"], "spec": None, "reader": None}).sizes()
    {'num_labels': 2}
    """
    kind = str(saved.get("type"))
    if kind not in PROCESSORS:
        known = nearest(kind, list(PROCESSORS))
        raise UserError(f"processor.json: no processor '{kind}'; {known}; one of your own needs its plugin")
    try:
        return PROCESSORS[kind].from_json(saved)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"processor.json: not a processor '{kind}' as it is saved ({error})") from None
