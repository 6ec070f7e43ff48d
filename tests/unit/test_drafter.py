"""The table of drafts against counts by hand, and where a run keeps it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import chainrule
from chainrule.core import IGNORED, Batch, CheckpointCorrupt
from chainrule.core.compute import Compute
from chainrule.counting.counts import Counts
from chainrule.counting.drafter import NgramDrafter
from chainrule.inference.engine import Engine
from chainrule.inference.requests import Request
from chainrule.inference.sampling import Filters
from chainrule.inference.scheduler import drafter_of
from chainrule.inference.speculation import Pace, Speculation
from chainrule.kernels.selftest import missing_instructions
from chainrule.runs.folder import DRAFTER
from chainrule.tasks.generate.task import Generate

CPU = Compute("cpu", False, 1)
V, START = 5, 5
TEXT = "".join(f"{k % 7} the cat sat on a {'mat' if k % 3 else 'hat'}, not né\n" for k in range(90))


def records(count: int = 6, length: int = 40) -> list[list[int]]:
    """Records of tokens that depend on those before them."""
    rng, made = np.random.default_rng(3), []
    for _ in range(count):
        record = [int(rng.integers(V))]
        while len(record) < length:
            record.append(int((2 * record[-1] + rng.choice(3, p=[0.6, 0.3, 0.1])) % V))
        made.append(record)
    return made


def counted(n: int) -> Counts:
    inputs = torch.tensor([[START, *record[:-1]] for record in records()])
    return Counts.of(Batch(inputs, torch.tensor(records())), V, n)


def by_hand(n: int) -> dict[tuple[int, ...], Counter[int]]:
    """What followed each context of fewer than n tokens, and how often."""
    found: dict[tuple[int, ...], Counter[int]] = {}
    for record in records():
        read = [START, *record]
        for t in range(1, len(read)):
            for m in range(min(n, t + 1)):
                found.setdefault(tuple(read[t - m : t]), Counter())[read[t]] += 1
    return found


def test_drafts_are_the_most_frequent_continuations_of_the_longest_context_that_was_seen():
    n, table = 4, by_hand(4)
    drafter = NgramDrafter.of(counted(n), 1 << 20)
    assert len(drafter) == len(table)
    rng = np.random.default_rng(4)
    queries = [[START], [START, 2], [], *(rng.integers(V, size=k % 7).tolist() for k in range(200))]
    for read in queries:
        tokens, shares, known = *drafter.draft(read, 6), list(read)
        for token, share in zip(tokens, shares):
            context = next(
                c for m in range(n - 1, -1, -1) if (c := tuple(known[len(known) - min(m, len(known)) :])) in table
            )
            many = table[context]
            assert token == min(many, key=lambda w: (-many[w], w)), (read, known)
            assert share == round(255 * many[token] / (many.total() + len(many)))
            known.append(token)


def test_rare_contexts_are_left_out_of_a_table_that_is_bounded():
    n, table = 4, by_hand(4)
    for most in (1, 9, 40):
        drafter = NgramDrafter.of(counted(n), most)
        kept = {c for c in table if _found(drafter, c)}
        assert len(drafter) == len(kept) <= most + 1
        rarest = min((table[c].total() for c in kept if c), default=0)
        assert all(table[c].total() <= rarest for c in table.keys() - kept) or len(kept) == 1
        for read in ([1, 2, 0], [4, 4], []):
            tokens, known = drafter.draft(read, 4)[0], list(read)
            for token in tokens:
                context = next(c for m in range(3, -1, -1) if (c := tuple(known[max(0, len(known) - m) :])) in kept)
                many = table[context]
                assert token == min(many, key=lambda w: (-many[w], w))
                known.append(token)


def _found(drafter: NgramDrafter, context: tuple[int, ...]) -> bool:
    """Whether a context has a row of its own: the walk down the trie does not end before it."""
    row = 0
    for token in context:
        key = row * (V + 1) + token
        row = int(np.searchsorted(drafter.keys, key))
        if row == len(drafter.keys) or drafter.keys[row] != key:
            return False
    return True


def test_tables_survive_their_file():
    drafter = NgramDrafter.of(counted(4), 30)
    again = NgramDrafter.restored(drafter.tensors())
    assert (again.vocab_size, again.context) == (V, 3)
    assert all(again.draft(read, 5) == drafter.draft(read, 5) for read in ([], [1], [2, 4, 3], [START, 0]))


def test_a_masked_target_is_no_continuation():
    batch = Batch(torch.tensor([[START, 1, 2, 1]]), torch.tensor([[1, IGNORED, 1, 3]]))
    drafter = NgramDrafter.of(Counts.of(batch, V, 3), 100)
    assert drafter.draft([START, 1], 1)[0] == [3], "after 1 only 3 is counted"


# --- runs -------------------------------------------------------------------------------------------------------------


def train(folder: Path, model: str = "gru", **options) -> Path:
    text, out = folder / "text.txt", folder / model
    text.write_text(TEXT)
    settings = {"budget": "30steps", "set": {"size": "tiny"}, "threads": 1, "precision": "fp32", **options}
    chainrule.train(str(text), model, str(out), **settings)
    return out


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("drafter"))


def test_a_network_is_kept_with_its_drafter_and_says_so(out):
    run = chainrule.load(str(out), threads=1)
    manifest, told = (json.loads((out / name).read_text()) for name in ("MANIFEST.json", "data.json"))
    assert DRAFTER in manifest["files"]
    assert told["drafter"] == {"context": 4, "contexts": len(run.drafter), "bytes": 17 * len(run.drafter)}
    known = run.processor.tokenizer.encode(b"1 the cat s").ids.tolist()
    assert bytes(run.drafter.draft(known, 8)[0]).decode() == "at on a "


def test_generation_says_what_was_drafted_and_is_that_of_plain_decoding(out):
    run = chainrule.load(str(out), threads=1, precision="fp32")
    asked = {"prompt": "3 the ", "max_tokens": 120, "seed": 4, "temperature": 0.0}
    plain, drafted = run.generate(**asked), run.generate(**asked, speculate="on")
    assert drafted["texts"] == plain["texts"]
    assert drafted["nats"] == pytest.approx(plain["nats"], rel=1e-5)
    assert drafted["draft_tokens"] >= drafted["accepted_tokens"] >= 0 and "draft_tokens" not in plain
    assert "draft_tokens" not in run.generate(prompt="3", max_tokens=4, beams=2)


def test_tokens_are_drafted_unasked_only_where_a_pass_over_several_is_exact(out, monkeypatch):
    run = chainrule.load(str(out), threads=1, precision="fp32")
    assert [drafter_of(run, how) is not None for how in ("auto", "on", "off")] == [False, True, False]
    monkeypatch.setattr(type(run.model), "exact_in_blocks", True)
    assert [drafter_of(run, how) is not None for how in ("auto", "on", "off")] == [True, True, False]


@pytest.mark.skipif(missing_instructions() is not None, reason=f"compiled kernels: {missing_instructions()}")
def test_with_int8_weights_drafts_change_no_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(Pace, "open", property(lambda _: True))  # whatever it costs
    monkeypatch.setattr(Pace, "choose", lambda _, chances_RK: min(4, len(chances_RK[0])))
    monkeypatch.setattr(Pace, "record", lambda *_: 0)
    small = {"model.width": 32, "model.heads": 2, "model.layers": 2, "model.context": 64}
    run = chainrule.load(str(train(tmp_path, "gpt", budget="60steps", set=small)), threads=1, precision="int8")
    for temperature in (0.0, 1.0):
        asked = {"prompt": ["3 the ", "5"], "max_tokens": 150, "seed": 4, "temperature": temperature}
        plain, drafted = run.generate(**asked, speculate="off"), run.generate(**asked)
        assert (drafted["texts"], drafted["nats"]) == (plain["texts"], plain["nats"])
        assert drafted["accepted_tokens"] > 0 and "draft_tokens" not in plain


def test_a_damaged_drafter_is_refused(out, tmp_path):
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in out.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    content = bytearray((copy / DRAFTER).read_bytes())
    content[-1] ^= 1
    (copy / DRAFTER).write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match=DRAFTER):
        chainrule.load(str(copy))


def test_a_run_without_one_gets_its_drafter_by_the_same_training_command(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Generate, "fit_drafter", lambda *_: None)
        out = train(tmp_path, "rnn")
    assert chainrule.load(str(out)).drafter is None and not (out / DRAFTER).exists()
    weights = (out / "model.safetensors").read_bytes()
    train(tmp_path, "rnn", resume="auto")
    assert chainrule.load(str(out)).drafter is not None
    assert (out / "model.safetensors").read_bytes() == weights


def test_models_that_cannot_verify_drafts_are_kept_without_one(tmp_path):
    out = train(tmp_path, "ngram")
    assert chainrule.load(str(out)).drafter is None and not (out / DRAFTER).exists()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("model", ["gpt", "lstm", "gru"])
def test_trained_networks_accept_drafts_and_make_the_same_tokens(model, temperature, tmp_path_factory):
    """In float64, with four drafted tokens at each step."""
    run = chainrule.load(str(_trained(model, tmp_path_factory)), threads=1, precision="fp32")
    run.model.double()
    asked = Request([10], Filters(temperature), 5, max_tokens=150)
    engine = Engine(run.model, CPU)
    (plain,) = engine.run([asked])
    engine.speculation = Speculation(run.drafter, lambda: 0.0, Four)
    (handle,) = engine.run([asked])
    assert handle.tokens == plain.tokens and handle.nats == pytest.approx(plain.nats, abs=1e-9)
    assert handle.drafted > 200 and (handle.accepted > 10 or temperature == 0)


class Four(Pace):
    """Drafts four tokens at each step."""

    open = True  # type: ignore[assignment]

    def choose(self, chances_RK: Sequence[Sequence[float]]) -> int:
        return min(4, len(chances_RK[0]))

    def record(self, *measured: float) -> int:
        return 0


_folders: dict[str, Path] = {}


def _trained(model: str, factory: pytest.TempPathFactory) -> Path:
    if model not in _folders:
        settings = {"size": "tiny", "train.lr": 0.01, **({"context": 32} if model == "gpt" else {})}
        _folders[model] = train(factory.mktemp(model), model, budget="80steps", set=settings)
    return _folders[model]
