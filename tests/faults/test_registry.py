"""Officials come, go, move and are renamed: the registry changes, and the directory with it.

What was is put back by a run with the registry as it is in the repository, which is shown, too.
"""

import re
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError, LoginError

from deploy.run import EXIT_CHANGES, EXIT_DONE, EXIT_ERROR, run
from roles.accounts.lifecycle import written
from roles.accounts.settings import AccountsSettings
from roles.common.site import Site
from roles.directory.ldif import OPERATIONAL, Entries, entries
from roles.directory.tree import service_dn
from tests import clients, remote
from tests.access import WITHIN, settle
from tests.clients import Account
from tests.deploys import overlaid
from tests.mail.test_access_ends import Alive, sends, works
from tests.mail.test_directory import GOOD, bound
from tests.mail.test_mailstore import LOGINS
from tests.mail.test_mta_mx import rcpt
from tests.mail.test_passwords import change
from tests.registry import alike, read_table, write_csv, write_workbook
from tests.waiting import until

SEARCH = "ldapsearch -Q -Y EXTERNAL -H ldapi:/// -LLL -o ldif-wrap=no"
OTHERS = "employeenumber=thu-"
"""How the names of people begin whom the tests of the directory make, in the registry's name."""
Table = list[dict[str, str]]

RENAMED, MOVED, NAMED, REMOVED, ADDED = "1038", "1039", "1040", "1042", "1099"
"""People nobody else needs; the last is new."""
DELEGATE, LEAVING = "1041", "1037"
"""Further ones, for whom time passes."""
CLOSED = "mytho.tanmychanh"
"""A unit, that of the one who goes."""
NEW_UNIT, NEW_ALIAS, NEW_NAME = "mytho", "thu.trungan", "Lý Quốc Nháp"
NEW_ADDRESS = "dia.chi.moi"
LIST, LIST_REMOVED, LIST_NAME = "canbo.stttt", "thutruong", "Toàn Sở"
DOMAIN, OLD_DOMAIN = "moi.example", "tinh-cu.example"
"""A further domain that comes, and one that goes."""


@dataclass(frozen=True)
class Record:
    """A line of the audit log: what was done to which entry."""

    kind: str
    dn: str
    attributes: dict[str, list[str]] = field(default_factory=dict)
    """Of a modification: the new values, without what the server itself writes."""


def write_registry(
    site: Site, folder: Path, *, workbook: bool = False, **edits: Callable[[Table], Table]
) -> None:
    """Write the environment's registry into `folder`.

    Args:
        site: the environment.
        folder: is made.
        workbook: as one spreadsheet instead of CSV files.
        edits: what becomes of tables, by name.
    """
    folder.mkdir()
    own = site.folder / site.of(AccountsSettings).registry
    tables = {}
    for name in sorted(path.stem for path in own.glob("*.csv")):
        rows = read_table(own, name)
        tables[name] = alike(edits[name](rows) if name in edits else rows, rows)
    (write_workbook if workbook else write_csv)(folder, tables)


def changed_registry(site: Site, folder: Path) -> None:
    """Write the environment's registry into `folder`, with every kind of change."""

    def people(rows: Table) -> Table:
        for row in rows:
            if row["id"] == RENAMED:
                row["name"] = NEW_NAME
            if row["id"] == MOVED:
                row["unit"] = NEW_UNIT
            if row["id"] == NAMED:
                row["aliases"] = NEW_ALIAS
        new = {"id": ADDED, "name": "Hồ Ngọc Nháp", "unit": NEW_UNIT}
        return [row for row in rows if row["id"] != REMOVED] + [new]

    def lists(rows: Table) -> Table:
        for row in rows:
            if row["address"] == LIST:
                row["name"] = LIST_NAME
        return [row for row in rows if row["address"] != LIST_REMOVED]

    write_registry(
        site,
        folder,
        people=people,
        units=lambda rows: [row for row in rows if row["code"] != CLOSED],
        lists=lists,
        domains=lambda _: [{"domain": DOMAIN}],
    )


def apply(site: Site) -> int:
    return run("apply", "accounts", site.environment, [], sys.stdout)


def plan(site: Site) -> int:
    return run("plan", "accounts", site.environment, [], sys.stdout)


