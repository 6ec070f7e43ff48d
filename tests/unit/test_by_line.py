"""Commands over many lines: answers in order, in batches of bounded size, an object for each line."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import chainrule
from chainrule import cli
from chainrule.commands import COMMANDS
from chainrule.core import DataError, UserError
from chainrule.core.progress import listening
from chainrule.data.lines import parsed_lines
from chainrule.inference import batching
from chainrule.options import make
from chainrule.tasks import by_line
from chainrule.tasks.by_line import answers
from chainrule.tasks.generate import reading
from tests.serve.native_runs import SPECS, train

TEXTS = ["the f", "the fox ran to the dog " * 9, "", "the dog sat", "fox", "the dog sat by the fox " * 3] * 3
INPUTS: dict[str, tuple[str, list[Any]]] = {
    "predict": ("text", TEXTS), "score": ("text", TEXTS), "classify": ("labels", TEXTS), "fill": (
        "masks", ["the f[MASK]x", "[MASK]he [MASK]og", "", "the dog sat by the [MASK]ox"] * 3),
    "tag": ("tags", [["the", "dog", "sat"], ["a"], ["one", "bird", "slept", "the", "cat"]] * 4),
    "translate": ("pairs", ["a e", "b f c g", "", "d h"]),
}  # fmt: skip
"""A run and inputs of very different lengths for each command."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    names = ["visits", "text", "pairs", "tags", "labels", "masks"]
    return dict(zip(names, train(tmp_path_factory.mktemp("runs"), *names)))


@pytest.fixture(scope="module")
def runs(folders: dict[str, str]) -> dict[str, chainrule.Run]:
    return {name: chainrule.load(folder, threads=1, precision="fp32") for name, folder in folders.items()}


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[Any]]:
    """The objects that a command prints, a line each."""

    def call(*words: str) -> list[Any]:
        assert cli.main(list(words)) == 0, capsys.readouterr().err
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return call


def rounded(found: Any) -> Any:
    """Numbers to five digits: rows that are read together are summed in another order."""
    if isinstance(found, dict):
        return {name: rounded(value) for name, value in found.items() if name != "tokens_per_second"}
    if isinstance(found, list | tuple):
        return [rounded(value) for value in found]
    return float(f"{found:.4g}") if isinstance(found, float) else found


