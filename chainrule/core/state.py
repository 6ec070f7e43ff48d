"""States: what a model keeps of x_<t, as plain tensors with the batch first.

A State passed into ``forward`` is consumed (while no gradients are recorded, a cache may be written in place);
``clone()`` it to branch. Gradients pass through a State; only ``detach()`` cuts them. Every model's State is a
dataclass of tensors (or tuples of tensors, one a layer); everything below is written once for all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, Self

import torch
from torch import Tensor

from chainrule.core.errors import NotRewindable


def tree_map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """Apply ``function`` to corresponding tensors of trees of equal structure.

    Args:
        function: of one tensor from each tree.
        tree: a tensor, or nested tuples of them; anything else is kept as it is.
        others: trees of the same structure.
    """
    if isinstance(tree, Tensor):
        return function(tree, *others)
    if isinstance(tree, tuple):
        return tuple(tree_map(function, *items) for items in zip(tree, *others, strict=True))
    return tree


def tensors(tree: Any) -> Iterator[Tensor]:
    """Yield all tensors of a tree, in a fixed order.

    Args:
        tree: a tensor, or nested tuples of them.
    """
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple):
        for item in tree:
            yield from tensors(item)


@dataclasses.dataclass
class State:
    """A model's memory of the past; ``length_B`` counts the tokens read in each row, every start token among them.

    >>> import torch
    >>> State(torch.tensor([3, 5])).reorder(torch.tensor([1, 1, 0])).length_B.tolist()
    [5, 5, 3]
    """

    length_B: Tensor

    def map(self, function: Callable[..., Any], *others: State) -> Self:
        """Return a State of the same kind whose every tensor is ``function`` of the tensors at its place.

        Args:
            function: of one tensor from each State.
            others: States of the same kind.
        """
        new = {
            f.name: tree_map(function, getattr(self, f.name), *(getattr(o, f.name) for o in others))
            for f in dataclasses.fields(self)
        }
        return dataclasses.replace(self, **new)

    def tensors(self) -> Iterator[Tensor]:
        """Yield all tensors, in a fixed order."""
        for field in dataclasses.fields(self):
            yield from tensors(getattr(self, field.name))

    def reorder(self, index_B: Tensor) -> Self:
        """Return a State whose row b is row ``index_B[b]`` of this one (rows may repeat or vanish: beams)."""
        return self.map(lambda x: x.index_select(0, index_B))

    def concat(self, *others: Self) -> Self:
        """Return the rows of this State followed by the rows of the others."""
        first, *rest = self.aligned(*others)
        return first.map(lambda *rows: torch.cat(rows), *rest)

    def aligned(self, *others: Self) -> list[Self]:
        """Return this State and others with tensors of equal shape in all but the rows; for States that grow."""
        return [self, *others]

    def clone(self) -> Self:
        """Return a copy that can be consumed while this State is kept."""
        return self.map(torch.clone)

    def detach(self) -> Self:
        """Return the same values cut off from the graph (truncated back-propagation)."""
        return self.map(torch.Tensor.detach)

    def where(self, keep_B: Tensor, other: Self) -> Self:
        """Return the rows of this State where ``keep_B`` is true, and rows of ``other`` elsewhere."""

        def choose(a: Tensor, b: Tensor) -> Tensor:
            return torch.where(keep_B.view(-1, *[1] * (a.dim() - 1)), a, b)

        mine, theirs = self.aligned(other)
        return mine.map(choose, theirs)

    def rewindable(self, n: int) -> Self:
        """Return this State, prepared so that what the next ``forward`` reads of whole rows can be rewound.

        Args:
            n: the most tokens that ``rewind`` is to forget, fewer than are read.

        Raises:
            NotRewindable: a State of this kind cannot be rewound by so many.
        """
        raise NotRewindable(f"{type(self).__name__} cannot be rewound: clone() it before reading ahead")

    def rewind(self, n_B: Tensor) -> Self:
        """Forget the last ``n_B`` tokens of each row, exactly.

        Args:
            n_B: number of tokens.

        Raises:
            NotRewindable: a State of this kind no longer holds what that needs.
        """
        raise NotRewindable(f"{type(self).__name__} cannot be rewound: clone() it before reading ahead")

    def nbytes(self) -> int:
        """Return the bytes held, over all rows."""
        return sum(x.numel() * x.element_size() for x in self.tensors())
