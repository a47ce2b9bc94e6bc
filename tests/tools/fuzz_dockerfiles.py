"""Looks for Dockerfiles and .dockerignores that are neither read nor refused with one line, or that take too long.

    python -m tests.tools.fuzz_dockerfiles SECONDS [SEED]

What it finds it prints, and ends with 1. Each text is read, its stages are found, and all its instructions that only
change the configuration are carried out.
"""

from __future__ import annotations

import random
import signal
import sys
import time
from collections.abc import Callable, Mapping

from backends.errors import UsageError
from backends.native.build import mounts
from backends.native.build.changes import change, environment, folder_of, is_change
from backends.native.build.commands import check_run
from backends.native.build.dockerfile import DockerfileError, read
from backends.native.build.ignore import Ignore
from backends.native.build.instruction import Instruction
from backends.native.build.stages import expanded, recipe
from backends.native.build.words import WordError
from backends.native.options.volumes import place_in

SLOWEST_S = 2
"""Of processor time."""

SEEDS = (
    b'# escape=`\nARG V=1\nFROM base:$V AS one\nENV A=b C="d e" F=$A\nRUN echo `\n  two\n',
    b'FROM a\nCOPY --from=x --chown=1:2 a b/\nADD ["a b", "c"]\nWORKDIR /x/../y\nUSER ${U:-me}\n',
    b'FROM scratch\nLABEL a=b \'c d\'="e f"\nHEALTHCHECK --interval=1m30s --retries=3 CMD ["x"]\n',
    b'FROM a\nEXPOSE 80 90-92/udp\nVOLUME ["/a"]\nSTOPSIGNAL 9\nSHELL ["/bin/sh", "-c"]\nENTRYPOINT x\nCMD ["y"]\n',
    b"FROM a AS b\nARG T=/c\nRUN --mount=type=cache,id=$T,target=$T/d,sharing=locked,mode=0755,uid=1,from=b,src=x a\n",
    b'FROM a\nRUN --mount=type=secret,id=k,required --mount="target=/x",ro --mount=type=tmpfs,dst=/y,size=64m b\n',
    b"FROM a\nRUN <<EOF cat <<-'B'\nx\nEOF\n\ty\n\tB\nONBUILD COPY . .\n",
    b"FROM a\nENV A=${A:-${B:-${C:+x}}} B=${A##*/} C=${A%%.*} D=${A/x/y} E=${A//x*/y}\nENV A=$A$A$A$A B=$B$B$B\n",
)

PIECES = (
    *b"${ } $A \\ ` ' \" <<EOF <<-'E' --from= [ ] [\"a\"] **/ * ! [^a-z] # = :? #* /x/ {".split(),
    b"HEALTHCHECK ", b"ONBUILD ", b"FROM ", b"COPY ",
    b"RUN --mount=", b"--mount=type=", b",", b'"', b",from=", b",target=", b",rw=", b"size=1e9", b"mode=07777",
    b"\nEOF\n", b"\r\n", b"\n", b" ", b"\0", b"\xff", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"ENV A=$A$A$A$A\n", b" AS x\n",
    b"ARG A=", b"# escape=`\n", b"=" * 40, b"{" * 200, b"*a" * 50, b"x" * 5000, b"${A:-" * 60, b"EXPOSE 1-999\n",
)  # fmt: skip


def mutated(rng: random.Random) -> bytes:
    """Return a text made of one that is in order."""
    text = rng.choice(SEEDS)
    for _ in range(rng.randint(1, 8)):
        at = rng.randint(0, len(text))
        match rng.randint(0, 4):
            case 0:
                text = text[:at] + rng.choice(PIECES) + text[at:]
            case 1:
                text = text[:at] + text[at + rng.randint(1, 10) :]
            case 2:
                text = text[:at] + bytes([rng.randint(0, 255)]) + text[at + 1 :]
            case 3:
                other = rng.choice(SEEDS)
                text = text[:at] + other[rng.randint(0, len(other)) :]
            case _:
                text = text[:at] + text[at : at + 60] * rng.randint(1, 30) + text[at:]
    return text


def dockerfile(text: bytes) -> None:
    """Read a text as a Dockerfile and carry out what needs no files. Raises UsageError for what is refused."""
    file = read(text)
    found = recipe(file, {"V": "2"}, {"TARGETARCH": "amd64"})
    found.needed(found.target(""))
    for stage in found.stages:
        config: dict[str, object] = {}
        for step in stage.steps:
            if is_change(step.keyword):
                config |= change(step, config, environment(config), found.escape)
            elif step.keyword in ("COPY", "ADD"):
                for word in step.words:
                    expanded(word, environment(config), found.escape, step.line)
            elif step.keyword == "RUN":
                check_run(step)
                places(step, config, found.escape)


def places(step: Instruction, config: Mapping[str, object], escape: str) -> None:
    """Read the mounts of a RUN, and find their places. Raises UsageError."""

    def expand(text: str) -> str:
        return expanded(text, environment(config), escape, step.line)

    for mount in mounts.of(step, expand):
        try:
            place = place_in("--mount", folder_of(mount.target or "/run/secrets/" + mount.id, config))
        except WordError as error:
            raise DockerfileError(step.line, str(error)) from None
        assert place.startswith("/"), place
        assert ".." not in place.split("/"), place


def dockerignore(text: bytes) -> None:
    """Read a text as a .dockerignore and ask it about paths."""
    ignore = Ignore.parse(text)
    for path in ("a", "a/b/c.log", "x" * 300, "a/" * 100 + "b", "FROM a"):
        ignore.ignores(path)


def _too_slow(number: int, frame: object) -> None:
    raise TimeoutError(f"takes more than {SLOWEST_S} s")


def failure(work: Callable[[bytes], None], text: bytes) -> str:
    """Return what is wrong with how a text is taken; empty if nothing is."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SLOWEST_S)
    try:
        work(text)
    except UsageError as error:
        return "" if error.message and "\n" not in error.message else f"a message of several lines: {error.message!r}"
    except Exception as error:  # what the fuzzer is for
        return f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return ""


def fuzz(seconds: float, seed: int, most: int | None = None) -> list[str]:
    """Try texts for a time, or so many, and return what was wrong."""
    signal.signal(signal.SIGVTALRM, _too_slow)
    rng = random.Random(seed)
    found: list[str] = []
    deadline = time.monotonic() + seconds
    tried = 0
    while time.monotonic() < deadline and (most is None or tried < most) and len(found) < 20:
        text = mutated(rng)
        for work in (dockerfile, dockerignore):
            if wrong := failure(work, text):
                found.append(f"{work.__name__}: {wrong}: {text[:600]!r}")
        tried += 1
    sys.stdout.write(f"{tried} texts, seed {seed}\n")
    return found


def main() -> int:
    """Fuzz for as long as the command line says."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**32)
    found = fuzz(seconds, seed)
    for line in found:
        sys.stdout.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
