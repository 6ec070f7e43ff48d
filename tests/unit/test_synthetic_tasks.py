"""Tasks with known answers: the answers by other means, nothing held out is trained on, and guessing reaches what is
stated."""

import json
import math
import re
from collections import Counter

import numpy as np
import pytest

from chainrule import cli
from chainrule.core import UserError
from chainrule.data.labelled import read_labelled, read_tagged
from chainrule.data.recognise import task_of_table
from chainrule.data.sequences import recognise
from chainrule.data.synthetic import known, make, write
from chainrule.data.synthetic_tasks import NOUNS, adding, alignment, answer, mentions, sorted_symbol_guess
from chainrule.data.table import read_table

SIZE, HELD = 10_007, 500
PAIRS = ("copy", "reverse", "sort")
TASKS = [key for key, found in known().items() if found.unit == "records"]
WRITTEN = [key for key in TASKS if key[0] != "rainbow"]
"""What is text; of pictures there are tests with those who draw."""


@pytest.fixture(scope="module")
def made():
    return {kind: make(kind, task, size=SIZE, seed=7) for kind, task in WRITTEN}


@pytest.fixture(scope="module")
def folders(made, tmp_path_factory):
    root = tmp_path_factory.mktemp("tasks")
    for kind, found in made.items():
        write(found, root / kind)
    return {kind: root / kind for kind in made}


def rows(made, part: str) -> list[list[str]]:
    """The cells of a part, its header left out where it is a table."""
    name = next(name for name in made.files if name.startswith(part))
    lines = [line.split("\t") for line in made.files[name].splitlines()]
    return lines[1:] if name.endswith(".tsv") else lines


def close(rates: np.ndarray, stated: float) -> bool:
    """Is the mean of independent outcomes within three standard errors of what is stated?"""
    return abs(rates.mean() - stated) < 3 * max(rates.std(ddof=1), 1e-9) / math.sqrt(len(rates))


# ---------------------------------------------------------------------------------------------------------- the answers


def test_targets_of_pairs_are_the_source_again_backwards_and_in_order(made):
    for part in ("train", "valid", "test"):
        assert all(target == source for source, target in rows(made["copy"], part))
        assert all(target == "".join(reversed(source)) for source, target in rows(made["reverse"], part))
        for source, target in rows(made["sort"], part):
            counted = Counter(source.split())
            assert target.split() == [digit for digit in "0123456789" for _ in range(counted[digit])]


def test_pairs_have_every_length_from_1_to_10_and_ten_symbols(made):
    for kind in PAIRS:
        lengths = Counter(len(source.split()) for source, _ in rows(made[kind], "train"))
        assert set(lengths) == set(range(1, 11))
        # Of the 10 sources of one symbol a whole tenth may be held out: the longer ones are equally frequent.
        longer = [lengths[n] for n in range(3, 11)]
        assert max(abs(count - sum(longer) / 8) for count in longer) < 4 * math.sqrt(SIZE * 0.09)
        assert {symbol for source, _ in rows(made[kind], "train") for symbol in source.split()} == set("0123456789")


def test_alignment_of_pairs_worked_out_by_hand():
    assert alignment("copy", "7 3 5") == [0, 1, 2]
    assert alignment("reverse", "7 3 5") == [2, 1, 0]
    assert alignment("sort", "7 3 5 3 0") == [4, 1, 3, 2, 0]
    assert alignment("recall", "A + B 9 C k ? B") == [3]
    with pytest.raises(UserError, match="no alignment for 'parity'"):
        alignment("parity", "0 1")


def test_the_answer_stands_where_the_alignment_points(made):
    for kind in PAIRS:
        for source, target in rows(made[kind], "test"):
            assert [source.split()[place] for place in alignment(kind, source)] == target.split()
            assert sorted(alignment(kind, source)) == list(range(len(source.split())))


def test_recall_asks_for_one_of_eight_distinct_keys_with_distinct_values(made):
    asked = Counter()
    for text, label in rows(made["recall"], "test"):
        words = text.split()
        pairs = dict(zip(words[:16:2], words[1:16:2]))
        assert (len(words), words[16], len(pairs), len(set(pairs.values()))) == (18, "?", 8, 8)
        assert label == pairs[words[17]]
        asked[list(pairs).index(words[17])] += 1
    # Each of the 8 places is equally likely: chi-squared with 7 degrees of freedom, whose 0.999 quantile is 24.3.
    assert sum((asked[place] - HELD / 8) ** 2 / (HELD / 8) for place in range(8)) < 24.3


