"""The help desk's daily jobs, one command each; what they print is Vietnamese.

    python -m deploy.helpdesk --env production find "nguyen van an"
    python -m deploy.helpdesk --env production access stttt
    python -m deploy.helpdesk --env production reset anv
    python -m deploy.helpdesk --env production unlock anv
    python -m deploy.helpdesk --env production last-login anv
    python -m deploy.helpdesk --env production revoke anv --app-passwords
    python -m deploy.helpdesk --env production trace --from dan@vidu.vn --to anv --since -2h

It asks the hosts over SSH, as a deploy does. Exit codes: 0 done; 1 not, with the reason; 2 a wrong
command line.
"""

import argparse
import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from deploy import letters, moments, sessions
from deploy.answers import Answer, answer
from deploy.hosts import escaped, everywhere, first, journal, modify, noted, records, search
from deploy.trace import question, trace
from roles.accounts.handover import generated_password
from roles.accounts.names import folded
from roles.common.errors import SiteError
from roles.common.site import Site, load
from roles.directory.ldif import Attributes, Change
from roles.directory.settings import DirectorySettings
from roles.directory.tree import one_time
from roles.mailstore.settings import MailstoreSettings

_STATES = {
    "active": "đang hoạt động",
    "expiring": "đang hoạt động, có hạn",
    "locked": "bị khóa theo sổ đăng ký",
    "departed": "đã thôi việc",
    "archived": "đã lưu trữ",
    "purged": "đã hủy",
}
_RIGHTS = {"read": "đọc", "file": "sắp xếp và xóa", "send": "gửi bằng tên đơn vị"}
_RIGHT_ATTRIBUTES = {"read": "mailboxReader", "file": "mailboxFiler", "send": "mailboxSender"}
_FOUND_MOST = 20
_USE_LINES = 5000
"""Lines of the audit trail of a unit mailbox, the newest."""


@dataclass(frozen=True)
class Desk:
    """Where and when the help desk asks."""

    site: Site
    now: datetime
    """With the province's time zone."""

    @property
    def zone(self) -> ZoneInfo:
        """The province's clock."""
        return moments.zone(self.site)

    def day(self, generalized: str) -> str:
        """A GeneralizedTime by that clock."""
        return moments.day(generalized, self.zone)


# -- people ----------------------------------------------------------------------------------------


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


def named(entry: Attributes) -> str:
    """A person's name and address."""
    return f"{first(entry, 'cn')} <{first(entry, 'mail')}>"


def state(desk: Desk, entry: Attributes) -> str:
    """The state of a mailbox in words, with its dates."""
    text = _STATES.get(first(entry, "mailboxState"), first(entry, "mailboxState"))
    dates = [
        f"{label} {desk.day(first(entry, name))}"
        for label, name in (
            ("từ", "mailboxStateSince"), ("đến", "mailboxExpires"),
            ("giữ thư đến", "mailboxRetainUntil"),
        )
        if first(entry, name)
    ]  # fmt: skip
    return ", ".join([text, *dates])


def password_state(desk: Desk, entry: Attributes) -> str:
    """What the directory holds against the password of somebody.

    Args:
        desk: where and when.
        entry: with its operational attributes.
    """
    locked = first(entry, "pwdAccountLockedTime")
    lockout = timedelta(seconds=desk.site.of(DirectorySettings).lockout_duration)
    parts = []
    if locked == "000001010000Z":
        parts.append("bị khóa cho đến khi được mở")
    elif locked and desk.now < moments.at(locked) + lockout:
        parts.append(f"bị khóa do nhập sai nhiều lần, từ {desk.day(locked)}")
    if failures := len(entry.get("pwdFailureTime", [])):
        parts.append(f"{failures} lần nhập sai gần đây")
    if first(entry, "pwdReset") == "TRUE":
        parts.append("phải đổi mật khẩu trong webmail")
        if end := first(entry, "pwdEndTime"):
            parts.append(f"mật khẩu dùng một lần hết hạn {desk.day(end)}")
    return "; ".join(parts) or "bình thường"


