"""The law of codecs bites."""

from __future__ import annotations

import pytest
from coders import BREAKERS, coder
from verdicts import verdict

from chainrule.laws import examine
from chainrule.models.vq import ImageCodec


@pytest.mark.parametrize(("name", "model"), BREAKERS, ids=[m.__name__ for _, m in BREAKERS])
def test_the_law_catches_the_codec_that_breaks_it(name: str, model: type[ImageCodec]) -> None:
    assert not verdict(coder(model), name).ok, f"{model.__name__} gets away with it"


def test_the_unbroken_codec_keeps_every_law() -> None:
    assert [v for v in examine(coder(ImageCodec)) if not v.ok] == []
