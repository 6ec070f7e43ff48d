"""The board of pairs: alignments against the formula, average precision by hand, what the page shows."""

import html
import json
import math
import random

import numpy as np
import pytest
import torch
from sacrebleu.metrics.chrf import CHRF

from chainrule.api import compare, load
from chainrule.core import UserError, model_type
from chainrule.core.compute import decide
from chainrule.data.pair_encoding import PairPart
from chainrule.experiment.statistics import block_edges
from chainrule.inference.alignment import alignment, auprc
from chainrule.inference.costs import state_bytes
from chainrule.nn.recurrent import Recurrent
from chainrule.report import render
from chainrule.report.sentences import spoken
from chainrule.tasks.base import Evaluation, find_task
from chainrule.tasks.board import section_of
from chainrule.tasks.translate.board import TranslateBoard, about_data, about_rows, disputed, drawable, nearest, wrong
from chainrule.tasks.translate.metrics import judge
from chainrule.tasks.translate.task import translations

SENTENCES, SYMBOLS = (find_task("translate").metrics(counted) for counted in ("sentence", "symbol"))
SECTION = section_of("translate")
NATS = find_task("translate").validation("sentence")
SAY = {lang: section_of("translate").catalogue(lang).counting("sentence") for lang in ("en", "ko")}


@torch.no_grad()
@pytest.mark.parametrize("name", ["transformer", "gru:additive", "lstm:multiplicative"])
def test_alignments_sum_to_one_over_the_source_and_are_zero_at_pads(name) -> None:
    chosen, _, attention = name.partition(":")
    found = model_type(chosen, "translate")
    torch.manual_seed(2)
    model = found.build(
        found.configure("tiny", vocab_size=6, source_vocab_size=7, **({"attention": attention} if attention else {}))
    )
    ends = torch.tensor([5, 2])
    weights = alignment(model, torch.randint(7, (2, 5)), ends, torch.randint(6, (2, 4)))
    assert weights.shape == (2, 4, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4))
    assert not weights[1, :, 2:].any() and weights[0].min() > 0


