"""What is read off a host."""

import pytest

from roles.common.facts import UnitStates

UNIT = [
    "ActiveState=active",
    "UnitFileState=enabled",
    "NeedDaemonReload=no",
    "ActiveEnterTimestamp=Mon 2026-11-23 21:05:04.500000 UTC",
]
ENTERED = 1795467904.5


@pytest.mark.parametrize(
    ("reloaded", "changed", "stale"),
    [
        ("", "", False),
        ("", f"{ENTERED - 0.1}", False),
        ("", f"{ENTERED + 0.1}", True),
        (f"{ENTERED + 0.2}", f"{ENTERED + 0.1}", False),
        (f"{ENTERED - 5}", f"{ENTERED + 0.1}", True),
    ],
)
def test_a_unit_is_stale_when_its_configuration_is_younger(
    reloaded: str, changed: str, stale: bool
) -> None:
    found = UnitStates().process([*UNIT, f"Reloaded={reloaded}", f"Changed={changed}"])
    assert found.stale is stale
    assert found.active
    assert found.enabled


def test_a_unit_that_never_ran_is_neither_active_nor_enabled() -> None:
    lines = ["ActiveState=inactive", "UnitFileState=", "NeedDaemonReload=no"]
    found = UnitStates().process([*lines, "ActiveEnterTimestamp=", "Reloaded=", "Changed=5.5"])
    assert not found.active
    assert not found.enabled
    assert found.stale
