"""One picture: looked at before it is decoded, brought to a size, made numbers of, and written again.

A picture is told by its first bytes, whatever its name says; one that says of itself that it has more than 16 million pixels is
refused before anything is allocated for it. Of an animation the first frame is read; what is transparent stands on white; 16 bits
become 8; CMYK becomes RGB; a camera's note on which side is up is followed.
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
from chainrule.core.errors import DataError, MachineError

MOST_PIXELS = 16_000_000
MOST_BYTES = 64 << 20
"""Of an image file."""


def kind_of(content: bytes) -> str | None:
    """PNG, JPEG or WEBP by the first bytes; None: none of them."""
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "WEBP" if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def opened(file: Any, kind: str) -> Any:
    """An image of which the header alone is read, by the decoder of this kind: ``Image.open`` warns on standard error of the large ones,
    before we can refuse them. Raises whatever the decoder raises.
    """
    from PIL import JpegImagePlugin, PngImagePlugin, WebPImagePlugin

    decoders: dict[str, Any] = {
        "PNG": PngImagePlugin.PngImageFile, "JPEG": JpegImagePlugin.jpeg_factory, "WEBP": WebPImagePlugin.WebPImageFile
    }  # fmt: skip
    return decoders[kind](file)


def size_of(path: Path) -> tuple[int, int]:
    """Y and X by the header. Raises whatever the decoder raises, and KeyError where there is none."""
    with path.open("rb") as file:
        kind = kind_of(file.read(16))
        file.seek(0)
        image = opened(file, str(kind))
        return image.height, image.width


def decode(content: bytes, where: str, size: int | None = None) -> np.ndarray:
    """The pixels of a file, Y x X x 3, uint8; with ``size`` scaled to cover a square of that side, and cut around its middle.

    Raises DataError, with ``where``: no PNG, JPEG or WebP, more than 16 million pixels (said before they are decoded), damaged.
    """
    from PIL import Image, ImageOps

    kind = kind_of(content)
    if kind is None:
        raise DataError(f"{where}: no PNG, JPEG or WebP by its first bytes; convert it first")
    try:
        image = opened(io.BytesIO(content), kind)
        if image.width * image.height > MOST_PIXELS:
            raise DataError(_too_large(where, f"{image.width:,} x {image.height:,} pixels"))
        if kind == "JPEG" and size:
            image.draft(None, (2 * size, 2 * size))  # decodes at a fraction of the size, where that is enough
        image.load()
        image = _in_colours(ImageOps.exif_transpose(image))
        if size:
            image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
        return np.asarray(image, np.uint8)
    except DataError:
        raise
    except Image.DecompressionBombError:  # of WebP, before a canvas is made
        raise DataError(_too_large(where, "far too many pixels")) from None
    except MemoryError:
        raise
    except Exception as error:  # a decoder that is fed rubbish may raise anything
        raise DataError(f"{where}: a damaged {kind} ({first_line(error)}); leave it out, or --on-bad skip") from None


def first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _too_large(where: str, what: str) -> str:
    return f"{where}: {what}, more than {MOST_PIXELS // 10**6} million: scale it down first"


def _in_colours(image: Any) -> Any:
    """As RGB."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):  # 16 bits and more: the upper eight
        values = np.asarray(image).astype(np.float64)
        scale = 257 if values.max(initial=0) > 255 else 1
        return Image.fromarray((values / scale).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def read_image_file(path: Path, size: int | None = None) -> np.ndarray:
    """A file as ``decode`` gives it. Raises as ``decode``, and MachineError where the file cannot be opened."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(
                f"{path}: {path.stat().st_size:,} bytes, more than {MOST_BYTES >> 20} MiB: scale it down first"
            )
        return decode(path.read_bytes(), str(path), size)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise MachineError(f"{path}: {error.strerror or error}") from error


def as_png(pixels_YXC: np.ndarray) -> bytes:
    """Pixels, uint8, 1 or 3 channels, as a PNG file."""
    from PIL import Image

    found = io.BytesIO()
    plain = pixels_YXC[:, :, 0] if pixels_YXC.shape[2] == 1 else pixels_YXC
    Image.fromarray(plain).save(found, format="PNG", optimize=True)
    return found.getvalue()


def grid(pictures: Sequence[np.ndarray], columns: int, gap: int = 2, least: int = 64) -> np.ndarray:
    """Pictures of one size side by side on white, each enlarged by a whole factor to at least ``least`` pixels."""
    first = pictures[0]
    factor = max(1, -(-least // max(first.shape[:2])))
    Y, X, C = (first.shape[0] * factor, first.shape[1] * factor, first.shape[2])
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (Y + gap) - gap, columns * (X + gap) - gap, C), 255, np.uint8)
    for k, picture in enumerate(pictures):
        y, x = k // columns * (Y + gap), k % columns * (X + gap)
        sheet[y : y + Y, x : x + X] = picture.repeat(factor, 0).repeat(factor, 1)
    return sheet


class ImageReader:
    """Bytes become numbers of about unit variance, by the mean and scale of each channel in training. Saved with the run."""

    def __init__(self, size: int, channels: int, mean: Sequence[float], scale: Sequence[float]):
        self.size, self.channels, self.mean, self.scale = size, channels, tuple(mean), tuple(scale)

    @classmethod
    def fit(cls, images: np.ndarray) -> ImageReader:
        """Statistics of at most 10,000 pictures."""
        some = images[:: max(1, len(images) // 10_000)].reshape(-1, images.shape[3]).astype(np.float64) / 255
        mean, scale = some.mean(0).tolist(), np.maximum(some.std(0), 1e-3).tolist()
        return cls(images.shape[1], images.shape[3], [round(x, 6) for x in mean], [round(x, 6) for x in scale])

    def sizes(self) -> dict[str, int]:
        return {"image_size": self.size, "channels": self.channels}

    def read(self, batch: ImageBatch) -> ImageBatch:
        """With the pixels as numbers, B x C x Y x X."""
        mean_C11, scale_C11 = (torch.tensor(x)[:, None, None] for x in (self.mean, self.scale))
        return replace(batch, pixels_BCYX=(batch.pixels_BCYX.float() / 255 - mean_C11) / scale_C11)

    def write(self, pixels_BCYX: torch.Tensor) -> np.ndarray:
        """Numbers of this scale as bytes, B x Y x X x C."""
        mean_C11, scale_C11 = (
            torch.tensor(x, device=pixels_BCYX.device)[:, None, None] for x in (self.mean, self.scale)
        )
        bytes_BCYX = ((pixels_BCYX.float() * scale_C11 + mean_C11) * 255).round().clamp(0, 255).to(torch.uint8)
        return bytes_BCYX.movedim(1, 3).cpu().numpy()

    def open(self, path: Path) -> np.ndarray:
        """A file as the run's pictures are, Y x X x C."""
        return grey(read_image_file(path, self.size)[None], self.channels)[0]

    def to_json(self) -> dict[str, Any]:
        return {
            "type": "images", "size": self.size, "channels": self.channels, "mean": list(self.mean), "scale": list(self.scale),
        }  # fmt: skip


def grey(images_NYX3: np.ndarray, channels: int) -> np.ndarray:
    """With one channel where that is wanted: the luminance of ITU-R BT.601."""
    if channels == images_NYX3.shape[3]:
        return images_NYX3
    if channels == 3:
        return images_NYX3.repeat(3, 3)
    weights = np.array([299, 587, 114])
    return ((images_NYX3.astype(np.int64) @ weights + 500) // 1000).astype(np.uint8)[..., None]
