"""Backups against what they cannot do without: `rsync` and `cp` of the same files.

- An incremental backup of 100,000 letters of which one in a hundred is new, by `site-backup`, and
  `rsync` of the same folder to another one on the same disk. Twice each, in turn, with as many new
  letters each time. rsync neither encrypts, nor compresses, nor crosses the network, keeps one
  state, and has a mailbox as at several moments.
- A mailbox of 1 GiB that is lost and comes back by `deploy.restore`, and `cp -a` of it.

It needs a deployed lab that is thrown away afterwards: the letters lie in mailboxes of people of
the lab's own.
"""

import argparse
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from deploy import restore_mail
from roles.common.site import Site
from tests import clients, remote
from tests.bench.timing import timed
from tests.lab import info

PEOPLE, EACH, NEW = 20, 5_000, 50
"""So many mailboxes with so many letters, and so many new ones in each: 100,000 and 1 %."""
ROUNDS = 2
LARGE, SIZE = 2_048, 512 << 10
"""Letters of the mailbox that is lost, and the bytes of each: 1 GiB."""
SMALL = 3 << 10
_FOLDER = "/var/vmail/bench"
"""On the disk of mail: what is imported, and copies."""
_MAILDIR = """
import base64, os, sys
folder, first, count, size = sys.argv[1], *map(int, sys.argv[2:])
for part in ("cur", "new", "tmp"):
    os.makedirs(f"{folder}/{part}", exist_ok=True)
for number in range(first, first + count):
    head = (
        f"From: dan@vidu.example\\nTo: vanthu@vidu.example\\nSubject: Cong van so {number}\\n"
        f"Message-ID: <{number}.{os.urandom(8).hex()}@vidu.example>\\n"
        "Date: Mon, 5 Jan 2026 08:30:00 +0700\\nContent-Transfer-Encoding: base64\\n\\n"
    ).encode()
    body = base64.encodebytes(os.urandom((size - len(head)) * 3 // 4))
    with open(f"{folder}/cur/1767576600.M{number}.bench:2,S", "wb") as letter:
        letter.write(head + body)
"""
"""Writes a Maildir: folder, first number, how many letters, bytes of each."""
_IMPORT = (
    # A letter more in the log, in the index of words and in the quota is not what is measured.
    "doveadm -o fts_autoindex=no -o mail_plugins/mail_log=no -o mail_plugins/notify=no"
    " import -u {address} maildir:{source} '' all"
)
_STEPS = {"take": "staging", "snapshot": "restic", "release": "release of the stage"}


@dataclass(frozen=True)
class Taken:
    """What it took, in seconds."""

    backup: float
    rsync: float
    steps: dict[str, float]
    """What of a backup is for what, by its own words."""
    restore: float
    copy: float
    fetched: float
    """What of the restore is to fetch the mailbox and read it back, before a letter is put."""


def measure(site: Site) -> Taken:
    """Back up and restore, beside what copies."""
    people = [entry for entry in info.accounts(site) if entry["kind"] == "person"]
    people = people[: PEOPLE + 1]
    addresses = [entry["address"] for entry in people]
    _prepare(site)
    try:
        backup, rsync, steps = _incremental(site, addresses[:PEOPLE])
        fetched, restore, copy = _mailbox(site, addresses[PEOPLE])
    finally:
        _store(site, f"rm -rf {_FOLDER}; systemctl start site-backup.timer")
    return Taken(backup, rsync, steps, restore, copy, fetched)


def _store(site: Site, command: str, stdin: str = "") -> str:
    return remote.shell(site, clients.address_of(site, "store"), command, stdin=stdin)


def _prepare(site: Site) -> None:
    _store(
        site,
        # Nothing else is backed up meanwhile.
        "systemctl stop site-backup.timer site-backup.service"
        " && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install rsync"
        f" && install -d -o vmail -g vmail -m 700 {_FOLDER}",
    )


