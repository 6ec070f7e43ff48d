"""Captioned images whose every attribute is known: 9,216 shapes, one for each combination.

    a small red striped circle at the top left on white

2 sizes × 8 colours × 4 textures × 6 shapes × 8 places × 3 grounds, drawn pixel by pixel on 32 × 32 without
anti-aliasing, so that equal captions are equal images. After the rainbow of DALLE-pytorch's notebook. A model that
has understood the captions draws combinations that it never saw.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from chainrule.core import UserError
from chainrule.data.synthetic import Contents, Sizes, facts, json_lines, made_by

SIDE = 32
SIZES = {"small": 4, "large": 7}
"""Half the side of the square that holds a shape, in pixels."""
COLOURS = {
    "red": (220, 30, 30), "orange": (245, 140, 20), "yellow": (240, 215, 40), "green": (40, 160, 60),
    "blue": (40, 90, 220), "purple": (130, 50, 170), "pink": (245, 130, 190), "brown": (125, 75, 35),
}  # fmt: skip
TEXTURES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "plain": lambda y, x: np.zeros(y.shape, bool),
    "striped": lambda y, x: y % 4 < 2,
    "dotted": lambda y, x: (y % 3 == 0) & (x % 3 == 0),
    "chequered": lambda y, x: (y // 2 + x // 2) % 2 == 0,
}
"""From row and column of each pixel to those that a texture makes lighter."""
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "circle": lambda dy, dx, half: dy**2 + dx**2 <= half**2,
    "square": lambda dy, dx, half: np.ones(dy.shape, bool),
    "triangle": lambda dy, dx, half: 2 * abs(dx) <= dy + half,
    "diamond": lambda dy, dx, half: abs(dy) + abs(dx) <= half,
    "cross": lambda dy, dx, half: (abs(dy) <= half // 3) | (abs(dx) <= half // 3),
    "ring": lambda dy, dx, half: (dy**2 + dx**2 <= half**2) & (dy**2 + dx**2 >= (half / 2) ** 2),
}
"""From rows and columns, counted from the middle, to the pixels that a shape covers; ``half`` is half its side."""
PLACES = {
    "top left": (8, 8), "top": (8, 16), "top right": (8, 24), "left": (16, 8), "right": (16, 24),
    "bottom left": (24, 8), "bottom": (24, 16), "bottom right": (24, 24),
}  # fmt: skip
"""Row and column of the middle of a shape."""
GROUNDS = {"white": (255, 255, 255), "grey": (170, 170, 170), "black": (0, 0, 0)}
COMBINATIONS = list(itertools.product(SIZES, COLOURS, TEXTURES, SHAPES, PLACES, GROUNDS))


def caption(size: str, colour: str, texture: str, shape: str, place: str, ground: str) -> str:
    """Return the caption of a combination.

    >>> caption(*COMBINATIONS[0])
    'a small red plain circle at the top left on white'

    Args:
        size: a name of SIZES; the others are names of COLOURS, TEXTURES, SHAPES, PLACES and GROUNDS.
        colour: of the shape.
        texture: of the shape.
        shape: circle, square, ….
        place: of its middle.
        ground: colour around it.
    """
    return f"a {size} {colour} {texture} {shape} at the {place} on {ground}"


def picture(size: str, colour: str, texture: str, shape: str, place: str, ground: str) -> np.ndarray:
    """Return the image of a combination.

    Args:
        size: as `caption` takes it, and so are the others.
        colour: of the shape.
        texture: of the shape.
        shape: circle, square, ….
        place: of its middle.
        ground: colour around it.

    Returns:
        Pixels, 32 × 32 × 3, uint8.
    """
    (row, column), half = PLACES[place], SIZES[size]
    y, x = np.mgrid[:SIDE, :SIDE]
    dy, dx = y - row, x - column
    inside = SHAPES[shape](dy, dx, half) & (abs(dy) <= half) & (abs(dx) <= half)
    pixels = np.empty((SIDE, SIDE, 3), np.uint8)
    pixels[:] = GROUNDS[ground]
    pixels[inside] = COLOURS[colour]
    pixels[inside & TEXTURES[texture](y, x)] = [(channel + 255) // 2 for channel in COLOURS[colour]]
    return pixels


@made_by(
    "rainbow", "draw", f"captioned images of shapes: {len(COMBINATIONS):,} combinations, 70% of them in training", 6451
)
def _rainbow(sizes: Sizes, rng: np.random.Generator) -> Contents:
    total, count = sum(sizes.values()), len(COMBINATIONS)
    if total > count:
        raise UserError(f"--size {sizes['train']}: there are {count:,} combinations, of which some are held out")
    chosen = [COMBINATIONS[c] for c in rng.permutation(count)[:total].tolist()]
    parts = [part for part, size in sizes.items() for _ in range(size)]
    lines = json_lines(
        {"i": i, "text": caption(*combination), "split": part}
        for i, (combination, part) in enumerate(zip(chosen, parts))
    )
    content = io.BytesIO()
    np.savez_compressed(content, images=np.stack([picture(*combination) for combination in chosen]))
    share = nearest_caption(chosen[: sizes["train"]], chosen[-sizes["test"] :])
    how = "the image of the training caption with most attributes in common: share of equal test images"
    remember = "what each word looks like, whatever the other words are"
    files = {"captions.jsonl": lines, "images32.npz": content.getvalue()}
    return files, facts(None, remember, {"exact_match": (share, how)}, combinations=count)


def nearest_caption(train: Sequence[tuple[str, ...]], test: Sequence[tuple[str, ...]]) -> float:
    """Return the share of test images that equal the image of the training combination with most attributes in common.

    Args:
        train: training combinations.
        test: test combinations.
    """
    numbers = [{value: k for k, value in enumerate(dict.fromkeys(column))} for column in zip(*COMBINATIONS)]
    coded = [np.array([[n[v] for n, v in zip(numbers, row)] for row in rows]) for rows in (train, test)]
    nearest = [int((coded[0] == row).sum(1).argmax()) for row in coded[1]]
    return float(np.mean([np.array_equal(picture(*train[k]), picture(*row)) for k, row in zip(nearest, test)]))
