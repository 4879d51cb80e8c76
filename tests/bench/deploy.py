"""How long a deploy takes, against what it cannot do without.

- A first deploy of all hosts against bare `apt-get install` of the same packages, on the same
  kind of fresh containers, all hosts at once.
- A run that changes nothing.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from roles.common.site import Site
from tests import remote
from tests.bench.timing import timed
from tests.deploys import outcome

_INSTALLED = "dpkg-query -W -f '${db:Status-Status} ${Package}\\n' | sed -n 's/^installed //p'"


@dataclass(frozen=True)
class Deployed:
    """What a first and a second deploy took, in seconds, and which packages each host got."""

    first: float
    unchanged: float
    packages: dict[str, set[str]]


def deploy(site: Site) -> Deployed:
    """Deploy a fresh lab, and then once more.

    Raises:
        AssertionError: the second run changed something.
    """
    base = _packages(site)
    first, _ = timed(lambda: outcome("apply", site.environment))
    unchanged, second = timed(lambda: outcome("apply", site.environment))
    totals = second["results"]["totals"]
    if totals["success"] or totals["error"]:
        raise AssertionError(f"the second run changed something: {totals}")
    found = _packages(site)
    return Deployed(first, unchanged, {name: found[name] - base[name] for name in found})


def install(site: Site, packages: dict[str, set[str]]) -> float:
    """Seconds to install the very packages on all hosts at once, as `apt-get` does alone."""
    seconds, _ = timed(lambda: _install(site, packages))
    return seconds


def _packages(site: Site) -> dict[str, set[str]]:
    return {
        host.name: set(remote.shell(site, host.address, _INSTALLED).split())
        for host in site.hosts.values()
    }


def _install(site: Site, wanted: dict[str, set[str]]) -> None:
    def install_on(name: str) -> None:
        remote.shell(
            site,
            site.hosts[name].address,
            "echo 'slapd slapd/no_configuration boolean true' | debconf-set-selections"
            " && apt-get -q update && DEBIAN_FRONTEND=noninteractive"
            f" apt-get -q -y --no-install-recommends install {' '.join(sorted(wanted[name]))}",
        )

    with ThreadPoolExecutor() as pool:
        list(pool.map(install_on, site.hosts))