def ask(site: Site, arguments: str) -> Entries:
    """Ask the first directory host as its root; hashes stay there."""
    command = f"{SEARCH} {arguments} | sed '/^userPassword:/Id'"
    return entries(remote.shell(site, clients.address_of(site, "directory"), command).splitlines())


def content(site: Site) -> Entries:
    """Every entry of the directory, without people whom a test of it is making meanwhile."""
    found = ask(site, f"-b '{site.base_dn}'")
    return {dn: entry for dn, entry in found.items() if not dn.startswith(OTHERS)}


def clock(site: Site) -> str:
    """The time on the directory host, as its audit log has it."""
    host = clients.address_of(site, "directory")
    return remote.shell(site, host, "date -u +%Y%m%d%H%M%S.%6NZ").strip()


def audit(site: Site, since: str) -> dict[str, Record]:
    """What the registry's account did since a moment, by the audit log, in the order of time.

    Tests act under that name, too, and otherwise than the registry: what was before is theirs.
    """
    shown = ask(
        site,
        f"-b cn=accesslog '(&(objectClass=auditWriteObject)(reqResult=0)(reqStart>={since})"
        f"(reqAuthzID={service_dn(site, 'accounts')}))' reqType reqDN reqMod",
    )
    records = {}
    for dn, line in sorted(shown.items()):
        if line["reqDN"][0].lower().startswith(OTHERS):
            continue
        attributes: dict[str, list[str]] = {}
        for step in line.get("reqMod", []) if line["reqType"] == ["modify"] else []:
            name, _, value = step.partition(":")
            assert value[:1] == "=", f"{step}: attributes are replaced as a whole"
            if name not in OPERATIONAL:
                attributes.setdefault(name, []).append(value[1:].strip())
        records[dn] = Record(line["reqType"][0], line["reqDN"][0].lower(), attributes)
    return records


def handed_over(site: Site) -> dict[str, Account]:
    """Who has a first password that an operator can hand over, by address."""
    return {account.address: account for account in clients.accounts(site) if account.is_person}


@pytest.fixture
def before(site: Site) -> Iterator[Entries]:
    """The directory as it was, and is again afterwards: who was new is gone, addresses are free."""
    # What another test left on the host, such as a service to restart, is none of this one's.
    assert apply(site) == EXIT_DONE
    was = content(site)
    yield was
    assert apply(site) == EXIT_DONE
    for dn in set(content(site)) - set(was):
        new = f"employeenumber={ADDED},ou=people,"
        assert ",ou=reservations," in dn or dn.startswith(new), f"{dn} is left"
        remote.shell(
            site, clients.address_of(site, "directory"),
            f"ldapdelete -Q -Y EXTERNAL -H ldapi:/// '{dn}'",
        )  # fmt: skip
    assert plan(site) == EXIT_DONE


