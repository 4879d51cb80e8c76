"""The webmail in a real Chromium: read, answer, search, file, and change what is one's own."""

import re
import subprocess
import unicodedata
import uuid
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from pathlib import Path

import pytest
from ldap3 import MODIFY_REPLACE
from playwright.sync_api import expect

from roles.common.site import Site
from tests import clients, remote
from tests.access import settle
from tests.browser.webmail import Webmail
from tests.clients import Account
from tests.mail.test_directory import bound, service
from tests.waiting import until

FILE_NAME = "Báo cáo tổng hợp – Ủy ban nhân dân tỉnh.odt"
FILE = bytes(range(256)) * 40
# People whom no other test uses: what others do to accounts is not to be seen here.
READER = "mhn"
MEMBER = "ldq"
OUTSIDER = "thuht"
MISTAKEN = "dubh"
FILTERING = "maupx"
CHANGING = "giand"
UNIT = "vpubnd.tttinhoc"
UNIT_NAME = "Trung tâm Tin học"


@pytest.fixture
def reader(person: Callable[[str], Account]) -> Account:
    """Somebody who reads and writes."""
    return person(READER)


def unique(text: str) -> str:
    """A subject that no other letter has."""
    return f"{text} {uuid.uuid4().hex[:8]}"


def received(site: Site, account: Account, message: EmailMessage, folder: str = "INBOX") -> int:
    """Send a letter from outside and wait until it is in the mailbox; its UID."""
    clients.send_from_outside(site, message)
    with clients.imap(site, account) as client:
        return clients.wait_for(client, message, folder)


def answered(site: Site, address: str, subject: str) -> EmailMessage:
    """Wait for a letter in a foreign mailbox, by its subject."""
    with clients.foreign_imap(site, address) as client:
        wanted = re.escape(subject)

        def found() -> EmailMessage | None:
            client.select_folder("INBOX", readonly=True)
            uids = client.search(["ALL"])
            for raw in client.fetch(uids[-50:], ["BODY.PEEK[]"]).values() if uids else ():
                letter = message_from_bytes(raw[b"BODY[]"], policy=policy.default)
                assert isinstance(letter, EmailMessage)
                if re.search(wanted, letter["Subject"] or ""):
                    return letter
            return None

        letter = until(found, f"a letter '{subject}' at {address}", seconds=120)
        assert letter is not None
        return letter


def sender(letter: EmailMessage) -> str:
    """Who a letter is from: its two encoded words without the blank that Python puts between."""
    raw = next(value for name, value in letter.raw_items() if name == "From")
    return str(make_header(decode_header(raw)))


# -- logging in ------------------------------------------------------------------------------------


@pytest.mark.regulation("2")
def test_the_log_in_page_is_vietnamese(webmail: Webmail) -> None:
    webmail.page.goto("")
    expect(webmail.page).to_have_title(re.compile("Thư điện tử công vụ"))
    assert webmail.page.locator("html").get_attribute("lang") == "vi"
    expect(webmail.page.get_by_role("button", name="Đăng nhập")).to_be_visible()
    expect(webmail.page.get_by_placeholder("Tên đăng nhập")).to_be_focused()
    expect(webmail.page.get_by_text("Tên đăng nhập là địa chỉ thư công vụ")).to_be_visible()


def test_one_logs_in_and_out(webmail: Webmail, reader: Account) -> None:
    webmail.log_in(reader)
    page = webmail.page
    assert page.locator("html").get_attribute("lang") == "vi"
    for name in ("Hộp thư đến", "Thư nháp", "Đã gửi", "Thư rác", "Thùng rác", "Lưu trữ"):
        expect(webmail.folder(name)).to_be_visible()
    for name in ("Soạn thư", "Danh bạ", "Thiết lập", "Đăng xuất"):
        expect(page.locator("#taskmenu").get_by_role("button", name=name)).to_be_visible()
    page.locator("#taskmenu a.logout").click()
    webmail.message("Bạn đã đăng xuất")
    # The session is gone, not only its cookie.
    webmail.open("mail")
    expect(page.locator("#rcmloginuser")).to_be_visible()


def test_the_name_alone_will_do(webmail: Webmail, reader: Account) -> None:
    webmail.type_log_in(reader.address.partition("@")[0].upper(), reader.password)
    expect(webmail.folder("Hộp thư đến")).to_be_visible()


