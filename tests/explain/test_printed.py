"""What the command prints for people: something for every view, with the numbers of the trace."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import chainrule
from chainrule.cli import main
from chainrule.core import UserError
from chainrule.core.progress import listening
from chainrule.explanation.printed import printed, ways
from chainrule.explanation.views import views, views_of
from chainrule.tasks.inference import answering
from tests.explain.labelled_runs import task_run
from tests.explain.runs import SETTINGS, small_run
from tests.explain.traces import AT, sample_trace

LINE = "3 the cat sat on a mat"


def lines_of(name: str) -> str:
    """Return what is printed of one view of the trace that was written by hand."""
    trace = sample_trace()
    kept = ("format", "run", "task", "model", "tokens", "at", name)
    return "\n".join(printed({key: value for key, value in trace.items() if key in kept}))


def test_every_view_can_be_printed_and_begins_with_its_name() -> None:
    assert sorted(ways()) == [*views()], "a view without lines prints nothing for people"
    for name in views():
        assert lines_of(name).startswith("attention of" if name == "cross_attention" else name)


FIGURES: dict[str, Any] = {
    "surprise": lambda v: [f"{v['tokens'][2]['nats']:.3f} nats", f"rank {v['tokens'][2]['rank']}"],
    "gates": lambda v: [f"{v['means'][kind][3]:.3f}" for kind in v["means"]] + ["17, 19, 23, 29, 31"],
    "belief": lambda v: [f"others {v['filtered']['rest'][1]:.3g}", f"{max(v['predicted']['p'][4]):.3g}"]
    + ["state 131 emits", f'"v" {v["emits"][4][4]["p"]:.3g}', "the 114 others are one sum"],
    "backoff": lambda v: ["order 59 ", f"(start)\"{'ab'[:1]}\" {v['tokens'][0]['contexts'][1]['share']:.3g}"]
    + [f"any token {v['tokens'][6]['share']:.3g}"],
    "mixture": lambda v: ["ngram never (-)", f"old {v['nats'][2][1]:.3f} ({v['posterior'][2][1]:.0%})"],
    "units": lambda v: ["between quotes", f"layer 37 memory 41: {v['trackers'][0]['best'][0]['correlation']:+.3f}"],
    "memory": lambda v: [f"k = 8      {v['nats'][3]:.3f}  [{v['interval'][3][0]:.3f}, {v['interval'][3][1]:.3f}]"],
    "stress": lambda v: [f"permute         {v['changes'][2]['amount']:<5g}", f"counts +{v['changes'][4]['bag']:.3f}"],
    "attention": lambda v: [f"{v['nats']:.3f} nats", f"{max(v['layers'][1]['heads'][2]['weights']):.3g}"],
    "cross_attention": lambda v: [f'2 "sein" {v["layers"][1]["heads"][2]["weights"][2]:.3g}']
    + [f"{max(v['relevance']):.3g}"],
    "source_attention": lambda v: ['of 2 "sein"', f"{max(v['layers'][1]['heads'][2]['weights']):.3g}"]
    + [f"{max(v['rollout']):.3g}"],
    "attention_cell": lambda v: ['7 " or" to 4 "né"', f"{v['score']:.4g} x {v['scale']:.4g} = {v['scaled']:.4g}"]
    + [f"weight {v['weight']:.4g}", f"{v['output'][0]:+.4f}"],
    "labels": lambda v: [f'"<cat>" {v["best"][0]["p"]:.3g}', f'"dog" {v["best"][1]["p"]:.3g}'],
    "reach": lambda v: [f"(start) {v['start']:.3g}", f"{max(v['norms']):.3g}"],
    "integrated_gradients": lambda v: [f"all: {v['total']:.4g}", f"{max(v['scores'], key=abs):+.3g}"],
    "occlusion": lambda v: [f"add up to {sum(v['scores']):.4g}", f"{max(v['scores'], key=abs):+.3g}"],
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_the_lines_hold_the_numbers_of_the_trace(name: str) -> None:
    told = lines_of(name)
    for figure in FIGURES[name](sample_trace()[name]):
        assert figure in told, (figure, told)


def test_figures_of_all_views_are_tested() -> None:
    assert sorted(FIGURES) == [*views()]


def test_a_token_that_cannot_be_and_one_that_is_explained_are_marked() -> None:
    trace = sample_trace()
    trace["surprise"]["tokens"][0]["nats"] = None
    _, first, *others, last = printed({key: trace[key] for key in ("tokens", "at", "surprise")})
    assert "never nats" in first and [line.endswith("< --at") for line in [first, *others]].index(True) == AT - 3
    assert last == "  7 of 11 tokens: 1 can never come"


def test_the_cost_of_the_whole_text_is_printed() -> None:
    trace = small_run("gru").explain(LINE, view="surprise")["trace"]
    nats = [one["nats"] for one in trace["surprise"]["tokens"]]
    *_, last = printed(trace)
    assert last == f"  22 tokens: {sum(nats):.3f} nats in all, {sum(nats) / 22:.3f} per token"


@pytest.mark.parametrize("model", SETTINGS)
def test_all_views_of_a_run_are_printed_by_the_command(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run(model)
    names = [one.name for one in views_of(run)]
    words = [word for name in names for word in ("--view", name)]
    capsys.readouterr()
    assert main(["explain", str(run.path), LINE, *words, "--threads", "1"]) == 0
    told = capsys.readouterr().out
    assert all(f"\n{name}" in f"\n{told}" for name in names)


# ------------------------------------------------------------------------------------------------ what first users meet


def test_the_first_token_is_left_aside_unless_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcabcabc\n" * 300)
    chainrule.train(str(tmp_path / "text.txt"), "ngram", str(tmp_path / "run"), threads=1)
    run = chainrule.load(str(tmp_path / "run"), threads=1)
    trace = run.explain("cabc", view="surprise")["trace"]
    nats = [one["nats"] for one in trace["surprise"]["tokens"]]
    assert max(nats) == nats[0] and nats[trace["at"]] == max(nats[1:])
    assert run.explain("c", view="surprise")["trace"]["at"] == 0
    assert run.explain("cabc", at=0, view="surprise")["trace"]["at"] == 0


@pytest.mark.parametrize(
    ("model", "options", "told"),
    [
        ("ngram", {"layer": 0}, "--layer 0: no view of this ngram uses it: leave it out"),
        ("lstm", {"head": 0}, "--head 0: no view of this lstm uses it"),
        ("lstm", {"layer": 0, "view": "surprise"}, "--layer 0: --view gates of this lstm uses it"),
        ("gpt", {"key": 0}, "--key 0: --view attention_cell of this gpt uses it"),
        (
            "gpt",
            {"head": 0, "view": "reach"},
            "--head 0: --view attention or --view attention_cell of this gpt uses it",
        ),
        ("gpt", {"top_k": 3, "view": "attention"}, "--top-k 3: --view surprise of this gpt uses it: give that"),
        ("gpt", {"begin": 3, "at": 5, "view": "reach"}, "--begin 3: --view memory or --view stress or --view surprise"),
        ("hmm", {"end": 9, "at": 5, "view": "occlusion"}, "--end 9: --view belief or --view memory or"),
        ("gru", {"view": "attention"}, "--view attention: this gru has gates, "),
    ],
)
def test_options_that_no_view_uses_are_refused(model: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told):
        small_run(model).explain(LINE, **options)


def test_a_stretch_chooses_the_token_where_none_is_asked_for() -> None:
    nats = [one["nats"] for one in small_run("gpt").explain(LINE, view="surprise")["trace"]["surprise"]["tokens"]]
    trace = small_run("gpt").explain(LINE, view="reach", begin=4, end=9)["trace"]
    assert trace["at"] == max(range(4, 9), key=nats.__getitem__)


def test_the_name_of_a_file_is_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("the cat sat")
    for given in ("notes", "missing.txt"):
        assert main(["explain", str(small_run("ngram").path), given]) == 2
        told = capsys.readouterr().err
        assert f'"$(head -c 500 {given})"' in told and told.count("\n") == 1
    assert small_run("ngram").explain("notes")["trace"]["tokens"][0]["text"] == "n", "strings are texts in Python"


def test_unknown_tokens_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    run = small_run("ngram")
    assert run.explain("the 고")["unknown"] == 3 and "unknown" not in run.explain("the cat")
    assert main(["explain", str(run.path), "the 고", "--view", "surprise", "--threads", "1"]) == 0
    assert "tokens that the run does not know: 3" in capsys.readouterr().err


@pytest.mark.parametrize("task", [None, "translate", "fill"])
def test_a_text_that_is_no_unicode_is_refused_in_one_line(task: str | None) -> None:
    run = task_run(task, "bert" if task == "fill" else "gru") if task else small_run("gru")
    with pytest.raises(UserError, match="the text is not valid Unicode at place 4"):
        run.explain("the \udcff cat")


def test_every_view_tells_its_progress() -> None:
    run, told = small_run("gru"), list[tuple[str | None, float]]()
    with listening(lambda name, share: told.append((name, share))):
        answering("explain")["generate"](run, LINE, view=["surprise", "occlusion", "memory"])
    assert {name for name, _ in told} >= {"surprise", "occlusion", "memory"}
    shares = [share for _, share in told]
    assert shares == sorted(shares) and math.isclose(shares[-1], 1)
    assert len([share for name, share in told if name == "memory"]) > 4, "pieces of a view that takes long"


def test_the_command_shows_progress_on_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chainrule.tasks.progress.Line.update", lambda line, **told: print(line.label, told))
    assert main(["explain", str(small_run("gru").path), LINE, "--view", "memory", "--threads", "1"]) == 0
    assert "explain {'phase': 'memory', 'share': 0.0}" in capsys.readouterr().out
