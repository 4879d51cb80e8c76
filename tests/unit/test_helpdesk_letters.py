"""The way of a letter as the journals tell it, and the table of replies, without a host."""

import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from deploy import letters, moments, replies, trace
from deploy.letters import Record
from deploy.trace import Question
from docs import generate
from roles.common.errors import SiteError
from roles.common.site import ROOT, Site, SiteHost, load

F, M, B = "4jZQzL2XByzDGlh", "4jZQzL3L13zDGlv", "4jZQzL4L13zDGlw"
PEER = "pc.b.vn[192.0.2.9]:4"
WAY = [
    ("1", "front1", f"{F}: client={PEER}, sasl_method=PLAIN, sasl_username=a@b.vn"),
    ("2", "front1", f"{F}: message-id=<x@b.vn>"),
    ("3", "mx1", f"{M}: client=front1.b.vn[10.0.0.1]:4, orig_queue_id={F}, orig_client=pc"),
    ("4", "mx1", f"{M}: verdict=marked client=10.0.0.1 from=<a@b.vn> nrcpt=1 score=6.1 size=9"),
    ("5", "mx1", f"{M}: to=<c@b.vn>, relay=none, delay=1, dsn=4.4.1, status=deferred "
     "(connect to store-a.b.vn[10.0.0.2]:24: Connection refused)"),
    ("6", "front1", f"{F}: to=<c@b.vn>, relay=mx1.b.vn[10.0.0.3]:10025, delay=1, dsn=2.0.0, "
     f"status=sent (250 2.0.0 Ok: queued as {M})"),
    ("7", "store1", "lmtp(c@b.vn)<1><a>: sieve: msgid=<x@b.vn>: fileinto action: "
     "stored mail into mailbox 'Junk'"),
    ("8", "mx1", f"NOQUEUE: reject: RCPT from {PEER}: 550 5.1.1 <no@b.vn>: Recipient "
     "address rejected: User unknown; from=<d@e.vn> to=<no@b.vn> proto=ESMTP helo=<pc>"),
]  # fmt: skip


def test_the_lines_of_all_hosts_are_one_letter() -> None:
    way, refused = letters.grouped(reversed(WAY))
    assert way.ids == {F, M}
    assert way.messages == {"x@b.vn"}
    assert len(way.records) == len(WAY) - 1
    assert refused.records == {WAY[-1]}


def test_two_letters_become_one_when_a_line_joins_them() -> None:
    first, second = (f"{name}: client={PEER}" for name in (F, M))
    joint = f"{F}: to=<c@b.vn>, relay=mx1[10.0.0.3]:10025, status=sent (250 Ok: queued as {M})"
    later = f"{M}: message-id=<x@b.vn>"
    (letter,) = letters.grouped(
        [("1", "f", first), ("2", "m", second), ("3", "f", joint), ("4", "m", later)]
    )
    assert letter.ids == {F, M}
    assert len(letter.records) == 4


def test_a_journal_is_told_in_words() -> None:
    told = [letters.told(line) for *_, line in WAY]
    assert "nhận từ a@b.vn" in told[0]
    assert told[1] == ""
    assert told[3].endswith("cho qua (điểm thư rác 6.1)")
    assert "sẽ thử lại cho c@b.vn: máy nhận không trả lời" in told[4]
    assert told[5] == "đã chuyển sang mx1.b.vn cho c@b.vn"
    assert told[6] == "đã vào thư mục „Thư rác“ của c@b.vn"
    assert "từ chối thư của d@e.vn cho no@b.vn: không có địa chỉ này" in told[7]


def refusal(reply: str) -> str:
    return f"{M}: reject: RCPT from {PEER}: {reply}; from=<d@e.vn> to=<c@b.vn> proto=ESMTP"


