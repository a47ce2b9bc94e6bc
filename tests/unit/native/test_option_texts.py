"""Whatever a user types is either understood or refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.cli import run_values
from backends.container import ContainerSpec
from backends.errors import InnkeeperError
from backends.native import spec
from backends.native.images.image import ImageConfig
from backends.native.options import devices, mounts, ports, privileges, rlimits, seccomp_file, volumes
from backends.native.options.of_image import with_image

IMAGE = ImageConfig(name="busy", id="x", created_s=0, layers=[], command=["/bin/sh"])
PIECES = st.sampled_from(
    ["/dev/null", "/tmp", "/", ":", "=", ",", "-", "ro", "rwm", "nofile", "size", "99", "9" * 5000, "²", "٣", "\0", " ",
     "type=bind", "source", "target", "[::1]", "1.2.3.4", "80", "/udp", "ALL", "label", "seccomp", "net.x", "\udc80"]
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=8).map("".join) | st.text(max_size=40)


def refuses_or_takes(parse: Callable[[], object]) -> None:
    said = "understood"
    try:
        parse()
    except InnkeeperError as error:
        said = error.message
    assert said
    assert "\n" not in said


@pytest.mark.parametrize(
    "parse",
    [
        volumes.parse_volume, volumes.parse_mount, volumes.parse_tmpfs, devices.parse_device, devices.parse_rule,
        ports.parse_port, lambda text: rlimits.rlimits([text]), run_values.restart_policy, run_values.secret,
        run_values.entry_point, run_values.volume, lambda text: run_values.log_limits([text]),
        lambda text: run_values.duration("--x", text), lambda text: run_values.size("--x", text),
    ],
    ids=["volume", "mount", "tmpfs", "device", "rule", "port", "ulimit", "restart", "secret", "entrypoint", "path",
         "log", "duration", "size"],
)  # fmt: skip
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_any_text_is_taken_or_refused(parse: Callable[[str], object], text: str) -> None:
    refuses_or_takes(lambda: parse(text))


@pytest.mark.parametrize(
    "field",
    ["cap_add", "cap_drop", "security_opts", "devices", "device_rules", "ulimits", "sysctls", "groups", "tmpfs",
     "volumes", "mounts", "hosts", "dns", "publish", "env"],
)  # fmt: skip
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_any_text_in_a_spec_is_taken_or_refused(field: str, text: str) -> None:
    asked = ContainerSpec("busy", **{field: (text,)})  # type: ignore[arg-type]

    def make() -> None:
        spec.check(asked)
        named = [each.place for each in mounts.named_volumes(asked)]
        own = dict.fromkeys([*mounts.own_volumes(asked), *named], "/srv")
        spec.build("0123456789ab", with_image(asked, IMAGE), [], "x/y", {}, own)

    refuses_or_takes(make)


KEYS = st.sampled_from(["names", "name", "action", "args", "includes", "caps", "minKernel"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from(["SCMP_ACT_ALLOW", "mount"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["names", "name", "action", "args", "includes", "caps", "minKernel"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(syscalls=JSON, arch_map=JSON)
def test_any_filter_in_a_file_is_taken_or_refused(tmp_path: Path, syscalls: object, arch_map: object) -> None:
    path = tmp_path / "profile.json"
    path.write_text(json.dumps({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": syscalls, "archMap": arch_map}))

    def load() -> None:
        profile = seccomp_file.read(str(path), privileges.host_capabilities())
        seccomp_file.check(profile, str(path))

    refuses_or_takes(load)
