"""Passwords over the wire: what is refused, what must be changed, and what opens a mailbox besides.

Each test makes a person of its own, who is in no registry, and removes everything afterwards.
"""

import base64
import hashlib
import re
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from ldap3 import MODIFY_ADD, MODIFY_DELETE, MODIFY_REPLACE, Connection
from ldap3.core.exceptions import (
    LDAPConstraintViolationResult,
    LDAPInsufficientAccessRightsResult,
    LDAPInvalidCredentialsResult,
    LDAPNoSuchObjectResult,
)

from roles.common.site import Site
from roles.directory.settings import DirectorySettings
from roles.directory.tree import one_time, policy_dn
from tests import clients, remote
from tests.access import WITHIN, settle
from tests.clients import Account
from tests.mail.test_access_ends import works
from tests.mail.test_directory import GOOD, PERSON, bound, may_log_in, service
from tests.mail.test_mailstore import LOGINS
from tests.mail.test_services import submission, webmail
from tests.remote import shell
from tests.waiting import until

MAIL = {**LOGINS, "submission": submission}
"""What mail programs log in to."""
EVERYWHERE = {**MAIL, "webmail": webmail}
NEXT = "Rau muong xao toi 7"
"""A password that is nobody's name, and in no list."""


class Official:
    """A person whom a test made."""

    def __init__(self, site: Site, name: str) -> None:
        self.site = site
        self.dn = f"employeeNumber={name},ou=people,{site.base_dn}"
        self.address = f"{name}@{site.domain}"

    def write(self, **attributes: str) -> None:
        """Change the entry as the registry may."""
        with bound(self.site, *service(self.site, "accounts")) as accounts:
            changes = {name: [(MODIFY_REPLACE, [value])] for name, value in attributes.items()}
            accounts.modify(self.dn, changes)

    def set(self, **attributes: str) -> None:
        """Change the entry as the help desk does, on a directory host."""
        lines = [
            f"replace: {name}\n{name}:: {base64.b64encode(value.encode()).decode()}\n-"
            for name, value in attributes.items()
        ]
        ldif = "\n".join([f"dn: {self.dn}", "changetype: modify", *lines])
        remote.modify(self.site, f"{ldif}\n")

    def reset(self, password: str, now: datetime) -> None:
        """Give a one-time password, as the help desk does."""
        remote.modify(self.site, one_time(self.site, self.dn, password, now).ldif())

    def read(self, *attributes: str) -> dict[str, list[str]]:
        """Attributes of the entry, hashes as well."""
        return remote.entry(self.site, self.address, *attributes)

    def refused(self, password: str, services: dict[str, Callable[..., str]]) -> dict[str, str]:
        """What the services answer that do not let in."""
        said = {
            name: log_in(self.site, self.address, password) for name, log_in in services.items()
        }
        return {name: words for name, words in said.items() if words}


@pytest.fixture
def official(site: Site) -> Iterator[Official]:
    """Somebody who may use everything, with the password GOOD."""
    person = Official(site, f"thu-{secrets.token_hex(6)}")
    store = clients.store_of(site, "")
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.add(
            person.dn,
            PERSON,
            {
                "cn": "Nguyễn Văn Thử", "displayName": "Nguyễn Văn Thử", "sn": "Nguyễn",
                "searchName": "nguyen van thu", "departmentNumber": "stttt",
                "mail": person.address, "mailLocalAddress": person.address,
                "mailHost": clients.store_name(site, ""), "mailboxState": "active",
                "mailboxService": ["imap", "pop3", "sieve", "submission", "webmail", "lmtp"],
                "userPassword": GOOD,
            },
        )  # fmt: skip
    yield person
    with bound(site, *service(site, "accounts")) as accounts:
        accounts.search(person.dn, "(objectClass=*)")
        for entry in sorted(accounts.entries, key=lambda entry: -len(entry.entry_dn)):
            accounts.delete(entry.entry_dn)
    number = person.dn.partition("=")[2].partition(",")[0]
    shell(site, store.address, f"rm -rf '/var/vmail/people/{number}'")


