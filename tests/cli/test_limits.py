"""`inn limit` and `inn limits`."""

from __future__ import annotations

import pytest

from app.core.limits import LIMIT_FIELDS
from tests.cli.conftest import Inn

VALUES = {
    "cores": "0.5", "weight": "50", "cpus": "0", "bytes": "64M", "bytes/s": "10M", "ops/s": "100", "count": "100",
    "seconds": "100ms", "%": "5%",
}  # fmt: skip


@pytest.mark.parametrize("field", LIMIT_FIELDS.values(), ids=lambda field: field.name)
def test_every_limit_has_an_option(inn: Inn, field: object) -> None:
    option, unit, name = getattr(field, "option"), getattr(field, "unit"), getattr(field, "name")  # noqa: B009

    done = inn("limit", "--json", "web-1", option, VALUES[unit])

    assert done.code == 0
    assert done.json_lines[0]["limits"][name] is not None


def test_none_lifts_a_limit(inn: Inn) -> None:
    done = inn("limit", "--json", "db", "--cpus", "none", "--memory", "none")

    limits = done.json_lines[0]["limits"]
    assert (limits["cpus"], limits["memory_bytes"]) == (None, None)


def test_a_device_of_its_own_can_be_limited(inn: Inn) -> None:
    done = inn("limit", "--json", "db", "--io-read", "/dev/vda:10M", "--io-write", "/dev/vdb:5M")

    devices = {entry["device"]: entry for entry in done.json_lines[0]["limits"]["io_devices"]}
    assert devices["/dev/vda"]["read_bytes_per_s"] == 10 * 1024**2
    assert devices["/dev/vdb"]["write_bytes_per_s"] == 5 * 1024**2


def test_a_memory_limit_below_use_warns_and_is_done(inn: Inn) -> None:
    done = inn("limit", "web-1", "--memory", "1M")

    assert (done.code, done.out) == (0, "web-1\n")
    assert done.err.startswith("inn: warning: web-1: ")


def test_limits_shows_what_is_set_what_is_used_and_whether_it_bites(inn: Inn) -> None:
    limits = inn("limits", "--json", "db").json["limits"]

    assert set(limits) == set(LIMIT_FIELDS)
    assert limits["cpus"]["set"] == limits["cpus"]["in_force"] == 0.5
    assert limits["cpus"]["use"] >= 0
    assert limits["cpus"]["bites"] in (True, False)
    assert limits["pids"]["in_force"] is None
    assert limits["pids"]["bites"] is None


def test_limits_says_what_cannot_be_set_for_a_guest(inn: Inn) -> None:
    machine = next(guest["name"] for guest in inn("ps", "--json", "--kind", "vm").json)

    reasons = {name: row["why_not"] for name, row in inn("limits", "--json", machine).json["limits"].items()}
    shown = inn("limits", machine).out

    assert any(reasons.values())
    assert next(reason for reason in reasons.values() if reason) in shown


def test_limits_of_a_guest_that_does_not_run_needs_no_samples(inn: Inn) -> None:
    name = next(guest["name"] for guest in inn("ps", "--json", "--state", "created").json)

    assert inn("limits", "--json", name).json["limits"]["cpus"]["use"] is None
