"""Processors: one dataset under several tokenizers, saved and rebuilt by name; runs that hold one; next tokens."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.core import DataError, UserError
from chainrule.data import SymbolTokenizer, TextDataset
from chainrule.data.corpus import read as read_dataset
from chainrule.data.labelled import read_labelled, read_tagged
from chainrule.data.processors import LabelProcessor, fit_tokens, processor_from_json
from chainrule.inference.scoring import token_nats
from chainrule.runs import RunFolder
from chainrule.tasks.generate.reading import predict
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import load, prepare, read_data
from chainrule.tasks.train import train
from tests.encoded import read, read_pairs

SPECS = ("byte", "char", "word", "bpe:300")
RUN = {"size": "tiny", "precision": "fp32", "threads": 1, "device": "cpu"}


def lines(count: int) -> str:
    rng = np.random.default_rng(17)
    words = ["so", "the", "quick", "개구리", "jumped", "über", "a", "lazy", "dog", "ran"]
    return "".join(" ".join(rng.choice(words, 2 + k % 7)) + "\n" * (1 + (k % 9 == 0)) for k in range(count))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "d.txt"
    path.write_text(lines(700), encoding="utf-8")
    return path


# --- one dataset, several tokenizers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["stream", "lines"])
def test_tokens_of_every_tokenizer_end_at_places_of_the_same_bytes(text: Path, unit: str) -> None:
    """Where a token ends is where the text decoded up to it ends, but for characters that a token cuts."""
    dataset = read_dataset(text, unit=unit)
    assert isinstance(dataset, TextDataset)
    borders = {name: np.cumsum(span.ends - span.starts) for name, span in dataset.parts.items()}
    for spec in SPECS:
        parts = fit_tokens(dataset, spec).encode_parts(dataset.parts)
        for name, part in parts.items():
            ends = part.byte_ends()
            assert len(ends) == len(part) and (np.diff(ends) >= 0).all()
            stops = np.cumsum(part.ends - part.starts) - 1
            assert np.array_equal(ends[stops], borders[name]), (spec, name)
            assert int(part.record_bytes.sum()) == dataset.parts[name].nbytes
            assert int(part.token_bytes().sum()) == part.nbytes and part.token_bytes().min() >= 0, (spec, name)
            if unit == "stream" or spec in ("byte", "char"):
                assert part.nbytes == dataset.parts[name].nbytes


def test_places_within_records_are_those_of_the_text(tmp_path: Path) -> None:
    """Unknown characters and words (a 뷁 that training lacks) stand for the bytes that they have."""
    for name, content in (("train", lines(400)), ("valid", lines(90)), ("test", "so 뷁뷁 the\n" + lines(90))):
        (tmp_path / f"{name}.txt").write_text(content, encoding="utf-8")
    dataset = read_dataset(tmp_path, unit="lines")
    char = fit_tokens(dataset, "char").encode_parts(dataset.parts)["test"]
    span = dataset.parts["test"]
    raw = b"".join(piece.tobytes() for piece in span.pieces())
    assert char.byte_ends().tolist() == np.cumsum([len(c.encode()) for c in raw.decode()]).tolist()
    word = fit_tokens(dataset, "word").encode_parts(dataset.parts)["test"]
    assert all(raw[end - 1 : end] in (b" ", b"\n") for end in word.byte_ends().tolist())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab é뷁\t ", min_size=1, max_size=12).filter(str.strip), min_size=30, max_size=60))
def test_any_lines_end_at_the_same_bytes(records: list[str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for part in ("train", "valid", "test"):
            (Path(folder) / f"{part}.txt").write_text("".join(f"{r}\n" for r in records), encoding="utf-8")
        dataset = read_dataset(folder, unit="lines")
        for spec in ("byte", "char", "word"):
            part = fit_tokens(dataset, spec).encode_parts(dataset.parts)["test"]
            stops = np.cumsum(part.ends - part.starts) - 1
            assert part.byte_ends()[stops].tolist() == np.cumsum([len(r.encode()) + 1 for r in records]).tolist()


def test_rows_of_one_dataset_have_tokenizers_of_their_own_and_share_equal_ones(text: Path) -> None:
    base = RunConfig.make({"data": str(text), "model_type": "lstm", "unit": "lines", **RUN})
    dataset = read_data(base)
    ready = {spec: prepare(base.replace(tokenizer=spec), dataset) for spec in (None, *SPECS)}
    assert [ready[s].config.vocab_size for s in (None, "byte")] == [256, 256] and 256 < ready[
        "bpe:300"
    ].config.vocab_size <= 300
    assert ready[None].settings.tokenizer == "byte" and ready["word"].settings.tokenizer == "word"
    again = prepare(base.replace(model_type="ngram", tokenizer="bpe:300"), dataset)
    assert again.processor is ready["bpe:300"].processor and again.data is ready["bpe:300"].data
    assert dataset.card() == read_data(base).card()
    assert "tokenizer" not in dataset.card() and ready["word"].data.card()["tokenizer"] == "word"
    with pytest.raises(UserError, match="--tokenizer none: symbols have no bytes"):
        prepare(base.replace(tokenizer="none"), dataset)


def test_symbols_take_no_tokenizer_of_text(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("sequence\n" + "ABBA\nBAAB\nAAB\nBBB\n" * 60)
    base = RunConfig.make({"data": str(tmp_path / "d.csv"), "model_type": "ngram", **RUN})
    dataset = read_data(base)
    assert prepare(base, dataset).settings.tokenizer == "none"
    with pytest.raises(UserError, match=r"--tokenizer word: .* are symbols"):
        prepare(base.replace(tokenizer="word"), dataset)


def test_out_of_vocabulary_tokens_are_told_only_where_there_are_some(tmp_path: Path) -> None:
    for name, content in (("none", "ab ba\n" * 300), ("some", "ab ba\n" * 300 + "zyx\n")):
        for part in ("train", "valid", "test"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{part}.txt").write_text(content)
    assert not any("ocabulary" in note for note in read(tmp_path / "none", tokenizer="word").notes)
    assert any(
        "Out-of-vocabulary tokens in train: 1 of" in note for note in read(tmp_path / "some", tokenizer="word").notes
    )


def test_the_unigram_costs_its_entropy_and_the_bytes_of_the_unknown(tmp_path: Path) -> None:
    """a a b x: three tokens, x is unknown and spelled in one byte and a separator's; 4 line feeds."""
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text("a\na\nb\nb\nxyz\n" * 1)
    found = read(tmp_path, tokenizer="char")
    part = found.parts["train"]
    counts = np.array([2, 2, 5, 3]) / 12  # a, b, line feed, and x y z as the unknown
    expected = (-(counts * np.log2(counts)).sum() * 12 + 8 * 3) / 12
    assert part.unigram_bits(found.processor.tokenizer.vocab_size) == pytest.approx(expected)


