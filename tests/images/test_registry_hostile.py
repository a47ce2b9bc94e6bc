"""Registries that lie, stall, redirect and never end: one clear line each, and nothing half made stays."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backends.errors import BackendUnavailable, Cancelled, InnkeeperError, NotFound, PermissionDenied, Unsupported
from backends.native.registry import connections, web
from tests.images.conftest import Mover
from tests.tools.needs import needs
from tests.tools.oci_images import INDEX, MANIFEST, Layout, make_layout
from tests.tools.odd_registry import Asked, serving_oddly
from tests.tools.registry import make_certificate

SECRET = "s3cret-word"


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return make_layout(tmp_path / "oci", [{"a": os.urandom(300_000)}, {"b": b"b"}])


def digest_in(layout: Layout) -> str:
    return str(json.loads((layout.folder / "index.json").read_text())["manifests"][0]["digest"])


def refused(mover: Mover, layout: Layout, twist: Callable[[Asked], bool], **options: object) -> InnkeeperError:
    """Return the error of a pull, after which nothing but whole blobs may be here."""
    with serving_oddly(layout, twist) as registry, pytest.raises(InnkeeperError) as caught:
        mover.pull(f"{registry.address}/app:1", **options)
    error = caught.value
    assert "\n" not in error.message + error.hint
    assert len(error.message) < 400
    assert "\x1b" not in error.message
    assert not mover.blobs.has(digest_in(layout))
    for digest in mover.blobs.digests():
        mover.blobs.read(digest, 1 << 30)
    return error


def on(part: str, act: Callable[[Asked], None]) -> Callable[[Asked], bool]:
    """Do the act for requests whose path has this part."""

    def twist(asked: Asked) -> bool:
        if part in asked.path:
            act(asked)
        return part in asked.path

    return twist


def manifest_of(layout: Layout) -> dict[str, object]:
    found: dict[str, object] = json.loads((layout.folder / "blobs/sha256" / digest_in(layout)[7:]).read_bytes())
    return found


# Content


def test_a_blob_with_another_digest_never_enters(mover: Mover, layout: Layout) -> None:
    error = refused(mover, layout, on("/blobs/", lambda asked: asked.answer(200, asked.blob()[::-1])))

    assert "is not what it should be" in error.message
    assert mover.leftovers() == []


def test_a_blob_that_is_too_long_is_given_up_at_once(mover: Mover, layout: Layout) -> None:
    error = refused(mover, layout, on("/blobs/", lambda asked: asked.answer(200, asked.blob() + b"x")))

    assert "is longer than" in error.message
    assert mover.leftovers() == []


def test_a_body_that_never_ends_is_given_up(mover: Mover, layout: Layout) -> None:
    def endless(asked: Asked) -> None:
        asked.send_response(200)
        asked.send_header("Transfer-Encoding", "chunked")
        asked.end_headers()
        while True:
            asked.wfile.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")

    assert "is longer than" in refused(mover, layout, on("/blobs/", endless)).message


def test_a_blob_that_is_always_too_short_is_given_up(mover: Mover, layout: Layout) -> None:
    error = refused(mover, layout, on("/blobs/", lambda asked: asked.answer(200, b"{")))

    assert "1 bytes of" in error.message


def test_a_manifest_with_another_digest_is_refused(mover: Mover, layout: Layout) -> None:
    other = json.dumps(manifest_of(layout) | {"x": 1}).encode()
    with (
        serving_oddly(layout, on("/manifests/", lambda asked: asked.answer(200, other))) as registry,
        pytest.raises(InnkeeperError, match="something else than the manifest"),
    ):
        mover.pull(f"{registry.address}/app@{digest_in(layout)}")


def test_a_manifest_that_is_too_long_is_refused(mover: Mover, layout: Layout) -> None:
    error = refused(mover, layout, on("/manifests/", lambda asked: asked.answer(200, b" " * (5 << 20))))

    assert "the manifest from" in error.message
    assert "is longer than 4194304 bytes" in error.message


@pytest.mark.parametrize(
    "change, said",
    [
        ({"layers": "x"}, "is no array"),
        ({"layers": [{}] * 5}, "is no size"),
        ({"layers": [{"digest": "sha256:" + "a" * 64, "size": -1}]}, "is no size"),
        ({"layers": [{"digest": "sha256:../../../etc/passwd", "size": 1}]}, "is no digest"),
        ({"layers": [{"digest": "md5:abc", "size": 1}]}, "is no digest"),
        ({"config": None}, "is no size"),
        ({"schemaVersion": 1}, "schema"),
        ({"manifests": []}, "at once"),
        ({"artifactType": "application/x"}, "artifact"),
        ({"mediaType": "text/plain"}, "is no image"),
    ],
)
def test_manifests_that_make_no_sense_are_refused(
    mover: Mover, layout: Layout, change: dict[str, object], said: str
) -> None:
    data = json.dumps(manifest_of(layout) | change).encode()

    assert said in refused(mover, layout, on("/manifests/", lambda asked: asked.answer(200, data))).message


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"\xff\xfe", b"[" * 100_000, b'{"schemaVersion":2}'])
def test_what_is_no_manifest_is_refused(mover: Mover, layout: Layout, body: bytes) -> None:
    refused(mover, layout, on("/manifests/", lambda asked: asked.answer(200, body)))


def test_a_page_of_html_is_no_manifest(mover: Mover, layout: Layout) -> None:
    page = b"<html>Please log in to the hotel's network</html>"
    error = refused(
        mover, layout, on("/manifests/", lambda asked: asked.answer(200, page, {"Content-Type": "text/html"}))
    )
    assert "HTML" in error.message


def test_an_index_of_itself_ends(mover: Mover, layout: Layout) -> None:
    inner = layout.index([])
    for _ in range(8):
        inner = layout.index([{**inner, "platform": {"os": "linux", "architecture": "amd64"}}])
    data = (layout.folder / "blobs/sha256" / str(inner["digest"])[7:]).read_bytes()

    def outer(asked: Asked) -> bool:
        if not asked.path.endswith("/manifests/1"):
            return False
        asked.answer(200, data, {"Content-Type": INDEX})
        return True

    assert "index in an index" in refused(mover, layout, outer, platform="linux/amd64").message


# Answers


@pytest.mark.parametrize(
    "status, body, media_type, kind, said",
    [
        (403, b'{"errors":[{"message":"no \x1b[31m\\n entry"}]}', "application/json", PermissionDenied, "no"),
        (404, b"<html>\x1b]0;title\x07</html>", "text/html", NotFound, "404"),
        (500, b"<html>", "text/html", InnkeeperError, "answered 500"),
        (500, b'{"errors":[]}', "application/json", InnkeeperError, "answered 500"),
        (400, b'{"errors":[{"message":"' + b"x" * 9999 + b'"}]}', "application/json", InnkeeperError, "answered 400"),
        (418, b"[" * 60_000, "application/json", InnkeeperError, "answered 418"),
        (200, b"", "application/json", InnkeeperError, "JSON"),
    ],
)  # fmt: skip
def test_errors_are_told_in_a_line_without_what_could_harm_a_terminal(
    mover: Mover, layout: Layout, status: int, body: bytes, media_type: str, kind: type, said: str
) -> None:
    def answer(asked: Asked) -> None:
        asked.answer(status, body, {"Content-Type": media_type})

    error = refused(mover, layout, on("/manifests/", answer))

    assert isinstance(error, kind)
    assert said in error.message


def test_a_connection_that_always_breaks_is_given_up(mover: Mover, layout: Layout) -> None:
    error = refused(mover, layout, on("/", lambda asked: asked.cut()))

    assert isinstance(error, BackendUnavailable)
    assert "cannot talk to 127.0.0.1" in error.message
    assert sum("trying again" in line for line in mover.watcher.lines) == 3


def test_nobody_listens(mover: Mover) -> None:
    with pytest.raises(BackendUnavailable, match="Connection refused"):
        mover.pull("127.0.0.1:1/app:1")


# Redirects


def test_redirects_in_circles_end(mover: Mover, layout: Layout) -> None:
    error = refused(mover, layout, on("/", lambda asked: asked.answer(307, b"", {"Location": asked.path})))

    assert "redirects in circles" in error.message


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://x/y", "//", "http://", "", "http://user:pw@127.0.0.1/", "http://[", "http://a:0/"]
)  # fmt: skip
def test_redirects_to_what_is_no_address_are_refused(mover: Mover, layout: Layout, location: str) -> None:
    def away(asked: Asked) -> None:
        asked.answer(307, b"", {"Location": location})

    error = refused(mover, layout, on("/blobs/", away))

    assert "redirects" in error.message


def test_credentials_do_not_follow_to_another_host(mover: Mover, layout: Layout) -> None:
    with serving_oddly(layout) as storage:

        def elsewhere(asked: Asked) -> bool:
            if not asked.headers.get("Authorization"):
                asked.answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
                return True
            if "/blobs/" in asked.path:
                asked.answer(307, b"", {"Location": f"http://{storage.address}{asked.path}"})
            return "/blobs/" in asked.path

        with serving_oddly(layout, elsewhere) as registry:
            mover.pull(f"{registry.address}/app:1", credentials=("ann", SECRET))
            assert all("Authorization" in headers for _, _, headers in registry.asked[1:])
    assert len(storage.asked) == 3
    assert not any("Authorization" in headers for _, _, headers in storage.asked)


@needs("openssl")
def test_tls_is_not_given_up_for_a_redirect_a_realm_or_an_upload(tmp_path: Path, mover: Mover, layout: Layout) -> None:
    certificate = make_certificate(tmp_path / "certificates")
    with serving_oddly(layout) as plain:
        mover.pull(f"{plain.address}/app:1")
        headers = {
            "Location": f"http://{plain.address}/x",
            "WWW-Authenticate": f'Bearer realm="http://{plain.address}/token",service="s"',
        }
        plain.asked.clear()
        for status, act in ((307, "pull"), (401, "pull"), (202, "push")):

            def answer(asked: Asked, status: int = status) -> bool:
                asked.answer(404 if asked.command == "HEAD" and status == 202 else status, b"", headers)
                return True

            with serving_oddly(layout, answer, certificate) as registry:
                options: dict[str, Any] = {
                    "plain_http": False,
                    "ca_file": str(certificate.authority),
                    "credentials": ("ann", SECRET),
                }
                move = mover.pull if act == "pull" else partial(mover.push, digest=digest_in(layout), elsewhere={})
                with pytest.raises(BackendUnavailable, match=r"plain HTTP at .* refused"):
                    move(f"{registry.address}/app:1", **options)
        assert plain.asked == []


@pytest.mark.parametrize(
    "challenge",
    ["", "Bearer", 'Bearer realm="file:///etc/passwd"', "Digest realm=x", 'Bearer realm="http://127.0.0.1:1/"',
     "Basic " * 2000, 'Bearer realm="' + "\\" * 8000],
)  # fmt: skip
def test_challenges_that_make_no_sense_are_told(mover: Mover, layout: Layout, challenge: str) -> None:
    refused(mover, layout, on("/", lambda asked: asked.answer(401, b"", {"WWW-Authenticate": challenge})))


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"token":1}', b'{"token":"a\\nb"}', b'{"token":""}', b"x" * (2 << 20), b'{"token":"\xc3\xa9"}'],
)  # fmt: skip
def test_tokens_that_are_none_are_told(mover: Mover, layout: Layout, body: bytes) -> None:
    def twist(asked: Asked) -> bool:
        if asked.path.startswith("/token"):
            asked.answer(200, body)
        else:
            realm = f"http://{asked.headers['Host']}/token"
            asked.answer(401, b"", {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'})
        return True

    refused(mover, layout, twist)


def test_an_upload_elsewhere_gets_no_credentials(mover: Mover, layout: Layout) -> None:
    with serving_oddly(layout) as source:
        digest = mover.pull(f"{source.address}/app:1")

    def takes(asked: Asked) -> bool:
        asked.answer(201 if asked.command == "PUT" else 202, b"", {"Location": "/taken"})
        return True

    with serving_oddly(layout, takes) as storage:

        def elsewhere(asked: Asked) -> bool:
            if not asked.headers.get("Authorization"):
                asked.answer(401, b"", {"WWW-Authenticate": 'Basic realm="x"'})
            elif asked.command == "HEAD":
                asked.answer(404)
            elif asked.command == "POST":
                asked.answer(202, b"", {"Location": f"http://{storage.address}/upload"})
            else:
                asked.answer(201)
            return True

        with serving_oddly(layout, elsewhere) as registry:
            mover.push(f"{registry.address}/app:1", digest, credentials=("ann", SECRET))
    assert len(storage.asked) == 6
    assert not any("Authorization" in headers for _, _, headers in storage.asked)


# Time


def test_an_answer_whose_head_does_not_end_is_given_up(
    mover: Mover, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_READ_S", 0.2)
    ends = threading.Event()

    def drip(asked: Asked) -> None:
        asked.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while not ends.wait(0.02):
            asked.wfile.write(b"X")

    try:
        error = refused(mover, layout, on("/manifests/", drip))
    finally:
        ends.set()
    assert isinstance(error, BackendUnavailable)


def test_a_body_that_gives_next_to_nothing_is_given_up(
    mover: Mover, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "_SLOW_WITHIN_S", 0.1)
    ends = threading.Event()

    def drip(asked: Asked) -> None:
        asked.send_response(200)
        asked.send_header("Content-Length", "5000000")
        asked.end_headers()
        while not ends.wait(0.02):
            asked.wfile.write(b"x")

    try:
        error = refused(mover, layout, on("/blobs/", drip))
    finally:
        ends.set()
    assert "next to nothing" in error.message


def test_cancelling_does_not_wait_for_a_registry_that_says_nothing(
    mover: Mover, layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_TICK_S", 0.01)
    ends, began = threading.Event(), threading.Event()

    def stall(asked: Asked) -> None:
        began.set()
        ends.wait(15)

    mover.watcher.enough = lambda progress: began.is_set()
    try:
        with serving_oddly(layout, on("/blobs/", stall)) as registry, pytest.raises(Cancelled):
            mover.pull(f"{registry.address}/app:1")
    finally:
        ends.set()
    assert mover.leftovers() == []


def test_artifacts_that_are_no_images_are_refused(mover: Mover, layout: Layout) -> None:
    raw = manifest_of(layout)
    config = {**raw["config"], "mediaType": "application/vnd.cncf.helm.config.v1+json"}  # type: ignore[dict-item]
    data = json.dumps(raw | {"config": config}).encode()

    error = refused(mover, layout, on("/manifests/", lambda asked: asked.answer(200, data, {"Content-Type": MANIFEST})))
    assert isinstance(error, Unsupported)
    assert "helm" in error.message
