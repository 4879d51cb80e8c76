"""Ports 465 and 587: what officials may send, and as whom."""

import re
import smtplib
import ssl
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from imapclient import IMAPClient

from roles.common.site import Site
from roles.mta.settings import MtaSettings
from tests import clients
from tests.clients import Account
from tests.lab.outside import foreign
from tests.waiting import until

Person = Callable[[str], Account]
MEMBER, READER, STRANGER = "anv", "gvv", "dpt"
"""Of the unit below: one who sends as it, one who only reads it, one of another unit."""
UNIT = "stttt"
MISTAKEN, BUSY = "thuva", "thuvt"
"""Two whom no other test needs: one whose wrong passwords the directory counts, and one whose
recipients the front counts, those of an earlier run, too."""
PORTS = (465, 587)


@contextmanager
def connected(site: Site, port: int) -> Iterator[smtplib.SMTP]:
    """A connection with TLS that has not logged in."""
    address, context = clients.address_of(site, "front"), clients.context(site)
    if port == 465:
        client: smtplib.SMTP = smtplib.SMTP_SSL(
            address, port, timeout=clients.SECONDS, context=context
        )
    else:
        client = smtplib.SMTP(address, port, timeout=clients.SECONDS)
    with client:
        client.ehlo("[192.0.2.1]")
        if port != 465:
            client.starttls(context=context)
            client.ehlo("[192.0.2.1]")
        yield client


@pytest.fixture(params=PORTS)
def client(request: pytest.FixtureRequest, site: Site) -> Iterator[smtplib.SMTP]:
    """A connection with TLS to either port."""
    with connected(site, request.param) as opened:
        yield opened


@contextmanager
def logged_in(site: Site, account: Account, port: int = 465) -> Iterator[smtplib.SMTP]:
    """A connection of an official."""
    with connected(site, port) as client:
        client.login(account.address, account.password)
        yield client


def authenticated(client: smtplib.SMTP, name: str, password: str) -> tuple[int, bytes]:
    """The answer to one attempt to log in."""
    token = b64encode(f"\0{name}\0{password}".encode()).decode()
    return client.docmd(f"AUTH PLAIN {token}")


def asked(client: smtplib.SMTP, sender: str, recipient: str) -> tuple[int, str]:
    """The answer to RCPT, or to MAIL where that was refused."""
    code, words = client.docmd(f"MAIL FROM:<{sender}>")
    if code == 250:
        code, words = client.docmd(f"RCPT TO:<{recipient}>")
    client.rset()
    return code, words.decode()


# -- who ----------------------------------------------------------------------------------------


@pytest.mark.regulation("13")
def test_no_password_is_asked_for_without_tls(site: Site) -> None:
    with smtplib.SMTP(clients.address_of(site, "front"), 587, timeout=clients.SECONDS) as client:
        client.ehlo("[192.0.2.1]")
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")
        assert client.docmd("AUTH PLAIN AGEAYg==")[0] in {502, 503, 530, 538}
        assert client.docmd("MAIL FROM:<>")[0] == 530


def test_port_465_speaks_tls_only(site: Site) -> None:
    with pytest.raises((smtplib.SMTPException, ConnectionError, TimeoutError)):
        smtplib.SMTP(clients.address_of(site, "front"), 465, timeout=3)


def test_passwords_are_asked_for_under_tls(client: smtplib.SMTP) -> None:
    assert set(client.esmtp_features["auth"].split()) == {"PLAIN", "LOGIN"}


def test_nobody_sends_without_a_password(site: Site, person: Person, client: smtplib.SMTP) -> None:
    for recipient in (f"dan@{clients.foreign_domain(site)}", person(STRANGER).address):
        code, words = asked(client, person(MEMBER).address, recipient)
        assert code in {530, 550, 553, 554}, words


@pytest.mark.regulation("13")
def test_a_wrong_password_is_refused(person: Person, client: smtplib.SMTP) -> None:
    account = person(MISTAKEN)
    for password in ("", f"{account.password}x", person(MEMBER).password):
        code, words = authenticated(client, account.address, password)
        assert code in {501, 535}, words
    assert asked(client, account.address, account.address)[0] >= 500


