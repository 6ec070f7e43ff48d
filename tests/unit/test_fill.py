"""Hiding symbols, judging what is told of them, and the commands that fill in and embed."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from chainrule.api import embed, fill, load
from chainrule.cli import main
from chainrule.core import IGNORED, Batch, Categorical, MaskedBatch, MaskedLM, Prediction, UserError
from chainrule.core.compute import decide
from chainrule.data import ByteTokenizer, Part, WordTokenizer, encode_texts
from chainrule.data.masked import Masking, in_pairs, make_masked, whole_rows, word_begins
from chainrule.runs import RunFolder
from chainrule.tasks.fill.metrics import each_alone, many_hidden, predict_hidden, spelling
from chainrule.tasks.fill.task import unigram
from chainrule.training.losses import MaskedLMLoss

V = 53
START, MASK, SEPARATOR = V, V + 1, V + 2
ONE_THREAD = ["--threads", "1", "--precision", "fp32"]


def rows_of(batch: int, length: int, seed: int = 0) -> MaskedBatch:
    """Rows that could be any, with separators in them, behind the start symbol."""
    rng = torch.Generator().manual_seed(seed)
    ids = torch.randint(V, (batch, length), generator=rng)
    ids[:, 0] = START
    ids[::3, 7] = SEPARATOR
    return MaskedBatch(ids, torch.full_like(ids, IGNORED))


def part_of(lengths: list[int], unit: str = "lines", seed: int = 5) -> Part:
    sizes = np.array(lengths)
    ends = np.cumsum(sizes)
    ids = np.random.default_rng(seed).integers(V, size=int(ends[-1]))
    none = np.zeros(0, np.int64)
    return Part(ids, ends - sizes, ends, unit, len(ids), len(ids), none, none)


# --- hiding -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3, 10, 23, 64, 127])
def test_the_number_of_hidden_symbols_is_exactly_the_rounded_share(length: int) -> None:
    """Google's create_pretraining_data: max(1, round(0.15 x length)), what is only read counted but never hidden."""
    hidden = Masking(V).hide(rows_of(31, length) if length > 7 else plain(31, length), np.random.default_rng(1))
    assert set((hidden.targets_BT != IGNORED).sum(1).tolist()) == {max(1, round(0.15 * length))}


def plain(batch: int, length: int) -> MaskedBatch:
    ids = torch.randint(V, (batch, length), generator=torch.Generator().manual_seed(2))
    ids[:, 0] = START
    return MaskedBatch(ids, torch.full_like(ids, IGNORED))


def test_ragged_rows_hide_by_their_own_length_and_never_a_pad() -> None:
    lengths = torch.tensor([41, 2, 27, 7, 34])
    rows = MaskedBatch(plain(5, 41).inputs_BT, torch.full((5, 41), IGNORED), lengths)
    hidden = Masking(V).hide(rows, np.random.default_rng(3))
    at_BT = hidden.targets_BT != IGNORED
    assert at_BT.sum(1).tolist() == [6, 1, 4, 1, 5]  # 6.15, 0.3, 4.05, 1.05, 5.1
    assert not at_BT[torch.arange(41) >= lengths[:, None]].any()


def test_eight_in_ten_are_masked_one_is_another_and_one_stays() -> None:
    """Within the binomial's 99.9 % interval at 58,000 symbols; a random symbol is the same by chance once in V."""
    rows = rows_of(3001, 131)
    hidden = Masking(V).hide(rows, np.random.default_rng(7))
    at_BT = hidden.targets_BT != IGNORED
    shown, was = hidden.inputs_BT[at_BT], rows.inputs_BT[at_BT]
    n = len(shown)
    assert n > 50_000
    shares = ((shown == MASK), (shown != MASK) & (shown != was), shown == was)
    for share, wanted in zip(shares, (0.8, 0.1 * (1 - 1 / V), 0.1 + 0.1 / V)):
        assert abs(share.float().mean() - wanted) < 3.29 * math.sqrt(wanted * (1 - wanted) / n)
    others = Counter(shown[shares[1]].tolist())
    assert set(others) == set(range(V))  # of the alphabet, and of all of it