@pytest.mark.regulation("3.2")
def test_changes_of_the_registry_reach_the_directory_and_nothing_else(
    site: Site, before: Entries, tmp_path: Path
) -> None:
    base, at = site.base_dn.lower(), f"@{site.domain}"

    def person(number: str) -> str:
        return f"employeenumber={number},ou=people,{base}"

    def answers(*addresses: str) -> dict[str, int]:
        return {address: rcpt(site, address)[0] for address in addresses}

    gone = before[person(REMOVED)]["mail"][0]
    alias, closed = f"{NEW_ALIAS}{at}", f"{CLOSED}{at}"
    departed = {"mailboxState": ["departed"]}
    assert plan(site) == EXIT_DONE
    began = clock(site)
    passwords = handed_over(site)

    changed_registry(site, tmp_path / "registry")
    with overlaid(f'[accounts]\nregistry = "{tmp_path / "registry"}"\n'):
        assert plan(site) == EXIT_CHANGES
        assert audit(site, began) == {}, "a plan changes nothing"
        assert apply(site) == EXIT_DONE

        done = audit(site, began)
        for record in done.values():
            for name in ("mailboxStateSince", "mailboxRetainUntil"):
                record.attributes.pop(name, None)
        (new,) = set(handed_over(site)) - set(passwords)
        kept = before[person(NAMED)]["mail"]
        assert sorted(done.values(), key=lambda record: record.dn) == sorted(
            [
                Record("add", person(ADDED)),
                Record("modify", person(RENAMED), {
                    "cn": [NEW_NAME], "displayName": [NEW_NAME], "givenName": ["Nháp"],
                    "searchName": ["ly quoc nhap"],
                }),
                Record("modify", person(MOVED), {"departmentNumber": [NEW_UNIT]}),
                Record("modify", person(NAMED), {"mailLocalAddress": [*kept, alias]}),
                Record("modify", f"cn={CLOSED},ou=mailboxes,{base}", departed),
                Record("modify", person(REMOVED), departed),
                Record("delete", f"ou={CLOSED},ou=units,{base}"),
                Record("modify", f"cn={LIST},ou=lists,{base}", {
                    "displayName": [LIST_NAME], "searchName": ["toan so"],
                }),
                Record("add", f"reservedaddress={LIST_REMOVED}{at},ou=reservations,{base}"),
                Record("delete", f"cn={LIST_REMOVED},ou=lists,{base}"),
                Record("add", f"associateddomain={DOMAIN},ou=domains,{base}"),
                Record("delete", f"associateddomain={OLD_DOMAIN},ou=domains,{base}"),
            ],
            key=lambda record: record.dn,
        )  # fmt: skip
        renamed, moved = (before[person(number)]["mail"][0] for number in (RENAMED, MOVED))
        assert answers(new, alias, renamed, moved) == dict.fromkeys(
            (new, alias, renamed, moved), 250
        )
        expected = {
            gone: 550, closed: 550, f"{LIST_REMOVED}{at}": 550,
            f"postmaster@{DOMAIN}": 250, f"postmaster@{OLD_DOMAIN}": 554,
        }  # fmt: skip
        assert answers(*expected) == expected

        account = handed_over(site)[new]
        with clients.imap(site, account) as client:
            assert client.folder_exists("INBOX")
        assert set(passwords) - set(handed_over(site)) == {gone}
        assert plan(site) == EXIT_DONE
        assert apply(site) == EXIT_DONE
        assert list(audit(site, began)) == list(done), "a run that changes nothing sends nothing"
        # Handed over once: the next run neither makes another nor forgets it.
        assert handed_over(site)[new] == account
        store = clients.address_of(site, "store")
        home = remote.shell(site, store, f"doveadm user -f home {new}").strip()
        assert home.endswith(f"/{ADDED}")
        remote.shell(site, store, f"rm -rf '{home}'")

    assert apply(site) == EXIT_DONE
    assert answers(new, alias) == {new: 550, alias: 550}
    assert answers(gone, closed) == {gone: 250, closed: 250}
    after = {dn: found for dn, found in content(site).items() if ",ou=reservations," not in dn}
    assert after.pop(person(ADDED))["mailboxState"] == ["departed"]
    returned = [person(REMOVED), f"cn={CLOSED},ou=mailboxes,{base}"]
    for dn in returned:
        assert after[dn].pop("mailboxStateSince") > before[dn].pop("mailboxStateSince")
    assert after == {dn: was for dn, was in before.items() if ",ou=reservations," not in dn}
    # Who comes back has a new password, and sessions of before end.
    back = handed_over(site)[gone]
    assert back.password != passwords[gone].password
    settle(site, back)
    with clients.imap(site, back) as client:
        assert client.folder_exists("INBOX")


@pytest.mark.regulation("13")
def test_where_first_passwords_must_be_changed_they_open_nothing_else(
    site: Site, before: Entries, tmp_path: Path
) -> None:
    known = handed_over(site)
    newcomer = {"id": ADDED, "name": "Hồ Ngọc Nháp", "unit": NEW_UNIT}
    write_registry(site, tmp_path / "registry", people=lambda rows: [*rows, newcomer])
    with overlaid(
        f'[accounts]\nregistry = "{tmp_path / "registry"}"\n'
        "[directory]\npassword_change_first = true\n"
    ):
        assert apply(site) == EXIT_DONE
        (address,) = set(handed_over(site)) - set(known)
        account, log_in = handed_over(site)[address], LOGINS["imap"]
        assert "must be changed first" in log_in(site, address, account.password)
        dn = f"employeeNumber={ADDED},ou=people,{site.base_dn}"
        assert dn.lower() not in before
        with bound(site, dn, account.password) as connection:
            change(connection, dn, GOOD)
        until(lambda: log_in(site, address, GOOD) == "", "the log-in with the new password", WITHIN)
        # Who is in already goes on as before.
        assert plan(site) == EXIT_DONE


