"""An image's whole way: pulled, run, changed, committed, pushed, removed, pulled and run again, with TLS and a token.

What other tests say of each step is not said again here: only that they fit together, and what crosses the line.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from backends.image import PruneOptions
from backends.trace import Recorder
from tests.images.test_registry_native import Inn, inn
from tests.tools.needs import needs
from tests.tools.oci_images import busybox_files, make_layout
from tests.tools.registry import make_certificate, serving, skopeo
from tests.tools.token_server import handing_out

__all__ = ["inn"]

pytestmark = [needs("root", "docker-registry", "skopeo", "busybox", "openssl"), pytest.mark.timeout(90)]


def test_pulled_run_changed_committed_pushed_removed_and_pulled_again(inn: Inn, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "certificates")
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes(certificate.authority.read_bytes())
    layout = make_layout(tmp_path / "oci", [busybox_files(), {"etc/motd": b"before\n"}], Cmd=["/bin/sh"])
    tls = ("--ca-file", str(certificate.authority))
    with (
        handing_out(tmp_path / "tokens", {"ann": "secret"}, certificate=certificate) as tokens,
        serving(tmp_path / "registry", tokens=tokens.service, certificate=certificate) as registry,
    ):
        first, second = f"{registry.address}/team/app:1", f"{registry.address}/team/app:2"
        skopeo("copy", "-q", "--dest-cert-dir", str(trusted), "--dest-creds", "ann:secret",
               f"oci:{layout.folder}:image", f"docker://{first}")  # fmt: skip
        inn("login", *tls, "-u", "ann", "--password-stdin", registry.address, stdin=b"secret\n")

        inn("pull", "-q", *tls, first)
        inn("run", "--name", "changed", first, "/bin/busybox", "sh", "-c", "echo after > /etc/motd")
        inn("commit", "changed", second)
        inn("rm", "changed")
        registry.forget()
        inn("push", "-q", *tls, second)
        uploads = [asked for asked in registry.requests() if asked.method == "PATCH"]
        assert len(uploads) == 2  # the changed layer and the configuration: the two layers below are there

        inn("image", "rm", second)
        with inn.backend() as backend:
            backend.image_prune(PruneOptions(), Recorder("test"))
        registry.forget()
        inn("pull", "-q", *tls, second)
        assert len(registry.blobs_sent()) == 2  # those two alone: the first image is here still
        assert inn("run", "--rm", second, "/bin/busybox", "cat", "/etc/motd") == "after\n"
        assert inn("run", "--rm", first, "/bin/busybox", "cat", "/etc/motd") == "before\n"