def _maildir(site: Site, name: str, first: int, count: int, size: int) -> str:
    """Make letters; where they are."""
    folder = f"{_FOLDER}/{name}"
    command = f"runuser -u vmail -- python3 - {folder} {first} {count} {size}"
    _store(site, command, stdin=_MAILDIR)
    return folder


def _filed(site: Site, addresses: Iterable[str], source: str) -> None:
    """Import letters into mailboxes, two at a time."""
    _store(
        site, f"xargs -P 2 -I A {_IMPORT.format(address='A', source=source)}",
        stdin="\n".join(addresses),
    )  # fmt: skip


# -- incremental -----------------------------------------------------------------------------------


def _incremental(site: Site, addresses: list[str]) -> tuple[float, float, dict[str, float]]:
    _filed(site, addresses, _maildir(site, "old", 0, EACH, SMALL))
    _backed_up(site)
    _rsynced(site)
    backups, rsyncs, steps = 0.0, 0.0, dict.fromkeys(_STEPS.values(), 0.0)
    for number in range(ROUNDS):
        _filed(site, addresses, _maildir(site, f"new{number}", EACH + number * NEW, NEW, SMALL))
        # In turn: who comes second finds in memory what the first has read.
        for job in ("rsync", "backup")[:: 1 if number % 2 else -1]:
            if job == "rsync":
                rsyncs += timed(lambda: _rsynced(site))[0]
                continue
            seconds, parts = timed(lambda: _backed_up(site))
            backups += seconds
            steps = {name: steps[name] + parts[name] for name in steps}
    return (
        backups / ROUNDS, rsyncs / ROUNDS, {name: value / ROUNDS for name, value in steps.items()},
    )  # fmt: skip


def _rsynced(site: Site) -> None:
    _store(site, f"rsync -a --delete /var/vmail/people {_FOLDER}/copy/")


def _backed_up(site: Site) -> dict[str, float]:
    """Back mail up; the seconds of each step, by when it was said to be over."""
    said = _store(
        site,
        "date +%s.%N; set -o pipefail; site-backup run mail 2>&1"
        ' | while IFS= read -r line; do echo "$(date +%s.%N) $line"; done',
    )
    begin, *lines = said.splitlines()
    last, steps = float(begin), {}
    for line in lines:
        moment, _, words = line.partition(" ")
        for word, name in _STEPS.items():
            if re.search(rf"mail: {word}\b", words):
                steps[name] = float(moment) - last
                last = float(moment)
    assert {*steps} == {*_STEPS.values()}, said
    return steps


# -- one mailbox -----------------------------------------------------------------------------------


def _mailbox(site: Site, address: str) -> tuple[float, float, float]:
    """Seconds to fetch a mailbox, to restore it (with that), and to copy it."""
    _filed(site, [address], _maildir(site, "large", 0, LARGE, SIZE))
    home = _store(site, f"doveadm -f flow user -f home {address}").strip()
    _store(site, f"rm -rf {_FOLDER}/large")
    _backed_up(site)
    copy, _ = timed(lambda: _store(site, f"cp -a {home} {_FOLDER}/mailbox && sync -f {_FOLDER}"))
    before = _letters(site, address)
    _store(site, f"doveadm kick {address}; rm -rf {home} {_FOLDER}/mailbox")
    parser = argparse.ArgumentParser()
    restore_mail.add_jobs(parser.add_subparsers(dest="job"))
    options = parser.parse_args(["mailbox", address, "--at", "now"])
    options.action = "plan"
    fetched, _ = timed(lambda: restore_mail.run(site, options))
    options.action = "apply"
    restore, _ = timed(
        lambda: (restore_mail.run(site, options), _store(site, "sync -f /var/vmail"))
    )
    assert _letters(site, address) == before
    return fetched, restore, copy


def _letters(site: Site, address: str) -> int:
    said = _store(site, f"doveadm -f json mailbox status -u {address} messages INBOX")
    found = int(json.loads(said)[0]["messages"])
    assert found >= LARGE
    return found
