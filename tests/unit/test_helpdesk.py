"""What the help desk reads of the directory and of the journals, without a host."""

import json
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from deploy import helpdesk, hosts, moments, sessions, trace
from deploy.answers import shown
from deploy.helpdesk import Desk
from deploy.sessions import Connection
from roles.common.errors import SiteError
from roles.common.site import Site, load

ZONE = ZoneInfo("Asia/Ho_Chi_Minh")
NOW = datetime(2026, 11, 25, 17, 0, tzinfo=ZONE)


@pytest.fixture
def site() -> Site:
    return load("local")


@pytest.fixture
def desk(site: Site) -> Desk:
    return Desk(site, NOW)


# -- log-ins ---------------------------------------------------------------------------------------

LINES = {
    "imap-login: proxy(a@b.vn,store-a.b.vn[10.0.0.2]:993): Started proxying to remote host "
    "(0.1 secs): user=<a@b.vn>, method=PLAIN, rip=192.0.2.7, lip=10.0.0.1, TLS": (
        "imap", "192.0.2.7", True,
    ),
    "imap-login: proxy(a@b.vn,store-a.b.vn[10.0.0.2]:993): Started proxying to remote host "
    "(0.1 secs): user=<a@b.vn>, method=PLAIN, rip=192.0.2.7, lip=127.0.0.1, TLS": None,
    # Where front and store are one host.
    "imap-login: Logged in: user=<a@b.vn>, method=PLAIN, rip=192.0.2.7, lip=10.0.0.1, mpid=11925, "
    "TLS, session=<dRyifh5h0uEKTQAB>": ("imap", "192.0.2.7", True),
    "imap-login: Logged in: user=<a@b.vn>, method=PLAIN, rip=192.0.2.7, lip=127.0.0.1, mpid=11926, "
    "TLS, session=<dRyifh5h0uEKTQAC>": None,
    "managesieve-login: Logged in: user=<a@b.vn>, method=PLAIN, rip=192.0.2.7, lip=10.0.0.1, "
    "mpid=12, TLS, session=<x>": ("managesieve", "192.0.2.7", True),
    "pop3-login: Login aborted: Connection closed (auth failed, 1 attempts in 2 secs) "
    "(auth_failed): user=<a@b.vn>, method=PLAIN, rip=192.0.2.8, lip=10.0.0.1, TLS": (
        "pop3", "192.0.2.8", False,
    ),
    "imap-login: Login aborted: Connection closed (auth failed, 1 attempts in 2 secs) "
    "(auth_failed): user=<a@b.vn>, method=PLAIN, rip=192.0.2.8, lip=127.0.0.1, TLS": None,
    "4jZ: client=pc.b.vn[192.0.2.9]:4337, sasl_method=PLAIN, sasl_username=a@b.vn": (
        "submission", "192.0.2.9", True,
    ),
    "4jZ: client=localhost[127.0.0.1]:4338, sasl_method=PLAIN, sasl_username=a@b.vn": None,
    "warning: pc.b.vn[192.0.2.9]:4337: SASL PLAIN authentication failed: (reason unavailable), "
    "sasl_username=a@b.vn": ("submission", "192.0.2.9", False),
    "<e82> Successful login for a@b.vn (ID: 16) from 192.0.2.6 in session e82": (
        "webmail", "192.0.2.6", True,
    ),
    "<e82> Failed login for a@b.vn from 192.0.2.6 in session e82 (error: 0)": (
        "webmail", "192.0.2.6", False,
    ),
    "<e82> Password changed for user a@b.vn (ID: 16) from 192.0.2.6": None,
}  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_a_log_in_is_read_from_the_journal(line: str) -> None:
    assert sessions.log_in(line) == LINES[line]


# -- sessions --------------------------------------------------------------------------------------

