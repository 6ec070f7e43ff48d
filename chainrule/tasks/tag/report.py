"""The report of tag: which tags are predicted as which."""

from chainrule.report.confusion import ConfusionSection
from chainrule.tasks.board import register_section


@register_section("tag")
class TagSection(ConfusionSection):
    """A confusion matrix a row."""
