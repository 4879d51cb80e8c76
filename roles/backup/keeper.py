"""`site-backup-keeper`: the backup host looks after the repositories, with the maintenance key.

    site-backup-keeper status [--json]        each host and part, alarms; exit code 2 with alarms
    site-backup-keeper open HOST…             take backups again of a host that was shut out
    site-backup-keeper watch                  a letter to the postmaster once alarms change
    site-backup-keeper prune [HOST…]          forget what the policy does not keep, free its space
    site-backup-keeper check [HOST…]          read a share of the data back, each time another one
    site-backup-keeper copy [HOST[/TARGET]…]  the last backup of each part to further targets
    site-backup-keeper drill [HOST[/PART]…]   restore into a scratch folder, and compare

It runs as the owner of the repositories. Of `prune`, `check`, `copy` and `drill` one runs at a
time; another one waits. A host that fails fails the run, and no other host. Exit codes: 0 done; 1 a
host failed, with its reason; 2 `status` and `watch` found an alarm.

Nothing is forgotten in a repository whose last check failed.
"""

import argparse
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, Self
from zoneinfo import ZoneInfo

from roles.backup import growth, journal, records
from roles.backup.letters import CONFIG as LETTERS
from roles.backup.letters import Letters, NotTakenError
from roles.backup.locks import held
from roles.backup.moments import moment
from roles.backup.refusals import watched
from roles.backup.retention import CLOCK, SMALL, Policy, Snapshot, doubts, retained
from roles.backup.stages import MANIFEST, digest
from roles.backup.targets import Target, TargetError
from roles.backup.targets import read as read_targets

CONFIG = Path("/etc/site-backup/keeper.toml")
TARGETS = Path("/etc/site-backup/targets.json")
_TAG = "part="
_BATCH = 200
"""Snapshots that are forgotten by one command."""
_HINT = "Xem: make backup-status ENV=…; cách xử lý: docs/van-hanh.md."
_WORDS = 500
"""Letters of a program's words that are told."""

log = logging.getLogger("site-backup-keeper")


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


