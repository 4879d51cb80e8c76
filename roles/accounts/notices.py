"""What ends soon is announced by letter: a password, a service, a delegation, the mail of who left.

`site-notices.service` runs each morning on the directory hosts. One letter a person and day has all
that is to be said; each end is announced once for each number of days before it. What was
announced is on record in the person's entry (`mailboxNotice`), which all directory hosts share: the
further ones look an hour later and find nothing left to do. The record is written first: who was
cut off in between misses one letter, and nobody gets one twice.
"""

import argparse
import logging
import os
import smtplib
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from string import Template
from typing import Protocol
from urllib.parse import quote
from zoneinfo import ZoneInfo

from roles.accounts import lifecycle
from roles.accounts.lifecycle import Step, UnreachableError, counts, one, over, written
from roles.directory.ldif import Attributes, Change, Entries, normalized, parse

KINDS = ("password", "account", "application", "delegation", "delegation-head", "archive")
"""What may be announced; each has a text of its name."""
RECORD = "mailboxNotice"
_TOLD = ("active", "expiring")
"""States of a mailbox whose owner reads letters."""
_RIGHTS = {"read": "đọc", "file": "đọc, sắp xếp và xóa", "send": "gửi thư nhân danh đơn vị"}
_WIDTH = 76
_DONE, _NEVER = 250, 500
"""What a mail server answers (RFC 5321): it is done; this code and those above: never."""
_WANTED = (
    "cn", "displayName", "mail", "mailboxState", "mailboxExpires", "mailboxRetainUntil",
    "mailboxSuccessor", "owner", "delegate", "delegationRight", "validFrom", "validUntil",
    "description", "pwdChangedTime", "pwdPolicySubentry", "pwdReset", "pwdEndTime", "pwdMaxAge",
    RECORD,
)  # fmt: skip

log = logging.getLogger("site-notices")


@dataclass(frozen=True)
class Coming:
    """Something that ends, and somebody who is to know."""

    recipient: str
    """Normalised DN of a person."""
    kind: str
    what: str
    """Which one of its kind; empty where there is only one."""
    end: datetime
    fields: Mapping[str, str] = field(default_factory=dict)
    """What its text may name."""

    @property
    def name(self) -> str:
        """How the record calls it; another date is another announcement."""
        return f"{self.kind} {quote(self.what, safe='/')} {written(self.end)}"


def moment(text: str) -> datetime:
    """A moment of the directory."""
    return datetime.strptime(f"{text[:14]}+0000", "%Y%m%d%H%M%S%z")


def threshold(end: datetime, now: datetime, days: Iterable[int]) -> int | None:
    """Which announcement is due: that of the fewest days before the end that were reached.

    Args:
        end: when it ends.
        now: the moment that counts.
        days: how many days before an end it is announced.

    Returns:
        None before the first, and after the end.
    """
    left = end - now
    if left <= timedelta():
        return None
    return min((number for number in days if left <= timedelta(days=number)), default=None)


# -- what ends ------------------------------------------------------------------------------------


def coming(present: Entries, base: str, now: datetime) -> Iterator[Coming]:
    """All that has an end, and who is to know.

    Args:
        present: people with the passwords for applications below them, unit mailboxes with the
            delegations below them, and password policies; by normalised DN.
        base: the suffix.
        now: the moment that counts.
    """
    people = {dn: entry for dn, entry in present.items() if _below(dn, "people", base)}
    told = {dn for dn, person in people.items() if _reads(person, now)}
    for found in _ends(present, people, base, now):
        if found.recipient in told and found.end > now:
            yield found


def _below(dn: str, container: str, base: str) -> bool:
    return dn.partition(",")[2] == f"ou={container},{base}".lower()


def _reads(person: Attributes, now: datetime) -> bool:
    """Whether somebody is in service and may log in."""
    return one(person, "mailboxState") in _TOLD and not over(
        one(person, "mailboxExpires"), written(now)
    )


def _ends(present: Entries, people: Entries, base: str, now: datetime) -> Iterator[Coming]:
    for dn, entry in present.items():
        above = dn.partition(",")[2]
        if dn in people:
            yield from _of_person(dn, entry, present, base)
        elif above in people and (end := one(entry, "pwdEndTime")):
            name = one(entry, "description") or one(entry, "cn")
            yield Coming(above, "application", one(entry, "cn"), moment(end), {"device": name})
        elif "delegate" in entry and above in present:
            yield from _of_delegation(entry, present[above], people, now)


