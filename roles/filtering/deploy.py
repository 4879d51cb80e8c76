"""Scanning on an mx, learning on a store."""

from pyinfra.api.deploy import deploy
from pyinfra.api.operation import OperationMeta

from roles.common.files import Check, configure, static, template
from roles.common.packages import Needed, packages
from roles.common.services import service
from roles.common.site import Site, SiteHost, current_host, current_site
from roles.common.users import group, in_group
from roles.filtering.clamav import clamav
from roles.filtering.mimedefang import mimedefang, renewal
from roles.filtering.settings import FilteringSettings

_LIBEXEC = "/usr/local/libexec/site"
_UNITS = "/etc/systemd/system"
_RULES = "/etc/spamassassin"
_SCANNERS = [
    "mimedefang",
    "clamav-daemon",
    "clamav-freshclam",
    # What ZIP archives list.
    "libarchive-zip-perl",
    # SpamAssassin's SPF rules.
    "libmail-spf-perl",
]
# Some complaints are no errors to SpamAssassin. Without Bayes: whether its store answers is no
# matter of syntax.
_LINT = (
    "said=$(spamassassin --lint --cf='use_bayes 0' --siteconfigpath {tree} 2>&1)"
    ' && test -z "$said" || { echo "$said"; false; }'
)
_RENEWAL = ["curl", "gpg", "gpg-agent"]
_COMPILER = ["sa-compile"]


def needed(site: Site, host: SiteHost) -> Needed:
    """Packages."""
    settings, scans = site.of(FilteringSettings, host.name), host.serves("mx")
    return Needed(
        [
            "spamassassin",
            # The Bayes store; letters whose character set is not what they say.
            "libdbd-pg-perl",
            "libencode-detect-perl",
            *(_SCANNERS if scans else []),
            *(_RENEWAL if scans and settings.rules_source != "package" else []),
            *(_COMPILER if scans and settings.compile_rules else []),
        ]
    )


@deploy("Filtering")
def filtering() -> None:
    """SpamAssassin on both; clamd and MIMEDefang on an mx; the learner on a store."""
    settings = current_site().of(FilteringSettings, current_host().name)
    rules = _spamassassin(settings)
    if current_host().serves("mx"):
        clamav(settings)
        mimedefang(settings, rules)
        renewal(settings)
    if current_host().serves("store"):
        _learning()


def _spamassassin(settings: FilteringSettings) -> OperationMeta:
    packages(needed(current_site(), current_host()), name="Packages")
    group(name="Who may reach the Bayes store", group="site-bayes")
    in_group(name="SpamAssassin may", user="debian-spamd", group="site-bayes")
    rules = configure(
        [
            template("filtering", f"{_RULES}/local.cf", settings=settings),
            template("filtering", f"{_RULES}/bayes.cf", mode="640", group="site-bayes"),
        ],
        check=Check(_LINT, tree=_RULES),
        name="SpamAssassin",
    )
    configure(
        [
            static("filtering", "bayes-store", f"{_LIBEXEC}/bayes-store", mode="755"),
            static("filtering", "bayes.sql", "/usr/local/share/site/bayes.sql"),
        ],
        name="Access to the Bayes store",
    )
    return rules


def _learning() -> None:
    group(name="Who hands letters to the learner", group="site-learn")
    configure([static("filtering", "learn", f"{_LIBEXEC}/learn", mode="755")], name="Learner")
    learner = configure(
        [
            template("filtering", f"{_UNITS}/site-learn.service"),
            template("filtering", f"{_UNITS}/site-learn.path"),
        ],
        name="Learner's units",
    )
    service(
        "site-learn.path",
        config=[f"{_UNITS}/site-learn.path", f"{_UNITS}/site-learn.service"],
        after=[learner],
        name="Learner runs",
    )
