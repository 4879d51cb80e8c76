"""The configuration of the address book's programs, on a front."""

import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from roles.addressbook.directory import Source
from roles.addressbook.entries import Book
from roles.publicdirectory.content import Public


@dataclass(frozen=True)
class Configuration:
    """What the programs are told."""

    source: Source
    book: Book
    mirror: str
    """The DN that slapd gives whoever comes by its socket: the program that writes the copy."""
    slapd: str
    """URI of that socket."""
    login_socket: Path
    """Where slapd asks."""
    recheck: float
    """Seconds after which an open connection's account is looked up again."""
    idle: float
    """Seconds after which slapd closes a connection that asks nothing."""
    wrong_kept: float
    """Seconds in which the same wrong password is refused without asking the directory."""
    delay: float
    """Seconds after a wrong password in which the directory may refuse the right one, too."""
    application_passwords: bool


def read(path: Path) -> Configuration:
    """Read a configuration.

    Raises:
        ValueError: it is not TOML.
        TypeError, KeyError: a value is missing, or there is one too many.
    """
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    book = values.pop("book")
    public = Public(
        unit_attributes=frozenset(book.pop("unit_attributes")),
        # A person without an address is none here.
        person_attributes=frozenset((*book.pop("person_attributes"), "address")),
        people=True,
    )
    return Configuration(
        source=Source(**values.pop("source")),
        book=Book(public=public, **book),
        login_socket=Path(values.pop("login_socket")),
        **values,
    )


if __name__ == "__main__":
    read(Path(sys.argv[1]))
