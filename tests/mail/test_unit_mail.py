"""The unit's letters (article 12): what is sent as the unit, and what its head gets, too."""

import hashlib
import re
import smtplib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import EmailMessage

import pytest
from imapclient import IMAPClient

from roles.accounts.settings import AccountsSettings
from roles.common.site import Site
from tests import clients, lmtp, remote
from tests.clients import Account
from tests.mail.test_mta_mx import greeted
from tests.mail.test_mta_submission import asked, logged_in
from tests.samples import gtube, proposal
from tests.waiting import until

Person = Callable[[str], Account]

CODE = "stttt"
MEMBER, READER, OTHER = "anv", "gvv", "clv"
"""Of the unit: one who sends as it and files, one who only reads it; a colleague without rights."""
SENDER, SENDERS_UNIT = "anv2", "caibe"
"""One who reads a unit's letters and sends as it, but does not file or delete there."""
SECONDS = 120


def unit_address(site: Site, code: str = CODE) -> str:
    return f"{code}@{site.domain}"


def sent_folder(site: Site, code: str = CODE) -> str:
    return f"{clients.unit_folder(site, code)}/Sent"


def citizen(site: Site) -> str:
    return f"dan@{clients.foreign_domain(site)}"


def uids(client: IMAPClient, folder: str, message: EmailMessage) -> list[int]:
    """Where a letter is in a folder."""
    client.select_folder(folder, readonly=True)
    return list(client.search(["HEADER", "Message-ID", message["Message-ID"]]))


def trail(site: Site, address: str, pattern: str) -> list[str]:
    """Lines of a host's journal."""
    found = remote.shell(site, address, f"journalctl -q --since=-1h -o cat -g '{pattern}' || true")
    return found.splitlines()


@pytest.fixture
def member(site: Site, person: Person) -> Iterator[IMAPClient]:
    """Someone who reads and files; what the tests put into the unit's Sent is gone afterwards."""
    with clients.imap(site, person(MEMBER)) as client:
        client.select_folder(sent_folder(site))
        before = set(client.search())
        yield client
        client.select_folder(sent_folder(site))
        client.delete_messages([uid for uid in client.search() if uid not in before])
        client.expunge()


def passed(site: Site, message: EmailMessage) -> list[str]:
    """What the mx says of who acted as a unit with a letter."""
    wanted = re.escape(message["Message-ID"].strip("<>"))
    mxs = [host.address for host in site.group("mx")]
    return [line for mx in mxs for line in trail(site, mx, f"sent-as-unit .*{wanted}")]


# -- what is sent as the unit ----------------------------------------------------------------------


@pytest.mark.regulation("12")
def test_what_is_sent_as_the_unit_is_in_its_sent_folder(
    site: Site, person: Person, member: IMAPClient
) -> None:
    """Whatever the program does; and on record is who it was."""
    message = clients.letter(unit_address(site), citizen(site), subject="Trả lời công dân")
    message["Cc"] = person(OTHER).address
    clients.submit(site, person(MEMBER), message)
    uid = clients.wait_for(member, message, sent_folder(site), SECONDS)
    # Read by who sent it; the others see that there is something new.
    assert rb"\Seen" in member.get_flags([uid])[uid]
    with clients.imap(site, person(READER)) as reader:
        assert clients.wait_for(reader, message, sent_folder(site)) == uid
        assert rb"\Seen" not in reader.get_flags([uid])[uid]
    (line,) = passed(site, message)
    assert f"unit=<{unit_address(site)}> login=<{person(MEMBER).address}>" in line
    assert line.endswith("nrcpt=2")
    with clients.foreign_imap(site, citizen(site)) as inbox:
        received = clients.raw(inbox, clients.wait_for(inbox, message))
    head = received.partition(b"\r\n\r\n")[0].lower()
    for word in (b"x-site-", b"unit-sent", person(MEMBER).address.encode()):
        assert word not in head


def test_also_where_only_the_head_names_the_unit(
    site: Site, person: Person, member: IMAPClient
) -> None:
    message = clients.letter(unit_address(site), citizen(site))
    message["Sender"] = person(MEMBER).address
    with logged_in(site, person(MEMBER)) as client:
        client.send_message(message, from_addr=person(MEMBER).address)
    clients.wait_for(member, message, sent_folder(site), SECONDS)


def test_who_only_sends_files_there_too(site: Site, person: Person) -> None:
    message = clients.letter(unit_address(site, SENDERS_UNIT), citizen(site))
    clients.submit(site, person(SENDER), message)
    folder = sent_folder(site, SENDERS_UNIT)
    with clients.imap(site, person(SENDER)) as client:
        clients.wait_for(client, message, folder, SECONDS)
    _remove(site, SENDERS_UNIT, message)


