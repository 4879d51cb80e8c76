"""The directory over the wire: who may ask what, and what it refuses.

Most tests make somebody of their own and remove him afterwards; nobody of the registry is touched.
"""

import json
import re
import secrets
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

import pytest
from ldap3 import BASE, MODIFY_ADD, MODIFY_REPLACE, Connection, Server
from ldap3.core.exceptions import (
    LDAPConstraintViolationResult,
    LDAPInappropriateAuthenticationResult,
    LDAPInsufficientAccessRightsResult,
    LDAPInvalidCredentialsResult,
    LDAPNoSuchObjectResult,
    LDAPUnwillingToPerformResult,
)

from roles.accounts.deploy import site_registry
from roles.accounts.settings import AccountsSettings
from roles.common.rendering import render
from roles.common.site import Group, Site
from roles.directory.config import difference
from roles.directory.ldif import Change, Entries, entries
from roles.directory.settings import DirectorySettings
from roles.directory.tree import SERVICES, service_dn
from tests import ldaps
from tests.clients import Account, address_of, negotiated
from tests.remote import shell
from tests.waiting import until

UNITS_OF_THE_WEBMAIL = """<?php
class rcube {
    static function get_instance() { return new self; }
    static function get_cache_shared($name) { return null; }
    static function write_log($name, $line) { fwrite(STDERR, "$line\\n"); }
}
require '/etc/roundcube/config.inc.php';
require '/var/lib/roundcube/plugins/province/province_directory.php';
echo json_encode((new province_directory($config['province_directory']))->units());
"""
"""Prints the names of units by their codes, as the plugin learns them, without its cache."""
GOOD = "Mat khau du dai 1"
"""A password that the policy accepts."""
HASH = "{ARGON2}$argon2id$v=19$m=1024,t=1,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNo"
PERSON = ["inetOrgPerson", "inetLocalMailRecipient", "mailboxAccount"]
READS = {
    "dovecot": {
        "objectClass", "mail", "mailLocalAddress", "mailHost", "mailboxState", "mailboxService",
        "mailboxQuota", "mailboxGroup", "employeeNumber",
    },
    "postfix": {
        "objectClass", "mail", "mailLocalAddress", "mailHost", "mailboxState", "mailboxService",
        "mailboxSendAs", "departmentNumber",
    },
    "webmail": {
        "objectClass", "mail", "mailLocalAddress", "mailboxState", "mailboxService",
        "mailboxSendAs", "cn", "sn", "givenName", "displayName", "title", "telephoneNumber",
        "departmentNumber", "searchName",
    },
    "publicdirectory": {
        "objectClass", "mail", "cn", "title", "telephoneNumber", "departmentNumber",
    },
    "archive": {
        "objectClass", "mail", "displayName", "mailHost", "mailboxState", "mailboxStateSince",
    },
    "addressbook": {
        "objectClass", "mail", "cn", "title", "telephoneNumber", "departmentNumber",
        "mailboxState", "mailboxService",
    },
}  # fmt: skip
"""What each service reads of a person: what it needs, and nothing else."""


def server(site: Site) -> Server:
    """The first directory host, verified against the site's CA and by its name."""
    host = site.group("directory")[0]
    return ldaps.server(host.address, host.fqdn, site.state / "ca.pem")


def bound(site: Site, dn: str, password: str) -> AbstractContextManager[Connection]:
    """Somebody who has logged in there."""
    return ldaps.bound(server(site), dn, password)


def service(site: Site, name: str) -> tuple[str, str]:
    """DN and password of a service."""
    password = getattr(site.secrets, f"directory_{name}_password").get_secret_value()
    return service_dn(site, name), password


def found(connection: Connection, base: str, what: str, *attributes: str) -> dict[str, set[str]]:
    """Entries that a search finds, each with the names of the attributes that it shows."""
    try:
        connection.search(base, what, attributes=list(attributes) or ["*"])
    except LDAPNoSuchObjectResult:
        return {}
    return {entry.entry_dn: set(entry.entry_attributes) for entry in connection.entries}


