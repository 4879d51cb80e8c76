"""The repositories of the backup host, and what every job of its keeper needs of them.

That is: the settings, how restic is run, which snapshots there are, and what one run notes for the
next. The jobs are `keeper.py`, `status.py`, `copying.py` and `drills.py`.

No job imports `keeper.py`: it runs as `__main__`, and would be loaded a second time.
"""

import json
import os
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, Self
from zoneinfo import ZoneInfo

from roles.backup import growth, records
from roles.backup.letters import CONFIG as LETTERS
from roles.backup.letters import Letters
from roles.backup.moments import moment
from roles.backup.refusals import watched
from roles.backup.retention import CLOCK, Policy, Snapshot, doubts
from roles.backup.targets import Target
from roles.backup.targets import read as read_targets

CONFIG = Path("/etc/site-backup/keeper.toml")
TARGETS = Path("/etc/site-backup/targets.json")
LABEL = "site-"
"""Before the fingerprint of its password, as the name of a host's own key; ours has another."""
_TAG = "part="
_BATCH = 200
"""Snapshots that are forgotten by one command."""
_WORDS = 500
"""Letters of a program's words that are told."""


class KeeperError(Exception):
    """Something could not be done; the message says why."""


@dataclass(frozen=True)
class Config:
    """What the role wrote into the program's file."""

    folder: Path
    password: Path
    state: Path
    hosts: dict[str, list[str]]
    """The parts that each host has."""
    keep: dict[str, int]
    small: float
    """As `Policy` has it."""
    patience: int
    stale: int
    """Seconds after which a part without a new snapshot is an alarm."""
    drilled: int
    """Seconds after which a part without a good drill is an alarm."""
    free: float
    """Below this free share of the disk there is an alarm."""
    growth: float
    """A repository to which more than this share of the disk is added in a day is shut; 0: none."""
    shares: int
    """The data is read back in so many shares."""
    letters: Letters
    targets: dict[str, Target]

    @classmethod
    def read(cls, path: Path = CONFIG, letters: Path = LETTERS, targets: Path = TARGETS) -> Self:
        """The files of the role."""
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        for name in ("folder", "password", "state"):
            values[name] = Path(values[name])
        return cls(**values, letters=Letters.read(letters), targets=read_targets(targets))

    @property
    def policy(self) -> Policy:
        """What is kept, and what is doubtful."""
        return self.policy_of(self.keep)

    def policy_of(self, keep: Mapping[str, int]) -> Policy:
        """The same, with other numbers of what is kept."""
        zone = ZoneInfo(self.letters.timezone)
        return Policy(keep, timedelta(seconds=self.patience), self.small, zone)


class Run(Protocol):
    """How programs are run."""

    def __call__(self, command: Sequence[str], environment: Mapping[str, str] = ..., /) -> str:
        """Run one, with further environment, and return what it prints."""


def run(command: Sequence[str], environment: Mapping[str, str] = MappingProxyType({}), /) -> str:
    """Run a program and return what it prints.

    Raises:
        KeeperError: it failed; with the beginning of its words.
    """
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
        env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    if done.returncode:
        # One line: it becomes an alarm, and restic may print pages.
        words = " ".join((done.stderr.strip() or done.stdout).split())[:_WORDS]
        raise KeeperError(f"{words or command[0]} (exit code {done.returncode})")
    return done.stdout


def opened(command: Sequence[str], environment: Mapping[str, str] = MappingProxyType({}), /) -> str:
    """Run restic on a repository that is not waited for where it cannot be opened.

    Raises:
        KeeperError: it failed; with the reason.
    """
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        done = watched(
            command, {**os.environ, **environment}, lambda _: None, nowhere, patient=False
        )  # fmt: skip
    if done.code:
        words = done.refused or " ".join(done.words.split())[:_WORDS]
        raise KeeperError(f"{words or command[0]} (exit code {done.code})")
    return ""


class Repositories:
    """The repositories of this host."""

    def __init__(
        self,
        config: Config,
        run: Run = run,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        opened: Run | None = None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            config: what the role wrote.
            run: how programs are run.
            now: what time it is.
            opened: how restic asks whether a further target opens; by default `run`.
        """
        self.config = config
        self.run = run
        self.opened = opened or run
        self.now = now

    def restic(self, host: str, *arguments: str, lock: bool = True) -> str:
        """Run restic on the repository of a host and return what it prints."""
        config = self.config
        return self.run(
            ["restic", "--no-cache", "--repo", str(config.folder / host), "--password-file",
             str(config.password), *self.hint(host),
             *(["--retry-lock=1h"] if lock else ["--no-lock"]), *arguments]
        )  # fmt: skip

    def hint(self, host: str, option: str = "--key-hint") -> list[str]:
        """An option that says which key of a repository is ours.

        restic would try them in any order, and each costs half a second of computing.
        """
        for path in (self.config.folder / host / "keys").glob("*"):
            # What is damaged restic itself tells of.
            with suppress(OSError, ValueError):
                if not str(json.loads(path.read_bytes())["username"]).startswith(LABEL):
                    return [f"{option}={path.name}"]
        return []

    def snapshots(self, host: str) -> list[Snapshot]:
        """All snapshots of a host, the first written first.

        Raises:
            KeeperError: the repository cannot be read.
        """
        found = []
        # Without a lock: on a full disk there is no room for one.
        for item in json.loads(self.restic(host, "snapshots", "--json", lock=False)) or []:
            file = self.config.folder / host / "snapshots" / item["id"]
            written = datetime.fromtimestamp(file.stat().st_mtime, UTC)
            found.append(self.snapshot(host, item, written))
        return sorted(found, key=lambda one: one.written)

    def snapshot(self, host: str, item: dict[str, Any], written: datetime) -> Snapshot:
        """A snapshot of a host, as an item of restic's JSON has it."""
        tags = item.get("tags") or []
        ours = len(tags) == 1 and tags[0].startswith(_TAG) and item["hostname"] == host
        part = tags[0].removeprefix(_TAG) if ours else ""
        summary = item.get("summary") or {}
        return Snapshot(
            id=item["id"],
            part=part if part in self.config.hosts[host] else "",
            taken=moment(item["time"]),
            written=written,
            size=summary.get("total_bytes_processed", 0),
            added=summary.get("data_added_packed", 0),
        )

    def trusted(self, found: Sequence[Snapshot]) -> list[Snapshot]:
        """Those of one part whose time is that of their writing, the first written first."""
        doubtful = doubts(found, self.config.policy)
        return [one for one in found if doubtful.get(one.id) != CLOCK]

    def is_sound(self, host: str) -> bool:
        """Whether its last check, if there was one, found it so."""
        check = self.noted("checks").get(host, {})
        return not check or bool(check["good"])

    def see_open(self, host: str) -> None:
        """Go on only where a repository may be written to.

        Raises:
            KeeperError: it was shut.
        """
        if growth.is_shut(self.config.folder / host):
            raise KeeperError(f"it is shut: site-backup-keeper open {host}")

    def noted(self, name: str) -> dict[str, Any]:
        """What earlier runs noted under a name."""
        return records.read(self.config.state / f"{name}.json")

    def note(self, name: str, values: dict[str, Any]) -> None:
        """Note it for later runs, in place of what was noted before."""
        records.write(self.config.state / f"{name}.json", values)


def batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Ids of snapshots, as many at a time as one command forgets."""
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]