class Keeper:
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
        self._run = run
        self._opened = opened or run
        self._now = now

    # -- what there is -------------------------------------------------------------------------

    def restic(self, host: str, *arguments: str, lock: bool = True) -> str:
        """Run restic on the repository of a host and return what it prints."""
        config = self.config
        return self._run(
            ["restic", "--no-cache", "--repo", str(config.folder / host), "--password-file",
             str(config.password), *(["--retry-lock=1h"] if lock else ["--no-lock"]), *arguments]
        )  # fmt: skip

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
            found.append(self._snapshot(host, item, written))
        return sorted(found, key=lambda one: one.written)

    def _snapshot(self, host: str, item: dict[str, Any], written: datetime) -> Snapshot:
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

    def _records(self, name: str) -> dict[str, Any]:
        return records.read(self.config.state / f"{name}.json")

    def _record(self, name: str, values: dict[str, Any]) -> None:
        records.write(self.config.state / f"{name}.json", values)

    def held(self) -> AbstractContextManager[None]:
        """Hold the lock of whatever takes long."""
        return held(self.config.state / "lock", "another run")

    def each(self, hosts: Sequence[str], work: Callable[[str], None]) -> int:
        """Do something for hosts, one after the other; how many failed.

        Raises:
            KeeperError: there is no such host.
        """
        if unknown := [host for host in hosts if host not in self.config.hosts]:
            raise KeeperError(
                f"{', '.join(unknown)}: no repository; expected some of "
                f"{', '.join(self.config.hosts)}"
            )
        failed = 0
        for host in hosts or self.config.hosts:
            try:
                work(host)
            except (KeeperError, OSError, ValueError) as error:
                log.error("%s: failed: %s", host, error)
                failed += 1
        return failed

    # -- status --------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What there is of each host and part, and every alarm."""
        now = self._now()
        drills, checks = self._records("drills"), self._records("checks")
        copies, watched = self._records("copies"), self._records("watched")
        rows: list[dict[str, Any]] = []
        copied: list[dict[str, Any]] = []
        alarms: list[dict[str, str]] = []

        def alarm(kind: str, words: str, host: str = "", part: str = "") -> None:
            alarms.append({"host": host, "part": part, "kind": kind, "words": words})

        for host, parts in self.config.hosts.items():
            try:
                every = self.snapshots(host)
            except (KeeperError, OSError, ValueError, KeyError) as error:
                alarm("unreadable", f"its repository cannot be read: {error}", host)
                continue
            if growth.is_shut(self.config.folder / host):
                alarm("shut", f"it grew too fast: site-backup-keeper open {host}", host)
            check = checks.get(host, {})
            if check and not check["good"]:
                alarm("damaged", f"the check of {check['at']} failed: {check['words']}", host)
            if strange := [one.id[:8] for one in every if not one.part]:
                alarm("strange", f"snapshots of no part: {', '.join(strange[:5])}", host)
            for part in parts:
                found = [one for one in every if one.part == part]
                drill = drills.get(host, {}).get(part, {})
                row = _row(host, part, found, drill, now)
                rows.append(row)
                since = moment(watched.get(host, {}).get(part) or now.isoformat())
                for kind, words in self._faults(found, drill, since, now):
                    alarm(kind, words, host, part)
            for name, target in self.config.targets.items():
                record = copies.get(name, {}).get(host, {})
                copied.append(_copy_row(name, host, record, now))
                for kind, words in _copy_faults(target, record, every, now):
                    alarm(kind, words, host, name)
        disk = shutil.disk_usage(self.config.folder)
        if disk.free < self.config.free * disk.total:
            alarm("disk", f"{disk.free >> 20} MiB of {disk.total >> 20} MiB are free")
        return {
            "at": now.isoformat(timespec="seconds"),
            "free": disk.free, "total": disk.total, "rows": rows, "copies": copied,
            "alarms": alarms,
        }  # fmt: skip

    def _faults(
        self, found: Sequence[Snapshot], drill: dict[str, Any], watched: datetime, now: datetime
    ) -> Iterator[tuple[str, str]]:
        config = self.config
        if not found:
            # A part that is new has as long for its first backup as it has for each other one.
            if now - watched > timedelta(seconds=config.stale):
                yield "missing", "there is no backup"
            return
        doubtful = doubts(found, config.policy)
        trusted = self._trusted(found)
        if not trusted or now - trusted[-1].written > timedelta(seconds=config.stale):
            last = trusted[-1].written.isoformat(timespec="seconds") if trusted else "none"
            yield "stale", f"the last backup was written {last}"
        if any(doubtful.get(one.id) == SMALL for one in trusted[-1:]):
            yield "small", f"the last backup holds {trusted[-1].size} bytes, far less than before"
        if wrong := [one.id[:8] for one in found if doubtful.get(one.id) == CLOCK]:
            yield "clock", f"snapshots bear a time that is not theirs: {', '.join(wrong[:5])}"
        if drill and not drill["good"]:
            yield "drill", f"the drill of {drill['at']} failed: {drill['words']}"
        since = moment(drill["verified"]) if drill.get("verified") else found[0].written
        if now - since > timedelta(seconds=config.drilled):
            yield "unverified", f"nothing was restored since {since.isoformat(timespec='seconds')}"

    # -- retention -----------------------------------------------------------------------------

    def prune(self, host: str) -> None:
        """Forget what the policy does not keep, and free its space."""
        self._see_open(host)
        if not self._is_sound(host):
            raise KeeperError("its last check failed; nothing is forgotten before it is mended")
        every = self.snapshots(host)
        gone = _forgettable(every, self.config.policy, self._now())
        # Locks of runs that ended without removing them; never one of a run that goes on.
        self.restic(host, "unlock", "--quiet", lock=False)
        for batch in _batches(gone):
            self.restic(host, "forget", "--quiet", *batch)
        self.restic(host, "prune", "--quiet")
        log.info("%s: %d snapshots forgotten, %d kept", host, len(gone), len(every) - len(gone))

    def _is_sound(self, host: str) -> bool:
        check = self._records("checks").get(host, {})
        return not check or bool(check["good"])

    # -- further targets -----------------------------------------------------------------------

    def copy(self, host: str, only: str = "") -> None:
        """Copy the last backup of each part of a host to further targets, and forget there.

        Args:
            host: the host.
            only: the one target; by default every one.

        Raises:
            KeeperError: there is no such target; or one did not take it, or could not be read.
        """
        targets = self.config.targets
        if only and only not in targets:
            expected = ", ".join(targets) or "none is set"
            raise KeeperError(f"{only}: no further target; expected one of {expected}")
        if not targets:
            return
        self._see_open(host)
        every = self.snapshots(host)
        if not any(one.part for one in every):
            # That there should be one by now is another alarm.
            log.info("%s: there is no backup yet", host)
            return
        failed = []
        for name, target in targets.items():
            if only not in ("", name):
                continue
            begin, words = self._now().isoformat(timespec="seconds"), ""
            try:
                self._copied(host, target, every)
                log.info("%s: copied to %s", host, name)
            except (KeeperError, TargetError, OSError, ValueError) as error:
                words = str(error)
                failed.append(f"{name}: {error}")
            records = self._records("copies")
            before = records.setdefault(name, {}).get(host, {})
            records[name][host] = {
                "at": begin, "good": not words, "words": words,
                "copied": before.get("copied", "") if words else begin,
            }  # fmt: skip
            self._record("copies", records)
        if failed:
            raise KeeperError("; ".join(failed))

    def _copied(self, host: str, target: Target, every: Sequence[Snapshot]) -> None:
        config = self.config
        source = [
            "--from-repo", str(config.folder / host), "--from-password-file", str(config.password),
        ]  # fmt: skip
        wanted = [
            trusted[-1].id
            for part in config.hosts[host]
            if (trusted := self._trusted([one for one in every if one.part == part]))
        ]
        if not wanted:
            raise KeeperError("there is no backup that could be copied")
        limit = [f"--limit-upload={target.upload_limit}"] if target.upload_limit else []
        with target.reached(host) as (options, environment):

            def there(*arguments: str, cached: bool = False) -> str:
                cache = ["--cache-dir", str(config.state / "cache")] if cached else ["--no-cache"]
                return self._run(["restic", *options, *limit, *cache, *arguments], environment)

            try:
                asked = ["restic", *options, "--no-cache", "--no-lock", "cat", "config"]
                self._opened(asked, environment)
            except KeeperError as first:
                try:
                    # Cut into the same pieces, so that what is there is known again.
                    there("init", "--copy-chunker-params", *source)
                except KeeperError:
                    raise first from None
            # Locks of runs that ended without removing them; never one of a run that goes on.
            there("unlock", "--quiet")
            there("copy", "--quiet", "--retry-lock=1h", *source, *wanted)
            if target.prune and self._is_sound(host):
                items = json.loads(there("snapshots", "--json", "--no-lock")) or []
                # Their times were judged before they were copied.
                found = [self._snapshot(host, item, moment(item["time"])) for item in items]
                gone = _forgettable(found, config.policy_of(target.keep), self._now())
                for batch in _batches(gone):
                    there("forget", "--quiet", "--retry-lock=1h", *batch)
                if gone:
                    there("prune", "--quiet", "--retry-lock=1h", cached=True)

    def _trusted(self, found: Sequence[Snapshot]) -> list[Snapshot]:
        """Those of one part whose time is that of their writing, the first written first."""
        doubtful = doubts(found, self.config.policy)
        return [one for one in found if doubtful.get(one.id) != CLOCK]

    # -- verification --------------------------------------------------------------------------

    def check(self, host: str) -> None:
        """Check the structure of a repository, and read the next share of its data."""
        self._see_open(host)
        records = self._records("checks")
        last = records.get(host, {}).get("share", 0)
        share = last % self.config.shares + 1
        words = ""
        try:
            # A run that ended without removing its lock would keep this waiting, and fail it.
            self.restic(host, "unlock", "--quiet", lock=False)
            self.restic(host, "check", f"--read-data-subset={share}/{self.config.shares}")
        except KeeperError as error:
            words = str(error)
        records[host] = {
            "at": self._now().isoformat(timespec="seconds"), "good": not words, "words": words,
            # What failed is read again.
            "share": last if words else share,
        }  # fmt: skip
        self._record("checks", records)
        if words:
            raise KeeperError(f"share {share} of {self.config.shares}: {words}")
        log.info("%s: share %d of %d is good", host, share, self.config.shares)

    def drill(self, host: str, only: str = "") -> None:
        """Restore the last snapshot of each part of a host, compare, and forget the copy.

        Raises:
            KeeperError: a part is not what it was, or could not be restored.
        """
        every = self.snapshots(host)
        failed = []
        for part in self.config.hosts[host]:
            found = [one for one in every if one.part == part]
            if only not in ("", part) or not found:
                continue
            snapshot = (self._trusted(found) or found)[-1]
            begin = self._now()
            try:
                files, size = self._restored(host, snapshot)
                words = ""
                log.info("%s: %s: %d files, %d bytes are as they were", host, part, files, size)
            except (KeeperError, OSError, ValueError) as error:
                words = str(error)
                files = size = 0
                failed.append(f"{part}: {error}")
            records = self._records("drills")
            before = records.setdefault(host, {}).get(part, {})
            records[host][part] = {
                "at": begin.isoformat(timespec="seconds"), "good": not words, "words": words,
                "snapshot": snapshot.id, "files": files, "bytes": size,
                "seconds": round((self._now() - begin).total_seconds(), 1),
                "verified": before.get("verified", "")
                if words else begin.isoformat(timespec="seconds"),
            }  # fmt: skip
            self._record("drills", records)
        if failed:
            raise KeeperError("; ".join(failed))

    def _restored(self, host: str, snapshot: Snapshot) -> tuple[int, int]:
        """Restore a snapshot and compare it; how many files and bytes it has."""
        scratch = self.config.state / "drill"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        free = shutil.disk_usage(scratch).free
        if free < snapshot.size * 1.1:
            raise KeeperError(
                f"{scratch}: {free >> 20} MiB are free; expected {snapshot.size * 11 // 10 >> 20}"
            )
        try:
            self.restic(
                host, "restore", snapshot.id, "--quiet", "--target", str(scratch), lock=False
            )
            found = list(scratch.rglob(MANIFEST))
            if not found:
                raise KeeperError(f"snapshot {snapshot.id[:8]} has no {MANIFEST}")
            # Mailboxes may hold a file of that name; the stage's is the highest.
            manifest = min(found, key=lambda path: len(path.parts))
            count = compared(manifest, scratch)
            if extra := EXTRAS.get(snapshot.part):
                extra(self._run, manifest.parent, scratch)
            return count
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    # -- growth --------------------------------------------------------------------------------

    def guard(self) -> None:
        """Shut every repository to which too much was added since a day before.

        A host's first backup of everything is not counted.
        """
        config, now = self.config, self._now()
        limit = config.growth * shutil.disk_usage(config.folder).total
        records = self._records("sizes")
        for host, parts in config.hosts.items():
            folder = config.folder / host
            if not config.growth or not folder.is_dir() or growth.is_shut(folder):
                continue
            if host not in records and not self._is_complete(host, parts):
                continue
            try:
                size = growth.measured(folder)
                records[host], added = growth.followed(records.get(host, []), size, now)
                if added > limit:
                    log.error("%s: %d bytes were added within a day: it is shut", host, added)
                    growth.shut(folder)
            except OSError as error:
                # The other hosts are watched nevertheless.
                log.error("%s: %s", host, error)
        self._record("sizes", records)

    def _is_complete(self, host: str, parts: Sequence[str]) -> bool:
        try:
            return {one.part for one in self.snapshots(host)} >= {*parts}
        except (KeeperError, OSError, ValueError, KeyError):
            # Told by `status`.
            return False

    def open(self, host: str) -> None:
        """Take backups of a host again, whose repository was shut; it is measured from now on."""
        records = self._records("sizes")
        records[host] = []
        self._record("sizes", records)
        growth.reopen(self.config.folder / host)

    def _see_open(self, host: str) -> None:
        if growth.is_shut(self.config.folder / host):
            raise KeeperError(f"it is shut: site-backup-keeper open {host}")

    # -- watching ------------------------------------------------------------------------------

    def watch(self, post: Callable[[EmailMessage], None]) -> int:
        """Log every alarm; write to the postmaster when others than the last time are there."""
        self.guard()
        self._watch_parts()
        alarms = self.status()["alarms"]
        for one in alarms:
            log.error("%s", sentence(one))
        states = sorted({f"{one['host']}/{one['part']}/{one['kind']}" for one in alarms})
        if states != self._records("alarms").get("states", []):
            lines = [sentence(one) for one in alarms]
            post(self.config.letters.alarm("Sao lưu", lines, _HINT, self._now()))
            self._record("alarms", {"states": states})
        return 2 if alarms else 0

    def _watch_parts(self) -> None:
        """Note of each part since when it is watched."""
        now, before = self._now().isoformat(), self._records("watched")
        self._record("watched", {
            host: {part: before.get(host, {}).get(part, now) for part in parts}
            for host, parts in self.config.hosts.items()
        })  # fmt: skip