@pytest.fixture
def somebody(site: Site) -> Iterator[Callable[..., tuple[str, str]]]:
    """Make people who are in no registry: returns a maker of (DN, address)."""
    made: list[str] = []
    with bound(site, *service(site, "accounts")) as accounts:

        def make(**more: str | list[str]) -> tuple[str, str]:
            name = f"thu-{secrets.token_hex(6)}"
            dn = f"employeeNumber={name},ou=people,{site.base_dn}"
            address = f"{name}@{site.domain}"
            attributes: dict[str, str | list[str]] = {
                "cn": "Nguyễn Văn Thử", "sn": "Nguyễn", "mail": address,
                "mailLocalAddress": address, "mailboxState": "locked", "userPassword": GOOD,
                **more,
            }  # fmt: skip
            accounts.add(
                dn, ["inetOrgPerson", "inetLocalMailRecipient", "mailboxAccount"], attributes
            )
            made.append(dn)
            return dn, address

        yield make
        for dn in made:
            with suppress(LDAPNoSuchObjectResult):
                accounts.delete(dn)


# -- who is let in ------------------------------------------------------------------------------


def test_nobody_stays_anonymous(site: Site) -> None:
    with pytest.raises(LDAPInappropriateAuthenticationResult), bound(site, "", ""):
        pass
    asking = Connection(server(site), raise_exceptions=True, receive_timeout=30)
    asking.open()
    with pytest.raises(LDAPUnwillingToPerformResult):
        asking.search(site.base_dn, "(objectClass=*)")
    asking.unbind()


def test_a_name_without_a_password_is_refused(site: Site) -> None:
    # Many servers take that for an anonymous bind, and many programs for a log-in.
    said = shell(
        site, address_of(site, "directory"),
        f"ldapwhoami -x -H ldapi:/// -D '{service_dn(site, 'dovecot')}' -w '' 2>&1", check=False,
    )  # fmt: skip
    assert "ldap_bind: Server is unwilling to perform (53)" in said


def test_a_wrong_password_is_refused(site: Site) -> None:
    with pytest.raises(LDAPInvalidCredentialsResult), bound(site, service_dn(site, "dovecot"), "x"):
        pass


def test_the_port_without_tls_is_closed(site: Site) -> None:
    # Whether slapd does not listen or the firewall drops it is one to who asks.
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        socket.create_connection((address_of(site, "directory"), 389), timeout=3)


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_tls_begins_at_1_2(site: Site, version: ssl.TLSVersion, accepted: bool) -> None:
    host = site.group("directory")[0]
    asked = (site, host.address, 636, host.fqdn, version)
    if not accepted:
        with pytest.raises(ssl.SSLError):
            negotiated(*asked)
        return
    cipher = negotiated(*asked)
    assert "GCM" in cipher or "CHACHA20" in cipher


# -- who reads what -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", READS)
def test_a_service_reads_what_it_needs_of_a_person(
    site: Site, person: Callable[[str], Account], name: str
) -> None:
    address = person("anv").address
    with bound(site, *service(site, name)) as connection:
        ((dn, attributes),) = found(connection, site.base_dn, f"(mail={address})").items()
    assert dn == f"employeeNumber=1001,ou=people,{site.base_dn}"
    assert attributes == READS[name]


def test_dovecot_reads_the_names_of_shared_mailboxes_only(site: Site) -> None:
    """Those of units, and of who departed and has a successor."""
    shared = "(|(objectClass=unitMailbox)(&(mailboxState=departed)(mailboxSuccessor=*)))"
    with bound(site, *service(site, "dovecot")) as connection:
        every = found(connection, site.base_dn, "(objectClass=mailboxAccount)", "displayName")
        named = {dn for dn, attributes in every.items() if attributes}
        assert f"cn=stttt,ou=mailboxes,{site.base_dn}" in named
        assert named <= {*found(connection, site.base_dn, shared)}


@pytest.mark.parametrize("name", READS)
def test_a_service_reads_nothing_of_services_policies_and_reservations(
    site: Site, name: str
) -> None:
    with bound(site, *service(site, name)) as connection:
        for folder in ("services", "policies", "reservations"):
            assert found(connection, f"ou={folder},{site.base_dn}", "(cn=*)") == {}