def test_what_is_only_read_is_never_hidden_and_what_is_shown_stays() -> None:
    rows = rows_of(211, 29)
    hidden = Masking(V).hide(rows, np.random.default_rng(9))
    at_BT = hidden.targets_BT != IGNORED
    assert (rows.inputs_BT[at_BT] < V).all()
    assert torch.equal(hidden.targets_BT[at_BT], rows.inputs_BT[at_BT])
    assert torch.equal(hidden.inputs_BT[~at_BT], rows.inputs_BT[~at_BT])


def test_every_place_is_hidden_equally_often() -> None:
    hidden = Masking(V).hide(plain(20_011, 21), np.random.default_rng(11))
    often_T = (hidden.targets_BT != IGNORED).float().mean(0)
    assert often_T[0] == 0
    assert (often_T[1:] - 3 / 20).abs().max() < 4 * math.sqrt(0.15 * 0.85 / 20_011)


def test_whole_words_are_hidden_whole_or_not_at_all() -> None:
    """Symbols below 20 begin a word; so does what stands behind the start symbol or a separator."""
    begins = np.arange(V) < 20
    rows = rows_of(307, 67)
    hidden = Masking(V, begins_V=begins).hide(rows, np.random.default_rng(13))
    for ids, targets in zip(rows.inputs_BT.tolist(), hidden.targets_BT.tolist()):
        words: list[list[bool]] = []
        for t in range(1, 67):
            if ids[t] == SEPARATOR:
                continue
            if not words or ids[t] < 20 or ids[t - 1] == SEPARATOR:
                words.append([])
            words[-1].append(targets[t] != IGNORED)
        assert all(len(set(word)) == 1 for word in words)
        assert 0 < sum(map(sum, words)) <= round(0.15 * 67)


def test_bytes_and_words_begin_words_as_people_write_them() -> None:
    begins = word_begins(ByteTokenizer())
    assert [k for k in range(256) if begins[k]] == [9, 10, 11, 12, 13, 32]
    assert word_begins(WordTokenizer(["a", "bc", "\n"], lines=True)).tolist() == [True] * 4


# --- batches ----------------------------------------------------------------------------------------------------------


def test_hiding_is_a_function_of_seed_epoch_and_step() -> None:
    part = part_of([5000], "stream")
    make = lambda seed: make_masked(part, Masking(V), rows=7, window=23, seed=seed)  # noqa: E731
    one, again, other = make(1), make(1), make(2)
    for epoch, step in ((0, 0), (0, 5), (3, 2)):
        a, b = one.at(epoch, step), again.at(epoch, step)
        assert torch.equal(a.inputs_BT, b.inputs_BT) and torch.equal(a.targets_BT, b.targets_BT)
        assert not torch.equal(a.inputs_BT, other.at(epoch, step).inputs_BT)
    places = [one.at(epoch, 1).targets_BT != IGNORED for epoch in (0, 1)]
    assert not torch.equal(*places)


@pytest.mark.parametrize(("lengths", "unit"), [([2003, 997], "stream"), ([5, 40, 90, 1, 17, 22, 31] * 9, "lines")])
def test_an_epoch_shows_every_symbol_once_in_rows_that_fit(lengths: list[int], unit: str) -> None:
    part = part_of(lengths, unit)
    made = make_masked(part, Masking(V), rows=5, window=61, seed=3)
    seen: Counter[int] = Counter()
    for step in range(made.steps_per_epoch):
        batch = made.at(0, step)
        length = batch.inputs_BT.shape[1]
        assert length <= 61 and (batch.inputs_BT[:, 0] == START).all()
        lengths_B = torch.full((len(batch.inputs_BT),), length) if batch.lengths_B is None else batch.lengths_B
        whole = torch.where(batch.targets_BT == IGNORED, batch.inputs_BT, batch.targets_BT)
        inside = torch.arange(length) < lengths_B[:, None]
        seen.update(whole[inside & (whole < V)].tolist())
    assert seen == Counter(part.ids.tolist())


def test_a_record_within_a_row_begins_behind_a_separator() -> None:
    batch = Batch(torch.tensor([[V, 3, 4]]), torch.tensor([[3, IGNORED, 5]]))
    assert whole_rows(batch, V).inputs_BT.tolist() == [[START, 3, SEPARATOR, 5]]


