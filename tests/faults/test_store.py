"""The run folder under kill -9, failing disks and damaged bytes; and each check shown to catch what it is there for."""

from __future__ import annotations

import ast
import errno
import itertools
import json
import os
import random
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

import chainrule
from chainrule.core.errors import CheckpointCorrupt, MachineError, UserError
from chainrule.core.files import is_temporary
from chainrule.runs import RunFolder, save_folder, store, tensor_bytes, verify_folder, write_file
from tests.faults import harness

KINDS = ("bit", "byte", "zeroes", "truncation")


def constant(value: int, size: int = 11) -> dict[str, torch.Tensor]:
    return {"weight": torch.full((size,), float(value)), "step": torch.tensor(value)}


def value_of(tensors: dict[str, torch.Tensor]) -> int:
    """The number that ``constant`` wrote, if every element of every tensor is still that number."""
    values = {float(x) for tensor in tensors.values() for x in tensor.flatten().unique()}
    assert len(values) == 1, values
    return int(values.pop())


def describe(run: RunFolder) -> None:
    run.write_description(
        {"seed": 2},
        {"model_type": "gru"},
        {"data.json": {"sha256": "x"}, "processor.json": {"name": "byte"}},
        {"cpu": "any"},
    )


def small_run(folder: Path, seed: int = 2) -> RunFolder:
    """A run with random weights (so that blocks differ) and two checkpoints."""
    rng = torch.Generator().manual_seed(seed)
    run = RunFolder.create(folder)
    describe(run)
    run.write_model({"weight": torch.randn(71, 13, generator=rng)})
    for step in (5, 7):
        groups = {name: {"w": torch.randn(31, 7, generator=rng)} for name in ("model", "optimizer")}
        run.save_checkpoint(step, groups, {"rate": 0.5})
    return run


def temporaries(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if is_temporary(path)]


# --- kill -9 ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("disk_that_waits")
def test_kill_9_at_random_instants_never_loses_what_was_promised(tmp_path: Path) -> None:
    model, checkpoint, resumed = harness.SharedNumber(), harness.SharedNumber(), harness.SharedNumber()

    def train(folder: Path) -> None:
        run = RunFolder.create(folder, resume=True)
        assert not temporaries(folder)
        describe(run)
        newest = run.newest_checkpoint().checkpoint
        resumed.value += newest is not None
        for step in itertools.count(newest.step + 1 if newest else 1):
            time.sleep(0.002)
            run.write_model(constant(step, 10_007))
            model.value = step
            run.log({"step": step})
            run.save_checkpoint(step, {"model": constant(step, 10_007)}, {"step": step})
            checkpoint.value = step

    def check(folder: Path) -> None:
        if not model.value:
            return
        run = RunFolder(folder)
        assert value_of(run.load_model()[1]) in (model.value, model.value + 1)
        newest = run.newest_checkpoint()
        assert not newest.reports
        if checkpoint.value:
            assert newest.checkpoint is not None
            assert value_of(newest.checkpoint.groups["model"]) == newest.checkpoint.meta["step"]
            assert newest.checkpoint.step in (checkpoint.value, checkpoint.value + 1)
            model.value = checkpoint.value = newest.checkpoint.step  # a model saved just before the kill may be newer
            RunFolder(folder).write_model(constant(model.value))

    tally = harness.kill_at_random(train, check, tmp_path / "run", longest=0.4)
    assert tally.unreadable == []
    assert tally.kills >= 20
    assert tally.mid_write >= 5
    assert resumed.value >= 5


