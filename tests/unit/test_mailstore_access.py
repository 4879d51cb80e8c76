"""`site-access` without a host: what it notices, and what it tells Dovecot."""

import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any, cast
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st


class DownError(Exception):
    """What the LDAP library raises."""


# Debian's python3-ldap is on the hosts only.
library = cast(Any, ModuleType("ldap"))
library.LDAPError = DownError
with patch.dict(sys.modules, {"ldap": library}):
    from roles.mailstore.files import access
    from roles.mailstore.files.access import Account, differences

NOW = "20261125090000Z"
MOMENT = datetime(2026, 11, 25, 9, 30, tzinfo=UTC)
OTHER = "employeeNumber=2,ou=people,dc=vn"
DN = "employeeNumber=1001,ou=people,dc=vn"
AN = Account(
    "an@tinh.vn",
    frozenset({"imap", "pop3"}),
    frozenset({"stttt", "stttt+file"}),
    "store-a",
    "1",
    "",
)
"""An entry without the number of a change: as it was made."""


def entry(**changed: list[str]) -> dict[str, list[bytes]]:
    """A person's entry."""
    values = {
        "mail": ["An@tinh.vn"], "mailboxState": ["active"], "mailHost": ["store-a"],
        "mailboxService": ["imap", "pop3", "lmtp"], "mailboxGroup": ["stttt", "stttt+file"],
        "pwdChangedTime": ["1"], **changed,
    }  # fmt: skip
    return {name: [value.encode() for value in given] for name, given in values.items()}


class Directory:
    """A directory in memory, with the numbers of its changes."""

    uri = "ldaps://a"

    def __init__(self) -> None:
        self.kept: dict[str, tuple[str, dict[str, list[bytes]]]] = {}
        self.log: list[dict[str, list[bytes]]] = []
        self.number = 0
        self.down = False
        self.asked: list[str] = []
        self.made: dict[str, str] = {}
        self.put(DN, entry())

    def _csn(self) -> str:
        return f"202611250900{self.number:02d}.000000Z#000000#001#000000"

    def put(self, dn: str, values: dict[str, list[bytes]] | None) -> None:
        """Change an entry; None removes it."""
        self.number += 1
        if values is None:
            del self.kept[dn]
            del self.made[dn]
        else:
            self.kept[dn] = (self._csn(), values)
            self.log.append({
                "entryCSN": [self._csn().encode()], "reqDN": [dn.encode()],
                "reqMod": [
                    f"{name}:= ".encode() + value for name in values for value in values[name]
                ],
            })  # fmt: skip
            self.made.setdefault(dn, f"{self._csn()[:14]}Z")

    def close(self) -> None:
        """Nothing is open."""

    def state(self) -> frozenset[str]:
        """How far it has come."""
        if self.down:
            raise DownError("down")
        return frozenset([self._csn()])

    def changes(self, since: str) -> Iterator[dict[str, list[bytes]]]:
        """What the log tells from a change on."""
        self.asked.append("log")
        return (change for change in self.log if change["entryCSN"][0].decode() >= since)

    def entries(self, condition: str = "") -> Iterator[tuple[str, dict[str, list[bytes]]]]:
        """Entries, all or those that changed since."""
        self.asked.append(condition)
        since = condition.removeprefix("(entryCSN>=").removesuffix(")")
        for dn, (csn, values) in list(self.kept.items()):
            if csn >= since:
                made = self.made[dn].encode()
                yield dn.lower(), {**values, "entryCSN": [csn.encode()], "createTimestamp": [made]}


class Dovecot:
    """What Dovecot was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.down = False
        self.stuck = ""

    def forget(self, users: list[str]) -> None:
        """Take note."""
        if self.down:
            raise access.DovecotError("down")
        self.told.append(f"forget {' '.join(users)}".strip())

    def end(self, user: str) -> None:
        """Take note."""
        if user == self.stuck:
            raise access.DovecotError("stuck")
        self.told.append(f"end {user}")


class World:
    """Directories, Dovecot and a clock of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.dovecot, self.clock = Directory(), Dovecot(), 1000.0
        self.knowledge = access.Knowledge(":memory:")
        monkeypatch.setattr(access, "SETTLE", 0)
        self.begin()
        self.round()

    def begin(self, *directories: Directory) -> None:
        """The program starts; what it knew is on disk."""
        followers = [
            access.Follower(cast(Any, directory), self.knowledge)
            for directory in directories or (self.directory,)
        ]
        self.access = access.Access(followers, cast(Any, self.dovecot))

    def round(self, seconds: float = 5) -> list[str]:
        """What Dovecot is told in the next round."""
        self.clock += seconds
        self.dovecot.told.clear()
        self.access.round(self.clock)
        return list(self.dovecot.told)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