def application_passwords(desk: Desk, dn: str) -> list[tuple[str, dict[str, str]]]:
    """Passwords that a person made for applications: the entry's DN, and what is known of it."""
    entries = search(
        desk.site, dn, "(objectClass=appPassword)", "cn", "description", "mailboxService",
        "validUntil", "pwdEndTime", "createTimestamp", "pwdLastSuccess",
    )  # fmt: skip
    return [
        (
            found,
            {
                "tên": first(entry, "description") or first(entry, "cn"),
                "mã": first(entry, "cn"),
                "dùng cho": " ".join(sorted(entry.get("mailboxService", []))),
                "tạo lúc": desk.day(first(entry, "createTimestamp")),
                "đến": desk.day(first(entry, "pwdEndTime") or first(entry, "validUntil")),
                "dùng gần nhất": desk.day(first(entry, "pwdLastSuccess")) or "chưa ghi nhận",
            },
        )
        for found, entry in sorted(entries)
    ]


def find(desk: Desk, options: argparse.Namespace) -> Answer:
    """People and unit mailboxes that fit, with what the help desk is asked about them.

    Of a single person also what takes questions to further hosts.
    """
    site, words = desk.site, options.who
    found = search(site, site.base_dn, wanted(site, words), "*", "+")
    if not found:
        raise SiteError(f"{words!r}: không tìm thấy; cần họ tên, địa chỉ, mã số hoặc mã đơn vị")
    found = sorted(found, key=lambda pair: first(pair[1], "mail"))
    units = _unit_names(site, {first(entry, "departmentNumber") for _, entry in found})
    items = [_item(desk, entry, units) for _, entry in found[:_FOUND_MOST]]
    faults: list[str] = []
    if len(found) == 1:
        dn, entry = found[0]
        items[0]["dung lượng"], faults = quota(site, entry)
        items[0]["địa chỉ cũ"] = _former_addresses(desk, dn)
        if items[0]["mã số"]:
            items[0]["hộp thư đơn vị"] = opened_by(desk, dn)
            items[0]["mật khẩu ứng dụng"] = [row for _, row in application_passwords(desk, dn)]
    answer: dict[str, Any] = {"số kết quả": len(found), "kết quả": items}
    if len(found) > _FOUND_MOST:
        answer["lưu ý"] = f"chỉ hiện {_FOUND_MOST} kết quả đầu: hãy gõ thêm họ tên hoặc địa chỉ"
    return answer, faults


def _item(desk: Desk, entry: Attributes, units: Mapping[str, str]) -> dict[str, Any]:
    mail, code = first(entry, "mail"), first(entry, "departmentNumber")
    item = {
        "tên": first(entry, "displayName") or first(entry, "cn"),
        "địa chỉ": mail,
        "địa chỉ phụ": ", ".join(a for a in entry.get("mailLocalAddress", []) if a != mail),
        "mã số": first(entry, "employeeNumber"),
        "đơn vị": f"{units[code]} ({code})" if code in units else code,
        "chức danh": first(entry, "title"),
        "trạng thái": state(desk, entry),
        "dịch vụ": " ".join(sorted(entry.get("mailboxService", []))),
        "kho thư": first(entry, "mailHost").partition(".")[0],
    }
    if item["mã số"]:
        item |= {
            "mật khẩu": password_state(desk, entry),
            "đăng nhập gần nhất": desk.day(first(entry, "pwdLastSuccess")) or "chưa ghi nhận",
        }
    return item


def _unit_names(site: Site, codes: Iterable[str]) -> dict[str, str]:
    """Names of units by their codes."""
    wanted_codes = "".join(f"(ou={escaped(code)})" for code in sorted(codes) if code)
    if not wanted_codes:
        return {}
    units = search(site, f"ou=units,{site.base_dn}", f"(|{wanted_codes})", "ou", "displayName")
    return {first(unit, "ou"): first(unit, "displayName") for _, unit in units}


def _former_addresses(desk: Desk, dn: str) -> str:
    """Addresses that somebody had, as long as they are kept."""
    rdn = dn.partition(",")[0]
    kept = search(
        desk.site, f"ou=reservations,{desk.site.base_dn}", f"(reservedFor={escaped(rdn)})",
        "reservedAddress", "reservedAs", "validUntil",
    )  # fmt: skip
    return "; ".join(
        first(entry, "reservedAddress")
        + (" còn nhận thư" if first(entry, "reservedAs") == "alias" else " không nhận thư nữa")
        + (f", giữ đến {desk.day(end)}" if (end := first(entry, "validUntil")) else "")
        for _, entry in kept
    )


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
                return used_of(int(row["value"]), row["limit"]), faults
    return "không rõ", faults