ENDS = {
    # postscreen: it names the client by its address alone, with commas between the addresses.
    "NOQUEUE: reject: RCPT from [192.0.2.9]:4: 550 5.5.1 Protocol error; from=<d@e.vn>, "
    "to=<c@b.vn>, proto=ESMTP, helo=<pc>": "d@e.vn cho c@b.vn: máy gửi nói trước khi được chào",
    "NOQUEUE: reject: RCPT from [192.0.2.9]:4: 550 5.7.1 Service unavailable; client [192.0.2.9] "
    "blocked using zen.vidu.vn; from=<d@e.vn>, to=<c@b.vn>, proto=ESMTP, helo=<pc>":
        "có trong danh sách chặn",
    "NOQUEUE: reject: RCPT from [192.0.2.9]:4: 450 4.3.2 Service currently unavailable; "
    "from=<d@e.vn>, to=<c@b.vn>, proto=ESMTP, helo=<pc>": "máy gửi còn lạ",
    "PREGREET 11 after 0.02 from [192.0.2.9]:4: EHLO pc\\r\\n": "nói trước khi được chào",
    "DNSBL rank 3 for [192.0.2.9]:4": "máy [192.0.2.9]:4 có trong danh sách chặn",
    "HANGUP after 0.1 from [192.0.2.9]:4 in tests before SMTP handshake": "bỏ đi",
    "COMMAND PIPELINING from [192.0.2.9]:4 after EHLO: MAIL": "gửi dồn lệnh",
    "NON-SMTP COMMAND from [192.0.2.9]:4 after CONNECT: GET / HTTP/1.1": "không nói SMTP",
    "COMMAND TIME LIMIT from [192.0.2.9]:4 after CONNECT": "trả lời quá chậm",
    # Refused by Postfix, by the store's service, by a policy.
    refusal("552 5.2.2 Hop thu nguoi nhan da day (mailbox is full)"): "hộp thư người nhận đã đầy",
    refusal("450 4.7.1 Gui qua nhieu thu, xin gui lai sau (too many recipients, try again later)"):
        "đã dùng hết mta.recipients_per_hour",
    refusal("553 5.7.1 <a@b.vn>: Sender address rejected: not owned by user d@e.vn"):
        "không được gửi bằng địa chỉ đó",
    refusal("550 5.7.1 <c@b.vn>: Recipient address rejected: Thu bi tu choi: ong/ba khong duoc gui "
            "den danh sach <c@b.vn> / Refused"): "không được gửi đến danh sách thư này",
    refusal("550 5.7.23 <c@b.vn>: Recipient address rejected: Message rejected due to SPF: fail"):
        "tên miền gửi không công nhận máy chủ đó",
    refusal("451 4.3.0 <c@b.vn>: Temporary lookup failure"): "danh bạ tạm thời không trả lời",
    refusal("452 4.3.1 Insufficient system storage"): "đĩa của máy nhận sắp đầy",
    # The filter.
    f"{M}: verdict=secret client=10.0.0.1 from=<a@b.vn> nrcpt=1 what=MAT":
        "có dấu chỉ độ mật (MAT)",
    f"{M}: verdict=malware client=10.0.0.1 from=<a@b.vn> nrcpt=1 what=Eicar": "có mã độc (Eicar)",
    f"{M}: milter-reject: END-OF-MESSAGE from {PEER}: 5.7.1 Thu bi tu choi vi bi coi la thu rac "
    "(diem 17.0) / Refused; from=<d@e.vn> to=<c@b.vn> proto=ESMTP": "điểm thư rác từ reject_score",
    f"{M}: milter-reject: END-OF-MESSAGE from {PEER}: 5.7.1 Thu bi tu choi: co ma doc Eicar; "
    "from=<d@e.vn> to=<c@b.vn> proto=ESMTP": "có mã độc",
    # On its way out.
    f"{M}: to=<x@y.vn>, relay=mx.y.vn[192.0.2.5]:25, delay=2, delays=1/0/0/1, dsn=2.0.0, "
    "status=sent (250 2.0.0 Ok: queued as 77)": "máy mx.y.vn của bên nhận đã nhận thư cho x@y.vn",
    f"{M}: to=<x@y.vn>, relay=mx.y.vn[192.0.2.5]:25, delay=2, dsn=4.2.0, status=deferred (host "
    "mx.y.vn[192.0.2.5] said: 451 4.2.0 Greylisted, come back (in reply to RCPT TO command))":
        "bắt chờ lần đầu",
    f"{M}: to=<x@y.vn>, relay=mx.y.vn[192.0.2.5]:25, delay=2, dsn=5.1.1, status=bounced (host "
    "mx.y.vn[192.0.2.5] said: 550 5.1.1 <x@y.vn>: User unknown (in reply to RCPT TO command))":
        "không giao được cho x@y.vn: bên nhận báo không có địa chỉ này",
    f"{M}: to=<x@y.vn>, relay=none, delay=2, dsn=5.4.4, status=bounced (Host or domain name not "
    "found. Name service error for name=y.vn type=AAAA: Host not found)": "DNS không biết máy nhận",
    f"{M}: from=<a@b.vn>, status=expired, returned to sender": "hết thời gian chờ",
    f"{M}: sender non-delivery notification: {B}": "đã báo người gửi là thư không giao được",
    f"{M}: sender delay notification: {B}": "đã báo người gửi là thư còn đang chờ",
    f"postsuper: {M}: removed": "người vận hành đã xóa khỏi hàng đợi",
    f"{M}: to=<c@b.vn>, relay=store-a.b.vn[10.0.0.2]:24, delay=1, dsn=2.0.0, "
    "status=sent (250 2.0.0 <c@b.vn> x Saved)": "đã giao vào kho thư cho c@b.vn",
    # Lists, units.
    f"{M}: to=<l@b.vn>, relay=list, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (delivered via "
    "list service)": "danh sách thư l@b.vn: đã chuyển cho những người trong danh sách",
    f"{M}: to=<l@b.vn>, relay=list, delay=1, dsn=5.1.1, status=bounced (5.1.1 Danh sach khong co "
    "ai / <l@b.vn> is empty)": "danh sách thư này hiện không có ai",
    f"{M}: from=<l@b.vn>, size=900, nrcpt=40 (queue active)": "vào hàng đợi: 40 người nhận",
    f"{M}: to=<a+unit-sent-stttt@b.vn>, relay=store-a.b.vn[10.0.0.2]:24, delay=1, dsn=2.0.0, "
    "status=sent (250 2.0.0 <a@b.vn> x Saved)": "Thư đã gửi của đơn vị stttt",
    f"{M}: sent-as-unit unit=<stttt@b.vn> login=<a@b.vn> message-id=<x@b.vn> nrcpt=1":
        "a@b.vn gửi bằng tên đơn vị stttt@b.vn",
    # At the store.
    "lmtp(c@b.vn)<1><a>: sieve: msgid=<x@b.vn>: stored mail into mailbox 'INBOX'":
        "đã vào thư mục „Hộp thư đến“ của c@b.vn",
    "lmtp(c@b.vn)<1><a>: sieve: msgid=<x@b.vn>: redirect action: forwarded to <e@y.vn>":
        "bộ lọc riêng của c@b.vn đã chuyển tiếp cho e@y.vn",
    "lmtp(c@b.vn)<1><a>: sieve: msgid=<x@b.vn>: vacation action: sent vacation response to "
    "<a@b.vn>":
        "c@b.vn đang vắng: đã tự trả lời a@b.vn",
    "lmtp(c@b.vn)<1><a>: sieve: msgid=<x@b.vn>: discard action: Marked message to be discarded if "
    "not explicitly delivered (discard action)": "bộ lọc riêng của c@b.vn đã bỏ thư này",
    "lmtp(c@b.vn)<1><a>: sieve: msgid=<x@b.vn>: reject action: rejected message from <a@b.vn> "
    "(reject)": "đã từ chối, có báo cho a@b.vn",
    "lmtp(c@b.vn)<1><a>: sieve: msgid=<x@b.vn>: failed to store into mailbox 'INBOX': Quota "
    "exceeded":
        "không lưu được vào thư mục của c@b.vn: INBOX': Quota exceeded",
    # And what its reader did with it.
    "imap(c@b.vn)<1><a>: Mailbox Trash: copy from INBOX: box=Trash, uid=5, msgid=<x@b.vn>, size=9":
        "c@b.vn (imap): từ „Hộp thư đến“ sang „Thùng rác“",
    "imap(c@b.vn)<1><a>: Mailbox Đơn vị/stttt/Trash: expunge: box=Đơn vị/stttt/Trash, uid=5, "
    "msgid=<x@b.vn>, size=900":
        "c@b.vn (imap): xóa khỏi „Đơn vị/stttt/Thùng rác“",
}  # fmt: skip


