"""The head of the task tag: embed words and their characters, read the sentence with a backbone, predict the tag of
each token.
"""

from __future__ import annotations

from chainrule.core import BackboneFactory, register_head
from chainrule.nn.labelling import TAGGING, NeuralTagger, TokensConfig, WordInput


@register_head(
    "tag",
    config=TokensConfig,
    recipe=TAGGING,
    backbone="reader",
    presets={
        "tiny": {"embedding": 8, "spelling": 8},
        "small": {"dropout": 0.3, "word_dropout": 0.1},
        "base": {"dropout": 0.4, "word_dropout": 0.1},
    },
)
class Tagger(NeuralTagger):
    """The tag of a token depends on the outputs of the backbone at its place."""

    def __init__(self, config: TokensConfig, make_backbone: BackboneFactory):
        inputs = WordInput(config)
        super().__init__(config, inputs, make_backbone(inputs.width))
