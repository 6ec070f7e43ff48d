"""Labelling that begins with what BERT learnt without labels: --from RUN."""

import json
import shutil

import pytest
import torch

from chainrule.cli import main
from chainrule.core import Batch, ConfigError, TaggedBatch, UserError, model_type
from chainrule.data.reading import Lexicon, fitted, reader_from_json
from chainrule.models.bert import BERTLabeller, PieceInput, stretches
from chainrule.tasks.base import find_task
from chainrule.tasks.settings import RunConfig
from chainrule.tasks.setup import load, make_trainer, prepare, read_data
from chainrule.tasks.train import train

TEXT = "the cat sat on the mat and the dog ran to the cat\nwhere is the dog now said the cat to the man\n" * 60
SMALL = {"size": "tiny", "budget": "4steps", "save_every": "1000steps", "device": "cpu", "threads": 1}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A text, labelled lines and tagged tokens; and a run of BERT on the text."""
    root = tmp_path_factory.mktemp("pretrained")
    (root / "text.txt").write_text(TEXT)
    lines = [f"{'yes' if k % 2 else 'no'}\t{'the dog ran' if k % 2 else 'the cat sat on it'} {k}\n" for k in range(60)]
    (root / "labels.tsv").write_text("label\ttext\n" + "".join(lines))
    rows = [f"the\tDET\ncat{k}\tNOUN\nsat\tVERB\n\n" if k % 2 else f"dogs\tNOUN\nran{k}\tVERB\n\n" for k in range(60)]
    (root / "tags.tsv").write_text("".join(rows))
    train(settings(root / "text.txt", "bert", "fill", tokenizer="bpe:280"), root / "learnt")
    return root


def settings(data, name, task, **more):
    return RunConfig.make({**SMALL, "data": str(data), "model_type": name, "task": task, **more})


DATA = {"tag": "tags.tsv", "classify": "labels.tsv"}


@pytest.mark.parametrize("task", DATA)
def test_a_model_begins_with_the_weights_and_units_of_the_run(folder, task):
    s = settings(folder / DATA[task], "bert", task, pretrained=str(folder / "learnt"))
    data = read_data(s)
    ready = prepare(s, data)
    model = make_trainer(ready, None).model
    learnt = load(folder / "learnt")
    assert isinstance(model, BERTLabeller)
    theirs = learnt.model.state_dict()
    mine = model.inputs.reader.state_dict()
    assert len(mine) > 10 and all(torch.equal(mine[name], theirs[name]) for name in mine)
    units = ready.processor.reader.pieces if task == "tag" else ready.processor.reader.tokenizer
    assert units.to_json() == learnt.processor.tokenizer.to_json()
    assert ready.config.context == learnt.config["model"]["context"]
    assert ready.settings.tokenizer == "bpe:280"


@pytest.mark.parametrize("task", DATA)
def test_a_run_that_began_with_another_stands_alone(folder, task, tmp_path):
    copy = shutil.copytree(folder / "learnt", tmp_path / "copy")
    train(settings(folder / DATA[task], "bert", task, pretrained=str(copy)), tmp_path / "run")
    shutil.rmtree(copy)
    loaded = load(tmp_path / "run")
    part = find_task(task).read_split(loaded, folder / DATA[task], {"on_bad": "stop"})
    assert 0 <= find_task(task).evaluate(loaded, part).metrics["accuracy"] <= 1


def test_evaluate_says_what_can_only_be_wrong(folder, tmp_path, capsys):
    run, held = str(tmp_path / "run"), tmp_path / "held.tsv"
    assert main(["train", str(folder / "labels.tsv"), "--task", "classify", "--model", "bag", "--out", run]) == 0
    held.write_text("label\ttext\nperhaps\tthe cat\nno\tthe cat sat\n")
    assert main(["evaluate", run, str(held)]) == 0
    shown = capsys.readouterr()
    assert "1 record with a label that train lacks (perhaps): always wrong" in shown.err and "notes" not in shown.out
    assert main(["evaluate", run, str(held), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["notes"]) == 1


def test_a_text_where_a_file_is_meant_is_told_how_it_is_given(folder, capsys):
    assert main(["translate", "no-run", "hello " * 9999]) == 2
    shown = capsys.readouterr().err
    assert "standard input" in shown and len(shown) < 300


def test_other_models_and_other_runs_are_refused(folder, tmp_path):
    data, learnt = folder / "labels.tsv", str(folder / "learnt")
    s = settings(data, "gru", "classify", pretrained=learnt)
    with pytest.raises(UserError, match=r"not supported for gru \(only for bert with --task classify\)"):
        prepare(s, read_data(s))
    s = settings(data, "bert", "classify", pretrained=learnt, tokenizer="char")
    with pytest.raises(UserError, match="--tokenizer char: the run of --from"):
        prepare(s, read_data(s))
    train(settings(folder / "text.txt", "gpt", "generate", tokenizer="char"), tmp_path / "gpt")
    s = settings(data, "bert", "classify", pretrained=str(tmp_path / "gpt"))
    with pytest.raises(ConfigError, match="expected a run of bert, trained with --task fill"):
        make_trainer(prepare(s, read_data(s)), None)
    s = settings(data, "bert", "classify", pretrained=learnt, model={"width": 32})
    with pytest.raises(ConfigError, match="weights do not fit"):
        make_trainer(prepare(s, read_data(s)), None)


def made(task, **sizes):
    torch.manual_seed(3)
    chosen = model_type("bert", task)
    return chosen.build(chosen.configure("tiny", num_labels=3, **sizes)).eval().double()


def test_a_row_longer_than_the_window_is_read_in_stretches():
    reader = made("classify", source_vocab_size=11, context=6).inputs.reader
    ids = torch.randint(11, (3, 13), generator=torch.Generator().manual_seed(1))
    found = stretches(reader, ids, torch.tensor([13, 5, 6]))
    for row, begin, end in ((0, 0, 5), (0, 5, 10), (0, 10, 13), (1, 0, 5), (2, 0, 5), (2, 5, 6)):
        alone = torch.cat([torch.tensor([[reader.start_id]]), ids[row : row + 1, begin:end]], 1)
        expected = reader.encode(Batch(alone, alone, torch.tensor([alone.shape[1]])))[0, 1:]
        torch.testing.assert_close(found[row, begin:end], expected)


def test_a_token_is_the_mean_of_its_pieces():
    units = fitted([TEXT], "char")
    lexicon = Lexicon.fit(TEXT.split(), units)
    rows = (("the", "cat", "sat"), ("dog",), ("", "man"))
    batch = lexicon.read(TaggedBatch(torch.zeros(3, 0), torch.zeros(3, 3), words=rows))
    owners, text = batch.owners_BS[0], units.decode(batch.pieces_BS[0])
    assert text == b"the cat sat" and owners.tolist() == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert batch.owners_BS[2].tolist()[:4] == [1] * 4 and batch.owners_BS[1].tolist()[3:] == [3] * 8
    inputs = made("tag", **lexicon.sizes()).inputs
    assert isinstance(inputs, PieceInput)
    hidden = stretches(inputs.reader, batch.pieces_BS[:1], torch.tensor([11]))[0]
    expected = torch.stack([hidden[:3].mean(0), hidden[3:7].mean(0), hidden[7:].mean(0)])
    width = hidden.shape[-1]
    torch.testing.assert_close(inputs(batch)[0, :, :width], expected)
    assert not inputs(batch)[2, 0, :width].any()  # a token without a piece


def test_a_lexicon_with_pieces_is_saved_and_read():
    lexicon = Lexicon.fit(TEXT.split(), fitted([TEXT], "bpe:280"))
    again = reader_from_json(lexicon.to_json())
    assert isinstance(again, Lexicon) and again.to_json() == lexicon.to_json() and again.pieces is not None
    row = TaggedBatch(torch.zeros(1, 0), torch.zeros(1, 2), words=(("the", "dog"),))
    assert torch.equal(again.read(row).pieces_BS, lexicon.read(row).pieces_BS)
