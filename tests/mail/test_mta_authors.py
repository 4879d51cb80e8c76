"""Whom a letter that an official submits may name as its author: nobody else, however written.

Postfix judges the envelope (`test_mta_submission.py`); what people read is the head. A front takes
the letter and the mx refuses it; one host of both groups refuses it at once.
"""

import re
import smtplib
import uuid
from base64 import b64encode
from collections.abc import Callable

import pytest
from imapclient import IMAPClient

from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account
from tests.mail.test_mta_submission import PORTS, logged_in
from tests.waiting import until

Person = Callable[[str], Account]
MEMBER, READER, OTHER = "anv", "gvv", "clv"
"""Of the unit below: one who sends as it, one who only reads it; a colleague of theirs."""
UNIT = "stttt"
SECONDS = 120

OWN = {
    "own": ("{own}", "From: {own}"),
    "upper case": ("{own}", "FROM: <{OWN}>"),
    "name": ("{own}", "From: =?utf-8?q?Nguy=E1=BB=85n_V=C4=83n_A?= <{own}>"),
    "name with a comma": ("{own}", 'From: "A, Van thu" <{own}>'),
    "address as a name": ("{own}", "From: '{own}' <{own}>"),
    "folded": (
        "{own}",
        "From: =?utf-8?q?Nguy=E1=BB=85n?=\r\n =?utf-8?q?_V=C4=83n_A?=\r\n\t<{own}>",
    ),
    "extension": ("{own}", "From: <{name}+tin@{domain}>"),
    "alias": ("{alias}", "From: {alias}"),
    "alias in the head alone": ("{own}", "From: {alias}"),
    "unit": ("{unit}", "From: {unit}"),
    "unit in the head alone": ("{own}", "From: {unit}\r\nSender: {own}"),
    "own and unit": ("{own}", "From: {own}, {unit}\r\nSender: {own}"),
    "none": ("{own}", "X-None: {other}"),
    "receipt": ("", "From: {own}"),
    "receipt of the unit": ("", "From: {unit}"),
}
"""The envelope's sender and the head of what is taken from a member."""

SOMEBODY_ELSES = {
    "other": ("{own}", "From: {other}"),
    "other's name and address": ("{own}", "From: Giam doc <{other}>"),
    "unit": ("{own}", "From: {unit}"),
    "unit with oneself": ("{own}", "From: {own}, {unit}"),
    "foreign": ("{own}", "From: dan@{foreign}"),
    "two lines": ("{own}", "From: {own}\r\nFrom: {other}"),
    "two lines, the other way": ("{own}", "From: {other}\r\nFrom: {own}"),
    "receipt": ("", "From: {other}"),
    "receipt of the unit": ("", "From: {unit}"),
    "receipt of nobody": ("", "X-None: {own}"),
}
"""The same of what is refused from one who only reads the unit's mail."""

TRICKS = {
    "two own lines": "From: {own}\r\nFrom: {own}",
    "lower case": "from: {own}\r\nfROM: {other}",
    "space before the colon": "Date: x\r\nFrom : {other}\r\nFrom: {own}",
    "folded": "From: {own},\r\n {other}",
    "bare": "From: {other_name}",
    "encoded": "From: =?utf-8?q?{other_name}=40{domain}?= <{own}>",
    "encoded as a whole": "From: =?utf-8?b?{other_base64}?=",
    "quoted": 'From: "{other}" <{own}>',
    "quoted local part": 'From: "{other_name}"@{domain}',
    "spaces": "From: {other_name} @ {domain}",
    "comment": "From: {other_name}(x)@{domain} ({own})",
    "comment after": "From: {own} ({other})",
    "name in angle brackets": "From: <{own}> <{other}>",
    "route": "From: <@{domain}:{other}>",
    "group": "From: Ban giam doc: {own}, {other};",
    "percent": "From: {other_name}%{domain}@{domain}",
    "longer": "From: x{own}",
    "longer domain": "From: {own}.{foreign}",
    "sender": "From: {own}\r\nSender: {other}",
    "sent again": "From: {own}\r\nResent-From: {other}",
    "our own header": "X-Site-Senders: -,{other}\r\nFrom: {other}",
    "nothing": "From: nobody:;",
}
"""Heads that a filter or a mail program may read in another way; from the same one."""


def outcome(site: Site, client: smtplib.SMTP, sender: str, recipient: str, text: str) -> str:
    """What became of a letter: the refusal at once, or how it left the host."""
    client.mail(sender)
    client.rcpt(recipient)
    code, words = client.data(text.encode())
    if code != 250:
        return f"{code} {words.decode()}"
    (queue_id,) = re.findall(r"queued as (\w+)", words.decode())
    front = clients.address_of(site, "front")
    pattern = f"{queue_id}: to=.* status="

    def left() -> str:
        return remote.shell(
            site, front, f"journalctl -q --since=-1h -o cat -g '{pattern}' || true"
        ).strip()

    return until(left, f"{queue_id} to leave", SECONDS).partition("status=")[2]


