"""A trace as one HTML page that loads nothing, and the files of which this page and that of the server are made."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from chainrule.core import UserError
from chainrule.core.files import write_file
from chainrule.explanation.views import views
from chainrule.report.messages import LANGUAGES
from chainrule.report.styles import STYLES

PAGE = files("chainrule.explanation") / "page"
REPORT = files("chainrule.report") / "templates"
SHARED = {"save.js": REPORT / "save.js"}
"""Modules that the report has too, by name."""
IMPORT = re.compile(r'^import \{ ([\w, ]+) \} from "\./(\w+)\.js";\n', re.MULTILINE)
EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const) (\w+))", re.MULTILINE)
RETURNS = re.compile(r"^Return ")
CAPTION = "caption_"
"""Messages on what a view shows and does not prove; the docstring of a view stands for one that is missing."""


def write_page(traces: Sequence[dict[str, Any]], out: str, lang: str = "en") -> None:
    """Write the page of traces.

    Args:
        traces: the traces of one text, shown side by side.
        out: the file.
        lang: ``en`` or ``ko``.

    Raises:
        UserError: the file is a folder.
    """
    if Path(out).is_dir():
        raise UserError(f"--out {out}: a folder; give the name of a file, such as {Path(out) / 'explain.html'}")
    write_file(Path(out), page(traces, lang).encode())


def page(traces: Sequence[dict[str, Any]], lang: str = "en") -> str:
    """Return the page of traces: it holds them as a whole as JSON, from which its scripts draw everything.

    Args:
        traces: the traces of one text, shown side by side.
        lang: ``en`` or ``ko``.
    """
    written, traces = script("export"), finite(traces)
    tables = [(trace["run"], rows) for trace in traces if (rows := _rows(trace))]
    digest = base64.b64encode(hashlib.sha256(written.encode()).digest()).decode()
    return template("export.html").render(
        lang=lang, runs=", ".join(trace["run"] for trace in traces), traces=traces, tables=tables, texts=texts(lang),
        style=Markup(style()), script=Markup(written), script_hash=f"sha256-{digest}",
    )  # fmt: skip


@functools.cache
def template(name: str, package: str = "chainrule.explanation", folder: str = "page") -> Template:
    """Return a template of a page, which may include those of the report: everything that it is given is escaped.

    Args:
        name: its file.
        package: the package that holds it.
        folder: the folder within the package.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package, folder), PackageLoader("chainrule.report", "templates")]),
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment.get_template(name)


def texts(lang: str) -> dict[str, dict[str, str]]:
    """Return the messages of the pages (``words``), and a sentence or two on each view (``captions``).

    Args:
        lang: ``en`` or ``ko``.
    """
    if lang not in LANGUAGES:
        raise UserError(f"the page has no language '{lang}'; it has {', '.join(LANGUAGES)}")
    words = {key: of[lang] for key, of in messages().items()}
    told = {key.removeprefix(CAPTION): words.pop(key) for key in [*words] if key.startswith(CAPTION)}
    return {"words": words, "captions": {name: _caption(one.compute) for name, one in views().items()} | told}


def _caption(compute: Any) -> str:
    """The first paragraph of a view's docstring, as a sentence for readers."""
    told = RETURNS.sub("", " ".join(str(compute.__doc__).split("\n\n")[0].split()))
    return told[:1].upper() + told[1:]


@functools.cache
def messages() -> dict[str, dict[str, str]]:
    """Return the messages of the pages by key, in each language."""
    return json.loads((files("chainrule.explanation") / "messages.json").read_text(encoding="utf-8"))


@functools.cache
def style() -> str:
    """Return the style sheet of the pages: that of the report, its colours of series, and their own."""
    report = (REPORT / "page.css").read_text(encoding="utf-8")
    colours = "".join(
        f".s{k} {{ --c: light-dark({one.light}, {one.dark}); --dash: {' '.join(map(str, one.dash)) or 'none'}; }}\n"
        for k, one in enumerate(STYLES)
    )
    return report + colours + source("page.css")


def source(name: str) -> str:
    """Return a file of the page.

    Args:
        name: its name.
    """
    return SHARED.get(name, PAGE / name).read_text(encoding="utf-8")


def modules() -> list[str]:
    """Return the names of the page's modules, without ``.js``."""
    names = [*SHARED, *(found.name for found in PAGE.iterdir())]
    return sorted(name.removesuffix(".js") for name in names if name.endswith(".js"))


@functools.cache
def script(entry: str) -> str:
    """Return a module and all that it imports as one script: each becomes a function that returns what it exports.

    Args:
        entry: the name of the module.
    """
    made: dict[str, str] = {}

    def add(name: str) -> None:
        text = source(f"{name}.js")
        for _, other in IMPORT.findall(text):
            if other not in made:
                add(other)
        inner = IMPORT.sub(lambda found: f"const {{ {found[1]} }} = ${found[2]};\n", text)
        names = ", ".join(name for _, name in EXPORT.findall(inner))
        made[name] = (
            f"const ${name} = (() => {{\n{EXPORT.sub(lambda found: found[1], inner)}return {{ {names} }};\n}})();\n"
        )

    add(entry)
    return "".join(made.values())


def finite(content: Any) -> Any:
    """Return JSON in which a number that is not finite (the nats of what is impossible) is null."""
    if isinstance(content, dict):
        return {name: finite(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _rows(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """Token, nats, rank and entropy of the stretch, for readers without scripts."""
    shown = trace.get("surprise") or {"begin": 0, "tokens": []}
    found = enumerate(shown["tokens"], shown["begin"])
    return [{"at": at, "text": trace["tokens"][at]["text"], **one} for at, one in found]
