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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from roles.backup.deploy import clients as clients_of
from roles.backup.deploy import parts, server
from roles.backup.settings import BackupSettings
from roles.backup.stages import MAIL
from roles.backup.targets import ON_CLIENT
from roles.common.site import ROOT, Site
from tests import clients, remote
from tests.drill import filling, stream
from tests.drill.filling import Filled
from tests.drill.seen import Entries, Seen, entries, measured, seen
from tests.drill.stream import Arrived, Stream
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
LOSSES = ("site", "elsewhere")
"""When the whole site was lost."""
MOMENTS = ("site", "store", "elsewhere")
_SECRETS = {"secrets.toml", "ssh"}
"""What stands in the lab's folder for the secrets and keys of an operator."""


@dataclass(frozen=True)
class Loss:
    """A whole site that was lost, and what came back."""

    arrived: tuple[Arrived, ...]
    """What had come from outside before."""
    taken: datetime
    """When the last backup of mail was taken that was not lost."""
    at: datetime
    waiting: dict[str, str]
    """What waited outside: recipients by Message-ID."""
    machines: float
    """Seconds in which new machines were made."""
    seconds: float
    """Seconds of the command."""
    made: frozenset[str]
    """Files that the operator has again who had nothing but the repository and the secrets."""
    authority: bool
    """Whether the site's CA is the one that everybody trusts."""
    told: dict[str, bool]
    """Of each host, whether what opens a second site stayed on it."""
    left: str
    """Outside1's queue afterwards."""
    found: dict[str, set[str]]
    """Message-IDs by recipient after the site was back, with those that waited outside."""
    entries: Entries
    after: dict[str, Seen]

    @property
    def gone(self) -> list[Arrived]:
        """What had come and did not come back."""
        return [
            one for one in self.arrived if one.message_id not in self.found[one.account.address]
        ]

    @property
    def words(self) -> dict[str, str]:
        """What was lost, and how long it took."""
        return {
            "RPO": f"{(self.at - self.taken).total_seconds():.0f} s before the loss the last backup"
                   f" was taken; {len(self.gone)} of {len(self.arrived)} letters that had come are"
                   " lost",
            "RTO": f"{self.seconds / 60:.1f} min from new machines to a whole site"
                   f" ({self.machines:.0f} s to make the machines are not in it)",
        }  # fmt: skip


@dataclass(frozen=True)
class Drill:
    """What there was, what came back, and how long it took."""

    filled: Filled
    before: dict[str, Seen]
    entries: Entries
    losses: dict[str, Loss]
    """By `LOSSES`."""
    after: dict[str, dict[str, Seen]]
    """By `MOMENTS`."""
    cut: tuple[int, int]
    """Letters of the store's restore when its power failed, and all of them."""
    cut_code: int
    """What the command said whose restore was cut off."""
    code: int
    """What it said when it was run again."""
    copied: tuple[str, str]
    """How the copies to the second site ended: before the loss, and by the new backup host."""
    added: dict[str, int]
    """How many backups of each host the new one brought there."""
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


@contextmanager
def _secrets_alone(site: Site) -> Iterator[None]:
    """Inside the block nothing of the site is on this machine but the repository and the secrets.

    What is made meanwhile makes way for what was there.
    """
    with TemporaryDirectory(dir=site.state.parent) as aside:
        for path in site.state.iterdir():
            if path.name not in _SECRETS:
                path.rename(Path(aside, path.name))
        try:
            yield
        finally:
            for path in Path(aside).iterdir():
                path.rename(site.state / path.name)


def _rebuilt(
    site: Site, lab: LabInstance, filled: Filled, before: Stream, taken: datetime, *options: str
) -> Loss:
    """Lose the whole site, and bring it back; with options of the command `from` somewhere."""
    # Without a word of where from, the backup host is there yet.
    kept = [] if options else [server(site).name]
    _lose(site, lab, *(name for name in site.hosts if name not in kept))
    lost = datetime.now(UTC)
    with step("letters come meanwhile"):
        waiting = stream.send_while_away(site, filled.recipients)
    machines = time.monotonic()
    lab.up()
    machines = time.monotonic() - machines
    trusted = (site.state / "ca.pem").read_text()
    with _secrets_alone(site):
        code, seconds = _restored(site, "site", *options)
        assert code == 0
        made = frozenset(path.name for path in site.state.iterdir())
        authority = (site.state / "ca.pem").read_text()
    told = {
        host.name: remote.shell(site, host.address, f"ls {ON_CLIENT}*", check=False) != ""
        for host in site.hosts.values()
    }
    with step("what waited outside comes in"):
        left = stream.come_in(site)
        found = {one.address: stream.message_ids(site, one) for one in filled.recipients}
    with step("looking at everything again"):
        return Loss(
            tuple(before.arrived), taken, lost, waiting, machines, seconds, made - _SECRETS,
            authority == trusted, told, left, found, entries(site), seen(site, filled.people),
        )  # fmt: skip