def test_recall_has_32_keys_and_32_values_and_none_is_both(made):
    words = [text.split() for text, _ in rows(made["recall"], "train")]
    keys, values = ({w for row in words for w in row[start:16:2]} for start in (0, 1))
    assert (len(keys), len(values), keys & values) == (32, 32, set())


def test_parity_tags_say_whether_the_ones_so_far_are_odd(made):
    for part, lengths in (("train", range(2, 41)), ("valid", range(2, 41)), ("test", [256])):
        found = rows(made["parity"], part)
        for tokens, tags in found:
            bits = tokens.split()
            assert tags.split() == [("even", "odd")[bits[: t + 1].count("1") % 2] for t in range(len(bits))]
        seen = {len(tokens.split()) for tokens, _ in found}
        assert seen <= set(lengths) and len(seen) >= min(len(lengths), 30)


def test_adding_sums_the_two_values_marked_one_in_each_half(made):
    for part in ("train", "valid", "test"):
        for line in made["adding"].files[f"{part}.jsonl"].splitlines():
            record = json.loads(line)
            first, second = record["marks"]
            assert (0 <= first < 50 <= second < 100) and len(record["values"]) == 100
            assert record["target"] == pytest.approx(record["values"][first] + record["values"][second], abs=1e-9)


def test_adding_as_arrays_marks_every_place_of_each_half_and_keeps_to_the_unit_interval():
    inputs, targets = adding(2_003, np.random.default_rng(3), length=13)
    assert inputs.shape == (2_003, 13, 2)
    assert inputs[..., 0].min() >= 0 and inputs[..., 0].max() < 1
    np.testing.assert_allclose((inputs[..., 0] * inputs[..., 1]).sum(1), targets, atol=1e-12)
    np.testing.assert_array_equal(inputs[:, :6, 1].sum(1), 1)
    np.testing.assert_array_equal(inputs[:, 6:, 1].sum(1), 1)
    assert inputs[..., 1].any(0).all()


GRAMMAR = re.compile(
    r"(the \w+ (said|knew|thought|wrote) that )*the (?P<subject>\w+)"
    r"( (near|behind|beside|with) the \w+| who the \w+ \w+ed| who the \w+ (saw|hurt|taught)| who (?!the)\w+ the \w+)*"
    r" \w+ (?P<reflexive>himself|herself|themselves)( again| twice)? \."
)


def test_a_reflexive_agrees_with_the_subject_that_the_grammar_finds(made):
    plural = {
        "boys",
        "men",
        "kings",
        "uncles",
        "friends",
        "brothers",
        "girls",
        "women",
        "queens",
        "aunts",
        "children",
        "nuns",
    }
    women = {
        "girl",
        "woman",
        "queen",
        "aunt",
        "mother",
        "sister",
        "daughter",
        "princess",
        "actress",
        "waitress",
        "nun",
        "witch",
    }
    answers = [json.loads(line) for line in made["agreement"].files["answers.jsonl"].splitlines()]
    found = rows(made["agreement"], "test")
    assert [told["line"] for told in answers] == list(range(1, HELD + 1)) == list(range(1, len(found) + 1))
    for (sentence,), told in zip(found, answers):
        parsed, words = GRAMMAR.fullmatch(sentence), sentence.split()
        assert parsed, sentence
        subject, reflexive = parsed["subject"], parsed["reflexive"]
        assert reflexive == ("themselves" if subject in plural else "herself" if subject in women else "himself")
        assert told["antecedent"] == len(sentence[: parsed.start("subject")].split())
        assert told["pronoun"] == words.index(reflexive) and told["answer"] == reflexive
        nouns = [place + 1 for place, word in enumerate(words) if word == "the"]
        assert told["distractors"] == [place for place in nouns if place != told["antecedent"]]