SOCKETS = """\
0      0      10.77.0.14:465 10.77.0.1:59278 bbr wscale:10,10 rto:212 lastsnd:792 lastrcv:60001 x
0      0      10.77.0.14:587 10.77.0.1:59262 bbr wscale:10,10 rto:212 lastsnd:732 lastrcv:10 x
0      0      [::ffff:10.77.0.14]:465 [::ffff:10.77.0.2]:40000 bbr lastrcv:60000 x
0      0      127.0.0.1:465 127.0.0.1:40001 bbr lastrcv:60000 x
"""
OPEN = [
    Connection("10.77.0.1", "59278", 60001), Connection("10.77.0.1", "59262", 10),
    Connection("10.77.0.2", "40000", 60000), Connection("127.0.0.1", "40001", 60000),
]  # fmt: skip


def test_open_connections_of_submission_are_read() -> None:
    assert sessions.connections(SOCKETS.splitlines()) == OPEN


def test_a_connection_is_its_users_or_idle_and_nobodys() -> None:
    messages = [
        "4jZQzL2XByzDGlg: client=pc.b.vn[10.77.0.1]:59262, sasl_method=PLAIN, sasl_username=z@b.vn",
        "4jZQzL2XByzDGlh: client=pc.b.vn[10.77.0.1]:59262, sasl_method=PLAIN, sasl_username=A@b.vn",
        "4jZQzL2XByzDGlk: client=unknown[10.77.0.2]:40000, sasl_method=PLAIN, "
        "sasl_username=c@b.vn, sasl_sender=x",
    ]
    # An idle one that nobody has used, and the account's; never another's, nor the webmail's.
    assert sessions.to_end(OPEN, messages, {"a@b.vn"}) == OPEN[:2]
    # One that has just begun may be a letter that is on its way.
    young = [Connection("10.77.0.1", "59278", 4999)]
    assert sessions.to_end(young, messages, {"a@b.vn"}) == []


def test_whose_letter_came_from_a_port_before_is_not_whose_connection_it_is_now() -> None:
    messages = [
        "4jZQzL2XByzDGlh: client=pc.b.vn[10.77.0.1]:59262, sasl_method=PLAIN, sasl_username=c@b.vn",
        "disconnect from pc.b.vn[10.77.0.1]:59262 ehlo=1 auth=1 mail=1 quit=1 commands=4",
        "connect from pc.b.vn[10.77.0.1]:59262",
    ]
    idle = [Connection("10.77.0.1", "59262", 5000)]
    assert sessions.to_end(idle, messages[:2], {"a@b.vn"}) == []
    assert sessions.to_end(idle, messages, {"a@b.vn"}) == idle


# -- journals --------------------------------------------------------------------------------------


def test_lines_that_are_no_records_are_passed_over() -> None:
    stamp = str(int(NOW.timestamp() * 1e6))
    good = json.dumps({"__REALTIME_TIMESTAMP": stamp, "MESSAGE": "một"})
    as_bytes = json.dumps({"__REALTIME_TIMESTAMP": stamp, "MESSAGE": [104, 97, 255]})
    empty = json.dumps({"__REALTIME_TIMESTAMP": stamp, "MESSAGE": None})
    lines = [good, "cut off {", "[]", '{"MESSAGE": "x"}', as_bytes, empty]
    assert hosts.records(lines) == [
        ("20261125100000.000000Z", "một"), ("20261125100000.000000Z", "ha�"),
    ]  # fmt: skip


def test_what_an_operator_removed_is_told_apart() -> None:
    record = {
        "__REALTIME_TIMESTAMP": "1", "MESSAGE": "4jZQzL2XByzDGlh: removed",
        "SYSLOG_IDENTIFIER": "postfix/postsuper",
    }  # fmt: skip
    assert hosts.records([json.dumps(record)])[0][1] == "postsuper: 4jZQzL2XByzDGlh: removed"


def test_a_journal_is_asked_by_its_index_and_for_a_period() -> None:
    command = hosts.journal(
        "to=<a'b@c.vn>", "A=1", "B=2", since=NOW, until=NOW + timedelta(hours=1), lines=7
    )
    assert "--since=@1795600800 --until=@1795604400 -n 7 --case-sensitive=no" in command
    assert command.endswith("""-g 'to=<a'"'"'b@c.vn>' A=1 + B=2 || test $? = 1""")


# -- times -----------------------------------------------------------------------------------------

