"""The help desk's daily jobs, one command each; what they print is Vietnamese.

    python -m deploy.helpdesk --env production find "nguyen van an"
    python -m deploy.helpdesk --env production access stttt
    python -m deploy.helpdesk --env production reset anv
    python -m deploy.helpdesk --env production unlock anv
    python -m deploy.helpdesk --env production last-login anv
    python -m deploy.helpdesk --env production revoke anv
    python -m deploy.helpdesk --env production trace anv@tiengiang.gov.vn --since=-2h

It asks the hosts over SSH, as a deploy does. Exit codes: 0 done; 1 not, with the reason; 2 a wrong
command line.
"""

import argparse
import getpass
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from deploy.letters import Record, grouped, names, pattern, told
from roles.accounts.handover import generated_password
from roles.accounts.names import folded
from roles.common.errors import SiteError
from roles.common.site import Site, SiteHost, load
from roles.directory.ldif import Attributes, parse
from roles.directory.settings import DirectorySettings
from roles.directory.tree import one_time

_LDAP = "-Q -Y EXTERNAL -H ldapi:///"
_VIETNAM = timezone(timedelta(hours=7))
_STATES = {
    "active": "đang hoạt động",
    "expiring": "đang hoạt động, có hạn",
    "locked": "bị khóa theo sổ đăng ký",
    "departed": "đã thôi việc",
    "archived": "đã lưu trữ",
    "purged": "đã hủy",
}
_RIGHTS = {"read": "đọc", "file": "sắp xếp và xóa", "send": "gửi bằng tên đơn vị"}
_UNREACHABLE = 255
"""What ssh answers when it did not get to the host; any other number is the command's own."""
_FOUND_MOST = 20
_ROUNDS = 4
"""front, mx, store, and one for a bounce."""
_LINES = 2000
"""Lines of a journal a question at the most, the newest."""


def shell(site: Site, host: SiteHost, command: str, stdin: str = "") -> str:
    """Run a command as root on a host and return what it prints.

    Raises:
        SiteError: the host does not answer, or the command failed, with its words.
    """
    own: list[str] = []
    if site.lab:
        keys = site.state / "ssh"
        own = ["-i", str(keys / "id_ed25519"), "-o", f"UserKnownHostsFile={keys / 'known_hosts'}"]
    done = subprocess.run(
        ["ssh", *own, "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", f"root@{host.address}",
         command],
        capture_output=True, input=stdin, text=True, errors="replace", check=False,
    )  # fmt: skip
    if done.returncode == _UNREACHABLE:
        raise SiteError(f"{host.name}: không kết nối được: {done.stderr.strip()}")
    if done.returncode != 0:
        raise SiteError(f"{host.name}: lệnh không thành công: {done.stderr.strip()}")
    return done.stdout


def everywhere(
    site: Site, hosts: Sequence[SiteHost], command: str
) -> tuple[dict[str, str], list[str]]:
    """Run a command on several hosts at a time: what each printed, and what went wrong."""

    def one(host: SiteHost) -> tuple[str, str | None, str]:
        try:
            return host.name, shell(site, host, command), ""
        except SiteError as error:
            return host.name, None, str(error)

    with ThreadPoolExecutor(len(hosts)) as pool:
        answers = list(pool.map(one, hosts))
    said = {name: text for name, text, _ in answers if text is not None}
    return said, [fault for _, text, fault in answers if text is None]


