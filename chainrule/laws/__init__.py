"""Conformance tests ("laws") of model types, as plain functions over the registry; the command ``laws`` runs them."""

from chainrule.laws.labelled import Labelling, Records, Tokens
from chainrule.laws.masked import WholeRows
from chainrule.laws.subject import SUBJECTS, LawBroken, Numbers, Sourced, Subject, register_subject
from chainrule.laws.suite import LAWS, Law, Verdict, apply, applying, check, examine, named, report

__all__ = [
    "LAWS",
    "SUBJECTS",
    "Labelling",
    "Law",
    "LawBroken",
    "Numbers",
    "Records",
    "Sourced",
    "Subject",
    "Tokens",
    "Verdict",
    "WholeRows",
    "apply",
    "applying",
    "check",
    "examine",
    "named",
    "register_subject",
    "report",
]