# -- what is no password --------------------------------------------------------------------------


def change(connection: Connection, dn: str, new: str) -> None:
    """Change one's own password, as a program does that hashes nothing."""
    connection.modify(dn, {"userPassword": [(MODIFY_REPLACE, [new])]})


def exchange(connection: Connection, dn: str, new: str) -> None:
    """Change one's own password by the operation of RFC 3062."""
    connection.extend.standard.modify_password(dn, GOOD, new)


WAYS = {"modify": change, "extended operation": exchange}
COMMON = (
    "matkhau123456", "Mật khẩu 2026", "tiengiang2026", "TienGiang@2026!", "nguyenvanbinh1985",
    "Trần Thị Hoa 1990", "123456789012", "qwertyuiop12", "anhyeuemnhieulam", "aaaaaaaaaaaa",
    "ubndtiengiang2025",
)  # fmt: skip
OWN = ("toi ten la nguyen 77", "Nguyễn la ho cua toi", "dua leo stttt chua ngot")
"""Those hold the name, or the unit, of who is asked."""


@pytest.mark.regulation("13")
@pytest.mark.parametrize("way", WAYS)
def test_what_everybody_guesses_is_no_password(official: Official, way: str) -> None:
    said: dict[str, str] = {}
    with bound(official.site, official.dn, GOOD) as connection:
        for new in (*COMMON, *OWN):
            with pytest.raises(LDAPConstraintViolationResult) as refused:
                WAYS[way](connection, official.dn, new)
            said[new] = str(refused.value)
        change(connection, official.dn, NEXT)
    # The webmail tells the reasons apart by these words.
    assert [new for new in COMMON if "is too weak" not in said[new]] == []
    assert [new for new in OWN if "contains part of an attribute" not in said[new]] == []
    assert may_log_in(official.site, official.dn, NEXT)


# -- what must be changed first -------------------------------------------------------------------


@pytest.mark.regulation("13")
def test_a_onetime_password_opens_nothing_but_its_change(official: Official) -> None:
    onetime = "k7mq-w3xd-p9rt-h4vb"
    official.reset(onetime, datetime.now(UTC))
    answers = official.refused(onetime, MAIL)
    assert {name for name, words in answers.items() if "doi mat khau" in words} == {*MAIL}, answers
    # Who does not know it is told no more than anybody.
    assert "doi mat khau" not in LOGINS["imap"](official.site, official.address, "sai-mat-khau")
    until(lambda: may_log_in(official.site, official.dn, onetime), "the delay to end", pause=0.5)
    assert not official.refused(onetime, {"webmail": webmail})

    with bound(official.site, official.dn, onetime) as connection:
        # As the webmail does it: in one step, so that nothing is left of the one-time password.
        connection.modify(
            official.dn,
            {
                "userPassword": [(MODIFY_REPLACE, [NEXT])],
                "pwdEndTime": [(MODIFY_DELETE, [])],
            },
        )
    settle(official.site, official.dn)
    until(lambda: not official.refused(NEXT, EVERYWHERE), "that the new one counts", WITHIN)
    assert {"pwdReset", "pwdEndTime"} & {*official.read("+")} == set()


@pytest.mark.regulation("13")
def test_a_onetime_password_ends_unused(official: Official) -> None:
    site, onetime = official.site, "k7mq-w3xd-p9rt-h4vb"
    official.reset(onetime, datetime.now(UTC))
    assert may_log_in(site, official.dn, onetime)
    past = datetime.now(UTC) - timedelta(seconds=site.of(DirectorySettings).onetime_valid + 1)
    official.reset(onetime, past)
    assert not may_log_in(site, official.dn, onetime)


