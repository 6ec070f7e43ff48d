"""Claims about sequence models, measured on the runs of a server: one at a time, and each once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from chainrule.claims import Claim, Finding, Runs, all_claims
from chainrule.inference.scheduler import Caller

if TYPE_CHECKING:
    from chainrule.serve.service import Served


class Measurements:
    """Findings of the claims that were measured so far.

    Args:
        served: the runs by name.
    """

    def __init__(self, served: Mapping[str, Served]):
        self._served, self._caller = served, Caller()
        self._found: dict[str, Finding] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="chainrule-claims")
        """One thread: two claims that borrow the same runs never wait for each other."""

    async def find(self, name: str, lang: str) -> dict[str, Any] | None:
        """Return what is found of a claim, as JSON; None: there is no such claim.

        Args:
            name: the claim.
            lang: ``en`` or ``ko``.
        """
        claim = next((one for one in all_claims() if one.name == name), None)
        if claim is None:
            return None
        found = await asyncio.wrap_future(self._thread.submit(self._measure, claim))
        return found.as_json(claim.words(lang))

    def close(self) -> None:
        """Refuse new measurements, and end the one that runs before its next piece."""
        self._caller.leave()
        self._thread.shutdown(cancel_futures=True)

    def _measure(self, claim: Claim) -> Finding:
        if claim.name not in self._found:
            with ExitStack() as lent:
                runs = Runs(
                    {name: one.run for name, one in self._served.items()},
                    use=lambda name: lent.enter_context(self._served[name].workers.borrowed(self._caller)),
                )
                self._found[claim.name] = claim.measure(runs)
        return self._found[claim.name]
