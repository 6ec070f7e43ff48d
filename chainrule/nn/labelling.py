"""Networks that tag and classify: inputs, and what is predicted from the outputs of a backbone.

    tag       x_t = (embedding of word t, a convolution over its characters, max over places);   p(y_t | x) = softmax(W
    h_t + b)
    classify  x_t = (embedding of token t, a convolution over its neighbours);   p(y | x) = softmax(W [mean of h, max of
    h, last h] + b)

h are the outputs of a backbone that reads the whole row: a recurrent stack in both directions (Graves & Schmidhuber
2005) or a Transformer encoder. Words from their characters: Ma & Hovy 2016. Tags are predicted independently of each
other.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from chainrule.core import IGNORED, Batch, Categorical, Classifier, Config, Recipe, SequenceModel, TaggedBatch, Tagger
from chainrule.nn.recurrent_backbones import Directions


class LabelsConfig(Config):
    """Settings that all networks that tag or classify share."""

    num_labels: int
    embedding: int = 64
    directions: Directions = "both"
    """forward: a position does not see what follows it."""
    dropout: float = 0.0


class TokensConfig(LabelsConfig):
    """Settings of networks that read words and their characters."""

    words: int
    characters: int
    embedding: int = 128
    """Width of the embedding of a word."""
    spelling: int = 128
    """Width of the features of its characters; 0: characters are not read."""
    word_dropout: float = 0.0
    """Share of words replaced by the unknown word in training, so that its embedding is learnt."""


class TextsConfig(LabelsConfig):
    """Settings of networks that read the tokens of a text."""

    source_vocab_size: int
    embedding: int = 128
    token_dropout: float = 0.0
    """Share of tokens dropped in training: helps with long texts, hurts with short ones."""
    features: int = 128
    """Channels of the convolution over neighbouring tokens; 0: no convolution."""


TAGGING = Recipe(lr=5e-3, batch_size=16, sequence_length=16, warmup=100)
"""A batch is about 256 tokens."""
CLASSIFYING = Recipe(lr=3e-3, batch_size=32, sequence_length=1, warmup=100)
"""A batch is 32 records."""


class Spelling(nn.Module):
    """Features of a word from its characters: a convolution and its maximum over places, per channel."""

    def __init__(self, characters: int, width: int, embedding: int = 32, reach: int = 5):
        super().__init__()
        self.embedding = nn.Embedding(characters, embedding)
        self.convolution = nn.Conv1d(embedding, width, reach, padding=reach // 2)

    def forward(self, spellings_UC: Tensor) -> Tensor:
        """Return the features of each word, U x width; ids are 0 beyond the last character."""
        there_UC1 = (spellings_UC > 0)[:, :, None]
        x_UCE = self.embedding(spellings_UC) * there_UC1
        found_UCD = self.convolution(x_UCE.transpose(1, 2)).transpose(1, 2)
        return found_UCD.masked_fill(~there_UC1, -math.inf).amax(1).relu()


class WordInput(nn.Module):
    """Tokens as vectors: the embedding of the word and the features of its characters side by side."""

    token_vectors = {"": False}

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

    def blank(self) -> Tensor:
        """Return the vector of a token of which nothing is known: the mean of all words, and no feature."""
        mean_D = self.embedding.weight.mean(0)
        return F.pad(mean_D, (0, self.width - len(mean_D)))


class TokenInput(nn.Module):
    """Tokens of a text as vectors: their embeddings, and a convolution over their neighbours."""

    reach = 5
    token_vectors = {"embedding": False}

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


class LabelNetwork(SequenceModel):
    """Base of taggers and classifiers: inputs, and a backbone that reads them.

    Args:
        config: settings of the network.
        inputs: maps a batch to vectors, B x S x D.
        body: backbone of ``body.width``: ``hidden_BSD, last_BD = body(x_BSD, lengths_B)``.
    """

    config: LabelsConfig
    vectors = 1
    """Number of vectors of the backbone that a label depends on."""

    def __init__(self, config: LabelsConfig, inputs: nn.Module, body: Any):
        super().__init__(config)
        self.inputs, self.body = inputs, body
        for name, part in (("inputs", inputs), ("body", body)):
            if own := getattr(part, "attention_stack", None):
                self.attention_stack = f"{name}.{own}"
                self.attention_chunk = getattr(part, "attention_chunk", None)
        vectors: dict[str, bool] = getattr(inputs, "token_vectors", {})
        self.token_vectors = {f"inputs.{name}".removesuffix("."): begins for name, begins in vectors.items()}
        self.head = nn.Linear(self.vectors * body.width, config.num_labels)

    def forward(self, batch: Batch) -> Categorical:
        """Return p(label): of taggers B x T (undefined beyond the length of a row), of classifiers B x 1."""
        assert batch.lengths_B is not None
        hidden_BSD, last_BD = self.body(self.drop(self.inputs(batch)), batch.lengths_B)
        return Categorical(self.head(self.drop(self.summary(hidden_BSD, last_BD, batch.lengths_B))))

    def drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.config.dropout, self.training)

    def summary(self, hidden_BSD: Tensor, last_BD: Tensor, lengths_B: Tensor) -> Tensor:
        """Return the vectors that labels are predicted from."""
        return hidden_BSD


class NeuralTagger(LabelNetwork, Tagger):
    """A tagger from inputs and a backbone: the tag of a token depends on the output at its position."""

    def tag(self, batch: Batch) -> tuple[Tensor, Tensor]:
        assert batch.lengths_B is not None
        longest = int(batch.lengths_B.max()) if len(batch.lengths_B) else 0
        nats_BT, tags_BT = self(batch).logits()[:, :longest].log_softmax(-1).max(-1)
        beyond_BT = torch.arange(longest, device=tags_BT.device) >= batch.lengths_B[:, None]
        return tags_BT.masked_fill(beyond_BT, IGNORED), nats_BT.masked_fill(beyond_BT, 0).sum(1)

    def posteriors(self, batch: Batch) -> Tensor:
        assert batch.lengths_B is not None
        longest = int(batch.lengths_B.max()) if len(batch.lengths_B) else 0
        p_BTC = self(batch).logits()[:, :longest].softmax(-1)
        beyond_BT = torch.arange(longest, device=p_BTC.device) >= batch.lengths_B[:, None]
        return p_BTC.masked_fill(beyond_BT[..., None], 0)


class NeuralClassifier(LabelNetwork, Classifier):
    """A classifier from the mean, the maximum and the last of the outputs of a backbone."""

    vectors = 3

    def summary(self, hidden_BSD: Tensor, last_BD: Tensor, lengths_B: Tensor) -> Tensor:
        return torch.cat([pool(hidden_BSD, lengths_B), last_BD], -1)[:, None]

    def classify(self, batch: Batch) -> Tensor:
        return self(batch).logits()[:, 0].log_softmax(-1)


def within(x_BSD: Tensor, lengths_B: Tensor) -> Tensor:
    """Return a mask of the valid places of each row, B x S x 1.

    Args:
        x_BSD: vectors, of which only the number of places matters.
        lengths_B: valid length of each row.

    >>> within(torch.zeros(2, 3, 1), torch.tensor([3, 1]))[:, :, 0].tolist()
    [[True, True, True], [True, False, False]]
    """
    return (torch.arange(x_BSD.shape[1], device=x_BSD.device) < lengths_B[:, None])[:, :, None]


def pool(hidden_BSD: Tensor, lengths_B: Tensor) -> Tensor:
    """Return mean and maximum over the valid places of each row, side by side, B x 2D; zeros for an empty row.

    Args:
        hidden_BSD: vectors.
        lengths_B: valid length of each row.

    >>> pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([2])).tolist()
    [[2.0, 3.0]]
    """
    beyond_BS1 = ~within(hidden_BSD, lengths_B)
    mean_BD = hidden_BSD.masked_fill(beyond_BS1, 0).sum(1) / lengths_B.clamp(min=1)[:, None]
    most_BD = hidden_BSD.masked_fill(beyond_BS1, -math.inf).amax(1)
    return torch.cat([mean_BD, most_BD.masked_fill((lengths_B == 0)[:, None], 0)], -1)
