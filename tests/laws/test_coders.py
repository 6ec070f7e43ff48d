"""The law of codecs bites."""

from __future__ import annotations

import pytest
from coders import BREAKERS, coder

from chainrule.laws import LAWS, apply, examine
from chainrule.models.vq import PictureCodec


@pytest.mark.parametrize(("name", "model"), BREAKERS, ids=[m.__name__ for _, m in BREAKERS])
def test_the_law_catches_the_codec_that_breaks_it(name: str, model: type[PictureCodec]) -> None:
    function, needs = next((f, n) for law, f, n in LAWS if law == name)
    verdict = apply(coder(model), name, function, needs)
    assert not verdict.skipped
    assert not verdict.ok, f"{model.__name__} gets away with it"


def test_the_unbroken_codec_keeps_every_law() -> None:
    assert [v for v in examine(coder(PictureCodec)) if not v.ok] == []
