"""clamd, and freshclam, which renews its signatures."""

from pathlib import PurePosixPath

from pyinfra.context import host

from roles.common.files import Check, ConfigFile, configure, template
from roles.common.services import masked, service
from roles.common.site import ROOT
from roles.common.users import in_group
from roles.filtering.facts import Hardware, Signatures
from roles.filtering.operations import OWN_SIGNATURES, first_signatures, workers
from roles.filtering.settings import FilteringSettings

_UNITS = "/etc/systemd/system"
_CLAMD = "/etc/clamav/clamd.conf"
_FRESHCLAM = "/etc/clamav/freshclam.conf"
_FRESHCLAM_UNIT = f"{_UNITS}/clamav-freshclam.service.d/site.conf"


def clamav(settings: FilteringSettings) -> None:
    """Signatures first, for clamd does not start without."""
    count = settings.workers or workers(host.get_fact(Hardware), settings.network_tests)
    in_group(name="clamd reads what MIMEDefang unpacks", user="clamav", group="defang")
    freshclam = configure(
        [
            template("filtering", _FRESHCLAM, settings=settings),
            template("filtering", _FRESHCLAM_UNIT, settings=settings),
        ],
        check=Check(f"freshclam --config-file={{{_FRESHCLAM}}} --version"),
        name="freshclam",
    )
    own = {OWN_SIGNATURES + PurePosixPath(name).name: name for name in settings.local_signatures}
    daemon = template("filtering", f"{_UNITS}/clamav-daemon.service.d/site.conf", settings=settings)
    listener = template(
        "filtering", f"{_UNITS}/clamav-daemon.socket.d/site.conf", settings=settings
    )
    clamd = configure(
        [
            template("filtering", _CLAMD, settings=settings, workers=count),
            daemon,
            *(ConfigFile(path, (ROOT / name).read_bytes()) for path, name in own.items()),
        ],
        absent=[
            path
            for path in host.get_fact(Signatures)
            if path.startswith(OWN_SIGNATURES) and path not in own
        ],
        check=Check(f"clamd --config-file={{{_CLAMD}}} --version"),
        name="clamd, and signatures of the site's own",
    )
    socket = configure([listener], name="clamd's socket, its unit")
    masked(name="No second timer", unit="clamav-freshclam-once.timer")
    masked(name="No second fetch", unit="clamav-freshclam-once.service")
    if settings.downloads:
        first_signatures(name="First signatures")
        service(
            "clamav-freshclam.service",
            config=[_FRESHCLAM, _FRESHCLAM_UNIT],
            after=[freshclam],
            name="freshclam runs",
        )
    else:
        masked(name="Nothing to fetch", unit="clamav-freshclam.service")
    # The socket first: the service takes it over when it starts.
    service(
        "clamav-daemon.socket",
        config=[listener.path],
        after=[socket],
        name="clamd's socket",
    )
    service(
        "clamav-daemon.service",
        config=[_CLAMD, daemon.path, *own],
        after=[clamd],
        name="clamd runs",
    )
