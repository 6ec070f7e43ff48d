"""translate from end to end on a toy task: reversed words. Trained for seconds, so that what is tested is the path, not
the skill."""

import json
import random
from pathlib import Path

import pytest
import torch

from chainrule.api import load, translate
from chainrule.cli import main
from chainrule.core import PairBatch, model_type
from chainrule.core.metric import chrf_of
from chainrule.data import ByteTokenizer
from chainrule.data.tokenizers import CharTokenizer
from chainrule.inference.beam import Beams
from chainrule.tasks.translate.metrics import edit_distance, judge, mostly_unspaced
from chainrule.tasks.translate.task import never_in_targets, translations
from chainrule.training.losses import Seq2SeqLoss, smoothed

MODEL_TYPES = ("transformer", "gru", "gru:none")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng, folder = random.Random(5), tmp_path_factory.mktemp("pairs")
    for part, count in (("train", 150), ("valid", 20), ("test", 20)):
        rows = [[rng.choice("abcde") for _ in range(rng.randint(1, 6))] for _ in range(count)]
        lines = [" ".join(row) + "\t" + " ".join(reversed(row)) for row in rows]
        (folder / f"{part}.tsv").write_text("source\ttarget\n" + "\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def runs(pairs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name in MODEL_TYPES:
        chosen, _, attention = name.partition(":")
        out = tmp_path_factory.mktemp("runs") / chosen / (attention or "default")
        flags = ["--set", f"model.attention={attention}"] if attention else []
        words = ["train", str(pairs), "--model", chosen, "--budget", "30steps", "--set", "size=tiny", "--threads", "1"]
        assert main([*words, *flags, "--set", "train.batch_size=8", "--precision", "fp32", "--out", str(out)]) == 0
        made[name] = out
    return made


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    capsys.readouterr()
    assert main([*words, "--json", "--threads", "1"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", MODEL_TYPES)
def test_evaluate_prints_what_the_contract_says(name, runs, pairs, capsys) -> None:
    result = printed(capsys, "evaluate", str(runs[name]), str(pairs / "test.tsv"))
    wanted = {"task", "model", "bleu", "chrf", "exact_match", "error_rate", "sentences", "signature"}
    assert result.keys() == wanted | {"intervals"}
    assert result["task"] == "translate" and result["sentences"] == 20


def test_predictions_are_what_translate_prints(runs, pairs, tmp_path, capsys) -> None:
    file = tmp_path / "made.jsonl"
    printed(capsys, "evaluate", str(runs["gru"]), str(pairs / "test.tsv"), "--predictions", str(file))
    made = [json.loads(line) for line in file.read_text().splitlines()]
    (tmp_path / "sources.txt").write_text("".join(f"{row['source']}\n" for row in made))
    result = printed(capsys, "translate", str(runs["gru"]), str(tmp_path / "sources.txt"))
    assert result["translations"] == [row["predicted"] for row in made]
    assert result["nats"] == pytest.approx([row["nats"] for row in made], abs=1e-4)


def test_one_line_in_one_line_out_blank_ones_too(runs, tmp_path, capsys) -> None:
    (tmp_path / "in.txt").write_text("a b c\n\nd e\n")
    capsys.readouterr()
    assert main(["translate", str(runs["transformer"]), str(tmp_path / "in.txt"), "--threads", "1"]) == 0
    assert len(capsys.readouterr().out.removesuffix("\n").split("\n")) == 3


@pytest.mark.parametrize("name", ["gru", "gru:none"])
def test_a_translation_is_one_line_even_where_the_model_prefers_line_feeds(name, runs) -> None:
    loaded = load(runs[name], threads=1)
    feed = loaded.processor.target.encode(b"\n").ids.tolist()[0]
    (bias,) = [p for p in loaded.model.parameters() if p.shape == (loaded.model.vocab_size,)]
    with torch.no_grad():
        bias[feed] = 50.0
    sources = [loaded.processor.source.encode(text).ids for text in (b"a b c", b"e")]
    for row in translations(loaded, sources, Beams(3, 3)):
        assert row and all(feed not in hypothesis.ids for hypothesis in row)


@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), CharTokenizer("ab\n\rc")], ids=lambda t: t.name)
def test_no_line_break_is_ever_generated(tokenizer) -> None:
    never = never_in_targets(tokenizer).forbid
    assert {tokenizer.encode(text).ids.item() for text in (b"\n", b"\r")} <= {*never}
    assert tokenizer.encode(b"a").ids.item() not in never


