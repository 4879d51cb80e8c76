"""The types that settings are made of."""

import re
from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints

_SIZE_UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_DURATION_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def _quantity(units: dict[str, int], kind: str, example: str) -> BeforeValidator:
    """A validator for a whole number and one of `units`, read as the smallest unit."""
    pattern = re.compile(rf"([0-9]+) ?({'|'.join(units)})")
    expected = f"expected a whole number and a unit of {', '.join(units)}, such as '{example}'"

    def parse(value: object) -> int:
        match = pattern.fullmatch(value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f"{value!r} is not a {kind}; {expected}")
        return int(match[1]) * units[match[2]]

    return BeforeValidator(parse)


_size = _quantity(_SIZE_UNITS, "size", "2GiB")
_duration = _quantity(_DURATION_UNITS, "duration", "30d")

#: A size in bytes, written `'50MiB'`.
Size = Annotated[int, _size]
#: A length of time in seconds, written `'30d'`.
Duration = Annotated[int, _duration]
#: What stands before the `@` of an address of ours.
LocalPart = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]*$")]


class Settings(BaseModel):
    """The settings of one role: a table of the environment's `site.toml`.

    Every field has a docstring below it: what it does, its unit, where it comes from. The settings
    reference is generated from them.
    """

    #: The role's name, which is also the table's name in `site.toml`.
    role: ClassVar[str]

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True
    )
