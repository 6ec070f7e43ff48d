"""Every task's report: well-formed, complete in both languages, safe from hostile texts, valid before results."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from copy import deepcopy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar

import pytest

import chainrule
from chainrule.report import ReportSection, render
from chainrule.report.messages import LANGUAGES
from chainrule.tasks.base import find_task
from chainrule.tasks.board import section_of

ROOT = Path(chainrule.__file__).parent
TASKS = sorted(path.parent.name.replace("_", "-") for path in ROOT.glob("tasks/*/report.py"))
HOSTILE = "<!--<script </script></style>\"'><img src=x onerror=alert(1)>{{ table }}{% raw %}\u2028"
PNG = "iVBORw0KGgoAAAANSUhEUg=="
VOID = {"meta", "link", "img", "input", "br"}


def metric(name: str, label: str, label_ko: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "label": label,
        "label_ko": label_ko,
        "unit": "",
        "higher_is_better": False,
        "digits": 3,
        **more,
    }


ACCURACY = metric("accuracy", "accuracy", "정확도", higher_is_better=True)
PSNR = metric("psnr", "PSNR", "PSNR", unit="dB", digits=2, higher_is_better=True)
SHARE = {"unit": "%", "digits": 0, "higher_is_better": True}
CONFUSION = {
    "labels": ["yes", "no"],
    "others": 1,
    "counts": [[7, 1, 0], [2, 5, 1], [0, 0, 0]],
    "worst": [{"true": "no", "called": "yes", "count": 2}],
}
TASK_BOARDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "generate": (
        {
            "metrics": [metric("bits_per_byte", "bits per byte", "바이트당 비트")],
            "prompt": "To be",
            "ladder": [{"n": 1, "value": 4.5}, {"n": 2, "value": 3.5}],
            "references": {"xz": 2.7, "uniform": 8.0, "entropy0": 4.8},
            "growth": {
                "lengths": [64, 128],
                "rows": [
                    {
                        "model": "gru",
                        "seconds": [0.1, 0.2],
                        "bytes": [64, 64],
                        "time_exponent": 1.0,
                        "memory_exponent": -0.0,
                    }
                ],
            },
        },
        {
            "bits_per_byte": 2.1,
            "samples": ["or not", "more"],
            "memory": [{"visible": 0, "value": 4.0}, {"visible": 8, "value": 2.1}],
            "context": None,
        },
    ),
    "series": (
        {
            "metrics": [
                metric("nats_per_value", "nats per value", "값당 nat"),
                metric("coverage_80", "80% coverage", "80% 구간 포함률", **SHARE),
            ],
            "references": {"naive": 3.4},
            "forecast": {"column": "rain", "steps": 2, "values": [1.0, 3.0, 2.0, 5.0]},
        },
        {
            "nats_per_value": 2.5,
            "coverage_80": 0.775,
            "forecast": {"low": [1.0, 1.0], "middle": [2.0, 3.0], "high": [4.0, 5.0]},
        },
    ),
    "tag": ({"metrics": [ACCURACY], "references": {"guessing": 0.5}}, {"accuracy": 0.75, "confusion": CONFUSION}),
    "classify": ({"metrics": [ACCURACY], "references": {"guessing": 0.5}}, {"accuracy": 0.75, "confusion": CONFUSION}),
    "classify-images": (
        {"metrics": [ACCURACY], "references": {"guessing": 0.5}, "sheet": [{"png": PNG, "label": "cat"}]},
        {
            "accuracy": 0.75,
            "confusion": CONFUSION,
            "mistakes": [{"png": PNG, "true": "cat", "called": "dog", "p": 0.9}],
        },
    ),
    "codes": (
        {"metrics": [PSNR], "references": {"mean_image": 13.2}, "originals": [PNG]},
        {"psnr": 20.25, "again": [PNG]},
    ),
    "draw": (
        {
            "metrics": [metric("bits_per_image_token", "bits per image token", "이미지 토큰당 비트")],
            "asked": [{"png": PNG, "label": "a red ring"}],
        },
        {"bits_per_image_token": 5.0, "best_possible": [PNG], "drawn": [PNG], "nearest": [PNG]},
    ),
    "translate": (
        {
            "metrics": [metric("chrf", "chrF", "chrF", digits=2, higher_is_better=True)],
            "references": {"copying": 10.5, "nearest": 60.25},
            "examples": [{"source": "kat", "target": "cat", "outputs": {"gru": ""}}],
        },
        {
            "chrf": 40.0,
            "signature": "nrefs:1",
            "alignments": [{"source": ["k", "at"], "target": ["c"], "percent": [[60, 40]]}],
        },
    ),
    "fill": (
        {
            "metrics": [metric("masked_accuracy", "masked accuracy", "마스크 정확도")],
            "references": {"unigram_nats": 3.3},
        },
        {"masked_accuracy": 0.4},
    ),
}


def make_board(task: str) -> dict[str, Any]:
    """A finished board of a task: one row with everything its section reads, and one that failed."""
    more, row = deepcopy(TASK_BOARDS[task])
    common = {
        "model": "gru",
        "label": "GRU",
        "status": "done",
        "params": 1234,
        "train_seconds": 4.0,
        "train_tokens": 5000,
        "gap": {"value": 0.0, "low": 0.0, "high": 0.0},
        "tokens_per_second_train": 1250.0,
        "state_bytes_fixed": 64,
        "state_bytes_per_token": 8,
        "peak_memory_bytes": 1e7,
        "curve": [{"seconds": 1.0, "tokens": 1000, "value": 3.0}],
        "tokenizer": "byte",
        "train": {"lr": 0.001, "nesterov": True},
        "config": {"width": 7},
        "visible": 1024,
        "seeds": [],
    }
    value = row[more["metrics"][0]["name"]]
    return {
        "title": "board",
        "task": task.replace("_", "-"),
        "status": "interrupted",
        "created": "2026-11-30 10:00",
        "command": "chainrule compare x",
        "budget": {"text": "60s", "text_ko": "60초"},
        "learnt": "tokens",
        "data": {
            "name": "x",
            "unit": "lines",
            "counted": "byte",
            "parts": {"train": {"records": 9}},
            "sha256": "ab",
            "notes": ["One note."],
            "examples": ["to be"],
        },
        "machine": {
            "cpu": "CPU",
            "cores": 2,
            "threads": 2,
            "memory_bytes": 8e9,
            "device": "cpu",
            "torch": "2.13.0",
            "bf16": True,
        },
        "rows": [
            {**common, **row, "interval": [value - 0.1, value + 0.1]},
            {"model": "lstm", "label": "LSTM", "status": "failed", "error": "out of memory"},
        ],
        "warnings": [{"code": "little", "text": "Little data.", "text_ko": "데이터가 적습니다."}],
        "verdict": {"text": "Use GRU.", "text_ko": "GRU를 쓰십시오.", "best": "gru", "tie": [], "confidence": "clear"},
        **more,
    }


class Page(HTMLParser):
    """Tags, ids, headings and texts of a page; a tag that is not closed, or closed twice, is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict[str, str | None]]] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.sections: list[list[str]] = []
        self.texts: list[tuple[str, bool]] = []
        self.wrong: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag == "section":
            self.sections.append([])
        if tag == "h2" and self.sections:
            self.sections[-1].append(dict(attrs).get("id") or "")
        if tag not in VOID:
            self.open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1][0] != tag:
            self.wrong.append(tag)
            return
        self.open.pop()

    def handle_data(self, data: str) -> None:
        inside = [tag for tag, _ in self.open]
        if data.strip() and not {"script", "style"} & set(inside):
            told = any("lang" in attributes for tag, attributes in self.open if tag != "html")
            self.texts.append((" ".join(data.split()), told))


