"""The Transformer: all tokens at once, and no fixed code for a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from chainrule.claims.antecedent import COMMANDS, Found, antecedents, knows_grammar, sentences
from chainrule.claims.cell_by_hand import Step, checked, in_double
from chainrule.claims.claim import claim
from chainrule.claims.finding import Chart, Finding, Said, Strip, Table, say
from chainrule.claims.held_out import held_out
from chainrule.claims.neighbours import AROUND, CONTEXTS, EMBEDDING, Moves, moves
from chainrule.claims.runs import MissingRun, Runs, reads_text
from chainrule.explanation.attending import attends, attention_layers, observe
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.views import Asked
from chainrule.nn.probes import Recorder
from chainrule.nn.recurrent import Recurrent
from chainrule.runs.run import Run

COMMAND = "chainrule train examples/data/macbeth.txt --model gpt --budget 60s --out runs/gpt"
TOKENS, SHORT = 400, 12
"""Tokens of the passage, and of its beginning that is shown number by number."""
ROUNDING, MOVED = 1e-9, 1e-3
"""Differences in float64 that rounding explains; shares of a code's length that are more than rounding."""
READ = (16, 64)
"""Tokens that are read to count the steps that follow each other."""
NEAR = 8
"""Tokens before a place that are near it."""


@claim(10)
def transformer(runs: Runs) -> Finding:
    """Move a token among neighbours, compute one cell by hand, and score what a reflexive attends to."""
    reading = [*filter(_examined, [*runs.of(), *runs.of(task="fill")])]
    own = [run for run in reading if run.task == "generate"]
    if not own:
        raise MissingRun("gpt", COMMAND)
    run = next((one for one in own if not knows_grammar(one)), own[0])
    texts = {runs.named(one): held_out(one, TOKENS) for one in reading}
    moved = {name: moves(text.run, text) for name, text in texts.items() if _long(text)}
    text = texts[runs.named(run)]
    short = replace(text, ids=text.ids[:SHORT], texts=text.texts[:SHORT])
    cell, steps = checked(in_double(short), _asked(len(short)))
    grammar = next((one for one in own if knows_grammar(one)), None)
    scored = antecedents(grammar, sentences()) if grammar else None
    depth = _depths(runs)
    code, hand = _codes(moved), max(step.apart for step in steps) < ROUNDING
    told = [*code[1], _by_hand(steps, hand), *_deep(depth), _scored(scored, runs, grammar)]
    holds = "no" if not hand else code[0]
    heads = [_strip(short), *_sentence(scored)]
    figures = [_chart(moved), _cell(steps), *heads, _heads(text), _sequential(depth)]
    look = {"run": [runs.named(run)], "view": ["attention_cell"], "text": "".join(short.texts), "at": len(short) - 1}
    command = "" if scored else "\n".join(COMMANDS)
    return Finding(holds, told, figures, {**look, "layer": cell.layer, "head": cell.head}, command)


def _examined(run: Run) -> bool:
    return attends(run) and reads_text(run) and hasattr(run.model, EMBEDDING)


def _long(text: ModelInput) -> bool:
    return len(text) >= CONTEXTS + AROUND


def _asked(tokens: int) -> Asked:
    return Asked(at=tokens - 1, top_k=1, layer=None, head=None, begin=0, end=tokens)


# ---------------------------------------------------------------------------------------------------- codes that move


def _codes(moved: dict[str, Moves]) -> tuple[Any, list[Said]]:
    """The outcome for codes that move while the table does not, and the sentences about it."""
    told, right = [], []
    for name, one in moved.items():
        table, *layers = one.same
        right.append(table == 0 and min(layers) > MOVED)
        most = max(range(len(layers)), key=layers.__getitem__)
        values = {"most": layers[most], "layer": most + 1, "last": layers[-1], "other": one.other[-1]}
        told.append(say("moves" if right[-1] else "still", run=name, token=one.token, table=table, **values))
    return "yes" if right and all(right) else "partly" if any(right) else "no", told


def _chart(moved: dict[str, Moves]) -> Chart:
    deep = max(len(one.same) for one in moved.values()) if moved else 1
    filled = lambda values: [*values, *[None] * (deep - len(values))]  # noqa: E731
    lines = [(say("line_same", run=name, token=one.token), filled(one.same)) for name, one in moved.items()]
    lines += [(say("line_other", run=name), filled(one.other)) for name, one in moved.items()]
    return Chart(say("codes"), range(deep), lines, say("codes_x"), say("codes_y"))


# ------------------------------------------------------------------------------------------------------------ one cell


def _by_hand(steps: Sequence[Step], hand: bool) -> Said:
    named = {step.name: step.value for step in steps}
    values = {"score": named["score"], "scaled": named["scaled"], "weight": named["weight"]}
    return say("by_hand" if hand else "not_by_hand", apart=max(step.apart for step in steps), **values)


def _cell(steps: Sequence[Step]) -> Table:
    rows = [[say(f"step_{step.name}"), step.value, step.apart] for step in steps]
    return Table(say("cell"), [say("step"), say("value"), say("apart")], rows)


