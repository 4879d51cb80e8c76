"""The registry of a whole province: how long it takes to bring it in, to plan it, to change it.

The lab's own registry with 20,000 people in 600 units more. It needs a deployed lab that is thrown
away afterwards.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.run import changes as run_changes
from roles.accounts.settings import AccountsSettings
from roles.common.site import Group, Site
from roles.directory.facts import AUDIT, DATA
from tests import clients, remote
from tests.bench.timing import timed
from tests.deploys import outcome, overlaid
from tests.registry import Province, alike, province, read_table, write_csv

PEOPLE, UNITS, FIRST = 20_000, 600, 100_001
LOOK_UPS = 2_000
"""How often each question of the mail servers is asked."""
_ASKED: dict[Group, tuple[str, ...]] = {"mx": ("alias", "mailhost"), "front": ("sender",)}
"""Postfix's tables that a letter is decided by, at RCPT and at submission."""
_PROGRAM = "/var/tmp/look-ups.py"  # noqa: S108 - on a host of the lab
_MEDIANS = """
import random, statistics, sys, time
import ldap

def table(name):
    with open(f"/etc/postfix/ldap/{name}.cf") as lines:
        pairs = (line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
        return {key.strip(): value.strip() for key, value in pairs}

times, names, addresses = int(sys.argv[1]), sys.argv[2:], sys.stdin.read().split()
for name in names:
    cf = table(name)
    # One connection that is kept, as Postfix's proxymap keeps it.
    directory = ldap.initialize(cf["server_host"].split()[0])
    directory.set_option(ldap.OPT_X_TLS_CACERTFILE, cf["tls_ca_cert_file"])
    directory.set_option(ldap.OPT_X_TLS_NEWCTX, 0)
    directory.simple_bind_s(cf["bind_dn"], cf["bind_pw"])
    taken = []
    for address in random.choices(addresses, k=times):
        condition = cf["query_filter"].replace("%s", address)
        begin = time.perf_counter()
        found = directory.search_s(cf["search_base"], ldap.SCOPE_SUBTREE, condition)
        taken.append(time.perf_counter() - begin)
        assert len(found) == 1, (condition, found)
    print(statistics.median(taken))
"""


@dataclass(frozen=True)
class Taken:
    """What the registry's runs took, in seconds."""

    first_import: float
    """A deploy of a directory host, from an empty directory on."""
    unchanged_plan: float
    one_change: float
    look_up: float
    """The slowest table's median."""


def measure(site: Site) -> Taken:
    """Import, plan, change one person, and ask as the mail servers do.

    Raises:
        AssertionError: a run did not change what it should.
    """
    with tempfile.TemporaryDirectory() as folder, _registry_in(site, Path(folder)) as rows:
        first, _ = timed(lambda: _first_import(site))
        unchanged, _ = timed(lambda: _accounts("plan", site, changes=False))
        rows.people[7]["phone"] = "+84 273 000 000"
        _write(site, Path(folder), rows)
        one, _ = timed(lambda: _accounts("apply", site, changes=True))
        return Taken(first, unchanged, one, max(_medians(site)))


@contextmanager
def _registry_in(site: Site, folder: Path) -> Iterator[Province]:
    """Inside the block the environment's registry is the one in `folder`."""
    rows = province(PEOPLE, UNITS, FIRST)
    _write(site, folder, rows)
    with overlaid(f'[accounts]\nregistry = "{folder}"\n'):
        yield rows


def _write(site: Site, folder: Path, rows: Province) -> None:
    """The lab's own rows, and those of the province below them."""
    own = site.folder / site.of(AccountsSettings).registry
    write_csv(
        folder,
        {name: alike([*read_table(own, name), *table]) for name, table in rows.tables().items()},
    )


def _first_import(site: Site) -> None:
    """Deploy a directory host whose directory is empty, as on the very first day."""
    remote.shell(
        site,
        clients.address_of(site, "directory"),
        f"systemctl stop slapd.service && rm {DATA}/data.mdb {AUDIT}/data.mdb",
    )
    _deploy("apply", site, "site", changes=True)


def _accounts(action: str, site: Site, *, changes: bool) -> None:
    """Run `make accounts` or its plan, where it shall change something, or nothing."""
    _deploy(action, site, "accounts", changes=changes)


def _deploy(action: str, site: Site, deploy: str, *, changes: bool) -> None:
    first = site.group("directory")[0].name
    found = run_changes(outcome(action, site.environment, deploy, [first]), action)
    if bool(found) != changes:
        raise AssertionError(f"{action} of the registry changes {found or 'nothing'}")


def _medians(site: Site) -> list[float]:
    """Each table's median, as Postfix asks the directory, in seconds."""
    found = remote.shell(
        site,
        clients.address_of(site, "directory"),
        f"ldapsearch {remote.LDAP} -LLL -o ldif_wrap=no -b ou=people,{site.base_dn}"
        " '(&(mailboxState=active)(mailboxService=submission)(mailboxService=lmtp))' mail"
        " | sed -n 's/^mail: //p'",
    )
    medians = []
    for group, tables in _ASKED.items():
        host = clients.address_of(site, group)
        remote.shell(site, host, f"cat > {_PROGRAM}", stdin=_MEDIANS)
        said = remote.shell(
            site, host, f"python3 {_PROGRAM} {LOOK_UPS} {' '.join(tables)}", stdin=found
        )
        medians += [float(line) for line in said.split()]
    return medians