def test_a_wrong_password_is_refused(webmail: Webmail, person: Callable[[str], Account]) -> None:
    with webmail.expecting("401"):
        webmail.type_log_in(person(MISTAKEN).address, "sai-mat-khau")
        webmail.message("Đăng nhập không thành công")
    expect(webmail.page.locator("#rcmloginuser")).to_be_visible()


@pytest.mark.regulation("13")
def test_the_log_names_the_client_and_not_the_webmail(
    site: Site, webmail: Webmail, reader: Account
) -> None:
    front = clients.address_of(site, "front")
    since = remote.shell(site, front, "date +%s").strip()
    webmail.log_in(reader)
    lines = remote.shell(site, front, f"journalctl -q -o cat --since=@{since} -u dovecot")
    client = re.search(rf"user=<{re.escape(reader.address)}>.*rip=([0-9.]+)", lines)
    assert client, lines
    assert client[1] not in (front, "127.0.0.1")


# -- reading ---------------------------------------------------------------------------------------


@pytest.mark.regulation("3.3")
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_letter_from_outside_is_read(
    site: Site, webmail: Webmail, reader: Account, form: str
) -> None:
    subject = unique("Đề nghị báo cáo kết quả quý IV, huyện Gò Công Đông")
    text = "Kính gửi Sở Thông tin và Truyền thông,\nĐề nghị gửi báo cáo trước ngày 30/11."
    normal = unicodedata.normalize("NFD" if form == "NFD" else "NFC", text)
    letter = clients.foreign_letter(site, reader.address, subject=subject, text=f"{normal}\n")
    letter.add_attachment(
        FILE, maintype="application", subtype="vnd.oasis.opendocument.text", filename=FILE_NAME
    )
    uid = received(site, reader, letter)
    webmail.log_in(reader)
    expect(webmail.letter(subject)).to_be_visible()
    webmail.read(uid)
    expect(webmail.page.locator("#message-header .subject")).to_contain_text(subject)
    assert unicodedata.normalize("NFC", webmail.body.inner_text()).strip() == text
    attachment = webmail.page.locator("#attachment-list li", has_text=FILE_NAME)
    expect(attachment).to_be_visible()
    with webmail.page.expect_download() as download:
        attachment.locator("a.filename").click()
    assert download.value.suggested_filename == FILE_NAME
    assert Path(download.value.path()).read_bytes() == FILE


OLD_TEXT = "Đề nghị quý cơ quan gửi báo cáo trước thứ Sáu. Trân trọng cảm ơn."


@pytest.mark.regulation("3.3")
@pytest.mark.parametrize(
    ("label", "encoding"),
    [
        ("windows-1258", "CP1258"),
        ("viscii", "VISCII"),
        ("x-viet-tcvn", "TCVN5712-1"),
        ("TCVN-5712", "TCVN5712-1"),
    ],
)
def test_letters_of_the_time_before_unicode_are_readable(
    site: Site, webmail: Webmail, reader: Account, label: str, encoding: str
) -> None:
    old = subprocess.run(
        ["iconv", "-f", "UTF-8", "-t", encoding],
        input=OLD_TEXT.encode(),
        capture_output=True,
        check=True,
    ).stdout
    assert old != OLD_TEXT.encode()
    letter = clients.foreign_letter(site, reader.address, subject=unique("Thu cu"))
    letter.set_content(old, maintype="text", subtype="plain", cte="base64")
    letter.replace_header("Content-Type", f"text/plain; charset={label}")
    uid = received(site, reader, letter)
    webmail.log_in(reader)
    webmail.read(uid)
    assert unicodedata.normalize("NFC", webmail.body.inner_text()).strip() == OLD_TEXT


def test_a_letter_runs_no_script_and_fetches_nothing(
    site: Site, webmail: Webmail, reader: Account
) -> None:
    letter = clients.foreign_letter(site, reader.address, subject=unique("Quảng cáo"))
    letter.add_alternative(
        "<html><body><p>Xin chào</p><img src='http://tracker.example/pixel.png'>"
        "<img src=x onerror='document.title=1'><script>document.title=2</script></body></html>",
        subtype="html",
    )
    uid = received(site, reader, letter)
    webmail.log_in(reader)
    webmail.read(uid)
    expect(webmail.body).to_contain_text("Xin chào")
    expect(webmail.page.locator("#message-objects")).to_contain_text(
        "nội dung từ bên ngoài đã bị chặn"
    )
    expect(webmail.page).not_to_have_title(re.compile("^[12]$"))
    # Requests to other servers fail every test: see the fixture.


