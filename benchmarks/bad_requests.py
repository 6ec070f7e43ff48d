"""Bad requests to an HTTP server, made from a grammar: broken HTTP around good bodies, and bad bodies within good HTTP.

Each must be answered by a 4xx, and leave the server as it was.
"""

from __future__ import annotations

import json
import random
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
Target = tuple[str, bytes]
"""A path, and a body that is good there."""


@dataclass(frozen=True)
class Case:
    """One bad request, or several in one connection.

    Args:
        name: what is bad about it.
        data: the bytes that are sent.
        good: requests before it that are good.
        may_be_cut: the server may close the connection before all was sent, and its answer be lost.
    """

    name: str
    data: bytes
    good: int = 0
    may_be_cut: bool = False


def bad_requests(count: int, seed: int, targets: Sequence[Target]) -> Iterator[Case]:
    """Yield bad requests, of each kind in turns.

    Args:
        count: how many.
        seed: of what is chosen at random.
        targets: paths with bodies that are good there.
    """
    chance = random.Random(seed)
    kinds: list[Callable[[random.Random, Target], Case]] = [_bad_json, _bad_value, _bad_framing, _bad_head]
    for k in range(count):
        yield kinds[k % len(kinds)](chance, chance.choice(targets))


def post(path: str, body: bytes, *more: str, kind: str = "application/json", length: int | None = None) -> bytes:
    """Return a request as bytes.

    Args:
        path: of the URL.
        body: its body.
        more: more lines of its head.
        kind: the type of the body.
        length: the length that is announced; None: the true one.
    """
    lines = [
        f"POST {path} HTTP/1.1", "host: localhost", "connection: close", f"content-type: {kind}",
        f"content-length: {len(body) if length is None else length}", *more,
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


# --- bodies -----------------------------------------------------------------------------------------------------------


def _bad_json(chance: random.Random, target: Target) -> Case:
    path, good = target
    depth, digits = chance.randrange(300, 10_000), chance.randrange(5_000, 50_000)
    broken = {
        "depth": b"[" * depth, "closed depth": b"[" * depth + b"]" * depth, "depth of objects": b'{"a":' * depth,
        "a key twice": good[:-1] + b"," + good[1:], "cut off": good[: chance.randrange(1, len(good))],
        "more behind": good + chance.choice([b"x", b"{}", b"\0", b","]), "single quotes": good.replace(b'"', b"'"),
        "NaN": good[:-1] + b', "seed": NaN}', "Infinity": good[:-1] + b', "seed": -Infinity}',
        "digits": good[:-1] + b', "other": ' + b"9" * digits + b"}", "utf-16": good.decode().encode("utf-16"),
        "a mark of byte order": b"\xef\xbb\xbf" + good, "half a pair": good[:-1] + b', "other": "\\ud800"}',
        "bytes": good[:-1] + b', "other": "' + bytes(chance.choices(range(128, 192), k=9)) + b'"}',
        "no object": chance.choice([b"[]", b"1", b'"a"', b"null", b"true"]), "nothing": b"",
        "a comment": b"/* */" + good, "random bytes": b"\x01" + chance.randbytes(chance.randrange(200)),
    }  # fmt: skip
    name = chance.choice(sorted(broken))
    return Case(f"JSON: {name}", post(path, broken[name]))


def _bad_value(chance: random.Random, target: Target) -> Case:
    path, good = target
    given = json.loads(good)
    field = chance.choice(sorted(given))
    wrong = [{}, {"a": 1}, [[[]]], [None], True, 1e300, -1e300, 2**63, -(2**63), [[{}]], {"$ref": "#"}]
    if chance.random() < 0.5:
        return Case("value: of another type", post(path, json.dumps({**given, field: chance.choice(wrong)}).encode()))
    unknown = chance.choice(["", "__class__", "a" * 10_000, "constructor", "\u202e", "max_token", "\0"])
    return Case("value: unknown field", post(path, json.dumps({**given, unknown: chance.choice(wrong)}).encode()))


# --- HTTP -------------------------------------------------------------------------------------------------------------


def _bad_framing(chance: random.Random, target: Target) -> Case:
    path, good = target
    head = (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n".encode()
    )
    chunked = head + b"transfer-encoding: chunked\r\n\r\n"
    size = chance.choice([b"-1", b"0x10", b"g", b"1 1", b"99999999999999999999999", b""])
    broken = {
        "length of letters": post(path, good, length="ten"),  # type: ignore[arg-type]
        "negative length": post(path, good, length=-5), "length too small": post(path, good, length=len(good) - 1),
        "length of a terabyte": post(path, good, length=2**40),
        "two lengths": post(path, good, f"content-length: {len(good) + 1}"),
        "unknown transfer encoding": head + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "size of a chunk": chunked + size + b"\r\n" + good + b"\r\n0\r\n\r\n",
        "end of a chunk": chunked + b"%x\r\n" % (len(good) - 1) + good + b"\r\n0\r\n\r\n",
        "long extension of a chunk": chunked + b"5;" + b"a" * 200_000 + b"\r\n",
        "compressed": post(path, good[::-1], "content-encoding: gzip"),
        "a form": post(path, b"prompt=a", kind="application/x-www-form-urlencoded"),
        "another type": post(path, good, kind=chance.choice(["text/plain", "*/*", "application", "a/b/c"])),
        "another charset": post(path, good, kind="application/json; charset=utf-16"),
    }  # fmt: skip
    name = chance.choice(sorted(broken))
    return Case(f"framing: {name}", broken[name], may_be_cut=name == "long extension of a chunk")


def _bad_head(chance: random.Random, target: Target) -> Case:
    path, good = target
    line = "\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    fine = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"
    strange = [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/%00",
        "/" + "a" * 9_000,
        "//",
        "/%ff%fe",
        "/v1/../v1",
    ]
    broken: dict[str, bytes] = {
        "a path": f"GET {chance.choice(strange)} HTTP/1.1{line}".encode(),
        "a method": f"{chance.choice(['PATCH', 'TRACE', 'get', 'BREW'])} {path} HTTP/1.1{line}".encode(),
        "a version": f"GET {path} HTTP/{chance.choice(['9.9', '2', 'x'])}{line}".encode(),
        "HTTP/1.0 with a bad body": f"POST {path} HTTP/1.0\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n[]".encode(),
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        "no host": f"POST {path} HTTP/1.1\r\nconnection: close\r\n\r\n".encode(),
        "two hosts": f"GET {path} HTTP/1.1\r\nhost: a{line}".encode(),
        "a foreign host": post(path, good).replace(b"localhost", b"evil.example"),
        "a name with a space": f"GET {path} HTTP/1.1\r\nx y: 1{line}".encode(),
        "a NUL": f"GET {path} HTTP/1.1\r\nx: \0{line}".encode(),
        "a folded line": f"GET {path} HTTP/1.1\r\n x: 1{line}".encode(),
        "a megabyte": post(path, good, "x: " + "a" * (1 << 20)),
        "a hundred thousand lines": post(path, good, *["x: 1"] * 100_000),
        "random bytes": chance.randbytes(99) + b"\r\n\r\n",
        "only line feeds": b"\n" * 9 + b"x\r\n\r\n",
    }  # fmt: skip
    if chance.random() < 0.1:
        return Case("head: behind a good request", fine + b"GET  HTTP/1.1\r\n\r\n", good=1)
    name = chance.choice(sorted(broken))
    return Case(f"head: {name}", broken[name], may_be_cut=name in ("a megabyte", "a hundred thousand lines", "a path"))


# --- sending ----------------------------------------------------------------------------------------------------------


def exchange(port: int, data: bytes, timeout: float) -> bytes:
    """Send bytes to a port of this machine, and return all that comes back until it is closed, or for some seconds."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        try:
            connection.sendall(data)
            while part := connection.recv(65536):
                received += part
        except (ConnectionResetError, BrokenPipeError, TimeoutError):
            pass
    return received


def answers(received: bytes) -> list[int]:
    """Return the status of each answer in what a server sent."""
    return [int(status) for status in STATUS.findall(received)]
