"""Files that are complete or absent, folders with a manifest of their content. Tensors as safetensors, never pickle.

A file is written under a temporary name, flushed to the disk, then renamed: a reader finds the old content or the new
one at any instant. safetensors keeps no checksum, so a ``MANIFEST.json`` of sizes and SHA-256 stands beside the
files, and nothing is used before its bytes agree with it.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import re
import shutil
import stat
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import safetensors.torch
import torch
from torch import Tensor

from chainrule.core.errors import CheckpointCorrupt, UserError
from chainrule.core.files import machine_errors, sync_folder, temporary_name, write_new

MANIFEST = "MANIFEST.json"
FORMAT = 2

HEADER_LIMIT = 16 << 20
"""Largest safetensors header in bytes: over 100,000 tensors. Parsing costs many times its size in memory."""
JSON_LIMIT = 64 << 20
"""Largest JSON file, in bytes, that no manifest vouches for."""

_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def other_format(path: Path, found: Any) -> UserError:
    """Return the error for a run folder that another version wrote."""
    older = isinstance(found, int) and found < FORMAT
    told = "train the run again" if older else "use the version that wrote it"
    return UserError(f"{path}: format {found!r}, this version reads {FORMAT}; {told}")


def corrupt(path: Path, what: str) -> CheckpointCorrupt:
    """Return the error that names a damaged file and its defect."""
    return CheckpointCorrupt(f"{path}: {what}; restore it from a copy or train again")


# --- writing ---------------------------------------------------------------------------------------------------------


def save_folder(path: Path, files: dict[str, bytes]) -> None:
    """Write a folder with its manifest atomically: it is complete or absent.

    Args:
        path: the folder, which must not exist.
        files: content by name.

    Raises:
        UserError: the folder exists.
    """
    if path.exists():
        raise UserError(f"{path}: exists already; a checkpoint is only ever written to a new folder")
    temporary = temporary_name(path)
    with machine_errors(path):
        try:
            shutil.rmtree(temporary, ignore_errors=True)  # of an earlier save whose disk refused even the removal
            os.mkdir(temporary)
            for name, data in files.items():
                write_new(temporary / name, data)
            manifest = Manifest({name: Entry.of(data) for name, data in files.items()})
            write_new(temporary / MANIFEST, manifest.to_bytes())
            sync_folder(temporary)
            os.rename(temporary, path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        sync_folder(path.parent)


# --- reading ---------------------------------------------------------------------------------------------------------


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a regular file.

    Args:
        path: the file.
        limit: most bytes that it may have.

    Raises:
        CheckpointCorrupt: it is missing, larger, or not a regular file.
    """
    with machine_errors(path, "read"):
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise corrupt(path, "missing") from None
        if not stat.S_ISREG(status.st_mode):
            raise corrupt(path, "not a regular file")
        if status.st_size > limit:
            raise corrupt(path, f"{status.st_size:,} bytes where at most {limit:,} can be")
        return path.read_bytes()


def map_bytes(path: Path, limit: int) -> bytes | mmap.mmap:
    """Map a regular file into memory: pages are read when they are needed, and changes to them stay private.

    Args:
        path: the file.
        limit: most bytes that it may have.

    Raises:
        CheckpointCorrupt: it is missing, larger, or not a regular file.
    """
    with machine_errors(path, "read"):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except (FileNotFoundError, NotADirectoryError):
            raise corrupt(path, "missing") from None
        try:
            status = os.fstat(descriptor)
            if not (stat.S_ISREG(status.st_mode) and 0 < status.st_size <= limit):
                return read_bytes(path, limit)
            return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
        finally:
            os.close(descriptor)


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        data: the JSON.
        path: its origin, for the error message.

    Raises:
        CheckpointCorrupt: not JSON, or not an object.
    """
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise corrupt(path, f"not valid JSON ({type(error).__name__})") from None
    if not isinstance(values, dict):
        raise corrupt(path, f"a JSON {type(values).__name__} where an object was written")
    return values


def json_bytes(values: dict[str, Any]) -> bytes:
    """Return values as indented JSON."""
    return (json.dumps(values, indent=1) + "\n").encode()


@dataclass(frozen=True)
class Entry:
    """Size in bytes and SHA-256 in hexadecimal of a file.

    >>> Entry.of(b"abc").size, Entry.of(b"abc").sha256[:8]
    (3, 'ba7816bf')
    """

    size: int
    sha256: str

    @classmethod
    def of(cls, data: bytes | mmap.mmap) -> Self:
        """Return the entry of a content."""
        return cls(len(data), hashlib.sha256(data).hexdigest())


@dataclass(frozen=True)
class Manifest:
    """Content that a folder must have. While a file is being replaced, ``pending`` holds its new entry.

    The seal is the SHA-256 of the rest, and the text is canonical, so that a changed byte of the manifest is noticed.
    """

    files: dict[str, Entry]
    pending: dict[str, Entry] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the manifest as sealed JSON."""
        body = {"format": FORMAT, **asdict(self)}
        return (json.dumps({**body, "seal": _seal(body)}, indent=1, sort_keys=True) + "\n").encode()

    @classmethod
    def parse(cls, data: bytes, path: Path) -> Self:
        """Parse and check a manifest.

        Args:
            data: its JSON.
            path: its origin, for the error message.

        Raises:
            CheckpointCorrupt: changed since it was written.
            UserError: written by another version.
        """
        values = parse_json(data, path)
        if values.pop("seal", None) != _seal(values):
            raise corrupt(path, "changed since it was written")
        if values.get("format") != FORMAT:
            raise other_format(path, values.get("format"))
        try:
            manifest = cls(*({n: Entry(**e) for n, e in values[part].items()} for part in ("files", "pending")))
            sound = manifest.to_bytes() == data
            names_are_plain = all(_PLAIN_NAME.fullmatch(name) for name in manifest.names())
            sizes = [entry.size for part in (manifest.files, manifest.pending) for entry in part.values()]
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
            raise corrupt(path, f"not a manifest of format {FORMAT}") from None
        if not (sound and names_are_plain and all(type(size) is int and size >= 0 for size in sizes)):
            raise corrupt(path, f"not a manifest as format {FORMAT} writes it")
        return manifest

    def names(self) -> list[str]:
        """Return the names of all files, sorted."""
        return sorted({*self.files, *self.pending})

    def accepted(self, name: str) -> list[Entry]:
        """Return the entries that a file may have."""
        return [part[name] for part in (self.files, self.pending) if name in part]


