"""`inn oci spec`: a config.json to start from."""

from __future__ import annotations

import os

from backends.oci.cli.about import SPEC_VERSION
from backends.oci.cli.command import Command
from backends.oci.errors import OciError
from backends.oci.starter_config import starter_config
from backends.oci.state import CONFIG
from backends.quick_json import dumps


def run(command: Command) -> int:
    """Write it into the bundle, or the present folder; never over one that is there."""
    bundle = command.text("bundle")
    if bundle:
        os.chdir(bundle)
    is_v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
    config = starter_config(is_v2=is_v2, rootless=command.flag("rootless"), spec_version=SPEC_VERSION)
    try:
        with open(CONFIG, "x", encoding="utf-8") as file:
            file.write(dumps(config, "\t") + "\n")
    except FileExistsError:
        raise OciError(f"File {CONFIG} exists. Remove it first") from None
    return 0
