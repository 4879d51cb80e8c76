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
