"""OpenAI's client against an application in the same process: completions, their log-probabilities, streams, chats."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncGenerator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")

import torch
from fastapi.testclient import TestClient
from openai import APIError

from chainrule.core import UserError
from chainrule.inference.sampling import Filters
from chainrule.inference.scheduler import Closing
from chainrule.nn.cache import Cache
from chainrule.serve import completions as serve_completions
from chainrule.serve import token_queue
from chainrule.serve.app import application
from chainrule.serve.bodies import Body, Sampling
from chainrule.serve.chat import Chat
from chainrule.serve.completions import Completion
from chainrule.serve.embeddings import Embeddings
from chainrule.serve.errors import Refused
from chainrule.serve.generation import Choice, Piece, Wanted, continuations
from chainrule.serve.images import Drawing
from chainrule.serve.service import Service, open_service
from chainrule.serve.text import Text
from chainrule.serve.tokenizing import Detokenize, Tokenize
from chainrule.serve.tokens import Vocabulary
from chainrule.tasks.generate.reading import score_texts
from tests.serve.clients import ROOT, asked, posted, refusal, train_on_text

LINE = "When shall we three meet again?"
MODELS = ("gpt", "lstm", "ngram", "hmm", "mix")
OTHER_TOKENS = ("words", "pieces")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    runs = train_on_text(tmp_path_factory.mktemp("runs"))
    opened = open_service(
        [str(runs[name]) for name in (*MODELS, *OTHER_TOKENS)], threads=1, precision="fp32", speculate="off"
    )
    yield opened
    opened.close()


def complete(service: Service, **body: Any) -> Any:
    return asked(service, lambda client: client.completions.create(**body))


def stream(service: Service, **body: Any) -> list[Any]:
    async def chunks(client: Any) -> list[Any]:
        return [chunk async for chunk in await client.completions.create(**body, stream=True)]

    return asked(service, chunks)


# --- log-probabilities of prompts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_tokens", [0, 1, 3])
@pytest.mark.parametrize("name", [*MODELS, *OTHER_TOKENS])
def test_an_echoed_prompt_has_the_log_p_of_score_and_every_generated_token_follows(
    service: Service, name: str, max_tokens: int
) -> None:
    found = complete(service, model=name, prompt=LINE, echo=True, logprobs=1, max_tokens=max_tokens, temperature=0)
    logprobs = found.choices[0].logprobs
    line = score_texts(service.find(name).run, [LINE.encode()], tokens=True)["lines"][0]
    count = line["tokens"]
    assert logprobs.token_logprobs[:count] == pytest.approx(line["token_nats"], abs=1e-9)
    assert {len(column) for column in (logprobs.tokens, logprobs.top_logprobs, logprobs.text_offset)} == {
        count + max_tokens
    }
    assert (found.usage.prompt_tokens, found.usage.completion_tokens) == (count, max_tokens)
    assert found.choices[0].text.startswith(LINE) or name == "words"


@pytest.mark.parametrize("name", MODELS)
def test_lm_evaluation_harness_finds_the_most_probable_text_greedy_and_no_other(service: Service, name: str) -> None:
    """Its rule: the scored float equals the largest one, bit for bit."""
    made = posted(
        service, "/v1/completions", {"model": name, "prompt": "Thu", "max_tokens": 8, "temperature": 0, "logprobs": 0}
    )
    ids = [*b"Thu", *_bytes_of(made["choices"][0]["logprobs"]["tokens"])]
    other = [*ids[:-1], ids[-1] ^ 1]
    body = {"model": name, "prompt": [ids, other], "temperature": 0, "max_tokens": 1, "logprobs": 1, "echo": True}
    for choice, greedy in zip(posted(service, "/v1/completions", body)["choices"], ([True] * 8, [True] * 7 + [False])):
        found = choice["logprobs"]
        pairs = zip(found["token_logprobs"][3:-1], found["top_logprobs"][3:-1])
        assert [log_p == max(best.values()) for log_p, best in pairs] == greedy


@pytest.mark.parametrize("name", MODELS)
def test_the_contract_of_lm_evaluation_harness(service: Service, name: str) -> None:
    """Its requests and its arithmetic, word for word: ids with and without the start token, one generated token,
    equality of the scored float with the largest one."""
    ids = list(LINE.encode())
    body = {"prompt": [[256, *ids], ids], "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    choices = sorted(posted(service, "/v1/completions", {"model": name, **body})["choices"], key=lambda c: c["index"])
    with_start, without = (choice["logprobs"] for choice in choices)
    assert len(with_start["token_logprobs"]) == len(ids) + 2 and len(without["token_logprobs"]) == len(ids) + 1
    expected = score_texts(service.find(name).run, [LINE.encode()])["nats"]
    assert sum(with_start["token_logprobs"][1:-1]) == pytest.approx(expected, abs=1e-5)
    for found, context in ((with_start, 6), (without, 5)):
        nats = score_texts(service.find(name).run, [LINE[:5].encode()])["nats"]
        assert sum(found["token_logprobs"][context:-1]) == pytest.approx(expected - nats, abs=1e-5)
        for log_p, best in zip(found["token_logprobs"][1:], found["top_logprobs"][1:]):
            assert log_p in best.values(), "the scored token is among the most probable ones, the float bit for bit"
    assert with_start["token_logprobs"][0] is None and with_start["top_logprobs"][0] is None


def test_the_log_p_of_generated_tokens_are_those_of_the_same_tokens_as_a_prompt(service: Service) -> None:
    for name in MODELS:
        body = {"model": name, "logprobs": 3, "seed": 5}
        made = posted(service, "/v1/completions", {**body, "prompt": "Thunder.", "max_tokens": 7})
        logprobs = made["choices"][0]["logprobs"]
        ids = [*b"Thunder.", *_bytes_of(logprobs["tokens"])]
        again = posted(service, "/v1/completions", {**body, "prompt": ids, "max_tokens": 0, "echo": True})
        again = again["choices"][0]["logprobs"]
        assert logprobs["token_logprobs"] == pytest.approx(again["token_logprobs"][-7:], abs=1e-4)
        for mine, other in zip(logprobs["top_logprobs"], again["top_logprobs"][-7:]):
            assert sorted(mine.values()) == pytest.approx(sorted(other.values()), abs=1e-4)
            assert len(mine) in (3, 4)
            assert sum(map(math.exp, mine.values())) <= 1 + 1e-6


def _bytes_of(names: list[str]) -> list[int]:
    return [int(n.removeprefix("bytes:\\x"), 16) if n.startswith("bytes:") else n.encode()[0] for n in names]


def test_byte_tokens_have_names_that_differ_and_offsets_count_whole_characters(service: Service) -> None:
    found = posted(
        service,
        "/v1/completions",
        {"model": "gpt", "prompt": "a한b", "echo": True, "logprobs": 20, "max_tokens": 0},
    )["choices"][0]
    assert found["text"] == "a한b"
    assert found["logprobs"]["tokens"] == ["a", "bytes:\\xed", "bytes:\\x95", "bytes:\\x9c", "b"]
    assert found["logprobs"]["text_offset"] == [0, 1, 1, 1, 2]
    assert all(len(best) >= 20 for best in found["logprobs"]["top_logprobs"])


@pytest.mark.parametrize("max_tokens", [0, 5])
def test_a_prompt_that_ends_within_a_character_is_continued_there(service: Service, max_tokens: int) -> None:
    body = {"model": "lstm", "prompt": [97, 0xED, 0x95], "max_tokens": max_tokens, "seed": 2, "logprobs": 0}
    whole, rest = (posted(service, "/v1/completions", {**body, "echo": echo})["choices"][0] for echo in (True, False))
    expected = bytes([97, 0xED, 0x95, *_bytes_of(rest["logprobs"]["tokens"])]).decode(errors="replace")
    assert whole["text"] == expected == ("a" + rest["text"] if max_tokens else "a\N{REPLACEMENT CHARACTER}")
    offsets = rest["logprobs"]["text_offset"]
    assert whole["logprobs"]["text_offset"] == [0, 1, 1, *offsets] and offsets[:1] in ([], [1]), "the prompt counts"


# --- text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MODELS, *OTHER_TOKENS])
@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_is_the_whole_text_in_pieces(service: Service, name: str, echo: bool) -> None:
    body = {"model": name, "prompt": [LINE, "And 한"], "max_tokens": 23, "seed": 3, "n": 2, "echo": echo, "logprobs": 2}
    whole = complete(service, **body)
    chunks = stream(service, **body, stream_options={"include_usage": True})
    for choice in whole.choices:
        mine = [c.choices[0] for c in chunks if c.choices and c.choices[0].index == choice.index]
        assert "".join(c.text for c in mine) == choice.text
        assert [t for c in mine for t in c.logprobs.tokens] == choice.logprobs.tokens
        assert [p for c in mine for p in c.logprobs.token_logprobs] == pytest.approx(choice.logprobs.token_logprobs)
        assert [c.finish_reason for c in mine if c.finish_reason] == [choice.finish_reason]
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(chunk.usage is None for chunk in chunks[:-1])


@pytest.mark.parametrize("name", [*MODELS, *OTHER_TOKENS])
def test_text_ends_before_a_stop_which_no_chunk_shows_a_part_of(service: Service, name: str) -> None:
    body = {"model": name, "prompt": LINE, "max_tokens": 40, "seed": 11}
    free = complete(service, **body).choices[0].text
    stop = free[9:14]
    ended = complete(service, **body, stop=[stop, "never said"])
    assert (ended.choices[0].text, ended.choices[0].finish_reason) == (free[: free.index(stop)], "stop")
    assert ended.usage.completion_tokens < 40
    shown = "".join(chunk.choices[0].text for chunk in stream(service, **body, stop=stop))
    assert shown == free[: free.index(stop)]


def test_the_end_of_a_record_ends_a_text_and_is_not_shown(service: Service) -> None:
    found = complete(service, model="words", prompt=LINE, max_tokens=200, n=8, seed=1, logprobs=0)
    ended = [choice for choice in found.choices if choice.finish_reason == "stop"]
    assert ended, "a run of lines ends lines"
    for choice in ended:
        assert "\n" not in choice.text and choice.logprobs.tokens[-1] == "\n"


def test_choices_depend_on_prompt_seed_and_number_alone(service: Service) -> None:
    one = complete(service, model="lstm", prompt=LINE, max_tokens=9, seed=7)
    three = complete(service, model="lstm", prompt=["Thunder", LINE], max_tokens=9, seed=7, n=3)
    assert three.choices[3].text == one.choices[0].text
    assert len({choice.text for choice in three.choices[3:]}) == 3
    unseeded = {complete(service, model="lstm", prompt=LINE, max_tokens=9).choices[0].text for _ in range(4)}
    assert len(unseeded) > 1


def test_words_continue_a_prompt_with_or_without_a_space_at_its_end(service: Service) -> None:
    body = {"model": "words", "max_tokens": 3, "temperature": 0}
    bare = complete(service, prompt="When shall we", **body).choices[0].text
    spaced = complete(service, prompt="When shall we ", **body).choices[0].text
    assert bare == " " + spaced and not spaced.startswith(" ")


def test_unknown_tokens_of_a_prompt_are_counted_in_the_answer(service: Service) -> None:
    body = {"model": "words", "prompt": ["When shall we", "When shall xyzzy qwerty"], "max_tokens": 1}
    assert posted(service, "/v1/completions", body)["unknown"] == [0, 2]
    assert "unknown" not in posted(service, "/v1/completions", {**body, "prompt": "When shall we"})


def test_a_chat_is_the_completion_of_its_contents_side_by_side(service: Service) -> None:
    messages = [
        {"role": "system", "content": "When shall "},
        {"role": "user", "content": [{"type": "text", "text": "we three "}, {"type": "text", "text": "meet again?"}]},
    ]
    options = {"model": "gpt", "max_tokens": 12, "seed": 4}
    expected = complete(service, prompt=LINE, logprobs=2, **options).choices[0]

    async def both(client: Any) -> tuple[Any, str]:
        whole = await client.chat.completions.create(messages=messages, logprobs=True, top_logprobs=2, **options)
        chunks = await client.chat.completions.create(messages=messages, stream=True, **options)
        return whole, "".join([chunk.choices[0].delta.content async for chunk in chunks])

    found, streamed = asked(service, both)
    assert found.choices[0].message.content == expected.text == streamed
    assert found.usage.prompt_tokens == len(LINE)
    content = found.choices[0].logprobs.content
    assert [token.logprob for token in content] == expected.logprobs.token_logprobs
    assert [{t.token: t.logprob for t in token.top_logprobs} for token in content] == [
        {name: p for name, p in best.items() if name in list(best)[:2]} for best in expected.logprobs.top_logprobs
    ]


def test_the_examples_of_the_page_are_answered(service: Service) -> None:
    examples = re.findall(r"^```text\nPOST (\S+)\n(.*?)^```", (ROOT / "docs" / "openai.md").read_text(), re.M | re.S)
    answers = [posted(service, path, json.loads(body)) for path, body in examples]
    assert [path for path, _ in examples].count("/v1/completions") == 2 and len(answers) == 5
    assert answers[-1] == {"prompt": "When"}


def test_the_role_is_in_the_first_chunk_of_each_choice_alone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_queue, "PAUSE", 0.0)

    async def chunks(client: Any) -> list[Any]:
        asked_for = {"messages": [{"role": "user", "content": LINE}], "model": "gpt", "n": 2, "max_tokens": 30}
        return [chunk async for chunk in await client.chat.completions.create(**asked_for, stream=True)]

    found = [choice for chunk in asked(service, chunks) for choice in chunk.choices]
    for index in (0, 1):
        roles = [choice.delta.role for choice in found if choice.index == index]
        assert roles[0] == "assistant" and len(roles) > 1 and {*roles[1:]} == {None}


# --- streams that do not end well -------------------------------------------------------------------------------------


def breaking(after: int) -> Any:
    """Continuations that break down after some pieces."""

    async def continuations(*_: Any) -> AsyncGenerator[Piece]:
        for _ in range(after):
            yield Piece(0, "a")
        raise UserError('it "broke"')

    return continuations


def test_a_stream_that_cannot_begin_is_an_error_and_no_answer(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve_completions, "continuations", breaking(0))
    assert refusal(service, "/v1/completions", {"model": "gpt", "stream": True}) == 'it "broke"'


def test_an_error_within_a_stream_is_told_to_the_client(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_completions, "continuations", breaking(2))
    with pytest.raises(APIError, match='it "broke"'):
        stream(service, model="gpt", prompt=LINE)


def test_what_nobody_listens_to_is_cancelled(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    served, cancelled = service.find("gpt"), []
    cancel = served.scheduler.cancel
    monkeypatch.setattr(served.scheduler, "cancel", lambda job: (cancelled.append(job), cancel(job)))

    async def leave() -> None:
        vocabulary = Vocabulary(served.run)
        pieces = continuations(served, vocabulary, [vocabulary.prompt(LINE)], Wanted(Filters(), max_tokens=50))
        await anext(pieces)
        assert not cancelled
        await pieces.aclose()

    asyncio.run(leave())
    assert len(cancelled) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "x", "n": 128, "max_tokens": 1000, "logprobs": 20}),
        ("/v1/completions", {"prompt": "x" * 9000, "n": 128, "max_tokens": 0, "echo": True}),
        ("/v1/completions", {"prompt": "x" * 60_000, "max_tokens": 0, "echo": True, "logprobs": 20}),
        (
            "/v1/chat/completions",
            {
                "messages": [{"role": "user", "content": "x"}], "n": 128, "max_tokens": 1000, "logprobs": True,
                "top_logprobs": 20,
            },
        ),
    ],
)  # fmt: skip
def test_the_tokens_that_are_reported_are_bounded(service: Service, path: str, body: dict[str, Any]) -> None:
    """A request of 8 MB could ask for an answer of many gigabytes."""
    assert "tokens to report" in refusal(service, path, {"model": "lstm", **body})


def test_a_sequence_that_a_closing_server_cancels_is_an_error_and_no_short_text(service: Service) -> None:
    with pytest.raises(Closing, match="the server is closing"):
        Choice(0, Text(Vocabulary(service.find("gpt").run)), []).end("cancelled")


def test_a_failure_of_the_engine_is_raised_as_itself(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("in the engine")

    monkeypatch.setattr(type(service.find("lstm").scheduler.engine), "_advance", broken)
    body = {"model": "lstm", "prompt": LINE, "max_tokens": 5}
    answer = TestClient(application(service)).post("/v1/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error"), "not that the server closes"


def test_a_token_that_comes_with_a_failure_raises_it(service: Service) -> None:
    handle = SimpleNamespace(error=ZeroDivisionError("in the engine"), finish="error", tokens=[97])
    event = SimpleNamespace(handle=handle, token=97, nats=-1.0, best=())
    with pytest.raises(ZeroDivisionError, match="in the engine"):
        Choice(0, Text(Vocabulary(service.find("gpt").run)), []).take(event)  # type: ignore[arg-type]


def test_a_cache_takes_keys_of_another_number_format() -> None:
    """Under autocast, a run whose prompt is empty begins with a cache in fp32."""
    keys = (torch.zeros(2, 1, 3, 5),)
    cache = Cache(torch.zeros(2, dtype=torch.long), torch.zeros(2, dtype=torch.long), keys, (torch.zeros(2, 1, 3, 5),))
    new = torch.ones(2, 1, 1, 5, dtype=torch.bfloat16)
    with torch.no_grad():
        cache.remember(0, new, new, torch.ones(2, dtype=torch.long))
    assert cache.keys[0][:, :, 0].eq(1).all() and cache.values[0].dtype == torch.float32


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("suffix", "x"), ("best_of", 2), ("presence_penalty", 0.5), ("frequency_penalty", -1), ("user", "me"),
        ("logit_bias", {"5": 1}), ("stream_options", {"include_usage": True}),
    ],
)  # fmt: skip
def test_a_field_that_is_not_supported_is_refused_by_its_name(field: str, value: Any) -> None:
    with pytest.raises(Refused, match=field) as refused:
        Completion.model_validate({"prompt": "a", field: value})
    assert refused.value.field == field


def test_null_and_values_that_do_nothing_are_accepted() -> None:
    null = dict.fromkeys([*Completion.model_fields, *Completion.neutral])
    assert Completion.model_validate(null) == Completion()
    neutral = {name: values[0] for name, values in Completion.neutral.items()}
    assert Completion.model_validate({**neutral, "best_of": 3, "n": 3}).n == 3
    assert Chat.model_validate(
        {**{k: v[0] for k, v in Chat.neutral.items()}, "messages": [{"role": "user", "content": ""}]}
    )


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": 5}, {"prompt": []}, {"prompt": ["a", 5]}, {"prompt": [True]}, {"prompt": [[1.5]]},
        {"prompt": ["a"] * 129}, {"max_tokens": -1}, {"max_tokens": 1 << 31}, {"max_tokens": "1"}, {"max_tokens": True},
        {"n": 0}, {"n": 129}, {"temperature": math.nan}, {"temperature": -0.1}, {"top_p": 1.1}, {"min_p": -1},
        {"top_k": -1}, {"logprobs": 21}, {"stop": ""}, {"stop": ["x"] * 17}, {"stop": "x" * 257}, {"seed": -1},
        {"seed": 1 << 63}, {"unheard_of": 1},
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_before_anything_is_done(body: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(body))):
        Completion.model_validate(body)


def test_ids_outside_the_vocabulary_and_too_much_work_are_refused(service: Service) -> None:
    for prompt in ([257], [-1], [65, 256]):
        assert "token id" in refusal(service, "/v1/completions", {"model": "gpt", "prompt": prompt})
    assert "128 sequences" in refusal(service, "/v1/completions", {"model": "gpt", "prompt": ["a", "b"], "n": 65})


@pytest.mark.parametrize("kind", [Completion, Chat, Embeddings, Drawing, Tokenize, Detokenize])
def test_bodies_have_examples_and_every_field_is_described(kind: type[Body]) -> None:
    schema = kind.model_json_schema()
    assert all(kind.model_validate(example) for example in schema["examples"])
    assert [name for name, field in schema["properties"].items() if not field.get("description")] == []


def test_every_field_of_sampling_is_in_completions_and_chats() -> None:
    for kind in (Completion, Chat):
        assert set(Sampling.model_fields) <= set(kind.model_fields)
        assert not set(kind.neutral) & set(kind.model_fields)