@pytest.mark.regulation("3.3")
def test_a_search_ignores_diacritics(site: Site, webmail: Webmail, reader: Account) -> None:
    mark = uuid.uuid4().hex[:8]
    found = clients.foreign_letter(site, reader.address, subject=f"Đề nghị {mark}")
    other = clients.foreign_letter(site, reader.address, subject=f"Thông báo {mark}", text="Họp.\n")
    received(site, reader, found)
    received(site, reader, other)
    webmail.log_in(reader)
    expect(webmail.letter(f"Thông báo {mark}")).to_be_visible()
    webmail.page.fill("#mailsearchform", f"de nghi {mark}")
    webmail.page.press("#mailsearchform", "Enter")
    webmail.message("Tìm thấy 1 thư")
    expect(webmail.letter(f"Đề nghị {mark}")).to_be_visible()
    expect(webmail.letter(f"Thông báo {mark}")).to_have_count(0)


# -- writing ---------------------------------------------------------------------------------------


@pytest.mark.regulation("3.3")
def test_an_answer_arrives_outside(
    site: Site, webmail: Webmail, reader: Account, tmp_path: Path
) -> None:
    subject = unique("Đề nghị cung cấp thông tin")
    letter = clients.foreign_letter(site, reader.address, subject=subject)
    uid = received(site, reader, letter)
    upload = tmp_path / FILE_NAME
    upload.write_bytes(FILE)
    webmail.log_in(reader)
    webmail.read(uid)
    page = webmail.page
    webmail.press("reply")
    expect(page.locator("#compose-subject")).to_have_value(f"Re: {subject}")
    page.locator("#composebody").press("Control+Home")
    page.keyboard.type("Sở xin gửi báo cáo. Trân trọng kính chào!")
    page.set_input_files("#uploadform input[type=file]", upload)
    expect(page.locator("#attachment-list li", has_text=FILE_NAME)).to_be_visible()
    webmail.send()

    answer = answered(site, str(letter["From"]), f"Re: {subject}")
    body = answer.get_body(("plain",))
    assert body is not None
    assert body.get_content().startswith("Sở xin gửi báo cáo. Trân trọng kính chào!")
    assert body.get_content_charset() == "utf-8"
    assert answer["In-Reply-To"] == letter["Message-ID"]
    (attachment,) = answer.iter_attachments()
    assert attachment.get_filename() == FILE_NAME
    assert attachment.get_content() == FILE
    assert sender(answer) == f"{reader.name} <{reader.address}>"
    with clients.imap(site, reader) as client:
        client.select_folder("Sent", readonly=True)
        assert client.search(["HEADER", "Message-ID", answer["Message-ID"]])


@pytest.mark.regulation("8")
def test_a_colleague_is_found_without_diacritics(webmail: Webmail, reader: Account) -> None:
    webmail.log_in(reader)
    webmail.open("mail", action="compose")
    page = webmail.page
    for typed in ("nguyen van", "Nguyễn Văn"):
        page.locator("#compose_to .recipient-input input").fill("")
        page.locator("#compose_to .recipient-input input").press_sequentially(typed)
        found = page.locator("#rcmKSearchpane li", has_text="Nguyễn Văn A")
        expect(found).to_contain_text(f"anv@{webmail.site.domain}")
        expect(found).to_contain_text("Sở Thông tin và Truyền thông")


@pytest.mark.regulation("8")
def test_the_provinces_address_book_is_searched(webmail: Webmail, reader: Account) -> None:
    webmail.log_in(reader)
    webmail.open("addressbook", source="province")
    page = webmail.page
    webmail.message("Hãy dùng ô tìm kiếm")
    page.fill("#searchform", "dang dd")
    page.press("#searchform", "Enter")
    page.fill("#searchform", "dang van")
    page.press("#searchform", "Enter")
    line = page.locator("#contacts-table tr", has_text="Đặng Văn Đ")
    expect(line).to_be_visible()
    line.click()
    card = webmail.form
    expect(card.get_by_text(f"ddv@{webmail.site.domain}")).to_be_visible()
    expect(card.get_by_text("Sở Nội vụ")).to_be_visible()