@pytest.mark.parametrize("options", [{}, {"n_best": 3}, {"mbr": True, "beams": 3}, {"must": ["d"], "max_length": 9}])
def test_the_translation_of_an_empty_line_is_empty(options, runs) -> None:
    found = translate(load(runs["gru"], threads=1), ["a b", "", " \t", "e"], min_length=1, **options)
    assert found["translations"][1:3] == ["", ""] and found["nats"][1:3] == [0, 0]
    assert all(found["translations"][k] for k in (0, 3))
    if "n_best" in options:
        assert [len(row) for row in found["n_best"]] == [3, 1, 1, 3]


@pytest.mark.parametrize("name", MODEL_TYPES)
@pytest.mark.parametrize(("least", "most"), [(20, 60), (40, None), (33, 33), (0, 3)])
def test_a_length_that_is_asked_for_is_honoured(name, least, most, runs) -> None:
    """Also far beyond the length that training pairs suggest for a source of two words."""
    loaded = load(runs[name], threads=1)
    given = {"min_length": least} | ({} if most is None else {"max_length": most})
    (text,) = translate(loaded, ["a b"], **given)["translations"]
    assert least <= len(text.split()) <= (most or 60)


def test_a_translation_does_not_depend_on_what_is_translated_beside_it(runs) -> None:
    rng = random.Random(3)
    sources = [" ".join(rng.choice("abcde") for _ in range(size)) for size in (1, 2, 2, 5, 9, 40, 90)]
    for name in MODEL_TYPES:
        loaded = load(runs[name], threads=1, precision="fp32")
        together = translate(loaded, sources, length_penalty=10.0)
        alone = [translate(loaded, [source], length_penalty=10.0) for source in sources]
        assert together["translations"] == [found["translations"][0] for found in alone]
        assert together["nats"] == pytest.approx([found["nats"][0] for found in alone], abs=1e-3)


def test_unknown_tokens_and_translations_without_an_end_are_told(runs, tmp_path, capsys) -> None:
    (tmp_path / "in.txt").write_text("a b zebra zoo\nc\n")
    assert main(["translate", str(runs["gru"]), str(tmp_path / "in.txt"), "--max-length", "1"]) == 0
    told = capsys.readouterr().err
    assert "note: tokens of the sources that the run does not know: 2\n" in told
    found = translate(load(runs["gru"]), ["a b"], max_length=1)
    assert ("unended" in found) == bool(found["translations"][0])
    assert "unknown" not in found


@pytest.mark.parametrize("name", MODEL_TYPES)
def test_phrases_appear_or_do_not(name, runs) -> None:
    loaded = load(runs[name], threads=1)
    for row in translate(loaded, ["a b c", "e"], must=["d d"], beams=6)["translations"]:
        assert "d d" in row
    for row in translate(loaded, ["a b c", "a a a a"], forbid=["a", "b"])["translations"]:
        assert "a" not in row and "b" not in row


def test_the_n_best_are_distinct_and_ordered_and_the_least_risky_is_one_of_them(runs) -> None:
    loaded = load(runs["gru"], threads=1)
    found = translate(loaded, ["a b c d"], n_best=5)["n_best"][0]
    texts, scores = [h["text"] for h in found], [h["score"] for h in found]
    assert len(set(texts)) == 5 and scores == sorted(scores, reverse=True)
    assert translate(loaded, ["a b c d"], beams=5, mbr=True)["translations"][0] in texts


