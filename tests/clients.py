"""The clients that the tests use: what an official's program or a foreign mail server does.

All speak to the addresses in the inventory, verified against the site's CA; no host's files are
read.
"""

import json
import smtplib
import socket
import ssl
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import localtime
from functools import cache

from imapclient import IMAPClient

from roles.accounts.deploy import site_registry, site_target
from roles.accounts.reconcile import reconcile
from roles.accounts.registry import Registry
from roles.common.site import Group, Site, SiteHost, load
from roles.mailstore.settings import MailstoreSettings
from tests.lab.outside.foreign import PASSWORD
from tests.waiting import until

SECONDS = 30.0
"""Time-out of a network operation: generous, since no test depends on speed."""


@dataclass(frozen=True)
class Account:
    """A mailbox of the lab with its password; a unit mailbox has none."""

    address: str
    name: str
    kind: str
    password: str

    @property
    def is_person(self) -> bool:
        """Whether somebody can log in."""
        return self.kind == "person"


def accounts(site: Site) -> list[Account]:
    """The lab's accounts, as handed over at their creation."""
    entries = json.loads((site.state / "accounts.json").read_text(encoding="utf-8"))
    return [
        Account(entry["address"], entry["name"], entry["kind"], entry["password"] or "")
        for entry in entries
    ]


def context(site: Site) -> ssl.SSLContext:
    """A TLS context that trusts the site's CA and nothing else."""
    return ssl.create_default_context(cafile=str(site.state / "ca.pem"))


def negotiated(site: Site, address: str, port: int, name: str, version: ssl.TLSVersion) -> str:
    """The cipher that a server chooses where exactly this version of TLS is offered.

    Raises:
        ssl.SSLError: it refuses.
    """
    tls = context(site)
    with warnings.catch_warnings():
        # Python warns of old versions; that they are refused is what is asked.
        warnings.simplefilter("ignore", DeprecationWarning)
        tls.minimum_version = tls.maximum_version = version
    tls.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection((address, port), timeout=10) as plain,
        tls.wrap_socket(plain, server_hostname=name) as secure,
    ):
        cipher = secure.cipher()
        assert cipher is not None
        return cipher[0]


def address_of(site: Site, group: Group) -> str:
    """Address of the first host of a group."""
    return site.group(group)[0].address


def store_of(site: Site, address: str) -> SiteHost:
    """The store on which a mailbox lies, known without asking: the directory may be down."""
    return site.store_host(store_name(site, address).partition(".")[0])


def store_name(site: Site, address: str) -> str:
    """What `mailHost` of a mailbox says: the registry's rule. For an unknown address any store."""
    return _mail_hosts(site.environment).get(address, site.store_names[0])


@cache
def _registry(environment: str) -> Registry:
    return site_registry(load(environment))


@cache
def _mail_hosts(environment: str) -> dict[str, str]:
    target = site_target(load(environment))
    entries = [
        change.attributes for change in reconcile(_registry(environment), {}, target).changes
    ]
    return {entry["mail"][0]: entry["mailHost"][0] for entry in entries if "mailHost" in entry}


def unit_folder(site: Site, code: str) -> str:
    """What members see a unit mailbox of the registry as: its inbox."""
    name = _registry(site.environment).units[code].name
    return f"{site.of(MailstoreSettings).units_folder}/{name} ({code})"


def outside_address(site: Site) -> str:
    """Address of the lab's outside world."""
    if site.lab is None:
        raise AssertionError(f"{site.environment} is no lab; expected one with an outside world")
    return str(site.lab.outside)


def foreign_domain(site: Site) -> str:
    """The mail domain of the outside world."""
    if site.lab is None:
        raise AssertionError(f"{site.environment} is no lab; expected one with a foreign domain")
    return site.lab.foreign_domain


def letter(
    sender: str, recipient: str, subject: str = "Đề nghị", text: str = "Kính gửi quý cơ quan.\n"
) -> EmailMessage:
    """A letter with a Message-ID of its own, by which it is found again."""
    message = EmailMessage()
    message["From"] = Address(addr_spec=sender)
    message["To"] = Address(addr_spec=recipient)
    message["Subject"] = subject
    message["Date"] = localtime()
    message["Message-ID"] = f"<{uuid.uuid4()}@{sender.partition('@')[2]}>"
    message.set_content(text)
    return message


def foreign_letter(site: Site, recipient: str, **parts: str) -> EmailMessage:
    """A letter from somebody in the foreign domain."""
    return letter(f"dan@{foreign_domain(site)}", recipient, **parts)


def send_from_outside(site: Site, message: EmailMessage) -> None:
    """Hand a letter to the foreign domain's mail server, which sends it on by MX."""
    with smtplib.SMTP(outside_address(site), 587, timeout=SECONDS) as client:
        client.send_message(message)


@contextmanager
def mx(site: Site, at: str = "") -> Iterator[smtplib.SMTP]:
    """A connection to port 25 of the mx `at` an address, as any server on the Internet may open."""
    with smtplib.SMTP(at or address_of(site, "mx"), 25, timeout=SECONDS) as client:
        client.ehlo(f"mail.{foreign_domain(site)}")
        yield client


@contextmanager
def submission(site: Site, account: Account, at: str = "") -> Iterator[smtplib.SMTP_SSL]:
    """A logged-in connection to port 465 of the front `at` an address."""
    with smtplib.SMTP_SSL(
        at or address_of(site, "front"), 465, timeout=SECONDS, context=context(site)
    ) as client:
        client.login(account.address, account.password)
        yield client


def submit(site: Site, account: Account, message: EmailMessage, at: str = "") -> None:
    """Send a letter as an official does."""
    with submission(site, account, at) as client:
        client.send_message(message)


@contextmanager
def imap(site: Site, account: Account, at: str = "") -> Iterator[IMAPClient]:
    """A logged-in IMAP connection through the front `at` an address."""
    with IMAPClient(
        at or address_of(site, "front"), 993, ssl_context=context(site), timeout=SECONDS
    ) as client:
        client.login(account.address, account.password)
        yield client


@contextmanager
def foreign_imap(site: Site, address: str) -> Iterator[IMAPClient]:
    """The mailbox of an address in the foreign domain."""
    with IMAPClient(outside_address(site), 143, ssl=False, timeout=SECONDS) as client:
        client.login(address, PASSWORD)
        yield client


def wait_for(
    client: IMAPClient, message: EmailMessage, folder: str = "INBOX", seconds: float = 120
) -> int:
    """Wait until a letter is in a folder; return its UID."""
    client.select_folder(folder)
    wanted = message["Message-ID"]

    def found() -> list[int]:
        client.noop()
        return list(client.search(["HEADER", "Message-ID", wanted]))

    return until(found, f"{wanted} in {folder}", seconds)[0]


def raw(client: IMAPClient, uid: int) -> bytes:
    """A letter as it is stored, left unread."""
    return bytes(client.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"])
