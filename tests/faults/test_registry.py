"""Officials come, go, move and are renamed: the registry changes, and the directory with it.

What was is put back by a run with the registry as it is in the repository, which is shown, too.
"""

import csv
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deploy.run import EXIT_CHANGES, EXIT_DONE, run
from roles.accounts.settings import AccountsSettings
from roles.common.site import Site
from roles.directory.ldif import OPERATIONAL, Entries, entries
from roles.directory.tree import service_dn
from tests import clients, remote
from tests.clients import Account
from tests.mail.test_mta_mx import rcpt

SEARCH = "ldapsearch -Q -Y EXTERNAL -H ldapi:/// -LLL -o ldif-wrap=no"
Table = list[dict[str, str]]

RENAMED, MOVED, NAMED, REMOVED, ADDED = "1038", "1039", "1040", "1042", "1099"
"""People nobody else needs; the last is new."""
CLOSED = "mytho.tanmychanh"
"""A unit, that of the one who goes."""
NEW_UNIT, NEW_ALIAS, NEW_NAME = "mytho", "thu.trungan", "Lý Quốc Nháp"


@dataclass(frozen=True)
class Record:
    """A line of the audit log: what was done to which entry."""

    kind: str
    dn: str
    attributes: dict[str, list[str]] = field(default_factory=dict)
    """Of a modification: the new values, without what the server itself writes."""


def changed_registry(site: Site, folder: Path) -> None:
    """Write the environment's registry into `folder`, with every kind of change."""

    def edited(name: str, edit: Callable[[Table], Table]) -> None:
        source = site.folder / site.of(AccountsSettings).registry / name
        with source.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        columns = list(rows[0])
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, columns, restval="")
            writer.writeheader()
            writer.writerows(edit(rows))

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

    folder.mkdir()
    edited("people.csv", people)
    edited("units.csv", lambda rows: [row for row in rows if row["code"] != CLOSED])
    edited("delegations.csv", lambda rows: rows)


def apply(site: Site) -> int:
    return run("apply", "site", site.environment, ["directory"], sys.stdout)


def plan(site: Site) -> int:
    return run("plan", "site", site.environment, ["directory"], sys.stdout)


def ask(site: Site, arguments: str) -> Entries:
    """Ask the first directory host as its root; hashes stay there."""
    command = f"{SEARCH} {arguments} | grep -v -i '^userPassword:'"
    return entries(remote.shell(site, clients.address_of(site, "directory"), command).splitlines())


def content(site: Site) -> Entries:
    """Every entry of the directory."""
    return ask(site, f"-b '{site.base_dn}'")


def logged(site: Site) -> Entries:
    """All records of the audit log about the registry's account."""
    return ask(
        site,
        f"-b cn=accesslog '(&(objectClass=auditWriteObject)(reqResult=0)"
        f"(reqAuthzID={service_dn(site, 'accounts')}))' reqType reqDN reqMod",
    )


def audit(site: Site, earlier: Collection[str]) -> dict[str, Record]:
    """What the registry's account did, by the audit log, in the order of time.

    Args:
        site: the environment.
        earlier: records to leave out: other tests write under that name, too, in other ways.
    """
    shown = logged(site)
    records = {}
    for dn, line in sorted((dn, line) for dn, line in shown.items() if dn not in earlier):
        attributes: dict[str, list[str]] = {}
        for change in line.get("reqMod", []) if line["reqType"] == ["modify"] else []:
            name, _, value = change.partition(":")
            assert value[:1] == "=", f"{change}: attributes are replaced as a whole"
            if name not in OPERATIONAL:
                attributes.setdefault(name, []).append(value[1:].strip())
        records[dn] = Record(line["reqType"][0], line["reqDN"][0].lower(), attributes)
    return records


def handed_over(site: Site) -> dict[str, Account]:
    """Who has a first password that an operator can hand over, by address."""
    return {account.address: account for account in clients.accounts(site) if account.is_person}


