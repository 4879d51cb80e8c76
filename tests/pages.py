"""The webmail as a program without a browser uses it: pages and forms over HTTPS."""

import re
from urllib.parse import urlencode

from roles.common.site import Site
from tests.browser.test_http import Answer, ask
from tests.clients import Account

_PAGE_SIZE = re.compile(r'<input[^>]*name="_mail_pagesize"[^>]*>')


class Pages:
    """A session of somebody who has logged in, or tried to."""

    def __init__(self, site: Site, account: Account) -> None:
        self._site = site
        self._cookies: dict[str, str] = {}
        (token,) = re.findall(r'name="_token" value="(\w+)"', self.page({}).text)
        self.log_in = self.page(
            {"_task": "login"},
            {
                "_token": token, "_task": "login", "_action": "login",
                "_user": account.address, "_pass": account.password,
            },
        )  # fmt: skip
        """What the form answered: 302 to who is let in."""

    def page(self, query: dict[str, str], fields: dict[str, str] | None = None) -> Answer:
        """Ask for a page, or send a form to it."""
        answer = ask(
            self._site, f"/?{urlencode(query)}", method="POST" if fields else "GET",
            body=urlencode(fields).encode() if fields else None,
            headers={
                "Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items()),
                **({"Content-Type": "application/x-www-form-urlencoded"} if fields else {}),
                # What a script of the webmail's own sends: no other site can.
                **({"X-Roundcube-Request": fields["_token"]} if fields else {}),
            },
        )  # fmt: skip
        for cookie in answer.cookies:
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        return answer

    @property
    def _token(self) -> str:
        (token,) = re.findall(r'"request_token":"(\w+)"', self.page({"_task": "settings"}).text)
        return str(token)

    @property
    def page_size(self) -> int:
        """How many letters a page lists: a setting of one's own."""
        form = {"_task": "settings", "_action": "edit-prefs", "_section": "mailbox", "_framed": "1"}
        (field,) = _PAGE_SIZE.findall(self.page(form).text)
        (value,) = re.findall(r'value="(\d+)"', field)
        return int(value)

    @page_size.setter
    def page_size(self, number: int) -> None:
        self.page(
            {"_task": "settings", "_action": "save-prefs"},
            {
                "_token": self._token, "_section": "mailbox", "_framed": "1",
                "_mail_pagesize": str(number), "_layout": "widescreen",
            },
        )  # fmt: skip

    @property
    def contacts(self) -> set[str]:
        """One's own contacts: the lines of their vCards that name somebody."""
        query = {"_task": "addressbook", "_action": "export", "_source": "0", "_token": self._token}
        lines = self.page(query).text.splitlines()
        return {line for line in lines if line.startswith(("FN", "EMAIL"))}

    def add_contact(self, name: str, address: str) -> None:
        """Note whom a letter is from."""
        self.page(
            {"_task": "mail", "_action": "addcontact"},
            {"_token": self._token, "_remote": "1", "_address": f"{name} <{address}>"},
        )
