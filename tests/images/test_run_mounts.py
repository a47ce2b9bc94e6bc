"""RUN --mount with real containers: what a RUN sees, what stays, what is done anew, what is refused."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backends.container import Secret
from backends.errors import InnkeeperError, NotFound, UsageError
from backends.image import BuildSpec, Image, PruneOptions
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.images.conftest import Followed
from tests.kernel.conftest import native, root
from tests.tools.needs import needs
from tests.tools.waiting import wait_until
from tests.tools.workbench import Workbench, workbench

pytestmark = [needs("root", "cgroup.cpu", "busybox"), pytest.mark.timeout(60)]
__all__ = ["native", "root"]
R = Recorder("test")
CACHE = "--mount=type=cache,target=/c"


@pytest.fixture
def bench(native: NativeBackend, tmp_path: Path) -> Iterator[Workbench]:
    with workbench(native, tmp_path) as made:
        yield made


def files(bench: Workbench, image: Image) -> list[str]:
    """Return all paths of the image's newest layer."""
    stored = bench.native.image_store.resolve(image.id)
    top = Path(bench.native.image_store.stack(stored)[0])
    return sorted("/" + str(path.relative_to(top)) for path in top.rglob("*"))


def cached(bench: Workbench) -> list[bool]:
    """Say of each step but FROM whether it was in the cache."""
    return [line.endswith(" CACHED") for line in bench.steps if " FROM " not in line]


# ---------------------------------------------------------------------- binds


def test_a_bind_shows_the_context_without_what_is_ignored_and_stays_out_of_the_image(bench: Workbench) -> None:
    bench.write("src/main", "main\n")
    bench.write("src/hidden", "no")
    bench.write(".dockerignore", "src/hidden\n")
    image = bench.build("FROM base\nWORKDIR /w\nRUN --mount=source=src,target=deep/in cp -r deep/in /out; ls deep/in\n")

    assert bench.said(image, "cat", "/out/main") == "main\n"
    assert "  main" in bench.lines
    assert not any("hidden" in line for line in bench.lines)
    assert files(bench, image) == ["/out", "/out/main"]


def test_what_is_bound_is_part_of_the_key_and_nothing_else_of_the_context(bench: Workbench) -> None:
    text = "FROM base\nRUN --mount=type=bind,src=in,dst=/in cat /in > /out\n"
    bench.write("in", "one\n")
    bench.build(text)
    bench.write("beside", "x")
    os.utime(bench.folder / "in", (1, 1))
    bench.build(text)
    assert cached(bench) == [True]
    bench.write("in", "two\n")
    assert bench.said(bench.build(text), "cat", "/out") == "two\n"
    assert cached(bench) == [False]


def test_a_bind_can_be_of_a_stage_which_is_built_for_it(bench: Workbench) -> None:
    text = """FROM base AS made
RUN mkdir /made && echo made > /made/file && chmod 640 /made/file
FROM base AS unused
RUN false
FROM base
RUN --mount=from=made,source=/made,target=/mnt stat -c %a /mnt/file > /mode; cat /mnt/file > /out
"""
    image = bench.build(text)
    assert bench.said(image, "cat", "/mode", "/out") == "640\nmade\n"
    assert files(bench, image) == ["/mode", "/out"]


def test_a_bind_is_read_only_unless_asked_and_what_is_written_goes(bench: Workbench) -> None:
    bench.write("file", "file\n")
    image = bench.build("""FROM base
RUN --mount=target=/m ! touch /m/new && echo kept > /ro
RUN --mount=target=/m,rw touch /m/new && echo changed > /m/file && cat /m/file > /out
""")
    assert bench.said(image, "cat", "/ro", "/out") == "kept\nchanged\n"
    assert (bench.folder / "file").read_text() == "file\n"
    assert not (bench.folder / "new").exists()
    assert files(bench, image) == ["/out"]


