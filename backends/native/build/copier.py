"""The process that copies for COPY, ADD and WORKDIR, started for one step.

It mounts the image's layers with a new one on top where nobody else sees it, and the layers that it copies from,
and opens everything below those roots and below the context by descriptors (openat2, RESOLVE_IN_ROOT). It runs no
program and loads no library of an image.

The job is a line of JSON on standard input (job.py). It writes lines of JSON: {"done": bytes} now and then,
then {"digest", "left_out"} or {"error", "kind"}.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import tarfile
from collections.abc import Iterator
from typing import Any

from backends.errors import InnkeeperError, NotFound, os_error_text
from backends.kernel import linux, mounts
from backends.kernel.rooted import open_in_root
from backends.native.build import archive
from backends.native.build.ignore import Ignore, one_component
from backends.native.build.tree import KINDS, Rules, Tree, make_folders

_FOLDER = os.O_PATH | os.O_DIRECTORY
_TOLD_EVERY = 8 << 20


def main() -> None:
    """Do the job that standard input describes."""
    linux.prctl(linux.PR_SET_PDEATHSIG, 9)
    try:
        os.umask(0)
        tell(_Job(json.loads(sys.stdin.buffer.readline())).do())
    except OSError as error:
        tell({"error": os_error_text(error), "kind": type(error).__name__})
    except InnkeeperError as error:
        tell({"error": error.message, "hint": error.hint, "kind": type(error).__name__})
    except tarfile.TarError as error:
        tell({"error": f"the archive is damaged: {error}", "kind": "TarError"})


def tell(message: dict[str, Any]) -> None:
    """Write a line to whoever started us."""
    os.write(1, json.dumps(message).encode() + b"\n")


class _Job:
    def __init__(self, raw: dict[str, Any]) -> None:
        self._raw = raw
        self._untold = 0
        self._ignore = Ignore.parse(raw["ignore"].encode("utf-8", "surrogateescape")) if raw["ignore"] else Ignore()
        self._target = -1

    def do(self) -> dict[str, Any]:
        raw = self._raw
        if raw["upper"] or raw["source_layers"]:
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
        if raw["stack"] or raw["upper"]:
            self._target = self._mount(raw["stack"], raw["target"], raw["upper"], raw["work"])
        owner = self._owner(raw["owner"])
        if raw["op"] == "folder":
            make_folders(self._target, raw["destination"], owner or (0, 0))
            return {"digest": ""}
        source = self._source()
        is_stage = raw["context"] is None
        rules = Rules(
            owner=owner if owner or is_stage else (0, 0), mode=raw["mode"], with_devices=is_stage,
            ignores=self._ignore.ignores, prunes=not self._ignore.has_exceptions, tell=self._tell,
        )  # fmt: skip
        tree = Tree(rules, self._target if raw["op"] == "copy" else None)
        self._all(tree, source, rules)
        return {"digest": tree.digest, "left_out": rules.left_out[:20]}

    def _mount(self, stack: list[str], target: str, upper: str = "", work: str = "") -> int:
        if upper:
            mounts.MountOverlay(tuple(stack), upper, work, target, self._raw["in_userns"]).run()
            return os.open(target, _FOLDER | os.O_CLOEXEC)
        if len(stack) == 1:
            return os.open(stack[0], _FOLDER | os.O_CLOEXEC)
        marks = ",userxattr" if self._raw["in_userns"] else ""
        linux.mount("overlay", target, "overlay", linux.MS_RDONLY, f"lowerdir={':'.join(stack)}{marks}")
        return os.open(target, _FOLDER | os.O_CLOEXEC)

    def _source(self) -> int:
        if self._raw["source_layers"]:
            return self._mount(self._raw["source_layers"], self._raw["source_target"])
        return os.open(self._raw["context"], _FOLDER | os.O_CLOEXEC) if self._raw["context"] is not None else -1

    def _owner(self, text: str) -> tuple[int, int] | None:
        """Look users up in the image's own files, in a process that has it as its root."""
        if not text:
            return None
        if self._target < 0:
            return 0, 0  # nothing is copied
        user, _, group = text.partition(":")
        if user.isdigit() and (group.isdigit() or not group):
            return int(user), int(group or user)
        reading, writing = os.pipe()
        if (pid := os.fork()) == 0:
            _look_up(self._target, text, writing)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            answer = json.loads(pipe.read() or b'{"error": "looking it up failed"}')
        os.waitpid(pid, 0)
        if "error" in answer:
            raise InnkeeperError(f"--chown={text}: {answer['error']}")
        return answer["uid"], answer["gid"]

    def _tell(self, done: int) -> None:
        self._untold += done
        if self._untold >= _TOLD_EVERY:
            tell({"done": self._untold})
            self._untold = 0

    # ------------------------------------------------------------------ sources

    def _all(self, tree: Tree, root: int, rules: Rules) -> None:
        destination = self._raw["destination"]
        sources = [(text, path) for text in self._raw["sources"] for path in self._resolved(root, text)]
        count = len(sources) + len(self._raw["files"])
        is_folder = destination.endswith("/") or count > 1
        for text, path in sources:
            self._one(tree, root, rules, path, destination, is_folder=is_folder, asked=text)
        for name, body in self._raw["files"]:
            fd = os.memfd_create("heredoc")
            os.write(fd, body.encode())
            os.fchmod(fd, 0o644)
            place = self._place(destination, name, is_folder=is_folder)
            tree.note("heredoc", name, destination)
            tree.add_open_file(fd, place)
            os.close(fd)

    def _resolved(self, root: int, text: str) -> list[str]:
        """Return the paths that a source with wildcards means; itself without any. Raises NotFound."""
        clean = _clean(text)
        if self._raw["context"] is not None and any(part == ".." for part in _parts(text)) and _leaves(text):
            raise InnkeeperError(f"{text} is outside the context", hint="COPY and ADD read only what is below it")
        if self._raw["is_literal"] or not any(char in clean for char in "*?[\\"):
            if self._ignore.ignores(clean) and (
                self._ignore.has_exceptions is False or not self._is_folder(root, clean)
            ):
                raise NotFound(f"{text} is left out of the context", hint="see .dockerignore")
            return [clean]
        found = [path for path in _matching(root, clean.split("/"), "") if not self._ignore.ignores(path)]
        if not found:
            raise NotFound(f"nothing in {self._where} is called {text}")
        return found

    @property
    def _where(self) -> str:
        return "the context" if self._raw["context"] is not None else str(self._raw["source_name"])

    def _is_folder(self, root: int, path: str) -> bool:
        try:
            os.close(open_in_root(root, path, _FOLDER))
        except OSError:
            return False
        return True

    def _one(
        self, tree: Tree, root: int, rules: Rules, path: str, destination: str, *, is_folder: bool, asked: str
    ) -> None:
        try:
            fd = open_in_root(root, path or ".", os.O_PATH)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"there is no {asked} in {self._where}") from None
        try:
            found = os.fstat(fd)
            name = path.rpartition("/")[2]
            if stat.S_ISDIR(found.st_mode):
                # Not by name: what is opened is what was found, and "." of an O_PATH descriptor is itself.
                inner = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
                try:
                    tree.note("into", destination.rstrip("/"))
                    tree.add_folder(inner, found, destination.rstrip("/") or "/.", path)
                finally:
                    os.close(inner)
            elif stat.S_ISREG(found.st_mode):
                reading = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    self._file(tree, reading, destination, name, is_folder=is_folder)
                finally:
                    os.close(reading)
            else:
                what = KINDS.get(stat.S_IFMT(found.st_mode), "no file")
                raise InnkeeperError(f"{asked} is {what}: files, folders and links can be copied")
        finally:
            os.close(fd)

    def _file(self, tree: Tree, reading: int, destination: str, name: str, *, is_folder: bool) -> None:
        if self._raw["extracts"] and archive.is_archive(reading):
            tree.note("archive", destination.rstrip("/"))
            if self._raw["op"] == "copy":
                self._extract(reading, destination)
            tree.digest_file(reading)
            return
        place = self._place(destination, name, is_folder=is_folder)
        tree.note("file", destination if not is_folder else f"{destination.rstrip('/')}/{name}")
        tree.add_open_file(reading, place)

    def _place(self, destination: str, name: str, *, is_folder: bool) -> str:
        """Return where in the image a file goes: into the destination if that is a folder."""
        if self._target < 0:
            return destination
        if is_folder or self._is_folder(self._target, destination):
            return f"{destination.rstrip('/')}/{name}"
        return self._through_links(destination)

    def _through_links(self, path: str) -> str:
        """A file whose place is a symlink goes where that leads, inside the image."""
        for _ in range(40):
            folder, _, name = path.rpartition("/")
            try:
                parent = open_in_root(self._target, folder or "/", _FOLDER)
            except OSError:
                return path
            try:
                to = os.readlink(name, dir_fd=parent)
            except OSError:
                return path
            finally:
                os.close(parent)
            path = to if to.startswith("/") else f"{folder}/{to}"
        raise InnkeeperError(f"{path}: too many symlinks")

    def _extract(self, reading: int, destination: str) -> None:
        make_folders(self._target, destination, (0, 0))
        folder = open_in_root(self._target, destination, os.O_RDONLY | os.O_DIRECTORY)
        out, err = os.pipe()
        if (pid := os.fork()) == 0:
            archive.unpack(folder, reading, err)
        os.close(err)
        os.close(folder)
        with os.fdopen(out, "rb") as pipe:
            message = pipe.read().decode("utf-8", "replace")
        _, status = os.waitpid(pid, 0)
        if message or status:
            raise InnkeeperError(f"cannot unpack the archive: {message or 'the unpacker died'}")
        os.lseek(reading, 0, os.SEEK_SET)


