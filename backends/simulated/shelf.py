"""Lifelike images: what they are made of, and what a registry has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Any

from backends.image import ImageLayer
from backends.simulated.gallery import Picture, digest_of
from backends.simulated.names import HOSTILE

MB = 1_000_000
DAY_S = 86_400.0

_BASES: dict[str, tuple[int, str]] = {
    "debian:12": (117 * MB, "/bin/sh -c #(nop) ADD file:1d2c8b6f in / "),
    "alpine:3.20": (8 * MB, "/bin/sh -c #(nop) ADD file:99093095 in / "),
}

# name: base, megabytes and command of each further layer, port, volume, environment, program
_APPS: dict[str, tuple[str, tuple[tuple[int, str], ...], str, str, tuple[str, ...], tuple[str, ...]]] = {
    "nginx": (
        "debian:12",
        ((68, "RUN apt-get install -y nginx=1.27.2-1~bookworm"), (1, "COPY docker-entrypoint.sh /")),
        "80/tcp", "", ("NGINX_VERSION=1.27.2",), ("nginx", "-g", "daemon off;"),
    ),
    "postgres": (
        "debian:12",
        ((9, "RUN groupadd -r postgres --gid=999"), (26, "RUN localedef -i en_US -f UTF-8"),
         (212, "RUN apt-get install -y postgresql-16")),
        "5432/tcp", "/var/lib/postgresql/data", ("PG_MAJOR=16", "LANG=en_US.utf8"), ("postgres",),
    ),
    "redis": (
        "alpine:3.20", ((30, "RUN apk add redis"),), "6379/tcp", "/data", ("REDIS_VERSION=7.4.1",), ("redis-server",),
    ),
    "rabbitmq": (
        "debian:12", ((95, "RUN build-erlang.sh"), (41, "RUN install-rabbitmq.sh")), "5672/tcp",
        "/var/lib/rabbitmq", ("RABBITMQ_VERSION=4.0.3",), ("rabbitmq-server",),
    ),
    "app": (
        "alpine:3.20", ((52, "RUN apk add python3"), (18, "RUN pip install -r requirements.txt"), (2, "COPY . /app")),
        "8000/tcp", "", ("PYTHONUNBUFFERED=1",), ("python3", "-m", "app"),
    ),
    "builder": (
        "debian:12", ((418, "RUN apt-get install -y build-essential git cmake"),), "", "/src", (), ("make",),
    ),
    "opensearch": (
        "debian:12", ((310, "RUN install-java.sh 21"), (804, "RUN unzip opensearch-2.18.0")), "9200/tcp",
        "/usr/share/opensearch/data", ("OPENSEARCH_HOME=/usr/share/opensearch",), ("./opensearch-entrypoint.sh",),
    ),
    "prometheus": (
        "alpine:3.20", ((266, "COPY prometheus /bin/"),), "9090/tcp", "/prometheus", (), ("prometheus",),
    ),
    "postfix": (
        "alpine:3.20", ((14, "RUN apk add postfix"),), "25/tcp", "/var/spool/postfix", (), ("postfix", "start-fg"),
    ),
    "haproxy": (
        "debian:12", ((24, "RUN make install TARGET=linux-glibc"),), "443/tcp", "", (), ("haproxy", "-W", "-db"),
    ),
    "forgejo": (
        "alpine:3.20", ((171, "COPY gitea /app/gitea/"),), "3000/tcp", "/data", (), ("/usr/bin/entrypoint",),
    ),
    "mediawiki": (
        "debian:12", ((190, "RUN install-php.sh 8.3"), (283, "RUN fetch-mediawiki.sh 1.42")), "80/tcp",
        "/var/www/html/images", (), ("apache2-foreground",),
    ),
    "unbound": ("alpine:3.20", ((12, "RUN apk add unbound"),), "53/udp", "", (), ("unbound", "-d")),
    "base": ("alpine:3.20", (), "", "", (), ("sh",)),
    "python:3.12-slim": (
        "debian:12", ((48, "RUN build-python.sh 3.12.7"),), "", "", ("PYTHON_VERSION=3.12.7",), ("python3",),
    ),
}  # fmt: skip


def picture(name: str, now_s: float) -> Picture:
    """Return the image that registries have under a name; of one nobody knows something likely."""
    repository = name.rpartition("/")[2]
    known = _APPS.get(repository) or _APPS.get(repository.partition(":")[0])
    if known is None:
        random = Random(name)
        layers = tuple((random.randint(2, 160), f"RUN make part-{turn + 1}") for turn in range(random.randint(1, 4)))
        known = (random.choice(list(_BASES)), layers, f"{random.randint(3000, 9000)}/tcp", "", (), ("/init",))
    base, layers, port, volume, env, program = known
    age_s = Random(repository).uniform(1, 300) * DAY_S
    config: dict[str, Any] = {
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", *env],
        "Cmd": list(program),
        "WorkingDir": "/app" if repository.startswith("app") else "",
        "Labels": {"org.opencontainers.image.title": repository.partition(":")[0]},
    }
    if port:
        config["ExposedPorts"] = {port: {}}
    if volume:
        config["Volumes"] = {volume: {}}
    steps = list(_steps(base, layers, now_s - age_s))
    steps += [_empty(f"ENV {pair}", now_s - age_s) for pair in env]
    steps += [_empty(f"EXPOSE {port}", now_s - age_s)] if port else []
    steps += [_empty(f"VOLUME {json.dumps([volume])}", now_s - age_s)] if volume else []
    steps.append(_empty(f"CMD {json.dumps(list(program))}", now_s - age_s))
    return Picture(tuple(steps), now_s - age_s, config)


def lifelike(now_s: float) -> Iterator[tuple[Picture, Sequence[str]]]:
    """Yield the first images with their names: those of the guests, some that nobody uses, and one without a name."""
    for name in _APPS:
        names = [name, "registry.example:5000/team/app:2"] if name == "app" else [name]
        yield picture(name, now_s), names
    old = picture("app", now_s)
    yield Picture((*old.history[:2], layer("COPY . /app # before", 3 * MB, now_s - 9 * DAY_S)), now_s - 9 * DAY_S), ()


def hostile(now_s: float) -> Iterator[tuple[Picture, Sequence[str]]]:
    """Yield images whose every text is other people's at its worst."""
    yield picture("base", now_s), ["base"]
    for number, text in enumerate(HOSTILE):
        step = layer(f"RUN echo {text}", (number + 1) * MB, now_s)
        config = {"Env": [f"A={text}"], "Cmd": [text], "Labels": {text: text}, "ExposedPorts": {text: {}}}
        yield Picture((step,), now_s, config), [text.strip() + ":tag"]


