"""Port 25: what a server on the Internet is told."""

import smtplib
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from typing import BinaryIO

import pytest
from imapclient import IMAPClient

from roles.common.site import Site
from roles.mta.settings import MtaSettings
from tests import clients, remote
from tests.clients import Account


@pytest.fixture
def official(person: Callable[[str], Account]) -> Account:
    """Somebody who reads mail."""
    return person("anv")


def stranger(site: Site) -> str:
    """The name of the machine that runs the tests, as the Internet knows it; it has no SPF."""
    return f"tester.{clients.foreign_domain(site)}"


@contextmanager
def greeted(site: Site, helo: str | None = None) -> Iterator[smtplib.SMTP]:
    """A connection to port 25 that has said EHLO."""
    with smtplib.SMTP(clients.address_of(site, "mx"), 25, timeout=clients.SECONDS) as client:
        code, words = client.ehlo(helo or stranger(site))
        assert code == 250, words
        yield client


def rcpt(site: Site, recipient: str, sender: str = "", helo: str | None = None) -> tuple[int, str]:
    """The answer to RCPT."""
    with greeted(site, helo) as client:
        code, words = client.mail(sender or f"nguoi.la@{stranger(site)}")
        assert code == 250, words
        code, words = client.rcpt(recipient)
        return code, words.decode()


# -- recipients ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "local_part",
    ["anv", "ANV", "anv+tin", "vanthu.stttt", "stttt", "mytho.tanlong", "hht"],
    ids=["person", "upper case", "extension", "alias", "unit", "unit with a dot", "locked"],
)
def test_known_recipients_are_taken(site: Site, local_part: str) -> None:
    code, words = rcpt(site, f"{local_part}@{site.domain}")
    assert code == 250, words


@pytest.mark.parametrize(
    "local_part", ["postmaster", "abuse", "root", "hostmaster", "security", "mailer-daemon"]
)
def test_role_addresses_are_taken(site: Site, local_part: str) -> None:
    code, words = rcpt(site, f"{local_part}@{site.domain}")
    assert code == 250, words


def test_postmaster_needs_no_domain(site: Site) -> None:
    """RFC 5321, 4.5.1."""
    with greeted(site) as client:
        client.mail(f"nguoi.la@{stranger(site)}")
        assert client.docmd("RCPT TO:<postmaster>")[0] == 250


@pytest.mark.parametrize(
    "local_part",
    ["khong-ton-tai", "a*", "*", "anvx", "nv", "stttt.anv", '"anv)(mail=*"', "anv/khac"],
)
def test_unknown_recipients_are_refused_at_rcpt(site: Site, local_part: str) -> None:
    code, words = rcpt(site, f"{local_part}@{site.domain}")
    assert code == 550, words
    assert words.startswith("5.1.1 "), words


def test_who_guesses_addresses_is_sent_away(site: Site) -> None:
    with greeted(site) as client:
        client.mail(f"nguoi.la@{stranger(site)}")
        answers = []
        for number in range(30):
            try:
                answers.append(client.rcpt(f"doan.{number}@{site.domain}")[0])
            except smtplib.SMTPServerDisconnected:
                break
        assert answers[-1] == 421
        assert len(answers) <= 11


@pytest.fixture
def nearly_full(site: Site, person: Callable[[str], Account]) -> Iterator[Account]:
    """Somebody with a small mailbox, in which about 100 kB are left; emptied afterwards."""
    account = person("dpt")
    with clients.imap(site, account) as client:
        _empty(client)
        used, limit = _usage(client)
        client.append("INBOX", _filler((limit - used - 100) * 1024))
        yield account
        _empty(client)


