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
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from email.message import EmailMessage
from pathlib import Path

from roles.backup import growth, journal
from roles.backup.copying import copy
from roles.backup.drills import drill
from roles.backup.letters import NotTakenError
from roles.backup.locks import held
from roles.backup.repositories import CONFIG, Config, KeeperError, Repositories, batches, opened
from roles.backup.retention import forgettable
from roles.backup.status import sentence, status, table

_HINT = "Xem: make backup-status ENV=…; cách xử lý: docs/van-hanh.md."

log = logging.getLogger("site-backup-keeper")


class Keeper(Repositories):
    """Looks after the repositories; `status`, `copy` and `drill` have modules of their own."""

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

    # -- retention and verification ------------------------------------------------------------

    def prune(self, host: str) -> None:
        """Forget what the policy does not keep, and free its space."""
        self.see_open(host)
        if not self.is_sound(host):
            raise KeeperError("its last check failed; nothing is forgotten before it is mended")
        every = self.snapshots(host)
        gone = forgettable(every, self.config.policy, self.now())
        # Locks of runs that ended without removing them; never one of a run that goes on.
        self.restic(host, "unlock", "--quiet", lock=False)
        for batch in batches(gone):
            self.restic(host, "forget", "--quiet", *batch)
        self.restic(host, "prune", "--quiet")
        log.info("%s: %d snapshots forgotten, %d kept", host, len(gone), len(every) - len(gone))

    def check(self, host: str) -> None:
        """Check the structure of a repository, and read the next share of its data."""
        self.see_open(host)
        records = self.noted("checks")
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
            "at": self.now().isoformat(timespec="seconds"), "good": not words, "words": words,
            # What failed is read again.
            "share": last if words else share,
        }  # fmt: skip
        self.note("checks", records)
        if words:
            raise KeeperError(f"share {share} of {self.config.shares}: {words}")
        log.info("%s: share %d of %d is good", host, share, self.config.shares)

    # -- growth --------------------------------------------------------------------------------

    def guard(self) -> None:
        """Shut every repository to which too much was added since a day before.

        A host's first backup of everything is not counted.
        """
        config, now = self.config, self.now()
        limit = config.growth * shutil.disk_usage(config.folder).total
        records = self.noted("sizes")
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
        self.note("sizes", records)

    def _is_complete(self, host: str, parts: Sequence[str]) -> bool:
        try:
            return {one.part for one in self.snapshots(host)} >= {*parts}
        except (KeeperError, OSError, ValueError, KeyError):
            # Told by `status`.
            return False

    def open(self, host: str) -> None:
        """Take backups of a host again, whose repository was shut; it is measured from now on."""
        records = self.noted("sizes")
        records[host] = []
        self.note("sizes", records)
        growth.reopen(self.config.folder / host)

    # -- watching ------------------------------------------------------------------------------

    def watch(self, post: Callable[[EmailMessage], None]) -> int:
        """Log every alarm; write to the postmaster when others than the last time are there."""
        self.guard()
        self._watch_parts()
        alarms = status(self)["alarms"]
        for one in alarms:
            log.error("%s", sentence(one))
        states = sorted({f"{one['host']}/{one['part']}/{one['kind']}" for one in alarms})
        if states != self.noted("alarms").get("states", []):
            lines = [sentence(one) for one in alarms]
            post(self.config.letters.alarm("Sao lưu", lines, _HINT, self.now()))
            self.note("alarms", {"states": states})
        return 2 if alarms else 0

    def _watch_parts(self) -> None:
        """Note of each part since when it is watched."""
        now, before = self.now().isoformat(), self.noted("watched")
        self.note("watched", {
            host: {part: before.get(host, {}).get(part, now) for part in parts}
            for host, parts in self.config.hosts.items()
        })  # fmt: skip


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
        found = status(keeper)
        text = json.dumps(found, indent=1) if options.json else "\n".join(table(found))
        sys.stdout.write(f"{text}\n")
        return 2 if found["alarms"] else 0
    if options.job == "watch":
        return keeper.watch(keeper.config.letters.post)
    if options.job == "open":
        return 1 if keeper.each(options.hosts, keeper.open) else 0
    parts = dict(name.partition("/")[::2] for name in options.hosts)
    with keeper.held():
        work = {
            "prune": keeper.prune,
            "check": keeper.check,
            "copy": lambda host: copy(keeper, host, parts.get(host, "")),
            "drill": lambda host: drill(keeper, host, parts.get(host, "")),
        }[options.job]
        return 1 if keeper.each(list(parts), work) else 0


if __name__ == "__main__":
    sys.exit(main())
