"""One image: checked before it is decoded, resized, normalised for models, and written again.

An image is recognised by its first bytes, whatever its name; one whose header claims more than 16 million pixels is
refused before memory is allocated for it. Of an animation the first frame is read; transparent pixels are put on
white; 16 bits become 8; CMYK becomes RGB; the orientation of EXIF is applied.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from chainrule.core.batch import ImageBatch
from chainrule.core.errors import DataError, system_errors

MAX_PIXELS = 16_000_000
MAX_FILE_BYTES = 64 << 20
"""Bytes of an image file."""
HEAD = 18
"""Bytes of a file that tell its format."""


SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF87a": "GIF", b"GIF89a": "GIF", b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}  # fmt: skip
"""The first bytes of each format, by which its files are recognised; those of WebP and BMP need a closer look."""
FORMATS = "PNG, JPEG, WebP, BMP, GIF or TIFF"
LOW_BYTES = {
    "RGB;16B": "RGB;16L", "RGB;16L": "RGB;16B", "RGBA;16B": "RGBA;16L", "RGBA;16L": "RGBA;16B", "LA;16B": "RGBA",
}  # fmt: skip
"""Layouts of 16 bits a channel, which Pillow cuts to the upper eight, and the layout that yields the lower eight."""


def kind_of(content: bytes) -> str | None:
    """Return the format of an image by its first bytes: PNG, JPEG, WEBP, BMP, GIF, TIFF, or None for any other.

    >>> kind_of(b"RIFF\\x24\\x00\\x00\\x00WEBPVP8 "), kind_of(b"GIF89a"), kind_of(b"BMW")
    ('WEBP', 'GIF', None)

    Args:
        content: at least 18 bytes of the file.
    """
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WEBP"
    if content[:2] == b"BM" and content[6:10] == b"\0\0\0\0" and content[15:18] == b"\0\0\0":
        return "BMP"
    return next((kind for start, kind in SIGNATURES.items() if content.startswith(start)), None)


def is_image(path: Path) -> bool:
    """Return True if a file is an image by its first bytes, whatever its name."""
    try:
        with path.open("rb") as file:
            return kind_of(file.read(HEAD)) is not None
    except OSError:
        return False


def opened(file: Any, kind: str) -> Any:
    """Open an image and read its header alone, with the decoder of its format.

    ``Image.open`` would warn on standard error of large images before they can be refused.

    Args:
        file: a binary file.
        kind: a format that `kind_of` returns.

    Raises:
        Exception: any error of the decoder.
    """
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, WebPImagePlugin

    decoders: dict[str, Any] = {
        "PNG": PngImagePlugin.PngImageFile,
        "JPEG": JpegImagePlugin.jpeg_factory,
        "WEBP": WebPImagePlugin.WebPImageFile,
        "BMP": BmpImagePlugin.BmpImageFile,
        "GIF": GifImagePlugin.GifImageFile,
        "TIFF": TiffImagePlugin.TiffImageFile,
    }
    return decoders[kind](file)


def size_of(path: Path) -> tuple[int, int]:
    """Return height and width in pixels by the header of a file.

    Args:
        path: the file.

    Raises:
        KeyError: not an image.
        Exception: any error of the decoder.
    """
    with path.open("rb") as file:
        kind = kind_of(file.read(HEAD))
        file.seek(0)
        image = opened(file, str(kind))
        return image.height, image.width


def decode(content: bytes, where: str, size: int | None = None) -> np.ndarray:
    """Decode an image.

    Args:
        content: the bytes of the file.
        where: the name of the file, for errors.
        size: height and width in pixels of the result, which is scaled to cover that square and cropped around its
            middle; None: as the image is.

    Returns:
        Pixels, Y × X × 3, uint8.

    Raises:
        DataError: no image of a known format, more than 16 million pixels (before they are decoded), or damaged.
    """
    from PIL import Image, ImageOps

    kind = kind_of(content)
    if kind is None:
        raise DataError(f"{where}: no {FORMATS} by its first bytes; convert it first")
    too_large = f"more than {MAX_PIXELS // 10**6} million: scale it down first"
    try:
        image = opened(io.BytesIO(content), kind)
        if image.width * image.height > MAX_PIXELS:
            raise DataError(f"{where}: {image.width:,} x {image.height:,} pixels, {too_large}")
        if kind == "JPEG" and size:
            image.draft(None, (2 * size, 2 * size))  # decodes at a fraction of the size, where that is enough
        low, largest = _low_bytes(content, kind, image), _largest(image, kind, where)
        image.load()
        image = _as_rgb(ImageOps.exif_transpose(image), low, largest)
        if size:
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
        return np.asarray(image, np.uint8)
    except (DataError, MemoryError):
        raise
    except Image.DecompressionBombError:  # of WebP, before a canvas is made
        raise DataError(f"{where}: far too many pixels, {too_large}") from None
    except Exception as error:  # a decoder may raise anything on damaged input
        raise DataError(f"{where}: a damaged {kind} ({first_line(error)}); leave it out, or --on-bad skip") from None


def first_line(error: Exception) -> str:
    """Return the first line of the message of an error, else the name of its type.

    Args:
        error: any error.
    """
    return (str(error).splitlines() or [type(error).__name__])[0]


def _low_bytes(content: bytes, kind: str, image: Any) -> np.ndarray | None:
    """The lower eight bits of an image of 16 bits a channel that Pillow cuts to the upper eight; None for others."""
    from PIL import ImageOps

    layouts = {_layout(tile) for tile in image.tile}
    if not layouts or not layouts <= LOW_BYTES.keys():
        return None
    low = opened(io.BytesIO(content), kind)
    low.tile = [tile._replace(args=_other_layout(tile)) for tile in low.tile]
    low.load()
    values = np.asarray(ImageOps.exif_transpose(low))
    return values[..., [1, 1, 1, 3]] if "LA;16B" in layouts else values  # both bytes of grey, both of transparency


def _layout(tile: Any) -> str:
    return str(tile.args if isinstance(tile.args, str) else (tile.args or [""])[0])


def _other_layout(tile: Any) -> Any:
    other = LOW_BYTES[_layout(tile)]
    return other if isinstance(tile.args, str) else (other, *tile.args[1:])


def _largest(image: Any, kind: str, where: str) -> int:
    """The largest value of a channel, by the depth that the file states.

    Raises:
        DataError: numbers whose range no file states.
    """
    bits, signed = 16, 1
    if kind == "TIFF":
        bits, signed = (image.tag_v2.get(tag, (default,))[0] for tag, default in ((258, 8), (339, 1)))
    if image.mode == "F":
        raise DataError(f"{where}: fractions of {bits} bits, whose range no file states; save it with 8 or 16 bits")
    return (1 << (bits - (signed == 2))) - 1


def _eight_bits(values: np.ndarray, largest: int) -> np.ndarray:
    """Values from 0 to ``largest`` as 0 to 255, rounded."""
    return ((values.clip(0, largest).astype(np.uint64) * 255 + largest // 2) // largest).astype(np.uint8)


def _as_rgb(image: Any, low: np.ndarray | None, largest: int) -> Any:
    from PIL import Image

    if low is not None:
        image = Image.fromarray(_eight_bits((np.asarray(image).astype(np.uint32) << 8) | low, 0xFFFF), image.mode)
    if image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image), largest)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def read_image_file(path: Path, size: int | None = None) -> np.ndarray:
    """Read and decode an image file.

    Args:
        path: the file.
        size: height and width in pixels, as `decode` takes it.

    Returns:
        Pixels, Y × X × 3, uint8.

    Raises:
        DataError: as `decode`; no such file, or too large a file.
        MachineError: the file cannot be opened.
    """
    with system_errors(path):
        if not path.exists():
            raise DataError(f"{path}: no such file")
        bytes_ = path.stat().st_size
        if bytes_ > MAX_FILE_BYTES:
            raise DataError(f"{path}: {bytes_:,} bytes, more than {MAX_FILE_BYTES >> 20} MiB: scale it down first")
        return decode(path.read_bytes(), str(path), size)


def as_png(pixels_YXC: np.ndarray) -> bytes:
    """Return an image as a PNG file.

    >>> decode(as_png(np.zeros((2, 3, 1), np.uint8)), "black.png").shape
    (2, 3, 3)

    Args:
        pixels_YXC: Y × X × C, uint8, with 1 or 3 channels.
    """
    from PIL import Image

    found = io.BytesIO()
    Image.fromarray(pixels_YXC.squeeze(2) if pixels_YXC.shape[2] == 1 else pixels_YXC).save(found, "PNG", optimize=True)
    return found.getvalue()


def at_most(pixels_YXC: np.ndarray, side: int) -> np.ndarray:
    """Return an image that is scaled down where it is larger than a square.

    >>> at_most(np.zeros((600, 300, 1), np.uint8), 256).shape, at_most(np.zeros((2, 3, 3), np.uint8), 256).shape
    ((256, 128, 1), (2, 3, 3))

    Args:
        pixels_YXC: Y × X × C, uint8, with 1 or 3 channels.
        side: largest height and width of the result, in pixels.
    """
    from PIL import Image

    Y, X, C = pixels_YXC.shape
    if max(Y, X) <= side:
        return pixels_YXC
    size = round(X * side / max(Y, X)), round(Y * side / max(Y, X))
    image = Image.fromarray(pixels_YXC.squeeze(2) if C == 1 else pixels_YXC)
    return np.asarray(image.resize(size, Image.Resampling.BOX)).reshape(size[1], size[0], C)


def grid(pictures: Sequence[np.ndarray], columns: int, gap: int = 2, least: int = 64) -> np.ndarray:
    """Return images side by side on white, each enlarged by a whole factor.

    >>> grid([np.zeros((32, 32, 3), np.uint8)] * 3, columns=2).shape
    (130, 130, 3)

    Args:
        pictures: images of one size, Y × X × C, uint8.
        columns: images in a row.
        gap: pixels between them.
        least: height or width in pixels, the larger of which is at least this.
    """
    Y, X, C = pictures[0].shape
    factor = max(1, -(-least // max(Y, X)))
    Y, X, rows = Y * factor, X * factor, -(-len(pictures) // columns)
    sheet = np.full((rows * (Y + gap) - gap, columns * (X + gap) - gap, C), 255, np.uint8)
    for k, picture in enumerate(pictures):
        y, x = k // columns * (Y + gap), k % columns * (X + gap)
        sheet[y : y + Y, x : x + X] = picture.repeat(factor, 0).repeat(factor, 1)
    return sheet


class ImageReader:
    """Normalises images by the mean and the standard deviation of each channel in training. Saved with the run."""

    def __init__(self, size: int, channels: int, mean: Sequence[float], scale: Sequence[float]):
        self.size, self.channels, self.mean, self.scale = size, channels, tuple(mean), tuple(scale)

    @classmethod
    def fit(cls, images: np.ndarray) -> ImageReader:
        """Return the reader of training images, N × Y × X × C bytes; statistics are those of at most 10,000 of them."""
        some = images[:: max(1, len(images) // 10_000)].reshape(-1, images.shape[3]).astype(np.float64) / 255
        mean, scale = some.mean(0).tolist(), np.maximum(some.std(0), 1e-3).tolist()
        return cls(images.shape[1], images.shape[3], [round(x, 6) for x in mean], [round(x, 6) for x in scale])

    def sizes(self) -> dict[str, int]:
        """Return the settings of a model that follow from this reader."""
        return {"image_size": self.size, "channels": self.channels}

    def _statistics(self, device: torch.device) -> list[torch.Tensor]:
        """Mean and scale, each C × 1 × 1."""
        return [torch.tensor(x, device=device)[:, None, None] for x in (self.mean, self.scale)]

    def read(self, batch: ImageBatch) -> ImageBatch:
        """Return the batch with normalised pixels, B × C × Y × X."""
        mean_C11, scale_C11 = self._statistics(batch.pixels_BCYX.device)
        return replace(batch, pixels_BCYX=(batch.pixels_BCYX.float() / 255 - mean_C11) / scale_C11)

    def write(self, pixels_BCYX: torch.Tensor) -> np.ndarray:
        """Return normalised pixels as bytes, B × Y × X × C: the inverse of ``read``."""
        mean_C11, scale_C11 = self._statistics(pixels_BCYX.device)
        bytes_BCYX = ((pixels_BCYX.float() * scale_C11 + mean_C11) * 255).round().clamp(0, 255).to(torch.uint8)
        return bytes_BCYX.movedim(1, 3).cpu().numpy()

    def open(self, path: Path) -> np.ndarray:
        """Return an image file at the size and channels of the run, Y × X × C bytes. Raises as `read_image_file`."""
        return grey(read_image_file(path, self.size)[None], self.channels)[0]

    def decode(self, content: bytes, where: str) -> np.ndarray:
        """Return the content of an image file as ``open`` does; ``where`` names it in errors."""
        return grey(decode(content, where, self.size)[None], self.channels)[0]

    def to_json(self) -> dict[str, Any]:
        """Return the reader as JSON values."""
        sizes = {"size": self.size, "channels": self.channels}
        return {"type": "images", **sizes, "mean": list(self.mean), "scale": list(self.scale)}

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> ImageReader:
        """Return the reader that ``to_json`` saved. Raises DataError for other content."""
        match saved:
            case {"size": int(size), "channels": int(channels), "mean": list(mean), "scale": list(scale)} if (
                len(mean) == len(scale) == channels in (1, 3) and 0 < size < 1 << 12 and all(0 < x < 1e3 for x in scale)
            ):
                return cls(size, channels, mean, scale)
        raise DataError("processor.json: not a saved reader of texts, tokens or images")


def grey(images_NYX3: np.ndarray, channels: int) -> np.ndarray:
    """Return images with this many channels; one channel is the luminance of ITU-R BT.601.

    >>> grey(np.full((1, 1, 1, 3), [255, 0, 0], np.uint8), 1).tolist()
    [[[[76]]]]

    Args:
        images_NYX3: N × Y × X × 3 (or × 1), uint8.
        channels: 1 or 3.
    """
    if channels == images_NYX3.shape[3]:
        return images_NYX3
    if channels == 3:
        return images_NYX3.repeat(3, 3)
    weights = np.array([299, 587, 114])
    return ((images_NYX3.astype(np.int64) @ weights + 500) // 1000).astype(np.uint8)[..., None]
