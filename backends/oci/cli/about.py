"""Help and version of `inn oci`."""

from __future__ import annotations

from backends.oci.cli.verbs import BOOL, LIST, NUMBER, VERBS

SPEC_VERSION = "1.2.1"

_OVERVIEW = """NAME:
   {name} - Open Container Initiative runtime

USAGE:
   {name} [global options] command [command options] [arguments...]

   Runs containers from OCI bundles (a folder with a config.json and a root file system). It takes the command
   line of runc and crun, so docker, containerd, podman and others can call it: `inn-oci` is `inn oci` as one word.

COMMANDS:
"""

_GLOBAL = """
GLOBAL OPTIONS:
   --root value            root directory for storage of container state (default: "/run/innkeeper/oci")
   --log value             set the log file to write logs to (default is '/dev/stderr')
   --log-format value      set the log format ('text' (default), or 'json')
   --debug                 enable debug logging
   --systemd-cgroup        let systemd make the cgroup; cgroupsPath is then "slice:prefix:name"
   --cgroup-manager value  cgroupfs, systemd or disabled (default: "cgroupfs")
   --rootless value        ignore cgroup permission errors ('true', 'false', or 'auto')
   --help, -h              show help
   --version, -v           print the version
"""


def version() -> str:
    """Return the lines of --version; callers read the first and "spec:"."""
    return f"{called()} version {own_version()}\ncommit: none\nspec: {SPEC_VERSION}\n"


def called() -> str:
    """Return the name that this was called by: "runc" where somebody made such a link to inn-oci."""
    import os

    return os.environ.get("INNKEEPER_CALLED") or "inn-oci"


def own_version() -> str:
    """Return Innkeeper's version, read as text so that nothing of the program is loaded for it."""
    import os

    here = os.path.dirname(os.path.abspath(__file__))
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(here))), "app", "__init__.py")
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line for line in file if line.startswith("__version__")]
    except OSError:
        lines = []
    return lines[0].split('"')[1] if lines else "unknown"


def overview() -> str:
    """Return what `inn oci --help` says."""
    lines = [f"   {name:<11}{verb.usage}\n" for name, verb in VERBS.items()]
    return _OVERVIEW.format(name=called()) + "".join(lines) + _GLOBAL


def help_of(verb: str) -> str:
    """Return what `inn oci VERB --help` says."""
    known, name = VERBS[verb], called()
    letters = {name: letter for letter, name in known.aliases.items()}
    words = {BOOL: "", LIST: " value [may be repeated]", NUMBER: " number"}
    options = [
        f"   --{name}{words.get(kind, ' value')}{f', -{letters[name]}' if name in letters else ''}\n"
        for name, kind in known.options.items()
    ]
    return (
        f"NAME:\n   {name} {verb} - {known.usage}\n\nUSAGE:\n   {name} {verb} [command options] {known.arguments}\n\n"
        f"OPTIONS:\n{''.join(options)}"
    )
