"""Kills, failing disks and damaged files, made on purpose: what the promise of a safe run folder is tested with.

Children are forked from a process that has imported torch and made an optimizer step already. A child that spends its
life importing is killed before it ever writes, and the test passes without having tested anything; so every campaign
counts the kills that landed in the middle of a write, and the caller asserts on that number.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import torch

from chainrule.core.files import is_temporary

Work = Callable[[Path], None]


class SharedNumber:
    """An integer that a child sets and the parent reads after the child was killed: what was promised as saved."""

    def __init__(self, value: int = 0):
        self._memory = mmap.mmap(-1, 8)
        self.value = value

    @property
    def value(self) -> int:
        return struct.unpack("q", self._memory[:8])[0]

    @value.setter
    def value(self, value: int) -> None:
        self._memory[:8] = struct.pack("q", value)


@cache
def warm() -> None:
    """Import and run, once, what a training step needs: the first optimizer step alone imports for seconds."""
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    weight.square().sum().backward()
    optimizer.step()


def fork(work: Work, folder: Path) -> int:
    """Run ``work(folder)`` in a child on one thread. If it fails: status 1, and the traceback in ``<folder>.error``."""
    warm()
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        torch.set_num_threads(1)  # the parent's pool of threads does not live here
        work(folder)
        status = 0
    except BaseException:
        _error_file(folder).write_text(traceback.format_exc())
    finally:
        os._exit(status)


def _error_file(folder: Path) -> Path:
    return folder.with_name(folder.name + ".error")


def in_child(work: Work, folder: Path) -> int:
    """Run ``work(folder)`` to its end in such a child: the uninterrupted reference. Gives the exit status."""
    _, status = os.waitpid(fork(work, folder), 0)
    return os.waitstatus_to_exitcode(status)


# --- kill -9 at random instants --------------------------------------------------------------------------------------


@dataclass
class Tally:
    kills: int = 0
    mid_write: int = 0
    finished: int = 0
    unreadable: list[str] = field(default_factory=list)


def is_mid_write(folder: Path) -> bool:
    """Whether a write was under way at the kill: its temporary name is still there."""
    return any(is_temporary(path) for path in folder.rglob("*.tmp-*"))


def kill_at_random(
    work: Work,
    check: Work,
    folder: Path,
    *,
    kills: int = 20,
    mid_writes: int = 5,
    longest: float = 0.15,
    seed: int = 5,
    finished: Work = shutil.rmtree,
) -> Tally:
    """Start ``work(folder)``, kill -9 it within ``longest`` seconds, ``check(folder)``; again in the same folder, until
    there were ``kills`` of them and ``mid_writes`` in the middle of a write (how many land there depends on the
    machine; 200 kills without them is an AssertionError: nothing was tested).

    ``work`` must go on from what it finds. ``check`` raises where the folder is not what was promised; it is then
    counted, and the next child begins in an empty one. Where ``work`` came to its end before the kill,
    ``finished(folder)`` is called (to compare with the uninterrupted run, and to remove the folder). A ``work`` that
    fails by itself is an AssertionError with its traceback.
    """
    rng, tally = random.Random(seed), Tally()
    warm()
    while tally.kills < kills or tally.mid_write < mid_writes:
        assert tally.kills < 200, tally
        child = fork(work, folder)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, signal.SIGKILL)  # a child that has ended stays a zombie until it is waited for
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, -signal.SIGKILL), _error_file(folder).read_text()
        if code == 0:
            tally.finished += 1
            finished(folder)
            continue
        tally.kills += 1
        tally.mid_write += is_mid_write(folder)
        try:
            check(folder)
        except Exception as error:
            tally.unreadable.append(f"{type(error).__name__}: {error}")
            shutil.rmtree(folder, ignore_errors=True)
    return tally


# --- the Nth call to the operating system ----------------------------------------------------------------------------

CALLS = ("open", "write", "fsync", "replace", "rename", "mkdir", "unlink")


@contextmanager
def at_call(n: int, act: Callable[..., Any], *, forever: bool = False) -> Iterator[list[str]]:
    """From the ``n``-th call of ``os.open``, ``os.write`` … on (only that one unless ``forever``), call
    ``act(name, real, *arguments)`` in its place. Gives the names of the calls made, so that one sees how far it came.
    """
    real, made = {name: getattr(os, name) for name in CALLS}, list[str]()

    def replacement(name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            made.append(name)
            if len(made) == n or (forever and len(made) > n):
                return act(name, real[name], *arguments)
            return real[name](*arguments, **named)

        return call

    try:
        for name in CALLS:
            setattr(os, name, replacement(name))
        yield made
    finally:
        for name in CALLS:
            setattr(os, name, real[name])


def fail(code: int) -> Callable[..., NoReturn]:
    """The call fails with this error number, as a full (ENOSPC) or dying (EIO) disk makes it."""

    def act(name: str, real: Callable[..., Any], *arguments: Any) -> NoReturn:
        raise OSError(code, os.strerror(code))

    return act


def write_half(name: str, real: Callable[..., Any], *arguments: Any) -> Any:
    """A short write; other calls go through."""
    if name != "write":
        return real(*arguments)
    descriptor, data = arguments
    return real(descriptor, data[: len(data) // 2 or 1])


def die(name: str, real: Callable[..., Any], *arguments: Any) -> NoReturn:
    """The process is gone before the call; a write gets half through."""
    write_half(name, real, *arguments) if name == "write" else None
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def kill_at_every_call(work: Work, check: Work, prepare: Work, folder: Path) -> Tally:
    """Kill ``work(folder)`` before its 1st, 2nd … call to the operating system until it completes: no instant is left
    to chance. ``prepare`` makes the folder afresh each time.
    """
    tally = Tally()
    while not tally.finished:
        shutil.rmtree(folder, ignore_errors=True)
        prepare(folder)

        def dying(folder: Path) -> None:
            with at_call(tally.kills + 1, die):
                work(folder)

        code = in_child(dying, folder)
        assert code in (0, -signal.SIGKILL), _error_file(folder).read_text()
        tally.finished += code == 0
        tally.kills += code != 0
        tally.mid_write += is_mid_write(folder)
        try:
            check(folder)
        except Exception as error:
            tally.unreadable.append(f"call {tally.kills}: {type(error).__name__}: {error}")
    return tally


# --- damaged bytes ---------------------------------------------------------------------------------------------------


def damage(data: bytes, kind: str, rng: random.Random) -> bytes:
    """``data`` with one flipped bit, one other byte, a zeroed block, or its end cut off; never equal to ``data``."""
    changed = data
    while changed == data:
        at = rng.randrange(len(data))
        match kind:
            case "bit":
                new = bytes([data[at] ^ 1 << rng.randrange(8)])
            case "byte":
                new = bytes([rng.randrange(256)])
            case "zeroes":
                new = bytes(min(64, len(data) - at))
            case "truncation":
                return data[:at]
            case _:
                raise ValueError(kind)
        changed = data[:at] + new + data[at + len(new) :]
    return changed
