"""Signatures of what leaves the site (DKIM): who signs what, and when a signature holds."""

import re
import smtplib
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from roles.common.site import Site
from roles.signing.settings import SigningSettings
from tests import clients, remote
from tests.clients import Account
from tests.lab.outside import foreign
from tests.mail.test_letters import SUBJECT, TEXT, check_intact, vietnamese_letter
from tests.mail.test_mailstore_delivery import activate, scripted
from tests.mail.test_mta_mx import greeted, stranger
from tests.mail.test_mta_submission import _report_on
from tests.signatures import holds, published, signatures
from tests.waiting import until

__all__ = ["scripted"]
"""A fixture."""
Person = Callable[[str], Account]
MEMBER, COLLEAGUE, UNIT = "anv", "clv", "stttt"
SIGNER = "opendkim.service"
ORDERLY = {"v", "a", "c", "d", "s", "t", "bh", "h", "b"}
"""The tags of a signature of ours; `l` would leave room for more text behind the letter."""


@pytest.fixture
def official(person: Person) -> Account:
    """Somebody who writes."""
    return person(MEMBER)


def citizen(site: Site) -> str:
    return f"dan@{clients.foreign_domain(site)}"


def arrived(site: Site, message: EmailMessage) -> bytes:
    """A letter as the citizen got it."""
    with clients.foreign_imap(site, citizen(site)) as client:
        return clients.raw(client, clients.wait_for(client, message))


def sent(site: Site, account: Account, message: EmailMessage) -> bytes:
    """Submit a letter; as the citizen got it."""
    clients.submit(site, account, message)
    return arrived(site, message)


# -- what is signed --------------------------------------------------------------------------------


@pytest.mark.regulation("3.3")
def test_a_letter_with_an_attachment_is_signed(site: Site, official: Account) -> None:
    message = vietnamese_letter(site, citizen(site), TEXT)
    message.replace_header("From", official.address)
    content = sent(site, official, message)
    check_intact(content, TEXT)
    assert holds(site, content)
    (tags,) = signatures(site, content)
    assert set(tags) == ORDERLY
    assert tags["a"] == "rsa-sha256"
    assert tags["c"] == "relaxed/relaxed"
    assert tags["s"] == site.of(SigningSettings, site.group("mx")[0].name).selector
    signed = tags["h"].lower().split(":")
    for name in ("from", "subject", "date", "to"):
        assert signed.count(name) == 2, "once more than it is there"
    assert {"message-id", "mime-version", "content-type"} <= set(signed)
    assert not [name for name in signed if name.startswith(("x-", "received", "list-"))]


def test_the_author_is_who_signs(site: Site, official: Account) -> None:
    """What DMARC asks: From and the signature name the same domain (RFC 7489, 3.1.1)."""
    content = sent(site, official, clients.letter(official.address, citizen(site)))
    author = message_from_bytes(content, policy=policy.default)["From"].addresses[0]
    assert holds(site, content)
    (tags,) = signatures(site, content)
    assert tags["d"] == author.domain
    assert published(site, f"_dmarc.{author.domain}").startswith("v=DMARC1; p=")


@pytest.mark.regulation("12")
def test_a_unit_signs(site: Site, official: Account) -> None:
    unit = f"{UNIT}@{site.domain}"
    content = sent(site, official, clients.letter(unit, citizen(site), subject="Công văn"))
    assert message_from_bytes(content)["From"] == unit
    assert holds(site, content)
    assert len(signatures(site, content)) == 1


def test_letters_within_the_site_are_signed_alike(
    site: Site, official: Account, person: Person
) -> None:
    """So a colleague's rule that passes one on outside keeps its signature."""
    message = clients.letter(official.address, person(COLLEAGUE).address, subject=SUBJECT)
    clients.submit(site, official, message)
    with clients.imap(site, person(COLLEAGUE)) as client:
        content = clients.raw(client, clients.wait_for(client, message))
    assert holds(site, content)
    assert len(signatures(site, content)) == 1


def test_what_postfix_writes_is_signed_and_not_scanned(site: Site, official: Account) -> None:
    unknown = f"{foreign.UNKNOWN}@{clients.foreign_domain(site)}"
    message = clients.letter(official.address, unknown, subject="Không ai nhận")
    clients.submit(site, official, message)
    with clients.imap(site, official) as client:
        content = clients.raw(client, _report_on(client, message))
    assert holds(site, content)
    assert len(signatures(site, content)) == 1
    assert "X-Spam-Status" not in message_from_bytes(content)


def test_an_answer_of_who_is_away_is_signed(site: Site, scripted: Account) -> None:
    activate(
        site,
        scripted,
        f'require "vacation";\nvacation :handle "{id(site)}-ky" "Tôi đi công tác.";\n',
    )
    message = clients.foreign_letter(site, scripted.address, subject="Hỏi")
    clients.send_from_outside(site, message)
    with clients.foreign_imap(site, citizen(site)) as client:

        def reply() -> list[int]:
            client.select_folder("INBOX")
            return list(client.search(["HEADER", "In-Reply-To", message["Message-ID"]]))

        content = clients.raw(client, until(reply, "the reply", seconds=120)[0])
    assert holds(site, content)
    assert len(signatures(site, content)) == 1


# -- what is not -----------------------------------------------------------------------------------


def test_a_letter_from_outside_in_our_name_is_not_signed(
    site: Site, official: Account, person: Person
) -> None:
    forged = clients.letter(official.address, person(COLLEAGUE).address, subject="Giả mạo")
    with greeted(site) as client:
        client.send_message(forged, f"nguoi.la@{stranger(site)}", [person(COLLEAGUE).address])
    with clients.imap(site, person(COLLEAGUE)) as reader:
        content = clients.raw(reader, clients.wait_for(reader, forged))
    assert not signatures(site, content)


