"""Words and byte pairs as units: what they stand for in bytes, what comes back, and what is unknown."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.core import DataError, Projected, UserError, model_type
from chainrule.core.compute import decide
from chainrule.data import counting_batches, encode_texts, spans, tokenizer_from_json
from chainrule.data.bpe import BpeTokenizer
from chainrule.data.split import spans_of
from chainrule.data.words import WordTokenizer
from chainrule.inference.scoring import token_nats
from tests.encoded import read, read_part

SENTENCES = ["the dog ran", "a quick dog jumped", "über the lazy dog", "so ran the 개구리", "the dog  ran", "and so on"]


def prose(lines: int, seed: int = 5) -> str:
    rng = np.random.default_rng(seed)
    return "".join(f"{SENTENCES[k]} {rng.integers(0, 10**6)}\n" for k in rng.integers(0, len(SENTENCES), lines))


def fit_words(text: str, *, lines: bool = False, limit: int | None = None) -> WordTokenizer:
    return WordTokenizer.fit(spans_of([text], "text"), lines=lines, limit=limit)


def fit_bpe(text: str, size: int | None) -> BpeTokenizer:
    return BpeTokenizer.fit(spans_of([text], "text"), size)


def shown(tokenizer: WordTokenizer, text: str) -> list[str]:
    return [tokenizer.words[i] if i < len(tokenizer.words) else "?" for i in tokenizer.encode(text.encode()).ids]


# --- words -----------------------------------------------------------------------------------------------------------


def test_words_of_a_stream_are_runs_of_ink_and_white_space_other_than_one_space_is_a_symbol() -> None:
    text = "to be\n\nor not\n"
    tokenizer = fit_words(text * 2)
    assert shown(tokenizer, text) == ["to", "be", "\n\n", "or", "not", "\n"]
    sizes = [int(tokenizer.symbol_bytes[i]) for i in tokenizer.encode(text.encode()).ids]
    assert sizes == [3, 3, 1, 3, 4, 0]
    assert shown(tokenizer, " to\tbe or") == [" ", "to", "\t", "be", "or"]


def test_words_of_lines_take_a_run_of_white_space_for_one_space() -> None:
    tokenizer = fit_words("to be\nor not\n" * 2, lines=True)
    assert shown(tokenizer, "  to \t be  \n or not\n") == ["to", "be", "\n", "or", "not", "\n"]
    assert tokenizer.decode(tokenizer.encode(b"  to \t be  \n or not\n").ids) == b"to be\nor not\n"


def test_the_vocabulary_is_the_most_frequent_words_that_occur_twice() -> None:
    text = "c b c a c b once\n"
    assert [w for w in fit_words(text).words if not w.isspace()] == ["c", "b"]
    assert [w for w in fit_words(text, limit=1).words if not w.isspace()] == ["c"]
    assert fit_words(text).vocab_size == len(fit_words(text).words) + 1


TEXT = st.text(st.sampled_from("ab é한\n\t \r"), max_size=60)


@settings(max_examples=100, deadline=None)
@given(TEXT)
def test_words_come_back_and_stand_for_all_bytes(text: str) -> None:
    whole = f"x {text} y\n"
    tokenizer = fit_words(whole * 2)
    encoded = tokenizer.encode(whole.encode())
    assert not len(encoded.unknown_at)
    assert tokenizer.decode(encoded.ids) == whole.encode()
    assert int(tokenizer.symbol_bytes[encoded.ids].sum()) == len(whole.encode())


PAIRS = st.tuples(st.sampled_from(["a", "né", "bc", "한"]), st.sampled_from([" ", "\n", "  ", " \t\n"]))


@settings(max_examples=100, deadline=None)
@given(st.lists(PAIRS, min_size=1, max_size=40), st.integers(19, 43), st.booleans())
def test_a_text_that_is_read_piece_by_piece_gives_the_same_words(
    pairs: list[tuple[str, str]], chunk: int, lines: bool
) -> None:
    text = "".join(word + space for word, space in pairs)
    whole = fit_words(text, lines=lines).encode(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spans, "CHUNK", chunk)
        patch.setattr(WordTokenizer, "longest", chunk)
        pieces = fit_words(text, lines=lines).encode(text.encode())
    assert pieces.ids.tolist() == whole.ids.tolist()
    assert pieces.unknown_at.tolist() == whole.unknown_at.tolist()
    assert pieces.unknown_bytes.tolist() == whole.unknown_bytes.tolist()


@settings(max_examples=100, deadline=None)
@given(st.lists(TEXT.filter(lambda t: bool(t.strip())), min_size=1, max_size=7), TEXT)
def test_unknown_words_carry_their_own_bytes(lines: list[str], known: str) -> None:
    texts = [" ".join(line.split()) + "\n" for line in lines]
    tokenizer = fit_words(f"{known} \n" * 2, lines=True)
    part = encode_texts([t.encode() for t in texts], tokenizer, "lines")
    vocabulary = set(known.split())
    wanted = [len(w.encode()) + 1 for t in texts for w in t.split() if w not in vocabulary]
    assert part.unknown_bytes.tolist() == wanted
    assert part.nbytes == sum(len(t.encode()) for t in texts)
    assert [part.bytes_between(s, e) for s, e in zip(part.starts, part.ends)] == [len(t.encode()) for t in texts]


def test_bits_of_words_are_over_all_bytes_of_a_stream(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(prose(907), encoding="utf-8")
    (tmp_path / "valid.txt").write_text(prose(101, seed=6), encoding="utf-8")
    (tmp_path / "test.txt").write_text(prose(103, seed=7), encoding="utf-8")
    corpus = read(tmp_path, tokenizer="word")
    for name, part in corpus.parts.items():
        raw = (tmp_path / f"{name}.txt").read_bytes()
        assert part.nbytes == len(raw)
        assert part.nchars == len(raw.decode())
        assert sum(part.bytes_between(s, e) for s, e in zip(part.starts, part.ends)) == len(raw)
    assert len(corpus.parts["test"].unknown_at) == 103  # the numbers


def test_lines_drop_white_space_and_the_card_says_how_much(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text("".join(f"word{k % 97}  and   more{k % 89}\n" for k in range(2000)), encoding="utf-8")
    corpus = read(path, tokenizer="word", unit="lines")
    assert any(f"{3 * 2000:,} bytes of white space" in note for note in corpus.card()["notes"])
    assert sum(part.nbytes for part in corpus.parts.values()) == path.stat().st_size - 3 * 2000


def test_an_unknown_word_pays_the_unknown_symbol_and_eight_bits_a_byte() -> None:
    tokenizer = fit_words("the dog ran\n" * 3 + "the cat\n", lines=True)
    part = encode_texts([b"the dog ran\n", b"the elephant ran\n"], tokenizer, "lines")
    chosen = model_type("ngram")
    model = chosen.build(chosen.configure("tiny", vocab_size=tokenizer.vocab_size, n=1, smoothing="add_k", k=1.0))
    for batch in counting_batches(part, tokenizer.vocab_size, 0):
        model.update(model.summarize(batch))
    nats, _ = token_nats(model, part, decide("cpu", "fp32", 1))

    # seven symbols were counted: the 2, dog 1, ran 2, unknown 1, line break 2; one is added to each of V
    def bits(count: int) -> float:
        return -math.log((count + 1) / (8 + tokenizer.vocab_size))

    spelled = 9 * math.log(256)  # eight letters and the space that ends them
    assert nats.tolist() == pytest.approx(
        [bits(2), bits(1), bits(2), bits(2), bits(2), bits(1) + spelled, bits(2), bits(2)], rel=1e-6
    )


@pytest.mark.parametrize("spec", ["word", "word:3", "bpe:300"])
def test_a_saved_tokenizer_gives_the_same_ids(tmp_path: Path, spec: str) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text(prose(211), encoding="utf-8")
    tokenizer = read(path, tokenizer=spec).processor.tokenizer
    again = tokenizer_from_json(json.loads(json.dumps(tokenizer.to_json())))
    sample = "the über dog\n\nran 개구리 \n".encode()
    assert again.encode(sample).ids.tolist() == tokenizer.encode(sample).ids.tolist()
    assert (again.vocab_size, again.unknown) == (tokenizer.vocab_size, tokenizer.unknown)


def test_a_corpus_of_one_word_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text("word\n" * 1009, encoding="utf-8")
    corpus = read(path, tokenizer="word")
    assert set(corpus.parts["train"].ids.tolist()) == {
        corpus.processor.tokenizer.encode(w).ids[0] for w in (b"word", b"\n")
    }
    with pytest.raises(DataError, match="1 distinct records cannot be split"):
        read(path, tokenizer="word", unit="lines")


# --- byte pairs -------------------------------------------------------------------------------------------------------


def test_byte_pairs_are_those_of_the_library_on_the_whole_text() -> None:
    text = prose(4001) + " \n\n  indented\n…”한국어 “x\n"
    assert len(text) > 20 * 4096
    tokenizer = fit_bpe(text, 400)
    library = tokenizers.Tokenizer.from_str(json.dumps(tokenizer.to_json()))
    encoded = tokenizer.encode(text.encode())
    assert encoded.ids.tolist() == library.encode(text).ids
    assert tokenizer.vocab_size == 400


def test_a_run_of_byte_pairs_ends_where_a_record_does() -> None:
    tokenizer = fit_bpe("abcabcabc\n" * 50, 260)
    part = encode_texts([b"abc\n", b"abcabc\n"], tokenizer, "lines")
    assert [tokenizer.decode(part.ids[s:e]) for s, e in zip(part.starts, part.ends)] == [b"abc\n", b"abcabc\n"]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_byte_pairs_restore_every_text(text: str) -> None:
    tokenizer = SMALL
    encoded = tokenizer.encode(text.encode())
    assert tokenizer.decode(encoded.ids) == text.encode()
    assert int(tokenizer.symbol_bytes[encoded.ids].sum()) == len(text.encode())


SMALL = fit_bpe(prose(101), 300)


def test_the_default_size_grows_with_the_text() -> None:
    rng = np.random.default_rng(3)
    kinds = ["".join(map(chr, 97 + rng.integers(0, 26, 7))) for _ in range(499)]
    text = " ".join(kinds[k] for k in rng.integers(0, 499, 131_072)) + "\n"  # 8 bytes a word
    assert fit_bpe(text, None).vocab_size == 1024
    assert fit_bpe(text[: len(text) // 2], None).vocab_size == 512


def test_bits_under_byte_pairs_are_called_an_upper_bound(tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text(prose(211), encoding="utf-8")
    corpus = read(path, tokenizer="bpe")
    assert any("upper bound" in note for note in corpus.card()["notes"])
    assert corpus.parts["test"].nbytes == int(
        corpus.processor.tokenizer.symbol_bytes[ids_of(corpus.parts["test"])].sum()
    )
    assert (
        read(path, tokenizer=corpus.processor.spec).processor.tokenizer.to_json()
        == corpus.processor.tokenizer.to_json()
    )


def ids_of(part: object) -> np.ndarray:
    return np.concatenate([part.ids[s:e] for s, e in zip(part.starts, part.ends)])  # type: ignore[attr-defined]


def library_tokenizer(**options: object) -> tokenizers.Tokenizer:
    made = tokenizers.Tokenizer(tokenizers.models.BPE())
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=290, initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(), show_progress=False, **options
    )
    made.train_from_iterator([prose(101)], trainer)
    return made


def test_a_tokenizer_in_the_folder_is_used_and_a_path_to_one_too(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "corpus.txt").write_text(prose(211), encoding="utf-8")
    made = library_tokenizer()
    made.save(str(folder / "tokenizer.json"))
    corpus = read(folder)
    assert corpus.processor.tokenizer.encode(b"the quick dog").ids.tolist() == made.encode("the quick dog").ids
    assert read(folder, tokenizer="byte").processor.tokenizer.name == "byte"
    again = read(folder / "corpus.txt", tokenizer=str(folder / "tokenizer.json"))
    assert again.processor.tokenizer.to_json() == corpus.processor.tokenizer.to_json()


def test_special_tokens_of_another_tokenizer_are_plain_text_here(tmp_path: Path) -> None:
    made = library_tokenizer(special_tokens=["<|endoftext|>"])
    made.save(str(tmp_path / "tokenizer.json"))
    tokenizer = tokenizer_from_json(json.loads((tmp_path / "tokenizer.json").read_text()))
    text = b"a<|endoftext|>b"
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert len(tokenizer.encode(text).ids) > 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"model": {"type": "WordPiece", "vocab": {}}}, "WordPiece"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "Whitespace"),
        ({"pre_tokenizer": None}, "ByteLevel"),
        ({"normalizer": {"type": "Lowercase"}}, "normalizer"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}, "256 bytes"),
        ({"model": 3}, "unknown tokenizer"),
    ],
)
def test_a_tokenizer_that_loses_text_is_refused(tmp_path: Path, change: dict[str, object], told: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(library_tokenizer().to_str()) | change), encoding="utf-8")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(prose(211), encoding="utf-8")
    with pytest.raises(DataError, match=told) as error:
        read(corpus, tokenizer=str(path))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", ["words", "word:0", "word:many", "bpe:-5", "bpe:", "nowhere.json", "bpe:256"])
def test_tokenizers_that_do_not_exist_are_one_clear_line(tmp_path: Path, spec: str) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text(prose(211), encoding="utf-8")
    with pytest.raises(UserError, match="--tokenizer") as error:
        read(path, tokenizer=spec)
    assert "\n" not in str(error.value)


def test_a_held_out_file_is_read_under_the_same_words(tmp_path: Path) -> None:
    path, other = tmp_path / "corpus.txt", tmp_path / "other.txt"
    path.write_text(prose(211), encoding="utf-8")
    other.write_text("the dog ran\nnever-seen\n", encoding="utf-8")
    tokenizer = read(path, tokenizer="word").processor.tokenizer
    part = read_part(other, tokenizer, "stream")
    counts = Counter(part.ids.tolist())
    assert counts[tokenizer.unknown] == 1
    assert part.nbytes == 23


def test_the_most_probable_of_many_symbols_are_found_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    weight_DV = torch.randn(7, 11)
    prediction = Projected(torch.randn(3, 5, 7), lambda hidden: hidden @ weight_DV, 11)
    p = (prediction.hidden_BTD.double() @ weight_DV.double()).softmax(-1)
    monkeypatch.setattr(Projected, "chunk_elements", 2 * 11)
    values, index = prediction.top(2)
    assert torch.equal(index, p.argsort(-1, descending=True)[..., :2])
    assert torch.allclose(values.exp().double(), p.gather(-1, index), atol=1e-6)
