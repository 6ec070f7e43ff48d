"""ARPA and scoring of words against KenLM's own reader, against a dictionary that backs off, and against hand-made
files.
"""

from __future__ import annotations

import gzip
import math
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from chainrule.core import Batch, DataError, UserError
from chainrule.counting.counts import Counts, estimate
from chainrule.counting.words import Vocabulary
from chainrule.inference.word_scorer import WordScorer
from chainrule.interop.arpa import Arpa, read_arpa, write_arpa

LOG10 = math.log(10)
KJV = Path(__file__).parents[2].parent / "shared" / "data" / "text_kjv"


@pytest.fixture
def kenlm():
    return pytest.importorskip("kenlm", reason="needs the package kenlm")


def trained(text: bytes, n: int, limit: int | None = None, smoothing: str = "kneser_ney") -> Arpa:
    """A model of lines, as KenLM counts them: <s> before, </s> behind."""
    vocabulary = Vocabulary.fit(text, limit)
    ids, stops = vocabulary.sentences(text)
    start = len(vocabulary)
    row = torch.from_numpy(np.insert(ids, np.append(0, stops[:-1]), start)[None])
    targets = row[:, 1:].masked_fill(row[:, 1:] == start, -1)
    found = estimate(Counts.of(Batch(row[:, :-1], targets), start, n), smoothing)  # type: ignore[arg-type]
    return Arpa(vocabulary, n, found.keys, found.log_prob, found.log_backoff)


def sentences_with_structure(seed: int, lines: int) -> list[str]:
    """Words of 1 to 17 letters that follow each other unevenly; some share their first 8 letters."""
    rng = random.Random(seed)
    words = [
        "a",
        "of",
        "the",
        "to",
        "ab",
        "abcdefg",
        "abcdefgh",
        "abcdefghi",
        "abcdefghj",
        "été",
        "über",
        "전체",
        "x" * 17,
    ]
    made = []
    for _ in range(lines):
        line, at = [], rng.randrange(len(words))
        for _ in range(rng.randrange(1, 12)):
            line.append(words[at])
            at = (at * 3 + int(rng.random() ** 3 * 5)) % len(words)
        made.append(" ".join(line))
    return made


class BackingOff:
    """An ARPA text by dictionaries of strings; nothing shared with the reader or the scorer. <unk> is known to it."""

    def __init__(self, text: str):
        self.p: dict[tuple[str, ...], float] = {}
        self.g: dict[tuple[str, ...], float] = {}
        order = 0
        for line in text.splitlines():
            if line.startswith("\\") and line.endswith("-grams:"):
                order = int(line[1:].split("-")[0])
            elif order and line.strip() and not line.startswith("\\"):
                fields = line.split()
                gram = tuple(fields[1 : 1 + order])
                self.p[gram] = float(fields[0])
                self.g[gram] = float(fields[1 + order]) if len(fields) > 1 + order else 0.0
        self.n = order

    def score(self, gram: tuple[str, ...]) -> float:
        if gram in self.p:
            return self.p[gram]
        return self.g.get(gram[:-1], 0.0) + self.score(gram[1:])

    def sentence(self, words: list[str]) -> list[float]:
        known = ["<s>", *(w if (w,) in self.p else "<unk>" for w in words), "</s>"]
        return [self.score(tuple(known[max(0, i - self.n + 1) : i + 1])) for i in range(1, len(known))]


SMALL = """
\\data\\
ngram 1=6
ngram 2=5
ngram 3=2

\\1-grams:
-1.5\t<unk>
-99\t<s>\t-0.3
-0.9\t</s>
-0.8\tlong\t-0.25
-0.7\tword\t0.125
-1.1\tab\t-0.5

\\2-grams:
-0.2\t<s> long\t0
-0.35\tlong word\t-0.2
-2.5\tword ab
-0.4\tword </s>
-0.6\tab ab\t-0.15

\\3-grams:
-0.05\t<s> long word
-3\tlong word ab

\\end\\
"""
WITHOUT_UNKNOWN = SMALL.replace("ngram 1=6", "ngram 1=5").replace("-1.5\t<unk>\n", "")
WITHOUT_SUFFIX = (
    SMALL.replace("ngram 2=5", "ngram 2=4").replace("-2.5\tword ab\n", "").replace("ngram 3=2", "ngram  3 = 2")
)
"""'long word ab' without 'word ab': other toolkits prune so. Backing off from 'word' to 'ab' must stay what it was."""
SENTENCES = [
    "long word",
    "long word ab ab",
    "ab ab long",
    "word ab",
    "long long nowhere long word",
    "",
    "nowhere",
    "ab",
]


