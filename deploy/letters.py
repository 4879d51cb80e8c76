"""The way of a letter over all hosts, from their journals, in plain words."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from deploy.replies import meaning

_ID = r"[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,20}"
_LINE = re.compile(rf"^(?:postsuper: )?(?P<id>{_ID}): ")
_OTHER = re.compile(
    rf"queued as (?P<next>{_ID})\b|orig_queue_id=(?P<former>{_ID})\b|"
    rf"notification: (?P<notice>{_ID})$"
)
_MESSAGE = re.compile(r"\bmessage-id=<?(?P<id>[^>\s]+)>?")
_SESSION = re.compile(
    r"(?: from| for|DISCONNECT|PASS (?:NEW|OLD)) (?P<session>\[[0-9A-Fa-f.:]+\]:\d+)"
)
"""How postscreen names a client: without the client's name, which it does not ask for."""
_STORED = re.compile(
    r"^lmtp\((?P<user>[^)]+)\)\S*: (?:sieve: )?msgid=<?(?P<id>[^>\s]+?)>?: (?P<what>.*)"
)
HANDLED = re.compile(
    r"^(?P<program>imap|pop3|doveadm|managesieve)\((?P<user>[^)]+)\)\S*: "
    r"(?:Mailbox .*?: )?(?P<what>copy from (?P<former>.+?)|save|delete|undelete|expunge): "
    r"box=(?P<box>.+?), uid=\d+, msgid=<?(?P<id>[^>,\s]*)>?"
)
"""What somebody did with a letter; the plug-in mail_log writes it."""
_STATUS = re.compile(
    rf"^(?P<id>{_ID}): to=<(?P<to>[^>]*)>.*? relay=(?P<relay>[^,]+),.*? "
    r"status=(?P<status>\w+) \((?P<reply>.*)\)"
)
_REFUSED = re.compile(
    r"reject: \S+ from [^;]*?: (?P<reply>\d{3} .*?|\d\.\d\.\d .*?); "
    r"from=<(?P<from>[^>]*)>(?:,? to=<(?P<to>[^>]*)>)?"
)
_UNIT_SENT = re.compile(r"\+unit-sent-(?P<unit>[^@]+)@")
_STORE_PORT, _INTERNAL_PORT = "24", "10025"
_MANY = 5
"""Recipients who are named; of more there is the number."""
_FOLDERS = {
    "INBOX": "Hộp thư đến", "Junk": "Thư rác", "Trash": "Thùng rác", "Sent": "Thư đã gửi",
    "Drafts": "Nháp", "Archive": "Lưu trữ", ".EXPUNGED": "vùng thư đã xóa (còn lấy lại được)",
}  # fmt: skip
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

Record = tuple[str, str, str]
"""Time (GeneralizedTime), host, text."""
Key = tuple[str, str]
"""What lines of one letter have in common: the kind of name, and the name."""


@dataclass
class Letter:
    """What is known of one letter."""

    keys: set[Key] = field(default_factory=set)
    records: set[Record] = field(default_factory=set)

    def names(self, kind: str) -> list[str]:
        """Its `queue`, `message` or `session` names, sorted."""
        return sorted(name for known, name in self.keys if known == kind)

    @property
    def messages(self) -> set[str]:
        """Its message IDs: one, and those of notices about it."""
        return set(self.names("message"))

    @property
    def ids(self) -> set[str]:
        """Its queue IDs on all hosts."""
        return set(self.names("queue"))

    @property
    def last(self) -> str:
        """When it was heard of last."""
        return max(moment for moment, *_ in self.records)


def keys(text: str) -> set[Key]:
    """What a line names: queue IDs, message IDs, and the session of a client at postscreen."""
    found = set()
    if line := _LINE.match(text):
        found.add(("queue", line["id"]))
        if message := _MESSAGE.search(text):
            found.add(("message", message["id"]))
    for other in _OTHER.finditer(text):
        found.add(("queue", other["next"] or other["former"] or other["notice"]))
    if (stored := _STORED.match(text) or HANDLED.match(text)) and stored["id"]:
        found.add(("message", stored["id"]))
    if not line and (session := _SESSION.search(text)):
        found.add(("session", session["session"]))
    return found


