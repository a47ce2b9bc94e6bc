"""Which certificates are believed: the system's, and those that were added for one registry.

Folders as docker and podman have them (containers-certs.d(5)): HOST[:PORT]/*.crt are authorities, NAME.cert with
NAME.key is shown to the registry.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from pathlib import Path

from backends.errors import InnkeeperError, os_error_text


def folders() -> list[Path]:
    """Return where certificates of registries are looked for; the first that has a folder for a host is used."""
    home = Path(os.environ.get("HOME") or "/root")
    settings = os.environ.get("XDG_CONFIG_HOME")
    own = (Path(settings) if settings else home / ".config") / "containers" / "certs.d"
    return [own, Path("/etc/containers/certs.d"), Path("/etc/docker/certs.d")]


def truster(*, verify: bool, ca_file: str, insecure: frozenset[str]) -> Callable[[str], ssl.SSLContext]:
    """Return what returns, for a host, how its certificate is checked. Raises InnkeeperError (no such file)."""
    if ca_file:
        _load(ssl.create_default_context(), Path(ca_file))

    def trust(host: str) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not verify or host in insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif ca_file:
            _load(context, Path(ca_file))
        _add_folder(context, host)
        return context

    return trust


def _add_folder(context: ssl.SSLContext, host: str) -> None:
    folder = next((base / host for base in folders() if (base / host).is_dir()), None)
    if folder is None:
        return
    for path in sorted(folder.glob("*.crt")):
        _load(context, path)
    for path in sorted(folder.glob("*.cert")):
        try:
            context.load_cert_chain(path, path.with_suffix(".key"))
        except OSError as error:  # ssl.SSLError too
            raise InnkeeperError(f"cannot use the certificate {path}: {_said(error)}") from error


def _load(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except OSError as error:
        raise InnkeeperError(f"cannot use the certificates in {path}: {_said(error)}") from error


def _said(error: OSError) -> str:
    return "no certificate in PEM" if isinstance(error, ssl.SSLError) else os_error_text(error)
