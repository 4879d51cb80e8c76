"""The address book by LDAP over the wire, as a mail program asks it.

Whoever is changed is made for the test, and is in no registry.
"""

import csv
import io
import secrets
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from ldap3 import MODIFY_REPLACE, Connection
from ldap3.core.exceptions import (
    LDAPInappropriateAuthenticationResult,
    LDAPInsufficientAccessRightsResult,
    LDAPInvalidCredentialsResult,
    LDAPInvalidDNSyntaxResult,
    LDAPNoSuchObjectResult,
    LDAPUnavailableResult,
    LDAPUnwillingToPerformResult,
)

from roles.addressbook.deploy import LDAPI, USER
from roles.addressbook.settings import AddressBookSettings
from roles.common.site import Site
from roles.directory.ldif import Change
from roles.directory.tree import policy_dn
from roles.publicdirectory.settings import PublicDirectorySettings
from tests import ldaps
from tests.access import WITHIN
from tests.clients import Account, context, negotiated
from tests.mail.test_directory import GOOD, PERSON, bound, service
from tests.mail.test_passwords import NEXT, Official
from tests.remote import run_anew, shell, stopped
from tests.waiting import until

NAME = "Phùng Đức Thử"
"""Of whoever is made for a test."""
PHONE = "+84 273 000 999"
TOKEN = "abcd-efgh-jkmn-pqrs-tuvw"
"""A password for one application, as the webmail makes them."""
THUNDERBIRD = (
    "(&(mail=*)(|(displayName=*{0}*)(cn=*{0}*)(mail=*{0}*)(givenName=*{0}*)(sn=*{0}*)(ou=*{0}*)"
    "(o=*{0}*)(title=*{0}*)))"
)
"""As that program asks for what was typed."""
SHOWN = {
    "organization": {"objectClass", "o", "dc"},
    "organizationalUnit": {
        "objectClass", "cn", "displayName", "mail", "telephoneNumber", "postalAddress", "ou",
        "description",
    },
    "inetOrgPerson": {
        "objectClass", "cn", "sn", "givenName", "displayName", "mail", "title", "telephoneNumber",
        "ou", "departmentNumber",
    },
}  # fmt: skip
"""All attributes that there are, by the kind of entry."""
IN_SERVICE = (
    "(&(objectClass=mailboxAccount)(!(directoryHidden=\\2a))"
    "(|(mailboxState=active)(mailboxState=expiring)(mailboxState=locked)))"
)
"""Whom the webmail's address book shows."""


def book(site: Site, name: str, password: str) -> AbstractContextManager[Connection]:
    """The first front's address book, verified by the one name that officials know."""
    host = site.group("front")[0]
    port = site.of(AddressBookSettings, host.name).port
    asked = ldaps.server(host.address, site.mail_name, site.state / "ca.pem", port)
    return ldaps.bound(asked, name, password)


def log_in(
    site: Site, who: Account | Official, password: str = ""
) -> AbstractContextManager[Connection]:
    """The address book for somebody, as the manual says: by `mail=` and the address."""
    own = who.password if isinstance(who, Account) else GOOD
    return book(site, f"mail={who.address}", password or own)


def may_log_in(site: Site, who: Account | Official, password: str = "") -> bool:
    """Whether a log-in succeeds."""
    try:
        with log_in(site, who, password):
            return True
    except LDAPInvalidCredentialsResult:
        return False


@pytest.fixture
def reader(site: Site, person: Callable[[str], Account]) -> Iterator[Connection]:
    """A connection of somebody who only reads."""
    with log_in(site, person("anv")) as connection:
        yield connection


def found(connection: Connection, what: str, base: str = "") -> dict[str, str]:
    """Addresses that a search finds, each with the name that a mail program shows: the first."""
    connection.search(base, what, attributes=["cn", "mail"])
    return {entry.mail.value: entry.cn.values[0] for entry in connection.entries if "mail" in entry}


def renew(site: Site) -> None:
    """Make every front's copy, and its public page, say what the directory says now."""
    for host in site.group("front"):
        run_anew(
            site, host.address, "site-addressbook-mirror.service", "site-publicdirectory.service"
        )