def used_of(used: int, limit: str) -> str:
    """A use of storage in words.

    Args:
        used: KiB.
        limit: KiB; something else where there is none.
    """
    if not limit.isdigit() or int(limit) == 0:
        return f"{used / 1024:.1f} MiB, không giới hạn"
    return f"{used / 1024:.1f} MiB / {int(limit) / 1024:.0f} MiB ({100 * used // int(limit)} %)"


# -- unit mailboxes --------------------------------------------------------------------------------


def rights(
    desk: Desk, mailbox: Attributes, delegations: Sequence[Attributes]
) -> list[tuple[str, dict[str, str]]]:
    """Who may do what with a unit mailbox, why, and from when to when.

    Args:
        desk: where and when.
        mailbox: the entry of the unit mailbox.
        delegations: the entries below it.

    Returns:
        Each one's DN in lower case, and the row in words.
    """
    head = first(mailbox, "owner").lower()
    now = {
        right: {person.lower() for person in mailbox.get(attribute, [])}
        for right, attribute in _RIGHT_ATTRIBUTES.items()
    }
    rows = []
    explained = {head}
    for person in sorted({head} - {""}):
        held = [right for right in _RIGHTS if person in now[right]]
        rows.append((person, _row(held, "là người phụ trách")))
    for entry in delegations:
        person = first(entry, "delegate").lower()
        since, until = first(entry, "validFrom"), first(entry, "validUntil")
        why = "được ủy quyền"
        if since and desk.now < moments.at(since):
            why = "được ủy quyền, chưa bắt đầu"
        elif until and moments.at(until) <= desk.now:
            why = "được ủy quyền, đã hết hạn"
        else:
            explained.add(person)
        row = _row(entry["delegationRight"], why)
        rows.append((person, row | {"từ": desk.day(since), "đến": desk.day(until)}))
    # What no row of the registry says shall be seen, too.
    for person in sorted(set().union(*now.values()) - explained):
        held = [right for right in _RIGHTS if person in now[right]]
        rows.append((person, _row(held, "ghi trong danh bạ, không rõ vì sao")))
    return rows


def _row(held: Iterable[str], why: str) -> dict[str, str]:
    known = set(held)
    return {"quyền": ", ".join(text for right, text in _RIGHTS.items() if right in known),
            "vì": why}  # fmt: skip


def _mailboxes(site: Site, condition: str) -> list[tuple[str, Attributes]]:
    base = f"ou=mailboxes,{site.base_dn}"
    return search(site, base, f"(&(objectClass=unitMailbox){condition})")


def _delegations(site: Site, dn: str) -> list[Attributes]:
    return [entry for _, entry in search(site, dn, "(objectClass=mailboxDelegation)")]


def opened_by(desk: Desk, dn: str) -> list[dict[str, str]]:
    """The unit mailboxes that a person may use, and by what right."""
    site = desk.site
    person = escaped(dn)
    holds = "".join(f"({name}={person})" for name in ("owner", *_RIGHT_ATTRIBUTES.values()))
    mailboxes = dict(_mailboxes(site, f"(|{holds})"))
    for found, _ in search(
        site, f"ou=mailboxes,{site.base_dn}",
        f"(&(objectClass=mailboxDelegation)(delegate={person}))", "cn",
    ):  # fmt: skip
        above = found.partition(",")[2]
        if above not in mailboxes:
            mailboxes |= dict(search(site, above, "(objectClass=unitMailbox)"))
    return [
        {"hộp thư": f"{first(mailbox, 'displayName')} <{first(mailbox, 'mail')}>"} | row
        for above, mailbox in sorted(mailboxes.items())
        for holder, row in rights(desk, mailbox, _delegations(site, above))
        if holder == dn.lower()
    ]


_SENT_AS = re.compile(r"sent-as-unit unit=<(?P<unit>[^>]*)> login=<(?P<login>[^>]*)>")