@pytest.mark.parametrize("line", ENDS)
def test_every_end_of_a_letter_has_its_words(line: str) -> None:
    assert ENDS[line] in letters.told(line)


@pytest.mark.parametrize(
    "line",
    [
        "lmtp(c@b.vn)<1><a>: sieve: msgid=<x@b.vn>: discarded duplicate vacation response to <a>",
        "lmtp(c@b.vn)<1><a>: sieve: msgid=<x@b.vn>: discarded duplicate forward to <a@b.vn>",
        f"{M}: from=<a@b.vn>, size=9, nrcpt=1 (queue active)",
        f"{M}: removed",
        "connect from pc.b.vn[192.0.2.9]:4",
    ],
)
def test_what_says_nothing_of_a_letter_is_left_out(line: str) -> None:
    assert letters.told(line) == ""


def test_what_postscreen_saw_belongs_to_the_refusal() -> None:
    lines = list(ENDS)
    refused, greeted = lines[0], lines[3]
    other = greeted.replace("]:4", "]:5")
    letter, apart = letters.grouped([("1", "m", greeted), ("2", "m", refused), ("3", "m", other)])
    assert [text for *_, text in sorted(letter.records)] == [greeted, refused]
    assert letter.messages == set()
    assert [text for *_, text in apart.records] == [other]