def names(site: Site, account: Account, other: Account) -> dict[str, str]:
    """What the heads are made of."""
    return {
        "own": account.address,
        "OWN": account.address.upper(),
        "name": account.address.partition("@")[0],
        "alias": f"vanthu.{UNIT}@{site.domain}",
        "unit": f"{UNIT}@{site.domain}",
        "other": other.address,
        "other_name": other.address.partition("@")[0],
        "other_base64": b64encode(other.address.encode()).decode(),
        "domain": site.domain,
        "foreign": clients.foreign_domain(site),
    }


def submitted(
    site: Site, account: Account, other: Account, case: tuple[str, str], port: int = 465
) -> tuple[str, str]:
    """Submit a letter to the other one; its subject, which names it, and what became of it."""
    sender, head = case
    values, mark = names(site, account, other), uuid.uuid4().hex
    text = f"{head.format(**values)}\r\nTo: {other.address}\r\nSubject: {mark}\r\n\r\nthu\r\n"
    with logged_in(site, account, port) as client:
        return mark, outcome(site, client, sender.format(**values), other.address, text)


def by_subject(reader: IMAPClient, mark: str) -> list[int]:
    reader.select_folder("INBOX")
    return list(reader.search(["SUBJECT", mark]))


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("case", OWN)
def test_an_author_of_ones_own_is_taken(site: Site, person: Person, case: str, port: int) -> None:
    account, other = person(MEMBER), person(OTHER)
    mark, became = submitted(site, account, other, OWN[case], port)
    assert became.startswith("sent"), became
    with clients.imap(site, other) as reader:
        uid = until(lambda: by_subject(reader, mark), f"a letter with the subject {mark}")[0]
        head = clients.raw(reader, uid).partition(b"\r\n\r\n")[0]
    # Whom else the official may write as is nobody's business.
    assert b"x-site-senders" not in head.lower()


def assert_refused(became: str) -> None:
    assert re.search(r"\b554 5\.7\.1 Thu bi tu choi: .* / Refused: the author", became), became


@pytest.mark.regulation("13")
@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("case", SOMEBODY_ELSES)
def test_somebody_else_as_the_author_is_refused(
    site: Site, person: Person, case: str, port: int
) -> None:
    account, other = person(READER), person(OTHER)
    assert_refused(submitted(site, account, other, SOMEBODY_ELSES[case], port)[1])


@pytest.mark.regulation("13")
@pytest.mark.parametrize("case", TRICKS)
def test_somebody_else_in_disguise_is_refused(site: Site, person: Person, case: str) -> None:
    account, other = person(READER), person(OTHER)
    assert_refused(submitted(site, account, other, ("{own}", TRICKS[case]))[1])


def test_a_head_does_not_go_on_with_our_own_header(site: Site, person: Person) -> None:
    """A first line that begins with a space is the text's, and so is all below it."""
    account, other = person(READER), person(OTHER)
    head = " ,{other}\r\nX-Site-Senders: -,{other}\r\nFrom: {other}"
    mark, became = submitted(site, account, other, ("{own}", head))
    assert became.startswith("sent"), became
    with clients.imap(site, other) as reader:
        reader.select_folder("INBOX")
        uid = until(lambda: reader.search(["BODY", mark]), f"a letter with {mark}")[0]
        head = clients.raw(reader, uid).decode().partition("\r\n\r\n")[0]
    assert re.findall(r"(?mi)^(From|Sender|X-Site-Senders):(.*)", head) == [
        ("From", f" {account.address}")
    ]


@pytest.mark.regulation("13")
def test_the_official_learns_why(site: Site, person: Person) -> None:
    account, other = person(READER), person(OTHER)
    mark, became = submitted(site, account, other, ("{own}", "From: {other}"))
    if became.startswith("554"):
        assert "khong duoc ghi nguoi gui" in became
        return

    def notices() -> list[int]:
        reader.select_folder("INBOX")
        found = reader.search(["HEADER", "Auto-Submitted", "auto-replied"])
        return [uid for uid in found if mark.encode() in clients.raw(reader, uid)]

    with clients.imap(site, account) as reader:
        notice = clients.raw(reader, until(notices, f"a notice on {mark}", SECONDS)[0])
    assert b"khong duoc ghi nguoi gui" in re.sub(rb"\r\n +", b" ", notice)


def test_from_outside_our_own_header_says_nothing(site: Site, person: Person) -> None:
    """Neither is it believed nor handed on."""
    account = person(OTHER)
    message = clients.foreign_letter(site, account.address)
    message["X-Site-Senders"] = "-"
    clients.send_from_outside(site, message)
    with clients.imap(site, account) as reader:
        head = clients.raw(reader, clients.wait_for(reader, message)).partition(b"\r\n\r\n")[0]
    assert b"x-site-senders" not in head.lower()