# --- batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", INPUTS)
def test_many_inputs_answer_as_each_alone_in_order(
    name: str, runs: dict[str, chainrule.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, items = runs[INPUTS[name][0]], INPUTS[name][1]
    rows = COMMANDS[name](**{"run": run, str(COMMANDS[name].by_line): items}).rows
    together = list(rows(getattr(run, name)(items)))
    alone = [row for item in items if item for row in rows(getattr(run, name)([item]))]
    assert len(together) == len(items)
    assert rounded([row for row, item in zip(together, items) if item]) == rounded(alone)


@pytest.mark.parametrize("name", ["predict", "classify", "fill", "tag"])
def test_no_batch_holds_more_than_its_tokens(
    name: str, runs: dict[str, chainrule.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows x the longest of them, of one row at least, and neighbours in length: little padding."""
    seen: list[list[int]] = []
    size = batching.longest_first

    def small(lengths: Any, *, rows: int | None = None) -> Any:
        for group in size(lengths, 40, rows=rows):
            seen.append([lengths[k] for k in group])
            yield group

    for module in ("generate.reading", "classify.inference", "fill.inference", "tag.inference"):
        monkeypatch.setattr(f"chainrule.tasks.{module}.longest_first", small)
    run, items = runs[INPUTS[name][0]], INPUTS[name][1]
    found = getattr(run, name)(items)
    monkeypatch.undo()
    assert rounded(found) == rounded(getattr(run, name)(items))
    assert len(seen) > 1 and all(len(group) == 1 or len(group) * (max(group) + 1) <= 40 for group in seen)


@pytest.mark.parametrize("k", [1, 3, 7, 11])
def test_the_most_probable_tokens_are_those_of_a_stable_sort(k: int) -> None:
    """Many ties: of equal ones the lower id comes first, and none of the others."""
    logits = torch.randint(0, 4, (60, 11), generator=torch.Generator().manual_seed(k)).double()
    logits[:7, 3:] = -torch.inf
    log_p = logits.log_softmax(-1)
    p, ids = log_p.exp().sort(dim=-1, descending=True, stable=True)
    expected = [[(i, x) for i, x in zip(*row) if x > 0] for row in zip(ids[:, :k].tolist(), p[:, :k].tolist())]
    assert reading._most_probable(log_p, k) == expected


def test_progress_is_told_to_whoever_listens(runs: dict[str, chainrule.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_line.blocks, "__defaults__", (4, 1 << 20))
    told: list[float] = []
    options = make(COMMANDS["predict"], {"run": runs["text"], "input": TEXTS})
    with listening(lambda _, share: told.append(share)):
        assert len(list(answers(options))) > 3
    assert told == sorted(told) and told[-1] == 1 and len(set(told)) >= 5


# --- JSON Lines out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [3, 4096])
@pytest.mark.parametrize("name", ["predict", "score", "classify", "translate"])
def test_json_lines_hold_an_object_for_each_line_whatever_the_blocks(
    name: str,
    items: int,
    folders: dict[str, str],
    printed: Callable[..., list[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(by_line.blocks, "__defaults__", (items, 1 << 20))
    file = tmp_path / "lines.txt"
    file.write_text("".join(f"{line}\n" for line in INPUTS[name][1]))
    words = [name, folders[INPUTS[name][0]], str(file), "--threads", "1", "--precision", "fp32"]
    (whole,) = printed(*words, "--json")
    rows = printed(*words, "--json-lines")
    assert len(rows) == len(INPUTS[name][1])
    assert rounded(rows) == rounded(list(COMMANDS[name](run="", input="").rows(whole)))


def test_a_block_is_printed_before_the_next_one_is_answered(
    folders: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_line.blocks, "__defaults__", (2, 1 << 20))
    out, before = io.StringIO(), []
    real = by_line.answer
    monkeypatch.setattr(by_line, "answer", lambda *args: before.append(out.getvalue().count("\n")) or real(*args))
    monkeypatch.setattr(sys, "stdout", out)
    (tmp_path / "x.txt").write_text("the\nfox\nran\nto\nthe\n")
    assert cli.main(["score", folders["text"], str(tmp_path / "x.txt"), "--threads", "1", "--json-lines"]) == 0
    assert before == [0, 2, 4] and out.getvalue().count("\n") == 5


def test_blank_lines_and_unknown_symbols_keep_their_place(
    folders: dict[str, str], printed: Callable[..., list[Any]], tmp_path: Path
) -> None:
    (tmp_path / "x.txt").write_text("home search\n\nhome spaceship\n")
    rows = printed("score", folders["visits"], str(tmp_path / "x.txt"), "--json-lines")
    assert [(row["symbols"], row.get("unknown", 0)) for row in rows] == [(3, 0), (1, 0), (3, 1)]
    rows = printed("predict", folders["visits"], str(tmp_path / "x.txt"), "--json-lines", "--top-k", "1")
    assert [row["unknown"] for row in rows] == [0, 0, 1]


@pytest.mark.parametrize("size", [1, 4096])
def test_a_blank_line_is_an_empty_sequence_of_tags(
    size: int,
    folders: dict[str, str],
    printed: Callable[..., list[Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(by_line.blocks, "__defaults__", (size, 1 << 20))
    (tmp_path / "x.txt").write_text("the dog sat\n\na cat ran\n")
    rows = printed("tag", folders["tags"], str(tmp_path / "x.txt"), "--json-lines")
    assert [len(row["tags"]) for row in rows] == [3, 0, 3] and rows[1] == {"tokens": [], "tags": [], "nats": 0.0}
    (whole,) = printed("tag", folders["tags"], str(tmp_path / "x.txt"), "--json")
    assert [len(tags) for tags in whole["tags"]] == [3, 0, 3]


def test_a_name_of_a_missing_file_is_no_text_to_classify(
    folders: dict[str, str], printed: Callable[..., list[Any]], tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    for form in ([], ["--json-lines"]):
        assert cli.main(["classify", folders["labels"], "to be", "nosuch.txt", *form]) == 2
        shown = capsys.readouterr()
        assert shown.err.startswith("chainrule: nosuch.txt: no such file; if it is a text") and not shown.out
    rows = printed("classify", folders["labels"], "read nosuch.txt", "v1.5", "etc.", "--json-lines")
    assert [row["input"] for row in rows] == ["read nosuch.txt", "v1.5", "etc."]
    (tmp_path / "lines").write_text("nosuch.txt\n")
    assert [row["input"] for row in printed("classify", folders["labels"], "lines", "--json-lines")] == ["nosuch.txt"]


def test_only_commands_that_read_lines_print_json_lines(folders: dict[str, str], capsys: Any) -> None:
    assert cli.main(["laws", "gpt", "--json-lines"]) == 2
    assert "laws has no option --json-lines" in capsys.readouterr().err
    assert cli.main(["score", folders["text"], "--json", "--json-lines"]) == 2
    assert "--json-lines: not allowed with argument --json" in capsys.readouterr().err


def test_a_classifier_counts_the_tokens_that_it_does_not_know(tmp_path: Path) -> None:
    data = [{"text": f"{a} {b}", "label": a} for a in ("to", "be") for b in ("or", "not", "is", "that", "it")] * 4
    more = {"task": "classify", "tokenizer": "word", "set": ["size=tiny"], "budget": "2steps", "threads": 1}
    chainrule.train(data, "gru", str(tmp_path / "run"), **more)
    run = chainrule.load(tmp_path / "run", threads=1)
    found = run.classify(["to be", "to zebra or gnu", ""])
    assert found["unknown"] == [0, 2, 0]
    rows = COMMANDS["classify"](run=run, input=()).rows(found)  # type: ignore[call-arg]
    assert [row["unknown"] for row in rows] == [0, 2, 0]
    assert "unknown" not in run.classify(["to be"])


# --- JSON Lines in ----------------------------------------------------------------------------------------------------


def test_a_line_of_json_is_a_text_a_list_of_tokens_or_an_object_that_holds_one(
    folders: dict[str, str], printed: Callable[..., list[Any]], tmp_path: Path
) -> None:
    lines = ['["home", "search"]', '{"sequence": ["home", "search"], "id": 7}', '"home search"', "", "[]"]
    (tmp_path / "x.jsonl").write_text("\n".join(lines) + "\n")
    rows = printed("predict", folders["visits"], str(tmp_path / "x.jsonl"), "--json-lines")
    assert rows[0] == rows[1] == rows[2] != rows[3] == rows[4]
    (tmp_path / "y.jsonl").write_text('{"text": "the fox\\nthe", "label": "x"}\n"the dog"\n')
    assert [row["bytes"] for row in printed("score", folders["text"], str(tmp_path / "y.jsonl"), "--json-lines")] == [
        12, 8,
    ]  # fmt: skip
    (answer,) = printed("score", folders["text"], str(tmp_path / "y.jsonl"), "--json")
    assert answer["bytes"] == 20
    (tmp_path / "z.jsonl").write_text('{"tokens": ["New York", "sat"]}\n')
    (row,) = printed("tag", folders["tags"], str(tmp_path / "z.jsonl"), "--json-lines")
    assert row["tokens"] == ["New York", "sat"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", ":2: not JSON: "),
        ('{"other": 1}', ":2: an object without a field text, prompt"),
        ("5", ":2: 5: give a string"),
    ],
)
def test_a_line_that_holds_no_text_is_refused_with_its_number(line: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(f'"a"\n{line}\n')
    with pytest.raises(DataError, match=r"x\.jsonl:2: ") as error:
        parsed_lines(tmp_path / "x.jsonl")
    assert says in str(error.value)
    assert parsed_lines(["x.jsonl"]) == ["x.jsonl"]  # a text, not a path


# --- prompts from a file ----------------------------------------------------------------------------------------------


def test_prompts_of_a_file_are_continued_as_those_of_the_command_line(
    folders: dict[str, str], printed: Callable[..., list[Any]], tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "x.txt").write_text("the f\n\nthe dog\n")
    words = ["generate", folders["text"], "-n", "2", "--max-tokens", "6", "--threads", "1", "--precision", "fp32"]
    (given,) = printed(*words, "--prompt", "the f", "--prompt", "", "--prompt", "the dog", "--json")
    (read,) = printed(*words, str(tmp_path / "x.txt"), "--json")
    assert read["texts"] == given["texts"] and read["prompts"] == ["the f", "", "the dog"]
    rows = printed(*words, str(tmp_path / "x.txt"), "--json-lines")
    assert [row["prompt"] for row in rows] == read["prompts"]
    assert [text for row in rows for text in row["texts"]] == read["texts"]
    assert cli.main([*words, str(tmp_path / "x.txt")]) == 0
    assert capsys.readouterr().out.startswith("the f" + read["texts"][0])
    assert cli.main([*words, str(tmp_path / "x.txt"), "--prompt", "a"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    assert cli.main([*words, "the f"]) == 2
    assert "the f: no such file of prompts; a text to continue is given by --prompt" in capsys.readouterr().err


def test_prompts_of_symbols_are_lists_or_lines(runs: dict[str, chainrule.Run]) -> None:
    found = runs["visits"].generate(input=[["home", "search"], "home search"], max_tokens=3)
    assert found["sequences"][0] == found["sequences"][1]
    with pytest.raises(UserError, match=r"^generate: this run reads text \(char\): give strings"):
        runs["text"].generate(input=[["home"]])
    assert len(SPECS) > 6
