"""Reading mail as an official's program does: IMAP, POP3 and ManageSieve through the front."""

import imaplib
import poplib
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import IMAPClientError, LoginError

from roles.common.site import Site
from tests import clients, managesieve, remote
from tests.clients import Account
from tests.waiting import until

Person = Callable[[str], Account]

READER = "clv"
"""Somebody who reads mail, and whose mailbox the tests fill and empty."""
MISTAKEN = "thuvv"
"""Somebody whom no other test needs: the directory counts wrong passwords."""


@pytest.fixture
def reader(person: Person) -> Account:
    return person(READER)


@pytest.fixture
def mailbox(site: Site, reader: Account) -> Iterator[IMAPClient]:
    with clients.imap(site, reader) as client:
        client.select_folder("INBOX")
        yield client


@pytest.fixture
def folder(mailbox: IMAPClient) -> Iterator[str]:
    """A folder of the test's own."""
    name = f"Thử nghiệm {time.time_ns()}"
    mailbox.create_folder(name)
    mailbox.subscribe_folder(name)
    yield name
    mailbox.select_folder("INBOX")
    mailbox.unsubscribe_folder(name)
    mailbox.delete_folder(name)


def imap_login(site: Site, name: str, password: str) -> str:
    """What IMAP answers to a login; empty when it is taken."""
    with IMAPClient(
        clients.address_of(site, "front"),
        ssl_context=clients.context(site),
        timeout=clients.SECONDS,
    ) as client:
        try:
            client.login(name, password)
        except LoginError as error:
            return str(error)
    return ""


def pop3_login(site: Site, name: str, password: str) -> str:
    """What POP3 answers to a login; empty when it is taken."""
    client = poplib.POP3_SSL(
        clients.address_of(site, "front"), timeout=clients.SECONDS, context=clients.context(site)
    )
    try:
        client.user(name)
        client.pass_(password)
    except poplib.error_proto as error:
        return str(error)
    finally:
        client.close()
    return ""


def sieve_login(site: Site, name: str, password: str) -> str:
    """What ManageSieve answers to a login; empty when it is taken."""
    with managesieve.dialogue(site) as client:
        client.start_tls(clients.context(site), site.mail_name)
        answer = client.log_in(name, password)
    return "" if answer.startswith("OK") else answer


LOGINS = {"imap": imap_login, "pop3": pop3_login, "sieve": sieve_login}
protocols = pytest.mark.parametrize("protocol", LOGINS)


# -- TLS -------------------------------------------------------------------------------------------


def test_imap_asks_for_no_password_without_tls(site: Site, reader: Account) -> None:
    client = imaplib.IMAP4(clients.address_of(site, "front"), timeout=clients.SECONDS)
    assert "LOGINDISABLED" in client.capabilities
    assert not [name for name in client.capabilities if name.startswith("AUTH=")]
    with pytest.raises(imaplib.IMAP4.error):
        client.login(reader.address, reader.password)
    client.starttls(clients.context(site))
    # The capabilities said in clear do not count: anyone may have said them.
    assert "LOGINDISABLED" not in client.capability()[1][0].decode().split()
    client.login(reader.address, reader.password)
    client.logout()


def test_managesieve_asks_for_no_password_without_tls(site: Site, reader: Account) -> None:
    with managesieve.dialogue(site) as client:
        assert client.capabilities["SASL"] == ""
        assert client.log_in(reader.address, reader.password).startswith("NO")
    with managesieve.dialogue(site) as client:
        client.start_tls(clients.context(site), site.mail_name)
        assert set(client.capabilities["SASL"].split()) == {"PLAIN", "LOGIN"}
        assert client.log_in(reader.address, reader.password).startswith("OK")


def test_pop3_speaks_tls_only(site: Site) -> None:
    with pytest.raises(OSError, match=r"refused|timed out"):
        socket.create_connection((clients.address_of(site, "front"), 110), timeout=2)


@pytest.mark.regulation("2")
@pytest.mark.parametrize("port", [993, 995])
def test_the_certificate_is_for_the_public_name(site: Site, port: int) -> None:
    address = clients.address_of(site, "front")
    with (
        socket.create_connection((address, port), timeout=clients.SECONDS) as plain,
        clients.context(site).wrap_socket(plain, server_hostname=site.mail_name) as client,
    ):
        assert client.version() in {"TLSv1.2", "TLSv1.3"}