@pytest.mark.regulation("13")
@pytest.mark.parametrize("name", SERVICES)
def test_no_service_reads_a_hash(site: Site, name: str) -> None:
    with bound(site, *service(site, name)) as connection:
        if name == "replicator":
            # In a site with one directory host it has nothing to do.
            assert found(connection, site.base_dn, "(objectClass=*)", "*", "+") == {}
            assert found(connection, "cn=accesslog", "(objectClass=*)", "*", "+") == {}
            return
        everything = found(connection, site.base_dn, "(objectClass=mailboxAccount)", "*", "+")
        assert everything
        assert not [dn for dn, attributes in everything.items() if "userPassword" in attributes]
        asked = found(connection, site.base_dn, "(mail=anv@*)", "userPassword", "pwdHistory")
        assert asked
        assert not any(asked.values())
        # Nor by guessing it in a filter.
        assert found(connection, site.base_dn, "(userPassword=*)", "mail") == {}


@contextmanager
def peer_at(site: Site, address: str) -> Iterator[str]:
    """As if a second directory host had this address: the first one's rules, then its own again."""
    host = site.group("directory")[0]
    peer = replace(host, name="directory0", address=address)
    seed = render(
        "directory/etc/ldap/slapd.ldif.j2",
        {
            "site": replace(site, hosts={**site.hosts, peer.name: peer}), "host": host,
            "secrets": site.secrets, "settings": site.of(DirectorySettings, host.name),
            "schema": "",
        },
    )  # fmt: skip
    tools = "-Q -Y EXTERNAL -H ldapi:///"
    databases = "'(|(olcSuffix=cn=accesslog)(olcDatabase=mdb))'"
    shown = shell(
        site, host.address,
        f"ldapsearch {tools} -LLL -o ldif-wrap=no -b cn=config {databases} olcAccess",
    )  # fmt: skip
    own = entries(shown.splitlines())
    wanted = entries(seed.splitlines())
    assert len(own) == 2

    def change(rules: Entries) -> None:
        text = "".join(
            Change("modify", dn, {"olcAccess": rules[dn]["olcAccess"]}).ldif() for dn in own
        )
        shell(site, host.address, f"ldapmodify {tools}", stdin=text)

    change(wanted)
    try:
        yield seed
    finally:
        change(own)


@pytest.mark.regulation("13")
def test_only_another_directory_host_replicates_hashes(site: Site) -> None:
    """Here nothing replicates; by the rules of two hosts it does, from the other's address only."""
    host = site.group("directory")[0]
    with socket.create_connection((host.address, 636), timeout=10) as probe:
        here = probe.getsockname()[0]

    def hashes() -> bool:
        with bound(site, *service(site, "replicator")) as connection:
            shown = found(connection, site.base_dn, "(mail=anv@*)", "userPassword")
            log = found(connection, "cn=accesslog", "(objectClass=*)", "reqDN")
        assert bool(shown) == bool(log)
        return any("userPassword" in attributes for attributes in shown.values())

    assert not hashes()
    with peer_at(site, here) as seed:
        assert hashes()
        running = shell(site, host.address, "slapcat -F /etc/ldap/slapd.d -o ldif-wrap=no -n0")
        # slapd writes the rules as they were given: a second run would find nothing to change.
        assert [words for words in difference(seed, running).words if "olcAccess" in words] == []
    with peer_at(site, address_of(site, "mx") if len(site.hosts) > 1 else "192.0.2.1"):
        assert not hashes()
    assert not hashes()


