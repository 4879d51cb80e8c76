"""Settings of the role `publicdirectory`."""

from ipaddress import IPv4Network
from typing import ClassVar, Literal

from pydantic import Field

from roles.common.settings import Duration, Settings

UnitAttribute = Literal["phone", "location", "address", "head"]
"""What may be said of a unit besides its name: as the registry's columns are called; `address` is
its mailbox."""
PersonAttribute = Literal["title", "phone", "address"]
"""What may be said of a person besides the name."""


class PublicDirectorySettings(Settings):
    """The public directory at `https://mail.…/danh-ba/`, on the group `front` (article 8).

    What the registry's column `hidden` names is left out whatever is set here.
    """

    role: ClassVar[str] = "publicdirectory"

    title: str = Field(default="Danh bạ thư điện tử công vụ", min_length=1)
    """Heading of the pages."""
    refresh: Duration = Field(default="5min", validate_default=True, ge=10)
    """How often the directory is asked for changes."""
    public_unit_attributes: tuple[UnitAttribute, ...] = ("phone", "location", "address", "head")
    """What of a unit is public: `phone`, `location` (postal address), `address` (its mailbox),
    `head` (who heads it, as far as `public_person_attributes` say)."""
    people: bool = False
    """Whether units list their people, besides the heads."""
    public_person_attributes: tuple[PersonAttribute, ...] = ("title", "phone")
    """What of a person is public: `title`, `phone`, `address`."""
    addresses_in_clear: bool = False
    """Whether the address of a person, where it is public, stands in pages and downloads for every
    program that collects addresses. Where false, a page shows it to who presses a button, and
    downloads leave it out. Addresses of units always stand there in clear."""
    readers: list[IPv4Network] = Field(default=[IPv4Network("0.0.0.0/0")], min_length=1)
    """From which networks the directory is read, among those that reach the fronts at all
    (`site.networks.clients`)."""
    csv_separator: Literal[",", ";"] = ","
    """What separates the cells of the CSV downloads. Excel splits them by the separator of the
    machine it runs on: `;` where Windows is set to Vietnamese formats."""