@pytest.mark.parametrize("port", [993, 995])
def test_old_tls_is_not_spoken(site: Site, port: int) -> None:
    context = ssl.create_default_context(cafile=str(site.state / "ca.pem"))
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        socket.create_connection(
            (clients.address_of(site, "front"), port), timeout=clients.SECONDS
        ) as plain,
        pytest.raises(ssl.SSLError),
    ):
        context.wrap_socket(plain, server_hostname=site.mail_name)


# -- who logs in -----------------------------------------------------------------------------------


@protocols
def test_ones_password_is_taken(site: Site, reader: Account, protocol: str) -> None:
    assert LOGINS[protocol](site, reader.address.upper(), reader.password) == ""


@pytest.mark.regulation("13")
@protocols
def test_a_wrong_password_is_refused(site: Site, person: Person, protocol: str) -> None:
    answer = LOGINS[protocol](site, person(MISTAKEN).address, "sai-mat-khau")
    assert "uthentication failed" in answer


@protocols
def test_nobody_is_refused_like_a_wrong_password(site: Site, protocol: str) -> None:
    answer = LOGINS[protocol](site, f"khong-co-ai@{site.domain}", "sai-mat-khau")
    assert "uthentication failed" in answer


@protocols
def test_a_locked_account_does_not_log_in(site: Site, person: Person, protocol: str) -> None:
    account = person("hht")
    assert "uthentication failed" in LOGINS[protocol](site, account.address, account.password)


@pytest.mark.regulation("3.1a")
def test_nobody_logs_in_as_a_unit(site: Site) -> None:
    assert "uthentication failed" in imap_login(site, f"stttt@{site.domain}", "stttt")


@protocols
def test_a_service_that_is_switched_off_is_refused(
    site: Site, person: Person, protocol: str
) -> None:
    account = person("ult")
    answer = LOGINS[protocol](site, account.address, account.password)
    assert bool(answer) == (protocol in {"pop3", "sieve"}), answer


@pytest.mark.regulation("15")
def test_the_store_knows_where_the_client_is(site: Site, mailbox: IMAPClient) -> None:
    here = mailbox.socket().getsockname()[0]
    store = clients.store_of(site, f"{READER}@{site.domain}").address
    line = until(
        lambda: remote.shell(
            site,
            store,
            f"journalctl -u dovecot -o cat -n 200 | grep 'Logged in: user=<{READER}@' | tail -n 1",
        ),
        "the login in the store's journal",
    )
    assert f"rip={here}," in line


# -- the proxy -------------------------------------------------------------------------------------


def test_no_answer_stays_in_the_proxy(site: Site, reader: Account) -> None:
    """Dovecot 2.4.1 lost every tenth session within a hundred commands, until multiplexing went."""
    for _ in range(5):
        with clients.imap(site, reader) as client:
            client.select_folder("INBOX")
            for _ in range(60):
                client.noop()
                client.fetch(client.search(["SEEN"])[-3:], ["FLAGS"])
                client.folder_status("Sent")


def test_large_letters_pass_the_proxy_whole(mailbox: IMAPClient, folder: str) -> None:
    content = b"Subject: to\r\n\r\n" + b"0123456789abcdef" * 100_000 + b"\r\n"
    mailbox.append(folder, content)
    mailbox.select_folder(folder)
    assert clients.raw(mailbox, mailbox.search()[0]) == content


def test_a_new_letter_is_announced(site: Site, reader: Account, mailbox: IMAPClient) -> None:
    mailbox.idle()
    with clients.imap(site, reader) as other:
        other.append("INBOX", b"Subject: moi\r\n\r\nmoi\r\n")
    assert any(b"EXISTS" in line for line in mailbox.idle_check(timeout=clients.SECONDS))
    mailbox.idle_done()


def test_a_reload_ends_no_session(site: Site, mailbox: IMAPClient) -> None:
    for host in site.group("store", "front"):
        remote.shell(site, host.address, "systemctl reload dovecot.service")
    # Dovecot would end them within a moment.
    end = time.monotonic() + 3
    while time.monotonic() < end:
        mailbox.noop()
        time.sleep(0.1)


