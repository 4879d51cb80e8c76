"""The restore drill: hosts are lost, and come back as the runbook says.

Three times: all but the backup host at once; then the store alone, whose power fails half-way
through its restore; then every host, the backup host too, of which a second site has the backups.
One fixture does it all, with the operators' own commands; the tests compare.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from roles.backup.deploy import server
from roles.backup.settings import BackupSettings
from roles.backup.stages import MAIL
from roles.common.site import ROOT, Site
from tests import clients, remote
from tests.drill import filling, stream
from tests.drill.filling import Filled
from tests.drill.seen import Entries, Seen, entries, measured, seen
from tests.drill.stream import Arrived
from tests.lab.lab import LabInstance
from tests.lab.progress import step
from tests.mail.test_mailstore import LOGINS
from tests.mail.test_services import submission
from tests.secondsite import NAME, second_site
from tests.signatures import holds

_HALF = f"find {MAIL}/.restoring -name 'u.*' 2>/dev/null"
"""The letters of a store's restore, before the mailboxes are in their places."""
_HALT = f"until {_HALF} -print -quit | grep -q .; do sleep 0.02; done; pkill -STOP -x restic"
"""Lets a store's restore come no further than its first letters; said on the store, where it is
quick enough."""
_EVERY = f"find {MAIL} -name 'u.*' -not -path '{MAIL}/.backup/*' | wc -l"
MOMENTS = ("site", "store", "elsewhere")


@dataclass(frozen=True)
class Drill:
    """What there was, what came back, and how long it took."""

    filled: Filled
    before: dict[str, Seen]
    entries: Entries
    after: dict[str, dict[str, Seen]]
    """By `MOMENTS`."""
    entries_after: Entries
    stream: tuple[Arrived, ...]
    taken: datetime
    """When the last backup of mail before the loss was taken."""
    lost: datetime
    found: dict[str, set[str]]
    """Message-IDs by recipient after the site was back, with those that waited outside."""
    waiting: dict[str, str]
    """What waited outside: recipients by Message-ID."""
    left: str
    """Outside1's queue afterwards."""
    cut: tuple[int, int]
    """Letters of the store's restore when its power failed, and all of them."""
    cut_code: int
    """What the command said whose restore was cut off."""
    code: int
    """What it said when it was run again."""
    elsewhere: tuple[str, int]
    """How the copy to the second site ended, and the restore from there."""
    figures: dict[str, str]


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", *arguments]


def _restored(site: Site, *words: str) -> tuple[int, float]:
    """The exit code of a rebuild, and the seconds that it took."""
    begin = time.monotonic()
    done = subprocess.run(
        _command("deploy.restore", "--env", site.environment, "apply", *words), cwd=ROOT,
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    return done.returncode, time.monotonic() - begin


def _backed_up(site: Site) -> None:
    command = _command("deploy.backup", "--env", site.environment, "now")
    subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, check=True)


def _taken(site: Site) -> datetime:
    """When the last backup of the store's mail was taken."""
    said = remote.shell(site, clients.address_of(site, "store"), "site-restore snapshots")
    found = [item["taken"] for item in json.loads(said) if item["part"] == "mail"]
    return max(datetime.fromisoformat(moment) for moment in found)


def _lose(site: Site, lab: LabInstance, *hosts: str) -> None:
    """Lose hosts, and put fresh machines into their places."""
    lab.lose(*hosts)
    remote.hang_up(site, *(site.hosts[name].address for name in hosts))


