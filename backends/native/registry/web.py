"""HTTP as registries need it: over urllib3, patient, watchful, and told by nobody where to send secrets.

Redirects of reads are followed here: never from TLS to plain HTTP, and without credentials to another host. What
broke on the way or was refused for the moment (429, 5xx) is tried again with growing pauses. A connection that
gives next to nothing, or an answer whose head does not end, is given up; so is all when the user has had enough.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError, ProxyError, SSLError
from urllib3.exceptions import TimeoutError as WebTimeout

from backends.errors import BackendUnavailable, Cancelled, InnkeeperError
from backends.native.registry.connections import Watch, manager_for
from backends.native.registry.failures import Broken, Unreachable, printable, refusal

if TYPE_CHECKING:
    from ssl import SSLContext

    from backends.trace import Recorder

_CONNECT_S, _READ_S, _COMMIT_S = 10.0, 30.0, 300.0
"""A registry may take minutes over an upload of gigabytes before it answers."""

_MOST_REDIRECTS = 5
_BLOCK = 1 << 17
_SLOW_WITHIN_S, _SLOW_BYTES = 60.0, 4096
"""A body that gives less than so much in that time is given up."""

_WHOLE_S = 60.0
"""What is read into memory has to be here by then."""

FOR_NOW = frozenset({429, 500, 502, 503, 504})
"""Statuses that may be others a little later."""

_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNEXPECTED_MESSAGE")


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and after what pause something is tried again."""

    attempts: int = 5
    first_s: float = 0.5
    most_s: float = 30.0

    def pause_s(self, failures: int) -> float:
        """Return the pause after so many failures in a row."""
        return min(self.most_s, self.first_s * 2.0 ** (failures - 1))


