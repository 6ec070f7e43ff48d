"""Names and sentences are those of the field: words that the glossary replaced occur in no public name, setting, flag,
JSON key, file name, message or document.
"""

from __future__ import annotations

import ast
import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import chainrule
from chainrule.cli import main
from chainrule.commands import COMMANDS
from chainrule.core import Recipe, registry
from chainrule.tasks.settings import RunConfig

PACKAGE = Path(chainrule.__file__).parent

NAMES = [
    "family",
    "families",
    "Family",
    "find_family",
    "verb",
    "verbs",
    "open_run",
    "Loaded",
    "Prepared",
    "Measured",
    "Standing",
    "Reading",
    "Exhibit",
    "Figure",
    "meant",
    "begun",
    "as_read",
    "settle",
    "perfect",
    "minimised",
    "validated",
    "known_settings",
    "Drawn",
    "Words",
    "Texts",
    "Pictures",
    "Masked",
    "Pairs",
    "NextSymbol",
    "Translated",
    "Hidden",
    "Described",
    "Labels",
    "Reconstructed",
    "OfText",
    "OfHidden",
    "Sight",
    "look",
    "looks_at",
    "ask",
    "hold",
    "turn",
    "carry",
    "Carried",
    "kept_BG",
    "read_BG",
    "prompted",
    "spells",
    "Expecting",
    "Filler",
    "Adopting",
    "BothWays",
    "OneWay",
    "start_symbol",
    "mask_symbol",
    "separator",
    "source_symbols",
    "symbol_dropout",
    "optimiser",
    "matrix_rate",
    "stepwise",
    "least_risk",
    "no_repeat",
    "draw_pictures",
    "about_pictures",
    "as_pictures",
    "picture_of",
    "read_picture",
    "read_pictures",
    "pictures_card",
    "LITTLE",
    "LITTLE_TEST",
    "LITTLE_TRAIN",
    "NEWS",
    "GAIN",
    "SURE",
]
"""Public classes, functions, methods, attributes, parameters and constants."""
PATTERNS = r"BetweenSequences|OverTokens|OverRecords|OverPictures|LongShortTermMemory|GatedRecurrentUnit|Elman"
SETTINGS = [
    "symbols",
    "source_symbols",
    "symbol_dropout",
    "codes",
    "rate",
    "matrix_rate",
    "rows",
    "window",
    "windows",
    "forget",
    "masked",
    "average",
    "accumulate",
    "clip",
    "stepwise",
    "keep",
    "decay",
    "whole_words",
    "optimiser",
    "family",
    "recipe",
]
"""Settings of runs, of training and of models."""
OF_TRAINING = ["smoothing"]
FLAGS = ["--family", "--least-risk", "--no-repeat"]
JSON_KEYS = ["family", "families", "recipe", "optimiser", "source_symbols"]
FILES = [
    "both_ways",
    "pictures",
    "decoding",
    "layers",
    "checkpoint",
    "exhibit",
    "objectives",
    "drawing",
    "rename",
    "choose",
]


SENTENCES = [
    "what attention reads",
    "no part of the way",
    "vectors that know a whole text",
    "does not begin with what another run",
    "tell what was hidden",
    "closest to all the rest",
    "what of the source is not looked at",
    "stay on one side of the split",
    "pixels of a side",
    "symbols a windowed model",
    "symbols that a windowed model",
    "knows when it cannot tell",
    "the input is at fault",
    "the machine is at fault",
    "defect of ours",
    "memorising pays",
    "more time would lower",
    "what length costs",
    "small print",
    "every continuation",
    "seen too rarely",
    "judge that was taught",
]
"""Parts of sentences that were rewritten, in lower case."""
WORDS = r"\b(verbs?|famil(y|ies))\b"
"""Words that documents, help and messages do not use of model types and commands."""


def test_public_names() -> None:
    found = [f"{file}:{line}: {name}" for file in sources() for name, line in public_names(file) if forbidden(name)]
    assert found == []


def test_settings() -> None:
    registry._discover()
    kinds = {"RunConfig": RunConfig, "Recipe": Recipe}
    kinds |= {f"{row.name} ({row.task})": row.config for row in registry._model_types.values()}
    found = [f"{kind}: {name}" for kind, config in kinds.items() for name in config.model_fields if name in SETTINGS]
    found += [f"Recipe: {name}" for name in Recipe.model_fields if name in OF_TRAINING]
    assert found == []


