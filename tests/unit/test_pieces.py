"""Large texts are encoded piece by piece: the ids are those of the whole text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.data import spans
from chainrule.data.bpe import BpeTokenizer
from chainrule.data.pieces import PieceEncoder
from chainrule.data.split import spans_of
from chainrule.data.words import WordTokenizer

TEXT = "It was the best of times, it was the worst of times.\n\n  Das ist 한국어 말 — 'tis,\u00a0 ok\u3000 ja\t\r\n" * 3
TEXT += "x\u00a0 \n\u3000 \u2003 \u1680 \u202f \u205f \n y\u00a0 \n" * 20
SPACES = " \n\t\r\v\f\0\x1c\x1f\x85\u00a0\u1680\u2003\u2028\u202f\u205f\u3000"
TOKENIZERS = {
    "bpe": BpeTokenizer.fit(spans_of([TEXT], "a text"), 400),
    "words": WordTokenizer.fit(spans_of([TEXT], "a text"), lines=False, limit=None),
    "words of lines": WordTokenizer.fit(spans_of([TEXT], "a text"), lines=True, limit=None),
}
texts = st.lists(
    st.text(st.sampled_from([*SPACES, *"abIt, .'한—”é\u0300"]) | st.sampled_from(list(SPACES)), max_size=40)
    | st.sampled_from([TEXT, TEXT[:40], "", " it was", "\n"]),
    min_size=1, max_size=4,
)  # fmt: skip


def encoded(tokenizer, texts, large, monkeypatch):
    calls = []
    monkeypatch.setattr(spans, "LARGE", large)
    monkeypatch.setattr(spans, "PieceEncoder", lambda *given: calls.append(given) or PieceEncoder(*given))
    found, starts, ends = tokenizer.encode_spans(spans_of(texts, "texts"))
    return [found.ids, found.unknown_at, found.unknown_bytes, starts, ends], len(calls)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=150, deadline=None)
@given(texts=texts)
def test_ids_are_those_of_the_whole_text(name, texts):
    with pytest.MonkeyPatch.context() as patch:
        wanted, none = encoded(TOKENIZERS[name], texts, 1 << 60, patch)
        found, once = encoded(TOKENIZERS[name], texts, 0, patch)
    assert (none, once) == (0, 1)
    for got, want in zip(found, wanted, strict=True):
        assert got.tolist() == want.tolist()


def test_tables_grow(monkeypatch):
    words = [f"{k}th" for k in np.random.default_rng(0).integers(0, 100_000, 200_000).tolist()]
    texts = [" ".join(words[k : k + 1000]) for k in range(0, len(words), 1000)]
    tokenizer = TOKENIZERS["bpe"]
    monkeypatch.setattr(spans, "CHUNK", 1 << 16)
    wanted, found = (encoded(tokenizer, texts, large, monkeypatch)[0] for large in (1 << 60, 0))
    assert all(np.array_equal(got, want) for got, want in zip(found, wanted, strict=True))


def test_a_pre_tokenizer_that_does_not_split_words_is_given_whole_texts(monkeypatch):
    saved = TOKENIZERS["bpe"].to_json()
    whole = BpeTokenizer({**saved, "pre_tokenizer": {**saved["pre_tokenizer"], "use_regex": False}})
    assert encoded(whole, [TEXT], 0, monkeypatch)[1] == 0
