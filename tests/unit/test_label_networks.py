"""Networks that tag and classify: their inputs, padding, training, saved runs and commands."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_labels import TAGGED, lines, printed, sentences, write

from chainrule.api import classify, tag
from chainrule.cli import main
from chainrule.core import DataError, ModelType, SequenceModel, TaggedBatch, TextBatch, model_types, registry
from chainrule.core.compute import Compute
from chainrule.data.labelled import read_labelled, read_tagged
from chainrule.data.reading import LONGEST_WORD, Lexicon, TextReader, reader_from_json, units_of
from chainrule.runs import RunFolder
from chainrule.tasks.base import find_task
from chainrule.tasks.labelling import alike
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import load, make_trainer, prepare, read_data
from chainrule.tasks.tag.task import tags_of
from chainrule.training.losses import LabelLoss

NETWORKS = [f for task in ("tag", "classify") for f in model_types(task) if f.recipe.update == "gradient"]
KNOWN = ("the", "dog", "sat", "run", "running", "고향은")
ROWS = [("the", "dog"), ("running",), ("the", "the", "sat", "고향은", "run"), ("dog", "sat", "run")]


def words(*rows: tuple[str, ...]) -> TaggedBatch:
    return TaggedBatch(torch.zeros(len(rows), 0), torch.zeros(len(rows), 0), words=rows)


def texts(*rows: str) -> TextBatch:
    return TextBatch(torch.zeros(len(rows), 0), torch.zeros(len(rows), 0), texts=rows)


TEXTS = TextReader.fit([*2 * KNOWN, " ".join(KNOWN)], "char", 20)
LEXICON = Lexicon.fit(2 * KNOWN, TEXTS.tokenizer)
EITHER_WAY = [f for f in NETWORKS if f.name != "bert"]
"""Those that may also read from the left alone."""


def build(chosen: ModelType, **settings: object) -> SequenceModel:
    """A tiny model, always the same, in float64."""
    known = LEXICON.sizes() if chosen.task == "tag" else TEXTS.sizes()
    sizes = {k: v for k, v in known.items() if k in chosen.config.model_fields}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return chosen.build(chosen.configure("tiny", num_labels=5, **sizes, **settings)).double().eval()


def batch_of(chosen: ModelType, rows: list[tuple[str, ...]]) -> TaggedBatch | TextBatch:
    return LEXICON.read(words(*rows)) if chosen.task == "tag" else TEXTS.read(texts(*map(" ".join, rows)))


# --- reading ----------------------------------------------------------------------------------------------------------


def test_a_lexicon_knows_words_in_lower_case_and_spells_them_as_they_are() -> None:
    made = Lexicon.fit(["The", "the", "cat", "Cat", "once", "a\u0301", "\u00e1"])
    assert made.words == ("a\u0301", "cat", "the") or made.words == ("cat", "the")
    read = made.read(words(("THE", "cat", "dog", "the"), ("the",)))
    number = {w: k for k, w in enumerate(made.words, 1)}
    assert read.inputs_BT.tolist() == [[number["the"], number["cat"], 0, number["the"]], [number["the"], 0, 0, 0]]
    assert read.spelled_BT.tolist() == [[0, 1, 2, 3], [3, 0, 0, 0]]  # four spellings, one of them twice
    assert read.lengths_B is not None and read.lengths_B.tolist() == [4, 1] and len(read.spellings_UC) == 4
    letters = {c: k for k, c in enumerate(made.characters, 4)}
    assert read.spellings_UC[1].tolist() == [2, *(letters[c] for c in "cat"), 3]
    assert "o" not in letters and read.spellings_UC[2, 2] == 1  # seen once: unknown


def test_korean_is_spelled_in_letters_and_a_long_word_by_both_ends() -> None:
    made = Lexicon.fit(2 * ["각", "abcdefghijklmnopqrstuvwxyz0123456789"])
    assert len(made.spell("각")) == 5 and made.spell("각")[1] != made.spell("각")[3]
    long = "abcdefghijklmnopqrstuvwxyz0123456789"
    half = LONGEST_WORD // 2
    assert made.spell(long) == [*made.spell(long[:half])[:-1], *made.spell(long[-half:])[1:]]


def test_texts_are_cut_and_anything_can_be_read() -> None:
    assert TEXTS.read(texts("the" * 30, "")).inputs_BT.shape == (2, 20)
    read = TEXTS.read(texts("", "\ud800", "\U0001f600"))
    assert read.lengths_B is not None and read.lengths_B.tolist() == [0, 1, 1] and read.inputs_BT.shape == (3, 1)
    assert TEXTS.read(texts("")).inputs_BT.shape == (1, 1)


@pytest.mark.parametrize("spec", ["char", "byte", "word", "bpe:300"])
def test_readers_come_back_from_json(spec: str) -> None:
    for made, asked in (
        (LEXICON, words(*ROWS)),
        (TextReader.fit(KNOWN * 9, spec, 7), texts("the dog sat 고향은", "x")),
    ):
        again = reader_from_json(json.loads(json.dumps(made.to_json())))
        assert type(again) is type(made)
        one, other = made.read(asked), again.read(asked)  # type: ignore[arg-type, union-attr]
        assert torch.equal(one.inputs_BT, other.inputs_BT)
    with pytest.raises(DataError):
        reader_from_json({"type": "lexicon", "words": [1], "characters": []})
    with pytest.raises(DataError):
        reader_from_json({"type": "texts"})


def test_short_texts_are_read_by_characters_and_long_ones_by_pieces() -> None:
    assert units_of(["a short one"] * 9) == "char" and units_of(["a long one, " * 40] * 9) == "bpe"


def test_rows_of_a_batch_keep_their_own_spellings() -> None:
    whole = LEXICON.read(words(*ROWS))
    part = whole.rows(1, 3)
    assert part.words == tuple(ROWS[1:3])
    assert torch.equal(part.spellings_UC[part.spelled_BT], whole.spellings_UC[whole.spelled_BT][1:3])


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "settings"),
    [*((f, {}) for f in NETWORKS), *((f, {"directions": "forward"}) for f in EITHER_WAY)],
    ids=lambda x: f"{x.name}-{x.task}" if isinstance(x, ModelType) else x.get("directions", "both"),
)
def test_what_stands_behind_a_row_says_nothing(chosen: ModelType, settings: dict) -> None:
    """Alone = among longer rows; and any value may stand where nothing is."""
    model = build(chosen, **settings)
    batch = batch_of(chosen, ROWS)
    together = model(batch).logits()
    assert batch.lengths_B is not None
    for b, row in enumerate(ROWS):
        alone = model(batch_of(chosen, [row])).logits()[0]
        torch.testing.assert_close(together[b, : len(alone)], alone, rtol=0, atol=1e-12)
    beyond_BT = torch.arange(batch.inputs_BT.shape[1]) >= batch.lengths_B[:, None]
    other = replace(batch, inputs_BT=batch.inputs_BT.masked_fill(beyond_BT, 3))
    if isinstance(other, TaggedBatch):
        behind_BS = other.owners_BS == batch.inputs_BT.shape[1]
        assert behind_BS.any()
        pieces_BS = other.pieces_BS.masked_fill(behind_BS, 1)
        other = replace(other, spelled_BT=other.spelled_BT.masked_fill(beyond_BT, 1), pieces_BS=pieces_BS)
    changed = model(other).logits()
    for b, n in enumerate(batch.lengths_B.tolist() if chosen.task == "tag" else [1] * len(ROWS)):
        assert torch.equal(changed[b, :n], together[b, :n])


@pytest.mark.parametrize("name", [f.name for f in EITHER_WAY if f.task == "tag"])
def test_a_tagger_looks_ahead_only_where_it_may(name: str) -> None:
    chosen = next(f for f in NETWORKS if (f.name, f.task) == (name, "tag"))
    one, other = (LEXICON.read(words(("the", "dog", last))) for last in ("sat", "running"))
    for directions, ahead in (("forward", False), ("both", True)):
        model = build(chosen, directions=directions)
        same = torch.equal(model(one).logits()[:, :2], model(other).logits()[:, :2])
        assert same is not ahead
        assert not torch.equal(model(one).logits()[:, 2], model(other).logits()[:, 2])


@pytest.mark.parametrize("chosen", NETWORKS, ids=lambda f: f"{f.name}-{f.task}")
def test_the_loss_is_the_mean_of_minus_log_p_and_smoothing_is_for_training_only(chosen: ModelType) -> None:
    model, batch = build(chosen).requires_grad_(False), batch_of(chosen, ROWS)
    targets = [[0, -1, -1, -1, -1], [1, -1, -1, -1, -1], [2, 0, 1, 4, 3], [1, 1, -1, -1, -1]]
    batch = replace(batch, targets_BT=torch.tensor(targets)[:, : 5 if chosen.task == "tag" else 1])
    log_p = model(batch).logits().log_softmax(-1)
    want = -sum(log_p[b, t, y] for b, row in enumerate(batch.targets_BT.tolist()) for t, y in enumerate(row) if y >= 0)
    plain, smooth = (LabelLoss(model, s) for s in (0.0, 0.1))
    loss, count, weight = plain(batch)[0]["nats"]
    assert (
        loss.item() == pytest.approx(float(want)) and int(count) == (9 if chosen.task == "tag" else 4) and weight == 1
    )
    assert smooth.eval()(batch)[0]["nats"][0].item() == pytest.approx(float(want))
    assert smooth.train()(batch)[0]["nats"][0].item() != pytest.approx(float(want))


def test_words_are_dropped_in_training_only_and_their_spelling_stays() -> None:
    chosen = next(f for f in EITHER_WAY if f.task == "tag")
    model = build(chosen, word_dropout=1.0)
    batch = LEXICON.read(words(("the", "dog")))
    unknown = replace(batch, inputs_BT=torch.zeros_like(batch.inputs_BT))
    assert not torch.equal(model(batch).logits(), model(unknown).logits())
    model.train()
    assert torch.equal(model(batch).logits(), model(unknown).logits())
    assert not torch.equal(model(batch).logits()[0, 0], model(LEXICON.read(words(("sat", "dog")))).logits()[0, 0])


def test_symbols_are_dropped_in_training_only() -> None:
    chosen = next(f for f in EITHER_WAY if f.task == "classify")
    model, (one, other) = (
        build(chosen, token_dropout=0.5),
        (TEXTS.read(texts(x)) for x in ("the dog sat", "run run run")),
    )
    assert torch.equal(model(one).logits(), model(one).logits())
    model.train()
    assert not torch.equal(model(one).logits(), model(one).logits())
    blind = build(chosen, token_dropout=1 - 1e-12).train()
    assert torch.equal(blind(one).logits(), blind(other).logits())  # nothing is seen of either


def test_symbols_of_long_texts_are_dropped_unless_the_user_says_otherwise(tmp_path: Path, labelling: Path) -> None:
    rows = "".join(f"{'ab'[k % 2] * 300},{'xy'[k % 2]}\n" for k in range(40))
    for part in ("train", "valid"):
        write(tmp_path / f"{part}.csv", "text,label\n" + rows)
    dropped = []
    for data, model in ((tmp_path, {}), (tmp_path, {"token_dropout": 0.1}), (labelling, {})):
        chosen = settings(data, "classify", "gru").replace(model=model)
        dropped.append(prepare(chosen, read_data(chosen)).config.model_dump()["token_dropout"])
    assert dropped == [0.2, 0.1, 0.0]


def test_neighbours_of_a_symbol_are_those_on_both_sides_or_before_it() -> None:
    chosen = next(f for f in NETWORKS if (f.name, f.task) == ("rnn", "classify"))
    one, other = (TEXTS.read(texts(x)) for x in ("thesed", "theser"))
    for directions, seen in (("both", 3), ("forward", 5)):
        inputs = build(chosen, directions=directions).inputs
        same_S = (inputs(one) == inputs(other))[0].all(-1)  # type: ignore[operator]
        assert same_S.tolist() == [s < seen for s in range(6)]


@pytest.mark.parametrize("task", ["tag", "classify"])
def test_a_model_type_from_outside_may_read_strings_and_learn_by_gradient(
    task: str, tagging: Path, labelling: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its config asks for the number of labels alone; the strings are still there."""
    path = write(
        tmp_path / "mine.py",
        """
import torch
from chainrule.core import Categorical, Classifier, Config, Recipe, SequenceModel, Tagger, register

class MineConfig(Config):
    num_labels: int
    presets = {"tiny": {}, "small": {}}

class Mine(SequenceModel):
    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(300, config.num_labels))

@register("mine", task="tag", config=MineConfig, recipe=Recipe(lr=0.1, warmup=5))
class MineTags(Mine, Tagger):
    def forward(self, batch):
        longest = max(map(len, batch.words))
        last = [[ord(w[-1]) % 300 for w in row] + [0] * (longest - len(row)) for row in batch.words]
        return Categorical(self.weight[torch.tensor(last)])
    def tag(self, batch):
        nats_BT, tags_BT = self(batch).logits().log_softmax(-1).max(-1)
        return tags_BT, nats_BT.sum(1)
    def posteriors(self, batch):
        return self(batch).logits().softmax(-1)

@register("mine", task="classify", config=MineConfig, recipe=Recipe(lr=0.1, warmup=5, batch_size=16, sequence_length=1))
class MineLabels(Mine, Classifier):
    def forward(self, batch):
        means = [self.weight[[ord(c) % 300 for c in text]].mean(0) for text in batch.texts]
        return Categorical(torch.stack(means)[:, None])
    def classify(self, batch):
        return self(batch).logits()[:, 0].log_softmax(-1)
""",
    )
    source = tagging if task == "tag" else labelling
    made = printed(capsys, "train", source, "--model", path, "--budget", "60steps", "--out", tmp_path / "run")
    assert made["best"] > 0.75
    for both in ("tag", "classify"):
        del registry._model_types["mine", both]


