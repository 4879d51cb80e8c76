"""The public directory, as a citizen or an official reads it."""

import csv
import io
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest
from playwright.sync_api import Browser, Page, expect

from roles.common.site import Site
from roles.publicdirectory.deploy import OUTPUT, USER
from roles.publicdirectory.publish import CHECKED
from tests import clients, remote
from tests.browser.test_http import ask
from tests.browser.webmail import Webmail
from tests.clients import Account
from tests.waiting import until

PATH = "/danh-ba/"
UNIT = "Sở Thông tin và Truyền thông"
UNIT_PAGE = f"{PATH}don-vi/stttt/"
NARROW = 360
"""Pixels of the narrowest screens."""
CONTRAST = 4.5
"""What WCAG 2.2 AA demands of text."""

FAINT = """least => {
    const rgb = color => color.match(/[0-9.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map(part => part / 255)
        .map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, place) => sum + part * [0.2126, 0.7152, 0.0722][place], 0);
    const ground = element => {
        for (; element; element = element.parentElement) {
            const color = rgb(getComputedStyle(element).backgroundColor);
            if (color.length === 3 || color[3] > 0) {
                return color;
            }
        }
        return [255, 255, 255];
    };
    const faint = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some(
            node => node.nodeType === Node.TEXT_NODE && node.data.trim());
        if (!own || !element.checkVisibility()) {
            continue;
        }
        const [a, b] = [light(rgb(getComputedStyle(element).color)), light(ground(element))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < least) {
            faint.push(`${ratio.toFixed(1)}: ${element.textContent.trim()}`);
        }
    }
    return faint;
}"""
"""The texts whose contrast to their ground is below `least`."""

WIDE = """width => [...document.querySelectorAll('body, body *')].filter(element => {
    const box = element.getBoundingClientRect();
    // What is a pixel large is for screen readers, what is left of the window for the keyboard.
    if (box.width <= 1 || box.right <= 0 || !element.checkVisibility()) {
        return false;
    }
    const style = getComputedStyle(element);
    // A field's own text moves in it, and lines have no inside.
    const inside = element.matches('input') || style.display === 'inline'
        ? 0 : element.scrollWidth - element.clientWidth;
    return box.left < -0.5 || box.right > width + 0.5 || inside > 1;
}).map(element => `${element.tagName}: ${element.textContent.trim().slice(0, 60)}`)"""
"""What stands over the edge of a window `width` pixels wide, or of what it stands in: to be
scrolled aside, or cut off."""


@pytest.fixture
def page(webmail: Webmail) -> Page:
    """A window on the directory; errors, violations of the policy and foreign requests fail."""
    webmail.page.goto(PATH)
    expect(webmail.page.get_by_role("searchbox")).to_be_visible()
    return webmail.page


@pytest.fixture
def unit_page(page: Page) -> Page:
    """A window on a unit that has people."""
    page.goto(UNIT_PAGE)
    return page


def refresh(site: Site) -> None:
    """Let the program run now on every front."""
    for front in site.group("front"):
        remote.shell(site, front.address, "systemctl start site-publicdirectory.service")


def files_with(site: Site, text: str) -> str:
    """Names of files that hold a text once the program has run, on the first front."""
    refresh(site)
    return remote.shell(
        site, clients.address_of(site, "front"), f"grep -rlF -- '{text}' {OUTPUT}/current || true"
    )


# -- the tree --------------------------------------------------------------------------------------


@pytest.mark.regulation("8")
def test_units_stand_by_kind_in_vietnamese_order(page: Page) -> None:
    section = page.get_by_role("region", name="Sở, ban, ngành và tương đương")
    names = section.locator(":scope > ul > li > a").all_inner_texts()
    some = [
        "Sở Công Thương", "Sở Kế hoạch và Đầu tư", "Sở Khoa học và Công nghệ", "Sở Nội vụ",
        "Sở Tài chính", "Sở Tài nguyên và Môi trường", UNIT, "Sở Tư pháp", "Sở Xây dựng",
        "Sở Y tế", "Thanh tra tỉnh", "Văn phòng Ủy ban nhân dân tỉnh",
    ]  # fmt: skip
    assert [name for name in names if name in some] == some
    districts = page.get_by_role("region", name="Huyện, thành phố, thị xã")
    expect(districts.get_by_role("link", name="Ủy ban nhân dân huyện Cái Bè")).to_be_visible()