@pytest.fixture
def before(site: Site) -> Iterator[Entries]:
    """The directory as it was, and is again afterwards; addresses that were reserved are free."""
    # What another test left on the host, such as a service to restart, is none of this one's.
    assert apply(site) == EXIT_DONE
    was = content(site)
    yield was
    assert apply(site) == EXIT_DONE
    for dn in set(content(site)) - set(was):
        assert ",ou=reservations," in dn, f"{dn} is left"
        remote.shell(
            site, clients.address_of(site, "directory"),
            f"ldapdelete -Q -Y EXTERNAL -H ldapi:/// '{dn}'",
        )  # fmt: skip
    assert plan(site) == EXIT_DONE


@pytest.mark.regulation("3.2")
def test_changes_of_the_registry_reach_the_directory_and_nothing_else(
    site: Site, before: Entries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, at = site.base_dn.lower(), f"@{site.domain}"

    def person(number: str) -> str:
        return f"employeenumber={number},ou=people,{base}"

    def reserved(address: str) -> str:
        return f"reservedaddress={address},ou=reservations,{base}"

    def answers(*addresses: str) -> dict[str, int]:
        return {address: rcpt(site, address)[0] for address in addresses}

    gone = before[person(REMOVED)]["mail"][0]
    alias, closed = f"{NEW_ALIAS}{at}", f"{CLOSED}{at}"
    assert plan(site) == EXIT_DONE
    earlier = logged(site)
    passwords = handed_over(site)

    with monkeypatch.context() as patch:
        changed_registry(site, tmp_path / "registry")
        overlay = tmp_path / "change.toml"
        overlay.write_text(f'[accounts]\nregistry = "{tmp_path / "registry"}"\n')
        patch.setenv("LAB_SETTINGS", str(overlay))
        assert plan(site) == EXIT_CHANGES
        assert audit(site, earlier) == {}, "a plan changes nothing"
        assert apply(site) == EXIT_DONE

        done = audit(site, earlier)
        (new,) = set(handed_over(site)) - set(passwords)
        kept = before[person(NAMED)]["mail"]
        assert sorted(done.values(), key=lambda record: record.dn) == sorted(
            [
                Record("add", reserved(gone)),
                Record("add", reserved(closed)),
                Record("add", person(ADDED)),
                Record("modify", person(RENAMED), {
                    "cn": [NEW_NAME], "displayName": [NEW_NAME], "givenName": ["Nháp"],
                    "searchName": ["ly quoc nhap"],
                }),
                Record("modify", person(MOVED), {"departmentNumber": [NEW_UNIT]}),
                Record("modify", person(NAMED), {"mailLocalAddress": [*kept, alias]}),
                Record("delete", f"cn={CLOSED},ou=mailboxes,{base}"),
                Record("delete", person(REMOVED)),
                Record("delete", f"ou={CLOSED},ou=units,{base}"),
            ],
            key=lambda record: record.dn,
        )  # fmt: skip
        renamed, moved = (before[person(number)]["mail"][0] for number in (RENAMED, MOVED))
        assert answers(new, alias, renamed, moved) == dict.fromkeys(
            (new, alias, renamed, moved), 250
        )
        assert answers(gone, closed) == {gone: 550, closed: 550}

        account = handed_over(site)[new]
        with clients.imap(site, account) as client:
            assert client.folder_exists("INBOX")
        assert set(passwords) - set(handed_over(site)) == {gone}
        assert plan(site) == EXIT_DONE
        assert apply(site) == EXIT_DONE
        assert audit(site, earlier) == done, "a run that changes nothing sends nothing"
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
    returned = [person(REMOVED), f"cn={CLOSED},ou=mailboxes,{base}"]
    for dn in returned:
        assert after[dn].pop("mailboxStateSince") > before[dn].pop("mailboxStateSince")
    assert after == {dn: was for dn, was in before.items() if ",ou=reservations," not in dn}
    # Who comes back has a new password.
    back = handed_over(site)[gone]
    assert back.password != passwords[gone].password
    with clients.imap(site, back) as client:
        assert client.folder_exists("INBOX")
