"""The report page: everything a reader needs stands in the HTML without scripts, and no text of a board can act."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from chainrule.core.errors import UserError
from chainrule.core.recipe import Recipe
from chainrule.report import render as render_with
from chainrule.tasks.board import section_of
from tests.unit.boards import METRICS, failed_board, running_board, sample_board

HOSTILE = "<!--<script </script x=y><script>alert('x')</script><img src=x onerror=alert(1)>{{table}}{% raw %}\u2028"


def render(board: dict[str, Any], lang: str = "en") -> str:
    return render_with(board, lang, section_of("generate"))


class _Page(HTMLParser):
    """The content of a page for a browser without scripts: rows of a table, scripts, attributes."""

    def __init__(self, page: str, table: str = "board") -> None:
        super().__init__()
        self.table = table
        self.rows: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.in_board = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "table":
            self.in_board = ("class", self.table) in attrs
        if tag == "tr" and self.in_board:
            self.rows.append("")
        if tag == "script":
            self.scripts.append("")
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.in_board = False
        self.open.append("/" + tag)

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.in_board and self.rows:
            self.rows[-1] += data + " "


def _visible(page: str) -> str:
    """The page without its scripts, which carry every word of the language and every text of the board."""
    return re.sub(r"<script.*?</script>", "", page, flags=re.S)


def _text(page: str) -> str:
    return re.sub("<[^>]*>", " ", page)


def _row_of(page: str, label: str, table: str = "board") -> str:
    (found,) = [row for row in _Page(page, table).rows if row.startswith(label)]
    return found


def _costs_of(page: str, label: str) -> str:
    return _row_of(page, label, "board costs")


def test_a_board_comes_back_unchanged_from_the_page() -> None:
    board = sample_board()
    assert json.loads(_Page(render(board)).scripts[0]) == board


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_hostile_text_anywhere_stays_text(lang: str) -> None:
    board = failed_board()
    quiet = _Page(render(board, lang))

    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                HOSTILE + key if key in ("width", "batch_size") else key: poison(item) for key, item in value.items()
            }
        if isinstance(value, list):
            return [poison(item) for item in value]
        return value + HOSTILE if isinstance(value, str) else value

    poisoned = poison(board)
    for key in ("status", "task", "metrics"):  # looked up, or declared by the code
        poisoned[key] = board[key]
    page = _Page(render(poisoned, lang))
    assert set(page.tags) == set(quiet.tags)
    assert len(page.scripts) == len(quiet.scripts) == 3
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert json.loads(page.scripts[0])["prompt"] == "ROMEO:\n" + HOSTILE
    assert "<" not in page.scripts[0] + page.scripts[1]


def test_a_template_inside_a_text_is_not_filled() -> None:
    board = sample_board()
    board["rows"][0]["samples"] = ["{{ title }} and {% include 'page.css' %}"]
    assert "{{ title }} and {% include &#39;page.css&#39; %}</p>" in _visible(render(board))


@pytest.mark.parametrize("board", [sample_board(), running_board(), failed_board()], ids=lambda board: board["status"])
def test_every_row_stands_in_the_table_without_scripts(board: dict[str, Any]) -> None:
    page = render(board)
    for row in board["rows"]:
        assert _row_of(page, row["label"])


def test_the_table_shows_the_numbers_and_the_differences() -> None:
    row = _row_of(render(sample_board()), "LSTM") + _costs_of(render(sample_board()), "LSTM")
    # 2.118 − 2.243 (n-gram) and 2.118 − 2.7143 (xz), by hand; 2.118 × 1.004 = 2.126472 bits per character
    for figure in (
        "2.118",
        "2.097",
        "2.141",
        "2.126",
        "−0.125",
        "−0.596",
        "347k",
        "45.0",
        "61.0k",
        "1.02 kB",
        "225 MB",
    ):
        assert figure in row
    assert "constant" in row
    assert "+ 2.05 kB per token" in _costs_of(render(sample_board()), "GPT")


def test_a_failed_row_shows_its_error_and_is_never_the_best() -> None:
    board = failed_board()
    board["verdict"]["best"] = "gpt"
    page = render(board)
    row = _row_of(page, "GPT")
    assert "Failed" in row
    assert "not finite at step 312" in row
    classes = re.findall(r'<tr class="([^"]*)"', page)
    assert classes == 2 * ["done", "done", "done", "done", "waiting", "failed"]  # results, costs


def test_a_running_board_says_so_and_shows_what_is_known() -> None:
    page = _visible(render(running_board()))
    assert "Still running." in page
    assert "2 of 6 models are done" in page
    assert "2.243" in _row_of(page, "n-gram")
    assert "Waiting" in _row_of(page, "LSTM")
    assert "training" in _row_of(page, "RNN")


def test_sentences_on_the_state_of_a_board_are_apart() -> None:
    assert "again to continue. 1 of 6 models failed" in " ".join(_text(_visible(render(failed_board()))).split())


def test_a_single_model_is_not_called_clearly_better() -> None:
    board = sample_board() | {"rows": sample_board()["rows"][:1]}
    board["verdict"] = {"text": "Use it.", "confidence": "clear", "best": board["rows"][0]["model"]}
    assert ">Only one model<" in render(board) and ">모델이 하나뿐임<" in render(board, "ko")
    assert ">Clear<" in render(sample_board() | {"verdict": board["verdict"]})


def test_a_row_that_was_not_reached_does_not_pretend_to_wait() -> None:
    assert "not reached" in _row_of(render(failed_board()), "GRU")


def test_a_row_in_training_when_the_comparison_was_stopped_is_not_called_training() -> None:
    board = failed_board()
    (row,) = [row for row in board["rows"] if row["model"] == "gru"]
    row["status"] = "running"
    assert "stopped before anything was measured" in _row_of(render(board), "GRU")
    assert "training" not in _row_of(render(board), "GRU")


@pytest.mark.parametrize("board", [{}, {"rows": None, "status": "running"}, {"rows": [{"model": "gru"}]}])
def test_a_board_with_almost_nothing_still_renders(board: dict[str, Any]) -> None:
    page = _visible(render(board))
    assert "No verdict yet" in page
    assert "None" not in page


def test_numbers_that_json_cannot_hold_become_dashes() -> None:
    board = sample_board()
    board["rows"][0]["bits_per_byte"] = math.nan
    board["rows"][0]["params"] = math.inf
    page = render(board)
    assert json.loads(_Page(page).scripts[0])["rows"][0]["bits_per_byte"] is None
    assert "nan" not in _row_of(page, "Markov")
    assert "inf" not in _row_of(page, "Markov")


def test_a_sample_of_broken_bytes_can_be_written_as_utf8() -> None:
    board = sample_board()
    board["rows"][0]["samples"] = ["a\udcff\x00b\x1b"]
    assert "a?␀b␛" in _visible(render(board)).encode("utf-8").decode("utf-8")


def test_the_page_refers_to_nothing_outside() -> None:
    page = render(sample_board())
    assert re.findall(r"https?://[^\"' ]*", page) == ["http://www.w3.org/2000/svg"]
    links = [value for name, value in _Page(page).attributes if name in ("src", "href", "action", "data")]
    assert {link[0] for link in links if link != "data:,"} == {"#"}
    assert not re.search(r"@import|url\((?!#)", page.replace("url(#${", "url(#"))
    assert "default-src 'none'" in page


def test_the_korean_page_is_korean() -> None:
    page = _visible(render(sample_board(), "ko"))
    assert '<html lang="ko">' in page
    assert "LSTM과 GRU가 바이트당 2.12비트로 무승부입니다." in page
    assert "시간을 네 배쯤 주면" in page
    assert "비교 결과" in page


def test_a_missing_translation_falls_back_to_english() -> None:
    board = sample_board()
    del board["verdict"]["text_ko"]
    assert "LSTM and GRU tie" in _visible(render(board, "ko"))


def test_an_unknown_language_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(UserError, match=r"'fr'.*en, ko"):
        render(sample_board(), "fr")


def test_a_board_over_symbols_speaks_of_symbols() -> None:
    board = sample_board()
    board["data"]["counted"], board["references"] = "symbol", {"xz": None, "uniform": 2.0, "entropy0": 1.98}
    board["metrics"] = [METRICS[0] | {"name": "bits_per_symbol", "label": "bits per symbol"}]
    for row in board["rows"]:
        row["bits_per_symbol"] = row.pop("bits_per_byte") / 2
    page = _visible(render(board))
    assert "1.059" in _row_of(page, "LSTM")
    assert "bits per symbol" in page and "sees only the last k symbols" in page and "2.05 kB per symbol" in page
    assert ">bits per character<" not in page
    assert "xz is a general" not in page and "thin mark" not in page
    assert not re.search(r"\btokens?\b", _text(page.partition('id="h-memory"')[2].partition('id="h-curves"')[0]))


def test_a_board_over_text_speaks_of_tokens() -> None:
    assert not re.search(r"\bsymbols?\b", _text(_visible(render(sample_board()))))


def test_two_rows_of_one_model_type_are_drawn_differently() -> None:
    board = sample_board()
    board["rows"] += [
        {**board["rows"][5], "model": f"gpt:positions={kind}", "label": kind} for kind in ("alibi", "rotary")
    ]
    styles = _styles(board)
    assert len(set(styles.values())) == len(styles) == 8
    assert styles["gpt"] == _styles(sample_board())["gpt"]


def _styles(board: dict[str, Any]) -> dict[str, int]:
    models = json.loads(_Page(render(board)).scripts[1])["models"]
    return {row["model"]: row["style"] for row in models}


def test_the_reach_is_where_a_curve_stays_within_a_hundredth_of_its_end() -> None:
    board = sample_board()
    # falls, dips at 4 to the last value, rises at 8, and settles from 16 on
    values = {0: 4.0, 1: 3.0, 4: 2.0, 8: 2.2, 16: 2.009, 32: 2.0}
    board["rows"][3]["memory"] = [{"visible": k, "value": value} for k, value in values.items()]
    page = render(board)
    heads = re.findall('<th scope="col">(.*?)</th>', page.partition('<table class="plain">')[2])
    (line,) = re.findall('<tr><th scope="row">useful context</th>(.*?)</tr>', page)
    assert re.findall("<td>(.*?)</td>", line)[heads.index("LSTM") - 1] == "16"


def test_of_many_contexts_the_table_holds_powers_of_two_and_the_end() -> None:
    board = sample_board()
    board["rows"][3]["memory"] = [{"visible": k, "value": 4.0 - k / 100} for k in range(101)]
    (table,) = re.findall('<table class="plain">.*?useful context.*?</table>', render(board), flags=re.S)
    lines = re.findall('<tr><th scope="row">([0-9,]+)</th>', table)
    assert lines == ["0", "1", "2", "4", "8", "16", "32", "64", "100", "128", "256", "512", "1,024"]


@pytest.mark.parametrize(
    ("lang", "told"),
    [
        ("en", ["its whole context, the last 5", "state carried: at least the last 1,024 tokens visible"]),
        ("ko", ["모델의 컨텍스트 전체, 직전 5개", "은닉 상태를 이어 감: 직전 토큰 1,024개 이상을 봄"]),
    ],
)
def test_how_rows_were_evaluated_is_said_in_the_language_of_the_page(lang: str, told: list[str]) -> None:
    page = _visible(render(sample_board(), lang))
    windows = {
        "en": "windows of 256 with stride 128: 128 to 256 tokens",
        "ko": "길이 256인 창을 128씩 이동: 앞의 토큰 128~256개",
    }
    for sentence in (*told, windows[lang]):
        assert f'<td class="wrap">{sentence}' in page


def test_rows_keep_the_order_in_which_they_were_given() -> None:
    board = sample_board()
    board["rows"].reverse()
    labels = [row.split("  ")[0].strip() for row in _Page(render(board)).rows[2:]]
    assert [label.split(" ")[0] for label in labels] == ["GPT", "GRU", "LSTM", "RNN", "n-gram", "Markov"]


def _facts(page: str) -> dict[str, str]:
    (found,) = re.findall('<dl class="headline">(.*?)</dl>', page)
    return dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", found))


def test_the_headline_is_facts() -> None:
    board = sample_board()
    board["verdict"] |= {"confidence": "clear", "best": "lstm", "tie": ["lstm"]}
    board["verdict"]["at_horizon"] = {"best": "gpt", "confidence": 0.85, "horizon": "450s"}
    rows = {row["model"]: row for row in board["rows"]}
    rows["gru"]["gap"] = {"value": 0.013, "low": 0.004, "high": 0.021}
    rows["ngram"]["gap"] = {"value": 0.125, "low": 0.1, "high": 0.15}
    page = render(board)
    assert "<h1>Use LSTM</h1>" in page
    facts = _facts(page)
    assert facts["Bits per byte"] == "2.118 (95% interval 2.097 to 2.141)"
    assert facts["Next"] == "GRU 2.131, worse by 0.013 (0.004 to 0.021)"
    assert facts["With more training"] == "GPT at 450 s (85% likely)"
    korean = _facts(render(board, "ko"))
    assert korean["더 오래 학습한다면"] == "450초 학습: GPT(확률 85%)"
    assert "<h1>LSTM을 쓰십시오</h1>" in render(board, "ko")


@pytest.mark.parametrize(
    ("sure", "said"), [(0.5, "GPT at 5 min (50% likely)"), (0.24, "open at 5 min: GPT is expected")]
)
def test_a_row_that_is_unlikely_to_be_the_best_later_is_not_recommended_for_it(sure: float, said: str) -> None:
    board = sample_board()
    board["verdict"] |= {"confidence": "clear", "best": "lstm", "tie": ["lstm"]}
    board["verdict"]["at_horizon"] = {"best": "gpt", "confidence": sure, "horizon": "300s"}
    assert _facts(render(board))["With more training"].startswith(said)


@pytest.mark.parametrize("better", [True, False])
def test_the_mixture_is_not_the_next_row_but_a_fact_of_its_own(better: bool) -> None:
    board = sample_board()
    rows = {row["model"]: row for row in board["rows"]}
    gap = {"value": -0.049, "low": -0.053, "high": -0.045}
    board["rows"].append(
        rows["gru"] | {"model": "mix", "label": "Mix (LSTM + GRU)", "bits_per_byte": 2.069, "gap": gap}
    )
    rows["gru"]["gap"] = {"value": 0.013, "low": 0.004, "high": 0.021}
    mix = {"parts": ["lstm", "gru"], "value": 2.069, "gap": gap, "better": better}
    board["verdict"] |= {"confidence": "clear", "best": "lstm", "tie": ["lstm"], "facts": {"mix": mix}}
    facts = _facts(render(board))
    assert facts["Next"].startswith("GRU 2.131")
    assert facts.get("Mixture") == ("LSTM + GRU: 2.069, better by 0.049 (0.045 to 0.053)" if better else None)


def test_the_next_row_of_a_metric_that_rises_is_the_one_below() -> None:
    board = sample_board()
    board["metrics"] = [METRICS[0] | {"name": "accuracy", "label": "accuracy", "higher_is_better": True}]
    board["verdict"] |= {"confidence": "clear", "best": "lstm", "tie": ["lstm"]}
    for k, row in enumerate(board["rows"]):
        row |= {"accuracy": 0.9 - k / 10, "interval": None, "gap": {"value": -k / 10, "low": -k / 10, "high": -k / 10}}
    board["verdict"]["best"] = "markov"
    assert _facts(render(board))["Next"] == "n-gram (n = 6) 0.800, worse by 0.100 (0.100 to 0.100)"


@pytest.mark.parametrize(
    ("unit", "english", "korean"),
    [
        ("bytes", "training 1,234 bytes, test 56 bytes", "학습 1,234바이트, 테스트 56바이트"),
        ("records", "training 1,234 records, test 56 records", "학습 레코드 1,234개, 테스트 레코드 56개"),
        ("values", "training 1,234 values, test 56 values", "학습 값 1,234개, 테스트 값 56개"),
        ("tokens", "training 1,234 tokens, test 56 tokens", "학습 토큰 1,234개, 테스트 토큰 56개"),
    ],
)
def test_sizes_of_the_data_are_written_as_each_language_writes_them(unit: str, english: str, korean: str) -> None:
    board = sample_board()
    board["data"] |= {"name": "d", "parts": {"train": {unit: 1234}, "test": {unit: 56}}}
    assert _facts(render(board))["Data"] == f"d: {english}"
    assert _facts(render(board, "ko"))["데이터"] == f"d: {korean}"


def test_a_tie_names_the_tied_rows_and_what_would_decide_it() -> None:
    board = sample_board()
    board["verdict"] |= {"confidence": "tie", "tie": ["lstm", "gru"], "best": "lstm"}
    board["verdict"]["would_decide"] = {"text": "About 4 times as much test data.", "text_ko": "테스트 데이터 약 4배."}
    facts = _facts(render(board))
    assert facts["Next"] == "tied with GRU"
    assert facts["What would decide it"] == "About 4 times as much test data."
    assert _facts(render(board, "ko"))["판정에 필요한 것"] == "테스트 데이터 약 4배."


@pytest.mark.parametrize("reasons", [True, False], ids=["list", "one"])
def test_a_row_that_is_not_ranked_is_marked_with_its_reason(reasons: bool) -> None:
    board = sample_board()
    board["verdict"] |= {"confidence": "clear", "best": "lstm", "tie": ["lstm"]}
    reason = {"text": "7 steps, not trained", "text_ko": "7스텝, 학습되지 않음"}
    (row,) = [row for row in board["rows"] if row["model"] == "gpt"]
    row |= {"eligible": False, "not_ranked": [reason] if reasons else reason}
    assert "not ranked" in _row_of(render(board), "GPT") and "7 steps, not trained" in _row_of(render(board), "GPT")
    assert "7스텝, 학습되지 않음" in _row_of(render(board, "ko"), "GPT")
    assert _facts(render(board))["Not ranked"] == "GPT" and "not ranked" not in _row_of(render(board), "LSTM")


def test_the_best_row_has_no_difference_to_itself() -> None:
    board = sample_board()
    for row in board["rows"]:
        row["gap"] = {"value": 0.5, "low": 0.4, "high": 0.6}
    board["rows"][3]["gap"] = {"value": 0.0, "low": 0.0, "high": 0.0}
    del board["rows"][2]["gap"]
    board["verdict"] |= {"best": "lstm", "facts": {}}
    page = render(board)
    assert "+0.000" not in page and "+0.500" in _row_of(page, "GRU") and "+0.500" not in _row_of(page, "RNN")
    board["verdict"] |= {"best": "gru", "facts": {"order": ["lstm", "gru"]}}
    assert "+0.000" not in render(board)
    board["verdict"]["facts"]["order"] = ["gru", "lstm"]  # a row that differs by nothing from another one
    assert "+0.000" in _row_of(render(board), "LSTM")


@pytest.mark.parametrize(("best", "repeated"), [("ngram", False), ("lstm", True)])
def test_the_difference_to_the_baseline_stands_once_where_the_baseline_is_the_best_row(
    best: str, repeated: bool
) -> None:
    board = sample_board()
    for row in board["rows"]:
        row["gap"] = {"value": 0.5, "low": 0.4, "high": 0.6}
    board["verdict"] |= {"best": best, "facts": {"order": [best]}}
    headings = " ".join(_Page(render(board)).rows[:2])
    assert "best row, paired" in headings and ("n-gram" in headings) == repeated


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("the worker process ended with status -9", "작업 프로세스가 종료 코드 -9로 끝났습니다."),
        ("RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried", "메모리가 부족합니다("),
        ("ar: order 12 needs at least 26 values in a row; set model.order", "ar: 차수 12에는 연속된 값이 적어도 26개"),
    ],
)
def test_reasons_of_failed_rows_are_korean_on_a_korean_page(error: str, told: str) -> None:
    board = failed_board()
    board["rows"][-1]["error"] = error
    page = render(board, "ko")
    assert f"<span>{told}" in page
    board["rows"][-1]["error"] = "nobody knows this"
    assert '<span lang="en">nobody knows this</span>' in render(board, "ko")


def test_warnings_and_commands_stand_above_the_results() -> None:
    page = render_with(sample_board(), "en", section_of("generate"), ["chainrule generate 'a & b/best'"])
    places = [page.index(f'id="h-{name}"') for name in ("warnings", "use", "memory", "table", "costs")]
    assert places == sorted(places)
    assert "<code>chainrule generate &#39;a &amp; b/best&#39;</code>" in page
    assert 'id="h-use"' not in render(sample_board())
    assert 'id="h-warnings"' not in render(sample_board() | {"warnings": []})


def test_recipes_are_differences_from_the_default() -> None:
    default = Recipe().model_dump(mode="json")
    board = sample_board()
    board["rows"][3]["train"] = default | {"lr": 0.004, "stateful": False}
    board["rows"][4]["train"] = default
    board["rows"][5]["train"] = default | {"betas": [0.9, 0.95]}
    lines = dict(re.findall('<tr><th scope="row">(.*?)</th><td class="wrap">(.*?)</td></tr>', render(board)))
    assert lines["LSTM"] == "lr 0.004, stateful no" and lines["GRU"] == "the default"
    assert lines["GPT"] == "betas [0.9, 0.95]"


def test_the_axis_of_the_memory_curve_shows_the_differences_between_the_best() -> None:
    board = sample_board()
    charts = json.loads(_Page(render(board)).scripts[1])["charts"]
    ends = sorted(row["memory"][-1]["value"] for row in board["rows"])
    ceiling = charts["memory"]["y"]["ceiling"]
    near = [value for value in ends if value <= 1.15 * ends[0]]
    assert near[-1] < ceiling < ends[-1] and len(near) == 5
    assert (near[-1] - near[0]) / (ceiling - near[0]) >= 0.5
    assert "ceiling" not in charts["memory-whole"]["y"]
    assert charts["memory"]["series"] == charts["memory-whole"]["series"]


def test_learning_curves_go_on_to_the_horizon() -> None:
    """The change that the verdict expects of the test figure is added to the end of the validation curve."""
    board = sample_board()
    board["validation"] = METRICS[0]
    (row,) = [row for row in board["rows"] if row["model"] == "gru"]
    row |= {"bits_per_byte": 2.0, "train_seconds": 45.0, "train_tokens": 3000}
    row["curve"] = [
        {"seconds": 22.5, "tokens": 1500, "value": 2.5}, {"seconds": 45.0, "tokens": 3000, "value": 2.25},
    ]  # fmt: skip
    found = {"model": "gru", "value": 1.75, "low": 1.5, "high": 1.875}
    board["verdict"]["at_horizon"] = {"best": "gru", "confidence": 0.9, "horizon": "450s", "ranking": [found]}
    page = render(board)
    charts = json.loads(_Page(page).scripts[1])["charts"]
    for clock, x in (("seconds", 450.0), ("tokens", 30000.0)):
        (line,) = [one for one in charts[f"curves-{clock}"]["series"] if one["model"] == "gru"]
        assert line["range"] == [x, 1.75, 2.125] and line["flat"][1] == [x, 2.0]
    assert "continue each model to 450 s" in page and "450초 시점까지 연장한 추정치" in render(board, "ko")
    assert [one["model"] for one in charts["curves-seconds"]["series"] if "range" in one] == ["gru"]
    for other in ({"validation": METRICS[1]}, {"verdict": board["verdict"] | {"at_horizon": None}}):
        assert "continue each model to" not in render(board | other)
    epochs = {**board["verdict"]["at_horizon"], "horizon": "30epochs"}
    page = render(board | {"verdict": board["verdict"] | {"at_horizon": epochs, "confidence": "clear"}})
    assert (
        "continue each model to" not in page and _facts(page)["With more training"] == "GRU at 30 epochs (90% likely)"
    )
