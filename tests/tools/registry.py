"""Registries for tests: Debian's docker-registry on loopback, on a port that the kernel chooses.

    with serving(tmp_path) as registry:
        f"{registry.address}/team/app:1"

Plain HTTP unless it is given a `Certificate`; open to everybody unless it is given users or a token server. What it
was asked for is in `requests()`, with the bytes of each answer.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.tools.waiting import wait_until

_LISTENS = re.compile(r"listening on ([0-9.]+:[0-9]+)")
_ACCESS = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[0-9.]+" (?P<status>[0-9]{3}) (?P<size>[0-9]+)')


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for 127.0.0.1 and localhost, its key, and the authority that signed it."""

    chain: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class TokenService:
    """Who hands out tokens for a registry (see tests.tools.token_server)."""

    realm: str
    """Where the registry sends its clients."""

    service: str
    issuer: str
    certificate: Path
    """What the tokens are signed with."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request that the registry answered."""

    method: str
    path: str
    status: int
    size_bytes: int
    """Of the answer's body."""


@dataclass(slots=True)
class Registry:
    """A registry that runs."""

    address: str
    """"127.0.0.1:PORT"."""

    folder: Path
    """Where it keeps blobs and logs."""

    _process: subprocess.Popen[bytes] = field(repr=False)
    _seen: int = 0

    @property
    def url(self) -> str:
        """The address with the scheme of plain HTTP."""
        return f"http://{self.address}"

    def requests(self) -> list[Request]:
        """Return what it has answered since it began, or since forget()."""
        lines = (self.folder / "access.log").read_text(errors="replace").splitlines()
        found = [_ACCESS.search(line) for line in lines]
        return [
            Request(match["method"], match["path"], int(match["status"]), int(match["size"]))
            for match in found
            if match is not None
        ][self._seen :]

    def forget(self) -> None:
        """Count requests from here on."""
        self._seen += len(self.requests())

    def blobs_sent(self) -> list[Request]:
        """Return the requests by which it gave blobs away."""
        return [
            asked
            for asked in self.requests()
            if asked.method == "GET" and "/blobs/" in asked.path and asked.status < 300
        ]

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(10)


@contextmanager
def serving(
    folder: Path,
    *,
    users: Mapping[str, str] | None = None,
    certificate: Certificate | None = None,
    tokens: TokenService | None = None,
) -> Iterator[Registry]:
    """Run a registry that keeps its blobs in the folder; users: name → password, for basic authentication."""
    registry = start(folder, users=users, certificate=certificate, tokens=tokens)
    try:
        yield registry
    finally:
        registry.stop()


def start(
    folder: Path,
    *,
    users: Mapping[str, str] | None = None,
    certificate: Certificate | None = None,
    tokens: TokenService | None = None,
) -> Registry:
    """Start a registry; the caller stops it."""
    (folder / "store").mkdir(parents=True, exist_ok=True)
    config = folder / "config.yml"
    config.write_text(_config(folder, users, certificate, tokens))
    log = folder / "registry.log"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY_", "OTEL_"))}
    with log.open("wb") as errors, (folder / "access.log").open("wb") as access:
        process = subprocess.Popen(
            ["docker-registry", "serve", str(config)],
            stdin=subprocess.DEVNULL, stdout=access, stderr=errors, env=environment,
        )  # fmt: skip

    def listening() -> str:
        text = log.read_text(errors="replace")
        assert process.poll() is None, f"docker-registry ended: {text[-2000:]}"
        match = _LISTENS.search(text)
        return match[1] if match else ""

    try:
        return Registry(wait_until(listening, what="docker-registry listens"), folder, process)
    except BaseException:
        process.kill()
        process.wait()
        raise


def _config(
    folder: Path, users: Mapping[str, str] | None, certificate: Certificate | None, tokens: TokenService | None
) -> str:
    """Return the configuration as JSON, which is YAML too."""
    config: dict[str, object] = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "store")}, "delete": {"enabled": True}},
    }
    http: dict[str, object] = {"addr": "127.0.0.1:0", "secret": "tests"}
    if certificate is not None:
        http["tls"] = {"certificate": str(certificate.chain), "key": str(certificate.key)}
    config["http"] = http
    if users is not None:
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(_htpasswd(folder, users))}}
    if tokens is not None:
        config["auth"] = {
            "token": {
                "realm": tokens.realm,
                "service": tokens.service,
                "issuer": tokens.issuer,
                "rootcertbundle": str(tokens.certificate),
            }
        }
    return json.dumps(config)


def _htpasswd(folder: Path, users: Mapping[str, str]) -> Path:
    path = folder / "htpasswd"
    path.write_text("")
    for user, password in users.items():
        # Cost 4 instead of 5: each request checks the password anew.
        subprocess.run(["htpasswd", "-iB", "-C", "4", str(path), user], input=password.encode(), check=True, stderr=-3)
    return path


def make_certificate(folder: Path, name: str = "tests") -> Certificate:
    """Make an authority and a certificate for 127.0.0.1 and localhost with openssl."""
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, ca, key, request, chain = (
        folder / f"{name}-{part}" for part in ("ca.key", "ca.crt", "server.key", "server.csr", "server.crt")
    )
    _openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
             "-subj", f"/CN={name} authority", "-keyout", ca_key, "-out", ca)  # fmt: skip
    _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
             "-keyout", key, "-out", request)  # fmt: skip
    extensions = folder / f"{name}-extensions"
    extensions.write_text(
        textwrap.dedent("""\
            subjectAltName = IP:127.0.0.1, DNS:localhost
            basicConstraints = CA:FALSE
            authorityKeyIdentifier = keyid
        """)
    )
    _openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2",
             "-extfile", extensions, "-out", chain)  # fmt: skip
    return Certificate(chain, key, ca)


def _openssl(*words: str | Path) -> None:
    done = subprocess.run(["openssl", *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def skopeo(*words: str) -> str:
    """Run skopeo without any settings or credentials of this machine's and return what it printed."""
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"skopeo {' '.join(words)}: {done.stderr}"
    return done.stdout


def sent_bytes(requests: Sequence[Request]) -> int:
    """Return how many bytes the answers had."""
    return sum(request.size_bytes for request in requests)
