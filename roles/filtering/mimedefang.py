"""MIMEDefang with the site's filter, and the timers that keep rules and Bayes store fresh."""

from pyinfra import logger
from pyinfra.api.operation import OperationMeta
from pyinfra.context import host

from roles.common.files import Check, configure, static, template
from roles.common.services import masked, service, stopped
from roles.common.site import current_host, current_site
from roles.common.users import in_group
from roles.filtering.facts import Hardware
from roles.filtering.operations import bayes_schema, too_many_workers, workers
from roles.filtering.settings import FilteringSettings

_UNITS = "/etc/systemd/system"
_RULES = "/etc/spamassassin"
_FILTER = "/etc/mail/site-filter"


def mimedefang(settings: FilteringSettings, rules: OperationMeta) -> None:
    """The milter and its workers.

    Args:
        settings: the role's.
        rules: the operation that writes SpamAssassin's configuration, which the workers load.
    """
    count = settings.workers or workers(host.get_fact(Hardware), settings.network_tests)
    if warning := too_many_workers(current_site(), count):
        logger.warning(f"{host.print_prefix}{warning}")
    in_group(name="Its workers reach the Bayes store", user="defang", group="site-bayes")
    filter_ = configure(
        [
            static("filtering", "site-filter", _FILTER),
            template("filtering", f"{_FILTER}.conf", settings=settings),
        ],
        # Loads SpamAssassin, too.
        check=Check(
            f"cd / && runuser -u defang -- env SITE_FILTER_CONF={{{_FILTER}.conf}}"
            f" mimedefang.pl -f {{{_FILTER}}} -test"
        ),
        name="Filter",
    )
    workers_unit = template(
        "filtering",
        f"{_UNITS}/mimedefang-multiplexor.service",
        settings=settings,
        workers=count,
    )
    unit = template("filtering", f"{_UNITS}/mimedefang.service")
    workers_start = configure([workers_unit], name="MIMEDefang's workers, their unit")
    start = configure([unit], name="MIMEDefang's unit")
    service(
        "mimedefang-multiplexor.service",
        config=[
            _FILTER,
            f"{_FILTER}.conf",
            f"{_RULES}/local.cf",
            f"{_RULES}/bayes.cf",
            # There once the rules are compiled.
            f"{_RULES}/sa-compile.pre",
            workers_unit.path,
        ],
        after=[rules, filter_, workers_start],
        name="MIMEDefang's workers run",
    )
    service(
        "mimedefang.service",
        config=[unit.path],
        after=[start],
        name="MIMEDefang runs",
    )
    bayes_schema(name="Bayes store")


def renewal(settings: FilteringSettings) -> None:
    """What happens every night."""
    configure(
        [static("filtering", "renew-rules", "/usr/local/libexec/site/renew-rules", mode="755")],
        name="Renewal of the rules",
    )
    drop_in = template(
        "filtering",
        f"{_UNITS}/spamassassin-maintenance.service.d/site.conf",
        settings=settings,
    )
    unit = configure([drop_in], name="Unit that renews the rules")
    if settings.rules_source == "package":
        masked(name="Rules of the package", unit="spamassassin-maintenance.timer")
    else:
        # A timer's restart lets systemd read what it starts.
        service(
            "spamassassin-maintenance.timer",
            config=[drop_in.path],
            after=[unit],
            name="Rules are renewed",
        )
    forget = [
        template("filtering", f"{_UNITS}/site-bayes-forget.service", settings=settings),
        template("filtering", f"{_UNITS}/site-bayes-forget.timer"),
    ]
    units = configure(forget, name="Units that clean the Bayes store")
    if current_site().group("mx")[0].name == current_host().name:
        service(
            "site-bayes-forget.timer",
            config=[file.path for file in forget],
            after=[units],
            name="The Bayes store is cleaned",
        )
    else:
        stopped(name="Another host cleans the Bayes store", unit="site-bayes-forget.timer")