def filed_in(site: Site, address: str) -> str:
    """What lines of the audit trail match that tell of a letter in a unit mailbox.

    Args:
        site: the site.
        address: the unit mailbox's.
    """
    above = re.escape(site.of(MailstoreSettings).units_folder)
    code = re.escape(address.partition("@")[0])
    # By the name that members see, or by the code alone.
    return rf"^imap\(.*(box=|from ){above}/({code}|[^/]*\({code}\))[/,:]"


def used(desk: Desk, address: str, since: datetime) -> tuple[dict[str, str], list[str]]:
    """When each one did something with a unit mailbox last, as far as the journals tell.

    Reading leaves no line.

    Args:
        desk: where and when.
        address: the unit mailbox's.
        since: how far back.

    Returns:
        By log-in name: what, and when.
    """
    site = desk.site
    filed, faults = everywhere(
        site, site.group("store"),
        journal(
            filed_in(site, address), "_SYSTEMD_UNIT=dovecot.service",
            since=since, lines=_USE_LINES,
        ),
    )  # fmt: skip
    sent, more = everywhere(
        site, site.group("mx"),
        journal(
            f"sent-as-unit unit=<{re.escape(address)}>", "SYSLOG_IDENTIFIER=mimedefang.pl",
            since=since, lines=_USE_LINES,
        ),
    )  # fmt: skip
    lines = [
        line for text in (*filed.values(), *sent.values()) for line in records(text.splitlines())
    ]
    return last_uses(lines, desk.zone), [*faults, *more]


def last_uses(lines: Iterable[tuple[str, str]], zone: ZoneInfo) -> dict[str, str]:
    """What each log-in did last by lines of the audit trail, in words."""
    latest: dict[str, dict[str, str]] = {}
    for moment, text in sorted(lines):
        if found := _SENT_AS.search(text):
            latest.setdefault(found["login"].lower(), {})["gửi"] = moment
        elif done := letters.HANDLED.match(text):
            latest.setdefault(done["user"].lower(), {})["sắp xếp"] = moment
    return {
        login: "; ".join(
            f"{what} {moments.day(moment, zone)}" for what, moment in sorted(kinds.items())
        )
        for login, kinds in latest.items()
    }


def access(desk: Desk, options: argparse.Namespace) -> Answer:
    """Who may use a unit mailbox, by what right, from when to when; or what a person may use."""
    site = desk.site
    local = options.who.strip().lower().removesuffix(f"@{site.domain}")
    mailboxes = _mailboxes(
        site, f"(|(cn={escaped(local)})(mailLocalAddress={escaped(local)}@{site.domain}))"
    )
    if not mailboxes:
        return _access_of(desk, options.who)
    dn, mailbox = mailboxes[0]
    known = search(site, f"ou=people,{site.base_dn}", "(employeeNumber=*)", "cn", "mail")
    people = {person.lower(): entry for person, entry in known}
    uses, faults = used(desk, first(mailbox, "mail"), moments.moment(options.since, desk.now))

    def who(person: str) -> str:
        return named(people[person]) if person in people else person

    rows = []
    for person, row in rights(desk, mailbox, _delegations(site, dn)):
        login = first(people.get(person, {}), "mail").lower()
        rows.append(
            {"người": who(person)} | row | {"dùng gần nhất": uses.pop(login, "không ghi nhận")}
        )
    head = first(mailbox, "owner").lower()
    return {
        "hộp thư": first(mailbox, "mail"),
        "tên": first(mailbox, "displayName"),
        "trạng thái": state(desk, mailbox),
        "người phụ trách": who(head) if head else "chưa có",
        "ai được dùng": rows,
        "đã dùng, nay không còn quyền": [
            {"người": login, "dùng gần nhất": what} for login, what in sorted(uses.items())
        ],
        "lưu ý": f"dùng gần nhất: gửi, lưu, chuyển, xóa thư từ {options.since}; việc chỉ đọc "
        "không được ghi",
    }, faults


def _access_of(desk: Desk, words: str) -> Answer:
    try:
        dn, entry = the_person(desk.site, words)
    except SiteError as error:
        raise SiteError(
            f"{words!r}: không có hộp thư đơn vị này; cần mã hoặc địa chỉ của đơn vị, hoặc một "
            f"người\n{error}"
        ) from error
    return {"người": named(entry), "hộp thư đơn vị": opened_by(desk, dn)}, []


