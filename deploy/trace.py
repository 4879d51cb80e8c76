"""Why a letter did not arrive: looks for it in the journals of all hosts, and tells its way."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from deploy import letters, moments
from deploy.hosts import everywhere, first, journal, records, search
from deploy.letters import Letter, Record
from roles.accounts.names import folded
from roles.common.errors import SiteError
from roles.common.site import Site, SiteHost

_FIELDS = (
    "_SYSTEMD_UNIT=postfix.service", "_SYSTEMD_UNIT=dovecot.service",
    "SYSLOG_IDENTIFIER=mimedefang.pl",
)  # fmt: skip
_ROUNDS = 5
"""front, mx, list or redirect, store, and one for a bounce."""
_LINES = 4000
"""Lines of a host's journal that a question brings at the most, the newest."""
_LETTERS = 20
"""Letters that are told at the most, the newest."""
_PARTS = 4 * _LETTERS
"""Of what the first question finds: parts of a letter on front, mx and store may have no name
in common yet."""
_CANDIDATES = 400
"""Letters that are followed where a further condition decides which of them are meant."""
STEPS = 60
"""Steps of a letter's way that are told at the most: a list's letter has thousands."""
_BEFORE = timedelta(hours=1)
"""How long before its first known line a letter may have begun."""
_SIMILAR = 5
"""Addresses that are suggested."""
_WORD = re.compile(r"[a-z0-9_-]{1,9}", re.IGNORECASE)
"""What is the part before the @, and no queue ID."""


@dataclass(frozen=True)
class Question:
    """Which letters are meant; all that is given must be true."""

    since: datetime
    until: datetime | None = None
    words: str = ""
    """An address, a Message-ID, a queue ID, or a host's name or address."""
    sender: str = ""
    """An address, or `@domain`."""
    recipient: str = ""

    def pattern(self) -> str:
        """What the journals are searched for: the condition that the fewest letters fulfil."""
        if self.words:
            return re.escape(self.words)
        if self.recipient:
            return f"to=<{_address(self.recipient)}>|lmtp\\({_address(self.recipient)}\\)"
        return f"from=<{_address(self.sender)}>|sasl_username={_address(self.sender)}"

    @property
    def single(self) -> bool:
        """Whether `pattern` alone finds the letters that are meant."""
        return sum(map(bool, (self.words, self.sender, self.recipient))) == 1

    def means(self, letter: Letter) -> bool:
        """Whether a letter is one of those that are meant."""
        since = f"{self.since.astimezone(UTC):%Y%m%d%H%M%S}"
        until = f"{self.until.astimezone(UTC):%Y%m%d%H%M%S}" if self.until else "9"
        return (
            any(since <= moment < until for moment, *_ in letter.records)
            and any(self.words.lower() in text.lower() for *_, text in letter.records)
            and _among(self.sender, letters.senders(letter))
            and _among(self.recipient, letters.recipients(letter))
        )

    def addresses(self) -> list[str]:
        """The addresses that are asked for."""
        given = (self.words, self.sender, self.recipient)
        return [address for address in given if "@" in address[1:] and " " not in address]


def _address(address: str) -> str:
    return f"[^>]*{re.escape(address)}" if address.startswith("@") else re.escape(address)


def _among(address: str, known: Collection[str]) -> bool:
    if address.startswith("@"):
        return any(other.endswith(address.lower()) for other in known)
    return not address or address.lower() in known


def completed(words: str, domain: str) -> str:
    """What somebody typed, as the journals have it: `anv` is an address of ours."""
    text = words.strip().strip("<>")
    return f"{text}@{domain}" if _WORD.fullmatch(text) else text