@pytest.mark.regulation("9", "13")
def test_an_expired_password_opens_nothing_until_the_help_desk_gives_another(
    official: Official,
) -> None:
    """As the guides say: who lets the time pass cannot choose a new one alone."""
    site, onetime = official.site, "k7mq-w3xd-p9rt-h4vb"
    directory = clients.address_of(site, "directory")
    dn = f"cn=thu-{secrets.token_hex(6)},ou=policies,{site.base_dn}"
    ldif = (
        f"dn: {dn}\nobjectClass: namedPolicy\nobjectClass: pwdPolicy\npwdAttribute: userPassword\n"
        "pwdMaxAge: 1\n"
    )
    shell(site, directory, f"ldapadd {remote.LDAP} >/dev/null", stdin=ldif)
    try:
        official.set(pwdPolicySubentry=dn)
        # A password's age is counted from when it was set under a policy that asks for it.
        official.write(userPassword=GOOD)
        until(lambda: {*official.refused(GOOD, EVERYWHERE)} == {*EVERYWHERE}, "the end", WITHIN)
        assert not may_log_in(site, official.dn, GOOD)
        remote.modify(site, f"dn: {dn}\nchangetype: modify\nreplace: pwdMaxAge\npwdMaxAge: 86400\n")
        official.reset(onetime, datetime.now(UTC))
        until(lambda: not official.refused(onetime, {"webmail": webmail}), "the form", WITHIN)
        with bound(site, official.dn, onetime) as connection:
            change(connection, official.dn, NEXT)
        until(lambda: may_log_in(site, official.dn, NEXT), "that the new one counts", pause=0.5)
    finally:
        shell(site, directory, f"ldapdelete {remote.LDAP} '{dn}'")


def test_nobody_takes_another_policy(official: Official) -> None:
    with bound(official.site, official.dn, GOOD) as connection:
        for name in ("imported", "services", "applications"):
            policy = policy_dn(official.site, name)
            with pytest.raises(LDAPInsufficientAccessRightsResult):
                connection.modify(official.dn, {"pwdPolicySubentry": [(MODIFY_ADD, [policy])]})
        for name, value in (("pwdReset", "FALSE"), ("pwdEndTime", "20991231000000Z")):
            with pytest.raises(LDAPInsufficientAccessRightsResult):
                connection.modify(official.dn, {name: [(MODIFY_REPLACE, [value])]})


# -- passwords for applications -------------------------------------------------------------------

LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"


def application(official: Official, *services: str, end: datetime | None = None) -> str:
    """Make a password for an application, as the webmail does in its owner's name."""
    groups = ["".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(5)]
    name = "-".join(groups[:2])
    with bound(official.site, official.dn, GOOD) as connection:
        connection.add(
            f"cn={name},{official.dn}",
            "appPassword",
            {
                "userPassword": "-".join(groups),
                "mailboxService": list(services),
                "description": "Điện thoại",
                "pwdPolicySubentry": policy_dn(official.site, "applications"),
                **({"pwdEndTime": f"{end:%Y%m%d%H%M%SZ}"} if end else {}),
            },
        )
    return "-".join(groups)


def revoke(official: Official, password: str) -> None:
    """Revoke a password for an application, as the webmail does in its owner's name."""
    now = datetime.now(UTC) - timedelta(seconds=1)
    with bound(official.site, official.dn, GOOD) as connection:
        connection.modify(
            entry_of(official, password),
            {"pwdEndTime": [(MODIFY_REPLACE, [f"{now:%Y%m%d%H%M%SZ}"])]},
        )


def entry_of(official: Official, password: str) -> str:
    """The DN of an application's password."""
    return f"cn={password[:9]},{official.dn}"


@pytest.mark.regulation("13")
def test_an_application_has_a_password_of_its_own(official: Official) -> None:
    password = application(official, "imap", "submission")
    settle(official.site, entry_of(official, password))
    answers = official.refused(password, EVERYWHERE)
    assert {*answers} == {"pop3", "sieve", "webmail"}, answers
    # Others go on to count, and the owner's own does.
    another = application(official, "pop3", "sieve")
    settle(official.site, entry_of(official, another))
    assert {*official.refused(another, MAIL)} == {"imap", "submission"}
    assert official.refused(GOOD, EVERYWHERE) == {}
    assert not may_log_in(official.site, official.dn, password)