def test_ones_own_letters_stay_out_of_it(site: Site, person: Person, member: IMAPClient) -> None:
    mine = clients.letter(person(MEMBER).address, citizen(site))
    clients.submit(site, person(MEMBER), mine)
    units = clients.letter(unit_address(site), citizen(site))
    clients.submit(site, person(MEMBER), units)
    # The later one has arrived.
    clients.wait_for(member, units, sent_folder(site), SECONDS)
    assert not uids(member, sent_folder(site), mine)
    assert not passed(site, mine)


def test_an_alias_of_the_unit_is_the_unit(site: Site, person: Person) -> None:
    alias = f"abuse@{site.domain}"
    unit = site.of(AccountsSettings).postmaster_unit
    message = clients.letter(alias, citizen(site))
    clients.submit(site, person("mhn"), message)
    with clients.imap(site, person("mhn")) as client:
        clients.wait_for(client, message, sent_folder(site, unit), SECONDS)
    _remove(site, unit, message)


def test_a_receipt_is_not_a_sent_letter(site: Site, person: Person, member: IMAPClient) -> None:
    receipt = clients.letter(unit_address(site), citizen(site), subject="Đã đọc")
    with logged_in(site, person(MEMBER)) as client:
        client.send_message(receipt, from_addr="<>")
    until(lambda: passed(site, receipt), "the receipt to pass", SECONDS)
    units = clients.letter(unit_address(site), citizen(site))
    clients.submit(site, person(MEMBER), units)
    clients.wait_for(member, units, sent_folder(site), SECONDS)
    assert not uids(member, sent_folder(site), receipt)


@pytest.mark.parametrize("who", [(MEMBER, CODE), (SENDER, SENDERS_UNIT)], ids=["filer", "sender"])
@pytest.mark.parametrize("first", ["program", "server"])
def test_what_the_program_files_itself_is_there_once(
    site: Site, person: Person, who: tuple[str, str], first: str
) -> None:
    name, code = who
    folder = sent_folder(site, code)
    message = clients.letter(unit_address(site, code), citizen(site))
    with clients.imap(site, person(name)) as client:
        if first == "program":
            client.append(folder, message.as_bytes(), [rb"\Seen"])
        clients.submit(site, person(name), message)
        store = clients.store_of(site, person(name).address).address
        wanted = re.escape(message["Message-ID"].strip("<>"))

        def handed_over() -> list[str]:
            return trail(site, store, f"lmtp.*sieve.*{wanted}")

        until(handed_over, "the server's copy", SECONDS)
        if first == "server":
            client.append(folder, message.as_bytes(), [rb"\Seen"])
        assert len(uids(client, folder, message)) == 1
    _remove(site, code, message)


def _remove(site: Site, code: str, message: EmailMessage) -> None:
    store = clients.store_of(site, unit_address(site, code)).address
    remote.shell(
        site, store,
        f"doveadm expunge -u {unit_address(site, code)}"
        f" mailbox Sent header message-id '{message['Message-ID']}'",
    )  # fmt: skip


def test_a_letter_in_several_parts_is_there_once(
    site: Site, person: Person, member: IMAPClient
) -> None:
    """A program, or an mx after an outage, hands the same letter over twice."""
    message = clients.letter(unit_address(site), citizen(site))
    clients.submit(site, person(MEMBER), message)
    clients.submit(site, person(MEMBER), message)
    until(lambda: len(passed(site, message)) == 2, "both to pass", SECONDS)
    later = clients.letter(unit_address(site), citizen(site))
    clients.submit(site, person(MEMBER), later)
    clients.wait_for(member, later, sent_folder(site), SECONDS)
    assert len(uids(member, sent_folder(site), message)) == 1


def test_a_refused_letter_was_not_sent(site: Site, person: Person, member: IMAPClient) -> None:
    refused = clients.letter(unit_address(site), citizen(site), text=gtube())
    # One host of both groups refuses at once.
    with suppress(smtplib.SMTPDataError):
        clients.submit(site, person(MEMBER), refused)
    sent = clients.letter(unit_address(site), citizen(site))
    clients.submit(site, person(MEMBER), sent)
    clients.wait_for(member, sent, sent_folder(site), SECONDS)
    assert not uids(member, sent_folder(site), refused)
    assert not passed(site, refused)


ADDRESSES = [
    "{member}+unit-sent-{code}@{domain}",
    "{member}+UNIT-Sent-{code}@{domain}",
    '"{member}+unit-sent-{code}"@{domain}',
    "{code}+unit-sent-{code}@{domain}",
    "{member}+tin+unit-sent-{code}@{domain}",
    "vanthu.{code}+unit-sent-{code}@{domain}",
    "@{domain}:{member}+unit-sent-{code}@{domain}",
]


def attempts(site: Site) -> list[str]:
    return [address.format(member=MEMBER, code=CODE, domain=site.domain) for address in ADDRESSES]


