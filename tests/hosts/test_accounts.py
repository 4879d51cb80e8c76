"""The role `accounts`: the directory says what the registry says. Read-only."""

import base64
import gzip

import pytest
from testinfra.host import Host

from roles.accounts.deploy import site_registry, site_target
from roles.accounts.reconcile import READ, reconcile
from roles.common.site import Site
from roles.directory.facts import DirectoryText
from roles.directory.ldif import Entries, entries


@pytest.fixture
def directory(host: Host, site: Site) -> Entries:
    """Every entry, with what the registry looks at, and whether there is a password."""
    packed = host.check_output(str(DirectoryText().command(site.base_dn, (*READ, "userPassword"))))
    return entries(gzip.decompress(base64.b64decode(packed)).decode().splitlines())


def test_the_registrys_password_is_roots(host: Host) -> None:
    file = host.file("/etc/ldap/accounts.secret")
    assert (file.mode, file.user) == (0o600, "root")


@pytest.mark.regulation("3.2")
@pytest.mark.regulation("10")
def test_the_directory_says_what_the_registry_says(directory: Entries, site: Site) -> None:
    assert reconcile(site_registry(site), directory, site_target(site)).words == ()


@pytest.mark.regulation("3.1b")
def test_every_person_can_log_in_and_no_unit_can(directory: Entries, site: Site) -> None:
    registry = site_registry(site)
    for person_id in registry.people:
        entry = directory[f"employeenumber={person_id.lower()},ou=people,{site.base_dn}"]
        assert entry["userPassword"] == ["*"]
    for code in registry.units:
        assert "userPassword" not in directory[f"cn={code},ou=mailboxes,{site.base_dn}"]


@pytest.mark.regulation("3.1a")
def test_every_unit_has_a_mailbox_on_a_store(directory: Entries, site: Site) -> None:
    for code in site_registry(site).units:
        entry = directory[f"cn={code},ou=mailboxes,{site.base_dn}"]
        assert entry["mail"] == [f"{code}@{site.domain}"]
        assert entry["mailHost"][0] in site.store_names


@pytest.mark.regulation("12")
def test_what_time_alone_brings_comes(host: Host) -> None:
    unit = host.service("site-lifecycle.service")
    assert unit.is_running
    assert unit.is_enabled


@pytest.mark.regulation("13")
def test_what_ends_soon_is_announced_every_morning(host: Host) -> None:
    timer = host.service("site-notices.timer")
    assert timer.is_running
    assert timer.is_enabled
    assert host.check_output("systemctl show -P Result site-notices.service") == "success"


@pytest.mark.parametrize("unit", ["site-lifecycle", "site-notices"])
def test_its_program_is_not_root_and_may_do_nothing_else(host: Host, unit: str) -> None:
    said = host.check_output(f"systemctl show {unit}.service -p User,NoNewPrivileges,ProtectSystem")
    assert set(said.split()) == {
        "User=site-lifecycle", "NoNewPrivileges=yes", "ProtectSystem=strict",
    }  # fmt: skip