@pytest.mark.regulation("13")
def test_an_applications_password_opens_its_owners_mailbox_only(
    official: Official, site: Site
) -> None:
    password = application(official, "imap")
    assert LOGINS["imap"](site, official.address, password) == ""
    other = f"vvg@{site.domain}"
    assert "uthentication failed" in LOGINS["imap"](site, other, password)
    assert "uthentication failed" in LOGINS["imap"](site, f"khong-co-ai@{site.domain}", password)


@pytest.mark.regulation("13")
def test_a_wrong_password_for_an_application_does_not_count_against_its_owner(
    official: Official,
) -> None:
    password = application(official, "imap")
    settle(official.site, entry_of(official, password))
    for wrong in (f"{password[:-4]}zzzz", "zzzz-zzzz-zzzz-zzzz-zzzz"):
        assert "uthentication failed" in LOGINS["imap"](official.site, official.address, wrong)
    assert "pwdFailureTime" not in official.read("pwdFailureTime")
    assert LOGINS["imap"](official.site, official.address, GOOD) == ""
    # Nor can anybody lock the application out.
    assert LOGINS["imap"](official.site, official.address, password) == ""


@pytest.mark.regulation("13")
def test_a_revoked_password_is_out_within_a_minute(official: Official) -> None:
    password = application(official, "imap")
    settle(official.site, entry_of(official, password))
    assert LOGINS["imap"](official.site, official.address, password) == ""
    revoke(official, password)
    until(
        lambda: LOGINS["imap"](official.site, official.address, password),
        "that a revoked password is refused",
        WITHIN,
    )
    settle(official.site, entry_of(official, password))
    assert LOGINS["imap"](official.site, official.address, GOOD) == ""


@pytest.mark.regulation("13")
def test_a_revoked_password_is_out_after_a_reload_as_well(official: Official) -> None:
    """Postfix goes on with the Dovecot it has asked before, which remembers what it was told."""
    password = application(official, "submission")
    settle(official.site, entry_of(official, password))
    assert submission(official.site, official.address, password) == ""
    for host in official.site.group("front"):
        shell(official.site, host.address, "systemctl reload dovecot.service")
    assert submission(official.site, official.address, password) == ""
    revoke(official, password)
    until(
        lambda: submission(official.site, official.address, password),
        "that submission refuses a revoked password",
        WITHIN,
    )


@pytest.mark.regulation("13")
def test_a_password_that_nobody_had_noticed_is_out_when_it_is_revoked(official: Official) -> None:
    """Made, used, and revoked while nobody watched: nobody knows what it was."""
    site = official.site
    settle(official.site, official.dn)
    with ExitStack() as stack:
        for host in site.group("store", "front"):
            stack.enter_context(remote.stopped(site, host.address, "site-access.service"))
        password = application(official, "imap")
        session = stack.enter_context(
            clients.imap(site, Account(official.address, "Thử", "person", password))
        )
        revoke(official, password)
        # Remembered.
        assert LOGINS["imap"](site, official.address, password) == ""
        for host in site.group("store", "front"):
            shell(site, host.address, "systemctl start site-access.service")
        until(lambda: not works(session.noop), "the end of the session", WITHIN)
        assert "uthentication failed" in LOGINS["imap"](site, official.address, password)