def _forgettable(every: Sequence[Snapshot], policy: Policy, now: datetime) -> list[str]:
    """The ids of snapshots that a policy does not keep; what is of no part is kept."""
    kept = {one.id for one in every if not one.part}
    for part in {one.part for one in every if one.part}:
        kept |= retained([one for one in every if one.part == part], policy, now)
    return [one.id for one in every if one.id not in kept]


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


def _copy_row(name: str, host: str, record: dict[str, Any], now: datetime) -> dict[str, Any]:
    """What `status` says of a host's copy at a further target."""
    at = record.get("copied") or None
    age = int((now - moment(at)).total_seconds()) if at else None
    return {"target": name, "host": host, "copied": at, "age": age}


def _copy_faults(
    target: Target, record: dict[str, Any], every: Sequence[Snapshot], now: datetime
) -> Iterator[tuple[str, str]]:
    if record and not record["good"]:
        yield "copy", f"the copy of {record['at']} failed: {record['words']}"
    # Of what was never copied, since there was something to copy.
    since = moment(record["copied"]) if record.get("copied") else every[0].written if every else now
    if now - since > timedelta(seconds=target.stale):
        yield "uncopied", f"nothing was copied since {since.isoformat(timespec='seconds')}"


def sentence(alarm: dict[str, str]) -> str:
    """An alarm as a line."""
    place = "/".join(name for name in (alarm["host"], alarm["part"]) if name)
    return f"{place or 'the backup host'}: {alarm['kind']}: {alarm['words']}"