def test_every_task_has_a_board_here() -> None:
    assert sorted(TASK_BOARDS) == TASKS


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("task", TASKS)
def test_pages_are_well_formed_and_every_section_has_a_heading(task: str, lang: str) -> None:
    page = Page(render(make_board(task), lang, section_of(task)))
    assert page.wrong == [] and page.open == []
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(set(ids)) == len(ids)
    assert {value for name, value in page.attributes if name == "aria-labelledby"} <= set(ids)
    assert all(headings and headings[0] for headings in page.sections)
    charts = {value for name, value in page.attributes if name == "data-chart"}
    view = json.loads(re.findall(r'id="view-data">(.*?)</script>', render(make_board(task), lang, section_of(task)))[0])
    assert charts <= view["charts"].keys()
    for chart in filter(None, view["charts"].values()):
        assert isinstance(chart["xShort"], str)  # the read-out shows it before a value of x


@pytest.mark.parametrize("task", TASKS)
def test_the_section_of_a_task_is_on_its_page(task: str) -> None:
    page = render(make_board(task), "en", section_of(task))
    plain = render(make_board(task), "en")
    assert len(Page(page).sections) > len(Page(plain).sections) or task == "fill"
    told = {
        "generate": "Samples from the same prompt",
        "series": "The last 2 values of rain",
        "tag": "Giving every word its most frequent tag reaches 0.500",
        "classify": "no was predicted as yes 2 times",
        "classify-images": "cat, predicted as dog (90%)",
        "codes": ">mean image<",
        "draw": "Nearest training images: GRU",
        "translate": "Copying the source reaches 10.50",
        "fill": "15% of the test set is masked",
    }
    assert told[task] in page


