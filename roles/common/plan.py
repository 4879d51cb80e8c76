"""What the plan says besides the operations' names and the files' diffs."""

from typing import Any
from weakref import WeakKeyDictionary

from pyinfra import logger
from pyinfra.api.host import Host
from pyinfra.context import host, state

_ANNOUNCED: WeakKeyDictionary[Host, dict[str, Any]] = WeakKeyDictionary()


def say(text: str) -> None:
    """A line of the plan about the host; the run itself does not repeat it."""
    if not state.is_executing:
        logger.info(f"{host.print_prefix}{text}")


def announced() -> dict[str, Any]:
    """What earlier steps of the plan bring about on the host: a later one does not say it again.

    Returns:
        By path the `FileState` of what is written, by name True for what is installed; a step adds
        its own. Empty while the run acts: then the host itself tells.
    """
    if state.is_executing:
        return {}
    return _ANNOUNCED.setdefault(state.inventory.get_host(host.name), {})
