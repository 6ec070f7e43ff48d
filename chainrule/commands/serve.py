"""``serve``: an HTTP server for runs."""

from __future__ import annotations

from typing import Any

from chainrule.options import Result, argument, key, option, register_command
from chainrule.tasks.groups import Machine


class ServeResult(Result):
    served: list[str] = key("the names of the runs that were served", always=True)


@register_command("serve", ServeResult)
class Serve(Machine):
    """answer over HTTP: OpenAI's API and routes of chainrule's own"""

    runs: tuple[str, ...] = argument("folders of runs, or of boards with all their runs", nargs="+", metavar="RUN")
    host: str | None = option("address to listen at (default: 127.0.0.1, this machine alone)", metavar="ADDRESS")
    port: int | None = option("port to listen at (default: 8000)", metavar="N")

    def call(self) -> dict[str, Any]:
        from chainrule.core import UserError

        try:
            import fastapi  # noqa: F401
            import uvicorn
        except ImportError:
            raise UserError("serve needs the extra 'serve': pip install 'chainrule[serve]'") from None
        from chainrule.serve.app import application
        from chainrule.serve.service import open_service

        machine = {name: value for name, value in self.given().items() if name in ("device", "precision", "threads")}
        service = open_service(self.runs, **machine)
        uvicorn.run(application(service), host=self.host or "127.0.0.1", port=self.port or 8000)
        service.close()
        return {"served": list(service.runs)}