# ------------------------------------------------------------------------------------------------------ written by us


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
@pytest.mark.parametrize("smoothing", ["kneser_ney", "witten_bell"])
def test_kenlm_reads_what_we_write_and_gives_every_word_our_log_probability(tmp_path, kenlm, name, smoothing):
    arpa = trained("\n".join(sentences_with_structure(1, 307)).encode(), 4, limit=11, smoothing=smoothing)
    write_arpa(tmp_path / name, arpa)
    theirs = kenlm.Model(str(tmp_path / name))
    lines = [*sentences_with_structure(2, 53), "never seen", "", "abcdefgh the abcdefghij abcdefghi"]
    mine = WordScorer(arpa.vocabulary, arpa.n, arpa.tables).full_scores(lines)
    expected = [word for line in lines for word in theirs.full_scores(line)]
    np.testing.assert_allclose(mine.values, [p for p, _, _ in expected], rtol=0, atol=2e-6)
    assert mine.lengths.tolist() == [length for _, length, _ in expected]
    assert mine.unknown.tolist() == [unknown for _, _, unknown in expected]
    assert 2 < mine.unknown.sum() < len(expected)


def test_every_word_of_the_king_james_test_text_scores_as_in_kenlm(tmp_path, kenlm):
    if not KJV.is_dir():
        pytest.skip("needs ../shared/data/text_kjv beside the repository")
    arpa = trained(gzip.decompress((KJV / "train.txt.gz").read_bytes()), 5)
    write_arpa(tmp_path / "kjv.arpa", arpa)
    theirs = kenlm.Model(str(tmp_path / "kjv.arpa"))
    lines = [line for line in gzip.decompress((KJV / "test.txt.gz").read_bytes()).decode().split("\n") if line]
    mine = WordScorer(arpa.vocabulary, arpa.n, arpa.tables).full_scores(lines)
    expected = [word for line in lines for word in theirs.full_scores(line)]
    assert len(expected) == 20_624
    np.testing.assert_allclose(mine.values, [p for p, _, _ in expected], rtol=0, atol=1e-5)
    assert mine.unknown.tolist() == [unknown for _, _, unknown in expected]


def test_what_is_written_and_read_again_is_the_same_model(tmp_path):
    lines = sentences_with_structure(3, 211)
    arpa = trained("\n".join(lines).encode(), 3)
    write_arpa(tmp_path / "model.arpa", arpa)
    again = read_arpa(tmp_path / "model.arpa")
    before, after = (WordScorer(a.vocabulary, a.n, a.tables).score(lines) for a in (arpa, again))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-5)
    written = BackingOff((tmp_path / "model.arpa").read_text(encoding="utf-8"))
    np.testing.assert_allclose(before, [sum(written.sentence(line.split())) for line in lines], rtol=0, atol=1e-5)


def test_the_unigrams_interpolate_with_all_words_but_the_start_of_a_sentence(tmp_path):
    """'a b' and 'a': continuations a 1 (after <s>), b 1, </s> 2; V = 4 with <unk> and </s>. No count is 3, so the
    discounts are .5, 1, 1.5: g() = (.5 + .5 + 1) / 4 = 1/2; p(<unk>) = 1/2 * 1/4; p(a) = .5/4 + 1/8; p(</s>) = 1/4 +
    1/8.
    """
    write_arpa(tmp_path / "m.arpa", trained(b"a b\na\n", 2))
    found = BackingOff((tmp_path / "m.arpa").read_text()).p
    for word, p in {"<unk>": 1 / 8, "a": 1 / 4, "b": 1 / 4, "</s>": 3 / 8}.items():
        assert found[word,] == pytest.approx(math.log10(p), abs=1e-7)


