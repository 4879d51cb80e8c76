"""Testinfra against any environment: `ENV=production pytest tests/hosts`. Nothing is changed there.

`LIMIT="mx1 store"` narrows it down to hosts and groups.
A file `test_ROLE.py` runs on every host that has the role; the mark `serving` narrows that down to
hosts of a group. Tests see `host` (Testinfra's), `me` (the host as the site knows it) and `site`.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from roles.common.errors import SiteError
from roles.common.site import GROUPS, Site, SiteHost, load, roles_of


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "serving(*groups): only on hosts of one of these groups")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test the hosts that have the role its file is named after."""
    if "me" not in metafunc.fixturenames:
        return
    role = metafunc.module.__name__.rpartition(".")[2].removeprefix("test_")
    try:
        site = load(os.environ.get("ENV", "local"))
    except SiteError as error:
        raise pytest.UsageError(str(error)) from None
    limit = set(os.environ.get("LIMIT", "").split())
    if unknown := limit - {*site.hosts, *GROUPS}:
        raise pytest.UsageError(
            f"LIMIT: {' '.join(sorted(unknown))}: no such host or group; expected some of "
            f"{', '.join([*site.hosts, *GROUPS])}"
        )
    marks = [mark.args for mark in metafunc.definition.iter_markers("serving")]
    hosts = [
        host
        for host in site.hosts.values()
        if role in roles_of(host)
        and all(host.serves(*groups) for groups in marks or [GROUPS])
        and (not limit or limit & {host.name, *host.groups})
    ]
    metafunc.parametrize("me", hosts, ids=[host.name for host in hosts], scope="session")


@pytest.fixture(scope="session")
def ssh_config(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """How to reach the hosts: one connection each, which all tests share."""
    folder = tmp_path_factory.mktemp("ssh")
    lines = []
    for host in site.hosts.values():
        lines += [f"Host {host.name}", f"  HostName {host.address}"]
    lines += [
        "Host *",
        "  User root",
        "  BatchMode yes",
        "  ControlMaster auto",
        "  ControlPersist 60",
        f"  ControlPath {folder}/%h",
    ]
    if site.lab:
        keys = site.state / "ssh"
        lines += [
            f"  IdentityFile {keys / 'id_ed25519'}",
            "  IdentitiesOnly yes",
            f"  UserKnownHostsFile {keys / 'known_hosts'}",
            "  GlobalKnownHostsFile /dev/null",
            "  StrictHostKeyChecking yes",
        ]
    else:
        # The operator's own keys and jump hosts.
        lines += ["Host *", "Include ~/.ssh/config"]
    path = folder / "config"
    path.write_text("\n".join(lines) + "\n")
    yield path
    for host in site.hosts.values():
        if (folder / host.address).exists():
            subprocess.run(
                ["ssh", "-q", "-F", path, "-O", "exit", host.name], capture_output=True, check=False
            )


@pytest.fixture
def host(me: SiteHost, ssh_config: Path) -> Host:
    """Testinfra's view of the host."""
    return testinfra.get_host(f"ssh://{me.name}", ssh_config=str(ssh_config))
