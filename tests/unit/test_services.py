"""What is done to systemd's units."""

from types import SimpleNamespace

import pytest

from roles.common import services
from roles.common.facts import UnitState


@pytest.mark.parametrize(
    ("active", "enabled", "commands"),
    [
        (False, False, []),
        (True, True, ["systemctl disable --now --quiet site.timer"]),
        # A run that was cut off.
        (True, False, ["systemctl disable --now --quiet site.timer"]),
        (False, True, ["systemctl disable --now --quiet site.timer"]),
    ],
)
def test_what_is_another_hosts_work_stops(
    monkeypatch: pytest.MonkeyPatch, active: bool, enabled: bool, commands: list[str]
) -> None:
    found = UnitState(active, enabled, stale=False, needs_daemon_reload=False, masked=False)
    host = SimpleNamespace(get_fact=lambda *_, **__: found, print_prefix="")
    monkeypatch.setattr(services, "host", host)
    monkeypatch.setattr(services, "say", lambda _: None)
    yielded = services.stopped._inner(unit="site.timer")
    assert [str(command) for command in yielded] == commands


@pytest.mark.parametrize(
    ("found", "begins", "has_restart"),
    [
        # Read anew is what systemd says it has not read, and nothing else: it takes long.
        (UnitState(False, False, False, False, False), "systemctl --root=/ enable", True),
        (UnitState(False, True, False, False, False), "{ systemctl reset-failed", True),
        (UnitState(True, True, True, True, False), "systemctl daemon-reload && { ", True),
        (UnitState(False, False, False, False, True), "systemctl unmask --quiet", True),
        (UnitState(True, False, False, False, False), "systemctl --root=/ enable", False),
        (UnitState(True, True, False, False, False), "", False),
    ],
)
def test_a_unit_is_brought_to_what_is_on_disk_by_one_command(
    monkeypatch: pytest.MonkeyPatch, found: UnitState, begins: str, has_restart: bool
) -> None:
    host = SimpleNamespace(get_fact=lambda *_, **__: found, print_prefix="")
    monkeypatch.setattr(services, "host", host)
    monkeypatch.setattr(services, "state", SimpleNamespace(is_executing=True))
    monkeypatch.setattr(services, "say", lambda _: None)
    yielded = services._service._inner(unit="site.timer", config=[], after=[], reload=False)
    commands = [str(command) for command in yielded]
    assert len(commands) == bool(begins)
    for command in commands:
        assert command.startswith(begins)
        assert ("systemctl restart site.timer" in command) == has_restart
        assert ("daemon-reload" in command) == found.needs_daemon_reload