@pytest.mark.regulation("13")
def test_a_locked_account_does_not_log_in(person: Person, client: smtplib.SMTP) -> None:
    account = person("hht")
    code, words = authenticated(client, account.address, account.password)
    assert code == 535, words


def test_a_unit_mailbox_does_not_log_in(site: Site, client: smtplib.SMTP) -> None:
    code, words = authenticated(client, f"{UNIT}@{site.domain}", UNIT)
    assert code == 535, words


def test_the_login_name_may_be_in_upper_case(site: Site, person: Person) -> None:
    account = person(MEMBER)
    with connected(site, 465) as client:
        client.login(account.address.upper(), account.password)
        assert asked(client, account.address, account.address)[0] == 250


# -- as whom ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sender",
    ["{own}", "{OWN}", "vanthu.stttt@{domain}", "{unit}", "{name}+tin@{domain}", ""],
    ids=["own", "upper case", "alias", "unit", "extension", "receipt"],
)
def test_a_sender_of_ones_own_is_taken(site: Site, person: Person, sender: str) -> None:
    account = person(MEMBER)
    given = sender.format(**_names(site, account))
    with logged_in(site, account) as client:
        code, words = asked(client, given, person(STRANGER).address)
    assert code == 250, words


@pytest.mark.regulation("13")
@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize(
    "sender",
    [
        "{other}", "{OTHER}", "{unit}", "{UNIT}", "vanthu.stttt@{domain}", "caibe@{domain}",
        "postmaster@{domain}", "root@{domain}", "khong-ton-tai@{domain}", "dan@{foreign}",
        "{name}@{foreign}", "{name}", "{own}.{foreign}", "{name}%{domain}@{foreign}",
        "x+{name}@{domain}", "{name}@mx1.{domain}",
    ],
)  # fmt: skip
def test_somebody_elses_sender_is_refused(
    site: Site, person: Person, sender: str, port: int
) -> None:
    account = person(STRANGER)
    given = sender.format(**_names(site, account, person(MEMBER)))
    with logged_in(site, account, port) as client:
        code, words = asked(client, given, account.address)
    assert code in {504, 550, 553}, words


@pytest.mark.regulation("3.1a")
@pytest.mark.parametrize(("who", "allowed"), [(MEMBER, True), (READER, False), (STRANGER, False)])
def test_only_who_may_sends_as_the_unit(
    site: Site, person: Person, who: str, *, allowed: bool
) -> None:
    with logged_in(site, person(who)) as client:
        code, words = asked(client, f"{UNIT}@{site.domain}", person(STRANGER).address)
    assert code == (250 if allowed else 553), words


def test_a_receipt_has_one_recipient(site: Site, person: Person) -> None:
    with logged_in(site, person(MEMBER)) as client:
        client.docmd("MAIL FROM:<>")
        client.rcpt(person(STRANGER).address)
        client.rcpt(person(READER).address)
        assert client.docmd("DATA")[0] == 550


# -- to whom ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipient", "code"),
    [
        ("khong-ton-tai@{domain}", 550),
        ("dan@khong-ton-tai.example", 550),
        ("dan", 504),
        ("postmaster@{domain}", 250),
        ("abuse@{domain}", 250),
        ("dan@{foreign}", 250),
    ],
)
def test_a_mistyped_recipient_is_told_at_once(
    site: Site, person: Person, recipient: str, code: int
) -> None:
    account = person(MEMBER)
    with logged_in(site, account) as client:
        found, words = asked(client, account.address, recipient.format(**_names(site, account)))
    assert found == code, words


@pytest.mark.regulation("13")
def test_a_letter_has_a_limited_number_of_recipients(site: Site, person: Person) -> None:
    account = person(MEMBER)
    limit = site.of(MtaSettings).recipients_per_message
    with logged_in(site, account) as client:
        client.mail(account.address)
        codes = [client.rcpt(f"dan{n}@{clients.foreign_domain(site)}")[0] for n in range(limit + 1)]
        client.rset()
    assert set(codes[:limit]) == {250}
    assert codes[limit] == 452