def test_units_below_others_open(page: Page) -> None:
    below = page.get_by_role("link", name="Trung tâm Tin học")
    expect(below).to_be_hidden()
    page.locator("summary", has_text="Văn phòng Ủy ban nhân dân tỉnh").click()
    below.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Trung tâm Tin học")
    way = page.get_by_role("navigation", name="Vị trí trong danh bạ")
    way.get_by_role("link", name="Văn phòng Ủy ban nhân dân tỉnh").click()
    expect(page).to_have_url(re.compile(r"/danh-ba/don-vi/vpubnd/$"))


def test_a_link_leads_to_a_unit_below_another(page: Page) -> None:
    page.goto(f"{PATH}#vpubnd.tttinhoc")
    expect(page.get_by_role("link", name="Trung tâm Tin học")).to_be_in_viewport()


@pytest.mark.regulation("8")
def test_a_unit_says_what_is_public(unit_page: Page, site: Site) -> None:
    expect(unit_page.get_by_role("heading", level=1)).to_have_text(UNIT)
    main = unit_page.get_by_role("main")
    mail = main.get_by_role("link", name=f"stttt@{site.domain}", exact=True)
    expect(mail).to_have_attribute("href", f"mailto:stttt@{site.domain}")
    head = main.locator("dd", has_text="Trần Thị B")
    expect(head).to_contain_text("Giám đốc")
    expect(head.get_by_role("link", name="+84 273 000 002")).to_have_attribute(
        "href", "tel:+84273000002"
    )
    people = main.get_by_role("region", name="Cán bộ, công chức, viên chức")
    names = people.locator(".person").all_inner_texts()
    some = ["Nguyễn Văn A", "Lê Văn C", "Võ Văn G"]
    assert [name for name in names if name in some] == some


def test_it_says_of_when_it_is_and_whom_to_turn_to(page: Page, site: Site) -> None:
    foot = page.get_by_role("contentinfo")
    expect(foot).to_contain_text(re.compile(r"Danh bạ được lập lúc \d\d:\d\d ngày \d\d/\d\d/20"))
    note = "Lần đối chiếu gần nhất với cơ sở dữ liệu của hệ thống thư: "
    expect(foot).to_contain_text(note, use_inner_text=True)
    expect(foot).to_contain_text(f"báo sự cố: {site.postmaster}")


# -- search ----------------------------------------------------------------------------------------


@pytest.mark.regulation("8")
@pytest.mark.parametrize("query", ["so thong tin", "Sở Thông tin", "TRUYEN thong", "stttt"])
def test_a_unit_is_found_without_diacritics(page: Page, query: str) -> None:
    page.get_by_role("searchbox").fill(query)
    status = page.get_by_role("status")
    expect(status).to_have_text(re.compile(r"^Tìm thấy \d+ kết quả\.$"))
    first = page.get_by_role("list", name="Kết quả tìm kiếm").get_by_role("link").first
    expect(first).to_have_text(UNIT)
    expect(page.get_by_role("region")).to_have_count(0)


@pytest.mark.parametrize("query", ["nguyen van a", "dang van d", "van thu", "000 004"])
def test_people_are_found_by_name_title_and_telephone(page: Page, query: str) -> None:
    expected = {
        "nguyen van a": ["Nguyễn Văn A", "Văn thư"],
        "dang van d": ["Đặng Văn Đ", "Sở Nội vụ"],
        "van thu": ["Văn thư"],
        "000 004": ["Phạm Thị D", "Sở Tài chính"],
    }[query]
    page.get_by_role("searchbox").fill(query)
    hits = page.get_by_role("list", name="Kết quả tìm kiếm").get_by_role("listitem")
    hit = hits.filter(has_text=expected[0]).first
    for text in expected:
        expect(hit).to_contain_text(text)


def test_nothing_found_is_said(page: Page) -> None:
    page.get_by_role("searchbox").fill("khong co don vi nay")
    expect(page.get_by_role("status")).to_have_text("Không tìm thấy kết quả nào.")
    page.get_by_role("searchbox").press("Escape")
    expect(page.get_by_role("status")).to_have_text("")
    expect(page.get_by_role("link", name=UNIT, exact=True)).to_be_visible()


