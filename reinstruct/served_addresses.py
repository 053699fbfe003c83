"""Where servers are: what a URL says, and which addresses stand behind a host name.

The one rule: what stands after `#` is for this client and is never sent. `dns` there asks for every address the host
name resolves to, now and while the client runs, as a headless Service of Kubernetes offers them; `name=value` sets a
setting of the client.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from reinstruct.errors import RecipeError

DEFAULT_PORTS = {"http": 80, "https": 443}

Resolve = Callable[[str, int], Awaitable[list[tuple[str, int]]]]  # host, port -> every (address, port)


@dataclass(frozen=True)
class Address:
    """One server. `base` ends in /v1; `host` is the name it is asked for by, where that is not in `base`."""

    base: str
    host: str = ""


@dataclass(frozen=True)
class Place:
    """What a user's URL says: one address, or with `every_address` all that its host name resolves to."""

    base: str
    every_address: bool = False
    settings: dict[str, str] = field(default_factory=dict[str, str])


def place(url: str) -> Place:
    """The URL's parts; RecipeError if it is none."""
    address, _, fragment = url.partition("#")
    wanted = parse_qsl(fragment, keep_blank_values=True)
    settings = {name.replace("-", "_"): value for name, value in wanted if name != "dns"}
    return Place(base_url(address), any(name == "dns" for name, _ in wanted), settings)


def base_url(url: str) -> str:
    """The address up to and with /v1; RecipeError if it is none."""
    base = url.rstrip("/")
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", base):
        raise RecipeError(
            f"server {without_secrets(url, '')!r}: give an address such as http://127.0.0.1:8000, with or without /v1"
        )
    return base if base.endswith("/v1") else base + "/v1"


async def addresses(where: Place, resolve: Resolve) -> list[Address]:
    """The servers at a place now, sorted; OSError where its name does not resolve."""
    if not where.every_address:
        return [Address(where.base)]
    parts = urlsplit(where.base)
    login = parts.netloc.rpartition("@")[0]
    found = await resolve(parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme])
    nets = sorted({f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in found})
    kept = f"{login}@" if login else ""
    return [Address(parts._replace(netloc=kept + net).geturl(), parts.netloc.rpartition("@")[2]) for net in nets]


async def resolve_host(host: str, port: int) -> list[tuple[str, int]]:
    """Every address of a name, from the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(str(socket_address[0]), port) for *_, socket_address in found]


def is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def without_secrets(text: str, key: str) -> str:
    """The text without the key and without passwords in URLs."""
    text = text.replace(key, "***") if key else text
    return re.sub(r"//[^/@\s]+@", "//", text)
