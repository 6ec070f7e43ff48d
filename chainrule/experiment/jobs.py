"""Jobs of an experiment and their result files.

A job is one piece of work: ``prepare`` what is known before training, ``train`` one model with one seed, ``measure``
it on the test part, ``mix`` finished models, and at the end the ``memory`` curves of the rows in contention. Its
content hash covers all that decides its result. Its result is one JSON file, replaced atomically, and a finished job
never runs again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chainrule.core.files import write_file

FORMAT = 1
Status = Literal["running", "done", "failed"]


@dataclass(frozen=True)
class Job:
    """One job. ``needs`` are the jobs whose results it reads; ``hash`` covers its settings, data and needs.

    ``without_budget`` is the hash of all but the budget: a result of the same is trained further, not replaced.
    """

    id: str
    kind: Literal["prepare", "train", "measure", "memory", "mix"]
    needs: tuple[str, ...]
    hash: str
    without_budget: str = ""


@dataclass(frozen=True)
class Result:
    """The state of a job: its findings so far, or the reason why it failed.

    ``retry``: the cause may be the system, not the settings.
    """

    status: Status
    found: dict[str, Any]
    error: str | None = None
    retry: bool = False


def digest(*values: Any) -> str:
    """Return the SHA-256 of plain values.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    return hashlib.sha256(to_json(values).encode()).hexdigest()


def to_json(value: Any) -> str:
    """Return JSON with sorted keys; numbers of numpy become plain ones."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value.tolist() if hasattr(value, "tolist") else str(value)


class Results:
    """Result files of one experiment, read as they stand, whichever process wrote them.

    Args:
        out: the folder of the experiment; the files lie in its folder ``results``.
    """

    def __init__(self, out: Path):
        self.folder = out / "results"
        self._read: dict[str, tuple[Any, dict[str, Any] | None]] = {}

    def path(self, job: Job) -> Path:
        """Return the file of a job."""
        return self.folder / f"{job.id}.json"

    def get(self, job: Job) -> Result | None:
        """Return the result of a job; None where there is none, or one of other content."""
        saved = self._load(job)
        if saved is None or saved.get("hash") != job.hash or saved.get("format") != FORMAT:
            return None
        return Result(saved["status"], saved.get("result") or {}, saved.get("error"), bool(saved.get("retry")))

    def found(self, job: Job) -> dict[str, Any]:
        """Return the findings of a job that is done, else none."""
        result = self.get(job)
        return result.found if result and result.status == "done" else {}

    def done(self, job: Job) -> bool:
        """Return whether the job is done."""
        found = self.get(job)
        return found is not None and found.status == "done"

    def failed(self, jobs: Iterable[Job]) -> Result | None:
        """Return the first result that failed, or None."""
        return next((found for job in jobs if (found := self.get(job)) and found.status == "failed"), None)

    def stale(self, job: Job) -> bool:
        """Return whether a result of other content stands in the job's file, not one of another budget alone."""
        saved = self._load(job)
        return saved is not None and saved.get("hash") != job.hash and not self._is_smaller(saved, job)

    def smaller(self, job: Job) -> Result | None:
        """Return the result that the job had with another budget, or None."""
        saved = self._load(job)
        if saved is None or saved.get("hash") == job.hash or not self._is_smaller(saved, job):
            return None
        return Result(saved["status"], saved.get("result") or {}, saved.get("error"), bool(saved.get("retry")))

    def _is_smaller(self, saved: dict[str, Any], job: Job) -> bool:
        return saved.get("format") == FORMAT and saved.get("without_budget") == job.without_budget != ""

    def put(self, job: Job, result: Result) -> None:
        """Replace the job's file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        saved: dict[str, Any] = {
            "format": FORMAT, "job": job.id, "kind": job.kind, "hash": job.hash,
            "without_budget": job.without_budget, "status": result.status,
        }  # fmt: skip
        if result.error is not None:
            saved |= {"error": result.error, "retry": result.retry}
        write_file(self.path(job), to_json({**saved, "result": result.found}).encode("utf-8", "surrogatepass"))

    def final(self, job: Job) -> bool:
        """Return whether the job is not to be run again: it is done, or would fail again."""
        found = self.get(job)
        return found is not None and found.status != "running" and not found.retry

    def settled(self, jobs: Iterable[Job]) -> bool:
        """Return whether none of these jobs of one row is to be run: all are final, or follow from one that failed."""
        final = [job for job in jobs if self.final(job)]
        return len(final) == len([*jobs]) or self.failed(final) is not None

    def clear(self) -> None:
        """Remove all result files; other files of the folder stay."""
        for path in self.folder.glob("*.json"):
            if {"job", "hash", "status"} <= (_parse(path) or {}).keys():
                path.unlink()

    def _load(self, job: Job) -> dict[str, Any] | None:
        path = self.path(job)
        try:
            seen = path.stat()
        except OSError:
            return None
        mark = (seen.st_mtime_ns, seen.st_size, seen.st_ino)
        if job.id not in self._read or self._read[job.id][0] != mark:
            self._read[job.id] = mark, _parse(path)
        return self._read[job.id][1]


def _parse(path: Path) -> dict[str, Any] | None:
    """The content of a file; a damaged one counts as none, and its job runs again."""
    try:
        saved = json.loads(path.read_bytes().decode("utf-8", "surrogatepass"))
    except (OSError, ValueError):
        return None
    return saved if isinstance(saved, dict) else None
