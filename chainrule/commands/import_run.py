"""``import``: a run from an ARPA file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import MISSING
from typing import Any

from chainrule.options import SECTIONS, Result, argument, key, option, register_command
from chainrule.tasks.groups import Overwrite


class ImportResult(Result):
    run: str = key("the run folder", always=True)
    n: int = key("the order of the n-grams", always=True)
    words: int = key("words of the vocabulary", always=True)
    ngrams: int = key("n-grams", always=True)


@register_command("import", ImportResult, section=SECTIONS[2], function="import_run")
class Import(Overwrite):
    """make a run from an ARPA file of word n-grams"""

    path: str = argument("the ARPA file, plain or .gz", metavar="PATH")
    out: str = option("the run folder", MISSING, metavar="RUN", place=True)

    def call(self) -> dict[str, Any]:
        from chainrule.tasks.generate.arpa import import_arpa

        return import_arpa(self.path, self.out, overwrite=self.overwrite)

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        size = f"{answer['ngrams']:,} n-grams of at most {answer['n']} words"
        yield f"{answer['run']}: {size}, {answer['words']:,} different words"
