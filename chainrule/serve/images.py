"""``/v1/images/generations``: images from captions."""

from __future__ import annotations

import base64
import secrets
import time
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from chainrule.data.captioned import tokens_of
from chainrule.data.image_files import as_png
from chainrule.serve.bodies import Body, Seed, Share, Temperature, example
from chainrule.serve.choice import chosen
from chainrule.serve.errors import Refused, shown
from chainrule.serve.limits import IMAGES
from chainrule.serve.service import Served
from chainrule.tasks.draw.inference import draw
from chainrule.tasks.inference import decode_inputs

router = APIRouter(prefix="/v1")


class Drawing(Body):
    """The body of a request to ``/v1/images/generations``.

    ``seed``, ``guidance``, ``temperature``, ``top_k`` and ``top_p`` are not OpenAI's.
    """

    model_config = example(prompt="a small red circle at the top left on white", n=1)
    neutral = {
        **Body.neutral, "quality": ("auto", "standard"), "background": ("auto", "opaque"), "moderation": ("auto",),
        "output_format": ("png",), "output_compression": (100,), "stream": (False,), "partial_images": (0,),
    }  # fmt: skip

    prompt: str
    """The caption."""
    n: int = Field(1, ge=1, le=IMAGES)
    """Images of it."""
    size: str = "auto"
    """The size that the run draws, such as 32x32, or ``auto``."""
    response_format: Literal["b64_json"] = "b64_json"
    """Images come as PNG files in base64."""
    seed: Seed | None = None
    """Equal requests with a seed have equal answers (default: another seed each time)."""
    guidance: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    """Above 1, captions are followed more closely (default: as tuned on validation)."""
    temperature: Temperature | None = None
    """Divides the logits (default: as tuned on validation)."""
    top_k: int = Field(0, ge=0, le=2**31 - 1)
    """Draw from the k most probable tokens; 0: from all."""
    top_p: Share = 1.0
    """Draw from the fewest most probable tokens whose probabilities reach p."""


@router.post("/images/generations")
async def generations(body: Drawing, request: Request) -> dict[str, Any]:
    """Draw images of a caption, in the size that the run was trained with."""
    served = chosen(request.app.state.service, "/v1/images/generations", body.model)
    side = served.run.processor.reader.size
    if body.size not in ("auto", f"{side}x{side}"):
        raise Refused("size", f"size {shown(body.size)}: this model draws {side}x{side}")
    caption = decode_inputs(served.run, {"caption": body.prompt})["caption"]
    images = await served.workers.compute(lambda: _drawn(served, caption, body))
    told = _notes(served, caption)
    data = [{"b64_json": base64.b64encode(image).decode()} for image in images]
    return {"created": int(time.time()), "data": data, "output_format": "png", "size": f"{side}x{side}", **told}


def _notes(served: Served, caption: str) -> dict[str, int]:
    """The number of unknown tokens of a caption, and of a caption that was cut, the number that was read."""
    captions = served.run.processor.captions
    ids = tokens_of(caption, captions.tokenizer)
    read = ids[: captions.places]
    told = {
        "unknown": sum(k == captions.tokenizer.unknown for k in read.tolist()),
        "cut": len(read) * (len(read) < len(ids)),
    }
    return {name: many for name, many in told.items() if many}


def _drawn(served: Served, caption: str, body: Drawing) -> list[bytes]:
    how = body.model_dump(include={"n", "guidance", "temperature", "top_k", "top_p"})
    how["seed"] = secrets.randbits(62) if body.seed is None else body.seed
    return [as_png(image) for image in draw(served.run, caption, **how)["images"]]
