"""The processors of the tasks that ship with the package: text, symbols, pairs, labels, images, captions, series."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from chainrule.core.errors import DataError, UserError, nearest
from chainrule.data.captioned import Captions
from chainrule.data.corpus import ALL_COLUMNS, SymbolDataset, TextDataset, read_held_out
from chainrule.data.encoding import Part, encode_spans, encode_symbols, encode_texts, entropy, join_parts
from chainrule.data.image_files import ImageReader
from chainrule.data.pair_encoding import (
    LONGEST,
    PairPart,
    encode_pairs,
    fit_pair_tokenizers,
    pair_card,
    pair_notes,
    trained_on,
)
from chainrule.data.pairs import PairDataset, SentencePairs
from chainrule.data.processor import PROCESSORS, Processor, register_processor
from chainrule.data.reading import Reader, reader_from_json
from chainrule.data.series import Scaling, Stretch
from chainrule.data.split import Spans
from chainrule.data.symbols import Sequences, SymbolTokenizer
from chainrule.data.table import TableOptions
from chainrule.data.tokenizers import (
    Spec,
    TextTokenizer,
    check_tokenizer,
    fit_tokenizer,
    tokenizer_from_json,
)


class TokenProcessor(Processor):
    """Base of the processors of text and symbols: one tokenizer, and a ``terminator`` (bytes; empty where records have no
    end of text).
    """

    tokenizer: Any
    unit: str
    terminator: bytes = b""

    def decode(self, ids: Any) -> bytes:
        """The text of ids."""
        return self.tokenizer.decode(ids)

    def encode_texts(self, texts: list[bytes], unit: str | None = None) -> Part:
        """Records that are in memory, exactly as given; no terminator is added."""
        return encode_texts(texts, self.tokenizer, unit or self.unit)

    def sizes(self) -> dict[str, int]:
        return {"vocab_size": self.tokenizer.vocab_size}

    @property
    def special_tokens(self) -> dict[str, int]:
        unknown, end = self.tokenizer.unknown, getattr(self.tokenizer, "end", None)
        named = {"unknown": unknown, "end": end, "start": self.tokenizer.vocab_size}
        return {name: k for name, k in named.items() if k is not None}

    def notes(self, parts: dict[str, Part]) -> list[str]:
        """A note on out-of-vocabulary tokens, where the training part has some."""
        train = parts["train"]
        count = len(train.unknown_at)
        if not count:
            return []
        share = f"{count:,} of {len(train):,} ({count / len(train):.1%})"
        return [
            f"Out-of-vocabulary tokens in train: {share}; each pays p(unknown) and 8 bits for each byte of its spelling"
        ]

    def card(self, parts: dict[str, Part]) -> dict[str, Any]:
        """``entropy`` is that of single tokens of the training part, in bits per token."""
        sizes = {name: {"tokens": len(p), "unknown": len(p.unknown_at)} for name, p in parts.items()}
        symbols = self.tokenizer.vocab_size
        return {
            "tokenizer": self.tokenizer.name,
            "vocab_size": symbols,
            "entropy": entropy(parts["train"], symbols),
            "parts": sizes,
        }


@register_processor("text")
class TextProcessor(TokenProcessor):
    """Text to ids: a tokenizer, what a record is, and what ends it."""

    def __init__(self, tokenizer: TextTokenizer, unit: str, terminator: bytes, spec: str | None = None):
        self.tokenizer, self.unit, self.terminator = tokenizer, unit, terminator
        self.spec = spec or tokenizer.name

    @classmethod
    def fit(cls, dataset: TextDataset, spec: str | None = None) -> Self:
        """The tokenizer that ``spec`` names, fitted on the training part; None: that of the folder of the data, else
        bytes.

        ``spec`` is ``byte``, ``char`` (with an unknown token), ``char:complete`` (without), ``word``, ``word:28000``
        (the most frequent), ``bpe``, ``bpe:4096``, or the path of a ``tokenizer.json``. Raises UserError for any
        other.
        """
        if not isinstance(dataset, TextDataset):
            raise UserError(f"--tokenizer {spec}: {dataset.name} are symbols, which have no bytes: --tokenizer none")
        chosen = _spec_of(dataset, spec)
        fitted = fit_tokenizer(chosen, dataset.parts["train"], lines=dataset.unit == "lines")
        sized = f"{fitted.name}:{fitted.vocab_size}" if spec == "bpe" else spec
        return cls(fitted, dataset.unit, dataset.terminator, sized or str(chosen.file or chosen.kind))

    def encode(self, part: Spans) -> Part:
        return self.encode_parts({"all": part})["all"]

    def encode_parts(self, parts: dict[str, Spans]) -> dict[str, Part]:
        """Parts of one text together, so that they share its ids."""
        return encode_spans(parts, self.tokenizer, self.unit)

    def notes(self, parts: dict[str, Part]) -> list[str]:
        tokenizer, found = self.tokenizer, []
        if str(self.spec).endswith(".json"):
            found.append(f"tokenizer: {self.spec} ({tokenizer.name}, {tokenizer.vocab_size:,} symbols)")
        if tokenizer.normalises:
            dropped = sum(int(p.record_bytes.sum()) - p.nbytes for p in parts.values() if p.record_bytes is not None)
            found.append(
                f"words: a run of white space counts as one space; {dropped:,} bytes of white space are so dropped"
            )
        if tokenizer.name == "bpe":
            found.append("bpe: one segmentation of many is scored, so that bits per byte are an upper bound")
        return found + super().notes(parts)

    def to_json(self) -> dict[str, Any]:
        return {
            "type": self.kind, "unit": self.unit, "terminator": self.terminator.decode(), "spec": self.spec,
            "tokenizer": self.tokenizer.to_json(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        tokenizer = tokenizer_from_json(saved["tokenizer"])
        if isinstance(tokenizer, SymbolTokenizer):
            raise DataError("processor.json: an alphabet of symbols where a tokenizer of text is needed")
        return cls(tokenizer, saved["unit"], saved["terminator"].encode(), saved["spec"])


def _spec_of(dataset: TextDataset, spec: str | None) -> Spec:
    if spec:
        return check_tokenizer(spec)
    return Spec("file", file=dataset.tokenizer_file) if dataset.tokenizer_file else Spec("byte")


@register_processor("symbols")
class SymbolProcessor(TokenProcessor):
    """Records of symbols without bytes to ids: an alphabet, and how records stand in a file."""

    spec = "none"

    def __init__(self, tokenizer: SymbolTokenizer, unit: str):
        self.tokenizer, self.unit = tokenizer, unit

    @classmethod
    def fit(cls, dataset: SymbolDataset, spec: str | None = None) -> Self:
        """The symbols that occur twice or more in the training part. Raises UserError where ``spec`` names a tokenizer
        of text.
        """
        if not isinstance(dataset, SymbolDataset) or spec not in (None, "none"):
            raise UserError(
                f"--tokenizer {spec}: symbols have no bytes and take none; text takes byte, char, word or bpe"
            )
        return cls(SymbolTokenizer.fit(dataset.parts["train"], ends=dataset.unit != "stream"), dataset.unit)

    def encode(self, part: Sequences) -> Part:
        return encode_symbols({"all": part}, self.tokenizer, self.unit)["all"]

    def to_json(self) -> dict[str, Any]:
        return {"type": self.kind, "unit": self.unit, "tokenizer": self.tokenizer.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        return cls(SymbolTokenizer.from_json(saved["tokenizer"]), saved["unit"])


def fit_tokens(dataset: TextDataset | SymbolDataset, spec: str | None = None) -> TextProcessor | SymbolProcessor:
    """The processor of text or of symbols, whichever the dataset holds."""
    symbols = isinstance(dataset, SymbolDataset) and spec in (None, "none")
    kind = SymbolProcessor if symbols or spec == "none" else TextProcessor
    return dataset.remember(("processor", spec), lambda: kind.fit(dataset, spec))  # type: ignore[arg-type]


def encode_held_out(
    processor: TextProcessor | SymbolProcessor, source: str | Path, unit: str, on_bad: str = "stop",
    table: TableOptions = ALL_COLUMNS,
) -> Part:  # fmt: skip
    """A held-out file, or a folder of them, as one part under a processor that exists already."""
    form = processor.tokenizer.form if isinstance(processor, SymbolProcessor) else None
    found, notes = read_held_out(source, unit, on_bad, table, form)
    if isinstance(processor, SymbolProcessor):
        part = join_parts([processor.encode(some) for some in found])  # type: ignore[arg-type]
    else:
        part = encode_spans({"all": found[0]}, processor.tokenizer, unit)["all"]  # type: ignore[dict-item]
    part.notes = notes
    return part


# ------------------------------------------------------------------------------------------------------------ other tasks


@register_processor("pairs")
class PairProcessor(Processor):
    """Sources and targets to ids, by a tokenizer each or by one for both. A source is read up to ``longest`` tokens."""

    def __init__(
        self,
        source: TextTokenizer,
        target: TextTokenizer,
        spec: str,
        longest: int = LONGEST,
        choice: Sequence[str] = (),
    ):
        self.source, self.target, self.spec, self.longest, self.choice = source, target, spec, longest, list(choice)

    @classmethod
    def fit(cls, dataset: PairDataset, spec: str | None = None, longest: int = LONGEST) -> Self:
        """The tokenizers that ``spec`` names, or those that suit the training part (see `fit_pair_tokenizers`)."""
        source, target, resolved, choice = fit_pair_tokenizers(dataset.parts["train"], spec)
        return cls(source, target, resolved, longest, choice)

    @property
    def joint(self) -> bool:
        """One vocabulary over both sides."""
        return self.source is self.target

    @property
    def special_tokens(self) -> dict[str, int]:
        """Of targets: ``end`` closes one and is predicted, ``start`` stands before the first token."""
        return {"end": self.target.vocab_size, "start": self.target.vocab_size + 1}

    def encode(self, part: SentencePairs) -> PairPart:
        return encode_pairs(part, (self.source, self.target), self.longest)

    def encode_parts(self, parts: dict[str, SentencePairs]) -> dict[str, PairPart]:
        """Training pairs that are too long, or too uneven, are left out; a note says how many."""
        made = {name: self.encode(part) for name, part in parts.items()}
        return {**made, "train": trained_on(made["train"], self.source, self.target)}

    def decode(self, ids: Any) -> bytes:
        """The text of a target."""
        return self.target.decode(ids)

    def sizes(self) -> dict[str, Any]:
        return {
            "vocab_size": self.target.vocab_size + 1,
            "source_vocab_size": self.source.vocab_size,
            "joint": self.joint,
        }

    def notes(self, parts: dict[str, PairPart]) -> list[str]:
        return [*self.choice, *pair_notes(parts, (self.source, self.target))]

    def card(self, parts: dict[str, PairPart]) -> dict[str, Any]:
        return {"tokenizer": self.spec, "joint": self.joint, **pair_card(parts, (self.source, self.target))}

    def to_json(self) -> dict[str, Any]:
        source = None if self.joint else self.source.to_json()
        return {
            "type": self.kind, "spec": self.spec, "longest": self.longest, "source": source,
            "target": self.target.to_json(),
        }  # fmt: skip

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        target = tokenizer_from_json(saved["target"])
        source = tokenizer_from_json(saved["source"]) if saved["source"] else target
        if isinstance(target, SymbolTokenizer) or isinstance(source, SymbolTokenizer):
            raise DataError("processor.json: an alphabet of symbols where a tokenizer of text is needed")
        return cls(source, target, saved["spec"], saved["longest"])


@register_processor("labels")
class LabelProcessor(Processor):
    """Numbers for labels (or tags), and a reader that makes numbers of texts, tokens or images; None: the model reads
    strings.
    """

    def __init__(self, labels: tuple[str, ...], reader: Reader | None = None, spec: str | None = None):
        self.labels, self.reader, self.spec = labels, reader, spec

    def encode(self, part: Any, where: str = "held out") -> Any:
        """The part with a number for every label, UNKNOWN where training has no such label; what is read stays as it
        was written.
        """
        return part.numbered(self.labels, where)

    def encode_parts(self, parts: dict[str, Any]) -> dict[str, Any]:
        """The parts as they are: a dataset numbers its own labels, which are those of this processor."""
        return parts

    def sizes(self) -> dict[str, Any]:
        return {"num_labels": len(self.labels), **(self.reader.sizes() if self.reader else {})}

    def to_json(self) -> dict[str, Any]:
        reader = self.reader.to_json() if self.reader else None
        return {"type": self.kind, "labels": list(self.labels), "spec": self.spec, "reader": reader}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        reader: Any = reader_from_json(saved["reader"]) if saved["reader"] else None
        return cls(tuple(saved["labels"]), reader, saved["spec"])


@register_processor("images")
class ImageProcessor(Processor):
    """Images as numbers: their size, their channels, and mean and scale of each channel in training."""

    def __init__(self, reader: ImageReader):
        self.reader = reader

    def encode(self, part: Any) -> Any:
        return part

    def sizes(self) -> dict[str, Any]:
        return self.reader.sizes()

    def to_json(self) -> dict[str, Any]:
        return {"type": self.kind, "reader": self.reader.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        reader = reader_from_json(saved["reader"])
        if not isinstance(reader, ImageReader):
            raise DataError("processor.json: a reader of images is needed")
        return cls(reader)


@register_processor("captions")
class CaptionProcessor(ImageProcessor):
    """Captions and images as records of one id space. The ids of images are those of a codec, whose settings are
    ``codec``.
    """

    def __init__(self, captions: Captions, reader: ImageReader, codec: dict[str, Any], spec: str):
        super().__init__(reader)
        self.captions, self.codec, self.spec = captions, codec, spec

    def decode(self, ids: Any) -> bytes:
        """The text of a caption's ids."""
        return self.captions.tokenizer.decode(ids)

    def sizes(self) -> dict[str, Any]:
        c = self.captions
        return {"vocab_size": c.vocab_size, "words": c.words, "caption": c.places, "codec": self.codec}

    def to_json(self) -> dict[str, Any]:
        c = self.captions
        captions = {"tokenizer": c.tokenizer.to_json(), "places": c.places, "codebook_size": c.codebook_size}
        return {**super().to_json(), "captions": captions, "codec": self.codec, "spec": self.spec}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        tokenizer, reader = tokenizer_from_json(saved["captions"]["tokenizer"]), reader_from_json(saved["reader"])
        if isinstance(tokenizer, SymbolTokenizer) or not isinstance(reader, ImageReader):
            raise DataError("processor.json: a tokenizer of captions and a reader of images are needed")
        captions = Captions(tokenizer, saved["captions"]["places"], saved["captions"]["codebook_size"])
        return cls(captions, reader, saved["codec"], saved["spec"])


@register_processor("series")
class SeriesProcessor(Processor):
    """The scaling of every series, by mean and spread of the training part."""

    def __init__(self, scaling: Scaling):
        self.scaling = scaling

    def encode(self, part: Stretch) -> Stretch:
        """The part itself: values keep their own units until a batch is made."""
        return part

    def card(self, parts: dict[str, Stretch]) -> dict[str, Any]:
        return {"mean": list(self.scaling.mean), "scale": list(self.scaling.scale)}

    def to_json(self) -> dict[str, Any]:
        return {"type": self.kind, **self.scaling.to_json()}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        return cls(Scaling.from_json(saved))


def processor_from_json(saved: dict[str, Any]) -> Processor:
    """The processor that ``to_json`` saved. Raises UserError for a name that nobody registered, DataError for other
    content.
    """
    kind = str(saved.get("type"))
    if kind not in PROCESSORS:
        raise UserError(
            f"processor.json: no processor '{kind}'; {nearest(kind, list(PROCESSORS))}; one of your own needs its plugin"
        )
    try:
        return PROCESSORS[kind].from_json(saved)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"processor.json: not a processor '{kind}' as it is saved ({error})") from None