# -- what an entry allows --------------------------------------------------------------------------


def test_an_entry_is_read_as_log_ins_see_it() -> None:
    assert access.account(DN, entry(), NOW) == AN


@pytest.mark.parametrize("state", ["locked", "departed", "archived", "purged"])
def test_states_that_do_not_log_in(state: str) -> None:
    assert access.account(DN, entry(mailboxState=[state]), NOW).services == frozenset()


def test_who_must_change_the_password_first_does_so_in_the_webmail() -> None:
    values = entry(pwdReset=["TRUE"], mailboxService=["imap", "webmail"])
    assert access.account(DN, values, NOW).services == {"webmail"}


@pytest.mark.parametrize(("until", "may"), [("20261125085959Z", False), ("20261125090001Z", True)])
def test_an_applications_password_counts_until_its_day(until: str, may: bool) -> None:
    values = {"mailboxService": [b"imap"], "pwdEndTime": [until.encode()]}
    found = access.account(f"cn=phone,{DN}", values, NOW)
    assert found.user == DN
    assert bool(found.services) == may


# -- what is narrower ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (None, "removed"),
        (AN._replace(services=frozenset({"imap"})), "no pop3"),
        (AN._replace(groups=frozenset({"stttt"})), "left stttt+file"),
        (AN._replace(groups=frozenset({"snv"})), "left stttt, left stttt+file, joined snv"),
        (AN._replace(store="store-b"), "moved to store-b"),
        (AN._replace(password="2"), "new password"),
    ],
)
def test_less_than_before_ends_sessions(after: Account | None, words: str) -> None:
    (found,) = differences(AN, after, [AN.store])
    assert (found.user, ", ".join(found.words), found.narrower) == (AN.user, words, True)


@pytest.mark.parametrize("stores", [[], ["store-b"], ["store-c"], [AN.store, "store-b"]])
def test_a_mailbox_that_moved_ends_sessions_on_the_store_that_it_left_alone(
    stores: list[str],
) -> None:
    (found,) = differences(AN, AN._replace(store="store-b"), stores)
    assert (found.words, found.narrower) == (("now on store-b",), False)


def test_more_than_before_is_only_forgotten() -> None:
    (found,) = differences(AN, AN._replace(groups=AN.groups | {"snv"}))
    assert (found.words, found.narrower) == (("joined snv",), False)


def test_a_new_login_name_ends_sessions_of_the_former_one() -> None:
    former, latter = differences(AN, AN._replace(user="anh@tinh.vn"))
    assert (former.user, former.narrower) == (AN.user, True)
    assert (latter.user, latter.narrower) == ("anh@tinh.vn", False)


_sets = st.frozensets(st.sampled_from(["imap", "pop3", "sieve"]))
_accounts = st.builds(
    Account, st.sampled_from(["an", "anh"]), _sets, _sets, st.just("a"), st.just("1"), st.just(""),
    st.just(""), st.just(""),
)  # fmt: skip


@given(before=_accounts, after=_accounts)
def test_sessions_end_exactly_where_something_was_taken_away(
    before: Account, after: Account
) -> None:
    found = differences(before, after)
    taken = before.user != after.user or before.services - after.services
    assert any(difference.narrower for difference in found) == bool(
        taken or before.groups - after.groups
    )
    assert bool(found) == (before != after)


# -- following a directory -------------------------------------------------------------------------


def test_at_the_very_first_all_is_forgotten_and_nobody_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(monkeypatch)
    assert world.dovecot.told == ["forget"]


def test_nothing_is_read_while_nothing_changes(world: World) -> None:
    world.directory.asked.clear()
    assert world.round() == []
    assert world.directory.asked == []