@pytest.mark.regulation("13")
def test_nobody_reads_his_own_hash_nor_others_entries(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, _ = somebody()
    other, address = somebody()
    with bound(site, dn, GOOD) as connection:
        own = found(connection, dn, "(objectClass=*)", "*", "+")
        assert "mail" in own[dn]
        assert "userPassword" not in own[dn]
        assert found(connection, other, "(objectClass=*)") == {}
        assert found(connection, site.base_dn, f"(mail={address})") == {}


@pytest.mark.parametrize("name", READS)
def test_a_service_changes_nothing(
    site: Site, somebody: Callable[..., tuple[str, str]], name: str
) -> None:
    dn, _ = somebody()
    with bound(site, *service(site, name)) as connection:
        with pytest.raises(LDAPInsufficientAccessRightsResult):
            connection.modify(dn, {"mailboxState": [(MODIFY_REPLACE, ["active"])]})
        with pytest.raises(LDAPInsufficientAccessRightsResult):
            connection.modify(dn, {"userPassword": [(MODIFY_REPLACE, [GOOD + "!"])]})
        with pytest.raises((LDAPInsufficientAccessRightsResult, LDAPNoSuchObjectResult)):
            connection.delete(dn)


@pytest.mark.regulation("13")
@pytest.mark.parametrize("name", SERVICES)
def test_no_service_changes_the_password_of_a_service(site: Site, name: str) -> None:
    # That of the account that has nothing to do in the lab, should it succeed after all.
    for dn in (service_dn(site, name), service_dn(site, "replicator")):
        with bound(site, *service(site, name)) as connection:
            same = service(site, dn.removeprefix("cn=").partition(",")[0])[1]
            with pytest.raises(LDAPInsufficientAccessRightsResult):
                connection.modify(dn, {"userPassword": [(MODIFY_REPLACE, [same])]})
            with pytest.raises(LDAPInsufficientAccessRightsResult):
                connection.extend.standard.modify_password(new_password=same)


def test_a_search_by_what_one_may_not_read_finds_nothing(site: Site) -> None:
    with bound(site, *service(site, "postfix")) as connection:
        assert found(connection, site.base_dn, "(mailboxQuota>=0)", "mail") == {}


NOTHING: set[str] = set()
OF_A_UNIT_MAILBOX = {
    "dovecot": {
        "objectClass", "mail", "mailLocalAddress", "mailHost", "mailboxState", "mailboxService",
        "mailboxQuota", "displayName",
    },
    "postfix": {
        "objectClass", "mail", "mailLocalAddress", "mailHost", "mailboxState", "mailboxService",
        "mailboxSender", "departmentNumber",
    },
    "webmail": {
        "objectClass", "mail", "mailLocalAddress", "mailboxState", "mailboxService",
        "mailboxSender", "cn", "displayName", "departmentNumber", "searchName",
    },
    "publicdirectory": {"objectClass", "mail", "cn"},
    "archive": {
        "objectClass", "mail", "displayName", "mailHost", "mailboxState", "mailboxStateSince",
    },
    "addressbook": {"objectClass", "mail", "cn"},
    "replicator": NOTHING,
}  # fmt: skip
"""What each service reads of a unit mailbox."""
UNIT = {
    "objectClass", "ou", "displayName", "unitKind", "unitParent", "owner", "searchName",
    "managedBy",
}  # fmt: skip
LIST = {"objectClass", "cn", "mail", "mailLocalAddress", "listScope", "listPoster", "managedBy"}
DOMAIN = {"objectClass", "associatedDomain", "managedBy"}
OF_OTHERS = {
    "dovecot": {"units": NOTHING, "lists": NOTHING, "domains": NOTHING},
    "postfix": {"units": {"objectClass", "unitParent"}, "lists": LIST, "domains": DOMAIN},
    "webmail": {"units": UNIT, "lists": LIST, "domains": NOTHING},
    "publicdirectory": {
        "units": UNIT - {"searchName", "managedBy"}, "lists": NOTHING, "domains": NOTHING,
    },
    "addressbook": {
        "units": UNIT - {"searchName", "managedBy"}, "lists": NOTHING, "domains": NOTHING,
    },
    "archive": {"units": NOTHING, "lists": NOTHING, "domains": NOTHING},
    "replicator": {"units": NOTHING, "lists": NOTHING, "domains": NOTHING},
}  # fmt: skip
"""What each service reads of a unit, a distribution list and a further domain."""


@pytest.mark.parametrize("name", OF_A_UNIT_MAILBOX)
def test_a_service_reads_what_it_needs_of_a_unit_mailbox(site: Site, name: str) -> None:
    dn = f"cn=stttt,ou=mailboxes,{site.base_dn}"
    with bound(site, *service(site, name)) as connection:
        assert found(connection, dn, "(objectClass=*)").get(dn, NOTHING) == OF_A_UNIT_MAILBOX[name]


@pytest.fixture
def others(site: Site) -> Iterator[dict[str, str]]:
    """DNs of a unit below another, and of a list and a domain, which are made for the test."""
    name = f"thu-{secrets.token_hex(6)}"
    address = f"{name}@{site.domain}"
    dns = {
        "units": f"ou=vpubnd.tttinhoc,ou=units,{site.base_dn}",
        "lists": f"cn={name},ou=lists,{site.base_dn}",
        "domains": f"associatedDomain={name}.example,ou=domains,{site.base_dn}",
    }
    values = {
        "mail": address, "mailLocalAddress": address, "listScope": "members",
        "listPoster": "anyone", "managedBy": "thu",
    }  # fmt: skip
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.add(dns["lists"], ["mailList"], values)
        try:
            accounts.add(dns["domains"], ["mailDomain"], {"managedBy": "thu"})
            try:
                yield dns
            finally:
                accounts.delete(dns["domains"])
        finally:
            accounts.delete(dns["lists"])


@pytest.mark.parametrize("name", OF_OTHERS)
def test_a_service_reads_what_it_needs_of_units_lists_and_domains(
    site: Site, others: dict[str, str], name: str
) -> None:
    with bound(site, *service(site, name)) as connection:
        shown = {
            folder: found(connection, dn, "(objectClass=*)").get(dn, NOTHING)
            for folder, dn in others.items()
        }
    assert shown == OF_OTHERS[name]


@pytest.mark.regulation("8")
@pytest.mark.parametrize(
    ("state", "hidden", "seen"),
    [
        ("active", [], {"cn", "mail", "telephoneNumber"}),
        ("locked", ["telephoneNumber"], {"cn", "mail"}),
        ("expiring", ["mail"], {"cn", "telephoneNumber"}),
        ("active", ["*"], NOTHING),
        ("departed", [], NOTHING),
    ],
)
def test_what_an_entry_hides_the_public_directory_cannot_ask_for(
    site: Site,
    somebody: Callable[..., tuple[str, str]],
    state: str,
    hidden: list[str],
    seen: set[str],
) -> None:
    phone = f"+84 273 {secrets.randbelow(10**9):09}"
    more: dict[str, str | list[str]] = {"directoryHidden": hidden} if hidden else {}
    dn, address = somebody(mailboxState=state, telephoneNumber=phone, **more)
    with bound(site, *service(site, "publicdirectory")) as connection:
        shown = found(connection, dn, "(objectClass=*)").get(dn, set())
        assert shown - {"objectClass", "directoryHidden"} == seen
        # Nor by guessing it in a filter.
        for name, value in (("telephoneNumber", phone), ("mail", address)):
            assert (dn in found(connection, site.base_dn, f"({name}={value})")) == (name in seen)


# -- what the mail servers ask ------------------------------------------------------------------


def test_dovecot_learns_all_in_one_question(site: Site, person: Callable[[str], Account]) -> None:
    with bound(site, *service(site, "dovecot")) as connection:
        connection.search(
            site.base_dn, f"(&(objectClass=mailboxAccount)(mail={person('anv').address}))",
            attributes=[
                "mailHost", "mailboxQuota", "mailboxService", "mailboxState", "mailboxGroup",
            ],
        )  # fmt: skip
        (entry,) = connection.entries
    assert entry.mailHost.value in site.store_names
    assert int(entry.mailboxQuota.value) == site.of(AccountsSettings).person_quota
    assert set(entry.mailboxService.values) >= {"imap", "lmtp", "submission"}
    assert entry.mailboxState.value == "active"
    # Reads, and may file and delete.
    assert set(entry.mailboxGroup.values) == {"stttt", "stttt+file"}


def looked_up(site: Site, group: Group, table: str, *addresses: str) -> list[str]:
    """What Postfix finds in a table on the first host of a group, an answer a line."""
    said = shell(
        site, address_of(site, group),
        f"postmap -q - ldap:/etc/postfix/ldap/{table}.cf || test $? = 1",
        stdin="".join(f"{address}\n" for address in addresses),
    )  # fmt: skip
    return said.splitlines()


def primary(site: Site, *addresses: str) -> dict[str, str]:
    """The mailbox of each recipient that Postfix knows."""
    return dict(line.split("\t", 1) for line in looked_up(site, "mx", "alias", *addresses))


def senders(site: Site, address: str) -> set[str]:
    """Who may send as an address, without the domain."""
    found = looked_up(site, "front", "sender", address)
    return {who.partition("@")[0] for line in found for who in line.partition("\t")[2].split(",")}


def test_postfix_resolves_recipients_and_aliases(site: Site) -> None:
    at = f"@{site.domain}"
    known = [f"{name}{at}" for name in ("anv", "ANV", "vanthu.stttt")]
    assert primary(site, *known, f"khongco{at}") == dict.fromkeys(known, f"anv{at}")


@pytest.mark.regulation("3.1a")
def test_every_unit_has_a_mailbox(site: Site) -> None:
    addresses = [f"{code}@{site.domain}" for code in site_registry(site).units]
    assert primary(site, *addresses) == {address: address for address in addresses}


def test_the_postmaster_is_somebody(site: Site) -> None:
    unit = f"{site.of(AccountsSettings).postmaster_unit}@{site.domain}"
    addresses = [f"{name}@{site.domain}" for name in site.role_addresses]
    assert f"abuse@{site.domain}" in addresses
    assert primary(site, *addresses) == dict.fromkeys(addresses, unit)


def test_the_webmail_knows_the_names_of_all_units(site: Site) -> None:
    """As many as the directory gives nobody who does not ask for more."""
    name, many = f"thu{secrets.token_hex(6)}", 501
    dns = {f"{name}.{n}": f"ou={name}.{n},ou=units,{site.base_dn}" for n in range(many)}
    classes = ["organizationalUnit", "unitProfile"]
    added = [
        Change("add", dn, {"objectClass": classes, "ou": [code], "displayName": ["Sở Thử"]})
        for code, dn in dns.items()
    ]
    directory, tools = address_of(site, "directory"), "ldapmodify -c -Q -Y EXTERNAL -H ldapi:///"
    with bound(site, *service(site, "webmail")) as connection:
        try:
            shell(site, directory, tools, stdin="".join(change.ldif() for change in added))
            assert len(found(connection, site.base_dn, "(objectClass=unitProfile)")) == many - 1
            said = shell(site, address_of(site, "front"), "php", stdin=UNITS_OF_THE_WEBMAIL)
        finally:
            gone = [Change("delete", dn, {}) for dn in dns.values()]
            text = "".join(change.ldif() for change in gone)
            shell(site, directory, tools, stdin=text, check=False)
    names = json.loads(said)
    assert {code for code in names if code.startswith(name)} == {*dns}
    assert names["stttt"] == "Sở Thông tin và Truyền thông"


@pytest.mark.regulation("12")
def test_postfix_learns_who_may_send_as_an_address(site: Site) -> None:
    at = f"@{site.domain}"
    assert senders(site, f"anv{at}") == {"anv"}
    assert senders(site, f"vanthu.stttt{at}") == {"anv"}
    assert senders(site, f"stttt{at}") == {"anv", "btt"}
    assert senders(site, f"khongco{at}") == set()


def test_the_address_book_is_searched_without_diacritics(site: Site) -> None:
    with bound(site, *service(site, "webmail")) as connection:
        people = found(connection, f"ou=people,{site.base_dn}", "(searchName=*nguyen*van*)", "mail")
        units = found(connection, f"ou=units,{site.base_dn}", "(searchName=*cai be*)")
    assert f"employeeNumber=1001,ou=people,{site.base_dn}" in people
    assert list(units) == [f"ou=caibe,ou=units,{site.base_dn}"]


# -- what it refuses ----------------------------------------------------------------------------


def test_an_address_belongs_to_one_mailbox(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, address = somebody()
    with pytest.raises(LDAPConstraintViolationResult):
        somebody(mail=address)
    # Somebody's address as another one's alias, in whatever case.
    with pytest.raises(LDAPConstraintViolationResult):
        somebody(mailLocalAddress=[f"{secrets.token_hex(6)}@{site.domain}", address.upper()])
    other, _ = somebody()
    with bound(site, *service(site, "accounts")) as accounts:
        with pytest.raises(LDAPConstraintViolationResult):
            accounts.modify(other, {"mailLocalAddress": [(MODIFY_ADD, [address])]})
        with pytest.raises(LDAPConstraintViolationResult):
            accounts.modify(other, {"mail": [(MODIFY_REPLACE, [f"stttt@{site.domain}"])]})
        with pytest.raises(LDAPConstraintViolationResult):
            accounts.modify(
                other, {"employeeNumber": [(MODIFY_ADD, [dn.split("=")[1].split(",")[0]])]}
            )


@pytest.mark.regulation("13")
def test_the_policy_governs_who_changes_his_own_password(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, _ = somebody()
    second = GOOD + " hai"
    with bound(site, dn, GOOD) as connection:
        change = connection.extend.standard.modify_password
        short = "a" * (site.of(DirectorySettings).password_length - 1)
        with pytest.raises(LDAPConstraintViolationResult, match="quality"):
            change(dn, GOOD, short)
        # A hash says nothing of what it was made of.
        with pytest.raises(LDAPConstraintViolationResult, match="quality"):
            connection.modify(
                dn, {"userPassword": [(MODIFY_REPLACE, ["{ARGON2}$argon2id$v=19$x"])]}
            )
        change(dn, GOOD, second)
    with pytest.raises(LDAPInvalidCredentialsResult), bound(site, dn, GOOD):
        pass
    until(lambda: may_log_in(site, dn, second), "the new password to count")
    with bound(site, dn, second) as connection:
        with pytest.raises(LDAPConstraintViolationResult, match="history"):
            connection.extend.standard.modify_password(dn, second, GOOD)
        with pytest.raises(LDAPInsufficientAccessRightsResult):
            connection.modify(dn, {"mailboxState": [(MODIFY_REPLACE, ["active"])]})


def may_log_in(site: Site, dn: str, password: str) -> bool:
    try:
        with bound(site, dn, password):
            return True
    except LDAPInvalidCredentialsResult:
        return False


@pytest.fixture
def policy_without_delay(site: Site) -> Iterator[str]:
    """DN of the people's policy but for the delays, so that ten wrong passwords take no minutes."""
    directory = address_of(site, "directory")
    dn = f"cn=thu-{secrets.token_hex(6)},ou=policies,{site.base_dn}"
    tools = "-Q -Y EXTERNAL -H ldapi:///"
    policy = shell(
        site, directory,
        f"ldapsearch {tools} -LLL -s base -b 'cn=default,ou=policies,{site.base_dn}'",
    )  # fmt: skip
    lines = [line for line in policy.splitlines() if line and not line.startswith(("dn:", "cn:"))]
    kept = [line for line in lines if not line.startswith(("pwdMinDelay:", "pwdMaxDelay:"))]
    assert len(kept) == len(lines) - 2
    entry = "\n".join([f"dn: {dn}", *kept])
    shell(site, directory, f"ldapadd {tools} <<'END'\n{entry}\nEND")
    yield dn
    shell(site, directory, f"ldapdelete {tools} '{dn}'")


@pytest.mark.regulation("13")
def test_whoever_guesses_passwords_is_locked_out(
    site: Site, somebody: Callable[..., tuple[str, str]], policy_without_delay: str
) -> None:
    dn, _ = somebody(pwdPolicySubentry=policy_without_delay)
    failures = site.of(DirectorySettings).lockout_failures
    for attempt in range(failures - 1):
        assert not may_log_in(site, dn, f"wrong {attempt}")
    # Whoever remembers in time starts anew.
    assert may_log_in(site, dn, GOOD)
    for attempt in range(failures):
        assert not may_log_in(site, dn, f"wrong {attempt}")
    assert not may_log_in(site, dn, GOOD)


@pytest.mark.regulation("13")
def test_a_wrong_password_delays_the_next_attempt(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, _ = somebody()
    # slapd counts in whole seconds: the first delay may be over at once.
    until(lambda: not (may_log_in(site, dn, "wrong") or may_log_in(site, dn, GOOD)), "a delay")
    until(lambda: may_log_in(site, dn, GOOD), "the delay to end", pause=0.5)


@pytest.mark.regulation("13")
def test_each_further_wrong_password_delays_longer(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, _ = somebody()
    first = site.of(DirectorySettings).delay_first

    def wrong() -> list[datetime]:
        """Try once more; when wrong passwords were compared, which none is during a delay."""
        assert not may_log_in(site, dn, "wrong")
        said = shell(
            site, address_of(site, "directory"),
            "ldapsearch -Q -Y EXTERNAL -H ldapi:/// -LLL -o ldif-wrap=no -s base "
            f"-b '{dn}' pwdFailureTime",
        )  # fmt: skip
        times = re.findall(r"(?m)^pwdFailureTime: (\d{14}\.\d+)Z$", said)
        return sorted(datetime.strptime(f"{time}+0000", "%Y%m%d%H%M%S.%f%z") for time in times)

    for number in range(1, 5):
        times = until(
            lambda: len(found := wrong()) >= number and found,  # noqa: B023
            "the delay to end",
            pause=0.2,
        )
    assert times
    # slapd counts in whole seconds.
    for number, (before, after) in enumerate(pairwise(times)):
        assert (after - before).total_seconds() >= first * 2**number - 1, times


# -- what it remembers --------------------------------------------------------------------------


@pytest.mark.regulation("15")
def test_every_change_is_in_the_audit_log(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, _ = somebody(title="Văn thư")
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.modify(dn, {"title": [(MODIFY_REPLACE, ["Giam doc"])]})
        # Who is audited does not read the log.
        assert found(accounts, "cn=accesslog", "(objectClass=*)") == {}
    log = shell(
        site, address_of(site, "directory"),
        "ldapsearch -Q -Y EXTERNAL -H ldapi:/// -LLL -o ldif-wrap=no -b cn=accesslog "
        f"'(&(objectClass=auditModify)(reqDN={dn}))' reqAuthzID reqMod reqOld reqStart",
    )  # fmt: skip
    assert f"reqAuthzID: {service_dn(site, 'accounts')}" in log
    assert "reqMod: title:= Giam doc" in log
    assert "reqOld" in log
    assert "reqStart: 2" in log


@pytest.mark.regulation("12", "13")
def test_dovecot_learns_what_was_given_from_the_log_and_no_more(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    services, groups = ["imap", "pop3"], ["thu", "thu+file"]
    dn, _ = somebody(mailboxService=services, mailboxGroup=groups)
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.modify(
            dn,
            {
                "mailboxGroup": [(MODIFY_REPLACE, [])],
                "mailboxService": [(MODIFY_REPLACE, ["imap"])],
                "userPassword": [(MODIFY_REPLACE, [HASH])],
                "title": [(MODIFY_REPLACE, ["mailboxGroup:+ thu"])],
            },
        )
    with bound(site, *service(site, "dovecot")) as dovecot:
        dovecot.search("cn=accesslog", f"(reqDN={dn})", attributes=["*", "+"])
        shown = [entry.entry_attributes_as_dict for entry in dovecot.entries]
        assert {name for attributes in shown for name in attributes} == {
            "entryCSN", "reqDN", "reqMod",
        }  # fmt: skip
        lines = {line for attributes in shown for line in attributes.get("reqMod", ())}
        assert {line if isinstance(line, str) else line.decode() for line in lines} == {
            *(f"mailboxService:+ {name}" for name in services),
            *(f"mailboxGroup:+ {name}" for name in groups),
            "mailboxService:= imap",
        }
        # Nor by guessing it in a filter.
        assert found(dovecot, "cn=accesslog", "(reqMod=userPassword:*)") == {}
        assert found(dovecot, "cn=accesslog", f"(&(reqDN={dn})(reqMod=title:*))") == {}


def test_who_is_removed_has_no_rights_left(
    site: Site, somebody: Callable[..., tuple[str, str]]
) -> None:
    dn, _ = somebody()
    code = f"thu-{secrets.token_hex(6)}"
    mailbox = f"cn={code},ou=mailboxes,{site.base_dn}"
    address = f"{code}@{site.domain}"
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.add(
            mailbox,
            ["unitMailbox", "inetLocalMailRecipient", "mailboxAccount"],
            {
                "mail": address, "mailLocalAddress": address, "mailboxState": "locked",
                "mailboxReader": dn, "mailboxSender": dn, "owner": dn,
            },
        )  # fmt: skip
        try:
            # The reverse is computed when somebody asks for it by name.
            accounts.search(dn, "(objectClass=*)", BASE, attributes=["memberOf"])
            assert accounts.entries[0].memberOf.values == [mailbox]
            accounts.delete(dn)

            def left() -> set[str]:
                return found(accounts, mailbox, "(objectClass=*)", "*")[mailbox]

            until(lambda: not left() & {"mailboxReader", "mailboxSender", "owner"}, "no right left")
        finally:
            accounts.delete(mailbox)
