"""A registry that serves an OCI layout, and does what no registry should where a test wants so.

def twist(request: Asked) -> bool:
    if "/blobs/" in request.path:
        request.answer(200, b"something else")
        return True
    return False                                  # as a good registry would

with serving_oddly(layout, twist) as registry:
    registry.address, registry.asked
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.tools.oci_images import Layout
from tests.tools.registry import Certificate


class Asked(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    twist: Callable[[Asked], bool]
    layout: Layout
    registry: OddRegistry
    body: bytes = b""

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer with these headers besides Content-Length."""
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json"} | dict(headers or {})).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self) -> None:
        """Break the connection."""
        self.wfile.flush()
        self.close_connection = True
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def begin(self) -> int:
        """Return where in the blob the answer is to begin."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match else 0

    def blob(self) -> bytes:
        """Return the whole blob that is asked for."""
        return (self.layout.folder / "blobs/sha256" / self.path.rpartition(":")[2]).read_bytes()

    def do_GET(self) -> None:
        """Answer as the test wants, else as a registry does."""
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        self.registry.asked.append((self.command, self.path, dict(self.headers.items())))
        with suppress(OSError):
            if not type(self).twist(self):
                self._serve()

    do_HEAD = do_POST = do_PUT = do_PATCH = do_GET

    def _serve(self) -> None:
        kind, _, what = self.path.rpartition("/")
        if self.path == "/v2/":
            return self.answer(200, b"{}")
        try:
            if kind.endswith("/blobs"):
                return self._serve_blob()
            if kind.endswith("/manifests"):
                return self.answer(200, *self._manifest(what))
        except FileNotFoundError:
            pass
        return self.answer(404, b'{"errors":[{"code":"UNKNOWN","message":"there is none"}]}')

    def _serve_blob(self) -> None:
        data, begin = self.blob(), self.begin()
        if not begin:
            return self.answer(200, data)
        where = {"Content-Range": f"bytes {begin}-{len(data) - 1}/{len(data)}"}
        return self.answer(206, data[begin:], where)

    def _manifest(self, reference: str) -> tuple[bytes, dict[str, str]]:
        if not reference.startswith("sha256:"):
            named = json.loads((self.layout.folder / "index.json").read_text())["manifests"]
            reference = str(named[0]["digest"])
        data = (self.layout.folder / "blobs/sha256" / reference.removeprefix("sha256:")).read_bytes()
        return data, {"Content-Type": str(json.loads(data)["mediaType"])}

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@dataclass(slots=True)
class OddRegistry:
    """One that runs."""

    address: str
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and headers of each request."""

    def count(self, part: str) -> int:
        """Return how often something was asked for whose path has this part."""
        return sum(part in path for _, path, _ in self.asked)


def as_it_should(_: Asked) -> bool:
    """No twist at all."""
    return False


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients of these tests break off on purpose."""


@contextmanager
def serving_oddly(
    layout: Layout, twist: Callable[[Asked], bool] = as_it_should, certificate: Certificate | None = None
) -> Iterator[OddRegistry]:
    """Run one on loopback, plain HTTP unless it is given a certificate."""
    handler = type("Handler", (Asked,), {"twist": staticmethod(twist), "layout": layout})
    with _Server(("127.0.0.1", 0), handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.chain, certificate.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        registry = OddRegistry(f"127.0.0.1:{server.server_port}")
        handler.registry = registry  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