def question(
    site: Site,
    now: datetime,
    words: str,
    *,
    sender: str = "",
    recipient: str = "",
    since: str = "-24h",
    until: str = "",
) -> Question:
    """What a command line asks.

    Raises:
        SiteError: a time is none, nothing is asked for, or a subject is.
    """
    asked = Question(
        moments.moment(since, now),
        moments.moment(until, now, end=True) if until else None,
        completed(words, site.domain),
        *(
            text if "@" in text or not text else f"{text}@{site.domain}"
            for text in (sender.strip("<> "), recipient.strip("<> "))
        ),
    )
    if asked.until and asked.until <= asked.since:
        raise SiteError(f"--until {until!r} không sau --since {since!r}")
    if not (asked.words or asked.sender or asked.recipient):
        raise SiteError("cần một địa chỉ, Message-ID hoặc mã hàng đợi, hoặc --from, --to")
    if " " in asked.words:
        raise SiteError(
            f"{words!r}: tiêu đề thư không được ghi trong nhật ký; hãy hỏi theo người gửi "
            "(--from), "
            "người nhận (--to) và thời gian (--since, --until)"
        )
    return asked


def trace(site: Site, asked: Question) -> tuple[dict[str, Any], list[str]]:
    """The way of letters over all hosts, and what went wrong while asking.

    Raises:
        SiteError: there is no such letter; with what was searched, and similar addresses.
    """
    hosts = site.group("front", "mx", "store")
    found, more, faults = _followed(site, hosts, asked)
    zone = moments.zone(site)
    if not found:
        raise SiteError("\n".join([*_searched(site, hosts, asked, zone), *faults]))
    nobody = sorted({address for letter in found for address in letters.unknown(letter)})
    hints = _hints(site, nobody) if nobody else []
    return {
        "số thư": len(found),
        "thư": [told(letter, asked, zone) for letter in found],
        "lưu ý": f"chỉ {_LETTERS} thư mới nhất; thư cũ hơn: thêm --until" if more else "",
        **({"gợi ý": [{"địa chỉ": hint} for hint in hints]} if hints else {}),
    }, faults


def _followed(
    site: Site, hosts: list[SiteHost], asked: Question
) -> tuple[list[Letter], bool, list[str]]:
    """The letters that are meant, oldest first, each with all lines of all hosts.

    Returns:
        The letters, whether there are older ones besides, and the faults of hosts.
    """
    faults: set[str] = set()

    def read(command: str) -> set[Record]:
        said, down = everywhere(site, hosts, command)
        faults.update(down)
        return {
            (moment, host, text)
            for host, lines in said.items()
            for moment, text in records(lines.splitlines())
        }

    seen = read(
        journal(asked.pattern(), *_FIELDS, since=asked.since, until=asked.until, lines=_LINES)
    )
    every = sorted(letters.grouped(seen), key=lambda letter: letter.last)
    found = every[-_PARTS if asked.single else -_CANDIDATES :]
    more = len(found) < len(every)
    known: set[str] = set()
    # From the words to queue IDs, from these to the Message-ID, and from host to host.
    for _ in range(_ROUNDS):
        new = {name for letter in found for _, name in letter.keys} - known
        if not new:
            break
        known |= new
        start = min(moment for letter in found for moment, *_ in letter.records)
        pattern = "|".join(re.escape(name) for name in sorted(new))
        since = moments.at(start) - _BEFORE
        kept = set().union(*(letter.records for letter in found))
        kept |= read(journal(pattern, *_FIELDS, since=since, lines=_LINES, case=True))
        found = letters.grouped(kept)
    meant = [letter for letter in found if asked.means(letter) and letters.way(letter)]
    meant.sort(key=lambda letter: letter.last)
    return meant[-_LETTERS:], more or len(meant) > _LETTERS, sorted(faults)


def told(letter: Letter, asked: Question, zone: ZoneInfo) -> dict[str, Any]:
    """What is said of a letter: its names, from whom to whom, what became of it, and its way."""
    steps = letters.way(letter)
    left = len(steps) - STEPS
    if left > 0:
        wanted = [address.lower() for address in asked.addresses()]
        named = [step for step in steps if any(a in step.words.lower() for a in wanted)]
        # Steps on the way of whom is asked for come first, all others as long as there is room.
        kept = list({id(step): step for step in [*named, *steps]})[:STEPS]
        steps = [step for step in steps if id(step) in kept]
    lines = [
        {
            moments.second(step.first, zone): f"{step.host}: {step.words}"
            + (
                f" ({step.times} lần, lần cuối {moments.second(step.last, zone)})"
                if step.times > 1
                else ""
            )
        }
        for step in steps
    ]
    if left > 0:
        lines.append({"còn nữa": f"{left} bước khác; hỏi thêm --to ĐỊA_CHỈ để xem của một người"})
    return {
        "mã thư": ", ".join(letter.names("message")) or "không có (bị từ chối khi bắt đầu gửi)",
        "mã hàng đợi": ", ".join(letter.names("queue")),
        "từ": _few(letters.senders(letter)),
        "đến": _few(letters.recipients(letter)),
        "kết quả": letters.outcome(letter),
        "đường đi": lines,
    }


