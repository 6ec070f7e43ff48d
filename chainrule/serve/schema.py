"""The document at /openapi.json: what FastAPI derives from the routes, with the errors and the key of this server."""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute

from chainrule.serve.health import PATH

Schema = dict[str, Any]
GREATEST = 2**63 - 1
"""The largest integer of a field; FastAPI's document has floats, which cannot hold it."""
ERRORS = {
    400: "The body is not JSON, or what it asks for cannot be done.", 401: "The key is missing or another one.",
    404: "There is no run of that name.", 413: "The body is too large.", 415: "The body is not application/json.",
    422: "A field cannot be used: `param` names it.", 429: "Too many requests at once: ask again later.",
    503: "The server is stopping, or out of memory.", 504: "The answer took too long.",
}  # fmt: skip
"""The meaning of errors, by status."""
ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string", "description": "What was given, what is accepted, what to send instead."},
                "type": {"type": "string", "description": "The kind of error, such as `invalid_request_error`."},
                "param": {"type": ["string", "null"], "description": "The field that it is about."},
                "code": {"type": ["string", "null"], "description": "A word that programs can compare."},
            },
        }
    },
}


def operation_id(route: APIRoute) -> str:
    """Return the name of a route for programs: its method and path.

    Args:
        route: the route.
    """
    return re.sub(r"\W+", "_", f"{min(route.methods or {'get'}).lower()}{route.path_format}").strip("_")


def describe(app: FastAPI, *, keyed: bool) -> None:
    """Give an application a document of its routes that tells of its errors and its key.

    Args:
        app: the application.
        keyed: requests must show a key.
    """
    derived = app.openapi

    def document() -> Schema:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(derived(), keyed)
        return app.openapi_schema

    app.openapi = document


def _completed(found: Schema, keyed: bool) -> Schema:
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Error"] = ERROR
    found["components"]["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    for path, methods in found["paths"].items():
        for method, operation in methods.items():
            operation["responses"].pop("422", None)
            operation["responses"] |= {str(status): _error(status) for status in _statuses(method, path)}
            operation["security"] = [] if path == PATH else [{"bearer": []}] if keyed else [{"bearer": []}, {}]
    return _in_json(found)


def _statuses(method: str, path: str) -> list[int]:
    """The statuses of errors that a route may answer."""
    if method == "post":
        return list(ERRORS)
    if path == PATH:
        return [503]
    takes_model = "{" in path or path == "/tokenizer_info"
    return [401, *([404] if takes_model else []), *([422] if path == "/tokenizer_info" else [])]


def _error(status: int) -> Schema:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": ERRORS[status], "content": content}


def _in_json(value: Any) -> Any:
    """A schema with whole numbers as such, and code in descriptions as Markdown has it."""
    if isinstance(value, list):
        return [_in_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: _in_json(item) for name, item in value.items()}
    for name in ("minimum", "maximum"):
        if isinstance(limit := found.get(name), float) and limit.is_integer():
            found[name] = min(int(limit), GREATEST)
    if isinstance(told := found.get("description"), str):
        found["description"] = re.sub(r"\bNone\b", "null", told.replace("``", "`"))
    return found