# --- saved and rebuilt ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", [*SPECS, "char:complete"])
def test_a_processor_of_text_is_rebuilt_by_its_name(text: Path, spec: str) -> None:
    dataset = read_dataset(text, unit="lines")
    processor = fit_tokens(dataset, spec)
    again: Any = processor_from_json(json.loads(json.dumps(processor.to_json())))
    assert type(again) is type(processor) and again.sha256 == processor.sha256 and again.spec == processor.spec
    assert again.terminator == b"\n" and again.sizes() == processor.sizes()
    assert again.special_tokens == processor.special_tokens
    part = again.encode(dataset.parts["test"])
    assert np.array_equal(part.ids[part.starts[3] : part.ends[3]], _record(processor, dataset, 3))
    assert again.decode(_record(processor, dataset, 3)).strip().decode() in lines(700)


def _record(processor: Any, dataset: Any, row: int) -> np.ndarray:
    part = processor.encode(dataset.parts["test"])
    return part.ids[part.starts[row] : part.ends[row]]


def test_the_tokenizer_of_a_run_serves_other_data(text: Path, tmp_path: Path) -> None:
    processor = fit_tokens(read_dataset(text), "bpe:290")
    for name, saved in (("processor.json", processor.to_json()), ("tokenizer.json", processor.tokenizer.to_json())):
        (tmp_path / name).write_text(json.dumps(saved))
        other = read(text, tokenizer=str(tmp_path / name))
        assert other.processor.tokenizer.to_json() == processor.tokenizer.to_json()
        assert other.processor.spec == str(tmp_path / name) and any(name in note for note in other.notes)
    (tmp_path / "bad.json").write_text("[]")
    with pytest.raises(DataError, match=r"bad\.json: not a tokenizer"):
        read(text, tokenizer=str(tmp_path / "bad.json"))


