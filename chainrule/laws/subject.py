"""The model type under test, and everything a law may ask of it. A citizen with other data overrides the hooks."""

from __future__ import annotations

import math
import zlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chainrule.core import (
    IGNORED,
    Autoregressive,
    Batch,
    Classifier,
    Codec,
    Config,
    Counting,
    ImageBatch,
    MaskedBatch,
    MaskedLM,
    ModelType,
    Objective,
    Prediction,
    SequenceModel,
    State,
    TaggedBatch,
    Tagger,
    TextBatch,
    model_type,
    total,
)
from chainrule.data.image_files import ImageReader
from chainrule.data.reading import Lexicon, Reader, TextReader
from chainrule.laws.inputs import differentiable_inputs
from chainrule.nn.probes import Probe
from chainrule.training.losses import MaskedLMLoss, NextTokenLoss

TOLERANCE = 1e-9
"""Nats, in float64: two paths through the same arithmetic."""
LONGEST_CONTEXT = 256
"""Symbols: a longer context is not tried on a tiny model."""


class LawBroken(AssertionError):
    """One line: what differed, where, and by how much."""


def same(got: Tensor, want: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Equal shapes and values within ``tolerance`` (equal infinities are equal), or LawBroken with the worst place."""
    if got.shape != want.shape:
        raise LawBroken(f"{what}: shape {tuple(got.shape)} instead of {tuple(want.shape)}")
    if torch.equal(got, want):
        return
    gap = torch.where(got == want, 0.0, (got.double() - want.double()).abs()).nan_to_num(nan=torch.inf)
    if gap.max() <= tolerance:
        return
    place = tuple(int(i) for i in torch.unravel_index(gap.argmax(), gap.shape))
    raise LawBroken(
        f"{what}: {float(got[place]):.6g} instead of {float(want[place]):.6g} at {place} "
        f"(off by {float(gap[place]):.2g}, allowed {tolerance:.0e})"
    )


class Subject:
    """A model type's ``tiny`` preset in float64, over a small alphabet, with values that make every part matter.

    Parameters are jittered (zero-initialised projections would let broken models pass); a Counting model without
    parameters is fitted first. ``values_K`` are the symbols at which predictions are compared: all of them here.
    """

    vocab_size = 11
    discrete = True
    """One symbol out of a finite alphabet at each step: probabilities can be summed and draws counted."""
    takes_prompt = False
    """``begin`` gives every row a prompt, and some parameters are reached through it only."""
    ignored: float = IGNORED
    """What ``log_prob`` does not score."""
    resting: tuple[str, ...] = ()
    """Beginnings of the names of parts that take no part in what is asked."""

    def __init__(self, model_type: ModelType, seed: int = 0, settings: dict[str, Any] | None = None):
        self.model_type, self.seed, self.settings = model_type, seed, settings or {}

    def shape(self, vocab_size: int) -> dict[str, Any]:
        """Settings of the model that follow from the data."""
        return {"vocab_size": vocab_size}

    def configure(self, vocab_size: int) -> Config:
        return self.model_type.configure("tiny", **self.shape(vocab_size), **self.settings)

    def raw(self, vocab_size: int | None = None) -> SequenceModel:
        """As built from the seed, untouched but for float64 and eval mode."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return self.model_type.build(self.configure(vocab_size or self.vocab_size)).double().eval()

    def build(self, vocab_size: int | None = None) -> SequenceModel:
        """A new model, always the same."""
        model = self.raw(vocab_size)
        rng = torch.Generator().manual_seed(self.seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=rng, dtype=parameter.dtype)
            if isinstance(model, Counting):
                model = model.update(model.summarize(self.training(1, vocab_size)))
        assert isinstance(model, SequenceModel)
        return model.eval()

    @cached_property
    def model(self) -> Autoregressive:
        model = self.build()
        assert isinstance(model, Autoregressive)
        return model

    @cached_property
    def capabilities(self) -> frozenset[str]:
        """Names of what the model can do, of which each law asks for some. They follow from the model as built, before it is fitted."""
        model = self.raw()
        autoregressive = isinstance(model, Autoregressive)
        labelling, filler = isinstance(model, Tagger | Classifier), isinstance(model, MaskedLM)
        learns = any(p.requires_grad for p in model.parameters())
        context = model.context if isinstance(model, Autoregressive) else None
        codec = isinstance(model, Codec)
        asked = autoregressive or labelling or filler or codec
        held = {
            "a model": True,
            "asked": asked,
            "autoregressive": autoregressive,
            "discrete": autoregressive and self.discrete,
            "counting": isinstance(model, Counting),
            "finite context": isinstance(model, Counting) and context is not None and context <= LONGEST_CONTEXT,
            "gradient": autoregressive and learns,
            "differentiable inputs": autoregressive and learns and self._reads_differentiably(model),
            "learning": (autoregressive or filler) and learns,
            "filler": filler,
            "codec": codec,
            "probes": asked and any(isinstance(m, Probe) for m in model.modules()),
            "tagger": isinstance(model, Tagger),
            "classifier": isinstance(model, Classifier),
            "labelling": labelling,
            "takes_prompt": autoregressive and self.takes_prompt,
        }
        return frozenset(name for name, has in held.items() if has)

    def _reads_differentiably(self, model: Autoregressive) -> bool:
        """Does a gradient reach every input? A model that cannot read at all is left to the laws about reading."""
        try:
            _, state = self.begin(model, range(3))
            return bool(differentiable_inputs(model, self.rows(3, 7, salt=44), state)[1])
        except Exception:
            return False

    def rng(self, salt: int) -> torch.Generator:
        return torch.Generator().manual_seed(1_000_003 * self.seed + salt)

    def rows(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> Tensor:
        """Random B x T symbols that often repeat what stood three places before."""
        rng = self.rng(salt)
        rows_BT = torch.randint(vocab_size or self.vocab_size, (batch, length), generator=rng)
        copied_BT = torch.rand((batch, length), generator=rng) < 0.5
        for t in range(3, length):
            rows_BT[:, t] = torch.where(copied_BT[:, t], rows_BT[:, t - 3], rows_BT[:, t])
        return rows_BT

    def other(self, rows_BT: Tensor) -> Tensor:
        """Values that differ from these everywhere."""
        return (rows_BT + 1) % self.vocab_size

    def choices(self) -> list[list[int]]:
        """What may stand at each of the first four places of a record, of a model that was built over 4 symbols."""
        return [list(range(4))] * 4

    def start_rows(self, batch: int, vocab_size: int | None = None) -> Tensor:
        """B x 1: what is read to forget everything."""
        return torch.full((batch, 1), vocab_size or self.vocab_size)

    def batch(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> Batch:
        """Ragged records, each begun by the start symbol; pads are arbitrary, and not scored."""
        targets_BT = self.rows(batch, length, salt, vocab_size)
        inputs_BT = torch.cat([self.start_rows(batch, vocab_size), targets_BT[:, :-1]], dim=1)
        lengths_B = torch.tensor([length - (5 * b) % (length - 1) for b in range(batch)])
        pad_BT = (torch.arange(length) >= lengths_B[:, None]).view(batch, length, *[1] * (targets_BT.dim() - 2))
        return Batch(inputs_BT, targets_BT.masked_fill(pad_BT, self.ignored), lengths_B)

    def training(self, salt: int, vocab_size: int | None = None) -> Batch:
        """What a Counting model is fitted to; at least 7 rows."""
        return self.batch(7, 23, salt, vocab_size)

    def other_pads(self, batch: Batch) -> Batch:
        """The same rows with other values where nothing may be read."""
        assert batch.lengths_B is not None
        pad_BT = torch.arange(batch.inputs_BT.shape[1]) >= batch.lengths_B[:, None]
        return replace(batch, inputs_BT=torch.where(pad_BT, self.other(batch.inputs_BT), batch.inputs_BT))

    @torch.no_grad()
    def answers(self, model: SequenceModel) -> Tensor:
        """What ``model`` predicts on fixed rows, one step after them, and on the same rows without a State."""
        assert isinstance(model, Autoregressive)
        _, state = self.begin(model, range(3))
        rows, more = self.rows(3, 7, salt=60), self.rows(3, 1, salt=61)
        prediction, state = model(rows, state)
        table = self.table(prediction, rows)
        prediction, _ = model(more, state)
        tables = [table, self.table(prediction, more)]
        prediction, _ = model(rows)
        tables.append(self.table(prediction, rows))
        return torch.cat(tables, dim=1)

    def begin(
        self, model: Autoregressive, rows: Sequence[int], capacity: int | None = None
    ) -> tuple[Prediction, State]:
        """p(x_1) and the State that knows it, for the rows of these numbers (a prompt may differ by row)."""
        return model.start(batch=len(rows), capacity=capacity)

    @cached_property
    def values_K(self) -> Tensor:
        return torch.arange(self.vocab_size)

    def table(self, prediction: Prediction, like_BT: Tensor, values_K: Tensor | None = None) -> Tensor:
        """log p of every value at every position, B x T x K."""
        chosen = self.values_K if values_K is None else values_K
        columns = [prediction.log_prob(value.expand(like_BT.shape).contiguous()) for value in chosen]
        return torch.stack(columns, dim=-1)

    def objective(self, model: SequenceModel) -> Objective:
        assert isinstance(model, Autoregressive)
        return NextTokenLoss(model)

    def loss(self, model: SequenceModel) -> Tensor:
        """Nats of random rows, through every parameter."""
        assert isinstance(model, Autoregressive)
        rows = self.rows(5, 13, salt=62)
        if self.takes_prompt:
            return self.nats_through_state(model, rows, [12])
        prediction, _ = model(torch.cat([self.start_rows(5), rows[:, :-1]], dim=1))
        return -prediction.log_prob(rows).sum()

    def nats_through_state(self, model: Autoregressive, rows: Tensor, sizes: list[int]) -> Tensor:
        """-log p(rows) by start() and then chunks of these sizes, all in one graph."""
        prediction, state = self.begin(model, range(len(rows)))
        nats, read = -prediction.log_prob(rows[:, :1]).sum(), 0
        for size in sizes:
            prediction, state = model(rows[:, read : read + size], state)
            nats = nats - prediction.log_prob(rows[:, read + 1 : read + size + 1]).sum()
            read += size
        return nats

    @torch.no_grad()
    def read(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """``model(...)`` with the prediction written out as a table; the State passed in is consumed."""
        prediction, after = self.model(inputs_BT, state, lengths_B)
        return self.table(prediction, inputs_BT), after

    @torch.no_grad()
    def started(self, *rows: int, capacity: int | None = None) -> State:
        return self.begin(self.model, rows, capacity)[1]

    @torch.no_grad()
    def steps(self, inputs_BT: Tensor, state: State | None, sizes: Sequence[int]) -> tuple[Tensor, State]:
        """Read in chunks of these sizes."""
        tables = []
        for chunk in inputs_BT.split(list(sizes), dim=1):
            table, state = self.read(chunk, state)
            tables.append(table)
        assert state is not None
        return torch.cat(tables, dim=1), state


class Numbers(Subject):
    """Real-valued sequences: NaN is read as the start symbol, and is not scored as a target."""

    discrete = False
    ignored = math.nan

    @cached_property
    def values_K(self) -> Tensor:
        return torch.tensor([-1.3, 0.2, 0.9], dtype=torch.float64)

    def shape(self, vocab_size: int) -> dict[str, Any]:
        return {}

    def rows(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> Tensor:
        return torch.randn(batch, length, generator=self.rng(salt), dtype=torch.float64)

    def other(self, rows_BT: Tensor) -> Tensor:
        return rows_BT + 1

    def start_rows(self, batch: int, vocab_size: int | None = None) -> Tensor:
        return torch.full((batch, 1), math.nan, dtype=torch.float64)


class Sourced(Subject):
    """Every row has a source of its own, of its own length; pads of sources are arbitrary."""

    takes_prompt = True
    lengths = (2, 7, 5, 1, 3, 6, 4, 7, 2, 5, 3)

    def shape(self, vocab_size: int) -> dict[str, Any]:
        return {"vocab_size": vocab_size, "source_vocab_size": self.vocab_size}

    def sources(self, rows: Sequence[int], padding: int = 0) -> tuple[Tensor, Tensor]:
        """The sources of these rows, B x S with ``padding`` more than the longest needs, and their lengths."""
        index = torch.tensor(list(rows)) % len(self.lengths)
        lengths_B = torch.tensor(self.lengths)[index]
        whole_BS = torch.randint(self.vocab_size, (len(self.lengths), 16), generator=self.rng(90))
        return whole_BS[index, : int(lengths_B.max()) + padding], lengths_B

    def begin(
        self, model: Autoregressive, rows: Sequence[int], capacity: int | None = None
    ) -> tuple[Prediction, State]:
        sources_BS, lengths_B = self.sources(rows)
        return model.start(sources_BS, lengths_B, batch=len(rows), capacity=capacity)


SPELLINGS = ("the", "The", "run", "running", "ran", "3", "42nd", ",", "U.S.", "co-op", "달리다", "달린", "é")
"""Words of many shapes, so that a model that reads spelling has something to read."""
TEXTS = TextReader.fit([*2 * SPELLINGS, " ".join(SPELLINGS)], "char", 97)
LEXICON = Lexicon.fit(2 * SPELLINGS, TEXTS.tokenizer)
STRANGE = ("zyzzyva", "ZQ-9", "뷁", "\U0001f600", "a\u0301", "\ud800", "x" * 97)
"""What training never shows: letters, scripts, a combining sign, half a surrogate pair, a word without end."""


class Labelling(Subject):
    """Whole rows are given, and labelled: asked through ``Tagger`` or ``Classifier``, so that counts and networks answer alike.

    A row is a tuple of words; words and labels depend on each other and on the word before.
    """

    discrete = False
    vocab_size = 5
    """How many labels."""

    def words(self, batch: int, length: int, salt: int) -> list[tuple[str, ...]]:
        """Ragged rows of known words."""
        return [
            tuple(SPELLINGS[i] for i in row[: length - (5 * b) % (length - 1)])
            for b, row in enumerate(self.rows(batch, length, salt, len(SPELLINGS)).tolist())
        ]

    reader: Reader
    """What makes numbers of rows, for those who read numbers; it knows all spellings, and nothing strange."""

    def shape(self, vocab_size: int) -> dict[str, Any]:
        """How many numbers there are, too, where a config asks for it."""
        known = self.model_type.config.model_fields
        return {"num_labels": vocab_size, **{k: v for k, v in self.reader.sizes().items() if k in known}}

    @abstractmethod
    def pack(self, rows: Sequence[tuple[str, ...]]) -> Batch:
        """These rows with their true labels."""

    @abstractmethod
    def relabelled(self, batch: Batch) -> Batch:
        """The same rows with other labels everywhere, where a pad is too, and with whatever else stands in training data only."""

    @abstractmethod
    def judge(self, model: SequenceModel, batch: Batch) -> list[Tensor]:
        """Each row's answer by itself, as one vector in nats and numbers of labels."""

    def batch(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> Batch:
        return self.pack(self.words(batch, length, salt))

    def training(self, salt: int, vocab_size: int | None = None) -> Batch:
        return self.batch(83, 23, salt, vocab_size)

    @cached_property
    def labeller(self) -> SequenceModel:
        return self.build()

    @torch.no_grad()
    def answers(self, model: SequenceModel) -> Tensor:
        rows = [*self.words(5, 13, salt=60), STRANGE, (SPELLINGS[0],), (STRANGE[0],)]
        return torch.cat(self.judge(model, self.pack(rows)))


def _class(word: str) -> int:
    """A word's place among the spellings; that of a strange one by its length."""
    return SPELLINGS.index(word) if word in SPELLINGS else len(word)


class Tokens(Labelling):
    """A tag for every word. In training a finer tag stands beside each, frequent enough to be learned from."""

    reader = LEXICON

    def tags(self, row: Sequence[str]) -> list[int]:
        numbers = [_class(word) for word in row]
        return [(n + before // 7) % self.vocab_size for before, n in zip([0, *numbers], numbers)]

    def pack(self, rows: Sequence[tuple[str, ...]]) -> TaggedBatch:
        targets_BT = torch.full((len(rows), max(map(len, rows), default=0)), IGNORED)
        for b, row in enumerate(rows):
            targets_BT[b, : len(row)] = torch.tensor(self.tags(row), dtype=torch.long)
        finer = tuple(tuple(str(_class(word) % 2) for word in row) for row in rows)
        return LEXICON.read(TaggedBatch(torch.zeros(len(rows), 0), targets_BT, words=tuple(rows), columns=finer))

    def relabelled(self, batch: Batch) -> TaggedBatch:
        assert isinstance(batch, TaggedBatch)
        other = tuple(tuple("none" for _ in row) for row in batch.words)
        return replace(batch, targets_BT=(batch.targets_BT.clamp(min=0) + 1) % self.vocab_size, columns=other)

    def other_pads(self, batch: Batch) -> TaggedBatch:
        assert isinstance(batch, TaggedBatch)
        return replace(batch, targets_BT=batch.targets_BT.masked_fill(batch.targets_BT == IGNORED, self.vocab_size - 1))

    def judge(self, model: SequenceModel, batch: Batch) -> list[Tensor]:
        assert isinstance(model, Tagger) and isinstance(batch, TaggedBatch)
        tags_BT, nats_B = model.tag(batch)
        return [
            torch.cat([nats_B[b : b + 1].double(), tags_BT[b, : len(row)].double()])
            for b, row in enumerate(batch.words)
        ]


class Records(Labelling):
    """A label for every text: the words of a row joined by spaces."""

    vocab_size = 3
    reader = TEXTS

    def label(self, row: Sequence[str]) -> int:
        return sum(_class(word) // 5 for word in row) // max(1, len(row)) % self.vocab_size

    def pack(self, rows: Sequence[tuple[str, ...]]) -> TextBatch:
        labels_B1 = torch.tensor([[self.label(row)] for row in rows])
        texts = tuple(" ".join(row) for row in rows)
        return TEXTS.read(TextBatch(torch.zeros(len(rows), 0), labels_B1, texts=texts))

    def relabelled(self, batch: Batch) -> Batch:
        return replace(batch, targets_BT=(batch.targets_BT + 1) % self.vocab_size)

    def other_pads(self, batch: Batch) -> Batch:
        """Texts have no pads."""
        return batch

    def judge(self, model: SequenceModel, batch: Batch) -> list[Tensor]:
        assert isinstance(model, Classifier)
        return list(model.classify(batch).double())


PICTURES = ImageReader(8, 3, (0.5, 0.4, 0.6), (0.3, 0.25, 0.2))


class Shown(Records):
    """A label for every picture: a row of words is a pattern of blobs, the same for the same row."""

    reader = PICTURES

    def picture(self, row: Sequence[str]) -> np.ndarray:
        """8 x 8 x 3, smooth, so that a picture has something to read."""
        rng = np.random.default_rng(zlib.crc32("\0".join(row).encode("utf-8", "surrogatepass")))
        coarse = rng.integers(0, 256, (4, 4, 3))
        return coarse.repeat(2, 0).repeat(2, 1).astype(np.uint8)

    def pack(self, rows: Sequence[tuple[str, ...]]) -> ImageBatch:  # type: ignore[override]
        labels_B1 = torch.tensor([[self.label(row)] for row in rows])
        pixels_BCYX = torch.from_numpy(np.stack([self.picture(row) for row in rows])).movedim(3, 1)
        made = PICTURES.read(ImageBatch(torch.zeros(len(rows), 0), labels_B1, pixels_BCYX=pixels_BCYX))
        return replace(made, pixels_BCYX=made.pixels_BCYX.double())


class Coded(Shown):
    """Pictures without labels, as symbols and back."""

    def shape(self, vocab_size: int) -> dict[str, Any]:
        return PICTURES.sizes()

    @torch.no_grad()
    def coded(self, model: SequenceModel, rows: Sequence[tuple[str, ...]]) -> tuple[Tensor, Tensor]:
        """Symbols, B x P, and the pictures that they stand for."""
        assert isinstance(model, Codec)
        ids_BP = model.encode(self.pack(rows).pixels_BCYX)
        return ids_BP, model.decode(ids_BP)

    def answers(self, model: SequenceModel) -> Tensor:
        ids_BP, pictures = self.coded(model, [*self.words(5, 13, salt=60), STRANGE])
        return torch.cat([ids_BP.double().flatten(), pictures.double().flatten()])


class CaptionImages(Subject):
    """Records of a caption and a picture: 5 words, 3 places of a caption with their fillings, 4 symbols of a picture of 2 x 2."""

    words, caption, codes = 5, 3, 4
    vocab_size = 12
    resting = ("codec.",)

    def shape(self, vocab_size: int) -> dict[str, Any]:
        chosen = model_type("vq", "codes")
        made = chosen.configure("tiny", image_size=8, channels=1, quantiser="ema", **{"codebook_size": self.codes})
        codec = {"model_type": "vq", "model": made.model_dump()}
        return {"vocab_size": self.vocab_size, "words": self.words, "caption": self.caption, "codec": codec}

    def choices(self) -> list[list[int]]:
        captions = [[*range(self.words), self.words + place] for place in range(self.caption)]
        return [*captions, [self.words + self.caption + code for code in range(self.codes)]]

    def rows(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> Tensor:
        """What may stand at each place, the start symbol standing before it."""
        rng = self.rng(salt)
        place_T = torch.arange(length)
        words_BT = torch.randint(self.words, (batch, length), generator=rng)
        filled_BT = torch.rand(batch, length, generator=rng) < 0.3
        text_BT = torch.where(filled_BT, self.words + place_T, words_BT)
        picture_BT = self.words + self.caption + torch.randint(self.codes, (batch, length), generator=rng)
        return torch.where(place_T < self.caption, text_BT, picture_BT)


class WholeRows(Subject):
    """Rows some of whose symbols are hidden, of a model that sees all of what is shown."""

    def batch(self, batch: int, length: int, salt: int, vocab_size: int | None = None) -> MaskedBatch:
        """Ragged rows behind the start symbol, two hidden symbols a row (one in a row of one); pads are arbitrary."""
        model, lengths_B = self.filler, super().batch(batch, length, salt, vocab_size).lengths_B
        rows_BT = torch.cat([self.start_rows(batch), self.rows(batch, length, salt)], 1)
        assert lengths_B is not None
        hidden_BT = torch.zeros(rows_BT.shape, dtype=torch.bool)
        for b, n in enumerate(lengths_B.tolist()):
            hidden_BT[b, [1 + n // 3, n]] = True
        inputs_BT = rows_BT.masked_fill(hidden_BT, model.mask_id)
        targets_BT = rows_BT.masked_fill(~hidden_BT, IGNORED)
        made = MaskedBatch(inputs_BT, targets_BT, lengths_B + 1)
        if not model.next_sentence:
            return made
        segments_BT = (torch.arange(length + 1) > length // 2).long().expand(batch, -1)
        return replace(made, segments_BT=segments_BT, follows_B=torch.arange(batch) % 2)

    @cached_property
    def filler(self) -> MaskedLM:
        model = self.build()
        assert isinstance(model, MaskedLM)
        return model

    @torch.no_grad()
    def told(self, model: object, batch: MaskedBatch) -> Tensor:
        """log p of every symbol at every place, B x T x V; what stands beyond a row's end means nothing."""
        assert isinstance(model, MaskedLM)
        return self.table(model.predict(model.encode(batch)), batch.inputs_BT)

    def answers(self, model: SequenceModel) -> Tensor:
        batch = self.batch(3, 7, salt=60)
        assert batch.lengths_B is not None
        return self.told(model, batch)[torch.arange(8) < batch.lengths_B[:, None]][None]

    def objective(self, model: SequenceModel) -> Objective:
        assert isinstance(model, MaskedLM)
        return MaskedLMLoss(model)

    def loss(self, model: SequenceModel) -> Tensor:
        objective, batch = self.objective(model), self.batch(5, 13, salt=62)
        return total(objective(batch)[0], objective.counts(batch))
