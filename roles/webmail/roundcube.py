"""Roundcube itself: our plug-in, its configuration and tables, and what sweeps behind it."""

from roles.addressbook.settings import AddressBookSettings
from roles.common.files import Check, ConfigFile, configure, static, template
from roles.common.services import service
from roles.common.site import current_host, current_site
from roles.directory.settings import DirectorySettings
from roles.mta.settings import MtaSettings
from roles.webmail.facts import SCHEMA
from roles.webmail.operations import schema
from roles.webmail.settings import WebmailSettings

_CONFIG = "/etc/roundcube/config.inc.php"
_CHECK = "/usr/local/libexec/site/check-roundcube"
_PLUGIN = "/var/lib/roundcube/plugins/province"
_UNITS = "/etc/systemd/system"
TEXTS = (
    "acl", "archive", "attachment_reminder", "contextmenu", "core", "managesieve", "markasjunk",
    "newmail_notifier", "password", "province", "subscriptions_option", "zipdownload",
)  # fmt: skip
"""Our files of Vietnamese texts, by plug-in."""


def roundcube(settings: WebmailSettings, contact: str) -> None:
    """The application, which PHP runs.

    Args:
        settings: the role's.
        contact: whom a user turns to.
    """
    site, host = current_site(), current_host()
    configure(_plugin(), name="Our plug-in, with its Vietnamese texts")
    configure(
        [
            static("webmail", "check-roundcube", _CHECK, mode="755"),
            static("webmail", "schema", SCHEMA, mode="755"),
        ],
        name="Checker, schema tool",
    )
    configure(
        [
            template(
                "webmail",
                _CONFIG,
                mode="640",
                group="webmail",
                settings=settings,
                contact=contact,
                book=site.of(AddressBookSettings, host.name),
                database=site.group("database")[0],
                message_size=site.of(MtaSettings, host.name).message_size,
                recipients=site.of(MtaSettings, host.name).recipients_per_message,
                password_length=site.of(DirectorySettings).password_length,
            )
        ],
        check=Check(f"{_CHECK} {{{_CONFIG}}}"),
        name="Roundcube's configuration",
    )
    schema(name="Roundcube's tables")


def sweepers() -> None:
    """What removes sessions that ended and records that were deleted."""
    # A timer's restart lets systemd read what it starts.
    for job, what in (("gc", "Sessions are swept"), ("cleandb", "Deleted records are swept")):
        drop_in = template("webmail", f"{_UNITS}/roundcube-{job}.service.d/site.conf")
        sweeper = configure([drop_in], name=f"Unit of roundcube-{job}")
        service(f"roundcube-{job}.timer", config=[drop_in.path], after=[sweeper], name=what)


def _plugin() -> list[ConfigFile]:
    """Our plug-in, and the driver that it brings to the plug-in `password`."""
    names = [
        "province.php", "province_directory.php", "province_addressbook.php",
        "province_passwords.php", "province.css", "logo.svg", "blank.html",
        *(f"localization/{name}.inc" for name in TEXTS),
    ]  # fmt: skip
    driver = "/usr/share/roundcube/plugins/password/drivers/province.php"
    return [
        *(static("webmail", f"province/{name}", f"{_PLUGIN}/{name}") for name in names),
        static("webmail", "password/province.php", driver),
    ]