def test_flags(capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of(capsys)
    commands = re.findall(r"(?m)^ {2,4}([a-z]+) {2,}\S", text)
    assert len(commands) >= 12
    found = [
        f"{command}: {flag}"
        for command in commands
        for flag in re.findall(r"--[a-z][a-z-]*", help_of(capsys, command))
        if flag in FLAGS
    ]
    assert found == []


def test_json_of_a_board_and_of_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "corpus.txt"
    text.write_text("".join(f"{k} men went to mow, to mow a meadow of {k * k % 17} flowers.\n" for k in range(90)))
    small = ["--set", "size=tiny", "--threads", "1", "--precision", "fp32"]
    out = tmp_path / "out"
    assert main(["compare", str(text), "--models", "markov,gru", "--budget", "1epochs", *small, "--out", str(out)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(out / "best"), str(text), "--json"]) == 0
    board, answer = json.loads((out / "board.json").read_text()), json.loads(capsys.readouterr().out)
    assert {"bits_per_byte", "train"} <= keys({"rows": board["rows"]}) and "bits_per_byte" in keys(answer)
    assert (keys(board) | keys(answer)) & set(JSON_KEYS) == set()
    assert "horizon" not in board["verdict"]  # the context that is useful; that of training is in at_horizon


def test_json_keys_in_the_code() -> None:
    """Keys of dict displays: what runs, boards and answers are written from."""
    found = [f"{file}:{line}: {key}" for file in sources() for key, line in dict_keys(file) if key in JSON_KEYS]
    assert [name for name in found if not re.fullmatch(r"core/__init__\.py:\d+: recipe", name)] == []  # a module


def told(text: str) -> list[str]:
    """Sentences that were given up and stand in a text, wherever its lines are broken."""
    joined = re.sub(r"[\s\"'#]+", " ", text).lower()
    return [sentence for sentence in SENTENCES if sentence in joined]


def test_sentences_of_code_messages_and_documents() -> None:
    root = PACKAGE.parent
    files = [f for kind in ("*.py", "*.json", "*.html") for f in PACKAGE.rglob(kind)]
    files += [root / "README.md", root / "CONTRIBUTING.md", root / "CHANGELOG.md", *(root / "docs").glob("*.md")]
    assert len(files) > 200
    found = [f"{file.relative_to(root)}: {sentence}" for file in files for sentence in told(file.read_text("utf-8"))]
    assert found == []


def test_words_of_documents_messages_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    root = PACKAGE.parent
    texts = {f.name: f.read_text("utf-8") for f in [root / "README.md", *(root / "docs").glob("*.md")]}
    texts |= {
        str(f.relative_to(root)): f.read_text("utf-8")
        for f in [*PACKAGE.rglob("messages.json"), *PACKAGE.rglob("tabs/*.json")]
    }
    texts |= {" ".join(words): help_of(capsys, *words) for words in [[], *(name.split() for name in COMMANDS)]}
    assert len(texts) > 30
    assert [name for name, text in texts.items() if re.search(WORDS, text, re.IGNORECASE)] == []


def test_a_sentence_is_seen_across_lines() -> None:
    assert told('raise UserError(\n    f"{name} does not begin with what "\n    "another run learnt"\n)') != []
    assert told("fine-tuning is not supported for gru") == []


def test_file_names() -> None:
    parts = {part.removesuffix(".py") for file in sources() for part in file.parts}
    assert parts & set(FILES) == set()


@pytest.mark.parametrize(
    "line", ["def family(): ...", "class Masked: ...", "class A:\n    def f(self, look): ...", "SURE = 1"]
)
def test_the_walk_sees_names(line: str, tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text(line)
    assert any(forbidden(name) for name, _ in public_names(path))


# --- the walk -------------------------------------------------------------------------------------------------------


def sources() -> Iterator[Path]:
    """Files of the package, relative to it."""
    return (path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")))


def tree_of(file: Path) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text("utf-8"))


def forbidden(name: str) -> bool:
    return name in NAMES or re.search(PATTERNS, name) is not None


def public_names(file: Path) -> Iterator[tuple[str, int]]:
    """Names of a module that others can use, parameters and attributes of instances among them, with their lines."""
    for name, line in _names(tree_of(file)):
        if not name.startswith("_"):
            yield name, line


def _names(node: ast.AST) -> Iterator[tuple[str, int]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield child.name, child.lineno
            yield from _names(child)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            public = not child.name.startswith("_") or child.name == "__init__"
            arguments = child.args
            if public:
                yield child.name, child.lineno
                yield from ((a.arg, a.lineno) for a in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
            yield from _attributes(child)
        elif isinstance(child, ast.Assign | ast.AnnAssign):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            yield from ((x.id, x.lineno) for t in targets for x in ast.walk(t) if isinstance(x, ast.Name))
        else:
            yield from _names(child)


def _attributes(function: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(function):
        stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if stored and isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr, node.lineno


def dict_keys(file: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Dict):
            yield from (
                (key.value, key.lineno)
                for key in node.keys
                if isinstance(key, ast.Constant) and isinstance(key.value, str)
            )


def keys(value: object) -> set[str]:
    """All keys of a JSON value, at any depth."""
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set().union(*map(keys, value)) if isinstance(value, list) else set()


def help_of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    with contextlib.suppress(SystemExit):
        main([*command, "--help"])
    return capsys.readouterr().out