def _of_person(dn: str, person: Attributes, present: Entries, base: str) -> Iterator[Coming]:
    named = {"address": one(person, "mail")}
    if age := _password_age(person, present, base):
        end = moment(one(person, "pwdChangedTime")) + age
        yield Coming(dn, "password", "", end, named)
    if expires := one(person, "mailboxExpires"):
        yield Coming(dn, "account", "", moment(expires), named)
    kept = one(person, "mailboxRetainUntil")
    if kept and one(person, "mailboxState") == "departed":
        former = {"person": _called(person), **named}
        for successor in person.get("mailboxSuccessor", ()):
            yield Coming(normalized(successor), "archive", named["address"], moment(kept), former)


def _password_age(person: Attributes, present: Entries, base: str) -> timedelta | None:
    """How old a password may become; None where it does not end, or must be changed at once."""
    named = one(person, "pwdPolicySubentry") or f"cn=default,ou=policies,{base}"
    seconds = int(one(present.get(normalized(named), {}), "pwdMaxAge") or 0)
    counted = one(person, "pwdChangedTime") and one(person, "pwdReset") != "TRUE"
    return timedelta(seconds=seconds) if seconds and counted else None


def _of_delegation(
    given: Attributes, mailbox: Attributes, people: Entries, now: datetime
) -> Iterator[Coming]:
    end, delegate = one(given, "validUntil"), normalized(one(given, "delegate"))
    serves = one(mailbox, "mailboxState") in _TOLD
    if not (end and serves and delegate in people and counts(given, written(now))):
        return
    what = f"{one(mailbox, 'cn')}/{one(given, 'cn')}"
    fields = {
        "unit": _called(mailbox),
        "address": one(mailbox, "mail"),
        "person": _called(people[delegate]),
        "rights": "; ".join(_RIGHTS[name] for name in _RIGHTS if name in given["delegationRight"]),
    }
    yield Coming(delegate, "delegation", what, moment(end), fields)
    head = normalized(one(mailbox, "owner"))
    if head != delegate:
        yield Coming(head, "delegation-head", what, moment(end), fields)


def _called(entry: Attributes) -> str:
    return one(entry, "displayName") or one(entry, "cn")


# -- what is announced ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Notice:
    """What one person is told today."""

    recipient: str
    told: tuple[Coming, ...]
    """What is new, in the order in which it ends."""
    record: tuple[str, ...]
    """What is then on record."""


def notices(
    everything: Iterable[Coming], present: Entries, days: Sequence[int], now: datetime
) -> list[Notice]:
    """Who is to be told what now.

    Args:
        everything: what ends.
        present: the people's entries with what is on record.
        days: how many days before an end it is announced.
        now: the moment that counts.
    """
    by_person: dict[str, list[tuple[Coming, int]]] = {}
    for found in everything:
        if (due := threshold(found.end, now, days)) is not None:
            by_person.setdefault(found.recipient, []).append((found, due))
    result = []
    for dn, ends in sorted(by_person.items()):
        had = _on_record(present[dn])
        new = [found for found, due in ends if had.get(found.name, due + 1) > due]
        if new:
            new.sort(key=lambda found: (found.end, found.name))
            # What is over is forgotten.
            record = {f"{found.name} {min(due, had.get(found.name, due))}" for found, due in ends}
            result.append(Notice(dn, tuple(new), tuple(sorted(record))))
    return result


def _on_record(person: Attributes) -> dict[str, int]:
    """The fewest days before an end that it was announced, by its name."""
    result: dict[str, int] = {}
    for value in person.get(RECORD, ()):
        name, _, number = value.rpartition(" ")
        result[name] = min(int(number), result.get(name, int(number)))
    return result


