"""nginx, which answers the browsers, and PHP behind it."""

from roles.common.files import Check, configure, static, template
from roles.common.services import service
from roles.common.site import current_host, current_site
from roles.mta.settings import MtaSettings
from roles.publicdirectory.settings import PublicDirectorySettings
from roles.webmail.errors import ERROR_PAGES
from roles.webmail.settings import WebmailSettings

_FPM = "/etc/php/8.4/fpm"
_UNITS = "/etc/systemd/system"
_SHARE = "/usr/local/share/webmail"


def php(settings: WebmailSettings) -> None:
    """PHP's processes, as a user of their own."""
    site, host = current_site(), current_host()
    pool = template("webmail", f"{_FPM}/php-fpm.conf", settings=settings)
    ini = template(
        "webmail",
        f"{_FPM}/conf.d/90-webmail.ini",
        settings=settings,
        message_size=site.of(MtaSettings, host.name).message_size,
    )
    php_config = configure(
        [pool, ini],
        check=Check(
            f"php8.4 -n -r 'exit(parse_ini_file($argv[1]) === false ? 1 : 0);' {{{ini.path}}} &&"
            # As its user: as root it would ask for one to change to.
            f" runuser -u webmail -- php-fpm8.4 --test --fpm-config {{{pool.path}}}"
        ),
        name="PHP's configuration",
    )
    php_dropin = template("webmail", f"{_UNITS}/php8.4-fpm.service.d/site.conf")
    php_unit = configure([php_dropin], name="PHP's unit")
    service(
        "php8.4-fpm.service",
        config=[pool.path, ini.path, php_dropin.path],
        after=[php_config, php_unit],
        name="PHP",
    )


def nginx(settings: WebmailSettings, contact: str) -> None:
    """nginx, with pages of its own for when PHP does not answer.

    Args:
        settings: the role's.
        contact: whom a user turns to.
    """
    site, host = current_site(), current_host()
    configure(
        [
            template(
                "webmail",
                f"{_SHARE}/errors/{page.status}.html",
                source=f"{_SHARE}/errors/error.html",
                settings=settings,
                contact=contact,
                page=page,
            )
            for page in ERROR_PAGES
        ]
        + [static("webmail", "reload", "/etc/site-tls/reload.d/webmail", mode="755")],
        name="Error pages, reload on renewal",
    )
    files = [
        template(
            "webmail",
            "/etc/nginx/nginx.conf",
            upload=site.of(MtaSettings, host.name).message_size + 2**20,
        ),
        template(
            "webmail",
            "/etc/nginx/conf.d/webmail.conf",
            settings=settings,
            public=site.of(PublicDirectorySettings, host.name),
        ),
    ]
    nginx_config = configure(
        files,
        check=Check("nginx -t -q -c {tree}/nginx.conf", tree="/etc/nginx"),
        name="nginx's configuration",
    )
    nginx_dropin = template("webmail", f"{_UNITS}/nginx.service.d/site.conf")
    nginx_unit = configure([nginx_dropin], name="nginx's unit")
    service(
        "nginx.service",
        config=["/etc/nginx/nginx.conf", "/etc/nginx/conf.d", nginx_dropin.path],
        after=[nginx_config, nginx_unit],
        reload=True,
        name="nginx",
    )