# --- learning ---------------------------------------------------------------------------------------------------------


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
    rows = ["text,label"] + [f"{''.join(rng.choice(letters[c], rng.integers(1, 19)))},{c}" for c in "xy" * 200]
    return write(tmp_path_factory.mktemp("labelling") / "d.csv", "\n".join(rows) + "\n")


def settings(data: Path, task: str, name: str, budget: str = "12steps") -> RunConfig:
    values = {"size": "tiny", "save_every": "5steps", "train": {"batch_size": 8}}
    return RunConfig.make({"data": str(data), "task": task, "model_type": name, "budget": budget, **values})


@pytest.mark.parametrize("task", ["tag", "classify"])
def test_batches_follow_from_seed_and_step_and_hold_every_item_once_an_epoch(
    task: str, tagging: Path, labelling: Path
) -> None:
    chosen = settings(tagging if task == "tag" else labelling, task, "gru")
    data = read_data(chosen)
    made = []
    for _ in range(2):
        ready = prepare(chosen, data)
        source, _rule = find_task(task).learning(ready.model_type.build(ready.config), ready.data, ready)
        made.append(source)
    steps = made[0].steps_per_epoch
    seen: list[str] = []
    for k in reversed(range(steps)):
        one, other = made[0](k)[1], made[1](k)[1]
        assert torch.equal(one.inputs_BT, other.inputs_BT) and torch.equal(one.targets_BT, other.targets_BT)
        seen += [" ".join(w) for w in one.words] if isinstance(one, TaggedBatch) else one.texts  # type: ignore[attr-defined]
    train = data.parts["train"]
    assert sorted(seen) == sorted([" ".join(r.words) for r in train.rows] if task == "tag" else train.texts)
    assert not torch.equal(made[0](0)[1].inputs_BT, made[0](steps)[1].inputs_BT)