@pytest.mark.regulation("12", "13")
def test_who_moves_keeps_the_mailbox_and_is_out_of_the_former_units_at_once(
    site: Site, before: Entries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entry = before[f"employeenumber={MOVED},ou=people,{site.base_dn.lower()}"]
    account, (unit,) = handed_over(site)[entry["mail"][0]], entry["departmentNumber"]
    row = {"unit": unit, "person": MOVED, "right": "read file send"}

    def moved(rows: Table) -> Table:
        return [row | ({"unit": NEW_UNIT} if row["id"] == MOVED else {}) for row in rows]

    def given(rows: Table) -> Table:
        return [*rows, row]

    write_registry(site, tmp_path / "member", delegations=given)
    write_registry(site, tmp_path / "stays", delegations=given, people=moved)
    write_registry(site, tmp_path / "moved", people=moved)

    def laid(name: str) -> AbstractContextManager[None]:
        return overlaid(f'[accounts]\nregistry = "{tmp_path / name}"\n')

    with laid("member"):
        assert apply(site) == EXIT_DONE
    with working_as(site, account, unit) as (reads, writes):
        member = content(site)
        with laid("stays"):
            for act in (plan, apply):
                capsys.readouterr()
                assert act(site) == EXIT_ERROR
                said = f"column person: person {MOVED} moves from {unit} to {NEW_UNIT} and still"
                assert said in capsys.readouterr().out
        assert content(site) == member
        assert reads()
        assert writes()
        with laid("moved"):
            assert apply(site) == EXIT_DONE
            until(lambda: not reads() and not writes(), "the end of every right", WITHIN)
            assert plan(site) == EXIT_DONE
        # A front may have acted a moment before the store, which ends what is open by then.
        settle(site, account)
        with clients.imap(site, account) as client:
            assert client.folder_exists("INBOX")
            assert not client.folder_exists(clients.unit_folder(site, unit))


@contextmanager
def working_as(site: Site, account: Account, unit: str) -> Iterator[tuple[Alive, Alive]]:
    """Sessions of somebody who reads a unit's mailbox, and who sends in the unit's name.

    Gives whether each still can; the one that sends goes on for its own address.
    """
    folder, address = clients.unit_folder(site, unit), f"{unit}@{site.domain}"
    # What was taken before ends sessions still.
    settle(site, account)
    with ExitStack() as stack:

        def reading() -> IMAPClient | None:
            """One that is ended while it opens, for the rights are just given, comes again."""
            with ExitStack() as attempt, suppress(OSError, IMAPClientError):
                client = attempt.enter_context(clients.imap(site, account))
                client.select_folder(folder, readonly=True)
                stack.enter_context(attempt.pop_all())
                return client
            return None

        session = until(reading, "a session that reads the unit", WITHIN, pause=1)
        assert session
        sender = stack.enter_context(clients.submission(site, account))

        def writes() -> bool:
            assert sends(sender, account, account.address)
            return sends(sender, account, address)

        until(writes, "the right to send", WITHIN, pause=5)
        # What is given and taken between two of a host's questions is never known there.
        settle(site, account)
        yield lambda: works(session.noop), writes


@pytest.mark.regulation("3.1b", "10")
def test_a_new_address_by_a_spreadsheet_leaves_the_former_one_and_the_mailbox(
    site: Site, before: Entries, tmp_path: Path
) -> None:
    dn = f"employeeNumber={NAMED},ou=people,{site.base_dn}"
    (former,) = before[dn.lower()]["mail"]
    account, address = handed_over(site)[former], f"{NEW_ADDRESS}@{site.domain}"
    letter = clients.letter(former, former)

    def named(rows: Table) -> Table:
        return [row | ({"address": NEW_ADDRESS} if row["id"] == NAMED else {}) for row in rows]

    def held(by: Account) -> list[int]:
        with clients.imap(site, by) as client:
            client.select_folder("INBOX", readonly=True)
            return list(client.search(["HEADER", "Message-ID", letter["Message-ID"]]))

    with clients.imap(site, account) as client:
        client.append("INBOX", letter.as_bytes())
    assert rcpt(site, address)[0] == 550
    write_registry(site, tmp_path / "registry", workbook=True, people=named)
    with restored(site, dn, "mail", "mailLocalAddress"):
        with overlaid(f'[accounts]\nregistry = "{tmp_path / "registry"}"\n'):
            assert plan(site) == EXIT_CHANGES
            assert apply(site) == EXIT_DONE
            assert plan(site) == EXIT_DONE
        until(lambda: rcpt(site, address)[0] == 250, "mail to the new address")
        assert rcpt(site, former)[0] == 250
        assert len(held(replace(account, address=address))) == 1
        assert handed_over(site)[address].password == account.password
    with clients.imap(site, account) as client:
        client.select_folder("INBOX")
        client.delete_messages(client.search(["HEADER", "Message-ID", letter["Message-ID"]]))
        client.expunge()


def test_an_entry_that_the_registry_did_not_make_is_named_and_never_written(
    site: Site, before: Entries, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert before
    dn = f"{OTHERS}{secrets.token_hex(6)},ou=people,{site.base_dn.lower()}"

    def renamed(rows: Table) -> Table:
        return [row | ({"title": "Văn thư"} if row["id"] == NAMED else {}) for row in rows]

    def as_it_is() -> str:
        host = clients.address_of(site, "directory")
        return remote.shell(site, host, f"{SEARCH} -b '{dn}' -s base '*' +")

    changed(site, dn, "changetype: add", "objectClass: inetOrgPerson", "cn: La", "sn: La")
    try:
        was = as_it_is()
        assert "entryCSN: " in was
        write_registry(site, tmp_path / "registry", people=renamed)
        with overlaid(f'[accounts]\nregistry = "{tmp_path / "registry"}"\n'):
            capsys.readouterr()
            assert plan(site) == EXIT_CHANGES
            assert f"not of the registry, left alone: {dn}" in capsys.readouterr().out
            assert apply(site) == EXIT_DONE
        assert as_it_is() == was
    finally:
        changed(site, dn, "changetype: delete")


@pytest.mark.regulation("8")
def test_half_a_registry_is_stopped(
    site: Site,
    before: Entries,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    began = clock(site)
    folder = tmp_path / "registry"
    changed_registry(site, folder)
    file = folder / "people.csv"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join(lines[:30]), encoding="utf-8")
    with overlaid(f'[accounts]\nregistry = "{folder}"\n'):
        assert plan(site) == EXIT_ERROR
        said = re.search(r"REMOVALS=(\d+)", capsys.readouterr().out)
        assert said is not None
        assert apply(site) == EXIT_ERROR
        # The very number lets the plan pass, and no other.
        for number, code in ((int(said[1]), EXIT_CHANGES), (int(said[1]) + 1, EXIT_ERROR)):
            shown = run("plan", "accounts", site.environment, [], sys.stdout, removals=number)
            assert shown == code
    assert audit(site, began) == {}
    assert content(site) == before


# -- what time alone brings ------------------------------------------------------------------------


def soon(seconds: int) -> str:
    """A moment ahead, as the directory has it."""
    return written(datetime.now(UTC) + timedelta(seconds=seconds))


def changed(site: Site, dn: str, *lines: str) -> None:
    """Change an entry as the registry's account does not: as root, who is not in its log."""
    remote.modify(site, "\n".join([f"dn: {dn}", *lines, ""]))


@contextmanager
def restored(site: Site, dn: str, *names: str) -> Iterator[dict[str, list[str]]]:
    """An entry whose attributes are behind the block what they were before it."""
    (was,) = ask(site, f"-b '{dn}' -s base").values()
    try:
        yield was
    finally:
        (now,) = ask(site, f"-b '{dn}' -s base").values()
        steps = [
            line
            for name in names
            if was.get(name) != now.get(name)
            for line in (f"replace: {name}", *(f"{name}: {v}" for v in was.get(name, [])), "-")
        ]
        if steps:
            changed(site, dn, "changetype: modify", *steps)


@pytest.mark.regulation("12")
def test_a_delegation_begins_and_ends_by_itself(site: Site) -> None:
    person = f"employeeNumber={DELEGATE},ou=people,{site.base_dn}"
    mailbox = f"cn={NEW_UNIT},ou=mailboxes,{site.base_dn}"
    given = f"cn={DELEGATE},{mailbox}"

    def opens() -> list[str]:
        return ask(site, f"-b '{person}' -s base mailboxGroup").popitem()[1].get("mailboxGroup", [])

    def readers() -> list[str]:
        found = ask(site, f"-b '{mailbox}' -s base mailboxReader").popitem()[1]
        return found.get("mailboxReader", [])

    with restored(site, person, "mailboxGroup"), restored(site, mailbox, "mailboxReader"):
        try:
            changed(
                site, given, "changetype: add", "objectClass: mailboxDelegation",
                f"cn: {DELEGATE}", f"delegate: {person}", "delegationRight: read",
                # Later than it is looked at below, however slow the machine is.
                f"validFrom: {soon(15)}", "managedBy: registry",
            )  # fmt: skip
            assert NEW_UNIT not in opens()
            until(lambda: NEW_UNIT in opens(), "the beginning of the delegation")
            assert person in readers()
            changed(site, given, "changetype: modify", "add: validUntil", f"validUntil: {soon(3)}")
            until(lambda: NEW_UNIT not in opens(), "the end of the delegation")
            assert person not in readers()
        finally:
            changed(site, given, "changetype: delete")
    assert plan(site) == EXIT_DONE


@pytest.mark.regulation("12")
def test_when_a_delegation_is_over_reading_and_sending_end_within_a_minute(site: Site) -> None:
    person = f"employeeNumber={DELEGATE},ou=people,{site.base_dn}"
    mailbox = f"cn={NEW_UNIT},ou=mailboxes,{site.base_dn}"
    given = f"cn={DELEGATE},{mailbox}"
    with (
        restored(site, person, "mailboxGroup", "mailboxSendAs") as was,
        restored(site, mailbox, "mailboxReader", "mailboxSender"),
    ):
        try:
            changed(
                site, given, "changetype: add", "objectClass: mailboxDelegation",
                f"cn: {DELEGATE}", f"delegate: {person}", "delegationRight: read",
                "delegationRight: send", f"validFrom: {soon(1)}", "managedBy: registry",
            )  # fmt: skip
            with working_as(site, handed_over(site)[was["mail"][0]], NEW_UNIT) as (reads, writes):
                ahead = 20
                end = soon(ahead)
                changed(site, given, "changetype: modify", "add: validUntil", f"validUntil: {end}")
                assert reads()
                assert writes()
                until(lambda: not reads() and not writes(), "the end of both", ahead + WITHIN)
        finally:
            changed(site, given, "changetype: delete")
    assert plan(site) == EXIT_DONE


@pytest.mark.regulation("13")
def test_service_ends_by_itself(site: Site) -> None:
    person = f"employeeNumber={LEAVING},ou=people,{site.base_dn}"
    names = ("mailboxState", "mailboxStateSince", "mailboxExpires", "mailboxRetainUntil")
    with restored(site, person, *names) as was:
        (address,) = was["mail"]
        account = handed_over(site)[address]
        with clients.imap(site, account) as client:
            assert client.folder_exists("INBOX")
        end = soon(3)
        changed(
            site, person, "changetype: modify", "replace: mailboxState", "mailboxState: expiring",
            "-", "replace: mailboxExpires", f"mailboxExpires: {end}",
        )  # fmt: skip

        def now() -> dict[str, list[str]]:
            return ask(site, f"-b '{person}' -s base").popitem()[1]

        until(lambda: now()["mailboxState"] == ["departed"], "the end of service")
        assert now()["mailboxStateSince"] == [end]
        assert now()["mailboxRetainUntil"] > [end]
        until(lambda: rcpt(site, address)[0] == 550, "the refusal of mail")

        def refused() -> bool:
            try:
                with clients.imap(site, account):
                    return False
            except LoginError:
                return True

        until(refused, "the refusal of the log-in")
        host = clients.address_of(site, "directory")
        said = remote.shell(site, host, "journalctl -q -t site-lifecycle --since -5min -o cat")
        assert f"person {LEAVING} <{address}>: the last day of service is over" in said
    assert plan(site) == EXIT_DONE