def test_agreement_is_far_and_near_with_nouns_before_and_between(made):
    told = [json.loads(line) for line in made["agreement"].files["answers.jsonl"].splitlines()]
    distances = {record["pronoun"] - record["antecedent"] for record in told}
    assert min(distances) == 2 and max(distances) == 18
    assert made["agreement"].truth["distance"] == [2, 18]
    assert {sum(d > record["antecedent"] for d in record["distractors"]) for record in told} == {0, 1, 2, 3, 4}
    assert {sum(d < record["antecedent"] for d in record["distractors"]) for record in told} == {0, 1, 2}


def test_mentions_of_a_sentence_read_by_hand():
    sentence = "the nun said that the boy who the queens saw near the man hurt himself again ."
    assert mentions(sentence) == (14, 5, [1, 8, 12])
    assert (alignment("agreement", sentence), answer("agreement", sentence)) == ([5], "himself")


def test_no_word_but_the_subject_tells_which_reflexive_it_is(made):
    """The verb before the reflexive and the word after it are independent of it: chi-squared against the product."""
    for offset, free in ((-1, 10 * 2), (1, 2 * 2)):
        table = Counter()
        for (sentence,) in rows(made["agreement"], "train"):
            words = sentence.split()
            place = mentions(sentence)[0]
            table[words[place + offset], words[place]] += 1
        beside, own = Counter(), Counter()
        for (word, reflexive), count in table.items():
            beside[word] += count
            own[reflexive] += count
        expected = {(w, r): beside[w] * own[r] / SIZE for w in beside for r in own}
        statistic = sum((table[key] - e) ** 2 / e for key, e in expected.items())
        assert statistic < free + 4 * math.sqrt(2 * free)
    assert Counter(NOUNS.values()) == {"himself": 12, "herself": 12, "themselves": 12}


# -------------------------------------------------------------------------------------------------- parts, sizes, seeds


def test_every_task_has_the_sizes_asked_for_and_says_so(made):
    for kind, found in made.items():
        assert [len(rows(found, part)) for part in ("train", "valid", "test")] == [SIZE, HELD, HELD], kind
        assert found.truth["records"] == {"train": SIZE, "valid": HELD, "test": HELD}
        assert (found.truth["kind"], found.truth["size"], found.truth["seed"]) == (kind, SIZE, 7)


def test_no_held_out_record_is_trained_on_and_none_is_held_out_twice(made):
    for kind, found in made.items():
        parts = {part: [row[0] for row in rows(found, part)] for part in ("train", "valid", "test")}
        for part in ("valid", "test"):
            assert len(set(parts[part])) == HELD, kind
            assert not set(parts[part]) & set(parts["train"]), kind
        assert not set(parts["valid"]) & set(parts["test"]), kind


def test_what_one_seed_holds_out_no_other_seed_trains_on():
    for kind in ("reverse", "agreement"):
        trained = {row[0] for row in rows(make(kind, size=5_003, seed=1), "train")}
        assert not trained & {row[0] for row in rows(make(kind, size=5_003, seed=2), "test")}


def test_a_task_is_a_function_of_kind_size_and_seed():
    for kind, task in TASKS:
        first, again, other = (make(kind, task, size=211, seed=seed) for seed in (11, 11, 12))
        assert first == again
        assert first.files != other.files
        if (kind, task) not in WRITTEN:
            continue
        assert not set(map(tuple, rows(first, "test"))) & set(map(tuple, rows(other, "test"))) or kind in PAIRS


def test_too_few_records_and_unknown_names_are_refused():
    with pytest.raises(UserError, match="at least 100 records"):
        make("sort", size=99)
    with pytest.raises(UserError, match="did you mean 'reverse'"):
        make("revers", size=500)


# ------------------------------------------------------------------------------------------------------------- guessing


def chance(found, what: str) -> float:
    return found.truth["chance"][what]["value"]