@pytest.mark.parametrize(("task", "name"), [("tag", "lstm"), ("classify", "gru")])
def test_a_run_that_was_cut_goes_on_bit_for_bit(
    task: str, name: str, tagging: Path, labelling: Path, tmp_path: Path
) -> None:
    chosen = settings(tagging if task == "tag" else labelling, task, name)
    chosen = chosen.replace(model={"dropout": 0.2})
    data = read_data(chosen)
    made = []
    for cut in (12, 7):
        ready, run = prepare(chosen, data), RunFolder.create(tmp_path / f"{cut}", resume=True)
        trainer = make_trainer(ready, run)
        taken = iter(range(cut))
        trainer.advance(stop=lambda taken=taken: next(taken, None) is None)
        trainer.save()
        trainer = make_trainer(ready, run)
        trainer.resume()
        trainer.advance()
        made.append(trainer.model.state_dict())
    for key, value in made[0].items():
        assert torch.equal(value, made[1][key]), key


def test_a_network_never_learns_from_the_validation_part_that_it_is_chosen_by(labelling: Path, tmp_path: Path) -> None:
    data = read_labelled(labelling)
    assert data.carved
    chosen = settings(labelling, "classify", "rnn")
    ready = prepare(chosen, data)
    source, _ = find_task("classify").learning(ready.model_type.build(ready.config), ready.data, ready)
    seen = {text for k in range(source.steps_per_epoch) for text in source(k)[1].texts}  # type: ignore[attr-defined]
    assert seen == set(data.parts["train"].texts) and not seen & set(data.parts["valid"].texts)
    for part in ("train", "test"):
        shutil.copy(labelling, tmp_path / f"{part}.csv")
    given = read_labelled(tmp_path)  # with a training split, but without one for validation
    assert given.carved and any("networks never train on validation data" in note for note in given.notes)


