"""Backups: how they stand, and one now.

    python -m deploy.backup --env production status [--json]
    python -m deploy.backup --env production now [--limit store1]

`status` asks the backup host for every host and part, and every host whether its last run failed;
a backup host that is away is an alarm, too. Exit codes: 0 done, and no alarm; 1 a host could not be
asked or failed, with the reason; 2 `status` found an alarm, or the command line is wrong.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from deploy.hosts import everywhere
from roles.backup.deploy import clients, server
from roles.backup.status import table
from roles.common.errors import SiteError
from roles.common.site import Site, SiteHost, load

_ALARMS = 2
_STATUS = f"site-backup-keeper status --json || test $? = {_ALARMS}"
_FAILED = "systemctl is-failed site-backup.service || true"


def status(site: Site) -> dict[str, Any]:
    """How the backups stand, with an alarm for whatever could not be asked."""
    keeper, holders = server(site), clients(site)
    said, away = everywhere(site, [keeper], _STATUS)
    found: dict[str, Any] = (
        json.loads(said[keeper.name])
        if said
        else {"at": None, "free": None, "total": None, "rows": [], "copies": [], "alarms": []}
    )
    found["alarms"] += [_alarm(keeper.name, "away", fault) for fault in away]
    states, faults = everywhere(site, holders, _FAILED)
    found["alarms"] += [
        _alarm(name, "failed", "its last run failed: journalctl -u site-backup")
        for name, state in states.items()
        if state.strip() == "failed"
    ]
    silent = [host.name for host in holders if host.name not in states]
    found["alarms"] += [
        _alarm(name, "away", fault) for name, fault in zip(silent, faults, strict=True)
    ]
    return found


def _alarm(host: str, kind: str, words: str) -> dict[str, str]:
    return {"host": host, "part": "", "kind": kind, "words": words}


def now(site: Site, limit: Sequence[str]) -> int:
    """Back hosts up now, all at a time; the exit code.

    Raises:
        SiteError: a host holds nothing.
    """
    every = {host.name: host for host in clients(site)}
    if unknown := [name for name in limit if name not in every]:
        raise SiteError(
            f"--limit {unknown[0]}: holds nothing that is backed up; expected one of "
            f"{', '.join(every)}"
        )
    hosts: list[SiteHost] = [every[name] for name in limit or every]
    # By the unit: with its limits, and what it says is in the journal.
    said, faults = everywhere(site, hosts, "systemctl start site-backup.service")
    for name in said:
        sys.stdout.write(f"{name}: backed up\n")
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m deploy.backup", description=__doc__)
    parser.add_argument("--env", required=True, help="a folder in inventories/")
    jobs = parser.add_subparsers(dest="job", required=True)
    shown = jobs.add_parser("status", help="how they stand")
    shown.add_argument("--json", action="store_true", help="for programs")
    made = jobs.add_parser("now", help="one now")
    made.add_argument("--limit", action="append", default=[], help="a host")
    options = parser.parse_args(arguments)
    try:
        site = load(options.env)
        if options.job == "now":
            return now(site, options.limit)
        found = status(site)
    except SiteError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    text = json.dumps(found, indent=1) if options.json else "\n".join(table(found))
    sys.stdout.write(f"{text}\n")
    return _ALARMS if found["alarms"] else 0


if __name__ == "__main__":
    sys.exit(main())