def test_pairs_keep_one_tokenizer_or_two(tmp_path: Path) -> None:
    (tmp_path / "d.tsv").write_text("".join(f"ein hund {k}\tone dog {k}\n" for k in range(99)))
    for spec, joint in (("char", True), ("char,word", False)):
        processor: Any = read_pairs(tmp_path / "d.tsv", tokenizer=spec).processor
        again: Any = processor_from_json(json.loads(json.dumps(processor.to_json())))
        assert again.joint == processor.joint == joint and again.sha256 == processor.sha256
        assert again.target.encode(b"one dog").ids.tolist() == processor.target.encode(b"one dog").ids.tolist()


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({"type": "texts"}, "no processor 'texts'; did you mean 'text'"),
        ({}, "no processor 'None'"),
        ({"type": "text", "unit": "lines"}, "not a processor 'text' as it is saved"),
        (
            {"type": "text", "unit": "l", "terminator": "", "spec": "", "tokenizer": {"type": "nothing"}},
            "unknown tokenizer type",
        ),
        ({"type": "labels", "labels": ["a"]}, "not a processor 'labels' as it is saved"),
    ],
)  # fmt: skip
def test_what_is_no_processor_is_refused(saved: dict[str, Any], told: str) -> None:
    with pytest.raises((UserError, DataError), match=told):
        processor_from_json(saved)


def test_labels_are_numbered_and_an_unknown_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text,label\n" + "".join(f"t{k},{'xyz'[k % 3]}\n" for k in range(90)))
    dataset = read_labelled(tmp_path / "d.csv")
    processor = LabelProcessor(("x", "z"))
    part = processor.encode(dataset.parts["train"], "held.csv")
    assert [None if c < 0 else processor.labels[c] for c in part.labels] == [
        n if n != "y" else None for n in part.names
    ]
    assert any("held.csv" in note and "label that train lacks (y)" in note for note in part.notes)
    assert dataset.parts["train"].labels.max() == 2


@pytest.mark.parametrize("task", ["classify", "tag"])
def test_rows_of_a_group_stay_on_one_side(tmp_path: Path, task: str) -> None:
    rows = [(f"m{k % 17}", f"word{k} more", "XY"[k % 2]) for k in range(340)]
    names = {"classify": "mail,text,label\n", "tag": "mail,tokens,tags\n"}[task]
    tags = {"classify": lambda y: y, "tag": lambda y: f"{y} {y}"}[task]
    (tmp_path / "d.csv").write_text(names + "".join(f"{m},{t},{tags(y)}\n" for m, t, y in rows))
    reader = read_labelled if task == "classify" else read_tagged
    parts = reader(tmp_path / "d.csv", group="mail", split=(0.6, 0.2, 0.2)).parts
    mail = {t: m for m, t, _ in rows}
    held = {n: p.texts if task == "classify" else [" ".join(r.words) for r in p.rows] for n, p in parts.items()}
    sides = {name: {mail[t] for t in texts} for name, texts in held.items()}
    assert sum(map(len, sides.values())) == 17 and sum(map(len, held.values())) == 340
    with pytest.raises(DataError, match="no column 'sender'"):
        reader(tmp_path / "d.csv", group="sender")


@pytest.mark.parametrize(
    ("name", "value", "task"),
    [("time", "when", "classify"), ("time", "when", "translate"), ("group", "when", "series"),
     ("image_size", 8, "generate"), ("tokenizer", "word", "series"), ("unit", "lines", "translate")],
)  # fmt: skip
def test_what_a_task_does_not_use_is_refused_before_anything_is_read(name: str, value: Any, task: str) -> None:
    """Wherever it was given: as an option, as a setting, for one row of a board."""
    settings = RunConfig.make({"data": "nowhere.csv", "model_type": "gru", "task": task, name: value})
    for act in (read_data, lambda chosen: prepare(chosen, None)):
        with pytest.raises(
            UserError, match=f"--{name.replace('_', '-')} {value}: --task {task} does not use it, --task"
        ):
            act(settings)


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("log")
    rng = np.random.default_rng(3)
    rows, state = [], "a"
    for k in range(1200):
        state = {"a": "b", "b": rng.choice(["a", "c"]), "c": "a"}[str(state)]
        rows.append(f"u{k % 23},{k},{state}\n")
    (folder / "log.csv").write_text("user,time,event\n" + "".join(rows[k] for k in rng.permutation(len(rows))))
    settings = {
        "data": str(folder / "log.csv"),
        "columns": "event",
        "group": "user",
        "time": "time",
        "budget": "20steps",
    }
    for model_type in ("lstm", "ngram"):
        train(RunConfig.make({**settings, "model_type": model_type, **RUN}), folder / model_type)
    return folder


