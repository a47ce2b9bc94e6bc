"""Putting simulated guests on networks."""

from __future__ import annotations

from collections.abc import Sequence

from backends.errors import Unsupported
from backends.model import GuestKind, GuestRef
from backends.network import Attachment, Network, NetworkSpec
from backends.simulated.act import Act
from backends.simulated.core import SimulatedCore
from backends.trace import Recorder


class NetworkVerbs(SimulatedCore):
    """Networks."""

    def networks(self) -> Sequence[Network]:
        """Return all networks."""
        with self._call("networks"):
            return tuple(self._world.fabric.networks(self._world.now()))

    def network_create(self, spec: NetworkSpec, recorder: Recorder) -> Network:
        """Make a network."""
        with self._call("network_create"):
            now = self._world.now()
            act = Act("network", f"create network {spec.name}", lambda: self._world.fabric.add(spec, now.epoch_s))
            return self._world.fabric.network(recorder.run(act), now)

    def network_remove(self, name: str, recorder: Recorder) -> None:
        """Remove a network that nobody is on."""
        with self._call("network_remove"):
            recorder.run(Act("network", f"remove network {name}", lambda: self._world.fabric.remove(name)))

    def network_connect(self, ref: GuestRef, how: Attachment, recorder: Recorder) -> None:
        """Put a guest on a further network."""
        with self._verb("network_connect", ref) as machine:
            if machine.kind is GuestKind.VM:
                raise Unsupported(f"cannot connect {machine.name}: a virtual machine has its interfaces defined")
            text = f"connect {machine.name} to {how.network}"
            attach = self._world.fabric.attach
            self._do(machine, recorder, "network", text, lambda: attach(machine, how.network, how))

    def network_disconnect(self, ref: GuestRef, network: str, recorder: Recorder) -> None:
        """Take a guest off a network."""
        with self._verb("network_disconnect", ref) as machine:
            text = f"disconnect {machine.name} from {network}"
            self._do(machine, recorder, "network", text, lambda: self._world.fabric.detach(machine, network))
