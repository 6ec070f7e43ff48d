"""Networks that tag and classify: numbers of strings go in, a body reads the whole row, labels come out. Shared by model types.

    tag       x_t = (embedding of word t, max over places of a convolution over its characters);   p(y_t | x) = softmax(W h_t + b)
    classify  x_t = (embedding of symbol t, a convolution over its neighbours);   p(y | x) = softmax(W [mean of h, max of h, h at the ends] + b)

h is what the body makes of x: a recurrent stack in both directions (Graves & Schmidhuber 2005), or a Transformer's encoder. Words by
their characters: Ma & Hovy 2016. Tags are independent of each other, given the words.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import IGNORED, Batch, Categorical, Classifier, Config, Recipe, SequenceModel, TaggedBatch, Tagger
from chainrule.nn.bidirectional import Bidirectional, Directions, LayerFactory, Unidirectional


class LabelsConfig(Config):
    """What all networks that tag or classify have in common."""

    num_labels: int
    """Labels."""
    embedding: int = 64
    directions: Directions = "both"
    """forward: what stands to the right of a place is not seen there."""
    dropout: float = 0.0


class TokensConfig(LabelsConfig):
    """Tokens are read: the word, and its characters."""

    words: int
    characters: int
    embedding: int = 128
    """Width of a word's own vector."""
    spelling: int = 128
    """Width of what is read from its characters; 0: they are not looked at."""
    word_dropout: float = 0.0
    """Share of words that are taken for unknown in training, so that the vector of the unknown is learned."""


class TextsConfig(LabelsConfig):
    """The symbols of a text are read."""

    source_vocab_size: int
    embedding: int = 128
    token_dropout: float = 0.0
    """Share of symbols that are not seen in training, so that no single one decides: good for long texts, bad for short ones."""
    features: int = 128
    """How many patterns of neighbouring symbols are looked for; 0: none."""


class TaggerConfig(TokensConfig):
    """What recurrent networks that tag have in common."""

    width: int = 256
    layers: int = 1

    presets = {
        "tiny": {"width": 16, "embedding": 8, "spelling": 8, "layers": 2},
        "small": {"dropout": 0.3, "word_dropout": 0.1},
        "base": {"width": 512, "layers": 2, "dropout": 0.4, "word_dropout": 0.1},
    }


class ClassifierConfig(TextsConfig):
    """What recurrent networks that classify have in common."""

    width: int = 256
    layers: int = 1

    presets = {
        "tiny": {"width": 16, "embedding": 8, "features": 8, "layers": 2},
        "small": {"dropout": 0.3},
        "base": {"width": 512, "layers": 2, "dropout": 0.4},
    }


TAGGING = Recipe(lr=5e-3, batch_size=16, sequence_length=16, warmup=100)
"""A batch is about 256 tokens."""
CLASSIFYING = Recipe(lr=3e-3, batch_size=32, sequence_length=1, warmup=100)
"""A batch is 32 records."""


