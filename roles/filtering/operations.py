"""How the role `filtering` changes a host where no file and no service does."""

from collections.abc import Generator

from pyinfra import logger
from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from roles.common.errors import SiteError
from roles.common.plan import say
from roles.common.site import Site
from roles.database.settings import DatabaseSettings
from roles.filtering.facts import BayesStore, Machine, Signatures
from roles.filtering.settings import FilteringSettings

OWN_SIGNATURES = "/var/lib/clamav/site-"
"""How the paths of signature files from this repository begin on a host."""


@operation()
def bayes_schema() -> Generator[StringCommand, None, None]:
    """The tables of the Bayes store.

    A database that cannot be reached is no reason to leave a host without its filter, which works
    without: the run says so and goes on, and `make verify` fails.
    """
    found = host.get_fact(BayesStore)
    if found.startswith("unreachable"):
        logger.warning(f"{host.print_prefix}the Bayes store is {found}")
    elif found != "complete":
        say(f"Bayes store: {found}")
        yield StringCommand("/usr/local/libexec/site/bayes-store schema >&2")


@operation()
def first_signatures() -> Generator[StringCommand, None, None]:
    """Signatures for clamd, which does not start without; later freshclam renews them."""
    if all(path.startswith(OWN_SIGNATURES) for path in host.get_fact(Signatures)):
        say("virus signatures: to fetch")
        yield StringCommand("freshclam --stdout >&2")


def workers(machine: Machine, network_tests: bool) -> int:
    """How many letters a host may scan at once.

    Args:
        machine: what it has.
        network_tests: whether workers wait for DNS.
    """
    by_processors = machine.processors * (4 if network_tests else 2)
    # clamd takes up to 3 GiB while it reloads; each worker 150 MB at the most.
    by_memory = (machine.memory - 3072) // 150
    return max(2, min(by_processors, by_memory))


def too_many_workers(site: Site, count: int) -> str | None:
    """What is wrong where the workers of all mx outnumber the connections to the Bayes store.

    Args:
        site: the site.
        count: workers of an mx whose settings name none: those of this host, for the hardware of
            others is not known here.

    Raises:
        SiteError: the settings say so, whatever the hardware.
    """
    given = [site.of(FilteringSettings, mx.name).workers for mx in site.group("mx")]
    scanning = sum(own or count for own in given)
    # Each store that learns has one, and so has the job that forgets.
    needed = scanning + len(site.group("store")) + 1
    allowed = site.of(DatabaseSettings, site.group("database")[0].name).bayes_connections
    if needed <= allowed:
        return None
    text = (
        f"filtering.workers: {scanning} on all mx together, which with stores and jobs take"
        f" {needed} connections to the Bayes store; expected database.bayes_connections to be at"
        f" least that (found {allowed})"
    )
    if all(given):
        raise SiteError(f"{site.folder / 'site.toml'}: {text}")
    return text