@pytest.mark.parametrize("task", TASKS)
def test_hostile_text_anywhere_stays_text(task: str) -> None:
    board = make_board(task)
    kept = {"status", "task", "metrics", "learnt", "counted", "model", "best"}

    def poison(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item if key in kept else poison(item) for key, item in value.items()}
        if isinstance(value, list):
            return [poison(item) for item in value]
        return value + HOSTILE if isinstance(value, str) else value

    for lang in LANGUAGES:
        quiet, page = (Page(render(b, lang, section_of(task))) for b in (board, poison(board)))
        assert page.tags == quiet.tags and page.wrong == [] and page.open == []
        assert not [name for name, _ in page.attributes if name.startswith("on")]


@pytest.mark.parametrize("task", TASKS)
def test_a_hostile_model_name_stays_text(task: str) -> None:
    page = json.loads(json.dumps(make_board(task)).replace('"gru"', json.dumps("gru" + HOSTILE)))
    assert (
        Page(render(page, "en", section_of(task))).tags == Page(render(make_board(task), "en", section_of(task))).tags
    )


@pytest.mark.parametrize("task", TASKS)
def test_korean_pages_are_korean_and_mark_what_is_not(task: str) -> None:
    page = Page(render(make_board(task), "ko", section_of(task)))
    english = [text for text, told in page.texts if not told and re.search(r"(?:\b[a-z]{2,}\b[ ,.]+){4}", text)]
    assert english == []
    assert any(told and text == "One note." for text, told in page.texts)


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("task", TASKS)
def test_a_board_without_results_shows_no_figures_and_no_errors(task: str, lang: str) -> None:
    board = make_board(task)
    board |= {
        "status": "running",
        "rows": [{"model": "gru"}, {"model": "lstm", "status": "waiting"}],
        "verdict": None,
        "warnings": None,
        "machine": None,
    }
    for key in ("ladder", "growth", "references", "examples", "sheet", "asked", "originals", "forecast", "prompt"):
        board[key] = None
    text = " ".join(text for text, _ in Page(render(board, lang, section_of(task))).texts)
    assert "–" in text and {"en": "Waiting", "ko": "대기 중"}[lang] in text
    assert "None" not in text and "nan" not in text


@pytest.mark.parametrize("task", TASKS)
def test_numbers_of_a_row_that_are_missing_are_dashes(task: str) -> None:
    board = make_board(task)
    for key in ("params", "train_seconds", "peak_memory_bytes", "tokens_per_second_train", board["metrics"][0]["name"]):
        board["rows"][0][key] = None
    rows = re.findall(r'<tr class="done.*?</tr>', render(board, "en", section_of(task)), flags=re.S)
    assert re.sub("<[^>]*>", " ", "".join(rows)).count("–") >= 5


@pytest.mark.parametrize("task", TASKS)
def test_pages_load_nothing(task: str) -> None:
    page = render(make_board(task), "en", section_of(task))
    assert set(re.findall(r"https?://[^\"' ]*", page)) == {"http://www.w3.org/2000/svg"}
    links = {value for name, value in Page(page).attributes if name in ("src", "href", "action", "data")}
    assert all(link.startswith(("data:", "#")) for link in links)
    assert "default-src 'none'" in page


