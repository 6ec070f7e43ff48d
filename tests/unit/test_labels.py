"""Reading tags and labels, judging them, and the commands and the board that do so."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from chainrule.cli import main
from chainrule.core import DataError, UserError
from chainrule.core.metric import item_sums
from chainrule.data.labelled import read_labelled, read_labelled_part, read_tagged, read_tagged_part
from chainrule.data.recognise import infer_task
from chainrule.data.records import UNKNOWN
from chainrule.report import render
from chainrule.report.messages import Catalogue
from chainrule.tasks.board import section_of
from chainrule.tasks.calibration import ECE, calibration_items
from chainrule.tasks.label_board import trimmed
from chainrule.tasks.label_metrics import confusion, mark_spans, span_f1, spans
from chainrule.tasks.tag.board import most_frequent_tag

TAGGED = "the\tD\tdt\ndog\tN\tnn\n\na\tD\tdt\ncat\tN\tnn\nsat\tV\tvb\n"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def lines(rows: list[tuple[str, ...]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_confusion_counts_by_hand_and_leaves_unknown_labels_out() -> None:
    found = confusion(np.array([0, 0, 1, 2, UNKNOWN]), np.array([0, 1, 1, 0, 2]), 3)
    assert found.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_calibration_error_by_hand() -> None:
    """Two bins of 15: 0.95 twice (one right: |1 - 1.9| = 0.9), 0.5 twice (both right: |2 - 1| = 1), over 4 records."""

    def error(confidence: list[float], right: list[float]) -> float:
        items = calibration_items(np.array(confidence), np.array(right))
        return float(ECE.figure(item_sums({"calibration": items})))

    assert error([0.95, 0.95, 0.5, 0.5], [1.0, 0.0, 1.0, 1.0]) == pytest.approx((0.9 + 1.0) / 4)
    assert error([1.0], [1.0]) == 0


def test_spans_are_those_of_conlleval() -> None:
    assert spans(["B-P", "I-P", "O", "B-P", "B-P"]) == {(0, 2, "P"), (3, 4, "P"), (4, 5, "P")}
    assert spans(["I-P", "I-Q", "O", "I-Q"]) == {(0, 1, "P"), (1, 2, "Q"), (3, 4, "Q")}
    assert spans(["S-P", "B-P", "E-P", "I-P"]) == {(0, 1, "P"), (1, 3, "P"), (3, 4, "P")}
    assert spans([]) == set()


def test_span_f1_by_hand() -> None:
    """Three true spans, two found, one of them right: P = 1/2, R = 1/3, F1 = 0.4."""
    truth = [["B-P", "I-P", "O"], ["B-Q", "O", "B-P"]]
    guess = [["B-P", "I-P", "O"], ["O", "B-Q", "O"]]
    assert span_f1(truth, guess) == pytest.approx(0.4)
    assert span_f1(truth, [["O"] * 3] * 2) == 0


def test_only_tags_that_mark_spans_have_span_f1() -> None:
    assert mark_spans(("B-PER", "I-PER", "O"))
    assert not mark_spans(("O",))
    assert not mark_spans(("NOUN", "VERB", "O"))


def test_the_matrix_of_a_board_keeps_the_frequent_labels_and_sums_the_rest() -> None:
    counts = np.diag(np.arange(30, 0, -1))
    counts[0, 29], counts[28, 29] = 5, 2
    found = trimmed(counts, tuple(f"L{c}" for c in range(30)))
    assert found["labels"] == [f"L{c}" for c in range(24)] and found["others"] == 6
    assert found["counts"][0][24] == 5 and found["counts"][24][24] == sum(range(1, 7)) + 2
    assert np.array(found["counts"]).sum() == counts.sum()
    assert found["worst"] == [{"true": "L0", "called": "L29", "count": 5}, {"true": "L28", "called": "L29", "count": 2}]


# --- tags -------------------------------------------------------------------------------------------------------------


def test_token_lines_are_read_with_their_further_columns(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        write(tmp_path / f"{part}.tsv.gz", "# a comment\n" + TAGGED.replace("\n", "\r\n"))
    data = read_tagged(tmp_path)
    assert data.labels == ("D", "N", "V") and not data.carved
    rows = data.parts["train"].rows
    assert [row.words for row in rows] == [("the", "dog"), ("a", "cat", "sat")]
    assert rows[1].columns == ("dt", "nn", "vb")
    assert [row.tolist() for row in data.parts["test"].labels] == [[0, 1], [0, 1, 2]]
    card = data.card()
    assert card["unseen"] == 0 and card["duplicates"] == 1 and card["parts"]["valid"] == {"records": 2, "tokens": 5}


def test_columns_say_which_is_which(tmp_path: Path) -> None:
    for part in ("train", "valid"):
        write(tmp_path / f"{part}.tsv", "1\tNN\tN\tdog\n2\tVB\tV\tsat\n")
    data = read_tagged(tmp_path, "-,fine,tags,tokens")
    assert data.parts["train"].rows[0].words == ("dog", "sat")
    assert data.parts["train"].rows[0].columns == ("NN", "VB")
    with pytest.raises(UserError, match=r"has 4 columns; name them in order"):
        read_tagged(tmp_path, "tokens,tags")


def test_tables_of_tokens_and_tags_are_the_same_data(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b c"], "tags": ["X", "Y"], "split": part} for part in ("train", "valid", "test")]
    path = write(tmp_path / "d.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    data = read_tagged(path)
    assert data.parts["train"].rows[0].words == ("a", "b c") and set(data.parts) == {"train", "valid", "test"}
    other = write(tmp_path / "d.csv", "tokens,tags,split\na b,X Y,train\nb,Y,valid\n")
    assert read_tagged(other).parts["valid"].rows[0].words == ("b",)


def test_equal_sequences_stay_on_one_side_and_a_missing_validation_part_is_split_off(tmp_path: Path) -> None:
    text = "".join(f"w{k % 40}\tX\nv\tY\n\n" for k in range(120))
    write(tmp_path / "train.tsv", text)
    write(tmp_path / "test.tsv", TAGGED.replace("\tdt", "").replace("\tnn", "").replace("\tvb", ""))
    data = read_tagged(tmp_path)
    assert data.carved
    sides = [{row.words for row in data.parts[part].rows} for part in ("train", "valid")]
    assert sides[1] and not sides[0] & sides[1]
    assert sum(len(p.rows) for n, p in data.parts.items() if n != "test") == 120
    assert any("5 tokens with a label that train lacks" in note for note in data.notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("a\tX\nb\n", "line 2: 'b' has no tag"),
        ("a\tX\nb\t\n", "line 2: 'b\t' has no tag"),
        ("a\tX\nb\tY\tz\n", "line 2: 3 columns where the first token has 2"),
        ("a\tX\n\nb\tX\n\nc\tX\n\nd\tX\n", "at least 2 tags"),
        ("# only a comment\n", "no token to train on"),
    ],
)
def test_bad_tagged_files_are_one_line_that_says_where(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path / "train.tsv", text)
    write(tmp_path / "valid.tsv", TAGGED)
    with pytest.raises(DataError) as caught:
        read_tagged(tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_tables_and_token_lines_are_not_mixed_and_lengths_must_agree(tmp_path: Path) -> None:
    write(tmp_path / "a" / "train.tsv", TAGGED)
    write(tmp_path / "a" / "valid.jsonl", '{"tokens": ["a"], "tags": ["N"]}\n')
    with pytest.raises(DataError, match="mixed"):
        read_tagged(tmp_path / "a")
    path = write(tmp_path / "b.jsonl", '{"tokens": ["a", "b"], "tags": ["N"]}\n')
    with pytest.raises(DataError, match="line 1: 2 tokens and 1 tags"):
        read_tagged(path)


def test_a_tag_that_training_lacks_is_unknown(tmp_path: Path) -> None:
    part = read_tagged_part(write(tmp_path / "x.tsv", TAGGED), None).numbered(("D", "N"), "x.tsv")
    assert ["with a label that train lacks" in note for note in part.notes] == [True]
    assert [row.tolist() for row in part.labels] == [[0, 1], [0, 1, UNKNOWN]]


# --- labels -----------------------------------------------------------------------------------------------------------


def test_repeated_columns_are_joined_and_a_dash_skips(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        write(tmp_path / f"{part}.tsv", lines([("ham", 'Re: "x"', "body", "1"), ("spam", "buy", "now", "2")]))
    data = read_labelled(tmp_path, "label,text,text,-")
    assert data.labels == ("ham", "spam")
    assert data.parts["train"].texts == ('Re: "x" body', "buy now")
    assert data.card()["labels"][0] == {"label": "ham", "train": 0.5, "held_out": 0.5}


def test_a_folder_of_one_folder_for_each_class(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for label, text in (("cats", "meow"), ("dogs", "woof")):
            for k in range(30):
                write(tmp_path / part / label / f"{k}.txt", f"{text} {k}\n")
    data = read_labelled(tmp_path)
    assert data.labels == ("cats", "dogs") and data.carved
    assert len(data.parts["test"]) == 60
    assert len(data.parts["train"]) + len(data.parts["valid"]) == 60 and len(data.parts["valid"]) > 0
    assert all(("meow" in x) == (n == "cats") for x, n in zip(data.parts["train"].texts, data.parts["train"].names))


def test_a_group_stays_together(tmp_path: Path) -> None:
    rows = "".join(f"text {k},{'ab'[k % 2]},g{k % 25}\n" for k in range(200))
    data = read_labelled(write(tmp_path / "d.csv", "text,label,group\n" + rows))
    group = {f"text {k}": k % 25 for k in range(200)}
    seen = [{group[x] for x in part.texts} for part in data.parts.values()]
    assert len(seen) == 3 and sum(map(len, seen)) == 25


@pytest.mark.parametrize(
    ("name", "text", "columns", "words"),
    [
        ("d.csv", "", None, "empty"),
        ("d.csv", "text,label\na,\nb,y\n", None, "line 2: no label"),
        ("d.csv", "a,b\nc,d\n", None, "no column 'text'"),
        ("d.csv", "text,label\na,x\nb,y,z\n", None, "line 3: 3 columns"),
        ("d.csv", "text,label\n" + "".join(f"t{k},x\n" for k in range(40)), None, "labelled 'x': at least 2 labels"),
    ],
)  # fmt: skip
def test_bad_tables_of_labels_are_one_line_that_says_where(
    tmp_path: Path, name: str, text: str, columns: str | None, words: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_labelled(write(tmp_path / name, text), columns)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_a_class_with_one_record_and_one_that_training_lacks_are_told(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", "text,label\n" + "".join(f"t{k},{'xy'[k % 2]}\n" for k in range(20)) + "q,rare\n")
    write(tmp_path / "valid.csv", "text,label\na,x\nb,strange\n")
    data = read_labelled(tmp_path)
    assert any("only one training record each: rare" in note for note in data.notes)
    assert any("1 record with a label that train lacks (strange)" in note for note in data.notes)
    assert data.parts["valid"].labels.tolist() == [data.labels.index("x"), UNKNOWN]
    part = read_labelled_part(tmp_path / "valid.csv", None).numbered(data.labels, "valid.csv")
    assert any("1 record with a label that train lacks (strange)" in note for note in part.notes)
    assert part.names == ("x", "strange")


# --- from the command line --------------------------------------------------------------------------------------------


def sentences(count: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    words = {"D": ["the", "a"], "N": ["dog", "cat", "bird", "sun", "sang"], "V": ["sat", "ran", "sang"]}
    rows = []
    for _ in range(count):
        rows += [f"{rng.choice(words[t])}\t{t}" for t in ("D", "N", "V", "D", "N")[: rng.integers(2, 6)]] + [""]
    return "\n".join(rows) + "\n"


@pytest.fixture(scope="module")
def tagging(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagging")
    for seed, part in enumerate(("train", "valid", "test")):
        write(folder / f"{part}.tsv", sentences(120 if part != "valid" else 20, seed))
    return folder


@pytest.fixture(scope="module")
def labelling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(1)
    letters = {"x": list("abc"), "y": list("bcd")}
    rows = ["text,label"] + [f"{''.join(rng.choice(letters[c], 9))},{c}" for c in "xy" * 200]
    return write(tmp_path_factory.mktemp("labelling") / "d.csv", "\n".join(rows) + "\n")


def printed(capsys: pytest.CaptureFixture[str], *words: str | Path) -> dict:
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_data_says_itself_what_it_is_for(tagging: Path, labelling: Path, tmp_path: Path) -> None:
    assert infer_task(str(tagging), None) == "tag"
    assert infer_task(str(labelling), None) == "classify"
    assert infer_task(str(write(tmp_path / "x.jsonl", '{"tokens": [], "tags": []}\n')), None) == "tag"
    assert infer_task(str(write(tmp_path / "y.tsv", "a\tb\n")), "label,text") == "classify"
    assert infer_task(str(write(tmp_path / "z.tsv.gz", TAGGED)), None) == "tag"
    assert infer_task(str(write(tmp_path / "t.txt", "text\n\nmore\n")), None) == "generate"
    assert infer_task(str(tmp_path / "nothing"), None) == "generate"


def test_tagging_from_training_to_predictions(
    tagging: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "p.jsonl"
    made = printed(capsys, "train", tagging, "--model", "hmm", "--out", run)
    assert made["best"] > 0.95 and made["metric"]["name"] == "accuracy"
    found = printed(capsys, "evaluate", run, tagging / "test.tsv", "--predictions", out)
    metrics = {"accuracy", "macro_f1", "span_f1", "tokens", "intervals", "labels"}
    assert found.keys() == {"task", "model", *metrics} and found["span_f1"] is None
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    right = [a == b for row in rows for a, b in zip(row["tags"], row["predicted"])]
    assert len(right) == found["tokens"] and np.mean(right) == pytest.approx(found["accuracy"])
    given = write(tmp_path / "in.txt", "the bird sang\na sun\n")
    assert printed(capsys, "tag", run, given)["tags"] == [["D", "N", "V"], ["D", "N"]]
    lines_in = write(tmp_path / "in.tsv", "the\nbird\n\na\nsun\n")
    assert printed(capsys, "tag", run, lines_in)["tokens"] == [["the", "bird"], ["a", "sun"]]
    assert main(["tag", str(run), str(given)]) == 0
    assert capsys.readouterr().out == "the\tD\nbird\tN\nsang\tV\n\na\tD\nsun\tN\n"
    assert main(["classify", str(run), "the"]) == 2
    assert "a run of --task classify" in capsys.readouterr().err


def test_a_run_that_is_resumed_or_loaded_tags_the_same(
    tagging: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, again = tmp_path / "a", tmp_path / "b"
    for run in (first, again):
        printed(capsys, "train", tagging, "--model", "hmm", "--out", run)
    printed(capsys, "train", tagging, "--model", "hmm", "--out", first, "--resume", "auto")
    hashes = [json.loads((run / "MANIFEST.json").read_text())["files"]["model.safetensors"] for run in (first, again)]
    assert hashes[0] == hashes[1]


def test_classifying_from_training_to_predictions(
    labelling: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "p.jsonl"
    printed(capsys, "train", labelling, "--model", "ngram", "--out", run)
    found = printed(capsys, "evaluate", run, labelling, "--predictions", out)
    metrics = {"accuracy", "macro_f1", "ece", "n", "intervals", "labels", "reliability"}
    assert found.keys() == {"task", "model", *metrics} and found["n"] == 400 and found["accuracy"] > 0.9
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert np.mean([row["label"] == row["predicted"] for row in rows]) == pytest.approx(found["accuracy"])
    answer = printed(capsys, "classify", run, "aaaaaaaaa", "ddddddddd")
    assert answer["labels"] == ["x", "y"]
    assert all(math.isclose(sum(p.values()), 1) for p in answer["p"])
    assert main(["tag", str(run), str(labelling)]) == 2
    assert "a run of --task tag" in capsys.readouterr().err


def test_a_validation_part_that_nobody_gave_is_counted_after_it_was_looked_at(
    labelling: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its figure is that of a model of the rest; the model that is kept has seen the words that only it holds."""
    data = read_labelled(labelling)
    only = next(iter(data.parts["valid"].texts))
    run = tmp_path / "run"
    made = printed(capsys, "train", labelling, "--model", "bag", "--out", run)
    assert made["tokens"] == len(data.parts["train"]) + len(data.parts["valid"])
    from chainrule.api import load

    assert only in load(run).model.unit_models["word"].estimator().ngrams.vocabulary.known
    apart = tmp_path / "apart"
    for part, records in data.parts.items():
        write(
            apart / f"{part}.csv", "text,label\n" + "".join(f"{x},{n}\n" for x, n in zip(records.texts, records.names))
        )
    given = printed(capsys, "train", apart, "--model", "bag", "--out", tmp_path / "given")
    assert given["best"] == pytest.approx(made["best"])
    assert only not in load(tmp_path / "given").model.unit_models["word"].estimator().ngrams.vocabulary.known


