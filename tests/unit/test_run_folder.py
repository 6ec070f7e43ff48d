"""The run folder as a person meets it: what is in it, what is refused, what resuming finds; and the rename tables."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from chainrule.core.errors import CheckpointCorrupt, UserError
from chainrule.interop.huggingface import Rename
from chainrule.runs import RunFolder, store


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder.create(tmp_path / "runs/gru")
    run.write_description(
        {"model": "gru", "text": "한글"},
        {"model_type": "gru", "width": 13},
        {"processor.json": {"name": "char", "symbols": ["가", "\n"]}, "data.json": {"sha256": "ab"}},
        {"threads": 2},
    )
    return run


def weights(value: float) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((3, 5), value)}


def steps(run: RunFolder) -> list[str]:
    return sorted(path.name for path in (run.path / "checkpoints").iterdir())


def flip_a_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


# --- content ---------------------------------------------------------------------------------------------------------


def test_a_run_holds_exactly_the_documented_files(run: RunFolder) -> None:
    run.write_model(weights(2))
    run.log({"step": 1})
    run.save_checkpoint(300, {"model": weights(2), "optimizer": {"moment": torch.ones(7)}}, {"seconds": 1.5})
    assert {str(p.relative_to(run.path)) for p in run.path.rglob("*") if p.is_file()} == {
        "MANIFEST.json",
        "config.json",
        "config.yaml",
        "data.json",
        "environment.json",
        "metrics.jsonl",
        "model.safetensors",
        "processor.json",
        "checkpoints/step-000300/MANIFEST.json",
        "checkpoints/step-000300/model.safetensors",
        "checkpoints/step-000300/optimizer.safetensors",
        "checkpoints/step-000300/trainer.json",
    }
    assert json.loads((run.path / "config.json").read_text()) == {"model_type": "gru", "format": 2, "width": 13}
    assert yaml.safe_load((run.path / "config.yaml").read_text()) == {"model": "gru", "text": "한글"}


def test_what_was_written_is_read(run: RunFolder) -> None:
    run.write_model(weights(2))
    config, tensors, files = RunFolder(run.path).load_model()
    assert config == {"model_type": "gru", "format": 2, "width": 13}
    assert files["processor.json"] == {"name": "char", "symbols": ["가", "\n"]} and files["data.json"] == {
        "sha256": "ab"
    }
    assert torch.equal(tensors["weight"], torch.full((3, 5), 2.0))
    assert run.read_settings() == {"model": "gru", "text": "한글"}
    assert run.read_json("data.json") == {"sha256": "ab"}
    assert run.read_json("environment.json") == {"threads": 2}


def test_a_second_description_replaces_the_first_and_keeps_the_model(run: RunFolder) -> None:
    run.write_model(weights(2))
    run.write_description({}, {"model_type": "gru"}, {"data.json": {"sha256": "cd"}}, {"threads": 1})
    assert run.read_json("environment.json") == {"threads": 1}
    assert run.load_model()[1]["weight"][0, 0] == 2


def test_a_model_replaced_while_it_is_being_read_is_read_again(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader has the old manifest in hand when training writes new weights: that is no damage."""
    run.write_model(weights(2))
    verify, replaced = store.read_verified, []

    def overtaken(path: Path, accepted: list[store.Entry]) -> bytes:
        if not replaced:
            replaced.append(path)
            run.write_model(weights(3))
        return verify(path, accepted)

    monkeypatch.setattr(store, "read_verified", overtaken)
    assert RunFolder(run.path).load_model()[1]["weight"][0, 0] == 3
    assert replaced


# --- what is refused -------------------------------------------------------------------------------------------------


def test_an_occupied_folder_is_refused_with_the_two_ways_out(run: RunFolder) -> None:
    with pytest.raises(UserError, match=r"--resume auto continues it, --overwrite replaces it") as caught:
        RunFolder.create(run.path)
    assert "\n" not in str(caught.value)
    assert str(run.path) in str(caught.value)


def test_overwriting_removes_the_old_run_and_leaves_the_users_own_files(run: RunFolder) -> None:
    run.write_model(weights(2))
    run.log({"step": 1})
    run.save_checkpoint(300, {"model": weights(2)}, {})
    (run.path / "notes.txt").write_text("mine")
    RunFolder.create(run.path, overwrite=True)
    assert {p.name for p in run.path.iterdir()} == {"MANIFEST.json", "checkpoints", "notes.txt"}
    assert steps(run) == []