def journal(site: Site, official: Official) -> str:
    """What the first front's journal says of somebody's log-ins to the address book."""
    said = "journalctl --no-pager -o cat -u site-addressbook-login"
    address = site.group("front")[0].address
    return shell(site, address, f"{said} | grep {official.address} || true")


@pytest.fixture
def official(site: Site) -> Iterator[Official]:
    """Somebody who may read mail, with the password GOOD."""
    person = Official(site, f"thu-{secrets.token_hex(6)}")
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.add(
            person.dn,
            PERSON,
            {
                "cn": NAME, "displayName": NAME, "sn": "Phùng", "departmentNumber": "stttt",
                "telephoneNumber": PHONE, "userPassword": GOOD, "mailboxState": "active",
                "mail": person.address, "mailLocalAddress": person.address,
                "mailboxService": ["imap", "lmtp"],
            },
        )  # fmt: skip
    until(lambda: may_log_in(site, person), "the person to be known")
    yield person
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.search(person.dn, "(objectClass=*)")
        for entry in sorted(accounts.entries, key=lambda entry: -len(entry.entry_dn)):
            accounts.delete(entry.entry_dn)
    renew(site)


# -- what is found ---------------------------------------------------------------------------------


@pytest.mark.regulation("8")
@pytest.mark.parametrize(
    "typed", ["nguyen van a", "Nguyễn Văn A", "NGUYEN VAN A", "nguyễn văn a", "anv@"]
)
def test_a_mail_program_finds_a_name_however_it_is_typed(
    site: Site, reader: Connection, typed: str
) -> None:
    for base in ("", site.base_dn):
        hits = found(reader, THUNDERBIRD.format(typed), base)
        # And shows it in proper spelling.
        assert hits.get(f"anv@{site.domain}") == "Nguyễn Văn A"


@pytest.mark.regulation("3.1a")
@pytest.mark.parametrize("typed", ["so thong tin", "Sở Thông tin", "stttt"])
def test_a_mail_program_finds_a_units_mailbox(site: Site, reader: Connection, typed: str) -> None:
    hits = found(reader, THUNDERBIRD.format(typed), site.base_dn)
    assert hits.get(f"stttt@{site.domain}") == "Sở Thông tin và Truyền thông"
    if typed != "stttt":
        # Its people are found by it, too.
        assert f"anv@{site.domain}" in hits


@pytest.mark.regulation("8")
def test_it_shows_the_units_and_people_of_the_public_directory(
    site: Site, reader: Connection
) -> None:
    # Officials always see each other; the public may see units alone.
    people = site.of(PublicDirectorySettings, site.group("front")[0].name).people

    def differs() -> str:
        renew(site)
        at = f"https://{site.group('front')[0].address}/danh-ba/danh-ba.csv"
        with urllib.request.urlopen(at, context=context(site)) as answer:
            rows = list(csv.reader(io.StringIO(answer.read().decode("utf-8-sig"))))[1:]
        public = {(row[0], row[2] or row[1]) for row in rows if people or not row[2]}
        reader.search(
            site.base_dn, "(mail=*)", attributes=["displayName", "ou", "departmentNumber"]
        )
        own = {
            (
                entry.departmentNumber.value if "departmentNumber" in entry else entry.ou.values[0],
                entry.displayName.value,
            )
            for entry in reader.entries
            if people or "departmentNumber" not in entry
        }
        # A head of several units stands there in each, and here in that person's own.
        names = {name for _, name in public} ^ {name for _, name in own}
        return f"{names} {own - public}" if names or own - public else ""

    until(lambda: not differs(), "both to say the same", 120, pause=1)