def test_impossible_words_and_names_with_spaces_cannot_be_written(tmp_path):
    arpa = trained(b"a b\na\n", 2)
    log_prob = arpa.log_prob.copy()
    log_prob[2] = -math.inf
    with pytest.raises(UserError, match="impossible"):
        write_arpa(tmp_path / "m.arpa", Arpa(arpa.vocabulary, 2, arpa.keys, log_prob, arpa.log_backoff))
    spaced = Vocabulary([b"<unk>", b"</s>", b"a b", b"b"], 0, 1)
    with pytest.raises(UserError, match="'a b'"):
        write_arpa(tmp_path / "m.arpa", Arpa(spaced, 2, arpa.keys, arpa.log_prob, arpa.log_backoff))
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------- from elsewhere


@pytest.mark.parametrize("text", [SMALL, WITHOUT_UNKNOWN, WITHOUT_SUFFIX])
@pytest.mark.parametrize("packed", [False, True])
def test_files_from_elsewhere_score_as_in_kenlm(tmp_path, kenlm, text, packed):
    path = tmp_path / ("m.arpa.gz" if packed else "m.arpa")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    plain = tmp_path / "plain.arpa"
    plain.write_text(text.replace("ngram  3 = 2", "ngram 3=2").lstrip())
    arpa, theirs = read_arpa(path), kenlm.Model(str(plain))
    mine = WordScorer(arpa.vocabulary, arpa.n, arpa.tables).full_scores(SENTENCES)
    expected = [p for line in SENTENCES for p, _, _ in theirs.full_scores(line)]
    np.testing.assert_allclose(mine.values, expected, rtol=0, atol=1e-5)


def test_a_file_scores_by_its_own_numbers(tmp_path):
    """Worked out from SMALL. 'long word ab': p(long | <s>) = -.2, p(word | <s> long) = -.05, p(ab | long word) = -3,
    p(</s> | word ab) backs off twice: 0 (word ab has no weight), -.5 from ab, -.9.
    """
    (tmp_path / "m.arpa").write_text(SMALL)
    arpa = read_arpa(tmp_path / "m.arpa")
    found = WordScorer(arpa.vocabulary, arpa.n, arpa.tables).full_scores(["long word ab"])
    np.testing.assert_allclose(found.values, [-0.2, -0.05, -3.0, -1.4], rtol=0, atol=1e-6)
    assert found.lengths.tolist() == [2, 3, 3, 1]


