"""stunnel: TLS around what has none of its own."""

from roles.common.files import Check, ConfigFile, configure
from roles.common.services import masked, service
from roles.common.site import ROOT

_CHECKER = "/usr/local/libexec/site/check-stunnel"


def tunnel(configuration: ConfigFile, drop_in: ConfigFile, *, unit: str) -> None:
    """A tunnel that runs as a unit of its own; the package `stunnel4` is there.

    Args:
        configuration: what stunnel reads.
        drop_in: what the unit has besides the package's template.
        unit: `stunnel@NAME.service`, NAME being the configuration's.
    """
    # Debian's script would start every tunnel a second time, as root.
    masked(unit="stunnel4.service", name="No tunnels but those with a unit of their own")
    checker = (ROOT / "roles" / "common" / "check-stunnel").read_bytes()
    configure([ConfigFile(_CHECKER, checker, mode="755")], name="Tunnels' checker")
    files = configure(
        [configuration, drop_in],
        check=Check(f"{_CHECKER} {{{configuration.path}}}"),
        name="Tunnel, its configuration",
    )
    service(unit, config=[configuration.path, drop_in.path], after=[files], name="Tunnel runs")
