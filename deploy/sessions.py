"""Log-ins and open sessions of one account: what the journals say of them, and how they end."""

import json
import re
import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from deploy.hosts import everywhere, journal, records, shell
from roles.common.errors import SiteError
from roles.common.site import Site, SiteHost

# -- log-ins ---------------------------------------------------------------------------------------

_PROTOCOL = r"(?P<protocol>imap|pop3|managesieve)-login: "
_LOGIN = re.compile(
    # Passed on to another store, or opened here where this host is the account's store itself.
    rf"^{_PROTOCOL}(?:proxy\(.*\): Started proxying to remote host|Logged in:)"
    r".*\brip=(?P<address>[^,]+)"
)
_FAILED = re.compile(rf"^{_PROTOCOL}.*\(auth failed.*\brip=(?P<address>[^,]+)")
_SUBMISSION_FAILED = re.compile(r"\[(?P<address>[^\]]+)\](?::\d+)?: SASL \S+ authentication failed")
_SUBMISSION = re.compile(r"client=\S*\[(?P<address>[^\]]+)\].*sasl_username=")
_WEBMAIL = re.compile(r"(?P<how>Successful|Failed) login for \S+ .*?\bfrom (?P<address>\S+)")
_INSIDE = "lip=127.0.0.1"
"""On a line of Dovecot: the webmail of this host, which logs in for its user at every page."""
_LOGIN_LINES = 20000


def log_in(message: str) -> tuple[str, str, bool] | None:
    """What a line of a front's journal says of a log-in: by what, from where, whether it worked."""
    if found := _WEBMAIL.search(message):
        return "webmail", found["address"], found["how"] == "Successful"
    for pattern, worked in ((_LOGIN, True), (_FAILED, False)):
        if found := pattern.search(message):
            return None if _INSIDE in message else (found["protocol"], found["address"], worked)
    for pattern, worked in ((_SUBMISSION_FAILED, False), (_SUBMISSION, True)):
        if found := pattern.search(message):
            # The webmail sends by this port, too.
            inside = found["address"] == "127.0.0.1"
            return None if inside else ("submission", found["address"], worked)
    return None


@dataclass(frozen=True)
class LogIn:
    """The last log-in of one kind."""

    moment: str
    """GeneralizedTime."""
    protocol: str
    address: str
    worked: bool


def log_ins(site: Site, mail: str, since: datetime) -> tuple[list[LogIn], list[str]]:
    """An account's last log-in by protocol, and its last that failed; and hosts' faults."""
    name = re.escape(mail)
    # The webmail's own, thousands a day, would leave no room for others among so many lines.
    pattern = (
        rf"user=<{name}>, method=[^,]*, rip=[^,]*, (?!{re.escape(_INSIDE)}\b)|"
        rf"sasl_username={name}\b|(?:Successful|Failed) login for {name} "
    )
    said, faults = everywhere(
        site,
        site.group("front"),
        journal(
            pattern, "SYSLOG_IDENTIFIER=webmail", "_SYSTEMD_UNIT=dovecot.service",
            "_SYSTEMD_UNIT=postfix.service", since=since, lines=_LOGIN_LINES,
        ),
    )  # fmt: skip
    latest: dict[tuple[str, bool], LogIn] = {}
    for text in said.values():
        for moment, message in sorted(records(text.splitlines())):
            if found := log_in(message):
                protocol, address, worked = found
                known = latest.get((protocol, worked))
                if known is None or known.moment < moment:
                    latest[protocol, worked] = LogIn(moment, protocol, address, worked)
    return sorted(latest.values(), key=lambda one: one.moment, reverse=True), faults


# -- sessions --------------------------------------------------------------------------------------

NO_SESSION = 68
"""What `doveadm kick` returns where an account has no session (EX_NOHOST)."""
_IDLE = 5000
"""Milliseconds without a word after which a connection is no letter that is just being sent."""
_OPEN = re.compile(r":(?:465|587) +\[?(?:::ffff:)?(?P<address>[0-9A-Fa-f.:]+?)\]?:(?P<port>\d+) ")
_LAST_WORD = re.compile(r"\blastrcv:(?P<age>\d+)")
_SENT_FROM = re.compile(
    r"client=\S*\[(?P<address>[^\]]+)\]:(?P<port>\d+),.* sasl_username=(?P<name>[^\s,]+)"
)

_BEGAN = re.compile(r"^connect from \S*\[(?P<address>[^\]]+)\]:(?P<port>\d+)")


@dataclass(frozen=True)
class Connection:
    """An open connection of submission."""

    address: str
    port: str
    """The client's."""
    idle: int
    """Milliseconds since the client spoke last."""


def connections(lines: Iterable[str]) -> list[Connection]:
    """Connections as `ss -HOtni` prints those of Postfix' submission."""
    found = []
    for line in lines:
        if peer := _OPEN.search(line):
            word = _LAST_WORD.search(line)
            found.append(Connection(peer["address"], peer["port"], int(word["age"]) if word else 0))
    return found


