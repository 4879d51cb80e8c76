"""What the filter lets through, marks and refuses, seen by a mail server on the Internet."""

import base64
import hashlib
import io
import re
import smtplib
import unicodedata
import zipfile
from collections.abc import Callable
from email import message_from_bytes, policy
from email.utils import formatdate, make_msgid

import pytest

from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account
from tests.samples import eicar, gtube, proposal, with_attachment, zipped
from tests.waiting import until

TEXT = (
    "Kính gửi Sở Thông tin và Truyền thông,\n"
    "Đề nghị quý cơ quan cho ý kiến về dự thảo kế hoạch ứng dụng công nghệ thông tin.\n"
    "Trân trọng, Nguyễn Văn Dân\n"
)


@pytest.fixture
def official(person: Callable[[str], Account]) -> Account:
    """Somebody who reads mail."""
    return person("anv")


@pytest.fixture
def head(site: Site, official: Account) -> str:
    """The header lines of a letter from a stranger, each time with an identity of its own."""
    return (
        f"From: =?utf-8?q?D=C3=A2n?= <{stranger(site)}>\n"
        f"To: <{official.address}>\n"
        f"Date: {formatdate(localtime=True)}\n"
        f"Message-ID: {make_msgid(domain='tester.' + clients.foreign_domain(site))}\n"
        "Subject: =?utf-8?b?xJDhu4EgbmdoaQ==?=\n"
    )


def stranger(site: Site) -> str:
    """An address at the machine that runs the tests."""
    return f"nguoi.la@tester.{clients.foreign_domain(site)}"


def offer(site: Site, recipient: str, content: bytes) -> tuple[int, str]:
    """Offer a letter to port 25; the last answer's code and words."""
    with smtplib.SMTP(clients.address_of(site, "mx"), 25, timeout=180) as client:
        client.ehlo(f"tester.{clients.foreign_domain(site)}")
        try:
            refused = client.sendmail(
                stranger(site), [recipient], content.replace(b"\n", b"\r\n"), ["BODY=8BITMIME"]
            )
            assert not refused
        except smtplib.SMTPResponseException as refusal:
            words = refusal.smtp_error
            return refusal.smtp_code, words if isinstance(words, str) else words.decode("ascii")
    return 250, ""


def identity(content: bytes) -> str:
    """A letter's Message-ID."""
    return str(message_from_bytes(content, policy=policy.default)["Message-ID"])


def delivered(site: Site, account: Account, content: bytes, folder: str = "INBOX") -> bytes:
    """The letter as it lies in the mailbox, once it does."""
    with clients.imap(site, account) as client:
        client.select_folder(folder)

        def found() -> list[int]:
            client.noop()
            return list(client.search(["HEADER", "Message-ID", identity(content)]))

        uid = until(found, f"{identity(content)} in {folder}", 120)[0]
        return clients.raw(client, uid)


def body(content: bytes) -> bytes:
    """What follows the header, with one kind of line end."""
    return content.replace(b"\r\n", b"\n").partition(b"\n\n")[2]


def plain(head: str, text: str) -> bytes:
    """A letter in UTF-8."""
    return (
        f"{head}MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n"
        f"Content-Transfer-Encoding: 8bit\n\n{text}"
    ).encode()


def forwarded(head: str, content: bytes) -> bytes:
    """A letter that carries another."""
    return f"{head}MIME-Version: 1.0\nContent-Type: message/rfc822\n\n".encode() + content


def deep(content: bytes, depth: int) -> bytes:
    """A ZIP archive in a ZIP archive, and so on."""
    for number in range(depth):
        content = zipped(content, f"{number}.zip")
    return content


