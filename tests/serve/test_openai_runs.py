"""OpenAI's routes of runs that are no text generators: symbols, vectors, images; and the tokenizer over HTTP."""

from __future__ import annotations

import base64
import io
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")

from PIL import Image

from chainrule import api
from chainrule.data.captioned import fit_captions
from chainrule.serve import images
from chainrule.serve.served import Served
from chainrule.serve.service import Service, open_service
from tests.serve.clients import ROOT, URL, asked, posted, refusal, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("runs")
    (made / "play.txt").write_text((ROOT / "examples" / "data" / "macbeth.txt").read_text()[:9_000])
    events = [" ".join(record) for record in itertools.product(["login", "view", "cart", "buy"], repeat=4)]
    (made / "events.csv").write_text("\n".join(["sequence", *events]) + "\n")
    return made


@pytest.fixture
def served(request: pytest.FixtureRequest):
    def serve(*runs: Path) -> Service:
        service = open_service(map(str, runs), threads=1, precision="fp32", speculate="off")
        request.addfinalizer(service.close)
        return service

    return serve


def test_events_by_name_with_the_end_of_their_record(folder: Path, served) -> None:
    train(folder / "shop", folder / "events.csv", "ngram", task="generate", budget="1epochs")
    service = served(folder / "shop")
    body = {"prompt": "login view xyzzy", "max_tokens": 0, "echo": True, "logprobs": 20}
    found = posted(service, "/v1/completions", body)
    logprobs = found["choices"][0]["logprobs"]
    assert found["unknown"] == [1]
    assert logprobs["tokens"] == ["login", " view", "<|unknown|>"]
    assert set(logprobs["top_logprobs"][1]) == {" buy", " cart", " login", " view", "<|unknown|>", "<|end|>"}
    assert sum(np.exp(list(logprobs["top_logprobs"][1].values()))) == pytest.approx(1, abs=1e-6)
    made = posted(
        service, "/v1/completions", {"prompt": "login view", "max_tokens": 9, "logprobs": 0, "seed": 1, "n": 20}
    )
    for choice in made["choices"]:
        named = [name for name in choice["logprobs"]["tokens"] if name != "<|end|>"]
        assert choice["text"] == "".join(named)
        assert (choice["finish_reason"] == "stop") == (choice["logprobs"]["tokens"][-1] == "<|end|>")
    assert {choice["finish_reason"] for choice in made["choices"]} == {"stop"}, "the end of their records"


def test_the_tokenizer_over_http(folder: Path, served) -> None:
    train(folder / "bytes", folder / "play.txt", "hmm")
    train(folder / "words", folder / "play.txt", "hmm", tokenizer="word", unit="lines")
    service = served(folder / "bytes", folder / "words")
    assert posted(service, "/tokenize", {"prompt": "한", "add_special_tokens": False}) == {
        "tokens": [0xED, 0x95, 0x9C], "count": 3, "unknown": 3
    }, "bytes that training never had"  # fmt: skip
    started = posted(service, "/tokenize", {"prompt": "a", "add_special_tokens": True, "return_token_strs": True})
    assert (started["tokens"], started["token_strs"]) == ([256, 97], ["<|start|>", "a"])
    for ids in ([256, 97, 10], [104, 105], [256]):
        text = posted(service, "/detokenize", {"tokens": ids})["prompt"]
        assert posted(service, "/tokenize", {"prompt": text})["tokens"] == ids
    assert posted(service, "/tokenize", {"model": "words", "prompt": "xyzzy of"})["unknown"] == 1
    about = {name: asked(service, lambda client, name=name: _info(client, name)) for name in (None, "words")}
    assert (about[None]["bos_token"], about[None]["eos_token"], about[None]["vocab_size"]) == ("<|start|>",) * 2 + (
        256,
    )
    assert (about["words"]["eos_token"], about["words"]["unk_token"]) == ("\n", "<|unknown|>")
    for name, told in about.items():
        for role in ("bos_token", "eos_token"):
            body = {"prompt": told[role], **({"model": name} if name else {})}
            assert posted(service, "/tokenize", body)["count"] == 1, "lm-evaluation-harness takes the first id"


async def _info(client: Any, name: str | None) -> dict[str, Any]:
    answer = await client._client.get(f"{URL}/tokenizer_info", params={"model": name} if name else {})
    return answer.json()


