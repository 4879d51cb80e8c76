"""A site full of mail: letters, folders, scripts, settings and passwords as people have them.

What it writes is the same in each run, save identifiers and passwords that are made.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from random import Random

from imapclient import IMAPClient

from roles.common.site import Site
from tests import clients, managesieve
from tests.clients import Account
from tests.lab import info
from tests.mail.test_directory import GOOD, bound
from tests.mail.test_mailstore import LOGINS
from tests.mail.test_passwords import Official, application
from tests.pages import Pages
from tests.waiting import until

LETTERS = 3000
PEOPLE, RECIPIENTS = 12, 4
"""Whose mailboxes are filled, and to whom letters go all the time."""
UNITS = {"stttt": ("anv", "gvv", "btt"), "vpubnd.tttinhoc": ("mhn", "ldq")}
"""Unit mailboxes with those who read them; the first files, too."""
UNIT_LETTERS = 60
OWNER = "anv"
"""Whose password changes, and who has one for an application."""
FOLDERS = (
    "INBOX", "Sent", "Công văn đến/2025", "Công văn đến/2026", 'Đề án "A&B"/Đợt 1', "Lưu trữ/Quý I",
    "Trash",
)  # fmt: skip
_MARKS = (rb"\Seen", rb"\Answered", rb"\Flagged", b"$Forwarded", b"$Label1", b"Can-xem-lai")
_BATCH = 50
_FIRST = datetime(2025, 1, 6, 7, 30, tzinfo=UTC)
_SCRIPT = (
    'require ["fileinto"];\r\n# Của {name}\r\n'
    'if header :contains "subject" "Lịch họp" {{ fileinto "Công văn đến/2026"; }}\r\n'
)
_WORDS = (
    "đề nghị", "báo cáo", "kết quả", "thực hiện", "nhiệm vụ", "quý bốn", "của", "các đơn vị",
    "trực thuộc", "Ủy ban nhân dân", "huyện", "công văn", "kính gửi", "căn cứ", "chỉ đạo",
)  # fmt: skip


@dataclass(frozen=True)
class Filled:
    """Who is on the site now, with the passwords of now."""

    people: tuple[Account, ...]
    recipients: tuple[Account, ...]
    former: Account
    """`OWNER` with the password that was changed."""
    application: str
    """The password for an application of `OWNER`: for IMAP and submission."""

    @property
    def owner(self) -> Account:
        """`OWNER` with the password of now."""
        return next(one for one in self.people if one.address == self.former.address)


def chosen(site: Site) -> tuple[list[Account], list[Account]]:
    """Whose mailboxes are filled, and to whom letters go all the time."""
    everybody = [one for one in clients.accounts(site) if one.is_person]
    full = {entry["address"] for entry in info.accounts(site)}
    members = {f"{name}@{site.domain}" for names in UNITS.values() for name in names}
    able = [one for one in everybody if one.address in full]
    able.sort(key=lambda one: (one.address not in members, one.address))
    assert members <= {one.address for one in able}
    return able[:PEOPLE], able[PEOPLE : PEOPLE + RECIPIENTS]


def fill(site: Site, people: Iterable[Account]) -> None:
    """Letters with flags and dates, folders, subscriptions, scripts; and what was deleted."""
    own = (LETTERS - UNIT_LETTERS * len(UNITS)) // PEOPLE
    for number, person in enumerate(people):
        noise = Random(number)  # noqa: S311 - the same letters in each run
        with clients.imap(site, person) as client:
            for folder in FOLDERS:
                if not client.folder_exists(folder):
                    client.create_folder(folder)
                # One in seven is not wanted in the list.
                if noise.random() < 6 / 7:
                    client.subscribe_folder(folder)
            share = own // len(FOLDERS)
            for folder in FOLDERS[1:]:
                _put(client, folder, _letters(noise, person, share))
            _put(client, FOLDERS[0], _letters(noise, person, own - share * (len(FOLDERS) - 1)))
            client.select_folder(FOLDERS[2])
            client.delete_messages(client.search()[:2])
            client.expunge()
        with managesieve.logged_in(site, person) as sieve:
            said = sieve.put("loc-thu", _SCRIPT.format(name=person.name))
            assert said.startswith("OK"), said
            if number % 3:
                sieve.ask('SETACTIVE "loc-thu"')
    for number, (code, names) in enumerate(UNITS.items(), 1000):
        filer = _named(people, names[0])
        noise = Random(number)  # noqa: S311
        with clients.imap(site, filer) as client:
            _put(client, clients.unit_folder(site, code), _letters(noise, filer, UNIT_LETTERS, ()))


def change(site: Site, people: Iterable[Account], recipients: Iterable[Account]) -> Filled:
    """What people do in a day: read, move, file, choose settings, change passwords."""
    people = list(people)
    for code, names in UNITS.items():
        for step, name in enumerate(names, 2):
            with clients.imap(site, _named(people, name)) as client:
                client.select_folder(clients.unit_folder(site, code))
                client.add_flags(client.search()[::step], [rb"\Seen"])
    for number, person in enumerate(people):
        with clients.imap(site, person) as client:
            client.select_folder("INBOX")
            uids = client.search()
            client.remove_flags(uids[::7], [rb"\Seen"])
            client.add_flags(uids[::5], [b"$Label2"])
            client.move(uids[-3:], FOLDERS[-2])
        pages = Pages(site, person)
        pages.page_size = 20 + number
        pages.add_contact(f"Bạn của {person.name}", f"ban{number}@{clients.foreign_domain(site)}")
    former = _named(people, OWNER)
    owner = replace(former, password=GOOD)
    official = Official(site, "1001")
    assert former.name == "Nguyễn Văn A"
    with bound(site, official.dn, former.password) as connection:
        connection.extend.standard.modify_password(official.dn, former.password, GOOD)
    password = application(official, "imap", "submission")
    for log_in in LOGINS.values():
        until(lambda log_in=log_in: not log_in(site, owner.address, GOOD), "the new password")  # type: ignore[misc]
    until(lambda: LOGINS["imap"](site, owner.address, former.password), "the former one's end")
    return Filled(
        tuple(owner if one == former else one for one in people), tuple(recipients), former,
        password,
    )  # fmt: skip


def _named(people: Iterable[Account], name: str) -> Account:
    return next(one for one in people if one.address.partition("@")[0] == name)


def _put(client: IMAPClient, folder: str, letters: Iterator[dict[str, object]]) -> None:
    waiting = list(letters)
    for start in range(0, len(waiting), _BATCH):
        kind, said = client.multiappend(folder, waiting[start : start + _BATCH])
        assert kind == "OK", said


def _letters(
    noise: Random, person: Account, count: int, marks: Sequence[bytes] = _MARKS
) -> Iterator[dict[str, object]]:
    """Letters as IMAP takes them; of the marks each has some."""
    for _ in range(count):
        date = _FIRST + timedelta(minutes=noise.randrange(900_000))
        flags = [mark for mark in marks if noise.random() < 0.4]
        yield {"msg": _letter(noise, person, date).as_bytes(policy=SMTP), "flags": flags,
               "date": date}  # fmt: skip


def _letter(noise: Random, person: Account, date: datetime) -> EmailMessage:
    """A letter: most are short, some long or in HTML, a few carry a document."""
    message = EmailMessage()
    sender = f"{noise.choice(('dan', 'vanthu', 'ketoan'))}@vidu{noise.randrange(30)}.example"
    message["From"] = Address(_prose(noise, 2).title(), addr_spec=sender)
    message["To"] = Address(person.name, addr_spec=person.address)
    message["Subject"] = _prose(noise, 6).capitalize()
    message["Date"] = format_datetime(date)
    message["Message-ID"] = f"<{noise.getrandbits(96):x}@{sender.partition('@')[2]}>"
    kind = noise.random()
    message.set_content(_prose(noise, noise.randrange(20, 200) if kind < 0.6 else 1500))
    if 0.85 < kind < 0.95:
        message.add_alternative(f"<html><body><p>{_prose(noise, 900)}</p></body></html>", "html")
    elif kind >= 0.95:
        message.add_attachment(
            noise.randbytes(noise.randrange(20_000, 150_000)), maintype="application",
            subtype="pdf", filename="Công văn.pdf",
        )  # fmt: skip
    return message


def _prose(noise: Random, words: int) -> str:
    lines = [" ".join(noise.choices(_WORDS, k=min(12, words))) for _ in range(0, words, 12)]
    return "\n".join(lines) if len(lines) > 1 else lines[0]
