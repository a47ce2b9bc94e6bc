"""A token server for tests: docker's token flow, with tokens that docker-registry believes.

    with handing_out(tmp_path, {"ann": "secret"}) as tokens, serving(tmp_path / "r", tokens=tokens.service) as registry:

Users may pull and push all, strangers may pull what is below `public/`. Tokens last `lasts_s`.
See github.com/distribution/distribution, docs/spec/auth/{token,jwt,oauth}.md.
"""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from tests.tools.registry import Certificate, TokenService

SERVICE, ISSUER = "registry.test", "token.test"


@dataclass(slots=True)
class TokenServer:
    """One that runs."""

    service: TokenService
    asked: list[dict[str, object]] = field(default_factory=list)
    """What it was asked: user, scopes, method."""

    refused: int = 0
    lasts_s: float = 300


@contextmanager
def handing_out(
    folder: Path, users: Mapping[str, str], *, lasts_s: float = 300, certificate: Certificate | None = None
) -> Iterator[TokenServer]:
    """Run a token server on loopback, plain HTTP unless it is given a certificate."""
    folder.mkdir(parents=True, exist_ok=True)
    key, signer = folder / "token.key", folder / "token.crt"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=token.test",
         "-keyout", str(key), "-out", str(signer)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    state: list[TokenServer] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            user = _basic_user(self.headers.get("Authorization", ""), users)
            self._answer("GET", user, query.get("scope", []), "offline_token" in query)

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            token = form.get("refresh_token", [""])[0]
            user = token.removeprefix("refresh-") if token.startswith("refresh-") else None
            if form.get("grant_type") == ["password"]:
                name = form["username"][0]
                user = name if users.get(name) == form["password"][0] else None
            self._answer("POST", user, [word for line in form.get("scope", []) for word in line.split()], False)

        def _answer(self, method: str, user: str | None, scopes: list[str], offline: bool) -> None:
            server = state[0]
            server.asked.append({"method": method, "user": user, "scopes": scopes})
            if user is None:
                server.refused += 1
                return self._send(401, {"errors": [{"code": "UNAUTHORIZED", "message": "who are you"}]})
            token = _token(key, signer, user, [_granted(scope, user) for scope in scopes], server.lasts_s)
            answer = {"token": token, "access_token": token, "expires_in": server.lasts_s}
            return self._send(200, answer | ({"refresh_token": f"refresh-{user}"} if offline else {}))

        def _send(self, status: int, answer: object) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate.chain, certificate.key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "http" if certificate is None else "https"
        service = TokenService(f"{scheme}://127.0.0.1:{server.server_port}/token", SERVICE, ISSUER, signer)
        state.append(TokenServer(service, lasts_s=lasts_s))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield state[0]
        finally:
            server.shutdown()
            thread.join()


def _basic_user(header: str, users: Mapping[str, str]) -> str | None:
    """Return "" for a stranger, None for somebody who claims to be whom they are not."""
    if not header:
        return ""
    kind, _, data = header.partition(" ")
    name, _, password = base64.b64decode(data).decode().partition(":")
    return name if kind.lower() == "basic" and users.get(name) == password else None


def _granted(scope: str, user: str) -> dict[str, object]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    wanted = actions.split(",")
    allowed = wanted if user else [action for action in wanted if action == "pull" and name.startswith("public/")]
    return {"type": kind, "name": name, "actions": allowed}


def _token(key: Path, certificate: Path, user: str, access: list[dict[str, object]], lasts_s: float) -> str:
    der = subprocess.run(
        ["openssl", "x509", "-in", str(certificate), "-outform", "DER"], capture_output=True, check=True
    ).stdout
    now = int(time.time())
    header = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
    claims = {"iss": ISSUER, "sub": user, "aud": SERVICE, "exp": int(now + lasts_s), "nbf": now - 10, "iat": now,
              "jti": str(time.monotonic_ns()), "access": access}  # fmt: skip
    signed = f"{_url64(json.dumps(header).encode())}.{_url64(json.dumps(claims).encode())}"
    signature = subprocess.run(
        ["openssl", "dgst", "-sha256", "-sign", str(key)], input=signed.encode(), capture_output=True, check=True
    ).stdout
    return f"{signed}.{_url64(signature)}"


def _url64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
