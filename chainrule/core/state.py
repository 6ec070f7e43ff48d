"""State: what a model remembers of x_<t, as plain tensors with the batch first.

A State passed into ``forward`` is consumed (while no gradients are recorded, a cache may be written in place); ``clone()`` it to
branch. Gradients pass through a State; only ``detach()`` cuts them. Every model's State is a dataclass of tensors (or tuples of tensors, one a layer); everything below is written once for all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import torch
from torch import Tensor

from chainrule.core.errors import NotRewindable


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply ``function`` to corresponding tensors of equal trees; what is no tensor is kept as it is."""
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if isinstance(tree, tuple):
        return tuple(tree_map(function, *items) for items in zip(tree, *others, strict=True))
    return tree


def tensors(tree: Any) -> Iterator[Tensor]:
    """All tensors of a tree, in a fixed order."""
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple):
        for item in tree:
            yield from tensors(item)


@dataclasses.dataclass
class State:
    """What is remembered; ``length_B`` counts the symbols read in each row, every start symbol among them."""

    length_B: Tensor

    def map(self, function: Callable[..., Any], *others: State) -> Self:
        """A State of the same kind whose every tensor is ``function`` of the tensors in its place."""
        new = {
            f.name: tree_map(function, getattr(self, f.name), *(getattr(o, f.name) for o in others))
            for f in dataclasses.fields(self)
        }
        return dataclasses.replace(self, **new)

    def tensors(self) -> Iterator[Tensor]:
        for field in dataclasses.fields(self):
            yield from tensors(getattr(self, field.name))

    def reorder(self, index_B: Tensor) -> Self:
        """Row b of the result is row ``index_B[b]`` of this State (rows may repeat or vanish: beams)."""
        return self.map(lambda x: x.index_select(0, index_B))

    def concat(self, *others: Self) -> Self:
        """The rows of this State followed by the rows of the others."""
        return self.map(lambda *rows: torch.cat(rows), *others)

    def clone(self) -> Self:
        return self.map(torch.clone)

    def detach(self) -> Self:
        """The same memory, cut off from the graph (truncated back-propagation: values are carried, gradients are not)."""
        return self.map(torch.Tensor.detach)

    def where(self, keep_B: Tensor, other: Self) -> Self:
        """Rows of this State where ``keep_B`` is true, rows of ``other`` elsewhere."""

        def choose(mine: Tensor, theirs: Tensor) -> Tensor:
            return torch.where(keep_B.view(-1, *[1] * (mine.dim() - 1)), mine, theirs)

        return self.map(choose, other)

    def rewind(self, n_B: Tensor) -> Self:
        """Forget the last ``n_B`` symbols of each row, exactly; where that cannot be done, say so."""
        raise NotRewindable(f"a {type(self).__name__} cannot be rewound: clone() it before reading ahead")

    def nbytes(self) -> int:
        """Bytes held, over all rows."""
        return sum(x.numel() * x.element_size() for x in self.tensors())


def stack_rows(states: Sequence[State]) -> State:
    """One State from many, rows in order."""
    return states[0].concat(*states[1:]) if len(states) > 1 else states[0]
