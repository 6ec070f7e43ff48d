"""The report of fill: the table and learning curves, with the methodology of masked tokens."""

from chainrule.report.section import ReportSection
from chainrule.tasks.board import register_section


@register_section("fill")
class FillSection(ReportSection):
    """Masked accuracy, and the pseudo-log-likelihood in a column of its own."""

    curve_references = ("unigram_nats",)
    curve_ceiling = "unigram_nats"