def test_groups_of_like_length_hold_everything_once_within_bounds() -> None:
    lengths = np.array([5, 1, 90, 3, 3, 2, 40, 0, 7])
    groups = list(alike(lengths, 20))
    assert sorted(np.concatenate(groups).tolist()) == list(range(9))
    assert all(len(g) == 1 or len(g) * lengths[g].max() <= 20 for g in groups)


def test_a_long_sequence_is_learned_from_in_pieces_and_tagged_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = [("the", "D"), ("dog", "N")] * 5000
    for part in ("train", "valid"):
        write(
            tmp_path / f"{part}.tsv",
            lines(long) + "\n" + TAGGED.replace("\tdt", "").replace("\tnn", "").replace("\tvb", ""),
        )
    data = read_tagged(tmp_path)
    ready = prepare(settings(tmp_path, "tag", "lstm"), data)
    assert ready.data.parts["train"].lengths.max() == 256 and len(ready.data.parts["train"]) == len(data.parts["train"])
    assert [r.words for r in ready.data.parts["train"].cut(10**6).rows] == [
        r.words for r in ready.data.parts["train"].rows
    ]
    printed(
        capsys,
        "train",
        tmp_path,
        "--task",
        "tag",
        "--model",
        "lstm",
        "--set",
        "size=tiny",
        "--budget",
        "20steps",
        "--out",
        tmp_path / "run",
    )
    loaded = load(tmp_path / "run")
    found = tag(loaded, [[w for w, _ in long], ["the"], []])
    assert list(map(len, found["tags"])) == [10000, 1, 0] and found["nats"][2] == 0
    parts = tags_of(loaded.model, data.parts["valid"], loaded.processor.reader, Compute("cpu", False, 1))
    assert [len(x) for x in parts] == data.parts["valid"].lengths.tolist()


