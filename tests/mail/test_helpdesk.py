"""The help desk's commands against the running system."""
# ruff: noqa: F811 - a fixture of another module is named as it is there

import json
import secrets
import shlex
import smtplib
from collections.abc import Callable
from email.message import EmailMessage

import pytest

from deploy import helpdesk, hosts
from roles.common.site import Site
from tests import clients, managesieve
from tests.access import settle
from tests.clients import Account
from tests.lab.outside import foreign
from tests.mail.test_access_ends import sessions, works
from tests.mail.test_directory import GOOD, may_log_in
from tests.mail.test_lists import Maker, made  # noqa: F401
from tests.mail.test_mailstore import LOGINS
from tests.mail.test_mta_submission import asked
from tests.mail.test_passwords import (
    EVERYWHERE,
    Official,
    application,
    entry_of,
    official,  # noqa: F401
)
from tests.remote import LDAP, shell
from tests.waiting import until

SECONDS = 120
"""How long a letter may take on its way, and until it is told."""


def ask(site: Site, capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    """What a command answers."""
    assert helpdesk.main(["--env", site.environment, "--json", *words]) == 0
    answer: dict[str, object] = json.loads(capsys.readouterr().out)
    return answer


@pytest.mark.regulation("9")
def test_somebody_is_found_by_whatever_one_knows(
    site: Site, person: Callable[[str], Account], capsys: pytest.CaptureFixture[str]
) -> None:
    known = person("anv").address
    for words in (
        "nguyen van a",
        "Nguyễn Văn A",
        "1001",
        "anv",
        known,
        f"vanthu.stttt@{site.domain}",
    ):
        assert known in json.dumps(ask(site, capsys, "find", words)), words
    said = json.dumps(ask(site, capsys, "find", "1001"), ensure_ascii=False)
    assert "MiB / " in said
    assert "Sở Thông tin và Truyền thông (stttt)" in said
    assert helpdesk.main(["--env", site.environment, "find", "khong co ai nhu vay"]) == 1
    assert "không tìm thấy" in capsys.readouterr().err


@pytest.mark.regulation("9", "12")
def test_who_may_use_a_unit_mailbox_is_said(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    said = ask(site, capsys, "access", "stttt")
    rights = {row["người"]: row for row in said["ai được dùng"]}  # type: ignore[attr-defined]
    (head,) = [name for name, row in rights.items() if row["vì"] == "là người phụ trách"]
    assert said["người phụ trách"] == head
    assert "btt@" in head
    reader = next(row for name, row in rights.items() if "gvv@" in name)
    assert reader["quyền"] == "đọc"


@pytest.mark.regulation("9", "12")
def test_which_unit_mailboxes_somebody_may_use_is_said_and_when_they_did(
    site: Site, person: Callable[[str], Account], capsys: pytest.CaptureFixture[str]
) -> None:
    reader, writer = person("gvv"), person("anv")
    said = ask(site, capsys, "access", reader.address)["hộp thư đơn vị"]
    assert f"<stttt@{site.domain}>" in said[0]["hộp thư"]  # type: ignore[index]
    assert [row["quyền"] for row in said] == ["đọc"]  # type: ignore[attr-defined]
    message = clients.letter(f"stttt@{site.domain}", reader.address)
    clients.submit(site, writer, message)

    def used() -> bool:
        said = ask(site, capsys, "access", "stttt", "--since", "-10min")["ai được dùng"]
        last = {row["người"]: row["dùng gần nhất"] for row in said}  # type: ignore[attr-defined]
        (clerk,) = [when for who, when in last.items() if f"<{writer.address}>" in who]
        return "gửi " in clerk

    until(used, "the letter in the audit trail", pause=1)


@pytest.mark.regulation("9", "13")
def test_a_reset_gives_a_password_that_must_be_changed(
    site: Site,
    official: Official,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = ask(site, capsys, "reset", official.address)
    password = str(said["mật khẩu dùng một lần"])
    assert may_log_in(site, official.dn, password)
    assert not may_log_in(site, official.dn, GOOD)
    assert official.read("pwdReset")["pwdReset"] == ["TRUE"]
    noted = shell(
        site, site.group("directory")[0].address,
        f"journalctl -q -t helpdesk -g 'reset {official.address} by '",
    )  # fmt: skip
    assert official.address in noted
    assert password not in noted


@pytest.mark.regulation("9", "13")
def test_wrong_passwords_are_forgotten(
    site: Site,
    official: Official,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # As after ten of them, which take minutes.
    locked = f"dn: {official.dn}\nchangetype: modify\nadd: pwdAccountLockedTime\n"
    shell(
        site, site.group("directory")[0].address, f"ldapmodify {LDAP} -e relax >/dev/null",
        stdin=f"{locked}pwdAccountLockedTime: 000001010000Z\n",
    )  # fmt: skip
    assert not may_log_in(site, official.dn, GOOD)
    assert "được mở" in json.dumps(ask(site, capsys, "find", official.address), ensure_ascii=False)
    assert "đăng nhập được ngay" in str(ask(site, capsys, "unlock", official.address)["kết quả"])
    assert may_log_in(site, official.dn, GOOD)
    assert "không bị khóa" in str(ask(site, capsys, "unlock", official.address)["kết quả"])


@pytest.mark.regulation("9", "13")
def test_a_lock_of_the_registry_is_not_opened(
    site: Site,
    official: Official,
    capsys: pytest.CaptureFixture[str],
) -> None:
    official.write(mailboxState="locked")
    assert "sổ đăng ký" in str(ask(site, capsys, "unlock", official.address)["lưu ý"])
    assert helpdesk.main(["--env", site.environment, "reset", official.address]) == 1
    assert "bị khóa theo sổ đăng ký" in capsys.readouterr().err
    assert official.read("mailboxState")["mailboxState"] == ["locked"]


@pytest.mark.regulation("9")
def test_log_ins_are_told_apart_and_the_webmails_own_are_none(
    site: Site,
    official: Official,
    capsys: pytest.CaptureFixture[str],
) -> None:
    settle(official.site, official.dn)
    assert EVERYWHERE["webmail"](site, official.address, GOOD) == ""
    assert LOGINS["pop3"](site, official.address, GOOD) == ""
    assert LOGINS["imap"](site, official.address, "wrong") != ""

    def told() -> bool:
        said = ask(site, capsys, "last-login", official.address)
        good, bad = (
            {row["dịch vụ"] for row in said[kind]}  # type: ignore[attr-defined]
            for kind in ("thành công", "không thành công")
        )
        # The webmail opens the mailbox by IMAP; nobody logged in so.
        assert "imap" not in good
        return good == {"webmail", "pop3"} and bad == {"imap"}

    until(told, "the log-ins in the journal", pause=1)


@pytest.mark.regulation("9", "13")
def test_everything_that_is_open_is_ended(
    site: Site,
    official: Official,
    capsys: pytest.CaptureFixture[str],
) -> None:
    account = Account(official.address, "", "person", GOOD)
    # That somebody is new ends sessions, too.
    settle(site, account)
    kinds = ("imap", "imap, waiting", "pop3", "sieve", "webmail")
    with (
        sessions(site, account, *kinds) as alive,
        clients.submission(site, account) as sending,
        clients.submission(site, account) as waiting,
    ):
        clients_letter = clients.letter(official.address, official.address)
        sending.send_message(clients_letter)
        # Another's goes on.
        with clients.submission(site, clients.accounts(site)[0]) as other:
            asked(other, "", official.address)
            until(
                lambda: (
                    "ngắt kết nối gửi thư (SMTP)"
                    in str(ask(site, capsys, "revoke", official.address)["đã ngắt"])
                ),
                "that the letter is in the journal",
            )
            assert other.noop()[0] == 250
        until(lambda: not alive(), "the end of every session")
        with pytest.raises(smtplib.SMTPServerDisconnected):
            sending.noop()
        # Nobody knows whose this is, as long as it is busy.
        until(
            lambda: ask(site, capsys, "revoke", official.address) and not works(waiting.noop),
            "the end of a session that sent nothing",
            pause=6,
        )
    said = ask(site, capsys, "revoke", official.address)["đã ngắt"]
    assert {row["máy"] for row in said} == {  # type: ignore[attr-defined]
        host.name for host in site.group("store", "front", "database")
    }
    # The password goes on to count.
    assert official.refused(GOOD, EVERYWHERE) == {}


@pytest.mark.regulation("9", "13")
def test_passwords_of_applications_are_told_and_revoked(
    site: Site,
    official: Official,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, second = (application(official, "imap") for _ in range(2))
    settle(official.site, entry_of(official, second))
    assert LOGINS["imap"](site, official.address, first) == ""

    def codes(job: str, heading: str, *more: str) -> set[str]:
        said = ask(site, capsys, job, official.address, *more)
        if job == "find":
            (said,) = said["kết quả"]  # type: ignore[misc]
        return {row["mã"] for row in said[heading]}  # type: ignore[attr-defined]

    assert codes("find", "mật khẩu ứng dụng") == {first[:9], second[:9]}
    assert codes("revoke", "mật khẩu ứng dụng còn hiệu lực") == {first[:9], second[:9]}
    assert LOGINS["imap"](site, official.address, first) == ""
    code = ("--app-password", first[:9])
    assert codes("revoke", "mật khẩu ứng dụng đã hủy", *code) == {first[:9]}
    assert "uthentication failed" in LOGINS["imap"](site, official.address, first)
    # Each host ends sessions of its own accord, too, perhaps the one that just begins.
    until(lambda: LOGINS["imap"](site, official.address, second) == "", "that the other counts")
    assert codes("revoke", "mật khẩu ứng dụng đã hủy", "--app-passwords") == {second[:9]}
    assert "uthentication failed" in LOGINS["imap"](site, official.address, second)
    until(lambda: LOGINS["imap"](site, official.address, GOOD) == "", "that the owner's counts")


def test_a_host_that_is_down_is_named_and_the_rest_goes_on(site: Site) -> None:
    up = site.group("store")[0]
    down = type(up)("store9", "127.0.0.2", ("store",), site.domain)
    said, faults = hosts.everywhere(site, [up, down], "echo here")
    assert said == {up.name: "here\n"}
    assert [fault.partition(":")[0] for fault in faults] == ["store9"]


@pytest.mark.regulation("9")
def test_the_way_of_a_letter_is_told(
    site: Site, person: Callable[[str], Account], capsys: pytest.CaptureFixture[str]
) -> None:
    message = clients.letter(person("anv").address, person("btt").address)
    clients.submit(site, person("anv"), message)
    asked = ("trace", message["Message-ID"], "--since=-10min")

    def said() -> str:
        if helpdesk.main(["--env", site.environment, "--json", *asked]):
            capsys.readouterr()
            return ""
        text = capsys.readouterr().out
        return text if "đã vào thư mục „Hộp thư đến“" in text else ""

    way = until(said, "the delivery in the journals", SECONDS, pause=1)
    assert json.loads(way)["số thư"] == 1
    assert f"nhận từ {person('anv').address}" in way
    assert "bộ lọc: sạch" in way

    # The same by whom it is from and to, and by no other.
    both = ("trace", "--from", person("anv").address, "--to", person("btt").address)
    assert message["Message-ID"].strip("<>") in json.dumps(ask(site, capsys, *both))
    other = ("trace", message["Message-ID"], "--from", person("btt").address)
    assert helpdesk.main(["--env", site.environment, *other]) == 1
    assert "Không có thư nào" in capsys.readouterr().err


def traced(site: Site, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What is told of letters; empty where there is none yet."""
    code = helpdesk.main(["--env", site.environment, "--json", "trace", *words])
    text = capsys.readouterr().out
    return "" if code else text


@pytest.mark.regulation("9")
def test_why_a_letter_was_refused_is_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = f"vanthuu.stttt{secrets.token_hex(1)}@{site.domain}"
    with clients.mx(site) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail(f"dan@{clients.foreign_domain(site)}", nobody, "Subject: thu\r\n\r\nthu")
    said = until(lambda: traced(site, capsys, nobody), "the refusal in the journal", pause=1)
    assert "không có địa chỉ này" in said
    (hint,) = json.loads(said)["gợi ý"]
    assert f"vanthu.stttt@{site.domain} (Nguyễn Văn A)" in hint["địa chỉ"]


@pytest.mark.regulation("9")
def test_who_speaks_before_the_greeting_is_told(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    sender = f"voi-{secrets.token_hex(6)}@{clients.foreign_domain(site)}"
    # From the mx itself: postscreen remembers those that once waited for the greeting.
    at = clients.address_of(site, "mx")
    lines = [
        f"HELO mail.{clients.foreign_domain(site)}", f"MAIL FROM:<{sender}>",
        f"RCPT TO:<anv@{site.domain}>", "QUIT",
    ]  # fmt: skip
    said = "".join(f"{line}\\r\\n" for line in lines)
    command = f"exec 3<>/dev/tcp/{at}/25; printf '{said}' >&3; cat <&3"
    assert "550 5.5.1" in shell(site, at, f"bash -c {shlex.quote(command)}")
    said = until(lambda: traced(site, capsys, sender), "the refusal in the journal", pause=1)
    assert "máy gửi nói trước khi được chào" in said
    # Found by the client's port, in whose line there is no address.
    assert "nói trước khi được chào: máy phát tán thư rác" in said


@pytest.mark.regulation("9")
def test_what_the_readers_own_filter_did_is_told(
    site: Site, official: Official, capsys: pytest.CaptureFixture[str]
) -> None:
    account = Account(official.address, "", "person", GOOD)
    script = 'require "fileinto"; fileinto "Archive";\r\n'
    with managesieve.logged_in(site, account) as sieve:
        sieve.put("loc", script)
        sieve.ask('SETACTIVE "loc"')
    message = clients.foreign_letter(site, official.address)
    clients.send_from_outside(site, message)
    wanted = f"đã vào thư mục „Lưu trữ“ của {official.address}"
    until(
        lambda: wanted in traced(site, capsys, "--to", official.address),
        "the delivery in the journals", SECONDS, pause=1,
    )  # fmt: skip
    with clients.imap(site, account) as client:
        uid = clients.wait_for(client, message, "Archive")
        client.move([uid], "Trash")
    until(
        lambda: "từ „Lưu trữ“ sang „Thùng rác“"
        in traced(site, capsys, message["Message-ID"]),
        "that its reader moved it", pause=1,
    )  # fmt: skip


@pytest.mark.regulation("9")
def test_where_nothing_is_found_it_is_said_where_and_what_else_there_is(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    asked_for = f"nguyễnvăna@{site.domain}"
    assert helpdesk.main(["--env", site.environment, "trace", asked_for, "--since", "-1h"]) == 1
    said = capsys.readouterr().err
    assert all(host.name in said for host in site.group("front", "mx", "store"))
    assert f"anv@{site.domain} (Nguyễn Văn A)" in said
    assert helpdesk.main(["--env", site.environment, "trace", "Giấy mời họp"]) == 1
    assert "tiêu đề thư không được ghi" in capsys.readouterr().err


@pytest.mark.regulation("9")
def test_what_others_did_with_a_letter_is_told(
    site: Site, official: Official, capsys: pytest.CaptureFixture[str]
) -> None:
    """A redirect, an answer of who is away, and a bounce, of one letter to several people."""
    account = Account(official.address, "", "person", GOOD)
    known, unknown = (f"{name}@{clients.foreign_domain(site)}" for name in ("dan", foreign.UNKNOWN))
    script = (
        'require ["copy", "vacation"];\r\n'
        f'redirect :copy "{known}";\r\nvacation "Tôi đi công tác.";\r\n'
    )
    with managesieve.logged_in(site, account) as sieve:
        assert sieve.put("vang", script).startswith("OK")
        assert sieve.ask('SETACTIVE "vang"')[-1].startswith("OK")
    message = clients.letter(official.address, unknown)
    clients.submit(site, account, message)
    incoming = clients.foreign_letter(site, official.address)
    clients.send_from_outside(site, incoming)

    def said_of(message: EmailMessage, *words: str) -> None:
        until(
            lambda: all(
                text in traced(site, capsys, message["Message-ID"], "--since", "-10min")
                for text in words
            ),
            f"{words} of {message['Message-ID']}", SECONDS, pause=2,
        )  # fmt: skip

    said_of(
        incoming,
        f"bộ lọc riêng của {official.address} đã chuyển tiếp cho {known}",
        f"{official.address} đang vắng: đã tự trả lời {known}",
        "của bên nhận đã nhận thư cho " + known,
    )
    said_of(
        message,
        f"không giao được cho {unknown}: bên nhận báo không có địa chỉ này",
        "đã báo người gửi là thư không giao được",
        "đã vào thư mục „Hộp thư đến“ của " + official.address,
    )


@pytest.mark.regulation("9")
def test_a_letter_to_a_list_is_told_to_its_members(
    site: Site, official: Official, made: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    account = Account(official.address, "", "person", GOOD)
    address = made(listScope="members", member=[official.dn], listPoster="site")
    message = clients.letter(official.address, address)
    clients.submit(site, account, message)
    until(
        lambda: all(
            text in traced(site, capsys, message["Message-ID"])
            for text in (
                f"danh sách thư {address}: đã chuyển cho những người trong danh sách",
                f"đã vào thư mục „Hộp thư đến“ của {official.address}",
            )
        ),
        "the list's way", SECONDS, pause=2,
    )  # fmt: skip


@pytest.mark.regulation("9")
def test_a_host_that_does_not_answer_is_named_and_the_letter_told(
    site: Site,
    person: Callable[[str], Account],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = clients.letter(person("anv").address, person("btt").address)
    clients.submit(site, person("anv"), message)
    words = ("trace", message["Message-ID"])
    until(lambda: traced(site, capsys, *words[1:]), "the letter in the journals", pause=1)
    lost = type(site.group("store")[0])("store9", "127.0.0.2", ("store",), site.domain)
    group = Site.group
    monkeypatch.setattr(Site, "group", lambda self, *groups: [*group(self, *groups), lost])
    assert helpdesk.main(["--env", site.environment, *words]) == 1
    said = capsys.readouterr()
    assert "store9: không kết nối được" in said.err
    assert f"nhận từ {person('anv').address}" in said.out
