"""The program that makes the copy say what the directory says.

python3 -m roles.addressbook.mirror CONFIGURATION

Exit status 75: the directory or slapd did not answer, or the directory knows no unit; the copy
stays as it is.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import ldap  # type: ignore[import-not-found] # Debian's, on the hosts only

from roles.addressbook.configuration import Configuration, read
from roles.addressbook.directory import ANSWER, Directories, SilentError, texts
from roles.addressbook.entries import READ, changes, wanted
from roles.directory.ldif import Attributes, Change

_TEMPORARY = 75
"""EX_TEMPFAIL of sysexits(3)."""
_FILTER = "(|(objectClass=unitProfile)(objectClass=unitMailbox)(objectClass=inetOrgPerson))"


def present(connection: Any, base: str) -> dict[str, Attributes]:
    """The copy's entries by DN."""
    try:
        found = connection.search_s(base, ldap.SCOPE_SUBTREE, "(objectClass=*)", ["*"])
    except ldap.NO_SUCH_OBJECT:
        return {}
    return {dn: texts(values) for dn, values in found}


def apply(connection: Any, steps: Iterable[Change]) -> int:
    """Take steps, and return how many there were."""
    count = 0
    for step in steps:
        count += 1
        values = {name: [v.encode() for v in given] for name, given in step.attributes.items()}
        if step.kind == "delete":
            connection.delete_s(step.dn)
        elif step.kind == "add":
            connection.add_s(step.dn, list(values.items()))
        else:
            replaced = [(ldap.MOD_REPLACE, name, given or None) for name, given in values.items()]
            connection.modify_s(step.dn, replaced)
    return count


def update(configuration: Configuration) -> int:
    """Compare and change; return the number of changes.

    Raises:
        SilentError: no directory answers, or none knows a unit.
    """
    source, book = configuration.source, configuration.book
    found = Directories(source).find(source.base, ldap.SCOPE_SUBTREE, _FILTER, READ)
    want = wanted(found, book)
    if len(want) == 1:
        raise SilentError("the directory has no unit")
    local = ldap.initialize(configuration.slapd)
    local.set_option(ldap.OPT_TIMEOUT, 6 * ANSWER)
    local.sasl_non_interactive_bind_s("EXTERNAL")
    return apply(local, changes(want, present(local, book.base)))


def main(arguments: Sequence[str]) -> int:
    """Run the program."""
    try:
        count = update(read(Path(arguments[0])))
    except (SilentError, ldap.SERVER_DOWN) as error:
        sys.stderr.write(f"{error}; the address book stays as it is\n")
        return _TEMPORARY
    if count:
        sys.stdout.write(f"{count} changes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
