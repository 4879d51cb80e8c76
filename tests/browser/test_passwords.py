"""Passwords in the webmail: what must be changed, what is refused, and those for applications."""

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import expect

from roles.common.site import Site
from tests import clients, remote
from tests.browser.webmail import Webmail
from tests.clients import Account
from tests.mail.test_directory import GOOD, may_log_in
from tests.mail.test_mailstore import LOGINS
from tests.mail.test_passwords import NEXT, WITHIN, Official, entry_of, known, official
from tests.remote import shell
from tests.waiting import until

__all__ = ["official"]
ONETIME = "k7mq-w3xd-p9rt-h4vb"


def account(person: Official, password: str = GOOD) -> Account:
    """How somebody logs in."""
    return Account(person.address, "Nguyễn Văn Thử", "person", password)


def change(webmail: Webmail, current: str, new: str, answer: str) -> None:
    """Fill in the form, and wait for what the webmail says."""
    for field, value in (("cur", current), ("new", new), ("conf", new)):
        webmail.page.fill(f"#{field}passwd", value)
    webmail.page.locator("button.submit").click()
    webmail.message(answer)
    webmail.settle()


@pytest.mark.regulation("13")
def test_a_onetime_password_leads_to_its_change_and_nowhere_else(
    webmail: Webmail, official: Official
) -> None:
    official.reset(ONETIME, datetime.now(UTC))
    webmail.log_in(account(official, ONETIME))
    expect(webmail.page.locator("#curpasswd")).to_be_visible()
    webmail.message("Mật khẩu hiện tại chỉ dùng được một lần")
    for task in ("mail", "addressbook", "settings"):
        webmail.open(task)
        expect(webmail.page.locator("#curpasswd")).to_be_visible()

    change(webmail, ONETIME, "tiengiang2026", "Không dùng từ, tên hay dãy số dễ đoán")
    change(webmail, ONETIME, "dua leo stttt ngot", "Không chứa họ tên")
    change(webmail, ONETIME, "ab2d-efgh-k3st-seca-ret3", "dạng của mật khẩu ứng dụng")
    change(webmail, ONETIME, NEXT, "Đã lưu thành công")
    webmail.open("mail")
    expect(webmail.folder("Hộp thư đến")).to_be_visible()
    assert {"pwdReset", "pwdEndTime"} & {*official.read("+")} == set()
    until(
        lambda: LOGINS["imap"](official.site, official.address, NEXT) == "",
        "that mail programs are let in",
        WITHIN,
    )


@pytest.fixture
def expiring(site: Site, official: Official) -> Iterator[Official]:
    """Somebody whose password expires in ten days, of which they are told a fortnight before."""
    directory = clients.address_of(site, "directory")
    dn = f"cn=thu-{secrets.token_hex(6)},ou=policies,{site.base_dn}"
    ldif = (
        f"dn: {dn}\nobjectClass: namedPolicy\nobjectClass: pwdPolicy\npwdAttribute: userPassword\n"
        "pwdMaxAge: 864000\npwdExpireWarning: 1209600\n"
    )
    shell(site, directory, f"ldapadd {remote.LDAP} >/dev/null", stdin=ldif)
    official.set(pwdPolicySubentry=dn)
    # A password's age is counted from when it was set under a policy that asks for it.
    official.write(userPassword=GOOD)
    yield official
    shell(site, directory, f"ldapdelete {remote.LDAP} '{dn}'")


@pytest.mark.regulation("13")
def test_who_must_change_the_password_soon_is_told(webmail: Webmail, expiring: Official) -> None:
    webmail.log_in(account(expiring))
    webmail.message(re.compile(r"Mật khẩu của bạn sắp hết hạn, hãy đổi trước .*\d\d"))
    # The form is at hand; nobody is kept there.
    expect(webmail.page.locator("#curpasswd")).to_be_visible()
    webmail.open("mail")
    expect(webmail.folder("Hộp thư đến")).to_be_visible()


@pytest.mark.regulation("13")
def test_nobody_is_told_of_a_password_that_does_not_expire(
    webmail: Webmail, official: Official
) -> None:
    webmail.log_in(account(official))
    expect(webmail.folder("Hộp thư đến")).to_be_visible()
    expect(webmail.page.locator("#messagestack")).not_to_contain_text("hết hạn")


@pytest.mark.regulation("13")
def test_a_telephone_gets_a_password_that_is_shown_once(
    webmail: Webmail, official: Official
) -> None:
    site, page = official.site, webmail.page
    name = 'Điện thoại "công vụ" <2>'
    webmail.log_in(account(official))
    webmail.open("settings")
    page.locator("#settings-menu a", has_text="Mật khẩu ứng dụng").click()
    expect(page.locator("#app-form")).to_be_visible()
    page.fill("#app-name", name)
    expect(page.get_by_label("Đọc thư (IMAP)")).to_be_checked()
    page.get_by_label("Gửi thư (SMTP)").uncheck()
    page.get_by_role("button", name="Tạo mật khẩu").click()
    shown = page.locator("#app-password code")
    expect(shown).to_have_text(re.compile(r"^[a-z2-9]{4}(-[a-z2-9]{4}){4}$"))
    password = shown.inner_text()
    row = page.locator("#app-passwords tr", has_text=name)
    expect(row).to_contain_text("Đọc thư (IMAP)")

    assert LOGINS["imap"](site, official.address, password) == ""
    assert "uthentication failed" in LOGINS["pop3"](site, official.address, password)
    webmail.open("settings", action="plugin.province-apps")
    expect(page.locator("#app-password")).to_have_count(0)
    # When it was made, and when it was used last.
    expect(row.locator("td").nth(2)).to_have_text(re.compile(r"\d"))
    expect(row.locator("td").nth(3)).to_have_text(re.compile(r"\d"))

    known(official, entry_of(official, password))
    row.get_by_role("button", name="Thu hồi").click()
    expect(page.locator("#app-passwords")).to_have_count(0)
    until(
        lambda: LOGINS["imap"](site, official.address, password),
        "that the revoked password is refused",
        WITHIN,
    )
    assert may_log_in(site, official.dn, GOOD)


def test_the_form_for_applications_says_what_it_lacks(webmail: Webmail, official: Official) -> None:
    page = webmail.page
    webmail.log_in(account(official))
    webmail.open("settings", action="plugin.province-apps")
    page.fill("#app-name", "   ")
    page.get_by_role("button", name="Tạo mật khẩu").click()
    webmail.message("Hãy nhập tên thiết bị")
    page.fill("#app-name", "Máy tính bảng")
    for label in ("Đọc thư (IMAP)", "Gửi thư (SMTP)"):
        page.get_by_label(label).uncheck()
    page.get_by_role("button", name="Tạo mật khẩu").click()
    webmail.message("Hãy chọn ít nhất một mục đích")
