"""``explain`` of runs of ``translate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.core import UserError
from chainrule.data.pair_encoding import LONGEST
from chainrule.data.pairs import side_of
from chainrule.data.token_texts import token_texts
from chainrule.data.tokenizers import TextTokenizer
from chainrule.explanation.model_input import PairInput
from chainrule.explanation.trace import trace
from chainrule.runs.run import Run
from chainrule.tasks.translate.task import translations


def explain(
    run: Run,
    text: str,
    *,
    target: str | None = None,
    view: Sequence[str] = (),
    at: int | None = None,
    top_k: int | None = None,
    layer: int | None = None,
    head: int | None = None,
    key: int | None = None,
    begin: int | None = None,
    end: int | None = None,
) -> dict[str, Any]:
    """Return the trace of a translation; its tokens are those of the target, its end the last.

    Args:
        run: a run of ``translate``.
        text: the source.
        target: the target; None: the best translation that beam search finds.
        view: names of views; none: the usual ones.
        at: place of the token of the target whose prediction is explained.
        top_k: alternatives at each place.
        layer: layer that is shown.
        head: attention head that is shown.
        key: token whose attention weight is shown, -1 for the start token; None: the one that weighs most.
        begin: first token of the stretch that is shown.
        end: place behind its last token.

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
    given = {"at": at, "top_k": top_k, "layer": layer, "head": head, "key": key, "begin": begin, "end": end}
    pair = PairInput(
        run,
        np.append(found, run.model.vocab_size - 1),
        [*token_texts(tokenizer, found.tolist()), ""],
        source,
        token_texts(run.processor.source, source.tolist()),
    )
    return {"trace": trace(pair, view, {name: value for name, value in given.items() if value is not None})}


def _encoded(tokenizer: TextTokenizer, text: str, side: str) -> np.ndarray:
    ids = tokenizer.encode(side_of(text).encode()).ids.astype(np.int64)
    if len(ids) > LONGEST:
        raise UserError(f"explain: the {side} has {len(ids):,} tokens, and at most {LONGEST:,} are read: give a part")
    return ids
