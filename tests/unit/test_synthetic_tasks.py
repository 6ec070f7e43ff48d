"""Tasks with known answers: the answers, what guessing reaches, what is held out, and that each is recognised by its files."""

import itertools
import json

import numpy as np
import pytest

from chainrule.cli import main
from chainrule.core import UserError
from chainrule.data import synthetic_tasks
from chainrule.data.recognise import task_of_table
from chainrule.data.synthetic_tasks import adding, alignment, kinds, make, mentions, sorted_symbol_guess, task_of, write

PAIRED = {"copy": lambda x: x, "reverse": lambda x: x[::-1], "sort": sorted}
KINDS = ("copy", "reverse", "sort", "recall", "parity", "adding", "agreement")


def rows(made, part, suffix="tsv"):
    return [line.split("\t") for line in made.files[f"{part}.{suffix}"].splitlines()[1:]]


def of(kind, **more):
    return make(kind, "translate" if kind == "copy" else None, size=400, **more)


@pytest.mark.parametrize("kind", PAIRED)
def test_targets_are_what_the_name_says_and_stand_where_the_alignment_points(kind):
    made = of(kind)
    assert [len(rows(made, part)) for part in ("train", "valid", "test")] == [400, 20, 20]
    for source, target in itertools.chain(*(rows(made, part) for part in ("train", "valid", "test"))):
        read = source.split()
        assert 1 <= len(read) <= 10 and set(read) <= set("0123456789")
        assert target.split() == list(PAIRED[kind](read))
        assert [read[place] for place in alignment(kind, source)] == target.split()
        assert sorted(alignment(kind, source)) == list(range(len(read)))


def test_equal_symbols_keep_their_order():
    assert alignment("sort", "7 3 5 3") == [1, 3, 2, 0]


def test_recall_asks_for_one_of_eight_distinct_values():
    made, places = of("recall"), []
    for text, label in rows(made, "train"):
        *pairs, mark, asked = text.split()
        known = dict(zip(pairs[::2], pairs[1::2]))
        assert mark == "?" and len(known) == 8 and len(set(known.values())) == 8
        assert known[asked] == label == text.split()[alignment("recall", text)[0]]
        places.append(pairs[::2].index(asked))
    assert np.bincount(places, minlength=8).min() > 20  # 50 expected of each, sd 7
    assert made.truth["chance"]["in_context"]["value"] == 1 / 8


def test_parity_is_a_running_sum_and_is_tested_where_it_was_not_trained():
    made, lengths = of("parity"), {}
    for part in ("train", "valid", "test"):
        read = [(tokens.split(), tags.split()) for tokens, tags in rows(made, part)]
        lengths[part] = {len(bits) for bits, _ in read}
        for bits, tags in read:
            assert tags == ["even" if sum(map(int, bits[: t + 1])) % 2 == 0 else "odd" for t in range(len(bits))]
    assert min(lengths["train"]) >= 2 and max(lengths["train"] | lengths["valid"]) <= 40 and lengths["test"] == {256}


def test_adding_has_a_mark_in_each_half_and_saying_one_costs_a_sixth():
    inputs, targets = adding(20_000, np.random.default_rng(3), length=50)
    values, marks = inputs[..., 0], inputs[..., 1]
    assert (marks[:, :25].sum(1) == 1).all() and (marks[:, 25:].sum(1) == 1).all()
    assert np.allclose((values * marks).sum(1), targets)
    assert abs(((targets - 1) ** 2).mean() - 1 / 6) < 0.005  # sd of the mean 0.0014
    assert of("adding").truth["chance"]["mse"]["value"] == pytest.approx(1 / 6)


def test_reflexives_agree_with_the_subject_of_their_own_clause():
    """Against the grammar read anew: drop what modifies the subject, and its noun is the one that is left."""
    made = of("agreement")
    agreeing = {noun: said for said, nouns in synthetic_tasks.AGREEING.items() for noun in nouns.split()}
    for line in made.files["test.txt"].splitlines():
        pronoun, antecedent, others = mentions(line)
        words = line.split()
        clause = line[: line.index(words[pronoun])].split(" that ")[-1].split()
        assert clause[:2] == ["the", words[antecedent]]
        assert agreeing[words[antecedent]] == words[pronoun]
        nouns = [i for i, word in enumerate(words[:pronoun]) if word in agreeing]
        assert sorted([antecedent, *others]) == nouns
    answers = [json.loads(line) for line in made.files["answers.jsonl"].splitlines()]
    assert len(answers) == 20 and {"pronoun", "antecedent", "distractors", "answer"} <= answers[0].keys()


def test_guesses_of_sorted_symbols_are_those_of_a_simulation():
    drawn = np.sort(np.random.default_rng(5).integers(10, size=(40_000, 4)), axis=1)
    for place, guess in enumerate(sorted_symbol_guess(4)):
        share = np.bincount(drawn[:, place]).max() / len(drawn)
        assert abs(share - guess) < 0.01  # sd 0.0024


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_is_a_function_of_its_seed_and_holds_its_test_part_out(kind):
    made, again, other = of(kind), of(kind), of(kind, seed=7)
    assert made.files == again.files and made.files != other.files
    assert made.truth.get("test_in_train", 0) == 0
    if kind not in ("adding", "parity"):
        name = "txt" if kind == "agreement" else "tsv"
        held = {row[0] for row in rows(made, "test", name)}
        assert not held & {row[0] for row in rows(made, "train", name)}
        assert not held & {row[0] for row in rows(other, "train", name)}


@pytest.mark.parametrize(("kind", "task"), [("reverse", "translate"), ("recall", "classify"), ("parity", "tag")])
def test_its_files_say_what_it_is_for(kind, task, tmp_path):
    write(of(kind), tmp_path)
    assert task_of(kind) == task == task_of_table(tmp_path)


def test_the_verb_lists_kinds_makes_them_and_knows_the_two_copies(tmp_path, capsys):
    assert main(["data", "make"]) == 0
    listed = capsys.readouterr().out
    assert all(kind in listed for kind, _ in kinds())
    assert main(["data", "make", "copy", "--size", "2000", "--out", str(tmp_path / "stream")]) == 0
    assert (tmp_path / "stream" / "train.txt").exists()
    assert main(["data", "make", "copy", "--task", "translate", "--size", "200", "--out", str(tmp_path / "pairs")]) == 0
    assert (tmp_path / "pairs" / "train.tsv").read_text().startswith("source\ttarget\n")
    capsys.readouterr()
    assert main(["data", "make", "revers", "--out", str(tmp_path / "x")]) == 2
    assert "reverse" in capsys.readouterr().err
    assert main(["data", "make", "reverse", "--size", "3", "--out", str(tmp_path / "x")]) == 2
    assert "at least 100" in capsys.readouterr().err
    with pytest.raises(UserError, match="is for --task translate"):
        task_of("reverse", "tag")