def _row(
    host: str, part: str, found: Sequence[Snapshot], drill: dict[str, Any], now: datetime
) -> dict[str, Any]:
    """What `status` says of a part."""
    last = found[-1] if found else None
    day = [one for one in found if now - one.written <= timedelta(days=1)]
    before = [one for one in found if now - one.written > timedelta(days=1)]
    return {
        "host": host,
        "part": part,
        "snapshots": len(found),
        "written": last.written.isoformat(timespec="seconds") if last else None,
        "age": int((now - last.written).total_seconds()) if last else None,
        "size": last.size if last else None,
        "growth": last.size - before[-1].size if last and before else None,
        "added": sum(one.added for one in day),
        "verified": drill.get("verified") or None,
    }


def compared(manifest: Path, root: Path) -> tuple[int, int]:
    """Compare restored files with their MANIFEST; how many, and their bytes.

    Args:
        manifest: it stands at the top of the stage.
        root: the folder that stands for `/`: paths of a MANIFEST may be whole ones.

    Raises:
        KeeperError: a file is missing, is another one, or is not in the MANIFEST; with its path.
    """
    listed: dict[Path, tuple[str, int]] = {}
    for number, line in enumerate(
        manifest.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), 1
    ):
        matched = re.fullmatch(r"([0-9a-f]{64}) (\d+) (.+)", line)
        if not matched:
            raise KeeperError(f"MANIFEST:{number}: {line[:80]!r}; expected SHA256 SIZE PATH")
        path = matched[3]
        base = root / path[1:] if path.startswith("/") else manifest.parent / path
        listed[base] = (matched[1], int(matched[2]))
    there = {path for path in root.rglob("*") if path.is_file() and not path.is_symlink()}
    if more := there - listed.keys() - {manifest}:
        raise KeeperError(f"{min(more).relative_to(root)}: is not in the MANIFEST")
    for path, expected in listed.items():
        place = path.relative_to(root)
        if path not in there:
            raise KeeperError(f"{place}: is missing")
        if (digest(path), path.stat().st_size) != expected:
            raise KeeperError(f"{place}: is not what was backed up")
    return len(listed), sum(size for _, size in listed.values())