# -- letters --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Letters:
    """How announcements read."""

    texts: Path
    """Folder of texts: `letter.txt`, and one for each kind. The first line is a heading."""
    sender: str
    zone: ZoneInfo
    common: Mapping[str, str]
    """What every text may name: `organisation`, `site`, `contact`."""

    def letter(self, notice: Notice, person: Attributes, now: datetime) -> EmailMessage:
        """The letter of one person.

        Args:
            notice: what it says.
            person: the recipient's entry.
            now: when it is written.
        """
        parts = [self._part(found) for found in notice.told]
        items = "\n\n".join(
            f"{number}. {heading}\n\n{text}" if len(parts) > 1 else f"{heading}.\n\n{text}"
            for number, (heading, text) in enumerate(parts, start=1)
        )
        number = notice.recipient.partition(",")[0].partition("=")[2]
        fields = {"name": _called(person), "items": items, "number": str(len(parts))}
        subject, body = self._text("letter", fields)
        message = EmailMessage()
        message["From"] = Address("Hệ thống thư điện tử", addr_spec=self.sender)
        message["To"] = Address(_called(person), addr_spec=one(person, "mail"))
        message["Subject"] = subject if len(parts) > 1 else parts[0][0]
        message["Date"] = format_datetime(now.astimezone(self.zone))
        day = f"{now.astimezone(self.zone):%Y%m%d}"
        message["Message-ID"] = f"<notice-{quote(number)}-{day}@{self.common['site']}>"
        message["Auto-Submitted"] = "auto-generated"
        message["Precedence"] = "bulk"
        message.set_content(_wrapped(body) + "\n", cte="quoted-printable")
        return message

    def _part(self, found: Coming) -> tuple[str, str]:
        return self._text(found.kind, {**found.fields, "when": self.when(found.end)})

    def _text(self, name: str, fields: Mapping[str, str]) -> tuple[str, str]:
        """Heading and text; a field that is not there is an error."""
        text = (self.texts / f"{name}.txt").read_text(encoding="utf-8")
        heading, _, rest = text.partition("\n")
        given = {**self.common, **fields}
        # One line: what a person wrote, such as the name of a device, begins no other.
        line = " ".join(Template(heading).substitute(given).split())
        return line, Template(rest.strip()).substitute(given)

    def when(self, end: datetime) -> str:
        """An end as people say it: what ends at midnight counts for the whole day before."""
        local = end.astimezone(self.zone)
        if (local.hour, local.minute) == (0, 0):
            return f"hết ngày {local - timedelta(days=1):%d/%m/%Y}"
        return f"{local:%H:%M} ngày {local:%d/%m/%Y}"


def _wrapped(text: str) -> str:
    return "\n".join(
        textwrap.fill(line, _WIDTH, break_long_words=False, break_on_hyphens=False)
        for line in text.split("\n")
    )


# -- the post -------------------------------------------------------------------------------------


class NotSentError(Exception):
    """A letter that nobody has: it is sent another time."""


class RefusedError(Exception):
    """A letter that is never taken, such as where the mailbox is full."""


class UncertainError(Exception):
    """The connection broke when the letter had been handed over: perhaps it arrived."""


class Post(Protocol):
    """What takes letters."""

    def send(self, message: EmailMessage) -> None:
        """Hand a letter over.

        Raises:
            NotSentError: nobody has it.
            RefusedError: it is not taken, and would not be another time.
            UncertainError: perhaps somebody has.
        """


class Relay:
    """An mx, which takes letters of the site's own hosts: the first that answers.

    Args:
        names: the mx hosts.
        sender: envelope sender.
        context: with this host's certificate, by which mx knows it.
        port: where mx listens.
    """

    def __init__(
        self, names: Sequence[str], sender: str, context: ssl.SSLContext, port: int = 10025
    ) -> None:
        self._names = names
        self._sender = sender
        self._context = context
        self._port = port
        self._client: smtplib.SMTP | None = None

    def _connected(self) -> smtplib.SMTP:
        if self._client is None:
            said = []
            for name in self._names:
                try:
                    client = smtplib.SMTP(name, self._port, timeout=60)
                    client.starttls(context=self._context)
                except (OSError, smtplib.SMTPException) as error:
                    said.append(f"{name}: {error}")
                else:
                    self._client = client
                    return client
            raise NotSentError("; ".join(said))
        return self._client

    def send(self, message: EmailMessage) -> None:
        """Hand a letter over."""
        client = self._connected()
        try:
            client.ehlo_or_helo_if_needed()
            code, words = client.mail(self._sender)
            if code == _DONE:
                code, words = client.rcpt(message["To"].addresses[0].addr_spec)
            if code != _DONE:
                client.rset()
                raise _refusal(code, words)
        except (OSError, smtplib.SMTPException) as error:
            self._client = None
            raise NotSentError(str(error)) from error
        try:
            code, words = client.data(message.as_bytes(policy=SMTP))
        except smtplib.SMTPDataError as error:
            self._client = None
            raise _refusal(error.smtp_code, error.smtp_error) from error
        except (OSError, smtplib.SMTPException) as error:
            self._client = None
            raise UncertainError(str(error)) from error
        if code != _DONE:
            raise _refusal(code, words)


