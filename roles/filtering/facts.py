"""What the role `filtering` asks a host."""

from collections.abc import Iterable
from dataclasses import dataclass

from pyinfra.api.facts import FactBase


@dataclass(frozen=True)
class Machine:
    """What a host has to compute with."""

    processors: int
    memory: int
    """In MiB."""


class Hardware(FactBase[Machine]):
    """The processors and the memory of a host."""

    def command(self) -> str:
        """Both in one line."""
        return "echo $(nproc) $(awk '/^MemTotal:/ {print int($2 / 1024)}' /proc/meminfo)"

    def process(self, output: Iterable[str]) -> Machine:
        """Read the two numbers."""
        processors, memory = next(iter(output)).split()
        return Machine(int(processors), int(memory))


class BayesStore(FactBase[str]):
    """How the Bayes store is: `complete`, `outdated`, `absent`, or `unreachable` and why."""

    def command(self) -> str:
        """Ask it from this host."""
        return "/usr/local/libexec/site/bayes-store check 2>/dev/null || echo absent"

    def process(self, output: Iterable[str]) -> str:
        """One line."""
        return next(iter(output), "absent")


class Signatures(FactBase[list[str]]):
    """The files in clamd's folder of signatures."""

    def command(self) -> str:
        """Complete files only: freshclam's list of mirrors is none."""
        return (
            "find /var/lib/clamav -maxdepth 1 -type f -size +0 ! -name '.*' ! -name '*.dat'"
            " -printf '%p\\n' 2>/dev/null | sort; true"
        )

    @staticmethod
    def default() -> list[str]:
        """ClamAV is not installed yet."""
        return []

    def process(self, output: Iterable[str]) -> list[str]:
        """One path a line."""
        return list(output)