def to_end(
    open_: Iterable[Connection], messages: Iterable[str], names: Collection[str]
) -> list[Connection]:
    """Which connections are an account's, or may be.

    Postfix says who logged in with the first letter only. A connection without one may be
    anybody's: it is ended where it is idle, for nothing is lost with it, and its program connects
    again. The webmail connects for each letter anew.

    Args:
        open_: the connections of a host.
        messages: what Postfix says of who connected, and sent a letter, from where, oldest first.
        names: the account's log-in names.
    """
    users: dict[tuple[str, str], str] = {}
    for message in messages:
        if began := _BEGAN.search(message):
            # What was sent from this port before was another connection's.
            users.pop((began["address"], began["port"]), None)
        elif sent := _SENT_FROM.search(message):
            users[sent["address"], sent["port"]] = sent["name"].lower()
    result = []
    for one in open_:
        user = users.get((one.address, one.port))
        unused = user is None and one.idle >= _IDLE and one.address != "127.0.0.1"
        if user in names or unused:
            result.append(one)
    return result


def _dovecot(site: Site, host: SiteHost, mail: str) -> str:
    user = shlex.quote(mail)
    said = shell(
        site,
        host,
        f"doveadm -f json who {user}; doveadm auth cache flush {user} >/dev/null && "
        f"{{ doveadm kick {user} >/dev/null || test $? = {NO_SESSION}; }}",
    )
    open_: dict[str, int] = {}
    for row in json.loads(said or "[]"):
        # On a front it is the log-in process that passes a session on.
        service = row["service"].removesuffix("-login")
        open_[service] = open_.get(service, 0) + int(row["connections"])
    if not open_:
        return "quên mật khẩu đã nhớ; không có phiên IMAP, POP3, Sieve nào"
    shown = ", ".join(f"{count} {service}" for service, count in sorted(open_.items()))
    return f"quên mật khẩu đã nhớ; ngắt phiên: {shown}"


_SUBMISSION_PORTS = "( sport = :465 or sport = :587 )"


def _submission(site: Site, host: SiteHost, names: Collection[str], now: datetime) -> str:
    said = shell(site, host, f'ss -HOtni state established "{_SUBMISSION_PORTS}"')
    open_ = connections(said.splitlines())
    ports = "|".join(sorted({one.port for one in open_}))
    lines = open_ and shell(
        site,
        host,
        journal(
            rf"(client=.*\]:({ports}),.* sasl_username=|^connect from .*\]:({ports})$)",
            "_SYSTEMD_UNIT=postfix.service",
            since=now - timedelta(days=1), lines=_LOGIN_LINES,
        ),
    ).splitlines()  # fmt: skip
    ended = to_end(open_, [text for _, text in sorted(records(lines or []))], names)
    if not ended:
        return "không có kết nối gửi thư (SMTP) nào"
    # The kernel ends the connection, and Postfix' process goes on to the next client. Were the
    # process ended, Postfix might take the whole service for broken and pause it for a minute.
    peers = " or ".join(f"dst {one.address}:{one.port}" for one in ended)
    which = f'state established "( {peers} ) and {_SUBMISSION_PORTS}"'
    left = shell(site, host, f"ss -K -Htn {which} >/dev/null; ss -Htn {which}")
    if left.strip():
        raise SiteError(f"{host.name}: còn kết nối gửi thư chưa ngắt được: {left.strip()}")
    return f"ngắt kết nối gửi thư (SMTP): {len(ended)}"


def _webmail(site: Site, host: SiteHost, addresses: Collection[str]) -> str:
    # A session is what PHP serializes, in base64. The user's name is in it in one form only.
    forms = [f'username|s:{len(one.encode())}:"{one}";' for one in sorted(addresses)]
    conditions = " OR ".join(
        f"position(decode('{form.encode().hex()}', 'hex') IN decode(vars, 'base64')) > 0"
        for form in forms
    )
    statement = (  # no text but hexadecimal digits
        f"WITH gone AS (DELETE FROM session WHERE {conditions} RETURNING 1) "  # noqa: S608
        "SELECT count(*) FROM gone;\n"
    )
    command = "runuser -u postgres -- psql -X -q -A -t -v ON_ERROR_STOP=1 -d roundcube"
    count = int(shell(site, host, command, statement).strip())
    return f"xóa {count} phiên webmail" if count else "không có phiên webmail nào"


def _in_order(site: Site) -> list[SiteHost]:
    fronts = site.group("front")
    return [*fronts, *(host for host in site.group("store") if host not in fronts)]


def end(
    site: Site, mail: str, addresses: Collection[str], now: datetime
) -> tuple[list[dict[str, str]], list[str]]:
    """End everything that an account has open; says in words what was ended on which host.

    Args:
        site: the site.
        mail: the log-in name.
        addresses: all addresses of the account: a session may be older than a new name.
        now: the time, with its zone.
    """
    names = {mail.lower(), *(address.lower() for address in addresses)}
    steps = [
        # First what the web sees: a page would open a session of IMAP again.
        *((host, partial(_webmail, site, host, names)) for host in site.group("database")[:1]),
        *((host, partial(_submission, site, host, names, now)) for host in site.group("front")),
        # Fronts pass on what stores have open.
        *((host, partial(_dovecot, site, host, mail)) for host in _in_order(site)),
    ]
    done: dict[str, list[str]] = {}
    faults = set()
    for host, step in steps:
        try:
            if words := step():
                done.setdefault(host.name, []).append(words)
        except SiteError as error:
            faults.add(str(error))
    return [{"máy": name, "việc": "; ".join(words)} for name, words in done.items()], sorted(faults)
