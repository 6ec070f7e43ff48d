"""The message catalogue: Korean particles by final sound, plural words, and both languages complete."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import pytest

import chainrule
from chainrule.core.errors import UserError
from chainrule.report.messages import LANGUAGES, PARTICLES, Catalogue, particle

ROOT = Path(chainrule.__file__).parent
CATALOGUES = sorted([*ROOT.rglob("messages.json"), ROOT / "report" / "notes.json"])


# How each word is read stands beside it; from the reading, the particle follows by the rules of Korean spelling.
@pytest.mark.parametrize(
    ("word", "topic", "towards"),
    [
        ("GRU", "는", "로"),  # 지알유
        ("LSTM", "은", "으로"),  # 엘에스티엠
        ("RNN", "은", "으로"),  # 알엔엔
        ("GPT", "는", "로"),  # 지피티
        ("HMM", "은", "으로"),  # 에이치엠엠
        ("AR", "은", "로"),  # 에이알: ㄹ
        ("BERT", "는", "로"),  # 버트
        ("ViT", "는", "로"),  # 비아이티
        ("k-NN", "은", "으로"),  # 케이엔엔
        ("DALL·E", "는", "로"),  # 달리
        ("Markov", "는", "로"),  # 마르코프
        ("Kalman", "은", "으로"),  # 칼만
        ("Transformer", "는", "로"),  # 트랜스포머
        ("transformer", "는", "로"),
        ("lstm", "은", "으로"),
        ("window", "는", "로"),  # 윈도
        ("logistic", "은", "으로"),  # 로지스틱
        ("n-gram", "은", "으로"),  # 엔그램
        ("n-gram (n = 5)", "은", "으로"),  # brackets are not read
        ("n-gram (n = 7)", "은", "으로"),
        ("GRU (attention=none)", "는", "로"),
        ("file", "은", "로"),  # 파일: ㄹ
        ("name", "은", "으로"),  # 네임
        ("StreetName", "은", "으로"),  # 스트리트네임
        ("OccupancyType", "은", "으로"),  # 오큐펀시타입
        ("AddressNumber", "는", "로"),  # 어드레스넘버
        ("3", "은", "으로"),  # 삼
        ("2.243", "은", "으로"),
        ("1,024", "는", "로"),  # 사
        ("1", "은", "로"),  # 일: ㄹ
        ("10", "은", "으로"),  # 십, read with its zero: a consonant all the same
        ("95%", "는", "로"),  # 퍼센트
        ("45s", "는", "로"),  # 초
        ("5min", "은", "으로"),  # 분
        ("31.2 dB", "은", "로"),  # 데시벨
        ("2.1 MB", "는", "로"),  # 메가바이트
        ("'토큰'", "은", "으로"),
        ("기호", "는", "로"),
        ("파일", "은", "로"),
        ("(n = 5)", "는", "로"),  # nothing outside the brackets: 오
        ("train.csv", "는", "로"),  # 브이
        ("", "는", "로"),
        ("…", "는", "로"),
    ],
)
def test_particles_follow_the_final_sound(word: str, topic: str, towards: str) -> None:
    assert particle(word, "은/는") == particle(word, "는/은") == topic
    assert particle(word, "으로/로") == towards


@pytest.mark.parametrize("pair", PARTICLES)
def test_every_pair_is_chosen_by_consonant_or_vowel(pair: str) -> None:
    after_consonant, after_vowel = pair.split("/")
    assert particle("모델링", pair) == after_consonant
    assert particle("나무", pair) == after_vowel


def test_an_unknown_pair_is_an_error_of_the_writer() -> None:
    with pytest.raises(ValueError, match="을/로"):
        particle("GRU", "을/로")


def catalogue(tmp_path: Path, lang: str, en: str, ko: str) -> Catalogue:
    path = tmp_path / "messages.json"
    path.write_text(json.dumps({"said": {"en": en, "ko": ko}}), encoding="utf-8")
    return Catalogue(lang, path)


def test_blanks_take_particles_formats_and_plurals(tmp_path: Path) -> None:
    english, korean = "{model}: {share:.1%} of {n:,} {n:token|tokens}", "{model:은/는} 토큰 {n:,}개 가운데 {share:.1%}"
    said = {"model": "LSTM", "share": 0.125, "n": 1234}
    assert catalogue(tmp_path, "en", english, korean).message("said", **said) == "LSTM: 12.5% of 1,234 tokens"
    assert catalogue(tmp_path, "ko", english, korean).message("said", **said) == "LSTM은 토큰 1,234개 가운데 12.5%"
    assert catalogue(tmp_path, "en", english, korean).message("said", **{**said, "n": 1}).endswith("of 1 token")


def test_a_value_is_never_read_as_a_message(tmp_path: Path) -> None:
    assert catalogue(tmp_path, "en", "<{name}>", "").message("said", name="{share} {{}}") == "<{share} {{}}>"


def test_values_for_all_messages_are_overridden_by_those_of_one(tmp_path: Path) -> None:
    said = catalogue(tmp_path, "en", "{unit}", "").having(unit="tokens")
    assert (said.message("said"), said.message("said", unit="symbols")) == ("tokens", "symbols")


def test_an_entry_speaks_its_language_or_english(tmp_path: Path) -> None:
    korean = Catalogue("ko")
    assert korean.pick({"text": "a", "text_ko": "가"}) == "가"
    assert korean.pick({"text": "a"}) == "a" and korean.pick(None) == ""
    assert Catalogue("en").pick({"label": "a", "label_ko": "가"}, "label") == "a"


def test_an_unknown_language_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"'fr'.*en, ko"):
        Catalogue("fr")


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_both_languages_have_every_message_with_the_same_blanks(path: Path) -> None:
    for key, texts in json.loads(path.read_text(encoding="utf-8")).items():
        assert list(texts) == list(LANGUAGES), key
        assert all(text.strip() for text in texts.values()), key
        blanks = [
            {
                name
                for _, name, spec, _ in string.Formatter().parse(text.replace("{tokens", "{token"))
                if name and "|" not in spec
            }
            for text in texts.values()
        ]  # Korean has one word where English has a singular and a plural
        assert blanks[0] == blanks[1], key


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_korean_is_korean_and_chooses_its_particles(path: Path) -> None:
    for key, texts in json.loads(path.read_text(encoding="utf-8")).items():
        assert not re.search(r"\((?:가|이|는|은|를|을|와|과|으)\)", texts["ko"]), key
        if len(texts["en"].split()) > 6:
            assert re.search("[가-힣]", texts["ko"]), key