def _filler(size: int) -> bytes:
    return b"Subject: day\r\n\r\n" + (b"x" * 76 + b"\r\n") * (size // 78)


def _empty(client: IMAPClient) -> None:
    for folder in ("Trash", "Junk", "INBOX"):
        client.select_folder(folder)
        client.delete_messages(client.search())
        client.expunge()


def _usage(client: IMAPClient) -> tuple[int, int]:
    """Kilobytes used, and their limit."""
    quotas = client.get_quota_root("INBOX")[1]
    (storage,) = [quota for quota in quotas if quota.resource == "STORAGE"]
    return storage.usage, storage.limit


def test_a_full_mailbox_is_refused_at_rcpt(site: Site, nearly_full: Account) -> None:
    assert rcpt(site, nearly_full.address)[0] == 250
    # The letter that fills it is still taken.
    last = clients.foreign_letter(site, nearly_full.address, text=("x" * 70 + "\n") * 3000)
    clients.send_from_outside(site, last)
    with clients.imap(site, nearly_full) as client:
        clients.wait_for(client, last)
    name, _, domain = nearly_full.address.partition("@")
    for address in (
        nearly_full.address, nearly_full.address.upper(), f"{name}+tin@{domain}",
        f"ketoan.stc@{domain}", f"KeToan.stc+tin@{domain}",
    ):  # fmt: skip
        code, words = rcpt(site, address)
        assert code in {452, 552}, (address, words)
        assert words[1:5] == ".2.2", (address, words)


# -- senders ---------------------------------------------------------------------------------------


def test_our_own_senders_do_not_come_from_outside(site: Site, official: Account) -> None:
    code, words = rcpt(site, official.address, sender=official.address)
    assert code == 550, words
    assert words.startswith("5.7.1 "), words


def test_a_sender_without_a_domain_on_the_internet_is_refused(
    site: Site, official: Account
) -> None:
    code, words = rcpt(site, official.address, sender="nguoi.la@khong-ton-tai.example")
    assert code == 550, words


def test_a_sender_whose_spf_record_disowns_the_server_is_refused(
    site: Site, official: Account
) -> None:
    sender = f"dan@{clients.foreign_domain(site)}"
    code, words = rcpt(site, official.address, sender=sender)
    assert code == 550, words
    assert words.startswith("5.7.23 "), words


def test_the_head_says_what_spf_found(site: Site, official: Account) -> None:
    message = clients.foreign_letter(site, official.address)
    clients.send_from_outside(site, message)
    with clients.imap(site, official) as client:
        content = clients.raw(client, clients.wait_for(client, message))
    head = message_from_bytes(content, policy=policy.default)
    results = head.get_all("Authentication-Results", [])
    ours = tuple(f"{mx.fqdn}; spf=pass" for mx in site.group("mx"))
    assert any(str(result).startswith(ours) for result in results), results


def test_a_bounce_has_one_recipient(site: Site, official: Account) -> None:
    with greeted(site) as client:
        client.docmd("MAIL FROM:<>")
        assert client.rcpt(official.address)[0] == 250
        assert client.rcpt(f"postmaster@{site.domain}")[0] == 250
        code, words = client.docmd("DATA")
        assert code == 550, words


@pytest.mark.parametrize("kind", ["our name", "our mail name", "our address", "no dot", "nonsense"])
def test_a_server_that_calls_itself_what_it_is_not_is_refused(
    site: Site, official: Account, kind: str
) -> None:
    helo = {
        "our name": site.group("mx")[0].fqdn,
        "our mail name": site.mail_name,
        "our address": f"[{clients.address_of(site, 'mx')}]",
        "no dot": "localhost",
        "nonsense": "a_b..c",
    }[kind]
    code, words = rcpt(site, official.address, helo=helo)
    assert 500 <= code < 600, words


# -- what is offered -------------------------------------------------------------------------------


@pytest.mark.regulation("13")
def test_nobody_logs_in_on_port_25(site: Site) -> None:
    with greeted(site) as client:
        assert not client.has_extn("auth")
        assert client.docmd("AUTH PLAIN AGEAYg==")[0] in {502, 503}
        client.starttls(context=_without_verification())
        client.ehlo(stranger(site))
        assert not client.has_extn("auth")
        assert client.docmd("AUTH PLAIN AGEAYg==")[0] in {502, 503}


def test_the_certificate_is_the_hosts_own(site: Site) -> None:
    with greeted(site) as client:
        # Verified against the site's CA, by the address that was connected to.
        assert client.starttls(context=clients.context(site))[0] == 220


@pytest.mark.parametrize(
    ("version", "spoken"),
    [
        (ssl.TLSVersion.TLSv1, False),
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_not_spoken(site: Site, version: ssl.TLSVersion, *, spoken: bool) -> None:
    context = _without_verification()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection((clients.address_of(site, "mx"), 25), clients.SECONDS) as plain:
        for line, answer in ((b"", b"220"), (b"EHLO x.example", b"250"), (b"STARTTLS", b"220")):
            plain.sendall(line + b"\r\n" if line else b"")
            assert plain.recv(4096).startswith(answer)
        if spoken:
            context.wrap_socket(plain).close()
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                context.wrap_socket(plain)


@pytest.mark.parametrize("keyword", ["dsn", "etrn", "smtputf8", "vrfy", "auth", "xclient"])
def test_what_strangers_need_not_is_not_offered(site: Site, keyword: str) -> None:
    with greeted(site) as client:
        assert not client.has_extn(keyword)


@pytest.mark.parametrize("command", ["VRFY {}", "VRFY postmaster", "EXPN {}", "ETRN vidu.example"])
def test_addresses_are_not_told(site: Site, official: Account, command: str) -> None:
    with greeted(site) as client:
        assert 500 <= client.docmd(command.format(official.address))[0] < 600


def test_the_greeting_names_no_product(site: Site) -> None:
    with socket.create_connection((clients.address_of(site, "mx"), 25), clients.SECONDS) as plain:
        greeting = plain.makefile("rb").readline().decode()
    assert greeting.startswith(f"220 {site.group('mx')[0].fqdn} "), greeting
    assert "Postfix" not in greeting


# -- sizes and shapes ------------------------------------------------------------------------------


def test_a_letter_that_is_too_large_is_refused_before_it_is_sent(
    site: Site, official: Account
) -> None:
    limit = site.of(MtaSettings).message_size
    with greeted(site) as client:
        assert int(client.esmtp_features["size"]) == limit
        assert client.mail(f"a@{stranger(site)}", [f"size={limit + 1}"])[0] == 552
        assert client.mail(f"a@{stranger(site)}", [f"size={limit}"])[0] == 250
        assert client.rcpt(official.address)[0] == 250


def test_a_letter_that_turns_out_too_large_is_refused(site: Site, official: Account) -> None:
    limit = site.of(MtaSettings).message_size
    line = b"x" * 998 + b"\r\n"
    with greeted(site) as client:
        client.mail(f"a@{stranger(site)}")
        client.rcpt(official.address)
        code, words = client.data(b"Subject: lon\r\n\r\n" + line * (limit // len(line) + 1))
        assert code == 552, words


def test_a_letter_that_goes_round_is_stopped(site: Site, official: Account) -> None:
    hop = f"Received: from {stranger(site)} by {stranger(site)}; Mon, 1 Jan 2024 00:00:00 +0700\r\n"
    with greeted(site) as client:
        client.mail(f"a@{stranger(site)}")
        client.rcpt(official.address)
        code, words = client.data((hop * 60 + "Subject: vong lap\r\n\r\n.\r\n").encode())
        assert code == 554, words
        assert b"too many hops" in words


@pytest.mark.parametrize(
    "ending",
    [
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\n.\r",
        b"\r.\r\n",
        b"\r\r\n.\r\r\n",
    ],
    ids=lambda ending: repr(ending)[2:-1],
)
def test_no_second_letter_is_smuggled_in(site: Site, official: Account, ending: bytes) -> None:
    """What a careless server would take for the end of the letter is none."""
    smuggled = (
        f"MAIL FROM:<admin@{stranger(site)}>\r\nRCPT TO:<{official.address}>\r\nDATA\r\n"
        "Subject: lau\r\n\r\nlau\r\n.\r\n"
    )
    with socket.create_connection((clients.address_of(site, "mx"), 25), clients.SECONDS) as plain:
        answers = plain.makefile("rb")

        def say(line: str) -> bytes:
            plain.sendall(line.encode() + b"\r\n")
            return _answer(answers)

        assert _answer(answers).startswith(b"220")
        say(f"EHLO {stranger(site)}")
        say(f"MAIL FROM:<a@{stranger(site)}>")
        assert say(f"RCPT TO:<{official.address}>").startswith(b"250")
        assert say("DATA").startswith(b"354")
        plain.sendall(b"Subject: mot\r\n\r\nmot" + ending + smuggled.encode())
        first = _answer(answers)
        plain.sendall(b"QUIT\r\n")
        rest = answers.read().splitlines()
    # One letter at the most: either all of it was its text, or it was refused.
    assert not first.startswith(b"354"), first
    assert all(line[:3] in {b"221", b"421", b"500", b"503", b"550", b"554"} for line in rest), rest
    refused = site.of(MtaSettings).bare_newlines == "reject"
    if refused and ending in {b"\n.\n", b"\n.\r\n", b"\r\n.\n"}:
        assert first.startswith(b"550"), first


def test_commands_ahead_of_their_turn_are_refused(site: Site, official: Account) -> None:
    with socket.create_connection((clients.address_of(site, "mx"), 25), clients.SECONDS) as plain:
        answers = plain.makefile("rb")
        assert _answer(answers).startswith(b"220")
        plain.sendall(
            f"EHLO {stranger(site)}\r\nMAIL FROM:<a@{stranger(site)}>\r\n"
            f"RCPT TO:<{official.address}>\r\nQUIT\r\n".encode()
        )
        words = answers.read()
    assert b"554 5.5.0 " in words or b"550 5.5.1 " in words, words
    assert b"250 2.1.5" not in words


def test_a_robot_that_speaks_before_the_greeting_is_refused(site: Site, official: Account) -> None:
    """From an address that postscreen does not know yet."""
    outside = clients.outside_address(site)
    fresh = outside.rpartition(".")[0] + ".99"
    lines = (
        f"EHLO robot.{clients.foreign_domain(site)}\\r\\nMAIL FROM:<>\\r\\n"
        f"RCPT TO:<{official.address}>\\r\\nQUIT\\r\\n"
    ).replace("@", "\\@")
    program = (
        f'$s = IO::Socket::INET->new(PeerAddr => "{clients.address_of(site, "mx")}:25", '
        f'LocalAddr => "{fresh}", Timeout => 20) or die; print $s "{lines}"; print while <$s>;'
    )
    command = (
        f"ip address replace {fresh}/24 dev eth0; perl -MIO::Socket::INET -e '{program}'; "
        f"code=$?; ip address delete {fresh}/24 dev eth0; exit $code"
    )
    words = remote.shell(site, outside, command)
    assert "550 5.5.1 Protocol error" in words, words
    assert "250 2.1.5" not in words


def _answer(answers: BinaryIO) -> bytes:
    """One SMTP reply, which may have several lines."""
    lines = b""
    while True:
        line = answers.readline()
        lines += line
        if not line or line[3:4] != b"-":
            return lines


def _without_verification() -> ssl.SSLContext:
    """What servers on the Internet do: encrypt, whoever it is."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
