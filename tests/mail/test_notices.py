"""What ends soon is announced by letter, over the wire: once, to whom it concerns."""

import email
import email.policy
import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from zoneinfo import ZoneInfo

import pytest

from roles.accounts.notices import RECORD
from roles.base.settings import BaseSettings
from roles.common.site import Site
from tests import clients, remote
from tests.access import settle
from tests.clients import Account
from tests.mail.test_directory import GOOD
from tests.mail.test_passwords import Official, application, official
from tests.remote import shell
from tests.waiting import until

__all__ = ["official"]
SERVICE = "site-notices.service"


def announce(site: Site) -> None:
    """Let every directory host look, one after the other, as each morning."""
    first, *_ = hosts = site.group("directory")
    for host in hosts:
        until(lambda at=host: remote.in_step(site, first, at), host.name)  # type: ignore[misc]
        # Not counted among the tries of before.
        shell(site, host.address, f"systemctl stop {SERVICE}; systemctl reset-failed {SERVICE}")
        shell(site, host.address, f"systemctl start {SERVICE}")


def letters(person: Official) -> list[EmailMessage]:
    """The system's letters in somebody's INBOX."""
    account = Account(person.address, "Thử", "person", GOOD)
    with clients.imap(person.site, account) as client:
        client.select_folder("INBOX", readonly=True)
        found = client.fetch(client.search(["FROM", person.site.postmaster]), ["RFC822"])
    return [
        email.message_from_bytes(data[b"RFC822"], policy=email.policy.default)
        for _, data in sorted(found.items())
    ]


def queued(person: Official) -> bool:
    """Whether an mx has a letter to somebody still to deliver."""
    site = person.site
    return any(person.address in shell(site, mx.address, "mailq") for mx in site.group("mx"))


def told(person: Official, count: int) -> list[EmailMessage]:
    """So many letters: waits for them, and until no further one is under way."""
    until(lambda: len(letters(person)) >= count, f"{count} letters to {person.address}")
    until(lambda: not queued(person), f"the end of the queue for {person.address}")
    found = letters(person)
    assert len(found) == count, [message["Subject"] for message in found]
    return found


def written(moment: datetime) -> str:
    return f"{moment:%Y%m%d%H%M%SZ}"


@pytest.fixture
def ending(site: Site, official: Official) -> Iterator[Official]:
    """Somebody whose password, service and delegation end soon, and a telephone's password."""
    now = datetime.now(UTC)
    directory = clients.address_of(site, "directory")
    name = f"thu-{secrets.token_hex(6)}"
    policy = f"cn={name},ou=policies,{site.base_dn}"
    unit = f"cn={name},ou=mailboxes,{site.base_dn}"
    ldif = (
        f"dn: {policy}\nobjectClass: namedPolicy\nobjectClass: pwdPolicy\n"
        "pwdAttribute: userPassword\npwdMaxAge: 1123200\n\n"
        f"dn: {unit}\nobjectClass: unitMailbox\nobjectClass: mailboxAccount\ncn: {name}\n"
        f"mail: {name}@{site.domain}\nmailboxState: active\ndisplayName: So Thu\n"
        f"owner: {official.dn}\n\n"
        f"dn: cn=1,{unit}\nobjectClass: mailboxDelegation\ncn: 1\ndelegate: {official.dn}\n"
        f"delegationRight: read\nvalidUntil: {written(now + timedelta(days=6))}\n"
    )
    shell(site, directory, f"ldapadd {remote.LDAP} >/dev/null", stdin=ldif)
    application(official, "imap", end=now + timedelta(hours=20))
    # A password's age is counted from when it was set under a policy that asks for it.
    official.set(pwdPolicySubentry=policy)
    official.write(userPassword=GOOD)
    official.write(mailboxExpires=written(now + timedelta(days=10)), mailboxState="expiring")
    # A new password ends sessions, those of who reads the letters, too.
    settle(official.site, official.dn)
    yield official
    shell(site, directory, f"ldapdelete {remote.LDAP} -r '{unit}' '{policy}'")


@pytest.mark.regulation("8", "12", "13")
def test_one_letter_tells_of_all_that_ends_and_only_once(site: Site, ending: Official) -> None:
    announce(site)
    (letter,) = told(ending, 1)
    assert letter["Subject"] == "Có 4 nội dung sắp hết hạn cần ông/bà lưu ý", letter.get_content()
    assert str(letter["From"]) == f"Hệ thống thư điện tử <{site.postmaster}>"
    assert letter["To"].addresses[0].addr_spec == ending.address
    assert letter["Auto-Submitted"] == "auto-generated"
    zone = ZoneInfo(site.of(BaseSettings).timezone)
    text = " ".join(letter.get_content().split())
    assert "Kính gửi: Nguyễn Văn Thử" in text
    # In the order of the ends.
    places = [
        text.index(part)
        for part in (
            "1. Mật khẩu ứng dụng “Điện thoại” chỉ dùng được đến",
            "2. Quyền của ông/bà với hộp thư đơn vị",
            f"{datetime.now(zone) + timedelta(days=6):%d/%m/%Y}",
            "3. Hộp thư của ông/bà chỉ dùng được đến",
            "4. Mật khẩu thư điện tử chỉ dùng được đến",
            f"liên hệ: {site.postmaster}",
        )
    ]
    assert places == sorted(places)
    days = sorted(value.rpartition(" ")[2] for value in ending.read(RECORD)[RECORD])
    assert days == ["1", "14", "14", "7"]

    announce(site)
    told(ending, 1)
    # Another date is another announcement, and all that is said.
    ending.write(mailboxExpires=written(datetime.now(UTC) + timedelta(days=3)))
    announce(site)
    _, again = told(ending, 2)
    assert again["Subject"].startswith("Hộp thư của ông/bà chỉ dùng được đến")
    assert "Mật khẩu ứng dụng" not in again.get_content()


def test_who_is_locked_gets_no_letter(site: Site, official: Official) -> None:
    official.write(
        mailboxExpires=written(datetime.now(UTC) + timedelta(hours=20)), mailboxState="locked"
    )
    announce(site)
    assert RECORD not in official.read(RECORD)


def test_without_an_mx_the_unit_fails_and_the_letter_comes_later(
    site: Site, official: Official
) -> None:
    official.write(mailboxExpires=written(datetime.now(UTC) + timedelta(hours=20)))
    settle(official.site, official.dn)
    directory = clients.address_of(site, "directory")
    with ExitStack() as stack:
        for mx in site.group("mx"):
            stack.enter_context(remote.stopped(site, mx.address, "postfix.service"))
        shell(site, directory, f"systemctl reset-failed {SERVICE}")
        shell(site, directory, f"systemctl start {SERVICE}", check=False)
        said = shell(site, directory, f"systemctl show -P Result -P SubState {SERVICE}")
        # It tries again after some minutes, and then stays failed.
        assert said.split() == ["exit-code", "auto-restart"]
        assert RECORD not in official.read(RECORD)
    announce(site)
    told(official, 1)
