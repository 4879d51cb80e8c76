"""What `make lab-info` prints, taken at its word by a tool that knows nothing else."""

import json
import os
import ssl
import subprocess
import sys
from functools import partial
from typing import Any

import pytest
from imapclient import IMAPClient
from imapclient.exceptions import LoginError

from roles.common.site import ROOT, Site
from tests import clients
from tests.waiting import until

KEYS = {"domain", "webmail_url", "ca_certificate", "hosts", "ssh", "accounts", "foreign"}


@pytest.fixture(scope="module")
def info(site: Site) -> dict[str, Any]:
    """The JSON on standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab", "info", "--env", site.environment,
         "--instance", os.environ.get("LAB_INSTANCE", "up")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
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


def folders_of(info: dict[str, Any], account: dict[str, str]) -> set[str]:
    """What somebody sees by IMAP, asked with nothing but what was printed; nothing when refused."""
    (front, *_) = [host for host in info["hosts"].values() if "front" in host["groups"]]
    tls = ssl.create_default_context(cafile=str(ROOT / info["ca_certificate"]))
    with IMAPClient(front["address"], ssl_context=tls, timeout=clients.SECONDS) as client:
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
