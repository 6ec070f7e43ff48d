"""One self-contained HTML page from a board: tables and text are written here, pictures are drawn in the page.

Everything that a reader needs stands in the HTML without JavaScript: verdict, tables, continuations, warnings. The
script in ``page.html`` adds the pictures, read-outs and sorting from the board embedded as JSON. Every text of the
board is hostile until escaped: :func:`_text` for HTML, :func:`_json` inside a script element.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from chainrule.core.errors import UserError, nearest
from chainrule.report import drawings, images, labels, pairs
from chainrule.report.forecasts import panel

DASH = "–"
NEAR = 0.01  # bits; a memory curve this close to its last value has reached it
STYLES = {
    "ar": 1,
    "kalman": 0,
    "markov": 0,
    "ngram": 1,
    "rnn": 2,
    "lstm": 3,
    "gru": 4,
    "gpt": 5,
    "hmm": 6,
    "window": 7,
    "bert": 8,
    "transformer": 5,
    "vit": 5,
    "dalle": 5,
    "vq": 3,
    "knn": 0,
    "logistic": 1,
    "cnn": 6,
    "mlp": 7,
}
STYLE_COUNT = 10
MARKS = ("naive", "copying", "nearest", "mean_picture")
"""References that rows are set beside."""
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {127: 0x2421}


@dataclass(frozen=True)
class _View:
    """A board with the words of one language and one style (colour, dash, marker) per model."""

    board: dict[str, Any]
    words: dict[str, str]
    lang: str
    rows: list[dict[str, Any]]
    unit: str
    styles: dict[str, int]
    labels: dict[str, str]

    @property
    def metric(self) -> str:
        return str(self.board.get("metric") or f"bits_per_{self.unit}")

    @property
    def task(self) -> str:
        return str(self.board.get("task") or "generate")

    def figure(self, value: Any, signed: bool = False) -> str:
        """The board's figure, or a difference of two."""
        return _bits(value, signed, int(self.board.get("digits") or 3))

    def word(self, key: str, **values: str) -> str:
        """A phrase, escaped; ``values`` are escaped with it."""
        return _text(self.words[key].format(**values))

    def translated(self, entry: dict[str, Any]) -> str:
        """The text of a verdict or a warning in this language, else in English."""
        text = str((entry.get("text_ko") if self.lang == "ko" else None) or entry.get("text") or "")
        return re.sub(r"(?<=[이을])\((?=[가를]\))", "\u2060(", text)  # a particle is not torn from its other form


def render(board: dict[str, Any], lang: str = "en") -> str:
    """The report of a board as one HTML page that loads nothing.

    ``board`` is the content of ``board.json``; missing or null entries show as a dash, so that a page can be written
    while the comparison runs. ``lang`` is ``en`` or ``ko``. Raises UserError for another language.
    """
    view = _view(board, lang)
    parts = {
        "lang": lang,
        "title": _text(_title(view)),
        **_top(view),
        "panel": panel(view.board, view.words, view.styles, view.labels)
        + images.panel(view.board, view.word, view.labels)
        + drawings.panel(view.board, view.word, view.labels)
        + labels.panel(view.board, view.word, view.labels),
        "pairs": pairs.panel(view.board, view.word, view.labels),
        "memory_lead": view.word("memory_lead", unit=_unit(view)[:1].upper() + _unit(view)[1:]),
        "memory_table": _memory_table(view),
        "table_lead": view.word("table_lead"),
        "table": _table(view),
        "table_note": view.word(_table_note(view), unit=_unit(view)),
        "samples_lead": view.word("samples_lead" if view.board.get("prompt") else "samples_lead_empty"),
        "samples": _samples(view),
        "warnings": _warnings(view),
        "ladder_table": _ladder_table(view),
        "growth": _growth(view),
        "data_card": _data_card(view),
        "settings": _settings(view),
        "small_print": _small_print(view),
        "footer": view.word("footer", created=str(view.board.get("created") or DASH)),
        "board_json": _json(view.board),
        "view_json": _json(
            {
                "words": view.words,
                "styles": view.styles,
                "labels": view.labels,
                "unit": _unit(view),
                "curve_unit": view.words.get(f"curve_{view.task}", _unit(view)),
                "references": view.board.get("references") or {},
            }
        ),
    }
    template = files("chainrule.report").joinpath("page.html").read_text(encoding="utf-8")
    template = re.sub(
        r"<!--only (\w+)-->(.*?)<!--end-->", lambda part: part[2] * (part[1] == view.task), template, flags=re.S
    )
    # One pass: what is put in is never searched again, so a text that reads {{table}} stays a text.
    return re.sub(r"\{\{(w\.)?(\w+)\}\}", lambda slot: view.word(slot[2]) if slot[1] else parts[slot[2]], template)