def test_a_locked_account_is_forgotten_and_ended_once(world: World) -> None:
    world.directory.put(DN, entry(mailboxState=["locked"]))
    world.directory.asked.clear()
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]
    entries, log = world.directory.asked
    assert entries.startswith("(entryCSN>=")
    assert log == "log"
    assert world.round() == []


def test_who_was_let_in_and_locked_again_between_two_rounds_is_out(world: World) -> None:
    world.directory.put(DN, entry(mailboxState=["locked"]))
    world.round()
    for _ in range(2):
        world.directory.put(DN, entry())
        world.directory.put(DN, entry(mailboxState=["locked"]))
        assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]
        assert world.round() == []
        # And while nobody asked.
        world.begin()


WIDER = {
    "mailboxService": ["imap", "pop3", "sieve", "lmtp"],
    "mailboxGroup": ["stttt", "stttt+file", "snv"],
}


@pytest.mark.parametrize("name", WIDER)
@pytest.mark.parametrize("away", [False, True])
def test_what_was_given_and_taken_between_two_rounds_is_lost(
    world: World, name: str, away: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    if away:
        world.begin()
    world.directory.put(DN, entry(**{name: WIDER[name]}))
    world.directory.put(DN, entry())
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]
    what = {"mailboxService": "no sieve", "mailboxGroup": "left snv"}[name]
    assert caplog.messages == [f"an@tinh.vn: {what}; sessions ended"]
    # Nor is the same end noticed twice, with the next change or a reading of all.
    world.directory.put(DN, entry(title=["A"]))
    assert world.round() == []
    assert world.round(seconds=access.EVERYTHING) == []


def test_what_was_given_and_taken_is_noticed_by_a_reading_of_all_too(world: World) -> None:
    world.directory.put(DN, entry(mailboxGroup=WIDER["mailboxGroup"]))
    world.directory.put(DN, entry())
    assert world.round(seconds=access.EVERYTHING) == ["forget an@tinh.vn", "end an@tinh.vn"]


def test_who_has_what_was_given_stays(world: World) -> None:
    world.directory.put(DN, entry(mailboxGroup=["stttt"], mailboxService=["imap"]))
    world.directory.put(DN, entry())
    assert world.round() == []


@pytest.mark.parametrize(
    ("always", "moment"),
    [
        # Nobody logs in to that.
        ({"mailboxService": ["imap"]}, "lmtp"),
        # Before the password was changed, it opened nothing else.
        ({"mailboxService": ["webmail", "imap"], "pwdReset": ["TRUE"]}, "pop3"),
        ({"mailboxService": ["webmail", "imap"], "pwdReset": ["TRUE"]}, "lmtp"),
    ],
)
def test_what_opened_nothing_is_not_lost(
    world: World, always: dict[str, list[str]], moment: str
) -> None:
    world.directory.put(DN, entry(**always))
    world.round()
    more = {"mailboxService": [*always["mailboxService"], moment]}
    world.directory.put(DN, entry(**always | more))
    world.directory.put(DN, entry(**always))
    assert world.round() == []