@pytest.mark.regulation("13")
def test_nobody_outside_writes_into_sent(site: Site) -> None:
    for address in attempts(site):
        with greeted(site) as client:
            client.mail(f"nguoi.la@tester.{clients.foreign_domain(site)}")
            code, words = client.docmd(f"RCPT TO:<{address}>")
        assert code == 550, (address, words)


@pytest.mark.regulation("13")
@pytest.mark.parametrize("who", [MEMBER, OTHER])
def test_no_member_writes_into_sent(site: Site, person: Person, who: str) -> None:
    with logged_in(site, person(who)) as client:
        for address in attempts(site):
            code, words = asked(client, person(who).address, address)
            assert code == 550, (address, words)


@pytest.mark.regulation("13")
def test_no_host_of_the_site_hands_it_on(site: Site) -> None:
    """Such as a store that redirects by somebody's script."""
    store, mx = site.group("store")[0], site.group("mx")[0]
    program = f"""
import smtplib, ssl
context = ssl.create_default_context(cafile="/etc/site-tls/ca.pem")
context.load_cert_chain("/etc/site-tls/cert.pem", "/etc/site-tls/key.pem")
with smtplib.SMTP("{mx.fqdn}", 10025, timeout=60) as client:
    client.starttls(context=context)
    client.ehlo()
    for address in {attempts(site)!r}:
        client.docmd("MAIL FROM:<{unit_address(site)}>")
        print(address, client.docmd("RCPT TO:<" + address + ">")[0])
        client.rset()
"""
    said = remote.shell(site, store.address, "python3 -", stdin=program).splitlines()
    assert [line.rpartition(" ")[2] for line in said] == ["550"] * len(attempts(site)), said


# -- what its head gets, too -----------------------------------------------------------------------


REDIRECTED, HEAD = "stttt", "dutt"
"""A unit, and one whom no other test needs, in the place of its head."""
ANOTHER = "syt"
"""A unit that no other test writes to."""
TRACE = {"received", "return-path", "delivered-to"}
"""What is put on top of a letter on its way."""


@contextmanager
def redirected(site: Site, code: str, to: str) -> Iterator[None]:
    """Inside the block what a unit gets goes to somebody else, too."""
    (dn,) = remote.entry(site, unit_address(site, code))["dn"]
    change = f"dn: {dn}\nchangetype: modify\n"
    remote.modify(site, f"{change}replace: mailRoutingAddress\nmailRoutingAddress: {to}\n")
    try:
        yield
    finally:
        remote.modify(site, f"{change}delete: mailRoutingAddress\n")


@pytest.fixture
def head(site: Site, person: Person) -> Iterator[Account]:
    """Who gets what the unit gets; his mailbox is empty before and afterwards."""
    account = person(HEAD)
    with redirected(site, REDIRECTED, account.address), clients.imap(site, account) as client:
        _empty(client)
        yield account
        _empty(client)


def _empty(client: IMAPClient) -> None:
    for folder in ("Junk", "INBOX"):
        client.select_folder(folder)
        client.delete_messages(client.search())
        client.expunge()


def digest(content: bytes) -> str:
    """What a letter is below its trace."""
    head, _, body = content.partition(b"\r\n\r\n")
    fields = re.split(rb"\r\n(?![ \t])", head)
    kept = [field for field in fields if field.split(b":")[0].decode().lower() not in TRACE]
    assert sum(field.lower().startswith(b"x-spam-status:") for field in kept) == 1, "scanned once"
    return hashlib.sha256(b"\r\n".join(kept) + b"\r\n\r\n" + body).hexdigest()


def in_unit(site: Site, person: Person, message: EmailMessage, folder: str = "") -> bytes:
    """A letter as the unit has it; afterwards it has it no more."""
    name = f"{clients.unit_folder(site, REDIRECTED)}{folder}"
    with clients.imap(site, person(MEMBER)) as client:
        uid = clients.wait_for(client, message, name, SECONDS)
        content = clients.raw(client, uid)
        assert len(client.search(["HEADER", "Message-ID", message["Message-ID"]])) == 1
        client.delete_messages([uid])
        client.expunge()
    return content


def at_head(site: Site, head: Account, message: EmailMessage, folder: str = "INBOX") -> bytes:
    """The letter as the head has it, once."""
    with clients.imap(site, head) as client:
        content = clients.raw(client, clients.wait_for(client, message, folder, SECONDS))
        assert len(client.search(["HEADER", "Message-ID", message["Message-ID"]])) == 1
    return content


def report(site: Site, recipient: str) -> EmailMessage:
    """A letter whose every byte counts: text in two encodings, an attachment, long lines."""
    message = clients.foreign_letter(
        site, recipient, subject="Báo cáo tình hình ứng dụng công nghệ thông tin quý IV năm 2026",
        text="Kính gửi Sở,  \n\n. một dấu chấm\nFrom đầu dòng\n" + "ắằẳẵặ" * 300 + "\n",
    )  # fmt: skip
    message.add_attachment(bytes(range(256)) * 40, "application", "octet-stream", filename="ố.bin")
    return message


