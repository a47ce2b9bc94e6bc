"""What registries and settings say, taken apart: challenges, places, addresses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import BackendUnavailable, InnkeeperError, PermissionDenied
from backends.native.registry import settings
from backends.native.registry.authorization import parse_challenges
from backends.native.registry.failures import printable, refusal
from backends.native.registry.settings import Place, places
from backends.native.registry.web import Patience, checked_url


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            'Bearer realm="https://auth.example/token",service="registry",scope="repository:a/b:pull,push"',
            [("bearer", {"realm": "https://auth.example/token", "service": "registry",
                         "scope": "repository:a/b:pull,push"})],
        ),
        ('Basic realm="a \\"b\\" c"', [("basic", {"realm": 'a "b" c'})]),
        ("Basic", [("basic", {})]),
        ('Negotiate x=y, Bearer realm=plain, Basic realm="z"',
         [("negotiate", {"x": "y"}), ("bearer", {"realm": "plain"}), ("basic", {"realm": "z"})]),
        ("", []),
        ("nonsense", []),
    ],
)  # fmt: skip
def test_challenges_are_read_as_the_rfc_writes_them(text: str, expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [(found.scheme, dict(found.parameters)) for found in parse_challenges(text)] == expected


@given(st.text())
def test_any_challenge_can_be_read(text: str) -> None:
    parse_challenges(text)


@given(st.text(), st.sampled_from(["https://a.example/v2/", "http://a.example/v2/"]))
def test_an_address_that_a_server_gives_is_sound_or_refused(text: str, base: str) -> None:
    try:
        url = checked_url(text, base, "redirects")
    except BackendUnavailable:
        return
    assert url.startswith(("http://", "https://"))
    assert not (base.startswith("https:") and url.startswith("http:"))


@given(st.binary(max_size=200), st.sampled_from(["application/json", "text/html", ""]))
def test_any_answer_makes_an_error_of_one_line(body: bytes, media_type: str) -> None:
    error = refusal("cannot pull x", 500, "Oh no", media_type, body, registry="r")

    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in error.message)


def test_long_texts_are_cut() -> None:
    assert printable("a" * 500, 10) == "a" * 9 + "…"


def test_pauses_grow_to_the_longest() -> None:
    patience = Patience(first_s=1, most_s=5)
    assert [patience.pause_s(failures) for failures in (1, 2, 3, 4, 9)] == [1, 2, 4, 5, 5]


ENTRIES: list[Mapping[str, Any]] = [
    {"location": "example.org", "insecure": True},
    {"prefix": "example.org/team", "location": "internal.example:5000/mirror", "mirror": [
        {"location": "near.example/team"}, {"location": "far.example/team", "pull-from-mirror": "tag-only"}]},
    {"prefix": "*.corp.example", "mirror-by-digest-only": True, "mirror": [{"location": "cache.example/all"}]},
    {"location": "bad.example", "blocked": True},
]  # fmt: skip


@pytest.mark.parametrize(
    "registry, repository, by_digest, expected",
    [
        ("other.example", "a", False, [Place("other.example", "a")]),
        ("example.org", "a/b", False, [Place("example.org", "a/b", insecure=True)]),
        ("example.org", "team/app", False, [
            Place("near.example", "team/app", is_mirror=True), Place("far.example", "team/app", is_mirror=True),
            Place("internal.example:5000", "mirror/app")]),
        ("example.org", "team/app", True, [
            Place("near.example", "team/app", is_mirror=True), Place("internal.example:5000", "mirror/app")]),
        ("example.org", "teams/app", False, [Place("example.org", "teams/app", insecure=True)]),
        ("x.corp.example", "app", True, [
            Place("cache.example", "all/app", is_mirror=True), Place("x.corp.example", "app")]),
        ("x.corp.example", "app", False, [Place("x.corp.example", "app")]),
    ],
)  # fmt: skip
def test_settings_say_where_an_image_comes_from(
    registry: str, repository: str, by_digest: bool, expected: list[Place]
) -> None:
    assert places(registry, repository, by_digest=by_digest, settings=ENTRIES) == expected


def test_what_is_blocked_is_refused() -> None:
    with pytest.raises(PermissionDenied):
        places("bad.example", "a", by_digest=False, settings=ENTRIES)


def test_docker_hub_is_asked_under_its_own_name() -> None:
    assert Place("docker.io", "library/busybox").host == "registry-1.docker.io"


def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> str:
    path = tmp_path / "registries.conf"
    path.write_bytes(text.encode("latin-1"))
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    return str(path)


@pytest.mark.parametrize("text", ["[[registry]", "\xff", "x"])
def test_settings_that_cannot_be_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    path = _settings(tmp_path, monkeypatch, text)

    with pytest.raises(InnkeeperError, match=path):
        settings.read()


@pytest.mark.parametrize("text", ["", "registry = 3", "[registry]", "[[registry]]\nlocation = 3", "[[registry]]"])
def test_settings_that_make_no_sense_say_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    _settings(tmp_path, monkeypatch, text)

    found = settings.read()

    assert places("a.example", "b", by_digest=False, settings=found) == [Place("a.example", "b")]
