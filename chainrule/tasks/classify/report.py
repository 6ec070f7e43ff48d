"""The report of classify: which labels are predicted as which."""

from chainrule.report.confusion import ConfusionSection


class ClassifySection(ConfusionSection):
    """A confusion matrix a row."""


SECTION = ClassifySection()