def test_what_was_given_and_taken_while_the_directory_was_being_read_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry is known as it is now, and the log speaks of a change that is yet to be reached."""
    world.directory.put(DN, entry(title=["A"]))
    state = world.directory.state()
    world.directory.put(DN, entry(mailboxGroup=WIDER["mailboxGroup"]))
    world.directory.put(DN, entry())
    with monkeypatch.context() as patched:
        patched.setattr(world.directory, "state", lambda: state)
        assert world.round() == []
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]
    assert world.round() == []


def test_what_is_of_no_concern_is_passed_over(world: World) -> None:
    world.directory.put(DN, entry(title=["Chuyên viên"]))
    assert world.round() == []


def test_who_is_new_is_forgotten_and_stays_unspoken(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world.directory.put(OTHER, entry(mail=["b@tinh.vn"]))
    assert world.round() == ["forget b@tinh.vn"]
    assert world.round() == []
    assert caplog.messages == []


@pytest.mark.parametrize("then", [entry(mail=["b@tinh.vn"], mailboxState=["locked"]),
                                  entry(mail=["b@tinh.vn"], pwdChangedTime=["2"])])  # fmt: skip
def test_who_was_made_and_changed_between_two_rounds_is_out(
    world: World, then: dict[str, list[bytes]]
) -> None:
    world.directory.put(OTHER, entry(mail=["b@tinh.vn"]))
    world.directory.put(OTHER, then)
    assert world.round() == ["forget b@tinh.vn", "end b@tinh.vn"]
    assert world.round() == []


def test_an_applications_password_that_was_made_and_revoked_between_two_rounds_is_out(
    world: World,
) -> None:
    phone = f"cn=phone,{DN.lower()}"
    world.directory.put(phone, {"mailboxService": [b"imap"]})
    revoked = time.strftime("%Y%m%d%H%M%SZ", time.gmtime()).encode()
    world.directory.put(phone, {"mailboxService": [b"imap"], "pwdEndTime": [revoked]})
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]
    assert world.round() == []


def test_what_was_made_and_revoked_within_a_second_is_out(world: World) -> None:
    phone = {"mailboxService": [b"imap"], "pwdEndTime": [b"20260101000000Z"]}
    world.directory.put(f"cn=phone,{DN.lower()}", phone)
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]


def test_a_new_unit_mailbox_has_no_sessions(world: World) -> None:
    unit = {"mail": [b"a@tinh.vn"], "mailboxState": [b"active"], "mailboxService": [b"lmtp"]}
    world.directory.put("cn=a,ou=mailboxes,dc=vn", unit)
    assert world.round() == ["forget a@tinh.vn"]


def test_of_a_new_person_and_a_new_password_the_person_is_told(world: World) -> None:
    world.directory.put(OTHER, entry(mail=["b@tinh.vn"]))
    world.directory.put(f"cn=phone,{OTHER}", {"mailboxService": [b"imap"]})
    world.directory.put(f"cn=phone,{OTHER}", {"mailboxService": [b"pop3"]})
    assert world.round() == ["forget b@tinh.vn", "end b@tinh.vn"]


@pytest.mark.parametrize("down", [0, 1])
def test_what_ends_by_time_ends_at_its_time(
    world: World, monkeypatch: pytest.MonkeyPatch, down: int
) -> None:
    phone = f"cn=phone,{DN.lower()}"
    values = {"mailboxService": [b"imap"], "pwdEndTime": [f"{MOMENT:%Y%m%d%H%M%S}Z".encode()]}
    soon = MOMENT - timedelta(seconds=1)
    monkeypatch.setattr(time, "gmtime", soon.timetuple)
    world.directory.put(phone, values)
    assert world.round() == ["forget an@tinh.vn"]
    world.dovecot.down = bool(down)
    monkeypatch.setattr(time, "gmtime", MOMENT.timetuple)
    world.directory.asked.clear()
    for _ in range(down):
        assert world.round() == []
    world.dovecot.down = False
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]
    assert world.round() == []
    assert world.directory.asked == []


def test_what_another_release_knew_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "known.sqlite"
    with sqlite3.connect(file) as former:
        former.execute("CREATE TABLE directory (uri TEXT PRIMARY KEY, csn TEXT NOT NULL)")
        former.execute("INSERT INTO directory VALUES ('ldaps://a', 'x')")
        former.execute("CREATE TABLE account (uri TEXT, dn TEXT, user TEXT)")
    assert access.Knowledge(file).state("ldaps://a") is None
    access.Knowledge(file).keep("ldaps://a", frozenset("x"), {DN: AN})
    assert access.Knowledge(file).get("ldaps://a", DN) == AN


def test_who_was_removed_is_noticed_by_the_next_reading_of_all(world: World) -> None:
    world.directory.put(DN, None)
    assert world.round(seconds=access.EVERYTHING) == ["forget an@tinh.vn", "end an@tinh.vn"]


def test_a_reading_of_all_that_was_not_due_is_made_up_for(world: World) -> None:
    world.round(seconds=access.EVERYTHING)
    world.directory.put(DN, entry(title=["A"]))
    world.round(seconds=access.EVERYTHING)
    world.directory.put(DN, None)
    assert world.round(seconds=access.EVERYTHING / 2) == []
    assert world.round(seconds=access.EVERYTHING / 2) == ["forget an@tinh.vn", "end an@tinh.vn"]


def test_an_applications_password_that_is_revoked_ends_the_persons_sessions(world: World) -> None:
    world.directory.put(f"cn=phone,{DN.lower()}", {"mailboxService": [b"imap"]})
    assert world.round() == ["forget an@tinh.vn"]
    world.directory.put(f"cn=phone,{DN.lower()}", None)
    assert world.round(seconds=access.EVERYTHING) == ["forget an@tinh.vn", "end an@tinh.vn"]


def test_a_change_while_the_program_was_away_is_caught_up(world: World) -> None:
    world.directory.put(DN, entry(mailboxState=["locked"]))
    world.begin()
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]


def test_a_change_while_the_directory_was_down_is_caught_up(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world.directory.down = True
    assert world.round() == world.round() == []
    world.directory.down = False
    world.directory.put(DN, entry(mailboxState=["locked"]))
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]
    assert caplog.messages == [
        "ldaps://a: does not answer: down",
        "ldaps://a: answers again",
        "an@tinh.vn: no imap, no pop3; sessions ended",
    ]


def test_a_change_while_dovecot_was_down_stays_to_be_done(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.dovecot.down = True
    world.directory.put(DN, entry(mailboxState=["locked"]))
    assert world.round() == world.round() == []
    world.dovecot.down = False
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]
    assert caplog.messages == ["down; it will be told later"]


def test_nobody_waits_for_somebody_whose_session_does_not_end(world: World) -> None:
    world.directory.put(OTHER, entry(mail=["b@tinh.vn"]))
    world.round()
    world.dovecot.stuck = "an@tinh.vn"
    for dn, mail in ((DN, "an@tinh.vn"), (OTHER, "b@tinh.vn")):
        world.directory.put(dn, entry(mail=[mail], mailboxState=["locked"]))
    both = "forget an@tinh.vn b@tinh.vn"
    assert world.round() == [both, "end b@tinh.vn"]
    # It stays to be done.
    world.dovecot.stuck = ""
    assert world.round() == [both, "end an@tinh.vn", "end b@tinh.vn"]
    assert world.round() == []


def test_each_directory_that_learns_of_it_counts(world: World) -> None:
    """Dovecot may have asked the one that did not know yet."""
    late = Directory()
    late.uri = "ldaps://b"
    world.begin(world.directory, late)
    world.round()
    world.directory.put(DN, entry(mailboxState=["locked"]))
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]
    late.put(DN, entry(mailboxState=["locked"]))
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]
    assert world.round() == []


def test_what_both_know_at_once_is_done_once(world: World) -> None:
    other = Directory()
    other.uri = "ldaps://b"
    world.begin(world.directory, other)
    world.round()
    for directory in (world.directory, other):
        directory.put(DN, entry(mailboxState=["locked"]))
    assert world.round() == ["forget an@tinh.vn", "end an@tinh.vn"]


# -- numbers of changes ----------------------------------------------------------------------------

ONE = "20261125080000.000000Z#000000#001#000000"
LATER = "20261125090000.000000Z#000000#001#000000"
TWO = "20261125083000.000000Z#000000#002#000000"
TWO_LATER = "20261125093000.000000Z#000000#002#000000"


@pytest.mark.parametrize(
    ("before", "after", "since"),
    [
        ({ONE, TWO}, {ONE, TWO}, TWO),
        ({ONE, TWO}, {LATER, TWO}, ONE),
        # A host that was cut off for long brings changes that are older than the others' last.
        ({LATER, TWO}, {LATER, TWO_LATER}, TWO),
        ({ONE, TWO}, {LATER, TWO_LATER}, ONE),
        # The directory was set back.
        ({LATER, TWO}, {ONE, TWO}, LATER),
        ({ONE}, {ONE, TWO}, None),
        (set(), {ONE}, None),
    ],
)
def test_from_which_change_on_something_is_new(
    before: set[str], after: set[str], since: str | None
) -> None:
    assert access.oldest(frozenset(before), frozenset(after)) == since


def change(csn: str, *lines: str) -> dict[str, list[bytes]]:
    """A change of somebody, as the log has it."""
    return {
        "entryCSN": [csn.encode()], "reqDN": [DN.encode()],
        "reqMod": [line.encode() for line in lines],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("csn", "counts"), [(ONE, False), (LATER, True), (TWO, False), (TWO_LATER, False)]
)
def test_the_log_counts_from_one_state_to_the_next_for_each_host(csn: str, counts: bool) -> None:
    found = access.given(
        [change(csn, "mailboxGroup:+ snv")], frozenset((ONE, TWO)), frozenset((LATER, TWO))
    )
    assert found == ({DN.lower(): {"mailboxGroup": [b"snv"]}} if counts else {})


def test_a_host_that_is_new_has_told_nothing_yet() -> None:
    found = access.given([change(TWO, "mailboxGroup:+ snv")], frozenset((LATER,)),
                         frozenset((LATER, TWO)))  # fmt: skip
    assert found == {DN.lower(): {"mailboxGroup": [b"snv"]}}


def test_what_was_given_is_read_from_the_log() -> None:
    lines = (
        "mailboxGroup:+ snv", "mailboxGroup:- stttt", "mailboxGroup:-", "mailboxGroup:=",
        "mailboxService:= imap", "mailboxService:= pop3", "title:+ mailboxGroup:+ a",
        "mailboxGroup:+ handover:1001", "mailboxGroupOther:+ a",
    )  # fmt: skip
    made = {"entryCSN": [LATER.encode()], "reqDN": [DN.encode()]}
    assert access.given([change(LATER, *lines), made], frozenset((ONE,)), frozenset((LATER,))) == {
        DN.lower(): {
            "mailboxGroup": [b"snv", b"handover:1001"], "mailboxService": [b"imap", b"pop3"],
        }
    }  # fmt: skip


# -- doveadm ---------------------------------------------------------------------------------------


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Catch the calls of doveadm, which returns a code and says something."""
    calls: list[list[str]] = []

    def catch(code: int, said: str = "") -> list[list[str]]:
        def run(command: list[str], **_: object) -> Any:
            calls.append(command[1:])
            return subprocess.CompletedProcess(command, code, said, "cannot connect")

        monkeypatch.setattr(subprocess, "run", run)
        return calls

    return catch