@pytest.mark.regulation("8")
def test_it_shows_whom_the_webmail_shows_and_the_same_tree(site: Site, reader: Connection) -> None:
    def same() -> bool:
        renew(site)
        with bound(site, *service(site, "webmail")) as webmail:
            webmail.search(site.base_dn, IN_SERVICE, attributes=["mail", "displayName"])
            known = {entry.mail.value: entry.displayName.value for entry in webmail.entries}
            webmail.search(site.base_dn, "(objectClass=unitProfile)", attributes=["unitParent"])
            parents = {
                entry.entry_dn.partition(",")[0]: entry.unitParent.value.partition(",")[0]
                if "unitParent" in entry
                else site.base_dn.partition(",")[0]
                for entry in webmail.entries
            }
        reader.search(site.base_dn, "(objectClass=organizationalUnit)", attributes=["ou"])
        tree = dict(entry.entry_dn.split(",")[:2] for entry in reader.entries)
        return found(reader, "(mail=*)") == known and tree == parents

    until(same, "both to say the same", 120, pause=1)


def test_a_unit_is_searched_alone(site: Site, reader: Connection) -> None:
    unit = found(reader, "(ou=stttt)", site.base_dn)
    assert unit == {f"stttt@{site.domain}": "Sở Thông tin và Truyền thông"}
    members = found(reader, "(objectClass=inetOrgPerson)", f"ou=stttt,{site.base_dn}")
    assert f"anv@{site.domain}" in members
    reader.search(f"ou=stttt,{site.base_dn}", "(mail=*)", attributes=["departmentNumber", "ou"])
    assert all(
        "stttt" in str(entry.departmentNumber if "departmentNumber" in entry else entry.ou)
        for entry in reader.entries
    )


def test_a_change_in_the_directory_is_seen(
    site: Site, reader: Connection, official: Official
) -> None:
    renew(site)
    assert found(reader, "(cn=phung duc thu)") == {official.address: NAME}
    official.write(cn="Phùng Đức Nháp")
    renew(site)
    assert found(reader, f"(mail={official.address})") == {official.address: "Phùng Đức Nháp"}
    official.write(mailboxState="departed")
    renew(site)
    assert found(reader, f"(mail={official.address})") == {}


# -- what is not -----------------------------------------------------------------------------------


@pytest.mark.regulation("13")
def test_nothing_but_what_officials_may_know_is_there(site: Site, reader: Connection) -> None:
    reader.search(site.base_dn, "(objectClass=*)", attributes=["*", "+"])
    assert len(reader.entries) > len(SHOWN)
    for entry in reader.entries:
        kind = next(iter(SHOWN.keys() & set(entry.objectClass.values)))
        more = set(entry.entry_attributes) - SHOWN[kind] - _EVERYWHERE
        assert not more, (entry.entry_dn, more)
    for asked in ("userPassword=*", "mailboxState=active", "employeeNumber=1001", "uid=*"):
        assert found(reader, f"({asked})") == {}


_EVERYWHERE = {"entryDN", "subschemaSubentry", "structuralObjectClass", "hasSubordinates"}
"""Of the entry itself, as slapd knows it."""


@pytest.mark.regulation("13")
def test_other_databases_are_closed(site: Site, reader: Connection) -> None:
    for base in ("cn=config", "cn=accesslog", "cn=monitor", f"ou=people,{site.base_dn}", "o=khac"):
        with pytest.raises((LDAPNoSuchObjectResult, LDAPInsufficientAccessRightsResult)):
            reader.search(base, "(objectClass=*)")


@pytest.mark.regulation("13")
def test_nobody_writes(site: Site, reader: Connection, person: Callable[[str], Account]) -> None:
    address = person("anv").address
    own = f"mail={address},ou=stttt,{site.base_dn}"
    with pytest.raises(LDAPInsufficientAccessRightsResult):
        reader.modify(own, {"title": [(MODIFY_REPLACE, ["Giam doc"])]})
    with pytest.raises(LDAPInsufficientAccessRightsResult):
        reader.add(
            f"mail=x@{site.domain},{site.base_dn}", ["inetOrgPerson"], {"cn": "x", "sn": "x"}
        )
    with pytest.raises(LDAPInsufficientAccessRightsResult):
        reader.modify_dn(own, f"mail=x@{site.domain}")
    with pytest.raises(LDAPInsufficientAccessRightsResult):
        reader.delete(own)
    with pytest.raises(LDAPUnwillingToPerformResult):
        reader.extend.standard.modify_password(f"mail={address}", person("anv").password, NEXT)
    assert found(reader, f"(mail={address})") == {address: "Nguyễn Văn A"}