def test_a_notice_is_told_with_the_letter_that_it_is_about() -> None:
    (letter,) = letters.grouped(
        [
            ("1", "m", f"{M}: message-id=<x@b.vn>"),
            ("2", "m", f"{M}: sender non-delivery notification: {B}"),
            ("3", "m", f"{B}: message-id=<n@b.vn>"),
        ]
    )
    assert letter.ids == {M, B}


def test_the_same_again_is_counted() -> None:
    (_, _, text) = WAY[4]
    again = [(moment, "mx1", text) for moment in ("20261125010000Z", "20261125020000Z")]
    (step,) = letters.way(letters.grouped(again)[0])
    assert (step.first, step.last, step.times) == ("20261125010000Z", "20261125020000Z", 2)


def status(to: str, what: str, relay: str = "mx.y.vn[192.0.2.5]:25") -> str:
    return f"{M}: to=<{to}>, relay={relay}, delay=1, dsn=2.0.0, status={what} (250 ok)"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([status("c@b.vn", "sent", "mx1.b.vn[10.0.0.3]:10025")], "chưa rõ: còn đang xử lý"),
        ([status("c@b.vn", "deferred"), status("c@b.vn", "sent")], "đã giao cho c@b.vn"),
        (
            [status("c@b.vn", "sent"), status("d@b.vn", "bounced")],
            "đã giao cho c@b.vn; không giao được cho d@b.vn",
        ),
        ([status("c@b.vn", "deferred")], "còn đang chờ, sẽ tự gửi lại cho c@b.vn"),
        ([WAY[-1][2]], "bị từ chối cho no@b.vn"),
        ([refusal("450 4.7.1 Gui qua nhieu thu")], "hoãn, nơi gửi phải gửi lại cho c@b.vn"),
        ([status(f"c{n}@b.vn", "sent") for n in range(6)], "đã giao cho 6 người nhận"),
    ],
)
def test_what_became_of_a_letter_is_said_first(lines: list[str], said: str) -> None:
    records = [(str(moment), "mx1", text) for moment, text in enumerate(lines)]
    assert letters.outcome(letters.grouped(records)[0]).startswith(said)


def test_thousands_of_letters_are_told_apart() -> None:
    lines = [
        (str(number), "mx1", f"4jZQzL{number:09}: {rest}".replace("1", "B").replace("5", "C"))
        for number in range(3000)
        for rest in (f"message-id=<{number}@b.vn>", status("c@b.vn", "sent").partition(": ")[2])
    ]
    assert {len(letter.records) for letter in letters.grouped(lines)} == {2}


# -- which letters are meant -----------------------------------------------------------------------

SINCE = datetime(2026, 11, 25, tzinfo=UTC)


def letter_of(*lines: str, moment: str = "20261125010000.000000Z") -> letters.Letter:
    (letter,) = letters.grouped([(moment, "mx1", line) for line in lines])
    return letter


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({"words": "X@B.VN"}, True),
        ({"sender": "A@b.vn"}, True),
        ({"sender": "@b.vn"}, True),
        ({"sender": "a@b.vn", "recipient": "c@b.vn"}, True),
        ({"sender": "a@b.vn", "recipient": "d@b.vn"}, False),
        ({"recipient": "a@b.vn"}, False),
        ({"recipient": "alias@b.vn"}, True),
        ({"words": "x@b.vn", "until": SINCE + timedelta(minutes=30)}, False),
        ({"words": "x@b.vn", "since": SINCE + timedelta(hours=2)}, False),
    ],
)
def test_all_conditions_must_be_true(asked: dict[str, object], meant: bool) -> None:
    letter = letter_of(
        f"{M}: client={PEER}, sasl_method=PLAIN, sasl_username=a@b.vn",
        f"{M}: message-id=<x@b.vn>",
        f"{M}: to=<c@b.vn>, orig_to=<alias@b.vn>, relay=store[10.0.0.2]:24, status=sent (250 ok)",
    )
    question = Question(**{"since": SINCE, **asked})  # type: ignore[arg-type]
    assert question.means(letter) is meant


def test_of_a_letter_to_thousands_the_steps_of_who_is_asked_for_are_told() -> None:
    lines = [status(f"c{number}@b.vn", "sent") for number in range(200)]
    told = trace.told(letter_of(*lines), Question(SINCE, recipient="c99@b.vn"), ZoneInfo("UTC"))
    steps = [words for step in told["đường đi"] for words in step.values()]
    assert any("c99@b.vn" in words for words in steps)
    assert len(steps) == trace.STEPS + 1
    assert steps[-1].startswith("140 bước khác")
    assert told["đến"].endswith("và 195 địa chỉ khác")


