"""Passwords in the webmail: what must be changed, what is refused, and those for applications."""

import re
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import expect

from roles.common.site import Site
from tests import clients, remote
from tests.access import WITHIN, settle
from tests.browser.webmail import Webmail
from tests.clients import Account
from tests.mail.test_directory import GOOD, may_log_in
from tests.mail.test_mailstore import LOGINS
from tests.mail.test_passwords import NEXT, Official, entry_of, official
from tests.remote import shell
from tests.waiting import until

__all__ = ["official"]
KNOWN, LOOK = 11_000, 31_000
"""Milliseconds: a little longer than the plug-in's constants of these names."""
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
    # Whatever the webmail asks the store while that is acted upon is cut off.
    settle(official.site, account(official))
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
    settle(official.site, account(official))
    webmail.open("mail")
    expect(webmail.folder("Hộp thư đến")).to_be_visible()
    assert {"pwdReset", "pwdEndTime"} & {*official.read("+")} == set()
    until(
        lambda: LOGINS["imap"](official.site, official.address, NEXT) == "",
        "that mail programs are let in",
        WITHIN,
    )


CLOSED = "Phiên làm việc đã kết thúc vì hộp thư bị khóa"
CHANGED = "Phiên làm việc đã kết thúc vì mật khẩu đã được đổi"


@pytest.mark.regulation("13")
@pytest.mark.parametrize(
    ("said", "attributes"),
    [
        (CLOSED, {"mailboxState": "locked"}),
        (CLOSED, {"mailboxService": "imap"}),
        (CHANGED, {"userPassword": NEXT}),
    ],
)
def test_who_may_no_longer_sees_why_at_the_next_click(
    webmail: Webmail, official: Official, said: str, attributes: dict[str, str]
) -> None:
    webmail.log_in(account(official))
    settle(official.site, official.dn)
    # A change within seconds after the log-in counts as the session's own.
    webmail.page.wait_for_timeout(KNOWN if "userPassword" in attributes else 0)
    official.write(**attributes)

    def clicked() -> bool:
        log_in = webmail.page.locator("#rcmloginuser")
        try:
            webmail.open("mail")
        except PlaywrightError:
            # The page was about to go to the log-in by itself.
            webmail.page.wait_for_load_state()
        # What the page asked for on its own was refused: it goes there in two seconds.
        if webmail.page.evaluate("rcmail.env.server_error === 401"):
            expect(log_in).to_be_visible()
        return log_in.is_visible()

    with webmail.expecting("401"):
        until(clicked, "the end of the session", WITHIN)
    webmail.message(said)
    # It is over, not only out of sight.
    webmail.open("addressbook")
    expect(webmail.page.locator("#rcmloginuser")).to_be_visible()


@pytest.mark.regulation("13")
def test_who_only_waits_before_a_page_without_mail_sees_why(
    webmail: Webmail, official: Official
) -> None:
    """The page itself asks every minute; an address book asks the store nothing."""
    webmail.log_in(account(official))
    webmail.open("addressbook")
    with webmail.expecting("401"):
        official.write(mailboxState="locked")
        expect(webmail.page.locator("#rcmloginuser")).to_be_visible(timeout=2 * WITHIN * 1000)
    webmail.message(CLOSED)


@pytest.mark.regulation("13")
def test_ones_own_change_of_the_password_ends_only_the_other_sessions(
    webmail: Webmail, official: Official
) -> None:
    webmail.log_in(account(official))
    webmail.page.wait_for_timeout(KNOWN)
    webmail.open("settings", action="plugin.password")
    change(webmail, GOOD, NEXT, "Đã lưu thành công")
    # Longer than the pause between two questions to the directory.
    webmail.page.wait_for_timeout(LOOK)
    webmail.open("mail")
    expect(webmail.folder("Hộp thư đến")).to_be_visible()


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
    settle(site, account(official))
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
    last = datetime.now(ZoneInfo("Asia/Ho_Chi_Minh")).date() + timedelta(days=30)
    page.get_by_label("Dùng đến hết ngày").fill(last.isoformat())
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
    # The last day on which it counts, and midnight after it.
    expect(row.locator("td").nth(4)).to_contain_text(f"{last:%d}")
    stored = shell(
        site,
        clients.address_of(site, "directory"),
        f"ldapsearch {remote.LDAP} -LLL -b '{entry_of(official, password)}' pwdEndTime",
    )
    assert f"pwdEndTime: {last:%Y%m%d}170000Z" in stored

    settle(official.site, entry_of(official, password))
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
    page.fill("#app-name", "Máy tính bảng")
    yesterday = datetime.now(ZoneInfo("Asia/Ho_Chi_Minh")).date() - timedelta(days=1)
    until_ = page.get_by_label("Dùng đến hết ngày")
    # The browser itself offers no such day; a form that was changed does.
    until_.evaluate("field => field.removeAttribute('min')")
    until_.fill(yesterday.isoformat())
    page.get_by_role("button", name="Tạo mật khẩu").click()
    webmail.message("Ngày hết hạn không hợp lệ")
