"""Claims that people repeat about sequence models, each measured on the user's own runs."""

from chainrule.claims.claim import Claim, all_claims
from chainrule.claims.finding import Chart, Finding, Said, Strip, Table, say
from chainrule.claims.runs import MissingRun, Runs

__all__ = ["Chart", "Claim", "Finding", "MissingRun", "Runs", "Said", "Strip", "Table", "all_claims", "say"]
