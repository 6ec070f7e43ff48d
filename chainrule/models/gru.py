"""GRU: one vector, two gates, no separate cell; fewer parameters than the LSTM, often as good.

    r, z = sigma(W x_t + U h_{t-1} + b),   n = tanh(W_n x_t + b_n + r * (U_n h_{t-1} + c_n))
    h_t = (1 - z) * n + z * h_{t-1}

Cho et al. 2014, in the form that torch and cuDNN run (reset *after* the product, as in the paper's first version). z is
the share that is kept: z = 1 copies the past unchanged, which is the skip through time. What is remembered of x_<t: one vector.

Deviations: symbols enter through a learned embedding; two biases, as torch.nn has them.
"""

from __future__ import annotations

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
from chainrule.nn.recurrent import GRU, initialise
from chainrule.nn.seq2seq import TRANSLATING, RecurrentSeq2Seq, Seq2SeqConfig
from chainrule.nn.text_to_image import DRAWING, RecurrentTextToImage, RecurrentTextToImageConfig


class GRUConfig(RecurrentConfig):
    presets = {
        "tiny": {"width": 16, "embedding": 8, "layers": 2},
        "small": {"width": 288, "embedding": 64, "dropout": 0.1},
        "base": {"width": 512, "embedding": 128, "layers": 2},
    }


@register(
    "gru",
    label="GRU",
    config=GRUConfig,
    recipe=Recipe(lr=5e-3, weight_decay=0.05, warmup=150, bf16=True),
    width="width",
)
class GRULanguageModel(RecurrentLanguageModel):
    """Remembers one vector and decides, unit by unit, how much of it to replace."""

    def __init__(self, config: GRUConfig):
        c = config
        stack = GRU(c.embedding, c.width, c.layers, dropout=c.dropout, skip=c.skip)
        initialise(stack, c.init)
        super().__init__(c, stack)


class GRUForecasterConfig(ForecasterConfig):
    presets = {"tiny": {"width": 16, "layers": 2}, "small": {"width": 16}, "base": {"width": 128, "layers": 2}}


@register(
    "gru",
    task="series",
    config=GRUForecasterConfig,
    recipe=Recipe(lr=2e-3, batch_size=16, sequence_length=128),
    width="width",
)
class GRUForecaster(RecurrentForecaster):
    """The same over numbers: x_t enters as it is, and a Gaussian is predicted."""

    def __init__(self, config: GRUForecasterConfig):
        c = config
        stack = GRU(c.inputs, c.width, c.layers, dropout=c.dropout, skip=c.skip)
        initialise(stack, c.init)
        super().__init__(c, stack)


@register("gru", task="translate", config=Seq2SeqConfig, recipe=TRANSLATING, width="width")
class GRUSeq2Seq(RecurrentSeq2Seq):
    """The same between sequences: a source is read in both directions, a target is written."""

    cell = GRU


@register("gru", task="tag", config=TaggerConfig, recipe=TAGGING, width="width")
class GRUTagger(RecurrentTagger):
    """The same over tokens, in both directions: a tag for each."""

    cell = GRU


@register("gru", task="classify", config=ClassifierConfig, recipe=CLASSIFYING, width="width")
class GRUClassifier(RecurrentClassifier):
    """The same over whole records, in both directions: a label for all of one."""

    cell = GRU


@register("gru", task="classify-images", config=RecurrentImageConfig, recipe=CLASSIFYING_IMAGES, width="width")
class GRUImageClassifier(RecurrentImageClassifier):
    """The same over a picture, row after row: a label for all of it."""

    cell = GRU


@register("gru", task="draw", config=RecurrentTextToImageConfig, recipe=DRAWING, width="width")
class GRUTextToImage(RecurrentTextToImage):
    """The same over captions and the symbols of pictures: it draws row after row."""

    def __init__(self, config: RecurrentTextToImageConfig):
        stack = GRU(config.embedding, config.width, config.layers, dropout=config.dropout, skip=config.skip)
        initialise(stack, config.init)
        super().__init__(config, stack)
