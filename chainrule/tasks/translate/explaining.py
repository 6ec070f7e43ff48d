"""The input of ``explain`` for runs of ``translate``."""

from __future__ import annotations

import numpy as np

from chainrule.core import UserError
from chainrule.data.pair_encoding import LONGEST
from chainrule.data.pairs import side_of
from chainrule.data.token_texts import token_texts
from chainrule.data.tokenizers import TextTokenizer
from chainrule.explanation.model_input import PairInput
from chainrule.runs.run import Run
from chainrule.tasks.explaining import register_input
from chainrule.tasks.translate.task import translations


@register_input("translate")
def read(run: Run, text: str, target: str | None = None) -> PairInput:
    """Return a source and its translation; the tokens are those of the target, its end the last.

    Args:
        run: a run of ``translate``.
        text: the source.
        target: the target; None: the best translation that beam search finds.

    Raises:
        UserError: an empty source, or a text that is too long.
    """
    tokenizer, source = run.processor.target, _encoded(run.processor.source, text, "source")
    if not len(source):
        raise UserError("explain: the source is empty: give a text of at least one token")
    if target is None:
        ((best, *_),) = translations(run, [source.astype(np.int32)])
        found = np.array(best.ids, np.int64)
    else:
        found = _encoded(tokenizer, target, "target")
    strange = run.processor.source.unknown, tokenizer.unknown
    return PairInput(
        run,
        np.append(found, run.model.vocab_size - 1),
        [*token_texts(tokenizer, found.tolist()), ""],
        source,
        token_texts(run.processor.source, source.tolist()),
        unknown=sum(int((ids == k).sum()) for ids, k in zip((source, found), strange) if k is not None),
    )


def _encoded(tokenizer: TextTokenizer, text: str, side: str) -> np.ndarray:
    ids = tokenizer.encode(side_of(text).encode()).ids.astype(np.int64)
    if len(ids) > LONGEST:
        raise UserError(f"explain: the {side} has {len(ids):,} tokens, and at most {LONGEST:,} are read: give a part")
    return ids