MALWARE: dict[str, Callable[[str], bytes]] = {
    "raw": lambda head: plain(head, eicar().decode() + "\n"),
    "base64": lambda head: with_attachment(head, "bao-cao.txt", eicar()),
    "zip": lambda head: with_attachment(head, "bao-cao.zip", zipped(eicar(), "bao-cao.txt")),
    "zip in zip": lambda head: with_attachment(head, "a.zip", deep(zipped(eicar(), "a.txt"), 3)),
    "zip without its name": lambda head: with_attachment(head, "a.doc", zipped(eicar(), "a.txt")),
    "forwarded letter": lambda head: forwarded(
        head, with_attachment("Subject: x\n", "a.zip", zipped(eicar(), "a.txt"))
    ),
    "wrong type": lambda head: with_attachment(head, "anh.jpg", eicar()),
}


@pytest.mark.regulation("8")
@pytest.mark.parametrize("form", MALWARE)
def test_malware_is_refused_while_its_sender_waits(
    site: Site, official: Account, head: str, form: str
) -> None:
    code, words = offer(site, official.address, MALWARE[form](head))
    assert code == 554, words
    assert words.startswith("5.7.1 ")
    # In both languages, in what SMTP can carry.
    assert "ma doc" in words
    assert "malware" in words


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chuong-trinh.exe", b"MZ"),
        ("CHUONG-TRINH.Exe.", b"MZ"),
        ("bao-cao.docx.js", b"x"),
        ("bao-cao.zip", zipped(b"x", "trong/bao-cao.vbs")),
        ("=?utf-8?b?YsOhbyBjw6FvLnNjcg==?=", b"x"),
    ],
)
def test_programs_are_refused(
    site: Site, official: Account, head: str, name: str, content: bytes
) -> None:
    code, words = offer(site, official.address, with_attachment(head, name, content))
    assert code == 554, words
    assert "tep chuong trinh" in words
    assert "are not accepted" in words


@pytest.mark.parametrize("name", ["bao-cao.docx", "bang.xlsx", "exe.pdf", "www.example.com.pdf"])
def test_documents_are_not_taken_for_programs(
    site: Site, official: Account, head: str, name: str
) -> None:
    letter = with_attachment(head, name, b"x" * 100)
    assert offer(site, official.address, letter) == (250, "")


def test_a_letter_in_parts_cannot_be_scanned_and_is_refused(
    site: Site, official: Account, head: str
) -> None:
    part = f'{head}MIME-Version: 1.0\nContent-Type: message/partial; id="1"; number=1\n\nx\n'
    code, words = offer(site, official.address, part.encode())
    assert code == 554, words
    assert "message/partial" in words


@pytest.mark.parametrize("mebibytes", [420, 3000])
def test_an_archive_that_hides_too_much_is_refused(
    site: Site, official: Account, head: str, mebibytes: int
) -> None:
    bomb = io.BytesIO()
    with (
        zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.txt", "w", force_zip64=True) as member,
    ):
        for _ in range(mebibytes):
            member.write(bytes(2**20))
    code, words = offer(site, official.address, with_attachment(head, "a.zip", bomb.getvalue()))
    assert code == 554, words
    assert "cannot be scanned" in words


def test_an_archive_in_archives_without_end_is_refused(
    site: Site, official: Account, head: str
) -> None:
    letter = with_attachment(head, "a.zip", deep(b"x", 20))
    code, words = offer(site, official.address, letter)
    assert code == 554, words
    assert "cannot be scanned" in words


@pytest.mark.regulation("8")
def test_gtube_is_refused(site: Site, official: Account, head: str) -> None:
    code, words = offer(site, official.address, plain(head, gtube() + "\n"))
    assert code == 550, words
    assert "thu rac" in words
    assert "spam" in words


@pytest.mark.regulation("8")
def test_likely_spam_is_marked_and_filed_into_junk(
    site: Site, official: Account, head: str
) -> None:
    letter = plain(f"{head}Reply-To: <ong.smith@gmail.com>\n", proposal())
    assert offer(site, official.address, letter) == (250, "")
    received = message_from_bytes(delivered(site, official, letter, "Junk"), policy=policy.default)
    assert received["X-Spam-Flag"] == "YES"
    assert 5 <= float(received["X-Spam-Score"]) < 15
    assert received["X-Spam-Status"].startswith("Yes, score=")


