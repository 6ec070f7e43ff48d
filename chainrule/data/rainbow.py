"""Captioned pictures whose every attribute is known: 9,216 shapes, one for each combination.

    a small red striped circle at the top left on white

2 sizes x 8 colours x 4 textures x 6 shapes x 8 places x 3 grounds, drawn pixel by pixel on 32 x 32, without a smooth edge, so that equal
captions are equal pictures. After the rainbow of DALLE-pytorch's notebook. A model that has understood the captions draws combinations
that it never saw.
"""

from __future__ import annotations

import itertools

import numpy as np

SIDE = 32
SIZES = {"small": 4, "large": 7}
"""Half the side of the square that holds a shape, in pixels."""
COLOURS = {
    "red": (220, 30, 30), "orange": (245, 140, 20), "yellow": (240, 215, 40), "green": (40, 160, 60), "blue": (40, 90, 220),
    "purple": (130, 50, 170), "pink": (245, 130, 190), "brown": (125, 75, 35),
}  # fmt: skip
TEXTURES = ("plain", "striped", "dotted", "chequered")
SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")
PLACES = {
    "top left": (8, 8), "top": (8, 16), "top right": (8, 24), "left": (16, 8), "right": (16, 24), "bottom left": (24, 8),
    "bottom": (24, 16), "bottom right": (24, 24),
}  # fmt: skip
"""Row and column of a shape's middle."""
GROUNDS = {"white": (255, 255, 255), "grey": (170, 170, 170), "black": (0, 0, 0)}
COMBINATIONS = list(itertools.product(SIZES, COLOURS, TEXTURES, SHAPES, PLACES, GROUNDS))


def caption(size: str, colour: str, texture: str, shape: str, place: str, ground: str) -> str:
    return f"a {size} {colour} {texture} {shape} at the {place} on {ground}"


def picture(size: str, colour: str, texture: str, shape: str, place: str, ground: str) -> np.ndarray:
    """32 x 32 x 3, uint8."""
    (row, column), half = PLACES[place], SIZES[size]
    y, x = np.mgrid[:SIDE, :SIDE]
    dy, dx = y - row, x - column
    inside = within(shape, dy, dx, half) & (abs(dy) <= half) & (abs(dx) <= half)
    pixels = np.empty((SIDE, SIDE, 3), np.uint8)
    pixels[:] = GROUNDS[ground]
    pixels[inside] = COLOURS[colour]
    pixels[inside & lighter(texture, y, x)] = [(channel + 255) // 2 for channel in COLOURS[colour]]
    return pixels


def within(shape: str, dy: np.ndarray, dx: np.ndarray, half: int) -> np.ndarray:
    """Which places, counted from its middle, a shape covers."""
    radius = dy**2 + dx**2
    if shape == "circle":
        return radius <= half**2
    if shape == "square":
        return (abs(dy) <= half) & (abs(dx) <= half)
    if shape == "triangle":
        return 2 * abs(dx) <= dy + half
    if shape == "diamond":
        return abs(dy) + abs(dx) <= half
    if shape == "cross":
        return (abs(dy) <= half // 3) | (abs(dx) <= half // 3)
    return (radius <= half**2) & (radius >= (half / 2) ** 2)


def lighter(texture: str, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Which places a texture makes lighter."""
    if texture == "striped":
        return y % 4 < 2
    if texture == "dotted":
        return (y % 3 == 0) & (x % 3 == 0)
    if texture == "chequered":
        return (y // 2 + x // 2) % 2 == 0
    return np.zeros(y.shape, bool)
