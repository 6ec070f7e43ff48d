"""The page of all routes at /docs: what OpenAPI says, without scripts, so that nothing comes from a network."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader

POLICY = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
Schema = dict[str, Any]


def page(app: FastAPI) -> HTMLResponse:
    """Return the page of the routes of an application."""
    return HTMLResponse(_written(app), headers=POLICY)


@cache
def _written(app: FastAPI) -> str:
    schema = app.openapi()
    known = schema.get("components", {}).get("schemas", {})
    routes = [
        _route(path, method, about, known)
        for path, methods in schema["paths"].items()
        for method, about in methods.items()
    ]
    template = Environment(loader=PackageLoader("chainrule.serve", "templates"), autoescape=True)
    return template.get_template("reference.html").render(routes=routes)


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
    return kind if low is None or high is None else f"{kind}, {low:g} to {int(high) if high == int(high) else high:,}"