@torch.no_grad()
def test_the_alignment_of_a_transformer_is_the_mean_softmax_of_its_last_cross_attention() -> None:
    found = model_type("transformer", "translate")
    torch.manual_seed(3)
    model = found.build(found.configure("tiny", vocab_size=6, source_vocab_size=7)).double().eval()
    for weight in model.parameters():
        weight += 0.3 * torch.randn_like(weight)
    source, target, asked = torch.randint(7, (1, 5)), torch.randint(6, (1, 3)), []
    cross = model.blocks[-1].cross
    handle = cross.queries.register_forward_hook(lambda _m, _i, out: asked.append(out))
    model(torch.cat([torch.tensor([[6]]), target[:, :-1]], 1), state := model.encode_prompt(source, torch.tensor([5])))
    handle.remove()
    q, k = asked[0].view(3, 2, 8).transpose(0, 1), state.source_keys[-1][0]
    q = torch.nn.functional.rms_norm(q, (8,))
    expected = (q @ k.transpose(1, 2) / 8**0.5).softmax(-1).mean(0)
    torch.testing.assert_close(alignment(model, source, torch.tensor([5]), target)[0], expected, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("attention", ["additive", "multiplicative"])
def test_the_alignment_of_a_recurrent_network_is_the_softmax_of_its_scores_by_hand(attention) -> None:
    """e_ts = v . tanh(W h_t + U s_s), or h_t . U s_s, term by term."""
    found = model_type("gru", "translate")
    torch.manual_seed(4)
    model = found.build(found.configure("tiny", vocab_size=6, source_vocab_size=7, attention=attention)).double().eval()
    for weight in model.parameters():
        weight += 0.3 * torch.randn_like(weight)
    source, target = torch.tensor([[4, 0, 6, 2, 1]]), torch.tensor([[5, 1, 3]])
    read_SD = model.encoder(model.source_embedding(source), torch.tensor([5]))[0][0]
    begin = model.encode_prompt(source, torch.tensor([5])).parts_BLH[0]
    hidden_TD = Recurrent.forward(model.stack, model.embedding(torch.tensor([[6, 5, 1]])), begin)[0][0]
    weights_TS = alignment(model, source, torch.tensor([5]), target)[0]
    for h, row in zip(hidden_TD, weights_TS, strict=True):
        keys = [model.keys.weight @ s for s in read_SD]
        if attention == "additive":
            query = model.queries.weight @ h + model.queries.bias
            e = [float(model.score.weight[0] @ (query + key).tanh()) for key in keys]
        else:
            e = [float(h @ key) for key in keys]
        powers = [math.exp(x) for x in e]
        expected = torch.tensor([x / sum(powers) for x in powers], dtype=torch.double)
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("name", ["transformer", "gru:additive"])
def test_a_pair_is_aligned_in_a_batch_as_it_is_alone(name) -> None:
    chosen, _, attention = name.partition(":")
    found = model_type(chosen, "translate")
    torch.manual_seed(5)
    model = found.build(
        found.configure("tiny", vocab_size=6, source_vocab_size=7, **({"attention": attention} if attention else {}))
    )
    sources, targets = torch.randint(7, (2, 5)), torch.randint(6, (2, 3))
    together = alignment(model, sources, torch.tensor([5, 2]), targets)
    alone = alignment(model, sources[1:, :2], torch.tensor([2]), targets[1:])
    torch.testing.assert_close(together[1:, :, :2], alone, rtol=0, atol=1e-6)


def test_what_attends_to_nothing_has_no_alignment() -> None:
    found = model_type("gru", "translate")
    model = found.build(found.configure("tiny", vocab_size=6, source_vocab_size=7, attention="none"))
    with pytest.raises(UserError, match="attends to no source"):
        alignment(model, torch.zeros(1, 3, dtype=torch.long), torch.tensor([3]), torch.zeros(1, 2, dtype=torch.long))


@pytest.mark.parametrize(
    ("weights", "truth", "value"),
    [
        ([[0.9, 0.1], [0.2, 0.8]], [0, 1], 1.0),  # both true cells come first
        ([[0.1, 0.9], [0.8, 0.2]], [0, 1], (1 / 3 + 2 / 4) / 2),  # third and fourth
        ([[0.5, 0.5], [0.5, 0.5]], [0, 1], 0.5),  # all equal: one step, precision 2 of 4
        ([[0.7, 0.3], [0.6, 0.4]], [0, 1], (1 + 2 / 3) / 2),  # first and third
    ],
)
def test_average_precision_by_hand(weights, truth, value) -> None:
    assert auprc(np.array(weights), truth) == pytest.approx(value)


def sacrebleu_of(table) -> float:
    """chrF of every source held against its target."""
    pairs = [line.split("\t") for line in table.read_text().splitlines()[1:]]
    return CHRF().corpus_score([s for s, _ in pairs], [[t for _, t in pairs]]).score


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_page_shows_translations_and_where_models_looked(lang, tmp_path) -> None:
    rng = random.Random(1)
    for part, count in (("train", 120), ("valid", 20), ("test", 60)):
        words = ["<b>", "&amp;", *(f"kat{rng.randrange(400)}" for _ in range(400))]  # no closed set: judged by chrF
        rows = [rng.choices(words, [400, 400, *[1] * 400], k=rng.randint(3, 6)) for _ in range(count)]
        lines = [" ".join(row) + "\t" + " ".join(reversed(row)) for row in rows]
        (tmp_path / f"{part}.tsv").write_text("source\ttarget\n" + "\n".join(lines) + "\n")
    board = compare(
        tmp_path, tmp_path / "board", models="gru:attention=none,gru", budget="1epochs", task="translate",
        set={"size": "tiny"}, lang=lang, threads=1, tokenizer="bpe:300",
    )  # fmt: skip
    rows = {row["model"]: row for row in board["rows"]}
    page = (tmp_path / "board" / "report.html").read_text()
    assert page.index('id="h-table"') < page.index('id="h-pairs"') < page.index('id="h-curves"')
    assert "GRU (attention=none)" in page and "<small>gru:attention=none" not in page
    loaded = load(tmp_path / "board" / "runs" / "gru", threads=1)
    part = find_task("translate").read_split(loaded, tmp_path / "test.tsv", {"on_bad": "stop"})
    ended = [found[0].finished for found in translations(loaded, part.source_ids)]
    assert rows["gru"]["unended"] == pytest.approx(ended.count(False) / 60)
    assert {"bleu", "chrf", "exact_match", "error_rate", "interval", "gap"} <= rows["gru"].keys()
    assert rows["gru:attention=none"]["alignments"] == [] and len(rows["gru"]["alignments"]) == 2
    assert 5 < len(board["examples"]) <= 8
    assert all(list(pair["outputs"]) == ["gru:attention=none", "gru"] for pair in board["examples"])
    sources = [line.split("\t")[0] for line in (tmp_path / "test.tsv").read_text().splitlines()[1:]]
    assert all(pair["source"] in sources for pair in board["examples"])
    assert board["references"]["copying"] == sacrebleu_of(tmp_path / "test.tsv")
    known = [line.split("\t") for line in (tmp_path / "train.tsv").read_text().splitlines()[1:]]
    test = [line.split("\t") for line in (tmp_path / "test.tsv").read_text().splitlines()[1:]]
    looked_up = [known[i][1] for i in nearest([s for s, _ in known], [s for s, _ in test])]
    assert board["references"]["nearest"] == judge(looked_up, [t for _, t in test]).chrf
    assert {"en": "nearest source", "ko": "최근접 원문"}[lang] in (tmp_path / "board" / "report.html").read_text()
    assert "is no worse" in board["verdict"]["text"] and "그대로 출력해도" in board["verdict"]["text_ko"]
    best = max(rows.values(), key=lambda row: row["chrf"])
    assert board["verdict"]["best"] in (best["model"], *board["verdict"]["tie"])
    page = (tmp_path / "board" / "report.html").read_text()
    assert f"{rows['gru']['chrf']:.2f}</b>" in page and f"{board['references']['copying']:.2f}" in page
    assert html.escape(rows["gru"]["signature"]) in page.split("<script")[0] and "nrefs:1" in rows["gru"]["signature"]
    caveat, axis = {"en": ("by themselves no explanation", "source →"), "ko": ("설명하지는 않습니다", "원문 →")}[lang]
    assert page.split("<script")[0].count(caveat) == page.count('svg class="alignment"') == page.count(f">{axis}<") == 2
    curve = {"en": "nats per target token", "ko": "목표 토큰당 nat"}[lang]
    assert json.dumps(curve) in page
    assert 'dl class="translated"' in page and 'svg class="alignment"' in page
    assert "<b>" not in page.split('<dl class="translated">')[1].split("</dl>")[0].replace("<b></b>", "")
    low, high = rows["gru"]["interval"]
    assert low <= rows["gru"]["chrf"] <= high
    assert json.loads((tmp_path / "board" / "board.json").read_text())["metric"] == "chrf"


def test_names_in_a_picture_are_escaped() -> None:
    found = {"source": ["<i>", "b"], "target": ["&"], "percent": [[100, 0]]}
    drawn = render({"rows": [{"model": "gru", "alignments": [found]}]}, section=SECTION)
    assert (
        "<i>" not in drawn and "&lt;i&gt;</text>" in drawn and drawn.count("<title>") == 2
    )  # of the page and of a cell


@pytest.mark.parametrize(
    ("name", "settings", "each"),
    [
        ("gru", {"attention": "none"}, 0),
        # of a source symbol: a key of 16, a value of both directions, and the attention that it has had
        ("gru", {"attention": "multiplicative"}, 4 * (16 + 16 + 1)),
        # in 2 layers a key and a value, 16 wide, of a source symbol and of a target symbol
        ("transformer", {}, 4 * 2 * (16 + 16) * 2),
    ],
)
def test_what_is_kept_of_the_source_counts_as_memory(name, settings, each) -> None:
    """Else a row that attends would pass for one of constant memory, and win ties by it."""
    found = model_type(name, "translate")
    model = found.build(found.configure("tiny", vocab_size=7, source_vocab_size=5, **settings))
    fixed, growing = state_bytes(model, decide("cpu", "fp32", 1), TranslateBoard().initial_state)
    assert growing == each
    held = model.encode_prompt(torch.zeros(1, 11, dtype=torch.long))
    _, state = model(torch.zeros(1, 11, dtype=torch.long), held)
    assert state.nbytes() == fixed + 11 * growing


def test_the_pairs_that_rows_differ_on_most_are_shown_beside_the_others() -> None:
    """Spreads 0, 7, 2, 9, 5, 1: the fourth is shown anyway."""
    one, other = np.array([4.0, 8, 3, 0, 6, 3]), np.array([4.0, 1, 5, 9, 1, 2])
    assert disputed([one, other], but=[3]) == [1, 4, 2]
    assert disputed([one, one], but=[3]) == disputed([one], but=[]) == []


def test_the_longest_pairs_that_fit_are_drawn() -> None:
    """Symbols of both sides 8, 7, 30, 12, 13; the third has too many, the last too few on one side."""
    ids = [[np.zeros(n, np.int32) for n in sizes] for sizes in ((5, 3, 25, 6, 11), (3, 4, 5, 6, 2))]
    part = PairPart(*[tuple("abcde")] * 2, *ids)
    assert drawable(part, [0, 1, 2, 3, 4]) == [0, 3] and drawable(part, [1, 2]) == [1]


def test_what_is_wrong_with_a_pair_is_its_own_figure() -> None:
    """Edits over symbols of the reference; or what the sentence's own chrF lacks to 100."""
    scores = judge(["a b", "the cat", ""], ["a c b d", "the cat", "x"])
    items = {"edits": scores.edits, "symbols": scores.sizes, "statistics": scores.statistics}
    symbols, sentences = (Evaluation(declared, items, np.arange(1, 4)) for declared in (SYMBOLS, SENTENCES))
    assert wrong(symbols).tolist() == [2 / 4, 0, 1]
    single = [100 - CHRF().corpus_score([h], [[r]]).score for h, r in (("a b", "a c b d"), ("the cat", "the cat"))]
    assert wrong(sentences)[:2].tolist() == pytest.approx(single)


@pytest.mark.parametrize("declared", [SENTENCES, SYMBOLS])
def test_few_pairs_are_resampled_one_by_one(declared) -> None:
    """An item is a whole pair here: blocks of 16 would leave 4 things to draw of 64."""
    ends = np.arange(1, 65)
    assert len(block_edges(ends, ends, declared[0].min_block)) == 64


def card(**changes):
    return {"duplicates": 0.0, "unseen": {"source": 0.0, "target": 0.0}, "tokenizer": "bpe:512", **changes}


def codes(found) -> list[str]:
    return [warning.code for warning in found]


def test_what_is_odd_about_pairs_is_told() -> None:
    news = {"source": 0.06, "target": 0.04}
    assert codes(about_data(card(), 500)) == []
    assert codes(about_data(card(), 499)) == ["little_test"]
    assert codes(about_data(card(duplicates=0.02), 500)) == ["duplicates"]
    assert codes(about_data(card(unseen=news), 500)) == ["unseen_source"]
    assert "6.0% of the words of the test sources" in about_data(card(unseen=news), 500)[0].to_json(SAY)["text"]
    spelled = card(unseen={"source": 1.0, "target": 0.5}, tokenizer="char:complete,word")
    assert codes(about_data(spelled, 500)) == ["unseen_target"]


def test_rows_that_are_odd_are_named_whichever_way_is_better() -> None:
    row = lambda label, **x: {"label": label, "empty": 0.0, "unended": 0.0, "chrf": 40.0, "error_rate": 0.4, **x}  # noqa: E731
    done = [
        row("A", empty=0.06),
        row("B", chrf=8.0, error_rate=1.2),
        row("C", doubling={"value": 0.04, "low": 0.03, "high": 0.06, "share": 0.02}),
        row("D"),
        row("E", unended=0.2),
    ]
    for (metric, *_), copying, near in ((SENTENCES, 8.0, 7.0), (SYMBOLS, 1.2, 1.3)):
        found = about_rows(done, {"copying": copying, "nearest": near}, metric, NATS)
        assert codes(found) == ["empty", "unended", "no_better_than_copying", "still_improving"]
        texts = [warning.to_json(SAY)["text"] for warning in found]
        assert [
            [name for name in "ABCDE" if f" {name}." in text or f" {name} (about 0.040 from twice" in text]
            for text in texts
        ] == [
            ["A"],
            ["E"],
            ["B"],
            ["C"],
        ]


@pytest.mark.parametrize(("declared", "between", "named"), [(SENTENCES, 20.0, "P"), (SYMBOLS, 0.3, "Q")])
def test_rows_that_a_look_up_beats_are_named_and_the_verdict_says_it(declared, between, named) -> None:
    done = [
        {"label": "P", "empty": 0.0, "unended": 0.0, "chrf": 10.0, "error_rate": 0.2},
        {"label": "Q", "empty": 0.0, "unended": 0.0, "chrf": 30.0, "error_rate": 0.4},
    ]
    metric, copying = declared[0], 0.0 if declared is SENTENCES else 9.0
    (warning,) = about_rows(done, {"copying": copying, "nearest": between}, metric, NATS)
    assert warning.code == "no_better_than_nearest" and warning.to_json(SAY)["text"].endswith(f"source: {named}.")
    for row in done:
        told = spoken(TranslateBoard().remark({"references": {"nearest": between}}, row, declared), SAY)
        shown = metric.number(between)
        assert (shown in told["text"], shown in told["text_ko"]) == (row["label"] == named,) * 2


def test_the_nearest_source_by_hand() -> None:
    """Trigrams with marked edges. 'abcd': ^ab abc bcd cd$; 'abce' shares two of four with it, one with 'abxx'."""
    train = ["zzzz", "abxx", "abcd", "abcd!", "ABCD"]
    assert nearest(train, ["abce", "zzz", "abcd", "qqqq", "abcd!"]).tolist() == [2, 0, 2, 0, 3]
    assert nearest(["abcd efgh", "abcq"], ["abcd"]).tolist() == [1]  # 2*2/8, though the other shares three: 2*3/13