def _directory(run: Run, stage: Path, scratch: Path) -> None:
    """Load the directory's LDIF as a new server would: configuration first, then data."""
    databases, config = scratch / "ldap", scratch / "slapd.d"
    config.mkdir()
    text = (stage / "config.ldif").read_text(encoding="utf-8")
    # Its databases in the scratch folder, each in one of its own.
    moved, names = [], []
    for line in text.splitlines():
        if line.startswith("olcDbDirectory: "):
            folder = databases / line.rpartition("/")[2]
            folder.mkdir(parents=True)
            moved.append(f"olcDbDirectory: {folder}")
        else:
            moved.append(line)
        if line.startswith("olcSuffix: "):
            names.append(line.removeprefix("olcSuffix: "))
    (scratch / "config.ldif").write_text("\n".join(moved) + "\n", encoding="utf-8")
    slapadd = ["/usr/sbin/slapadd", "-F", str(config)]
    run([*slapadd, "-n0", "-l", str(scratch / "config.ldif")])
    for suffix in names:
        name = "accesslog" if suffix == "cn=accesslog" else "data"
        run([*slapadd, "-q", "-b", suffix, "-l", str(stage / f"{name}.ldif")])


def _database(run: Run, stage: Path, _scratch: Path) -> None:
    """Read every table of every dump, as a new server would."""
    dumps = sorted(stage.glob("*.dump"))
    if not dumps:
        raise KeeperError("there is no dump")
    for dump in dumps:
        run(["pg_restore", "--file=/dev/null", str(dump)])


