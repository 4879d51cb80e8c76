"""A service stops: nothing accepted is lost, nothing passes unscanned, nothing bounces.

While a service is down a letter is either refused for now (4xx: the sender keeps it) or accepted
and kept in the queue, whether it comes from outside or from an official who submits it. Once
the service is back the letter arrives, exactly once, by itself; the queues are flushed only so that
the test need not wait for the next try.
"""

import secrets
import smtplib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from email.message import EmailMessage

import pytest
from imapclient import IMAPClient

from roles.common.site import Group, Site, SiteHost
from tests import clients, remote
from tests.clients import Account
from tests.samples import eicar
from tests.waiting import until


@dataclass(frozen=True)
class Outage:
    """What stops, where, and what a sender is told meanwhile."""

    group: Group
    units: tuple[str, ...]
    refused: bool
    """Whether port 25 answers 451; otherwise the letter is accepted and waits."""
    submits: bool = True
    """Whether a front can ask who somebody is and as whom he may write; else it takes no letter of
    an official. A log-in may go on, by what is remembered; it does not get further than that."""

    def takes(self, front: SiteHost) -> bool:
        """Whether a letter that an official submits is accepted.

        A front hands it to an mx and keeps it until then. Where one host is both, it is scanned
        while it is submitted; where the store's Dovecot is the front's, nobody logs in without it.
        """
        if not self.submits:
            return False
        shared = self.group in front.groups
        return not shared or (self.group != "store" and not self.refused)


OUTAGES = {
    "slapd": Outage("directory", ("slapd.service",), refused=True, submits=False),
    "clamd": Outage("mx", ("clamav-daemon.socket", "clamav-daemon.service"), refused=True),
    "milter": Outage("mx", ("mimedefang.service", "mimedefang-multiplexor.service"), refused=True),
    "bayes": Outage("database", ("postgresql@17-main.service",), refused=False),
    "dovecot": Outage("store", ("dovecot.service",), refused=False),
}


FOR_NOW = {*range(400, 500), 535}
"""What keeps a letter with who submits it. 535: Postfix says so of every log-in that Dovecot cannot
judge; the mail program asks for the password and has the letter still."""


@pytest.fixture
def official(person: Callable[[str], Account]) -> Account:
    """Somebody who reads mail."""
    return person("anv")


@pytest.fixture
def author(person: Callable[[str], Account]) -> Account:
    """Somebody who sends mail."""
    return person("btt")


def answer(send: Callable[[], object]) -> int:
    """The code of the last answer to a letter."""
    try:
        send()
    except smtplib.SMTPRecipientsRefused as refusal:
        ((code, _),) = refusal.recipients.values()
        return int(code)
    except smtplib.SMTPResponseException as refusal:
        return refusal.smtp_code
    return 250


def offer(site: Site, message: EmailMessage, mx: SiteHost | None = None) -> int:
    """Offer a letter to port 25 of an mx and return the code of the last answer."""
    with clients.mx(site, mx.address if mx else "") as client:
        return answer(lambda: client.send_message(message))


def hand_in(site: Site, author: Account, message: EmailMessage) -> int:
    """Submit a letter on port 465 and return the code of the last answer.

    A Postfix that cannot ask who logs in ends the session, with 421 or without a word: what a
    mail program keeps to send later as well.
    """
    try:
        return answer(lambda: clients.submit(site, author, message))
    except smtplib.SMTPServerDisconnected:
        return 421


def flush(site: Site) -> None:
    """Let every queue try again now."""
    for address in (
        *(host.address for host in site.group("mx", "front")),
        clients.outside_address(site),
    ):
        remote.shell(site, address, "postqueue -f")


