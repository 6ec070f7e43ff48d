"""What every model type must keep, as plain functions over the registry: what the command ``laws`` runs."""

from chainrule.laws.subject import (
    SUBJECTS,
    Labelling,
    LawBroken,
    Numbers,
    Records,
    Sourced,
    Subject,
    Tokens,
    WholeRows,
    register_subject,
)
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