def test_the_samples_of_spamassassin_are_told_apart(site: Site, official: Account) -> None:
    folder = "/usr/share/doc/spamassassin/examples"
    mx = clients.address_of(site, "mx")
    spam = remote.shell(site, mx, f"cat {folder}/sample-spam.txt")
    code, _ = offer(site, official.address, spam.encode())
    assert code == 550
    ham = remote.shell(site, mx, f"cat {folder}/sample-nonspam.txt")
    # With an identity of its own, or it could not be found again.
    letter = re.sub("(?m)^Message-ID: .*$", f"Message-ID: {make_msgid()}", ham).encode()
    assert offer(site, official.address, letter) == (250, "")
    received = message_from_bytes(delivered(site, official, letter), policy=policy.default)
    assert received["X-Spam-Flag"] is None
    assert received["X-Spam-Status"].startswith("No, score=")


def test_what_a_letter_claims_about_itself_does_not_count(
    site: Site, official: Account, head: str
) -> None:
    claims = (
        "X-Spam-Flag: NO\nX-Spam-Status: No, score=-100.0\nX-Spam-Level: \n"
        "x-spam-score: -100\nX-Spam-Flag: NO\n"
    )
    letter = plain(f"{claims}{head}Reply-To: <ong.smith@gmail.com>\n", proposal())
    assert offer(site, official.address, letter) == (250, "")
    received = message_from_bytes(delivered(site, official, letter, "Junk"), policy=policy.default)
    assert received.get_all("X-Spam-Flag") == ["YES"]
    assert len(received.get_all("X-Spam-Score", [])) == 1
    assert len(received.get_all("X-Spam-Status", [])) == 1
    assert "X-Spam-Level" not in received
    innocent = plain(f"X-Spam-Flag: YES\nX-Spam-Status: Yes\n{fresh(head)}", TEXT)
    assert offer(site, official.address, innocent) == (250, "")
    received = message_from_bytes(delivered(site, official, innocent), policy=policy.default)
    assert received["X-Spam-Flag"] is None


def test_nobody_else_speaks_in_our_name(site: Site, official: Account, head: str) -> None:
    """RFC 8601, 5: results that claim to be ours are deleted on arrival; others' stay."""
    mx = site.group("mx")[0].fqdn
    another = f"another.{clients.foreign_domain(site)}; spf=fail"
    claims = [
        f"{mx}; spf=pass smtp.mailfrom=forged",
        f"{mx.upper()} 1; dkim=pass header.d=forged",
        another,
        f'(a comment (in it)) "{mx}" ; dmarc=pass header.from=forged',
        f"\n\t{mx};\n\tdkim=pass header.d=forged",
        f"{site.domain}; dmarc=pass header.from=forged",
    ]
    lines = "".join(f"Authentication-Results: {claim}\n" for claim in claims)
    letter = plain(lines.replace("Results: \n", "Results:\n") + head, TEXT)
    assert offer(site, official.address, letter) == (250, "")
    received = message_from_bytes(delivered(site, official, letter), policy=policy.default)
    ours, *others = [str(value) for value in received.get_all("Authentication-Results", [])]
    assert ours.startswith(f"{mx}; spf=none ")
    assert "forged" not in ours
    assert others == [another]


@pytest.mark.parametrize("claimed", ["mx", "domain"])
def test_an_official_does_not_either(site: Site, official: Account, claimed: str) -> None:
    name = site.group("mx")[0].fqdn if claimed == "mx" else site.domain
    message = clients.letter(official.address, official.address)
    message["Authentication-Results"] = f"{name}; spf=pass smtp.mailfrom=forged"
    clients.submit(site, official, message)
    with clients.imap(site, official) as client:
        content = clients.raw(client, clients.wait_for(client, message))
    assert b"forged" not in content


