"""The way of a letter over all hosts, from their journals, in plain words."""

import re
import shlex
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

_ID = r"[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,20}"
_LINE = re.compile(rf"^(?P<id>{_ID}): ")
_OTHER = re.compile(rf"queued as (?P<next>{_ID})\b|orig_queue_id=(?P<former>{_ID})\b")
_MESSAGE = re.compile(r"message-id=<?(?P<id>[^>\s]+)>?")
_STORED = re.compile(
    r"^lmtp\((?P<user>[^)]+)\).*msgid=<?(?P<id>[^>\s]+?)>?: "
    r".*stored mail into mailbox '(?P<box>[^']*)'"
)
_STATUS = re.compile(r"to=<(?P<to>[^>]*)>.*status=(?P<status>\w+) \((?P<reply>.*)\)")
_REFUSED = re.compile(
    r"reject: \S+ from [^;]*?: (?P<reply>\d{3} .*?|\d\.\d\.\d .*?); "
    r"from=<(?P<from>[^>]*)>(?: to=<(?P<to>[^>]*)>)?"
)
_VERDICTS = {
    "passed": "bộ lọc: sạch, cho qua",
    "marked": "bộ lọc: nghi là thư rác, đánh dấu và cho qua",
    "spam": "bộ lọc: từ chối, coi là thư rác",
    "malware": "bộ lọc: từ chối, có mã độc",
    "attachment": "bộ lọc: từ chối, tệp đính kèm bị cấm",
    "author": "bộ lọc: từ chối, người ghi ở dòng From không phải người gửi",
    "secret": "bộ lọc: từ chối, có dấu chỉ độ mật",
    "unscannable": "bộ lọc: từ chối, tệp đính kèm không kiểm tra được",
    "partial": "bộ lọc: từ chối, thư bị chia thành nhiều phần",
    "postponed": "bộ lọc: tạm hoãn, sẽ được gửi lại",
}
REASONS = (
    ("User unknown", "không có địa chỉ này, hoặc hộp thư đã đóng"),
    ("no mailbox", "không có địa chỉ này, hoặc hộp thư đã đóng"),
    ("senders of this domain", "người bên ngoài dùng địa chỉ của ta"),
    ("not owned by user", "tài khoản không được gửi bằng địa chỉ đó"),
    ("due to SPF", "tên miền gửi không công nhận máy chủ đó"),
    ("Relay access denied", "cổng 25 không dùng để gửi thư ra ngoài"),
    ("Hop thu nguoi nhan da day", "hộp thư người nhận đã đầy"),
    ("Thu qua lon", "hộp thư người nhận không còn chỗ cho thư này"),
    ("Domain not found", "tên miền không tồn tại"),
    ("Gui qua nhieu thu", "người gửi đã dùng hết số thư được gửi"),
    ("Thu bi tu choi", "bộ lọc từ chối"),
    ("Connection refused", "máy nhận không trả lời; sẽ tự gửi lại"),
    ("timed out", "máy nhận không trả lời kịp; sẽ tự gửi lại"),
)
"""Words of a reply, and what they mean: docs/van-hanh.md, „Những câu từ chối hay được hỏi“."""

Record = tuple[str, str, str]
"""Time (GeneralizedTime), host, text."""


@dataclass
class Letter:
    """What is known of one letter."""

    ids: set[str] = field(default_factory=set)
    messages: set[str] = field(default_factory=set)
    records: set[Record] = field(default_factory=set)


def names(text: str) -> tuple[set[str], set[str]]:
    """Queue IDs and message IDs that a line names."""
    ids = {found["id"]} if (found := _LINE.match(text)) else set()
    ids |= {other["next"] or other["former"] for other in _OTHER.finditer(text)}
    messages = {found["id"]} if ids and (found := _MESSAGE.search(text)) else set()
    if found := _STORED.match(text):
        messages.add(found["id"])
    return ids, messages


def grouped(records: Iterable[Record]) -> list[Letter]:
    """Letters, by the IDs that their lines share; a refusal without an ID is one of its own."""
    letters: list[Letter] = []
    for record in sorted(set(records)):
        ids, messages = names(record[2])
        if not ids and not messages and not _REFUSED.search(record[2]):
            continue
        new = Letter(ids, messages, {record})
        rest = []
        for letter in letters:
            if letter.ids & new.ids or letter.messages & new.messages:
                new.ids |= letter.ids
                new.messages |= letter.messages
                new.records |= letter.records
            else:
                rest.append(letter)
        letters = [*rest, new]
    return sorted(letters, key=lambda letter: min(letter.records))


def reason(reply: str) -> str:
    """What a reply means, and the reply itself."""
    meaning = next((text for words, text in REASONS if words in reply), "")
    return f"{meaning} [{reply}]" if meaning else f"[{reply}]"


def told(text: str) -> str:  # noqa: PLR0911 - one a kind of line
    """A line of a journal in words; nothing if it does not tell the way of a letter."""
    if found := re.search(r"\bverdict=(\w+)", text):
        return _VERDICTS.get(found[1], f"bộ lọc: {found[1]}")
    if found := _STORED.match(text):
        box = {"INBOX": "Hộp thư đến", "Junk": "Thư rác"}.get(found["box"], found["box"])
        return f"đã vào thư mục „{box}“ của {found['user']}"
    if found := _REFUSED.search(text):
        to = f" cho {found['to']}" if found["to"] else ""
        return (
            f"từ chối thư của {found['from'] or 'hệ thống thư (<>)'}{to}: {reason(found['reply'])}"
        )
    if found := _STATUS.search(text):
        reply, to = found["reply"], found["to"]
        word = {
            "sent": "đã chuyển tiếp", "deferred": "chưa giao được, sẽ thử lại",
            "bounced": "không giao được, đã báo người gửi",
        }.get(found["status"], found["status"])  # fmt: skip
        return f"{word} cho {to}" + ("" if found["status"] == "sent" else f": {reason(reply)}")
    if found := re.search(r"client=(\S+?),? .*sasl_username=(\S+)", text):
        return f"nhận từ {found[2]} (đã đăng nhập), máy {found[1].rstrip(',')}"
    if found := re.search(rf"^{_ID}: client=([^\s,]+)", text):
        return f"nhận từ máy {found[1]}"
    return ""


def pattern(words: Collection[str]) -> str:
    """What `journalctl -g` looks for, quoted for a shell."""
    return shlex.quote("|".join(re.escape(word) for word in sorted(words)))
