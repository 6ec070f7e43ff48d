"""The head of the task classify: embed the tokens of a text, read them with a backbone, predict one label."""

from __future__ import annotations

from chainrule.core import BackboneFactory, register_head
from chainrule.nn.labelling import CLASSIFYING, NeuralClassifier, TextsConfig, TokenInput


@register_head(
    "classify",
    config=TextsConfig,
    recipe=CLASSIFYING,
    backbone="reader",
    presets={"tiny": {"embedding": 8, "features": 8}, "small": {"dropout": 0.3}, "base": {"dropout": 0.4}},
)
class Classifier(NeuralClassifier):
    """The label of a text depends on the pooled outputs of the backbone."""

    def __init__(self, config: TextsConfig, make_backbone: BackboneFactory):
        inputs = TokenInput(config)
        super().__init__(config, inputs, make_backbone(inputs.width))