def test_coverage_is_the_attention_that_was_paid(runs) -> None:
    model = load(runs["gru"], threads=1).model
    sources, lengths = torch.tensor([[0, 1, 2, 3], [4, 1, 0, 0]]), torch.tensor([4, 2])
    with torch.no_grad():
        _, state = model.start(sources, lengths, batch=2)
        for symbol in (0, 1, 2):
            _, state = model(torch.tensor([[symbol], [symbol]]), state)
    torch.testing.assert_close(state.coverage_BS.sum(1), torch.tensor([4.0, 4.0 + 2.0]))
    assert state.coverage_BS[1, 2:].tolist() == [1.0, 1.0]


def test_a_coverage_penalty_needs_a_model_that_attends(runs, tmp_path, capsys) -> None:
    (tmp_path / "in.txt").write_text("a b c\n")
    assert "translations" in printed(
        capsys, "translate", str(runs["gru"]), str(tmp_path / "in.txt"), "--coverage-penalty", "0.4"
    )
    words = ["translate", str(runs["gru:none"]), str(tmp_path / "in.txt"), "--coverage-penalty", "0.4"]
    assert main(words) == 2
    assert "needs a model that attends" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--must", "z"], "--must 'z': holds a token that is not in the vocabulary of the run"),
        (["--beams", "0"], "--beams 0: allowed is 1 to"),
        (["--must", "a", "--forbid", "a"], "that must not appear is in the way"),
        (["--diverse", "3"], "cannot be shared evenly"),
    ],
)
def test_what_cannot_be_meant_is_told_in_one_line(flags, said, runs, tmp_path, capsys) -> None:
    (tmp_path / "in.txt").write_text("a b c\n")
    assert main(["translate", str(runs["gru"]), str(tmp_path / "in.txt"), *flags]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error and "\n" not in error


def test_a_run_of_another_task_is_told_what_is_needed(pairs, tmp_path, capsys) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox\n" * 400)
    run = str(tmp_path / "run")
    assert main(["train", str(tmp_path / "text.txt"), "--model", "markov", "--out", run]) == 0
    capsys.readouterr()
    assert main(["translate", run, str(tmp_path / "text.txt")]) == 2
    assert "--task translate" in capsys.readouterr().err


# --- the objective ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_loss_is_that_of_start_and_single_steps() -> None:
    found = model_type("transformer", "translate")
    torch.manual_seed(1)
    model = found.build(found.configure("tiny", vocab_size=5, source_vocab_size=6)).double().eval()
    sources, ends = torch.randint(6, (2, 4)), torch.tensor([4, 2])
    targets = torch.tensor([[0, 1, 4], [2, 4, -1]])
    inputs = torch.tensor([[5, 0, 1], [5, 2, 0]])
    batch = PairBatch(inputs, targets, torch.tensor([3, 2]), sources_BS=sources, source_lengths_B=ends)
    terms, _ = Seq2SeqLoss(model)(batch)
    nats = 0.0
    for b, length in enumerate((3, 2)):
        prediction, state = model.start(sources[b : b + 1, : ends[b]], batch=1)
        for t in range(length):
            nats -= float(prediction.log_prob(targets[b, t].view(1, 1)))
            prediction, state = model(targets[b, t].view(1, 1), state)
    assert float(terms["nats"][0]) == pytest.approx(nats, abs=1e-10)
    assert int(terms["nats"][1]) == 5


def test_smoothing_is_the_definition_written_out() -> None:
    """(1 - e) of the target's loss and e of the mean loss over all symbols; targets that are ignored cost nothing."""
    from chainrule.core import Categorical

    logits, targets = torch.randn(2, 3, 5).double(), torch.tensor([[1, 4, -1], [0, 2, 2]])
    log_p, expected = logits.log_softmax(-1), 0.0
    for b in range(2):
        for t in range(3):
            if targets[b, t] >= 0:
                expected -= float(0.8 * log_p[b, t, targets[b, t]] + 0.2 * log_p[b, t].mean())
    assert float(smoothed(Categorical(logits), targets, 0.2)) == pytest.approx(expected, abs=1e-10)


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_are_sacrebleus_and_their_sums_give_the_corpus_score() -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    made = ["the cat sat on a mat", "das ist ein Haus", "", "x"]
    wanted = ["the cat sat on the mat", "das war ein Haus", "ja", "x"]
    scores = judge(made, wanted)
    assert scores.bleu == pytest.approx(sacrebleu.corpus_bleu(made, [wanted]).score)
    assert scores.chrf == pytest.approx(sacrebleu.corpus_chrf(made, [wanted]).score)
    for chosen in ([0, 1, 2, 3], [0, 0, 3], [2]):
        expected = sacrebleu.corpus_chrf([made[i] for i in chosen], [[wanted[i] for i in chosen]]).score
        assert float(chrf_of(scores.statistics[chosen].sum(0))) == pytest.approx(expected)
    assert scores.exact.tolist() == [False, False, False, True]
    assert scores.edits.tolist() == [1, 1, 1, 0] and scores.sizes.tolist() == [6, 4, 1, 1]


@pytest.mark.parametrize(
    ("a", "b", "edits"),
    [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("flaw", "lawn", 2), ("abcd", "acbd", 2)],
)
def test_edit_distances_are_those_of_the_textbook(a, b, edits) -> None:
    assert edit_distance(list(a), list(b)) == edits


def test_bleu_counts_characters_where_words_are_not_the_unit() -> None:
    assert mostly_unspaced(["파일을 엽니다", "저장"]) and not mostly_unspaced(["open the file"])
    assert "tok:char" in judge(["파일을 엽니다"], ["파일을 닫습니다"]).signature


@pytest.mark.parametrize(
    ("lengths", "wanted"), [((3, 5, 8, 11, 14, 17), 1.0), ((9, 12, 15, 18, 21, 24), 0.6), ((1, 2, 3, 4, 5, 6), 1.6)]
)
def test_the_length_penalty_is_the_one_that_writes_as_much_as_was_wanted(lengths, wanted, monkeypatch):
    """Targets of 9 characters; the longest that is tried is the first that writes more."""
    from types import SimpleNamespace

    from chainrule.tasks.translate import task as task

    tried = []

    def written(loaded, sources, options):
        tried.append(options.length_penalty)
        return [[SimpleNamespace(ids="x" * lengths[len(tried) - 1])] for _ in sources]

    monkeypatch.setattr(task, "translations", written)
    monkeypatch.setattr(task, "spelled", lambda _loaded, ids: ids)
    part = SimpleNamespace(targets=["y" * 9] * 5, source_ids=[[1, 2]] * 5)
    loaded = SimpleNamespace(data={"counted": "byte"})
    found = task.Translate().tune_decoding(loaded, SimpleNamespace(parts={"valid": Sized(part)}))
    assert found == {"length_penalty": wanted}
    assert tried == list(task.PENALTIES[: len(tried)])


class Sized:
    """A part that knows how many pairs it has."""

    def __init__(self, part):
        self.targets, self.source_ids = part.targets, part.source_ids

    def __len__(self):
        return len(self.targets)


def test_symbols_keep_the_usual_penalty_and_a_run_remembers_its_own():
    from types import SimpleNamespace

    from chainrule.tasks.translate import task as task

    assert task.Translate().tune_decoding(SimpleNamespace(data={"counted": "symbol"}), None) == {}
    assert task.length_penalty(SimpleNamespace(data={})) == 0.6
    assert task.length_penalty(SimpleNamespace(data={"length_penalty": 1.2})) == 1.2