# -- folders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("use", ["Drafts", "Sent", "Archive", "Junk", "Trash"])
def test_every_client_finds_the_usual_folders(mailbox: IMAPClient, use: str) -> None:
    uses = {name: flags for flags, _, name in mailbox.list_folders()}
    assert f"\\{use}".encode() in uses[use]
    assert use in {name for _, _, name in mailbox.list_sub_folders()}


@pytest.mark.regulation("3.3")
def test_folders_have_vietnamese_names(mailbox: IMAPClient, folder: str) -> None:
    below = f"{folder}/Đề án 06 – Chuyển đổi số"
    mailbox.create_folder(below)
    assert below in {name for _, _, name in mailbox.list_folders()}
    mailbox.delete_folder(below)


@pytest.mark.regulation("13")
def test_nobody_opens_a_mailbox_to_others(mailbox: IMAPClient, folder: str, person: Person) -> None:
    with pytest.raises(IMAPClientError, match="NOPERM"):
        mailbox.setacl(folder, person("ddv").address, "lr")


# -- search ----------------------------------------------------------------------------------------


LETTERS = {
    "Đề nghị báo cáo": "Nội dung văn bản.",
    "Công văn": "Kính đề nghị quý cơ quan ở ĐỨC HÒA phối hợp.",
    "Đe\u0302\u0300 nghi\u0323 da\u0323ng tách rời": "Trình bày ưỡn ẹo.",
    "Thông báo": "Không liên quan.",
}
"""Subject and text; one in the decomposed form (NFD), as Apple's programs write it."""


@pytest.fixture
def letters(mailbox: IMAPClient, folder: str, reader: Account) -> list[str]:
    """A folder with `LETTERS`, open; their subjects in the order of the UIDs."""
    for subject, text in LETTERS.items():
        letter = clients.letter(reader.address, reader.address, subject=subject, text=text)
        mailbox.append(folder, letter.as_bytes())
    mailbox.select_folder(folder)
    return list(LETTERS)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("SUBJECT", "de nghi", [0, 2]),
        ("BODY", "de nghi", [1]),
        ("TEXT", "de nghi", [0, 1, 2]),
        ("TEXT", "DE NGHI", [0, 1, 2]),
        ("TEXT", "Đề nghị", [0, 1, 2]),
        ("TEXT", "đức hoà", [1]),
        ("BODY", "uon eo", [2]),
        ("TEXT", "khong co chu nay", []),
    ],
)
def test_a_search_ignores_diacritics_and_case(
    mailbox: IMAPClient, letters: list[str], key: str, text: str, expected: list[int]
) -> None:
    found = mailbox.search([key, text], charset="UTF-8")
    assert [letters[uid - 1] for uid in found] == [letters[number] for number in expected]


# -- deleting --------------------------------------------------------------------------------------


@pytest.fixture
def on_store(site: Site, reader: Account) -> Callable[[str], str]:
    """Run doveadm for the reader on the store."""
    store = clients.store_of(site, reader.address).address

    def doveadm(command: str) -> str:
        return remote.shell(site, store, f"doveadm {command.format(user=reader.address)}")

    return doveadm


@pytest.mark.regulation("8")
def test_what_was_deleted_for_good_can_be_brought_back(
    mailbox: IMAPClient, folder: str, reader: Account, on_store: Callable[[str], str]
) -> None:
    letter = clients.letter(reader.address, reader.address, subject="Xóa nhầm")
    mailbox.append(folder, letter.as_bytes())
    mailbox.select_folder(folder)
    mailbox.delete_messages(mailbox.search())
    mailbox.expunge()
    assert mailbox.search() == []
    assert ".EXPUNGED" not in {name for _, _, name in mailbox.list_folders()}
    query = f"mailbox .EXPUNGED header Message-ID '{letter['Message-ID']}'"
    assert on_store(f"search -u {{user}} {query}")
    on_store(f"move -u {{user}} '{folder}' {query}")
    mailbox.noop()
    assert len(mailbox.search()) == 1


