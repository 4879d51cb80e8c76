"""What the machine that runs the lab is, and which work-arounds it needs.

An ordinary Debian with cgroup v2 and full root needs none. A machine that is itself a container or
a small virtual machine may lack something; what is missing is detected here, and only that is
worked around.
"""

import json
import os
import resource
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path

from roles.common.errors import SiteError
from tests.lab.progress import say, step

PACKAGES = {
    "aardvark-dns": "/usr/lib/podman/aardvark-dns",
    "iproute2": "/usr/bin/ip",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "netavark": "/usr/lib/podman/netavark",
    "openssh-client": "/usr/bin/ssh-keygen",
    "podman": "/usr/bin/podman",
}
"""Packages that the lab needs anywhere, each with a file by which its presence is known."""
RELEASE_PACKAGES = {
    "debian 12": {"iptables": "/usr/sbin/iptables"},
    "debian 13": {"nftables": "/usr/sbin/nft"},
}
"""How netavark sets up its network differs by release; these are the ones the lab runs on."""

STORAGE = Path("/var/lib/tiengiang-lab")
"""Images and containers of all instances, and Podman's settings."""

_CEILINGS = {"nofile": 1048576, "nproc": 32768}
"""Podman lowers its own limits to these, and could not raise them for a container."""

_CAP_SYS_RESOURCE = 24
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES = 1024
"""The systemd of each container takes about eight: with the kernel's 128 for all of root's, path
units fail in the third lab."""


@dataclass(frozen=True)
class Machine:
    """What was found."""

    root: bool
    distribution: str
    """`ID VERSION_ID` of os-release, such as `debian 13`."""
    cgroup_v2_only: bool
    """`/sys/fs/cgroup` is cgroup v2: what systemd in a Debian 13 container needs."""
    controllers: frozenset[str]
    """Controllers of cgroup v2; those held by a version 1 hierarchy are missing."""
    raises_limits: bool
    """It has CAP_SYS_RESOURCE."""
    hard_limits: Mapping[str, int]
    """Its own hard limits, as Podman names them; -1 is unlimited."""
    mtu: int
    """Largest packet of the interface with the default route."""
    filesystem: str
    """What the containers would be stored on."""


@dataclass(frozen=True)
class Workarounds:
    """What Podman must be told on this machine; all empty on an ordinary one."""

    private_cgroup: bool
    """Run Podman in a mount namespace in which only cgroup v2 is mounted."""
    runtime: str | None
    """Another OCI runtime than Podman's default."""
    ulimits: tuple[str, ...]
    """Limits that do not exceed the machine's own."""
    no_pids_limit: bool
    """cgroup v2 cannot limit the number of processes."""
    mtu: int | None
    """Packets smaller than Ethernet's."""

    def describe(self) -> list[str]:
        """One line a work-around, for the operator."""
        lines = []
        if self.private_cgroup:
            lines.append("cgroup v1 is mounted: Podman runs in a mount namespace of its own")
        if self.runtime:
            lines.append(f"no CAP_SYS_RESOURCE: {self.runtime} instead of crun, own hard limits")
        if self.no_pids_limit:
            lines.append("cgroup v2 has no pids controller: no limit of processes")
        if self.mtu:
            lines.append(f"the machine's packets hold {self.mtu} bytes: so do the lab's")
        return lines


def decide(machine: Machine) -> Workarounds:
    """Which work-arounds a machine needs.

    crun sets RLIMIT_MEMLOCK and Podman raises RLIMIT_NOFILE and RLIMIT_NPROC: both need
    CAP_SYS_RESOURCE.
    """
    limited = not machine.raises_limits
    limits = {
        name: own if ceiling > own >= 0 else ceiling
        for name, ceiling in _CEILINGS.items()
        for own in [machine.hard_limits[name]]
    }
    return Workarounds(
        private_cgroup=not machine.cgroup_v2_only,
        runtime="runc" if limited else None,
        ulimits=tuple(f"{name}={value}:{value}" for name, value in limits.items())
        if limited
        else (),
        no_pids_limit="pids" not in machine.controllers,
        mtu=machine.mtu if machine.mtu < 1500 else None,
    )


