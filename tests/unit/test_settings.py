"""The types that settings are made of."""

from typing import ClassVar

import pytest
from pydantic import Field, ValidationError

from roles.common.settings import Duration, Settings, Size


class Example(Settings):
    """A role's settings."""

    role: ClassVar[str] = "example"

    quota: Size = Field(default="2GiB", validate_default=True)
    keep: Duration = Field(default="30d", validate_default=True)


@pytest.mark.parametrize(
    ("written", "size"),
    [("0B", 0), ("1B", 1), ("10KiB", 10240), ("50MiB", 52428800), ("2 GiB", 2147483648)],
)
def test_size_is_read_in_bytes(written: str, size: int) -> None:
    assert Example(quota=written).quota == size


@pytest.mark.parametrize(
    "written", ["26GIGOTS", "2GB", "-1GiB", "1.5GiB", "", "GiB", 5, None, "२GiB"]
)
def test_wrong_size_names_the_expected_form(written: object) -> None:
    with pytest.raises(ValidationError, match=r"is not a size; expected .* such as '2GiB'"):
        Example.model_validate({"quota": written})


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("5min", 300), ("4h", 14400), ("5d", 432000), ("1w", 604800)],
)
def test_duration_is_read_in_seconds(written: str, seconds: int) -> None:
    assert Example(keep=written).keep == seconds


def test_defaults_are_validated_like_values() -> None:
    assert Example().quota == 2147483648


def test_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="qouta"):
        Example.model_validate({"qouta": "2GiB"})
