"""The input of ``explain`` for runs of ``draw``."""

from __future__ import annotations

import numpy as np

from chainrule.core import UserError
from chainrule.core.noise import derive_seeds
from chainrule.data.captioned import Captions, tokens_of
from chainrule.data.token_texts import token_name, token_texts
from chainrule.explanation.image_input import DrawnInput
from chainrule.explanation.model_input import Picture
from chainrule.runs.run import Run
from chainrule.tasks.draw.task import drawings, image_of
from chainrule.tasks.explaining import register_input

PADDING = "(pad)"


@register_input("draw")
def read(run: Run, text: str, seed: int | None = None) -> DrawnInput:
    """Return a caption and a drawing of it, whose tokens are explained; unless one is asked for, that in the middle.

    Args:
        run: a run of ``draw``.
        text: the caption.
        seed: seed of the drawing, the first that ``draw`` makes by it; None: 42.

    Raises:
        UserError: an empty caption, or one that is too long.
    """
    captions, side = run.processor.captions, run.model.codec.side
    words = tokens_of(text, captions.tokenizer)
    if not 0 < len(words) <= captions.places:
        raise UserError(
            f"explain: the caption has {len(words)} tokens, and this run reads 1 to {captions.places}: "
            f"{'shorten it' if len(words) else 'give one'}"
        )
    ids_1P, _ = drawings(run, [text], seeds=derive_seeds(42 if seed is None else seed, 1))
    image = image_of(run, ids_1P)[0]
    picture = Picture.of(image, image.shape[0] / side, captions.places)
    padding = [PADDING] * (captions.places - len(words))
    return DrawnInput(
        run,
        captions.records([text], ids_1P)[0].astype(np.int64),
        [*token_texts(captions.tokenizer, [*words]), *padding, *picture.texts()],
        lambda k: _name(captions, k),
        at=captions.places + side * (side // 2) + side // 2,
        unknown=sum(int(word == captions.tokenizer.unknown) for word in words),
        picture=picture,
    )


def _name(captions: Captions, k: int) -> str:
    if k < captions.words:
        return token_name(captions.tokenizer, k)
    return PADDING if k < captions.picture else f"code {k - captions.picture}"