def test_resuming_keeps_the_run_and_removes_what_a_killed_writer_left(run: RunFolder) -> None:
    run.write_model(weights(2))
    (run.path / "model.safetensors.tmp-4242").write_bytes(b"half")
    (run.path / "checkpoints/step-000300.tmp-4242").mkdir()
    (run.path / "checkpoints/step-000300.tmp-4242/model.safetensors").write_bytes(b"half")
    again = RunFolder.create(run.path, resume=True)
    assert list(run.path.rglob("*.tmp-*")) == []
    assert again.load_model()[1]["weight"][0, 0] == 2


def test_resuming_where_nothing_is_begins(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "new/run", resume=True)
    assert run.exists()
    assert not run.has("model.safetensors")
    assert run.newest_checkpoint().checkpoint is None


@pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"resume": True}], ids=["plain", "overwrite", "resume"])
@pytest.mark.parametrize("name", ["thesis.txt", "config.json", "MANIFEST.json", "thesis.tmp-17"])
def test_a_folder_that_is_no_run_is_never_touched(tmp_path: Path, options: dict[str, bool], name: str) -> None:
    """Nor is a pretrained folder of another library, whose config.json has a model_type as well."""
    (tmp_path / name).write_text('{"model_type": "gpt2"}')
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    with pytest.raises(UserError, match="never overwritten"):
        RunFolder.create(tmp_path, **options)
    assert (tmp_path / name).read_text() == '{"model_type": "gpt2"}'
    assert {p.name for p in tmp_path.iterdir()} == {name, "model.safetensors"}


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("text")
    with pytest.raises(UserError, match="a file where a run folder"):
        RunFolder.create(tmp_path / "run", overwrite=True)
    assert (tmp_path / "run").read_text() == "text"


def test_resume_and_overwrite_exclude_each_other(run: RunFolder) -> None:
    with pytest.raises(UserError, match="exclude each other"):
        RunFolder.create(run.path, overwrite=True, resume=True)


def test_loading_where_no_run_is_says_what_was_expected(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"expected one that 'chainrule train … --out .*' made"):
            RunFolder(path).load_model()


def test_loading_before_there_is_a_model_says_so(run: RunFolder) -> None:
    with pytest.raises(UserError, match=r"no model\.safetensors yet.*--resume auto") as caught:
        run.load_model()
    assert not isinstance(caught.value, CheckpointCorrupt)


def test_one_flipped_bit_is_reported_with_the_name_of_the_file(run: RunFolder) -> None:
    run.write_model(weights(2))
    flip_a_bit(run.path / "model.safetensors")
    with pytest.raises(CheckpointCorrupt, match=r"model\.safetensors: content changed since it was written") as caught:
        run.load_model()
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(("format", "told"), [(1, "train the run again"), (3, "use the version that wrote it")])
def test_a_run_of_another_format_is_refused(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, format: int, told: str
) -> None:
    run.write_model(weights(2))
    monkeypatch.setattr("chainrule.runs.store.FORMAT", format)
    other = RunFolder.create(run.path.with_name("other"))
    other.write_description({}, {"model_type": "gru"}, {"processor.json": {}}, {})
    other.write_model(weights(2))
    monkeypatch.undo()
    with pytest.raises(UserError, match=f"format {format}, this version reads 2; {told}") as caught:
        other.load_model()
    assert not isinstance(caught.value, CheckpointCorrupt)


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_events_are_one_json_line_each_and_numbers_that_json_lacks_are_null(run: RunFolder) -> None:
    run.log({"step": 1, "loss": 2.5, "text": "한\n글"})
    run.log({"step": 2, "loss": float("inf"), "parts": (float("nan"), {"a": float("-inf")})})
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines] == run.events()
    assert run.events() == [
        {"step": 1, "loss": 2.5, "text": "한\n글"},
        {"step": 2, "loss": None, "parts": [None, {"a": None}]},
    ]


def test_a_torn_last_line_never_happened(run: RunFolder) -> None:
    assert run.events() == []
    run.log({"step": 1})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')
    assert run.events() == [{"step": 1}]
    run.log({"step": 3})
    assert run.events() == [{"step": 1}, {"step": 3}]


def test_a_damaged_line_is_reported_with_its_number(run: RunFolder) -> None:
    run.log({"step": 1})
    (run.path / "metrics.jsonl").write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(CheckpointCorrupt, match=r"metrics\.jsonl:2: not valid JSON"):
        run.events()


def test_truncating_the_log_drops_the_events_after_the_step(run: RunFolder) -> None:
    for event in ({"data": "card"}, {"step": 5}, {"step": 7}, {"step": 11}):
        run.log(event)
    run.truncate_log(7)
    run.log({"step": 8})
    assert run.events() == [{"data": "card"}, {"step": 5}, {"step": 7}, {"step": 8}]


