"""Vanilla (Elman) RNN: the step feeds itself.

    h_t = f(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh),   p(x_{t+1} | x_<=t) = softmax(W_o h_t + b_o)

Elman, "Finding structure in time", 1990. Unrolled over time it is one fully connected layer applied T times, so that
dh_T/dh_t is a product of T - t Jacobians diag(f') W_hh: information from far back fades (or explodes) geometrically with the
spectral radius times the slope of f. What is remembered of x_<t: one vector.

Deviations: symbols enter through a learned embedding; two biases, as torch.nn has them. Weights start uniform within
1 / sqrt(width); ``init=orthogonal`` and ``init=identity`` (the IRNN, Le et al. 2015) are there to compare.
"""

from __future__ import annotations

from typing import Literal

from chainrule.core import Recipe, register
from chainrule.nn.forecasting import ForecasterConfig, RecurrentForecaster
from chainrule.nn.images import CLASSIFYING_IMAGES, RecurrentImageClassifier, RecurrentImageConfig
from chainrule.nn.labelling import (
    CLASSIFYING,
    TAGGING,
    ClassifierConfig,
    RecurrentClassifier,
    RecurrentTagger,
    TaggerConfig,
)
from chainrule.nn.language_model import RecurrentConfig, RecurrentLanguageModel
from chainrule.nn.recurrent import RNN, initialise
from chainrule.nn.seq2seq import TRANSLATING, RecurrentSeq2Seq, Seq2SeqConfig


class RNNConfig(RecurrentConfig):
    activation: Literal["tanh", "relu", "sigmoid"] = "tanh"

    presets = {
        "tiny": {"width": 16, "embedding": 8, "layers": 2},
        "small": {"width": 384, "embedding": 64},
        "base": {"width": 1024, "embedding": 128, "layers": 2},
    }


@register(
    "rnn",
    label="RNN",
    config=RNNConfig,
    recipe=Recipe(lr=4e-3, weight_decay=0.05, warmup=150, bf16=True),
    width="width",
)
class RNNLanguageModel(RecurrentLanguageModel):
    """Remembers one vector; every step overwrites it."""

    def __init__(self, config: RNNConfig):
        c = config
        stack = RNN(c.embedding, c.width, c.layers, nonlinearity=c.activation, dropout=c.dropout, skip=c.skip)
        initialise(stack, c.init)
        super().__init__(c, stack)


class RNNForecasterConfig(ForecasterConfig):
    activation: Literal["tanh", "relu", "sigmoid"] = "tanh"

    presets = {"tiny": {"width": 16, "layers": 2}, "small": {"width": 32}, "base": {"width": 128, "layers": 2}}


@register(
    "rnn",
    task="series",
    config=RNNForecasterConfig,
    recipe=Recipe(lr=5e-3, batch_size=16, sequence_length=128),
    width="width",
)
class RNNForecaster(RecurrentForecaster):
    """The same over numbers: x_t enters as it is, and a Gaussian is predicted."""

    def __init__(self, config: RNNForecasterConfig):
        c = config
        stack = RNN(c.inputs, c.width, c.layers, nonlinearity=c.activation, dropout=c.dropout, skip=c.skip)
        initialise(stack, c.init)
        super().__init__(c, stack)


@register("rnn", task="translate", config=Seq2SeqConfig, recipe=TRANSLATING, width="width")
class RNNSeq2Seq(RecurrentSeq2Seq):
    """The same between sequences: a source is read in both directions, a target is written."""

    cell = RNN


@register("rnn", task="tag", config=TaggerConfig, recipe=TAGGING, width="width")
class RNNTagger(RecurrentTagger):
    """The same over tokens, in both directions: a tag for each."""

    cell = RNN


@register("rnn", task="classify", config=ClassifierConfig, recipe=CLASSIFYING, width="width")
class RNNClassifier(RecurrentClassifier):
    """The same over whole records, in both directions: a label for all of one."""

    cell = RNN


@register("rnn", task="classify-images", config=RecurrentImageConfig, recipe=CLASSIFYING_IMAGES, width="width")
class RNNImageClassifier(RecurrentImageClassifier):
    """The same over a picture, row after row: a label for all of it."""

    cell = RNN
