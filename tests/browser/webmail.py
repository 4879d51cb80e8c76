"""The webmail as its tests use it: pages and the few things that an official does on them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import ConsoleMessage, FrameLocator, Locator, Page, Request, expect

from roles.common.site import Site
from tests.clients import Account
from tests.waiting import until

_SETTLED = """() =>
    document.readyState === 'complete'
    && window.rcmail && !rcmail.busy
    && window.jQuery && jQuery.active === 0
    && !document.querySelector('#messagestack .loading')
    && [...document.querySelectorAll('iframe')].every(
        frame => !frame.contentDocument || frame.contentDocument.readyState === 'complete')
"""
"""Nothing is being asked, and no note at the window's edge says so."""


class Webmail:
    """A browser window on the webmail.

    Attributes:
        page: Playwright's page.
        problems: errors in the console (violations of the content security policy are such),
            exceptions in scripts, and requests to other servers.
    """

    def __init__(self, page: Page, site: Site) -> None:
        self.page = page
        self.site = site
        self.problems: list[str] = []
        self._expected: str | None = None
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.on("request", self._request)

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if self._expected is not None and self._expected in message.text:
            return
        self.problems.append(f"{message.type}: {message.text}")

    def _request(self, request: Request) -> None:
        own = f"https://{self.site.mail_name}/"
        if not request.url.startswith((own, f"blob:{own}", "data:", "about:")):
            self.problems.append(f"request to another server: {request.url}")

    @contextmanager
    def expecting(self, text: str) -> Iterator[None]:
        """Messages in the console that contain `text` are part of what is tested."""
        self._expected = text
        yield
        self._expected = None

    def open(self, task: str, **parameters: str | int) -> None:
        """Open a page of a task, such as `open("mail", action="compose")`."""
        query = "".join(f"&_{name}={value}" for name, value in parameters.items())
        self.page.goto(f"?_task={task}{query}")
        self.settle()

    def settle(self) -> None:
        """Wait until the page has all that it asked for: before, it ignores clicks."""
        self.page.wait_for_function(_SETTLED)

    def log_in(self, account: Account) -> None:
        """Log in, and wait for the list of letters."""
        self.type_log_in(account.address, account.password)
        expect(self.page.locator("body.task-mail, body.task-settings")).to_be_visible()
        self.settle()

    def type_log_in(self, name: str, password: str) -> None:
        """Fill in the form and send it."""
        self.page.goto("")
        self.page.fill("#rcmloginuser", name)
        self.page.fill("#rcmloginpwd", password)
        self.page.click("#rcmloginsubmit")

    def message(self, text: str | re.Pattern[str]) -> None:
        """Wait for a note at the window's edge, such as "Đã gửi"."""
        expect(self.page.locator("#messagestack")).to_contain_text(text)

    def folder(self, name: str) -> Locator:
        """The folder of this name in the list of folders."""
        return self.page.locator("#mailboxlist a", has_text=name).first

    def letter(self, subject: str) -> Locator:
        """The line of a letter in the list, by its subject."""
        return self.page.locator("#messagelist tr.message:visible", has_text=subject).first

    def open_folder(self, name: str) -> None:
        """Show a folder's letters."""
        line = self.page.locator("#mailboxlist li.selected > a", has_text=name)

        def opened() -> bool:
            self._click_when_idle(self.folder(name))
            return line.is_visible()

        until(opened, f"the folder '{name}' to open", pause=1)

    def lists(self, folder: Locator, subject: str) -> bool:
        """Ask for a folder's letters again; whether a letter is among them. For `until`."""
        self._click_when_idle(folder)
        return self.letter(subject).is_visible()

    def _click_when_idle(self, target: Locator) -> None:
        """Click, and wait for what comes of it; a click that meets a new request is dropped."""
        self.settle()
        target.click()
        self.settle()

    def choose(self, subject: str) -> None:
        """Click a letter in the list; it is shown beside."""
        self.letter(subject).click()
        preview = self.page.frame_locator("#messagecontframe")
        expect(preview.locator("#message-header .subject")).to_contain_text(subject)
        self.settle()

    def press(self, button: str) -> None:
        """Press a button of the toolbar, by its class."""
        self.settle()
        self.page.locator(f"a.{button}:not(.disabled):visible").first.click()

    def send(self) -> None:
        """Send the letter that is being written."""
        self.settle()
        self.page.locator("button.send").click()
        # That it was sent is said for a moment only, on a page that is about to go.
        self.page.wait_for_url(lambda url: "_action=compose" not in url)

    def read(self, uid: int, folder: str = "INBOX") -> None:
        """Open a letter by its UID in the whole window."""
        self.open("mail", action="show", mbox=folder, uid=uid)
        expect(self.page.locator("#message-content")).to_be_visible()
        self.settle()

    @property
    def body(self) -> Locator:
        """The text of the letter that is open."""
        return self.page.locator("#messagebody")

    @property
    def form(self) -> FrameLocator:
        """The frame in which settings are edited."""
        return self.page.frame_locator("#layout-content iframe")