@pytest.mark.regulation("8")
def test_a_letter_that_was_only_moved_is_not_kept_twice(
    mailbox: IMAPClient, folder: str, reader: Account, on_store: Callable[[str], str]
) -> None:
    letter = clients.letter(reader.address, reader.address, subject="Chuyển đi")
    mailbox.append(folder, letter.as_bytes())
    mailbox.select_folder(folder)
    mailbox.move(mailbox.search(), "Trash")
    query = f"header Message-ID '{letter['Message-ID']}'"
    assert on_store(f"search -u {{user}} mailbox .EXPUNGED {query}") == ""
    assert on_store(f"search -u {{user}} mailbox Trash {query}") != ""


@pytest.mark.regulation("8")
@pytest.mark.parametrize("name", [READER, "stp"])
def test_retention_takes_what_is_old_from_trash_junk_and_what_was_deleted_and_nothing_else(
    site: Site, name: str
) -> None:
    """The very script that runs at night: as it is, then for one account whose time has come."""
    address = f"{name}@{site.domain}"
    store = clients.store_of(site, address).address
    letter = clients.letter(address, address)
    query = f"header Message-ID '{letter['Message-ID']}'"
    script = remote.shell(site, store, "cat /usr/local/lib/site-mailstore/retention")

    def doveadm(command: str, stdin: str = "") -> str:
        # Nobody is the owner of a unit's mailbox.
        return remote.shell(site, store, f"doveadm -o acl_ignore=yes {command}", stdin=stdin)

    def there() -> dict[str, int]:
        folders = ("INBOX", "Trash", "Junk", ".EXPUNGED")
        found = {f: doveadm(f"search -u {address} mailbox {f} {query}") for f in folders}
        return {folder: len(lines.splitlines()) for folder, lines in found.items()}

    def run(text: str) -> dict[str, int]:
        remote.shell(
            site, store,
            "RUNTIME_DIRECTORY=$(mktemp -d) && export RUNTIME_DIRECTORY && sh -s"
            ' && rm -r "$RUNTIME_DIRECTORY"',
            stdin=text,
        )  # fmt: skip
        return there()

    def run_with(times: str) -> dict[str, int]:
        """With these seconds for Trash, Junk and .EXPUNGED."""
        text, found = re.subn(r"(?m)^remove (\w+)( \d+){3}$", rf"remove \1 {times}", script)
        assert found == 2
        text, found = re.subn(r"\(objectClass=\$1\)", rf"\g<0>(mail={address})", text)
        assert found == 1
        return run(text)

    try:
        for folder in ("INBOX", "Trash", "Junk", "Drafts"):
            doveadm(f"save -u {address} -m {folder}", letter.as_string())
        doveadm(f"expunge -u {address} mailbox Drafts {query}")
        fresh = {"INBOX": 1, "Trash": 1, "Junk": 1, ".EXPUNGED": 1}
        assert there() == fresh
        assert run(script) == fresh
        # A day is not over yet. Time is counted in seconds: what is saved now is old in the next.
        for times, left in (
            ("0 86400 86400", {"INBOX": 1, "Trash": 0, "Junk": 1, ".EXPUNGED": 2}),
            ("86400 0 86400", {"INBOX": 1, "Trash": 0, "Junk": 0, ".EXPUNGED": 3}),
            ("86400 86400 0", {"INBOX": 1, "Trash": 0, "Junk": 0, ".EXPUNGED": 0}),
        ):
            until(lambda: run_with(times) == left, f"what is left of it: {left}")  # noqa: B023
    finally:
        doveadm(f"expunge -u {address} mailbox INBOX {query}")


# -- on disk ---------------------------------------------------------------------------------------


def test_mail_is_compressed_on_disk(site: Site, mailbox: IMAPClient, folder: str) -> None:
    content = b"Subject: nen\r\n\r\n" + b"Uy ban nhan dan tinh Tien Giang. " * 4000 + b"\r\n"
    mailbox.append(folder, content)
    path = f"/var/vmail/people/*/mail/mailboxes/{folder}/dbox-Mails/u.1"
    store = clients.store_of(site, f"{READER}@{site.domain}").address
    # The folder's name is readable there: it is stored in UTF-8.
    size = int(remote.shell(site, store, f"stat -c %s {path.replace(' ', '?')}"))
    assert size < len(content) / 10
    # zstd's magic number, behind Dovecot's own head.
    assert remote.shell(
        site, store, f"head -c 200 {path.replace(' ', '?')} | od -An -tx1 | tr -d ' \\n'"
    ).count("28b52ffd")
