"""Nobody outside can have mail passed on to somebody else outside."""

import smtplib
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from roles.certificates.facts import FOLDER
from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account


@dataclass(frozen=True)
class Attempt:
    """One way to ask for it; `{…}` as in `names`."""

    recipient: str
    """What stands behind `RCPT TO:`."""
    sender: str = "<nguoi.la@{stranger}>"
    """What stands behind `MAIL FROM:`."""
    helo: str = "{stranger}"


ATTEMPTS = {
    "plain": Attempt("<dan@{foreign}>"),
    "null sender": Attempt("<dan@{foreign}>", sender="<>"),
    "our domain as sender": Attempt("<dan@{foreign}>", sender="<{official}>"),
    "our postmaster as sender": Attempt("<dan@{foreign}>", sender="<postmaster@{domain}>"),
    "our address as sender": Attempt("<dan@{foreign}>", sender="<root@[{mx_address}]>"),
    "our name as sender": Attempt("<dan@{foreign}>", sender="<root@{mx}>"),
    "localhost as sender": Attempt("<dan@{foreign}>", sender="<root@localhost>"),
    "recipient as sender": Attempt("<dan@{foreign}>", sender="<dan@{foreign}>"),
    "no domain as sender": Attempt("<dan@{foreign}>", sender="<root>"),
    "AUTH= of an official": Attempt("<dan@{foreign}>", sender="<> AUTH={official}"),
    "HELO with our name": Attempt("<dan@{foreign}>", helo="{mx}"),
    "HELO with our domain": Attempt("<dan@{foreign}>", helo="{domain}"),
    "HELO with our address": Attempt("<dan@{foreign}>", helo="[{mx_address}]"),
    "HELO localhost": Attempt("<dan@{foreign}>", helo="localhost"),
    "percent hack": Attempt("<dan%{foreign}@{domain}>"),
    "percent hack by address": Attempt("<dan%{foreign}@[{mx_address}]>"),
    "percent hack by name": Attempt("<dan%{foreign}@{mx}>"),
    "percent hack at localhost": Attempt("<dan%{foreign}@localhost>"),
    "percent hack without a domain": Attempt("<dan%{foreign}>"),
    "percent hack on an alias": Attempt("<postmaster%{foreign}@{domain}>"),
    "percent hack with a delimiter": Attempt("<{name}+dan%{foreign}@{domain}>"),
    "quoted": Attempt('<"dan@{foreign}"@{domain}>'),
    "quoted without a domain": Attempt('<"dan@{foreign}">'),
    "quoted percent hack": Attempt('<"dan%{foreign}"@{domain}>'),
    "quoted by address": Attempt('<"dan@{foreign}"@[{mx_address}]>'),
    "bang path": Attempt("<{foreign}!dan>"),
    "bang path at us": Attempt("<{foreign}!dan@{domain}>"),
    "bang path by address": Attempt("<{foreign}!dan@[{mx_address}]>"),
    "quoted bang path": Attempt('<"{foreign}!dan"@{domain}>'),
    "source route": Attempt("<@{domain}:dan@{foreign}>"),
    "source route by name": Attempt("<@{mx}:dan@{foreign}>"),
    "source route by address": Attempt("<@[{mx_address}]:dan@{foreign}>"),
    "source route of two": Attempt("<@{domain},@{mx}:dan@{foreign}>"),
    "address literal": Attempt("<dan@[{foreign_address}]>"),
    "address literal without brackets": Attempt("<dan@{foreign_address}>"),
    "IPv6 literal": Attempt("<dan@[IPv6:::1]>"),
    "IPv6 literal of an IPv4 address": Attempt("<dan@[IPv6:::ffff:{foreign_address}]>"),
    "upper case": Attempt("<DAN@{FOREIGN}>"),
    "trailing dot": Attempt("<dan@{foreign}.>"),
    "two trailing dots": Attempt("<dan@{foreign}..>"),
    "two at signs": Attempt("<dan@{foreign}@{domain}>"),
    "two at signs, the other way": Attempt("<{official}@{foreign}>"),
    "space": Attempt("<dan@{foreign} >"),
    "tab": Attempt("<dan@{foreign}\t>"),
    "comment": Attempt("<dan@{foreign} ({domain})>"),
    "no angle brackets": Attempt("dan@{foreign}"),
    "display name": Attempt("Dan <dan@{foreign}>"),
    "two recipients": Attempt("<{official}>,<dan@{foreign}>"),
    "subdomain of ours": Attempt("<dan@khong-co.{domain}>"),
    "our domain as a subdomain": Attempt("<dan@{domain}.{foreign}>"),
    "our domain as a prefix": Attempt("<dan@x{domain}>"),
    "encoded at sign": Attempt("<dan=40{foreign}@{domain}>"),
    "unknown DSN": Attempt("<dan@{foreign}> NOTIFY=SUCCESS ORCPT=rfc822;{official}"),
}


