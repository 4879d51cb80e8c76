"""What runs by the clock succeeds whenever the clock comes to it: also before the first backup.

Each of its services is started by hand, in its own unit.
"""

import json
from collections.abc import Iterator

import pytest

from roles.backup.deploy import MAINTENANCE, clients, server
from roles.backup.keeping import JOBS
from roles.common.site import Site, SiteHost
from tests import remote
from tests.backups import OWNER, another_keeper

KEEPERS = {f"site-backup-{job}.service": job for job in JOBS}
"""What looks after repositories: begun below on those of a new site."""


def timed(site: Site, host: SiteHost) -> list[str]:
    """The services of ours that timers of a host start."""
    said = remote.shell(site, host.address, "systemctl list-timers --all --output=json 'site-*'")
    return sorted(row["activates"] for row in json.loads(said))


def failures(site: Site, host: SiteHost, units: list[str]) -> dict[str, str]:
    """Start services, one after the other; what the journal has of those that failed."""
    found = {}
    for unit in units:
        remote.shell(site, host.address, f"systemctl reset-failed {unit}", check=False)
        since = remote.shell(site, host.address, "date +%s.%6N").strip()
        remote.shell(site, host.address, f"systemctl start {unit}", check=False)
        result = remote.shell(site, host.address, f"systemctl show -P Result {unit}").strip()
        if result != "success":
            lines = f"journalctl -q -o cat -n 20 --since=@{since} -u {unit}"
            found[unit] = f"{result}: {remote.shell(site, host.address, lines)}"
    return found


def test_every_service_of_a_timer_succeeds(site: Site) -> None:
    for host in site.hosts.values():
        units = timed(site, host)
        assert units, host.name
        assert failures(site, host, [unit for unit in units if unit not in KEEPERS]) == {}


@pytest.fixture
def new_site(site: Site) -> Iterator[SiteHost]:
    """The backup host, whose units look after repositories without a single backup."""
    with another_keeper(site) as keeper:
        keeper.configure(folder=keeper.folder, state=keeper.folder, free=0)
        for client in clients(site):
            keeper.shell(
                f"cd / && runuser -u {OWNER} -- restic --no-cache --quiet"
                f" --repo {keeper.folder}/{client.name} --password-file {MAINTENANCE} init"
            )
        drop_ins = {
            f"/run/systemd/system/{unit}.d": f"/usr/local/sbin/site-backup-keeper --config"
            f" {keeper.config} {job}"
            for unit, job in KEEPERS.items()
        }
        try:
            for path, command in drop_ins.items():
                lines = f"[Service]\\nExecStart=\\nExecStart={command}\\n"
                keeper.shell(f"mkdir -p {path} && printf '{lines}' > {path}/test.conf")
            keeper.shell("systemctl daemon-reload")
            yield server(site)
        finally:
            keeper.shell(
                f"rm -rf {' '.join(drop_ins)}; systemctl daemon-reload;"
                f" systemctl reset-failed {' '.join(KEEPERS)} 2>/dev/null; :"
            )


def test_before_the_first_backup_nothing_of_the_keeper_fails(
    site: Site, new_site: SiteHost
) -> None:
    assert {*KEEPERS} <= {*timed(site, new_site)}
    # In either order, and again.
    for units in (sorted(KEEPERS), sorted(KEEPERS, reverse=True)):
        assert failures(site, new_site, units) == {}