def grouped(records: Iterable[Record]) -> list[Letter]:
    """Letters, by the names that their lines share; a refusal without any is one of its own."""
    owner: dict[Key, Letter] = {}
    letters: dict[int, Letter] = {}
    for record in sorted(set(records)):
        named = keys(record[2])
        if not named and not _REFUSED.search(record[2]):
            continue
        joined = {id(owner[key]): owner[key] for key in named if key in owner}
        letter = max(joined.values(), key=lambda known: len(known.records), default=Letter())
        for other in joined.values():
            if other is not letter:
                letter.keys |= other.keys
                letter.records |= other.records
                del letters[id(other)]
        letter.keys |= named
        letter.records.add(record)
        letters[id(letter)] = letter
        owner |= dict.fromkeys(letter.keys if len(joined) > 1 else named, letter)
    return sorted(letters.values(), key=lambda letter: min(letter.records))


# -- lines in words -------------------------------------------------------------------------------


def reason(reply: str, *, outside: bool = False) -> str:
    """What a reply means, and the reply itself."""
    known = meaning(reply, outside=outside)
    return f"{known} [{reply}]" if known else f"[{reply}]"


def folder(name: str) -> str:
    """A folder as officials know it."""
    path, _, last = name.rpartition("/")
    shown = _FOLDERS.get(last, last)
    return f"{path}/{shown}" if path else shown


def _verdict(found: re.Match[str]) -> str:
    facts = found["facts"]
    words = _VERDICTS.get(found["verdict"], f"bộ lọc: {found['verdict']}")
    if what := re.search(r"\bwhat=(.+)", facts):
        return f"{words} ({what[1]})"
    score = re.search(r"\bscore=(-?[\d.]+)", facts)
    return f"{words} (điểm thư rác {score[1]})" if score else words


_SIEVE = (
    (r"stored mail into mailbox '(.*?)'", "đã vào thư mục „{folder}“ của {user}"),
    (r"saved mail to (\S+)", "đã vào thư mục „{folder}“ của {user}"),
    (r"forwarded to <(.*?)>", "bộ lọc riêng của {user} đã chuyển tiếp cho {what}"),
    (r"sent vacation response to <(.*?)>", "{user} đang vắng: đã tự trả lời {what}"),
    (r"(?:rejected message from|sent rejection message to) <(.*?)>",
     "bộ lọc riêng của {user} đã từ chối, có báo cho {what}"),
    (r"(marked message to be discarded)", "bộ lọc riêng của {user} đã bỏ thư này"),
    (r"failed to store into mailbox '?(.*)", "không lưu được vào thư mục của {user}: {what}"),
    (r"save failed to (.*)", "không lưu được vào thư mục của {user}: {what}"),
)  # fmt: skip
"""What a store did with a letter, and the words; `folder` and `what` are the pattern's group."""


def _stored(found: re.Match[str]) -> str:
    for pattern, words in _SIEVE:
        if what := re.search(pattern, found["what"], re.IGNORECASE):
            return words.format(user=found["user"], what=what[1], folder=folder(what[1]))
    return ""


def _handled(found: re.Match[str]) -> str:
    what, box = found["what"], folder(found["box"])
    by = f"{found['user']} ({found['program']})"
    if found["former"]:
        # A letter that is deleted for good is copied there by the server.
        return f"{by}: từ „{folder(found['former'])}“ sang „{box}“"
    words = {
        "delete": "đánh dấu xóa trong", "undelete": "bỏ dấu xóa trong", "expunge": "xóa khỏi",
        "save": "lưu vào",
    }  # fmt: skip
    return f"{by}: {words[what]} „{box}“"


def _refused(found: re.Match[str]) -> str:
    to = f" cho {found['to']}" if found["to"] else ""
    return f"từ chối thư của {found['from'] or 'hệ thống thư (<>)'}{to}: {reason(found['reply'])}"


