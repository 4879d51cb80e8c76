"""`site-lifecycle` without a host: what it asks, when it acts, and that it rests."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path

import pytest

from roles.accounts.lifecycle import Clockwork, Directory, Step, UnreachableError
from roles.accounts.reconcile import reconcile
from roles.accounts.registry import Delegation
from roles.directory.ldif import Entries
from tests.unit.test_accounts_reconcile import BASE, TARGET, apply, brought, person, registry, unit

END = datetime(2026, 3, 3, 17, tzinfo=UTC)
"""When the third of March is over in the province."""
DAY = date(2026, 3, 3)
PERSON = f"employeenumber=1,ou=people,{BASE}"
MAILBOX = f"cn=a,ou=mailboxes,{BASE}"


@dataclass(frozen=True)
class Memory(Directory):
    """A directory in memory that understands the filters that are asked."""

    kept: list[Entries] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    @property
    def entries(self) -> Entries:
        """As it is now."""
        return self.kept[-1]

    def find(self, container: str, condition: str) -> Entries:
        """What fits."""
        if not self.kept:
            raise UnreachableError("Can't contact LDAP server (-1)")
        self.asked.append(condition)
        return {
            dn: entry
            for dn, entry in self.entries.items()
            if dn.endswith(f",ou={container},{self.base}")
            and fits(entry, iter(re.findall(r"\(|\)|[&|]|[^()&|]+", condition)))
        }

    def change(self, step: Step) -> None:
        """Make a change."""
        self.kept.append(apply(self.entries, [step.change]))


def fits(entry: dict[str, list[str]], words: Iterator[str]) -> bool:
    """Whether an entry fits a filter (RFC 4515), as far as the program uses it."""
    assert next(words) == "("
    word = next(words)
    if word in "&|":
        parts: list[bool] = []
        for follows in words:
            if follows == ")":
                return all(parts) if word == "&" else any(parts)
            parts.append(fits(entry, chain([follows], words)))
        raise AssertionError("no end")
    assert next(words) == ")"
    return compared(entry, word)


def compared(entry: dict[str, list[str]], word: str) -> bool:
    """One comparison."""
    name, sign, value = re.fullmatch(r"(\w+)(<=|=)(.+)", word).groups()  # type: ignore[union-attr]
    values = entry.get(name, [])
    if sign == "<=":
        return any(found <= value for found in values)
    return bool(values) if value == "*" else value in values


def clockwork(start: Entries | None, behind: int = 0) -> tuple[Clockwork, Memory]:
    directory = Memory(BASE, "cn=accounts", Path("/x"), kept=[] if start is None else [start])
    return Clockwork(directory, TARGET.keep, timedelta(seconds=behind)), directory


@pytest.fixture
def start() -> Entries:
    """A head who leaves and a delegate for the same day, and somebody whom no date concerns."""
    given = [
        Delegation("a", "2", "read", until=DAY), Delegation("a", "2", "send"),
        Delegation("a", "3", "read"),
    ]  # fmt: skip
    people = [person("1", until=DAY), person("2"), person("3")]
    return brought({}, registry(people, [unit("a", head="1", redirect=True)], given))


@pytest.mark.regulation("12")
def test_it_acts_when_the_day_is_over_and_then_rests(start: Entries) -> None:
    clock, directory = clockwork(start)
    assert clock.turn(END - timedelta(seconds=1), 0) == 0
    assert directory.entries == start
    assert clock.turn(END, 1) == 3
    after = directory.entries
    assert after[PERSON]["mailboxState"] == ["departed"]
    assert after[MAILBOX]["mailboxReader"] == [TARGET.person("3")]
    assert after[MAILBOX]["mailboxSender"] == [TARGET.person("2")]
    assert "mailRoutingAddress" not in after[MAILBOX]
    given = [Delegation("a", "2", "read", until=DAY), Delegation("a", "2", "send"),
             Delegation("a", "3", "read")]  # fmt: skip
    people = [person("1", until=DAY), person("2"), person("3")]
    wanted = registry(people, [unit("a", head="1", redirect=True)], given)
    assert reconcile(wanted, after, replace(TARGET, now=END)).changes == ()
    assert clock.turn(END, 2) == 0
    directory.asked.clear()
    assert clock.turn(END + timedelta(seconds=10), 12) == 0
    assert len(directory.asked) == 5, "only what has a date is asked for"


@pytest.mark.parametrize(("age", "left"), [(6, 3), (8, 2)])
def test_an_applications_password_goes_a_week_after_its_end(
    start: Entries, age: int, left: int
) -> None:
    phones: Entries = {
        f"cn={name},{PERSON}": {
            "objectClass": ["appPassword"],
            **({"pwdEndTime": [end]} if end else {}),
        }
        for name, end in (
            ("ended", f"{END - timedelta(days=age):%Y%m%d%H%M%SZ}"),
            ("coming", f"{END + timedelta(days=1):%Y%m%d%H%M%SZ}"),
            ("endless", ""),
        )
    }
    clock, directory = clockwork(start | phones)
    clock.turn(END - timedelta(seconds=1), 0)
    kept = [dn for dn in directory.entries if dn in phones]
    assert len(kept) == left
    assert {f"cn=coming,{PERSON}", f"cn=endless,{PERSON}"} <= {*kept}


def test_a_second_host_waits_whether_the_first_does_it(start: Entries) -> None:
    clock, directory = clockwork(start, behind=20)
    assert clock.turn(END + timedelta(seconds=19), 0) == 0
    assert clock.turn(END + timedelta(seconds=20), 1) == 3
    assert directory.entries[PERSON]["mailboxState"] == ["departed"]


@pytest.mark.parametrize("done", [0, 1, 2])
def test_what_was_cut_off_is_completed(start: Entries, done: int) -> None:
    whole, undisturbed = clockwork(start)
    whole.turn(END, 0)
    clock, directory = clockwork(undisturbed.kept[done])
    assert clock.turn(END, 0) == 3 - done
    assert directory.entries == undisturbed.entries


def test_an_address_of_before_a_renaming_ends() -> None:
    renamed = brought({}, registry([person("1")]), registry([person("1", address="bnt")]))
    clock, directory = clockwork(renamed)
    assert clock.turn(TARGET.now + timedelta(days=3), 0) == 2
    assert directory.entries[PERSON]["mailLocalAddress"] == ["bnt@example.vn"]


def test_everything_is_looked_at_again_after_a_while(start: Entries) -> None:
    """What somebody else put back, such as a run of the registry that began before."""
    clock, directory = clockwork(start)
    clock.turn(END, 0)
    clock.turn(END, 1)
    directory.kept.append(start)
    assert clock.turn(END + timedelta(seconds=10), 20) == 3


def test_delegations_that_a_stale_run_put_back_end_within_minutes(start: Entries) -> None:
    clock, directory = clockwork(start)
    clock.turn(END, 0)
    clock.turn(END, 1)
    back = {name: start[MAILBOX][name] for name in ("mailboxReader", "mailboxFiler")}
    directory.kept.append(directory.entries | {MAILBOX: directory.entries[MAILBOX] | back})
    assert clock.turn(END, 599) == 0
    assert clock.turn(END, 601) == 1


@pytest.mark.regulation("8")
def test_a_successor_reads_from_the_last_day_on_until_the_mail_is_archived() -> None:
    people = [person("1", until=DAY, successor="2"), person("2")]
    clock, directory = clockwork(brought({}, registry(people)))
    heir = f"employeenumber=2,ou=people,{BASE}"
    assert "mailboxGroup" not in directory.entries[heir]
    assert clock.turn(END, 0) == 2
    # The successor first: a run that is cut off between the two is completed by the next.
    assert directory.kept[-2][heir]["mailboxGroup"] == ["handover:1"]
    assert directory.kept[-2][PERSON]["mailboxState"] == ["expiring"]
    assert directory.entries[PERSON]["mailboxState"] == ["departed"]
    archived = directory.entries[PERSON] | {"mailboxState": ["archived"]}
    directory.kept.append(directory.entries | {PERSON: archived})
    assert clock.turn(END, 601) == 1
    assert "mailboxGroup" not in directory.entries[heir]
    assert reconcile(registry(people), directory.entries, replace(TARGET, now=END)).changes == ()
    assert clock.turn(END, 602) == 0


def test_a_directory_that_is_down_says_so() -> None:
    clock, _ = clockwork(None)
    with pytest.raises(UnreachableError):
        clock.turn(END, 0)
