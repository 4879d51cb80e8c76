"""PostgreSQL 17, its roles and its databases."""

from pyinfra.api.deploy import deploy

from roles.common.files import Check, configure, static, template
from roles.common.packages import Needed, packages
from roles.common.services import service
from roles.common.site import Site, SiteHost, current_host, current_site
from roles.common.users import in_group
from roles.database.operations import database as database_
from roles.database.operations import role
from roles.database.settings import DatabaseSettings

_UNIT = "postgresql@17-main.service"
_CONF = "/etc/postgresql/17/main/conf.d/site.conf"
_HBA = "/etc/postgresql/17/main/pg_hba.conf"
_CHECK = "/usr/local/libexec/site/check-postgresql"
_DROPIN = f"/etc/systemd/system/{_UNIT}.d/site.conf"


def needed(_site: Site, _host: SiteHost) -> Needed:
    """Packages, and how PostgreSQL creates its cluster when it is installed."""
    how = ("database", "/etc/postgresql-common/createcluster.d/site.conf")
    return Needed(["postgresql-17"], templates=[how])


@deploy("Database")
def database() -> None:
    """PostgreSQL, with a database for the webmail and one for SpamAssassin."""
    site = current_site()
    settings = site.of(DatabaseSettings, current_host().name)

    packages(needed(site, current_host()), name="Packages")
    in_group(name="May read the host's key", user="postgres", group="site-tls")
    configure(
        [
            static("database", "check-postgresql", _CHECK, mode="755"),
            static("database", "reload", "/etc/site-tls/reload.d/database", mode="755"),
        ],
        name="Checker, and reload on renewal",
    )
    configuration = configure(
        [
            template("database", _CONF, settings=settings),
            template("database", _HBA, mode="640", group="postgres"),
        ],
        check=Check(f"{_CHECK} {{{_CONF}}} {{{_HBA}}}"),
        name="Configuration",
    )
    unit = configure([template("database", _DROPIN)], name="Unit")
    service(
        _UNIT,
        config=[_CONF, _HBA, _DROPIN],
        after=[configuration, unit],
        name="PostgreSQL",
    )

    role(
        name="Role roundcube",
        role="roundcube",
        password=site.secrets.webmail_database_password,
        connections=settings.webmail_connections,
    )
    database_(
        name="Database roundcube",
        database="roundcube",
        owner="roundcube",
        # Contacts sort as a Vietnamese reader expects: a, ă, â … d, đ.
        locale="LOCALE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE 'vi-VN'",
        settings={},
    )
    role(
        name="Role bayes",
        role="bayes",
        password=site.secrets.bayes_database_password,
        connections=settings.bayes_connections,
    )
    database_(
        name="Database bayes",
        database="bayes",
        owner="bayes",
        locale="LOCALE 'C.UTF-8' LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'",
        # A crash may lose the last moments' counts, never consistency; each letter is then counted
        # without waiting for the disk.
        settings={"synchronous_commit": "off"},
    )
