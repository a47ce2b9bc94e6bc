"""Names of images mean what they mean to docker."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends.errors import AlreadyExists, UsageError
from backends.native.images.reference import Reference, parse_name

DIGEST = "sha256:" + "0f" * 32


@pytest.mark.parametrize(
    "text,registry,repository,tag,digest,shown",
    [
        ("busybox", "docker.io", "library/busybox", "latest", "", "busybox:latest"),
        ("busybox:1.36", "docker.io", "library/busybox", "1.36", "", "busybox:1.36"),
        ("docker.io/busybox", "docker.io", "library/busybox", "latest", "", "busybox:latest"),
        ("index.docker.io/library/busybox", "docker.io", "library/busybox", "latest", "", "busybox:latest"),
        ("team/app:2", "docker.io", "team/app", "2", "", "team/app:2"),
        ("localhost/app", "localhost", "app", "latest", "", "localhost/app:latest"),
        ("localhost:5000/a/b", "localhost:5000", "a/b", "latest", "", "localhost:5000/a/b:latest"),
        ("[::1]:5000/a", "[::1]:5000", "a", "latest", "", "[::1]:5000/a:latest"),
        ("r.example/a:1@" + DIGEST, "r.example", "a", "1", DIGEST, "r.example/a:1@" + DIGEST),
        ("a@" + DIGEST, "docker.io", "library/a", "", DIGEST, "a@" + DIGEST),
        ("a__b/c-d.e", "docker.io", "a__b/c-d.e", "latest", "", "a__b/c-d.e:latest"),
        ("Upper/app", "Upper", "app", "latest", "", "Upper/app:latest"),
    ],
)
def test_a_name_is_read_as_docker_reads_it(
    text: str, registry: str, repository: str, tag: str, digest: str, shown: str
) -> None:
    found = Reference.parse(text)

    assert (found.registry, found.repository, found.tag, found.digest) == (registry, repository, tag, digest)
    assert str(found) == shown
    assert Reference.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", ":", "@", "a:", "a@", "/a", "a/", "a//b", "../a", "a/../b", "A", "a:b:c", "a b", "a\n", "-a", "a..b",
     "a" * 256, "a:" + "t" * 129, "a@sha256:12", "a@" + DIGEST.upper(), "http://a/b", "a___b", ":5000/a",
     "f" * 64, "a:é"],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        Reference.parse(text)


@given(st.text(max_size=40))
def test_any_text_is_a_name_or_a_usage_error(text: str) -> None:
    try:
        found = Reference.parse(text)
    except UsageError:
        return
    assert Reference.parse(str(found)) == found


def test_a_name_to_give_is_not_the_built_in_image_and_has_no_digest() -> None:
    assert str(parse_name("a")) == "a:latest"
    with pytest.raises(AlreadyExists):
        parse_name("host:2")
    with pytest.raises(UsageError):
        parse_name("a@" + DIGEST)
