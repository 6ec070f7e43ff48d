"""``explain`` of runs of ``generate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.data.token_texts import token_texts
from chainrule.explanation.model_input import ModelInput
from chainrule.explanation.trace import trace
from chainrule.runs.run import Run
from chainrule.tasks.generate.reading import encoded_all
from chainrule.tasks.inference import count_unknown


def explain(
    run: Run,
    text: str,
    *,
    view: Sequence[str] = (),
    at: int | None = None,
    top_k: int | None = None,
    layer: int | None = None,
    head: int | None = None,
    key: int | None = None,
    begin: int | None = None,
    end: int | None = None,
) -> dict[str, Any]:
    """Return the trace of a text.

    Args:
        run: a run of ``generate``.
        text: the text.
        view: names of views; none: the usual ones.
        at: place of the token whose prediction is explained.
        top_k: alternatives at each place.
        layer: layer that is shown.
        head: attention head that is shown.
        key: token whose attention weight is shown, -1 for the start token; None: the one that weighs most.
        begin: first token of the stretch that is shown.
        end: place behind its last token.
    """
    (ids,) = encoded_all(run, [text], "explain")
    given = {"at": at, "top_k": top_k, "layer": layer, "head": head, "key": key, "begin": begin, "end": end}
    record = ModelInput(run, np.array(ids, np.int64), token_texts(run.processor.tokenizer, ids))
    told = trace(record, view, {name: value for name, value in given.items() if value is not None})
    return {"trace": told, **({"unknown": unknown} if (unknown := count_unknown(run, ids)) else {})}
