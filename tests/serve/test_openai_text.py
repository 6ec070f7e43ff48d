"""Text of tokens that come one by one, and stops, against the whole text at once."""

from __future__ import annotations

import itertools
import random
from types import SimpleNamespace

import pytest

pytest.importorskip("fastapi")

from chainrule.data import ByteTokenizer, SymbolTokenizer, WordTokenizer
from chainrule.data.processors import SymbolProcessor, TextProcessor
from chainrule.data.symbols import Form
from chainrule.serve.errors import Refused
from chainrule.serve.text import Stops, Text
from chainrule.serve.tokens import Vocabulary
from chainrule.tasks.generate.inference import record_rules

WORDS = ["to", "be", "or", "not", "\n", "\t", " ", "\n\n"]


def vocabulary(processor: TextProcessor | SymbolProcessor) -> Vocabulary:
    run = SimpleNamespace(task="generate", processor=processor, data={}, settings={})
    return Vocabulary(run)  # type: ignore[arg-type]


BYTES = vocabulary(TextProcessor(ByteTokenizer(), "stream", b""))
WORD = vocabulary(TextProcessor(WordTokenizer(WORDS, lines=False), "stream", b""))
EVENTS = vocabulary(SymbolProcessor(SymbolTokenizer(Form("words"), ["cart", "login", "view"], ends=True), "lines"))


def grown(tokens: Vocabulary, ids: list[int], prompt: str | list[int] | None = None) -> str:
    text = Text(tokens, None if prompt is None else tokens.prompt(prompt))
    pieces = [text.add(k) for k in ids] + [text.end()]
    return "".join(pieces)


def test_any_bytes_give_the_text_of_the_whole() -> None:
    rng = random.Random(3)
    for size in range(40):
        characters = [rng.choice(["한", "é", "a", "🙂"]).encode() for _ in range(size)]
        content = b"".join(character[rng.randrange(2) :] for character in characters)
        assert grown(BYTES, list(content)) == content.decode(errors="replace")


def test_no_character_is_shown_before_it_is_whole() -> None:
    text = Text(BYTES)
    assert [text.add(k) for k in "한é".encode()] == ["", "", "한", "", "é"]
    assert Text(BYTES, BYTES.prompt([0xED, 0x95])).add(0x9C) == "한", "a continuation completes the prompt's character"


@pytest.mark.parametrize("ids", list(itertools.product([0, 3, 4, 6], repeat=4)))
def test_words_and_white_space_give_the_text_of_the_whole(ids: tuple[int, ...]) -> None:
    whole = WORD.tokenizer.decode(list(ids)).decode()
    assert grown(WORD, list(ids)) == whole
    for cut in range(1, 4):
        begun = WORD.tokenizer.decode(list(ids[:cut])).decode()
        assert begun + grown(WORD, list(ids[cut:]), list(ids[:cut])) == whole


def test_a_prompt_that_ends_in_a_space_brings_it_along() -> None:
    assert grown(WORD, [1], "or not to") == " be"
    assert grown(WORD, [1], "or not to ") == "be"
    assert grown(WORD, [4], "or not to ") == "\n"


def test_events_are_named_and_apart_and_their_end_is_no_text() -> None:
    assert EVENTS.prompt("login view").ids == [1, 2]
    assert grown(EVENTS, [0, 2, EVENTS.special["<|end|>"]], "login view") == " cart view"
    assert [EVENTS.name(1, k) for k in (0, 3, 4, 5)] == [" cart", "<|unknown|>", "<|end|>", "<|start|>"]
    assert EVENTS.prompt("login buy sell").unknown == 2
    assert EVENTS.told()["eos_token"] == "<|end|>"


def test_the_start_token_is_read_at_the_beginning_alone() -> None:
    prompt = BYTES.prompt("<|start|>ab")
    assert (prompt.ids, prompt.read) == ([256, 97, 98], [97, 98])
    assert BYTES.prompt("<|start|>").ids == [256]
    assert BYTES.prompt([256, 97]).read == [97]
    assert BYTES.content([256, 97]).decode() == "<|start|>a"
    assert len(BYTES.prompt("a<|start|>").ids) == 10, "text elsewhere"
    with pytest.raises(Refused, match=r"256 at place 1.*allowed are 0 to 255"):
        BYTES.prompt([97, 256])


def test_the_engine_ends_a_sequence_at_a_stop_however_long_and_wherever_in_a_token() -> None:
    pieces = WordTokenizer(["a.b", "c"], lines=False)
    rules = record_rules(vocabulary(TextProcessor(pieces, "stream", b"")).run, ["."])  # type: ignore[arg-type]
    assert [rules["stop"](ids) for ids in ([1], [1, 0])] == [False, True]
    long = record_rules(BYTES.run, ["x" * 70])["stop"]
    assert [long([97, *b"x" * count]) for count in (69, 70)] == [False, True]


# --- stops ------------------------------------------------------------------------------------------------------------


def test_every_way_of_cutting_a_text_gives_what_stands_before_the_first_stop() -> None:
    text, stops = "aabaabxab", ["aabx", "zz"]
    for cuts in itertools.product([False, True], repeat=len(text) - 1):
        pieces, last = [], 0
        for place, cut in enumerate([*cuts, True], 1):
            if cut:
                pieces.append(text[last:place])
                last = place
        held = Stops(stops)
        shown = [held.add(piece) for piece in pieces]
        assert ("".join(shown), held.end(), held.stopped) == ("aab", "", True)


def test_what_may_become_a_stop_is_held_back_and_no_more() -> None:
    stops = Stops(["end of text", "fin"])
    assert [stops.add(c) for c in "the en"] == ["t", "h", "", "e ", "", ""]
    assert stops.add("emy") == "enemy"
    assert stops.add(" fi") == " "
    assert stops.end() == "fi"


def test_without_stops_text_passes() -> None:
    stops = Stops([])
    assert [stops.add("a"), stops.add(""), stops.end(), stops.stopped] == ["a", "", "", False]