# --- checkpoints -----------------------------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_as_it_was(run: RunFolder) -> None:
    groups = {
        "model": weights(2),
        "optimizer": {"step": torch.tensor(3.0), "moment": torch.ones(7)},
        "carried": {},
        "rng": {"torch": torch.get_rng_state()},
    }
    run.save_checkpoint(17, groups, {"best": float("inf"), "position": [3, 5], "seconds": 0.1})
    newest = RunFolder(run.path).newest_checkpoint()
    assert newest.reports == []
    assert newest.checkpoint is not None
    assert newest.checkpoint.step == 17
    assert newest.checkpoint.meta == {"best": float("inf"), "position": [3, 5], "seconds": 0.1}
    assert newest.checkpoint.groups.keys() == groups.keys()
    for group, tensors in groups.items():
        assert newest.checkpoint.groups[group].keys() == tensors.keys()
        assert all(torch.equal(newest.checkpoint.groups[group][name], tensors[name]) for name in tensors)


def test_the_newest_two_valid_ones_are_kept(run: RunFolder) -> None:
    for step in (100, 200, 1_000_000):
        run.save_checkpoint(step, {"model": weights(step)}, {})
    assert steps(run) == ["step-000200", "step-1000000"]
    flip_a_bit(run.path / "checkpoints/step-000200/model.safetensors")
    again = RunFolder.create(run.path, resume=True)
    assert again.save_checkpoint(1_000_001, {"model": weights(1)}, {}).name == "step-1000001"
    assert steps(run) == ["step-1000000", "step-1000001"]


def test_a_damaged_checkpoint_does_not_count_among_those_kept(run: RunFolder) -> None:
    for step in (100, 200):
        run.save_checkpoint(step, {"model": weights(step)}, {})
    flip_a_bit(run.path / "checkpoints/step-000200/model.safetensors")
    RunFolder(run.path).save_checkpoint(300, {"model": weights(300)}, {})
    assert steps(run) == ["step-000100", "step-000300"]


def test_a_damaged_newest_checkpoint_is_reported_and_the_one_before_it_is_used(run: RunFolder) -> None:
    for step in (100, 200):
        run.save_checkpoint(step, {"model": weights(step)}, {})
    flip_a_bit(run.path / "checkpoints/step-000200/model.safetensors")
    newest = RunFolder(run.path).newest_checkpoint()
    assert newest.checkpoint is not None
    assert newest.checkpoint.step == 100
    assert newest.checkpoint.groups["model"]["weight"][0, 0] == 100
    assert len(newest.reports) == 1
    assert "step-000200/model.safetensors: content changed" in newest.reports[0]


def test_where_every_checkpoint_is_damaged_there_is_none_and_each_is_reported(run: RunFolder) -> None:
    for step in (100, 200):
        run.save_checkpoint(step, {"model": weights(step)}, {})
        (run.path / f"checkpoints/step-000{step}/MANIFEST.json").unlink()
    newest = run.newest_checkpoint()
    assert newest.checkpoint is None
    assert ["step-000200/MANIFEST.json: missing" in newest.reports[0], len(newest.reports)] == [True, 2]


def test_the_step_of_a_damaged_checkpoint_can_be_reached_and_saved_again(run: RunFolder) -> None:
    for step in (100, 200):
        run.save_checkpoint(step, {"model": weights(step)}, {})
    flip_a_bit(run.path / "checkpoints/step-000200/model.safetensors")
    again = RunFolder(run.path)
    again.newest_checkpoint()
    again.save_checkpoint(200, {"model": weights(201)}, {})
    newest = RunFolder(run.path).newest_checkpoint()
    assert newest.reports == []
    assert newest.checkpoint is not None
    assert (newest.checkpoint.step, newest.checkpoint.groups["model"]["weight"][0, 0]) == (200, 201)
    assert len(steps(run)) == 2


def test_the_second_save_of_a_step_wins(run: RunFolder) -> None:
    for meta in ({"finished": False}, {"finished": True}):
        run.save_checkpoint(100, {"model": weights(1)}, meta)
    newest = run.newest_checkpoint()
    assert newest.checkpoint is not None
    assert newest.checkpoint.meta == {"finished": True}


def test_checkpoints_of_a_past_that_is_lived_again_are_removed(run: RunFolder) -> None:
    for step in (100, 200):
        run.save_checkpoint(step, {"model": weights(step)}, {})
    RunFolder(run.path).save_checkpoint(150, {"model": weights(150)}, {})
    assert steps(run) == ["step-000100", "step-000150"]


# --- rename tables ---------------------------------------------------------------------------------------------------

GPT2 = Rename(
    [
        ("embed.weight", "wte.weight"),
        (("blocks.{i}.q", "blocks.{i}.k", "blocks.{i}.v"), "h.{i}.attn.c_attn.weight"),
        ("blocks.{i}.out", "h.{i}.attn.c_proj.weight"),
        ("blocks.{i}.bias", "h.{i}.attn.c_proj.bias"),
    ],
    transpose={"h.{i}.attn.c_attn.weight", "h.{i}.attn.c_proj.weight"},
    ignore={"lm_head.weight", "h.{i}.attn.mask"},
)