# -- what changes something ------------------------------------------------------------------------


def chosen(
    present: Sequence[tuple[str, dict[str, str]]], every: bool, names: Sequence[str]
) -> list[tuple[str, dict[str, str]]]:
    """Which passwords for applications are meant.

    Args:
        present: those that there are.
        every: whether all are.
        names: names or codes of single ones.

    Raises:
        SiteError: there is none of such a name.
    """
    for name in names:
        if not any(name.lower() in (row["tên"].lower(), row["mã"]) for _, row in present):
            shown = ", ".join(f"{row['tên']} ({row['mã']})" for _, row in present) or "không có"
            raise SiteError(f"không có mật khẩu ứng dụng {name!r}; hiện có: {shown}")
    wanted_names = {name.lower() for name in names}
    return [
        (dn, row) for dn, row in present if every or wanted_names & {row["tên"].lower(), row["mã"]}
    ]


def revoke(desk: Desk, options: argparse.Namespace) -> Answer:
    """End what somebody has open, on all hosts; with it passwords for applications, if asked."""
    site = desk.site
    dn, entry = the_person(site, options.who)
    mail = first(entry, "mail")
    present = application_passwords(desk, dn)
    gone = chosen(present, options.app_passwords, options.app_password)
    noted(site, "revoke", mail)
    for found, row in gone:
        noted(site, f"revoke-app-password {row['mã']}", mail)
        modify(site, Change("delete", found, {}).ldif())
    ended, faults = sessions.end(site, mail, entry.get("mailLocalAddress", []), desk.now)
    left = [row for found, row in present if found not in {dn for dn, _ in gone}]
    note = (
        "mật khẩu vẫn còn hiệu lực, phần mềm thư tự kết nối lại: nghi ngờ lộ mật khẩu thì dùng "
        "reset"
    )
    if left:
        note += "; mật khẩu ứng dụng cũng vậy, hủy bằng --app-passwords hoặc --app-password TÊN"
    return {
        "người": named(entry),
        "đã ngắt": ended,
        "mật khẩu ứng dụng đã hủy": [row for _, row in gone],
        "mật khẩu ứng dụng còn hiệu lực": left,
        "lưu ý": note,
    }, faults


def reset(desk: Desk, options: argparse.Namespace) -> Answer:
    """Give somebody a one-time password, which is shown once."""
    site = desk.site
    dn, entry = the_person(site, options.who)
    mail = first(entry, "mail")
    if first(entry, "mailboxState") not in ("active", "expiring"):
        raise SiteError(f"{mail}: {state(desk, entry)}; cần sửa trạng thái trong sổ đăng ký trước")
    password = generated_password()
    noted(site, "reset", mail)
    modify(site, one_time(site, dn, password, desk.now).ldif())
    ended, faults = sessions.end(site, mail, entry.get("mailLocalAddress", []), desk.now)
    days = site.of(DirectorySettings).onetime_valid // 86400
    return {
        "người": named(entry),
        "mật khẩu dùng một lần": password,
        "cách dùng": f"đăng nhập https://{site.mail_name}/ trong {days} ngày và đổi mật khẩu ngay; "
        "chưa đổi thì không dùng được vào việc gì khác",
        "đã ngắt": ended,
    }, faults


def unlock(desk: Desk, options: argparse.Namespace) -> Answer:
    """Forget somebody's wrong passwords, and nothing else."""
    site = desk.site
    dn, entry = the_person(site, options.who)
    mail = first(entry, "mail")
    counted = [name for name in ("pwdAccountLockedTime", "pwdFailureTime") if name in entry]
    if counted:
        noted(site, "unlock", mail)
        changes = "".join(f"delete: {name}\n-\n" for name in counted)
        modify(site, f"dn: {dn}\nchangetype: modify\n{changes}\n", "-e relax")
    result = {
        "người": named(entry),
        "kết quả": "đã xóa các lần nhập sai; đăng nhập được ngay"
        if counted
        else "không bị khóa vì nhập sai mật khẩu",
        "trạng thái": state(desk, entry),
    }
    if first(entry, "mailboxState") not in ("active", "expiring"):
        result["lưu ý"] = "không đăng nhập được vì trạng thái: chỉ sửa được trong sổ đăng ký"
    return result, []


