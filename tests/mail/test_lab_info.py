"""What `make lab-info` prints, taken at its word by a tool that knows nothing else."""

import http.client
import json
import os
import re
import smtplib
import socket
import ssl
import subprocess
import sys
from contextlib import AbstractContextManager
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import LoginError
from ldap3 import SUBTREE, Connection
from ldap3.core.exceptions import LDAPInappropriateAuthenticationResult

from roles.common.site import ROOT, Site
from tests import clients, ldaps
from tests.waiting import until

KEYS = {"domain", "webmail_url", "ca_certificate", "hosts", "ssh", "accounts", "foreign"}


def lab(site: Site, command: str, *words: str) -> str:
    """What a command of the lab prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab", command, "--env", site.environment,
         "--instance", os.environ.get("LAB_INSTANCE", "up"), *words],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture(scope="module")
def info(site: Site) -> dict[str, Any]:
    """The JSON on standard output."""
    told: dict[str, Any] = json.loads(lab(site, "info"))
    return told


@pytest.fixture(scope="module")
def people(info: dict[str, Any]) -> list[dict[str, str]]:
    """The accounts of people."""
    return [account for account in info["accounts"] if account["kind"] == "person"]


def test_its_keys_are_those_that_tools_know(info: dict[str, Any]) -> None:
    assert set(info) == KEYS
    assert {key for account in info["accounts"] for key in account} == {
        "address", "password", "kind", "name",
    }  # fmt: skip
    assert {account["kind"] for account in info["accounts"]} == {"person", "unit"}
    assert {key for host in info["hosts"].values() for key in host} == {"address", "groups"}
    assert set(info["ssh"]) == {"user", "key"}
    assert set(info["foreign"]) == {"domain", "address", "smtp_host"}


def test_its_paths_begin_at_the_projects_root(info: dict[str, Any]) -> None:
    key = ROOT / info["ssh"]["key"]
    assert not info["ssh"]["key"].startswith("/")
    assert key.stat().st_mode & 0o077 == 0
    assert not info["ca_certificate"].startswith("/")
    ssl.create_default_context(cafile=str(ROOT / info["ca_certificate"]))


def address_of(info: dict[str, Any], group: str) -> str:
    """Address of the first host of a group, as it was printed."""
    (host, *_) = [host for host in info["hosts"].values() if group in host["groups"]]
    return str(host["address"])


def trusting(info: dict[str, Any]) -> ssl.SSLContext:
    """A TLS context that trusts the certificate that was printed."""
    return ssl.create_default_context(cafile=str(ROOT / info["ca_certificate"]))


def folders_of(info: dict[str, Any], account: dict[str, str]) -> set[str]:
    """What somebody sees by IMAP, asked with nothing but what was printed; nothing when refused."""
    address = address_of(info, "front")
    with IMAPClient(address, ssl_context=trusting(info), timeout=clients.SECONDS) as client:
        try:
            client.login(account["address"], account["password"])
        except LoginError:
            return set()
        return {name for _, _, name in client.list_folders()}


@pytest.fixture(scope="module")
def folders(info: dict[str, Any], people: list[dict[str, str]]) -> dict[str, set[str]]:
    """What each person sees who logs in by IMAP."""
    # Other tests guess passwords: for some seconds the directory then refuses the right one.
    return {
        account["address"]: until(
            partial(folders_of, info, account), f"the log-in of {account['address']}"
        )
        for account in people
    }


def test_every_person_logs_in(people: list[dict[str, str]], folders: dict[str, set[str]]) -> None:
    assert len(people) >= 3
    assert all("INBOX" in seen for seen in folders.values())


def test_two_people_share_a_unit_mailbox(
    site: Site, info: dict[str, Any], folders: dict[str, set[str]]
) -> None:
    units = {
        account["address"].partition("@")[0]
        for account in info["accounts"]
        if account["kind"] == "unit"
    }
    members = {
        code: [name for name, seen in folders.items() if clients.unit_folder(site, code) in seen]
        for code in units
    }
    assert max(map(len, members.values())) >= 2, members


def test_every_host_takes_its_key(site: Site, info: dict[str, Any]) -> None:
    for name, host in info["hosts"].items():
        done = subprocess.run(
            [
                "ssh", "-F", "none", "-i", info["ssh"]["key"],
                *("-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"),
                # Whose host key it is was not printed.
                *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"),
                f"{info['ssh']['user']}@{host['address']}", "hostname -f; id -u",
            ],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.stdout.split() == [site.hosts[name].fqdn, "0"], done.stderr


@pytest.mark.parametrize("port", [smtplib.SMTP_PORT, 587])
def test_the_foreign_host_sends_as_its_address(
    info: dict[str, Any], people: list[dict[str, str]], port: int
) -> None:
    foreign, person = info["foreign"], people[0]
    assert foreign["address"].endswith(f"@{foreign['domain']}")
    message = clients.letter(foreign["address"], person["address"], subject="Từ ngoài")
    with smtplib.SMTP(foreign["smtp_host"], port, timeout=clients.SECONDS) as client:
        client.send_message(message)
    with IMAPClient(
        address_of(info, "front"), ssl_context=trusting(info), timeout=clients.SECONDS
    ) as client:
        client.login(person["address"], person["password"])
        clients.wait_for(client, message)


def page(url: str, address: str, tls: ssl.SSLContext) -> tuple[int, str]:
    """Status and text of a page, asked at an address: the lab's names are not in every DNS."""
    parts = urlsplit(url)
    assert parts.scheme == "https"
    assert parts.hostname is not None
    connection = http.client.HTTPSConnection(parts.hostname, context=tls)
    plain = socket.create_connection((address, parts.port or 443), timeout=clients.SECONDS)
    connection.sock = tls.wrap_socket(plain, server_hostname=parts.hostname)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_its_url_is_the_webmails(info: dict[str, Any]) -> None:
    status, text = page(info["webmail_url"], address_of(info, "front"), trusting(info))
    assert status == HTTPStatus.OK
    assert 'name="_pass"' in text