def test_vectors_of_texts_are_those_of_embed(folder: Path, served) -> None:
    train(folder / "bert", folder / "play.txt", "bert", task="fill", tokenizer="word")
    service = served(folder / "bert")
    texts = ["When shall we three meet again?", "xyzzy of", "of"]
    expected = api.embed(service.find("bert").run, texts)["vectors"]

    async def both(client: Any) -> list[Any]:
        as_base64 = await client.embeddings.create(model="bert", input=texts)  # the client's own choice
        as_floats = await client.embeddings.create(model="bert", input=texts, encoding_format="float")
        return [as_base64, as_floats]

    for found in asked(service, both):
        assert [item.index for item in found.data] == [0, 1, 2]
        assert np.array_equal(np.array([item.embedding for item in found.data], np.float32), expected)
    ids = [posted(service, "/tokenize", {"prompt": text})["tokens"] for text in texts]
    by_ids = posted(service, "/v1/embeddings", {"input": ids})
    assert np.array_equal(np.array([item["embedding"] for item in by_ids["data"]], np.float32), expected)
    assert posted(service, "/v1/embeddings", {"input": texts})["unknown"][1] == 1
    assert "bert (fill) answers /v1/embeddings, /v1/fill" in refusal(service, "/v1/completions", {"prompt": "a"})


@pytest.mark.slow
def test_images_are_those_of_draw_in_the_size_of_the_run(tmp_path: Path, served) -> None:
    api.make_data("rainbow", size=100, out=str(tmp_path / "rainbow"))
    train(tmp_path / "draw", tmp_path / "rainbow", "lstm", task="draw", tokenizer="char")
    service = served(tmp_path / "draw")
    run = service.find("draw").run
    side = run.processor.reader.size
    expected = api.draw(run, ["a red circle"], n=2, seed=5)["images"]

    async def drawn(client: Any) -> Any:
        size = f"{side}x{side}"
        return await client.images.generate(prompt="a red circle", n=2, size=size, extra_body={"seed": 5})

    found = [np.asarray(Image.open(io.BytesIO(base64.b64decode(item.b64_json)))) for item in asked(service, drawn).data]
    assert np.array_equal(np.stack(found), expected)
    assert "draw (draw) answers /v1/images/generations" in refusal(service, "/v1/completions", {"prompt": "a"})


def test_a_request_for_images_is_a_call_of_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    asked_for: dict[str, Any] = {}

    def draw(run: Any, caption: str, **options: Any) -> dict[str, Any]:
        asked_for.update(caption=caption, **options)
        return {"images": np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)}

    monkeypatch.setattr(images, "draw", draw)
    captions = fit_captions(["é", "é"], "word", 4)
    processor = SimpleNamespace(reader=SimpleNamespace(size=4), captions=captions)
    run = SimpleNamespace(task="draw", settings={}, processor=processor, model=None, scheduler=None)
    service = Service([Served("painter", run)])  # type: ignore[arg-type]
    body = {"prompt": "e\u0301", "n": 2, "size": "4x4", "seed": 5, "guidance": 2.5}
    answer = posted(service, "/v1/images/generations", body)
    data = answer["data"]
    assert not {"unknown", "cut"} & answer.keys(), "so it is known, too"
    found = [np.asarray(Image.open(io.BytesIO(base64.b64decode(item["b64_json"])))) for item in data]
    assert np.array_equal(np.stack(found).ravel(), np.arange(96))
    how = {"n": 2, "seed": 5, "guidance": 2.5, "temperature": None, "top_k": 0, "top_p": 1.0}
    assert asked_for == {"caption": "é", **how}, "composed as captions are in training"
    assert "4x4" in refusal(service, "/v1/images/generations", {"prompt": "a", "size": "1024x1024"})
    service.close()


def test_models_are_listed_with_their_tasks(folder: Path, served) -> None:
    train(folder / "events", folder / "play.txt", "hmm")
    service = served(folder / "events")

    async def listed(client: Any) -> tuple[Any, Any]:
        return (await client.models.list()).data, await client.models.retrieve("events")

    everything, one = asked(service, listed)
    assert everything == [one]
    assert (one.id, one.owned_by, one.task, one.model_type) == ("events", "chainrule", "generate", "hmm")
    assert one.created > 1_700_000_000