@pytest.mark.regulation("13")
def test_an_applications_password_ends_at_its_time(official: Official) -> None:
    """Everywhere, of itself, on a live session, and in what was remembered."""
    site = official.site
    services = ("imap", "pop3", "sieve", "submission")
    end = datetime.now(UTC) + timedelta(seconds=60)
    password = application(official, *services, end=end)
    settle(official.site, entry_of(official, password))
    with clients.imap(site, Account(official.address, "Thử", "person", password)) as session:
        assert {*official.refused(password, EVERYWHERE)} == {"webmail"}
        left = (end - datetime.now(UTC)).total_seconds()
        assert left > 0
        until(lambda: not works(session.noop), "the end of the session", left + WITHIN)
        assert datetime.now(UTC) >= end
    # The session ends on the host that looks first; the others look within the minute, too.
    until(
        lambda: official.refused(password, EVERYWHERE).keys() == EVERYWHERE.keys(),
        "the end on every host",
        WITHIN,
    )
    assert official.refused(GOOD, EVERYWHERE) == {}


@pytest.mark.regulation("13")
def test_the_directory_itself_refuses_what_ended(official: Official) -> None:
    """Also who was not asked before: not only what watches over the log-ins."""
    ended = application(official, "imap", end=datetime.now(UTC) - timedelta(seconds=1))
    coming = application(official, "imap", end=datetime.now(UTC) + timedelta(days=1))
    assert not may_log_in(official.site, entry_of(official, ended), ended)
    assert may_log_in(official.site, entry_of(official, coming), coming)


def test_nobody_deletes_a_password_for_an_application_unseen(official: Official) -> None:
    password = application(official, "imap")
    with (
        bound(official.site, official.dn, GOOD) as connection,
        pytest.raises(LDAPInsufficientAccessRightsResult),
    ):
        connection.delete(entry_of(official, password))


@pytest.mark.regulation("13")
@pytest.mark.parametrize(
    "attributes", [{"mailboxState": "locked"}, {"pwdReset": "TRUE"}, {"mailboxService": "pop3"}]
)
def test_an_applications_password_counts_as_long_as_its_owner_may(
    official: Official, attributes: dict[str, str]
) -> None:
    password = application(official, "imap")
    settle(official.site, official.dn)
    assert LOGINS["imap"](official.site, official.address, password) == ""
    official.write(**attributes)
    until(
        lambda: LOGINS["imap"](official.site, official.address, password),
        "that it is refused",
        WITHIN,
    )


def test_an_applications_password_gives_no_right_in_the_directory(official: Official) -> None:
    password = application(official, "imap")
    entry = entry_of(official, password)
    with bound(official.site, entry, password) as connection:
        with pytest.raises(LDAPInsufficientAccessRightsResult):
            change(connection, entry, NEXT)
        with pytest.raises(LDAPInsufficientAccessRightsResult):
            change(connection, official.dn, NEXT)
        with pytest.raises(LDAPNoSuchObjectResult):
            connection.search(official.dn, "(objectClass=*)")


def test_below_ones_entry_are_passwords_of_applications_only(official: Official) -> None:
    site = official.site
    address = f"gia-{secrets.token_hex(6)}@{site.domain}"
    mailbox = {"mail": address, "mailLocalAddress": address, "mailboxState": "active"}
    with bound(site, official.dn, GOOD) as connection:
        for classes, attributes in (
            (["appPassword", "mailboxAccount", "inetLocalMailRecipient"], mailbox),
            (PERSON, {**mailbox, "sn": "Giả"}),
            (
                ["appPassword"],
                {"pwdPolicySubentry": policy_dn(site, "services")},
            ),
        ):
            with pytest.raises(LDAPInsufficientAccessRightsResult):
                connection.add(
                    f"cn=gia,{official.dn}", classes, {"userPassword": NEXT, **attributes}
                )
        with pytest.raises(LDAPInsufficientAccessRightsResult):
            connection.add(
                f"cn=gia,employeeNumber=1007,ou=people,{site.base_dn}",
                "appPassword",
                {"userPassword": NEXT},
            )


# -- hashes of another system ---------------------------------------------------------------------

OLD = "cu-2009"
"""A password of another system: too short here."""


