"""The tab Compare: boards as the report has them, while they are made too."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chainrule.core import UserError

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from chainrule.explanation import export
from chainrule.serve import page
from chainrule.serve import service as serve_service
from chainrule.serve.app import application
from chainrule.serve.server import Settings, _greeting, listen
from chainrule.serve.service import Service, open_service
from tests.explain.page_scripts import call
from tests.serve.native_runs import train
from tests.unit.boards import running_board, sample_board

BEGINNING = """
const { speak } = await load("words"), compare = await load("compare");
speak(given.words);
const inner = (tree, name) => (tree.children ?? []).flatMap(child => all(child, name));
const all = (tree, name) => [...(tree.name === name ? [tree] : []), ...inner(tree, name)];
const text = tree => typeof tree === "object" ? tree.children.map(text).join("") : String(tree);
const went = [], place = {
  given: { lang: given.lang, runs: [{ name: "ngram", explains: true, writes: true }] }, state: { text: "x", at: 3 },
  go: (tab, state) => went.push([tab, state]),
};
const page = found => ({
  children: compare.page({ found, name: "a b", place, host: { id: "b", clientWidth: 700 }, clock: 0 }).filter(Boolean),
});
"""


def write(folder: Path, board: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "board.json").write_text(json.dumps(board))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    (folder,) = train(tmp_path_factory.mktemp("runs"), "visits")
    return folder


@pytest.fixture
def service(run: str, tmp_path: Path) -> Iterator[Service]:
    """A board whose row ngram is a run that is served."""
    folder = write(tmp_path / "plays", sample_board())
    (folder / "runs").mkdir()
    (folder / "runs" / "ngram").symlink_to(run)
    opened = open_service([str(folder)], threads=1)
    yield opened
    opened.close()


@pytest.fixture
def client(service: Service) -> TestClient:
    return TestClient(application(service))


def shown(board: dict[str, Any], program: str, lang: str = "en") -> Any:
    """What a program makes of a board."""
    words = export.texts(lang)["words"] | {key: of[lang] for key, of in page.messages().items()}
    return call(BEGINNING + program, {"words": words, "board": board, "lang": lang})


# --- what the server tells --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_every_word_and_figure_is_that_of_the_report(client: TestClient, lang: str) -> None:
    found = client.get(f"/page/boards/plays?lang={lang}").json()
    report = client.get(f"/page/boards/plays/report?lang={lang}").text
    assert f'<html lang="{lang}">' in report
    table = html.unescape(re.sub(r"<[^>]+>", "\n", report.split('id="board-data"')[0]))
    told = [
        found["headline"],
        found["verdict"],
        *found["warnings"],
        *(x for fact in found["headline_facts"] for x in fact),
    ]
    told += [text for group in (*found["results"], *found["costs"]) for text in (group["title"], *group["columns"])]
    for row in found["rows"]:
        told += [row["label"], *row["tags"], *row["details"]]
        told += [text for cell in (*row["cells"], *row["costs"]) for text in (cell["text"], *cell["notes"])]
    assert len(told) > 120 and all(text in table for text in told)
    board = sample_board()
    for row, one in zip(board["rows"], found["rows"]):
        assert one["model"] == row["model"] and one["cells"][0]["text"] == f"{row['bits_per_byte']:.3f}"
        assert one["costs"][0]["key"] == pytest.approx(row["train_seconds"])
    points = {one["model"]: one["points"] for one in found["curves"][0]["series"]}
    assert points == {r["model"]: [[p["seconds"], p["value"]] for p in r["curve"]] for r in board["rows"] if r["curve"]}


def test_a_board_is_sent_again_only_where_it_has_changed(client: TestClient, service: Service) -> None:
    first = client.get("/page/boards/plays")
    again = client.get("/page/boards/plays", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    folder = service.boards["plays"]
    board = sample_board()
    board["rows"][1]["label"] = "another name"
    write(folder, board)
    os.utime(folder / "board.json", (time.time() + 5, time.time() + 5))
    third = client.get("/page/boards/plays", headers={"if-none-match": first.headers["etag"]})
    assert third.status_code == 200 and third.json()["rows"][1]["label"] == "another name"


def test_the_report_runs_its_own_script_and_no_other(client: TestClient, service: Service) -> None:
    board = sample_board()
    board["title"] = board["rows"][0]["label"] = "</script><script>alert(1)</script>"
    write(service.boards["plays"], board)
    answer = client.get("/page/boards/plays/report")
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    (script,) = re.findall(r'<script type="module">(.*?)</script>', answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy["script-src"] == f"'sha256-{digest}'" and policy["default-src"] == "'none'"
    assert "alert(1)</script>" not in answer.text and "drawAll();" in script
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_board_that_is_unknown_gone_or_damaged(client: TestClient, service: Service) -> None:
    assert client.get("/page/boards/other").status_code == client.get("/page/boards/other/report").status_code == 404
    assert client.get("/page/boards/plays?lang=fr").status_code == 422
    path = service.boards["plays"] / "board.json"
    path.write_text("{")
    for tail in ("", "/report"):
        error = client.get(f"/page/boards/plays{tail}").json()["error"]["message"]
        assert "not a board of chainrule" in error and str(path.parent) not in error
    assert client.get("/").status_code == 200
    path.unlink()
    assert client.get("/page/boards/plays").status_code == 404


# --- runs of boards ---------------------------------------------------------------------------------------------------


def test_a_row_says_which_run_is_served_and_whether_it_is_still_the_same(client: TestClient, service: Service) -> None:
    rows = {row["model"]: row for row in client.get("/page/boards/plays").json()["rows"]}
    assert {name for name, row in rows.items() if row["run"]} == {"ngram"} and not rows["ngram"]["stale"]
    model = service.runs["ngram"].run.path / "model.safetensors"  # type: ignore[operator]
    before = model.stat().st_mtime
    try:
        os.utime(model, (time.time() + 60, time.time() + 60))
        service.boards["copy"] = service.boards["plays"]
        rows = {row["model"]: row for row in client.get("/page/boards/copy").json()["rows"]}
        assert rows["ngram"]["stale"] and not rows["gpt"]["stale"]
    finally:
        os.utime(model, (before, before))


def planned(folder: Path, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A comparison that is running: the folders of its rows hold runs, those of the rows in training too."""
    write(folder, running_board())
    (folder / "runs").mkdir()
    rows = []
    for row in running_board()["rows"][:3]:
        (folder / "runs" / f"{row['model']}-1").symlink_to(run)
        rows.append(SimpleNamespace(name=row["model"], cells=(SimpleNamespace(folder=f"runs/{row['model']}-1"),)))
    monkeypatch.setattr(serve_service, "read_plan", lambda _: SimpleNamespace(rows=rows))


