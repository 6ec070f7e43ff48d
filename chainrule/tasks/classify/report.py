"""The report of classify: which labels are predicted as which."""

from chainrule.report.confusion import ConfusionSection
from chainrule.tasks.board import register_section


@register_section("classify")
class ClassifySection(ConfusionSection):
    """A confusion matrix a row."""