def unix_hash(scheme: str) -> str:
    """OLD as crypt(3) hashes it; by openssl, since Python's own module is gone."""
    said = subprocess.run(
        ["openssl", "passwd", f"-{scheme}", "-salt", "muoi2009", "-stdin"],
        input=OLD,
        capture_output=True,
        text=True,
        check=True,
    )
    return f"{{CRYPT}}{said.stdout.strip()}"


def digest(name: str, algorithm: str, salt: bytes = b"") -> str:
    """OLD as LDAP servers of that time hash it (RFC 2307, and with a salt)."""
    value = hashlib.new(algorithm, OLD.encode() + salt, usedforsecurity=False).digest()
    return f"{{{name}}}{base64.b64encode(value + salt).decode()}"


HASHES: dict[str, Callable[[], str]] = {
    "MD5-crypt": lambda: unix_hash("1"),
    "SHA256-crypt": lambda: unix_hash("5"),
    "SHA512-crypt": lambda: unix_hash("6"),
    "bcrypt": lambda: "{CRYPT}$2y$05$abcdefghijklmnopqrstuuQlEL1xRTQnWV50L4niTRpRXhMOvlT9q",
    "yescrypt": lambda: (
        "{CRYPT}$y$j9T$muoi2009muoi2009muoi20/$1Yl.Dj5sg765EpcQsJyyngEQpySFtUBY6mCJ3B1KWCD"
    ),
    "SSHA": lambda: digest("SSHA", "sha1", b"muoi2009"),
    "SHA": lambda: digest("SHA", "sha1"),
    "SMD5": lambda: digest("SMD5", "md5", b"muoi2009"),
    "MD5": lambda: digest("MD5", "md5"),
}


def scheme_of(official: Official) -> str:
    """How the password is kept."""
    # LDIF's second colon is a part of the name here.
    (value,) = official.read("userPassword")["userPassword:"]
    found = re.match(r"\{\w+\}(\$\w+\$)?", base64.b64decode(value).decode())
    assert found
    return found[0]


@pytest.mark.regulation("13")
@pytest.mark.parametrize("kind", HASHES)
def test_a_hash_of_another_system_is_replaced_at_the_log_in(official: Official, kind: str) -> None:
    policy = policy_dn(official.site, "imported")
    official.write(userPassword=HASHES[kind](), pwdPolicySubentry=policy)
    log_in = LOGINS["imap"]
    assert "uthentication failed" in log_in(official.site, official.address, "sai-mat-khau")
    assert scheme_of(official) != "{ARGON2}$argon2id$"
    until(lambda: log_in(official.site, official.address, OLD) == "", "the delay to end", pause=1)
    assert scheme_of(official) == "{ARGON2}$argon2id$"
    assert "pwdPolicySubentry" not in official.read("pwdPolicySubentry")
    # From now on the policy of everybody.
    with (
        bound(official.site, official.dn, OLD) as connection,
        pytest.raises(LDAPConstraintViolationResult),
    ):
        change(connection, official.dn, "ngan")
    # Another hash is another password: sessions end, not those below.
    settle(official.site, official.dn)
    assert official.refused(OLD, EVERYWHERE) == {}


@pytest.mark.regulation("13")
@pytest.mark.parametrize("service_", ["submission", "webmail"])
def test_every_log_in_replaces_the_hash(official: Official, service_: str) -> None:
    policy = policy_dn(official.site, "imported")
    official.write(userPassword=HASHES["SSHA"](), pwdPolicySubentry=policy)
    settle(official.site, official.dn)
    assert official.refused(OLD, {service_: EVERYWHERE[service_]}) == {}
    assert scheme_of(official) == "{ARGON2}$argon2id$"


def test_nobody_stores_a_hash_of_their_own(official: Official) -> None:
    with bound(official.site, official.dn, GOOD) as connection:
        for kind in ("SSHA", "SHA512-crypt"):
            with pytest.raises(LDAPConstraintViolationResult):
                change(connection, official.dn, HASHES[kind]())
    with pytest.raises(LDAPInvalidCredentialsResult), bound(official.site, official.dn, OLD):
        pass
