"""The subject that asks the model types of each task."""

from chainrule.laws.labelled import Coded, Records, Shown, Tokens
from chainrule.laws.masked import CaptionImages, WholeRows
from chainrule.laws.subject import Numbers, Sourced, Subject

SUBJECTS: dict[str, type[Subject]] = {
    "generate": Subject,
    "series": Numbers,
    "tag": Tokens,
    "classify": Records,
    "classify-images": Shown,
    "codes": Coded,
    "draw": CaptionImages,
    "translate": Sourced,
    "fill": WholeRows,
}
"""Subjects by task: each knows the inputs and the questions for the models of its task."""
