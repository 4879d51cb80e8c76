"""Backups for tests that restore, and a keeper that looks after copies of repositories."""

import json
import math
import re
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime

import pytest

from deploy import moments
from roles.backup.deploy import clients, server
from roles.backup.keeping import CONFIG, STATE
from roles.common.site import Site, SiteHost
from tests.remote import shell, stopped
from tests.waiting import until

OWNER = "restic-rest-server"
"""Who keeps the repositories on the backup host."""


def backup_of(site: Site, host: SiteHost, part: str) -> str:
    """Back a part of a host up as it is now: another run, by the clock or a test, may come between.

    Returns:
        The time of it as an operator types it: the second in which all of it was read is over.
    """
    shell(site, host.address, f"site-backup run {part}")
    found = json.loads(shell(site, host.address, "site-restore snapshots"))
    settled = max(item["settled"] for item in found if item["part"] == part)
    zone = moments.zone(site)
    second = math.ceil(datetime.fromisoformat(settled).timestamp())
    moment = datetime.fromtimestamp(second, zone)
    until(lambda: datetime.now(zone) > moment, "the end of a second")
    return f"{moment:%Y-%m-%d %H:%M:%S}"


@contextmanager
def by_hand(site: Site) -> Iterator[None]:
    """Inside the block no clock begins a backup or forgets one; what it began before is over."""
    begun = [(host, "site-backup") for host in clients(site)]
    begun.append((server(site), "site-backup-prune"))
    with ExitStack() as stack:
        for host, unit in begun:
            stack.enter_context(stopped(site, host.address, f"{unit}.timer"))
        for host, unit in begun:
            state = f"systemctl show -P ActiveState {unit}.service"
            until(
                lambda at=host, asked=state: (  # type: ignore[misc]
                    shell(site, at.address, asked).strip() in ("inactive", "failed")
                ),
                f"the end of {unit} on {host.name}, which the clock began",
                300,
            )
        yield


@pytest.fixture(scope="module", autouse=True)
def no_clock(site: Site) -> Iterator[None]:
    """`by_hand` for each module that imports it: no backup comes between, none is forgotten."""
    with by_hand(site):
        yield


@dataclass(frozen=True)
class Keeper:
    """The backup host's keeper once more, with a folder and settings of its own."""

    site: Site
    folder: str
    """What it knows, and its configuration."""

    @property
    def config(self) -> str:
        """Path of its configuration."""
        return f"{self.folder}/keeper.toml"

    def shell(self, command: str) -> str:
        """Run a command on the backup host."""
        return shell(self.site, server(self.site).address, command)

    def __call__(self, job: str) -> tuple[int, str]:
        """Run a job of it; the exit code, and all that it says."""
        said = self.shell(
            f"site-backup-keeper --config {self.config} {job} 2>&1; printf '\\n%s' $?"
        )
        text, _, code = said.rstrip().rpartition("\n")
        return int(code), text

    def configure(self, host: SiteHost | None = None, **settings: str | float) -> None:
        """Write its configuration: the deployed one, but for some settings.

        Args:
            host: the only one whose repository it looks after; by default all.
            settings: lines of the configuration, by their names.
        """
        text = self.shell(f"cat {CONFIG}")
        for name, value in settings.items():
            text, found = re.subn(rf"(?m)^{name} = .*$", f"{name} = {json.dumps(value)}", text)
            assert found == 1, f"{CONFIG} has {found} lines {name}"
        if host:
            rest, heading, hosts = text.partition("[hosts]\n")
            own = next(line for line in hosts.splitlines() if line.startswith(f"{host.name} = "))
            text = f"{rest}{heading}{own}\n"
        writing = f"install -m 600 -o {OWNER} /dev/stdin {self.config}"
        shell(self.site, server(self.site).address, writing, stdin=text)


@contextmanager
def another_keeper(site: Site) -> Iterator[Keeper]:
    """A keeper with an empty folder, for the time of a test."""
    keeper = Keeper(site, f"{STATE}/test-{secrets.token_hex(4)}")
    keeper.shell(f"install -d -m 700 -o {OWNER} -g {OWNER} {keeper.folder}")
    try:
        yield keeper
    finally:
        keeper.shell(f"rm -rf {keeper.folder}")
