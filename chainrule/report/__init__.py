"""The report: ``board.json`` to one HTML page. It knows no task, no model and no trainer; a task brings its section."""

from chainrule.report.messages import Catalogue
from chainrule.report.page import render
from chainrule.report.section import ReportSection

__all__ = ["Catalogue", "ReportSection", "render"]
