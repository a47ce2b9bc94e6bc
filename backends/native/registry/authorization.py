"""How a registry is told who asks: nothing, a password, or a token for exactly what is wanted.

The token flow is docker's (distribution, docs/spec/auth: token.md, oauth.md): a registry answers 401 and names a
realm; the realm gives a token for a service and scopes, which ends after some minutes and is then fetched anew.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from backends.errors import InnkeeperError, LoginNeeded, PermissionDenied
from backends.native.registry.web import checked_url

if TYPE_CHECKING:
    from backends.native.registry.credentials import Credentials
    from backends.native.registry.web import Answer, Web

_CLIENT = "innkeeper"
_LARGEST = 1 << 20
_DEFAULT_S, _MARGIN_S = 60.0, 10.0
"""A token that does not say how long it lasts lasts a minute (token.md); it is given up a little before its end."""

_CHALLENGE = re.compile(
    r"(?P<scheme>[A-Za-z]+)\s+(?=[A-Za-z_]+\s*=)"
    r'|(?P<key>[A-Za-z_]+)\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^\s,"]+))'
)

Scopes = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a registry asks for."""

    scheme: str
    """"basic" or "bearer"."""

    parameters: Mapping[str, str]


def parse_challenges(text: str) -> list[Challenge]:
    """Return what a WWW-Authenticate header asks for (RFC 9110, 11.6.1); what makes no sense is left out."""
    found: list[tuple[str, dict[str, str]]] = []
    for match in _CHALLENGE.finditer(text[:8192]):
        if match["scheme"]:
            found.append((match["scheme"].lower(), {}))
        elif found:
            value = re.sub(r"\\(.)", r"\1", match["quoted"]) if match["quoted"] is not None else match["plain"]
            found[-1][1][match["key"].lower()] = value
    if not found and text.strip().lower().startswith("basic"):
        found.append(("basic", {}))
    return [Challenge(scheme, parameters) for scheme, parameters in found]


class Authorizer:
    """Knows the credentials for one registry and the tokens that it has been given. For use from several threads."""

    def __init__(self, web: Web, registry: str, credentials: Credentials | None) -> None:
        self._web, self._registry, self._credentials = web, registry, credentials
        self._tokens: dict[Scopes, tuple[str, float]] = {}
        self._is_basic = False
        self._lock = threading.Lock()

    def header(self, scopes: Scopes) -> str:
        """Return the Authorization header for a request that needs these scopes; empty as long as none was wanted."""
        if self._is_basic:
            return self._basic()
        token, until_s = self._tokens.get(scopes, ("", 0.0))
        return f"Bearer {token}" if time.monotonic() < until_s else ""

    def challenged(self, answer: Answer, scopes: Scopes, used: str) -> str:
        """Return the header to try again with after a 401. Raises PermissionDenied.

        `used` is what was refused: if somebody else has got a new token meanwhile, that one is taken.
        """
        challenges = parse_challenges(answer.headers.get("WWW-Authenticate", ""))
        with self._lock:
            known = self.header(scopes)
            if known and known != used:
                return known
            for challenge in challenges:
                if challenge.scheme == "bearer":
                    self._tokens[scopes] = self._new_token(answer, challenge, scopes)
                    return f"Bearer {self._tokens[scopes][0]}"
            if any(challenge.scheme == "basic" for challenge in challenges):
                return self._with_password(used)
        raise PermissionDenied(f"{self._registry} wants to know who asks, in a way that is not known here")

    def _with_password(self, used: str) -> str:
        if self._credentials is None or not self._credentials.user:
            raise LoginNeeded(f"{self._registry} wants a user and a password", registry=self._registry)
        if used.startswith("Basic "):
            raise self._refused()
        self._is_basic = True
        return self._basic()

    def _refused(self) -> LoginNeeded:
        user = self._credentials.user if self._credentials else ""
        who = f" of {user}" if user else ""
        return LoginNeeded(f"{self._registry} refuses the credentials{who}", registry=self._registry)

    def _basic(self) -> str:
        assert self._credentials is not None
        pair = f"{self._credentials.user}:{self._credentials.password}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    def _new_token(self, answer: Answer, challenge: Challenge, scopes: Scopes) -> tuple[str, float]:
        realm = checked_url(challenge.parameters.get("realm", ""), answer.url, "sends for tokens")
        service = challenge.parameters.get("service", "")
        wanted = list(scopes) or challenge.parameters.get("scope", "").split()
        began_s = time.monotonic()
        with self._asked(realm, service, wanted) as given:
            if given.status in (400, 401, 403):
                if self._credentials is None:
                    raise LoginNeeded(f"{self._registry} gives strangers no token", registry=self._registry)
                raise self._refused()
            if given.status != 200:
                raise given.refusal(f"cannot get a token for {self._registry}", urlsplit(realm).netloc)
            return _token_in(given.read(_LARGEST, "a token"), given.host, began_s)

    def _asked(self, realm: str, service: str, scopes: Sequence[str]) -> Answer:
        found = self._credentials
        if found is not None and found.refresh_token:
            form = {"grant_type": "refresh_token", "service": service, "client_id": _CLIENT,
                    "scope": " ".join(scopes), "refresh_token": found.refresh_token}  # fmt: skip
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            return self._web.send("POST", realm, kind, urlencode(form).encode())
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        headers = {}
        if found is not None:
            query.append(("account", found.user))
            headers["Authorization"] = self._basic()
        mark = "&" if urlsplit(realm).query else "?"
        return self._web.ask("GET", realm + (mark + urlencode(query) if query else ""), headers)


def _token_in(data: bytes, host: str, began_s: float) -> tuple[str, float]:
    try:
        found: Any = json.loads(data)
        token = found.get("token") or found.get("access_token")
        lasts_s = float(found.get("expires_in") or _DEFAULT_S)
    except (ValueError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise InnkeeperError(f"{host} answered with something that is no token") from error
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise InnkeeperError(f"{host} answered with something that is no token")
    return token, began_s + max(lasts_s - _MARGIN_S, lasts_s / 2)
