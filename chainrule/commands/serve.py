"""``serve``: an HTTP server for runs."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from chainrule.core.precisions import USED
from chainrule.options import Result, argument, key, option, register_command
from chainrule.tasks.groups import Machine, Speculation

KEY = "CHAINRULE_API_KEY"
"""The variable of the environment that holds the key where ``--api-key`` does not."""


class ServeResult(Result):
    served: list[str] = key("the names of the runs that were served", always=True)


@register_command("serve", ServeResult, function="serve_runs")  # chainrule.serve is a package
class Serve(Machine, Speculation):
    """answer over HTTP: OpenAI's API and routes of chainrule's own"""

    runs: tuple[str, ...] = argument("folders of runs, or of boards with all their runs", nargs="+", metavar="RUN")
    host: str | None = option(
        "address to listen at (default: 127.0.0.1, this machine alone); any other needs a key", metavar="ADDRESS"
    )
    port: int | None = option("port to listen at; 0: any that is free (default: 8000)", metavar="N")
    api_key: str | None = option(
        f"key that every request must show but those to /health (default: ${KEY}, if set)", metavar="KEY"
    )
    allow_host: tuple[str, ...] = option(
        "another name that clients ask for this server by (may be repeated)", (), metavar="NAME"
    )
    queue: int | None = option(
        "requests that wait or run at once, for each run; more are refused (default: 128)", metavar="N"
    )
    timeout: float | None = option("seconds that an answer may take (default: 120)", metavar="S")
    log: str | None = option(
        "lines on standard error: requests (default; never their content), or errors alone",
        choices=("requests", "errors"),
    )
    precision: str | None = option(
        "number format (default: fp32; in bf16 the last bits of an answer may depend on what else is asked; int8, "
        "int4: weights of 8 or 4 bits, to generate faster (gpt, rnn, lstm, gru))",
        choices=USED,
        group="machine",
    )

    def lines(self, answer: dict[str, Any]) -> Iterable[str]:
        return ()  # what is served was told at the beginning

    def call(self) -> dict[str, Any]:
        from chainrule.core import UserError

        if not self.runs:
            raise UserError("serve needs the folder of a run or of a board: chainrule serve RUN")
        try:
            import fastapi  # noqa: F401
        except ImportError:
            raise UserError(
                "serve needs the extra 'serve': pip install '.[serve]' where chainrule was checked out"
            ) from None
        from chainrule.serve.server import Settings, serve

        machine = {name: value for name, value in self.given().items() if name in ("device", "precision", "threads")}
        machine = {"precision": "fp32", **machine}
        given = {
            name: getattr(self, name) for name in ("host", "port", "allow_host", "queue", "timeout", "log", "speculate")
        }
        given["key"] = (os.environ.get(KEY) or None) if self.api_key is None else self.api_key
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
        return {"served": serve(self.runs, settings, machine)}