class Spelling(nn.Module):
    """What the characters of a word say: a convolution, its largest value in each channel."""

    def __init__(self, characters: int, width: int, embedding: int = 32, reach: int = 5):
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding)
        self.convolution = nn.Conv1d(embedding, width, reach, padding=reach // 2)

    def forward(self, spellings_UC: Tensor) -> Tensor:
        """U x width; 0 behind the last character."""
        there_UC1 = (spellings_UC > 0)[:, :, None]
        x_UCE = self.embedding(spellings_UC) * there_UC1
        found_UCD = self.convolution(x_UCE.transpose(1, 2)).transpose(1, 2)
        return found_UCD.masked_fill(~there_UC1, -math.inf).amax(1).relu()


class WordInput(nn.Module):
    """Tokens as vectors: the word and its spelling side by side."""

    def __init__(self, config: TokensConfig):
        super().__init__()
        c = config
        self.embedding = nn.Embedding(c.words, c.embedding)
        self.spelling = Spelling(c.characters, c.spelling) if c.spelling else None
        self.width, self.word_dropout = c.embedding + c.spelling, c.word_dropout

    def forward(self, batch: TaggedBatch) -> Tensor:
        words_BT = batch.inputs_BT
        if self.training and self.word_dropout:
            words_BT = words_BT.masked_fill(torch.rand(words_BT.shape, device=words_BT.device) < self.word_dropout, 0)
        x_BTD = self.embedding(words_BT)
        if self.spelling is None:
            return x_BTD
        return torch.cat([x_BTD, self.spelling(batch.spellings_UC)[batch.spelled_BT]], -1)


class SymbolInput(nn.Module):
    """Symbols of a text as vectors: each by itself, and a convolution over its neighbours."""

    reach = 5

    def __init__(self, config: TextsConfig):
        super().__init__()
        c = config
        self.embedding, self.dropout = nn.Embedding(c.source_vocab_size, c.embedding), c.token_dropout
        self.convolution = nn.Conv1d(c.embedding, c.features, self.reach) if c.features else None
        self.ahead = self.reach // 2 if c.directions == "both" else 0
        self.width = c.embedding + c.features

    def forward(self, batch: Batch) -> Tensor:
        x_BSD = self.embedding(batch.inputs_BT)
        if self.training and self.dropout:
            seen_BS = torch.rand(x_BSD.shape[:2], device=x_BSD.device) >= self.dropout
            x_BSD = x_BSD * seen_BS[:, :, None] / (1 - self.dropout)
        if self.convolution is None:
            return x_BSD
        assert batch.lengths_B is not None
        own_BDS = (x_BSD * within(x_BSD, batch.lengths_B)).transpose(1, 2)
        found_BDS = self.convolution(F.pad(own_BDS, (self.reach - 1 - self.ahead, self.ahead)))
        return torch.cat([x_BSD, found_BDS.transpose(1, 2).relu()], -1)


class NeuralTagger(SequenceModel, Tagger):
    """A tag for each place, from what the body makes of the whole row: ``hidden, last = body(x, lengths)``, ``body.width`` wide."""

    config: LabelsConfig

    def __init__(self, config: LabelsConfig, inputs: nn.Module, body: Any):
        super().__init__(config)
        self.inputs, self.body = inputs, body
        self.head = nn.Linear(body.width, config.num_labels)

    def forward(self, batch: Batch) -> Categorical:
        """p(tag) at every place, B x T; what stands beyond a row's length means nothing."""
        dropout = self.config.dropout
        assert batch.lengths_B is not None
        x_BTD = F.dropout(self.inputs(batch), dropout, self.training)
        hidden_BTD, _ = self.body(x_BTD, batch.lengths_B)
        return Categorical(self.head(F.dropout(hidden_BTD, dropout, self.training)))

    def tag(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.lengths_B is not None
        longest = int(batch.lengths_B.max()) if len(batch.lengths_B) else 0
        nats_BT, tags_BT = self(batch).logits()[:, :longest].log_softmax(-1).max(-1)
        beyond_BT = torch.arange(longest, device=tags_BT.device) >= batch.lengths_B[:, None]
        return tags_BT.masked_fill(beyond_BT, IGNORED), nats_BT.masked_fill(beyond_BT, 0).sum(1)


class NeuralClassifier(SequenceModel, Classifier):
    """A label for a whole row, from the mean, the maximum and the ends of what the body makes of it."""

    config: LabelsConfig

    def __init__(self, config: LabelsConfig, inputs: nn.Module, body: Any):
        super().__init__(config)
        self.inputs, self.body = inputs, body
        self.head = nn.Linear(3 * body.width, config.num_labels)

    def forward(self, batch: Batch) -> Categorical:
        """p(label), B x 1."""
        dropout = self.config.dropout
        assert batch.lengths_B is not None
        x_BSD = F.dropout(self.inputs(batch), dropout, self.training)
        hidden_BSD, ends_BD = self.body(x_BSD, batch.lengths_B)
        pooled_BD = torch.cat([pool(hidden_BSD, batch.lengths_B), ends_BD], -1)
        return Categorical(self.head(F.dropout(pooled_BD, dropout, self.training))[:, None])

    def classify(self, batch: Batch) -> Tensor:
        return self(batch).logits()[:, 0].log_softmax(-1)


def within(x_BSD: Tensor, lengths_B: Tensor) -> Tensor:
    """True up to each row's end, B x S x 1."""
    return (torch.arange(x_BSD.shape[1], device=x_BSD.device) < lengths_B[:, None])[:, :, None]


def pool(hidden_BSD: Tensor, lengths_B: Tensor) -> Tensor:
    """Mean and maximum over each row's own places, B x 2D; zeros for an empty row."""
    beyond_BS1 = ~within(hidden_BSD, lengths_B)
    mean_BD = hidden_BSD.masked_fill(beyond_BS1, 0).sum(1) / lengths_B.clamp(min=1)[:, None]
    most_BD = hidden_BSD.masked_fill(beyond_BS1, -math.inf).amax(1)
    return torch.cat([mean_BD, most_BD.masked_fill((lengths_B == 0)[:, None], 0)], -1)


def stack(cell: LayerFactory, inputs: WordInput | SymbolInput, config: Any) -> Bidirectional | Unidirectional:
    """The recurrent body of a config, over these inputs."""
    kind = Bidirectional if config.directions == "both" else Unidirectional
    return kind(cell, inputs.width, config.width, config.layers, config.dropout)


class RecurrentTagger(NeuralTagger):
    """What is remembered of both sides of a token decides its tag."""

    cell: LayerFactory

    def __init__(self, config: TaggerConfig):
        inputs = WordInput(config)
        super().__init__(config, inputs, stack(self.cell, inputs, config))


class RecurrentClassifier(NeuralClassifier):
    """What is remembered at every place of a record decides its label."""

    cell: LayerFactory

    def __init__(self, config: ClassifierConfig):
        inputs = SymbolInput(config)
        super().__init__(config, inputs, stack(self.cell, inputs, config))