@pytest.mark.parametrize("name", OUTAGES)
def test_a_letter_survives_an_outage(
    site: Site, official: Account, author: Account, name: str
) -> None:
    outage = OUTAGES[name]
    message = clients.foreign_letter(site, official.address, subject=f"Khi {name} ngừng")
    # From the machine that runs the tests, which the foreign domain's SPF record does not name.
    stranger = f"nguoi.la@tester.{clients.foreign_domain(site)}"
    direct = clients.letter(stranger, official.address, subject=f"Khi {name} ngừng")
    malware = clients.letter(stranger, official.address, text=f"{eicar().decode()}\n")
    submitted = clients.letter(author.address, official.address, subject=f"Nộp khi {name} ngừng")
    with ExitStack() as stack:
        for host in site.group(outage.group):
            stack.enter_context(remote.stopped(site, host.address, *outage.units))
        clients.send_from_outside(site, message)
        code = offer(site, direct)
        assert (400 <= code < 500) if outage.refused else code == 250
        assert offer(site, malware) >= 400, "malware was taken"
        code = hand_in(site, author, submitted)
        taken = outage.takes(site.group("front")[0])
        assert code in ({250} if taken else FOR_NOW), code
        bounced = f"dan@{clients.foreign_domain(site)}"
    # What our own mx has answered 250 to is ours to keep; what it refused is its sender's.
    accepted = [message, *([] if outage.refused else [direct]), *([submitted] if taken else [])]
    until(lambda: flushed(site, official, accepted), "the letters' arrival", seconds=180, pause=1)
    until(lambda: not waiting(site, official), "empty queues", seconds=180, pause=1)
    with clients.imap(site, official) as client:
        for letter in (message, direct, malware, submitted):
            expected = 1 if letter in accepted else 0
            assert len(found(client, letter)) == expected, letter["Subject"]
        for letter in accepted:
            content = clients.raw(client, clients.wait_for(client, letter))
            assert b"X-Spam-Status:" in content, "passed unscanned"
    with clients.foreign_imap(site, bounced) as client:
        client.select_folder("INBOX")
        assert not client.search(["BODY", message["Message-ID"]]), "bounced"
    with clients.imap(site, author) as client:
        client.select_folder("INBOX")
        bounces = client.search(["FROM", "MAILER-DAEMON", "BODY", submitted["Message-ID"]])
        assert not bounces, "bounced to who submitted it"


def flushed(site: Site, account: Account, messages: list[EmailMessage]) -> bool:
    """Whether letters are there, after every queue was asked to try again."""
    flush(site)
    with clients.imap(site, account) as client:
        return all(found(client, message) for message in messages)


def waiting(site: Site, account: Account) -> str:
    """Letters to the account that are in a queue: a second copy, for one."""
    flush(site)
    hosts = {host.address for host in site.group("mx", "front")} | {clients.outside_address(site)}
    return "".join(
        remote.shell(site, address, f"postqueue -j | grep -F '\"{account.address}\"' || true")
        for address in hosts
    )


def found(client: IMAPClient, message: EmailMessage) -> list[int]:
    """The UIDs of a letter in the inbox."""
    client.select_folder("INBOX")
    return list(client.search(["HEADER", "Message-ID", message["Message-ID"]]))


def test_what_an_mx_has_taken_goes_out_while_the_directory_is_away(
    site: Site, official: Account
) -> None:
    """Whose domain it is was asked before it was taken.

    Two recipients, for Postfix remembers the way to the last one for a while.
    """
    names = [f"thu-{secrets.token_hex(6)}" for _ in range(2)]
    strangers = [f"{name}@{clients.foreign_domain(site)}" for name in names]
    message = clients.letter(official.address, strangers[0])
    message["Cc"] = strangers[1]

    def deferred() -> str:
        command = f"postqueue -j | grep -F deferred | grep -F '\"{strangers[1]}\"' || true"
        return "".join(remote.shell(site, mx.address, command) for mx in site.group("mx"))

    def there() -> bool:
        for mx in site.group("mx"):
            remote.shell(site, mx.address, "postqueue -f")
        arrived = []
        for stranger in strangers:
            with clients.foreign_imap(site, stranger) as client:
                arrived += found(client, message)
        return len(arrived) == len(strangers)

    with ExitStack() as stack:
        with remote.stopped(site, clients.outside_address(site), "postfix.service"):
            clients.submit(site, official, message)
            until(deferred, "the letter to wait", pause=1)
            for host in site.group("directory"):
                stack.enter_context(remote.stopped(site, host.address, "slapd.service"))
        until(there, "the letter's arrival", pause=2)


def test_a_directory_that_hangs_is_started_anew(site: Site) -> None:
    address = clients.address_of(site, "directory")
    ask = f"timeout 5 ldapsearch {remote.LDAP} -LLL -s base -b '' 1.1"

    def begun() -> str:
        return remote.shell(
            site, address, "systemctl show -P ExecMainStartTimestampMonotonic slapd"
        )

    before = begun()
    remote.shell(site, address, "systemctl kill --signal=STOP slapd.service")
    try:
        until(lambda: begun() != before, "another slapd", seconds=300, pause=1)
    finally:
        remote.shell(site, address, "systemctl kill --signal=CONT slapd.service")
    until(lambda: remote.shell(site, address, f"{ask} || true"), "its answer", pause=1)
    said = remote.shell(site, address, "journalctl -q -o cat -n 1 -t slapd-watchdog")
    assert "does not answer" in said or "does not close" in said