def layer(command: str, size_bytes: int, now_s: float, *parent: object) -> ImageLayer:
    """Return a step that makes a layer."""
    digest = digest_of(command, size_bytes, *parent)
    return ImageLayer(command, now_s, digest, digest_of("tar", digest), size_bytes, int(size_bytes * 0.38))


def changed(config: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Return a configuration with the changes of instructions such as "CMD sh" or "ENV A=b"."""
    new = dict(config)
    for text in changes:
        word, _, rest = text.strip().partition(" ")
        if word.upper() == "ENV":
            new["Env"] = [*new.get("Env", ()), rest]
        elif word.upper() == "EXPOSE":
            new["ExposedPorts"] = {**(new.get("ExposedPorts") or {}), rest: {}}
        elif word.upper() in ("CMD", "ENTRYPOINT"):
            program = json.loads(rest) if rest.startswith("[") else ["/bin/sh", "-c", rest]
            new["Cmd" if word.upper() == "CMD" else "Entrypoint"] = program
        elif word.upper() == "WORKDIR":
            new["WorkingDir"] = rest
        elif word.upper() == "LABEL":
            key, _, value = rest.partition("=")
            new["Labels"] = {**(new.get("Labels") or {}), key: value}
    return new


def _steps(base: str, layers: Sequence[tuple[int, str]], now_s: float) -> Iterator[ImageLayer]:
    size_bytes, command = _BASES[base]
    yield layer(command, size_bytes, now_s)
    for megabytes, text in layers:
        yield layer(text, megabytes * MB, now_s, base)


def _empty(command: str, now_s: float) -> ImageLayer:
    return ImageLayer(command, now_s)
