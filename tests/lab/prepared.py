"""Images of hosts whose packages are installed: for labs that are not about the installation.

Their hosts are of a few kinds; each kind is installed once, by the command of a deploy. A site may
do the same: packages are what a template of its virtual machines holds.
"""

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from operator import or_

from roles.base.deploy import PACKAGES
from roles.common.packages import Needed, installation, needed_by
from roles.common.site import Site, roles_of
from tests.lab.outside.deploy import NEEDED
from tests.lab.outside.site import OUTSIDE
from tests.lab.podman import Podman
from tests.lab.progress import step

REPOSITORY = "localhost/tiengiang-lab-packages"
_AT_A_TIME = 2
"""Installations; each is one process, mostly."""
_PREPARE = """
debconf-set-selections
({installation})
# A host's own, which systemd makes at its first start.
: > /etc/machine-id
rm -f /var/lib/dbus/machine-id
"""


def packages_of(site: Site) -> dict[str, Needed]:
    """What each host of a lab needs, `outside1` too, of what may be installed before its deploy.

    Not what reads a file of the site when it is installed: the deploy writes that first.
    """
    every = Needed(PACKAGES)
    result = {OUTSIDE: every | NEEDED}
    for host in site.hosts.values():
        parts = [needed_by([role], site, host) for role in roles_of(host)]
        result[host.name] = reduce(or_, [part for part in parts if not part.templates], every)
    return result


def ensure(podman: Podman, base: str, wanted: Mapping[str, Needed]) -> dict[str, str]:
    """Build the images that are not there; the image of each host.

    Args:
        podman: of the lab.
        base: the base image.
        wanted: what each host needs.
    """
    identity = podman.run("image", "inspect", "--format={{.Id}}", base).stdout.strip()
    images = {host: _image(identity, needed) for host, needed in wanted.items()}
    kinds = {images[host]: needed for host, needed in wanted.items()}
    missing = [image for image in kinds if not _exists(podman, image)]
    if missing:
        with (
            step(f"installing packages for {len(missing)} kinds of hosts"),
            ThreadPoolExecutor(_AT_A_TIME) as pool,
        ):
            for _ in pool.map(lambda image: _build(podman, base, image, kinds[image]), missing):
                pass
    return images


def _image(base: str, needed: Needed) -> str:
    inputs = json.dumps([base, _script(needed), sorted(needed.debconf)])
    return f"{REPOSITORY}:{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"


def _exists(podman: Podman, image: str) -> bool:
    return podman.run("image", "exists", image, check=False).returncode == 0


def _build(podman: Podman, base: str, image: str, needed: Needed) -> None:
    name = f"packages-{image.rpartition(':')[2]}"
    # What a broken run left.
    podman.run("rm", "--force", "--ignore", name)
    podman.run(
        "run", "--interactive", f"--name={name}", "--network=host", base,
        "sh", "-euc", _script(needed),
        stdin="".join(f"{answer}\n" for answer in needed.debconf).encode(),
    )  # fmt: skip
    podman.run("commit", "--quiet", name, image)
    podman.run("rm", name)


def _script(needed: Needed) -> str:
    return _PREPARE.format(installation=installation(sorted(needed.names)))
