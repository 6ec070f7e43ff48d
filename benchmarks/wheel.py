"""Build the wheel, install it into a clean environment outside the checkout, and use it there.

    python benchmarks/wheel.py                 dependencies from the environment of this interpreter (a minute)
    python benchmarks/wheel.py --from-registry dependencies from the package registry (many minutes)

A comparison of two small models must run, and both of its reports must be written.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import site
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMPARE = "-m chainrule compare corpus.txt --models ngram,gru --set size=tiny --budget 3s --threads 1"
TEXT = "the quick brown fox jumps over the lazy dog while seven wise owls sing\n" * 400


def build(folder: Path) -> Path:
    """Build the wheel of this checkout.

    Args:
        folder: where it is put.

    Returns:
        The wheel.
    """
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    sources = folder / "sources"  # setuptools writes beside what it builds
    shutil.copytree(ROOT / "chainrule", sources / "chainrule", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY.md"):
        shutil.copy(ROOT / name, sources)
    subprocess.run([*pip, "--wheel-dir", str(folder), str(sources)], check=True)
    (wheel,) = folder.glob("chainrule-*.whl")
    return wheel


def install(wheel: Path, folder: Path, *, from_registry: bool) -> Path:
    """Make an environment with the wheel.

    Args:
        wheel: the package.
        folder: the environment, made afresh.
        from_registry: fetch the dependencies; else those of this interpreter are used.

    Returns:
        The environment's interpreter.
    """
    venv.create(folder, with_pip=from_registry, clear=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if from_registry:
        constraints = ["-c", str(ROOT / "constraints.txt")]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *constraints, str(wheel)], check=True)
        return python
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (packages / "dependencies.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    return python


def use(python: Path, folder: Path) -> dict[str, Any]:
    """Compare two models with the installed package, and write the report in both languages.

    Args:
        python: interpreter of the environment.
        folder: an empty folder, outside the checkout.

    Returns:
        Facts: place of the package, best model, size of each report.
    """
    (folder / "corpus.txt").write_text(TEXT)
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}

    def run(*words: str) -> str:
        done = subprocess.run([str(python), *words], cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    place = run("-c", "import chainrule; print(chainrule.__file__)").strip()
    reports = {}
    for lang in ("en", "ko"):
        out = folder / lang
        run(*COMPARE.split(), "--out", str(out), "--lang", lang)
        reports[lang] = (out / "report.html").read_text(encoding="utf-8")
        assert f'lang="{lang}"' in reports[lang], f"the report is not in {lang}"
    board = json.loads((folder / "en" / "board.json").read_text(encoding="utf-8"))
    return {
        "package": place,
        "rows": [row["model"] for row in board["rows"] if row["status"] == "done"],
        "best": board["verdict"]["best"],
        "bytes": {lang: len(page.encode()) for lang, page in reports.items()},
    }


def check(folder: Path, *, from_registry: bool = False) -> dict[str, Any]:
    """Build, install and use the wheel.

    Args:
        folder: an empty folder, outside the checkout.
        from_registry: fetch the dependencies; else those of this interpreter are used.

    Returns:
        Facts: name and files of the wheel, and those of ``use``.
    """
    wheel = build(folder / "build")
    with zipfile.ZipFile(wheel) as file:
        names = sorted(file.namelist())
    python = install(wheel, folder / "environment", from_registry=from_registry)
    (folder / "work").mkdir()
    return {"wheel": wheel.name, "files": names, **use(python, folder / "work")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from-registry", action="store_true", help="fetch the dependencies")
    with tempfile.TemporaryDirectory() as folder:
        found = check(Path(folder), from_registry=parser.parse_args().from_registry)
    print(json.dumps({**found, "files": len(found["files"])}, indent=1))


if __name__ == "__main__":
    main()
