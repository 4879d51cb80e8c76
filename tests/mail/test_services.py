"""Services of a mailbox: whoever is denied one by the registry has all others."""

import re
from collections.abc import Callable
from urllib.parse import urlencode

import pytest

from roles.common.site import Site
from tests.browser.test_http import ask
from tests.clients import Account
from tests.mail.test_mailstore import LOGINS
from tests.mail.test_mta_mx import rcpt
from tests.mail.test_mta_submission import authenticated, connected


def submission(site: Site, name: str, password: str) -> str:
    """What submission answers to a log-in; empty when it is taken."""
    with connected(site, 465) as client:
        code, words = authenticated(client, name, password)
    return "" if code == 235 else words.decode()


def webmail(site: Site, name: str, password: str) -> str:
    """What the webmail's log-in form answers; empty when it is taken."""
    form = ask(site, "/")
    (token,) = re.findall(r'name="_token" value="(\w+)"', form.text)
    fields = {
        "_token": token, "_task": "login", "_action": "login", "_user": name, "_pass": password,
    }  # fmt: skip
    answer = ask(
        site, "/?_task=login", method="POST", body=urlencode(fields).encode(),
        headers={
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": form.headers["set-cookie"].partition(";")[0],
        },
    )  # fmt: skip
    return "" if answer.status == 302 else f"{answer.status} {answer.text}"


def receiving(site: Site, name: str, _password: str) -> str:
    """What port 25 answers to RCPT; empty when it is taken."""
    code, words = rcpt(site, name)
    return "" if code == 250 else words


USED = {**LOGINS, "submission": submission, "webmail": webmail, "lmtp": receiving}
OFF = {
    "clv": set[str](),
    "ult": {"pop3", "sieve"},
    "nhaplh": {"submission"},
    "nhapnm": {"webmail"},
    "nhapdx": {"imap"},
    "nhapbn": {"lmtp"},
}
"""What the registry denies to whom."""
WORDS = {
    "imap": "uthentication failed",
    "pop3": "uthentication failed",
    "sieve": "uthentication failed",
    "submission": "authentication failed",
    "webmail": "_pass",  # the form again
    "lmtp": "5.1.1",
}
"""A service that is switched off answers as to a wrong password, or an unknown recipient."""


@pytest.mark.parametrize("name", OFF)
def test_exactly_the_services_that_are_switched_off_are_refused(
    site: Site, person: Callable[[str], Account], name: str
) -> None:
    account = person(name)
    said = {service: use(site, account.address, account.password) for service, use in USED.items()}
    assert {service for service, words in said.items() if words} == OFF[name], said
    assert all(WORDS[service] in said[service] for service in OFF[name]), said