EXTRAS: dict[str, Callable[[Run, Path, Path], None]] = {
    "directory": _directory,
    "database": _database,
}
"""What is done with a part besides comparing files."""


def table(status: dict[str, Any]) -> list[str]:
    """The status as lines for people."""
    head = ("host", "part", "last success", "age", "size", "growth", "added/24h", "verified")
    lines = [head]
    for row in status["rows"]:
        lines.append((
            row["host"], row["part"], row["written"] or "never", _age(row["age"]),
            _size(row["size"]), _size(row["growth"]), _size(row["added"]),
            row["verified"] or "never",
        ))  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shown = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]
    for copy in status["copies"]:
        shown.append(
            f"copy at {copy['target']}: {copy['host']}: last {copy['copied'] or 'never'}, "
            f"age {_age(copy['age'])}"
        )
    if status["free"] is not None:
        shown.append(f"free: {_size(status['free'])} of {_size(status['total'])}")
    return [*shown, *(f"ALARM {sentence(one)}" for one in status["alarms"])]


def _age(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds // 86400}d {seconds // 3600 % 24}h {seconds // 60 % 60}min"


def _size(value: int | None) -> str:
    if value is None:
        return "-"
    number = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:  # noqa: PLR2004
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="site-backup-keeper", description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG, help="by default %(default)s")
    jobs = parser.add_subparsers(dest="job", required=True)
    jobs.add_parser("status", help="what there is").add_argument("--json", action="store_true")
    jobs.add_parser("watch", help="alarms to the postmaster")
    jobs.add_parser("open").add_argument("hosts", nargs="+", metavar="HOST")
    for name in ("prune", "check", "copy", "drill"):
        job = jobs.add_parser(name)
        job.add_argument("hosts", nargs="*", metavar="HOST", help="all by default")
    options = parser.parse_args(arguments)
    journal.begin()
    os.umask(0o077)
    try:
        return _done(Keeper(Config.read(options.config), opened=opened), options)
    except (KeeperError, NotTakenError, OSError) as error:
        log.error("%s", error)
        return 1


def _done(keeper: Keeper, options: argparse.Namespace) -> int:
    if options.job == "status":
        status = keeper.status()
        text = json.dumps(status, indent=1) if options.json else "\n".join(table(status))
        sys.stdout.write(f"{text}\n")
        return 2 if status["alarms"] else 0
    if options.job == "watch":
        return keeper.watch(keeper.config.letters.post)
    if options.job == "open":
        return 1 if keeper.each(options.hosts, keeper.open) else 0
    parts = dict(name.partition("/")[::2] for name in options.hosts)
    with keeper.held():
        work = {
            "prune": keeper.prune,
            "check": keeper.check,
            "copy": lambda host: keeper.copy(host, parts.get(host, "")),
            "drill": lambda host: keeper.drill(host, parts.get(host, "")),
        }[options.job]
        return 1 if keeper.each(list(parts), work) else 0


if __name__ == "__main__":
    sys.exit(main())
