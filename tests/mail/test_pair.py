"""Two of everything: whichever host a client meets, it meets the same mail system.

Where an environment has one host of a group there is nothing to compare, and the test is skipped.
What happens when one of the two is down is in `tests/faults/test_pair_outages.py`.
"""

import re
import smtplib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from urllib.parse import urlencode

import pytest
from imapclient import IMAPClient

from roles.common.site import Group, Site, SiteHost
from roles.mailstore.settings import MailstoreSettings
from tests import clients, remote
from tests.browser.test_http import Answer, ask
from tests.clients import Account
from tests.mail.test_filtering_learning import Counts, arrive, counts, move, taught
from tests.mail.test_mailstore_units import member
from tests.waiting import until

Person = Callable[[str], Account]

PEOPLE = ("clv", "ldq")
"""Of units that lie on different stores wherever there are several."""
PERSON_AND_UNIT = (("ldq", "stttt"), ("clv", "vpubnd.tttinhoc"))
"""Each with a unit mailbox on the other store, where there are several."""


@pytest.fixture
def several(site: Site) -> Callable[[Group], list[SiteHost]]:
    """The hosts of a group; the test is skipped where there is only one."""

    def hosts(group: Group) -> list[SiteHost]:
        found = site.group(group)
        if len(found) < 2:
            pytest.skip(f"{site.environment} has one host in the group {group}")
        return found

    return hosts


Several = Callable[[Group], list[SiteHost]]


# -- directory -------------------------------------------------------------------------------------


def title(site: Site, host: SiteHost, person_id: str) -> str:
    """The line with a person's title, as a directory knows it."""
    dn = f"employeeNumber={person_id},ou=people,{site.base_dn}"
    search = f"ldapsearch {remote.LDAP} -LLL -o ldif_wrap=no -s base -b {dn} title"
    return remote.shell(site, host.address, f"{search} | grep ^title:").strip()


@contextmanager
def entitled(site: Site, host: SiteHost, person_id: str, words: str) -> Iterator[None]:
    """Inside the block a directory was told another title of a person; behind it the former one."""
    dn = f"employeeNumber={person_id},ou=people,{site.base_dn}"
    kept = title(site, host, person_id)

    def tell(line: str) -> None:
        change = f"dn: {dn}\nchangetype: modify\nreplace: title\n{line}\n"
        command = f"timeout 30 ldapmodify {remote.LDAP} >/dev/null && echo done"
        # A slapd that hangs is started anew (site-slapd-watchdog); told twice is told once.
        until(
            lambda: remote.shell(site, host.address, command, check=False, stdin=change),
            f"a change on {host.name}",
            seconds=240,
        )

    tell(f"title: {words}")
    try:
        yield
    finally:
        tell(kept)


@pytest.mark.parametrize("number", [0, 1])
def test_a_change_on_one_directory_arrives_at_the_other(
    site: Site, several: Several, number: int
) -> None:
    hosts = several("directory")
    told, other = hosts[number], hosts[1 - number]
    words = f"Thu {number}"
    with entitled(site, told, "1040", words):
        until(
            lambda: title(site, other, "1040") == f"title: {words}", f"the change at {other.name}"
        )
    until(lambda: title(site, other, "1040") != f"title: {words}", f"the return at {other.name}")
    until(lambda: remote.in_step(site, told, other), "both in step")


# -- mx and stores ---------------------------------------------------------------------------------


def offer(site: Site, mx: SiteHost, recipient: str, size: int = 0) -> tuple[int, str]:
    """An mx's answer to RCPT for a letter from outside of a size."""
    with clients.mx(site, mx.address) as client:
        sender = f"nguoi.la@tester.{clients.foreign_domain(site)}"
        assert client.mail(sender, [f"SIZE={size}"] if size else [])[0] == 250
        code, words = client.rcpt(recipient)
    return code, words.decode()


def stored(site: Site, store: SiteHost, address: str, message_id: str) -> int:
    """How often a letter lies in a mailbox, as a store itself says."""
    query = f"doveadm search -u {address} mailbox INBOX header Message-ID '{message_id}'"
    return len(remote.shell(site, store.address, query, check=False).splitlines())


