"""How the role `webmail` changes a host, besides files, packages and services."""

from collections.abc import Generator

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from roles.common.plan import say
from roles.webmail.facts import SCHEMA, Locales, Schema


@operation()
def locale(locale_: str, charmap: str) -> Generator[StringCommand, None, None]:
    """A locale that the C library knows, also after an upgrade of it (locale-gen(8)).

    The line is uncommented in the package's own file, which the package itself edits as well.

    Args:
        locale_: such as `vi_VN`.
        charmap: such as `UTF-8`.
    """
    found = host.get_fact(Locales)
    line = f"{locale_} {charmap}"
    if line not in found.kept:
        yield StringCommand(
            f"sed -i '/^[# ]*{line} *$/d' /etc/locale.gen && echo '{line}' >> /etc/locale.gen"
        )
    if line not in found.kept or (
        f"{locale_}.{charmap.lower().replace('-', '')}" not in found.made
    ):
        yield StringCommand("locale-gen >&2")


@operation()
def schema() -> Generator[StringCommand, None, None]:
    """Roundcube's tables, complete and of the installed version."""
    found = host.get_fact(Schema)
    if found == "current":
        return
    say(f"the webmail's tables: {found}")
    yield StringCommand(f"runuser -u webmail -- {SCHEMA} apply")