TIMES = {
    "2026-11-20": "2026-11-20 00:00", "2026-11-20 14:05": "2026-11-20 14:05",
    "2026-11-20T14:05": "2026-11-20 14:05", "20/11/2026": "2026-11-20 00:00",
    "20/11/2026 7:30": "2026-11-20 07:30", "14:00": "2026-11-25 14:00",
    "18:00": "2026-11-24 18:00", "-2h": "2026-11-25 15:00", "30min": "2026-11-25 16:30",
    "-7d": "2026-11-18 17:00", "2 ngày": "2026-11-23 17:00", "hôm qua": "2026-11-24 00:00",
    "Hôm nay": "2026-11-25 00:00", "today": "2026-11-25 00:00",
}  # fmt: skip


@pytest.mark.parametrize("text", TIMES)
def test_times_are_typed_as_people_do(text: str) -> None:
    assert f"{moments.moment(text, NOW):%Y-%m-%d %H:%M}" == TIMES[text]
    assert moments.moment(text, NOW).utcoffset() == timedelta(hours=7)


def test_a_day_at_the_end_is_all_of_that_day() -> None:
    assert moments.moment("2026-11-20", NOW, end=True) == datetime(2026, 11, 21, tzinfo=ZONE)
    assert moments.moment("2026-11-20 08:00", NOW, end=True).hour == 8
    assert moments.moment("hôm nay", NOW, end=True) == datetime(2026, 11, 26, tzinfo=ZONE)