def test_the_mailboxes_lie_on_all_stores(site: Site, several: Several, person: Person) -> None:
    homes = {clients.store_of(site, person(name).address).name for name in PEOPLE}
    assert homes == {host.name for host in several("store")}
    for name in PEOPLE:
        address = person(name).address
        query = f"postmap -q {address} ldap:/etc/postfix/ldap/mailhost.cf"
        answers = {remote.shell(site, mx.address, query).strip() for mx in site.group("mx")}
        assert answers == {clients.store_name(site, address)}


@pytest.mark.parametrize("name", PEOPLE)
@pytest.mark.parametrize("number", [0, 1])
def test_every_mx_delivers_to_every_store(
    site: Site, several: Several, person: Person, number: int, name: str
) -> None:
    mx, account = several("mx")[number], person(name)
    sender = f"nguoi.la@tester.{clients.foreign_domain(site)}"
    message = clients.letter(sender, account.address, subject=f"Qua {mx.name}")
    with clients.mx(site, mx.address) as client:
        assert not client.send_message(message)
    with clients.imap(site, account) as client:
        content = clients.raw(client, clients.wait_for(client, message))
    assert f"by {mx.fqdn} ".encode() in content
    assert b"X-Spam-Status:" in content, "passed unscanned"
    home = clients.store_of(site, account.address)
    for store in site.group("store"):
        times = stored(site, store, account.address, message["Message-ID"])
        assert times == (store == home), store.name


@contextmanager
def quota(site: Site, account: Account, size: int) -> Iterator[None]:
    """Inside the block a mailbox may hold no more than `size`."""
    home = clients.store_of(site, account.address)
    entry = remote.entry(site, account.address, "mailboxQuota")

    def set_to(value: int | str) -> None:
        change = f"changetype: modify\nreplace: mailboxQuota\nmailboxQuota: {value}\n"
        remote.modify(site, f"dn: {entry['dn'][0]}\n{change}")
        remote.shell(site, home.address, f"doveadm auth cache flush {account.address}")

    try:
        set_to(size)
        yield
    finally:
        set_to(entry["mailboxQuota"][0])


@pytest.mark.parametrize("name", PEOPLE)
def test_every_mx_asks_the_mailboxs_own_store_for_its_quota(
    site: Site, several: Several, person: Person, name: str
) -> None:
    several("store")
    account, (other,) = person(name), [person(other) for other in PEOPLE if other != name]
    # Beyond what one last letter may exceed the quota below by.
    size = site.of(MailstoreSettings).quota_grace + 2 * 2**20
    with quota(site, account, 2**20):
        for mx in several("mx"):
            code, words = offer(site, mx, account.address, size)
            assert code == 552, f"{mx.name}: {words}"
            assert offer(site, mx, other.address, size)[0] == 250
    for mx in several("mx"):
        assert offer(site, mx, account.address, size)[0] == 250


# -- fronts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PEOPLE)
def test_a_mailbox_is_the_same_on_every_front(
    site: Site, several: Several, person: Person, name: str
) -> None:
    fronts, account = several("front"), person(name)
    message = clients.letter(account.address, account.address, subject="Trên mọi máy")
    clients.submit(site, account, message, at=fronts[1].address)
    for front in fronts:
        with clients.imap(site, account, at=front.address) as client:
            uid = clients.wait_for(client, message)
            # What is done on one front is seen on the others.
            expected = [b"\\Seen"] if front != fronts[0] else []
            assert [flag for flag in client.get_flags([uid])[uid] if flag == b"\\Seen"] == expected
            client.add_flags([uid], [b"\\Seen"])


def web_log_in(site: Site, front: SiteHost, account: Account) -> dict[str, str]:
    """Log in to the webmail of a front; the session's cookies."""
    cookies: dict[str, str] = {}
    first = ask(site, "/", at=front.address)
    keep(cookies, first)
    token = re.search(r'name="_token" value="([^"]+)"', first.text)
    assert token
    form = {
        "_token": token[1], "_task": "login", "_action": "login", "_timezone": "Asia/Ho_Chi_Minh",
        "_url": "", "_user": account.address, "_pass": account.password,
    }  # fmt: skip
    answer = ask(
        site,
        "/?_task=login",
        method="POST",
        body=urlencode(form).encode(),
        headers={**sent(cookies), "Content-Type": "application/x-www-form-urlencoded"},
        at=front.address,
    )
    assert answer.status == 302, answer.text
    keep(cookies, answer)
    return cookies


