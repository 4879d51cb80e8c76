"""Documents that are marked as secret do not go through the system (articles 5 and 13).

A front takes the letter and the mx refuses it; one host of both groups refuses it at once.
"""

import re
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from roles.common.site import Site
from tests import clients, remote
from tests.clients import Account
from tests.mail.test_mta_authors import outcome
from tests.mail.test_mta_submission import logged_in
from tests.samples import zipped

Person = Callable[[str], Account]
Letter = Callable[[EmailMessage], None]
AUTHOR, READER = "gvv", "clv"
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def subject(text: str) -> Letter:
    """A letter with another subject."""
    return lambda message: message.replace_header("Subject", text)


def body(text: str, charset: str = "utf-8") -> Letter:
    """A letter with another text."""
    return lambda message: message.set_content(text, charset=charset, cte="base64")


def html(text: str) -> Letter:
    """A letter with a page beside its text."""
    return lambda message: message.add_alternative(text, "html")


def attached(name: str, content: bytes = b"%PDF-1.7") -> Letter:
    """A letter with an attachment."""
    return lambda message: message.add_attachment(
        content, maintype="application", subtype="octet-stream", filename=name
    )


def word(*paragraphs: str, file: str = "word/document.xml") -> bytes:
    """The part of a Word file that holds its text, each word in a run of its own."""
    runs = (
        "".join(f"<w:r><w:t>{part}</w:t></w:r>" for part in re.split(r"(?<= )", text))
        for text in paragraphs
    )
    text = "".join(f'<w:p w:rsidR="0"><w:pPr/>{run}</w:p>' for run in runs)
    return zipped(f"<w:document {_W}><w:body>{text}</w:body></w:document>".encode(), file)


MARKED = {
    "subject, in brackets": (subject("[MẬT] Kế hoạch quý IV"), "MAT", "subject"),
    "subject, before a colon": (subject("Tối mật: kế hoạch quý IV"), "TOI MAT", "subject"),
    "subject, an answer": (subject("Re: Fwd: (Tuyệt mật) Kế hoạch"), "TUYET MAT", "subject"),
    "subject, in capitals": (subject("Báo cáo TỐI MẬT quý IV"), "TOI MAT", "subject"),
    "subject, decomposed": (subject("[MA\u0323\u0302T] Kế hoạch"), "MAT", "subject"),
    "text": (body("Kính gửi: các đơn vị\n\n   MẬT\n\nKế hoạch.\n"), "MAT", "text"),
    "text, with a label": (body("Độ mật:  Tối   mật\nKế hoạch.\n"), "TOI MAT", "text"),
    "text, quoted": (body("Tôi chuyển.\n> -- TUYỆT MẬT --\n> Kế hoạch\n"), "TUYET MAT", "text"),
    "text, windows-1258": (body("Kinh chuyê\u0309n\nMâ\u0323t\n", "windows-1258"), "MAT", "text"),
    "page": (
        html("<table><tr><td><b>M&#7852;T</b></td><td>Số 12</td></tr></table>"), "MAT", "text",
    ),
    "page, behind a style": (
        html("<style>p { color: red }</style><p>Mật</p><script>let x = 1</script>"), "MAT", "text",
    ),
    "name of an attachment": (attached("[Mật] ke_hoach.pdf"), "MAT", "attachment-name"),
    "name in capitals": (attached("Ke hoach_TỐI MẬT_2026.pdf"), "TOI MAT", "attachment-name"),
    "Word": (attached("kehoach.docx", word("UBND TỈNH", "TỐI MẬT", "Số 12")), "TOI MAT", "text"),
    "Word, in the head of a page": (
        attached("kehoach.docx", word("Mật", file="word/header1.xml")), "MAT", "text",
    ),
    "OpenDocument": (
        attached(
            "kehoach.odt",
            zipped(
                "<o><text:p text:style-name='a'>Độ mật: <text:span>Mật</text:span></text:p></o>"
                .encode(), "content.xml",
            ),
        ),
        "MAT", "text",
    ),
}  # fmt: skip
"""How a letter is marked, the degree that the refusal names, and where the log says it is."""

UNMARKED = {
    "password": subject("Đổi mật khẩu: hướng dẫn"),
    "password in capitals": subject("ĐỔI MẬT KHẨU THƯ ĐIỆN TỬ"),
    "security": subject("[Bảo mật] Tập huấn an toàn thông tin"),
    "honey": subject("Mật ong: giá bán"),
    "in a sentence": body("Tài liệu này không thuộc độ mật: nêu tại Luật.\nTin mật không gửi.\n"),
    "style and script of a page": html(
        "<html><head><STYLE type='text/css'>\n<!--\nMẬT\n-->\n</STYLE>"
        "<script>/*\nTối mật\n*/</script ></head><p>Kế hoạch</p><style>\nMật\n"
    ),
    "name": attached("Quy chế bảo mật.pdf"),
    "Word": attached("quyche.docx", word("Quy chế bảo vệ bí mật", "Điều 1. Mật khẩu")),
    "a file that claims to be Word": attached("hong.docx", b"PK\3\4 not an archive"),
    "an unknown character set": lambda message: message.replace_header(
        "Content-Type", 'text/plain; charset="x-none"'
    ),
}
"""What is near to a mark, or cannot be read, and is none."""


def submitted(site: Site, person: Person, change: Letter) -> tuple[EmailMessage, str]:
    """Submit a letter; itself, and what became of it."""
    author, reader = person(AUTHOR), person(READER)
    message = clients.letter(author.address, reader.address)
    change(message)
    with logged_in(site, author) as client:
        became = outcome(site, client, author.address, reader.address, message.as_bytes().decode())
    return message, became


@pytest.mark.regulation("5")
@pytest.mark.regulation("13")
@pytest.mark.parametrize("case", MARKED)
def test_a_letter_that_is_marked_as_secret_is_refused(
    site: Site, person: Person, case: str
) -> None:
    change, degree, where = MARKED[case]
    _, became = submitted(site, person, change)
    assert re.search(rf"\b554 5\.7\.1 Thu bi tu choi: van ban co do mat \({degree}\)", became), (
        became
    )
    logs = [
        remote.shell(
            site, mx.address, "journalctl -q --since=-1h -o cat -t mimedefang.pl -g verdict=secret"
            " || true",
        )
        for mx in site.group("mx")
    ]  # fmt: skip
    assert re.search(f"where={where}", "".join(logs))


@pytest.mark.parametrize("case", UNMARKED)
def test_a_letter_that_speaks_of_secrets_is_not(site: Site, person: Person, case: str) -> None:
    message, became = submitted(site, person, UNMARKED[case])
    assert became.startswith("sent"), became
    with clients.imap(site, person(READER)) as reader:
        clients.wait_for(reader, message)


def test_from_outside_a_mark_is_read_by_people(site: Site, person: Person) -> None:
    reader = person(READER)
    message = clients.foreign_letter(site, reader.address, subject="[MẬT] Kế hoạch")
    clients.send_from_outside(site, message)
    with clients.imap(site, reader) as client:
        clients.wait_for(client, message)
