"""All claims: both languages have all messages, and what a finding tells is complete and can be typed."""

from __future__ import annotations

import functools
import json
import re
import shlex
import string

import pytest

from chainrule.claims import Claim, Finding, Runs, all_claims
from chainrule.claims.claim import messages_of
from chainrule.cli.parser import parse
from tests.claims.loaded import MODELS, loaded

CLAIMS = [pytest.param(one, id=one.name) for one in all_claims()]


@functools.cache
def found(claim: Claim, models: tuple[str, ...]) -> Finding:
    return claim.measure(loaded(*models))


def check_command(command: str) -> None:
    """Every line is a command that the command line understands."""
    for line in command.splitlines():
        program, *words = shlex.split(line)
        assert program == "chainrule"
        parse(words)


def test_every_claim_has_a_place_of_its_own() -> None:
    orders = [one.order for one in all_claims()]
    assert orders == sorted({*orders}) and {*orders} <= {*range(1, 14)}


@pytest.mark.parametrize("claim", CLAIMS)
def test_messages_have_the_same_blanks_in_both_languages(claim: Claim) -> None:
    for key, texts in messages_of(claim.name).items():
        assert {*texts} == {"en", "ko"} and all(texts.values()), key
        english, korean = ({name for _, name, _, _ in string.Formatter().parse(texts[lang]) if name} for lang in texts)
        assert english == korean or key == "value", key


@pytest.mark.parametrize("lang", ["en", "ko"])
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_finding_reads_in_both_languages(claim: Claim, lang: str) -> None:
    for models in (MODELS, ()):
        one = found(claim, models).as_json(claim.words(lang))  # type: ignore[arg-type]
        assert one["holds"] in ("yes", "partly", "no", "unmeasured") and one["told"]
        json.dumps(one, allow_nan=False)
        assert not [text for text in one["told"] if re.search(r"[{}]|\b(nan|inf|None)\b", text)]


@pytest.mark.parametrize("claim", CLAIMS)
def test_commands_can_be_typed(claim: Claim) -> None:
    for models in (MODELS, ()):
        check_command(found(claim, models).command)
    missing = claim.measure(Runs({}))
    assert missing.holds != "unmeasured" or missing.command


@pytest.mark.parametrize("claim", CLAIMS)
def test_look_inside_opens_loaded_runs(claim: Claim) -> None:
    assert {*found(claim, MODELS).inspect.get("run", [])} <= {*MODELS}


def test_a_run_is_borrowed_once() -> None:
    runs, used = {model: loaded(model).of()[0] for model in ("gru", "gpt")}, []
    one = Runs(runs, use=used.append)
    assert len(one.of("gru")) == 1 and len(one.of()) == 2 and one.need("gru", "gpt", command="") is runs["gru"]
    assert used == ["gru", "gpt"]
