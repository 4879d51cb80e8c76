"""A letter's way: in from the Internet, read by every protocol, answered, out again."""

import hashlib
import poplib
import unicodedata
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Literal

import pytest

from roles.common.site import Site
from tests import clients
from tests.clients import Account

SUBJECT = "Đề nghị báo cáo kết quả thực hiện quý IV tại huyện Gò Công Đông"
TEXT = "Kính gửi Sở Thông tin và Truyền thông,\nĐề nghị quý Sở gửi báo cáo trước ngày 30/11.\n"
FILE_NAME = "Báo cáo tổng hợp – Ủy ban nhân dân tỉnh.odt"
FILE = bytes(range(256)) * 100


@pytest.fixture
def official(person: Callable[[str], Account]) -> Account:
    """Somebody who reads mail."""
    return person(OFFICIAL)


OFFICIAL = "anv"


def vietnamese_letter(site: Site, recipient: str, text: str) -> EmailMessage:
    message = clients.foreign_letter(site, recipient, subject=SUBJECT, text=text)
    message.add_attachment(
        FILE, maintype="application", subtype="vnd.oasis.opendocument.text", filename=FILE_NAME
    )
    return message


def check_intact(content: bytes, text: str) -> None:
    """Every character of subject, text and file name, and every byte of the file."""
    received = message_from_bytes(content, policy=policy.default)
    assert isinstance(received, EmailMessage)
    assert received["Subject"] == SUBJECT
    body = received.get_body(("plain",))
    assert body is not None
    assert body.get_content().replace("\r\n", "\n") == text
    (attachment,) = received.iter_attachments()
    assert attachment.get_filename() == FILE_NAME
    assert attachment.get_content() == FILE


@pytest.mark.regulation("3.3")
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_foreign_letter_is_read_over_imap_and_pop3(
    site: Site, official: Account, form: Literal["NFC", "NFD"]
) -> None:
    text = unicodedata.normalize(form, TEXT)
    message = vietnamese_letter(site, official.address, text)
    clients.send_from_outside(site, message)
    with clients.imap(site, official) as client:
        stored = clients.raw(client, clients.wait_for(client, message))
    check_intact(stored, text)
    over_pop3 = _pop3(site, official, message["Message-ID"])
    check_intact(over_pop3, text)
    assert hashlib.sha256(over_pop3).digest() == hashlib.sha256(stored).digest()


def _pop3(site: Site, account: Account, message_id: str) -> bytes:
    client = poplib.POP3_SSL(
        clients.address_of(site, "front"),
        995,
        timeout=clients.SECONDS,
        context=clients.context(site),
    )
    try:
        client.user(account.address)
        client.pass_(account.password)
        for number in range(client.stat()[0], 0, -1):
            content = b"\r\n".join(client.retr(number)[1]) + b"\r\n"
            if message_id.encode() in content:
                return content
    finally:
        client.quit()
    raise AssertionError(f"{message_id}: not found over POP3")


def test_an_answer_reaches_the_foreign_domain(site: Site, official: Account) -> None:
    asker = f"dan@{clients.foreign_domain(site)}"
    answer = clients.letter(official.address, asker, subject=f"Trả lời: {SUBJECT}", text=TEXT)
    clients.submit(site, official, answer)
    with clients.foreign_imap(site, asker) as client:
        content = clients.raw(client, clients.wait_for(client, answer))
    received = message_from_bytes(content, policy=policy.default)
    assert received["Subject"] == f"Trả lời: {SUBJECT}"
    assert received["From"].addresses[0].addr_spec == official.address


def test_a_letter_goes_between_two_officials(
    site: Site, official: Account, accounts: list[Account]
) -> None:
    other = next(account for account in accounts if account.is_person and account != official)
    message = clients.letter(official.address, other.address, subject=SUBJECT, text=TEXT)
    clients.submit(site, official, message)
    with clients.imap(site, other) as client:
        clients.wait_for(client, message)
