"""What is told of guests whose backends keep no record: it is read from how they change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.core.moments import parse_moment
from app.core.story import told_by
from backends.errors import UsageError
from backends.events import GuestAdded, GuestChanged, GuestGone
from backends.model import Guest, GuestKind, GuestRef, GuestState, Limits

WEB = Guest(GuestRef("libvirt", "1"), "web", GuestKind.VM, GuestState.STOPPED)


@pytest.mark.parametrize(
    "before, after, action, attributes",
    [
        ({}, {"state": GuestState.RUNNING}, "start", {}),
        ({"state": GuestState.RUNNING}, {"state": GuestState.PAUSED}, "pause", {}),
        ({"state": GuestState.PAUSED}, {"state": GuestState.RUNNING}, "unpause", {}),
        ({"state": GuestState.RUNNING}, {"state": GuestState.STOPPING}, "stop", {}),
        ({"state": GuestState.RUNNING}, {"exit_code": 3, "note": "why"}, "die", {"exit_code": "3", "note": "why"}),
        ({}, {"name": "other"}, "rename", {"before": "web"}),
        ({}, {"limits": Limits(pids=5)}, "update", {}),
        ({}, {"health": "unhealthy"}, "health_status", {"health": "unhealthy"}),
        ({}, {"oom_kills": 2}, "oom", {"kills": "2"}),
    ],
)
def test_a_change_is_told_as_what_happened(
    before: dict[str, object], after: dict[str, object], action: str, attributes: dict[str, str]
) -> None:
    event = told_by(GuestChanged(replace(WEB, **after), replace(WEB, **before)), {})  # type: ignore[arg-type]
    assert event is not None
    assert (event.action, dict(event.attributes), event.ref) == (action, attributes, WEB.ref)


def test_one_that_is_gone_is_told_by_its_last_name() -> None:
    names: dict[GuestRef, str] = {}
    made = told_by(GuestAdded(WEB), names)
    gone = told_by(GuestGone(WEB.ref), names)
    assert made is not None
    assert gone is not None
    assert [(made.action, made.name), (gone.action, gone.name)] == [("create", "web"), ("remove", "web")]


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("2026-01-31T12:00:00Z", 1769860800.0),
        ("2026-01-31T13:00:00+01:00", 1769860800.0),
        ("1769860800", 1769860800.0),
        ("1769860800.5", 1769860800.5),
        ("10m", 400.0),
        ("1h30m", -4400.0),
        ("0s", 1000.0),
    ],
)
def test_points_in_time_are_read_as_users_write_them(text: str, wanted: float) -> None:
    assert parse_moment(text, now_s=1000.0) == wanted


@pytest.mark.parametrize("text", ["", "yesterday", "10", "-5m", "2026-13-01", "5m ago"])
def test_what_is_no_point_in_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="point in time"):
        parse_moment(text)