def test_a_search_is_passed_on_as_a_link(page: Page) -> None:
    page.get_by_role("searchbox").fill("Sở Nội vụ")
    expect(page).to_have_url(re.compile(r"/danh-ba/\?tim="))
    page.goto(page.url)
    expect(page.get_by_role("searchbox")).to_have_value("Sở Nội vụ")
    found = page.get_by_role("list", name="Kết quả tìm kiếm").get_by_role("link").first
    expect(found).to_have_text("Sở Nội vụ")


def test_a_search_without_people_says_so(page: Page, webmail: Webmail) -> None:
    page.route("**/tim-kiem/*.json", lambda route: route.fulfill(status=503, body=""))
    with webmail.expecting("503"):
        page.get_by_role("searchbox").fill("so thong tin")
        expect(page.get_by_role("status")).to_contain_text("Chưa tải được danh sách cán bộ")
        expect(page.get_by_role("link", name=UNIT, exact=True)).to_be_visible()


# -- everybody can use it --------------------------------------------------------------------------


def focused(page: Page) -> str:
    """The text of what has the focus, seen to be marked."""
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    return str(page.evaluate("document.activeElement.innerText || document.activeElement.id"))


def test_the_keyboard_suffices(page: Page) -> None:
    page.keyboard.press("Tab")
    assert focused(page) == "Chuyển đến nội dung chính"
    page.keyboard.press("Tab")
    assert focused(page) == "tim"
    page.keyboard.type("so thong tin")
    expect(page.get_by_role("status")).to_contain_text("Tìm thấy")
    page.keyboard.press("Enter")
    assert focused(page) == UNIT
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text(UNIT)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()


def test_the_tree_opens_by_keyboard(page: Page) -> None:
    summary = page.locator("summary", has_text="Văn phòng Ủy ban nhân dân tỉnh")
    summary.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert focused(page) == "Trung tâm Tin học"


@pytest.mark.parametrize("path", [PATH, UNIT_PAGE])
def test_a_screen_reader_finds_its_way(page: Page, path: str) -> None:
    page.goto(path)
    assert page.locator("html").get_attribute("lang") == "vi"
    for landmark in ("banner", "main", "contentinfo"):
        expect(page.get_by_role(landmark)).to_have_count(1)
    levels = [
        int(tag[1])
        for tag in page.locator("h1, h2, h3, h4").evaluate_all("all => all.map(e => e.tagName)")
    ]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    # Every thing that is operated has a name of its own.
    tree = page.locator("body").aria_snapshot()
    roles = re.findall(r"- '?(link|button|searchbox|list|region|navigation)\b(.*)", tree)
    assert len(roles) > 5
    unnamed = [role for role, rest in roles if role != "list" and '"' not in rest]
    assert unnamed == []
    if path == PATH:
        field = page.get_by_role("search").get_by_role("searchbox", name=re.compile("^Tìm đơn vị"))
        expect(field).to_have_accessible_description("Có thể gõ không dấu, ví dụ: so thong tin")
        expect(page.get_by_role("status")).to_have_attribute("aria-live", "polite")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", [f"{PATH}?tim=thu", PATH, UNIT_PAGE])
def test_text_stands_out_from_its_ground(page: Page, path: str, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(path)
    expect(page.get_by_role("contentinfo")).to_contain_text("Lần đối chiếu")
    assert page.evaluate(FAINT, CONTRAST) == []
    # The measure itself: white on white.
    page.locator("h1").evaluate("e => { e.style.color = 'rgb(120, 120, 120)'; }")
    page.locator("h1").evaluate("e => { e.style.backgroundColor = 'rgb(110, 110, 110)'; }")
    assert len(page.evaluate(FAINT, CONTRAST)) == 1


@pytest.mark.parametrize("path", [f"{PATH}?tim=thu", PATH, UNIT_PAGE])
def test_a_narrow_screen_scrolls_one_way_only(page: Page, path: str) -> None:
    page.set_viewport_size({"width": NARROW, "height": 640})
    page.goto(path)
    expect(page.get_by_role("contentinfo")).to_contain_text("Lần đối chiếu")
    for summary in page.locator("summary:visible").all():
        summary.click()
    assert page.evaluate(WIDE, NARROW) == []
    # The measure itself: a word that is too long, scrolled aside or cut off in a page that is not.
    for cut in ("auto", "hidden"):
        page.locator("h1").evaluate(
            "(e, cut) => { e.style.width = '500px'; e.parentElement.style.overflowX = cut; }", cut
        )
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW
        assert page.evaluate(WIDE, NARROW)


def test_on_paper_everything_is_open(page: Page) -> None:
    page.emulate_media(media="print")
    expect(page.get_by_role("link", name="Trung tâm Tin học")).to_be_hidden()
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    expect(page.get_by_role("link", name="Trung tâm Tin học")).to_be_visible()
    expect(page.get_by_role("searchbox")).to_be_hidden()
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    expect(page.get_by_role("link", name="Trung tâm Tin học")).to_be_hidden()


def test_without_scripts_it_can_be_browsed(site: Site, browser: Browser) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"https://{site.mail_name}{PATH}")
    expect(page.get_by_role("searchbox")).to_be_hidden()
    page.locator("summary", has_text="Văn phòng Ủy ban nhân dân tỉnh").click()
    page.get_by_role("link", name="Trung tâm Tin học").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Trung tâm Tin học")
    page.goto(f"https://{site.mail_name}{UNIT_PAGE}")
    expect(page.get_by_role("button")).to_have_count(0)
    context.close()