def _whom(address: str) -> str:
    if unit := _UNIT_SENT.search(address):
        return f"bản lưu trong Thư đã gửi của đơn vị {unit['unit']}"
    return address


def _status(found: re.Match[str]) -> str:
    reply, to, relay = found["reply"], _whom(found["to"]), found["relay"]
    host, port = relay.partition("[")[0], relay.rpartition(":")[2]
    if found["status"] == "sent":
        if relay == "list":
            return f"danh sách thư {to}: đã chuyển cho những người trong danh sách"
        if port == _STORE_PORT:
            return f"đã giao vào kho thư cho {to}"
        if port == _INTERNAL_PORT:
            return f"đã chuyển sang {host} cho {to}"
        return f"máy {host} của bên nhận đã nhận thư cho {to}; từ đó là việc của bên nhận [{reply}]"
    words = {
        "deferred": "chưa giao được, sẽ thử lại", "bounced": "không giao được",
        "expired": "hết thời gian chờ, không giao được",
    }.get(found["status"], found["status"])  # fmt: skip
    outside = "[" in relay and port not in (_STORE_PORT, _INTERNAL_PORT)
    return f"{words} cho {to}: {reason(reply, outside=outside)}"


def _submitted(found: re.Match[str]) -> str:
    return f"nhận từ {found['login']} (đã đăng nhập), máy {found['client']}"


def _queued(found: re.Match[str]) -> str:
    return "" if found["count"] == "1" else f"vào hàng đợi: {found['count']} người nhận"


_SCREENED = {
    "PREGREET": "máy {client} nói trước khi được chào: máy phát tán thư rác",
    "HANGUP": "máy {client} bỏ đi trước khi được chào",
    "DNSBL": "máy {client} có trong danh sách chặn",
    "COMMAND PIPELINING": "máy {client} gửi dồn lệnh trái quy tắc",
    "NON-SMTP COMMAND": "máy {client} không nói SMTP",
    "BARE NEWLINE": "máy {client} kết thúc dòng chỉ bằng LF",
    "COMMAND TIME LIMIT": "máy {client} trả lời quá chậm",
    "COMMAND COUNT LIMIT": "máy {client} gửi quá nhiều lệnh",
    "COMMAND LENGTH LIMIT": "máy {client} gửi lệnh quá dài",
}
"""What postscreen finds wrong with a client."""


def _screened(found: re.Match[str]) -> str:
    return _SCREENED[found["test"]].format(client=found["session"])


_PLAIN: tuple[tuple[str, str], ...] = (
    (
        r"from=<.*>, status=(?:force-)?expired",
        "hết thời gian chờ trong hàng đợi, trả lại người gửi",
    ),
    (r"sender non-delivery notification:", "đã báo người gửi là thư không giao được"),
    (r"postmaster non-delivery notification:", "đã báo quản trị thư"),
    (r"sender delay notification:", "đã báo người gửi là thư còn đang chờ"),
    (r"^postsuper: \S+: removed", "người vận hành đã xóa khỏi hàng đợi"),
    (r"^postsuper: \S+: placed on hold", "người vận hành đã giữ lại trong hàng đợi"),
    (r"^postsuper: \S+: released from hold", "người vận hành đã cho đi tiếp"),
)
_RULES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\bverdict=(?P<verdict>\w+)(?P<facts>.*)"), _verdict),
    (_STORED, _stored),
    (HANDLED, _handled),
    (_REFUSED, _refused),
    (_STATUS, _status),
    (re.compile(r"\bclient=(?P<client>[^\s,]+),.* sasl_username=(?P<login>[^\s,]+)"), _submitted),
    (re.compile(rf"^{_ID}: client=(?P<client>[^\s,]+)"), lambda f: f"nhận từ máy {f['client']}"),
    (re.compile(r"sent-as-unit unit=<(?P<unit>[^>]*)> login=<(?P<login>[^>]*)>"),
     lambda f: f"{f['login']} gửi bằng tên đơn vị {f['unit']}"),
    (re.compile(r", nrcpt=(?P<count>\d+) \(queue active\)"), _queued),
    (re.compile(rf"^(?P<test>{'|'.join(_SCREENED)}) .*?(?:from|for) (?P<session>\[[^\]]+\]:\d+)"),
     _screened),
    *((re.compile(pattern), lambda _, words=words: words)
      for pattern, words in _PLAIN),
)  # fmt: skip