@pytest.mark.usefixtures("disk_that_waits")
def test_the_harness_catches_a_writer_that_overwrites_in_place(tmp_path: Path) -> None:
    def train(folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        for step in itertools.count():
            time.sleep(0.002)
            with open(folder / "model.safetensors", "wb") as file:
                file.write(tensor_bytes(constant(step, 1_000_003)))

    def check(folder: Path) -> None:
        if (folder / "model.safetensors").exists():
            store.parse_tensors((folder / "model.safetensors").read_bytes(), folder / "model.safetensors")

    assert len(harness.kill_at_random(train, check, tmp_path / "run", mid_writes=0).unreadable) >= 1


def new_model(folder: Path) -> None:
    RunFolder(folder).write_model(constant(7))


def new_model_without_journal(folder: Path) -> None:
    data = tensor_bytes(constant(7))
    files = {**store.read_manifest(folder).files, "model.safetensors": store.Entry.of(data)}
    write_file(folder / "model.safetensors", data)
    write_file(folder / store.MANIFEST, store.Manifest(files).to_bytes())


def old_model(folder: Path) -> None:
    run = RunFolder.create(folder)
    describe(run)
    run.write_model(constant(5))


def model_is_old_or_new(folder: Path) -> None:
    assert value_of(RunFolder(folder).load_model()[1]) in (5, 7)
    RunFolder.create(folder, resume=True).write_model(constant(11))
    assert value_of(RunFolder(folder).load_model()[1]) == 11
    assert not temporaries(folder)


def test_killed_before_any_call_while_the_model_is_replaced_the_run_loads_and_goes_on(tmp_path: Path) -> None:
    tally = harness.kill_at_every_call(new_model, model_is_old_or_new, old_model, tmp_path / "run")
    assert tally.unreadable == []
    assert tally.kills >= 3 * 6  # three files, each: open, write, fsync, replace, open folder, fsync folder


def test_killed_twice_while_the_model_is_replaced_the_run_loads(tmp_path: Path) -> None:
    """A second death must not make the manifest forget which of two weights is there."""

    def check(folder: Path) -> None:
        assert value_of(RunFolder(folder).load_model()[1]) in (5, 13, 7)

    for n in (3, 9, 15):  # while the manifest, the model, the manifest again are being written

        def dying(folder: Path, n: int = n) -> None:
            with harness.at_call(n, harness.die):
                RunFolder(folder).write_model(constant(13))

        def once_killed(folder: Path, dying: harness.Work = dying) -> None:
            old_model(folder)
            assert harness.in_child(dying, folder) != 0

        tally = harness.kill_at_every_call(new_model, check, once_killed, tmp_path / "run")
        assert tally.unreadable == []
        assert tally.kills >= 3 * 6


def test_the_harness_catches_weights_replaced_without_a_journal(tmp_path: Path) -> None:
    tally = harness.kill_at_every_call(new_model_without_journal, model_is_old_or_new, old_model, tmp_path / "run")
    assert len(tally.unreadable) >= 1
    assert "content changed" in tally.unreadable[0]


def checkpoint_is_old_or_new(folder: Path) -> None:
    newest = RunFolder(folder).newest_checkpoint()
    assert newest.checkpoint is not None
    assert newest.checkpoint.step in (7, 11)
    assert newest.reports == []
    RunFolder.create(folder, resume=True)
    assert not temporaries(folder)


def test_killed_before_any_call_while_a_checkpoint_is_saved_and_an_old_one_goes_the_newest_loads(
    tmp_path: Path,
) -> None:
    def save_next(folder: Path) -> None:
        RunFolder(folder).save_checkpoint(11, {"model": constant(11)}, {})

    tally = harness.kill_at_every_call(save_next, checkpoint_is_old_or_new, small_run, tmp_path / "run")
    assert tally.unreadable == []
    assert tally.kills >= 12


def test_the_harness_catches_a_save_that_deletes_the_old_one_first(tmp_path: Path) -> None:
    def save_next(folder: Path) -> None:
        shutil.rmtree(folder / "checkpoints")
        os.mkdir(folder / "checkpoints")
        RunFolder(folder).save_checkpoint(11, {"model": constant(11)}, {})

    assert harness.kill_at_every_call(save_next, checkpoint_is_old_or_new, small_run, tmp_path / "run").unreadable


def test_killed_before_any_call_while_a_run_begins_or_is_overwritten_it_can_be_begun_again(tmp_path: Path) -> None:
    def begin(folder: Path) -> None:
        describe(RunFolder.create(folder, overwrite=True))

    def begin_again(folder: Path) -> None:
        describe(RunFolder.create(folder, resume=True))
        describe(RunFolder.create(folder, overwrite=True))
        assert RunFolder(folder).read_json("config.json")["model_type"] == "gru"
        assert not temporaries(folder)

    for prepare in (lambda _: None, small_run):
        tally = harness.kill_at_every_call(begin, begin_again, prepare, tmp_path / "run")
        assert tally.unreadable == []
        assert tally.kills > 10


# --- the Nth call fails ----------------------------------------------------------------------------------------------


def failure(work: Callable[[RunFolder], object], run: RunFolder) -> MachineError | None:
    try:
        work(run)
    except MachineError as error:
        return error
    return None


OPERATIONS = {
    "description": lambda run: describe(run),
    "model": lambda run: run.write_model(constant(7)),
    "checkpoint": lambda run: run.save_checkpoint(11, {"model": constant(11)}, {}),
    "log": lambda run: run.log({"step": 3}),
    "truncated log": lambda run: run.truncate_log(2),
}


@pytest.mark.parametrize("forever", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(("code", "cause"), [(errno.ENOSPC, "disk full"), (errno.EIO, "input/output error")])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_when_the_nth_call_fails_the_last_state_loads_and_the_error_names_path_and_cause(
    tmp_path: Path, operation: str, code: int, cause: str, forever: bool
) -> None:
    folder = tmp_path / "run"
    small_run(folder).write_model(constant(5))
    RunFolder(folder).log({"step": 1})
    for n in itertools.count(1):
        run = RunFolder.create(folder, resume=True)
        assert not temporaries(folder)
        with harness.at_call(n, harness.fail(code), forever=forever) as calls:
            error = failure(OPERATIONS[operation], run)
        if len(calls) < n:
            assert error is None
            break
        if error:
            assert str(folder) in str(error)
            assert cause in str(error)
            assert "\n" not in str(error)
            assert error.exit_status == 3
        assert value_of(RunFolder(folder).load_model()[1]) in (5, 7)
        newest = RunFolder(folder).newest_checkpoint()
        assert newest.checkpoint is not None
        assert newest.checkpoint.step in (7, 11)
        assert newest.reports == []
        assert {"step": 1} in RunFolder(folder).events()
    assert n > {"log": 2}.get(operation, 5)


def test_a_short_write_at_the_nth_call_is_completed(tmp_path: Path) -> None:
    for n in itertools.count(1):
        with harness.at_call(n, harness.write_half, forever=True) as calls:
            save_folder(tmp_path / f"folder{n}", {"a.bin": b"abcdefg", "b.bin": b"hij"})
        assert store.read_folder(tmp_path / f"folder{n}") == {"a.bin": b"abcdefg", "b.bin": b"hij"}
        if len(calls) < n:
            break
    assert n > 5


def test_a_failed_replacement_leaves_the_old_content_and_no_temporary(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"old")
    for n in range(1, 5):  # open, write, fsync, replace
        with harness.at_call(n, harness.fail(errno.ENOSPC)), pytest.raises(MachineError, match="disk full"):
            write_file(path, b"new")
        assert path.read_bytes() == b"old"
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


# --- damaged bytes ---------------------------------------------------------------------------------------------------


def load_everything(folder: Path) -> None:
    run = RunFolder(folder)
    run.load_model()
    newest = run.newest_checkpoint()
    if newest.reports:
        raise CheckpointCorrupt(newest.reports[0])
    for checkpoint in (folder / "checkpoints").iterdir():
        verify_folder(checkpoint)


def outcome(folder: Path, damaged: Path) -> str:
    """What loading does about a damaged file; a damaged manifest may as well accuse a file beside it."""
    accused = damaged.parent if damaged.name == store.MANIFEST else damaged
    try:
        load_everything(folder)
    except CheckpointCorrupt as error:
        return "reported" if str(accused) in str(error) else f"wrongly reported: {error}"
    except Exception as error:
        return f"another error: {error!r}"
    return "silent"


def test_600_damaged_files_are_all_reported_by_name(tmp_path: Path) -> None:
    folder, rng = tmp_path / "run", random.Random(3)
    small_run(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) == 7 + 2 * 4
    for k in range(600):
        path = files[k % len(files)]
        sound = path.read_bytes()
        path.write_bytes(harness.damage(sound, rng.choice(KINDS), rng))
        assert outcome(folder, path) == "reported", path
        path.write_bytes(sound)
    load_everything(folder)


def test_swapped_missing_and_stale_files_are_reported_by_name(tmp_path: Path) -> None:
    folder, other = tmp_path / "run", tmp_path / "other"
    small_run(folder)
    small_run(other, seed=3)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for name in files:
        sound = (folder / name).read_bytes()
        (folder / name).unlink()
        assert outcome(folder, folder / name) == "reported"
        (folder / name).write_bytes(sound)
        for source in (*(folder / n for n in files), other / name):
            if source.read_bytes() != sound:  # a stale manifest, a shard of another step, the weights of another run
                (folder / name).write_bytes(source.read_bytes())
                assert outcome(folder, folder / name) == "reported", (name, source)
        (folder / name).write_bytes(sound)
    load_everything(folder)


def test_without_the_manifest_most_damage_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the manifest is for: safetensors alone loads other weights without a word."""
    folder, rng = tmp_path / "run", random.Random(3)
    small_run(folder)
    monkeypatch.setattr(store, "read_verified", lambda path, accepted: path.read_bytes())
    monkeypatch.setattr(store, "map_verified", lambda path, accepted: store.map_bytes(path, 1 << 30))
    path = folder / "model.safetensors"
    sound = path.read_bytes()
    outcomes = []
    for _ in range(200):
        path.write_bytes(harness.damage(sound, "bit", rng))
        outcomes.append(outcome(folder, path))
    assert outcomes.count("silent") > 160


def test_a_checkpoint_under_the_name_of_another_step_is_reported(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    checkpoints = tmp_path / "run/checkpoints"
    (checkpoints / "step-000007").rename(checkpoints / "step-000009")
    newest = run.newest_checkpoint()
    assert newest.checkpoint is not None
    assert newest.checkpoint.step == 5
    assert "step-000009: holds step 7 under the name of step 9" in newest.reports[0]


# --- hostile files ---------------------------------------------------------------------------------------------------


def safetensors_file(header: bytes, data: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def tensor(dtype: str, shape: list[int], offsets: list[int]) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def header(**tensors: object) -> bytes:
    return json.dumps(tensors).encode()


BOMBS = {
    "empty": b"",
    "seven bytes": b"1234567",
    "length 2^63": safetensors_file(b"{}", length=1 << 63),
    "length past the end": safetensors_file(b"{}", length=1000),
    "not JSON": safetensors_file(b"{'a"),
    "not UTF-8": safetensors_file(b'{"\xff":1}'),
    "a list": safetensors_file(b"[]"),
    "deep JSON": safetensors_file(b'{"a":' * 100_000),
    "offsets past the end": safetensors_file(header(a=tensor("F32", [2], [0, 8])), b"1234"),
    "terabytes": safetensors_file(header(a=tensor("F32", [1 << 40], [0, 1 << 42])), b"1234"),
    "overflowing shape": safetensors_file(header(a=tensor("F32", [1 << 62, 1 << 62], [0, 8])), b"12345678"),
    "shape that wraps to 8 bytes": safetensors_file(header(a=tensor("F64", [(1 << 64) // 8 + 1], [0, 8])), b"12345678"),
    "negative shape": safetensors_file(header(a=tensor("F32", [-2], [0, 8])), b"12345678"),
    "reversed offsets": safetensors_file(header(a=tensor("F32", [1], [4, 0])), b"1234"),
    "overlap": safetensors_file(header(a=tensor("F32", [1], [0, 4]), b=tensor("F32", [1], [0, 4])), b"1234"),
    "hole": safetensors_file(header(a=tensor("F32", [1], [4, 8])), b"12345678"),
    "unknown type": safetensors_file(header(a=tensor("OBJECT", [1], [0, 4])), b"1234"),
    "a million tensors": safetensors_file(
        b"{" + b",".join(b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}' % n for n in range(1_000_000)) + b"}"
    ),
    "pickle": b"\x80\x04\x95" + b"cos\nsystem\n" * 3,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_hostile_header_is_an_error_at_once_and_takes_no_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(BOMBS[name])
    memory, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(CheckpointCorrupt, match=r"model\.safetensors"):
        store.parse_tensors(path.read_bytes(), path)
    assert time.perf_counter() - start < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < len(BOMBS[name]) / 1024 + 100_000  # KiB


def sealed(files: object) -> bytes:
    """A manifest that an attacker has sealed properly."""
    manifest = store.Manifest({})
    object.__setattr__(manifest, "files", files)
    return manifest.to_bytes()


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"null",
        b"[" * 1_000_000,
        b'{"format": 1}',
        b'{"format": 1, "files": 3, "pending": {}}',
        b'{"format": 1, "files": {"a": {"size": 1}}, "pending": {}, "seal": ""}',
        sealed({"../../secret": store.Entry(6, "0" * 64)}),
        sealed({"/etc/hostname": store.Entry(6, "0" * 64)}),
        sealed({"a": store.Entry(-6, "0" * 64)}),
        sealed({"a": store.Entry(6.5, "0" * 64)}),  # type: ignore[arg-type]
        sealed({"a": store.Entry(1 << 70, "0" * 64)}),
    ],
    ids=["empty", "null", "deep", "bare", "no files", "no hash", "up", "absolute", "negative", "fraction", "huge"],
)
def test_a_hostile_manifest_is_an_error(tmp_path: Path, manifest: bytes) -> None:
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    (folder / store.MANIFEST).write_bytes(manifest)
    with pytest.raises(CheckpointCorrupt, match=r"checkpoints/(MANIFEST\.json|a): "):
        verify_folder(folder)


def test_a_pipe_in_place_of_a_file_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    save_folder(tmp_path / "folder", {"a.bin": b"abc"})
    (tmp_path / "folder/a.bin").unlink()
    os.mkfifo(tmp_path / "folder/a.bin")
    with pytest.raises(CheckpointCorrupt, match="not a regular file"):
        verify_folder(tmp_path / "folder")


def test_a_checkpoint_is_never_written_into_an_existing_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="exists already"):
        save_folder(tmp_path / "folder", {"a.bin": b"abc"})


def test_tensors_come_back_as_they_were() -> None:
    matrix = torch.arange(15.0).view(3, 5)
    tensors = {
        "matrix": matrix,
        "tied": matrix,
        "transposed": matrix.T,
        "strided": torch.arange(11)[::2],
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "empty": torch.zeros(0, 7),
        "bool": torch.tensor([True, False, True]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "bf16": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
        "not finite": torch.tensor([float("nan"), float("inf"), -0.0]),
    }
    back = store.parse_tensors(tensor_bytes(tensors), Path("memory"))
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (back[name].dtype, back[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(back[name].nan_to_num(7), tensor.nan_to_num(7)), name
    back["matrix"][0, 0] = 5.0  # writable, and no longer one memory
    assert back["tied"][0, 0] == 0
    assert tensor_bytes({"a": torch.ones(3)}) == save({"a": torch.ones(3)})


# --- no code on load -------------------------------------------------------------------------------------------------

BANNED_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BANNED_CALLS = {"eval", "exec", "torch.load", "torch.jit.load", "yaml.load", "yaml.full_load", "yaml.unsafe_load"}


def code_loaders(source: str) -> list[str]:
    """What in a source file could execute code that came as data."""
    names: dict[str, str] = {}
    found: list[str] = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
            names |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        else:
            continue
        found += [module for module in modules if module.split(".")[0] in BANNED_MODULES]
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            first, dot, rest = ast.unparse(node).partition(".")
            full = names.get(first, first) + dot + rest
            found += [full] if full in BANNED_CALLS else []
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
            found += [] if ast.unparse(node.value) == str(node.arg == "weights_only") else [node.arg]
    return found


def test_nothing_in_the_package_can_execute_what_it_loads() -> None:
    files = sorted(Path(chainrule.__path__[0]).rglob("*.py"))
    assert len(files) > 20
    assert {str(file): code_loaders(file.read_text()) for file in files if code_loaders(file.read_text())} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads as read",
        "import torch\ntorch.load('x')",
        "import torch as t\nread = t.load",
        "from torch import load",
        "from torch import load\nload('x')",
        "import yaml\nyaml.load(text, Loader=yaml.Loader)",
        "eval('1')",
        "import builtins\nexec(text)",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
    ],
)
def test_the_scan_finds(source: str) -> None:
    found = code_loaders(source)
    assert found or source == "from torch import load"  # imported and never used: nothing runs


@pytest.mark.parametrize(
    "source",
    ["model.eval()", "import yaml\nyaml.safe_load('1')", "import numpy as np\nnp.load('x', allow_pickle=False)"],
)
def test_the_scan_leaves_alone(source: str) -> None:
    assert code_loaders(source) == []