def search(site: Site, base: str, filter_: str, *attributes: str) -> list[tuple[str, Attributes]]:
    """Entries of the directory, from the first of its hosts that answers."""
    command = (
        f"ldapsearch {_LDAP} -LLL -o ldif_wrap=no -b {shlex.quote(base)} {shlex.quote(filter_)} "
        + " ".join(attributes)
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


def escaped(value: str) -> str:
    """Text as a filter holds it (RFC 4515)."""
    return re.sub(r"[\\*()\x00]", lambda found: f"\\{ord(found[0]):02x}", value)


def wanted(site: Site, words: str) -> str:
    """The filter that finds mailboxes: by number, address, code, or name without diacritics."""
    text = words.strip()
    address = text.lower() if "@" in text else f"{text.lower()}@{site.domain}"
    name = "*".join(escaped(word) for word in folded(text).split())
    parts = [
        f"(employeeNumber={escaped(text)})",
        f"(mailLocalAddress={escaped(address)})",
        f"(departmentNumber={escaped(text.lower())})",
        *([f"(searchName=*{name}*)"] if name else []),
    ]
    return f"(&(objectClass=mailboxAccount)(|{''.join(parts)}))"


def the_person(site: Site, words: str) -> tuple[str, Attributes]:
    """The one person that is meant.

    Raises:
        SiteError: nobody is, or several are; with their names.
    """
    text = words.strip()
    address = text.lower() if "@" in text else f"{text.lower()}@{site.domain}"
    exact = f"(|(employeeNumber={escaped(text)})(mailLocalAddress={escaped(address)}))"
    people = f"ou=people,{site.base_dn}"
    found = search(site, people, f"(&(objectClass=mailboxAccount){exact})", "*", "+")
    if not found:
        found = search(site, people, wanted(site, text), "*", "+")
    if len(found) != 1:
        names = "; ".join(f"{first(entry, 'cn')} <{first(entry, 'mail')}>" for _, entry in found)
        raise SiteError(
            f"{words!r}: "
            + (f"có {len(found)} người ({names})" if found else "không có người nào như vậy")
            + "; cần mã số hoặc địa chỉ của đúng một người"
        )
    return found[0]


def first(entry: Attributes, name: str) -> str:
    """The first value of an attribute, else nothing."""
    return entry.get(name, [""])[0]


def day(value: str) -> str:
    """A GeneralizedTime in Vietnam's time."""
    if not value:
        return ""
    moment = datetime.strptime(value[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return moment.astimezone(_VIETNAM).strftime("%H:%M %d/%m/%Y")


def state(entry: Attributes) -> str:
    """The state of a mailbox in words, with its dates."""
    text = _STATES.get(first(entry, "mailboxState"), first(entry, "mailboxState"))
    dates = [
        f"{label} {day(first(entry, name))}"
        for label, name in (
            ("từ", "mailboxStateSince"), ("đến", "mailboxExpires"),
            ("giữ thư đến", "mailboxRetainUntil"),
        )
        if first(entry, name)
    ]  # fmt: skip
    return ", ".join([text, *dates])


def password_state(entry: Attributes, lockout: int, now: datetime) -> str:
    """What the directory holds against the password of somebody.

    Args:
        entry: with its operational attributes.
        lockout: seconds a lock lasts.
        now: with its time zone.
    """
    locked = first(entry, "pwdAccountLockedTime")
    parts = []
    if locked == "000001010000Z":
        parts.append("bị khóa cho đến khi được mở")
    elif locked:
        since = datetime.strptime(locked[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        if now < since + timedelta(seconds=lockout):
            parts.append(f"bị khóa do nhập sai nhiều lần, từ {day(locked)}")
    if failures := len(entry.get("pwdFailureTime", [])):
        parts.append(f"{failures} lần nhập sai gần đây")
    if first(entry, "pwdReset") == "TRUE":
        parts.append("phải đổi mật khẩu trong webmail")
    return "; ".join(parts) or "bình thường"


def find(site: Site, words: str) -> tuple[dict[str, Any], list[str]]:
    """People and unit mailboxes that fit, with what the help desk is asked about them."""
    found = search(site, site.base_dn, wanted(site, words), "*", "+")
    if not found:
        raise SiteError(f"{words!r}: không tìm thấy; cần họ tên, địa chỉ, mã số hoặc mã đơn vị")
    now = datetime.now(UTC)
    lockout = site.of(DirectorySettings).lockout_duration
    items, faults = [], []
    for _, entry in sorted(found, key=lambda pair: first(pair[1], "mail"))[:_FOUND_MOST]:
        mail = first(entry, "mail")
        item = {
            "tên": first(entry, "displayName") or first(entry, "cn"),
            "địa chỉ": mail,
            "địa chỉ phụ": ", ".join(a for a in entry.get("mailLocalAddress", []) if a != mail),
            "mã số": first(entry, "employeeNumber"),
            "đơn vị": first(entry, "departmentNumber"),
            "chức danh": first(entry, "title"),
            "trạng thái": state(entry),
            "dịch vụ": " ".join(sorted(entry.get("mailboxService", []))),
            "kho thư": first(entry, "mailHost").partition(".")[0],
        }
        if item["mã số"]:
            item |= {
                "mật khẩu": password_state(entry, lockout, now),
                "đăng nhập gần nhất": day(first(entry, "pwdLastSuccess")) or "chưa ghi nhận",
                "đọc hộp thư đơn vị": ", ".join(
                    sorted(group for group in entry.get("mailboxGroup", []) if "+" not in group)
                ),
            }
        items.append(item)
    if len(found) == 1:
        items[0]["dung lượng"], fault = quota(site, found[0][1])
        faults += fault
    return {"số kết quả": len(found), "kết quả": items}, faults


def quota(site: Site, entry: Attributes) -> tuple[str, list[str]]:
    """How full a mailbox is, from its store."""
    alias = first(entry, "mailHost").partition(".")[0]
    if alias not in site.table.stores:
        return "không rõ", [f"mailHost: {alias!r} không phải là kho thư"]
    command = f"doveadm -f json quota get -u {shlex.quote(first(entry, 'mail'))}"
    said, faults = everywhere(site, [site.store_host(alias)], command)
    for text in said.values():
        for row in json.loads(text):
            if row["type"] == "STORAGE":
                used, limit = int(row["value"]) / 1024, row["limit"]
                allowed = f"{int(limit) / 1024:.0f} MiB" if limit.isdigit() else "không giới hạn"
                return f"{used:.1f} MiB / {allowed}", faults
    return "không rõ", faults


def access(site: Site, unit: str) -> tuple[dict[str, Any], list[str]]:
    """Who may do what with a unit mailbox, by what, and for how long."""
    local = unit.strip().lower().removesuffix(f"@{site.domain}")
    base = f"ou=mailboxes,{site.base_dn}"
    name = f"(|(cn={escaped(local)})(mailLocalAddress={escaped(local)}@{site.domain}))"
    mailboxes = search(site, base, f"(&(objectClass=unitMailbox){name})")
    if not mailboxes:
        raise SiteError(f"{unit!r}: không có hộp thư đơn vị này; cần mã hoặc địa chỉ của đơn vị")
    dn, mailbox = mailboxes[0]
    known = dict(search(site, f"ou=people,{site.base_dn}", "(employeeNumber=*)", "cn", "mail"))
    people = {person.lower(): entry for person, entry in known.items()}

    def who(person: str) -> str:
        entry = people.get(person.lower(), {})
        return f"{first(entry, 'cn')} <{first(entry, 'mail')}>" if entry else person

    now = {
        right: {person.lower() for person in mailbox.get(attribute, [])}
        for right, attribute in (
            ("read", "mailboxReader"), ("file", "mailboxFiler"), ("send", "mailboxSender"),
        )
    }  # fmt: skip
    head = first(mailbox, "owner").lower()
    rows = [
        {
            "người": who(person),
            "quyền hiện có": ", ".join(_RIGHTS[right] for right in _RIGHTS if person in now[right]),
            "vì": "là người phụ trách" if person == head else "được ủy quyền",
        }
        for person in sorted(set().union(*now.values()))
    ]
    delegations = [
        {
            "người": who(first(entry, "delegate")),
            "quyền": ", ".join(_RIGHTS.get(r, r) for r in sorted(entry["delegationRight"])),
            "từ": day(first(entry, "validFrom")),
            "đến": day(first(entry, "validUntil")),
        }
        for _, entry in search(site, dn, "(objectClass=mailboxDelegation)")
    ]
    return {
        "hộp thư": first(mailbox, "mail"),
        "tên": first(mailbox, "displayName"),
        "trạng thái": state(mailbox),
        "người phụ trách": who(first(mailbox, "owner")) if head else "",
        "quyền": rows,
        "ủy quyền trong sổ đăng ký": delegations,
    }, []


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


def revoke(site: Site, words: str) -> tuple[dict[str, Any], list[str]]:
    """End what somebody has open, on all stores and fronts."""
    _, entry = the_person(site, words)
    mail = first(entry, "mail")
    noted(site, "revoke", mail)
    ended, faults = _ended(site, mail)
    return {
        "địa chỉ": mail,
        "đã ngắt trên": ended,
        "lưu ý": "mật khẩu vẫn còn hiệu lực: phần mềm thư và webmail tự kết nối lại; "
        "nghi ngờ lộ mật khẩu thì dùng lệnh reset",
    }, faults


def _ended(site: Site, mail: str) -> tuple[str, list[str]]:
    """Forget an account's log-ins and end its sessions; 68: it had none (EX_NOHOST)."""
    user = shlex.quote(mail)
    said, faults = everywhere(
        site,
        site.group("store", "front"),
        f"doveadm auth cache flush {user} >/dev/null && {{ doveadm kick {user} >/dev/null "
        "|| test $? = 68; }",
    )
    return ", ".join(sorted(said)), faults


def reset(site: Site, words: str) -> tuple[dict[str, Any], list[str]]:
    """Give somebody a one-time password, which is shown once."""
    dn, entry = the_person(site, words)
    mail = first(entry, "mail")
    if first(entry, "mailboxState") not in ("active", "expiring"):
        raise SiteError(f"{mail}: {state(entry)}; cần sửa trạng thái trong sổ đăng ký trước")
    password = generated_password()
    noted(site, "reset", mail)
    modify(site, one_time(site, dn, password, datetime.now(UTC)).ldif())
    ended, faults = _ended(site, mail)
    days = site.of(DirectorySettings).onetime_valid // 86400
    return {
        "người": f"{first(entry, 'cn')} <{mail}>",
        "mật khẩu dùng một lần": password,
        "cách dùng": f"đăng nhập https://{site.mail_name}/ trong {days} ngày và đổi mật khẩu ngay; "
        "chưa đổi thì không dùng được vào việc gì khác",
        "đã ngắt trên": ended,
    }, faults


def unlock(site: Site, words: str) -> tuple[dict[str, Any], list[str]]:
    """Forget somebody's wrong passwords, and nothing else."""
    dn, entry = the_person(site, words)
    mail = first(entry, "mail")
    counted = [name for name in ("pwdAccountLockedTime", "pwdFailureTime") if name in entry]
    if counted:
        noted(site, "unlock", mail)
        changes = "".join(f"delete: {name}\n-\n" for name in counted)
        modify(site, f"dn: {dn}\nchangetype: modify\n{changes}\n", "-e relax")
    result = {
        "người": f"{first(entry, 'cn')} <{mail}>",
        "kết quả": "đã xóa các lần nhập sai; đăng nhập được ngay"
        if counted
        else "không bị khóa vì nhập sai mật khẩu",
        "trạng thái": state(entry),
    }
    if first(entry, "mailboxState") not in ("active", "expiring"):
        result["lưu ý"] = "không đăng nhập được vì trạng thái: chỉ sửa được trong sổ đăng ký"
    return result, []


_LOGIN = re.compile(
    r"^(?P<protocol>imap|pop3|managesieve)-login: proxy\(.*\): Started proxying to remote host"
    r".*\brip=(?P<address>[^,]+)"
)
_FAILED = re.compile(r"^(?P<protocol>imap|pop3|managesieve)-login: .*\(auth failed.*\brip=([^,]+)")
_SUBMISSION_FAILED = re.compile(r"\[(?P<address>[^\]]+)\](?::\d+)?: SASL \S+ authentication failed")
_SUBMISSION = re.compile(r"client=\S*\[(?P<address>[^\]]+)\].*sasl_username=")
_WEBMAIL = re.compile(r"Successful login for \S+ .* from (?P<address>\S+)")


def log_in(message: str) -> tuple[str, str, bool] | None:
    """What a line of a front's journal says of a log-in: by what, from where, whether it worked."""
    if found := _WEBMAIL.search(message):
        return "webmail", found["address"], True
    if found := _LOGIN.search(message):
        # The webmail logs in for its user at every page.
        inside = "lip=127.0.0.1" in message
        return None if inside else (found["protocol"], found["address"], True)
    if found := _FAILED.search(message):
        return found["protocol"], found[2], False
    if found := _SUBMISSION_FAILED.search(message):
        return "submission", found["address"], False
    if found := _SUBMISSION.search(message):
        return "submission", found["address"], True
    return None


def last_login(site: Site, words: str) -> tuple[dict[str, Any], list[str]]:
    """Somebody's last log-ins of 30 days by protocol, and the last that failed."""
    _, entry = the_person(site, words)
    mail = first(entry, "mail")
    pattern = shlex.quote(f"{re.escape(mail)}.*")
    said, faults = everywhere(
        site,
        site.group("front"),
        f"journalctl -q -o json --output-fields=MESSAGE --since=-30days -n 5000 -g {pattern} "
        "SYSLOG_IDENTIFIER=webmail + _SYSTEMD_UNIT=dovecot.service + _SYSTEMD_UNIT=postfix.service"
        " || test $? = 1",
    )
    latest: dict[tuple[str, bool], tuple[str, str]] = {}
    for text in said.values():
        for moment, message in records(text.splitlines()):
            if found := log_in(message):
                protocol, address, worked = found
                now = (moment, address)
                latest[protocol, worked] = max(latest.get((protocol, worked), now), now)
    return {
        "địa chỉ": mail,
        "danh bạ ghi nhận": day(first(entry, "pwdLastSuccess")) or "chưa ghi nhận",
        "thành công": _table(latest, True),
        "không thành công": _table(latest, False),
    }, faults


def _table(latest: dict[tuple[str, bool], tuple[str, str]], worked: bool) -> list[dict[str, str]]:
    return [
        {"dịch vụ": protocol, "lúc": day(moment), "từ": address}
        for (protocol, good), (moment, address) in sorted(latest.items())
        if good == worked
    ]


def trace(site: Site, words: str, since: str = "-24h") -> tuple[dict[str, Any], list[str]]:
    """The way of letters over all hosts: by an address, a Message-ID or a queue ID.

    Args:
        site: the site.
        words: what the journals are searched for.
        since: from when, as `journalctl` understands it.
    """
    text = words.strip().strip("<>")
    hosts = site.group("front", "mx", "store")
    known: set[str] = set()
    new = {text}
    seen: set[Record] = set()
    faults: list[str] = []
    # From the words to queue IDs, from these to the Message-ID, and from host to host.
    for _ in range(_ROUNDS):
        if not new:
            break
        said, down = everywhere(
            site,
            hosts,
            f"journalctl -q -o json --output-fields=MESSAGE --since={shlex.quote(since)} "
            f"-n {_LINES} -g {pattern(new)} _SYSTEMD_UNIT=postfix.service + "
            "_SYSTEMD_UNIT=dovecot.service + SYSLOG_IDENTIFIER=mimedefang.pl || test $? = 1",
        )
        faults = sorted({*faults, *down})
        known |= new
        for host, lines in said.items():
            seen |= {(moment, host, line) for moment, line in records(lines.splitlines())}
        new = set().union(*(part for *_, line in seen for part in names(line))) - known
    letters = [
        {
            "mã thư": ", ".join(sorted(letter.messages)) or "không có (bị từ chối khi bắt đầu gửi)",
            "đường đi": [
                {day_second(moment): f"{host}: {word}"}
                for moment, host, line in sorted(letter.records)
                if (word := told(line))
            ],
        }
        for letter in grouped(seen)
    ]
    letters = [letter for letter in letters if letter["đường đi"]]
    if not letters and not faults:
        raise SiteError(
            f"{words!r}: không có thư nào trong nhật ký từ {since}; cần địa chỉ, Message-ID hoặc "
            "mã hàng đợi, và thời gian (--since). Tiêu đề thư không được ghi"
        )
    return {"số thư": len(letters), "thư": letters[-_FOUND_MOST:]}, faults


def day_second(moment: str) -> str:
    """A GeneralizedTime to the second, in Vietnam's time."""
    when = datetime.strptime(moment[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    return when.astimezone(_VIETNAM).strftime("%d/%m/%Y %H:%M:%S")


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
            result.append((moment.strftime("%Y%m%d%H%M%S.%fZ"), message))
    return result


def shown(value: Any, depth: int = 0) -> list[str]:
    """A result as lines of text."""
    pad = "  " * depth
    lines = []
    for key, part in value.items():
        if isinstance(part, list):
            lines.append(f"{pad}{key}:" if part else f"{pad}{key}: không có")
            for number, item in enumerate(part):
                lines += [""] if number and len(item) > 4 else []  # noqa: PLR2004 - long ones apart
                lines += shown(item, depth + 1)
        elif part:
            lines.append(f"{pad}{key}: {part}")
    return lines


def _done(site: Site, options: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    if options.job == "trace":
        return trace(site, options.who, options.since)
    return JOBS[options.job][0](site, options.who)


JOBS: dict[str, tuple[Callable[..., tuple[dict[str, Any], list[str]]], str]] = {
    "find": (find, "tìm người hoặc đơn vị: họ tên không dấu, địa chỉ, mã số, mã đơn vị"),
    "access": (access, "ai được dùng hộp thư của một đơn vị"),
    "reset": (reset, "cấp mật khẩu dùng một lần"),
    "unlock": (unlock, "mở khóa do nhập sai mật khẩu"),
    "last-login": (last_login, "lần đăng nhập gần nhất, 30 ngày"),
    "trace": (trace, "vì sao một thư không đến: theo địa chỉ, Message-ID hoặc mã hàng đợi"),
    "revoke": (revoke, "ngắt mọi phiên đang mở"),
}


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, do the job, print what it found."""
    parser = argparse.ArgumentParser(prog="python -m deploy.helpdesk")
    parser.add_argument("--env", required=True, help="một thư mục trong inventories/")
    parser.add_argument("--json", action="store_true", help="in dạng JSON cho chương trình khác")
    jobs = parser.add_subparsers(dest="job", required=True)
    for name, (_, text) in JOBS.items():
        jobs.add_parser(name, help=text).add_argument("who", help="người hoặc đơn vị")
    jobs.choices["trace"].add_argument(
        "--since", default="-24h", help="từ lúc nào: --since=2026-11-25, --since=-7d"
    )
    options = parser.parse_args(arguments)
    try:
        result, faults = _done(load(options.env), options)
    except SiteError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(result, ensure_ascii=False, indent=1) if options.json else
          "\n".join(shown(result)))  # fmt: skip
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
