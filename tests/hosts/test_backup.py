"""The role `backup`: the server keeps repositories and no more, a client backs up. Read-only."""

import json

import pytest
from testinfra.host import Host

from roles.backup.deploy import clients, parts, server
from roles.backup.keeping import JOBS
from roles.backup.settings import BackupSettings
from roles.common.site import Site, SiteHost

FOLDER = "/etc/site-backup"
OWNER = "restic-rest-server"


def serves_repositories(site: Site, me: SiteHost) -> None:
    if me != server(site):
        pytest.skip("keeps no repositories")


def backs_up(site: Site, me: SiteHost) -> None:
    if me not in clients(site):
        pytest.skip("holds nothing")


def test_the_server_runs_confined_and_append_only(host: Host, site: Site, me: SiteHost) -> None:
    serves_repositories(site, me)
    unit = host.service("site-backup-server.service")
    assert unit.is_running
    assert unit.is_enabled
    (process,) = host.process.filter(comm="restic-rest-ser")
    assert process.user == OWNER
    assert {"--append-only", "--private-repos", "--tls"} <= set(process.args.split())
    assert host.service("restic-rest-server.service").is_masked


def test_each_client_has_a_repository_which_its_own_key_opens(
    host: Host, site: Site, me: SiteHost
) -> None:
    serves_repositories(site, me)
    folder = site.of(BackupSettings, me.name).folder
    assert (host.file(folder).mode, host.file(folder).user) == (0o700, OWNER)
    for client in clients(site):
        names = host.check_output(f"cat {folder}/{client.name}/keys/*")
        keys = [json.loads(f"{{{text}") for text in names.split("{")[1:]]
        own = [key for key in keys if key["hostname"] == client.name]
        assert len([key for key in own if key["username"].startswith("site-")]) == 1


def test_the_server_knows_no_clients_password(host: Host, site: Site, me: SiteHost) -> None:
    serves_repositories(site, me)
    for name in ("htpasswd", "maintenance.secret", "targets.json"):
        file = host.file(f"{FOLDER}/{name}")
        assert (file.mode, file.user) == (0o600, OWNER)
    lines = host.check_output(f"cut -d: -f2 {FOLDER}/htpasswd").split()
    assert len(lines) == len(clients(site))
    assert all(line.startswith("{SHA}") for line in lines)
    if me not in clients(site):
        assert not host.file(f"{FOLDER}/repository.secret").exists


def test_a_client_knows_its_own_passwords_only(host: Host, site: Site, me: SiteHost) -> None:
    backs_up(site, me)
    expected = {"client.toml", "letters.toml", "login.secret", "repository.secret"}
    if me == server(site):
        expected |= {"htpasswd", "maintenance.secret", "targets.json"}
    assert {name for name in host.file(FOLDER).listdir() if "keeper" not in name} == expected
    for name in ("client.toml", "login.secret", "repository.secret"):
        file = host.file(f"{FOLDER}/{name}")
        assert (file.mode, file.user) == (0o600, "root")


def test_it_is_backed_up_by_the_clock_and_did_not_fail(
    host: Host, site: Site, me: SiteHost
) -> None:
    backs_up(site, me)
    for name in ("site-backup", "site-backup-alarm"):
        timer = host.service(f"{name}.timer")
        assert timer.is_running
        assert timer.is_enabled
    assert host.run("systemctl is-failed site-backup.service").stdout.strip() != "failed"


def test_it_reaches_its_repository(host: Host, site: Site, me: SiteHost) -> None:
    backs_up(site, me)
    # A lock would be a change.
    said = host.check_output("site-backup restic -- --no-lock --no-cache snapshots --json")
    tags = {tag for snapshot in json.loads(said) for tag in snapshot["tags"]}
    assert tags <= {f"part={part}" for part in parts(site, me)}


def test_nothing_of_a_dump_is_left(host: Host, site: Site, me: SiteHost) -> None:
    backs_up(site, me)
    show = "systemctl show -p ActiveState,InvocationID site-backup.service"
    before = host.check_output(show)
    left = host.check_output("find /var/lib/site-backup/stage -type f 2>/dev/null || true")
    if "activating" in before or host.check_output(show) != before:
        pytest.skip("a backup is going on")
    assert not left


@pytest.mark.parametrize("job", JOBS)
def test_the_keeper_works_by_the_clock(host: Host, site: Site, me: SiteHost, job: str) -> None:
    serves_repositories(site, me)
    timer = host.service(f"site-backup-{job}.timer")
    assert timer.is_running
    assert timer.is_enabled
    unit = host.check_output(f"systemctl show -p User --value site-backup-{job}.service")
    assert unit.strip() == OWNER


def test_the_keeper_reads_every_repository(host: Host, site: Site, me: SiteHost) -> None:
    serves_repositories(site, me)
    config = host.file(f"{FOLDER}/keeper.toml")
    assert (config.mode, config.user) == (0o600, OWNER)
    said = host.run("site-backup-keeper status --json")
    status = json.loads(said.stdout)
    assert {(row["host"], row["part"]) for row in status["rows"]} == {
        (client.name, part) for client in clients(site) for part in parts(site, client)
    }
    assert said.rc == (2 if status["alarms"] else 0)
