"""The registries and images that other tests use are what other programs take them for."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.tools.needs import needs
from tests.tools.oci_images import make_layout
from tests.tools.registry import make_certificate, serving, skopeo
from tests.tools.token_server import handing_out

pytestmark = needs("docker-registry", "skopeo", "openssl")


def test_an_image_of_the_tests_goes_to_a_registry_and_is_an_image_there(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "oci", [{"etc/motd": b"hello"}], Cmd=["/bin/sh"])
    with serving(tmp_path / "registry") as registry:
        layout.push("image", f"{registry.address}/team/app:1")
        found = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{registry.address}/team/app:1"))
        pushed = [request.method for request in registry.requests() if "/manifests/1" in request.path]
    assert found["Os"] == "linux"
    assert len(found["Layers"]) == 1
    assert "PUT" in pushed


def test_a_token_is_believed_by_the_registry_and_a_stranger_gets_none_to_push(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "oci", [{"etc/motd": b"hello"}])
    with (
        handing_out(tmp_path / "tokens", {"ann": "x"}) as tokens,
        serving(tmp_path / "registry", tokens=tokens.service) as registry,
    ):
        target = f"{registry.address}/team/app:1"
        layout.push("image", target, "--dest-creds", "ann:x")
        stranger = ["skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout.folder}:image", f"docker://{target}"]
        refused = subprocess.run(["skopeo", "--insecure-policy", *stranger[1:]], capture_output=True)
    assert {asked["user"] for asked in tokens.asked} == {"ann", ""}
    assert refused.returncode != 0


def test_a_registry_with_passwords_and_tls_lets_in_who_has_both(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path / "certificates")
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    (trusted / "ca.crt").write_bytes(certificate.authority.read_bytes())
    layout = make_layout(tmp_path / "oci", [{"etc/motd": b"hello"}])
    with serving(tmp_path / "registry", users={"ann": "secret"}, certificate=certificate) as registry:
        skopeo("copy", "-q", "--dest-cert-dir", str(trusted), "--dest-creds", "ann:secret",
               f"oci:{layout.folder}:image", f"docker://{registry.address}/app:1")  # fmt: skip
        assert {request.status for request in registry.requests()} >= {201, 401}