@pytest.mark.regulation("8")
def test_what_the_registry_hides_is_hidden(
    site: Site, reader: Connection, official: Official
) -> None:
    def shown() -> set[str]:
        renew(site)
        reader.search(site.base_dn, f"(mail={official.address})", attributes=["*"])
        return {name for entry in reader.entries for name in entry.entry_attributes}

    assert "telephoneNumber" in shown()
    official.write(directoryHidden="telephoneNumber")
    assert {"cn", "mail"} <= shown()
    assert "telephoneNumber" not in shown()
    # Colleagues write to an address that the public does not see.
    official.write(directoryHidden="mail")
    assert {"cn", "mail", "telephoneNumber"} <= shown()
    official.write(directoryHidden="*")
    assert shown() == set()
    # Not even the account that makes the copy knows the name.
    with bound(site, *service(site, "addressbook")) as account:
        account.search(official.dn, "(objectClass=*)", attributes=["cn", "title", "mail"])
        assert account.entries[0].entry_attributes == ["mail"]
    # Who is not shown may look others up.
    assert may_log_in(site, official)


@pytest.mark.regulation("13")
def test_the_account_that_makes_the_copy_reads_no_more_than_it_needs(
    site: Site, person: Callable[[str], Account]
) -> None:
    with bound(site, *service(site, "addressbook")) as account:
        account.search(site.base_dn, f"(mail={person('btt').address})", attributes=["*", "+"])
        (entry,) = account.entries
        assert set(entry.entry_attributes) <= {
            "objectClass", "cn", "title", "telephoneNumber", "mail", "departmentNumber",
            "directoryHidden", "directoryOrder", "mailboxState", "mailboxService", "pwdReset",
            "pwdChangedTime",
        }  # fmt: skip
        for folder in ("services", "policies", "reservations", "lists", "domains"):
            try:
                account.search(f"ou={folder},{site.base_dn}", "(objectClass=*)")
            except LDAPNoSuchObjectResult:
                continue
            assert account.entries == []


# -- who is let in ---------------------------------------------------------------------------------


@pytest.mark.regulation("13")
def test_nobody_stays_anonymous(site: Site, person: Callable[[str], Account]) -> None:
    with pytest.raises(LDAPInappropriateAuthenticationResult), book(site, "", ""):
        pass
    with log_in(site, person("anv")) as connection:
        asking = Connection(connection.server, raise_exceptions=True, receive_timeout=30)
    asking.open()
    for base in (site.base_dn, ""):
        with pytest.raises(LDAPUnwillingToPerformResult):
            asking.search(base, "(objectClass=*)")
    asking.unbind()


def test_what_names_one_may_log_in_by(site: Site, person: Callable[[str], Account]) -> None:
    anv = person("anv")
    for name in (
        f"mail={anv.address}",
        f"MAIL={anv.address.upper()}",
        f"mail={anv.address},ou=stttt,{site.base_dn}",
        f"mail={anv.address},{site.base_dn}",
    ):
        with book(site, name, anv.password) as connection:
            assert found(connection, f"(mail={anv.address})")
    # LDAP knows distinguished names only.
    with pytest.raises(LDAPInvalidDNSyntaxResult), book(site, anv.address, anv.password):
        pass
    for name in (f"cn=mirror,{site.base_dn}", f"cn=addressbook,ou=services,{site.base_dn}"):
        with (
            pytest.raises(LDAPInvalidCredentialsResult),
            book(site, name, service(site, "addressbook")[1]),
        ):
            pass