# -- what is not public ----------------------------------------------------------------------------


@pytest.mark.regulation("8")
def test_a_personal_address_shows_on_request_and_is_nowhere_in_clear(
    site: Site, unit_page: Page, accounts: list[Account]
) -> None:
    people = {account.address for account in accounts if account.is_person}
    assert people
    for path in (UNIT_PAGE, f"{UNIT_PAGE}stttt.csv", f"{PATH}danh-ba.vcf", f"{PATH}danh-ba.csv"):
        shown = set(re.findall(r"[a-z0-9._-]+@[a-z0-9.-]+[a-z]", ask(site, path).text))
        assert f"stttt@{site.domain}" in shown
        assert not shown & people
    button = unit_page.get_by_role("button", name="Hiện địa chỉ thư của Nguyễn Văn A")
    button.click()
    link = unit_page.get_by_role("link", name=f"anv@{site.domain}")
    expect(link).to_be_focused()
    expect(link).to_have_attribute("href", f"mailto:anv@{site.domain}")


HIDING = """dn: ou=skhcn,ou=units,{base}
changetype: modify
{verb}: telephoneNumber
{phone}-
{verb}: directoryHidden
{unit}-

dn: employeeNumber=1024,ou=people,{base}
changetype: modify
{verb}: directoryHidden
{person}-
"""
PHONE = "+84 273 987 654 321"


def hide(site: Site, *, unit: str = "", person: str = "", phone: str = "") -> None:
    """Set what a unit and somebody in it hide; without values all of it goes."""

    def line(name: str, value: str) -> str:
        return f"{name}: {value}\n" if value else ""

    ldif = HIDING.format(
        base=site.base_dn,
        verb="replace",
        phone=line("telephoneNumber", phone),
        unit=line("directoryHidden", unit),
        person=line("directoryHidden", person),
    )
    remote.modify(site, ldif)


@pytest.fixture
def hidden(site: Site) -> Iterator[None]:
    """Whatever a test hid is public again afterwards."""
    yield
    hide(site)
    until(lambda: files_with(site, "Võ Văn Thử"), "the pages as they were")


@pytest.mark.regulation("8")
@pytest.mark.usefixtures("hidden")
def test_what_an_entry_hides_is_in_no_file(site: Site) -> None:
    mailbox = f"skhcn@{site.domain}"
    hide(site, phone=PHONE)
    until(lambda: files_with(site, PHONE), "the telephone in the pages")
    assert files_with(site, mailbox)
    hide(site, phone=PHONE, unit="telephoneNumber", person="*")
    until(lambda: not files_with(site, PHONE), "pages without the telephone")
    assert not files_with(site, "Võ Văn Thử")
    assert files_with(site, mailbox)
    hide(site, phone=PHONE, unit="mail")
    until(lambda: not files_with(site, mailbox), "pages without the mailbox")
    assert files_with(site, PHONE)
    hide(site, phone=PHONE, unit="*")
    until(lambda: not files_with(site, "Sở Khoa học"), "pages without the unit")
    assert not files_with(site, "Võ Văn Thử")
    assert ask(site, f"{PATH}don-vi/skhcn/").status == 404


# -- what is served --------------------------------------------------------------------------------


def test_its_policy_is_strict_and_the_webmails_headers_hold(site: Site) -> None:
    headers = ask(site, PATH).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-robots-tag"] == "noindex, nofollow"
    assert "max-age" in headers["strict-transport-security"]
    assert "unsafe-inline" in ask(site, "/").headers["content-security-policy"]