def test_a_bind_reaches_nothing_outside_of_the_context(bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (bench.folder / "link").symlink_to(tmp_path)
    for source in ("link", "link/secret", "../secret", "no[t]here"):
        with pytest.raises(InnkeeperError, match=r"Dockerfile, line 2: RUN: (there is no|.* is outside)"):
            bench.build(f"FROM base\nRUN --mount=source={source},target=/m cat /m\n")


# ---------------------------------------------------------------------- caches


def test_a_cache_stays_between_builds_and_is_no_part_of_the_image(bench: Workbench) -> None:
    first = bench.build(f"FROM base\nRUN {CACHE} echo one >> /c/log; cat /c/log > /out\n")
    assert files(bench, first) == ["/out"]
    again = bench.build(f"FROM base\nRUN {CACHE} echo one >> /c/log; cat /c/log > /out\n")
    assert again.id == first.id
    assert cached(bench) == [True]
    other = bench.build(f"FROM base\nRUN {CACHE} echo two >> /c/log; cat /c/log > /out\n")
    assert bench.said(other, "cat", "/out") == "one\ntwo\n"


def test_caches_are_told_apart_by_id_owner_and_what_they_begin_with(bench: Workbench) -> None:
    bench.write("a", "a")
    text = """FROM base AS seed
COPY a /seed/
FROM base
RUN --mount=type=cache,target=/x,id=shared touch /x/here
RUN --mount=type=cache,target=/y,id=shared ls /y > /one
RUN --mount=type=cache,target=/x ls /x > /two
RUN --mount=type=cache,target=/x,id=shared,uid=7,gid=8,mode=0710 stat -c '%u %g %a' /x > /three; ls /x >> /three
RUN --mount=type=cache,target=/x,from=seed,source=seed ls /x > /four; rm /x/a
RUN --mount=type=cache,target=/x,from=seed,source=seed ls /x > /five
"""
    said = bench.said(bench.build(text), "cat", "/one", "/two", "/three", "/four", "/five")
    assert said == "here\n7 8 710\na\n"


def test_a_cache_is_freed_with_the_build_cache_and_counted_before(bench: Workbench) -> None:
    text = f"FROM base\nRUN {CACHE} ls /c > /out; head -c 1000000 /dev/zero > /c/big; cat /out\n"
    text = text.replace("head -c 1000000 /dev/zero", "cat /bin/busybox")
    size = Path("/bin/busybox").stat().st_size
    bench.build(text)
    kept = bench.native.image_prune(PruneOptions(), R)
    assert kept.caches == 0
    would = bench.native.image_prune(PruneOptions(build_cache=True), R, dry_run=True)
    gone = bench.native.image_prune(PruneOptions(build_cache=True), R)
    assert would.caches == gone.caches == 1
    assert min(would.freed_bytes, gone.freed_bytes) >= size
    assert bench.native.image_prune(PruneOptions(build_cache=True), R, dry_run=True).caches == 0
    bench.build(text)
    assert "  big" not in bench.lines


def test_a_cache_is_freed_however_deep_it_is(bench: Workbench) -> None:
    bench.build(f"FROM base\nRUN {CACHE} cd /c; i=0; while [ $i -lt 1500 ]; do mkdir d; cd d; i=$((i+1)); done\n")
    assert bench.native.image_prune(PruneOptions(build_cache=True), R, dry_run=True).caches == 1
    assert bench.native.image_prune(PruneOptions(build_cache=True), R).caches == 1
    assert not (bench.native._config.state_dir / "build-caches").exists()


def _building(bench: Workbench, text: str, name: str) -> tuple[threading.Thread, Followed]:
    """Begin a build beside others, once its RUN says `begun`."""
    file, watcher = bench.write(name, text), Followed()
    spec = BuildSpec(str(bench.folder), dockerfile=str(file))
    thread = threading.Thread(target=bench.native.build, args=(spec, Recorder("test", watcher=watcher)))
    thread.start()
    wait_until(lambda: "  begun" in watcher.lines, timeout_s=20, what="the RUN begins")
    return thread, watcher


@pytest.mark.parametrize("sharing, seen", [("shared", ["mine"]), ("private", [])])
def test_a_cache_in_use_is_shared_or_another_one(bench: Workbench, sharing: str, seen: list[str]) -> None:
    mount = f"{CACHE},sharing={sharing}"
    hold = f"FROM base\nRUN {mount} touch /c/mine; echo begun; until test -e /c/go -o -e /go; do sleep 0.1; done\n"
    thread, _ = _building(bench, hold, "first")
    bench.build(f"FROM base\nRUN {mount} ls /c; touch /c/go\n")
    assert [line.strip() for line in bench.lines if line.startswith("  ") and "mine" in line] == seen
    for guest in bench.native.guests():
        if guest.pid:
            Path(f"/proc/{guest.pid}/root/go").touch()
    thread.join()


def test_a_locked_cache_makes_the_second_build_wait(bench: Workbench) -> None:
    mount = f"{CACHE},sharing=locked"
    hold = f"FROM base\nRUN {mount} echo begun; until test -e /go; do sleep 0.1; done; touch /c/first\n"
    thread, _ = _building(bench, hold, "first")
    (guest,) = bench.native.guests()
    later = Followed()
    bench.write("second", f"FROM base\nRUN {mount} ls /c\n")
    spec = BuildSpec(str(bench.folder), dockerfile="second")
    second = threading.Thread(target=bench.native.build, args=(spec, Recorder("test", watcher=later)))
    second.start()
    wait_until(lambda: len(list((bench.native._config.state_dir / "builds").iterdir())) == 2, what="both work")
    assert [each.ref for each in bench.native.guests()] == [guest.ref]
    Path(f"/proc/{guest.pid}/root/go").touch()
    thread.join()
    second.join()
    assert "  first" in later.lines


# ---------------------------------------------------------------------- memory and secrets


def test_memory_is_as_large_as_asked_and_gone_after(bench: Workbench) -> None:
    image = bench.build("""FROM base
RUN --mount=type=tmpfs,target=/scratch/t,size=1m echo x > /scratch/t/x && grep ' /scratch/t ' /proc/mounts
""")
    assert any("/scratch/t tmpfs rw" in line and "size=1024k" in line for line in bench.lines)
    stored = bench.native.image_store.resolve(image.id)
    assert len(stored.layers) == 1  # nothing but the base: the RUN has changed no file


def secret(tmp_path: Path, text: str = "hush") -> tuple[Secret, ...]:
    path = tmp_path / "key"
    path.write_text(text)
    return (Secret("key", f"file:{path}"),)


def test_a_secret_is_read_where_it_is_wanted_and_leaves_nothing(bench: Workbench, tmp_path: Path) -> None:
    text = """FROM base
RUN mkdir /home && ln -s home /h
RUN --mount=type=secret,id=key cat /run/secrets/key > /one; stat -c %a /run/secrets/key >> /one
RUN --mount=type=secret,id=key,target=/h/j/key,uid=1000,mode=0440 stat -c '%a %u' /h/j/key && ! test -e /run/secrets
RUN --mount=type=secret,id=other,target=/x test ! -e /x && echo none
"""
    image = bench.build(text, secrets=secret(tmp_path))
    assert bench.said(image, "cat", "/one") == "hush400\n"
    assert "  440 1000" in bench.lines
    assert "  none" in bench.lines
    assert bench.said(image, "sh", "-c", "ls -A /home; ls -d /run 2>/dev/null; echo end").splitlines()[-1] == "end"
    assert files(bench, image) == ["/one"]
    state = bench.native._config.state_dir
    told = [path for path in state.rglob("*") if path.is_file() and not path.is_symlink() and "layers" not in str(path)]
    assert not [path for path in told if b"hush" in path.read_bytes()]


def test_another_secret_does_not_change_the_key(bench: Workbench, tmp_path: Path) -> None:
    text = "FROM base\nRUN --mount=type=secret,id=key cat /run/secrets/key > /out\n"
    bench.build(text, secrets=secret(tmp_path, "one"))
    image = bench.build(text, secrets=secret(tmp_path, "two"))
    assert cached(bench) == [True]
    assert bench.said(image, "cat", "/out") == "one"
    with pytest.raises(UsageError, match="secret key: cannot read"):
        bench.build(text, secrets=(Secret("key", f"file:{tmp_path}/none"),))


# ---------------------------------------------------------------------- all of them


def test_a_mount_point_that_was_there_stays_as_it_was(bench: Workbench) -> None:
    image = bench.build("""FROM base
RUN mkdir -m 700 /c /d && touch /d/kept && ln -s /var/deep /link
RUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/d --mount=type=tmpfs,target=/link/x touch /c/a /d/b && true
RUN stat -c '%a %n' /c /d; ls /c /d; ls -d /var 2>/dev/null || echo no var
""")
    assert image.layers == 2
    said = [line.strip() for line in bench.lines if line.startswith("  ")]
    begin = said.index("700 /c")
    assert said[begin : begin + 7] == ["700 /c", "700 /d", "/c:", "", "/d:", "kept", "no var"]


@pytest.mark.parametrize(
    "mount, says",
    [
        ("type=ssh", "RUN --mount=type=ssh is not supported"),
        ("type=cache", "type=cache needs target=PATH"),
        ("type=secret", "type=secret needs target=PATH or id=NAME"),
        ("type=npipe,target=/x", "type 'npipe' is not known"),
        ("target=/x,target=/y", "target is there twice"),
        ("target=/x,sharing=locked", "'sharing' is no option of type=bind"),
        ("type=cache,target=/x,mode=9", "mode=9 is no mode"),
        ("type=cache,target=/x,uid=joe", "uid=joe is no number"),
        ("type=cache,target=/x,sharing=all", "sharing=all is not known"),
        ("type=tmpfs,target=/x,size=big", "size=big is no size"),
        ("target=/x,ro=maybe", "readonly=maybe is neither"),
        ("target=/x,ro,rw", "readonly and readwrite do not go together"),
        ("target=/", "nothing can be put in the place of /"),
        ("target=/proc/sys", "nothing can be put in the place of /proc/sys"),
        ("target=/x,from=$BASE", "cannot hold variables"),
        ("target=/x,from=host", "--from=host"),
        ("type=secret,id=none,required", "the secret none was not given"),
        ("type=cache,target=/x,from=base,source=/bin/busybox", "is no folder"),
    ],
)
def test_mounts_that_make_no_sense_are_refused_with_their_line(bench: Workbench, mount: str, says: str) -> None:
    with pytest.raises(InnkeeperError, match="line 2: ") as caught:
        bench.build(f"FROM base\nRUN --mount={mount} true\n")
    assert says in caught.value.message
    assert "\n" not in caught.value.message


def test_a_source_that_is_not_there_is_named(bench: Workbench) -> None:
    with pytest.raises(NotFound, match="line 2: RUN: there is no nothing in the context"):
        bench.build("FROM base\nRUN --mount=source=nothing,target=/x true\n")