@pytest.mark.regulation("8")
def test_the_provinces_address_book_shows_the_units_as_the_public_directory(
    webmail: Webmail, reader: Account
) -> None:
    page = webmail.page
    page.goto(f"https://{webmail.site.mail_name}/danh-ba/")
    tree = [name.strip() for name in page.locator("#cay li.unit > .name").all_text_contents()]
    webmail.log_in(reader)
    webmail.open("addressbook", source="province")
    units = page.locator("#directorylist li.contactgroup")
    assert [name.strip() for name in units.all_text_contents()] == tree
    # A unit below another stands behind it, further in.
    below = units.filter(has_text="Trung tâm Tin học").locator("a")
    assert below.evaluate("link => link.textContent").startswith("\u2003")
    units.filter(has_text="Sở Thông tin và Truyền thông").locator("a").click()
    people = page.locator("#contacts-table tbody tr")
    expect(people.filter(has_text="Nguyễn Văn A")).to_be_visible()
    expect(people.filter(has_text="Sở Thông tin và Truyền thông")).to_be_visible()
    expect(people.filter(has_text="Đặng Văn Đ")).to_have_count(0)
    # A search stays in the unit.
    page.fill("#searchform", "van")
    page.press("#searchform", "Enter")
    expect(people.filter(has_text="Nguyễn Văn A")).to_be_visible()


# -- the unit --------------------------------------------------------------------------------------


@pytest.mark.regulation("3.1a")
def test_a_member_sees_the_units_mailbox(
    site: Site, webmail: Webmail, person: Callable[[str], Account]
) -> None:
    subject = unique("Công văn gửi Sở")
    clients.send_from_outside(
        site, clients.foreign_letter(site, f"{UNIT}@{site.domain}", subject=subject)
    )
    webmail.log_in(person(MEMBER))
    # By the unit's name, and with its folders in Vietnamese.
    unit = webmail.page.locator("#mailboxlist li", has_text=UNIT_NAME).last
    expect(unit.locator("a", has_text="Thư rác")).to_be_visible()
    folder = unit.locator("a").first
    until(
        lambda: webmail.lists(folder, subject),
        f"the letter '{subject}' in the unit's folder",
        pause=1,
    )


@pytest.mark.regulation("13")
def test_others_do_not_see_it(webmail: Webmail, person: Callable[[str], Account]) -> None:
    webmail.log_in(person(OUTSIDER))
    expect(webmail.folder("Hộp thư đến")).to_be_visible()
    expect(webmail.page.locator("#mailboxlist a", has_text=UNIT_NAME)).to_have_count(0)


@pytest.mark.regulation("3.1a")
def test_a_member_writes_as_the_unit(site: Site, webmail: Webmail, reader: Account) -> None:
    subject = unique("Thông báo của Sở")
    webmail.log_in(reader)
    webmail.open("mail", action="compose")
    page = webmail.page
    page.select_option("#_from", label=f"{UNIT_NAME} <{UNIT}@{site.domain}>")
    recipient = f"dan@{clients.foreign_domain(site)}"
    page.locator("#compose_to .recipient-input input").fill(recipient)
    page.fill("#compose-subject", subject)
    page.fill("#composebody", "Kính gửi quý cơ quan.")
    webmail.send()
    letter = answered(site, recipient, subject)
    assert sender(letter) == f"{UNIT_NAME} <{UNIT}@{site.domain}>"


@pytest.mark.regulation("13")
def test_nobody_else_may(webmail: Webmail, person: Callable[[str], Account]) -> None:
    outsider = person(OUTSIDER)
    webmail.log_in(outsider)
    webmail.open("settings", action="identities")
    expect(webmail.page.locator("#identities-table tr")).to_have_count(1)
    webmail.page.locator("#identities-table tr").click()
    address = webmail.form.locator("input[name=_email]")
    expect(address).to_have_value(outsider.address)
    expect(address).to_be_disabled()


