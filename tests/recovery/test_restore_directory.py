"""The directory from the backup, through LDAP: what comes back, and what is left alone.

Each test makes people of its own, who are in no registry, and removes what is left of them.
"""

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from ldap3 import MODIFY_ADD, MODIFY_REPLACE
from ldap3.core.exceptions import LDAPInvalidCredentialsResult, LDAPNoSuchObjectResult

from deploy import restore
from roles.common.site import Site
from roles.directory.ldif import normalized
from roles.directory.tree import policy_dn
from tests import remote
from tests.backups import backup_of
from tests.mail.test_directory import GOOD, PERSON, bound, service, somebody

__all__ = ["somebody"]
"""A fixture."""
OTHER = "Mat khau khac dai 2"
"""Another password that the policy accepts."""


def backed_up(site: Site) -> str:
    """Back the directory up as it is now: the time of it, as an operator types it."""
    return backup_of(site, site.group("directory")[0], "directory")


def restored(site: Site, at: str, *words: str, action: str = "apply") -> int:
    """What an operator types."""
    return restore.main(["--env", site.environment, action, "directory", *words, "--at", at])


def planned(site: Site, capsys: pytest.CaptureFixture[str], at: str, *words: str) -> dict[str, Any]:
    """The plan for programs."""
    capsys.readouterr()
    restored(site, at, *words, "--json", action="plan")
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def lets_in(site: Site, dn: str, password: str) -> bool:
    try:
        with bound(site, dn, password):
            return True
    except LDAPInvalidCredentialsResult:
        return False


def values(site: Site, dn: str, *names: str) -> dict[str, list[str]]:
    """Values of an entry as every directory host has it, once all know the same."""
    hosts = site.group("directory")
    attributes = " ".join(names)
    found = [
        remote.shell(
            site, host.address,
            f"ldapsearch {remote.LDAP} -LLL -o ldif_wrap=no -s base -b '{dn}' {attributes}",
            check=False,
        )
        for host in hosts
    ]  # fmt: skip
    assert len(set(found)) == 1
    result: dict[str, list[str]] = {}
    for line in found[0].splitlines():
        name, colon, value = line.partition(": ")
        if colon:
            result.setdefault(name, []).append(value)
    return result


@pytest.fixture
def unit_mailbox(site: Site) -> Iterator[Callable[..., str]]:
    """Make unit mailboxes that are in no registry: returns a maker, from readers to the DN."""
    made = []
    with bound(site, *service(site, "accounts")) as accounts:

        def make(*readers: str) -> str:
            name = f"thu-{secrets.token_hex(6)}"
            address = f"{name}@{site.domain}"
            dn = f"cn={name},ou=mailboxes,{site.base_dn}"
            accounts.add(
                dn, ["inetLocalMailRecipient", "mailboxAccount", "unitMailbox"],
                {"mail": address, "mailLocalAddress": address, "mailboxState": "locked",
                 "mailboxReader": [*readers]},
            )  # fmt: skip
            made.append(dn)
            return dn

        yield make
        for dn in made:
            with suppress(LDAPNoSuchObjectResult):
                accounts.delete(dn)


@pytest.mark.regulation("3.2")
def test_who_was_removed_is_back_with_identity_password_and_rights(
    site: Site, somebody: Callable[..., tuple[str, str]], unit_mailbox: Callable[..., str]
) -> None:
    (dn, address), (other, _) = somebody(), somebody()
    unit = unit_mailbox(dn, other)
    before = values(site, dn, "entryUUID", "createTimestamp", "creatorsName", "mail")
    at = backed_up(site)
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.delete(dn)
        # What is not asked for stays as it is now.
        accounts.modify(other, {"title": [(MODIFY_REPLACE, ["Thu ky"])]})
    assert values(site, unit, "mailboxReader")["mailboxReader"] == [other]
    assert restored(site, at, address, action="plan") == 2
    assert values(site, dn) == {}
    assert restored(site, at, address) == 0
    assert values(site, dn, "entryUUID", "createTimestamp", "creatorsName", "mail") == before
    assert lets_in(site, dn, GOOD)
    assert set(values(site, unit, "mailboxReader")["mailboxReader"]) == {dn, other}
    assert values(site, other, "title")["title"] == ["Thu ky"]
    assert restored(site, at, address, action="plan") == 0