def guessed_pairs(kind: str, sources: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """(is the whole right, share of the symbols right) by a guesser that knows lengths only, weighted as the mean is
    taken.
    """
    rng = np.random.default_rng(17)
    whole, right = [], []
    for source in sources:
        target = answer(kind, source).split()
        if kind == "sort":
            guess = sorted(rng.permutation(list("0123456789"))[: len(target)].tolist())
        else:
            guess = rng.choice(list("0123456789"), len(target)).tolist()
        whole.append(guess == target)
        right += [a == b for a, b in zip(guess, target)]
    return np.array(whole, float), np.array(right, float)


def test_guessing_pairs_is_right_as_often_as_stated(made):
    """Many draws of sources of the lengths of the test part, 1 to 3 alone for whole targets, which are hardly ever
    guessed else.
    """
    rng = np.random.default_rng(5)
    for kind in PAIRS:
        lengths = [len(source.split()) for source, _ in rows(made[kind], "test")]
        counted = Counter(lengths)
        one = {n: math.factorial(n) / 10**n if kind == "sort" else 10**-n for n in counted}
        assert chance(made[kind], "exact_match") == pytest.approx(sum(one[n] * c for n, c in counted.items()) / HELD)
        for length in (1, 2, 3):
            sources = [" ".join(row) for row in rng.choice(list("0123456789"), (9_001, length)).tolist()]
            assert close(guessed_pairs(kind, sources)[0], one.get(length, 0.1))
        if kind != "sort":
            right = guessed_pairs(kind, [source for source, _ in rows(made[kind], "train")])[1]
            assert close(right, chance(made[kind], "symbol_accuracy"))


def test_the_likeliest_sorted_symbol_is_right_as_often_as_stated(made):
    """By hand for two symbols: the smaller is <= s with 1 - (1 - (s + 1) / 10)^2, likeliest 0 with .19; the larger
    likewise 9.
    """
    assert sorted_symbol_guess(1) == pytest.approx([0.1])
    assert sorted_symbol_guess(2) == pytest.approx([0.19, 0.19])
    rng = np.random.default_rng(6)
    for length in (3, 7, 10):
        drawn = np.sort(rng.integers(10, size=(40_009, length)), 1)
        best = [np.bincount(column).argmax() for column in np.sort(rng.integers(10, size=(40_009, length)), 1).T]
        assert close((drawn == best).mean(1), float(np.mean(sorted_symbol_guess(length))))
    targets = [target.split() for _, target in rows(made["sort"], "test")]
    best = {n: sorted_symbol_guess(n) for n in range(1, 11)}
    stated = sum(sum(best[len(t)]) for t in targets) / sum(map(len, targets))
    assert chance(made["sort"], "symbol_accuracy") == pytest.approx(stated)


def test_guessing_a_value_is_right_as_often_as_stated(made):
    rng = np.random.default_rng(8)
    found = rows(made["recall"], "train")
    words, labels = [text.split() for text, _ in found], [label for _, label in found]
    in_context = np.array([row[1 + 2 * rng.integers(8)] == label for row, label in zip(words, labels)], float)
    last = np.array([row[15] == label for row, label in zip(words, labels)], float)
    blind = np.array([label == "q" for label in labels], float)
    assert (chance(made["recall"], "in_context"), chance(made["recall"], "blind")) == (0.125, 0.03125)
    assert close(in_context, 0.125) and close(last, 0.125) and close(blind, 0.03125)


def test_parity_beyond_what_a_window_sees_is_a_coin(made):
    """A guesser that sees the last three bits: the tag three back and more is what it lacks."""
    right = []
    for tokens, tags in rows(made["parity"], "test"):
        bits, told = np.array(tokens.split(), int), np.array(tags.split()) == "odd"
        seen = (bits[3:] + bits[2:-1] + bits[1:-2]) % 2 == 1
        right.append((seen == told[3:]).mean())
    assert chance(made["parity"], "accuracy") == 0.5
    assert close(np.array(right), 0.5)


def test_always_saying_one_costs_a_sixth_at_adding(made):
    targets = np.array([json.loads(x)["target"] for x in made["adding"].files["train.jsonl"].splitlines()])
    assert chance(made["adding"], "mse") == pytest.approx(1 / 6)
    assert close((targets - 1) ** 2, 1 / 6)


def test_heuristics_of_agreement_reach_what_is_stated(made):
    found = [line.split() for (line,) in rows(made["agreement"], "test")]
    truth = made["agreement"].truth["chance"]
    said = [next(word for word in words if word in {"himself", "herself", "themselves"}) for words in found]
    nouns = [[b for a, b in zip(words, words[1:]) if a == "the"] for words in found]
    guesses = {
        "accuracy": [word == "himself" for word in said],
        "nearest_noun": [NOUNS[row[-1]] == word for row, word in zip(nouns, said)],
        "first_noun": [NOUNS[row[0]] == word for row, word in zip(nouns, said)],
    }
    assert truth.keys() == guesses.keys()
    for what, right in guesses.items():
        assert close(np.array(right, float), truth[what]["value"]), what
    # Drawn with 0 to 4 nouns between and 0 to 2 before: 1/5 + 4/5 / 3 and 1/3 + 2/3 / 3, up to chance.
    assert truth["nearest_noun"]["value"] == pytest.approx(7 / 15, abs=0.06)
    assert truth["first_noun"]["value"] == pytest.approx(5 / 9, abs=0.06)


# ------------------------------------------------------------------------------------------------ files, and how to ask


def test_files_are_those_of_the_task_and_the_truth_lies_beside_them(folders, made):
    names = {"adding": "jsonl", "agreement": "txt"}
    for kind, folder in folders.items():
        expected = {f"{part}.{names.get(kind, 'tsv')}" for part in ("train", "valid", "test")} | {"truth.json"}
        assert {p.name for p in folder.iterdir()} == expected | ({"answers.jsonl"} if kind == "agreement" else set())
        assert json.loads((folder / "truth.json").read_text()) == json.loads(json.dumps(made[kind].truth))


def test_the_toolkit_knows_by_itself_what_each_folder_is_for(folders):
    assert [task_of_table(folders[kind]) for kind in PAIRS] == ["translate"] * 3
    assert task_of_table(folders["recall"]) == "classify"
    assert task_of_table(folders["parity"]) == "tag"
    assert task_of_table(folders["agreement"]) is None and recognise(folders["agreement"]) == "text"


def test_the_readers_of_the_toolkit_read_the_files(folders):
    for kind in PAIRS:
        sources, targets = read_table(folders[kind] / "test.tsv").need("source", "target")
        assert len(sources) == HELD and targets == [answer(kind, source) for source in sources]
    recall = read_labelled(folders["recall"])
    assert {part: len(records) for part, records in recall.parts.items()} == {
        "train": SIZE,
        "valid": HELD,
        "test": HELD,
    }
    assert len(recall.labels) == 32 and recall.card()["duplicates"] == 0
    parity = read_tagged(folders["parity"])
    assert parity.labels == ("even", "odd") and len(parity.parts["test"]) == 256 * HELD
    assert parity.card()["duplicates"] == 0


def test_copy_is_the_stream_unless_pairs_are_asked_for(tmp_path, capsys):
    for flags, files in (([], "txt"), (["--task", "generate"], "txt"), (["--task", "translate"], "tsv")):
        folder = tmp_path / "-".join(["x", *flags])
        assert cli.main(["data", "make", "copy", *flags, "--size", "1000", "--out", str(folder)]) == 0
        assert sorted(p.name for p in folder.iterdir()) == [
            f"test.{files}",
            f"train.{files}",
            "truth.json",
            f"valid.{files}",
        ]
    assert "chance level" in capsys.readouterr().out.splitlines()[-1]


def test_data_make_alone_lists_every_kind_on_a_line_of_its_own(capsys):
    assert cli.main(["data", "make"]) == 0
    listed = [line.split()[:2] for line in capsys.readouterr().out.splitlines()[1:]]
    assert listed == [[kind, task or "-"] for kind, task in known()]
    assert len(listed) == len(known()) == 12
    assert all(found.summary for found in known().values())


def test_data_make_of_a_wrong_kind_lists_all_and_ends_with_the_nearest(capsys):
    assert cli.main(["data", "make", "sorted"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split()[0] for line in err.splitlines()[1:-1]] == [kind for kind, _ in known()]
    assert err.splitlines()[-1] == "chainrule: data make sorted: no such kind; did you mean 'sort'?"


def test_data_make_for_a_task_that_a_kind_is_not_for_says_which_it_is_for(capsys):
    assert cli.main(["data", "make", "copy", "--task", "tag", "--out", "x"]) == 2
    assert "copy is for --task generate or --task translate" in capsys.readouterr().err
    assert cli.main(["data", "make", "adding", "--task", "tag", "--out", "x"]) == 2
    assert "adding is for no task yet" in capsys.readouterr().err


def test_the_help_of_data_names_every_kind(capsys):
    assert cli.main(["data", "make", "--help"]) == 0
    told = re.findall(r"\w+", capsys.readouterr().out)
    assert {kind for kind, _ in known()} <= set(told)
