"""Charts and tables as files: the same points as in the page, readable by other programs, in every task."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pandas
import pytest
from PIL import Image
from sklearn.metrics import f1_score, precision_recall_fscore_support

import chainrule
from chainrule import cli
from chainrule.core.errors import UserError
from chainrule.core.files import FolderLock
from chainrule.report import render, shapes
from chainrule.report.axes import axis
from chainrule.report.figures import write_figures
from chainrule.report.page import contents
from chainrule.report.plot import draw_chart
from chainrule.report.shapes import Area, Drawing, Line, Text
from chainrule.report.sheets import Sheet
from chainrule.tasks.board import section_of
from chainrule.tasks.label_metrics import label_scores, macro_f1
from tests.unit.boards import sample_board
from tests.unit.test_report_sections import TASKS, make_board

SVG = "{http://www.w3.org/2000/svg}"


def write(board: dict[str, Any], folder: Path, lang: str = "en") -> dict[str, Path]:
    files, _ = write_figures(board, folder, lang, section_of(board["task"]))
    return {path.name: path for path in files}


def lines(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))


@pytest.mark.parametrize("lang", ["en", "ko"])
@pytest.mark.parametrize("task", TASKS)
def test_every_chart_and_table_is_written_in_every_format(task: str, lang: str, tmp_path: Path) -> None:
    board = make_board(task)
    found = contents(board, lang, section_of(task))
    files = write(board, tmp_path / "new" / "folder", lang)
    names = {name.rpartition(".")[0] for name in files}
    drawn = {name for name, chart in found.charts.items() if chart and any(one["points"] for one in chart["series"])}
    assert drawn <= names and {"results", "costs", "splits", "evaluations"} <= names
    for name in names:
        svg = ET.parse(files[f"{name}.svg"]).getroot()
        assert svg.tag == f"{SVG}svg"
        with Image.open(files[f"{name}.png"]) as image:
            image.load()
            width, height = (float(svg.get(side, 0)) for side in ("width", "height"))
            assert image.size == (round(2 * width), round(2 * height))
            assert len(image.getcolors(1 << 20) or []) > 2  # something is drawn
        assert len(files[f"{name}.csv"].read_text().splitlines()) >= 2
        assert (f"{name}.tex" in files) == (name not in drawn)


@pytest.fixture(scope="module")
def plays(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Path]]:
    """A board with a figure of many digits and a failed row, and its files."""
    board = sample_board() | {"task": "generate"}
    board["rows"][3]["bits_per_byte"] = 2.1181234567
    board["rows"][3]["intervals"] = {"bits_per_byte": [2.0971, 2.1413]}
    board["rows"][0] |= {"status": "failed", "error": "out of memory"}
    return board, write(board, tmp_path_factory.mktemp("figures"))


def test_the_file_of_a_chart_holds_its_points(plays: tuple[dict[str, Any], dict[str, Path]], tmp_path: Path) -> None:
    board, files = plays
    for row in board["rows"]:
        found = [line for line in lines(files["curves-seconds.csv"]) if line["model"] == row["model"]]
        assert [(float(p["training seconds"]), float(p["bits per byte"])) for p in found] == [
            (point["seconds"], point["value"]) for point in row["curve"]
        ]
    forecast = make_board("series")
    found = lines(write(forecast, tmp_path / "series")["forecast-0.csv"])
    assert [(p["low"], p["high"]) for p in found if p["model"] == "gru"] == [("1.0", "4.0"), ("1.0", "5.0")]
    assert [float(p[""]) for p in found if p["name"] == "observed"] == forecast["forecast"]["values"]


def test_results_have_all_digits_under_the_names_of_the_board(plays: tuple[dict[str, Any], dict[str, Path]]) -> None:
    board, files = plays
    results, costs = ({line["model"]: line for line in lines(files[f"{n}.csv"])} for n in ("results", "costs"))
    assert results["lstm"]["bits_per_byte"] == "2.1181234567" and results["lstm"]["bits_per_byte_high"] == "2.1413"
    assert costs["lstm"]["peak_memory_bytes"] == str(board["rows"][3]["peak_memory_bytes"])
    assert results["markov"]["status"] == "failed" and len(results) == len(board["rows"])


def test_a_line_is_drawn_where_its_values_are() -> None:
    """Straight axes: a value half way between two others is drawn half way between them."""
    row = {"model": "a", "name": "A", "style": 3, "points": [(0.0, 1.0), (50.0, 2.0), (100.0, 3.0)]}
    chart = {
        "series": [row], "about": "", "xName": "x", "yName": "y", "x": {"scale": "linear", "format": "plain"},
        "y": {"scale": "linear"},
    }  # fmt: skip
    (line,) = [shape for shape in draw_chart(chart).shapes if isinstance(shape, Line) and shape.width == 2]
    (x0, y0), (x1, y1), (x2, y2) = line.points
    assert x1 - x0 == pytest.approx(x2 - x1) and y0 - y1 == pytest.approx(y1 - y2) and y0 > y2
    ticks = {shape.text: shape for shape in draw_chart(chart).shapes if isinstance(shape, Text)}
    assert ticks["2"].y - 4 == pytest.approx(y1) and ticks["100"].x == pytest.approx(x2)


def test_a_line_above_the_axis_is_cut_and_its_name_has_an_arrow() -> None:
    rows = [
        {"model": "a", "name": "A", "style": 0, "points": [(1, 1.0), (2, 1.1)]},
        {"model": "b", "name": "B", "style": 1, "points": [(1, 1.2), (2, 9.0)]},
    ]
    chart = {
        "series": rows, "about": "", "xName": "", "yName": "", "x": {"scale": "log", "format": "plain"},
        "y": {"scale": "linear", "ceiling": 1.5},
    }  # fmt: skip
    drawn = draw_chart(chart)
    assert {"A", "B ↑"} <= {shape.text for shape in drawn.shapes if isinstance(shape, Text)}
    assert min(y for shape in drawn.shapes if isinstance(shape, Line) for _, y in shape.points) >= 29


@pytest.mark.parametrize(("low", "high"), [(1e-6, 2e-6), (0.1, 0.2), (8e11, 1e12)])
def test_the_labels_of_an_axis_differ(low: float, high: float) -> None:
    found = axis({"scale": "linear"}, [low, high])
    labels = [found.text(tick) for tick in found.ticks]
    assert len(set(labels)) == len(labels) >= 3 and not any("e" in label for label in labels)


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = "a<b>&\"'%_{}\\ \x1b../../x"
    board = json.loads(
        json.dumps(make_board("tag")).replace('"gru"', json.dumps(name)).replace('"GRU"', json.dumps(name))
    )
    files = write(board, tmp_path / "figures")
    assert {path.parent for path in files.values()} == {tmp_path / "figures"}
    texts = [element.text for element in ET.parse(files["results.svg"]).iter(f"{SVG}text")]
    assert "a<b>&\"'%_{}\\ ␛../../x" in texts
    assert lines(files["results.csv"])[0]["label"] == "a<b>&\"'%_{}\\ ␛../../x"


def test_labels_have_the_precision_and_recall_of_another_library(tmp_path: Path) -> None:
    board = make_board("tag")
    counts = [[7, 1, 0, 0], [2, 5, 1, 3], [0, 0, 0, 0], [1, 4, 0, 9]]
    names = ["a", "b", "never", "unseen"]
    pairs = [(names[t], names[c]) for t, line in enumerate(counts) for c, n in enumerate(line) for _ in range(n)]
    scores = sorted(label_scores(*map(list, zip(*pairs))), key=lambda row: row["label"])
    board["rows"][0] |= {
        "confusion": {"labels": names[:3], "others": 1, "counts": counts, "worst": []}, "labels": scores[:3],
    }  # fmt: skip
    found = lines(write(board, tmp_path)["labels-gru.csv"])
    oracle = precision_recall_fscore_support(*zip(*pairs), labels=names[:3], zero_division=0)
    assert macro_f1(scores) == pytest.approx(f1_score(*zip(*pairs), average="macro"))
    for k, line in enumerate(found):
        told = [float(line[name] or 0) for name in ("precision", "recall", "f1", "n")]
        assert told == pytest.approx([column[k] for column in oracle])
    assert [line["label"] for line in found] == ["a", "b", "never"] and found[2]["recall"] == ""
    assert ">정밀도<" in render(board, "ko", section_of("tag"))


def test_tables_in_latex_escape_what_it_would_act_on() -> None:
    table = Sheet("50%", ["model", "a_b & c"], [["GRU #1 {x}", "−0.5"], ["100 %", "–"]]).latex()
    assert r"GRU \#1 \{x\} & $-$0.5 \\" in table and r"100 \% & -- \\" in table and r"a\_b \& c" in table
    assert table.count(r"\\") == 3 and r"\toprule" in table


def test_csv_is_read_back_by_another_program(tmp_path: Path) -> None:
    table = Sheet("t", ["model", "n, size"], [["a,b", "1,024"], ['c"d', "−0.5"], ["e\nf", "–"]])
    (tmp_path / "t.csv").write_text(table.csv())
    found = pandas.read_csv(tmp_path / "t.csv")
    assert list(found["model"]) == ["a,b", 'c"d', "e f"]
    assert found["n, size"].fillna(0).tolist() == [1024.0, -0.5, 0.0]


def test_a_machine_without_korean_letters_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes._font_file.cache_clear()
    shapes._font.cache_clear()
    monkeypatch.setattr(shapes, "WIDE_FONTS", ("no such font.ttf",))
    monkeypatch.setattr(shapes, "FONTS", ("no such font.ttf",))
    board = make_board("fill")
    try:
        _, notes = write_figures(board, tmp_path, "ko", section_of("fill"))
        _, quiet = write_figures(board, tmp_path, "en", section_of("fill"))
    finally:
        shapes._font_file.cache_clear()
        shapes._font.cache_clear()
    assert "한글 글꼴" in notes[0] and quiet == []


def test_an_area_is_filled_and_a_dashed_line_has_gaps() -> None:
    drawn = Drawing(
        40,
        20,
        "t",
        [Area([(0, 0), (10, 0), (10, 20), (0, 20)], "#ff0000"), Line([(10, 10), (40, 10)], "#0000ff", 4, (10, 10))],
    )
    with Image.open(io.BytesIO(drawn.png())) as image:
        assert image.getpixel((10, 10)) == (255, 0, 0)
        assert [image.getpixel((x, 20)) for x in (30, 50, 70)] == [(0, 0, 255), (255, 255, 255), (0, 0, 255)]


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    text = "".join(f"{k} men went to mow, to mow a meadow of {k * k % 17} flowers.\n" for k in range(90))
    (folder / "text.txt").write_text(text)
    chainrule.compare(folder / "text.txt", folder / "board", models="markov,ngram:n=3", budget="1epochs", threads=1)
    return folder / "board"


@pytest.mark.parametrize("given", ["board", "board/board.json"])
def test_the_report_is_written_again(compared: Path, given: str, capsys: Any, tmp_path: Path) -> None:
    page = compared / "report.html"
    before = page.read_text()
    page.unlink()
    command = ["report", str(compared.parent / given), "--figures", str(tmp_path / "figures")]
    assert cli.main(command) == 0
    assert page.read_text() == before
    told = capsys.readouterr().out
    assert str(page) in told and f"{len(list((tmp_path / 'figures').iterdir()))} files" in told
    assert {"results.tex", "memory.svg", "curves-seconds.png"} <= {p.name for p in (tmp_path / "figures").iterdir()}
    assert re.search("<code>chainrule generate .*board/best", before)


def test_a_board_without_its_result_files_has_a_report_too(compared: Path, tmp_path: Path) -> None:
    shutil.copy(compared / "board.json", tmp_path / "copied.json")
    answer = chainrule.write_report(tmp_path / "copied.json", lang="ko")
    assert answer["report"] == str(tmp_path / "report.html") and answer["figures"] == []
    assert '<html lang="ko">' in (tmp_path / "report.html").read_text()


def test_a_comparison_that_is_running_keeps_its_board(compared: Path) -> None:
    board = (compared / "board.json").read_text()
    with FolderLock(compared):
        (compared / "board.json").write_text(board.replace('"status": "finished"', '"status": "running"'))
        try:
            chainrule.write_report(compared)
            assert '"status": "running"' in (compared / "board.json").read_text()
            assert "Still running." in (compared / "report.html").read_text()
        finally:
            (compared / "board.json").write_text(board)
    chainrule.write_report(compared)


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": 99, "rows": [], "task": "generate"}'])
def test_what_is_no_board_is_refused_in_one_line(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "board.json").write_text(content)
    for path in (tmp_path, tmp_path / "board.json"):
        with pytest.raises(UserError, match=r"board\.json: .*name the --out of a compare") as error:
            chainrule.write_report(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("lang", ["ko", "en"])
def test_a_page_stays_in_its_language_unless_another_is_asked_for(lang: str, compared: Path, tmp_path: Path) -> None:
    board = tmp_path / "board.json"
    shutil.copy(compared / "board.json", board)
    for asked in (lang, None):
        chainrule.write_report(board, lang=asked)
        assert f'<html lang="{lang}"' in (tmp_path / "report.html").read_text("utf-8")
    with pytest.raises(UserError, match=r"--figures .*board\.json: a file; give a folder"):
        chainrule.write_report(board, figures=str(board))


def test_the_reliability_table_is_shown_and_written(tmp_path: Path) -> None:
    board = make_board("classify")
    board["rows"][0] |= {
        "confusion": {"labels": ["a"], "others": 0, "counts": [[3]], "worst": []},
        "reliability": [{"confidence": 0.5, "accuracy": 0.25, "n": 4}, {"confidence": 0.9, "accuracy": 1.0, "n": 2}],
    }
    found = lines(write(board, tmp_path)["reliability-gru.csv"])
    assert [(line["confidence"], line["n"]) for line in found] == [("0.5", "4"), ("0.9", "2")]
    assert "평균 예측 확률" in render(board, "ko", section_of("classify"))
