"""``laws``: conformance tests of a model type."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chainrule.options import SECTIONS, Result, argument, key, register_command
from chainrule.tasks.groups import Plugin


class LawsResult(Result):
    model_types: dict[str, list[dict[str, Any]]] = key("a verdict for each law, by model type", always=True)


@register_command("laws", LawsResult, section=SECTIONS[2], function="check_laws")  # chainrule.laws is a package
class Laws(Plugin):
    """run the conformance tests of a model type, of all model types of a task, or of a file of your own"""

    name: str = argument("a model type, a task, or a file that registers either", metavar="FILE.py|NAME")

    def call(self) -> dict[str, Any]:
        from chainrule.laws import check, named

        found = {f.name if f.task == "generate" else f"{f.name} ({f.task})": f for f in named(self.name)}
        return {"model_types": {label: [vars(verdict) for verdict in check(f)] for label, f in found.items()}}

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        from chainrule.laws import Verdict, report

        for name, found in answer["model_types"].items():
            yield f"{name}\n{report([Verdict(**verdict) for verdict in found])}"

    def failure(self, answer: dict[str, Any]) -> str | None:
        from chainrule.laws.suite import BUILT

        found = [(name, v) for name, verdicts in answer["model_types"].items() for v in verdicts if not v["ok"]]
        unbuilt = [f"{name} cannot be built: {v['detail']}" for name, v in found if v["law"] == BUILT]
        broken = [f"{name}: {v['law']}" for name, v in found if v["law"] != BUILT]
        return "; ".join(unbuilt + [f"{len(broken)} law(s) broken: {'; '.join(broken)}"] * bool(broken)) or None
