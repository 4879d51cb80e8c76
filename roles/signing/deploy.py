"""The role `signing`, step by step."""

from pyinfra.api.deploy import deploy

from roles.common.files import Check, ConfigFile, configure, static, template
from roles.common.packages import Needed, packages
from roles.common.services import service
from roles.common.site import Site, SiteHost, current_host, current_site
from roles.signing.settings import SigningSettings

USER = "opendkim"
CONFIGURATION = "/etc/opendkim.conf"
KEY = "/etc/dkimkeys/site.private"
PASSED_ON = "/etc/opendkim/passed-on.lua"
UNIT = "/etc/systemd/system/opendkim.service.d/site.conf"
# With the drafts in place of what the configuration names, as the user that reads the key later.
_CHECK = (
    f"sed -e 's|{KEY}|{{{KEY}}}|' -e 's|{PASSED_ON}|{{{PASSED_ON}}}|' {{{CONFIGURATION}}}"
    f" >{CONFIGURATION}.check; runuser -u {USER} -- opendkim -n -x {CONFIGURATION}.check;"
    f" result=$?; rm -f {CONFIGURATION}.check; exit $result"
)


def needed(_site: Site, _host: SiteHost) -> Needed:
    """Packages; opendkim-testkey of the second compares the key with the DNS."""
    return Needed(["opendkim", "opendkim-tools"])


@deploy("Signing")
def signing() -> None:
    """Deploy the role."""
    site, host = current_site(), current_host()
    settings = site.of(SigningSettings, host.name)
    packages(needed(site, host), name="Packages")
    key = ConfigFile(
        KEY,
        site.secrets.dkim_key.get_secret_value().encode(),
        mode="600",
        user=USER,
        group=USER,
        secret=True,
    )
    configuration = configure(
        [
            key,
            static("signing", "passed-on.lua", PASSED_ON),
            template("signing", CONFIGURATION, settings=settings, key=KEY, passed_on=PASSED_ON),
            template("signing", UNIT),
        ],
        check=Check(_CHECK),
        name="OpenDKIM",
    )
    service(
        "opendkim.service",
        config=[KEY, PASSED_ON, CONFIGURATION, UNIT],
        after=[configuration],
        name="OpenDKIM runs",
    )
