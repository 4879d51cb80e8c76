"""Questions to the hosts of a site over SSH, as a deploy connects; and to its directory."""

import getpass
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from roles.common.errors import SiteError
from roles.common.site import Site, SiteHost
from roles.directory.ldif import Attributes, parse

_LDAP = "-Q -Y EXTERNAL -H ldapi:///"
_UNREACHABLE = 255
"""What ssh answers when it did not get to the host; any other number is the command's own."""
EMPTY = " || test $? = 1"
"""Behind a `journalctl -g`: that nothing was found is no failure."""


def ssh(site: Site, host: SiteHost, command: str) -> list[str]:
    """The command line that runs a command as root on a host."""
    own: list[str] = []
    if site.lab:
        keys = site.state / "ssh"
        own = ["-i", str(keys / "id_ed25519"), "-o", f"UserKnownHostsFile={keys / 'known_hosts'}"]
    return [
        "ssh", *own, "-o", "BatchMode=yes", "-o", "ConnectTimeout=10",
        # A host that loses power meanwhile is noticed.
        "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4",
        f"root@{host.address}", command,
    ]  # fmt: skip


def shell(site: Site, host: SiteHost, command: str, stdin: str = "") -> str:
    """Run a command as root on a host and return what it prints.

    Raises:
        SiteError: the host does not answer, or the command failed, with its words.
    """
    done = subprocess.run(
        ssh(site, host, command),
        capture_output=True,
        input=stdin,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == _UNREACHABLE:
        raise SiteError(f"{host.name}: không kết nối được: {done.stderr.strip()}")
    if done.returncode != 0:
        raise SiteError(f"{host.name}: lệnh không thành công: {done.stderr.strip()}")
    return done.stdout


def everywhere(
    site: Site, hosts: Sequence[SiteHost], command: str, stdin: str = ""
) -> tuple[dict[str, str], list[str]]:
    """Run a command on several hosts at a time: what each printed, and what went wrong."""

    def one(host: SiteHost) -> tuple[str, str | None, str]:
        try:
            return host.name, shell(site, host, command, stdin), ""
        except SiteError as error:
            return host.name, None, str(error)

    with ThreadPoolExecutor(max(len(hosts), 1)) as pool:
        answers = list(pool.map(one, hosts))
    said = {name: text for name, text, _ in answers if text is not None}
    return said, [fault for _, text, fault in answers if text is None]


def search(site: Site, base: str, filter_: str, *attributes: str) -> list[tuple[str, Attributes]]:
    """Entries of the directory, from the first of its hosts that answers."""
    command = (
        f"ldapsearch {_LDAP} -LLL -o ldif_wrap=no -b {shlex.quote(base)} {shlex.quote(filter_)} "
        + " ".join(shlex.quote(name) for name in attributes)
    )
    faults = []
    for host in site.group("directory"):
        try:
            return list(parse(shell(site, host, command).splitlines()))
        except SiteError as error:
            faults.append(str(error))
    raise SiteError("\n".join(faults))


def modify(site: Site, ldif: str, options: str = "") -> None:
    """Change the directory on the first of its hosts that answers; the change goes by stdin."""
    faults = []
    for host in site.group("directory"):
        try:
            shell(site, host, f"ldapmodify {_LDAP} {options} >/dev/null", ldif)
            return
        except SiteError as error:
            faults.append(str(error))
    raise SiteError("\n".join(faults))


def noted(site: Site, what: str, mail: str) -> None:
    """Write into the journal of a directory host who did what for whom, before it is done.

    Raises:
        SiteError: no directory host took the note.
    """
    name = os.environ.get("SUDO_USER") or getpass.getuser()
    line = shlex.quote(f"{what} {mail} by {name}")
    said, faults = everywhere(site, site.group("directory"), f"logger -t helpdesk -- {line}")
    if not said:
        raise SiteError("\n".join(faults))


def escaped(value: str) -> str:
    """Text as a filter holds it (RFC 4515)."""
    return re.sub(r"[\\*()\x00]", lambda found: f"\\{ord(found[0]):02x}", value)


def first(entry: Attributes, name: str) -> str:
    """The first value of an attribute, else nothing."""
    return entry.get(name, [""])[0]


def journal(
    pattern: str, *fields: str, since: datetime, until: datetime | None = None, lines: int,
    case: bool = False,
) -> str:  # fmt: skip
    """The command that prints records of a host's journal, the newest first.

    Args:
        pattern: what the text holds, a regular expression (PCRE2).
        fields: `FIELD=VALUE`, of which one must be true. They are indexed, the text is not:
            of a month of two million lines a day takes 0.2 s, all of it 3 s of processor time.
        since: from when, with a time zone.
        until: up to when, with a time zone.
        lines: at the most; the newest.
        case: whether capital and small letters differ.
    """
    period = f"--since=@{since.timestamp():.0f}"
    if until is not None:
        period += f" --until=@{until.timestamp():.0f}"
    return (
        f"journalctl -q --no-pager -o json --output-fields=MESSAGE,SYSLOG_IDENTIFIER {period} "
        f"-n {lines} --case-sensitive={'yes' if case else 'no'} -g {shlex.quote(pattern)} "
        f"{' + '.join(fields)}{EMPTY}"
    )


def records(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Lines of `journalctl -o json`: each one's GeneralizedTime and text, where it has both."""
    result = []
    for line in lines:
        try:
            record = json.loads(line)
            moment = datetime.fromtimestamp(int(record["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
            message = record["MESSAGE"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(message, list):
            # What journald did not take for text comes as bytes.
            message = bytes(message).decode(errors="replace")
        if isinstance(message, str):
            if str(record.get("SYSLOG_IDENTIFIER", "")).endswith("/postsuper"):
                # What an operator did says the same as what Postfix did.
                message = f"postsuper: {message}"
            result.append((moment.strftime("%Y%m%d%H%M%S.%fZ"), message))
    return result