def test_columns_derive_from_metrics() -> None:
    board = make_board("classify")
    board["metrics"] += [
        metric("psnr", "PSNR", "PSNR", unit="dB", digits=1),
        metric("found", "found", "찾음", **SHARE),
        metric("nobody", "nobody", "없음"),
    ]
    board["rows"][0] |= {"psnr": 21.26, "found": 0.625}
    page = render(board, "en", section_of("classify"))
    heads = re.findall(r'<th scope="col">(.*?)</th>', page.partition('<table class="board">')[2])
    assert heads[1:4] == ["accuracy", "PSNR, dB", "found"] and "nobody" not in heads
    row = re.findall(r'<tr class="done.*?</tr>', page, flags=re.S)[0]
    assert ">21.3</td>" in row and ">62%</td>" in row and "<b>0.750</b>" in row
    assert "positive is better" in page


class WaitSection(ReportSection):
    """A section of one file: its template and messages stand in the class."""

    references = ("median",)
    template = """{% extends "page.html" %}
{% block before_table %}<p>{{ say("wait_lead", off=board.references.median) }}</p>{% endblock %}"""
    messages: ClassVar = {
        "reference_median": {"en": "median wait", "ko": "중앙값"},
        "wait_lead": {"en": "The median is {off} h off.", "ko": "중앙값은 {off}시간 빗나갑니다."},
    }


def test_a_section_may_hold_its_template_and_messages() -> None:
    board = make_board("classify") | {"references": {"median": 2.5}}
    english, korean = (render(board, lang, WaitSection()) for lang in LANGUAGES)
    assert "<p>The median is 2.5 h off.</p>" in english and ">median wait</th>" in english
    assert "<p>중앙값은 2.5시간 빗나갑니다.</p>" in korean and ">중앙값</th>" in korean


def test_a_forecast_that_ran_off_to_infinity_is_not_drawn() -> None:
    board = make_board("series")
    board["rows"][0]["forecast"]["high"] = [float("inf"), 2.0]
    assert "<figure" not in render(board, "en", section_of("series"))


def test_every_message_of_the_page_is_used() -> None:
    budgets = [f"budget_{kind}" for kind in ("seconds", "epochs", "bytes", "tokens", "steps", "folds")]
    elsewhere = ("said_", "verdict_", "warning_", "remark_", "count_", "amount_", "note_", "phrase_", *budgets)
    elsewhere += ("least_", "not_ranked_", "decide_", "horizon_", "improving_")  # of verdicts and warnings
    composed = (
        "confidence_",
        "unit_",
        "part_",
        "state_",
        "items_",
        "reference_",
        "growth_",
        "memory_note",
        "evaluation_",
        "headline_",
        "error_",
        "measure_",
        "view_",
        "caption_",
        "belief_",
        "cell_",
        "stress_",
        "name_",
        "property_",
        "phrase_",
        "other_name",  # said by the server
        "span_",
    )
    for path in ROOT.rglob("messages.json"):
        near = [*path.parent.glob("**/*.*"), *(ROOT / "report").iterdir()]
        source = "".join(p.read_text(encoding="utf-8") for p in near if p.suffix in (".py", ".html", ".js"))
        keys = [
            key for key in json.loads(path.read_text(encoding="utf-8")) if not key.startswith((*elsewhere, *composed))
        ]
        assert [key for key in keys if not re.search(rf"\b{key}\b", source)] == []


def test_the_report_imports_no_task_no_model_and_no_trainer() -> None:
    code = "import sys, chainrule.report; print([m for m in sys.modules if m.startswith('chainrule.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert re.findall(r"chainrule\.(?!core|report)\w+", found) == []


def test_templates_and_scripts_are_small() -> None:
    files = [*ROOT.glob("report/templates/*"), *ROOT.glob("tasks/*/section.html")]
    assert files and max(len(path.read_text(encoding="utf-8").splitlines()) for path in files) <= 450


@pytest.mark.parametrize("task", ["classify", "tag", "classify-images"])
def test_the_methodology_of_labels_says_what_each_metric_is(task: str) -> None:
    section, metrics = section_of(task), find_task(task).metrics("token")
    english, korean = (section.catalogue(lang).message("method_task") for lang in ("en", "ko"))
    assert len(metrics) == 3
    for metric in metrics:
        assert metric.label.lower() in english.lower() and (metric.label_ko or metric.label) in korean