def ldap(
    info: dict[str, Any], group: str, name: str, password: str
) -> AbstractContextManager[Connection]:
    """Somebody who is bound by LDAPS at the first host of a group, verified by its address."""
    address = address_of(info, group)
    asked = ldaps.server(address, address, ROOT / info["ca_certificate"])
    return ldaps.bound(asked, name, password)


def test_its_directory_answers_by_ldaps(info: dict[str, Any]) -> None:
    # Nobody stays anonymous there: that it says so is its answer.
    with (
        pytest.raises(LDAPInappropriateAuthenticationResult),
        ldap(info, "directory", "", ""),
    ):
        pass


def test_its_people_ask_the_address_book(
    info: dict[str, Any], people: list[dict[str, str]]
) -> None:
    person, other = people[:2]
    base = ",".join(f"dc={part}" for part in info["domain"].split("."))
    with ldap(info, "front", f"mail={person['address']}", person["password"]) as connection:
        connection.search(base, f"(mail={other['address']})", SUBTREE, attributes=["cn"])
        (entry,) = connection.entries
        assert other["name"] in entry.cn.values


def test_a_shell_opens_on_the_host_that_is_named(site: Site) -> None:
    for host in site.hosts.values():
        assert lab(site, "shell", host.name, "hostname", "-f").strip() == host.fqdn
    (host, *_) = site.group("mx")
    done = subprocess.run(
        ["make", "lab-shell", f"LAB={site.environment}", f"HOST={host.name}"],
        cwd=ROOT, input="hostname -f\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == host.fqdn


def test_the_welcome_is_true(site: Site, info: dict[str, Any]) -> None:
    said = lab(site, "welcome")
    (url,) = re.findall(r"^Webmail +(\S+)$", said, re.MULTILINE)
    (address,) = re.findall(r"^ +its address +(\S+);", said, re.MULTILINE)
    (authority,) = re.findall(r"^ +its CA +(\S+)$", said, re.MULTILINE)
    status, text = page(url, address, ssl.create_default_context(cafile=str(ROOT / authority)))
    assert status == HTTPStatus.OK
    assert 'name="_pass"' in text
    named = re.findall(r"^ +log in as +(\S+) +password (.+)$", said, re.MULTILINE)
    assert named
    for login, password in named:
        account = {"address": login, "password": password}
        seen = until(partial(folders_of, info, account), f"the log-in of {login}")
        assert "INBOX" in seen
