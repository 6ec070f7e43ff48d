"""Backbones and heads, composed by the registry: rows, settings, laws, and errors of announcements."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from chainrule.core import (
    Autoregressive,
    Backbone,
    BackboneFactory,
    BackbonePart,
    Batch,
    Categorical,
    Config,
    ConfigError,
    Prediction,
    Projected,
    Recipe,
    SequenceModel,
    State,
    Tuning,
    UserError,
    load_file,
    model_type,
    model_types,
    register,
    register_backbone,
    register_head,
    registry,
)
from chainrule.laws import SUBJECTS, check
from chainrule.laws.subject import Subject


@pytest.fixture(autouse=True)
def registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test registers is forgotten after it."""
    model_types()
    for name in ("_model_types", "_labels", "_backbones", "_heads"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))


class MeanConfig(Config):
    inputs: int = 3
    scale: float = 1.0


class MeanHead(SequenceModel):
    """One number a row, from the last output of a reader."""

    def __init__(self, config: MeanConfig, make_backbone: BackboneFactory):
        super().__init__(config)
        self.backbone = make_backbone(config.inputs)
        self.out = nn.Linear(self.backbone.width, 1)

    def forward(self, x_BSD: Tensor, lengths_B: Tensor) -> Tensor:
        return self.out(self.backbone(x_BSD, lengths_B)[1])[:, 0]


class TokenConfig(Config):
    vocab_size: int
    embedding: int = 8


class TokenHead(Autoregressive):
    """The next token, from a causal backbone."""

    def __init__(self, config: TokenConfig, make_backbone: BackboneFactory):
        super().__init__(config)
        self.vocab_size = config.vocab_size
        self.embedding = nn.Embedding(config.vocab_size + 1, config.embedding)
        self.backbone = make_backbone(config.embedding)
        self.out = nn.Linear(self.backbone.width, config.vocab_size)

    def initial_state(self, batch: int, capacity: int | None = None) -> State:
        return self.backbone.initial_state(batch, self.embedding.weight)

    def forward(
        self, inputs_BT: Tensor, state: State | None = None, lengths_B: Tensor | None = None
    ) -> tuple[Prediction, State]:
        state = state or self.initial_state(len(inputs_BT))
        hidden_BTD, new = self.backbone(self.embedding(inputs_BT), inputs_BT == self.start_id, state, lengths_B)
        return Projected(hidden_BTD, self.out, self.vocab_size), new


def announce(head: type[SequenceModel], config: type[Config], kind: Any, **options: Any) -> None:
    register_head("mine", config=config, recipe=Recipe(lr=0.5), backbone=kind, **options)(head)


def test_a_head_from_outside_joins_every_backbone_of_its_kind() -> None:
    announce(MeanHead, MeanConfig, "reader", presets={"small": {"scale": 2.0}})
    rows = sorted(model_types("mine"), key=lambda row: row.name)
    assert [(row.name, row.label) for row in rows] == [
        ("gru", "GRU"), ("lstm", "LSTM"), ("rnn", "RNN"), ("transformer", "Transformer"),
    ]  # fmt: skip
    torch.manual_seed(1)
    x_BSD, lengths_B = torch.randn(2, 5, 3).double(), torch.tensor([5, 3])
    for row in rows:
        assert row.recipe.lr == 0.5 and issubclass(row.build, MeanHead)  # type: ignore[arg-type]
        config = row.configure("small")
        assert config.model_dump()["scale"] == 2.0 and {"width", "layers", "dropout"} < config.model_dump().keys()
        make: Any = registry._model_types[row.name, "mine"].build
        model = make(row.configure("tiny", width=16)).double().eval()
        assert model.config.model_dump()["scale"] == 1.0
        together = model(x_BSD, lengths_B)
        torch.testing.assert_close(model(x_BSD[1:, :3], lengths_B[1:]), together[1:])
        sized = row.sized(400_000)
        assert row.parameters(sized) <= 400_000 < row.parameters(sized.replace(width=sized.model_dump()["width"] * 2))


def test_a_causal_head_from_outside_keeps_every_law_on_every_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    announce(TokenHead, TokenConfig, "causal")
    monkeypatch.setitem(SUBJECTS._found, "mine", Subject)
    for row in model_types("mine"):
        verdicts = check(row)
        assert [(row.name, v.law, v.detail) for v in verdicts if not v.ok] == []
        assert len(verdicts) > 20


