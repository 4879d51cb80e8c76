"""Podman with the project's own storage and settings; the machine's are never touched."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Any

from roles.common.errors import SiteError
from tests.lab.machine import STORAGE, Workarounds
from tests.waiting import until

RUNTIME = Path("/run/tiengiang-lab")
"""What does not outlive a reboot."""
HOLDER = "tiengiang-lab-holder"
"""Name of the process that keeps the mount namespace."""


def settings(workarounds: Workarounds) -> str:
    """The text of `containers.conf`."""
    lines = ["# Written by tests.lab; read by way of CONTAINERS_CONF.", "[containers]"]
    if workarounds.ulimits:
        lines.append(f"default_ulimits = {json.dumps(list(workarounds.ulimits))}")
    if workarounds.no_pids_limit:
        lines.append("pids_limit = 0")
    lines += ["", "[engine]"]
    if workarounds.runtime:
        lines.append(f'runtime = "{workarounds.runtime}"')
    lines += [
        "",
        "[network]",
        'network_backend = "netavark"',
        f'network_config_dir = "{STORAGE / "networks"}"',
    ]
    return "\n".join(lines) + "\n"


class Podman:
    """Calls `podman`, in the right mount namespace."""

    def __init__(self, workarounds: Workarounds) -> None:
        self.workarounds = workarounds

    def run(
        self, *arguments: str, stdin: bytes | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run `podman ARGUMENTS`.

        Raises:
            SiteError: it failed; with its own words.
        """
        done = subprocess.run(
            [*self._command, *arguments],
            env={**os.environ, "CONTAINERS_CONF": str(self._settings_file)},
            input=stdin,
            capture_output=True,
            check=False,
        )
        result = subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )
        if check and done.returncode:
            raise SiteError(f"podman {' '.join(arguments)}\n{result.stderr.strip()}")
        return result

    def json(self, *arguments: str) -> Any:
        """The JSON that `podman ARGUMENTS` prints."""
        return json.loads(self.run(*arguments).stdout or "null")

    @cached_property
    def _settings_file(self) -> Path:
        path = STORAGE / "containers.conf"
        text = settings(self.workarounds)
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.write_text(text)
        return path

    @property
    def _command(self) -> list[str]:
        podman = [
            "podman",
            f"--root={STORAGE / 'storage'}",
            f"--runroot={RUNTIME / 'storage'}",
            f"--tmpdir={RUNTIME / 'libpod'}",
            "--storage-driver=overlay",
        ]
        if not self.workarounds.private_cgroup:
            return podman
        return ["nsenter", f"--target={holder() or start_holder()}", "--mount", "--", *podman]


def processes(argument: str) -> list[int]:
    """The processes that have `argument` among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if argument in arguments:
            found.append(int(entry.name))
    return found


def holder() -> int | None:
    """The process that keeps the mount namespace, if it lives and is ready."""
    for process in processes(HOLDER):
        try:
            mounts = Path(f"/proc/{process}/mounts").read_text()
        except OSError:
            continue
        if any(line.split()[1:3] == ["/sys/fs/cgroup", "cgroup2"] for line in mounts.splitlines()):
            return process
    return None


def start_holder() -> int:
    """Start the process that keeps the mount namespace.

    Where containers outlived their holder, it joins the namespace of their monitors: their network
    namespaces are mounted there. Where none did, what Podman notes of running containers is as
    stale as after a reboot, and goes.
    """
    with (STORAGE / "holder.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        running = holder()
        if running:
            return running
        keep = f"exec -a {HOLDER} sleep infinity"
        monitors = processes(str(RUNTIME / "storage"))
        if monitors:
            command = ["nsenter", f"--target={monitors[0]}", "--mount", "--", "bash", "-c", keep]
        else:
            shutil.rmtree(RUNTIME, ignore_errors=True)
            command = ["unshare", "--mount", "--propagation=private", "bash", "-ec"]
            command.append("\n".join([*_mounts(), keep]))
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        return until(holder, "the process that keeps the lab's mount namespace", seconds=20) or 0


def _mounts() -> list[str]:
    """Commands that prepare the mount namespace."""
    lines = []
    # Podman and its runtime keep these outside of the folders that they are given; here they must
    # not outlive the namespace.
    for name in ("netns", "containers/networks", "runc", "crun"):
        place = Path("/run", name)
        own = RUNTIME / place.name
        lines += [f"mkdir -p {place} {own}", f"mount --bind {own} {place}"]
    # Last: it shows that the namespace is ready.
    return [*lines, "umount -R /sys/fs/cgroup", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"]


def stop_holder() -> None:
    """End the process that keeps the mount namespace, with all that is mounted in it."""
    for process in processes(HOLDER):
        os.kill(process, signal.SIGKILL)
    until(lambda: not processes(HOLDER), f"the end of {HOLDER}", seconds=20)


def remove_all() -> None:
    """Remove all images and settings; there must be no container left."""
    for mount in (STORAGE / "storage" / "overlay", RUNTIME / "storage"):
        subprocess.run(["umount", "--recursive", str(mount)], capture_output=True, check=False)
    for folder in (RUNTIME, STORAGE):
        shutil.rmtree(folder, ignore_errors=True)
        # It may itself be a mount point, and stay.
        if folder.exists() and any(folder.iterdir()):
            raise SiteError(f"{folder}: could not be removed; expected no mounts below it")