def test_a_page_is_sent_again_only_when_it_changed(site: Site) -> None:
    answer = ask(site, PATH, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-encoding"] == "gzip"
    again = ask(site, PATH, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status, again.body) == (304, b"")


@pytest.mark.parametrize(
    ("path", "status", "target"),
    [
        ("/danh-ba", 301, PATH), ("/danh-ba/don-vi/stttt", 301, UNIT_PAGE),
        ("/danh-ba/don-vi/", 302, PATH),
    ],
)  # fmt: skip
def test_an_address_that_is_cut_short_leads_on(
    site: Site, path: str, status: int, target: str
) -> None:
    answer = ask(site, path)
    assert answer.status == status
    assert answer.headers["location"] == f"https://{site.mail_name}{target}"


@pytest.mark.parametrize(
    "path",
    [
        f"{PATH}nothing",
        # The webmail's configuration, beside the pages.
        f"{PATH}../config",
        # All versions of the pages: nginx' alias without the slash at its name's end.
        "/danh-ba../",
    ],
)
def test_nothing_else_is_served(site: Site, path: str) -> None:
    assert ask(site, path).status == 404


def test_what_is_being_written_is_not_served(site: Site) -> None:
    front, draft = clients.address_of(site, "front"), f".{CHECKED}.new"
    remote.shell(site, front, f"runuser -u {USER} -- touch {OUTPUT}/current/{draft}")
    try:
        assert ask(site, PATH + draft).status == 404
    finally:
        remote.shell(site, front, f"rm -f {OUTPUT}/current/{draft}")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "MKCOL"])
def test_it_is_only_read(site: Site, method: str) -> None:
    assert ask(site, PATH, method=method, body=b"x").status == 405


@pytest.mark.regulation("8")
@pytest.mark.parametrize("path", [f"{PATH}danh-ba", f"{UNIT_PAGE}stttt"])
def test_the_table_opens_in_a_spreadsheet(site: Site, path: str) -> None:
    answer = ask(site, f"{path}.csv")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.body.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(answer.body.decode("utf-8-sig"), newline="")))
    (unit,) = [row for row in rows if row["Mã đơn vị"] == "stttt" and not row["Họ và tên"]]
    assert (unit["Đơn vị"], unit["Thư điện tử"]) == (UNIT, f"stttt@{site.domain}")
    (head,) = [row for row in rows if row["Họ và tên"] == "Trần Thị B"]
    assert (head["Chức vụ"], head["Điện thoại"]) == ("Giám đốc", "+84 273 000 002")
    assert ({row["Mã đơn vị"] for row in rows} == {"stttt"}) == ("don-vi" in path)


@pytest.mark.regulation("8")
def test_vcards_are_read(site: Site) -> None:
    answer = ask(site, f"{UNIT_PAGE}stttt.vcf")
    assert answer.headers["content-type"] == "text/vcard; charset=utf-8"
    lines = answer.body.decode().replace("\r\n ", "").split("\r\n")
    cards = lines.count("BEGIN:VCARD")
    assert cards >= 5
    assert lines.count("VERSION:4.0") == lines.count("END:VCARD") == cards
    assert f"FN:{UNIT}" in lines
    assert "N:Trần;B;Thị;;" in lines
    assert f"EMAIL;TYPE=work:stttt@{site.domain}" in lines


@pytest.mark.regulation("8")
def test_without_the_directory_the_pages_stay(site: Site) -> None:
    refresh(site)
    front = clients.address_of(site, "front")

    def page_and_check() -> tuple[bytes, str]:
        return ask(site, PATH).body, json.loads(ask(site, PATH + CHECKED).text)["checked"]

    with ExitStack() as stack:
        for directory in site.group("directory"):
            stack.enter_context(remote.stopped(site, directory.address, "slapd.service"))
        before = page_and_check()
        refresh(site)
        assert page_and_check() == before
        assert "Danh bạ được lập lúc" in before[0].decode()
        said = remote.shell(site, front, "journalctl -q -o cat -n 3 -t site-publicdirectory")
        assert "the directory did not answer" in said
        assert "the pages stay as they are" in said

    def compared_again() -> bool:
        refresh(site)
        return page_and_check()[1] != before[1]

    until(compared_again, "the next comparison")
