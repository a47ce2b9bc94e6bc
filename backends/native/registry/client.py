"""One repository of one registry, by the OCI distribution specification (spec.md, endpoints 1 to 11)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlencode, urlsplit

from backends.errors import BackendUnavailable, InnkeeperError
from backends.native.images.blobs import digest_of
from backends.native.images.manifest import INDEXES, MANIFESTS, MAX_BYTES
from backends.native.registry.authorization import Authorizer, Scopes
from backends.native.registry.failures import Answered, Broken, printable
from backends.native.registry.web import FOR_NOW, Answer, checked_url

if TYPE_CHECKING:
    from backends.native.registry.credentials import Credentials
    from backends.native.registry.settings import Place
    from backends.native.registry.web import Web

_AGENT = "innkeeper"
_ACCEPT = ", ".join((*MANIFESTS, *INDEXES))
_CHUNK = 64 << 20
"""Of an upload to who takes no more at once."""

Body = bytes | BinaryIO | Iterator[bytes]


class Client:
    """Asks a registry about one repository. For use from several threads."""

    def __init__(self, web: Web, place: Place, credentials: Credentials | None, *, plain_http: bool) -> None:
        self._web, self.place = web, place
        self._scheme = "http" if plain_http else "https"
        self._authorizer = Authorizer(web, place.registry, credentials)

    def settle(self) -> None:
        """Find out whether a registry that the settings call insecure has TLS; all others must, or are plain."""
        if not self.place.insecure or self._scheme == "http":
            return
        try:
            with self._web.send("GET", self._url(""), {"User-Agent": _AGENT}):
                return
        except BackendUnavailable:
            self._scheme = "http"

    def check(self) -> None:
        """Ask whether the registry lets us in at all (spec.md, end-1). Raises PermissionDenied."""
        with self._ask("GET", self._url(""), ()) as answer:
            if answer.status != 200:
                raise answer.refusal(f"cannot log in to {self.place.registry}", self.place.registry)

    # Reading

    def manifest(self, reference: str, what: str) -> bytes:
        """Return a manifest or an index by tag or digest. Raises NotFound, InnkeeperError (wrong digest, no JSON)."""
        failures = 0
        while True:
            with self._ask("GET", self._path(f"manifests/{reference}"), self._pull(), {"Accept": _ACCEPT}) as answer:
                if answer.status != 200:
                    raise answer.refusal(f"cannot pull {what}", self.place.registry)
                try:
                    data = answer.read(MAX_BYTES, "the manifest")
                    break
                except Broken as error:
                    failures += 1
                    if failures >= self._web.patience.attempts:
                        raise
                    self._web.rest(failures, error.message)
        if answer.media_type == "text/html":
            raise InnkeeperError(f"cannot pull {what}: {self.place.host} sent a page of HTML: it is no registry")
        if ":" in reference and digest_of(data) != reference:
            raise InnkeeperError(f"{self.place.host} sent something else than the manifest {reference}")
        return data

    @contextmanager
    def blob(self, digest: str, offset: int) -> Iterator[tuple[Answer, int]]:
        """Yield the answer with a blob's bytes, and where in the blob they begin. Raises NotFound."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._ask("GET", self._path(f"blobs/{digest}"), self._pull(), headers) as answer:
            if answer.status == 206:
                yield answer, _begin_of(answer)
            elif answer.status == 200:
                yield answer, 0
            elif answer.status == 416 and offset:
                yield answer, -1
            else:
                raise answer.refusal(f"cannot pull the blob {digest}", self.place.registry)

    def has_blob(self, digest: str, *, to_push: bool) -> bool:
        """Say whether the repository has a blob."""
        scopes = self._push() if to_push else self._pull()
        with self._ask("HEAD", self._path(f"blobs/{digest}"), scopes) as answer:
            if answer.status in (401, 403):
                raise answer.refusal(f"cannot push to {self.place.repository}", self.place.registry)
            return answer.status == 200

    # Writing

    def is_mounted(self, digest: str, source: str) -> bool:
        """Take a blob over from another repository of the registry, and say whether that worked (spec.md, end-11)."""
        query = urlencode({"mount": digest, "from": source})
        scopes = (*self._push(), f"repository:{source}:pull")
        with self._send("POST", self._path(f"blobs/uploads/?{query}"), scopes) as answer:
            if answer.status in (201, 202):
                return answer.status == 201
            raise answer.refusal(f"cannot take over from {source}", self.place.registry)

    def begin_upload(self) -> str:
        """Return where to upload a blob to."""
        with self._send("POST", self._path("blobs/uploads/"), self._push()) as answer:
            return self._upload_place(answer)

    def upload(self, digest: str, size: int, read: Callable[[int, int], Iterator[bytes]]) -> None:
        """Send a blob: at once, or in pieces where the registry takes no more. `read(offset, length)` yields bytes.

        What broke off goes on where the registry says that it is. Raises Broken if it does not say so.
        """
        place, offset, most, failures = self.begin_upload(), 0, size, 0
        while offset < size:
            length = min(most, size - offset)
            try:
                place = self._send_piece(place, offset, length, read, ranged=length < size)
                offset += length
            except (Answered, Broken) as error:
                if isinstance(error, Answered) and error.status == 413 and most > _CHUNK:
                    place, offset, most = self.begin_upload(), 0, _CHUNK
                    continue
                if isinstance(error, Answered) and error.status not in FOR_NOW:
                    raise
                failures += 1
                if failures >= self._web.patience.attempts:
                    raise
                self._web.rest(failures, error.message)
                place, offset = self._taken_up(place, size)
        self._end_upload(place, digest)

    def _send_piece(
        self, place: str, offset: int, length: int, read: Callable[[int, int], Iterator[bytes]], *, ranged: bool
    ) -> str:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(length)}
        if ranged:
            headers["Content-Range"] = f"{offset}-{offset + length - 1}"
        with self._send("PATCH", place, self._push(), headers, lambda: read(offset, length)) as answer:
            if answer.status not in (201, 202, 204):
                raise answer.refusal("cannot push a blob", self.place.registry)
            return self._location(answer) or place

    def _taken_up(self, place: str, size: int) -> tuple[str, int]:
        """Return where and from what byte on an upload that broke off goes on (spec.md, end-13). Raises Broken."""
        with self._ask("GET", place, self._push()) as answer:
            match = re.fullmatch(r"(?:bytes=)?0-(\d{1,18})", answer.headers.get("Range", ""))
            if answer.status not in (202, 204) or not match or int(match[1]) >= size:
                return self.begin_upload(), 0
            has = int(match[1]) + 1
            return self._location(answer) or place, 0 if has == 1 else has  # "0-0" is said of nothing, too

    def _end_upload(self, place: str, digest: str) -> None:
        mark = "&" if urlsplit(place).query else "?"
        headers = {"Content-Length": "0", "Content-Type": "application/octet-stream"}
        with self._send("PUT", f"{place}{mark}{urlencode({'digest': digest})}", self._push(), headers) as answer:
            if answer.status != 201:
                raise answer.refusal(f"cannot push the blob {digest}", self.place.registry)

    def put_manifest(self, reference: str, data: bytes, media_type: str, what: str) -> None:
        """Store a manifest under a tag or its digest."""
        headers = {"Content-Type": media_type, "Content-Length": str(len(data))}
        with self._send("PUT", self._path(f"manifests/{reference}"), self._push(), headers, lambda: data) as answer:
            if answer.status not in (200, 201, 202):
                raise answer.refusal(f"cannot push {what}", self.place.registry)
            said = answer.headers.get("Docker-Content-Digest", "")
        if said and said != digest_of(data):
            raise InnkeeperError(f"{self.place.host} has kept {what} as something else: {printable(said, 80)}")

    # Inside

    def _upload_place(self, answer: Answer) -> str:
        if answer.status != 202:
            raise answer.refusal(f"cannot push to {self.place.repository}", self.place.registry)
        place = self._location(answer)
        if not place:
            raise BackendUnavailable(f"{self.place.host} does not say where to upload to")
        return place

    def _location(self, answer: Answer) -> str:
        location = answer.headers.get("Location", "")
        return checked_url(location, answer.url, "sends uploads") if location else ""

    def _url(self, path: str) -> str:
        return f"{self._scheme}://{self.place.host}/v2/{path}"

    def _path(self, path: str) -> str:
        return self._url(f"{self.place.repository}/{path}")

    def _pull(self) -> Scopes:
        return (f"repository:{self.place.repository}:pull",)

    def _push(self) -> Scopes:
        return (f"repository:{self.place.repository}:pull,push",)

    def _ask(self, method: str, url: str, scopes: Scopes, headers: Mapping[str, str] | None = None) -> Answer:
        return self._authorized(url, scopes, headers, lambda given: self._web.ask(method, url, given))

    def _send(
        self, method: str, url: str, scopes: Scopes, headers: Mapping[str, str] | None = None,
        body: Callable[[], Body] | None = None,
    ) -> Answer:  # fmt: skip
        headers = {"Content-Length": "0"} if body is None and headers is None else headers
        failures = 0
        while True:
            answer = self._authorized(
                url, scopes, headers, lambda given: self._web.send(method, url, given, body() if body else None)
            )
            # Of a piece that was refused some may have been taken: upload() asks how much.
            is_final = answer.status not in FOR_NOW or method == "PATCH"
            failures += 1
            if is_final or failures >= self._web.patience.attempts:
                return answer
            with answer:
                self._web.rest(failures, f"{answer.host} answered {answer.status}", answer.retry_after_s)

    def _authorized(
        self, url: str, scopes: Scopes, headers: Mapping[str, str] | None, act: Callable[[Mapping[str, str]], Answer]
    ) -> Answer:
        """Do it with the credentials that are known, and once more with those that were then asked for."""
        base = {"User-Agent": _AGENT, **(headers or {})}
        if urlsplit(url).netloc != self.place.host:
            return act(base)  # a registry may have uploads go elsewhere, but not our credentials
        used = self._authorizer.header(scopes)
        for _ in range(2):
            answer = act(base | ({"Authorization": used} if used else {}))
            if answer.status != 401 or urlsplit(answer.url).netloc != self.place.host:
                return answer
            with answer:
                used = self._authorizer.challenged(answer, scopes, used)
        return act(base | {"Authorization": used})


def _begin_of(answer: Answer) -> int:
    """Return where a part begins (RFC 9110, 14.4); -1 where the answer does not say."""
    match = re.match(r"bytes (\d{1,18})-", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1
