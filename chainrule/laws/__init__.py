"""What every family must keep, as plain functions over the registry: what the verb ``laws`` runs."""

from chainrule.laws.subject import LawBroken, Subject
from chainrule.laws.suite import LAWS, Verdict, apply, check, examine, report

__all__ = ["LAWS", "LawBroken", "Subject", "Verdict", "apply", "check", "examine", "report"]