@pytest.mark.parametrize("text", ["SMALL", "WITHOUT_UNKNOWN"])
@pytest.mark.parametrize("write", ["crlf", "mark", "mixed", "packed"])
def test_line_ends_and_a_byte_order_mark_do_not_change_what_is_read(tmp_path, text, write):
    plain = globals()[text].encode()
    content = {
        "crlf": plain.replace(b"\n", b"\r\n"),
        "mark": b"\xef\xbb\xbf" + plain,
        "mixed": plain.replace(b"\n", b"\r\n", plain.count(b"\n") // 2),
        "packed": gzip.compress(plain.replace(b"\n", b"\r\n")),
    }[write]
    for name, written in (("plain", plain), ("other", content)):
        (tmp_path / name).write_bytes(written)
    one, other = read_arpa(tmp_path / "plain"), read_arpa(tmp_path / "other")
    assert one.vocabulary.words == other.vocabulary.words and one.n == other.n == 3
    for mine, theirs in zip(one.tables, other.tables):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("word", [b"<s>", b"<UNK>"])
def test_reserved_words_cannot_be_written(tmp_path, word):
    arpa = trained(b"a b\na\n", 2)
    vocabulary = Vocabulary([word if w == b"b" else w for w in arpa.vocabulary.words], 0, 1)
    with pytest.raises(UserError, match=f"cannot hold the word '{word.decode()}'"):
        write_arpa(tmp_path / "m.arpa", Arpa(vocabulary, 2, arpa.keys, arpa.log_prob, arpa.log_backoff))


def broken(old: str, new: str) -> str:
    assert old in SMALL
    return SMALL.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("hello\n", 1, "expected .data."),
        ("", 1, "the end of the file"),
        (broken("ngram 1=6", "ngram 1=7"), 14, "6 1-grams where the head of the file says 7"),
        (broken("ngram 1=6", "ngram 1=5"), 13, "more 1-grams than the 5"),
        (broken("ngram 2=5", "ngram 2=five"), 4, "expected 'ngram 2='"),
        (broken("ngram 2=5\n", ""), 4, "at most 64 lengths, in order"),
        (broken("ngram 2=5", "ngram 2=99999999999"), 4, "do not fit into a file of"),
        (broken("-0.9\t</s>", "nan\t</s>"), 10, "expected a finite number"),
        (broken("-0.9\t</s>", "-inf\t</s>"), 10, "expected a finite number"),
        (broken("long\t-0.25", "long\t1e999"), 11, "expected a finite number"),
        (broken("-0.9\t</s>", "0.9\t</s>"), 10, "above 0"),
        (broken("-2.5\tword ab", "-2.5\tword"), 18, r"expected a probability, 2 word\(s\)"),
        (broken("-2.5\tword ab", "-2.5\tword able"), 18, "not among the 1-grams"),
        (broken("<s> long\t", "<s> word\t"), 23, r"first 2 word\(s\) are no 2-gram"),
        (broken("ab ab\t", "word ab\t"), 20, "this 2-gram occurs twice"),
        (broken("word\t0.125", "long\t0.125"), 12, "'long' occurs twice"),
        (broken("-0.9\t</s>", "-0.9\tend"), 7, "no </s>"),
        (broken("\\3-grams:", "\\4-grams:"), 22, "expected .3-grams:"),
        (broken("\\end\\\n", ""), 26, "expected .end.*the end of the file"),
        (SMALL[: SMALL.index("-0.05")], 23, "0 3-grams where"),
        (SMALL[: SMALL.index("\\2-grams")], 15, "expected .2-grams"),
    ],
)
def test_a_malformed_file_is_one_line_that_names_the_file_and_the_line(tmp_path, text, line, told):
    path = tmp_path / "bad.arpa"
    path.write_text(text)
    with pytest.raises(DataError, match=told) as error:
        read_arpa(path)
    assert str(error.value).startswith(f"{path}: line {line}: ")
    assert "\n" not in str(error.value)


def test_a_file_cut_at_any_byte_is_refused_or_complete(tmp_path):
    path = tmp_path / "cut.arpa"
    for stop in range(0, len(SMALL) - 2, 7):
        path.write_text(SMALL[:stop])
        with pytest.raises(DataError, match=r"cut\.arpa: line \d+: "):
            read_arpa(path)


def test_damaged_gzip_and_missing_files_are_said_to_be_so(tmp_path):
    packed = gzip.compress(SMALL.encode())
    (tmp_path / "m.arpa.gz").write_bytes(packed[:-20])
    with pytest.raises(DataError, match="damaged gzip"):
        read_arpa(tmp_path / "m.arpa.gz")
    with pytest.raises(UserError, match="no such file"):
        read_arpa(tmp_path / "none.arpa")


# ------------------------------------------------------------------------------------------------------------ scoring


def scorer(n: int = 3, **options) -> WordScorer:
    arpa = trained("\n".join(sentences_with_structure(4, 101)).encode(), n)
    return WordScorer(arpa.vocabulary, arpa.n, arpa.tables, **options)


def test_strings_bytes_odd_spaces_and_line_feeds_inside_are_the_same_sentence():
    mine = scorer()
    plain = mine.score(["the abcdefghi of a"])[0]
    for other in ("  the\tabcdefghi   of a ", "the\nabcdefghi\r\nof\va\f", b"the abcdefghi of a"):
        assert mine.score([other, "x"])[0] == plain
    assert mine.score(["the abcdefgh of a"])[0] != plain
    assert mine.score(["the abcdefghi\x01 of a"])[0] == mine.score(["the never of a"])[0]
    assert mine.score(["\x01the of a"])[0] == mine.score(["never of a"])[0] != mine.score(["the of a"])[0]


