"""Errors in Korean: what a reader of the Korean page can cause is told in Korean, the rest in English."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from chainrule.serve.app import application
from chainrule.serve.service import Service, open_service
from tests.serve.native_runs import train

KOREAN = {"accept-language": "ko"}
HANGUL = re.compile("[가-힣]")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    found = open_service(train(tmp_path_factory.mktemp("runs"), "text", "tags", "waves"), threads=1)
    yield found
    found.close()


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return TestClient(application(service))


def told(client: TestClient, path: str, body: dict[str, Any], **headers: str) -> str:
    answer = client.post(path, json=body, headers=headers)
    assert answer.status_code >= 400
    return answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "korean"),
    [
        ("v1/completions", {"prompt": "the", "temperature": -1}, "온도는 0.0 이상이어야 합니다(입력한 값: -1)."),
        ("v1/completions", {"prompt": "the", "seed": 1.5}, "시드는 정수여야 합니다(입력한 값: 1.5)."),
        (
            "page/next", {"prompt": "the", "temperature": 101, "top_p": 2},
            "온도는 100.0 이하여야 합니다(입력한 값: 101). top-p는 1.0 이하여야 합니다(입력한 값: 2).",
        ),
        ("page/written", {"prompt": "a" * 4097}, "4,097개입니다"),
        ("v1/explain", {"text": ""}, "읽을 것이 없습니다."),
        ("v1/explain", {"text": "the", "at": 7}, "토큰 번호(at) 7: 입력에는 토큰이 3개 있고 번호는 0부터입니다."),
        ("v1/explain", {"text": "the", "view": "stress"}, "토큰 3개로는"),
        ("v1/explain", {"text": "the " * 1000, "view": ["occlusion"]}, "나열할 토큰 수): 요청 하나에 최대"),
        ("v1/explain", {"text": "the", "model": "other"}, "\"other\": 이 서버에 없는 모델입니다."),
        ("v1/forecast", {"max_tokens": 5000}, "토큰 수(max_tokens)는 4096 이하여야 합니다"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_field_of_the_page_is_told_in_korean(
    path: str, body: dict[str, Any], korean: str, client: TestClient
) -> None:
    assert korean in told(client, path, body, **KOREAN)
    english = told(client, path, body)
    assert not HANGUL.search(english) and english == told(client, path, body, **{"accept-language": "en-GB,ko;q=0.5"})


def test_an_error_within_a_stream_is_told_in_korean(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaking(*_: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr("chainrule.serve.generation.Choice.take", breaking)
    body = {"prompt": "the", "stream": True, "max_tokens": 3, "model": "text"}
    lines = client.post("v1/completions", json=body, headers=KOREAN).text.split("\n\n")
    errors = [json.loads(line.removeprefix("data: "))["error"] for line in lines if "error" in line]
    assert [one["message"] for one in errors] == ["메모리가 부족합니다. 요청을 줄이거나 나중에 다시 하십시오."]


def test_what_has_no_translation_is_told_in_english(client: TestClient) -> None:
    body = {"prompt": "the", "logit_bias": {"5": 1}}
    assert told(client, "v1/completions", body, **KOREAN) == told(client, "v1/completions", body)
