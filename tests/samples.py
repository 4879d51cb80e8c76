"""Letters that a filter must notice, made here so that no scanner of a developer's notices them."""

import base64
import io
import zipfile

from roles.common.site import ROOT


def eicar() -> bytes:
    """The harmless file that every virus scanner reports, taken from the lab's signature."""
    signature = (ROOT / "roles/filtering/files/eicar.ndb").read_text(encoding="ascii")
    return bytes.fromhex(signature.rstrip().split(":")[3])


def gtube() -> str:
    """The line that every spam filter counts with 1000 points."""
    return "XJS*C4JDBQADN1.NSBN3*2IDNEN*" + "GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL" + "*C.34X"


def zipped(content: bytes, name: str) -> bytes:
    """A ZIP archive with one file."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return archive.getvalue()


def with_attachment(head: str, name: str, content: bytes) -> bytes:
    """A letter, byte by byte, with one attachment.

    Args:
        head: its header lines, such as From and Subject.
        name: the attachment's file name, ASCII.
        content: the attachment.
    """
    return (
        f"{head}MIME-Version: 1.0\n"
        'Content-Type: multipart/mixed; boundary="ranh-gioi"\n\n'
        "--ranh-gioi\n"
        "Content-Type: text/plain; charset=utf-8\n"
        "Content-Transfer-Encoding: 8bit\n\n"
        "Kính gửi quý cơ quan tệp kèm theo.\n\n"
        "--ranh-gioi\n"
        f'Content-Type: application/octet-stream; name="{name}"\n'
        "Content-Transfer-Encoding: base64\n"
        f'Content-Disposition: attachment; filename="{name}"\n\n'
        f"{base64.encodebytes(content).decode()}"
        "--ranh-gioi--\n"
    ).encode()


def proposal() -> str:
    """A text that SpamAssassin's own rules find suspicious, without any look-up."""
    return (
        "I am the personal attorney to the late Mr. Smith, a foreigner who deposited the sum of\n"
        "US$10,500,000.00 (TEN MILLION FIVE HUNDRED THOUSAND UNITED STATES DOLLARS) in this bank\n"
        "before he died in a plane crash. I seek your consent to present you as his next of kin,\n"
        "so that the proceeds of this account can be paid to you. This transaction is risk free\n"
        "and strictly confidential. Please send your bank account number and your full name to\n"
        "my private email. The fund will be shared 40% for you and 60% for me.\n"
    )
