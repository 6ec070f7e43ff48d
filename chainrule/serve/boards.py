"""Boards as the page shows them: each made anew by the report's own code when its ``board.json`` has changed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from chainrule.core import UserError
from chainrule.experiment.plan import Plan, read_plan
from chainrule.experiment.publish import read_board, render_page
from chainrule.experiment.uses import planned_uses
from chainrule.report.formats import count, figure, number, significant
from chainrule.report.headline import heading
from chainrule.report.page import Content, contents
from chainrule.report.table import Groups, status
from chainrule.runs.folder import MODEL
from chainrule.runs.run import Run
from chainrule.serve.service import Service
from chainrule.tasks.board import section_of

SCRIPT = re.compile(r'<script(?: type="module")?>(.*?)</script>', re.DOTALL)
WORDS = (
    "warnings_title", "table_title", "costs_title", "curves_title", "curves_note", "col_model", "over_seconds",
    "over_items", "sort", "status_failed",
)  # fmt: skip
"""Messages of the report that the tab uses."""
Language = Literal["en", "ko"]


class Boards:
    """The boards of a server.

    Args:
        service: the runs and boards.
    """

    def __init__(self, service: Service):
        self._service, self._since = service, time.time()
        self._made: dict[tuple[str, str], tuple[str, bytes]] = {}
        """Version and answer of each board, in each language that was asked for."""

    def routes(self) -> APIRouter:
        """Return a router with the content and the report of each board."""
        router = APIRouter(prefix="/page/boards", include_in_schema=False)
        router.add_api_route("/{name}", self.content, methods=["GET"])
        router.add_api_route("/{name}/report", self.report, methods=["GET"])
        return router

    def content(self, name: str, request: Request, lang: Language = "en") -> Response:
        """Return what the tab Compare shows of a board, or that it has not changed."""
        folder = self._folder(name)
        version = _version(folder)
        if (made := self._made.get((name, lang))) is None or made[0] != version:
            told = self.told(folder, lang)
            made = self._made[name, lang] = (version, json.dumps(told, allow_nan=False).encode())
        headers = {"etag": version, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == version:
            return Response(status_code=304, headers=headers)
        return Response(made[1], media_type="application/json", headers=headers)

    def report(self, name: str, lang: Language = "en") -> HTMLResponse:
        """Return the report of a board; its own scripts run in it, and nothing else does."""
        folder = self._folder(name)
        board, plan = read_board(folder / "board.json"), read_plan(folder)
        page = render_page(board, lang, planned_uses(plan, board, folder) if plan else [])
        return HTMLResponse(page, headers={"content-security-policy": policy(page), "referrer-policy": "no-referrer"})

    def told(self, folder: Path, lang: str) -> dict[str, Any]:
        """Return headline, warnings, tables and learning curves of a board, as the report has them.

        Args:
            folder: the folder of the comparison.
            lang: ``en`` or ``ko``.
        """
        board = read_board(folder / "board.json")
        found = contents(board, lang, section_of(board["task"]))
        shown, say, table = found.board, found.catalogue.message, found.table
        made = [table.rows(groups) for groups in (table.results, table.costs)]
        runs = runs_of_rows(read_plan(folder), self._service.runs)
        return {
            **heading(shown, found.catalogue),
            "warnings": [found.catalogue.pick(one) or str(one.get("code")) for one in shown.get("warnings") or []],
            "words": {key: say(key) for key in WORDS},
            "note": table.note(),
            "results": _headings(table.results), "costs": _headings(table.costs),
            "rows": [
                {**one, "cells": _plain(one), "costs": _plain(cost), "model": row["model"],
                 "progress": _progress(row, found), **self._loaded(runs.get(row["model"]))}
                for row, one, cost in zip(shown["rows"], *made)
            ],
            "curves": [found.charts[name] for name in ("curves-seconds", "curves-tokens")],
        }  # fmt: skip

    def _loaded(self, name: str | None) -> dict[str, Any]:
        """The run of a row, and whether it is another one by now than the one that was loaded."""
        path = self._service.runs[name].run.path if name is not None else None
        file = None if path is None else path / MODEL
        return {"run": name, "stale": file is not None and file.exists() and file.stat().st_mtime > self._since}

    def _folder(self, name: str) -> Path:
        if (found := self._service.boards.get(name)) is None:
            raise HTTPException(404)
        return found


def runs_of_rows(plan: Plan | None, served: Iterable[str]) -> dict[str, str]:
    """Return the name of the run of each row of a board that is served.

    Args:
        plan: that of the comparison, which knows the folders; None: runs are called like their rows.
        served: the names of the runs.
    """
    names = set(served)
    if plan is None:
        return {name: name for name in names}
    found = {row.name: Path(row.cells[0].folder).name for row in plan.rows}
    return {row: name for row, name in found.items() if name in names}


def examples(service: Service, run: Run) -> Iterator[str]:
    """Yield beginnings of records of the data that a run was compared on; none where no board tells any.

    Args:
        service: the runs and boards.
        run: the run.
    """
    for folder in service.boards.values():
        if run.path is not None and run.path.parent.resolve() == (folder / "runs").resolve():
            with suppress(UserError):
                yield from read_board(folder / "board.json").get("data", {}).get("examples") or []


def policy(page: str) -> str:
    """Return the policy of a report's page: the scripts that it was made with, and nothing from anywhere.

    Args:
        page: the page.
    """
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in SCRIPT.findall(page)]
    scripts = " ".join(f"'sha256-{one}'" for one in hashes)
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    )


def _version(folder: Path) -> str:
    try:
        about = (folder / "board.json").stat()
    except OSError:
        raise HTTPException(404) from None
    return f'"{about.st_mtime_ns:x}-{about.st_size:x}"'


def _plain(row: dict[str, Any]) -> list[dict[str, Any]]:
    return [asdict(cell) for cell in row["cells"]]


def _headings(groups: Groups) -> list[dict[str, Any]]:
    return [{"title": title, "columns": [heading for heading, _ in columns]} for title, columns in groups]


def _progress(row: Mapping[str, Any], found: Content) -> dict[str, str]:
    """Steps, seconds and validation so far of a row that is still trained."""
    if status(dict(row)) != "running":
        return {}
    told = {"steps": count(row.get("steps")), "seconds": significant(row.get("train_seconds"))}
    metric = found.board.get("validation") or {}
    if number(row.get("so_far")) is not None:
        told["validation"] = f"{figure(row['so_far'], metric)} ({found.catalogue.pick(metric, 'label')})"
    return told
