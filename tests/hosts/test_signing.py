"""The role `signing`: what runs, as whom, and whether the world knows the key."""

import pytest
from testinfra.host import Host

from roles.common.site import Site, SiteHost
from roles.signing.deploy import CONFIGURATION, KEY, PASSED_ON, USER
from roles.signing.settings import SigningSettings

SOCKET = "/run/opendkim/opendkim.sock"


def test_it_runs_and_starts_at_boot(host: Host) -> None:
    service = host.service("opendkim.service")
    assert service.is_running
    assert service.is_enabled


def test_it_runs_unprivileged(host: Host) -> None:
    running = host.check_output("ps -C opendkim -o user=,group=")
    assert set(running.split()) == {USER}


def test_nobody_else_reads_the_key(host: Host) -> None:
    key = host.file(KEY)
    assert (key.user, key.group, key.mode) == (USER, USER, 0o600)
    folder = host.file("/etc/dkimkeys")
    assert (folder.user, folder.mode) == (USER, 0o700)


def test_only_those_who_must_reach_the_socket(host: Host) -> None:
    socket = host.file(SOCKET)
    assert socket.is_socket
    assert (socket.user, socket.group) == (USER, USER)
    assert socket.mode & 0o007 == 0
    assert host.file("/run/opendkim").mode == 0o750
    assert host.group(USER).members == ["postfix"]


def test_nothing_of_it_listens_on_the_network(host: Host) -> None:
    assert "opendkim" not in host.check_output("ss -Hltnp")


@pytest.mark.parametrize("path", [CONFIGURATION, PASSED_ON])
def test_its_files_are_roots(host: Host, path: str) -> None:
    file = host.file(path)
    assert (file.user, file.group, file.mode) == ("root", "root", 0o644)


def test_it_has_no_complaint_about_its_configuration(host: Host) -> None:
    said = host.run(f"runuser -u {USER} -- opendkim -n -x {CONFIGURATION} 2>&1")
    assert said.rc == 0
    assert said.stdout == ""


def test_the_world_knows_the_key(host: Host, site: Site, me: SiteHost) -> None:
    """What the DNS publishes belongs to the key that signs; `make dns` prints it."""
    selector = site.of(SigningSettings, me.name).selector
    said = host.run(
        f"runuser -u {USER} -- opendkim-testkey -d {site.domain} -s {selector} -k {KEY} 2>&1"
    )
    assert said.rc == 0, said.stdout


def test_it_says_nothing_but_what_it_signs(host: Host) -> None:
    assert not host.check_output("journalctl -q --no-pager -o cat -b -t opendkim -p warning")