def test_a_run_says_briefly_what_it_is_and_holds_one_processor(log: Path) -> None:
    run = load(log / "lstm")
    assert repr(run).startswith("<Run lstm for generate, ") and len(repr(run)) < 200 and "\n" not in repr(run)
    assert (run.task, run.name, run.settings["time"], run.processor.kind) == ("generate", "lstm", "time", "symbols")
    assert sorted(p.name for p in (log / "lstm").iterdir() if p.suffix == ".json") == [
        "MANIFEST.json", "config.json", "data.json", "environment.json", "processor.json",
    ]  # fmt: skip
    assert json.loads((log / "lstm" / "config.json").read_text())["format"] == 2


def test_a_run_without_its_processor_is_one_line(log: Path, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run")
    config, tensors, files = RunFolder(log / "lstm").load_model()
    folder.write_description(RunFolder(log / "lstm").read_settings(), config, {"data.json": files["data.json"]}, {})
    folder.write_model(tensors)
    with pytest.raises(UserError, match=r"no processor\.json"):
        load(tmp_path / "run")


PLUGIN = """
from chainrule.core import Config, Recipe, register
from chainrule.models.window import Window, WindowConfig  # noqa

@register("mine", config=WindowConfig, recipe=Recipe(stateful=False))
class Mine(Window):
    pass
"""


@pytest.mark.usefixtures("model_types_of_its_own")
def test_a_run_of_a_plugin_asks_for_the_very_file(text: Path, tmp_path: Path) -> None:
    from chainrule.core import load_file

    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    load_file(plugin)
    train(RunConfig.make({"data": str(text), "model_type": "mine", "budget": "3steps", **RUN}), tmp_path / "run")
    assert load(tmp_path / "run").name == "mine"
    plugin.write_text(PLUGIN + "\n# changed\n")
    load_file(plugin)
    with pytest.raises(UserError, match=r"was made with mine\.py \(SHA-256 \w{12}…\), and what is loaded is mine\.py"):
        load(tmp_path / "run")


# --- next tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model_type", ["lstm", "ngram"])
def test_next_tokens_are_those_of_each_sequence_read_alone(log: Path, model_type: str) -> None:
    run = load(log / model_type, precision="fp32")
    sequences: list[list[str]] = [["a", "b"], [], ["b"], ["a", "b", "a", "b", "c", "a", "b", "never"]]
    found = predict(run, sequences, top_k=3)
    tokenizer = run.processor.tokenizer
    assert isinstance(tokenizer, SymbolTokenizer) and found["unknown"] == [0, 0, 0, 1]
    for sequence, best in zip(sequences, found["predictions"]):
        ids = [tokenizer.names.index(s) if s in tokenizer.names else tokenizer.unknown for s in sequence]
        with torch.no_grad():
            prediction, _ = run.model(torch.tensor([[run.model.start_id, *ids]]))
            p = prediction.logits()[0, -1].double().softmax(-1)
        p[tokenizer.unknown] = 0.0
        wanted = sorted(enumerate(p.tolist()), key=lambda pair: -pair[1])[:3]
        names = [*tokenizer.names, "unknown", None]
        assert [b["token"] for b in best] == [names[k] for k, _ in wanted]
        assert [b["p"] for b in best] == pytest.approx([x for _, x in wanted], abs=1e-6)
    part = run.processor.encode_texts([b"a\nb\n"], "lines")
    nats = token_nats(run.model, part, run.compute)[0]
    whole = {b["token"]: b["p"] for b in predict(run, [["a"]], top_k=9)["predictions"][0]}
    assert whole["b"] == pytest.approx(math.exp(-nats[1]), abs=1e-6) and None in whole and len(whole) == 4


def test_next_tokens_of_text_and_what_cannot_be_asked(text: Path, log: Path, tmp_path: Path) -> None:
    train(
        RunConfig.make({"data": str(text), "model_type": "ngram", "tokenizer": "word", "unit": "lines", **RUN}),
        tmp_path / "r",
    )
    run = load(tmp_path / "r")
    best = predict(run, ["so the", "zyx"], top_k=400)
    assert best["unknown"] == [0, 1]
    for row in best["predictions"]:
        assert len(row) == run.processor.tokenizer.vocab_size - 1
        assert [b["p"] for b in row] == sorted((b["p"] for b in row), reverse=True)
        assert sum(b["p"] for b in row) <= 1 + 1e-9
    for call, told in (
        (lambda: predict(run, [["so", "the"]]), "this run reads text"),
        (lambda: predict(run, ["so"], top_k=0), "--top-k 0: at least 1"),
        (lambda: predict(run, []), "at least one sequence"),
        (lambda: predict(run, "so the"), "so the: no such file"),
    ):
        with pytest.raises(UserError, match=told):
            call()