@pytest.mark.parametrize("text", ["", "lúc nãy", "2026-13-01", "31/11/2026", "2026-11-20 25:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(SiteError, match="không phải là thời gian; cần dạng 2026-11-20"):
        moments.moment(text, NOW)


def test_times_are_shown_by_the_provinces_clock() -> None:
    assert moments.day("20261125173000Z") == "00:30 26/11/2026"
    assert moments.day("20261125173000Z", ZoneInfo("UTC")) == "17:30 25/11/2026"
    assert moments.day("") == ""


def test_a_time_may_follow_its_option() -> None:
    given = ["trace", "--since", "-2h", "--until", "-30min", "-x"]
    assert moments.joined(given) == ["trace", "--since=-2h", "--until=-30min", "-x"]


# -- people ----------------------------------------------------------------------------------------


def test_a_lock_ends_by_itself(desk: Desk) -> None:
    def said(age: int) -> str:
        locked = (NOW - timedelta(seconds=age)).astimezone(UTC).strftime("%Y%m%d%H%M%SZ")
        return helpdesk.password_state(desk, {"pwdAccountLockedTime": [locked]})

    assert "bị khóa" in said(899)
    assert said(901) == "bình thường"
    forever = {"pwdAccountLockedTime": ["000001010000Z"]}
    assert "cho đến khi được mở" in helpdesk.password_state(desk, forever)


def test_what_somebody_types_is_no_filter(site: Site) -> None:
    filter_ = helpdesk.wanted(site, "Đỗ*)(mail=*")
    assert r"(searchName=*do\2a\29\28mail=\2a*)" in filter_
    assert r"(employeeNumber=Đỗ\2a\29\28mail=\2a)" in filter_


def test_a_use_of_storage_is_said_in_words() -> None:
    assert helpdesk.used_of(1024 * 30, "102400") == "30.0 MiB / 100 MiB (30 %)"
    assert helpdesk.used_of(0, "-") == "0.0 MiB, không giới hạn"
    assert helpdesk.used_of(2048, "0") == "2.0 MiB, không giới hạn"


def test_single_passwords_of_applications_are_chosen_by_name_or_code() -> None:
    present = [
        ("cn=1", {"tên": "Điện thoại", "mã": "aaaa-bbbb"}),
        ("cn=2", {"tên": "Máy tính", "mã": "cccc-dddd"}),
    ]
    assert helpdesk.chosen(present, every=True, names=[]) == present
    assert helpdesk.chosen(present, every=False, names=[]) == []
    assert helpdesk.chosen(present, every=False, names=["điện thoại"]) == present[:1]
    assert helpdesk.chosen(present, every=False, names=["cccc-dddd"]) == present[1:]
    with pytest.raises(SiteError, match=r"'Ipad'; hiện có: Điện thoại \(aaaa-bbbb\), Máy tính"):
        helpdesk.chosen(present, every=False, names=["Ipad"])


# -- unit mailboxes --------------------------------------------------------------------------------

HEAD, CLERK, FORMER, LATER, STRANGER, OTHER = (
    f"employeeNumber={n},ou=people,dc=b" for n in range(6)
)


def delegation(person: str, right: str, since: str = "", until: str = "") -> dict[str, list[str]]:
    dates = {"validFrom": since, "validUntil": until}
    return {
        "delegate": [person], "delegationRight": right.split(),
        **{name: [value] for name, value in dates.items() if value},
    }  # fmt: skip


def test_who_may_use_a_unit_mailbox_is_said_with_why_and_how_long(desk: Desk) -> None:
    mailbox = {
        "owner": [HEAD.upper()],
        "mailboxReader": [HEAD, CLERK, STRANGER], "mailboxFiler": [HEAD, OTHER],
        "mailboxSender": [HEAD, OTHER],
    }  # fmt: skip
    delegations = [
        delegation(CLERK, "read", "20261001170000Z", "20261231170000Z"),
        delegation(FORMER, "send read", until="20261101170000Z"),
        delegation(LATER, "file", since="20261201170000Z"),
    ]
    rows = dict(helpdesk.rights(desk, mailbox, delegations))
    every = "đọc, sắp xếp và xóa, gửi bằng tên đơn vị"
    assert rows[HEAD.lower()] == {"quyền": every, "vì": "là người phụ trách"}
    assert rows[CLERK.lower()] == {
        "quyền": "đọc", "vì": "được ủy quyền", "từ": "00:00 02/10/2026", "đến": "00:00 01/01/2027",
    }  # fmt: skip
    assert rows[FORMER.lower()]["vì"] == "được ủy quyền, đã hết hạn"
    assert rows[FORMER.lower()]["quyền"] == "đọc, gửi bằng tên đơn vị"
    assert rows[LATER.lower()]["vì"] == "được ủy quyền, chưa bắt đầu"
    unexplained = "ghi trong danh bạ, không rõ vì sao"
    assert rows[STRANGER.lower()] == {"quyền": "đọc", "vì": unexplained}
    held = "sắp xếp và xóa, gửi bằng tên đơn vị"
    assert rows[OTHER.lower()] == {"quyền": held, "vì": unexplained}


def test_the_last_use_of_a_unit_mailbox_is_read_from_the_audit_trail() -> None:
    lines = [
        ("20261125013000.1Z", "imap(a@b.vn)<1><x>: Mailbox Đơn vị/stttt: delete: "
         "box=Đơn vị/stttt, uid=4, msgid=, size=1"),
        ("20261125023000.1Z", "imap(a@b.vn)<1><x>: Mailbox Đơn vị/Sở A, B (stttt)/Trash: "
         "copy from Đơn vị/Sở A, B (stttt): box=Đơn vị/Sở A, B (stttt)/Trash, "
         "uid=4, msgid=<x@y.vn>, size=1"),
        ("20261125003000.1Z", "4jZQzL2XByzDGlh: sent-as-unit unit=<stttt@b.vn> login=<A@b.vn> "
         "message-id=<z@b.vn> nrcpt=1"),
        ("20261125003000.1Z", "something else"),
    ]  # fmt: skip
    assert helpdesk.last_uses(lines, ZONE) == {
        "a@b.vn": "gửi 07:30 25/11/2026; sắp xếp 09:30 25/11/2026"
    }


def test_what_was_filed_in_a_unit_mailbox_is_found_by_its_name_and_by_its_code(site: Site) -> None:
    pattern = re.compile(helpdesk.filed_in(site, f"vp.tin@{site.domain}"))
    for box in ("Sở A, B (vp.tin)", "Sở A, B (vp.tin)/Trash", "vp.tin", "vp.tin/Sent/2026"):
        assert pattern.search(f"imap(a@b.vn)<1><x>: Mailbox X: delete: box=Đơn vị/{box}, uid=4")
    for box in ("Sở A (vp)", "Sở A (vp.tin2)", "vp", "vp-tin", "Sở A/(vp.tin)", "Sở (vp.tin) A"):
        assert not pattern.search(f"imap(a@b.vn)<1><x>: Mailbox X: delete: box=Đơn vị/{box}, uid=4")


# -- which letters are meant -----------------------------------------------------------------------


def test_a_question_is_made_of_what_was_typed(site: Site) -> None:
    asked = trace.question(site, NOW, "anv", since="-2h")
    assert asked.words == f"anv@{site.domain}"
    assert asked.since == NOW - timedelta(hours=2)
    assert trace.question(site, NOW, "<x.y@z.vn>").words == "x.y@z.vn"
    assert trace.question(site, NOW, "4jZQzL2XByzDGlh").words == "4jZQzL2XByzDGlh"
    asked = trace.question(site, NOW, "", sender="@gmail.com", recipient="anv")
    assert (asked.sender, asked.recipient) == ("@gmail.com", f"anv@{site.domain}")
    assert asked.pattern() == r"to=<anv@tiengiang\.gov\.vn>|lmtp\(anv@tiengiang\.gov\.vn\)"
    assert (
        trace.question(site, NOW, "", sender="@gmail.com")
        .pattern()
        .startswith(r"from=<[^>]*@gmail\.com>")
    )


@pytest.mark.parametrize(
    ("words", "more", "said"),
    [
        ("", {}, "cần một địa chỉ"),
        ("Giấy mời họp", {}, "tiêu đề thư không được ghi"),
        ("anv", {"since": "hôm nay", "until": "2026-11-20"}, "không sau"),
        ("anv", {"since": "bữa nọ"}, "không phải là thời gian"),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(
    site: Site, words: str, more: dict[str, str], said: str
) -> None:
    with pytest.raises(SiteError, match=said):
        trace.question(site, NOW, words, **more)


KNOWN = {
    "anv@b.gov.vn": "Nguyễn Văn A", "vanthu.stttt@b.gov.vn": "Nguyễn Văn A",
    "hoalt@b.gov.vn": "Lê Thị Hoa", "ydo@b.gov.vn": "Đỗ Ý",
    "stttt@b.gov.vn": "Sở Thông tin và Truyền thông",
}  # fmt: skip


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("anv@b.gov.vn", "anv@b.gov.vn có trong danh bạ: Nguyễn Văn A."),
        ("anv+hop@b.gov.vn", "có trong danh bạ: Nguyễn Văn A."),
        ("anv@cu.gov.vn", "có trong danh bạ: Nguyễn Văn A."),
        ("hoatl@b.gov.vn", "Có phải là: hoalt@b.gov.vn (Lê Thị Hoa)?"),
        ("sttt@b.gov.vn", "stttt@b.gov.vn (Sở Thông tin và Truyền thông)"),
        ("nguyễnvăna@b.gov.vn", "anv@b.gov.vn (Nguyễn Văn A)"),
        ("ýđỗ@b.gov.vn", "ydo@b.gov.vn (Đỗ Ý)"),
        ("nguyenvana@b.gov.vn", "anv@b.gov.vn (Nguyễn Văn A)"),
        ("anv@b.gov.com", "anv@b.gov.vn (Nguyễn Văn A)"),
        ("anv@gmail.com", "anv@b.gov.vn (Nguyễn Văn A)"),
        ("ai.do@gmail.com", "không phải là địa chỉ của hệ thống này"),
        ("xxxxxxxxxxx@b.gov.vn", "không có địa chỉ nào gần giống"),
    ],
)
def test_a_misspelt_address_is_answered_with_similar_ones(address: str, said: str) -> None:
    assert said in trace.suggestion(address, KNOWN, ["b.gov.vn", "cu.gov.vn"])


# -- what is printed -------------------------------------------------------------------------------


def test_a_result_is_shown_without_what_is_empty() -> None:
    assert shown({"a": "1", "b": "", "c": [{"d": "2"}], "e": []}) == [
        "a: 1", "c:", "  d: 2", "e: không có",
    ]  # fmt: skip
