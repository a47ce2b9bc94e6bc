"""What container.json keeps of a container, and gets back."""

from __future__ import annotations

from dataclasses import asdict

from backends.container import HealthCheck, LogLimits, RestartPolicy, Secret
from backends.native.networks.endpoint import Endpoint
from backends.native.record import ContainerRecord


def _record(**more: object) -> ContainerRecord:
    values = {"id": "0123456789ab", "name": "a", "image": "host", "created_s": 1.0, "layers": [], "network": "none"}
    return ContainerRecord(**{**values, **more})  # type: ignore[arg-type]


def test_a_record_gives_back_how_a_container_lives() -> None:
    policy, health = RestartPolicy("on-failure", 3), HealthCheck(("sh", "-c", "true"), retries=5)
    log, secret = LogLimits(1000, 2), Secret("key", "file:/etc/key", mode=0o440, uid=7)
    record = _record(restart=asdict(policy), health=asdict(health), log=asdict(log), secrets=[asdict(secret)])
    read = ContainerRecord.from_json(record.to_json())
    assert (read.restart_policy, read.health_check, read.log_limits) == (policy, health, log)
    assert read.secret_files == (secret,)


def test_a_record_of_an_older_version_has_the_defaults() -> None:
    read = _record()
    assert (read.restart_policy, read.health_check, read.log_limits) == (RestartPolicy(), None, LogLimits())
    assert read.secret_files == ()


def test_what_a_newer_version_adds_is_left_out() -> None:
    read = _record(restart={"name": "always", "jitter_s": 3}, log={"compress": True})
    assert read.restart_policy == RestartPolicy("always")
    assert read.log_limits == LogLimits()


def test_a_record_from_before_there_were_several_networks_is_on_the_default_one() -> None:
    read = _record(network="bridge", address="10.209.0.2", gateway="10.209.0.1", bridge="inn0")
    (endpoint,) = read.endpoints
    assert (endpoint.network, endpoint.bridge, endpoint.addresses) == ("bridge", "inn0", ("10.209.0.2",))
    assert (endpoint.link, endpoint.mac, endpoint.ifname) == ("inn0123456789", "02:01:23:45:67:89", "eth0")
    assert read.with_endpoints(()).endpoints == ()


def test_a_record_gives_back_the_networks_it_is_on() -> None:
    endpoint = Endpoint(
        "web", "inn-1", "10.0.0.2", 24, "10.0.0.1", "fd00::2", 64, "fd00::1", False, ("db",), link="inn01"
    )
    read = ContainerRecord.from_json(_record(network="bridge").with_endpoints([endpoint]).to_json())
    assert read.endpoints == (endpoint,)
