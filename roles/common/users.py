"""System users and their groups."""

from collections.abc import Generator

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from roles.common.facts import GroupMembers, UserExists


@operation()
def system_user(user: str, sysusers: str) -> Generator[StringCommand, None, None]:
    """A system user, made as its file in /etc/sysusers.d says.

    Args:
        user: its name.
        sysusers: path of that file.
    """
    if not host.get_fact(UserExists, user=user):
        yield StringCommand(f"systemd-sysusers {sysusers}")


@operation()
def group(group: str) -> Generator[StringCommand, None, None]:
    """A system group."""
    if group not in host.get_fact(GroupMembers):
        yield StringCommand(f"groupadd --system {group}")


@operation()
def in_group(user: str, group: str) -> Generator[StringCommand, None, None]:
    """A user that is a member of a group, besides its own.

    Restart the user's daemon afterwards: a process keeps the groups it began with.
    """
    if user not in host.get_fact(GroupMembers).get(group, []):
        yield StringCommand(f"usermod --append --groups {group} {user}")
