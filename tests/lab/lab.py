"""One instance of the lab: its network, its containers, its snapshots."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from deploy.run import changes, condensed
from roles.base.settings import BaseSettings
from roles.common.errors import SiteError
from roles.common.site import ROOT, Site
from tests.lab import image, machine
from tests.lab.keys import PUBLIC_KEY, File, Keys, tar
from tests.lab.machine import STORAGE
from tests.lab.outside.site import OUTSIDE, Outside, outside_of
from tests.lab.podman import Podman, processes, remove_all, stop_holder
from tests.lab.prepared import ensure as prepared_images
from tests.lab.prepared import packages_of
from tests.lab.progress import say, step
from tests.waiting import until

LABEL = "tiengiang.lab"
"""Label of everything that the lab makes; its value is the instance's name."""
SNAPSHOTS = "localhost/tiengiang-lab-snapshot"
"""Where snapshots are kept: `SNAPSHOTS/CONTAINER:NAME`."""

INIT = "/sbin/init"
"""What a container runs: systemd."""
DEAD = "dead"
"""State of a container that Podman takes for running, but whose processes are gone."""
BROKEN = (DEAD, "stopping", "removing", "unknown")
"""States from which Podman cannot start a container again."""


@dataclass(frozen=True)
class Container:
    """A host as a container."""

    host: str
    name: str
    address: str
    fqdn: str


@dataclass(frozen=True)
class Work:
    """What must be done so that all containers run."""

    remove: list[str] = field(default_factory=list)
    create: list[Container] = field(default_factory=list)
    start: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.remove or self.create or self.start)


def work(wanted: Iterable[Container], found: Mapping[str, Mapping[str, Any]], keys: Keys) -> Work:
    """What must be done.

    Args:
        wanted: the containers as they shall be.
        found: those that exist, by name, as `podman ps` lists them.
        keys: the instance's keys.
    """
    todo = Work()
    good = set()
    for container in wanted:
        entry = found.get(container.name)
        if (
            entry is not None
            and entry["Labels"].get(f"{LABEL}.address") == container.address
            and entry["State"] not in BROKEN
            # It is known once it was made to its end.
            and keys.knows(container.address)
        ):
            good.add(container.name)
            if entry["State"] != "running":
                todo.start.append(container.name)
        else:
            todo.create.append(container)
    todo.remove.extend(name for name in found if name not in good)
    return todo


def create_arguments(container: Container, instance: str, image_name: str) -> list[str]:
    """The arguments of `podman` that make a container, not yet started."""
    return [
        "create",
        f"--name={container.name}",
        f"--hostname={container.fqdn}",
        f"--label={LABEL}={instance}",
        f"--label={LABEL}.root={ROOT}",
        f"--label={LABEL}.address={container.address}",
        f"--network={instance}",
        f"--ip={container.address}",
        "--systemd=always",
        # nftables, and a second address, as a host of its own has them.
        "--cap-add=NET_ADMIN,NET_RAW",
        # The hosts' own files; Podman would mount its own over them, which nothing can replace.
        "--no-hosts",
        "--dns=none",
        # Podman's default may be the machine's journal.
        "--log-driver=k8s-file",
        image_name,
        INIT,
    ]


def network_arguments(instance: str, network: IPv4Network, mtu: int | None) -> list[str]:
    """The arguments of `podman` that make the network."""
    return [
        "network",
        "create",
        f"--label={LABEL}={instance}",
        f"--subnet={network}",
        *([f"--opt=mtu={mtu}"] if mtu else []),
        instance,
    ]


