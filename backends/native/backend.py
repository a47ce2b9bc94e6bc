"""The native backend: Innkeeper's own containers."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

from backends.base import CheckResult, ContainerSpec, ExecSpec, Listener
from backends.errors import (
    BackendUnavailable,
    Busy,
    InnkeeperError,
    NotFound,
    StartFailed,
    Unsupported,
    UsageError,
    WrongState,
)
from backends.kernel import procfs
from backends.kernel.cgroup import Cgroup, CgroupHost, detect
from backends.metrics import Sample
from backends.model import (
    Guest,
    GuestKind,
    GuestProcess,
    GuestRef,
    GuestState,
    Image,
    LimitChanges,
    Limits,
    LogLine,
    Snapshot,
)
from backends.native import check, limiting, log, names, plan, spec, tracing
from backends.native.client import NativeAttachSession, NativeExecSession, SpawnerClient, SupervisorClient
from backends.native.images.store import ImageStore
from backends.native.network import Addresses, bridge_name
from backends.native.record import ContainerRecord
from backends.native.roster import Roster
from backends.native.sampling import Sampling
from backends.native.snapshots import Snapshots
from backends.native.store import LOG, TRACE, ContainerStore
from backends.native.sweep import Sweeper, clean_up_after
from backends.native.tracing import recorded
from backends.registry import BackendConfig
from backends.trace import Recorder, Step, StepRecord

NAME = "native"
_STOP_TIMEOUT_S = 10.0
_LIVE = (GuestState.RUNNING, GuestState.PAUSED, GuestState.STOPPING)


def make(config: BackendConfig) -> NativeBackend:
    """Return the backend of a state folder, not opened."""
    return NativeBackend(config)


class NativeBackend:
    """Containers made of namespaces and cgroups by this program."""

    name = NAME
    title = "Innkeeper containers"
    kinds = frozenset({GuestKind.CONTAINER})
    is_simulated = False
    max_parallel = 4

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        is_default = config.state_dir == Path("/var/lib/innkeeper")
        self._bridge = bridge_name(config.state_dir, is_default=is_default)
        self._parent = "innkeeper" if is_default else "innkeeper-" + self._bridge.removeprefix("inn-")
        self._store = ContainerStore(config.state_dir, config.run_dir)
        self._images = ImageStore(config.state_dir)
        self._addresses = Addresses(config.state_dir, self._bridge)
        self._spawner = SpawnerClient(self._store, self._parent)
        self._host_found: CgroupHost | None = None
        self._roster = Roster(self._store)
        self._sampling: Sampling | None = None

    # ── connection ──────────────────────────────────────────────────────────────────────────────────

    def open(self, listener: Listener | None = None) -> None:
        """Make the state folders. Raises BackendUnavailable without root or without cgroups."""
        if os.geteuid() != 0:
            raise BackendUnavailable("native containers need root on this version", hint="run inn as root (sudo inn)")
        try:
            self._store.prepare()
            self._host_found = detect()
        except OSError as error:
            text = f"cannot use {error.filename or self._config.state_dir}: {error.strerror}"
            raise BackendUnavailable(text, hint="choose another folder with --root DIR") from error
        except Unsupported as error:
            raise BackendUnavailable(error.message, hint=error.hint) from error
        self._sampling = Sampling(self._host_found)

    def close(self) -> None:
        """Close what is held open; containers go on."""
        if self._sampling is not None:
            self._sampling.close()
            self._sampling = None

    @property
    def _host(self) -> CgroupHost:
        if self._host_found is None:
            raise BackendUnavailable("the native backend is not open")
        return self._host_found

    def check(self) -> Sequence[CheckResult]:
        """Say what of the native runtime works on this host."""
        return check.check(self._config.state_dir)

    # ── looking ─────────────────────────────────────────────────────────────────────────────────────

    def guests(self) -> list[Guest]:
        """Return all containers."""
        if self._host_found is None:
            raise BackendUnavailable("the native backend is not open")
        return self._roster.guests()

    def sample(self) -> Mapping[GuestRef, Sample]:
        """Read the kernel's counters of all live containers."""
        if self._sampling is None:
            raise BackendUnavailable("the native backend is not open")
        return self._sampling.read(self._roster.live(), self._group)

    def inspect(self, ref: GuestRef) -> Mapping[str, Any]:
        """Return record, state, limits, kernel places and the OCI config of a container."""
        record, status = self._store.record(ref.id), self._store.status(ref.id)
        guest = self._guest(ref)
        group = self._group(ref.id)
        live = guest.state in _LIVE
        return {
            "id": record.id,
            "name": record.name,
            "backend": NAME,
            "kind": GuestKind.CONTAINER.value,
            "image": record.image,
            "created": record.created_s,
            "labels": record.labels,
            "state": {
                "status": guest.state.value,
                "pid": guest.pid,
                "exit_code": status.exit_code,
                "oom_kills": self._oom_kills(ref.id) if live else status.oom_kills,
                "started": status.started_s,
                "finished": status.finished_s,
                "note": guest.note,
            },
            "limits": _limits_json(self.limits(ref)),
            "network": {
                "mode": record.network,
                "address": record.address,
                "prefix_length": record.prefix_length,
                "gateway": record.gateway,
                "bridge": record.bridge,
                "host_link": record.host_link if record.network == "bridge" else None,
                "mac": record.mac,
            },
            "cgroup": {"path": group.path, "folders": sorted(group.directories.values())},
            "namespaces": _namespaces(guest.pid) if live and guest.pid else {},
            "folders": {
                "bundle": str(self._store.folder(ref.id)),
                "layers": record.layers,
                "upper": str(self._store.folder(ref.id) / "upper"),
                "log": str(self._store.folder(ref.id) / LOG),
            },
            "config": self._store.config(ref.id),
        }

    def trace(self, ref: GuestRef) -> Sequence[StepRecord]:
        """Return all steps recorded of it, oldest first."""
        self._store.record(ref.id)
        try:
            lines = (self._store.folder(ref.id) / TRACE).read_text().splitlines()
        except FileNotFoundError:
            return []
        return [replace(StepRecord.from_json(line), sequence=number) for number, line in enumerate(lines, 1) if line]

    def why_not(self, verb: str, guest: Guest) -> str | None:
        """Return why a verb can never work on a container here."""
        if verb == "console":
            return "a container has no serial console; use exec"
        return None

    def processes(self, ref: GuestRef) -> Sequence[GuestProcess]:
        """Return its processes as the host sees them."""
        self._require_live(ref, "list processes of")
        return procfs.guest_processes(self._group(ref.id).procs())

    def logs(
        self, ref: GuestRef, *, follow: bool = False, tail: int | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[LogLine]:
        """Yield its log."""
        self._store.record(ref.id)
        path = self._store.folder(ref.id) / LOG
        if follow:
            yield from log.follow(path, lambda: not self._store.is_supervised(ref.id), stop, tail=tail)
        elif path.exists():
            yield from log.read(path, tail=tail)

    # ── making and removing ─────────────────────────────────────────────────────────────────────────

    def create(self, asked: ContainerSpec, recorder: Recorder) -> Guest:
        """Make a container."""
        if asked.name is not None:
            spec.check_name(asked.name)
        self._check_network(asked.network)
        self._check_limits(asked.limits)
        image = self._images.get(asked.image)
        container_id, name = self._store.reserve(asked.name, names.suggestions())
        record = ContainerRecord(
            id=container_id,
            name=name,
            image=image.name,
            created_s=time.time(),
            layers=image.layers,
            network=asked.network,
            stop_signal=_signal_name(asked.stop_signal),
            user=asked.user,
            stdin=asked.stdin,
            labels=dict(asked.labels),
        )
        try:
            if asked.network == "bridge":
                lease = self._addresses.lease(container_id)
                record = replace(record, address=lease.address, prefix_length=lease.prefix_length,
                                 gateway=lease.gateway, bridge=lease.bridge)  # fmt: skip
            files, config = self._files_and_config(record, asked)
            self._store.create(record, config, files)
        except BaseException:
            if record.address:
                self._addresses.release(record.address)
            self._store.release_name(name)
            raise
        return self._guest(GuestRef(NAME, container_id))

    def _files_and_config(self, record: ContainerRecord, asked: ContainerSpec) -> tuple[dict[str, str], dict[str, Any]]:
        hostname = asked.hostname or record.id
        own = f"{record.address}\t{hostname}\n" if record.address else ""
        files = {
            "hostname": hostname + "\n",
            "hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n{own}",
            "resolv.conf": _resolv_conf(),
        }
        folder = self._store.folder(record.id) / "etc"
        bound = {f"/etc/{name}": str(folder / name) for name in files}
        group = f"{self._parent}/{record.id}"
        return files, spec.build(record.id, asked, self._images.get(asked.image), group, bound)

    def explain(self, asked: ContainerSpec) -> Sequence[tuple[str, Step]]:
        """Return the plan of a container that is not made."""
        image = self._images.get(asked.image)
        self._check_limits(asked.limits)
        record = ContainerRecord(
            id="0" * 12, name=asked.name or "example", image=image.name, created_s=0, layers=image.layers,
            network=asked.network, address="10.209.0.2", gateway="10.209.0.1", bridge=self._bridge, user=asked.user,
        )  # fmt: skip
        _, config = self._files_and_config(record, asked)
        made = plan.build(record, config, self._store.folder(record.id), self._host)
        return [*made.in_order(), *(("init", step) for step in plan.shown_final_steps(config, asked.user))]

    def remove(self, ref: GuestRef, recorder: Recorder, *, force: bool = False) -> None:
        """Remove a container, its layer, log and snapshots."""
        guest = self._guest(ref)
        if guest.state in _LIVE:
            if not force:
                hint = f"stop it first, or remove it by force: inn rm -f {guest.name}"
                raise WrongState(f"cannot remove {guest.name}: it is {guest.state.value}", hint=hint)
            self.kill(ref, recorder)
            with suppress(WrongState):
                self.wait(ref, timeout_s=_STOP_TIMEOUT_S)
        with self._store.locked(ref.id):
            self._clean_if_lost(ref)
            if self._store.is_supervised(ref.id):
                raise Busy(f"cannot remove {guest.name}: it is just being started or ended", hint="try again")
            record = self._store.record(ref.id)
            self._group(ref.id).remove()
            self._store.remove(record)
            if record.address:
                self._addresses.release(record.address)

    def rename(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Give it another name."""
        spec.check_name(name)
        with self._store.locked(ref.id):
            record = self._store.record(ref.id)
            if record.name != name:
                self._store.rename(record, name)

    # ── life ────────────────────────────────────────────────────────────────────────────────────────

    def start(self, ref: GuestRef, recorder: Recorder, *, size: tuple[int, int] | None = None) -> None:
        """Start a created or stopped container."""
        guest = self._guest(ref)
        if guest.state in _LIVE:
            raise WrongState(f"{guest.name} is {guest.state.value} already")
        with self._store.locked(ref.id):
            self._clean_if_lost(ref)
            Snapshots(self._store.folder(ref.id), guest.name).recover()
            self._wait_for_supervisor(ref)
            try:
                self._spawner.start(ref.id, size, recorder.keep)
            except StartFailed as error:
                text = f"cannot start {guest.name}: {error.message}"
                raise StartFailed(text, exit_code=error.exit_code, hint=error.hint) from error

    def _wait_for_supervisor(self, ref: GuestRef) -> None:
        """Its last supervisor may still be on its way out, with its end already on record."""
        deadline = time.monotonic() + 5.0
        while self._store.is_supervised(ref.id) and time.monotonic() < deadline:
            time.sleep(0.002)

    def stop(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """Send the stop signal, and SIGKILL to all of it after the timeout."""
        if self._clean_if_lost(ref):
            return
        self._require_live(ref, "stop")
        number = getattr(signal, self._store.record(ref.id).stop_signal)
        wait_s = _STOP_TIMEOUT_S if timeout_s is None else timeout_s
        request = {"op": "stop", "signal": int(number), "timeout_s": wait_s}
        with recorded(recorder, self._trace_path(ref), "signal", f"send {number.name}, SIGKILL after {wait_s:g} s",
                      f"kill -{number.name[3:]} {self._guest(ref).pid}"):  # fmt: skip
            self._supervisor(ref).wait(request, wait_s + 15.0)

    def kill(self, ref: GuestRef, recorder: Recorder, *, signal: int = 9) -> None:
        """Send a signal to the first process."""
        if self._clean_if_lost(ref):
            return
        self._require_live(ref, "send a signal to")
        name = _number_name(signal)
        with recorded(recorder, self._trace_path(ref), "signal", f"send {name}",
                      f"kill -{name.removeprefix('SIG')} {self._guest(ref).pid}"):  # fmt: skip
            self._supervisor(ref).ask({"op": "kill", "signal": signal})

    def restart(self, ref: GuestRef, recorder: Recorder, *, timeout_s: float | None = None) -> None:
        """Stop it if it is live, and start it."""
        if self._guest(ref).state in _LIVE:
            self.stop(ref, recorder, timeout_s=timeout_s)
        self.start(ref, recorder)

    def pause(self, ref: GuestRef, recorder: Recorder) -> None:
        """Freeze it."""
        self._require_state(ref, GuestState.RUNNING, "pause")
        with recorded(recorder, self._trace_path(ref), "freeze", f"freeze {self._group(ref.id).path}",
                      f"echo 1 > {self._freeze_file(ref)}"):  # fmt: skip
            self._supervisor(ref).ask({"op": "pause"})

    def resume(self, ref: GuestRef, recorder: Recorder) -> None:
        """Thaw it."""
        self._require_state(ref, GuestState.PAUSED, "resume")
        with recorded(recorder, self._trace_path(ref), "freeze", f"thaw {self._group(ref.id).path}",
                      f"echo 0 > {self._freeze_file(ref)}"):  # fmt: skip
            self._supervisor(ref).ask({"op": "resume"})

    def wait(self, ref: GuestRef, *, timeout_s: float | None = None) -> int | None:
        """Block until it has ended."""
        guest = self._guest(ref)
        if guest.state in _LIVE:
            with suppress(WrongState):
                return self._supervisor(ref).wait({"op": "wait"}, timeout_s)
            self._wait_for_supervisor(ref)
        return self._store.status(ref.id).exit_code

    def exec(
        self, ref: GuestRef, asked: ExecSpec, stdio: tuple[int, int, int] | None = None
    ) -> NativeExecSession:
        """Run a program in a live container."""
        self._require_state(ref, GuestState.RUNNING, "run a program in")
        if not asked.args:
            raise UsageError("there is no program to run")
        request = {"op": "exec", "args": list(asked.args), "env": list(asked.env), "cwd": asked.cwd, "user": asked.user,
                   "terminal": asked.terminal, "size": asked.size}  # fmt: skip
        fds = () if asked.terminal else (stdio or (0, 1, 2))
        client = self._supervisor(ref)
        sock = client.connect()
        try:
            answer, received = client.exchange(sock, request, fds)
        except BaseException:
            sock.close()
            raise
        return NativeExecSession(sock, int(answer["pid"]), received[0] if received else None)

    def attach(self, ref: GuestRef, *, size: tuple[int, int] | None = None) -> NativeAttachSession:
        """Connect to its standard input."""
        self._require_live(ref, "attach to")
        client = self._supervisor(ref)
        sock = client.connect()
        try:
            client.exchange(sock, {"op": "attach"})
        except BaseException:
            sock.close()
            raise
        session = NativeAttachSession(sock)
        if size is not None:
            session.resize(*size)
        return session

    # ── limits ──────────────────────────────────────────────────────────────────────────────────────

    def limits(self, ref: GuestRef) -> Limits:
        """Return the limits in the kernel of a live container, those it will start with of another."""
        wanted = spec.limits_of(self._store.config(ref.id))
        group = self._group(ref.id)
        if self._guest(ref).state in _LIVE and group.exists():
            with suppress(NotFound):
                return limiting.in_force(group.limits(), wanted)
        return wanted

    def set_limits(self, ref: GuestRef, changes: LimitChanges, recorder: Recorder) -> Limits:
        """Change limits, in the kernel at once if it is live, and in its config.json."""
        limiting.check_names(changes, self._host.reasons())
        with self._store.locked(ref.id):
            config = self._store.config(ref.id)
            wanted = spec.limits_of(config).with_changes(changes)
            live = self._guest(ref).state in _LIVE
            group = self._group(ref.id)
            steps = group.limit_steps(wanted, group.limits() if live else Limits())
            if live:
                keep = Recorder("client", self._keeper(ref, recorder))
                limiting.apply(steps, keep)
            self._store.write_config(ref.id, spec.with_limits(config, wanted))
        self._roster.forget(ref.id)
        return self.limits(ref)

    def limit_fields(self, guest: Guest) -> Mapping[str, str]:
        """Return why each field cannot be set, or ""."""
        return limiting.fields(self._host.reasons())

    def limit_warnings(self, guest: Guest, changes: LimitChanges, last: Sample | None) -> Sequence[str]:
        """Say what a change would hurt."""
        return limiting.warnings(guest.name, changes, last)

    def _check_limits(self, limits: Limits) -> None:
        limiting.check_names(_limits_json(limits), self._host.reasons())
        self._host.group(f"{self._parent}/none").limit_steps(limits, Limits())

    # ── snapshots and images ────────────────────────────────────────────────────────────────────────

    def snapshots(self, ref: GuestRef) -> Sequence[Snapshot]:
        """Return its snapshots."""
        record = self._store.record(ref.id)
        return Snapshots(self._store.folder(ref.id), record.name).all(record.snapshot)

    def snapshot_create(self, ref: GuestRef, name: str, recorder: Recorder) -> Snapshot:
        """Copy the writable layer; a running container is frozen meanwhile."""
        was_running = self._guest(ref).state == GuestState.RUNNING
        with self._store.locked(ref.id):
            record = self._store.record(ref.id)
            snapshots = Snapshots(self._store.folder(ref.id), record.name)
            keep = Recorder("client", self._keeper(ref, recorder))
            if was_running:
                self.pause(ref, recorder)
            try:
                made = snapshots.create(name, record.snapshot, keep)
            finally:
                if was_running:
                    with suppress(WrongState):
                        self.resume(ref, recorder)
            self._store.write_record(replace(record, snapshot=name))
        return made

    def snapshot_restore(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Put a snapshot in place; a live container is stopped for it and started again."""
        record = self._store.record(ref.id)
        snapshots = Snapshots(self._store.folder(ref.id), record.name)
        snapshots.parent_of(name)  # before anything is stopped: it must exist
        was_live = self._guest(ref).state in _LIVE
        if was_live:
            self.stop(ref, recorder)
        with self._store.locked(ref.id):
            self._clean_if_lost(ref)
            self._wait_for_supervisor(ref)
            snapshots.restore(name, Recorder("client", self._keeper(ref, recorder)))
            self._store.write_record(replace(self._store.record(ref.id), snapshot=name))
        if was_live:
            self.start(ref, recorder)

    def snapshot_remove(self, ref: GuestRef, name: str, recorder: Recorder) -> None:
        """Remove a snapshot."""
        with self._store.locked(ref.id):
            record = self._store.record(ref.id)
            snapshots = Snapshots(self._store.folder(ref.id), record.name)
            parent = snapshots.parent_of(name)
            snapshots.remove(name)
            if record.snapshot == name:
                self._store.write_record(replace(record, snapshot=parent))

    def images(self) -> Sequence[Image]:
        """Return all images."""
        return self._images.all()

    def image_import(self, name: str, source: str | BinaryIO, recorder: Recorder) -> Image:
        """Make an image of a root file system."""
        return self._images.import_(name, source, recorder)

    def image_remove(self, name: str, recorder: Recorder) -> None:
        """Remove an image that no container uses."""
        users = [guest.name for guest in self.guests() if guest.image == name]
        if users:
            text = f"cannot remove image {name}: used by {', '.join(users[:5])}"
            raise Busy(text, hint="remove those containers first")
        self._images.remove(name)

    # ── sweeping ────────────────────────────────────────────────────────────────────────────────────

    def clean(self, recorder: Recorder) -> Sequence[str]:
        """Remove what crashes left behind."""
        return Sweeper(self._store, self._host, self._parent, self._addresses, self._bridge).sweep()

    def shutdown(self) -> None:
        """End the spawner, and let go of the parent cgroup if nothing is in it."""
        self._spawner.shutdown()
        if self._host_found is not None:
            self._host_found.group(self._parent).remove_if_unused()

    # ── helpers ─────────────────────────────────────────────────────────────────────────────────────

    def _guest(self, ref: GuestRef) -> Guest:
        return self._roster.guest(ref.id)

    def _group(self, container_id: str) -> Cgroup:
        return self._host.group(f"{self._parent}/{container_id}")

    def _supervisor(self, ref: GuestRef) -> SupervisorClient:
        return SupervisorClient(self._store, ref.id, self._store.record(ref.id).name)

    def _clean_if_lost(self, ref: GuestRef) -> bool:
        return self._guest(ref).state == GuestState.LOST and clean_up_after(self._store, self._host, ref.id)

    def _require_live(self, ref: GuestRef, what: str) -> Guest:
        guest = self._guest(ref)
        if guest.state not in _LIVE:
            text = f"cannot {what} {guest.name}: it is {guest.state.value}"
            raise WrongState(text, hint=f"start it: inn start {guest.name}")
        return guest

    def _require_state(self, ref: GuestRef, state: GuestState, what: str) -> None:
        guest = self._guest(ref)
        if guest.state != state:
            raise WrongState(f"cannot {what} {guest.name}: it is {guest.state.value}, not {state.value}")

    def _trace_path(self, ref: GuestRef) -> Path:
        return self._store.folder(ref.id) / TRACE

    def _keeper(self, ref: GuestRef, recorder: Recorder) -> Callable[[StepRecord], None]:
        def keep(record: StepRecord) -> None:
            tracing.append(self._trace_path(ref), record)
            recorder.keep(record)

        return keep

    def _freeze_file(self, ref: GuestRef) -> str:
        group = self._group(ref.id)
        return f"{group.unified}/cgroup.freeze" if group.unified else f"{group.directory('freezer')}/freezer.state"

    def _oom_kills(self, container_id: str) -> int | None:
        try:
            reader = self._group(container_id).reader()
        except NotFound:
            return None
        try:
            return reader.read(time.monotonic()).oom_kills
        except InnkeeperError:
            return None
        finally:
            reader.close()

    def _check_network(self, network: str) -> None:
        if network not in ("bridge", "none"):
            raise UsageError(f"network {network!r} is not known", hint="bridge or none")


def _limits_json(limits: Limits) -> dict[str, Any]:
    return {name: value for name, value in asdict(limits).items() if value not in (None, ())}


def _namespaces(pid: int) -> dict[str, str]:
    """Return the namespaces of a process, as the kernel names them: "pid:[4026532571]"."""
    found = {}
    for name in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"):
        with suppress(OSError):
            found[name] = os.readlink(f"/proc/{pid}/ns/{name}")
    return found


def _resolv_conf() -> str:
    """Return the host's name servers without those on its loopback, which a container does not reach."""
    try:
        lines = Path("/etc/resolv.conf").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    return "".join(f"{line}\n" for line in lines if not line.startswith(("nameserver 127.", "nameserver ::1")))


def _signal_name(text: str) -> str:
    """Return "SIGTERM" for "SIGTERM", "term" or "15". Raises UsageError."""
    name = text.upper()
    if text.isdigit() and int(text) in signal.valid_signals():
        return _number_name(int(text))
    name = name if name.startswith("SIG") else f"SIG{name}"
    if name not in signal.Signals.__members__:
        raise UsageError(f"{text!r} is no signal")
    return name


def _number_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