def test_of_a_board_that_is_being_made_the_finished_runs_are_served(
    run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(tmp_path / "plays", run, monkeypatch)
    names = {row["model"]: row["status"] for row in running_board()["rows"]}
    unfinished = serve_service._unfinished(tmp_path / "plays")
    assert unfinished == {f"{name}-1" for name in list(names)[:3] if names[name] != "done"} and len(unfinished) == 1
    found = [name for name, _ in serve_service.runs_of(tmp_path / "plays")]
    assert found == sorted(f"{name}-1" for name in list(names)[:3] if names[name] == "done")


def test_a_board_without_a_finished_run_is_served_all_the_same(tmp_path: Path) -> None:
    board = sample_board("running")
    for row in board["rows"]:
        row |= {"status": "waiting", "bits_per_byte": None}
    write(tmp_path / "plays", board)
    service = open_service([str(tmp_path / "plays")])
    client = TestClient(application(service))
    assert service.runs == {} and list(service.boards) == ["plays"] and service.others == {}
    assert client.get("/page/boards/plays").json()["rows"][0]["message"]
    assert '"boards":["plays"]' in client.get("/").text and client.get("/docs").status_code == 200
    assert client.get("/v1/models").json()["data"] == []
    with listen("127.0.0.1", 0) as bound:
        lines = [*_greeting(bound, Settings(), service)]
    assert "serving no run yet" in lines[0] and "no run of plays is finished" in lines[2] and "/v1/models" in lines[3]


def test_two_boards_of_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "board", sample_board())
    with pytest.raises(UserError, match=r"two/board: .*one/board is called board too; rename one of the folders"):
        open_service([str(tmp_path / "one" / "board"), str(tmp_path / "two" / "board")])


# --- the scripts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lang", ["en", "ko"])
def test_the_tab_offers_what_can_be_done_with_each_row(client: TestClient, lang: str) -> None:
    board = client.get(f"/page/boards/plays?lang={lang}").json()
    program = """
    const shown = page(given.board), buttons = all(shown, "button").filter(one => one.attributes["aria-label"]);
    for (const one of buttons) one.attributes.on.click();
    console.log(JSON.stringify({
      went, links: all(shown, "a").map(one => one.attributes.href), words: text(shown),
      labels: buttons.map(one => one.attributes["aria-label"]),
      lines: all(shown, "path").filter(one => ["flat", "line"].includes(one.attributes.class)).length,
    }));
    """
    found = shown(board, program, lang)
    assert [tab for tab, _ in found["went"]] == ["inspect", "write"]
    assert all(state["run"] == ["ngram"] and "at" not in state for _, state in found["went"])
    label = next(row["label"] for row in board["rows"] if row["model"] == "ngram")
    assert all(label in one for one in found["labels"])
    assert found["links"] == [f"page/boards/a%20b/report?lang={lang}"]
    for text in (board["headline"], *board["warnings"], *(row["label"] for row in board["rows"])):
        assert text in found["words"]
    others = ", ".join(row["label"] for row in board["rows"] if row["model"] != "ngram")
    assert page.messages()["not_loaded"][lang].replace("{models}", others) in found["words"]
    swatches = 3 * len(board["rows"])  # of both tables and of the legend
    assert found["lines"] - swatches == len(board["curves"][0]["series"]), "a line for each"


def test_a_row_in_training_tells_how_far_it_is(client: TestClient, service: Service) -> None:
    board = running_board()
    name = board["rows"][2]["model"]
    board["rows"][2] |= {"bits_per_byte": None, "steps": 1234, "train_seconds": 5.5, "so_far": 2.34567}
    write(service.boards["plays"], board)
    told = client.get("/page/boards/plays").json()
    program = 'console.log(JSON.stringify(all(page(given.board), "tr").map(text)));'
    lines = [line for line in shown(told, program) if "1,234 steps in 5.50 s so far" in line]
    assert len(lines) == 2 and all("validation 2.346" in line for line in lines), name
    assert told["state"] == "running"


def test_rows_are_sorted_by_their_numbers_and_those_without_come_last() -> None:
    rows = [{"cells": [{"key": 3}]}, {"cells": []}, {"cells": [{"key": 1}]}, {"cells": [{"key": None}]}]
    program = """
    const order = how => compare.sorted(given.board, "cells", how).map(([, k]) => k);
    console.log(JSON.stringify([order({}), order({ column: 0, sign: 1 }), order({ column: 0, sign: -1 })]));
    """
    assert shown(rows, program) == [[0, 1, 2, 3], [2, 0, 1, 3], [0, 2, 1, 3]]
