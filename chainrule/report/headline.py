"""The first screen of the report: the recommended row, its figure, the next row, the data, and the horizon."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chainrule.report.formats import count, figure, number, percent, span
from chainrule.report.messages import Catalogue
from chainrule.report.table import not_ranked, status

MIXTURE, LIKELY = "mix", 0.5
"""The row of the mixture; the probability from which a row is recommended for the horizon."""
LONG = (("hours", 3600), ("minutes", 60))
Facts = list[tuple[str, str]]
"""Terms and what is known of them."""
SIZES = {"bytes": "size_bytes", "records": "size_records", "values": "size_values", "tokens": "size_tokens"}
"""Sizes of a split, the first of which is told, and the messages that write them."""


def heading(board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """Return title, confidence, headline, facts, verdict, and the state of a comparison that is not finished.

    Args:
        board: the board, with labels and styles.
        catalogue: its messages.
    """
    say, verdict = catalogue.message, board.get("verdict") or {}
    confidence = re.sub(r"\W", "_", str(verdict.get("confidence") or "none"))
    found = [status(row) for row in board["rows"]]
    key = "confidence_alone" if (confidence, found) == ("clear", ["done"]) else f"confidence_{confidence}"
    text = catalogue.pick(verdict) or say("no_verdict")
    best = next((row for row in board["rows"] if row["model"] == verdict.get("best")), None)
    short = f"headline_{confidence}"
    told = best is not None and status(best) != "failed" and short in catalogue
    return {
        "title": str(board.get("title") or (board.get("data") or {}).get("name") or "board"),
        "budget": catalogue.pick(board.get("budget")),
        "confidence": say(key) if key in catalogue else str(verdict.get("confidence")),
        "confidence_class": confidence,
        "headline": say(short, model=best["label"]) if best and told else text,
        "headline_facts": _facts(board, best, catalogue) if best and told else [],
        "verdict": text if told else "",
        "state": board["status"] if board.get("status") in ("running", "interrupted") else "",
        "counts": {"done": found.count("done"), "failed": found.count("failed"), "all": len(found)},
    }  # fmt: skip


def _facts(board: dict[str, Any], best: dict[str, Any], catalogue: Catalogue) -> Facts:
    metric, say = (board.get("metrics") or [None])[0] or {}, catalogue.message
    label = catalogue.pick(metric, "label")
    left_out = ", ".join(row["label"] for row in board["rows"] if not_ranked(row, catalogue))
    found = [
        (label[:1].upper() + label[1:], _value(best, metric, catalogue)),
        (say("fact_second"), _second(board, best, metric, catalogue)),
        (say("fact_mix"), _mixture(board, metric, catalogue)),
        (say("fact_would_decide"), _would_decide(board, catalogue)),
        (say("fact_horizon"), _horizon(board, catalogue)),
        (say("fact_not_ranked"), left_out),
        (say("fact_data"), _data(board, catalogue)),
    ]
    return [(term, text) for term, text in found if text]


def _value(row: Mapping[str, Any], metric: Mapping[str, Any], catalogue: Catalogue) -> str:
    value, ends = number(row.get(str(metric.get("name")))), [number(end) for end in row.get("interval") or []]
    shown = [figure(end, dict(metric)) for end in ends if end is not None]
    if value is None:
        return ""
    text = f"{figure(value, dict(metric))} {metric['unit']}" if metric.get("unit") not in (None, "", "%") else ""
    text = text or figure(value, dict(metric))
    return catalogue.message("fact_value", value=text, low=shown[0], high=shown[1]) if len(shown) == 2 else text


def _second(board: dict[str, Any], best: dict[str, Any], metric: dict[str, Any], catalogue: Catalogue) -> str:
    """The rows that are tied with the recommended one, else the next one and its distance; never the mixture."""
    verdict, name = board.get("verdict") or {}, str(metric.get("name"))
    tied = [r["label"] for r in board["rows"] if r["model"] in (verdict.get("tie") or []) and r is not best]
    if tied and verdict.get("confidence") != "clear":
        return catalogue.message("fact_tied", models=", ".join(tied))
    sign = -1 if metric.get("higher_is_better") else 1
    others = [
        (sign * gap, row) for row in board["rows"]
        if row is not best and row["model"] != MIXTURE and status(row) == "done" and not not_ranked(row, catalogue)
        and number(row.get(name)) is not None and (gap := number((row.get("gap") or {}).get("value"))) is not None
    ]  # fmt: skip
    if not others:
        return ""
    gap, row = min(others, key=lambda found: found[0])
    ends = sorted(abs(end) for key in ("low", "high") if (end := number(row["gap"].get(key))) is not None)
    said = {"model": row["label"], "value": figure(row[name], metric), "gap": figure(abs(gap), metric)}
    if gap < 0 or len(ends) < 2:
        return f"{said['model']}: {said['value']}"
    return catalogue.message("fact_gap", **said, low=figure(ends[0], metric), high=figure(ends[1], metric))


def _mixture(board: dict[str, Any], metric: dict[str, Any], catalogue: Catalogue) -> str:
    """The mixture and what it gains over the recommended row, where that is sure."""
    fact = ((board.get("verdict") or {}).get("facts") or {}).get(MIXTURE) or {}
    if not fact.get("better"):
        return ""
    labels = {row["model"]: row["label"] for row in board["rows"]}
    gap = fact["gap"]
    low, high = sorted(abs(gap[key]) for key in ("low", "high"))
    ends = {"low": figure(low, metric), "high": figure(high, metric)}
    told = {"value": figure(fact["value"], metric), "gap": figure(abs(gap["value"]), metric), **ends}
    return catalogue.message("fact_mix_better", models=" + ".join(labels[name] for name in fact["parts"]), **told)


def _would_decide(board: dict[str, Any], catalogue: Catalogue) -> str:
    """Return ``would_decide`` of the verdict, where it holds texts."""
    found = (board.get("verdict") or {}).get("would_decide")
    parts = found if isinstance(found, list) else [found]
    return " ".join(text for part in parts if isinstance(part, dict) and (text := catalogue.pick(part)))


def horizon_name(horizon: Any, catalogue: Catalogue) -> str:
    """Return a length of training in words, by the largest unit of which it is a whole number, at least two.

    Args:
        horizon: as it is typed: ``10min``.
        catalogue: the messages.
    """
    found = span(horizon)
    if found is None:
        return str(horizon or "")
    amount, kind = found
    if kind == "seconds":
        kind, size = next((u for u in LONG if amount >= 2 * u[1] and amount % u[1] == 0), ("seconds", 1))
        amount /= size
    amount = round(amount, 1)
    return catalogue.message(f"span_{kind}", amount=int(amount) if amount == int(amount) else amount)


def _horizon(board: dict[str, Any], catalogue: Catalogue) -> str:
    """Return the row to take for more training, and how likely it is the best one then."""
    found = (board.get("verdict") or {}).get("at_horizon") or {}
    labels = {row["model"]: row["label"] for row in board["rows"]}
    model, horizon = labels.get(found.get("best"), ""), horizon_name(found.get("horizon"), catalogue)
    if not model or not horizon:
        return ""
    sure = number(found.get("confidence"))
    if sure is None:
        return catalogue.message("fact_at_horizon_alone", model=model, horizon=horizon)
    key = "fact_at_horizon" if sure >= LIKELY else "fact_at_horizon_open"
    return catalogue.message(key, model=model, horizon=horizon, sure=percent(sure))


def _data(board: dict[str, Any], catalogue: Catalogue) -> str:
    data = board.get("data") or {}
    sizes = []
    for part in ("train", "test"):
        found = (data.get("parts") or {}).get(part) or {}
        key = next((key for key in SIZES if found.get(key) is not None), None)
        if key:
            size = catalogue.message(SIZES[key], n=count(found[key]))
            sizes.append(f"{catalogue.message(f'part_{part}')} {size}")
    name = str(data.get("name") or "")
    return f"{name}: {', '.join(sizes)}" if name and sizes else name
