"""Who may pull and push: tokens, passwords, TLS, and where credentials are kept."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.errors import BackendUnavailable, InnkeeperError, NotFound, PermissionDenied
from backends.image import TransferOptions
from backends.native.registry.credentials import forget
from backends.native.registry.session import login
from backends.trace import Recorder
from tests.images.conftest import IMPATIENT, Mover
from tests.tools.needs import needs
from tests.tools.oci_images import make_layout
from tests.tools.odd_registry import Asked, serving_oddly
from tests.tools.registry import Certificate, Registry, make_certificate, serving, skopeo
from tests.tools.token_server import TokenServer, handing_out

pytestmark = needs("docker-registry", "skopeo", "openssl")

SECRET = "pa:ss wörd"
USERS = {"ann": SECRET}


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenServer]:
    with handing_out(tmp_path_factory.mktemp("tokens"), USERS) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, tokens: TokenServer) -> Iterator[Registry]:
    """A registry that wants tokens, by plain HTTP."""
    with serving(tmp_path_factory.mktemp("guarded"), tokens=tokens.service) as found:
        yield found


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Registry]:
    """A registry that wants passwords, by TLS."""
    with serving(tmp_path_factory.mktemp("locked"), users=USERS, certificate=certificate) as found:
        yield found


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Mover:
    """A store with an image, whose digest is in its folder."""
    folder = tmp_path_factory.mktemp("image")
    layout = make_layout(folder / "oci", [{"a": os.urandom(50_000)}, {"b": b"b"}])
    mover = Mover(folder / "store")
    with serving_oddly(layout) as registry:
        (folder / "digest").write_text(mover.pull(f"{registry.address}/app:1"))
    return mover


def digest_of(image: Mover) -> str:
    return (image.folder.parent / "digest").read_text()


def auth_file(path: Path, registry: str, user: str, password: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {registry: {"auth": text}}, "other": 1}))
    return path


# Tokens


def test_an_image_is_pushed_and_pulled_with_tokens_for_just_that(
    image: Mover, guarded: Registry, tokens: TokenServer, mover: Mover
) -> None:
    tokens.asked.clear()

    digest = image.push(f"{guarded.address}/team/app:1", digest_of(image), credentials=("ann", SECRET))
    assert mover.pull(f"{guarded.address}/team/app:1", credentials=("ann", SECRET)) == digest

    assert [asked["scopes"] for asked in tokens.asked] == [
        ["repository:team/app:pull,push"],
        ["repository:team/app:pull"],
    ]


def test_a_stranger_may_pull_what_is_public_and_push_nothing(image: Mover, guarded: Registry, mover: Mover) -> None:
    image.push(f"{guarded.address}/public/app:1", digest_of(image), credentials=("ann", SECRET))

    mover.pull(f"{guarded.address}/public/app:1")

    with pytest.raises(PermissionDenied) as caught:
        image.push(f"{guarded.address}/public/app:2", digest_of(image))
    assert f"inn login {guarded.address}" in caught.value.hint


def test_a_wrong_password_is_told_and_never_shown(image: Mover, guarded: Registry, mover: Mover) -> None:
    with pytest.raises(PermissionDenied, match="refuses the credentials of ann") as caught:
        mover.pull(f"{guarded.address}/team/app:1", credentials=("ann", "n0t-it"))
    shown = repr(caught.value) + str(caught.value.__cause__) + repr(mover.recorder.records) + str(mover.watcher.lines)
    assert "n0t-it" not in shown


def test_a_token_that_ends_is_fetched_anew(image: Mover, guarded: Registry, tokens: TokenServer, mover: Mover) -> None:
    image.push(f"{guarded.address}/team/app:1", digest_of(image), credentials=("ann", SECRET))
    tokens.lasts_s, tokens.asked[:] = 0.001, []
    try:
        mover.pull(f"{guarded.address}/team/app:1", credentials=("ann", SECRET))
    finally:
        tokens.lasts_s = 300
    assert len(tokens.asked) > 1


def test_a_refresh_token_does_in_place_of_a_password(
    tmp_path: Path, image: Mover, guarded: Registry, tokens: TokenServer, mover: Mover
) -> None:
    image.push(f"{guarded.address}/team/app:1", digest_of(image), credentials=("ann", SECRET))
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {guarded.address: {"identitytoken": "refresh-ann"}}}))
    tokens.asked.clear()

    mover.pull(f"{guarded.address}/team/app:1", auth_file=str(file))

    assert tokens.asked == [{"method": "POST", "user": "ann", "scopes": ["repository:team/app:pull"]}]


def test_layers_are_taken_over_from_another_repository(image: Mover, guarded: Registry) -> None:
    image.push(f"{guarded.address}/team/app:1", digest_of(image), credentials=("ann", SECRET))
    from backends.native.images.manifest import parse_manifest

    layers = parse_manifest(image.blobs.read(digest_of(image), 1 << 20)).layers
    elsewhere = {layer.digest: ["no/such", "team/app"] for layer in layers}
    guarded.forget()

    image.push(f"{guarded.address}/team/copy:1", digest_of(image), elsewhere, credentials=("ann", SECRET))

    assert sum(asked.status == 201 and "mount=" in asked.path for asked in guarded.requests()) == 2
    assert sum(asked.method == "PATCH" for asked in guarded.requests()) == 1  # the configuration


# Passwords and TLS


def test_a_push_and_a_pull_with_tls_and_a_password(
    image: Mover, locked: Registry, certificate: Certificate, mover: Mover
) -> None:
    options = {"plain_http": False, "ca_file": str(certificate.authority), "credentials": ("ann", SECRET)}
    digest = image.push(f"{locked.address}/app:1", digest_of(image), **options)  # type: ignore[arg-type]
    locked.forget()
    assert image.push(f"{locked.address}/app:1", digest_of(image), **options) == digest  # type: ignore[arg-type]
    assert {asked.method for asked in locked.requests() if asked.status < 400} == {"HEAD", "PUT"}  # nothing sent again

    assert mover.pull(f"{locked.address}/app:1", **options) == digest


def test_a_certificate_of_an_unknown_authority_is_not_believed(
    locked: Registry, certificate: Certificate, mover: Mover, tmp_path: Path
) -> None:
    with pytest.raises(BackendUnavailable, match=f"cannot trust {locked.address}") as caught:
        mover.pull(f"{locked.address}/app:1", plain_http=False)
    assert "--ca-file" in caught.value.hint

    with pytest.raises(PermissionDenied, match="wants a user and a password"):
        mover.pull(f"{locked.address}/app:1", plain_http=False, tls_verify=False)

    folder = tmp_path / "home/.config/containers/certs.d" / locked.address
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes(certificate.authority.read_bytes())
    with pytest.raises(PermissionDenied, match="wants a user and a password"):
        mover.pull(f"{locked.address}/app:1", plain_http=False)


def test_a_file_without_certificates_is_told(locked: Registry, mover: Mover, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("nothing")

    with pytest.raises(InnkeeperError, match=r"cannot use the certificates in .*/empty: no certificate in PEM"):
        mover.pull(f"{locked.address}/app:1", plain_http=False, ca_file=str(tmp_path / "empty"))
    with pytest.raises(InnkeeperError, match="No such file"):
        mover.pull(f"{locked.address}/app:1", plain_http=False, ca_file=str(tmp_path / "none"))


# Where credentials are kept


@pytest.mark.parametrize(
    "place, variable",
    [("home/.docker/config.json", ""), ("home/.config/containers/auth.json", ""), ("x/config.json", "DOCKER_CONFIG"),
     ("run/containers/auth.json", "XDG_RUNTIME_DIR"), ("a.json", "REGISTRY_AUTH_FILE")],
)  # fmt: skip
def test_credentials_are_found_where_docker_and_podman_keep_them(
    tmp_path: Path,
    image: Mover,
    guarded: Registry,
    mover: Mover,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    variable: str,
) -> None:
    image.push(f"{guarded.address}/team/app:1", digest_of(image), credentials=("ann", SECRET))
    file = auth_file(tmp_path / place, guarded.address, "ann", SECRET)
    if variable:
        value = {"DOCKER_CONFIG": file.parent, "XDG_RUNTIME_DIR": file.parents[1]}.get(variable, file)
        monkeypatch.setenv(variable, str(value))

    mover.pull(f"{guarded.address}/team/app:1")


@pytest.mark.parametrize("key", ["team/app", "team", ""])
def test_credentials_can_be_for_a_part_of_a_registry(
    tmp_path: Path, image: Mover, guarded: Registry, mover: Mover, key: str
) -> None:
    image.push(f"{guarded.address}/team/app:1", digest_of(image), credentials=("ann", SECRET))
    file = auth_file(tmp_path / "auth.json", f"{guarded.address}/{key}".rstrip("/"), "ann", SECRET)

    mover.pull(f"{guarded.address}/team/app:1", auth_file=str(file))


def _helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A helper program that keeps what it is given in a file beside it."""
    program = tmp_path / "bin/docker-credential-tests"
    program.parent.mkdir()
    program.write_text(
        '#!/bin/sh\nstore="$0.store"\ncase $1 in\nstore) cat >"$store";;\nerase) rm -f "$store";;\n'
        'get) read server; [ -f "$store" ] || { echo "credentials not found"; exit 1; }; cat "$store";;\n'
        "esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program.with_suffix(".store")


@pytest.mark.parametrize("how", ["credsStore", "credHelpers"])
def test_helper_programs_keep_credentials(
    tmp_path: Path, image: Mover, guarded: Registry, mover: Mover, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    image.push(f"{guarded.address}/team/app:1", digest_of(image), credentials=("ann", SECRET))
    kept = _helper(tmp_path, monkeypatch)
    config = tmp_path / "home/.docker/config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({how: "tests" if how == "credsStore" else {guarded.address: "tests"}}))
    with pytest.raises(PermissionDenied):
        mover.pull(f"{guarded.address}/team/app:1")

    options = TransferOptions(plain_http=True, credentials=("ann", SECRET))
    login(guarded.address, options, Recorder("test"), IMPATIENT)
    mover.pull(f"{guarded.address}/team/app:1")
    assert SECRET not in config.read_text()
    assert base64.b64encode(f"ann:{SECRET}".encode()).decode() not in config.read_text()

    forget(guarded.address)
    assert not kept.exists()


def test_login_checks_and_keeps_credentials_for_nobody_else_to_read(tmp_path: Path, guarded: Registry) -> None:
    options = TransferOptions(plain_http=True, credentials=("ann", SECRET))

    path = login(guarded.address, options, Recorder("test"), IMPATIENT)

    assert path == tmp_path / "home/.docker/config.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    skopeo("inspect", "--tls-verify=false", "--authfile", str(path), f"docker://{guarded.address}/team/app:1")
    assert forget(guarded.address) == [path]
    assert guarded.address not in path.read_text()
    assert forget(guarded.address) == []


def test_login_with_wrong_credentials_keeps_nothing(tmp_path: Path, guarded: Registry) -> None:
    options = TransferOptions(plain_http=True, credentials=("ann", "wrong"))

    with pytest.raises(PermissionDenied):
        login(guarded.address, options, Recorder("test"), IMPATIENT)

    assert not (tmp_path / "home/.docker").exists()


def test_login_leaves_the_rest_of_the_file_as_it_was(tmp_path: Path, guarded: Registry) -> None:
    file = auth_file(tmp_path / "home/.docker/config.json", "other.example", "bob", "x")
    options = TransferOptions(plain_http=True, credentials=("ann", SECRET))

    login(guarded.address, options, Recorder("test"), IMPATIENT)

    found = json.loads(file.read_text())
    assert found["other"] == 1
    assert set(found["auths"]) == {"other.example", guarded.address}


def test_what_is_no_registry_is_told(tmp_path: Path) -> None:
    def nothing(asked: Asked) -> bool:
        asked.answer(404, b"<html>", {"Content-Type": "text/html"})
        return True

    options = TransferOptions(plain_http=True, credentials=("ann", SECRET))
    with (
        serving_oddly(make_layout(tmp_path / "oci", []), nothing) as odd,
        pytest.raises(NotFound, match="is no registry of images"),
    ):
        login(odd.address, options, Recorder("test"), IMPATIENT)


@pytest.mark.parametrize("text", ["[]", "nonsense", '{"auths": 3}', '{"auths": {"x": []}}', "[" * 100_000])
def test_files_that_make_no_sense_do_no_harm(tmp_path: Path, guarded: Registry, mover: Mover, text: str) -> None:
    file = tmp_path / "auth.json"
    file.write_text(text)

    with pytest.raises(InnkeeperError) as caught:
        mover.pull(f"{guarded.address}/team/app:1", auth_file=str(file))
    assert "\n" not in caught.value.message
