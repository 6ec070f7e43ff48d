"""What every family must keep, as plain functions over the registry: what the verb ``laws`` runs."""

from chainrule.laws.subject import SUBJECTS, LawBroken, Numbers, Subject
from chainrule.laws.suite import LAWS, Verdict, apply, check, examine, named, report

__all__ = [
    "LAWS",
    "SUBJECTS",
    "LawBroken",
    "Numbers",
    "Subject",
    "Verdict",
    "apply",
    "check",
    "examine",
    "named",
    "report",
]