def fresh(head: str) -> str:
    """The same header with another identity."""
    return head.replace("Message-ID: <", "Message-ID: <1.")


def windows_1258(text: str) -> bytes:
    """Vietnamese as older programs wrote it: some accents are characters of their own."""
    content = b""
    for character in unicodedata.normalize("NFC", text):
        try:
            content += character.encode("cp1258")
        except UnicodeEncodeError:
            parts = unicodedata.normalize("NFD", character)
            tone = next(part for part in parts if part in "\u0300\u0301\u0303\u0309\u0323")
            letter = unicodedata.normalize("NFC", parts.replace(tone, ""))
            content += letter.encode("cp1258") + tone.encode("cp1258")
    return content


BODIES = {
    "NFC": ("utf-8", "8bit", TEXT.encode()),
    "NFD": ("utf-8", "8bit", unicodedata.normalize("NFD", TEXT).encode()),
    "base64": ("utf-8", "base64", base64.encodebytes(TEXT.encode())),
    "windows-1258": ("windows-1258", "8bit", windows_1258(TEXT)),
    "viscii": ("viscii", "8bit", b"K\xednh g\xdfi qu\xfd c\xbd quan, \xf0\xab ngh\xb8 h\xf7p.\n"),
}


@pytest.mark.regulation("3.3")
@pytest.mark.regulation("12")
@pytest.mark.parametrize("form", BODIES)
def test_a_body_passes_byte_for_byte(site: Site, official: Account, head: str, form: str) -> None:
    charset, encoding, content = BODIES[form]
    letter = (
        f"{head}MIME-Version: 1.0\nContent-Type: text/plain; charset={charset}\n"
        f"Content-Transfer-Encoding: {encoding}\n\n"
    ).encode() + content
    assert offer(site, official.address, letter) == (250, "")
    received = delivered(site, official, letter)
    assert hashlib.sha256(body(received)).digest() == hashlib.sha256(body(letter)).digest()
    assert message_from_bytes(received, policy=policy.default)["X-Spam-Flag"] is None


def test_headers_are_added_on_top_and_nowhere_else(
    site: Site, official: Account, head: str
) -> None:
    letter = plain(head, TEXT)
    assert offer(site, official.address, letter) == (250, "")
    received = delivered(site, official, letter).replace(b"\r\n", b"\n")
    assert received.endswith(letter)
    added = received.removesuffix(letter).decode()
    assert "X-Spam-Status: No" in added


def test_a_large_letter_passes_whole(site: Site, official: Account, head: str) -> None:
    letter = with_attachment(head, "ban-do.tif", hashlib.shake_256(b"1").digest(15 * 2**20))
    assert offer(site, official.address, letter) == (250, "")
    received = delivered(site, official, letter)
    assert hashlib.sha256(body(received)).digest() == hashlib.sha256(body(letter)).digest()


@pytest.mark.regulation("13")
def test_officials_cannot_send_spam_or_malware_out(site: Site, official: Account) -> None:
    foreign = f"dan@{clients.foreign_domain(site)}"
    for text in (gtube(), eicar().decode()):
        message = clients.letter(official.address, foreign, text=f"{text}\n")
        try:
            clients.submit(site, official, message)
        except smtplib.SMTPResponseException as refusal:
            assert 500 <= refusal.smtp_code < 600  # noqa: PT017 - or else it comes back
        else:
            with clients.imap(site, official) as client:
                client.select_folder("INBOX")
                wanted = message["Message-ID"]
                until(
                    lambda: (client.noop(), client.search(["BODY", wanted]))[1],  # noqa: B023
                    "the letter's return to its sender",
                    120,
                )
        with clients.foreign_imap(site, foreign) as client:
            client.select_folder("INBOX")
            assert not client.search(["HEADER", "Message-ID", message["Message-ID"]])
