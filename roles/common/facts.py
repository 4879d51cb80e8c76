"""What is on a host now, each in one round trip."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.facts import FactBase


@dataclass(frozen=True)
class FileState:
    """A regular file on a host."""

    mode: str
    user: str
    group: str
    sha256: str


class FileStates(FactBase[dict[str, FileState]]):
    """The state of those of `paths` that are regular files."""

    def command(self, paths: Iterable[str]) -> StringCommand:
        """Stat and hash all in two processes, however many there are."""
        quoted = [QuoteString(path) for path in paths]
        return StringCommand(
            "stat -c '%a %U %G %F:%n' --", *quoted, "2>/dev/null;",
            "sha256sum --", *quoted, "2>/dev/null; true",
        )  # fmt: skip

    @staticmethod
    def default() -> dict[str, FileState]:
        """No file is there."""
        return {}

    def process(self, output: Iterable[str]) -> dict[str, FileState]:
        """Join stat's lines with sha256sum's."""
        stats: dict[str, tuple[str, str, str]] = {}
        states: dict[str, FileState] = {}
        for line in output:
            if ":" in line and " regular " in f" {line.split(':', 1)[0]} ":
                meta, path = line.split(":", 1)
                mode, user, group, _ = meta.split(" ", 3)
                stats[path] = (mode, user, group)
            elif len(parts := line.split("  ", 1)) == 2 and parts[1] in stats:  # noqa: PLR2004
                states[parts[1]] = FileState(*stats[parts[1]], sha256=parts[0])
        return states


class FileText(FactBase[str]):
    """The text of a file, empty where there is none; for the plan's diff."""

    def command(self, path: str) -> StringCommand:
        """Read it in an encoding that keeps every byte."""
        return StringCommand("base64 -w0 --", QuoteString(path), "2>/dev/null || true")

    @staticmethod
    def default() -> str:
        """An absent file."""
        return ""

    def process(self, output: Iterable[str]) -> str:
        """Decode; a byte that is not UTF-8 shows as a replacement character."""
        return base64.b64decode("".join(output)).decode(errors="replace")


@dataclass(frozen=True)
class UnitState:
    """A systemd unit, and whether what it runs is what is on disk."""

    active: bool
    enabled: bool
    stale: bool
    """It became active (or was last reloaded) before its configuration last changed."""
    needs_daemon_reload: bool
    masked: bool


class UnitStates(FactBase[UnitState]):
    """The state of a unit against its configuration.

    A file counts from its change time: a rename into place sets it, whatever the file's own
    time says. The unit counts from `ActiveEnterTimestamp`, or from the stamp that `service` leaves
    after a reload. Both clocks are the host's.
    """

    def command(self, unit: str, config: Iterable[str]) -> StringCommand:
        """Ask systemd and find, in one shell."""
        stamp = QuoteString(reload_stamp(unit))
        return StringCommand(
            "systemctl show --timestamp=us+utc",
            "-p ActiveState -p ActiveEnterTimestamp -p NeedDaemonReload --", QuoteString(unit), ";",
            # As its files say it; a loaded unit shows how it was when it was loaded.
            'echo "UnitFileState=$(systemctl is-enabled --', QuoteString(unit), '2>/dev/null)";',
            'echo "Reloaded=$(stat -c %.9Z', stamp, '2>/dev/null)";',
            'echo "Changed=$(find -L', *[QuoteString(path) for path in config],
            "/dev/null -type f ! -name '.*' -printf '%C@\\n' 2>/dev/null | sort -rn | head -n1)\"",
        )  # fmt: skip

    def process(self, output: Iterable[str]) -> UnitState:
        """Compare the times."""
        values: dict[str, str] = dict(line.split("=", 1) for line in output if "=" in line)
        entered = 0.0
        if since := values["ActiveEnterTimestamp"]:
            entered = datetime.strptime(
                f"{since}+0000", "%a %Y-%m-%d %H:%M:%S.%f UTC%z"
            ).timestamp()
        reloaded, changed = float(values["Reloaded"] or 0), float(values["Changed"] or 0)
        return UnitState(
            active=values["ActiveState"] in ("active", "reloading", "activating"),
            enabled=values["UnitFileState"]
            in ("enabled", "static", "alias", "generated", "indirect"),
            stale=changed > max(entered, reloaded),
            needs_daemon_reload=values["NeedDaemonReload"] == "yes",
            masked=values["UnitFileState"] == "masked",
        )


def reload_stamp(unit: str) -> str:
    """The file whose time says when `service` last reloaded a unit; gone after a boot."""
    return f"/run/site-reloaded-{unit}"


@dataclass(frozen=True)
class PackageStates:
    """What dpkg knows of the packages asked for."""

    installed: frozenset[str]
    broken: bool
    """An earlier run was cut off: dpkg must finish it first."""


class Packages(FactBase[PackageStates]):
    """Which of `names` are installed, and whether dpkg was interrupted."""

    def command(self, names: Iterable[str]) -> StringCommand:
        """One query for all."""
        return StringCommand(
            "dpkg-query -W -f '${Package} ${db:Status-Status}\\n'", *names, "2>/dev/null;",
            "test -e /usr/sbin/policy-rc.d.site && echo '- interrupted';",
            "ls /var/lib/dpkg/updates | grep -q . && echo '- interrupted';",
            "dpkg -C | grep -q . && echo '- interrupted'; true",
        )  # fmt: skip

    @staticmethod
    def default() -> PackageStates:
        """None of them is installed."""
        return PackageStates(frozenset(), broken=False)

    def process(self, output: Iterable[str]) -> PackageStates:
        """Collect the names whose state is `installed`."""
        pairs = [tuple(line.split()) for line in output]
        return PackageStates(
            installed=frozenset(pair[0] for pair in pairs if pair[1:] == ("installed",)),
            broken=("-", "interrupted") in pairs,
        )


class GroupMembers(FactBase[dict[str, list[str]]]):
    """The groups of a host with their supplementary members."""

    def command(self) -> str:
        """All groups: one file."""
        return "getent group"

    def process(self, output: Iterable[str]) -> dict[str, list[str]]:
        """Read `name:x:gid:a,b`."""
        entries = [line.split(":") for line in output]
        return {entry[0]: [name for name in entry[3].split(",") if name] for entry in entries}


class UserExists(FactBase[bool]):
    """Whether a user is there."""

    def command(self, user: str) -> StringCommand:
        """Ask the system's databases."""
        return StringCommand("getent passwd", QuoteString(user), "|| true")

    def process(self, output: Iterable[str]) -> bool:
        """Any line is the user's."""
        return any(output)


class Container(FactBase[bool]):
    """Whether the host is a container: it then has no clock and no kernel of its own."""

    def command(self) -> str:
        """Ask systemd."""
        return "systemd-detect-virt --container || true"

    def process(self, output: Iterable[str]) -> bool:
        """`none` is a machine."""
        return next(iter(output), "none") != "none"