@pytest.fixture(scope="module")
def drill(site: Site, request: pytest.FixtureRequest) -> Drill:
    """The drill; what it does is shown as it goes on."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    with capture.global_and_fixture_disabled():
        return _drilled(site, LabInstance(site, os.environ["LAB_INSTANCE"]))


def _drilled(site: Site, lab: LabInstance) -> Drill:
    store = site.group("store")[0]
    people, recipients = filling.chosen(site)
    with step(f"filling the mailboxes of {len(people)} people and {len(filling.UNITS)} units"):
        filling.fill(site, people)
    with Stream(site, recipients) as letters:
        letters.await_more(len(recipients))
        _backed_up(site)
        with step("a day's changes"):
            filled = filling.change(site, people, recipients)
        with step("looking at everything"):
            before, known = seen(site, filled.people), entries(site)
        _backed_up(site)
        letters.await_more(3)
    sizes = {
        "in mailboxes": measured(site, store.address, str(MAIL)),
        "in repositories": measured(
            site, server(site).address, site.of(BackupSettings, server(site).name).folder
        ),
    }
    losses = {"site": _rebuilt(site, lab, filled, letters, _taken(site))}

    _backed_up(site)
    every = int(remote.shell(site, store.address, _EVERY))
    _lose(site, lab, store.name)
    lab.up()
    cut, cut_code = _cut(site, lab)
    code, again = _restored(site, "host", store.name)
    with step("looking at everything once more"):
        after = seen(site, filled.people)

    with second_site(site) as elsewhere:
        with Stream(site, recipients) as letters:
            letters.await_more(len(recipients))
            _backed_up(site)
            begun = time.monotonic()
            copied, taken = elsewhere.copied(), _taken(site)
            copying = time.monotonic() - begun
            letters.await_more(3)
        sizes["at the second site"] = elsewhere.size()
        there = {host.name: elsewhere.snapshots(host) for host in clients_of(site)}
        # It knows the secrets with what opens the second site.
        lab = LabInstance(elsewhere.site, lab.instance)
        losses["elsewhere"] = _rebuilt(
            elsewhere.site, lab, filled, letters, taken, "--from", NAME
        )  # fmt: skip
        # The new backup host begins with nothing, and goes on there.
        _backed_up(site)
        copied_again = elsewhere.copied()
        added = {
            host.name: len(elsewhere.snapshots(host) - there[host.name])
            for host in clients_of(site)
        }
        sizes["at the second site, once the new backup host had copied"] = elsewhere.size()

    return Drill(
        filled, before, known, losses,
        {"site": losses["site"].after, "store": after, "elsewhere": losses["elsewhere"].after},
        (cut, every), cut_code, code, (copied, copied_again), added,
        {
            **losses["site"].words,
            "a store whose restore was cut off, run again": f"{again / 60:.1f} min",
            **{
                f"{what} from the second site, the backup host lost, too": words
                for what, words in losses["elsewhere"].words.items()
            },
            "first copy to the second site": f"{copying:.0f} s",
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


@pytest.mark.parametrize("loss", LOSSES)
def test_what_had_come_before_the_last_backup_is_there(drill: Drill, loss: str) -> None:
    lost = drill.losses[loss]
    assert any(one.at < lost.taken for one in lost.arrived)
    assert [one for one in lost.gone if one.at < lost.taken] == []


@pytest.mark.parametrize("loss", LOSSES)
def test_what_waited_outside_comes_in(drill: Drill, loss: str) -> None:
    lost = drill.losses[loss]
    assert lost.left == ""
    missing = {
        address
        for message_id, address in lost.waiting.items()
        if message_id not in lost.found[address]
    }
    assert missing == set()


def test_a_restore_that_was_cut_off_is_run_again(drill: Drill) -> None:
    there, every = drill.cut
    assert 0 < there < every
    assert (drill.cut_code, drill.code) == (1, 0)


# -- from nothing but the repository, the secrets, and a place that has backups --------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_who_had_the_secrets_alone_has_what_there_was(drill: Drill, loss: str) -> None:
    """The CA is the one that everybody trusts; and nobody was given a first password."""
    lost = drill.losses[loss]
    assert (lost.authority, {*lost.made}) == (True, {"ca.pem"})


def test_what_opens_the_second_site_stays_on_no_host(site: Site, drill: Drill) -> None:
    assert drill.losses["elsewhere"].told == dict.fromkeys(site.hosts, False)


def test_the_new_backup_host_copies_on_to_the_second_site(site: Site, drill: Drill) -> None:
    assert drill.copied == ("success", "success")
    assert drill.added == {host.name: len(parts(site, host)) for host in clients_of(site)}


# -- people ----------------------------------------------------------------------------------------


@pytest.mark.regulation("3.2")
@pytest.mark.parametrize("loss", LOSSES)
def test_the_directory_is_what_it_was(drill: Drill, loss: str) -> None:
    after = drill.losses[loss].entries
    assert {*after} == {*drill.entries}
    assert after == drill.entries


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
    lost = drill.losses["elsewhere"].at
    assert all(datetime.fromisoformat(row["written"]) > lost for row in rows)


def test_what_was_measured(drill: Drill, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write("\nThe drill, on this machine:\n")
        for what, words in drill.figures.items():
            sys.stdout.write(f"  {what}: {words}\n")
    assert all(loss.at > loss.taken for loss in drill.losses.values())