# ----------------------------------------------------------------------------------------------------------- the heads


def _weights(given: ModelInput) -> list[Tensor]:
    """Attention weights of each layer while a passage is read, H x T x T."""
    layers = attention_layers(given.run.model)
    found = observe(given.input_row(len(given) - 1), layers, ("weights",))
    return [found.square(found.recorded(layer, "weights")).double().cpu() for layer in layers]


def _strip(given: ModelInput) -> Strip:
    rows = [
        (say("head", layer=k, head=h), weights_TT[-1, 1:].tolist())
        for k, weights_HTT in enumerate(_weights(given))
        for h, weights_TT in enumerate(weights_HTT)
    ]
    return Strip(say("strip"), given.texts[:-1], rows)


def _heads(text: ModelInput) -> Table:
    """The mean weights of each head by distance, on average over the places of a passage."""
    size = min(64, text.run.model.window or 64, len(text))
    rows = []
    for k, weights_HTT in enumerate(_weights(replace(text, ids=text.ids[:size], texts=text.texts[:size]))):
        for h, weights_TT in enumerate(weights_HTT):
            rows.append([say("head", layer=k, head=h), *_shares(weights_TT)])
    columns = ["", say("own"), say("previous"), say("near", near=NEAR), say("further"), say("start")]
    return Table(say("heads", tokens=size), columns, rows)


def _shares(weights_TT: Tensor) -> list[float]:
    """Mean weight of the place itself, of the one before, of those near it, of those further back, and of the start."""
    place = torch.arange(len(weights_TT))
    back_TT = place[:, None] - place
    kept = place[2:]  # places that have two tokens before them
    starting_TT = (place == 0).expand_as(back_TT)
    kinds = (back_TT == 0, back_TT == 1, (back_TT > 1) & (back_TT <= NEAR), back_TT > NEAR)
    sums = [(weights_TT * (kind & ~starting_TT))[kept].sum(-1).mean() for kind in kinds]
    return [*map(float, sums), float(weights_TT[kept, 0].mean())]


# ----------------------------------------------------------------------------------------------- the grammar, the depth


def _scored(scored: Found | None, runs: Runs, grammar: Run | None) -> Said:
    if scored is None or grammar is None:
        return say("no_grammar")
    told = "attends" if scored.share > max(scored.nearest, scored.chance) else "attends_not"
    shares = {name: round(100 * getattr(scored, name)) for name in ("share", "chance", "nearest", "right")}
    place = {"layer": scored.layer, "head": scored.head, "sentences": scored.sentences}
    return say(told, run=runs.named(grammar), **place, **shares)


def _sentence(scored: Found | None) -> list[Strip]:
    if scored is None:
        return []
    words = [word if k == 0 else f" {word}" for k, word in enumerate(scored.example.words)]
    row = (say("head", layer=scored.layer, head=scored.head), scored.weights)
    antecedent = scored.example.words[scored.example.antecedent]
    return [Strip(say("sentence", reflexive=scored.example.reflexive, antecedent=antecedent), words, [row])]


def _depths(runs: Runs) -> dict[str, list[int]]:
    """The passes through the busiest layer of each run, one after the other, while some tokens are read."""
    found = {}
    for run in runs.of():
        stacks = {name: m for name, m in run.model.named_modules() if isinstance(m, Recurrent)}
        layers = {f"{name}.hidden".lstrip("."): stack.num_layers for name, stack in stacks.items()}
        layers |= {f"{layer.name}.weights": 1 for layer in attention_layers(run.model)} if attends(run) else {}
        if layers:
            found[runs.named(run)] = [_passes(run, layers, tokens) for tokens in READ]
    return found


@torch.no_grad()
def _passes(run: Run, layers: Mapping[str, int], tokens: int) -> int:
    """Passes through the busiest layer.

    Args:
        run: the run.
        layers: probes, each with the number of layers that share it.
        tokens: tokens that are read.
    """
    inputs_1T = torch.zeros(1, tokens, dtype=torch.long, device=run.compute.device)
    with Recorder(run.model.eval(), *layers) as seen, run.compute.autocast():
        run.model(inputs_1T)
    return max(len(seen[probe]) // shared for probe, shared in layers.items())


def _deep(depth: dict[str, list[int]]) -> list[Said]:
    last = READ[-1]
    flat = [name for name, (few, many) in depth.items() if few == many]
    steep = [name for name, (few, many) in depth.items() if many > few]
    told = [say("depth_flat", runs=", ".join(flat), many=last, passes=depth[flat[0]][1])] if flat else []
    steps = {"many": last, "passes": depth[steep[0]][1]} if steep else {}
    return told + ([say("depth_steep", runs=", ".join(steep), **steps)] if steep else [])


def _sequential(depth: dict[str, list[int]]) -> Table:
    columns = [say("run"), *(say("reading", tokens=tokens) for tokens in READ)]
    return Table(say("depth"), columns, [[name, *map(float, counts)] for name, counts in depth.items()])
