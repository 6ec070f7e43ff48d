"""Order: equivariance, the sinusoids by their formulas, and reading beyond the context by a GPT written out by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from chainrule.claims import Runs, order
from chainrule.claims.held_out import tokens
from chainrule.claims.order import BEYOND, PIECES, beyond, unlike_when_permuted
from chainrule.core import model_type
from tests.claims.loaded import claim, loaded, table
from tests.explain.decoders import CONTEXT, random_run, read_by_hand
from tests.explain.runs import small_run


def test_an_encoder_of_torch_without_positions_is_equivariant_too() -> None:
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dtype=torch.float64).eval()
    x_1TD, order_T = torch.randn(1, 6, 8, dtype=torch.float64), torch.randperm(6)
    with torch.no_grad():
        assert float((layer(x_1TD[:, order_T]) - layer(x_1TD)[:, order_T]).abs().max()) < 1e-12
        assert unlike_when_permuted(positions="none") < 1e-12 < 1e-3 < unlike_when_permuted(positions="rotary")


def test_the_finding_holds_for_all_kinds() -> None:
    found = claim("order").measure(Runs({}))
    rows = [value for _, value in table(found, "permuted")]
    assert found.holds == "yes" and rows[0] < 1e-12 and min(rows[1:]) > 1e-3
    assert found.told[-1].key == "no_gpt"


def test_an_encoder_that_tells_orders_apart_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(order.KINDS, "none", {"positions": "learned"})
    assert claim("order").measure(Runs({})).holds == "no"


def test_positions_without_effect_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(order.KINDS, "alibi", {"positions": "none"})
    assert claim("order").measure(Runs({})).holds == "partly"


def test_sinusoids_differ_as_their_formulas_do() -> None:
    positions, width = order.TABLE
    half = width // 2
    angle = {
        "paper": [[p / 1e4 ** (2 * i / width) for i in range(half)] for p in range(positions)],
        "t2t": [[p * math.exp(-i * math.log(1e4) / (half - 1)) for i in range(half)] for p in range(positions)],
    }
    made = {name: np.concatenate([np.sin(one), np.cos(one)], 1) for name, one in angle.items()}
    rows = {said.key: row for said, *row in table(claim("order").measure(Runs({})), "sinusoids")}
    assert rows["kind_concat"][0] == 0 == rows["kind_interleaved"][0]
    assert rows["kind_t2t"][0] == pytest.approx(np.abs(made["paper"] - made["t2t"]).max(), abs=1e-12)
    assert rows["kind_t2t"][1] == pytest.approx(2 * math.pi * 1e4)
    assert rows["kind_concat"][1] == pytest.approx(2 * math.pi * 1e4 ** (2 * (half - 1) / width))


def test_costs_beyond_the_context_are_those_of_a_model_written_out() -> None:
    run, size = random_run("rotary"), CONTEXT // PIECES
    found, length = beyond(run, 1), BEYOND * PIECES * size
    ids = tokens(run, "test", BEYOND * CONTEXT).ids[:length].tolist()
    wide = replace(run, model=model_type("gpt").build(run.model.config.replace(context=length)).double())
    wide.model.load_state_dict(run.model.state_dict())
    with torch.no_grad():
        for name, one in (("window", run), ("all", wide)):
            nats = [-float(read_by_hand(one, ids[:k], ids[k]).log_p) for k in range(length)]
            expected = np.reshape(nats, (-1, size)).mean(1)
            assert found.costs[name] == pytest.approx(expected.tolist(), abs=1e-9)
    assert found.costs["all"][-1] != pytest.approx(found.costs["window"][-1], abs=1e-6)


def test_learned_positions_end_with_the_context() -> None:
    assert beyond(random_run("learned"), 1).costs == {}
    found = claim("order").measure(Runs({"learned": random_run("learned"), "gpt": small_run("gpt")}))
    assert [said.key for said in found.told if "run" in said.values][0] == "ends"
    assert len(table(found, "beyond")) == 2


def test_the_run_itself_keeps_its_window() -> None:
    run = small_run("gpt")
    beyond(run, 1)
    assert run.model.config.context == 16 and loaded("gpt").of()[0].model.config.context == 16
