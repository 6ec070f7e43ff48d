"""The sections below the results: data card, how rows were measured, settings, machine and methodology."""

from __future__ import annotations

import json
import re
from typing import Any

from chainrule.report.formats import DASH, compact, count, decimal, number, percent, setting, size
from chainrule.report.messages import Catalogue

Terms = list[tuple[str, str]]
"""Terms and their values."""
SIZES = {"bytes": "bytes", "chars": "characters", "tokens": "tokens", "values": "values", "records": "records"}
"""Sizes of a split, and the messages that name them."""
PARTS = ("train", "valid", "test")
"""Splits in the order of the table."""


def data_card(board: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    """Return ``facts``, ``sha256``, ``notes`` (text, whether it stays English), ``splits`` and ``examples``."""
    data, say = board.get("data") or {}, catalogue.message
    unit = str(data.get("unit") or "")
    key = f"unit_{re.sub(r'[^a-z]+', '_', unit)}"
    entropy, xz = number(data.get("entropy")), number((data.get("xz") or {}).get("bits_per_byte"))
    facts = [
        (say("name"), str(data.get("name") or "")),
        (say("data_unit"), say(key) if key in catalogue else unit),
        (say("image_size"), " × ".join(map(str, data.get("image") or []))),
        (say("tokenizer"), str(data.get("tokenizer") or "")),
        (say("vocabulary"), count(data.get("vocab_size"))),
        (say("entropy"), "" if entropy is None else say("bits_per_token", value=decimal(entropy))),
        (say("xz_needs"), "" if xz is None else say("bits_per_byte", value=decimal(xz))),
        (say("duplicates"), percent(data.get("duplicates"), 2)),
        (say("captions_seen"), percent(data.get("captions_seen"))),
    ]
    notes = [(note, catalogue.note(note)) for note in data.get("notes") or []]
    return {
        "facts": _known(facts), "sha256": data.get("sha256"),
        "notes": [(said or note, said is None) for note, said in notes],
        "splits": _splits(data, catalogue), "examples": (data.get("examples") or [])[:3],
    }  # fmt: skip


def _known(pairs: Terms) -> Terms:
    """The pairs that have a value."""
    return [(term, value) for term, value in pairs if value and value != DASH]


def _splits(data: dict[str, Any], catalogue: Catalogue) -> tuple[list[str], list[list[str]]] | None:
    """Heading and lines of the table of sizes."""
    given = data.get("parts") or {}
    parts = {name: given[name] for name in dict.fromkeys((*PARTS, *given)) if given.get(name)}
    kept = [key for key in SIZES if any(part.get(key) is not None for part in parts.values())]
    if not kept:
        return None
    names = {key: catalogue.values["tokens"] if key == "tokens" else catalogue.message(SIZES[key]) for key in kept}
    lines = []
    for name, part in parts.items():
        key = f"part_{name}"
        lines.append([catalogue.message(key) if key in catalogue else name, *(count(part.get(k)) for k in kept)])
    return [catalogue.message("part"), *names.values()], lines


def evaluations(board: dict[str, Any], catalogue: Catalogue) -> tuple[list[str], list[list[str]]]:
    """Return heading and lines of how each row was measured, without the columns that are empty in every row."""
    say, empty = catalogue.message, (DASH, catalogue.message("unbounded"))
    main = ((board.get("metrics") or [None])[0] or {}).get("name")
    head = [say(key) for key in ("col_model", "tokenizer", "context", "stride", "trained_on", "scored", "evaluation")]
    body = [
        [
            row["label"],
            str(row.get("tokenizer") or DASH),
            count(row.get("context")) if row.get("context") else empty[number(row.get(main)) is not None],
            count(row.get("stride")),
            compact(row.get("train_tokens")),
            count(row.get("tokens") or row.get("symbols") or row.get("n") or row.get("sentences")),
            _visible(row, catalogue),
        ]
        for row in board["rows"]
    ]
    kept = [i for i in range(len(head)) if i == 0 or any(line[i] not in empty for line in body)]
    return [head[i] for i in kept], [[line[i] for i in kept] for line in body]


def _visible(row: dict[str, Any], catalogue: Catalogue) -> str:
    """The context length that a row saw while it was evaluated."""
    visible, context, stride = (row.get(key) for key in ("visible", "context", "stride"))
    if visible is None or number(visible) is None:
        return DASH
    if number(stride) is not None:
        return catalogue.message("evaluation_windows", window=visible + stride, stride=stride, visible=visible)
    kind = "carried" if context is None else "context"
    return catalogue.message(f"evaluation_{kind}", visible=visible)


def settings(board: dict[str, Any], catalogue: Catalogue) -> list[tuple[str, Terms]]:
    """Return a heading and all settings of every row's model and training."""
    yes, no = catalogue.message("yes"), catalogue.message("no")
    return [
        (
            f"{row['label']} · {catalogue.message(kind)}",
            [(name, setting(value, yes, no)) for name, value in row[kind].items()],
        )
        for row in board["rows"]
        for kind in ("config", "train")
        if row.get(kind)
    ]


def recipes(board: dict[str, Any], catalogue: Catalogue) -> list[list[str]]:
    """Return for every row its label and the training settings that differ from the default.

    Args:
        board: the board, with labels and styles.
        catalogue: its messages.
    """
    from chainrule.core.recipe import Recipe

    default = json.loads(Recipe().model_dump_json())
    yes, no = catalogue.message("yes"), catalogue.message("no")
    lines = []
    for row in board["rows"]:
        changed = [(k, v) for k, v in (row.get("train") or {}).items() if k not in default or v != default[k]]
        if row.get("train"):
            said = ", ".join(f"{name} {setting(value, yes, no)}" for name, value in changed)
            lines.append([row["label"], said or catalogue.message("recipes_default")])
    return lines


def machine(board: dict[str, Any], catalogue: Catalogue) -> Terms:
    """Return the machine, the device and the software that the board was made with."""
    found, say = board.get("machine") or {}, catalogue.message
    cores, threads, memory = (found.get(key) for key in ("cores", "threads", "memory_bytes"))
    hardware = [
        found.get("cpu"),
        (cores or threads) and say("cores", cores=count(cores), threads=count(threads), n=cores, m=threads),
        memory and size(memory),
    ]
    software = [
        found.get("device"),
        found.get("torch") and f"torch {found['torch']}",
        found.get("bf16") and say("precision_bf16"),
    ]
    joined = [(say("machine"), hardware), (say("device"), software)]
    return _known([(term, ", ".join(str(item) for item in items if item)) for term, items in joined])


def methodology(board: dict[str, Any], catalogue: Catalogue, own: dict[str, Any]) -> list[str]:
    """Return the sentences on how to read the figures: the frame's around those of the section.

    Args:
        board: the board.
        catalogue: its messages.
        own: the values of the section, of which ``methodology`` is read.
    """
    say = catalogue.message
    mine = own.get("methodology") or ([say("method_task")] if "method_task" in catalogue else [])
    budget = say("method_budget", budget=catalogue.pick(board.get("budget")) or DASH)
    return [budget, *mine, say("method_interval"), say("method_choice"), say("method_speed")]
