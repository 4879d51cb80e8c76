"""What the plan says besides the operations' names and the files' diffs."""

from pyinfra import logger
from pyinfra.context import host, state


def say(text: str) -> None:
    """A line of the plan about the host; the run itself does not repeat it."""
    if not state.is_executing:
        logger.info(f"{host.print_prefix}{text}")
