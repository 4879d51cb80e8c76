"""The base image: a bare Debian 13 with systemd and SSH, made of Debian's packages."""

import hashlib
import json
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from roles.common.errors import SiteError
from tests.lab.machine import STORAGE
from tests.lab.podman import Podman
from tests.lab.progress import step

SUITE = "trixie"
"""The release of Debian that the hosts run."""
INCLUDE = (
    "ca-certificates", "dbus", "iproute2", "nftables", "openssh-server", "procps", "systemd",
    "systemd-sysv",
)  # fmt: skip
"""What a bare host has, besides Debian's essential packages."""
_KEPT = "--skip=cleanup/apt/lists"
"""A new machine has read its package lists, too: each host of each lab need not do it again."""
MAX_AGE = timedelta(days=7)
"""An older image is built again: its packages would all be upgraded by the first deploy."""
REPOSITORY = "localhost/tiengiang-lab-base"
LOG = STORAGE / "base.log"

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Every container gets SSH host keys of its own; the language is where Debian's installer leaves it.
_CUSTOMIZE = (
    'rm -f "$1"/etc/ssh/ssh_host_* && echo LANG=C.UTF-8 > "$1"/etc/locale.conf'
    ' && ln -sf ../locale.conf "$1"/etc/default/locale'
)


@dataclass(frozen=True)
class Source:
    """One line of apt's sources."""

    uri: str
    suite: str
    components: tuple[str, ...]


def one_line_sources(text: str) -> list[Source]:
    """The sources in the text of a `sources.list`."""
    sources = []
    for line in text.splitlines():
        fields = line.split("#")[0].split()
        if fields[:1] != ["deb"]:
            continue
        if fields[1].startswith("["):
            end = next(index for index, field in enumerate(fields) if field.endswith("]"))
            fields = [fields[0], *fields[end + 1 :]]
        sources.append(Source(fields[1], fields[2], tuple(fields[3:])))
    return sources


def deb822_sources(text: str) -> list[Source]:
    """The sources in the text of a `*.sources` file."""
    sources = []
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in "\n".join(lines).split("\n\n"):
        fields: dict[str, list[str]] = {}
        key = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields.setdefault(key, []).extend(line.split())
            elif ":" in line:
                key, value = line.split(":", 1)
                key = key.strip().lower()
                fields[key] = value.split()
        if "deb" not in fields.get("types", []) or fields.get("enabled") == ["no"]:
            continue
        sources += [
            Source(uri, suite, tuple(fields.get("components", [])))
            for uri in fields.get("uris", [])
            for suite in fields.get("suites", [])
        ]
    return sources


def debian_sources(sources: Iterable[Source], codename: str) -> list[str]:
    """The machine's own sources of Debian, turned to `SUITE`.

    Args:
        sources: all sources of this machine, others' repositories among them.
        codename: the machine's release.

    Raises:
        SiteError: there are none.
    """
    lines = []
    for source in sources:
        release, dash, part = source.suite.partition("-")
        if (
            release == codename
            and (dash, part) in (("", ""), ("-", "updates"), ("-", "security"))
            and "main" in source.components
        ):
            line = f"deb {source.uri.rstrip('/')} {SUITE}{dash}{part} main"
            if line not in lines:
                lines.append(line)
    if not any(line.split()[2] == SUITE for line in lines):
        raise SiteError(
            f"/etc/apt: no source of Debian's packages for {codename!r} was found; expected one "
            "in /etc/apt/sources.list or /etc/apt/sources.list.d: the lab's hosts are built from it"
        )
    return lines


def machine_sources(apt: Path = Path("/etc/apt")) -> list[Source]:
    """All sources of this machine."""
    sources = []
    for path in [apt / "sources.list", *sorted((apt / "sources.list.d").glob("*"))]:
        if path.suffix == ".list" and path.exists():
            sources += one_line_sources(path.read_text())
        elif path.suffix == ".sources":
            sources += deb822_sources(path.read_text())
    return sources


def machine_apt_settings(dump: str) -> str:
    """Those of this machine's apt settings without which its sources cannot be read.

    Args:
        dump: the output of `apt-config dump`.
    """
    wanted = (
        "Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Check-Valid-Until",
        "Acquire::Check-Date",
    )  # fmt: skip
    lines = [
        line
        for line in dump.splitlines()
        if line.split(" ")[0].startswith(wanted) and not line.endswith(' "";')
    ]
    return "".join(f"{line}\n" for line in lines)


def _codename() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.split("=", 1)[1].strip('"')
    raise SiteError("/etc/os-release: has no VERSION_CODENAME; expected a release of Debian")


def ensure(podman: Podman) -> str:
    """Build the base image unless a fresh one of the same inputs is there; return its name."""
    sources = debian_sources(machine_sources(), _codename())
    apt = machine_apt_settings(
        subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout
    )
    inputs = json.dumps([SUITE, INCLUDE, sources, apt, _CUSTOMIZE, _KEPT])
    image = f"{REPOSITORY}:{hashlib.sha256(inputs.encode()).hexdigest()[:12]}"
    found = podman.json("image", "ls", "--format=json", f"--filter=reference={image}")
    if found:
        created = datetime.fromtimestamp(found[0]["Created"])
        if datetime.now() - created < MAX_AGE:
            return image
    with step(f"building the base image of Debian {SUITE} (about half a minute; log: {LOG})"):
        _build(podman, image, sources, apt)
    return image


def _build(podman: Podman, image: str, sources: list[str], apt: str) -> None:
    LOG.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    tar = STORAGE / f"base-{time.time_ns()}.tar"
    settings = STORAGE / "base-apt.conf"
    settings.write_text(apt)
    command = [
        "mmdebstrap",
        "--variant=minbase",
        _KEPT,
        f"--include={','.join(INCLUDE)}",
        f"--keyring={_KEYRING}",
        f"--customize-hook=copy-in {settings} /etc/apt/apt.conf.d",
        '--customize-hook=mv "$1"/etc/apt/apt.conf.d/base-apt.conf "$1"/etc/apt/apt.conf.d/90lab',
        f"--customize-hook={_CUSTOMIZE}",
        SUITE,
        str(tar),
        *sources,
    ]
    try:
        with LOG.open("w") as log:
            done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            tail = "\n".join(LOG.read_text().splitlines()[-15:])
            raise SiteError(f"mmdebstrap failed; the end of {LOG}:\n{tail}")
        podman.run("import", "--quiet", "--change=CMD=/sbin/init", str(tar), image)
        _remove_outdated(podman, image)
    finally:
        tar.unlink(missing_ok=True)


def _remove_outdated(podman: Podman, current: str) -> None:
    """Remove other base images; those that a container was made of stay until it goes."""
    podman.run("image", "prune", "--force")
    for entry in podman.json("image", "ls", "--format=json", f"--filter=reference={REPOSITORY}"):
        for name in entry.get("Names") or []:
            if name != current:
                podman.run("rmi", name, check=False)