class Answer:
    """An answer's head, and its body as it comes; used with `with`."""

    def __init__(self, response: urllib3.BaseHTTPResponse, url: str) -> None:
        self._response = response
        self.url, self.status = url, response.status
        self.headers: Mapping[str, str] = response.headers
        self.media_type = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._response.length_remaining == 0:
            self._response.release_conn()
        self._response.close()

    @property
    def host(self) -> str:
        """Who answered."""
        return urlsplit(self.url).netloc

    @property
    def retry_after_s(self) -> float:
        """The seconds that it asks to wait; 0 where it asks for none (or for a date)."""
        text = self.headers.get("Retry-After", "")
        return float(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0.0

    def stream(self) -> Iterator[bytes]:
        """Yield the body in pieces. Raises Broken, also if it comes too slowly."""
        began_s, came = time.monotonic(), 0
        while True:
            try:
                data = self._response.read1(_BLOCK, decode_content=False)
            except (HTTPError, OSError, ValueError) as error:
                raise Broken(f"the connection to {self.host} broke: {_reason(error)}") from error
            if not data:
                return
            came += len(data)
            now_s = time.monotonic()
            if now_s - began_s > _SLOW_WITHIN_S:
                if came < _SLOW_BYTES:
                    raise Broken(f"{self.host} sends next to nothing: {came} bytes in {_SLOW_WITHIN_S:g} s")
                began_s, came = now_s, 0
            yield data

    def read(self, limit_bytes: int, what: str) -> bytes:
        """Return the whole body. Raises InnkeeperError if it is longer than the limit, Broken."""
        pieces, size, deadline_s = [], 0, time.monotonic() + _WHOLE_S
        for piece in self.stream():
            size += len(piece)
            if size > limit_bytes:
                raise InnkeeperError(f"{what} from {self.host} is longer than {limit_bytes} bytes")
            if time.monotonic() > deadline_s:
                raise Broken(f"{self.host} takes too long over {what}")
            pieces.append(piece)
        return b"".join(pieces)

    def refusal(self, what: str, registry: str) -> InnkeeperError:
        """Return the error that it stands for."""
        try:
            body = self.read(1 << 16, "the error") if "json" in self.media_type else b""
        except InnkeeperError:
            body = b""
        reason = printable(self._response.reason or "", 60)
        return refusal(what, self.status, reason, self.media_type, body, registry=registry)


class Web:
    """All connections of one pull, push or login. For use from several threads."""

    def __init__(
        self, trust: Callable[[str], SSLContext], recorder: Recorder, watch: Watch, patience: Patience | None = None
    ) -> None:
        self._trust = trust
        """Returns what a host's certificate is checked with."""

        self.recorder, self._watch = recorder, watch
        self.patience = patience or Patience()
        self._managers: dict[tuple[str, str], urllib3.PoolManager] = {}
        self._lock = threading.Lock()

    @classmethod
    @contextmanager
    def opened(
        cls, trust: Callable[[str], SSLContext], recorder: Recorder, patience: Patience | None = None
    ) -> Iterator[Web]:
        """Yield one whose connections are closed afterwards, and broken off when the recorder says Cancelled."""
        with Watch(recorder) as watch:
            web = cls(trust, recorder, watch, patience)
            try:
                yield web
            finally:
                for manager in web._managers.values():
                    manager.clear()

    def ask(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        """Return what a read (GET, HEAD) is answered in the end. The caller closes it. Raises BackendUnavailable."""
        failures = 0
        while True:
            try:
                answer = self._follow(method, url, dict(headers))
                if answer.status not in FOR_NOW or failures + 1 >= self.patience.attempts:
                    return answer
                with answer:
                    reason, asked_s = f"{answer.host} answered {answer.status}", answer.retry_after_s
            except Unreachable:
                raise
            except Broken as error:
                if failures + 1 >= self.patience.attempts:
                    raise
                reason, asked_s = error.message, 0.0
            failures += 1
            self.rest(failures, reason, asked_s)

    def rest(self, failures: int, reason: str, asked_s: float = 0.0) -> None:
        """Wait before the next attempt, and say why. Raises Cancelled at once when the user has had enough."""
        pause_s = max(self.patience.pause_s(failures), min(asked_s, 2 * self.patience.most_s))
        self.recorder.say(f"{reason}; trying again in {pause_s:.2g} s")
        self._watch.sleep(pause_s)

    def _follow(self, method: str, url: str, headers: dict[str, str]) -> Answer:
        first = url
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self.send(method, url, headers)
            if answer.status not in (301, 302, 303, 307, 308):
                return answer
            with answer:
                target = checked_url(answer.headers.get("Location", ""), url, "redirects")
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                headers.pop("Authorization", None)
            url = target
        raise BackendUnavailable(f"{urlsplit(first).netloc} redirects in circles")

    def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | BinaryIO | Iterator[bytes] | None = None
    ) -> Answer:
        """Return what one request is answered, whatever that is; nothing is tried again. Raises Broken."""
        self.recorder.check()
        host = urlsplit(url).netloc
        timeout = urllib3.Timeout(connect=_CONNECT_S, read=_READ_S if method in ("GET", "HEAD") else _COMMIT_S)
        try:
            response = self._manager(url).urlopen(
                method, url, body=body, headers=dict(headers), redirect=False, retries=False, timeout=timeout,
                preload_content=False, decode_content=False,
            )  # fmt: skip
        except SSLError as error:
            self.recorder.check()
            raise _no_trust(host, error) from error
        except ProxyError as error:
            self.recorder.check()
            raise Broken(f"cannot reach {host} through the proxy: {_reason(error.original_error)}") from error
        except (HTTPError, OSError, ValueError) as error:
            self.recorder.check()
            kind = Unreachable if isinstance(error, NewConnectionError) else Broken
            raise kind(f"cannot talk to {host}: {_reason(error)}") from error
        return Answer(response, url)

    def _manager(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        key = (parts.scheme, parts.netloc)
        with self._lock:
            if key not in self._managers:
                context = self._trust(parts.netloc) if parts.scheme == "https" else None
                self._managers[key] = manager_for(url, context, self._watch)
            return self._managers[key]


def checked_url(given: str, base: str, verb: str) -> str:
    """Return the URL that a server gave, whole, if it may be used. Raises BackendUnavailable: downgrades, nonsense."""
    host, url = urlsplit(base).netloc, ""
    try:
        url = urljoin(base, given) if given else ""
        parts = urlsplit(url)
        is_sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, is_sound = urlsplit(""), False
    if not is_sound or "@" in parts.netloc or len(url) > 16384 or any(ord(character) <= 32 for character in url):
        raise BackendUnavailable(f"{host} {verb} to something that is no address")
    if urlsplit(base).scheme == "https" and parts.scheme == "http":
        raise BackendUnavailable(f"{host} {verb} to plain HTTP at {printable(parts.netloc, 80)}, which is refused")
    return url


def _no_trust(host: str, error: SSLError) -> InnkeeperError:
    text = str(error)
    if any(word in text.upper().replace(" ", "_") for word in _NO_TLS):
        hint = "if it speaks plain HTTP and you want that: --plain-http; on the screen: http:// before the name"
        return BackendUnavailable(f"cannot talk to {host}: it does not speak TLS", hint=hint)
    if "CERTIFICATE_VERIFY_FAILED" in text.upper() or "doesn't match" in text:
        hint = f"trust its authority with --ca-file FILE or /etc/containers/certs.d/{host}/ca.crt"
        return BackendUnavailable(f"cannot trust {host}: {_reason(error)}", hint=hint)
    return Broken(f"cannot talk to {host}: {_reason(error)}")


def _reason(error: BaseException) -> str:
    """Return what the system said, out of the shells that libraries put around it."""
    seen: BaseException = error
    for _ in range(6):
        inner = seen.__cause__ or seen.__context__
        args = [arg for arg in seen.args if isinstance(arg, BaseException)]
        found = args[0] if args else inner
        if isinstance(seen, Cancelled) or found is None or (isinstance(seen, OSError) and seen.strerror):
            break
        seen = found
    is_timeout = isinstance(error, WebTimeout) and not isinstance(error, NewConnectionError)
    if is_timeout or isinstance(seen, TimeoutError):
        return "it did not answer in time"
    if isinstance(seen, NewConnectionError):
        seen = seen.__cause__ or seen
    verify = getattr(seen, "verify_message", "")
    text = verify or (seen.strerror if isinstance(seen, OSError) and seen.strerror else str(seen))
    return printable(text or type(seen).__name__, 160)
