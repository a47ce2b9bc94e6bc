"""Images from Dockerfiles, with real containers: the instructions, the cache, what is refused, what is left behind."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from backends.errors import Cancelled, InnkeeperError, NotFound, UsageError
from backends.image import Image, PruneOptions, TransferOptions
from backends.native.backend import NativeBackend
from backends.trace import Recorder
from tests.kernel.conftest import native, output_of, root, run
from tests.tools.engines import Docker, Podman
from tests.tools.needs import needs
from tests.tools.registry import serving
from tests.tools.workbench import Workbench, workbench

pytestmark = [needs("root", "cgroup.cpu", "busybox"), pytest.mark.timeout(60)]
__all__ = ["native", "output_of", "root", "run"]
R = Recorder("test")


@pytest.fixture
def bench(native: NativeBackend, tmp_path: Path) -> Iterator[Workbench]:
    with workbench(native, tmp_path) as made:
        yield made


TWO_STAGES = """\
FROM base AS tools
WORKDIR /src
COPY main.txt lib/ ./
RUN cat main.txt part.txt > /out && chmod 755 /out
FROM base
LABEL kind=test
COPY --from=tools /out /usr/bin/out
ENV GREETING="hello you"
CMD ["cat", "/usr/bin/out"]
"""


@pytest.fixture
def two_stages(bench: Workbench) -> Callable[..., Image]:
    bench.write("main.txt", "main\n")
    bench.write("lib/part.txt", "part\n")
    return lambda **options: bench.build(TWO_STAGES, names=("two:1",), **options)


def test_a_dockerfile_of_two_stages_becomes_an_image_that_runs(
    bench: Workbench, two_stages: Callable[..., Image]
) -> None:
    image = two_stages()

    assert image.name == "two:1"
    assert bench.said(image) == "main\npart\n"
    assert bench.said(image, "sh", "-c", 'echo "$GREETING $FROM_BASE"; ls /').startswith("hello you yes\n")
    assert bench.config(image)["Labels"] == {"kind": "test"}


def test_a_rebuild_with_nothing_changed_takes_no_step(bench: Workbench, two_stages: Callable[..., Image]) -> None:
    first = two_stages()
    os.utime(bench.folder / "main.txt", (1, 1))  # times do not count
    created = bench.created()
    again = two_stages()

    assert again.id == first.id
    steps = [line for line in bench.steps if "FROM" not in line.split("] ")[1].split()[0]]
    assert steps
    assert all(line.endswith(" CACHED") for line in steps)
    assert bench.created() == created > 0


def test_a_step_is_done_anew_when_what_it_copies_changed(bench: Workbench, two_stages: Callable[..., Image]) -> None:
    two_stages()
    bench.write("lib/part.txt", "other\n")

    assert bench.said(two_stages()) == "main\nother\n"
    assert [line.endswith("CACHED") for line in bench.steps] == [
        False,
        True,
        False,
        False,
        False,
        True,
        False,
        False,
        False,
    ]


def test_without_cache_every_step_is_done(bench: Workbench, two_stages: Callable[..., Image]) -> None:
    first = two_stages()
    assert two_stages(no_cache=True).id != first.id
    assert not any(line.endswith("CACHED") for line in bench.steps)
    assert two_stages().id != first.id  # the newer results are kept
    assert all(line.endswith("CACHED") for line in bench.steps if "FROM base" not in line)


def test_only_stages_that_the_target_needs_are_built(bench: Workbench) -> None:
    text = "FROM base AS one\nRUN echo one\nFROM base AS two\nRUN echo two\nFROM one AS three\nRUN echo three\n"
    bench.build(text, target="three")
    assert [line.strip() for line in bench.lines if line.startswith("  ") and "one" in line] == ["one"]
    assert not any("two" in line for line in bench.lines)


def test_arguments_come_from_defaults_and_from_the_command_line(bench: Workbench) -> None:
    text = """ARG A=1
FROM base
ARG A
ARG B=$A-b
ARG C
RUN echo $A $B ${C:-none} > /out
ENV B=env
RUN echo $B >> /out
"""
    image = bench.build(text, build_args={"A": "2", "X": "unused"})
    assert bench.said(image, "cat", "/out") == "2 2-b none\nenv\n"
    assert any("no ARG takes the build argument X" in line for line in bench.lines)


def test_run_knows_environment_folder_user_and_shell(bench: Workbench) -> None:
    text = """FROM base
