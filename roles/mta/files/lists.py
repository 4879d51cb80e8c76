#!/usr/bin/python3
"""Distribution lists: who may write to one, and who gets what is written.

    lists policy OPTIONS                      what Postfix asks at RCPT (policy protocol, by spawn)
    lists deliver OPTIONS SENDER RECIPIENT    delivers the letter on standard input (by pipe)

A list is an entry `mailList` of the directory (roles/directory/files/schema.ldif). The letter is
handed back to Postfix on this host, for everybody in the list in one transaction or for nobody; no
author waits for 20,000 mailboxes. What cannot be delivered comes back to who looks after the list,
and not to the author.
"""

import argparse
import smtplib
import sys
import syslog
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.header import Header
from typing import Any, TextIO
from urllib.parse import unquote

import ldap  # type: ignore[import-not-found] # Debian's, on the hosts only
from ldap.filter import escape_filter_chars  # type: ignore[import-not-found]

RECEIVES = "(|(mailboxState=active)(mailboxState=expiring)(mailboxState=locked))"
"""Whoever gets mail (roles/directory/files/schema.ldif)."""
IN_FORCE = "(!(inForce=FALSE))"
"""A list whose first day has come and whose last is not over, or one without days."""
EVERY_UNIT = "*"
"""The unit of a list of the whole province."""
DEPTH = 10
"""Lists within lists."""
_BASE, _ONE, _SUBTREE = 0, 1, 2
_SCOPES = {"base": _BASE, "one": _ONE, "sub": _SUBTREE, "": _BASE}
_NO_USER, _UNAVAILABLE, _TRY_AGAIN = 67, 69, 75
"""Exit codes that pipe(8) understands (sysexits.h)."""
REFUSED = (
    "550 5.7.1 Thu bi tu choi: ong/ba khong duoc gui den danh sach <{address}>"
    " / Refused: you may not write to the list <{address}>"
)
AGAIN = "451 4.3.0 Tam thoi khong tra cuu duoc, xin gui lai sau / Temporary lookup failure"

Values = Mapping[str, list[bytes]]


@dataclass(frozen=True)
class MailList:
    """A list as the directory has it."""

    dn: str
    address: str
    name: str
    scope: str
    """`unit`: the people of a unit; `subtree`: and those of the units below; `mailboxes`: the
    mailboxes of all these units; `members`."""
    unit: str
    """The unit's code; `*` for the whole province."""
    members: tuple[str, ...]
    """DNs: people, unit mailboxes, lists."""
    urls: tuple[str, ...]
    """LDAP URLs of further members."""
    posters: frozenset[str]
    """Who may write: `anyone`, `site`, `members`, addresses."""
    owner: str
    """DN of who looks after it; empty: the unit."""


def text(values: Values, name: str) -> str:
    """The first value of an attribute, or nothing."""
    return values[name][0].decode() if values.get(name) else ""


def texts(values: Values, name: str) -> list[str]:
    """All values of an attribute."""
    return [value.decode() for value in values.get(name, [])]