# --- from the command line --------------------------------------------------------------------------------------------


def test_networks_learn_to_tag_and_are_saved_with_their_lexicon(
    tagging: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = tmp_path / "run", tmp_path / "p.jsonl"
    made = printed(
        capsys,
        "train",
        tagging,
        "--model",
        "lstm",
        "--set",
        "size=tiny",
        "--set",
        "train.lr=0.02",
        "--budget",
        "90steps",
        "--out",
        run,
    )
    assert made["best"] > 0.9
    assert json.loads((run / "processor.json").read_text())["reader"]["type"] == "lexicon"
    found = printed(capsys, "evaluate", run, tagging / "test.tsv", "--predictions", out)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    right = [a == b for row in rows for a, b in zip(row["tags"], row["predicted"], strict=True)]
    assert len(right) == found["tokens"] and np.mean(right) == pytest.approx(found["accuracy"])
    assert printed(capsys, "tag", run, write(tmp_path / "in.txt", "the bird sang\na sun\n"))["tags"] == [
        ["D", "N", "V"],
        ["D", "N"],
    ]
    assert len(printed(capsys, "tag", run, write(tmp_path / "new.txt", "zyzzyva 뷁\n"))["tags"][0]) == 2


def test_networks_learn_to_classify_and_are_saved_with_their_units(
    labelling: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    printed(
        capsys,
        "train",
        labelling,
        "--model",
        "gru",
        "--set",
        "size=tiny",
        "--set",
        "train.lr=0.02",
        "--context",
        "9",
        "--budget",
        "120steps",
        "--out",
        run,
    )
    found = printed(capsys, "evaluate", run, labelling)
    assert found["accuracy"] > 0.85 and found["n"] == 400
    loaded = load(run)
    assert isinstance(loaded.processor.reader, TextReader) and loaded.processor.reader.longest == 9
    assert any("longer than 9 tokens: only the beginning is read" in note for note in loaded.data["notes"])
    answer = classify(loaded, ["aaaaaaaaa", "ddddddddd", "", "뷁" * 10000])
    assert answer["labels"][:2] == ["x", "y"] and answer["cut"] == {"texts": 1, "tokens": 9}
    assert "cut" not in classify(loaded, ["aaaaaaaaa"])
    assert main(["classify", str(run), "a" * 10, "d" * 9]) == 0
    assert "note: texts of more than 9 tokens, read up to there: 1" in capsys.readouterr().err
    assert all(sum(p.values()) == pytest.approx(1) for p in answer["p"])


def test_a_label_that_training_lacks_is_wrong_for_a_network_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "train.csv", "text,label\n" + "".join(f"{'ab'[k % 2] * 5},{'xy'[k % 2]}\n" for k in range(40)))
    write(tmp_path / "valid.csv", "text,label\naaaaa,x\nbbbbb,y\naaaaa,strange\nbbbbb,strange\n")
    run = tmp_path / "run"
    made = printed(
        capsys,
        "train",
        tmp_path,
        "--model",
        "rnn",
        "--set",
        "size=tiny",
        "--set",
        "train.lr=0.02",
        "--budget",
        "60steps",
        "--out",
        run,
    )
    assert made["best"] == 0.5
    assert printed(capsys, "evaluate", run, tmp_path / "valid.csv")["accuracy"] == 0.5


@pytest.mark.parametrize("task", ["tag", "classify"])
def test_a_board_of_counts_and_networks(
    task: str, tagging: Path, labelling: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, count = (tagging, "hmm") if task == "tag" else (labelling, "bag")
    command = (
        "compare",
        source,
        "--models",
        f"{count},rnn,lstm:directions=forward,gru",
        "--set",
        "size=tiny",
        "--budget",
        "2epochs",
        "--out",
        tmp_path / "b",
    )
    board = printed(capsys, *command)
    assert [row["status"] for row in board["rows"]] == ["done"] * 4, [row.get("error") for row in board["rows"]]
    for row in board["rows"]:
        low, high = row["interval"]
        counts = np.array(row["confusion"]["counts"])
        assert low <= row["accuracy"] <= high and counts.trace() / counts.sum() == pytest.approx(row["accuracy"])
    saved = [json.loads((tmp_path / "b" / "runs" / n / "processor.json").read_text()) for n in (count, "gru")]
    assert [found["reader"] is None for found in saved] == [True, False] and saved[0]["labels"] == saved[1]["labels"]
    assert [row["accuracy"] for row in printed(capsys, *command)["rows"]] == [row["accuracy"] for row in board["rows"]]


def test_a_recipe_that_no_task_of_labels_can_follow_is_refused(
    tagging: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", str(tagging), "--out", str(tmp_path / "r"), "--model"]
    assert main([*command, "lstm", "--set", "train.update=em"]) == 2
    assert "cannot be trained by EM" in capsys.readouterr().err
    assert main([*command, "lstm", "--set", "train.update=counting"]) == 2
    assert "no Counting model" in capsys.readouterr().err
    assert main([*command, "hmm", "--set", "train.update=gradient"]) == 2
    assert "by counting or by gradient" in capsys.readouterr().err