def told(text: str) -> str:
    """A line of a journal in words; nothing if it does not tell the way of a letter."""
    for pattern, words in _RULES:
        if found := pattern.search(text):
            return words(found)
    return ""


@dataclass
class Step:
    """One step of a letter's way; repeated steps are one."""

    first: str
    """When it happened (GeneralizedTime)."""
    host: str
    words: str
    last: str = ""
    """When it happened the last time."""
    times: int = 1


def way(letter: Letter) -> list[Step]:
    """The steps of a letter, in their order; the same again on the same host is counted."""
    steps: dict[tuple[str, str], Step] = {}
    for moment, host, text in sorted(letter.records):
        if not (words := told(text)):
            continue
        # Times and numbers of processes differ between two tries, the reason does not.
        step = steps.setdefault((host, words), Step(moment, host, words, times=0))
        step.last, step.times = moment, step.times + 1
    return list(steps.values())


def _fates(letter: Letter) -> Iterator[tuple[str, str]]:
    """Recipients with what became of the letter there, oldest first."""
    for _, _, text in sorted(letter.records):
        if (found := _STATUS.search(text)) and not _UNIT_SENT.search(found["to"]):
            if found["status"] != "sent":
                yield found["to"], found["status"]
            elif found["relay"].rpartition(":")[2] != _INTERNAL_PORT:
                yield found["to"], "sent"
        elif found := _REFUSED.search(text):
            temporary = found["reply"].startswith("4")
            yield found["to"] or "", "postponed" if temporary else "refused"


_FATES = {
    "sent": "đã giao", "deferred": "còn đang chờ, sẽ tự gửi lại",
    "postponed": "hoãn, nơi gửi phải gửi lại", "refused": "bị từ chối",
    "bounced": "không giao được", "expired": "không giao được",
}  # fmt: skip


def outcome(letter: Letter) -> str:
    """What became of a letter in the end, by recipient."""
    by_fate: dict[str, list[str]] = {}
    for to, fate in dict(_fates(letter)).items():
        by_fate.setdefault(_FATES.get(fate, fate), []).append(to)
    parts = []
    for words, recipients in by_fate.items():
        known = sorted(filter(None, recipients))
        whom = ", ".join(known) if len(known) <= _MANY else f"{len(known)} người nhận"
        parts.append(f"{words} cho {whom}" if whom else words)
    return "; ".join(parts) or "chưa rõ: còn đang xử lý, hoặc bên gửi ngắt kết nối giữa chừng"


def senders(letter: Letter) -> set[str]:
    """Addresses and log-ins that a letter came from, in lower case."""
    return _addresses(letter, r"\b(?:from=<([^>]+)>|sasl_username=([^\s,]+)|login=<([^>]+)>)")


def recipients(letter: Letter) -> set[str]:
    """Addresses that a letter went to, in lower case; aliases as they were typed, too."""
    return _addresses(letter, r"\b(?:to=<([^>]+)>|orig_to=<([^>]+)>)|^lmtp\(([^)]+)\)")


def _addresses(letter: Letter, pattern: str) -> set[str]:
    return {
        part.lower()
        for *_, text in letter.records
        for found in re.findall(pattern, text)
        for part in found
        if part
    }


def unknown(letter: Letter) -> set[str]:
    """Addresses of ours that a letter was refused for, because nobody has them."""
    found = (_REFUSED.search(text) for *_, text in letter.records)
    return {
        refused["to"].lower()
        for refused in found
        if refused and refused["to"] and "User unknown" in refused["reply"]
    }