@pytest.mark.regulation("13")
def test_the_directory_counts_wrong_passwords_the_same_one_once(
    site: Site, official: Official
) -> None:
    def counted() -> int:
        return len(official.read("pwdFailureTime").get("pwdFailureTime", []))

    before = counted()
    assert not may_log_in(site, official, "sai roi")
    until(lambda: counted() == before + 1, "the wrong password to be counted")
    # A mail program asks with it at every letter that is typed: that is no guess.
    for _ in range(3):
        assert not may_log_in(site, official, "sai roi")
    assert counted() == before + 1
    until(
        lambda: journal(site, official).count("the same wrong password again") == 3,
        "the three in the journal",
    )
    # The directory's delay holds here as everywhere, and ends.
    until(lambda: may_log_in(site, official), "the delay to end", 300, pause=5)


def ended(connection: Connection) -> bool:
    """Whether an open connection reads nothing any more."""
    try:
        return not found(connection, "(ou=stttt)")
    except LDAPInsufficientAccessRightsResult:
        return True


@pytest.mark.regulation("13")
def test_who_is_locked_is_out_within_a_minute(site: Site, official: Official) -> None:
    with log_in(site, official) as connection:
        assert found(connection, "(ou=stttt)")
        official.write(mailboxState="locked")
        until(lambda: ended(connection), "the open connection to end", WITHIN)
        with pytest.raises(LDAPUnavailableResult):
            found(connection, "(ou=stttt)")
    assert not may_log_in(site, official)
    official.write(mailboxState="active")
    until(lambda: may_log_in(site, official), "to be let in again")


@pytest.mark.regulation("13")
def test_a_former_password_opens_nothing_within_a_minute(site: Site, official: Official) -> None:
    with log_in(site, official) as connection:
        assert found(connection, "(ou=stttt)")
        official.write(userPassword=NEXT)
        until(lambda: ended(connection), "the open connection to end", WITHIN)
    until(lambda: may_log_in(site, official, NEXT), "the new password to count")
    assert not may_log_in(site, official)


def test_who_has_neither_mail_nor_webmail_is_not_let_in(site: Site, official: Official) -> None:
    official.write(mailboxService="lmtp")
    until(lambda: not may_log_in(site, official), "to be refused")
    official.write(mailboxService="webmail")
    until(lambda: may_log_in(site, official), "to be let in")


@pytest.mark.regulation("13")
def test_a_one_time_password_opens_nothing_here(site: Site, official: Official) -> None:
    official.set(pwdReset="TRUE")
    assert not may_log_in(site, official)


@pytest.mark.regulation("13")
@pytest.mark.parametrize(("services", "opens"), [(["imap"], True), (["submission"], False)])
def test_a_password_for_mail_opens_the_address_book_until_it_is_revoked(
    site: Site, official: Official, services: list[str], opens: bool
) -> None:
    dn = f"cn={TOKEN[:9]},{official.dn}"
    with bound(site, official.dn, GOOD) as own:
        own.add(
            dn,
            ["appPassword"],
            {
                "description": "Thunderbird", "mailboxService": services, "userPassword": TOKEN,
                "pwdPolicySubentry": policy_dn(site, "applications"),
            },
        )  # fmt: skip
    if not opens:
        # For sending alone.
        assert not may_log_in(site, official, TOKEN)
        return
    until(lambda: may_log_in(site, official, TOKEN), "the password to count")
    assert not may_log_in(site, official, TOKEN[:-1] + "2")
    with log_in(site, official, TOKEN) as connection:
        assert found(connection, "(ou=stttt)")
        with bound(site, official.dn, GOOD) as own:
            own.modify(dn, {"pwdEndTime": [(MODIFY_REPLACE, ["20200101000000Z"])]})
        until(lambda: ended(connection), "the open connection to end", WITHIN)
    assert not may_log_in(site, official, TOKEN)


@pytest.mark.regulation("15")
def test_the_journal_says_who_came_and_who_was_refused(site: Site, official: Official) -> None:
    wrong = f"sai {secrets.token_hex(8)}"
    assert not may_log_in(site, official, wrong)

    def noted() -> str:
        log = journal(site, official)
        return log if f"{official.address}: refused from " in log else ""

    log = until(noted, "the refusal in the journal")
    assert f"{official.address}: logged in from " in log
    assert wrong not in log
    assert GOOD not in log


# -- limits ----------------------------------------------------------------------------------------