def test_pairs_are_two_halves_and_say_whether_they_belong_together() -> None:
    lengths = torch.tensor([12, 9, 2, 11, 7] * 8)
    ids = torch.arange(40)[:, None].expand(40, 12) % V  # row b holds b everywhere
    ids = torch.cat([torch.full((40, 1), START), ids[:, 1:]], 1)
    pairs = in_pairs(MaskedBatch(ids, torch.full_like(ids, IGNORED), lengths), V, np.random.default_rng(17))
    assert pairs.segments_BT is not None and pairs.follows_B is not None and pairs.lengths_B is not None
    assert 8 < int(pairs.follows_B.sum()) < 32
    for b, n in enumerate(lengths.tolist()):
        row, segment = pairs.inputs_BT[b, : pairs.lengths_B[b]].tolist(), pairs.segments_BT[b].tolist()
        first, second = (n - 1) // 2, row[(n - 1) // 2 + 2 : -1]
        assert row[: first + 2] == [START, *[b] * first, SEPARATOR] and row[-1] == SEPARATOR
        assert segment[: len(row)] == [0] * (first + 2) + [1] * (len(second) + 1)
        assert len(set(second)) == 1
        assert (second[0] == b) == bool(pairs.follows_B[b])


# --- judging ----------------------------------------------------------------------------------------------------------


class Neighbours(MaskedLM):
    """A masked token is the token before it plus one, with odds of 9 to 1; figures follow by hand."""

    vocab_size, window = V, 17

    def eval(self) -> Neighbours:
        return self

    def encode(self, batch: Batch) -> Tensor:
        assert (batch.inputs_BT[:, 0] == START).all()
        self.seen = batch
        before_BT = batch.inputs_BT.roll(1, 1)
        wanted_BT = torch.where(before_BT < V, (before_BT + 1) % V, 0)
        p = torch.full((*wanted_BT.shape, V), 0.1 / (V - 1), dtype=torch.float64)
        return p.scatter(-1, wanted_BT[..., None], 0.9).log()

    def predict(self, hidden_BTD: Tensor) -> Prediction:
        return Categorical(hidden_BTD)


def counting(lengths: list[int]) -> Part:
    """Every record counts up from 0."""
    part = part_of(lengths)
    ids = np.concatenate([np.arange(n) % V for n in lengths])
    return Part(ids, part.starts, part.ends, "lines", len(ids), len(ids), part.unknown_at, part.unknown_bytes)


def test_each_alone_gives_the_nats_that_follow_by_hand() -> None:
    """Each token follows from the one before it (-log 0.9), the first of a row from the start token (0)."""
    part, compute = counting([11, 40, 1, 23]), decide("cpu", "fp32", 1)
    questions = each_alone(part, Neighbours.window, 10**6)
    answers = predict_hidden(Neighbours(), part, questions, compute)
    assert answers.at.tolist() == list(range(75))
    assert answers.hits.all() and np.allclose(answers.nats, -math.log(0.9))


def test_each_alone_is_hidden_in_the_middle_of_what_is_around_it() -> None:
    part = counting([11, 40, 1, 23])
    for question in each_alone(part, 17, 10**6):
        (at,) = question.hidden
        start, end = next((s, e) for s, e in zip(part.starts, part.ends) if s <= at < e)
        assert start <= question.read <= at < question.stop <= end
        assert len(question) == min(16, end - start)
        if start + 8 <= at < end - 8:
            assert at - question.read == 8
    few = each_alone(part, 17, 20)
    assert len(few) == 20 and all(len(q.hidden) == 1 for q in few)


def test_many_hidden_covers_a_part_once_and_is_always_the_same() -> None:
    part = counting([11, 40, 1, 23])
    one, again = many_hidden(part, 17, 0.15, 0), many_hidden(part, 17, 0.15, 0)
    assert all(np.array_equal(a.hidden, b.hidden) for a, b in zip(one, again, strict=True))
    assert np.concatenate([np.arange(q.read, q.stop) for q in one]).tolist() == list(range(75))
    assert [len(q.hidden) for q in one] == [2, 3, 3, 1, 1, 3, 1]  # of 12, 17, 17, 9, 2, 17, 8 with the start symbol