@pytest.fixture(scope="module")
def drill(site: Site, request: pytest.FixtureRequest) -> Drill:
    """The drill; what it does is shown as it goes on."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        return _drilled(site, LabInstance(site, os.environ["LAB_INSTANCE"]))


def _drilled(site: Site, lab: LabInstance) -> Drill:
    store = clients.address_of(site, "store")
    people, recipients = filling.chosen(site)
    with step(f"filling the mailboxes of {len(people)} people and {len(filling.UNITS)} units"):
        filling.fill(site, people)
    with stream.Stream(site, recipients) as letters:
        letters.await_more(len(recipients))
        _backed_up(site)
        with step("a day's changes"):
            filled = filling.change(site, people, recipients)
        with step("looking at everything"):
            before, known = seen(site, filled.people), entries(site)
        _backed_up(site)
        letters.await_more(3)
    sizes = {
        "in mailboxes": measured(site, store, str(MAIL)),
        "in repositories": measured(
            site, server(site).address, site.of(BackupSettings, server(site).name).folder
        ),
    }
    taken = _taken(site)

    kept = server(site).name
    _lose(site, lab, *(name for name in site.hosts if name != kept))
    lost = datetime.now(UTC)
    with step("letters come meanwhile"):
        waiting = stream.send_while_away(site, recipients)
    machines = time.monotonic()
    lab.up()
    machines = time.monotonic() - machines
    code, seconds = _restored(site, "site")
    assert code == 0
    with step("what waited outside comes in"):
        left = stream.come_in(site)
        found = {one.address: stream.message_ids(site, one) for one in recipients}
    with step("looking at everything again"):
        after = {"site": seen(site, filled.people)}
        known_after = entries(site)

    _backed_up(site)
    every = int(remote.shell(site, store, _EVERY))
    _lose(site, lab, site.group("store")[0].name)
    lab.up()
    cut, cut_code = _cut(site, lab)
    code, again = _restored(site, "host", site.group("store")[0].name)
    with step("looking at everything once more"):
        after["store"] = seen(site, filled.people)

    _backed_up(site)
    with second_site(site) as elsewhere:
        copied = elsewhere.copied()
        _lose(site, lab, *site.hosts)
        lab.up()
        code_elsewhere, all_lost = _restored(site, "site", "--from", NAME)
        with step("looking at everything for the last time"):
            after["elsewhere"] = seen(site, filled.people)
    # The new backup host begins with nothing.
    _backed_up(site)

    gone = [one for one in letters.arrived if one.message_id not in found[one.account.address]]
    return Drill(
        filled, before, known, after, known_after, tuple(letters.arrived), taken, lost, found,
        waiting, left, (cut, every), cut_code, code, (copied, code_elsewhere),
        {
            "RPO": f"{(lost - taken).total_seconds():.0f} s before the loss the last backup was"
                   f" taken; {len(gone)} of {len(letters.arrived)} letters that had come are lost",
            "RTO": f"{seconds / 60:.1f} min from new machines to a whole site"
                   f" ({machines:.0f} s to make the machines are not in it)",
            "a store whose restore was cut off, run again": f"{again / 60:.1f} min",
            "RTO from the second site": f"{all_lost / 60:.1f} min, the backup host new as well",
            **{f"bytes {where}": f"{size / 2**20:.1f} MiB" for where, size in sizes.items()},
        },
    )  # fmt: skip


def _cut(site: Site, lab: LabInstance) -> tuple[int, int]:
    """Begin the restore of the store, and cut its power half-way.

    Returns:
        How many letters were there then, none of them in its mailbox; what the command ended with.
    """
    store = site.group("store")[0]
    command = _command("deploy.restore", "--env", site.environment, "apply", "host", store.name)
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL) as running:
        remote.shell(site, store.address, _HALT)
        lab.cut_power(store.name)
        remote.hang_up(site, store.address)
        # What listens there again tells the operator's command that its connection is gone.
        lab.up()
    homes = remote.shell(site, store.address, f"ls {MAIL}/people 2>/dev/null | wc -l")
    assert int(homes) == 0, "mailboxes were in their places already"
    return int(remote.shell(site, store.address, f"{_HALF} | wc -l")), running.returncode


# -- mail ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", MOMENTS)
def test_every_letter_is_there_with_its_flags_and_date(drill: Drill, moment: str) -> None:
    """In the unit mailboxes, too, where everybody sees what he himself has read."""
    wrong = {
        f"{address}: {folder}": (
            len(letters),
            len(drill.after[moment][address].letters.get(folder, [])),
        )
        for address, one in drill.before.items()
        for folder, letters in one.letters.items()
        if drill.after[moment][address].letters.get(folder, []) != letters
    }
    assert wrong == {}
    more = {
        f"{address}: {folder}"
        for address, one in drill.after[moment].items()
        for folder in {*one.letters} - {*drill.before[address].letters}
    }
    assert more == set()


def test_the_site_was_full_of_mail(drill: Drill) -> None:
    """What is compared above is worth it."""
    own = sum(
        len(letters)
        for one in drill.before.values()
        for folder, letters in one.letters.items()
        if not folder.startswith("Đơn vị/")
    )
    assert own + filling.UNIT_LETTERS * len(filling.UNITS) >= filling.LETTERS * 0.99
    for names in filling.UNITS.values():
        views = [
            {str(letters) for folder, letters in drill.before[address].letters.items()
             if folder.startswith("Đơn vị/")}
            for address in drill.before
            if address.partition("@")[0] in names
        ]  # fmt: skip
        # Each has read something else.
        assert all(views)
        assert len({frozenset(view) for view in views}) == len(names)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    "what", ["folders", "subscribed", "rights", "scripts", "page_size", "contacts"]
)
def test_what_belongs_to_a_mailbox_is_there(drill: Drill, moment: str, what: str) -> None:
    def of(people: dict[str, Seen]) -> dict[str, object]:
        return {address: getattr(one, what) for address, one in people.items()}

    assert of(drill.after[moment]) == of(drill.before)
    # And nobody's is empty.
    assert all(of(drill.before).values())


def test_what_had_come_before_the_last_backup_is_there(drill: Drill) -> None:
    due = [one for one in drill.stream if one.at < drill.taken]
    assert due
    assert [one for one in due if one.message_id not in drill.found[one.account.address]] == []


def test_what_waited_outside_comes_in(drill: Drill) -> None:
    assert drill.left == ""
    missing = {
        address
        for message_id, address in drill.waiting.items()
        if message_id not in drill.found[address]
    }
    assert missing == set()


def test_a_restore_that_was_cut_off_is_run_again(drill: Drill) -> None:
    there, every = drill.cut
    assert 0 < there < every
    assert (drill.cut_code, drill.code) == (1, 0)


def test_a_whole_site_comes_back_from_the_second_one(drill: Drill) -> None:
    assert drill.elsewhere == ("success", 0)


# -- people ----------------------------------------------------------------------------------------


@pytest.mark.regulation("3.2")
def test_the_directory_is_what_it_was(drill: Drill) -> None:
    assert {*drill.entries_after} == {*drill.entries}
    assert drill.entries_after == drill.entries


@pytest.mark.parametrize("protocol", LOGINS)
def test_a_password_that_was_changed_is_the_one_that_opens(
    site: Site, drill: Drill, protocol: str
) -> None:
    log_in, owner = LOGINS[protocol], drill.filled.owner
    assert log_in(site, owner.address, owner.password) == ""
    assert log_in(site, owner.address, drill.filled.former.password) != ""
    assert log_in(site, owner.address, owner.password) == ""


def test_a_password_for_an_application_opens_what_it_may(site: Site, drill: Drill) -> None:
    address, password = drill.filled.owner.address, drill.filled.application
    assert LOGINS["imap"](site, address, password) == ""
    assert submission(site, address, password) == ""
    assert LOGINS["pop3"](site, address, password) != ""


def test_mail_goes_out_signed_as_before(site: Site, drill: Drill) -> None:
    """The key is the one that the Internet knew before the loss."""
    citizen = f"dan@{clients.foreign_domain(site)}"
    message = clients.letter(drill.filled.owner.address, citizen)
    clients.submit(site, drill.filled.owner, message)
    with clients.foreign_imap(site, citizen) as client:
        assert holds(site, clients.raw(client, clients.wait_for(client, message)))


def test_backups_go_on(site: Site, drill: Drill) -> None:
    done = subprocess.run(
        _command("deploy.backup", "--env", site.environment, "status", "--json"), cwd=ROOT,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["alarms"] == []
    rows = found["rows"]
    assert {row["host"] for row in rows} == {*site.hosts} - {server(site).name}
    assert all(datetime.fromisoformat(row["written"]) > drill.lost for row in rows)


def test_what_was_measured(drill: Drill, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write("\nThe drill, on this machine:\n")
        for what, words in drill.figures.items():
            sys.stdout.write(f"  {what}: {words}\n")
    assert drill.lost > drill.taken
