"""Readiness of a companion: an answer over HTTP or at a port, a line of its output, or its age."""

import asyncio
import signal
from urllib.parse import urlsplit

from seqsup.model.profile import Readiness

_PATIENCE = 2.0  # seconds for one answer
_NONSENSE = "nonsense"  # in place of a code: it is not HTTP


async def missing(ready: Readiness, said: bytes, seconds: float) -> str:
    """Say what a companion lacks to be ready; empty when it is. `said` is its output, `seconds` its age."""
    match ready.probe:
        case "http", url:
            if urlsplit(url).scheme == "https":  # asyncio is without TLS here: see `slim`
                return await asyncio.to_thread(_https_missing, url)
            return await _http_missing(url)
        case "port", port:
            return await _port_missing(port)
        case "log", text:
            return "" if text.encode() in said else f"it has not printed {text!r}"
        case _, delay:
            return "" if seconds >= delay else f"its delay of {delay} s has not passed"


async def taken(ready: Readiness) -> str:
    """Name the address if another process answers there before the start, which would count as ready; else empty."""
    if ready.http is not None:
        host, port = address(ready.http)
    elif ready.port is not None:
        host, port = "127.0.0.1", ready.port
    else:
        return ""
    return f"{host}:{port} is taken by another process" if await connects(host, port) else ""


def address(url: str) -> tuple[str, int]:
    """Host and port of an address."""
    parts = urlsplit(url)
    return parts.hostname or "127.0.0.1", parts.port or (443 if parts.scheme == "https" else 80)


async def connects(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError, UnicodeError):  # the last for an impossible host name
        return False
    writer.close()
    return True


async def _port_missing(port: int) -> str:
    if await connects("127.0.0.1", port):
        return ""
    if await connects("::1", port):
        return f"it listens on [::1]:{port} only: let it listen on 127.0.0.1, or use ready.http"
    return f"no process listens on port {port}"


async def _http_missing(url: str) -> str:
    parts, (host, port) = urlsplit(url), address(url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        async with asyncio.timeout(_PATIENCE):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
                status = (await reader.readline()).split(b" ")
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:
        return f"{url} does not answer: {str(error) or f'nothing came within {_PATIENCE:g} s'}"
    return _verdict(url, status[1].decode(errors="replace") if len(status) > 1 else _NONSENSE)


def _https_missing(url: str) -> str:
    # Signals are the main thread's, also while it blocks them: this thread stays
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import ProxyHandler, build_opener

    try:
        with build_opener(ProxyHandler({})).open(url, timeout=_PATIENCE) as answer:
            return _verdict(url, str(answer.status))
    except HTTPError as error:
        error.close()
        return _verdict(url, str(error.code))
    except HTTPException:
        return _verdict(url, _NONSENSE)
    except (OSError, ValueError) as error:
        return f"{url} does not answer: {error}"


def _verdict(url: str, code: str) -> str:
    # An MCP server answers a plain GET with 400, 405 or 406: it is there
    there = code[:1] in ("2", "3", "4") and code != "404"
    return "" if there else f"{url} answers {code}"