class NotDelivered(Exception):  # noqa: N818 - what pipe(8) calls it
    """Nobody got the letter: an exit code, and words for whom it concerns."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code


class Directory:
    """What the lists need of the directory.

    Args:
        connection: an LDAP connection of python-ldap, bound.
        base: the suffix.
        posters: who may write to a list that does not say it.
    """

    def __init__(self, connection: Any, base: str, posters: str) -> None:
        self._connection = connection
        self._base = base
        self._posters = posters

    def _search(self, base: str, scope: int, what: str) -> Iterator[tuple[str, Values]]:
        try:
            found = self._connection.search_s(base, scope, what)
        except ldap.NO_SUCH_OBJECT:
            return
        # A reference to another server has no DN.
        yield from ((dn, values) for dn, values in found if dn)

    def list_at(self, address: str, condition: str = "") -> MailList | None:
        """The list with an address that meets a condition; None where there is none."""
        given = escape_filter_chars(address)
        what = f"(&(objectClass=mailList)(mailLocalAddress={given}){condition})"
        for dn, values in self._search(f"ou=lists,{self._base}", _SUBTREE, what):
            return self._list(dn, values)
        return None

    def _list(self, dn: str, values: Values) -> MailList:
        address = text(values, "mail").lower()
        return MailList(
            dn=dn,
            address=address,
            name=text(values, "displayName") or address,
            scope=text(values, "listScope").lower(),
            unit=text(values, "departmentNumber").lower(),
            members=tuple(texts(values, "member")),
            urls=tuple(texts(values, "memberURL")),
            posters=frozenset(value.lower() for value in texts(values, "listPoster"))
            or frozenset((self._posters,)),
            owner=text(values, "owner"),
        )

    def account(self, address: str) -> tuple[str, Values] | None:
        """The mailbox that an address belongs to: its DN and attributes."""
        what = f"(&(objectClass=mailboxAccount)(mailLocalAddress={escape_filter_chars(address)}))"
        return next(self._search(self._base, _SUBTREE, what), None)

    def address_of(self, dn: str) -> str:
        """Address of a mailbox that gets mail; empty where there is none."""
        for _, values in self._search(dn, _BASE, f"(&(objectClass=mailboxAccount){RECEIVES})"):
            return text(values, "mail").lower()
        return ""

    def units(self, code: str) -> set[str]:
        """A unit and all below it, by their codes."""
        below: dict[str, list[str]] = {}
        for dn, values in self._search(f"ou=units,{self._base}", _ONE, "(objectClass=unitProfile)"):
            below.setdefault(text(values, "unitParent").lower(), []).append(dn.lower())
        found, waiting = set(), [f"ou={code},ou=units,{self._base}".lower()]
        while waiting:
            dn = waiting.pop()
            if dn not in found:
                found.add(dn)
                waiting += below.get(dn, [])
        return {dn.partition(",")[0].partition("=")[2] for dn in found}

    def _of_scope(self, mail_list: MailList) -> Iterator[tuple[str, Values]]:
        """The mailboxes of a list's unit, by its scope; of every one for the whole province."""
        codes = {mail_list.unit}
        if mail_list.unit == EVERY_UNIT:
            given = ""
        else:
            codes = self.units(mail_list.unit) if mail_list.scope != "unit" else codes
            of_units = (f"(departmentNumber={escape_filter_chars(code)})" for code in sorted(codes))
            given = f"(|{''.join(of_units)})"
        folder = "mailboxes" if mail_list.scope == "mailboxes" else "people"
        what = f"(&(objectClass=mailboxAccount){RECEIVES}{given})"
        yield from self._search(f"ou={folder},{self._base}", _ONE, what)

    def addresses(self, mail_list: MailList, depth: int = DEPTH) -> set[str]:
        """Primary addresses of all who get what is written to a list."""
        found: set[str] = set()
        if mail_list.scope in {"unit", "subtree", "mailboxes"} and mail_list.unit:
            found |= {text(values, "mail").lower() for _, values in self._of_scope(mail_list)}
        for base, scope, given in map(url_parts, mail_list.urls):
            what = f"(&(objectClass=mailboxAccount){RECEIVES}{given})"
            for _, values in self._search(base, scope, what):
                found.add(text(values, "mail").lower())
        for member in mail_list.members:
            found.add(self.address_of(member))
            if depth:
                what = f"(&(objectClass=mailList){IN_FORCE})"
                for dn, values in self._search(member, _BASE, what):
                    found |= self.addresses(self._list(dn, values), depth - 1)
        return found - {""}

    def owner(self, mail_list: MailList, domain: str) -> str:
        """Address of who looks after a list."""
        of_unit = mail_list.unit not in {"", EVERY_UNIT}
        unit = f"cn={mail_list.unit},ou=mailboxes,{self._base}" if of_unit else ""
        for dn in (mail_list.owner, unit):
            if dn and (address := self.address_of(dn)):
                return address
        return f"postmaster@{domain}"


def url_parts(url: str) -> tuple[str, int, str]:
    """Base, scope and filter of an LDAP URL without a server (RFC 4516)."""
    parts = unquote(url).removeprefix("ldap:///").split("?", 3)
    base, _, scope, what = [*parts, "", "", ""][:4]
    return base, _SCOPES.get(scope, _SUBTREE), what or "(objectClass=*)"


def may_write(directory: Directory, mail_list: MailList, sender: str, *, outside: bool) -> bool:
    """Whether a sender may write to a list.

    Args:
        directory: the directory.
        mail_list: the list.
        sender: the envelope's, whom submission has checked; empty for a notice.
        outside: whether it came by port 25, where nobody has shown who he is.
    """
    # A notice or an automatic answer is no letter to hundreds of people.
    if not sender:
        return False
    if "anyone" in mail_list.posters:
        return True
    account = directory.account(sender)
    if account is None:
        return sender in mail_list.posters
    # Nobody of ours comes from there, whatever a letter says.
    if outside:
        return False
    own = {value.lower() for value in texts(account[1], "mailLocalAddress")}
    if "site" in mail_list.posters or own & mail_list.posters:
        return True
    return "members" in mail_list.posters and bool(own & directory.addresses(mail_list))


def plain(address: str) -> str:
    """An address without a word of its owner's choice, in lower case."""
    local_part, at, domain = address.lower().rpartition("@")
    return local_part.partition("+")[0] + at + domain


def answer(directory: Directory, request: Mapping[str, str]) -> str:
    """What Postfix does with a recipient (access(5))."""
    mail_list = directory.list_at(plain(request["recipient"]), IN_FORCE)
    if mail_list is None:
        return "DUNNO"
    sender = plain(request["sender"])
    if may_write(directory, mail_list, sender, outside=request.get("server_port") == "25"):
        return "DUNNO"
    syslog.syslog(f"refused: from=<{request['sender']}> list=<{mail_list.address}>")
    return REFUSED.format(address=mail_list.address)


def policy(options: argparse.Namespace, requests: TextIO, answers: TextIO) -> None:
    """Answer Postfix until it hangs up."""
    request: dict[str, str] = {}
    for line in requests:
        name, equals, value = line.rstrip("\n").partition("=")
        if equals:
            request[name] = value
            continue
        try:
            action = answer(connected(options), request)
        except ldap.LDAPError as error:
            syslog.syslog(syslog.LOG_WARNING, f"the directory did not answer: {error}")
            action = AGAIN
        answers.write(f"action={action}\n\n")
        answers.flush()
        request = {}


