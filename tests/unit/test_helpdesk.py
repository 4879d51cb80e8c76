"""What the help desk reads of the directory and of the journal, without a host."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from deploy import helpdesk, letters
from roles.common.site import load

NOW = datetime(2026, 11, 25, 10, 0, tzinfo=UTC)
LINES = {
    "imap-login: proxy(a@b.vn,store-a.b.vn[10.0.0.2]:993): Started proxying to remote host "
    "(0.1 secs): user=<a@b.vn>, method=PLAIN, rip=192.0.2.7, lip=10.0.0.1, TLS": (
        "imap", "192.0.2.7", True,
    ),
    "imap-login: proxy(a@b.vn,store-a.b.vn[10.0.0.2]:993): Started proxying to remote host "
    "(0.1 secs): user=<a@b.vn>, method=PLAIN, rip=192.0.2.7, lip=127.0.0.1, TLS": None,
    "pop3-login: Login aborted: Connection closed (auth failed, 1 attempts in 2 secs) "
    "(auth_failed): user=<a@b.vn>, method=PLAIN, rip=192.0.2.8, lip=10.0.0.1, TLS": (
        "pop3", "192.0.2.8", False,
    ),
    "4jZ: client=pc.b.vn[192.0.2.9]:4337, sasl_method=PLAIN, sasl_username=a@b.vn": (
        "submission", "192.0.2.9", True,
    ),
    "warning: pc.b.vn[192.0.2.9]:4337: SASL PLAIN authentication failed: (reason unavailable), "
    "sasl_username=a@b.vn": ("submission", "192.0.2.9", False),
    "<e82> Successful login for a@b.vn (ID: 16) from 192.0.2.6 in session e82": (
        "webmail", "192.0.2.6", True,
    ),
    "<e82> Password changed for user a@b.vn (ID: 16) from 192.0.2.6": None,
}  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_a_log_in_is_read_from_the_journal(line: str) -> None:
    assert helpdesk.log_in(line) == LINES[line]


def test_lines_that_are_no_records_are_passed_over() -> None:
    stamp = str(int(NOW.timestamp() * 1e6))
    good = json.dumps({"__REALTIME_TIMESTAMP": stamp, "MESSAGE": "một"})
    as_bytes = json.dumps({"__REALTIME_TIMESTAMP": stamp, "MESSAGE": [104, 97, 255]})
    empty = json.dumps({"__REALTIME_TIMESTAMP": stamp, "MESSAGE": None})
    read = helpdesk.records([good, "cut off {", "[]", '{"MESSAGE": "x"}', as_bytes, empty])
    assert read == [("20261125100000.000000Z", "một"), ("20261125100000.000000Z", "ha�")]


def test_times_are_vietnams() -> None:
    assert helpdesk.day("20261125173000Z") == "00:30 26/11/2026"


def test_a_lock_ends_by_itself() -> None:
    def said(age: int) -> str:
        locked = (NOW - timedelta(seconds=age)).strftime("%Y%m%d%H%M%SZ")
        return helpdesk.password_state({"pwdAccountLockedTime": [locked]}, 900, NOW)

    assert "bị khóa" in said(899)
    assert said(901) == "bình thường"
    forever = {"pwdAccountLockedTime": ["000001010000Z"]}
    assert "cho đến khi được mở" in helpdesk.password_state(forever, 900, NOW)


def test_what_somebody_types_is_no_filter() -> None:
    filter_ = helpdesk.wanted(load("local"), "Đỗ*)(mail=*")
    assert r"(searchName=*do\2a\29\28mail=\2a*)" in filter_
    assert r"(employeeNumber=Đỗ\2a\29\28mail=\2a)" in filter_


def test_a_result_is_shown_without_what_is_empty() -> None:
    assert helpdesk.shown({"a": "1", "b": "", "c": [{"d": "2"}], "e": []}) == [
        "a: 1", "c:", "  d: 2", "e: không có",
    ]  # fmt: skip


F, M = "4jZQzL2XByzDGlh", "4jZQzL3L13zDGlv"
WAY = [
    ("1", "front1", f"{F}: client=pc.b.vn[192.0.2.9]:4, sasl_method=PLAIN, sasl_username=a@b.vn"),
    ("2", "front1", f"{F}: message-id=<x@b.vn>"),
    ("3", "mx1", f"{M}: client=front1.b.vn[10.0.0.1]:4, orig_queue_id={F}, orig_client=pc"),
    ("4", "mx1", f"{M}: verdict=marked client=10.0.0.1 from=<a@b.vn> nrcpt=1"),
    ("5", "mx1", f"{M}: to=<c@b.vn>, relay=none, dsn=4.4.1, status=deferred "
     "(connect to store-a.b.vn[10.0.0.2]:24: Connection refused)"),
    ("6", "front1", f"{F}: to=<c@b.vn>, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as {M})"),
    ("7", "store1", "lmtp(c@b.vn)<1><a>: sieve: msgid=<x@b.vn>: fileinto action: "
     "stored mail into mailbox 'Junk'"),
    ("8", "mx1", "NOQUEUE: reject: RCPT from pc.b.vn[192.0.2.9]:5: 550 5.1.1 <no@b.vn>: Recipient "
     "address rejected: User unknown; from=<d@e.vn> to=<no@b.vn> proto=ESMTP helo=<pc>"),
]  # fmt: skip


def test_the_lines_of_all_hosts_are_one_letter() -> None:
    way, refused = letters.grouped(reversed(WAY))
    assert way.ids == {F, M}
    assert way.messages == {"x@b.vn"}
    assert len(way.records) == len(WAY) - 1
    assert refused.records == {WAY[-1]}


def test_a_journal_is_told_in_words() -> None:
    told = [letters.told(line) for *_, line in WAY]
    assert "nhận từ a@b.vn" in told[0]
    assert told[1] == ""
    assert "thư rác" in told[3]
    assert "sẽ thử lại cho c@b.vn: máy nhận không trả lời" in told[4]
    assert told[6] == "đã vào thư mục „Thư rác“ của c@b.vn"
    assert "từ chối thư của d@e.vn cho no@b.vn: không có địa chỉ này" in told[7]
