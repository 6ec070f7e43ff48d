"""Foreign and mistyped settings: answered with the setting that is meant, for the model type at hand."""

from __future__ import annotations

import re

import pytest

from chainrule.core import Config, ConfigError, Recipe, model_type, registry
from chainrule.core.config import parse_settings
from chainrule.core.setting_names import MEANINGS
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import check_settings


def told(setting: str, name: str, task: str = "generate") -> str:
    """The message for ``--set setting=1`` with this model type."""
    values = {"data": "corpus.txt", "model_type": name, "task": task, **parse_settings([f"{setting}=1"])}
    try:
        check_settings(RunConfig.make(values))
    except ConfigError as error:
        return str(error)
    return "no message"


MEANT = [
    ("train.learning_rate", "gru", "train.lr (learning rate)"),
    ("train.learnin_rate", "gru", "train.lr (learning rate)"),
    ("recipe.lr", "gru", "train.lr"),
    ("recipe.learning_rate", "gru", "train.lr (learning rate)"),
    ("lr", "gpt", "train.lr"),
    ("learning-rate", "gpt", "train.lr (learning rate)"),
    ("model.lr", "gru", "train.lr"),
    ("train.batch", "gru", "train.batch_size (sequences in a batch)"),
    ("model.hidden_size", "gru", "model.width (width of the hidden state)"),
    ("model.d_model", "gpt", "model.width (width of the hidden state)"),
    ("hidden_size", "gru", "model.width (width of the hidden state)"),
    ("model.hidden_size", "hmm", "model.states (width of the hidden state)"),
    ("model.n_components", "hmm", "model.states (number of hidden states)"),
    ("model.n_layer", "gpt", "model.layers (number of layers)"),
    ("model.num_layers", "lstm", "model.layers (number of layers)"),
    ("model.n_head", "gpt", "model.heads (number of attention heads)"),
    ("model.dropout_rate", "gru", "model.dropout (dropout)"),
    ("model.block_size", "gpt", "model.context (context length in tokens)"),
    ("train.block_size", "gpt", "train.sequence_length (context length in tokens)"),
    ("model.block_size", "window", "model.lag (context length in tokens)"),
    ("model.order", "ngram", "model.n (length n of the n-gram)"),
    ("weight_decay", "gru", "train.weight_decay"),
    ("train.grad_clip", "gru", "train.max_grad_norm (largest norm of the gradient)"),
    ("train.gradient_accumulation_steps", "gru", "train.grad_accumulation"),
    ("epochs", "gru", "budget (how long to train"),
    ("train.epochs", "gru", "budget (how long to train"),
    ("train.seed", "gru", "seed"),
    ("family", "gru", "model_type"),
]


@pytest.mark.parametrize(("setting", "name", "meant"), MEANT)
def test_a_foreign_name_is_answered_by_its_meaning(setting: str, name: str, meant: str) -> None:
    assert told(setting, name).startswith(f"unknown setting '{setting}': use {meant}")


def test_letters_decide_where_the_meaning_does_not() -> None:
    assert told("model.widht", "gru") == "unknown setting 'model.widht': did you mean 'model.width'?"
    assert told("bugdet", "gru") == "unknown setting 'bugdet': did you mean 'budget'?"
    assert told("train.wramup", "gru") == "unknown setting 'train.wramup': did you mean 'train.warmup'?"


def test_what_a_model_does_not_have_is_said_with_what_it_has() -> None:
    message = told("model.n_layer", "ngram")
    assert message.startswith(
        "unknown setting 'model.n_layer': there is no setting for the number of layers here; allowed:"
    )
    assert "model.smoothing" in message and "model.n," in message
    assert "allowed: model.dropout, " in told("model.zzzz", "gru")


def test_one_config_alone_answers_too() -> None:
    with pytest.raises(ConfigError, match=re.escape("'model.hidden_size': use model.width")):
        model_type("gru").configure("tiny", vocab_size=3, hidden_size=4)
    with pytest.raises(ConfigError, match=re.escape("'train.rate': use train.lr")):
        Recipe.make({"rate": 1.0})


def test_every_answer_of_the_table_is_a_setting_that_exists() -> None:
    registry._discover()
    kinds: list[type[Config]] = [RunConfig, Recipe, *(row.config for row in registry._model_types.values())]
    ours = {name for kind in kinds for name in kind.model_fields}
    assert [name for meaning in MEANINGS for name in meaning.ours if name not in ours] == []
