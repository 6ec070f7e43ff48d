"""The compiled draw of tokens against the noise of core.noise in float64: the same tokens, whatever the settings."""

from __future__ import annotations

import pytest
import torch

from chainrule.core import model_type
from chainrule.core.compute import Compute
from chainrule.core.noise import gumbel, uniform
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Constraints, Request
from chainrule.inference.sampling import Filters
from chainrule.kernels import selftest

MISSING = selftest.missing_instructions()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=f"compiled kernels: {MISSING}")


@pytest.mark.parametrize("V", [1, 15, 16, 17, 1024, 1025, 5003])
@pytest.mark.parametrize("temperature", [0.0, 0.01, 0.7, 1.0, 100.0])
def test_tokens_are_those_of_the_noise(V, temperature):
    from chainrule.kernels.draw import draw

    torch.manual_seed(V)
    B, T = 20, 3
    logits, seeds, positions = torch.randn(B, T, V) * 4, torch.randint(1 << 62, (B,)), torch.randint(1000, (B,))
    scores = logits.masked_fill(torch.rand(B, T, V) < 0.3, -torch.inf)
    scores[..., 0] = logits[..., 0]
    found = draw(logits, scores, temperature, seeds, positions)
    noise = gumbel(uniform(seeds[:, None], positions[:, None] + torch.arange(T), V))
    wanted = (scores.double() / temperature + noise if temperature else scores).argmax(-1)
    assert found is not None and found[0].tolist() == wanted.tolist()
    log_p = logits.double().log_softmax(-1).gather(-1, wanted[..., None])[..., 0]
    torch.testing.assert_close(found[1], log_p, rtol=0, atol=1e-6)


def test_equal_scores_give_the_first_token():
    from chainrule.kernels.draw import draw

    logits = torch.zeros(1, 1, 40)
    logits[..., [7, 21]] = 2.0
    zero = torch.zeros(1, dtype=torch.int64)
    assert draw(logits, logits, 0.0, zero, zero)[0].item() == 7


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_nothing_can_be_drawn_torch_decides(temperature):
    from chainrule.kernels.draw import draw

    zero, logits = torch.zeros(1, dtype=torch.int64), torch.randn(1, 1, 40)
    assert draw(logits, torch.full_like(logits, -torch.inf), temperature, zero, zero) is None
    assert draw(logits.double(), logits.double(), temperature, zero, zero) is None
    logits[..., 3] = torch.nan
    assert draw(logits, logits, temperature, zero, zero) is None


@pytest.mark.parametrize(
    "filters",
    [Filters(), Filters(0.0), Filters(0.5, top_k=5), Filters(1.5, top_p=0.6), Filters(top_k=9, top_p=0.8, min_p=0.05)],
    ids=str,
)
@pytest.mark.parametrize(
    "constraints", [Constraints(), Constraints((3, 8), turns=((4,), (5, 6)))], ids=["", "excluded"]
)
def test_an_engine_generates_the_same_tokens(filters, constraints):
    from chainrule.kernels.draw import draw

    torch.manual_seed(0)
    found = model_type("gpt")
    model = found.build(found.configure("tiny", vocab_size=50, width=32, layers=1, heads=2)).eval()
    torch.nn.init.normal_(model.embedding.weight, std=0.3)

    def generated():
        requests = [Request([1, 2], filters, seed, constraints=constraints, max_tokens=12) for seed in range(4)]
        handles = Engine(model, Compute("cpu", False, 1)).run(requests)
        return [h.tokens for h in handles], torch.tensor([h.total for h in handles])

    tokens, totals = generated()
    calls = []
    model.compiled_draw = lambda *given: calls.append(draw(*given)) or calls[-1]
    again, nats = generated()
    assert again == tokens and len(calls) == 12 and None not in calls
    torch.testing.assert_close(nats, totals, rtol=0, atol=1e-5)