_PAGES = "1.2.840.113556.1.4.319"
"""The control by which a client asks for pages (RFC 2696)."""
_NO_PAGE = {"value": {"cookie": b""}}


@pytest.fixture
def many(site: Site) -> Iterator[int]:
    """More entries than a search returns, in the first front's copy alone; returns the limit."""
    host = site.group("front")[0]
    limit = site.of(AddressBookSettings, host.name).results
    added = "".join(
        Change(
            "add",
            f"mail=thu{number}@thu.example,{site.base_dn}",
            {"objectClass": ["inetOrgPerson"], "cn": ["Thử"], "sn": ["Thử"]},
        ).ldif()
        for number in range(limit + 1)
    )
    with stopped(site, host.address, "site-addressbook-mirror.timer"):
        tools = f"-Q -Y EXTERNAL -H ldapi://{LDAPI.replace('/', '%2F')}"
        shell(site, host.address, f"ldapmodify {tools}", stdin=added)
        try:
            yield limit
        finally:
            # What the directory does not know goes.
            renew(site)


@pytest.mark.regulation("13")
def test_nobody_carries_the_whole_address_book_away(
    site: Site, many: int, reader: Connection
) -> None:
    for asked in (0, many + 1):
        reader.search(site.base_dn, "(objectClass=*)", attributes=["mail"], size_limit=asked)
        assert reader.result["description"] == "sizeLimitExceeded"
        assert len(reader.entries) == many
    # Nor page by page.
    read, cookie = 0, None
    while read <= many and cookie != b"":
        reader.search(site.base_dn, "(objectClass=*)", paged_size=50, paged_cookie=cookie)
        read += len(reader.entries)
        cookie = reader.result.get("controls", {}).get(_PAGES, _NO_PAGE)["value"]["cookie"]
    assert reader.result["description"] == "sizeLimitExceeded"
    assert read <= many
    # A search in names still finds who is there.
    assert found(reader, "(cn=nguyen van a)")


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_tls_begins_at_1_2(site: Site, version: ssl.TLSVersion, accepted: bool) -> None:
    host = site.group("front")[0]
    port = site.of(AddressBookSettings, host.name).port
    asked = (site, host.address, port, site.mail_name, version)
    if not accepted:
        with pytest.raises(ssl.SSLError):
            negotiated(*asked)
        return
    cipher = negotiated(*asked)
    assert "GCM" in cipher or "CHACHA20" in cipher


# -- a directory that is down ----------------------------------------------------------------------


@contextmanager
def cut_off(site: Site, *directories: str) -> Iterator[None]:
    """The first front's address book does not reach directories; everything else there does."""
    host = site.group("front")[0]
    rules = "".join(
        f"add rule inet thu out meta skuid {USER} ip daddr {address} tcp dport 636 reject with tcp"
        " reset\n"
        for address in directories
    )
    table = (
        "add table inet thu\n"
        "add chain inet thu out { type filter hook output priority 10; policy accept; }\n"
    )
    shell(site, host.address, "nft -f -", stdin=table + rules)
    try:
        yield
    finally:
        shell(site, host.address, "nft delete table inet thu")


def test_without_a_directory_it_says_so_and_who_is_in_goes_on(
    site: Site, person: Callable[[str], Account], reader: Connection
) -> None:
    with cut_off(site, *(host.address for host in site.group("directory"))):
        # Not "wrong password": a mail program would ask for another one.
        with pytest.raises(LDAPUnavailableResult), log_in(site, person("btt")):
            pass
        assert found(reader, "(cn=nguyen van a)")
        renew(site)
        assert found(reader, "(cn=nguyen van a)")
    until(lambda: not _silent(site, person("btt")), "log-ins to be possible again")


def _silent(site: Site, account: Account) -> bool:
    try:
        with log_in(site, account):
            return False
    except LDAPUnavailableResult:
        return True


def test_one_directory_suffices(site: Site, person: Callable[[str], Account]) -> None:
    directories = site.group("directory")
    if len(directories) == 1:
        pytest.skip("there is one directory")
    for down in directories:
        with cut_off(site, down.address):
            assert may_log_in(site, person("btt"))