@pytest.mark.parametrize("task", ["tag", "classify"])
def test_a_board_has_the_figure_its_interval_and_a_matrix(
    task: str, tagging: Path, labelling: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, models = (tagging, "hmm,hmm:n=2") if task == "tag" else (labelling, "ngram,bag")
    board = printed(capsys, "compare", source, "--models", models, "--out", tmp_path / "b", "--lang", "ko")
    assert board["task"] == task and board["status"] == "finished"
    for row in board["rows"]:
        low, high = row["interval"]
        assert "error" not in row and low <= row["accuracy"] <= high
        assert row.get("gap", {"value": 0})["value"] <= 0
        counts = np.array(row["confusion"]["counts"])
        assert counts.trace() / counts.sum() == pytest.approx(row["accuracy"])
    values = {row["model"]: row["accuracy"] for row in board["rows"]}
    best = board["verdict"]["best"]
    assert values[best] == max(values.values()) or best in board["verdict"]["tie"]
    assert f"accuracy {max(values.values()):.3f}" in board["verdict"]["text"]
    page = (tmp_path / "b" / "report.html").read_text(encoding="utf-8")
    assert page.count('<table class="confusion">') == 2 and "혼동 행렬" in page
    assert 0 < board["references"]["guessing"] < 1
    assert (tmp_path / "b" / "best" / "model.safetensors").is_file()


def test_a_label_cannot_act_in_the_page() -> None:
    hostile = "<script>alert(1)</script>"
    found = {
        "labels": [hostile, "b"],
        "others": 0,
        "counts": [[1, 2], [0, 3]],
        "worst": [{"true": hostile, "called": "b", "count": 2}],
    }
    board = {
        "task": "tag",
        "metrics": [{"name": "accuracy", "label": "accuracy"}],
        "rows": [{"model": "hmm", "status": "done", "confusion": found}],
    }
    page = render(board, section=section_of("tag"))
    assert hostile not in page and page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 2


def test_the_most_frequent_tag_of_each_word_by_hand(tmp_path: Path) -> None:
    """a is X twice and Y once; unseen words get X, the commonest: a/X right, a/Y wrong, b/Y right, new/X right."""
    train = read_tagged_part(write(tmp_path / "1.tsv", "a\tX\nb\tY\na\tX\na\tY\nc\tX\n"), None).numbered(
        ("X", "Y"), "1"
    )
    test = read_tagged_part(write(tmp_path / "2.tsv", "a\tX\na\tY\n\nb\tY\nnew\tX\n"), None).numbered(("X", "Y"), "1")
    assert most_frequent_tag(train, test) == 0.75


def test_the_data_card_says_what_is_there(tagging: Path, labelling: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = printed(capsys, "data", tagging)
    assert {x["label"] for x in card["labels"]} == {"D", "N", "V"} and card["unit"] == "sequences"
    assert sum(x["train"] for x in card["labels"]) == pytest.approx(1)
    assert main(["data", str(labelling)]) == 0
    assert "for --task classify, 2 labels" in capsys.readouterr().out


@pytest.mark.parametrize("tagged", [False, True], ids=["labelled", "tagged"])
@pytest.mark.parametrize(
    ("given", "told"), [(["all"], 0), (["train"], 0), (["train", "test"], 1), (["train", "valid", "test"], 0)]
)
def test_a_validation_split_is_only_missed_where_other_splits_were_given(
    given: list[str], told: int, tagged: bool, tmp_path: Path
) -> None:
    for part in given:
        rows = [(f"{part} w{k}", "XY"[k % 2]) for k in range(60)]
        content = "".join(f"{a}\t{b}\n\n" for a, b in rows) if tagged else "".join(f"{a}\t{b}\n" for a, b in rows)
        write(tmp_path / f"{part}.tsv", content if tagged else f"text\tlabel\n{content}")
    source = tmp_path / "all.tsv" if given == ["all"] else tmp_path
    data = read_tagged(source) if tagged else read_labelled(source)
    count = len(list(data.parts["valid"].identities()))
    named = [note for note in data.notes if note.startswith("no validation split was given")]
    assert len(named) == told and data.carved == ("valid" not in given)
    unit = "sequence" if tagged else "record"
    assert not named or f": {count} {unit}{'s were' if count > 1 else ' was'} split off" in named[0]
    assert all(Catalogue("ko").note(note) for note in named)