@pytest.mark.regulation("12")
@pytest.mark.parametrize("name", ["{code}", "{CODE}", "{code}+tin"])
def test_the_head_gets_the_letter_as_it_was_received(
    site: Site, person: Person, head: Account, name: str
) -> None:
    local_part = name.format(code=REDIRECTED, CODE=REDIRECTED.upper())
    message = report(site, f"{local_part}@{site.domain}")
    clients.send_from_outside(site, message)
    assert digest(in_unit(site, person, message)) == digest(at_head(site, head, message))


@pytest.mark.regulation("12")
def test_also_what_colleagues_write(site: Site, person: Person, head: Account) -> None:
    message = clients.letter(person(OTHER).address, unit_address(site, REDIRECTED))
    clients.submit(site, person(OTHER), message)
    assert digest(in_unit(site, person, message)) == digest(at_head(site, head, message))


def test_spam_stays_spam(site: Site, person: Person, head: Account) -> None:
    message = clients.foreign_letter(
        site, unit_address(site, REDIRECTED), subject="Next of kin", text=proposal()
    )
    clients.send_from_outside(site, message)
    there = digest(in_unit(site, person, message, "/Junk"))
    assert there == digest(at_head(site, head, message, "Junk"))


@contextmanager
def full(site: Site, account: Account) -> Iterator[None]:
    """Inside the block there is no room in somebody's mailbox."""
    entry = remote.entry(site, account.address, "mailboxQuota")
    (dn,), (quota,) = entry["dn"], entry["mailboxQuota"]
    store = clients.store_of(site, account.address).address
    change = f"dn: {dn}\nchangetype: modify\nreplace: mailboxQuota\nmailboxQuota: "
    flush = f"doveadm auth cache flush {account.address}"
    message = clients.letter(account.address, account.address)
    assert lmtp.deliver(site, account.address, message.as_bytes())[-1].startswith("250")
    remote.modify(site, f"{change}1\n")
    remote.shell(site, store, flush)
    try:
        assert lmtp.deliver(site, account.address)[0].startswith("552")
        yield
    finally:
        remote.modify(site, f"{change}{quota}\n")
        remote.shell(site, store, flush)


def left_queue(site: Site, message: EmailMessage) -> list[str]:
    """What the mx did with a letter, once it is done with it."""
    wanted = re.escape(message["Message-ID"])
    for mx in site.group("mx"):
        for line in trail(site, mx.address, f": message-id={wanted}"):
            queue_id = line.partition(":")[0]
            lines = trail(site, mx.address, f"^{queue_id}: ")
            if any(entry.endswith(": removed") for entry in lines):
                return lines
    return []


@pytest.mark.regulation("12")
def test_a_head_without_room_is_nobodys_business(site: Site, person: Person, head: Account) -> None:
    """The unit has the letter; a citizen shall not read of somebody's full mailbox."""
    message = clients.foreign_letter(site, unit_address(site, REDIRECTED))
    with full(site, head):
        clients.send_from_outside(site, message)
        in_unit(site, person, message)
        lines = until(lambda: left_queue(site, message), "the letter to leave the mx", SECONDS)
    assert [line for line in lines if head.address in line and "552" in line], lines
    assert not [line for line in lines if "sender non-delivery notification" in line]


def test_units_that_redirect_to_each_other_make_no_loop(site: Site, person: Person) -> None:
    message = clients.foreign_letter(site, unit_address(site, REDIRECTED))
    store = clients.store_of(site, unit_address(site, ANOTHER)).address
    search = f"-u {unit_address(site, ANOTHER)} mailbox INBOX header message-id"
    with (
        redirected(site, REDIRECTED, unit_address(site, ANOTHER)),
        redirected(site, ANOTHER, unit_address(site, REDIRECTED)),
    ):
        clients.send_from_outside(site, message)
        until(lambda: left_queue(site, message), "the letter to leave the mx", SECONDS)
        in_unit(site, person, message)
        found = remote.shell(site, store, f"doveadm search {search} '{message['Message-ID']}'")
    assert len(found.splitlines()) == 1
    remote.shell(site, store, f"doveadm expunge {search} '{message['Message-ID']}'")


def test_without_it_nobody_else_gets_a_units_letters(site: Site, person: Person) -> None:
    message = clients.foreign_letter(site, unit_address(site, REDIRECTED))
    clients.send_from_outside(site, message)
    lines = until(lambda: left_queue(site, message), "the letter to leave the mx", SECONDS)
    in_unit(site, person, message)
    assert len([line for line in lines if " to=<" in line]) == 1