def _view(board: dict[str, Any], lang: str) -> _View:
    words = json.loads(files("chainrule.report").joinpath("words.json").read_text(encoding="utf-8"))
    if lang not in words:
        raise UserError(f"the report has no language '{lang}'; {nearest(lang, words)}")
    board = _tidy(board)
    learnt = words[lang].get(f"learnt_{board.get('learnt')}") or words[lang]["learnt_symbols"]
    said = {key: text.replace("{learnt}", learnt) for key, text in words[lang].items()}
    rows = [row for row in board.get("rows") or [] if row]
    growth = [row for row in (board.get("growth") or {}).get("rows") or [] if row]
    for row in rows + growth:
        row["model"] = str(row.get("model") or DASH)
    labels = {row["model"]: str(row.get("label") or row["model"]) for row in [*growth, *rows]}
    ordered = dict.fromkeys(row["model"] for row in [*rows, *growth])
    return _View(
        board, said, lang, rows, str(board.get("unit_name") or "byte"), _styles(ordered),
        {model: labels[model] for model in ordered},
    )  # fmt: skip


def _tidy(value: Any) -> Any:
    """A copy that is valid JSON and valid UTF-8: no NaN or infinity, no lone surrogate, controls made visible."""
    if isinstance(value, dict):
        return {_tidy(str(key)): _tidy(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tidy(item) for item in value]
    if isinstance(value, str):
        return value.translate(_CONTROLS).encode("utf-8", "replace").decode("utf-8")
    if value is None or isinstance(value, bool | int):
        return value
    return (
        value if isinstance(value, float) and math.isfinite(value) else None if isinstance(value, float) else str(value)
    )


def _styles(models: Iterable[str]) -> dict[str, int]:
    """Known families keep their style on every board; a second row of a family takes the next free one."""
    taken: dict[str, int] = {}
    later = []
    for model in models:
        style = STYLES.get(model.split(":")[0])
        if style is None or style in taken.values():
            later.append(model)
        else:
            taken[model] = style
    free = [style for style in reversed(range(STYLE_COUNT)) if style not in taken.values()] or [0]
    return taken | {model: free[index % len(free)] for index, model in enumerate(later)}


def _text(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _json(value: Any) -> str:
    """JSON that no HTML parser can leave: without ``<``, ``>`` and ``&`` there is no tag and no entity."""
    dumped = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _number(value: Any) -> float | None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else None


def _table_note(view: _View) -> str:
    if view.unit in ("share", "chrf", "decibel"):
        return f"table_note_{view.unit}"
    return "table_note" if "xz" in (view.board.get("references") or {}) else "table_note_plain"


def _bits(value: Any, signed: bool = False, digits: int = 3) -> str:
    number = _number(value)
    if number is None:
        return DASH
    number = round(number, digits) + 0.0  # -0.0 + 0.0 is 0.0: nothing is no loss
    return f"{number:{'+' if signed else ''}.{digits}f}".replace("-", "−")


def _hundredths(value: Any) -> str:
    return _bits(value, digits=2)


def _percent(value: Any) -> str:
    number = _number(value)
    return DASH if number is None else f"{100 * number:.0f} %"


def _count(value: Any) -> str:
    number = _number(value)
    return DASH if number is None else f"{number:,.0f}"


def _compact(value: Any) -> str:
    number = _number(value)
    if number is None:
        return DASH
    for size, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{_three(number / size)}{name}"
    return _three(number)


def _three(number: float) -> str:
    """Three significant digits, never an exponent."""
    if number == 0:
        return "0"
    places = max(2 - math.floor(math.log10(abs(number))), 0)
    return f"{number:,.{places}f}" if places < 3 or number < 1 else f"{number:.2f}"


def _bytes(value: Any) -> str:
    number = _number(value)
    if number is None:
        return DASH
    for size, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= size:
            return f"{_three(number / size)} {name}"
    return f"{number:,.0f} B"


def _value(value: Any) -> str:
    """A setting as people write it: 3e-4 rather than 0.00030000000000000003, nothing rather than None."""
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _unit(view: _View) -> str:
    key = f"unit_{view.unit}"
    return view.words.get(key) or view.unit


def _title(view: _View) -> str:
    return str(view.board.get("title") or (view.board.get("data") or {}).get("name") or "board")


def _swatch(view: _View, model: str) -> str:
    style = view.styles[model]
    return (
        f'<svg class="swatch s{style}" viewBox="0 0 30 12" aria-hidden="true"><path class="line" d="M0 6H30"/>'
        f'<use class="mark" href="#m{style}" x="15" y="6"/></svg>'
    )


def _pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """A definition list of escaped terms and escaped values; a term without a value is left out."""
    body = "".join(f"<dt>{term}</dt><dd>{value}</dd>" for term, value in pairs if value and value != DASH)
    return f"<dl>{body}</dl>" if body else ""


def _plain_table(head: list[str], body: list[list[str]], wrap_last: bool = False) -> str:
    """A small table of escaped cells; the first cell of a line is its heading."""
    last = len(head) - 1 if wrap_last else -1
    titles = "".join(f'<th scope="col"{_wrap(i == last)}>{cell}</th>' for i, cell in enumerate(head))
    lines = "".join(
        f'<tr><th scope="row">{line[0]}</th>'
        + "".join(f"<td{_wrap(i == last)}>{cell}</td>" for i, cell in enumerate(line) if i)
        + "</tr>"
        for line in body
    )
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{", ".join(head)}"><table class="plain">'
        f"<thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _wrap(wide: bool) -> str:
    return ' class="wrap"' if wide else ""


# ---- first screen --------------------------------------------------------------------------------------------------


def _top(view: _View) -> dict[str, str]:
    verdict = view.board.get("verdict") or {}
    confidence = str(verdict.get("confidence") or "none").replace(" ", "_")
    key = f"confidence_{confidence}"
    heading = [_title(view), view.board.get("created")]
    budget = view.translated(view.board.get("budget") or {})
    return {
        "heading": " · ".join(f"<span>{_text(item)}</span>" for item in heading if item),
        "confidence_class": re.sub(r"\W", "", confidence),
        "confidence": view.word(key) if key in view.words else _text(confidence),
        "budget_line": view.word("budget_line", budget=budget) if budget else "",
        "verdict": _text(view.translated(verdict) or view.words["no_verdict"]),
        "state": _state(view),
    }


def _state(view: _View) -> str:
    status = view.board.get("status")
    counts = {
        "done": str(sum(_status(row) == "done" for row in view.rows)),
        "failed": str(sum(_status(row) == "failed" for row in view.rows)),
        "all": str(len(view.rows)),
    }
    lines = []
    if status in ("running", "interrupted"):
        lines.append(f"<b>{view.word(f'state_{status}')}</b> {view.word(f'state_{status}_text', **counts)}")
    if counts["failed"] != "0":
        lines.append(view.word("state_failed", **counts))
    return f'<p class="state" role="status">{" ".join(lines)}</p>' if lines else ""


def _status(row: dict[str, Any]) -> str:
    return "failed" if row.get("error") else str(row.get("status") or "done")


def _memory_table(view: _View) -> str:
    curves = {
        row["model"]: {int(p["visible"]): _number(p.get("value")) for p in row.get("memory") or [] if _is_point(p)}
        for row in view.rows
    }
    curves = {model: curve for model, curve in curves.items() if curve}
    if not curves:
        return ""
    at = sorted(set().union(*curves.values()))
    head = [view.word("col_model"), *(f"{k:,}" for k in at), view.word("reach")]
    body = [
        [_text(view.labels[model]), *(_bits(curve.get(k)) for k in at), _reach(curve)]
        for model, curve in curves.items()
    ]
    return (
        f"<details><summary>{view.word('memory_numbers')}</summary>{_plain_table(head, body)}"
        f'<p class="note">{view.word("reach_note")}</p></details>'
    )


def _is_point(point: Any) -> bool:
    return bool(point) and _number(point.get("visible")) is not None


def _reach(curve: dict[int, float | None]) -> str:
    points = sorted((k, value) for k, value in curve.items() if value is not None)
    if not points:
        return DASH
    # From the far end back: a curve that dips and rises again has not reached its last value in the dip.
    reached = points[-1][0]
    for k, value in reversed(points):
        if abs(value - points[-1][1]) > NEAR:
            break
        reached = k
    return f"{reached:,}"


# ---- the table -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cell:
    """What a cell shows (escaped), and the number it is sorted by."""

    shown: str
    key: float | None = None
    kind: str = ""

    def html(self) -> str:
        key = "" if self.key is None else f' data-v="{self.key:.9g}"'
        kind = f' class="{self.kind}"' if self.kind else ""
        return f"<td{kind}{key}>{self.shown}</td>"


def _columns(view: _View) -> list[tuple[str, list[str]]]:
    """Groups of columns: (word of the group or "", words of its columns). A column nobody fills is left out."""
    bits = [f"col_{view.unit}"] + ["col_char"] * _any(view, "bits_per_char")
    bits += ["col_mase"] * _any(view, "mase") + ["col_coverage"] * _any(view, "coverage_80")
    bits += ["col_span_f1"] * _any(view, "span_f1") + ["col_ece"] * _any(view, "ece")
    bits += (
        ["col_chrf"] * (view.unit == "errors")
        + ["col_bleu"] * _any(view, "bleu")
        + ["col_exact"] * _any(view, "exact_match")
    )
    bits += ["col_error_rate"] * (view.unit == "chrf")
    bits += ["col_ceiling"] * _any(view, "reconstruction_psnr") + ["col_used"] * _any(view, "codebook_used")
    bits += ["col_found", "col_originals_found"] * _any(view, "retrieval_at_1")
    bits += ["col_hidden"] * _any(view, "masked_nats") + ["col_pseudo"] * (_pseudo(view) is not None)
    gaps = ["col_best"] * _any(view, "gap")
    gaps += ["col_ngram"] * (_baseline(view) is not None)
    gaps += ["col_xz"] * (_number((view.board.get("references") or {}).get("xz")) is not None)
    for name in MARKS:
        gaps += [f"col_{name}"] * (_number((view.board.get("references") or {}).get(name)) is not None)
    groups = [
        ("", ["col_model"]),
        ("group_bits" if view.task == "generate" else "group_test", bits),
        ("group_gap", gaps),
        ("", ["col_params"]),
        ("group_training", ["col_seconds", "col_train_speed"]),
        ("group_generation", ["col_generate_speed"] * _any(view, "tokens_per_second_generate")),
        ("group_memory", ["col_state"] * _any(view, "state_bytes_fixed") + ["col_peak"]),
    ]
    return [group for group in groups if group[1]]


def _any(view: _View, key: str) -> bool:
    return any(row.get(key) is not None for row in view.rows)


def _pseudo(view: _View) -> str | None:
    """The name of the pseudo-likelihood among the rows' metrics: for each byte, or each symbol."""
    return next((name for name in ("pseudo_nats_per_byte", "pseudo_nats_per_symbol") if _any(view, name)), None)


def _baseline(view: _View) -> float | None:
    """The figure of the n-gram row, against which every row is set."""
    return next((_number(row.get(view.metric)) for row in view.rows if row["model"].split(":")[0] == "ngram"), None)


def _table(view: _View) -> str:
    groups = _columns(view)
    names = [name for _, columns in groups for name in columns]
    upper = "".join(
        f'<th scope="colgroup" class="group" colspan="{len(columns)}"><span>{view.word(word)}</span></th>'
        if word
        else f'<td colspan="{len(columns)}"></td>'
        for word, columns in groups
    )
    known = {f"col_{view.unit}": view.words.get(f"col_{view.unit}", view.unit)}
    lower = "".join(f'<th scope="col">{_text(known.get(name) or view.words[name])}</th>' for name in names)
    body = "".join(_row(view, index, row, names) for index, row in enumerate(view.rows))
    return (
        f'<table class="board"><caption class="vh">{view.word("table_lead")}</caption>'
        f"<thead><tr>{upper}</tr><tr>{lower}</tr></thead><tbody>{body}</tbody></table>"
    )


def _row(view: _View, index: int, row: dict[str, Any], names: list[str]) -> str:
    status = _status(row)
    verdict = view.board.get("verdict") or {}
    best = row["model"] == verdict.get("best") and status != "failed"
    tie = not best and status != "failed" and row["model"] in (verdict.get("tie") or [])
    classes = " ".join([re.sub(r"\W", "", status), *["best"] * best, *["tie"] * tie])
    tag = view.word("tag_best") if best else view.word("tag_tie") if tie else ""
    if status == "running":
        tag += view.word("status_running")
    detail = row["model"] if ":" in row["model"] else ""
    head = (
        f'<th scope="row">{_swatch(view, row["model"])}{_text(view.labels[row["model"]])}'
        + (f'<small class="tag">{tag}</small>' if tag else "")
        + (f"<small>{_text(detail)}</small>" if detail and not _says(view.labels[row["model"]], detail) else "")
        + "</th>"
    )
    return f'<tr class="{classes}" data-index="{index}">{head}{_body(view, row, names)}</tr>'


def _says(label: str, name: str) -> bool:
    """Does a row's label hold the settings that its name has?"""
    return all(setting in label for setting in name.partition(":")[2].split("+"))


def _body(view: _View, row: dict[str, Any], names: list[str]) -> str:
    message = _message(view, row)
    if message:
        return f'<td class="message" colspan="{len(names) - 1}"><div>{message}</div></td>'
    cells = _cells(view, row)
    return "".join(cells[name].html() for name in names[1:])


def _message(view: _View, row: dict[str, Any]) -> str:
    """Why a row has no figures, or nothing where it has some."""
    status = _status(row)
    if status == "failed":
        return f"<b>{view.word('status_failed')}</b>: {_text(row.get('error') or view.words['no_error'])}"
    if _number(row.get(view.metric)) is not None or status == "done":
        return ""
    if view.board.get("status") != "running":
        return view.word("not_reached")
    return view.word("status_running_empty" if status == "running" else "status_waiting")


def _cells(view: _View, row: dict[str, Any]) -> dict[str, _Cell]:
    value, xz = _number(row.get(view.metric)), _number((view.board.get("references") or {}).get("xz"))
    baseline = None if row["model"].split(":")[0] == "ngram" else _baseline(view)
    fixed, growing = _number(row.get("state_bytes_fixed")), _number(row.get("state_bytes_per_token"))
    plain = {
        "col_char": ("bits_per_char", _bits),
        "col_params": ("params", _compact),
        "col_train_speed": ("tokens_per_second_train", _compact),
        "col_generate_speed": ("tokens_per_second_generate", _compact),
        "col_peak": ("peak_memory_bytes", _bytes),
        "col_mase": ("mase", _bits),
        "col_span_f1": ("span_f1", _bits),
        "col_ece": ("ece", _bits),
        "col_hidden": ("masked_nats", _bits),
        "col_pseudo": (_pseudo(view) or "", _bits),
        "col_coverage": ("coverage_80", _percent),
        "col_chrf": ("chrf", _hundredths),
        "col_bleu": ("bleu", _hundredths),
        "col_exact": ("exact_match", _percent),
        "col_error_rate": ("error_rate", _bits),
        "col_ceiling": ("reconstruction_psnr", _hundredths),
        "col_used": ("codebook_used", _percent),
        "col_found": ("retrieval_at_1", _percent),
        "col_originals_found": ("retrieval_of_originals", _percent),
    }
    cells = {name: _Cell(shown(row.get(key)), _number(row.get(key))) for name, (key, shown) in plain.items()}
    seconds = _number(row.get("train_seconds"))
    cells["col_seconds"] = _Cell(DASH if seconds is None else _three(seconds), seconds)
    cells[f"col_{view.unit}"] = _Cell(_figure(view, row), value, "value")
    cells["col_best"] = _paired(view, row.get("gap") or {})
    cells["col_ngram"] = _difference(view, value, baseline)
    cells["col_xz"] = _difference(view, value, xz)
    for name in MARKS:
        cells[f"col_{name}"] = _difference(view, value, _number((view.board.get("references") or {}).get(name)))
    cells["col_state"] = _Cell(_state_size(view, fixed, growing), (fixed or 0) + 1024 * (growing or 0))
    return cells


def _difference(view: _View, value: float | None, other: float | None) -> _Cell:
    gap = None if value is None or other is None else value - other
    return _Cell(view.figure(gap, signed=True), gap)


def _paired(view: _View, gap: dict[str, Any]) -> _Cell:
    low, high, value = (_number(gap.get(key)) for key in ("low", "high", "value"))
    span = "" if low is None or high is None else f"<small>{view.figure(low, True)} … {view.figure(high, True)}</small>"
    return _Cell(view.figure(value, signed=True) + span, value)


def _state_size(view: _View, fixed: float | None, growing: float | None) -> str:
    if fixed is None and growing is None:
        return DASH
    kind = view.word("per_symbol", bytes=_bytes(growing)) if growing else view.word("constant")
    return f"{_bytes(fixed or 0)}<small>{kind}</small>"


def _interval(row: dict[str, Any]) -> tuple[float, float] | None:
    low, high = (_number(end) for end in (row.get("interval") or [None, None])[:2])
    return None if low is None or high is None else (low, high)


def _figure(view: _View, row: dict[str, Any]) -> str:
    """The figure, its interval in words and as a bar, and the spread over seeds where more than one ran."""
    value, interval = _number(row.get(view.metric)), _interval(row)
    shown = f"<b>{view.figure(value)}</b>"
    if value is not None and interval is not None:
        shown += (
            _bar(view, row, value, interval) + f"<small>{view.figure(interval[0])} … {view.figure(interval[1])}</small>"
        )
    seeds = [number for seed in row.get("seeds") or [] if (number := _number((seed or {}).get("value"))) is not None]
    if len(seeds) > 1:
        words = {"n": str(len(seeds)), "low": view.figure(min(seeds)), "high": view.figure(max(seeds))}
        shown += f"<small>{view.word('seeds', **words)}</small>"
    return shown


def _bar(view: _View, row: dict[str, Any], value: float, interval: tuple[float, float]) -> str:
    low, high = _bar_scale(view)

    def place(bits: float) -> str:
        return f"{4 + 96 * (bits - low) / ((high - low) or 1):.1f}"

    about = view.word(
        "interval_of", value=view.figure(value), low=view.figure(interval[0]), high=view.figure(interval[1])
    )
    xz = _number((view.board.get("references") or {}).get("xz"))
    drawn = "" if xz is None else f'<path class="tick" d="M{place(xz)} 2V12"/>'
    if interval[1] > high + 1e-9:
        drawn += '<path class="mark" d="M97 3L104 7L97 11Z"/>'
    else:
        drawn += (
            f'<path class="span" d="M{place(interval[0])} 7H{place(interval[1])}"/>'
            f'<circle class="mark" cx="{place(value)}" cy="7" r="3"/>'
        )
    return (
        f'<svg class="bar s{view.styles[row["model"]]}" viewBox="0 0 104 14" role="img" aria-label="{about}">'
        f'<path class="rail" d="M0 7H104"/>{drawn}</svg>'
    )


def _bar_scale(view: _View) -> tuple[float, float]:
    """The ends of the scale that all bars share.

    It ends at ``xz`` where two rows or more are better than that: a Markov chain far to the right would otherwise
    squeeze the differences that decide into a pixel. Rows beyond the end are drawn as an arrow.
    """
    xz = _number((view.board.get("references") or {}).get("xz"))
    ends = [interval for row in view.rows if _status(row) != "failed" and (interval := _interval(row))]
    near = [interval for interval in ends if xz is not None and interval[1] <= xz]
    kept = near if len(near) > 1 else ends
    marks = [bits for interval in kept for bits in interval] + ([] if xz is None else [xz])
    return min(marks), max(marks)


# ---- texts ---------------------------------------------------------------------------------------------------------


def _samples(view: _View) -> str:
    cards = []
    prompt = f'<span class="prompt">{_text(view.board.get("prompt") or "")}</span>'
    for row in view.rows:
        texts = [_text(sample) for sample in row.get("samples") or []]
        if not texts or _status(row) == "failed":
            continue
        first, *others = [f'<p class="text" dir="auto" tabindex="0">{prompt}{text}</p>' for text in texts]
        more = f"<details><summary>{view.word('more_samples')}</summary>{''.join(others)}</details>" if others else ""
        title = f"<h3>{_swatch(view, row['model'])} {_text(view.labels[row['model']])}</h3>"
        cards.append(f'<article class="s{view.styles[row["model"]]}">{title}{first}{more}</article>')
    return f'<div class="samples">{"".join(cards)}</div>' if cards else f"<p>{view.word('no_samples')}</p>"


def _warnings(view: _View) -> str:
    texts = [view.translated(entry) or str(entry.get("code")) for entry in view.board.get("warnings") or [] if entry]
    if not texts:
        return f"<p>{view.word('no_warnings')}</p>"
    return f'<ul class="warnings">{"".join(f"<li><span>{_text(text)}</span></li>" for text in texts)}</ul>'


# ---- below the first screen ----------------------------------------------------------------------------------------


def _ladder_table(view: _View) -> str:
    rungs = [rung for rung in view.board.get("ladder") or [] if rung]
    if not rungs:
        return ""
    table = _plain_table(
        ["n", _text(_unit(view))], [[_count(rung.get("n")), _bits(rung.get("value"))] for rung in rungs]
    )
    return f"<details><summary>{view.word('numbers')}</summary>{table}</details>"


def _growth(view: _View) -> str:
    rows = [row for row in (view.board.get("growth") or {}).get("rows") or [] if row]
    if not rows:
        return ""
    body = [
        [_text(view.labels[row["model"]]), *(_exponent(row.get(f"{kind}_exponent")) for kind in ("time", "memory"))]
        for row in rows
    ]
    head = [view.word(key) for key in ("col_model", "exponent_time", "exponent_memory")]
    return (
        f'<section aria-labelledby="h-growth"><h2 id="h-growth">{view.word("growth_title")}</h2>'
        f'<p class="note">{view.word("growth_note")}</p>'
        f'<div class="legend" role="group" aria-label="{view.word("legend")}"></div>'
        '<div class="pair"><div class="plot" id="growth-seconds"></div><div class="plot" id="growth-bytes"></div></div>'
        f"<details><summary>{view.word('numbers')}</summary>{_plain_table(head, body)}</details></section>"
    )


def _exponent(value: Any) -> str:
    number = _number(value)
    return DASH if number is None else f"{number:.2f}".replace("-", "−")


def _data_card(view: _View) -> str:
    data = view.board.get("data") or {}
    unit, xz = str(data.get("unit") or ""), (data.get("xz") or {}).get("bits_per_byte")
    share = _number(data.get("duplicates"))
    facts = _pairs(
        [
            (view.word("name"), _text(data.get("name") or "")),
            (view.word("data_unit"), _text(view.words.get(f"unit_{unit}", unit))),
            (view.word("image_size"), _text(" × ".join(map(str, data.get("image") or [])))),
            (view.word("tokenizer"), _text(data.get("tokenizer") or "")),
            (view.word("symbols"), _count(data.get("symbols"))),
            (view.word("entropy"), _known(view, "bits_symbol", data.get("entropy"))),
            (view.word("xz_needs"), _known(view, "bits_byte", xz)),
            (view.word("duplicates"), DASH if share is None else f"{100 * share:.2f} %"),
            (view.word("captions_seen"), _percent(data.get("captions_seen"))),
            ("SHA-256", f"<code>{_text(data['sha256'])}</code>" if data.get("sha256") else ""),
        ]
    )
    notes = "".join(f'<p class="note">{_text(note)}</p>' for note in data.get("notes") or [])
    return f'<div class="pair"><div>{facts}{notes}</div><div>{_parts(view, data)}{_excerpt(view, data)}</div></div>'


def _known(view: _View, word: str, value: Any) -> str:
    return DASH if _number(value) is None else view.word(word, value=_bits(value))


def _parts(view: _View, data: dict[str, Any]) -> str:
    parts = {name: part for name, part in (data.get("parts") or {}).items() if part}
    keys = {"bytes": "bytes", "chars": "characters", "symbols": "tokens", "values": "values", "records": "records"}
    kept = [key for key in keys if any(part.get(key) is not None for part in parts.values())]
    if not kept:
        return ""
    head = [view.word("part"), *(view.word(keys[key]) for key in kept)]
    body = [
        [_text(view.words.get(f"part_{name}", name)), *(_count(part.get(key)) for key in kept)]
        for name, part in parts.items()
    ]
    return _plain_table(head, body)


def _excerpt(view: _View, data: dict[str, Any]) -> str:
    examples = [_text(example) for example in data.get("examples") or []]
    body = "".join(f'<p class="text excerpt" dir="auto" tabindex="0">{example}</p>' for example in examples[:3])
    return f"<h3>{view.word('example')}</h3>{body}" if body else ""


def _settings(view: _View) -> str:
    blocks = []
    for row in view.rows:
        lists = [
            f"<h3>{_text(view.labels[row['model']])} · {view.word(kind)}</h3>"
            + _pairs((_text(key), _text(_value(value))) for key, value in row[kind].items())
            for kind in ("config", "recipe")
            if row.get(kind)
        ]
        blocks.extend(f"<div>{block}</div>" for block in lists)
    every = (
        f"<details><summary>{view.word('config')} · {view.word('recipe')}</summary>"
        f'<div class="settings">{"".join(blocks)}</div></details>'
        if blocks
        else ""
    )
    measured = f"<details><summary>{view.word('how_evaluated')}</summary>{_evaluation(view)}</details>"
    return _machine(view) + measured + every


def _machine(view: _View) -> str:
    machine = view.board.get("machine") or {}
    cores, threads = machine.get("cores"), machine.get("threads")
    hardware = [
        _text(machine.get("cpu") or ""),
        view.word("cores", cores=_count(cores), threads=_count(threads)) if cores or threads else "",
        _bytes(machine["memory_bytes"]) if machine.get("memory_bytes") else "",
    ]
    software = [
        _text(machine.get("device") or ""),
        f"torch {_text(machine['torch'])}" if machine.get("torch") else "",
        view.word("precision_bf16") if machine.get("bf16") else "",
    ]
    command = view.board.get("command")
    return _pairs(
        [
            (view.word("machine"), ", ".join(item for item in hardware if item)),
            (view.word("device"), ", ".join(item for item in software if item)),
            (view.word("command"), f"<code>{_text(command)}</code>" if command else ""),
        ]
    )


def _evaluation(view: _View) -> str:
    keys = ("tokenizer", "context", "stride", "accuracy", "trained_on", "scored", "evaluation")
    body = []
    for row in view.rows:
        measured = _number(row.get(view.metric)) is not None
        window = _count(row.get("context")) if row.get("context") else view.word("unbounded") if measured else DASH
        accuracy = _number(row.get("accuracy"))
        body.append(
            [
                _text(view.labels[row["model"]]),
                _text(row.get("tokenizer") or DASH),
                window,
                _count(row.get("stride")),
                DASH if accuracy is None else f"{100 * accuracy:.1f} %",
                _compact(row.get("train_tokens")),
                _count(row.get("tokens") or row.get("symbols") or row.get("n")),
                _text(row.get("evaluation") or DASH),
            ]
        )
    said = (DASH, view.word("unbounded"))
    kept = [i for i, column in enumerate(zip(*body)) if i == 0 or any(cell not in said for cell in column)]
    if view.task == "generate":
        kept = list(range(len(keys) + 1))
    head = [view.word(("col_model", *keys)[i]) for i in kept]
    return _plain_table(head, [[line[i] for i in kept] for line in body], wrap_last=len(keys) in kept)


def _small_print(view: _View) -> str:
    if view.task != "generate":
        budget = view.translated(view.board.get("budget") or {}) or DASH
        keys = ["print_budget", f"print_{view.task}", "print_interval", "print_choice", "print_speed"]
        lines = [view.word(key, budget=budget) for key in keys if key in view.words]
        signature = next((row["signature"] for row in view.rows if row.get("signature")), None)
        lines += [view.word("print_signature", signature=str(signature))] if signature else []
        return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"
    references = view.board.get("references") or {}
    budget = view.translated(view.board.get("budget") or {}) or DASH
    size = view.words["bytes"] if view.unit == "byte" else view.words["tokens"]
    lines = [
        view.word("print_budget", budget=budget),
        view.word(
            "print_bits", size=size, uniform=_bits(references.get("uniform")), entropy=_bits(references.get("entropy0"))
        ),
        view.word("print_context"),
        view.word("print_interval"),
        view.word("print_choice"),
        view.word("print_speed"),
    ]
    if any("bpe" in str(row.get("tokenizer") or "") for row in view.rows):
        lines.append(view.word("print_bpe"))
    if _number(references.get("xz")) is not None:
        lines.append(view.word("print_xz"))
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>"