def test_many_accounts_are_forgotten_by_few_calls(
    called: Callable[..., list[list[str]]],
) -> None:
    calls = called(0)
    users = [f"{number}@tinh.vn" for number in range(access.AT_ONCE * 2 + 1)]
    access.Dovecot().forget(users)
    assert [user for call in calls for user in call[3:]] == users
    assert len(calls) == 3


def test_all_are_forgotten_by_one_call(called: Callable[..., list[list[str]]]) -> None:
    calls = called(0)
    access.Dovecot().forget([])
    assert calls == [["auth", "cache", "flush"]]


def test_a_session_that_outlives_the_kick_is_asked_itself(
    called: Callable[..., list[list[str]]], tmp_path: Path
) -> None:
    called(
        0,
        "username\t#\tservice\t(pids)\t(ips)\n"
        f"{AN.user}\t2\timap\t(11 12)\t(192.0.2.1 192.0.2.2)\n",
    )
    folder = tmp_path / "srv.imap"
    folder.mkdir()
    asked: list[bytes] = []

    def answer(listening: socket.socket) -> None:
        with listening.accept()[0] as client, client.makefile("rb") as lines:
            asked.extend([lines.readline(), lines.readline()])
            client.sendall(b"VERSION\tmaster-admin-server\t1\t0\n+1\n")

    with socket.socket(socket.AF_UNIX) as listening:
        # Process 11 has ended meanwhile.
        listening.bind(str(folder / "12"))
        listening.listen()
        server = Thread(target=answer, args=(listening,))
        server.start()
        access.Dovecot(tmp_path).end(AN.user)
        server.join()
    assert asked == [
        b"VERSION\tmaster-admin-client\t1\t0\n", f"KICK-USER\t{AN.user}\n".encode()
    ]  # fmt: skip


def test_who_has_no_session_is_no_failure(called: Callable[..., list[list[str]]]) -> None:
    called(68)
    access.Dovecot().end(AN.user)


def test_a_dovecot_that_does_not_answer_is(called: Callable[..., list[list[str]]]) -> None:
    called(75)
    with pytest.raises(access.DovecotError, match=r"doveadm kick an@tinh\.vn: cannot connect"):
        access.Dovecot().end(AN.user)