@pytest.mark.regulation("13")
def test_an_official_sends_to_a_limited_number_an_hour(site: Site, person: Person) -> None:
    settings = site.of(MtaSettings)
    account = person(BUSY)
    letters = -(-settings.recipients_per_hour // settings.recipients_per_message) + 1
    code = 0
    for _ in range(letters):
        with logged_in(site, account) as client:
            client.mail(account.address)
            for number in range(settings.recipients_per_message):
                client.rcpt(f"dan{number}@{clients.foreign_domain(site)}")
            # Counted now; and given up, so that nobody has to take the letter.
            code, words = client.docmd("DATA")
            client.close()
        if code != 354:
            break
    assert code == 450, words
    with logged_in(site, person(MEMBER)) as client:
        client.mail(person(MEMBER).address)
        client.rcpt(person(STRANGER).address)
        assert client.docmd("DATA")[0] == 354, "one official's limit is not another's"
        client.close()


def test_a_letter_that_is_too_large_is_refused(site: Site, person: Person) -> None:
    account = person(MEMBER)
    limit = site.of(MtaSettings).message_size
    with logged_in(site, account) as client:
        assert int(client.esmtp_features["size"]) == limit
        assert client.mail(account.address, [f"size={limit + 1}"])[0] == 552


# -- what becomes of a letter -------------------------------------------------------------------


def test_heads_say_nothing_of_the_senders_machine(site: Site, person: Person) -> None:
    account = person(MEMBER)
    message = clients.letter(account.address, f"dan@{clients.foreign_domain(site)}")
    message["Bcc"] = f"kin@{clients.foreign_domain(site)}"
    with logged_in(site, account, 587) as client:
        # As programs do that leave the hidden recipients to the server.
        client.sendmail(account.address, [message["To"], message["Bcc"]], message.as_bytes())
    for recipient in (message["To"], message["Bcc"]):
        with clients.foreign_imap(site, str(recipient)) as reader:
            head = clients.raw(reader, clients.wait_for(reader, message)).partition(b"\r\n\r\n")[0]
        assert b"\nBcc:" not in head
        assert b"192.0.2.1" not in head
        assert account.address not in " ".join(re.findall(r"(?m)^Received:.*$", head.decode()))
        with smtplib.SMTP(clients.address_of(site, "front"), 587, timeout=clients.SECONDS) as probe:
            assert probe.sock is not None
            mine = probe.sock.getsockname()[0]
        assert not re.search(rf"\b{re.escape(mine)}\b".encode(), head)


def test_a_missing_date_and_message_id_are_supplied(site: Site, person: Person) -> None:
    account, mark = person(MEMBER), uuid.uuid4().hex
    recipient = f"dan@{clients.foreign_domain(site)}"
    text = f"From: {account.address}\r\nTo: {recipient}\r\nSubject: {mark}\r\n\r\nthu\r\n"
    with logged_in(site, account) as client:
        client.sendmail(account.address, [recipient], text)
    with clients.foreign_imap(site, recipient) as reader:
        received = _parsed(clients.raw(reader, _by_subject(reader, mark)))
    assert received["Date"]
    assert received["Message-ID"]


@pytest.mark.regulation("3.3")
@pytest.mark.parametrize("who", [MEMBER])
def test_a_bounce_explains_itself_in_vietnamese(site: Site, person: Person, who: str) -> None:
    account = person(who)
    unknown = f"{foreign.UNKNOWN}@{clients.foreign_domain(site)}"
    message = clients.letter(account.address, unknown, subject="Đề nghị trả lời")
    with logged_in(site, account) as client:
        client.send_message(message)
    with clients.imap(site, account) as reader:
        bounce = _parsed(clients.raw(reader, _report_on(reader, message)))
    assert bounce["Subject"] == "Thư không gửi được"
    assert bounce["From"].addresses[0].display_name == "Hệ thống thư điện tử"
    assert bounce.get_content_type() == "multipart/report"
    notice, report, original = bounce.iter_parts()
    assert notice.get_content_charset() == "utf-8"
    content = notice.get_payload(decode=True)
    assert isinstance(content, bytes)
    text = content.decode("utf-8")
    assert "Thư của ông/bà KHÔNG gửi được" in text
    assert "5.1.1   địa chỉ không tồn tại" in text
    assert site.table.organisation in text
    assert f"<{unknown}>" in text
    assert "Action: failed" in str(report)
    assert original.get_content_type() == "text/rfc822-headers"
    head = original.get_payload(decode=True)
    assert isinstance(head, bytes)
    assert _parsed(head)["Subject"] == "Đề nghị trả lời"


@pytest.mark.regulation("8")
def test_a_sender_learns_that_a_letter_was_refused_as_spam(site: Site, person: Person) -> None:
    """The notice itself passes the filters, or nobody would ever read it."""
    account = person(MEMBER)
    message = clients.letter(
        account.address,
        f"dan@{clients.foreign_domain(site)}",
        # In two parts, so that this file is no spam.
        text="XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI" + "-UBE-TEST-EMAIL*C.34X\n",
    )
    if site.group("front")[0].serves("mx"):
        # One host of both groups refuses at once.
        with logged_in(site, account) as client, pytest.raises(smtplib.SMTPDataError, match="550"):
            client.send_message(message)
        return
    with logged_in(site, account) as client:
        client.send_message(message)
    with clients.imap(site, account) as reader:
        bounce = _parsed(clients.raw(reader, _report_on(reader, message)))
    assert "thu rac" in str(bounce)


def test_a_notice_of_success_is_in_vietnamese(site: Site, person: Person) -> None:
    account = person(MEMBER)
    message = clients.letter(account.address, person(STRANGER).address)
    with logged_in(site, account) as client:
        client.send_message(message, rcpt_options=["NOTIFY=SUCCESS"])
    with clients.imap(site, account) as reader:
        notice = _parsed(clients.raw(reader, _report_on(reader, message)))
    assert notice["Subject"] == "Thư đã được giao"


def test_tls_is_verified_by_the_public_name(site: Site) -> None:
    """Programs know the fronts by one name (article 2)."""
    context = clients.context(site)
    plain = smtplib.SMTP(clients.address_of(site, "front"), 587, timeout=clients.SECONDS)
    with plain:
        plain.ehlo()
        plain.docmd("STARTTLS")
        assert plain.sock is not None
        with context.wrap_socket(plain.sock, server_hostname=site.mail_name) as secured:
            assert secured.version() in {"TLSv1.2", "TLSv1.3"}
            assert isinstance(secured, ssl.SSLSocket)
            plain.sock = None


def _names(site: Site, account: Account, other: Account | None = None) -> dict[str, str]:
    unit = f"{UNIT}@{site.domain}"
    named = {
        "own": account.address,
        "OWN": account.address.upper(),
        "name": account.address.partition("@")[0],
        "domain": site.domain,
        "foreign": clients.foreign_domain(site),
        "unit": unit,
        "UNIT": unit.upper(),
    }
    if other is not None:
        named |= {"other": other.address, "OTHER": other.address.upper()}
    return named


def _parsed(content: bytes) -> EmailMessage:
    message = message_from_bytes(content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def _by_subject(reader: IMAPClient, subject: str) -> int:
    reader.select_folder("INBOX")

    def found() -> list[int]:
        reader.noop()
        return list(reader.search(["SUBJECT", subject]))

    return until(found, f"a letter with the subject {subject}", seconds=120)[0]


def _report_on(reader: IMAPClient, message: EmailMessage) -> int:
    """The report that has the letter, or its head, attached."""
    reader.select_folder("INBOX")

    def found() -> list[int]:
        reader.noop()
        return [
            uid
            for uid in reader.search(["HEADER", "Auto-Submitted", "auto-replied"])
            if message["Message-ID"].encode() in clients.raw(reader, uid)
        ]

    return until(found, f"a report on {message['Message-ID']}", seconds=120)[0]
