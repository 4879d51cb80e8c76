"""The role `accounts`: the directory says what the registry says. Read-only."""

import base64
import gzip

import pytest
from testinfra.host import Host

from roles.accounts.deploy import site_registry, site_target
from roles.accounts.reconcile import reconcile
from roles.common.site import Site
from roles.directory.facts import DirectoryText
from roles.directory.ldif import Entries, entries


@pytest.fixture
def directory(host: Host, site: Site) -> Entries:
    """Every entry, without hashes."""
    packed = host.check_output(str(DirectoryText().command(site.base_dn)))
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
