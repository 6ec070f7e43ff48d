"""The page of all routes at /docs: what OpenAPI says, without scripts, so that nothing comes from a network."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, Template
from markupsafe import Markup, escape

from chainrule.runs.run import Run

POLICY = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
CODE = re.compile("`([^`]*)`")
"""Code in a description, in Markdown."""
Schema = dict[str, Any]


ADDRESS = "ADDRESS"
"""Stands for the address of the server in the page, which is written once."""


def page(app: FastAPI, address: str) -> HTMLResponse:
    """Return the page of the routes of an application.

    Args:
        app: the application.
        address: the address that the client knows it by, for the examples.
    """
    return HTMLResponse(_written(app).replace(ADDRESS, escape(address.rstrip("/"))), headers=POLICY)


EXAMPLES: dict[str, tuple[str, Schema]] = {
    "generate": ("/v1/completions", {"max_tokens": 40}),
    "series": ("/v1/forecast", {"max_tokens": 6}),
    "translate": ("/v1/translate", {"input": "Good morning"}),
    "classify": ("/v1/classify", {"input": "Good morning"}),
    "tag": ("/v1/tag", {"input": "Good morning"}),
    "fill": ("/v1/fill", {"text": "Good [MASK]", "top_k": 3}),
    "draw": ("/v1/images/generations", {"prompt": "a red circle"}),
}
"""A request that every run of a task answers."""


def request(url: str, run: Run) -> str:
    """Return a command that asks a run, or lists the runs where its task needs a file.

    Args:
        url: the address of the server.
        run: the run.
    """
    if run.task not in EXAMPLES:
        return f"curl {url}/v1/models"
    path, body = EXAMPLES[run.task]
    return f"curl {url}{path} --json '{json.dumps(body)}'"


def _template(name: str) -> Template:
    environment = Environment(loader=PackageLoader("chainrule.serve", "templates"), autoescape=True)
    environment.filters["code"] = lambda told: Markup(CODE.sub(r"<code>\1</code>", str(escape(told))))
    return environment.get_template(name)


@cache
def _written(app: FastAPI) -> str:
    schema = app.openapi()
    known = schema.get("components", {}).get("schemas", {})
    routes = [
        _route(path, method, about, known)
        for path, methods in schema["paths"].items()
        for method, about in methods.items()
    ]
    return _template("reference.html").render(routes=routes, ADDRESS=ADDRESS)


def _route(path: str, method: str, about: Schema, known: Schema) -> dict[str, Any]:
    """Return the section of a route."""
    body, answer = (
        _resolved(found.get("content", {}).get("application/json", {}).get("schema", {}), known)
        for found in (about.get("requestBody", {}), about["responses"].get("200", {}))
    )
    example = next(iter(body.get("examples", [])), None)
    return {
        "path": path,
        "method": method.upper(),
        "told": about.get("description") or about.get("summary", ""),
        "fields": _fields(body, known),
        "answer": _fields(answer, known),
        "example": None if example is None else json.dumps(example, ensure_ascii=False),
    }


def _fields(schema: Schema, known: Schema) -> list[dict[str, Any]]:
    """Name, type and description of the entries of an object, those that must be given first."""
    needed = schema.get("required", [])
    found = [
        {"name": name, "kind": spelled(of, known), "told": of.get("description", ""), "needed": name in needed}
        for name, of in schema.get("properties", {}).items()
    ]
    return sorted(found, key=lambda field: not field["needed"])


def _resolved(schema: Schema, known: Schema) -> Schema:
    return known[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def spelled(schema: Schema, known: Schema) -> str:
    """Return the type of a field in words, with its limits.

    Args:
        schema: of JSON Schema.
        known: schemas by the names that others refer to.

    >>> spelled({"type": "integer", "minimum": 1, "maximum": 9}, {})
    'integer, 1 to 9'
    >>> spelled({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "maxItems": 5}]}, {})
    'string or list of up to 5 × string'
    """
    schema = _resolved(schema, known)
    if members := schema.get("anyOf") or schema.get("oneOf"):
        kinds = dict.fromkeys(spelled(member, known) for member in members)
        return " or ".join(kind for kind in kinds if kind != "null")
    if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else []):
        return " | ".join(map(json.dumps, choices))
    if schema.get("type") == "array":
        most = f"up to {schema['maxItems']:,} × " if "maxItems" in schema else ""
        items = spelled(schema.get("items", {}), known)
        return f"list of {most}({items})" if " or " in items else f"list of {most}{items}"
    kind = schema.get("type", "any value")
    low, high = (schema.get(name) for name in ("minimum", "maximum"))
    return kind if low is None or high is None else f"{kind}, {low:,} to {high:,}"