RUN mkdir -p /home/joe && chmod 777 /home/joe
USER joe
WORKDIR /home/joe/work
RUN id -un > who && pwd >> who
SHELL ["/bin/sh", "-ec"]
RUN echo "$0" >> who; true
RUN ["cp", "who", "copy of who"]
RUN <<EOF
echo first >> who
echo second >> who
EOF
RUN cat <<A >> who
from a
A
"""
    image = bench.build(text)
    assert bench.said(image, "cat", "who").splitlines()[:2] == ["joe", "/home/joe/work"]
    assert bench.said(image, "sh", "-c", "tail -n 3 who 2>/dev/null || cat who").splitlines()[-3:] == [
        "first",
        "second",
        "from a",
    ]
    assert bench.said(image, "stat", "-c", "%U", "/home/joe/work") == "joe\n"


def test_copies_have_the_modes_and_owners_asked_for(bench: Workbench) -> None:
    bench.write("run.sh", "#!/bin/sh\n", 0o755)
    bench.write("dir/a/b.txt", "b")
    bench.write("x1", "1")
    bench.write("x2", "2")
    (bench.folder / "link").symlink_to("x1")
    (bench.folder / "dir/inner").symlink_to("a/b.txt")
    image = bench.build("""FROM base
COPY --chown=joe:staff --chmod=640 run.sh /opt/run
COPY --chown=7 dir /opt/dir
COPY x* /opt/xs/
COPY link /opt/followed
COPY x1 /opt/xs
COPY ["run.sh", "a b/"]
""")  # fmt: skip
    line = "cd /opt; stat -c '%a %u:%g %n' run dir dir/a dir/a/b.txt xs xs/x1; "
    line += "readlink dir/inner; cat xs/x2 followed; ls '/a b'"
    assert bench.said(image, "sh", "-c", line).splitlines() == [
        "640 1000:50 run", "755 7:7 dir", "755 7:7 dir/a", "644 7:7 dir/a/b.txt", "755 0:0 xs", "644 0:0 xs/x1",
        "a/b.txt", "21run.sh",
    ]  # fmt: skip


def test_modes_in_words_are_applied_to_what_each_file_has(bench: Workbench) -> None:
    bench.write("d/run", "x", 0o750)
    bench.write("d/text", "x", 0o640)
    (bench.folder / "d").chmod(0o700)
    image = bench.build("FROM base\nCOPY --chmod=go=u,go-w,a+X d /d\nCOPY --chmod=u=rwX,go=rX d/run /run\n")
    line = "stat -c '%a %n' /d /d/run /d/text /run"
    assert bench.said(image, "sh", "-c", line).split("\n")[:4] == ["755 /d", "755 /d/run", "644 /d/text", "755 /run"]


def test_copies_follow_links_of_the_image_inside_the_image_only(bench: Workbench, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    bench.write("file", "content")
    image = bench.build(f"""FROM base