def _look_up(root: int, text: str, writing: int) -> None:
    """Write the numbers of a user and group; never returns."""
    from backends.kernel.account import look_up

    try:
        os.fchdir(root)
        os.chroot(".")
        account = look_up(text)
        answer: dict[str, Any] = {"uid": account.uid, "gid": account.gid}
    except Exception as error:  # the end of a process: it reports and is gone
        answer = {"error": str(error)}
    os.write(writing, json.dumps(answer).encode())
    os._exit(0)


def _parts(text: str) -> list[str]:
    return [part for part in text.split("/") if part not in ("", ".")]


def _clean(text: str) -> str:
    found: list[str] = []
    for part in _parts(text):
        if part == "..":
            del found[-1:]
        else:
            found.append(part)
    return "/".join(found)


def _leaves(text: str) -> bool:
    depth = 0
    for part in _parts(text):
        depth += -1 if part == ".." else 1
        if depth < 0:
            return True
    return False


def _matching(root: int, parts: list[str], above: str) -> Iterator[str]:
    """Yield the paths below a root that components with wildcards match, in order."""
    if not parts:
        yield above
        return
    first, *rest = parts
    if not any(char in first for char in "*?[\\"):
        yield from _matching(root, rest, f"{above}/{first}" if above else first)
        return
    matches = one_component(first)
    try:
        folder = open_in_root(root, above or ".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        names = sorted(name for name in os.listdir(folder) if matches(name))
    finally:
        os.close(folder)
    for name in names:
        path = f"{above}/{name}" if above else name
        if not rest or _exists(root, f"{path}/{rest[0]}" if not any(char in rest[0] for char in "*?[\\") else path):
            yield from _matching(root, rest, path)


def _exists(root: int, path: str) -> bool:
    try:
        os.close(open_in_root(root, path))
    except OSError:
        return False
    return True


if __name__ == "__main__":
    main()