def _refusal(code: int, words: bytes | str) -> Exception:
    said = words if isinstance(words, str) else words.decode(errors="replace")
    kind = RefusedError if code >= _NEVER else NotSentError
    return kind(f"{code} {said}")


class Directory(lifecycle.Directory):
    """The directory on this host; entries are read with what an announcement needs."""

    def find(self, container: str, condition: str) -> Entries:
        """Entries below a container."""
        said = self._run(
            "ldapsearch", "-LLL", "-o", "ldif_wrap=no", "-b", f"ou={container},{self.base}",
            condition, *_WANTED,
        )  # fmt: skip
        # With what the server itself writes, such as when a password was changed.
        return {normalized(dn): entry for dn, entry in parse(said.splitlines())}


def announce(
    directory: Directory, letters: Letters, post: Post, days: Sequence[int], now: datetime
) -> tuple[int, int]:
    """Announce what is due.

    Args:
        directory: where dates and records are.
        letters: how announcements read.
        post: what takes them.
        days: how many days before an end it is announced.
        now: the moment that counts.

    Returns:
        How many letters were sent, and how many failed.

    Raises:
        UnreachableError: the directory does not answer.
    """
    present: Entries = {}
    for container, condition in (
        ("policies", "(objectClass=pwdPolicy)"),
        ("people", "(|(objectClass=mailboxAccount)(objectClass=appPassword))"),
        ("mailboxes", "(objectClass=*)"),
    ):
        present |= directory.find(container, condition)
    sent = failed = 0
    for notice in notices(coming(present, directory.base, now), present, days, now):
        person = present[notice.recipient]
        address, words = one(person, "mail"), ", ".join(found.name for found in notice.told)
        message = letters.letter(notice, person, now)
        _write(directory, notice.recipient, notice.record)
        try:
            post.send(message)
        except NotSentError as error:
            _write(directory, notice.recipient, person.get(RECORD, ()))
            log.warning("<4><%s>: not announced, another time: %s: %s", address, words, error)
            failed += 1
        except RefusedError as error:
            log.warning("<4><%s>: cannot be told: %s: %s", address, words, error)
        except UncertainError as error:
            log.warning("<4><%s>: perhaps announced: %s: %s", address, words, error)
            failed += 1
        else:
            log.info("<6><%s>: announced: %s", address, words)
            sent += 1
    return sent, failed


def _write(directory: Directory, dn: str, record: Sequence[str]) -> None:
    directory.change(Step(Change("modify", dn, {RECORD: list(record)}), ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """One round."""
    parser = argparse.ArgumentParser(prog="site-notices", description=__doc__)
    parser.add_argument("--base", required=True, help="the directory's suffix")
    parser.add_argument("--name", required=True, help="who binds")
    parser.add_argument("--password", required=True, type=Path, help="file with the password")
    parser.add_argument("--days", type=int, nargs="*", default=[], help="before an end")
    parser.add_argument("--texts", required=True, type=Path, help="folder of texts")
    parser.add_argument("--timezone", required=True, help="where days begin and end")
    parser.add_argument("--sender", required=True, help="address that letters come from")
    parser.add_argument("--organisation", required=True, help="whose mail system it is")
    parser.add_argument("--site", required=True, help="the mail system's name")
    parser.add_argument("--contact", required=True, help="whom one turns to")
    parser.add_argument("--relay", required=True, nargs="+", help="hosts that take letters")
    parser.add_argument("--authority", required=True, help="the site's certificates")
    parser.add_argument("--certificate", required=True, help="this host's")
    parser.add_argument("--key", required=True, help="its key")
    given = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, format="%(message)s", level=logging.INFO)
    os.umask(0o077)
    common = {"organisation": given.organisation, "site": given.site, "contact": given.contact}
    letters = Letters(given.texts, given.sender, ZoneInfo(given.timezone), common)
    context = ssl.create_default_context(cafile=given.authority)
    context.load_cert_chain(given.certificate, given.key)
    relay = Relay(given.relay, given.sender, context)
    directory = Directory(given.base, given.name, given.password)
    try:
        _, failed = announce(directory, letters, relay, given.days, datetime.now(UTC))
    except (UnreachableError, subprocess.TimeoutExpired) as error:
        log.warning("<4>the directory does not answer: %s", error)
        return 1
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