def keep(cookies: dict[str, str], answer: Answer) -> None:
    """Take over the cookies that an answer sets."""
    for header in answer.cookies:
        cookies.update((key, morsel.value) for key, morsel in SimpleCookie(header).items())


def sent(cookies: dict[str, str]) -> dict[str, str]:
    """The header with which a browser sends cookies."""
    return {"Cookie": "; ".join(f"{key}={value}" for key, value in cookies.items())}


def web_page(site: Site, front: SiteHost, cookies: dict[str, str]) -> str:
    """Which page a front shows to whoever has these cookies: `mail`, or `login`."""
    answer = ask(site, "/?_task=mail", headers=sent(cookies), at=front.address)
    keep(cookies, answer)
    found = re.search(r'<body class="task-(\w+)', answer.text)
    assert found, f"{answer.status}: {answer.text[:500]}"
    return found[1]


@pytest.mark.parametrize("name", PEOPLE)
def test_a_webmail_session_goes_on_at_another_front(
    site: Site, several: Several, person: Person, name: str
) -> None:
    fronts = several("front")
    cookies = web_log_in(site, fronts[0], person(name))
    assert [web_page(site, front, cookies) for front in fronts] == ["mail"] * len(fronts)
    # Without them, or with somebody's guess, nobody is in.
    assert web_page(site, fronts[1], {}) == "login"
    assert web_page(site, fronts[1], dict.fromkeys(cookies, "a" * 26)) == "login"


# -- what all share --------------------------------------------------------------------------------


def learnt(site: Site, host: SiteHost) -> Counts:
    """What a host's filter finds in the Bayes store."""
    user = "defang" if host.serves("mx") else "debian-spamd"
    dump = remote.shell(
        site, host.address, f"cd / && runuser -u {user} -- sa-learn --dump magic 2>/dev/null"
    )
    lines = {line.split("non-token data: ")[-1]: line.split() for line in dump.splitlines()}
    return Counts(int(lines["nspam"][2]), int(lines["nham"][2]))


@pytest.mark.regulation("8")
@pytest.mark.parametrize("name", PEOPLE)
def test_what_one_store_learns_every_mx_knows(
    site: Site, several: Several, person: Person, name: str
) -> None:
    several("store")
    account = person(name)
    with clients.imap(site, account) as mailbox:
        uid = arrive(site, account, mailbox, "Quảng cáo chung")
        before = counts(site)
        move(mailbox, uid, "INBOX", "Junk")
        after = before + Counts(spam=1, ham=0)
        taught(site, after)
    assert {mx.name: learnt(site, mx) for mx in several("mx")} == {
        mx.name: after for mx in several("mx")
    }


@pytest.mark.parametrize(("name", "code"), PERSON_AND_UNIT)
def test_a_unit_on_another_store_is_not_seen_and_breaks_nothing(
    site: Site, several: Several, person: Person, name: str, code: str
) -> None:
    """A unit's members lie on its store: the registry refuses others before anything is changed.

    What an administrator writes past it opens nothing, and takes nothing away.
    """
    several("store")
    account = person(name)
    home = clients.store_of(site, account.address)
    assert home != clients.store_of(site, f"{code}@{site.domain}")
    with member(site, account, code), clients.imap(site, account) as client:
        above = site.of(MailstoreSettings).units_folder
        folders = (clients.unit_folder(site, code), f"{above}/{code}")
        assert not {entry[2] for entry in client.list_folders()} & {*folders}
        for folder in folders:
            with pytest.raises(IMAPClient.Error):
                client.select_folder(folder)
        client.select_folder("INBOX")


def test_every_mx_refuses_whom_nobody_knows(site: Site, several: Several) -> None:
    for mx in several("mx"):
        code, words = offer(site, mx, f"khong-co-ai@{site.domain}")
        assert code == 550, f"{mx.name}: {words}"
        with clients.mx(site, mx.address) as client, pytest.raises(smtplib.SMTPException):
            client.login("anv", "x")
