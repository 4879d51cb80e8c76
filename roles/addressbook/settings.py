"""Settings of the role `addressbook`."""

from typing import ClassVar, Literal

from pydantic import Field

from roles.common.settings import Duration, Settings


class AddressBookSettings(Settings):
    """The address book by LDAP for mail programs, on the group `front` (article 8).

    What it shows, the webmail's address book shows, too. Whoever the registry's column `hidden`
    leaves out with `*` is in neither; a telephone number or a postal address that is hidden there
    is in neither, an address for mail is: colleagues write to it.
    """

    role: ClassVar[str] = "addressbook"

    port: int = Field(default=636, ge=1, le=65535)
    """Where it answers by LDAPS, to `site.networks.clients`. A host that is a directory as well
    needs another one than 636, which is the directory's there; such as 3269."""
    person_attributes: tuple[Literal["title", "phone"], ...] = ("title", "phone")
    """What officials see of each other besides name, unit and address: `title`, `phone`."""
    unit_attributes: tuple[Literal["phone", "location", "address", "head"], ...] = (
        "phone",
        "location",
        "address",
        "head",
    )
    """What officials see of a unit besides its name: `phone`, `location` (postal address),
    `address` (its mailbox), `head`."""
    refresh: Duration = Field(default="5min", validate_default=True, ge=5)
    """How often the directory is asked for changes. Who may log in is asked at every log-in."""
    recheck: Duration = Field(default="20s", validate_default=True, ge=1)
    """After how long an open connection is asked again whether its account may still log in."""
    results: int = Field(default=200, ge=10)
    """Most entries that a search returns; nobody carries the whole address book away."""
    search_time: Duration = Field(default="5s", validate_default=True, ge=1)
    """Longest time that a search takes."""
    idle: Duration = Field(default="10min", validate_default=True, ge=30)
    """After how long a connection that asks nothing is closed."""
    application_passwords: bool = True
    """Whether a password for one application that opens mail (IMAP or POP3) opens the address book
    as well: a mail program then needs no other. Off: only one's own password does."""