def gpt2_state(layers: int) -> dict[str, torch.Tensor]:
    """Names and orientations of GPT-2: a Conv1D keeps its matrix as inputs x outputs."""
    state = {"wte.weight": torch.rand(7, 2)}
    for i in range(layers):
        state |= {
            f"h.{i}.attn.c_attn.weight": torch.tensor([[1.0, 2, 3, 4, 5, 6], [7.0, 8, 9, 10, 11, 12]]) + i,
            f"h.{i}.attn.c_proj.weight": torch.tensor([[1.0, 2], [3, 4]]) + i,
            f"h.{i}.attn.c_proj.bias": torch.rand(2),
        }
    return state


def test_stacked_and_transposed_matrices_are_taken_apart() -> None:
    ours = GPT2.to_ours({**gpt2_state(11), "lm_head.weight": torch.ones(3), "h.3.attn.mask": torch.ones(3)})
    assert len(ours) == 1 + 11 * 5
    assert ours["blocks.0.q"].tolist() == [[1, 7], [2, 8]]
    assert ours["blocks.0.k"].tolist() == [[3, 9], [4, 10]]
    assert ours["blocks.10.v"].tolist() == [[15, 21], [16, 22]]
    assert ours["blocks.0.out"].tolist() == [[1, 3], [2, 4]]


def test_there_and_back_gives_the_same_names_and_values() -> None:
    state = gpt2_state(3)
    back = GPT2.to_foreign(GPT2.to_ours(state))
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def test_the_gates_of_torch_nn_lstm_are_renamed_layer_by_layer() -> None:
    gates = ("input", "forget", "cell", "output")
    table = Rename(
        [
            (tuple(f"layers.{{i}}.{gate}.{ours}" for gate in gates), f"{theirs}_l{{i}}")
            for ours, theirs in {"in": "weight_ih", "rec": "weight_hh", "bias": "bias_ih", "bias2": "bias_hh"}.items()
        ]
    )
    lstm = torch.nn.LSTM(5, 3, num_layers=2)
    ours = table.to_ours(lstm.state_dict())
    assert len(ours) == 2 * 4 * 4
    assert torch.equal(ours["layers.1.forget.rec"], lstm.weight_hh_l1[3:6])
    back = table.to_foreign(ours)
    lstm.load_state_dict(back)
    assert all(torch.equal(back[name], value) for name, value in lstm.state_dict().items())


def test_several_to_several_are_cut_anew() -> None:
    table = Rename([(("a", "b", "c"), ("x", "y"))])
    ours = {"a": torch.tensor([1, 2]), "b": torch.tensor([3, 4]), "c": torch.tensor([5, 6])}
    assert {k: v.tolist() for k, v in table.to_foreign(ours).items()} == {"x": [1, 2, 3], "y": [4, 5, 6]}
    assert {k: v.tolist() for k, v in table.to_ours(table.to_foreign(ours)).items()} == {
        "a": [1, 2],
        "b": [3, 4],
        "c": [5, 6],
    }


def test_missing_and_unknown_names_are_listed() -> None:
    state = gpt2_state(3)
    del state["h.1.attn.c_proj.bias"], state["wte.weight"]
    state["h.1.attn.rotary"] = torch.ones(2)
    with pytest.raises(UserError, match=r"missing \['h.1.attn.c_proj.bias', 'wte.weight'\].*\['h.1.attn.rotary'\]"):
        GPT2.to_ours(state)
    with pytest.raises(UserError, match=r"missing \['blocks.\{i\}.bias'"):
        GPT2.to_foreign({"embed.weight": torch.ones(2)})


def test_rows_that_do_not_split_evenly_are_an_error() -> None:
    with pytest.raises(UserError, match="x: 5 rows do not split into 2"):
        Rename([(("a", "b"), "x")]).to_ours({"x": torch.arange(5)})


@pytest.mark.parametrize(
    ("pairs", "transpose"),
    [
        ([("a", "x"), ("a", "y")], ()),
        ([("a", "x"), ("b", "x")], ()),
        ([("a.{i}", "x")], ()),
        ([("a", "x")], {"a"}),
    ],
    ids=["ours twice", "foreign twice", "wildcard on one side", "transposed but absent"],
)
def test_a_table_that_cannot_be_inverted_is_refused(pairs: list[tuple[str, str]], transpose: set[str]) -> None:
    with pytest.raises(ValueError, match=r"twice|wildcards|to transpose"):
        Rename(pairs, transpose)
