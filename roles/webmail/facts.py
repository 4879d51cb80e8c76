"""What the role `webmail` asks a host."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from pyinfra.api.facts import FactBase

SchemaState = Literal["current", "absent", "outdated", "unreachable"]

SCHEMA = "/usr/local/libexec/site/webmail-schema"
"""The tool that knows Roundcube's tables."""


class Schema(FactBase[SchemaState]):
    """The state of Roundcube's tables; `absent` on a host that has no webmail yet."""

    def command(self) -> str:
        """Ask as the webmail itself does."""
        return f"! test -x {SCHEMA} || runuser -u webmail -- {SCHEMA} status 2>/dev/null || true"

    @staticmethod
    def default() -> SchemaState:
        """No webmail."""
        return "absent"

    def process(self, output: Iterable[str]) -> SchemaState:
        """Read the one word."""
        word = next(iter(output), "absent")
        known: tuple[SchemaState, ...] = get_args(SchemaState)
        return next((state for state in known if state == word), "unreachable")


@dataclass(frozen=True)
class LocaleState:
    """What the C library knows of locales."""

    made: frozenset[str]
    """As `locale -a` names them."""
    kept: frozenset[str]
    """As /etc/locale.gen names them: an upgrade of the C library makes these anew, no others."""


class Locales(FactBase[LocaleState]):
    """The locales that the host has, and those that it will have after an upgrade."""

    def command(self) -> str:
        """Both, those to keep behind a `+`."""
        return (
            "locale -a; sed -n 's/^ *\\([a-z].*[^ ]\\) *$/+\\1/p' /etc/locale.gen 2>/dev/null; true"
        )

    @staticmethod
    def default() -> LocaleState:
        """None besides C."""
        return LocaleState(frozenset(), frozenset())

    def process(self, output: Iterable[str]) -> LocaleState:
        """One a line."""
        lines = [line.strip() for line in output]
        return LocaleState(
            frozenset(line for line in lines if not line.startswith("+")),
            frozenset(line[1:] for line in lines if line.startswith("+")),
        )
