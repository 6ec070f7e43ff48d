"""What a first-time caller writes in Python: calls that are meant work, all others are answered in one line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import chainrule
from chainrule.core import ChainruleError

LINES = [f"{k % 7} the bird sang to a {'sun' if k % 3 else 'fox'}" for k in range(200)]
TABLE = pd.DataFrame({"text": LINES, "label": ["odd" if k % 2 else "even" for k in range(200)]})
FAST: dict[str, Any] = {"budget": "2steps", "threads": 1, "precision": "fp32"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    (folder / "c.txt").write_text("".join(f"{line}\n" for line in LINES))
    chainrule.train(folder / "c.txt", "markov", folder / "run", threads=1)
    chainrule.train(TABLE, "ngram", folder / "labels", threads=1)
    return folder


@pytest.fixture
def run(place: Path) -> Any:
    return chainrule.load(place / "run", threads=1)


@pytest.fixture
def labels(place: Path) -> Any:
    return chainrule.load(place / "labels", threads=1)


# --- calls that are meant ---------------------------------------------------------------------------------------------


def settings(out: str | Path) -> dict[str, Any]:
    found = chainrule.load(out)
    return {**found.settings["model"], **found.settings["train"], "size": found.settings["size"]}


@pytest.mark.parametrize(
    "given",
    [
        {"width": 12, "lr": 0.01, "size": "tiny"},
        {"set": {"model.width": 12, "train.lr": 0.01, "size": "tiny"}},
        {"set": {"train.lr": 0.01}, "width": 12, "size": "tiny"},
        {"set": "train.lr=0.01", "width": np.int64(12), "size": "tiny"},
        {"config": {"model": {"width": 12}, "lr": 0.01, "size": "tiny"}},
        {"model": "gru", "train": {"lr": 0.01}, "width": 12, "size": "tiny"},
    ],
    ids=["keywords", "set", "both", "text", "config", "section"],
)
def test_settings_may_be_keywords_or_a_mapping(given: dict[str, Any], place: Path, tmp_path: Path) -> None:
    model = () if "model" in given else ("gru",)
    chainrule.train(place / "c.txt", *model, out=tmp_path / "run", **given, **FAST)
    found = settings(tmp_path / "run")
    assert (found["width"], found["lr"], found["size"]) == (12, 0.01, "tiny")


def test_a_setting_that_is_also_an_option_of_another_command_belongs_to_the_model(place: Path, tmp_path: Path) -> None:
    chainrule.train(place / "c.txt", "ngram", tmp_path / "run", n=2, threads=1)
    assert settings(tmp_path / "run")["n"] == 2
    made = {**FAST, "budget": "5000bytes"}
    chainrule.compare(place / "c.txt", tmp_path / "board", models=["gru"], width=9, size="tiny", **made)
    assert settings(tmp_path / "board/runs/gru")["width"] == 9


def test_the_folder_of_a_run_may_be_left_out(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = chainrule.train(place / "c.txt", model="markov", threads=1)
    assert made["run"] == "runs/train" and chainrule.load(made["run"]).name == "markov"


@pytest.mark.parametrize(
    "data", [pd.Series(LINES), iter(LINES), (line for line in LINES), np.array(LINES), tuple(LINES)], ids=type
)
def test_lines_in_any_container_are_the_same_data(data: Any, tmp_path: Path) -> None:
    chainrule.train(data, "markov", tmp_path / "run", threads=1)
    assert (tmp_path / "run/data/data.txt").read_text() == "".join(f"{line}\n" for line in LINES)


def test_one_text_may_stand_for_a_list_of_one(run: Any, labels: Any, place: Path) -> None:
    assert (
        run.score("the bird") == run.score(["the bird"]) == run.score(pd.Series(["the bird"])) == run.score(b"the bird")
    )
    assert run.predict("the") == run.predict(["the"]) == run.predict(pd.DataFrame({"any": ["the"]}))
    assert labels.classify("the bird") == labels.classify(["the bird"]) == labels.classify(np.array(["the bird"]))
    assert run.score(str(place / "c.txt")) == run.score(place / "c.txt") == run.score(LINES)


@pytest.mark.parametrize("make", [list, tuple, np.array, pd.Series, iter])
def test_prompts_come_in_any_container(make: Callable[..., Any], run: Any) -> None:
    wanted = run.generate(["the ", "a"], max_tokens=3)["texts"]
    assert run.generate(make(["the ", "a"]), max_tokens=3)["texts"] == wanted


# --- what a user meets ------------------------------------------------------------------------------------------------


def test_answers_are_shown_short_and_as_tables(run: Any) -> None:
    short, long = run.score(["a"]), run.score(LINES, tokens=True)
    assert repr(short) == repr(dict(short)) and short == dict(short)
    assert len(repr(long)) < 600 < len(repr(dict(long))) and repr(long).startswith("{'nats': ")
    assert "<td>" in long._repr_html_() and len(long._repr_html_()) < 1000
    assert "<script>" not in run.score(["<script>"], tokens=True)._repr_html_()
    assert copy.deepcopy(long) == long and type(copy.copy(long)) is type(long)


def test_everything_that_a_user_meets_has_a_short_repr(run: Any, place: Path) -> None:
    hmm = chainrule.HMM(3, transmat=np.full((3, 3), 1 / 3))
    assert repr(hmm) == "HMM(states=3, transmat=<table 3 x 3>)" and repr(chainrule.HMM()) == "HMM()"
    found = chainrule.read(place / "c.txt")
    assert repr(found).startswith("<TextDataset c: train ") and "<td>" in found._repr_html_()
    assert all(len(repr(x)) < 250 for x in (run, run.processor, found, hmm, chainrule.text("to be " * 999)))


# --- mistakes ---------------------------------------------------------------------------------------------------------


def gru(place: Path, **given: Any) -> Any:
    return chainrule.train(**{"data": place / "c.txt", "model": "gru", "out": place / "x", **given})


ON_DATA: list[tuple[str, Callable[[Path], Any], str]] = [
    ("hidden_size", lambda p: gru(p, hidden_size=9), "use width (width of the hid"),
    ("n_layers", lambda p: gru(p, n_layers=2), "use layers (number of layers)"),
    ("learning_rate", lambda p: gru(p, learning_rate=1), "use lr (learning rate)"),
    ("epochs", lambda p: gru(p, epochs=3), "use budget (how long to train"),
    ("test_size", lambda p: gru(p, test_size=0.1), "use split (shares of train"),
    ("random_state", lambda p: gru(p, random_state=1), "use seed (random seed)"),
    ("slip", lambda p: gru(p, widht=9), "did you mean 'width'?"),
    ("slip of an option", lambda p: gru(p, bugdet="9s"), "did you mean budget?"),
    ("another's option", lambda p: gru(p, beams=3), "translate have it"),
    ("a bare set", lambda p: gru(p, set={"width": 9}), "use model.width"),
    ("a setting of another model", lambda p: gru(p, model="markov", heads=2), "no option heads"),
    ("a number as budget", lambda p: gru(p, budget=60), "for example budget='60s'"),
    ("a list as model", lambda p: chainrule.train(p / "c.txt", ["gru"], p / "x"), "for example model='gru'"),
    ("an object as model", lambda p: chainrule.train(p / "c.txt", object(), p / "x"), "expected a string, not object"),
    ("X and y", lambda p: chainrule.train(TABLE["text"], TABLE["label"], p / "x"), "expected a string, not Series"),
    ("no model", lambda p: chainrule.train(p / "c.txt"), "missing a required argument: 'model'; call train("),
    ("no data", lambda p: gru(p, data=None), "data=None: it must be given"),
    ("a slip of the model", lambda p: chainrule.train(p / "c.txt", "ltsm", p / "x"), "did you mean 'lstm'?"),
    ("a slip of the file", lambda p: gru(p, data=p / "d.txt"), "no such file or folder"),
    ("a text as DATA", lambda p: gru(p, data="to be or not"), "write chainrule.text('to be or not')"),
    ("columns as a dict", lambda p: gru(p, data={"text": LINES}), "give a DataFrame"),
    ("a set", lambda p: gru(p, data=set(LINES)), "set is no data that can be read"),
    ("bytes", lambda p: gru(p, data=b"to be"), "bytes is no data that can be read"),
    ("a list of lists of numbers", lambda p: gru(p, data=[["a"], "b"]), "item 2 of the list is a str"),
    ("an empty list", lambda p: gru(p, data=[]), "an empty list holds no data"),
    ("percents", lambda p: gru(p, split="80/10/10"), "these sum to 100"),
    ("no validation", lambda p: gru(p, split=(1, 0, 0)), "shares above 0"),
    ("a text as number", lambda p: gru(p, threads="1"), "a whole number, not str"),
    ("a foreign task", lambda p: gru(p, task="classification"), "did you mean 'classify'"),
    ("the run is there", lambda p: chainrule.train(p / "c.txt", "gru", p / "run"), "holds a run already"),
    ("model of compare", lambda p: chainrule.compare(p / "c.txt", p / "x", model="gru"), "did you mean models?"),
    ("no run folder", lambda p: chainrule.load(p), "no run folder here"),
    ("the answer as a path", lambda _: chainrule.load({"run": "x"}), "is no path; give the folder of a run"),  # type: ignore[arg-type]
    ("a list as text", lambda _: chainrule.text(["a"]), "takes a str, not list"),  # type: ignore[arg-type]
    ("the run behind", lambda p: chainrule.generate("the", chainrule.load(p / "run")), "the run comes first"),
    ("sklearn's name", lambda _: chainrule.HMM(n_components=3), "use states (number of hidden states)"),  # type: ignore[call-arg]
    ("not fitted", lambda _: chainrule.HMM(2).predict("abab"), "call fit(X) first"),
]  # fmt: skip
ON_RUN: list[tuple[str, Callable[[Any, Any], Any], str]] = [
    ("max_new_tokens", lambda r, _: r.generate("a", max_new_tokens=3), "did you mean max_tokens?"),
    ("tokens by place", lambda r, _: r.generate("a", 5), "takes 1 positional argument (prompt), not 2"),
    ("a number as prompt", lambda r, _: r.generate(5), "prompt=5: expected a string, or a list of them"),
    ("bytes as prompt", lambda r, _: r.generate(b"a"), "expected a string, or a list of them"),
    ("texts one by one", lambda _, c: c.classify("a", "b"), "takes 1 positional argument (input), not 2"),
    ("a cold temperature", lambda r, _: r.generate("a", temperature=-1), "allowed is 0.0 to 100.0"),
    ("percents as top_p", lambda r, _: r.generate("a", top_p=50), "allowed is 0.0 to 1.0"),
    ("nothing", lambda r, _: r.score(None), "input=None: give a path, or a list of texts"),
    ("a number", lambda r, _: r.score(3), "int: give a path, or a list of texts"),
    ("no texts", lambda r, _: r.score([]), "the input is empty"),
    ("a slip of the file", lambda r, _: r.score("corpsu.txt"), "corpsu.txt: no such file"),
    ("a path that is not there", lambda r, _: r.predict("data/corpus"), "data/corpus: no such file"),
    ("a table of two columns", lambda r, _: r.score(TABLE), "a table of the columns text, label: give one of"),
    ("a table to classify", lambda _, c: c.classify(TABLE), "such as df['text']"),
    ("a dict to classify", lambda _, c: c.classify({"text": ["a"]}), "a dict, not texts"),
    ("a missing value", lambda _, c: c.classify(["a", float("nan")]), "the input holds float 'nan'"),
    ("ids of tokens", lambda r, _: r.predict([[1, 2]]), "give strings, not lists of tokens"),
    ("no label", lambda _, c: c.evaluate(TABLE[["text"]]), "data in memory, written as data.jsonl: no column 'label'"),
    ("texts alone", lambda _, c: c.evaluate(["a", "b"]), "data in memory, written as data.txt"),
    ("a command of another task", lambda _, c: c.predict(["a"]), "this run's task is classify"),
    ("a vector of a decoder", lambda r, _: r.embed(["a"]), "embed needs a bidirectional encoder"),
    ("a foreign format", lambda r, _: r.export("onnx", "x"), "allowed: arpa, int4, int8, symbols"),
]  # fmt: skip
ATTRIBUTES: list[tuple[str, Callable[[Any], Any], str]] = [
    ("fit of a run", lambda r: r.fit, "it is trained already; chainrule.train(data, model, out) trains"),
    ("a slip of a method", lambda r: r.genrate, "did you mean 'generate'?"),
    ("an entry as attribute", lambda r: r.generate("a", max_tokens=1).texts, "write answer['texts']"),
    ("no such entry", lambda r: r.score(["a"]).loss, "its entries are nats, bytes, lines"),
    ("the answer of train", lambda _: chainrule.api.Answer({"run": "x"}).generate, "chainrule.load(answer['run'])"),
    ("fit of the package", lambda _: chainrule.fit, "did you mean chainrule.train?"),
    ("a model class", lambda _: chainrule.LSTM, "chainrule.train(data, 'lstm', out)"),
]  # fmt: skip


def check(call: Callable[[], Any], told: str, kind: type[Exception] = ChainruleError) -> None:
    with pytest.raises(kind) as error:
        call()
    message = str(error.value)
    assert told in message and "\n" not in message and len(message) < 400, message


@pytest.mark.parametrize(("call", "told"), [row[1:] for row in ON_DATA], ids=[row[0] for row in ON_DATA])
def test_a_mistake_with_data_is_one_line(call: Callable[[Path], Any], told: str, place: Path) -> None:
    check(lambda: call(place), told)
    assert not (place / "x/MANIFEST.json").exists()


@pytest.mark.parametrize(("call", "told"), [row[1:] for row in ON_RUN], ids=[row[0] for row in ON_RUN])
def test_a_mistake_with_a_run_is_one_line(call: Callable[[Any, Any], Any], told: str, run: Any, labels: Any) -> None:
    check(lambda: call(run, labels), told)


@pytest.mark.parametrize(("call", "told"), [row[1:] for row in ATTRIBUTES], ids=[row[0] for row in ATTRIBUTES])
def test_a_name_that_is_not_there_is_answered_with_the_one_that_is(
    call: Callable[[Any], Any], told: str, run: Any
) -> None:
    check(lambda: call(run), told, AttributeError)


def test_the_folder_of_a_comparison_names_its_best_run(tmp_path: Path) -> None:
    (tmp_path / "board.json").write_text("{}")
    check(lambda: chainrule.load(tmp_path), f"the folder of a comparison; its recommended run is {tmp_path / 'best'}")
