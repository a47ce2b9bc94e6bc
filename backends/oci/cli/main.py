"""The door of `inn oci`: finds the verb, loads only its code, and turns errors into runc's words and exit codes."""

from __future__ import annotations

import os
import sys

from backends.errors import InnkeeperError, UsageError
from backends.oci.cli.command import Command, check_cgroup_manager
from backends.oci.cli.log import Log
from backends.oci.cli.parser import parse
from backends.oci.cli.verbs import GLOBAL, SYNONYMS, VERBS, Verb
from backends.oci.errors import NotExecuted, OciError
from backends.oci.state import default_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FAILED, EXEC_FAILED, INTERRUPTED = 1, 255, 130


def main(words: list[str]) -> int:
    """Run one command and return its exit code; never raises what a caller could not read."""
    log = Log()
    verb = ""
    try:
        options, rest = parse(words, GLOBAL, {}, stop_after=1)
        verb = SYNONYMS.get(rest[0], rest[0]) if rest else ""
        log = _log(options)
        return _run(verb, rest[1:], options, log)
    except BrokenPipeError:
        return FAILED
    except NotExecuted as error:
        log.plain(error.message)
        return error.exit_code
    except (InnkeeperError, OSError, ValueError) as error:
        log.error(_prefix(verb, error) + words_of(error))
        return EXEC_FAILED if verb == "exec" else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(verb: str, words: list[str], global_options: dict[str, Any], log: Log) -> int:
    if global_options.get("version") or global_options.get("v"):
        from backends.oci.cli.about import version

        sys.stdout.write(version())
        return 0
    known = VERBS.get(verb)
    if known is None or global_options.get("help") or global_options.get("h"):
        from backends.oci.cli.about import overview

        if known is None and verb not in ("", "help", "h"):
            raise UsageError(f"No help topic for '{verb}'")
        sys.stdout.write(overview() if known is None or verb == "help" else _help(verb))
        return 0
    options, arguments = _parse_verb(verb, known, words)
    if options.get("help"):
        sys.stdout.write(_help(verb))
        return 0
    _check_count(verb, known, arguments)
    _settle_root(global_options)
    module = __import__(f"backends.oci.cli.{known.module}", fromlist=["run"])
    code: int = module.run(Command(verb, options, arguments, global_options, log))
    return code


def _parse_verb(verb: str, known: Verb, words: list[str]) -> tuple[dict[str, Any], list[str]]:
    try:
        return parse(words, known.options, known.aliases, known.stop_after)
    except UsageError:
        sys.stderr.write("Incorrect Usage.\n\n" + _help(verb))
        raise


def _help(verb: str) -> str:
    from backends.oci.cli.about import help_of

    return help_of(verb)


def _check_count(verb: str, known: Verb, arguments: list[str]) -> None:
    count, wrong = len(arguments), ""
    if known.least == known.most and count != known.least:
        wrong = f"requires exactly {known.least} argument(s)"
    elif count < known.least:
        wrong = f"requires a minimum of {known.least} argument(s)"
    elif known.most >= 0 and count > known.most:
        wrong = f"requires a maximum of {known.most} argument(s)"
    if wrong:
        sys.stdout.write("Incorrect Usage.\n\n" + _help(verb))
        raise UsageError(f'inn oci: "{verb}" {wrong}')


def _log(options: dict[str, Any]) -> Log:
    return Log(options.get("log", ""), options.get("log-format", "text"), debug=bool(options.get("debug")))


def _settle_root(options: dict[str, Any]) -> None:
    manager = options.get("cgroup-manager")
    if manager is not None and not check_cgroup_manager(manager):
        raise UsageError(f"unknown cgroup manager specified {manager}")
    if "root" not in options:
        options["root"] = default_root()
        return
    options["root"] = os.path.abspath(options["root"])
    options["root-is-given"] = True
    if options["root"] == "/":
        raise OciError('option --root argument should not be set to "/"')


def _prefix(verb: str, error: BaseException) -> str:
    if isinstance(error, UsageError):
        return ""
    if verb in ("create", "run", "restore"):
        return f"runc {verb} failed: "
    return "exec failed: " if verb == "exec" else ""


def words_of(error: BaseException) -> str:
    """Return what happened in the words a Go runtime would use: callers look for "no such file or directory"."""
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror[:1].lower() + error.strerror[1:]
        return f"open {error.filename}: {said}" if error.filename else said
    text = str(error)
    hint = getattr(error, "hint", "")
    return f"{text} ({hint})" if hint else text