@contextmanager
def exclusive() -> Iterator[None]:
    """Nobody else installs what a lab needs, or makes or removes containers, meanwhile."""
    STORAGE.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (STORAGE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("lab: another run is making or removing containers; waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if _is(lock.fileno(), STORAGE / "lock"):
            yield
            return
    # Whoever held it removed the last lab, and the lock with it.
    with exclusive():
        yield


def _is(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    return path.exists() and os.path.samestat(os.fstat(descriptor), path.stat())


class LabInstance:
    """An instance of the lab of an environment."""

    def __init__(self, site: Site, instance: str) -> None:
        self.site = site
        self.instance = instance
        self.outside: Outside = outside_of(site)
        self.keys = Keys(site.state / "ssh")

    @property
    def name(self) -> str:
        """Name of the instance, and of its network."""
        return f"{self.site.environment}-{self.instance}"

    @cached_property
    def containers(self) -> list[Container]:
        """Every host of the site, and `outside1`."""
        hosts = [(host.name, host.address, host.fqdn) for host in self.site.hosts.values()]
        hosts.append((OUTSIDE, str(self.outside.address), self.outside.fqdn))
        return [
            Container(host, f"{self.name}-{host}", address, fqdn) for host, address, fqdn in hosts
        ]

    def container(self, host: str) -> Container:
        """The container of a host.

        Raises:
            SiteError: there is no such host.
        """
        for container in self.containers:
            if container.host == host:
                return container
        raise SiteError(
            f"{host!r} is no host of {self.name}; expected one of "
            f"{', '.join(container.host for container in self.containers)}"
        )

    @cached_property
    def podman(self) -> Podman:
        """Podman as this machine needs it."""
        return Podman(machine.decide(machine.inspect()))

    def found(self) -> dict[str, dict[str, Any]]:
        """The containers of this instance that exist, by name."""
        return self._listed(f"label={LABEL}={self.name}")

    def _listed(self, condition: str) -> dict[str, dict[str, Any]]:
        if not (STORAGE / "storage").exists() or not shutil.which("podman"):
            return {}  # and to ask leaves nothing behind
        entries = self.podman.json("ps", "--all", "--format=json", f"--filter={condition}") or []
        for entry in entries:
            # Where its monitor was killed with it, nobody told Podman that a container is dead.
            if entry["State"] == "running" and entry["Pid"] not in processes(INIT):
                entry["State"] = DEAD
        return {entry["Names"][0]: entry for entry in entries}

    # Making

    def up(self, prepared: bool = False) -> bool:
        """Make and start what is not there, deploy `outside1`; return whether anything changed.

        Args:
            prepared: make hosts on which the packages are installed already.
        """
        found = machine.inspect()
        machine.require(found)
        with exclusive():
            machine.install_missing(machine.packages_needed(found))
            self.site.keep_secrets()
            machine.allow_inotify()
            for name in self.site.of(BaseSettings).admins:
                self.keys.person(name)
            made = self._make(prepared)
        changed = self._deploy_outside()
        if not made and not changed:
            say(f"lab: {self.name} is up; nothing changed")
        return made or changed

    def _make(self, prepared: bool) -> bool:
        found = self.found()
        self._check_owner(found)
        todo = work(self.containers, found, self.keys)
        if not todo:
            return False
        for line in self.podman.workarounds.describe():
            say(f"lab: {line}")
        if todo.remove:
            with step(f"removing {' '.join(todo.remove)}, which cannot be used"):
                self._remove_containers(todo.remove)
        if todo.create:
            base = image.ensure(self.podman)
            images = prepared_images(self.podman, base, packages_of(self.site)) if prepared else {}
            self._ensure_network()
            with step(f"making {' '.join(container.host for container in todo.create)}"):
                for container in todo.create:
                    self._create(container, images.get(container.host, base))
        self._start([*todo.start, *[container.name for container in todo.create]])
        return True

    def _check_owner(self, found: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse to touch what another clone runs; what a vanished or dead one left is ours."""
        for name, entry in found.items():
            root = entry["Labels"].get(f"{LABEL}.root", "")
            alive = entry["State"] == "running" and Path(root).is_dir()
            if alive and root != str(ROOT):
                raise SiteError(
                    f"container {name}: belongs to the lab of {root}; expected none, or one of "
                    f"{ROOT}: run `make down` there first"
                )

    def _ensure_network(self) -> None:
        wanted = self.outside.lab.network
        network = self._network()
        if network:
            if [subnet["subnet"] for subnet in network["subnets"]] == [str(wanted)]:
                return
            self._remove_network()
        clashes = machine.clashing(wanted, machine.routes())
        if clashes:
            raise SiteError(
                f"{self.site.folder / 'site.toml'}: lab: network {wanted} overlaps with this "
                f"machine's {', '.join(clashes)}; expected a network of its own"
            )
        mtu = self.podman.workarounds.mtu
        self.podman.run(*network_arguments(self.name, wanted, mtu))

    def _network(self) -> dict[str, Any] | None:
        for entry in self.podman.json("network", "ls", "--format=json") or []:
            # The keys' case differs between versions of Podman.
            values = {key.lower(): value for key, value in entry.items()}
            if values["name"] == self.name:
                return values
        return None

    def _remove_network(self) -> None:
        network = self._network()
        if network:
            self.podman.run("network", "rm", "--force", self.name)
            # Left behind where the containers were not stopped but killed.
            bridge = ["ip", "link", "delete", network["network_interface"]]
            subprocess.run(bridge, capture_output=True, check=False)

    def _create(self, container: Container, image_name: str) -> None:
        self.keys.forget(container.address)
        self.podman.run(*create_arguments(container, self.name, image_name))
        hosts = f"127.0.0.1 localhost\n{container.address} {container.fqdn} {container.host}\n"
        files = {
            **self.keys.host_files(container.host),
            "etc/hosts": File(hosts.encode()),
            # Until the deploy names another.
            "etc/resolv.conf": File(f"nameserver {self.outside.gateway}\n".encode()),
        }
        self.podman.run("cp", "-", f"{container.name}:/", stdin=tar(files))
        self.keys.remember(container.address, files[PUBLIC_KEY].content)

    def _start(self, names: list[str]) -> None:
        """Start containers and wait until systemd in them says that all is started."""
        with step(f"starting {' '.join(names)}"):
            self.podman.run("start", *names)
            for container in self.containers:
                if container.name in names:
                    self._wait(container)

    def _wait(self, container: Container) -> None:
        def booted() -> str:
            command = [*self.keys.ssh(container.address), "systemctl is-system-running --wait"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            state = done.stdout.strip()
            return state if state in ("running", "degraded") else ""

        until(booted, f"{container.name} to boot and to answer on SSH", seconds=120, pause=0.3)

    def _deploy_outside(self) -> bool:
        """Deploy `outside1`; return whether anything changed."""
        command = [
            str(Path(sys.executable).with_name("pyinfra")), "-y", "--json",
            str(ROOT / "tests" / "lab" / "outside" / "inventory.py"), "tests.lab.outside.outside",
        ]  # fmt: skip
        environment = {
            **os.environ, "ENV": self.site.environment, "LAB_INSTANCE": self.instance,
        }  # fmt: skip
        with step(f"deploying {OUTSIDE}, the rest of the Internet"):
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
        if done.returncode:
            lines = "".join(condensed(done.stderr.splitlines(keepends=True)))
            raise SiteError(f"deploying {OUTSIDE} failed:\n{lines}")
        return bool(changes(json.loads(done.stdout), "apply"))

    # Looking

    def status(self) -> list[tuple[str, str, str]]:
        """Each host with its address and the state of its container."""
        found = self.found()
        return [
            (
                container.host,
                container.address,
                str(found[container.name]["State"]) if container.name in found else "absent",
            )
            for container in self.containers
        ]

    # Snapshots

    def snapshot(self, name: str) -> None:
        """Keep all containers as they are now, stopped for a moment so that files are whole."""
        with exclusive():
            found = self._complete()
            with step(f"stopping {' '.join(found)}"):
                self.podman.run("stop", "--time=60", *found)
            with step(f"keeping them as {name!r}"):
                for container in found:
                    target = f"{SNAPSHOTS}/{container}:{name}"
                    self.podman.run("commit", "--quiet", container, target)
                self.podman.run("image", "prune", "--force")
            self._start(found)

    def restore(self, name: str) -> None:
        """Bring all containers back as `snapshot` kept them: same addresses, same host keys."""
        with exclusive():
            images = [f"{SNAPSHOTS}/{container.name}:{name}" for container in self.containers]
            for kept in images:
                if self.podman.run("image", "exists", kept, check=False).returncode:
                    raise SiteError(
                        f"{self.name}: there is no snapshot {name!r} of all hosts; expected one "
                        f"of {', '.join(self.snapshots()) or 'none: there are no snapshots'}"
                    )
            found = self.found()
            self._check_owner(found)
            with step(f"bringing back {name!r}"):
                if found:
                    self._remove_containers(found)
                self._ensure_network()
                for container, kept in zip(self.containers, images, strict=True):
                    self.podman.run(*create_arguments(container, self.name, kept))
            self._start([container.name for container in self.containers])

    def snapshots(self) -> list[str]:
        """The names of the snapshots of this instance."""
        return sorted({name.rpartition(":")[2] for name in self._snapshot_images()})

    def _snapshot_images(self) -> list[str]:
        entries = self.podman.json("image", "ls", "--format=json") or []
        prefix = f"{SNAPSHOTS}/{self.name}-"
        return [
            name
            for entry in entries
            for name in entry.get("Names") or []
            if name.startswith(prefix)
        ]

    def _complete(self) -> list[str]:
        found = self.found()
        self._check_owner(found)
        if work(self.containers, found, self.keys):
            raise SiteError(
                f"{self.name}: not all hosts are up; expected a whole lab: run "
                f"`python -m tests.lab up --env {self.site.environment} --instance {self.instance}`"
            )
        return list(found)

    # Losing

    def lose(self, *hosts: str) -> None:
        """Remove the containers of hosts, as if their disks were gone: `up` makes new ones."""
        self._strike(hosts, "losing", self._remove_containers)

    def cut_power(self, *hosts: str) -> None:
        """End all that runs on hosts at once; `up` starts them with what is on their disks."""
        self._strike(
            hosts, "cutting the power of", lambda names: self.podman.run("stop", "--time=0", *names)
        )

    def _strike(self, hosts: Iterable[str], what: str, work: Callable[[list[str]], object]) -> None:
        with exclusive():
            self._check_owner(self.found())
            names = [self.container(host).name for host in hosts]
            with step(f"{what} {' '.join(names)}"):
                work(names)

    # Removing

    def down(self, keep: bool = False) -> None:
        """Remove all of this instance, whatever state it is in; with the last one, all of the lab.

        Args:
            keep: keep the base image even where no other instance is there, for the next `up`.
        """
        machine.require(machine.inspect())
        if STORAGE.exists():
            with exclusive():
                if shutil.which("podman"):
                    self._remove()
                    if not self._listed(f"label={LABEL}"):
                        stop_holder()
                        if not keep:
                            remove_all()
        shutil.rmtree(self.site.state, ignore_errors=True)
        # The folder of all instances goes with the last one.
        with suppress(OSError):
            self.site.state.parent.rmdir()

    def _remove_containers(self, names: Iterable[str]) -> None:
        command = ["rm", "--force", "--time=0", *names]
        # Where a monitor was killed, the first call fails, but notes that the container is dead.
        if self.podman.run(*command, check=False).returncode:
            self.podman.run(*command)

    def _remove(self) -> None:
        found = self.found()
        self._check_owner(found)
        if found:
            with step(f"removing {' '.join(found)}"):
                self._remove_containers(found)
        kept = self._snapshot_images()
        if kept:
            self.podman.run("rmi", "--force", *kept)
        self.podman.run("image", "prune", "--force")
        self._remove_network()
        if not found:
            say(f"lab: {self.name} has no containers; what was left of it is removed")