def test_all_that_is_hidden_stands_behind_the_mask() -> None:
    part, model = counting([15]), Neighbours()
    (question,) = many_hidden(part, 17, 0.5, 3)
    predict_hidden(model, part, [question], decide("cpu", "fp32", 1))
    assert (model.seen.inputs_BT[0, 1:] == MASK).nonzero().flatten().tolist() == question.hidden.tolist()
    assert int((model.seen.targets_BT != IGNORED).sum()) == len(question.hidden) == 8


def test_an_unknown_word_pays_for_its_bytes() -> None:
    units = WordTokenizer(["a", "b", "\n"], lines=True)
    part = encode_texts([b"a zyx b\n"], units, "lines")
    assert part.ids.tolist() == [0, 3, 1, 2]
    assert spelling(part, np.array([0, 1, 2])).tolist() == [0, pytest.approx(4 * math.log(256)), 0]


def test_unigram_by_hand() -> None:
    part = counting([1, 1, 2])  # 0 0 0 1
    assert unigram(part) == (pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25)), 0.75)


def test_the_loss_is_the_mean_over_hidden_symbols_plus_that_of_pairs() -> None:
    class Judges(Neighbours, torch.nn.Module):
        next_sentence = True

        def next_sentence_logit(self, hidden_BTD: Tensor) -> Tensor:
            return torch.tensor([math.log(3), 0.0], dtype=torch.float64)

    objective = MaskedLMLoss(Judges())
    ids = torch.tensor([[START, 4, MASK, 6], [START, 4, MASK, MASK]])
    targets = torch.tensor([[IGNORED, IGNORED, 5, IGNORED], [IGNORED, IGNORED, 7, 1]])
    batch = MaskedBatch(ids, targets, follows_B=torch.tensor([1, 0]))
    terms, _ = objective(batch)
    miss = -math.log(0.1 / 52)
    assert float(terms["nats"][0]) == pytest.approx(-math.log(0.9) + 2 * miss)
    assert float(terms["follows"][0]) == pytest.approx(-math.log(0.75) + math.log(2), rel=1e-6)
    assert {name: int(count) for name, count in objective.counts(batch).items()} == {"nats": 3, "follows": 2}