def _seal(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a folder."""
    path = folder / MANIFEST
    return Manifest.parse(read_bytes(path, JSON_LIMIT), path)


def read_verified(path: Path, accepted: Sequence[Entry]) -> bytes:
    """Read a file and verify it.

    Args:
        path: the file.
        accepted: entries of which it must have one.

    Raises:
        CheckpointCorrupt: it has another size or content.
    """
    data = read_bytes(path, max(entry.size for entry in accepted))
    _verify(path, Entry.of(data), accepted)
    return data


def map_verified(path: Path, accepted: Sequence[Entry]) -> bytes | mmap.mmap:
    """Map a file into memory and verify it; replacing the file by a rename does not change the mapped content.

    Args:
        path: the file.
        accepted: entries of which it must have one.

    Raises:
        CheckpointCorrupt: it has another size or content.
    """
    data = map_bytes(path, max(entry.size for entry in accepted))
    _verify(path, Entry.of(data), accepted)
    return data


def _verify(path: Path, found: Entry, accepted: Sequence[Entry]) -> None:
    if found in accepted:
        return
    if found.size not in {entry.size for entry in accepted}:
        raise corrupt(path, f"{found.size:,} bytes where {accepted[0].size:,} were written")
    wanted = accepted[0].sha256
    raise corrupt(path, f"content changed since it was written (SHA-256 {found.sha256[:12]}…, not {wanted[:12]}…)")


def read_folder(path: Path) -> dict[str, bytes]:
    """Read the files of a folder that ``save_folder`` wrote, verified; files that are not listed are ignored."""
    manifest = read_manifest(path)
    return {name: read_verified(path / name, manifest.accepted(name)) for name in manifest.names()}


def verify_folder(path: Path) -> None:
    """Verify every file of a folder that ``save_folder`` wrote.

    Args:
        path: the folder.

    Raises:
        CheckpointCorrupt: a file is not what was written; the message names the first.
    """
    manifest = read_manifest(path)
    for name in manifest.names():
        read_verified(path / name, manifest.accepted(name))


# --- tensors ---------------------------------------------------------------------------------------------------------


def tensor_bytes(tensors: dict[str, Tensor]) -> bytes:
    """Return tensors as safetensors bytes.

    Args:
        tensors: by name; views and tied weights (one memory, two names) are copied.
    """
    data = safetensors.torch.save({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()})
    if int.from_bytes(data[:8], "little") > HEADER_LIMIT:
        raise ValueError(f"{len(tensors):,} tensors are too many for one file")
    return data


def view_tensors(data: bytes | mmap.mmap, path: Path) -> dict[str, Tensor]:
    """Return the tensors of mapped safetensors bytes without copying them.

    Args:
        data: the bytes; a ``bytes`` object is parsed by ``parse_tensors``.
        path: their origin, for the error message.

    Raises:
        CheckpointCorrupt: not valid safetensors.
    """
    if isinstance(data, bytes):
        return parse_tensors(data, path)
    header = _header_size(data, path)
    described = parse_json(data[8 : 8 + header], path)
    described.pop("__metadata__", None)
    tensors: dict[str, Tensor] = {}
    for name, entry in described.items():
        try:
            dtype, shape = _DTYPES[entry["dtype"]], entry["shape"]
            first, stop = entry["data_offsets"]
            count = math.prod(shape)
            fits = min([first, *shape]) >= 0 and stop - first == count * dtype.itemsize
            if not fits or 8 + header + stop > len(data):
                raise ValueError("outside the file")
            at = 8 + header + first
            flat = torch.frombuffer(data, dtype=dtype, count=count, offset=at) if count else torch.empty(0, dtype=dtype)
            tensors[name] = flat.view(shape)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise corrupt(path, f"not valid safetensors (tensor {name[:60]!r}: {type(error).__name__})") from None
    return tensors


def _header_size(data: bytes | mmap.mmap, path: Path) -> int:
    header = int.from_bytes(data[:8], "little")
    if len(data) < 8 or header > min(len(data) - 8, HEADER_LIMIT):
        raise corrupt(path, f"a safetensors header of {header:,} bytes cannot be, in {len(data):,}")
    return header


def parse_tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    """Return the tensors of safetensors bytes; memory is bounded by the size of the data.

    Args:
        data: the bytes.
        path: their origin, for the error message.

    Raises:
        CheckpointCorrupt: not valid safetensors.

    >>> import torch
    >>> parse_tensors(tensor_bytes({"x": torch.tensor([1, 2])}), Path("memory"))
    {'x': tensor([1, 2])}
    """
    _header_size(data, path)
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # the library's error type differs with the damage; all mean the same here
        reason = (str(error).splitlines() or [""])[0][:120]
        raise corrupt(path, f"not valid safetensors ({type(error).__name__}: {reason})") from None
