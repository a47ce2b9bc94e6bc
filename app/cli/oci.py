"""`inn oci` for `inn help`: the launcher runs it itself, without anything of the rest of Innkeeper."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from backends.errors import UsageError

if TYPE_CHECKING:
    from app.cli.context import Context

_EPILOG = """\
Takes the command line of runc and crun: create, start, run, exec, state, kill, delete,
list, ps, pause, resume, update, events, spec, features, checkpoint, restore, with --root,
--log, --bundle, --console-socket, --pid-file and so on; `inn oci --help` and
`inn oci VERB --help` tell all. Options of inn itself cannot stand before `oci`.
The program inn-oci beside inn is the same as one word:
  dockerd --add-runtime innkeeper=/path/to/inn-oci
  podman --runtime /path/to/inn-oci --cgroup-manager cgroupfs
"""


def oci_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare nothing of its own: its words are the runtime's."""
    parser.usage = "inn oci [OPTION…] VERB [ARGUMENT…]"
    parser.epilog = _EPILOG
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("words", metavar="VERB …", nargs=argparse.REMAINDER, help="a verb of runc's and its options")


def oci_verb(args: argparse.Namespace, context: Context) -> int:
    """Say where it belongs; the launcher did not see it because an option stands before it."""
    raise UsageError("options of inn cannot stand before `oci`", hint="write `inn oci [--root DIR] VERB …`")
