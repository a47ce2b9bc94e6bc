"""The command line that makes a container: what the screen shows beside its form, and people copy. Pure."""

from __future__ import annotations

import shlex

from app.core.limits import LIMIT_FIELDS
from app.core.paths import Paths
from backends.container import ContainerSpec


def run_line(spec: ContainerSpec, paths: Paths | None = None, *, verb: str = "run") -> str:
    """Return `inn run -d …` or `inn create …` for what a form can ask for; a shell takes it as it is.

    With `--root` if the paths are not those that `inn` would choose by itself.
    """
    root = [] if paths is None or paths.is_default else ["--root", str(paths.state_dir)]
    return shlex.join(["inn", *root, *run_words(spec, verb=verb)])


def run_words(spec: ContainerSpec, *, verb: str = "run") -> list[str]:
    """Return its words after `inn`. Options that the specification leaves as they are by default are left out."""
    words = [verb]
    words += ["-d"] if verb == "run" else []
    words += ["-t"] if spec.terminal else []
    words += ["-i"] if spec.stdin else []
    words += ["--rm"] if spec.auto_remove else []
    words += ["--init"] if spec.init else []
    words += ["--name", spec.name] if spec.name else []
    for field in LIMIT_FIELDS.values():
        value = getattr(spec.limits, field.name)
        if value is not None:
            words += [field.option, field.format(value)]
    for option, values in (("-p", spec.publish), ("-v", spec.volumes), ("-e", spec.env)):
        for value in values:
            words += [option, value]
    words += ["--network", spec.network] if spec.network != "bridge" else []
    for network in spec.networks:
        words += ["--network", network]
    words += ["--restart", str(spec.restart)] if spec.restart.name != "no" else []
    words += ["-u", spec.user] if spec.user else []
    words += ["-w", spec.cwd] if spec.cwd else []
    # A program that begins with a dash would be taken for an option.
    rest = ["--"] if spec.args and spec.args[0].startswith("-") else []
    return [*words, spec.image, *rest, *spec.args]
