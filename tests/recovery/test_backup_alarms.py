"""Backups that are not taken: the backup host is away, or has shut a host out. Who hears of it?

A host's own unit runs, as by the clock; its clock stands still meanwhile.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from deploy import backup
from roles.accounts.settings import AccountsSettings
from roles.backup.deploy import MAINTENANCE, parts, server
from roles.backup.settings import BackupSettings
from roles.common.site import Site, SiteHost
from tests import clients, remote
from tests.backups import OWNER, Keeper, another_keeper, no_clock
from tests.clients import Account
from tests.recovery.test_backup import asked, shell, snapshots, stored
from tests.waiting import until

__all__ = ["no_clock"]
"""A fixture."""
UNIT, ALARM, SERVER = (
    "site-backup.service",
    "site-backup-alarm.service",
    "site-backup-server.service",
)
READER = "mhn"
"""One who reads what the postmaster gets."""
THIEF = "part=other"
"""The tag of what a thief adds."""
BACKDATE = """
import json, pathlib, sys
from datetime import datetime, timedelta
path = pathlib.Path("/var/lib/site-backup/successes.json")
known = json.loads(path.read_text())
ago = timedelta(seconds=int(sys.argv[1]))
path.write_text(json.dumps({
    part: (datetime.fromisoformat(at) - ago).isoformat() for part, at in known.items()
}))
"""
"""Makes what a host knows of its backups older."""


@dataclass(frozen=True)
class Holder:
    """A host that backs itself up by its unit, when a test says so."""

    site: Site
    host: SiteHost

    def shell(self, command: str, *, check: bool = True, stdin: str = "") -> str:
        """Run a command there."""
        return shell(self.site, self.host, command, check=check, stdin=stdin)

    def at_server(self, command: str, *, check: bool = True) -> str:
        """Run a command on the backup host."""
        return shell(self.site, server(self.site), command, check=check)

    def result(self, unit: str = UNIT) -> str:
        """How the last run of a unit ended, with its exit code."""
        return " ".join(self.shell(f"systemctl show -P Result -P ExecMainStatus {unit}").split())

    def ended(self, unit: str = UNIT) -> bool:
        """Whether a unit runs no more."""
        state = self.shell(f"systemctl show -P ActiveState {unit}").strip()
        return state in ("inactive", "failed")

    def ran(self, unit: str = UNIT) -> str:
        """Run a unit, and how it ended."""
        self.shell(f"systemctl start {unit}", check=False)
        return self.result(unit)

    def said(self, since: str) -> str:
        """What its backup wrote into the journal."""
        return self.shell(f"journalctl -q -o cat -t site-backup --since=@{since}")

    def moment(self) -> str:
        """Now, by its clock."""
        return self.shell("date +%s.%6N").strip()

    def kept(self) -> set[str]:
        """The snapshots that there are of it."""
        return {one["id"] for one in snapshots(self.site, self.host)}

    def alarms(self) -> set[str]:
        """The kinds of alarms that `make backup-status` shows of it."""
        found = backup.status(self.site)["alarms"]
        return {one["kind"] for one in found if one["host"] == self.host.name}


@pytest.fixture
def holder(site: Site) -> Iterator[Holder]:
    """The host of an mx, whose clock begins no backup."""
    made = Holder(site, site.group("mx")[0])
    made.shell("systemctl stop site-backup-alarm.timer")
    try:
        until(lambda: made.ended(ALARM), "the end of what the clock began", 300)
        assert made.ran() == "success 0"
        yield made
    finally:
        made.shell(
            f"systemctl reset-failed {UNIT} {ALARM} 2>/dev/null;"
            " systemctl start site-backup-alarm.timer"
        )


def told(site: Site, reader: Account, about: str) -> list[EmailMessage]:
    """Letters to the postmaster whose subject begins so, oldest first."""
    folder = clients.unit_folder(site, site.of(AccountsSettings).postmaster_unit)
    with clients.imap(site, reader) as client:
        client.select_folder(folder, readonly=True)
        found = client.fetch(client.search(["FROM", site.postmaster]), ["BODY.PEEK[]"])
    letters = [
        message_from_bytes(found[uid][b"BODY[]"], policy=policy.default) for uid in sorted(found)
    ]
    return [letter for letter in letters if letter["Subject"].startswith(f"{about}: ")]


# -- the backup host is away -----------------------------------------------------------------------


def test_a_server_that_comes_back_is_waited_for(holder: Holder) -> None:
    before, since = holder.kept(), holder.moment()
    with remote.stopped(holder.site, server(holder.site).address, SERVER):
        holder.shell(f"systemctl start --no-block {UNIT}")
        until(lambda: "retrying after" in holder.said(since), "that restic tries again")
        assert "connection refused" in holder.said(since)
        assert not holder.ended()
    until(holder.ended, "the end of the backup", 300)
    assert holder.result() == "success 0", holder.said(since)
    after = holder.kept()
    assert before <= after
    assert len(after) == len(before) + len(parts(holder.site, holder.host))


def test_a_run_ends_when_the_server_stays_away_and_the_next_one_makes_up_for_it(
    holder: Holder,
) -> None:
    before, since = holder.kept(), holder.moment()
    drop_in = f"/run/systemd/system/{UNIT}.d"
    # `backup.patience`, which is hours.
    holder.shell(
        f"mkdir -p {drop_in} && printf '[Service]\\nTimeoutStartSec=30s\\n' > {drop_in}/test.conf"
        " && systemctl daemon-reload"
    )
    try:
        with remote.stopped(holder.site, server(holder.site).address, SERVER):
            assert holder.ran().startswith("timeout")
        said = holder.said(since)
        assert "connection refused" in said
        assert "snapshot" not in said
        assert "failed" in holder.alarms()
    finally:
        holder.shell(f"rm -r {drop_in}; systemctl daemon-reload")
    assert holder.kept() == before
    assert holder.shell("ls /var/lib/site-backup/stage").split() == []
    assert holder.ran() == "success 0"
    after = holder.kept()
    assert before <= after
    assert len(after) == len(before) + len(parts(holder.site, holder.host))
    assert "failed" not in holder.alarms()


def test_a_host_that_is_alone_for_long_writes_once_and_once_when_that_is_over(
    site: Site, holder: Holder, person: Callable[[str], Account]
) -> None:
    about, reader = f"Sao lưu {holder.host.name}", person(READER)
    assert holder.ran(ALARM) == "success 0"
    before = len(told(site, reader, about))

    def letters(count: int) -> list[EmailMessage]:
        return until(
            lambda: found if len(found := told(site, reader, about)[before:]) >= count else [],
            "a letter to the postmaster", 120, pause=1,
        )  # fmt: skip

    held = parts(site, holder.host)
    with remote.stopped(site, server(site).address, SERVER):
        # As if this had been so for long.
        alone = site.of(BackupSettings, holder.host.name).alone
        holder.shell(f"python3 - {alone + 60}", stdin=BACKDATE)
        for _ in range(2):
            assert holder.ran(ALARM) == "exit-code 2"
        (alarm,) = letters(1)
    assert alarm["Subject"] == f"{about}: {len(held)} cảnh báo"
    for part in held:
        assert f"- {holder.host.name}/{part}: không có bản sao lưu mới" in alarm.get_content()
    # That the server is back is not the end of it: a new backup is.
    assert holder.ran(ALARM) == "exit-code 2"
    assert holder.ran() == "success 0"
    assert holder.ran(ALARM) == "success 0"
    subjects = [letter["Subject"] for letter in letters(2)]
    assert subjects == [alarm["Subject"], f"{about}: đã bình thường"]


# -- a host that fills the disk --------------------------------------------------------------------


@pytest.fixture
def watcher(holder: Holder) -> Iterator[Keeper]:
    """A keeper of the true repositories that is alarmed by little, for one host."""
    name = holder.host.name
    repository = f"{holder.site.of(BackupSettings, server(holder.site).name).folder}/{name}"
    with another_keeper(holder.site) as keeper:
        # Some MiB at the most, whatever disk it is.
        keeper.configure(holder.host, state=keeper.folder, free=0, growth=0.000001)
        try:
            yield keeper
        finally:
            holder.at_server(f"site-backup-keeper open {name}")
            holder.at_server(
                f"cd / && runuser -u {OWNER} -- restic --no-cache -q --retry-lock 5m"
                f" -r {repository} -p {MAINTENANCE} forget --tag {THIEF} --unsafe-allow-remove-all"
            )


@pytest.mark.regulation("13")
def test_a_host_that_fills_the_disk_is_shut_out_until_an_operator_lets_it_in(
    site: Site, holder: Holder, watcher: Keeper, person: Callable[[str], Account]
) -> None:
    host, reader = holder.host, person(READER)
    letters = len(told(site, reader, "Sao lưu"))
    watcher("watch")
    assert "shut" not in holder.alarms()
    # Random bytes, which nothing makes smaller.
    holder.shell(
        "head -c 16M /dev/urandom | site-backup restic -- backup --quiet --stdin"
        f" --stdin-filename rac --tag {THIEF}"
    )
    code, said = watcher("watch")
    words = f"{host.name}: shut: it grew too fast: site-backup-keeper open {host.name}"
    assert (code, words in said) == (2, True), said
    assert "shut" in holder.alarms()
    new = until(
        lambda: told(site, reader, "Sao lưu")[letters:], "a letter to the postmaster", 120, pause=1
    )
    assert any(words in letter.get_content() for letter in new)

    # The thief writes nothing more, by whatever program.
    before, digest = stored(site, host), hashlib.sha256(b"x").hexdigest()
    answers = asked(
        site, host, ("GET", f"/{host.name}/config", None),
        *(("POST", f"/{host.name}/{kind}/{digest}", "x") for kind in ("locks", "data", "index")),
    )  # fmt: skip
    assert [status for status, _ in answers] == [200, 500, 500, 500]
    since = holder.moment()
    assert holder.ran() == "exit-code 1"
    said = holder.said(since)
    for part in parts(site, host):
        assert f"{part}: failed: the backup host does not take it" in said
    assert "this host is shut out; there: site-backup-keeper status" in said
    assert stored(site, host) == before
    # A restore goes on.
    listed = json.loads(holder.shell("site-restore snapshots"))
    assert {one["part"] for one in listed} >= {*parts(site, host)}
    manifest = "site-backup restic -- dump latest --tag part=keys"
    assert holder.shell(f"{manifest} /var/lib/site-backup/stage/keys/MANIFEST")

    holder.at_server(f"site-backup-keeper open {host.name}")
    assert holder.ran() == "success 0"
    assert "shut" not in holder.alarms()