# -- what the journals tell ------------------------------------------------------------------------


def last_login(desk: Desk, options: argparse.Namespace) -> Answer:
    """Somebody's last log-ins by protocol, and the last that failed."""
    _, entry = the_person(desk.site, options.who)
    mail = first(entry, "mail")
    found, faults = sessions.log_ins(desk.site, mail, moments.moment(options.since, desk.now))
    rows = {
        worked: [
            {"dịch vụ": one.protocol, "lúc": desk.day(one.moment), "từ": one.address}
            for one in found
            if one.worked == worked
        ]
        for worked in (True, False)
    }
    return {
        "người": named(entry),
        "danh bạ ghi nhận": desk.day(first(entry, "pwdLastSuccess")) or "chưa ghi nhận",
        "thành công": rows[True],
        "không thành công": rows[False],
        "lưu ý": f"nhật ký từ {options.since}; submission: khi gửi thư",
    }, faults


def the_way(desk: Desk, options: argparse.Namespace) -> Answer:
    """The way of letters over all hosts."""
    asked = question(
        desk.site,
        desk.now,
        options.who,
        sender=options.sender,
        recipient=options.recipient,
        since=options.since,
        until=options.until,
    )
    return trace(desk.site, asked)


# -- the command line ------------------------------------------------------------------------------


JOBS = {
    "find": (find, "tìm người hoặc đơn vị: họ tên không dấu, địa chỉ, mã số, mã đơn vị"),
    "access": (
        access,
        "ai được dùng hộp thư của một đơn vị; hoặc những hộp thư mà một người được dùng",
    ),
    "reset": (reset, "cấp mật khẩu dùng một lần"),
    "unlock": (unlock, "mở khóa do nhập sai mật khẩu"),
    "last-login": (last_login, "lần đăng nhập gần nhất"),
    "trace": (the_way, "vì sao một thư không đến"),
    "revoke": (revoke, "ngắt mọi phiên đang mở"),
}
_TIMES = "2026-11-20, '2026-11-20 14:00', 14:00, -2h, -7d, 'hôm qua'"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(prog="python -m deploy.helpdesk")
    top.add_argument(
        "--env", default=os.environ.get("ENV"), help="một thư mục trong inventories/; hoặc biến ENV"
    )
    top.add_argument("--json", action="store_true", help="in dạng JSON cho chương trình khác")
    jobs = top.add_subparsers(dest="job", required=True)
    for name, (_, text) in JOBS.items():
        job = jobs.add_parser(name, help=text)
        if name == "trace":
            job.add_argument(
                "who", nargs="?", default="",
                help="địa chỉ, Message-ID, mã hàng đợi, hoặc máy gửi",
            )  # fmt: skip
            job.add_argument("--from", dest="sender", default="", help="người gửi, hoặc @tên.miền")
            job.add_argument("--to", dest="recipient", default="", help="người nhận")
            job.add_argument("--since", default="-24h", help=f"từ lúc: {_TIMES}")
            job.add_argument("--until", default="", help="đến lúc; một ngày thì đến hết ngày đó")
        else:
            job.add_argument("who", help="mã số, địa chỉ, phần trước @, họ tên; mã đơn vị")
        if name in ("access", "last-login"):
            job.add_argument("--since", default="-30d", help=f"đọc nhật ký từ lúc: {_TIMES}")
        if name == "revoke":
            job.add_argument(
                "--app-passwords", action="store_true", help="hủy cả mọi mật khẩu ứng dụng"
            )
            job.add_argument(
                "--app-password", action="append", default=[], metavar="TÊN",
                help="hủy một mật khẩu ứng dụng, theo tên hoặc mã; dùng được nhiều lần",
            )  # fmt: skip
    return top


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, do the job, print what it found."""
    top = parser()
    options = top.parse_args(moments.joined(sys.argv[1:] if arguments is None else arguments))
    if not options.env:
        top.error("cần --env TÊN hoặc biến ENV")

    def work() -> Answer:
        site = load(options.env)
        desk = Desk(site, datetime.now(moments.zone(site)))
        return JOBS[options.job][0](desk, options)

    return answer(work, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
