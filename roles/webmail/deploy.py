"""The role `webmail`, step by step."""

from pyinfra.api.deploy import deploy

from roles.common.errors import SiteError
from roles.common.files import configure, template
from roles.common.packages import Needed, packages
from roles.common.site import Site, SiteHost, current_host, current_site
from roles.common.users import system_user
from roles.database.settings import DatabaseSettings
from roles.webmail.operations import locale
from roles.webmail.roundcube import roundcube, sweepers
from roles.webmail.settings import WebmailSettings
from roles.webmail.web import nginx, php

PACKAGES = (
    "locales", "nginx", "php-net-ldap3", "php8.4-cli", "php8.4-fpm", "php8.4-gd", "php8.4-intl",
    "php8.4-ldap", "php8.4-mbstring", "php8.4-pgsql", "php8.4-xml", "php8.4-zip",
    "roundcube-core", "roundcube-pgsql", "roundcube-plugin-contextmenu", "roundcube-plugins",
)  # fmt: skip
DEBCONF = (
    "roundcube-core roundcube/dbconfig-install boolean false",
    "roundcube-core roundcube/reconfigure-webserver multiselect",
    "roundcube-core roundcube/restart-webserver boolean false",
)
"""The database and the web server are this role's, not the package's."""


def needed(_site: Site, _host: SiteHost) -> Needed:
    """Packages."""
    return Needed(PACKAGES, DEBCONF)


@deploy("Webmail")
def webmail() -> None:
    """Roundcube on nginx, PHP-FPM and PostgreSQL."""
    site, host = current_site(), current_host()
    settings = site.of(WebmailSettings, host.name)
    _refuse_too_many_workers(site)
    contact = settings.incident_contact or site.postmaster

    packages(needed(site, host), name="Packages")
    locale(name="Vietnamese, by which names are sorted", locale_="vi_VN", charmap="UTF-8")
    sysusers = template("webmail", "/etc/sysusers.d/webmail.conf")
    configure([sysusers], name="The user that PHP runs as, described")
    system_user(name="The user that PHP runs as", user="webmail", sysusers=sysusers.path)

    roundcube(settings, contact)
    php(settings)
    nginx(settings, contact)
    sweepers()


def _refuse_too_many_workers(site: Site) -> None:
    """Refuse more PHP processes than the database has connections for.

    Raises:
        SiteError: some requests would find the database closed.
    """
    workers = sum(site.of(WebmailSettings, front.name).workers for front in site.group("front"))
    database = site.group("database")[0]
    connections = site.of(DatabaseSettings, database.name).webmail_connections
    if workers > connections:
        raise SiteError(
            f"{site.folder / 'site.toml'}: webmail.workers: {workers} on all fronts together; "
            f"expected at most {connections}, the connections that database.webmail_connections "
            "allows"
        )
