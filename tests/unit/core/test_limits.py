"""The table of limits: complete, readable both ways, and with sensible steps."""

from __future__ import annotations

import pytest

from app.core.limits import LIMIT_FIELDS, LimitField, describe, parse_changes
from backends.errors import UsageError
from backends.model import DeviceIo, Limits

MIB = 1024**2
SAMPLES = {
    "cores": ["0.5", "2", "1.25"], "weight": ["1", "10000"], "cpus": ["0", "0-1,3"],
    "bytes": ["64M", "1.5G", "4194305"],
    "bytes/s": ["10M", "512K/s"], "ops/s": ["100", "5k/s"], "count": ["100", "1k"],
    "seconds": ["100ms", "0.5ms", "1.5s", "2"], "%": ["5%", "0.1", "12.5 %", "100%"],
}  # fmt: skip

every_field = pytest.mark.parametrize("field", LIMIT_FIELDS.values(), ids=LIMIT_FIELDS)


def test_every_limit_of_the_model_has_its_field() -> None:
    assert set(LIMIT_FIELDS) == set(Limits.__dataclass_fields__) - {"io_devices"}
    assert len({field.option for field in LIMIT_FIELDS.values()}) == len(LIMIT_FIELDS)
    device_fields = {field.device_field for field in LIMIT_FIELDS.values()} - {""}
    assert device_fields == set(DeviceIo.__dataclass_fields__) - {"device"}


@every_field
def test_a_value_that_was_formatted_is_read_back(field: LimitField) -> None:
    for text in SAMPLES[field.unit]:
        value = field.parse(text)
        assert value is not None
        assert field.parse(field.format(value)) == value


@every_field
def test_none_lifts_a_limit(field: LimitField) -> None:
    assert field.parse("none") is None
    assert field.parse(field.format(None)) is None


@every_field
def test_nonsense_is_refused_in_one_line_that_names_the_option(field: LimitField) -> None:
    for text in ("", "much", "-5", "1e99", "0x10"):
        with pytest.raises(UsageError) as caught:
            field.parse(text)
        assert caught.value.message.startswith(f"{field.option}: ")
        assert "\n" not in caught.value.message


@every_field
def test_steps_go_down_to_the_minimum_and_up_again(field: LimitField) -> None:
    value, seen = None, []
    for _ in range(100):
        value = field.step_down(value)
        assert field.parse(field.format(value)) == value
        seen.append(value)
    assert seen[-1] == seen[-2]
    if field.minimum is not None:
        assert seen[-1] == field.minimum
        assert sorted(seen, reverse=True) == seen
        assert field.step_up(seen[-1]) > seen[-1]
    assert field.step_up(None) is None


def test_a_value_outside_the_range_is_refused_with_the_bound() -> None:
    with pytest.raises(UsageError, match=r"--cpus: 0\.001 is too small: at least 0\.01"):
        LIMIT_FIELDS["cpus"].parse("0.001")
    with pytest.raises(UsageError, match="--cpu-weight: 10001 is too large: at most 10000"):
        LIMIT_FIELDS["cpu_weight"].parse("10001")


def test_options_become_changes() -> None:
    changes = parse_changes([("cpus", "0.5"), ("memory_bytes", "none"), ("io_read_bytes_per_s", "10M")])

    assert changes == {"cpus": 0.5, "memory_bytes": None, "io_read_bytes_per_s": 10 * MIB}


def test_a_disk_limit_with_a_device_changes_that_device_alone() -> None:
    current = Limits(io_devices=(DeviceIo("/dev/vda", write_bytes_per_s=MIB), DeviceIo("/dev/vdb", read_ops_per_s=9)))

    changes = parse_changes([("io_read_bytes_per_s", "/dev/vda:10M"), ("io_read_ops_per_s", "/dev/vdb:none")], current)

    assert changes == {"io_devices": (DeviceIo("/dev/vda", read_bytes_per_s=10 * MIB, write_bytes_per_s=MIB),)}


@pytest.mark.parametrize("text", [":10M", "/dev/vda:", "/dev/vda:much"])
def test_a_device_limit_without_device_or_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--io-read: "):
        parse_changes([("io_read_bytes_per_s", text)])


def test_limits_that_are_set_are_described_with_their_devices() -> None:
    limits = Limits(cpus=0.5, io_devices=(DeviceIo("vda", write_ops_per_s=100),))

    assert describe(limits) == [("CPU", "0.5"), ("Disk write ops vda", "100/s")]