# -- the table of replies --------------------------------------------------------------------------


def test_a_reply_has_one_meaning() -> None:
    for reply in (*replies.OURS, *replies.OTHERS):
        quoted = reply.shown.split("`")[1:2]
        if reply.words and quoted:
            sample = quoted[0].replace("…", "x")
            said = replies.meaning(sample, outside=reply in replies.OTHERS)
            assert said == reply.vietnamese.replace("`", ""), sample


def test_the_guides_have_the_table_that_the_help_desk_uses() -> None:
    for name, language in (("van-hanh.md", "vietnamese"), ("operations.md", "english")):
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        assert generate.with_replies(page, language) == page
        for table in (replies.OURS, replies.OTHERS):
            assert replies.table(table, language) in page


def test_a_guide_without_a_place_for_the_table_is_refused() -> None:
    with pytest.raises(SiteError, match="no place for 'replies'; expected <!-- replies"):
        generate.with_replies("# Guide\n", "english")


# -- many letters ----------------------------------------------------------------------------------


def answering(
    monkeypatch: pytest.MonkeyPatch, lines: list[Record], down: str = ""
) -> list[tuple[str, str]]:
    """Hosts with these lines in their journals; gives the questions that they are asked."""
    asked: list[tuple[str, str]] = []

    def journal(pattern: str, *_: str, since: datetime, **_more: object) -> str:
        asked.append((pattern, f"{since.astimezone(UTC):%Y%m%d%H%M%S}"))
        return str(len(asked) - 1)

    def everywhere(
        _: Site, hosts: list[SiteHost], command: str
    ) -> tuple[dict[str, str], list[str]]:
        pattern, since = asked[int(command)]
        said = {
            host.name: "\n".join(
                json.dumps({"__REALTIME_TIMESTAMP": stamp(moment), "MESSAGE": text})
                for moment, at, text in lines
                if at == host.name and moment >= since and re.search(pattern, text)
            )
            for host in hosts
            if host.name != down
        }
        return said, [f"{down}: không kết nối được"] if down else []

    monkeypatch.setattr(trace, "journal", journal)
    monkeypatch.setattr(trace, "everywhere", everywhere)
    return asked


def stamp(generalized: str) -> str:
    return str(int(moments.at(generalized).timestamp() * 1e6))


def month() -> list[Record]:
    """A letter an hour to c@b.vn, by way of the front, the mx and the store."""
    lines = []
    for hour in range(48):
        moment = f"{SINCE + timedelta(hours=hour):%Y%m%d%H%M%S}.000000Z"
        front, mx = (
            f"4jZQzL{kind}{hour:08}".replace("1", "W").replace("5", "C") for kind in ("D", "F")
        )
        lines += [
            (moment, "front1", f"{front}: client={PEER}, sasl_method=PLAIN, sasl_username=a@b.vn"),
            (moment, "front1", f"{front}: message-id=<{hour}@b.vn>"),
            (moment, "front1", f"{front}: to=<c@b.vn>, relay=mx1.b.vn[10.0.0.3]:10025, delay=1, "
             f"status=sent (250 2.0.0 Ok: queued as {mx})"),
            (moment, "mx1", f"{mx}: to=<c@b.vn>, relay=store-a.b.vn[10.0.0.2]:24, delay=1, "
             "status=sent (250 2.0.0 ok)"),
            (moment, "store1", f"lmtp(c@b.vn)<1><a>: sieve: msgid=<{hour}@b.vn>: stored mail into "
             "mailbox 'INBOX'"),
        ]  # fmt: skip
    return lines


def test_the_newest_letters_are_followed_and_the_others_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = answering(monkeypatch, month())
    result, faults = trace.trace(load("local"), Question(SINCE, recipient="c@b.vn"))
    assert faults == []
    assert [letter["mã thư"] for letter in result["thư"]] == [f"{n}@b.vn" for n in range(28, 48)]
    assert all(len(letter["đường đi"]) == 4 for letter in result["thư"])
    assert result["lưu ý"].startswith("chỉ 20 thư mới nhất")
    # What is older than the letters that are followed is not read again.
    assert all(since > "2026112506" for _, since in asked[1:])


def test_with_a_host_that_is_down_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, month(), down="store1")
    result, faults = trace.trace(load("local"), Question(SINCE, words="47@b.vn"))
    assert faults == ["store1: không kết nối được"]
    (letter,) = result["thư"]
    assert letter["kết quả"] == "đã giao cho c@b.vn"