RUN ln -s {outside} /abs && mkdir /real && ln -s real /rel && ln -s ../../../../../..{outside}/made /up
COPY file /abs/one
COPY file /rel/two
COPY file /up
""")
    assert list(outside.iterdir()) == []
    assert bench.said(image, "cat", f"{outside}/one", "/real/two", f"{outside}/made") == "content" * 3


def test_nothing_outside_of_the_context_can_be_copied(bench: Workbench, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (bench.folder / "out").symlink_to(tmp_path / "secret")
    (bench.folder / "up").symlink_to("../secret")
    (bench.folder / "folder").symlink_to(tmp_path)
    for source in ("../secret", "out", "up", "folder/secret", "a/../../secret", str(tmp_path / "secret")):
        with pytest.raises(InnkeeperError, match=r"Dockerfile, line 2: COPY: (there is no|.* is outside)"):
            bench.build(f"FROM base\nCOPY {source} /x\n")
    image = bench.build("FROM base\nCOPY . /all/\n")
    assert bench.said(image, "readlink", "/all/up") == "../secret\n"


def test_devices_pipes_and_sockets_of_a_context_are_left_out(bench: Workbench) -> None:
    os.mkfifo(bench.folder / "pipe")
    os.mknod(bench.folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    bench.write("file", "f")
    image = bench.build("FROM base\nCOPY . /all/\n")
    assert bench.said(image, "sh", "-c", "ls /all") == "Dockerfile\nfile\n"
    assert sum("left out" in line for line in bench.lines) == 2
    with pytest.raises(InnkeeperError, match="pipe is a named pipe"):
        bench.build("FROM base\nCOPY pipe /x\n")


def test_archives_are_unpacked_by_add_and_stay_inside(bench: Workbench, tmp_path: Path) -> None:
    with tarfile.open(bench.folder / "files.tar.gz", "w:gz") as tar:
        bench.write("inside", "inside")
        tar.add(bench.folder / "inside", "dir/inside")
    image = bench.build("FROM base\nADD files.tar.gz /to/\nADD inside /plain\nCOPY files.tar.gz /kept.tgz\n")
    assert bench.said(image, "cat", "/to/dir/inside", "/plain") == "inside" * 2
    assert bench.said(image, "sh", "-c", "test -s /kept.tgz && echo yes") == "yes\n"
    with tarfile.open(bench.folder / "hostile.tar", "w") as tar:
        link = tarfile.TarInfo("out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
        tar.add(bench.folder / "inside", "out/through")
    with suppress(InnkeeperError):
        bench.build("FROM base\nADD hostile.tar /to/\n")
    assert not (tmp_path / "through").exists()
    with tarfile.open(bench.folder / "climbing.tar", "w") as tar:
        tar.add(bench.folder / "inside", "../../../../up")
    with pytest.raises(InnkeeperError, match="leads out of"):
        bench.build("FROM base\nADD climbing.tar /to/\n")


def test_what_dockerignore_hides_is_neither_copied_nor_looked_at(bench: Workbench) -> None:
    bench.write(".dockerignore", "*.log\nbig\n!big/keep\nDockerfile\n")
    for name in ("a.log", "b.txt", "big/data", "big/keep", "dir/c.log"):
        bench.write(name, "1")
    text = "FROM base\nCOPY . /all/\n"
    image = bench.build(text)
    assert bench.said(image, "sh", "-c", "cd /all; find . -type f | sort").split() == [
        "./.dockerignore", "./b.txt", "./big/keep", "./dir/c.log",
    ]  # fmt: skip
    bench.write("a.log", "2")
    bench.build(text)
    assert bench.steps[-1].endswith("CACHED")
    with pytest.raises(NotFound, match="left out of the context"):
        bench.build("FROM base\nCOPY a.log /x\n")


def test_triggers_run_in_children_once(bench: Workbench) -> None:
    bench.build("FROM base\nONBUILD COPY f /f\nONBUILD RUN echo built >> /f\n", names=("parent",))
    bench.write("f", "file\n")
    child = bench.build("FROM parent\nCMD cat /f\n", names=("child",))
    assert bench.said(child) == "file\nbuilt\n"
    assert "OnBuild" not in bench.config(child)
    assert bench.said(bench.build("FROM child\n", names=("grandchild",))) == "file\nbuilt\n"


def test_an_image_can_be_made_from_nothing(bench: Workbench) -> None:
    busybox = Path("/bin/busybox")
    (bench.folder / "busybox").write_bytes(busybox.read_bytes())
    image = bench.build(
        'FROM scratch\nCOPY --chmod=755 busybox /busybox\nENTRYPOINT ["/busybox"]\nCMD ["echo", "hi"]\n'
    )
    assert bench.said(image) == "hi\n"
    with pytest.raises(UsageError, match="makes no image"):
        bench.build("FROM scratch\n")
    with pytest.raises(UsageError, match="line 2: RUN cannot be here"):
        bench.build("FROM scratch\nRUN x\n")


def test_deletions_reach_the_image_as_whiteouts(bench: Workbench) -> None:
    image = bench.build("""FROM base
