"""systemd units that run what is on disk."""

from collections.abc import Generator, Sequence

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.context import host, state

from roles.common.facts import UnitStates, reload_stamp
from roles.common.plan import announced, say


def service(
    unit: str,
    *,
    config: Sequence[str],
    after: Sequence[OperationMeta] = (),
    reload: bool = False,
    serial: bool = False,
    name: str,
) -> OperationMeta:
    """A unit that is enabled, running, and running what is on disk.

    Whether it must be restarted is read off the host: its configuration changed after it became
    active. So a run that died between a file and the restart is completed by the next one.

    Args:
        unit: the unit's full name, such as `postfix.service`.
        config: files and folders it reads, at start or reload.
        after: operations that write them; the plan counts their changes in.
        reload: reload where that suffices for the daemon, instead of a restart.
        serial: one host after the other, where several serve the same.
        name: the operation's name in the plan.
    """
    return _service(
        unit=unit,
        config=list(config),
        after=list(after),
        reload=reload,
        name=name,
        _serial=serial,
    )


@operation()
def _service(
    unit: str, config: list[str], after: list[OperationMeta], reload: bool
) -> Generator[StringCommand, None, None]:
    found = host.get_fact(UnitStates, unit=unit, config=config)
    stale = found.stale or found.needs_daemon_reload
    if not state.is_executing:
        stale = stale or any(operation.will_change for operation in after)
        # A step for packages may have written one, before the role.
        stale = stale or not announced().keys().isdisjoint(config)
    quoted = QuoteString(unit)
    verb = None
    if not found.active:
        verb = "restart"
    elif stale:
        verb = "reload" if reload and not found.needs_daemon_reload else "restart"
    if verb is None and found.enabled:
        return
    say(f"{unit}: {verb or 'enable'}")
    steps = []
    if found.masked:
        steps.append(StringCommand("systemctl unmask --quiet", quoted))
    if found.needs_daemon_reload:
        steps.append(StringCommand("systemctl daemon-reload"))
    if not found.enabled:
        # Of the files alone: asked itself, systemd would want to read all units anew, which takes
        # longer than all else; a new one it sees by itself.
        steps.append(StringCommand("systemctl --root=/ enable --quiet", quoted))
    if verb is not None:
        steps.append(
            StringCommand(
                # A unit that failed too often refuses to start until this is said.
                "{ systemctl reset-failed", quoted, "2>/dev/null;",
                f"if systemctl {verb}", quoted,
                "; then touch", QuoteString(reload_stamp(unit)),
                "; else journalctl --no-pager -n 30 -u", quoted, ">&2; false; fi; }",
            )
        )  # fmt: skip
    yield StringCommand(*steps, _separator=" && ")


@operation()
def masked(unit: str) -> Generator[StringCommand, None, None]:
    """A unit that shall never run, such as one that a package brings along."""
    found = host.get_fact(UnitStates, unit=unit, config=[])
    if not found.masked or found.active:
        quoted = QuoteString(unit)
        yield StringCommand(
            # A timer that was running counts as failed once its file is gone.
            "systemctl mask --now --quiet", quoted,
            "&& { systemctl reset-failed", quoted, "2>/dev/null; true; }",
        )  # fmt: skip


@operation()
def stopped(unit: str) -> Generator[StringCommand, None, None]:
    """A unit that is another host's work now."""
    found = host.get_fact(UnitStates, unit=unit, config=[])
    if not found.active and not found.enabled:
        return
    say(f"{unit}: stop")
    yield StringCommand("systemctl disable --now --quiet", QuoteString(unit))
