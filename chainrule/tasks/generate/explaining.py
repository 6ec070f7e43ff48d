"""The input of ``explain`` for runs of ``generate``."""

from __future__ import annotations

import numpy as np

from chainrule.data.token_texts import token_texts
from chainrule.explanation.model_input import ModelInput
from chainrule.runs.run import Run
from chainrule.tasks.explaining import register_input
from chainrule.tasks.generate.reading import encoded_all
from chainrule.tasks.inference import count_unknown


@register_input("generate")
def read(run: Run, text: str) -> ModelInput:
    """Return the tokens of a text, or of a record of symbols as it is written in a file.

    Args:
        run: a run of ``generate``.
        text: the text.
    """
    (ids,) = encoded_all(run, [text], "explain")
    texts = token_texts(run.processor.tokenizer, ids)
    return ModelInput(run, np.array(ids, np.int64), texts, unknown=count_unknown(run, ids))