def test_a_rule_that_passes_letters_on_signs_none(
    site: Site, official: Account, scripted: Account
) -> None:
    """Or a stranger would have his letter signed by way of whoever has such a rule."""
    activate(site, scripted, f'require "copy";\nredirect :copy "{citizen(site)}";\n')
    forged = clients.letter(official.address, scripted.address, subject="Giả mạo")
    with greeted(site) as client:
        client.send_message(forged, f"nguoi.la@{stranger(site)}", [scripted.address])
    assert not signatures(site, arrived(site, forged))
    # A letter of ours has its signature already, and keeps it.
    content = sent(
        site, official, clients.letter(official.address, scripted.address, subject="Thật")
    )
    assert holds(site, content)
    assert len(signatures(site, content)) == 1


# -- when it holds ---------------------------------------------------------------------------------


def changed_body(content: bytes) -> bytes:
    head, _, body = content.partition(b"\r\n\r\n")
    position = next(at for at in range(len(body)) if body[at : at + 1].isalpha())
    return head + b"\r\n\r\n" + body[:position] + b"#" + body[position + 1 :]


def changed_subject(content: bytes) -> bytes:
    return re.sub(rb"(?mi)^Subject: ", b"Subject: Re: ", content, count=1)


def changed_type(content: bytes) -> bytes:
    return re.sub(rb"(?mi)^(Content-Type: text)/plain", rb"\1/html", content, count=1)


def on_top(line: str) -> Callable[[bytes], bytes]:
    return lambda content: line.encode() + b"\r\n" + content


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a byte of the text": changed_body,
    "the subject": changed_subject,
    "a second From": on_top("From: Chu tich <chutich@vidu.example>"),
    "a second Subject": on_top("Subject: Chuyen tien"),
    "a second To": on_top("To: ai.do@vidu.example"),
    "another type": changed_type,
    "more text": lambda content: content + b"Va xin chuyen tien.\r\n",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_letter_that_was_changed_is_known(site: Site, official: Account, change: str) -> None:
    content = sent(site, official, clients.letter(official.address, citizen(site), text=TEXT))
    assert holds(site, content)
    altered = CHANGES[change](content)
    assert altered != content
    assert not holds(site, altered)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"Received: from a by b; Thu, 26 Nov 2026 08:00:00 +0700\r\n" + content,
        lambda content: b"List-Id: <danh-sach.vidu.example>\r\n" + content,
        lambda content: content.replace(b"\r\nTo: ", b"\r\nTo:  ", 1),
        lambda content: content + b"\r\n\r\n",
    ],
    ids=["a relay's mark", "a list's mark", "a blank", "empty lines at the end"],
)
def test_a_letter_that_was_only_carried_still_holds(
    site: Site, official: Account, change: Callable[[bytes], bytes]
) -> None:
    content = sent(site, official, clients.letter(official.address, citizen(site), text=TEXT))
    assert change(content) != content
    assert holds(site, change(content))


# -- when the signer is away -----------------------------------------------------------------------


@pytest.mark.regulation("8")
def test_without_the_signer_ours_wait_and_others_come_in(site: Site, official: Account) -> None:
    ours = clients.letter(official.address, citizen(site), subject="Khi không ai ký")
    theirs = clients.foreign_letter(site, official.address, subject="Khi không ai ký")
    front = site.group("front")[0]
    units = [host.address for host in site.group("mx")]
    for address in units:
        remote.shell(site, address, f"systemctl stop {SIGNER}")
    try:
        clients.send_from_outside(site, theirs)
        if front.serves("mx"):
            # Without a front's queue between them who writes is told so.
            with pytest.raises(smtplib.SMTPResponseException) as refused:
                clients.submit(site, official, ours)
            assert 400 <= refused.value.smtp_code < 500
        else:
            clients.submit(site, official, ours)
            until(lambda: _deferred(site, front.address, official), "the letter in the queue")
        with clients.imap(site, official) as client:
            assert clients.wait_for(client, theirs)
    finally:
        for address in units:
            remote.shell(site, address, f"systemctl start {SIGNER}")
    if front.serves("mx"):
        clients.submit(site, official, ours)

    def flushed() -> bool:
        for host in site.group("front"):
            remote.shell(site, host.address, "postqueue -f")
        with clients.foreign_imap(site, citizen(site)) as client:
            client.select_folder("INBOX")
            return bool(client.search(["HEADER", "Message-ID", ours["Message-ID"]]))

    until(flushed, "the letter", seconds=180, pause=1)
    content = arrived(site, ours)
    assert holds(site, content)
    assert len(signatures(site, content)) == 1


def _deferred(site: Site, address: str, account: Account) -> bool:
    """Whether a front has a letter of somebody's for which it shall try again."""
    waiting = remote.shell(site, address, "postqueue -j").lower().splitlines()
    return any(account.address in line and "try again later" in line for line in waiting)


def test_a_signer_that_is_killed_comes_back(site: Site, official: Account) -> None:
    for host in site.group("mx"):
        remote.shell(site, host.address, f"systemctl kill --signal=KILL {SIGNER}")
    for host in site.group("mx"):
        until(
            lambda at=host.address: (  # type: ignore[misc]
                remote.shell(site, at, f"systemctl is-active {SIGNER} || true") == "active\n"
            ),
            f"{SIGNER} on {host.name}",
        )
    message = clients.letter(official.address, citizen(site))
    assert holds(site, sent(site, official, message))
