"""Connections that can be broken off from outside: when the user has had enough, or an answer's head does not end."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
import urllib.request
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import InsecureRequestWarning, ProtocolError

from backends.errors import Cancelled

if TYPE_CHECKING:
    from backends.trace import Recorder

_TICK_S = 0.1
_HEAD_FACTOR = 2.0
"""A read timeout is for each piece that comes; an answer's whole head must be here after so many of them."""


class Watch:
    """A thread that looks after connections as long as it is open. Used with `with`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._cancelled = threading.Event()
        self._thread = threading.Thread(target=self._look, name="registry watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._ends.set()
        self._thread.join()

    def add(self, connection: Any) -> None:
        """Look after a connection until it is forgotten."""
        with self._lock:
            self._connections.add(connection)

    def sleep(self, seconds: float) -> None:
        """Wait. Raises Cancelled as soon as the user has had enough."""
        self._cancelled.wait(seconds)
        self._recorder.check()

    def _look(self) -> None:
        while not self._ends.wait(_TICK_S):
            try:
                self._recorder.check()
            except Cancelled:
                self._cancelled.set()
            now_s = time.monotonic()
            with self._lock:
                overdue = [found for found in self._connections if self._cancelled.is_set() or _is_late(found, now_s)]
            for connection in overdue:
                _break_off(connection.sock)


def _is_late(connection: Any, now_s: float) -> bool:
    return connection.head_due_s is not None and now_s > connection.head_due_s


def _break_off(sock: socket.socket | None) -> None:
    """Wake whoever waits for the socket. An SSLSocket's own shutdown() would pull its state from under the reader."""
    if sock is not None:
        try:
            socket.socket.shutdown(sock, socket.SHUT_RDWR)
        except OSError:
            return  # it is closed already


def manager_for(url: str, context: ssl.SSLContext | None, watch: Watch) -> urllib3.PoolManager:
    """Return the pool for a URL's host: direct, or through the proxy that the environment names for it."""
    keywords: dict[str, Any] = {"maxsize": 8, "num_pools": 4}
    if context is not None:
        # The context says it all: urllib3 would turn checking on again otherwise.
        keywords |= {"ssl_context": context, "cert_reqs": context.verify_mode}
        if context.verify_mode is ssl.CERT_NONE:
            urllib3.disable_warnings(InsecureRequestWarning)  # the user has asked for it
    proxy = _proxy_for(url)
    manager = _through(proxy, keywords) if proxy else urllib3.PoolManager(**keywords)
    manager.pool_classes_by_scheme = _pools(watch)
    return manager


def _through(proxy: str, keywords: dict[str, Any]) -> urllib3.PoolManager:
    """Return a pool whose connections go through a proxy, with the user and password that are in its URL."""
    parts = urlsplit(proxy)
    if parts.username:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        keywords["proxy_headers"] = urllib3.make_headers(proxy_basic_auth=pair)
        proxy = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return urllib3.ProxyManager(proxy, **keywords)


class _Watched:
    """What is added to urllib3's connections."""

    watch: Watch
    timeout: Any
    head_due_s: float | None = None
    """When an answer's head must be here, by the monotonic clock; None while none is waited for."""

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        self.watch.add(self)

    def getresponse(self) -> Any:
        self.head_due_s = due_s = _due(self.timeout)
        try:
            response = super().getresponse()  # type: ignore[misc]
        finally:
            self.head_due_s = None
        if due_s is not None and time.monotonic() > due_s:  # it was broken off, which reads like its end
            response.close()
            raise ProtocolError("the head of its answer does not end")
        return response


def _pools(watch: Watch) -> dict[str, Any]:
    plain = type("Plain", (_Watched, HTTPConnection), {"watch": watch})
    secure = type("Secure", (_Watched, HTTPSConnection), {"watch": watch})
    return {
        "http": type("PlainPool", (HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }


def _due(timeout: Any) -> float | None:
    return time.monotonic() + _HEAD_FACTOR * timeout if isinstance(timeout, (int, float)) else None


def _proxy_for(url: str) -> str:
    """Return the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name for a URL, empty for none."""
    parts = urlsplit(url)
    found = urllib.request.getproxies_environment()
    proxy = found.get(parts.scheme) or os.environ.get("ALL_PROXY", "")
    if not proxy or not parts.hostname or urllib.request.proxy_bypass(parts.netloc):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"