@pytest.fixture
def names(site: Site, person: Callable[[str], Account]) -> dict[str, str]:
    """What the attempts are made of."""
    official = person("anv").address
    foreign = clients.foreign_domain(site)
    return {
        "domain": site.domain,
        "foreign": foreign,
        "FOREIGN": foreign.upper(),
        "foreign_address": clients.outside_address(site),
        # The machine that runs the tests, as the Internet knows it.
        "stranger": f"tester.{foreign}",
        "mx": site.group("mx")[0].fqdn,
        "mx_address": clients.address_of(site, "mx"),
        "official": official,
        "name": official.partition("@")[0],
    }


def asked(site: Site, attempt: Attempt, names: dict[str, str]) -> tuple[int, bytes]:
    """The answer to RCPT, or to what was refused before."""
    with smtplib.SMTP(clients.address_of(site, "mx"), 25, timeout=clients.SECONDS) as client:
        code, words = client.ehlo(attempt.helo.format(**names))
        assert code == 250, words
        code, words = client.docmd(f"MAIL FROM:{attempt.sender.format(**names)}")
        if code == 250:
            code, words = client.docmd(f"RCPT TO:{attempt.recipient.format(**names)}")
        return code, words


@pytest.mark.parametrize("name", ATTEMPTS)
def test_nothing_is_passed_on(site: Site, names: dict[str, str], name: str) -> None:
    code, words = asked(site, ATTEMPTS[name], names)
    assert 500 <= code < 600, (code, words)


def test_the_same_way_a_letter_for_us_is_taken(site: Site, names: dict[str, str]) -> None:
    """Otherwise the refusals above would show nothing."""
    code, words = asked(site, Attempt("<{official}>"), names)
    assert code == 250, words


@pytest.mark.parametrize("command", ["XCLIENT ADDR=127.0.0.1", "XFORWARD ADDR=127.0.0.1"])
def test_a_stranger_cannot_call_himself_another_client(site: Site, command: str) -> None:
    with clients.mx(site) as client:
        assert client.docmd(command)[0] >= 500


ASK_RCPT = """
import smtplib, ssl, sys
name, recipient, source, authorities, *certificate = sys.argv[1:]
context = ssl.create_default_context(cafile=authorities)
if certificate:
    context.load_cert_chain(*certificate)
try:
    with smtplib.SMTP(name, 10025, timeout=30, source_address=(source, 0)) as client:
        client.starttls(context=context)
        client.ehlo()
        client.mail("")
        print(*client.rcpt(recipient))
except (smtplib.SMTPServerDisconnected, ssl.SSLError) as error:
    print("closed:", error)
"""
"""For a host of the site: what port 10025 answers to RCPT, or that it closes the connection."""


@pytest.mark.parametrize("shown", [True, False], ids=["certificate", "no certificate"])
def test_the_internal_listener_wants_a_certificate(site: Site, *, shown: bool) -> None:
    """Port 10025 passes mail on for the site's own hosts, once they have shown who they are.

    The firewall lets a front ask; what counts then is its certificate.
    """
    front, mx = site.group("front")[0], site.group("mx")[0]
    certificate = f"{FOLDER}/cert.pem {FOLDER}/key.pem" if shown else ""
    words = remote.shell(
        site,
        front.address,
        f"python3 - {mx.fqdn} dan@{clients.foreign_domain(site)} {front.address} {FOLDER}/ca.pem"
        f" {certificate}",
        stdin=ASK_RCPT,
    )
    assert words.startswith("250 " if shown else "closed: "), words


def test_a_certificate_alone_passes_nothing_on(site: Site) -> None:
    """The authorities that hosts trust may be public ones, whose certificates anybody gets.

    From an address that is not a host's; the firewall filters no loopback.
    """
    mx = site.group("mx")[0]
    words = remote.shell(
        site,
        mx.address,
        f"python3 - {mx.fqdn} dan@{clients.foreign_domain(site)} 127.0.0.1 {FOLDER}/ca.pem"
        f" {FOLDER}/cert.pem {FOLDER}/key.pem",
        stdin=ASK_RCPT,
    )
    assert words.startswith("554 "), words


def test_the_internal_listener_is_closed_to_strangers(site: Site) -> None:
    with pytest.raises(TimeoutError):
        smtplib.SMTP(clients.address_of(site, "mx"), 10025, timeout=2)
