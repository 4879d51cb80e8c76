"""What the help desk reads of the directory and of the journal, without a host."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from deploy import helpdesk
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
    assert read == [("20261125100000Z", "một"), ("20261125100000Z", "ha�")]


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