def _few(addresses: Collection[str]) -> str:
    shown = sorted(addresses)[:_SIMILAR]
    more = len(addresses) - len(shown)
    return ", ".join(shown) + (f" và {more} địa chỉ khác" if more else "")


# -- where nothing is found ------------------------------------------------------------------------


def _searched(site: Site, hosts: list[SiteHost], asked: Question, zone: ZoneInfo) -> list[str]:
    """What was searched, and what else might have been meant."""
    given = [
        f"{label} {text!r}"
        for label, text in (
            ("có", asked.words), ("người gửi", asked.sender), ("người nhận", asked.recipient),
        )
        if text
    ]  # fmt: skip
    until = f"{asked.until:%H:%M %d/%m/%Y}" if asked.until else "bây giờ"
    lines = [
        f"Không có thư nào {', '.join(given)}.",
        f"Đã tìm trong nhật ký của {', '.join(host.name for host in hosts)}, từ "
        f"{asked.since:%H:%M %d/%m/%Y} đến {until}. Tiêu đề và nội dung thư không được ghi.",
    ]
    said, _ = everywhere(site, hosts, "journalctl -q --no-pager -o json -n +1")
    for host, text in said.items():
        for moment, _ in records(text.splitlines()):
            if moments.at(moment) > asked.since:
                lines.append(f"Nhật ký của {host} chỉ còn từ {moments.day(moment, zone)}.")
    return [*lines, *_hints(site, asked.addresses())]


def _hints(site: Site, addresses: Iterable[str]) -> list[str]:
    """What the directory knows about addresses."""
    entries = search(
        site, site.base_dn, "(mailLocalAddress=*)", "cn", "displayName", "mailLocalAddress"
    )
    known = {
        address.lower(): first(entry, "displayName") or first(entry, "cn")
        for _, entry in entries
        for address in entry["mailLocalAddress"]
    }
    domains = search(site, f"ou=domains,{site.base_dn}", "(associatedDomain=*)", "associatedDomain")
    ours = [site.domain, *(domain for _, entry in domains for domain in entry["associatedDomain"])]
    return [hint for address in addresses if (hint := suggestion(address.lower(), known, ours))]


def suggestion(address: str, known: Mapping[str, str], domains: Collection[str]) -> str:
    """What the directory says of an address: that it is there, or which ones are similar.

    Args:
        address: in lower case.
        known: every address of the directory with its owner's name.
        domains: our mail domains, the first of which all addresses are in.
    """
    local_part, _, domain = address.rpartition("@")
    own = next(iter(domains))
    plain = f"{local_part.partition('+')[0]}@{own}"
    if domain in domains and plain in known:
        return f"{address} có trong danh bạ: {known[plain]}."
    near = difflib.get_close_matches(domain, domains, n=1, cutoff=0.8)
    if domain not in domains and not near and plain not in known:
        return f"{address} không phải là địa chỉ của hệ thống này."
    spelt: dict[str, set[str]] = {}
    for other, name in known.items():
        for form in (other.partition("@")[0], re.sub(r"\W", "", folded(name))):
            spelt.setdefault(form, set()).add(other)
    wanted = re.sub(r"[^a-z0-9.]", "", folded(local_part))
    forms = difflib.get_close_matches(wanted, spelt, n=_SIMILAR, cutoff=0.75)
    similar = dict.fromkeys(other for form in forms for other in sorted(spelt[form]))
    if not similar:
        return f"Danh bạ không có {address}, cũng không có địa chỉ nào gần giống."
    shown = "; ".join(f"{other} ({known[other]})" for other in list(similar)[:_SIMILAR])
    return f"Danh bạ không có {address}. Có phải là: {shown}?"
