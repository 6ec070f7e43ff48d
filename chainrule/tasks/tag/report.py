"""The report of tag: which tags are predicted as which."""

from chainrule.report.confusion import ConfusionSection


class TagSection(ConfusionSection):
    """A confusion matrix a row."""


SECTION = TagSection()
