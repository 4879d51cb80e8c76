"""The help desk's commands against the running system."""
# ruff: noqa: F811 - a fixture of another module is named as it is there

import json
import secrets
import smtplib
from collections.abc import Callable

import pytest

from deploy import helpdesk
from roles.common.site import Site
from tests import clients
from tests.clients import Account
from tests.mail.test_directory import GOOD, may_log_in
from tests.mail.test_mailstore import LOGINS
from tests.mail.test_passwords import Official, official  # noqa: F401
from tests.remote import LDAP, shell
from tests.waiting import until


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
    assert helpdesk.main(["--env", site.environment, "find", "khong co ai nhu vay"]) == 1
    assert "không tìm thấy" in capsys.readouterr().err


@pytest.mark.regulation("9", "12")
def test_who_may_use_a_unit_mailbox_is_said(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    said = ask(site, capsys, "access", "stttt")
    rights = {row["người"]: row for row in said["quyền"]}  # type: ignore[attr-defined]
    (head,) = [name for name, row in rights.items() if row["vì"] == "là người phụ trách"]
    assert said["người phụ trách"] == head
    assert "btt@" in head
    reader = next(row for name, row in rights.items() if "gvv@" in name)
    assert reader["quyền hiện có"] == "đọc"


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
def test_log_ins_are_told_apart_and_sessions_end(
    site: Site,
    official: Official,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert LOGINS["imap"](site, official.address, GOOD) == ""
    assert LOGINS["imap"](site, official.address, "wrong") != ""

    def told() -> bool:
        said = ask(site, capsys, "last-login", official.address)
        return bool(said["thành công"]) and bool(said["không thành công"])

    until(told, "both log-ins in the journal", pause=1)
    ended = str(ask(site, capsys, "revoke", official.address)["đã ngắt trên"])
    assert set(ended.split(", ")) == {host.name for host in site.group("store", "front")}


def test_a_host_that_is_down_is_named_and_the_rest_goes_on(site: Site) -> None:
    up = site.group("store")[0]
    down = type(up)("store9", "127.0.0.2", ("store",), site.domain)
    said, faults = helpdesk.everywhere(site, [up, down], "echo here")
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

    way = until(said, "the delivery in the journals", pause=1)
    assert json.loads(way)["số thư"] == 1
    assert f"nhận từ {person('anv').address}" in way
    assert "bộ lọc: sạch" in way


@pytest.mark.regulation("9")
def test_why_a_letter_was_refused_is_told(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = f"khongco-{secrets.token_hex(4)}@{site.domain}"
    with clients.mx(site) as client, pytest.raises(smtplib.SMTPRecipientsRefused):
        client.sendmail(f"dan@{clients.foreign_domain(site)}", nobody, "Subject: thu\r\n\r\nthu")

    def said() -> str:
        code = helpdesk.main(["--env", site.environment, "--json", "trace", nobody])
        text = capsys.readouterr().out
        return "" if code else text

    assert "không có địa chỉ này" in until(said, "the refusal in the journal", pause=1)