RUN mkdir -p /d/e && touch /d/e/old /gone
RUN rm -r /gone /d/e && mkdir /d/e && touch /d/e/new
""")
    assert bench.said(image, "sh", "-c", "ls /d/e; ls /gone 2>/dev/null || echo none").split() == ["new", "none"]


def test_a_failing_step_says_which_and_leaves_nothing(bench: Workbench) -> None:
    with pytest.raises(InnkeeperError, match="Dockerfile, line 3: RUN: ended with exit code 7: echo oh; exit 7"):
        bench.build("FROM base\nRUN true\nRUN echo oh; exit 7\n")
    assert "  oh" in bench.lines
    with pytest.raises(InnkeeperError, match="line 2: RUN"):
        bench.build('FROM base\nRUN ["/no/such"]\n')


@pytest.mark.parametrize("levels", [255, 256, 1500])
def test_folders_in_one_another_are_packed_or_refused_and_always_removed(bench: Workbench, levels: int) -> None:
    text = f"FROM base\nRUN i=0; while [ $i -lt {levels} ]; do mkdir d; cd d; i=$((i+1)); done; touch f\n"
    if levels == 255:
        assert bench.build(text).layers == 2
        return
    with pytest.raises(InnkeeperError, match=r"line 2: RUN: .*a path in a layer has 256 parts at most"):
        bench.build(text)


def test_a_build_that_is_cancelled_leaves_nothing(bench: Workbench) -> None:
    bench.watcher.enough = lambda progress: "  begun" in bench.watcher.lines
    with pytest.raises(Cancelled):
        bench.build("FROM base\nRUN echo begun; sleep 1000\n")
    bench.watcher.enough = lambda progress: False


@pytest.mark.parametrize(
    "line, says",
    [
        ("ADD https://example.com/x /x", "line 2: ADD https://example.com/x: what is elsewhere is not fetched"),
        ("COPY --chmod=u+q a b", "line 2: --chmod=u\\+q is no mode"),
        ("COPY nothing /x", "line 2: COPY: there is no nothing in the context"),
        ("COPY no*thing /x", "line 2: COPY: nothing in the context is called no"),
        ("COPY --chown=nobodyhere Dockerfile /x", "line 2: COPY: --chown=nobodyhere: no user"),
        ("COPY Dockerfile /bin", "x"),
        ("COPY --from=host /x /x", "line 2: --from=host"),
        ("COPY Dockerfile /etc/passwd/x", "line 2: COPY: /etc/passwd in the image is no folder"),
        ("COPY . /etc/passwd/x/", "line 2: COPY: /etc/passwd in the image is no folder"),
        ("WORKDIR /etc/passwd/x", "line 2: WORKDIR: /etc/passwd in the image is no folder"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(bench: Workbench, line: str, says: str) -> None:
    if says == "x":
        assert bench.said(bench.build(f"FROM base\n{line}\n"), "ls", "/bin/Dockerfile") == "/bin/Dockerfile\n"
        return
    with pytest.raises(InnkeeperError, match=says):
        bench.build(f"FROM base\n{line}\n")


def test_the_cache_goes_when_it_is_asked_for(bench: Workbench, two_stages: Callable[..., Image]) -> None:
    two_stages()
    pruned = bench.native.image_prune(PruneOptions(build_cache=True), R)
    assert pruned.layers >= 2
    assert bench.said("two:1") == "main\npart\n"
    two_stages()
    assert not any(line.endswith("CACHED") for line in bench.steps)


@needs("podman")
def test_podman_runs_what_was_built_here_and_here_runs_what_buildah_built(
    bench: Workbench, two_stages: Callable[..., Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CONTAINERS_REGISTRIES_CONF")
    podman = Podman()
    try:
        two_stages()
        path = tmp_path / "two.tar"
        with path.open("wb") as file:
            bench.native.image_save(["two:1"], file, R)
        assert podman("load", "-i", str(path)).code == 0
        ran = podman("run", "--rm", "--network=none", "two:1")
        assert ran.out == "main\npart\n", ran
        history = podman("history", "--format", "{{.CreatedBy}}", "two:1").out
        assert 'CMD ["cat", "/usr/bin/out"]' in history
        (tmp_path / "theirs").mkdir()
        (tmp_path / "theirs/Dockerfile").write_text('FROM two:1\nCOPY Dockerfile /theirs\nCMD ["cat", "/theirs"]\n')
        built = podman("build", "--network=none", "-t", "theirs:1", str(tmp_path / "theirs"))
        assert built.code == 0, built
        assert podman("save", "-o", str(tmp_path / "theirs.tar"), "theirs:1").code == 0
        bench.native.image_load(str(tmp_path / "theirs.tar"), R)
        assert bench.said("localhost/theirs:1").startswith("FROM two:1")
    finally:
        podman.remove()


@needs("docker")
@pytest.mark.timeout(120)
def test_docker_runs_what_was_built_here(bench: Workbench, two_stages: Callable[..., Image], tmp_path: Path) -> None:
    image = two_stages()
    path = tmp_path / "two.tar"
    with path.open("wb") as file:
        bench.native.image_save(["two:1"], file, R)
    docker = Docker()
    try:
        assert docker("load", "-i", str(path)).code == 0
        assert docker("run", "--rm", "--network", "none", "two:1").out == "main\npart\n"
        assert docker("image", "inspect", "--format", "{{.Id}}", "two:1").out.strip() == image.id
    finally:
        docker.remove()


@needs("docker-registry")
def test_an_image_that_is_not_here_is_fetched(bench: Workbench, tmp_path: Path) -> None:
    with serving(tmp_path / "registry") as registry:
        name = f"{registry.address}/team/base:1"
        transfer = TransferOptions(plain_http=True)
        bench.native.image_tag("base", name, R)
        bench.native.image_push(name, transfer, R)
        bench.native.image_remove(name, R)
        image = bench.build(f"FROM {name}\nCOPY --from={name} /etc/passwd /copied\n", transfer=transfer)
        assert bench.said(image, "cat", "/copied").startswith("root:")
    with pytest.raises(InnkeeperError, match="Dockerfile, line 1: FROM"):
        bench.build(f"FROM {name}-not\n", transfer=transfer)