def has_capability(status: str, number: int) -> bool:
    """Whether `/proc/PID/status` shows the effective capability `number`."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> number & 1)
    return False


def cgroup2_mounts(mounts: str) -> list[str]:
    """Where `/proc/mounts` says that cgroup v2 is mounted."""
    fields = [line.split() for line in mounts.splitlines()]
    return [field[1] for field in fields if field[2] == "cgroup2"]


def filesystem(mounts: str, path: Path) -> str:
    """The type of the file system on which `/proc/mounts` says that `path` lies."""
    found = {}
    for line in mounts.splitlines():
        _, place, kind, *_ = line.split()
        if path.is_relative_to(place):
            found[len(place)] = kind
    return found[max(found)]


def distribution(os_release: str) -> str:
    """`ID VERSION_ID` of the text of an os-release file."""
    values = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    return f"{values.get('ID', '?')} {values.get('VERSION_ID', '?')}".replace('"', "")


def inspect() -> Machine:
    """Look at this machine."""
    mounts = Path("/proc/mounts").read_text()
    mounted = cgroup2_mounts(mounts)
    controllers = Path(mounted[0], "cgroup.controllers").read_text() if mounted else ""
    return Machine(
        root=os.geteuid() == 0,
        distribution=distribution(Path("/etc/os-release").read_text()),
        cgroup_v2_only="/sys/fs/cgroup" in mounted,
        controllers=frozenset(controllers.split()),
        raises_limits=has_capability(Path("/proc/self/status").read_text(), _CAP_SYS_RESOURCE),
        hard_limits={
            "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
            "nproc": resource.getrlimit(resource.RLIMIT_NPROC)[1],
        },
        mtu=_mtu(),
        filesystem=filesystem(mounts, STORAGE),
    )


def _mtu() -> int:
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        interface, target = line.split()[:2]
        if target == "00000000":
            return int(Path("/sys/class/net", interface, "mtu").read_text())
    return 1500


def require(machine: Machine) -> None:
    """Refuse a machine that cannot run the lab.

    Raises:
        SiteError: saying what was found and what is expected.
    """
    if not machine.root:
        raise SiteError(f"the lab runs as user {os.geteuid()}; expected root: run it with sudo")
    if machine.distribution not in RELEASE_PACKAGES:
        raise SiteError(
            f"this machine is {machine.distribution!r}; expected {' or '.join(RELEASE_PACKAGES)}"
        )
    if machine.filesystem == "overlay":
        raise SiteError(
            f"{STORAGE}: lies on overlayfs, as in a container; expected a file system that can "
            "hold containers itself: mount a volume there"
        )


def allow_inotify(setting: Path = INOTIFY) -> None:
    """Let the containers watch files; until the machine's next boot.

    Raises:
        SiteError: the kernel's setting is too low and cannot be written.
    """
    found = int(setting.read_text())
    if found >= INOTIFY_INSTANCES:
        return
    try:
        setting.write_text(f"{INOTIFY_INSTANCES}\n")
    except OSError as error:
        raise SiteError(
            f"{setting}: {found}, and cannot be written: {error}; expected at least "
            f"{INOTIFY_INSTANCES}"
        ) from None
    say(f"lab: fs.inotify.max_user_instances is {INOTIFY_INSTANCES} instead of {found} till reboot")


def packages_needed(machine: Machine) -> dict[str, str]:
    """The packages that the lab needs on a machine, each with a file that it brings."""
    runtime = decide(machine).runtime
    return {
        **PACKAGES,
        **RELEASE_PACKAGES[machine.distribution],
        **({runtime: f"/usr/sbin/{runtime}"} if runtime else {}),
    }


def install_missing(packages: Mapping[str, str]) -> None:
    """Install those packages whose file is not there."""
    missing = [name for name, file in packages.items() if not Path(file).exists()]
    if not missing:
        return
    with step(f"installing {' '.join(missing)}"):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
        for command in (["update"], ["install", "--no-install-recommends", *missing]):
            done = subprocess.run(
                [*apt, *command], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise SiteError(f"apt-get {' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def routes() -> list[dict[str, str]]:
    """The routes of this machine."""
    done = subprocess.run(
        ["ip", "-4", "-json", "route"], capture_output=True, text=True, check=True
    )
    listed: list[dict[str, str]] = json.loads(done.stdout)
    return listed


def clashing(network: IPv4Network, routes: Iterable[Mapping[str, str]]) -> list[str]:
    """The routes of a machine into which a network would cut.

    Args:
        network: the lab's network.
        routes: as `routes` lists them.
    """
    return [
        f"route to {route['dst']} by {route.get('dev', '?')}"
        for route in routes
        if route["dst"] != "default" and IPv4Network(route["dst"], strict=False).overlaps(network)
    ]