def test_sentences_do_not_touch_each_other_however_many_threads_share_them():
    lines = sentences_with_structure(5, 4_001)
    apart = scorer().full_scores(lines)
    sums = np.add.reduceat(apart.values, np.append(0, apart.stops[:-1]))
    np.testing.assert_allclose(scorer().score(lines), sums, rtol=0, atol=1e-12)
    assert np.array_equal(scorer(threads=3).score(lines), scorer().score(lines))
    assert len(" ".join(lines)) > 3 << 14


def test_long_sentences_go_on_over_the_blocks_they_are_read_in():
    mine, words = scorer(), " ".join(sentences_with_structure(6, 211)).split()
    whole = mine.full_scores([" ".join(words)])
    picked = [150, 600, 1000]
    for i in picked:  # n = 3: two words of context decide
        alone = mine.full_scores([" ".join(words[i - 2 : i + 1])], bos=False, eos=False)
        assert whole.values[i] == pytest.approx(alone.values[2], abs=1e-12)


def test_beginnings_and_ends_can_be_left_out():
    mine = scorer(2, base=None)
    inner, with_end, with_both = (
        mine.score(["the of"], bos=bos, eos=eos)[0] for bos, eos in ((False, False), (False, True), (True, True))
    )
    words = mine.full_scores(["the of"])
    assert with_end - inner == pytest.approx(words.values[2], abs=1e-12)
    assert with_both - with_end == pytest.approx(words.values[0] - (inner - words.values[1]), abs=1e-12)
    assert scorer(2).score(["the of"])[0] * LOG10 == pytest.approx(with_both, abs=1e-12)


def test_no_sentences_no_words_and_a_bare_string_have_sound_answers():
    mine = scorer()
    assert mine.score([]).shape == (0,)
    assert mine.full_scores([]).values.shape == (0,)
    assert mine.score(["", " "]).tolist() == [mine.full_scores([""]).values[0]] * 2
    assert mine.score([""], eos=False).tolist() == [0.0]
    with pytest.raises(UserError, match="list of sentences"):
        mine.score("the of")
    with pytest.raises(UserError, match="no text"):
        mine.score(["\ud800"])


def test_a_corpus_of_one_word_and_an_n_longer_than_the_text():
    for text, n in ((b"a", 2), (b"a\n", 7), (b"a a a", 5), (b"a", 1)):
        arpa = trained(text, n)
        mine = WordScorer(arpa.vocabulary, n, arpa.tables, base=None)
        for context in ("", "a", "a a", "b"):  # everything that may come next, V = {<unk>, </s>, a}, sums to one
            total = mine.full_scores([f"{context} {w}" for w in ("a", "b")], eos=False).values
            last = mine.full_scores([context]).values[-1]
            step = len(context.split()) + 1
            assert np.exp(total[step - 1 :: step]).sum() + np.exp(last) == pytest.approx(1, abs=1e-6)


def test_a_vocabulary_is_the_most_frequent_words():
    text = b"b a b cc\n a  b\tdddddddddd dddddddddd\n\n"
    assert Vocabulary.fit(text).words == [b"<unk>", b"</s>", b"b", b"a", b"dddddddddd", b"cc"]
    small = Vocabulary.fit(text, 2)
    assert small.words == [b"<unk>", b"</s>", b"b", b"a"]
    ids, stops = small.sentences(text)
    assert ids.tolist() == [2, 3, 2, 0, 1, 3, 2, 0, 0, 1]
    assert stops.tolist() == [5, 10]


def test_a_thousand_words_are_numbered_as_a_dictionary_would():
    rng = random.Random(7)
    letters = "abcé"
    words = ["".join(rng.choices(letters, k=rng.randrange(1, 14))) for _ in range(5_003)]
    vocabulary = Vocabulary.of(dict.fromkeys(w.encode() for w in words[:3_001]))
    number = {w: i for i, w in enumerate(vocabulary.words)}
    ids, _ = vocabulary.sentences(" ".join(words).encode())
    assert ids.tolist() == [*(number.get(w.encode(), 0) for w in words), 1]
    assert (ids == 0).sum() > 100