# -- spam ------------------------------------------------------------------------------------------


@pytest.mark.regulation("8")
def test_a_button_files_spam_and_another_brings_it_back(
    site: Site, webmail: Webmail, reader: Account
) -> None:
    letter = clients.foreign_letter(site, reader.address, subject=unique("Khuyến mãi lớn"))
    with clients.imap(site, reader) as client:
        # Not by way of the filter, which has learnt from such letters.
        client.append("INBOX", letter.as_bytes())
    webmail.log_in(reader)
    webmail.choose(letter["Subject"])
    webmail.press("junk")
    webmail.message("Đã báo là thư rác")
    with clients.imap(site, reader) as client:
        clients.wait_for(client, letter, "Junk")
    webmail.open_folder("Thư rác")
    webmail.choose(letter["Subject"])
    webmail.press("notjunk")
    webmail.message("Đã báo không phải thư rác")
    with clients.imap(site, reader) as client:
        clients.wait_for(client, letter, "INBOX")


# -- one's own settings ----------------------------------------------------------------------------


def test_a_filter_files_letters(
    site: Site, webmail: Webmail, person: Callable[[str], Account]
) -> None:
    account, word = person(FILTERING), uuid.uuid4().hex[:8]
    name = f"Công văn {word}"
    webmail.log_in(account)
    webmail.open("settings", action="plugin.managesieve")
    page = webmail.page
    page.locator("a.create").first.click()
    form = webmail.form
    form.locator("#_name").fill(name)
    form.locator("input[name='_rule_target[0][]']").fill(word)
    form.locator("select[name='_action_mailbox[0]']").select_option("Archive")
    form.locator("button.submit").click()
    webmail.message("Đã lưu bộ lọc")
    expect(page.locator("#filterslist", has_text=name)).to_be_visible()
    letter = clients.foreign_letter(site, account.address, subject=f"Công văn số {word}")
    received(site, account, letter, "Archive")


@pytest.fixture
def changing(site: Site, person: Callable[[str], Account]) -> Iterator[Account]:
    """Somebody who changes their password; afterwards it is what it was."""
    account = person(CHANGING)
    yield account
    with bound(site, *service(site, "accounts")) as connection:
        connection.search(f"ou=people,{site.base_dn}", f"(mail={account.address})")
        change = {"userPassword": [(MODIFY_REPLACE, [account.password])]}
        connection.modify(connection.entries[0].entry_dn, change)


@pytest.mark.regulation("13")
def test_the_directorys_policy_governs_a_new_password(webmail: Webmail, changing: Account) -> None:
    fresh = f"Cầu Mỹ Thuận {uuid.uuid4().hex[:8]}"
    webmail.log_in(changing)
    webmail.open("settings", action="plugin.password")

    def change(current: str, new: str, repeated: str, answer: str) -> None:
        for field, value in (("cur", current), ("new", new), ("conf", repeated)):
            webmail.page.fill(f"#{field}passwd", value)
        webmail.page.locator("button.submit").click()
        webmail.message(answer)

    for field, value in (("cur", changing.password), ("new", fresh), ("conf", "khác")):
        webmail.page.fill(f"#{field}passwd", value)
    webmail.page.locator("button.submit").click()
    dialog = webmail.page.get_by_role("dialog")
    expect(dialog).to_contain_text("không giống nhau")
    dialog.get_by_role("button", name="Đồng ý").click()

    change("sai-mat-khau", fresh, fresh, "Mật khẩu hiện tại không đúng")
    change(changing.password, "ngắn", "ngắn", "Mật khẩu phải có ít nhất 12 ký tự")
    change(changing.password, fresh, fresh, "Đã lưu thành công")
    # What only the directory knows: it has been used before.
    change(fresh, changing.password, changing.password, "Mật khẩu này đã từng được dùng")
    # The session goes on with the new one, and the new one logs in. What the webmail asks the store
    # while other sessions are ended is cut off.
    settle(webmail.site, changing)
    webmail.open("mail")
    expect(webmail.folder("Hộp thư đến")).to_be_visible()
    webmail.page.locator("#taskmenu a.logout").click()
    webmail.message("Bạn đã đăng xuất")
    webmail.log_in(Account(changing.address, changing.name, changing.kind, fresh))
