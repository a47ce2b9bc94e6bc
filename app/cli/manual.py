"""`inn help`: all verbs, or one of them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from app.cli.verbs import VERBS
from backends.errors import UsageError

if TYPE_CHECKING:
    from app.cli.context import Context

_TAIL = """\
Without a command `inn` opens the screen.

Global options, before or after the command:
  --root DIR          keep all state in DIR (default: $INNKEEPER_ROOT, else the system's or your own)
  --backend NAME      use only this source of guests; may be given several times
  --libvirt-uri URI   connect to this libvirt (qemu:///system)
  --option BACKEND.KEY=VALUE
                      a setting of one backend; may be given several times
  --no-color          no colours, like NO_COLOR=1
  --version           print the version

GUEST is a name, backend/name where the name is not unique, or the first 4 or more digits of an id.
`inn help COMMAND` or `inn COMMAND --help` explains one.
"""


def help_verb_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `inn help`."""
    parser.add_argument("verb", metavar="COMMAND", nargs="?", help="the command to explain")


def help_verb(args: argparse.Namespace, context: Context) -> int:
    """Print the help."""
    from app.cli.parser import parser_of

    if args.verb is None:
        context.out.text(overview())
        return 0
    if args.verb not in VERBS:
        raise UsageError(f"there is no command {args.verb!r}", hint="See `inn help`")
    context.out.text(parser_of(VERBS[args.verb]).format_help())
    return 0


def overview() -> str:
    """Return the list of all verbs."""
    lines = ["usage: inn [OPTION…] [COMMAND [ARGUMENT…]]", ""]
    shown = [verb for verb in VERBS.values() if not verb.is_hidden]
    for group in dict.fromkeys(verb.group for verb in shown):
        lines.append(f"{group}:")
        lines += [f"  {verb.name:<12}{verb.help}" for verb in shown if verb.group == group]
        lines.append("")
    return "\n".join(lines) + "\n" + _TAIL