# --- the commands -----------------------------------------------------------------------------------------------------

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "seven", "wise", "owls", "sing"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines that go round and round: what is hidden follows from its neighbours."""
    rng = random.Random(3)
    path = tmp_path_factory.mktemp("text") / "corpus.txt"
    lines = [[WORDS[(start + k) % 14] for k in range(7)] for start in rng.choices(range(14), k=239)]
    path.write_text("".join(" ".join(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module", params=["byte", "char", "word", "bpe:300"])
def run(request: pytest.FixtureRequest, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / request.param.replace(":", "")
    learns = ["150steps", "--set", "model.width=48"] if request.param == "word" else ["3steps"]
    flags = ["--unit", "lines", "--tokenizer", request.param, "--set", "size=tiny", *ONE_THREAD, "--budget", *learns]
    assert main(["train", str(text), "--task", "fill", "--model", "bert", *flags, "--out", str(out)]) == 0
    return out


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*arguments, "--json", *ONE_THREAD]) == 0
    return json.loads(capsys.readouterr().out)


def test_fill_keeps_the_text_and_gives_probabilities(run: Path) -> None:
    loaded = load(run, precision="fp32", threads=1)
    text = "the [MASK] brown zyzzyva [MASK]"
    (found,) = fill(loaded, [text], top_k=4)["texts"]
    assert found["text"] == text and [len(mask) for mask in found["masks"]] == [4, 4]
    for mask in found["masks"]:
        p = [candidate["p"] for candidate in mask]
        assert p == sorted(p, reverse=True) and 0 < sum(p) <= 1 + 1e-6
        assert "\N{REPLACEMENT CHARACTER}" not in [candidate["text"] for candidate in mask]
    between = " brown zyzzyva" if loaded.processor.tokenizer.name == "bpe" else " brown zyzzyva "
    head = "the" if loaded.processor.tokenizer.name == "bpe" else "the "
    assert found["filled"].startswith(head) and between in found["filled"] and "[MASK]" not in found["filled"]


def test_every_token_but_the_unknown_one_and_line_feeds_is_a_candidate(run: Path) -> None:
    loaded = load(run, precision="fp32", threads=1)
    (found,) = fill(loaded, ["the [MASK]"], top_k=10**6)["texts"]
    tokenizer = loaded.processor.tokenizer
    feeds = [k for k in range(tokenizer.vocab_size) if b"\n" in tokenizer.decode([k])]
    assert feeds
    p = [candidate["p"] for candidate in found["masks"][0]]
    assert len(p) == loaded.model.vocab_size - (tokenizer.unknown is not None) - len(feeds)
    assert 0.5 < sum(p) < 1 and min(p) > 0
    texts = [candidate["text"] for candidate in found["masks"][0]]
    assert not [text for text in texts if "\n" in text or text == "\N{REPLACEMENT CHARACTER}"]


def test_a_line_feed_is_never_filled_in_even_where_the_model_prefers_it(run: Path) -> None:
    loaded = load(run, precision="fp32", threads=1)
    feeds = [k for k in range(loaded.model.vocab_size) if b"\n" in loaded.processor.decode([k])]
    predict = type(loaded.model).predict

    def biased(self: Any, hidden: Tensor) -> Prediction:
        logits = predict(self, hidden).logits()
        logits[..., feeds] += 50
        return Categorical(logits)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(loaded.model), "predict", biased)
        found = fill(loaded, ["the [MASK]", "[MASK] fox [MASK]"])["texts"]
    assert all("\n" not in text["filled"] and "\n" not in mask[0]["text"] for text in found for mask in text["masks"])


def test_a_blank_line_stays_a_blank_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.txt").write_text("the [MASK]\n\n[MASK] fox\n")
    (first, blank, last) = fill(load(run, threads=1), tmp_path / "in.txt")["texts"]
    assert (blank["filled"], blank["masks"]) == ("", []) and first["masks"] and last["masks"]
    for nothing in ("", "  "):
        assert main(["fill", str(run), nothing, *ONE_THREAD]) == 2
        assert "the text is empty: write [MASK] where" in capsys.readouterr().err


@pytest.mark.parametrize("run", ["word"], indirect=True)
def test_words_that_the_run_does_not_know_are_told(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for text, told in (
        ("the zebra [MASK]", "know: 1\n"),
        ("the [MASK]. zzz", "know: 2; a mask is a whole word: write a"),
    ):
        assert main(["fill", str(run), text, *ONE_THREAD]) == 0
        assert f"note: text 1: tokens that the run does not {told}" in capsys.readouterr().err
    assert main(["fill", str(run), "the [MASK] fox", *ONE_THREAD]) == 0
    assert capsys.readouterr().err == ""


def test_a_space_before_a_mask_is_a_symbol_of_letters_only(run: Path) -> None:
    """A word brings its space along, under bpe and word."""
    loaded = load(run, precision="fp32", threads=1)
    apart, joined = (fill(loaded, [text])["texts"][0]["masks"] for text in ("the [MASK] fox", "the[MASK] fox"))
    assert (apart == joined) == (loaded.processor.tokenizer.name in ("bpe", "word"))


@pytest.mark.parametrize("run", ["word"], indirect=True)  # three steps are too few for letters
def test_fill_tells_the_word_that_belongs_there(run: Path) -> None:
    loaded = load(run, precision="fp32", threads=1)
    (found,) = fill(loaded, ["quick brown [MASK] jumps over a"])["texts"]
    assert found["masks"][0][0]["text"] == "fox" and found["filled"] == "quick brown fox jumps over a"


def test_candidates_of_several_masks_know_only_what_is_shown(run: Path) -> None:
    """Each for itself, the others hidden: the probabilities of one reading of the text with both masks in it."""
    loaded = load(run, precision="fp32", threads=1)
    (found,) = fill(loaded, ["the[MASK] fox[MASK]"], top_k=1)["texts"]
    model, units = loaded.model, loaded.processor.tokenizer
    ids = [*units.encode(b"the").ids, model.mask_id]
    ids += [*units.encode(b"fox" if units.name == "word" else b" fox").ids, model.mask_id]
    row = torch.tensor([[model.start_id, *ids]])
    with torch.no_grad():
        p = model.predict(model.encode(Batch(row, row))).logits().softmax(-1)[row == model.mask_id]
    if units.unknown is not None:
        p[:, units.unknown] = 0
    assert [mask[0]["p"] for mask in found["masks"]] == pytest.approx(p.amax(-1).tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("the fox", "write [MASK] where"),
        ("x" * 99 + " y z" * 40 + "[MASK]", "reads 31 at once"),
        ("the [mask]", "no [MASK]"),
        ("nosuch.txt", "nosuch.txt: no such file"),
    ],
)
def test_what_cannot_be_filled_is_said_in_one_line(
    run: Path, capsys: pytest.CaptureFixture[str], given: str, said: str
) -> None:
    assert main(["fill", str(run), given, *ONE_THREAD]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_fill_reads_files_and_names_the_line_without_a_mask(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.txt"
    good.write_text("the [MASK]\n\nthe f[MASK]x\n")
    bad.write_text("the [MASK]\n\nthe f[MASK]x\nthe fox\n")
    found = printed(capsys, "fill", str(run), str(good), "a [MASK]")
    assert [one["text"] for one in found["texts"]] == ["the [MASK]", "", "the f[MASK]x", "a [MASK]"]
    monkeypatch.setattr("chainrule.tasks.by_line.blocks.__defaults__", (2, 1 << 20))
    for form in ("--json", "--json-lines"):
        assert main(["fill", str(run), str(good), str(bad), form, *ONE_THREAD]) == 2
        shown = capsys.readouterr()
        assert f'{bad}:4: no [MASK] in "the fox"' in shown.err and not shown.out


def test_evaluate_has_what_programs_rely_on(
    run: Path, text: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "hidden.jsonl"
    found = printed(capsys, "evaluate", str(run), str(text), "--predictions", str(out))
    assert found["task"] == "fill" and found["model"] == "bert"
    assert 0 <= found["masked_accuracy"] <= 1 and found["pseudo_nats_per_byte"] > 0
    assert not {key for key in found if "bits" in key}
    items = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(items) == found["masked_symbols"]
    assert np.mean([item["right"] for item in items]) == pytest.approx(found["masked_accuracy"])
    assert -np.mean([item["nats"] for item in items]) == pytest.approx(found["masked_nats"])


def test_embed_writes_a_vector_a_line_or_a_symbol(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("the fox\n\nseven wise owls sing\n" + "a lazy dog " * 30 + "\n")
    found = printed(capsys, "embed", str(run), str(lines), "--out", str(tmp_path / "x.npy"))
    tokens = printed(capsys, "embed", str(run), str(lines), "--per", "token", "--out", str(tmp_path / "t.npy"))
    x, t = np.load(tmp_path / "x.npy"), np.load(tmp_path / "t.npy")
    width = 48 if run.name == "word" else 16
    assert x.shape == (4, width) == (found["count"], found["width"]) and x.dtype == np.float32
    assert not x[1].any() and found["tokens"][1] == 0  # a blank line keeps its place
    assert found["tokens"] == tokens["tokens"] and t.shape == (sum(tokens["tokens"]), width)
    edges = np.cumsum([0, *tokens["tokens"]])
    for k in (0, 2, 3):
        np.testing.assert_allclose(t[edges[k] : edges[k + 1]].mean(0), x[k], rtol=1e-4, atol=1e-5)


def test_a_line_has_one_vector_whatever_stands_beside_it(run: Path) -> None:
    loaded = load(run, precision="fp32", threads=1)
    together = embed(loaded, ["the fox", "seven wise owls sing over a lazy dog", "a"])["vectors"]
    for k, line in enumerate(["the fox", "seven wise owls sing over a lazy dog", "a"]):
        np.testing.assert_allclose(embed(loaded, [line])["vectors"][0], together[k], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_symbols_vector_is_what_the_encoder_says_of_it(run: Path) -> None:
    loaded = load(run, precision="fp32", threads=1)
    ids = loaded.processor.tokenizer.encode(b"seven wise owls").ids
    row = torch.tensor([[loaded.model.start_id, *ids.tolist()]])
    found = embed(loaded, ["a lazy dog over a", "seven wise owls"], per="token")
    wanted = loaded.model.encode(Batch(row, row))[0, 1:].numpy()
    np.testing.assert_allclose(found["vectors"][-len(ids) :], wanted, rtol=1e-4, atol=1e-5)


def test_runs_of_other_tasks_are_refused(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", str(text), "--model", "markov", "--out", str(tmp_path / "m"), *ONE_THREAD]) == 0
    capsys.readouterr()
    assert main(["fill", str(tmp_path / "m"), "a [MASK]", *ONE_THREAD]) == 2
    assert "a run of --task fill" in capsys.readouterr().err
    with pytest.raises(UserError, match="--task fill --model bert"):
        embed(load(tmp_path / "m"), ["a"])


@pytest.mark.parametrize("more", [[], ["--set", "model.next_sentence=true", "--set", "train.whole_word_mask=true"]])
def test_a_run_that_was_cut_and_continued_has_the_same_weights(text: Path, tmp_path: Path, more: list[str]) -> None:
    flags = ["--task", "fill", "--model", "bert", "--set", "size=tiny", "--unit", "lines", *more, *ONE_THREAD]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main(["train", str(text), *flags, "--budget", "7steps", "--save-every", "3steps", "--out", str(whole)]) == 0
    newest = sorted((whole / "checkpoints").glob("step-*"))
    assert main(["train", str(text), *flags, "--budget", "7steps", "--save-every", "3steps", "--out", str(cut)]) == 0
    for folder in sorted((cut / "checkpoints").glob("step-*"))[1:]:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    resume = ["--resume", "auto", "--save-every", "3steps"]
    assert main(["train", str(text), *flags, "--budget", "7steps", *resume, "--out", str(cut)]) == 0
    a, b = (RunFolder(path).load_model()[1] for path in (whole, cut))
    assert len(newest) > 1 and all(torch.equal(a[name], b[name]) for name in a)


def test_compare_puts_no_bits_on_the_board(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--task", "fill", "--budget", "1epochs", "--set", "size=tiny", *ONE_THREAD]
    board = printed(capsys, "compare", str(text), *flags, "--out", str(tmp_path / "board"))
    (row,) = board["rows"]
    assert row["status"] == "done" and row["model"] == "bert" and not [key for key in row if "bits" in key]
    assert board["references"].keys() == {"guessing", "unigram_nats"}
    assert row["interval"][0] <= row["masked_accuracy"] <= row["interval"][1]
    page = (tmp_path / "board" / "report.html").read_text()
    assert "nats per masked token" in page and "15% of the test set is masked" in page


def test_symbols_without_bytes_are_filled_and_judged_by_the_symbol(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng, table, out = random.Random(1), tmp_path / "dna.csv", tmp_path / "run"
    records = [" ".join(rng.choices("ACGT", k=rng.randint(3, 40))) for _ in range(131)]
    table.write_text("sequence\n" + "\n".join(records) + "\n")
    flags = ["--budget", "3steps", "--set", "size=tiny", *ONE_THREAD]
    assert main(["train", str(table), "--task", "fill", "--model", "bert", *flags, "--out", str(out)]) == 0
    found = printed(capsys, "evaluate", str(out), str(table))
    assert found["pseudo_nats_per_symbol"] > 0 and "pseudo_nats_per_byte" not in found
    filled = printed(capsys, "fill", str(out), "A C [MASK] T")
    assert filled["unit"] == "symbol" and {"A", "C", "G", "T"} <= {c["text"] for c in filled["texts"][0]["masks"][0]}
    every = printed(capsys, "fill", str(out), "A C [MASK] T", "--top-k", "99")["texts"][0]["masks"][0]
    assert {c["text"] for c in every} == {"A", "C", "G", "T"}, "the end of a record is no answer"
