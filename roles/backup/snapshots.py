"""What the backup has of this host: its snapshots, and what is in them.

Restores run on the host that holds the data, with its own credentials: they may read its repository
and add to it, and nothing else.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from roles.backup.moments import moment

RESTIC = ("/usr/local/sbin/site-backup", "restic")
"""Runs restic with this host's credentials."""
STAGE = Path("/var/lib/site-backup/stage")
"""Where what is dumped lies in a snapshot: `STAGE/PART`."""

Run = Callable[[Sequence[str]], str]


class RestoreError(Exception):
    """It cannot be done; the message says why."""


@contextmanager
def understood() -> Iterator[None]:
    """Inside the block a request is read.

    Raises:
        RestoreError: it is none.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise RestoreError(f"standard input: no request: {error}") from None


def command(arguments: Sequence[str], stdin: str | None = None) -> str:
    """Run a program and return what it prints.

    Raises:
        RestoreError: it failed; with its words.
    """
    done = subprocess.run(
        arguments, capture_output=True, input=stdin, text=True, errors="surrogateescape",
        check=False,
    )  # fmt: skip
    if done.returncode:
        words = done.stderr.strip() or f"exit code {done.returncode}"
        raise RestoreError(f"{' '.join(arguments[:5])} …: {words}")
    return done.stdout


def piped(
    arguments: Sequence[str], stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
) -> None:
    """Run a program that reads or writes a file which is open already: it may not open it itself.

    Raises:
        RestoreError: it failed; with its words.
    """
    done = subprocess.run(
        arguments, stdin=stdin or subprocess.DEVNULL, stdout=stdout or subprocess.DEVNULL,
        stderr=subprocess.PIPE, check=False, cwd="/",
    )  # fmt: skip
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise RestoreError(f"{' '.join(arguments[:5])} …: {words}")


@dataclass(frozen=True)
class Snapshot:
    """One part of a host, as it was."""

    id: str
    part: str
    taken: datetime
    """It has everything that was there before."""
    settled: datetime
    """It has nothing that was made later."""

    def said(self) -> dict[str, Any]:
        """For the operator's program."""
        return {
            "snapshot": self.id, "taken": self.taken.isoformat(),
            "settled": self.settled.isoformat(),
        }  # fmt: skip


def _settled(item: dict[str, Any]) -> datetime:
    """When restic began to read what was staged."""
    return moment((item.get("summary") or {}).get("backup_start") or item["time"])


class Backup:
    """The repository of this host, on the backup host or on a further target."""

    def __init__(self, source: str = "", run: Run = command) -> None:
        """Nothing is asked yet.

        Args:
            source: the name of a further target; empty for the backup host.
            run: how programs are run.
        """
        self._restic = [*RESTIC, *(["--from", source] if source else []), "--"]
        self._run = run

    @cached_property
    def snapshots(self) -> list[Snapshot]:
        """All of them, the oldest first; asked for once."""
        found = json.loads(self._run([*self._restic, "snapshots", "--json"])) or []
        parts = [
            Snapshot(item["id"], tag.removeprefix("part="), moment(item["time"]), _settled(item))
            for item in found
            for tag in item.get("tags") or []
            if tag.startswith("part=")
        ]
        return sorted(parts, key=lambda snapshot: snapshot.taken)

    def latest(self, part: str, at: datetime) -> Snapshot:
        """The last snapshot of a part that has nothing of what came after a moment.

        Raises:
            RestoreError: there is none.
        """
        found = [snapshot for snapshot in self.snapshots if snapshot.part == part]
        before = [snapshot for snapshot in found if snapshot.settled <= at]
        if not before:
            first = found[0].settled.isoformat() if found else "there is none"
            raise RestoreError(
                f"no backup of {part} as old as {at.isoformat()}; the first: {first}"
            )
        return before[-1]

    def files(self, snapshot: Snapshot, folder: Path) -> dict[str, int]:
        """The files of a folder of a snapshot, by their names, with their sizes."""
        said = self._run([*self._restic, "ls", "--json", snapshot.id, str(folder)])
        nodes = [json.loads(line) for line in said.splitlines()]
        return {
            node["name"]: int(node.get("size", 0)) for node in nodes if node.get("type") == "file"
        }

    def folders(self, snapshot: Snapshot, folder: Path) -> list[str]:
        """The folders in a folder of a snapshot; none where it has no such folder."""
        said = self._run([*self._restic, "ls", "--json", snapshot.id, str(folder)])
        nodes = [json.loads(line) for line in said.splitlines()]
        return [
            node["name"]
            for node in nodes
            if node.get("type") == "dir" and Path(node["path"]).parent == folder
        ]

    def text(self, snapshot: Snapshot, path: Path) -> str:
        """A file of a snapshot."""
        return self._run([*self._restic, "dump", snapshot.id, str(path)])

    def file(self, snapshot: Snapshot, path: Path, target: Path) -> None:
        """A file of a snapshot as a file here, which root alone reads.

        Raises:
            RestoreError: it could not be read.
        """
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target.touch(mode=0o600)
        self._run([*self._restic, "dump", "--target", str(target), snapshot.id, str(path)])

    def restore(self, snapshot: Snapshot, source: Path, target: Path, *options: str) -> None:
        """The content of a folder of a snapshot into a folder here, read back afterwards.

        Args:
            snapshot: which.
            source: the folder in it.
            target: the folder here; what is in it besides stays.
            options: further ones of `restic restore`.
        """
        self._run(
            [*self._restic, "restore", f"{snapshot.id}:{source}", "--target", str(target),
             "--verify", *options]
        )  # fmt: skip
