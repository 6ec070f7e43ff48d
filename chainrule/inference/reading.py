"""Records are read up to their last token, a bounded number of tokens between two steps of the engine.

The last token is read together with those of all requests that go on. Equal records are read once, and what a record
shares with an earlier one is not read again: States are kept at the ends of records and of chunks, which are cut at
equal places in all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from chainrule.core import Autoregressive, State, UserError
from chainrule.core.compute import Compute
from chainrule.inference.prefixes import Prefixes
from chainrule.inference.requests import Capacity, Handle, Prompt, SourcePrompt, given

Key = tuple[bytes, bytes]
"""The source and the inputs of a record."""


@dataclass(eq=False)
class PendingRecord:
    """A record, how far it was read, and in which row of which State."""

    source_S: Tensor | None
    inputs_T: Tensor
    """The start token, the prompt, and what was generated so far."""
    at: int = 0
    state: State | None = None
    row: int = 0

    @property
    def left(self) -> int:
        """Inputs that are still to be read here; the last one is left to the engine."""
        return len(self.inputs_T) - 1 - self.at

    @property
    def ready(self) -> bool:
        return self.state is not None and not self.left

    @property
    def kind(self) -> tuple[bool, bool]:
        """Records of one kind are read together: sources, beginnings, and the rest of records."""
        return self.state is None, self.source_S is None

    @cached_property
    def key(self) -> Key:
        """The content; equal for equal records."""
        return self.source, self.inputs_T.numpy().tobytes()

    @cached_property
    def source(self) -> bytes:
        return b"" if self.source_S is None else self.source_S.numpy().tobytes()


class Reader:
    """The records of requests that are about to begin.

    Args:
        model: any autoregressive model.
        compute: where it runs.
        capacity: how much is read between two steps, and how much is kept.
    """

    def __init__(self, model: Autoregressive, compute: Compute, capacity: Capacity):
        self.model, self.device, self.chunk = model, compute.device, capacity.chunk
        self.prefixes = Prefixes(capacity.cached)
        self.tokens_read, self.tokens_spared, self.hits = 0, 0, 0
        """Tokens of records that were read; that were found among what is kept; and how often any were."""
        start_1 = model.start_inputs(1)[0].cpu()
        self._start_1 = start_1.double() if start_1.is_floating_point() else start_1
        self._readings: dict[Handle, list[PendingRecord]] = {}
        self._unread: dict[Key, PendingRecord] = {}

    def __bool__(self) -> bool:
        return bool(self._readings)

    @property
    def handles(self) -> list[Handle]:
        """The requests whose records are being read."""
        return list(self._readings)

    def check(self, prompt: Prompt) -> None:
        """Raise UserError where a prompt holds an id that the model cannot read."""
        if isinstance(prompt, SourcePrompt):
            ids, most = prompt.ids, getattr(self.model.config, "source_vocab_size", None)
        else:
            ids, most = prompt, self.model.vocab_size + 1
        if most is None or self._start_1.is_floating_point() or not len(ids):
            return
        low, high = torch.as_tensor(ids).aminmax()
        if low < 0 or high >= most:
            raise UserError(f"token id {int(low if low < 0 else high)} in a prompt: allowed are 0 to {most - 1}")

    def add(self, handle: Handle) -> None:
        """Take a request; one that has tokens already goes on behind them."""
        made = [self._reading(prompt, handle) for prompt in handle.request.prompts]
        self._readings[handle] = [self._unread.setdefault(reading.key, reading) for reading in made]

    def remove(self, gone: Iterable[Handle]) -> None:
        """Read no more for these requests."""
        for handle in gone:
            self._readings.pop(handle, None)
        needed = {id(reading) for mine in self._readings.values() for reading in mine}
        self._unread = {key: reading for key, reading in self._unread.items() if id(reading) in needed}

    def _reading(self, prompt: Prompt, handle: Handle) -> PendingRecord:
        source_S = torch.as_tensor(prompt.ids, dtype=torch.long).cpu() if isinstance(prompt, SourcePrompt) else None
        return PendingRecord(source_S, self._record(given(prompt), handle.tokens))

    def _record(self, *parts: Sequence) -> Tensor:
        kind, shape = self._start_1.dtype, self._start_1.shape[1:]
        rows = (torch.as_tensor(part, dtype=kind).cpu().reshape(-1, *shape) for part in parts)
        return torch.cat([self._start_1, *rows])

    def keep(self, handle: Handle, state: State, first: int) -> None:
        """Keep the State of a request that leaves, for records that begin with its own.

        Args:
            handle: the request, whose last token was not read.
            state: a State with its rows.
            first: the first of them.
        """
        if self.prefixes.limit:
            for k, prompt in enumerate(handle.request.prompts):
                reading = self._reading(prompt, handle)
                reading.at = len(reading.inputs_T) - 1
                self._keep(reading, state, first + k)

    def _keep(self, reading: PendingRecord, state: State, row: int) -> None:
        read_T = reading.inputs_T[: reading.at]
        if self.prefixes.limit and not self.prefixes.has(reading.source, read_T):
            self.prefixes.keep(reading.source, read_T, gather([(state, row)]))

    # --- reading ------------------------------------------------------------------------------------------------------

    def step(self) -> list[Handle]:
        """Read on: a chunk of the record that has waited longest, and as much of others as fits in beside it.

        An error ends the requests whose records were read.

        Returns:
            The requests whose records were read up to their last token.
        """
        if batch := self._batch():
            try:
                self._read(batch)
            except Exception as error:
                failed = [h for h, mine in self._readings.items() if any(r in batch for r in mine)]
                for handle in failed:
                    handle.fail(error)
                self.prefixes.clear()
                self.remove(failed)
        return [handle for handle, mine in self._readings.items() if all(reading.ready for reading in mine)]

    def take(self, handles: Sequence[Handle]) -> tuple[State, Tensor]:
        """Hand out the rows of requests whose records were read.

        Args:
            handles: of those that ``step`` returned.

        Returns:
            A State with the rows of all of them in order, and what each reads next, R x 1.
        """
        rows = [reading for handle in handles for reading in self._readings.pop(handle)]
        state = gather([(reading.state, reading.row) for reading in rows])  # type: ignore[misc]
        return state, torch.stack([reading.inputs_T[-1:] for reading in rows]).to(self.device)

    def _batch(self) -> list[PendingRecord]:
        """Records that are read together, the first in turn among them; what is known of them is looked up first."""
        batch: list[PendingRecord] = []
        width, done = 0, []
        for key, reading in self._unread.items():
            self._recall(reading)
            if reading.ready:
                done.append(key)
            elif not batch or reading.kind == batch[0].kind:
                width = max(width, self._many(reading))
                if batch and (len(batch) + 1) * width > self.chunk:
                    break
                batch.append(reading)
        for key in [*done, *(reading.key for reading in batch)]:
            reading = self._unread.pop(key)
            if not reading.ready:
                self._unread[key] = reading  # behind the others
        return batch

    def _recall(self, reading: PendingRecord) -> None:
        """Go on from the longest beginning of a record that was kept, if more of it was read than here."""
        above = -1 if reading.state is None else reading.at
        length, state = self.prefixes.find(reading.source, reading.inputs_T[:-1], above)
        if state is not None:
            self.tokens_spared += length - reading.at
            self.hits += 1
            reading.at, reading.state, reading.row = length, state, 0
        elif reading.state is None and reading.source_S is None and not reading.left:
            reading.state = self.model.initial_state(1)

    def _many(self, reading: PendingRecord) -> int:
        """Tokens of a record that are read at once: up to where all records are cut."""
        if reading.state is None and reading.source_S is not None:
            return len(reading.source_S)
        return min(reading.left, self.chunk - reading.at % self.chunk)

    def _read(self, batch: list[PendingRecord]) -> None:
        many = [self._many(reading) for reading in batch]
        lengths_B = torch.tensor(many, device=self.device)
        if batch[0].kind == (True, False):
            sources_BS = pad_sequence([reading.source_S for reading in batch], batch_first=True)  # type: ignore[misc]
            state = self.model.encode_prompt(sources_BS.to(self.device), lengths_B)
            many = [0] * len(batch)
        else:
            before = None if batch[0].state is None else gather([(r.state, r.row) for r in batch])  # type: ignore[misc]
            pieces = [reading.inputs_T[reading.at :][:n] for reading, n in zip(batch, many)]
            inputs_BT = pad_sequence(pieces, batch_first=True).to(self.device)
            _, state = self.model(inputs_BT, before, lengths_B)
        for row, (reading, n) in enumerate(zip(batch, many)):
            reading.state, reading.row, reading.at = state, row, reading.at + n
            self.tokens_read += n
            if reading.ready:
                self._unread.pop(reading.key, None)
            if reading.ready or reading.at % self.chunk == 0:
                self._keep(reading, state, row)


def gather(places: Sequence[tuple[State, int]]) -> State:
    """Return rows of several States as one State, a copy.

    Args:
        places: the State of each row, and the row's number in it.

    Example:
        >>> one, other = State(torch.tensor([3, 5])), State(torch.tensor([7]))
        >>> gather([(other, 0), (one, 1), (one, 1)]).length_B.tolist()
        [7, 5, 5]
    """
    states = {id(state): state for state, _ in places}
    first, begins = 0, {}
    for name, state in states.items():
        begins[name] = first
        first += len(state.length_B)
    one, *others = states.values()
    index_R = torch.tensor([begins[id(state)] + row for state, row in places], device=one.length_B.device)
    return (one.concat(*others) if others else one).reorder(index_R)
