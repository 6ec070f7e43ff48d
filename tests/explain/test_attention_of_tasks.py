"""Attention of encoders and of decoders with a source, against formulas that replace the attention of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from chainrule.api import Run
from chainrule.cli import main
from chainrule.core import Batch, TaggedBatch, TextBatch, UserError
from chainrule.explanation import views
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.surprise import Surprise, predicts_tokens, surprise
from chainrule.inference.alignment import alignment
from tests.explain.decoders import placed
from tests.explain.labelled_runs import task_run
from tests.explain.runs import small_run

SOURCE, TARGET = "3 the cat sat on a mat", "TAM A NO TAS"
CASES: dict[str, dict[str, Any]] = {
    "fill bert": {"text": "3 the c[MASK]t sat on", "at": 7, "query": 8, "row": slice(0, 17), "first": 0, "start": True},
    "classify transformer": {
        "text": SOURCE, "at": 5, "query": 5, "row": slice(0, 22), "first": 0, "start": False, "pooled": True,
    },
    "classify bert": {  # in chunks of 31 tokens: the second is short
        "text": SOURCE + SOURCE[:20], "at": 36, "query": 6, "row": slice(0, 12), "batch": 1, "first": 31, "start": True,
        "pooled": True, "ends": [32, 12],
    },
    "tag transformer": {"text": SOURCE, "at": 2, "query": 2, "row": slice(0, 7), "first": 0, "start": False},
    "tag bert": {  # in pieces, which are words here, behind a start token
        "text": SOURCE, "at": 2, "query": 3, "row": slice(0, 8), "first": 0, "start": True, "ends": [8],
    },
    "translate transformer": {"text": SOURCE, "at": 3, "query": 3, "row": slice(0, 4), "first": 0, "start": True},
}  # fmt: skip


@dataclass
class ByFormula:
    """Attention weights of each layer, B x H x T x S, and values, B x H x S x K, in the order of the layers."""

    weights: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)


def heads_of(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


@contextmanager
def replaced(layers: list[nn.Module], config: Any, causal: bool, lengths: list[int] | None) -> Iterator[ByFormula]:
    """The output of attention is computed from its input by the formula, in a graph of its own."""
    found, inputs, handles = ByFormula(), {}, []
    for layer in layers:

        def before(module: Any, args: Any) -> tuple[Tensor, ...]:
            x, H = inputs[module], config.heads
            packed = lengths is not None and x.shape[:2] == (
                1,
                sum(lengths),
            )  # rows side by side
            x = nn.utils.rnn.pad_sequence(x[0].split(lengths), batch_first=True) if packed else x
            q, k, v = (heads_of(w(x), H) for w in (module.queries, module.keys, module.values))
            q, k = (torch.stack([torch.stack([placed(config, head) for head in row]) for row in y]) for y in (q, k))
            scores, T = q @ k.mT / q.shape[-1] ** 0.5, x.shape[1]
            hidden = torch.ones(T, T).triu(1).bool() if causal else torch.zeros(T, T).bool()
            ends = torch.tensor(lengths or [T] * len(x))[:, None, None, None]
            hidden = hidden | (torch.arange(T) >= ends)
            found.weights.append(scores.masked_fill(hidden, -torch.inf).softmax(-1))
            found.values.append(v)
            mixed = (found.weights[-1] @ v).transpose(1, 2).flatten(2)
            return (torch.cat([y[:n] for y, n in zip(mixed, lengths)])[None] if packed else mixed,)

        def keep(_: Any, args: Any, module: nn.Module = layer) -> None:
            inputs[module] = args[0]

        handles.append(layer.queries.register_forward_pre_hook(keep))
        handles.append(layer.out.register_forward_pre_hook(lambda _, args, module=layer: before(module, args)))
    yield found
    for handle in handles:
        handle.remove()


def explained(case: str, view: str, **asked: Any) -> tuple[Run, dict[str, Any]]:
    run = task_run(*case.split())
    run.model.double()
    given = {"at": CASES[case]["at"], **({"target": TARGET} if "translate" in case else {}), **asked}
    return run, run.explain(CASES[case]["text"], view=view, **given)["trace"][view]


def log_p_of(case: str, run: Run) -> Tensor:
    """Log p of what is explained, by the call of the model."""
    text, at = CASES[case]["text"], CASES[case]["at"]
    if case == "fill bert":
        ids = [256, *[257 if c == "#" else ord(c) for c in text.replace("[MASK]", "#")]]
        row = torch.tensor([ids])
        return run.model.predict(run.model.encode(Batch(row, row))).logits()[0, at + 1].log_softmax(-1).max()
    if "translate" in case:
        source, target = (
            torch.from_numpy(units.encode(side.encode()).ids.astype(np.int64))[None]
            for units, side in ((run.processor.source, SOURCE), (run.processor.target, TARGET))
        )
        begun = torch.cat([torch.tensor([[run.model.start_id]]), target[:, :at]], 1)
        prediction, _ = run.model(begun, run.model.encode_prompt(source))
        return prediction.logits()[0, -1].log_softmax(-1)[target[0, at]]
    none = torch.zeros(1, 0)
    if "tag" in case:
        batch = run.processor.reader.read(TaggedBatch(none, none, words=(tuple(text.split()),)))
        return run.model(batch).logits()[0, at].log_softmax(-1).max()
    return run.model.classify(run.processor.reader.read(TextBatch(none, none, texts=(text,))))[0].max()


def by_formula(case: str, run: Run) -> tuple[ByFormula, Tensor, list[nn.Module]]:
    about, stack = CASES[case], run.model.get_submodule(run.model.attention_stack)
    layers = [block.attention for block in stack.blocks]
    with replaced(layers, stack.position.config, "translate" in case, about.get("ends")) as found:
        log_p = log_p_of(case, run)
    return found, log_p, layers


def row_of(told: dict[str, Any], case: str) -> list[float]:
    assert (told["start"] is not None) == CASES[case]["start"]
    return [*([told["start"]] if CASES[case]["start"] else []), *told["weights"]]


@pytest.mark.parametrize("case", CASES)
def test_weights_and_norms_are_those_of_the_formula(case: str) -> None:
    run, found = explained(case, "attention")
    oracle, log_p, layers = by_formula(case, run)
    about = CASES[case]
    assert found["first"] == about["first"] and found["nats"] == pytest.approx(-log_p.item(), abs=1e-10)
    assert len(found["layers"]) == len(oracle.weights) == 2
    for layer, weights, values, own in zip(found["layers"], oracle.weights, oracle.values, layers, strict=True):
        for h, head in enumerate(layer["heads"]):
            row = weights[about.get("batch", 0), h, about["query"], about["row"]].detach()
            np.testing.assert_allclose(row_of(head, case), row, atol=1e-10)
            assert sum(row_of(head, case)) == pytest.approx(1, abs=1e-10)
            value_SK = values[about.get("batch", 0), h, about["row"]]
            out = own.out.weight[:, h * value_SK.shape[1] : (h + 1) * value_SK.shape[1]]
            norms = torch.stack([(out @ (w * v)).norm() for w, v in zip(row, value_SK, strict=True)]).tolist()
            np.testing.assert_allclose(
                [*([head["start_norm"]] if about["start"] else []), *head["norms"]], norms, atol=1e-10
            )


@pytest.mark.parametrize("case", CASES)
def test_rollout_and_relevance_are_products_of_matrices(case: str) -> None:
    run, found = explained(case, "attention")
    oracle, log_p, _ = by_formula(case, run)
    about = CASES[case]
    gradients = torch.autograd.grad(log_p, oracle.weights)
    part = lambda x: x[about.get("batch", 0), :, about["row"], about["row"]]  # noqa: E731
    eye = torch.eye(about["row"].stop).double()
    product, R = eye, eye
    for weights, gradient in zip(oracle.weights, gradients, strict=True):
        product = (part(weights).detach().mean(0) + eye) / 2 @ product
        R = R + part(weights.detach() * gradient).relu().mean(0) @ R
    query = about["query"]
    np.testing.assert_allclose(row_of(found["rollout"], case), product[query], atol=1e-10)
    answered = (R - eye)[int(about["start"]) :].mean(0) if about.get("pooled") else (R - eye)[query]
    np.testing.assert_allclose(row_of(found["relevance"], case), answered, atol=1e-10)
    assert max(found["relevance"]["weights"]) > 0


@pytest.mark.parametrize("case", CASES)
def test_cells_multiply_out(case: str) -> None:
    run, cell = explained(case, "attention_cell", layer=1, head=1)
    oracle, _, layers = by_formula(case, run)
    about, tight = CASES[case], {"rtol": 0, "atol": 1e-10}
    weights = oracle.weights[1][about.get("batch", 0), 1, about["query"], about["row"]].detach()
    values = oracle.values[1][about.get("batch", 0), 1, about["row"]]
    place = int(weights.argmax())
    assert cell["key"] == (None if about["start"] and not place else about["first"] + place - about["start"])
    assert (cell["q_path"]["place"], cell["k_path"]["place"]) == (about["query"], place)
    own = ([cell["start_weight"]] if about["start"] else []) + cell["weights"]
    np.testing.assert_allclose(own, weights, **tight)
    logits = torch.tensor(([cell["start_logit"]] if about["start"] else []) + cell["logits"]).double()
    np.testing.assert_allclose(logits.softmax(-1), weights, atol=1e-6)
    np.testing.assert_allclose(cell["mixed"], (weights @ values).detach(), **tight)
    assert cell["score"] == pytest.approx(np.dot(cell["q"], cell["k"]), abs=1e-10)
    np.testing.assert_allclose(np.add(cell["out"], cell["others"]), cell["output"], **tight)
    out = layers[1].out.weight.detach()
    np.testing.assert_allclose(cell["out"], out[:, out.shape[1] // 2 :] @ (weights @ values).detach(), **tight)


def test_the_answers_are_those_of_the_commands() -> None:
    run, found = explained("fill bert", "attention")
    (mask,) = run.fill(CASES["fill bert"]["text"], top_k=1)["texts"][0]["masks"]
    assert (found["answer"], np.exp(-found["nats"])) == (mask[0]["text"], pytest.approx(mask[0]["p"], abs=1e-6))
    run, found = explained("classify bert", "attention")
    told = run.classify([CASES["classify bert"]["text"]])
    assert found["answer"] == told["labels"][0]
    assert np.exp(-found["nats"]) == pytest.approx(told["p"][0][found["answer"]], abs=1e-6)
    run, _ = explained("tag transformer", "attention")
    rows = [explained("tag transformer", "attention", at=at)[1] for at in range(7)]
    told = run.tag([SOURCE])
    assert [row["answer"] for row in rows] == told["tags"][0]
    assert sum(row["nats"] for row in rows) == pytest.approx(-told["nats"][0], abs=1e-5)


def test_a_token_is_masked_to_explain_it() -> None:
    run = task_run("fill", "bert")
    shown = run.explain("3 the cat sat on", at=7)["trace"]
    hidden = run.explain("3 the c[MASK]t sat on")["trace"]
    assert (shown["at"], hidden["at"]) == (7, 7)
    assert (shown["tokens"][7]["text"], hidden["tokens"][7]["text"]) == ("a", "[MASK]")
    assert shown["attention"]["layers"] == hidden["attention"]["layers"] and shown["attention"]["answer"] == "a"


@pytest.mark.parametrize("model", ["transformer", "gru"])
def test_the_surprise_of_a_translation_adds_up_to_its_log_p(model: str) -> None:
    run = task_run("translate", model)
    trace = run.explain(SOURCE, view="surprise", top_k=3)["trace"]
    told = run.translate([SOURCE])
    assert sum(one["nats"] for one in trace["surprise"]["tokens"]) == pytest.approx(-told["nats"][0], abs=1e-4)
    assert "".join(token["text"] for token in trace["tokens"]).strip() == told["translations"][0]
    names = [other["text"] for one in trace["surprise"]["tokens"] for other in one["best"]]
    assert trace["tokens"][-1] == {"id": run.model.vocab_size - 1, "text": ""} and "(end)" in names


@pytest.mark.parametrize("at", [0, 3, 4])
def test_cross_attention_is_that_of_the_formula(at: int) -> None:
    run, found = explained("translate transformer", "cross_attention", at=at)
    model, c = run.model, run.model.config
    read: dict[str, Any] = {}
    handles = [model.encoder.register_forward_hook(lambda _m, _i, out: read.update(memory=out))]
    for k, block in enumerate(model.blocks):
        handles.append(block.cross.queries.register_forward_hook(lambda _m, i, _o, k=k: read.update({k: i[0]})))
    source, target = (
        torch.from_numpy(units.encode(side.encode()).ids.astype(np.int64))[None]
        for units, side in ((run.processor.source, SOURCE), (run.processor.target, TARGET))
    )
    with torch.no_grad():
        model(torch.cat([torch.tensor([[model.start_id]]), target], 1), model.encode_prompt(source))
        for handle in handles:
            handle.remove()
        for k, block in enumerate(model.blocks):
            q, key, v = (
                heads_of(w(x), c.heads)[0]
                for w, x in (
                    (block.cross.queries, read[k]),
                    (block.cross.keys, read["memory"]),
                    (block.cross.values, read["memory"]),
                )
            )
            normal = lambda x: x / (x.square().mean(-1, keepdim=True) + 2.0**-52).sqrt()  # noqa: E731
            weights = (normal(q) @ normal(key).mT / q.shape[-1] ** 0.5).softmax(-1)[:, at]
            for h, head in enumerate(found["layers"][k]["heads"]):
                np.testing.assert_allclose(head["weights"], weights[h], atol=1e-10)
                out = block.cross.out.weight[:, h * q.shape[-1] : (h + 1) * q.shape[-1]]
                np.testing.assert_allclose(head["norms"], weights[h] * (v[h] @ out.mT).norm(dim=-1), atol=1e-10)
    assert [token["text"] for token in found["source"]] == ["3", " the", " cat", " sat", " on", " a", " mat"]


@pytest.mark.parametrize("attention", ["additive", "multiplicative"])
def test_weights_of_a_recurrent_decoder_mix_what_it_reads_of_the_source(attention: str) -> None:
    run = task_run("translate", "lstm", model_attention=attention)
    run.model.double()
    seen: list[Tensor] = []
    handle = run.model.joined.register_forward_hook(lambda _m, i, _o: seen.append(i[0]))
    found = run.explain(SOURCE, target=TARGET, view="cross_attention", at=2)["trace"]["cross_attention"]
    handle.remove()
    source = torch.from_numpy(run.processor.source.encode(SOURCE.encode()).ids.astype(np.int64))[None]
    values_SD = run.model.encode_prompt(source).values_BSD[0].detach()
    ((head,),) = [layer["heads"] for layer in found["layers"]]
    assert head["norms"] is None and sum(head["weights"]) == pytest.approx(1, abs=1e-12)
    mixed = torch.tensor(head["weights"]).double() @ values_SD
    np.testing.assert_allclose(mixed, seen[0][0, 2, : len(mixed)].detach(), atol=1e-7)
    target = torch.from_numpy(run.processor.target.encode(TARGET.encode()).ids.astype(np.int64))[None]
    expected = alignment(run.model, source, torch.tensor([source.shape[1]]), target)[0, 2]
    np.testing.assert_allclose(head["weights"], expected, atol=1e-12)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a view of others": (
        lambda: task_run("classify", "transformer").explain("a cat", view="surprise"),
        "--view surprise: this transformer has attention, attention_cell",
    ),
    "nothing that is shown": (
        lambda: task_run("tag", "hmm").explain("a cat"),
        "explain: nothing of this hmm for tag can be shown",
    ),
    "a key of a row without a start token": (
        lambda: task_run("tag", "transformer").explain("a cat", view="attention_cell", key=-1),
        "--key -1: what is shown of token 0 attends to tokens 0 to 1$",
    ),
    "an empty source": (lambda: task_run("translate", "gru").explain(""), "explain: the source is empty"),
    "no text": (lambda: task_run("classify", "transformer").explain(""), "nothing to read"),
    "no token to tag": (lambda: task_run("tag", "bert").explain(" "), "nothing to read"),
    "a long source": (
        lambda: task_run("translate", "gru").explain("cat " * 257),
        "explain: the source has 257 tokens, and at most 256 are read",
    ),
    "a long text": (
        lambda: task_run("classify", "transformer").explain("a" * 513),
        "explain: the text has 513 tokens and this run reads 512",
    ),
    "a long text with masks": (
        lambda: task_run("fill", "bert").explain("a" * 32),
        "explain: the text has 32 tokens and this run reads 31 at once",
    ),
    "a target that is none": (
        lambda: task_run("classify", "transformer").explain("a", target="b"),
        "--target: this run's task is classify; a run of --task translate uses it",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_task_does_not_have_is_refused(case: str) -> None:
    call, told = REFUSED[case]
    with pytest.raises(UserError, match=told):
        call()


def test_a_view_of_records_is_not_one_of_translations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "_VIEWS", {**views.views()})

    @views.view(predicts_tokens)
    def made(given: ModelInput, asked: views.Asked) -> Surprise:
        return surprise(given, asked)

    assert "made" in small_run("gru").explain("a cat")["trace"]
    assert "made" not in task_run("translate", "gru").explain("a cat")["trace"]


def test_the_command_prints_what_each_head_weighs_most(capsys: pytest.CaptureFixture[str]) -> None:
    run = task_run("translate", "transformer")
    trace = run.explain(SOURCE, target=TARGET, at=3)["trace"]
    capsys.readouterr()
    words = ["explain", str(run.path), SOURCE, "--target", TARGET, "--at", "3", "--threads", "1", "--precision", "fp32"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    source = lines.index('attention of 3 " TAS" to the source')
    own = source - 7
    assert lines[own] == f'attention of 3 " TAS": {trace["attention"]["nats"]:.3f} nats for "TAS"'
    head = trace["cross_attention"]["layers"][1]["heads"][0]["weights"]
    best = sorted(range(7), key=lambda k: -head[k])[:3]
    shown = "  ".join(f'{k} "{" " * (k > 0)}{SOURCE.split()[k]}" {head[k]:.3g}' for k in best)
    assert lines[source + 3] == f"  layer 1  head 0  {shown}"
    relevance = trace["attention"]["relevance"]
    assert f"(start) {relevance['start']:.3g}" in lines[own + 6] and lines[own + 6].startswith("  relevance")
    assert lines[source + 5].startswith("  relevance") and lines[source + 6].startswith("source_attention of ")
    assert len(lines) == source + 12


def test_words_that_translators_taggers_and_classifiers_do_not_know_are_counted() -> None:
    run = task_run("translate", "transformer")
    told = run.explain("the zebra", target="TAM", view="surprise")["unknown"]
    assert told == run.translate(["the zebra"])["unknown"] > 0
    assert run.explain("the cat", target="xyz TAM", view="surprise")["unknown"] == 1
    assert "unknown" not in run.explain("the cat", target="TAM", view="surprise")
    run = task_run("classify", "transformer")
    assert run.explain("the zq고")["unknown"] == run.classify(["the zq고"])["unknown"][0] > 0
    for model in ("transformer", "bert"):
        run = task_run("tag", model)
        assert run.explain("the zebra sat on zebras")["unknown"] == 2 and "unknown" not in run.explain("the cat")


def test_words_that_a_run_of_masks_does_not_know_are_counted() -> None:
    run = task_run("fill", "bert")
    assert "unknown" not in run.explain("the cat [MASK]")
    (filled,) = run.fill("the zebra [MASK]")["texts"]
    assert run.explain("the zebra [MASK]")["unknown"] == filled["unknown"] > 0


# ------------------------------------------------------------------------------------------------------- the source


def weights_and_gradients(run: Run, at: int) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """Weights of all attention of a translator, and gradients of log p of the token at a place by them."""
    model, kept = run.model, dict[str, list[Tensor]]()
    parts = {
        "source": [block.attention for block in model.encoder.blocks],
        "target": [block.attention for block in model.blocks],
        "cross": [block.cross for block in model.blocks],
    }
    handles = [
        layer.weights.register_forward_hook(lambda _m, _i, out, part=part: kept.setdefault(part, []).append(out))
        for part, layers in parts.items()
        for layer in layers
    ]
    log_p = log_p_of("translate transformer", run)
    for handle in handles:
        handle.remove()
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for part, weights in kept.items():
        gradients = torch.autograd.grad(log_p, weights, retain_graph=True)
        found[part] = [(w[0].detach(), g[0]) for w, g in zip(weights, gradients, strict=True)]
    return found


def test_relevance_of_the_source_is_that_of_the_published_rules() -> None:
    run, found = explained("translate transformer", "cross_attention")
    at = CASES["translate transformer"]["at"]
    seen = weights_and_gradients(run, at)
    averaged = {part: [(w * g).clamp(min=0).mean(0) for w, g in layers] for part, layers in seen.items()}

    def handle_residual(R: Tensor) -> Tensor:  # equations 8 and 9 of Chefer et al. 2021
        extra = R - torch.eye(len(R)).double()
        return torch.nan_to_num(extra / extra.sum(-1, keepdim=True)) + torch.eye(len(R)).double()

    R_ss = torch.eye(7).double()
    for A in averaged["source"]:
        R_ss = R_ss + A @ R_ss
    R_tt, R_ts = torch.eye(at + 1).double(), torch.zeros(at + 1, 7).double()
    for A, A_cross in zip(averaged["target"], averaged["cross"], strict=True):
        R_tt, R_ts = R_tt + A @ R_tt, R_ts + A @ R_ts
        R_ts = R_ts + handle_residual(R_tt).T @ (A_cross @ handle_residual(R_ss))
    np.testing.assert_allclose(found["relevance"], R_ts[at], atol=1e-12)
    assert max(found["relevance"]) > 0
    assert task_run("translate", "lstm").explain(SOURCE)["trace"]["cross_attention"]["relevance"] is None


@pytest.mark.parametrize("token", [None, 5])
def test_attention_within_the_source_is_that_of_the_formula(token: int | None) -> None:
    given = {} if token is None else {"source": token}
    run, found = explained("translate transformer", "source_attention", **given)
    model, c, inputs = run.model, run.model.config, dict[int, Tensor]()
    handles = [
        block.attention.queries.register_forward_hook(lambda _m, i, _o, k=k: inputs.update({k: i[0][0]}))
        for k, block in enumerate(model.encoder.blocks)
    ]
    seen = weights_and_gradients(run, CASES["translate transformer"]["at"])
    for handle in handles:
        handle.remove()
    expected = int(seen["cross"][-1][0][:, -1].mean(0).argmax()) if token is None else token
    assert found["token"] == expected and len(found["layers"]) == 2
    product = eye = torch.eye(7).double()
    for k, block in enumerate(model.encoder.blocks):
        own, all_weights = block.attention, []
        for h, head in enumerate(found["layers"][k]["heads"]):
            q, key, v = (
                w(inputs[k]).unflatten(-1, (c.heads, -1))[:, h].detach() for w in (own.queries, own.keys, own.values)
            )
            weights = (placed(c, q) @ placed(c, key).T / q.shape[-1] ** 0.5).softmax(-1)
            np.testing.assert_allclose(head["weights"], weights[expected], atol=1e-10)
            out = own.out.weight[:, h * q.shape[1] : (h + 1) * q.shape[1]].detach()
            np.testing.assert_allclose(head["norms"], weights[expected] * (v @ out.T).norm(dim=1), atol=1e-10)
            all_weights.append(weights)
        product = (torch.stack(all_weights).mean(0) + eye) / 2 @ product
    np.testing.assert_allclose(found["rollout"], product[expected], atol=1e-10)


def test_a_token_that_the_source_does_not_have_is_refused() -> None:
    run = task_run("translate", "transformer")
    with pytest.raises(UserError, match="--source 7: the source has 7 tokens, which are numbered from 0"):
        run.explain(SOURCE, source=7)
    with pytest.raises(UserError, match="--source 1: no view of this gru uses it"):
        task_run("translate", "gru").explain(SOURCE, source=1)
