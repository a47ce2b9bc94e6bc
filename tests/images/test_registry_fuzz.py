"""A registry whose answers are damaged at random: a pull works or says why in one line, and keeps only what is whole.

INNKEEPER_FUZZ_S says for how many seconds; INNKEEPER_FUZZ_SEED repeats one pull.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from backends.errors import InnkeeperError
from backends.native.images.manifest import MANIFEST
from backends.native.registry import web
from tests.images.conftest import Mover
from tests.tools.oci_images import Layout, make_layout

SECONDS = float(os.environ.get("INNKEEPER_FUZZ_S", "3"))
SEED = os.environ.get("INNKEEPER_FUZZ_SEED")
_WORDS = (
    b"\r\n", b"\n\n", b"\0", b"\xff\xfe", b":", b"Content-Length: 99999999999999999999\r\n", b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Location: http://[::1/\r\n", b"Content-Range: bytes 5-/x\r\n", b"HTTP/9.9 ",
    b'WWW-Authenticate: Bearer realm="http://x y/"\r\n', b"Content-Type: text/html\r\n", b"A: " + b"x" * 70_000,
    b"Content-Encoding: gzip\r\n", b"Connection: close\r\n", b"{", b"}", b"[" * 500, b'"size":-1', b"sha256:", b"1e999",
    b"Set-Cookie: \x00\r\n", b"Retry-After: 99999\r\n", b"Retry-After: Wed\r\n", b"\r\n\r\n",
)  # fmt: skip
_STATUSES = (100, 101, 200, 201, 204, 206, 301, 302, 307, 401, 403, 404, 416, 429, 500, 503, 599, 999, 0)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Return an answer with some damage."""
    for _ in range(chance.choice((0, 0, 1, 1, 2, 5))):
        at = chance.randrange(len(data) + 1) if chance.random() < 0.4 else chance.randrange(min(len(data), 250) + 1)
        kind = chance.randrange(6)
        if kind == 0:
            data = data[:at] + bytes([chance.randrange(256)]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + chance.choice(_WORDS) + data[at:]
        elif kind == 2:
            data = data[:at]
        elif kind == 3:
            data = data[:at] + data[at + chance.randrange(40) :]
        elif kind == 4:
            data = data[:at] + data[max(0, at - 100) : at] + data[at:]
        else:
            data = b"HTTP/1.1 %d X" % chance.choice(_STATUSES) + data[data.find(b"\r\n") :]
    return data


def sound(layout: Layout, request: bytes) -> bytes:
    """Return what a good registry answers."""
    path = request.split(b" ", 2)[1].decode("latin-1")
    name = path.rpartition("/")[2]
    if not name.startswith("sha256:"):
        name = json.loads((layout.folder / "index.json").read_text())["manifests"][0]["digest"]
    file = layout.folder / "blobs/sha256" / name[7:]
    if "/v2/" not in path or not file.is_file():
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    body = file.read_bytes()
    kind = MANIFEST if "/manifests/" in path else "application/octet-stream"
    return f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def serving_damage(layout: Layout, chance: random.Random) -> Iterator[str]:
    """Answer each request on a connection of its own, damaged, and close it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection, suppress(OSError):
                    request = b""
                    connection.settimeout(5)
                    while b"\r\n\r\n" not in request and (piece := connection.recv(65536)):
                        request += piece
                    if request:
                        connection.sendall(damaged(sound(layout, request), chance))

        threads = [threading.Thread(target=serve) for _ in range(6)]
        for thread in threads:
            thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def outcome(mover: Mover, name: str) -> tuple[str, str]:
    """Return the digest of what was pulled, and what was said if nothing was."""
    try:
        return mover.pull(name), ""
    except InnkeeperError as error:
        return "", error.message


@pytest.mark.timeout(60 + SECONDS)
def test_whatever_a_registry_answers_a_pull_works_or_says_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_READ_S", 0.5)
    layout = make_layout(tmp_path / "oci", [{"a": os.urandom(3000)}, {"b": b"b" * 5000}])
    deadline_s, first = time.monotonic() + SECONDS, random.randrange(1 << 30)
    worked, failed = 0, 0
    for seed in itertools.count(first) if SEED is None else [int(SEED)]:
        mover = Mover(tmp_path / "store")
        with serving_damage(layout, random.Random(seed)) as address:
            digest, said = outcome(mover, f"{address}/app:1")
        note = f"seed {seed}: {said!r}"
        assert bool(digest) is not bool(said), note
        assert not digest or mover.blobs.has(digest), note
        assert "\n" not in said, note
        assert len(said) < 500, note
        for found in mover.blobs.digests():
            mover.blobs.read(found, 1 << 30)  # raises Damaged
        shutil.rmtree(mover.folder, ignore_errors=True)
        worked, failed = worked + bool(digest), failed + bool(said)
        if time.monotonic() > deadline_s:
            break
    assert SEED is not None or (worked and failed), f"{worked} worked, {failed} did not"
