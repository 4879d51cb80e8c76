"""Persons who administer the hosts: by SSH with their own keys, as root only where they may."""

import subprocess

import pytest

from roles.base.settings import BaseSettings
from roles.common.site import Site, SiteHost
from tests.lab.keys import Keys

REFUSED = "Permission denied (publickey)."


@pytest.fixture(params=[True, False], ids=["with sudo", "without sudo"])
def admin(request: pytest.FixtureRequest, site: Site) -> str:
    """The user name of somebody who may, or may not, become root."""
    admins = site.of(BaseSettings).admins
    (name,) = [name for name, admin in admins.items() if admin.sudo is request.param]
    return name


def ssh(
    site: Site, host: SiteHost, user: str, key: str, *options: str, command: str = "id -un"
) -> subprocess.CompletedProcess[str]:
    """Log in with a key of the lab's folder and run a command."""
    keys = Keys(site.state / "ssh")
    return subprocess.run(
        [
            *("ssh", "-F", "none", "-i", keys.folder / key, "-o", "IdentitiesOnly=yes"),
            *("-o", "IdentityAgent=none", "-o", f"UserKnownHostsFile={keys.known_hosts}"),
            *("-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes"),
            *("-o", "BatchMode=yes", "-o", "ConnectTimeout=30", *options),
            *(f"{user}@{host.address}", command),
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_admin_logs_in_on_every_host(site: Site, admin: str) -> None:
    for host in site.hosts.values():
        done = ssh(site, host, admin, admin)
        assert done.stdout == f"{admin}\n", f"{host.name}: {done.stderr}"


def test_only_who_may_becomes_root(site: Site, admin: str) -> None:
    may = site.of(BaseSettings).admins[admin].sudo
    for host in site.hosts.values():
        done = ssh(site, host, admin, admin, command="sudo -n true && sudo -n id -u")
        assert done.stdout == ("0\n" if may else ""), f"{host.name}: {done.stderr}"
        assert ("sudo: a password is required" in done.stderr) is not may, done.stderr


@pytest.mark.regulation("13")
def test_a_password_is_not_even_asked_for(site: Site, admin: str) -> None:
    methods = "PreferredAuthentications=password,keyboard-interactive,none"
    for host in site.hosts.values():
        done = ssh(site, host, admin, admin, "-o", "PubkeyAuthentication=no", "-o", methods)
        assert done.returncode == 255
        assert REFUSED in done.stderr, f"{host.name}: {done.stderr}"


def test_a_key_is_good_for_its_owner_alone(site: Site, admin: str) -> None:
    (other,) = set(site.of(BaseSettings).admins) - {admin}
    for host in site.hosts.values():
        for user in ("root", other):
            done = ssh(site, host, user, admin)
            assert done.returncode == 255, f"{host.name}: {admin}'s key is taken for {user}"
            assert REFUSED in done.stderr, done.stderr
        # Nor does the key with which root deploys open a person's account.
        assert REFUSED in ssh(site, host, admin, "id_ed25519").stderr
