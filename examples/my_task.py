"""A task of your own in one file: the time to the next event, from a table with the columns ``user`` and ``hour``.

The logarithm of each wait of a user is normal, given all waits before it: log w_t ~ N(m_t, s_t^2).

Try, each with --plugin examples/my_task.py: chainrule laws wait  ·  chainrule next-event waits/best examples/visits.csv
chainrule compare examples/visits.csv --task wait --models lstm,gru --budget 10s --out waits
"""

import numpy as np
import torch
from torch import nn

from chainrule.core import Autoregressive, Batch, Config, Normal, Recipe, register_head
from chainrule.core.metric import Metric
from chainrule.data.keyed import split_by_key
from chainrule.data.processor import Processor, register_processor
from chainrule.data.table import read_table
from chainrule.data.times import times_of
from chainrule.laws import Numbers, register_subject
from chainrule.options import Result, argument, key, register_command
from chainrule.report.section import ReportSection
from chainrule.tasks.base import Evaluation, Task, random_batches, register_task
from chainrule.tasks.board import BoardTask, register_board, register_section
from chainrule.tasks.groups import UsesRun
from chainrule.tasks.inference import register_call
from chainrule.training.losses import NextTokenLoss
from chainrule.training.rules import GradientRule

SIZES = {"tiny": {"width": 16}, "small": {"width": 32}}


def read_waits(path):
    """Return the waits between the events of each user, in hours."""
    table, hours = read_table(path, "user,hour"), {}
    for user, hour in zip(table.need("user", "hour")[0], times_of(table, "hour")):
        hours.setdefault(user, []).append(hour)
    return {user: np.maximum(np.diff(sorted(times)), 0.01) for user, times in hours.items() if len(times) > 1}


@register_processor("wait")
class Logarithm(Processor):
    def encode(self, part):
        return [np.log(waits) for waits in part]


@register_task
class Wait(Task):
    name, default_models, items = "wait", "lstm,gru", "values"

    def metrics(self, counted):
        off = Metric("hours_off", "error", "오차", unit="h", of="off", items="value", min_items=50, min_block=4)
        return off, Metric("near", "off by less than 2×", "2배 이내", unit="%", higher_is_better=True, of="near")

    def read(self, settings):
        return split_by_key("waits", read_waits(settings.data), settings.split, counted="value")

    def fit_processor(self, dataset, chosen, settings, learnt=None):
        return Logarithm()

    def read_split(self, run, source, options):
        return run.processor.encode(read_waits(source).values())

    def learning(self, model, data, ready):
        source = random_batches(data.parts["train"], batch_of, ready)
        return source, GradientRule(NextTokenLoss(model), ready.recipe, ready.compute)

    def validate(self, model, data, ready):
        return float(judge(model, data.parts["valid"])["off"].mean())

    def evaluate(self, run, part):
        return Evaluation(self.metrics("value"), judge(run.model, part), np.cumsum([len(row) for row in part]))


def batch_of(rows):
    """Return rows of logarithms as a batch: NaN begins a row, and is not a target."""
    targets_BT = nn.utils.rnn.pad_sequence([torch.from_numpy(row) for row in rows], True, torch.nan)
    inputs_BT = torch.cat([torch.full((len(rows), 1), torch.nan), targets_BT[:, :-1].nan_to_num()], 1)
    return Batch(inputs_BT, targets_BT, torch.tensor([len(row) for row in rows]))


@torch.no_grad()
def judge(model, rows):
    """Return how far the median is from each wait, in hours, and whether it is within a factor of two."""
    batch, true = batch_of(rows), np.concatenate(rows)
    found = model.eval()(batch.inputs_BT)[0].mean_BT[~batch.targets_BT.isnan()].double().numpy()
    return {"off": np.abs(np.exp(found) - np.exp(true)), "near": (np.abs(found - true) < np.log(2)).astype(float)}


@register_head("wait", config=Config, recipe=Recipe(lr=5e-3, batch_size=16), backbone="causal", presets=SIZES)
class WaitModel(Autoregressive):
    vocab_size = 0

    def __init__(self, config, make_backbone):
        super().__init__(config)
        self.backbone = make_backbone(2)
        self.head = nn.Linear(self.backbone.width, 2)

    def initial_state(self, batch, capacity=None):
        return self.backbone.initial_state(batch, self.head.weight)

    def forward(self, inputs_BT, state=None, lengths_B=None):
        begins_BT, state = inputs_BT.isnan(), state or self.initial_state(len(inputs_BT))
        x_BT2 = torch.stack([inputs_BT.nan_to_num(), begins_BT], -1).to(self.head.weight)
        hidden_BTD, state = self.backbone(x_BT2, begins_BT, state, lengths_B)
        mean_BT, spread_BT = self.head(hidden_BTD).unbind(-1)
        return Normal(mean_BT, nn.functional.softplus(spread_BT) + 0.01), state


register_subject("wait")(Numbers)


@register_board("wait")
class WaitBoard(BoardTask):
    def prepare(self, board):
        train, test = (np.exp(np.concatenate(part)) for part in (board.train, board.test))
        return {"references": {"median": float(np.abs(test - np.median(train)).mean())}}

    def record_sizes(self, part):
        return [len(row) for row in part]


@register_section("wait")
class WaitSection(ReportSection):
    references = ("median",)
    template = """{% extends "page.html" %}
{% block before_table %}
{% if board.references %}<p>{{ say("wait_lead", off="%.1f"|format(board.references.median)) }}</p>{% endif %}
{% endblock %}"""
    messages = {
        "reference_median": {"en": "vs. the median", "ko": "중앙값과의 차이"},
        "wait_lead": {"en": "The median wait is {off} h off.", "ko": "늘 중앙값으로 예측하면 {off}시간 빗나갑니다."},
    }


class NextEventResult(Result):
    hours: dict[str, float] = key("the median of the next wait in hours, by user", always=True)


@register_command("next-event", NextEventResult, function="next_event")
class NextEvent(UsesRun):
    """the time until the next event of every user"""

    input: str = argument("a table with the columns user and hour", metavar="FILE.csv")


@register_call("wait")
def next_event(run, input):
    waits = read_waits(input)
    batch = batch_of([np.append(row, 0.0) for row in run.processor.encode(waits.values())])
    mean_BT = run.model(batch.inputs_BT)[0].mean_BT.detach()
    return {"hours": {user: float(row[len(waits[user])].exp()) for user, row in zip(waits, mean_BT)}}
