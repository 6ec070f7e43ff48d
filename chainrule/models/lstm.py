"""LSTM: a memory cell that is added to, and three gates that decide what enters, stays and shows.

    i, f, o = sigma(W x_t + U h_{t-1} + b),   g = tanh(W x_t + U h_{t-1} + b)
    c_t = f * c_{t-1} + i * g,                h_t = o * tanh(c_t)

Hochreiter & Schmidhuber 1997; the forget gate is Gers, Schmidhuber & Cummins 2000 (the first paper had none, f = 1). Along c the
gradient is multiplied by f alone: with f near 1 information from far back survives. What is remembered of x_<t: two vectors.

Deviations: symbols enter through a learned embedding; two biases, as torch.nn has them; no peepholes. Weights start uniform
within 1 / sqrt(width); ``init=forget`` starts with a total forget bias of 1 (Jozefowicz et al. 2015), ``chrono`` prepares for
long lags.
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
from chainrule.nn.recurrent import LSTM, initialise
from chainrule.nn.seq2seq import TRANSLATING, RecurrentSeq2Seq, Seq2SeqConfig
from chainrule.nn.text_to_image import DRAWING, RecurrentTextToImage, RecurrentTextToImageConfig


class LSTMConfig(RecurrentConfig):
    presets = {
        "tiny": {"width": 16, "embedding": 8, "layers": 2},
        "small": {"width": 256, "embedding": 64, "dropout": 0.1},
        "base": {"width": 512, "embedding": 128, "layers": 2},
    }


@register(
    "lstm",
    label="LSTM",
    config=LSTMConfig,
    recipe=Recipe(lr=8e-3, weight_decay=0.05, batch_size=16, warmup=150, bf16=True),
    width="width",
)
class LSTMLanguageModel(RecurrentLanguageModel):
    """Remembers two vectors: what is shown (h) and what is kept (c)."""

    def __init__(self, config: LSTMConfig):
        c = config
        stack = LSTM(c.embedding, c.width, c.layers, dropout=c.dropout, skip=c.skip)
        initialise(stack, c.init, forget_gate=slice(c.width, 2 * c.width), reach=c.reach)
        super().__init__(c, stack)


class LSTMForecasterConfig(ForecasterConfig):
    init: Literal["torch", "orthogonal", "identity", "forget", "chrono"] = "forget"

    presets = {"tiny": {"width": 16, "layers": 2}, "small": {"width": 16}, "base": {"width": 128, "layers": 2}}


@register(
    "lstm",
    task="series",
    config=LSTMForecasterConfig,
    recipe=Recipe(lr=2e-3, batch_size=16, sequence_length=128),
    width="width",
)
class LSTMForecaster(RecurrentForecaster):
    """The same over numbers: x_t enters as it is, and a Gaussian is predicted."""

    def __init__(self, config: LSTMForecasterConfig):
        c = config
        stack = LSTM(c.inputs, c.width, c.layers, dropout=c.dropout, skip=c.skip)
        initialise(stack, c.init, forget_gate=slice(c.width, 2 * c.width), reach=c.reach)
        super().__init__(c, stack)


@register("lstm", task="translate", config=Seq2SeqConfig, recipe=TRANSLATING, width="width")
class LSTMSeq2Seq(RecurrentSeq2Seq):
    """The same between sequences: a source is read in both directions, a target is written."""

    cell = LSTM


@register("lstm", task="tag", config=TaggerConfig, recipe=TAGGING, width="width")
class LSTMTagger(RecurrentTagger):
    """The same over tokens, in both directions: a tag for each."""

    cell = LSTM


@register("lstm", task="classify", config=ClassifierConfig, recipe=CLASSIFYING, width="width")
class LSTMClassifier(RecurrentClassifier):
    """The same over whole records, in both directions: a label for all of one."""

    cell = LSTM


@register("lstm", task="classify-images", config=RecurrentImageConfig, recipe=CLASSIFYING_IMAGES, width="width")
class LSTMImageClassifier(RecurrentImageClassifier):
    """The same over a picture, row after row: a label for all of it."""

    cell = LSTM


@register("lstm", task="draw", config=RecurrentTextToImageConfig, recipe=DRAWING, width="width")
class LSTMTextToImage(RecurrentTextToImage):
    """The same over captions and the symbols of pictures: it draws row after row."""

    def __init__(self, config: RecurrentTextToImageConfig):
        stack = LSTM(config.embedding, config.width, config.layers, dropout=config.dropout, skip=config.skip)
        initialise(stack, config.init, forget_gate=slice(config.width, 2 * config.width), reach=config.reach)
        super().__init__(config, stack)