def on_top(mail_list: MailList, owner: str) -> bytes:
    """Header lines by which programs know a list's letter, and answer none (RFC 2919, 2369)."""
    name = Header(mail_list.name, "utf-8", header_name="List-Id").encode(linesep="\n")
    return (
        f"List-Id: {name} <{mail_list.address.replace('@', '.')}>\n"
        f"List-Post: <mailto:{mail_list.address}>\n"
        f"List-Owner: <mailto:{owner}>\n"
        "Precedence: list\n"
    ).encode()


def went_round(content: bytes, mail_list: MailList) -> bool:
    """Whether a letter has been through this list before."""
    head = content.partition(b"\n\n")[0].lower()
    identity = f"<{mail_list.address.replace('@', '.')}>".encode()
    # A folded header is one line.
    lines = head.replace(b"\n\t", b" ").replace(b"\n ", b" ").split(b"\n")
    return any(line.startswith(b"list-id:") and identity in line for line in lines)


def deliver(options: argparse.Namespace, content: bytes) -> None:
    """Hand a letter to everybody in a list.

    Raises:
        NotDelivered: to nobody; says whether to try again.
    """
    try:
        directory = connected(options)
        mail_list = directory.list_at(plain(options.recipient))
        if mail_list is None:
            raise NotDelivered(_NO_USER, "5.1.1 User unknown")
        recipients = sorted(directory.addresses(mail_list))
        owner = directory.owner(mail_list, options.domain)
    except ldap.LDAPError as error:
        raise NotDelivered(_TRY_AGAIN, f"4.3.0 the directory did not answer: {error}") from error
    if went_round(content, mail_list):
        raise NotDelivered(_UNAVAILABLE, f"5.4.6 <{mail_list.address}>: been through it before")
    if not recipients:
        raise NotDelivered(
            _NO_USER, f"5.1.1 Danh sach khong co ai / <{mail_list.address}> is empty"
        )
    try:
        with smtplib.SMTP("127.0.0.1", options.port, timeout=900) as client:
            client.ehlo("localhost")
            hand_over(client, owner, recipients, on_top(mail_list, owner) + content)
    except smtplib.SMTPResponseException as error:
        code = _TRY_AGAIN if error.smtp_code < 500 else _UNAVAILABLE  # noqa: PLR2004
        said = error.smtp_error
        words = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        raise NotDelivered(code, words) from error
    except (OSError, smtplib.SMTPException) as error:
        raise NotDelivered(_TRY_AGAIN, f"4.3.0 {error}") from error
    syslog.syslog(
        f"list=<{mail_list.address}> from=<{options.sender}> owner=<{owner}>"
        f" nrcpt={len(recipients)}"
    )


def hand_over(client: smtplib.SMTP, sender: str, recipients: list[str], content: bytes) -> None:
    """One letter for all, or for nobody.

    Raises:
        SMTPResponseException: one recipient, or the letter, was not taken.
    """
    commands = [f"MAIL FROM:<{sender}> BODY=8BITMIME"]
    commands += [f"RCPT TO:<{address}>" for address in recipients]
    for command in commands:
        code, words = client.docmd(command)
        if code >= 400:  # noqa: PLR2004
            raise smtplib.SMTPResponseException(code, words)
    code, words = client.data(content.replace(b"\n", b"\r\n"))
    if code >= 400:  # noqa: PLR2004
        raise smtplib.SMTPResponseException(code, words)


def connected(options: argparse.Namespace) -> Directory:
    """The directory by the first host that answers.

    Raises:
        LDAPError: none does.
    """
    with open(options.password, encoding="ascii") as file:  # noqa: PTH123
        password = file.read().strip()
    connection = ldap.initialize(" ".join(options.directory))
    connection.set_option(ldap.OPT_X_TLS_CACERTFILE, options.authority)
    connection.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
    connection.set_option(ldap.OPT_NETWORK_TIMEOUT, 5)
    connection.set_option(ldap.OPT_TIMEOUT, 30)
    connection.simple_bind_s(options.name, password)
    return Directory(connection, options.base, options.posters)


def main() -> None:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["policy", "deliver"])
    parser.add_argument("--directory", action="append", required=True)
    parser.add_argument("--authority", required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--posters", required=True)
    parser.add_argument("--domain", required=True)
    parser.add_argument("--port", type=int, default=10027)
    parser.add_argument("sender", nargs="?", default="")
    parser.add_argument("recipient", nargs="?", default="")
    options = parser.parse_args()
    syslog.openlog("site-lists", 0, syslog.LOG_MAIL)
    if options.mode == "policy":
        policy(options, sys.stdin, sys.stdout)
        return
    try:
        deliver(options, sys.stdin.buffer.read())
    except NotDelivered as fault:
        sys.stdout.write(f"{fault}\n")
        sys.exit(fault.code)


if __name__ == "__main__":
    main()