def test_a_backbone_from_outside_joins_heads_and_those_it_is_tuned_for() -> None:
    class SumConfig(Config):
        width: int = 4
        dropout: float = 0.0
        directions: str = "both"

    class Sum(nn.Module):
        def __init__(self, config: SumConfig, input_width: int):
            super().__init__()
            self.width, self.map = config.width, nn.Linear(input_width, config.width)

        def forward(self, x_BSD: Tensor, lengths_B: Tensor) -> tuple[Tensor, Tensor]:
            hidden_BSD = self.map(x_BSD)
            return hidden_BSD, hidden_BSD.cumsum(1)[:, -1]

    tuned = {"classify-images": Tuning(Recipe(lr=7.0), {"tiny": {"width": 5}}, settings={"dropout": 0.25})}
    presets = {"tiny": {"width": 3}, "small": {}}
    register_backbone(Backbone("sum", presets, reader=BackbonePart(SumConfig, Sum), tuning=tuned, label="Σ"))
    assert {task for name, task in registry._model_types if name == "sum"} == {"tag", "classify", "classify-images"}
    found = model_type("sum", "classify-images")
    assert found.label == "Σ" and found.recipe.lr == 7.0 and model_type("lstm", "classify-images").recipe.lr == 3e-3
    # Backbone, then head, then tuning: the later wins.
    settings = {"num_labels": 2, "image_size": 8, "channels": 1}
    widths = [found.configure(preset, **settings).model_dump()["width"] for preset in ("tiny", "base")]
    assert widths == [5, 256] and found.configure("tiny", **settings).model_dump()["dropout"] == 0.25
    assert found.build(found.configure("tiny", **settings)).classify(images(2)).shape == (2, 2)  # type: ignore[operator]


def images(count: int) -> Batch:
    from chainrule.core import ImageBatch

    none = torch.zeros(count, 1, dtype=torch.long)
    return ImageBatch(none, none, pixels_BCYX=torch.randn(count, 1, 8, 8))


def test_a_whole_model_wins_over_composition_whichever_is_announced_first() -> None:
    class WholeConfig(Config):
        presets = {"tiny": {}}

    class Whole(SequenceModel):
        pass

    register("gru", task="mine", config=WholeConfig, recipe=Recipe())(Whole)
    announce(MeanHead, MeanConfig, "reader")
    register("lstm", task="mine", config=WholeConfig, recipe=Recipe())(Whole)
    assert [model_type(name, "mine").build is Whole for name in ("gru", "lstm", "rnn")] == [True, True, False]


def test_a_model_without_the_kind_or_the_tuning_is_not_offered() -> None:
    announce(TokenHead, TokenConfig, "causal", tuned_only=True)
    assert model_types("mine") == []
    with pytest.raises(UserError, match="unknown model 'transformer' for series: it is a model of --task"):
        model_type("transformer", "series")


class Broken(SequenceModel):
    def __init__(self, config: Config, make_backbone: BackboneFactory):
        super().__init__(config)
        raise KeyError("width")


class AsksForMore(SequenceModel):
    def __init__(self, config: Config, make_backbone: BackboneFactory):
        super().__init__(config)
        make_backbone(3, "causal")


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (Broken, "lstm for mine: Broken cannot be built: KeyError: 'width'"),
        (AsksForMore, "narrow has no causal backbone"),
    ],
)
def test_a_head_that_cannot_be_built_is_one_message(
    head: type[SequenceModel], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce(head, MeanConfig, "reader")
    register_backbone(Backbone("narrow", {"tiny": {}}, reader=registry._backbones["lstm"].reader))
    row = model_type(why.split()[0], "mine")
    with pytest.raises(ConfigError, match=f"^{why}$"):
        row.build(row.configure("tiny"))
    monkeypatch.setitem(SUBJECTS._found, "mine", SUBJECTS.all()["tag"])
    (verdict,) = check(row)
    assert not verdict.ok


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"backbone": "recurrent"}, "head of the task 'mine': backbone='recurrent' must be 'reader' or 'causal'"),
        ({"presets": {"tiny": {"depth": 3}}}, "for mine: preset 'tiny' has an unknown setting 'depth'"),
    ],
)
def test_a_wrong_announcement_names_what_is_wrong(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        register_head("mine", **{"config": MeanConfig, "recipe": Recipe(), "backbone": "reader", **options})(MeanHead)
    with pytest.raises(ConfigError, match="is not a subclass of SequenceModel"):
        register_head("mine", config=MeanConfig, recipe=Recipe(), backbone="reader")(Categorical)  # type: ignore[type-var]


def test_a_head_in_a_file_is_a_plugin_and_can_be_loaded_again(tmp_path: Path) -> None:
    path = tmp_path / "my_head.py"
    path.write_text(
        "from chainrule.core import Config, Recipe, SequenceModel, register_head\n"
        "class MineConfig(Config):\n    inputs: int = 2\n"
        "@register_head('mine', config=MineConfig, recipe=Recipe(), backbone='reader')\n"
        "class Mine(SequenceModel):\n"
        "    def __init__(self, config, make_backbone):\n"
        "        super().__init__(config)\n        self.backbone = make_backbone(config.inputs)\n"
    )
    for _ in range(2):
        rows = load_file(path, "mine")
        assert sorted(row.name for row in rows) == ["gru", "lstm", "rnn", "transformer"]
        assert {(row.plugin or {})["file"] for row in rows} == {"my_head.py"}
    assert model_type("gru", "tag").plugin is None


def test_a_head_may_have_no_settings_of_its_own() -> None:
    class Bare(MeanHead):
        def __init__(self, config: Config, make_backbone: BackboneFactory):
            super().__init__(MeanConfig(), make_backbone)
            self.config = config

    announce(Bare, Config, "reader")
    row = model_type("gru", "mine")
    assert row.build(row.configure("tiny", width=4)).config.model_dump()["width"] == 4
