"""The launcher: finds Innkeeper's packages and runs its command line.

In a checkout they lie beside this file; a wheel keeps them in `innkeeper_lib`, so that no package
called `app` reaches site-packages.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - said in a sentence, not as a SyntaxError further down
    sys.exit("inn: Innkeeper needs Python 3.11 or newer, and this is " + sys.version.split()[0])


_ENTERING = frozenset({"create", "run", "exec", "restore"})
"""Words of `inn oci` after which processes of ours go into a container; it does no harm if they mean something else."""


def main() -> int:
    """Run `inn` with the arguments of this process and return its exit code."""
    _write_for_ourselves()
    if sys.argv[1:2] == ["oci"]:
        return oci(sys.argv[2:])
    _find_packages()
    if "run" in sys.argv[1:4]:
        from app.cli.quick import attempt

        code = attempt(sys.argv[1:])
        if code is not None:
            return code
    from app.cli.packages import load_site

    load_site()
    from app.cli.main import main as run

    return run()


def oci(words: list[str] | None = None) -> int:
    """Run `inn oci`, the command line of an OCI runtime: loads nothing of the rest of Innkeeper."""
    _write_for_ourselves()
    _find_packages()
    words = sys.argv[1:] if words is None else words
    if not _ENTERING.isdisjoint(words):
        from backends.kernel.selfexe import seal

        seal()  # before anything else is loaded: the interpreter starts anew
    import gc

    from backends.oci import light_dataclasses

    gc.disable()  # it lives too briefly for cycles to matter
    light_dataclasses.install()  # before anything declares one
    from backends.oci.cli.main import main as run

    return run(words)


def _write_for_ourselves() -> None:
    """Let nobody else write to files and folders of ours, whatever umask the caller has."""
    import os

    os.umask(os.umask(0o022) | 0o022)


def leave(code: int) -> None:
    """End this process without taking the interpreter apart, which would cost as much as a `state`. Never returns."""
    import os

    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            code = code or 1
    os._exit(code)


def _find_packages() -> None:
    import os.path

    here = os.path.dirname(os.path.realpath(__file__))
    packaged = os.path.join(here, "innkeeper_lib")
    home = packaged if os.path.isdir(packaged) else here
    if sys.path[0] != home:  # first, so that another package called "app" cannot come before ours
        sys.path.insert(0, home)


if __name__ == "__main__":
    if sys.argv[1:2] == ["oci"]:
        leave(main())
    sys.exit(main())
