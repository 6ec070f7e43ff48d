"""Weights of Hugging Face models, converted by a table of names in both directions.

An entry pairs our name with the foreign one. ``{i}`` stands for a layer number. If one side has one matrix where the
other has several, the several are a tuple of names, stacked along the first dimension in equal parts:

    Rename(
        [
            ("embed.weight", "wte.weight"),
            (("blocks.{i}.q", "blocks.{i}.k", "blocks.{i}.v"), "h.{i}.attn.c_attn.weight"),
        ],
        transpose={"h.{i}.attn.c_attn.weight"},
        ignore={"lm_head.weight"},
    )
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from itertools import chain

import torch
from torch import Tensor

from chainrule.core.errors import UserError

Names = str | tuple[str, ...]
Pair = tuple[tuple[str, ...], tuple[str, ...]]
_WILDCARD = re.compile(r"\{(\w+)\}")


class Rename:
    """A table of (our, foreign) names.

    Args:
        pairs: the names.
        transpose: foreign names of transposed matrices (transposed before stacking on our side).
        ignore: foreign names that may be there and are skipped (tied copies, masks); ``to_foreign`` does not create
            them.

    >>> table = Rename([("embed.weight", "wte.weight")], transpose={"wte.weight"})
    >>> table.to_ours({"wte.weight": torch.tensor([[1, 2]])})
    {'embed.weight': tensor([[1],
            [2]])}
    """

    def __init__(
        self, pairs: Sequence[tuple[Names, Names]], transpose: Collection[str] = (), ignore: Collection[str] = ()
    ):
        self.pairs: list[Pair] = [(_tuple(ours), _tuple(foreign)) for ours, foreign in pairs]
        self.transpose, self.ignore = frozenset(transpose), [_pattern(name) for name in ignore]
        for side in zip(*self.pairs):
            names = list(chain(*side))
            if len(names) != len(set(names)):
                raise ValueError(f"a name occurs twice in the table: {sorted(n for n in names if names.count(n) > 1)}")
        if uneven := [pair for pair in self.pairs if len({_key(name) for name in chain(*pair)}) > 1]:
            raise ValueError(f"all names of an entry need the same wildcards: {uneven}")
        if stray := self.transpose - set(chain(*(foreign for _, foreign in self.pairs))):
            raise ValueError(f"names to transpose are not in the table: {sorted(stray)}")

    def to_ours(self, foreign_state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert foreign parameters to ours.

        Args:
            foreign_state: foreign parameters by name.

        Returns:
            Our parameters by name.

        Raises:
            UserError: names are missing or unknown; the message lists them.
        """
        known = {k: v for k, v in foreign_state.items() if not any(p.fullmatch(k) for p in self.ignore)}
        return self._convert(known, [(foreign, ours) for ours, foreign in self.pairs])

    def to_foreign(self, our_state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert our parameters to foreign ones; the inverse of ``to_ours``.

        Args:
            our_state: our parameters by name.

        Returns:
            Foreign parameters by name.

        Raises:
            UserError: names are missing or unknown; the message lists them.
        """
        return self._convert(our_state, self.pairs)

    def _convert(self, state: dict[str, Tensor], pairs: list[Pair]) -> dict[str, Tensor]:
        layers = _layers(state, [name for sources, _ in pairs for name in sources])
        wanted = {_fill(name, layer) for sources, _ in pairs for name in sources for layer in layers[_key(name)]}
        never = {name for sources, _ in pairs for name in sources if not layers[_key(name)]}
        missing, unknown = sorted((wanted | never) - state.keys()), sorted(state.keys() - wanted)
        if missing or unknown:
            raise UserError(f"weights do not fit the table: missing {missing}, unknown {unknown}")
        result: dict[str, Tensor] = {}
        for sources, targets in pairs:
            for layer in layers[_key(sources[0])]:
                parts = [self._turn(name, state[_fill(name, layer)]) for name in sources]
                whole = torch.cat(parts) if len(parts) > 1 else parts[0]
                if len(targets) > 1 and len(whole) % len(targets):
                    raise UserError(f"{_fill(sources[0], layer)}: {len(whole)} rows do not split into {len(targets)}")
                pieces = whole.chunk(len(targets)) if len(targets) > 1 else [whole]
                for name, piece in zip(targets, pieces):
                    result[_fill(name, layer)] = self._turn(name, piece).contiguous().clone()
        return result

    def _turn(self, name: str, tensor: Tensor) -> Tensor:
        return tensor.T if name in self.transpose else tensor


def _tuple(names: Names) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def _key(name: str) -> tuple[str, ...]:
    return tuple(sorted(_WILDCARD.findall(name)))


def _pattern(name: str) -> re.Pattern[str]:
    parts = _WILDCARD.split(name)  # text, wildcard, text, …
    return re.compile("".join(rf"(?P<{p}>\d+)" if k % 2 else re.escape(p) for k, p in enumerate(parts)))


def _fill(name: str, layer: tuple[str, ...]) -> str:
    return name.format(**dict(zip(_key(name), layer)))


def _layers(state: dict[str, Tensor], names: list[str]) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
    """Return, for each set of wildcards, the numbers that occur in any name: a layer with one part must have all of
    them.
    """
    found: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for name in names:
        pattern, key = _pattern(name), _key(name)
        matches = [match for match in map(pattern.fullmatch, state) if match]
        layers = found.setdefault(key, set() if key else {()})
        layers.update(tuple(match[k] for k in key) for match in matches)
    return {key: sorted(layers, key=lambda layer: [int(number) for number in layer]) for key, layers in found.items()}