def test_a_password_is_what_it_was_and_no_hash_is_shown(
    site: Site, somebody: Callable[..., tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    dn, address = somebody()
    at = backed_up(site)
    with bound(site, dn, GOOD) as own:
        own.extend.standard.modify_password(dn, GOOD, OTHER)
    assert lets_in(site, dn, OTHER)
    (change,) = planned(site, capsys, at, address)["modified"]
    assert change["attributes"]["userPassword"] == ["*"]
    assert restored(site, at, address) == 0
    assert lets_in(site, dn, GOOD)
    assert not lets_in(site, dn, OTHER)
    assert "ARGON2" not in capsys.readouterr().out


@pytest.mark.regulation("13")
def test_the_audit_log_tells_of_a_restore(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, address = somebody()
    at = backed_up(site)
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.modify(dn, {"telephoneNumber": [(MODIFY_REPLACE, ["1"])]})
    assert restored(site, at, address) == 0
    told = site.group("directory")[0]
    said = remote.shell(
        site, told.address,
        f"ldapsearch {remote.LDAP} -LLL -o ldif_wrap=no -b cn=accesslog '(reqDN={dn})'"
        " reqType reqAuthzID",
    )  # fmt: skip
    assert said.count("reqType: modify") == 2
    assert "gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth" in said
    noted = remote.shell(site, told.address, f"journalctl -q -t helpdesk -g '{address}'")
    assert "restore directory" in noted


def test_the_whole_directory_keeps_what_was_made_since(
    site: Site,
    somebody: Callable[..., tuple[str, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    removed, changed = somebody()[0], somebody()[0]
    at = backed_up(site)
    since, _ = somebody()
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.delete(removed)
        accounts.modify(changed, {"cn": [(MODIFY_REPLACE, ["Ai Khác"])]})
    plan = planned(site, capsys, at)
    assert removed in plan["added"]
    assert changed in [change["dn"] for change in plan["modified"]]
    assert normalized(since) in plan["stays"]
    assert plan["deleted"] == []
    assert restored(site, at) == 0
    assert lets_in(site, removed, GOOD)
    assert lets_in(site, since, GOOD)
    again = planned(site, capsys, at)
    assert removed not in again["added"]
    assert changed not in [change["dn"] for change in again["modified"]]


def test_exactly_means_that_what_was_made_since_goes(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, address = somebody()
    at = backed_up(site)
    app = f"cn=thu,{dn}"
    with bound(site, dn, GOOD) as own:
        own.add(
            app, "appPassword",
            {"userPassword": OTHER, "mailboxService": "imap",
             "pwdPolicySubentry": policy_dn(site, "applications")},
        )  # fmt: skip
    try:
        assert restored(site, at, address) == 0
        assert values(site, app)
        assert restored(site, at, address, "--exact") == 0
        assert not values(site, app)
    finally:
        with bound(site, *service(site, "accounts")) as accounts, suppress(LDAPNoSuchObjectResult):
            accounts.delete(app)


def test_an_address_that_is_somebody_elses_now_stays_his(
    site: Site, somebody: Callable[..., tuple[str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    dn, address = somebody()
    at = backed_up(site)
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.delete(dn)
    other, _ = somebody()
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.modify(other, {"mailLocalAddress": [(MODIFY_ADD, [address])]})
    assert restored(site, at, dn) == 1
    assert f"belongs to {normalized(other)} now" in capsys.readouterr().out
    assert not values(site, dn)
    assert address in values(site, other, "mailLocalAddress")["mailLocalAddress"]


def test_a_restore_leaves_the_entry_classes_of_people(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, address = somebody()
    at = backed_up(site)
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.delete(dn)
    assert restored(site, at, address) == 0
    assert set(values(site, dn, "objectClass")["objectClass"]) == {*PERSON}
