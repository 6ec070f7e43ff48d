"""``chainrule serve`` and ``curl`` as pages show them, in this process."""

from __future__ import annotations

import json
from typing import Any

from fastapi.testclient import TestClient

from chainrule.cli.parser import parse
from chainrule.serve.app import application
from chainrule.serve.service import Service, open_service

ADDRESS = "http://127.0.0.1:8000"


class Server:
    """The server that a page has started last."""

    def __init__(self) -> None:
        self.service: Service | None = None

    def serve(self, words: list[str]) -> None:
        """Serve the runs of a command line in place of those before."""
        self.close()
        options: Any = parse(words)[0]
        self.service = open_service(options.runs, threads=1)

    def curl(self, words: list[str]) -> str:
        """Return what a request is answered: ``curl URL --json BODY``."""
        assert self.service is not None, "nothing is served"
        (url, flag, body), client = words, TestClient(application(self.service), base_url=ADDRESS)
        assert url.startswith(f"{ADDRESS}/") and flag == "--json"
        answer = client.post(url.removeprefix(ADDRESS), json=json.loads(body))
        assert answer.status_code == 200, answer.text
        return answer.text

    def close(self) -> None:
        if self.service is not None:
            self.service.close()
