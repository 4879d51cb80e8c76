"""How the role `base` changes a host where no file and no service does."""

from collections.abc import Generator, Mapping

from pyinfra.api.command import QuoteString, StringCommand
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.context import host, state

from roles.base.access import KEYS
from roles.base.facts import (
    Admins,
    AdminState,
    FirewallLoaded,
    Hostname,
    KernelParameters,
    StalePackageLists,
    Timezone,
)
from roles.base.settings import Admin
from roles.common.errors import SiteError
from roles.common.plan import say

_FIRST_PERSON = 1000
"""Debian gives lower numbers to daemons."""


@operation()
def hostname(fqdn: str) -> Generator[StringCommand, None, None]:
    """The host's own name."""
    found = host.get_fact(Hostname)
    if found != fqdn:
        say(f"hostname: {found} -> {fqdn}")
        yield StringCommand(
            "echo", QuoteString(fqdn), "> /etc/hostname && hostname", QuoteString(fqdn)
        )


@operation()
def timezone(zone: str) -> Generator[StringCommand, None, None]:
    """The host's time zone."""
    found = host.get_fact(Timezone)
    if found != zone:
        say(f"time zone: {found} -> {zone}")
        target = QuoteString(f"/usr/share/zoneinfo/{zone}")
        yield StringCommand("test -f", target, "&& ln -sfnT", target, "/etc/localtime")


@operation()
def fresh_package_lists(after: list[OperationMeta]) -> Generator[StringCommand, None, None]:
    """No package lists of other sources; the next installation fetches new ones."""
    stale = host.get_fact(StalePackageLists)
    if stale or (not state.is_executing and any(meta.will_change for meta in after)):
        yield StringCommand("find /var/lib/apt/lists -maxdepth 1 -type f -name '*_*' -delete")


def parameters(text: str) -> dict[str, str]:
    """The parameters that the text of a file in `/etc/sysctl.d` sets; the last value counts."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = (line.removeprefix("-").split("=", 1) for line in lines)
    return {key.strip(): " ".join(value.split()) for key, value in pairs}


@operation()
def kernel_parameters(wanted: Mapping[str, str]) -> Generator[StringCommand, None, None]:
    """Kernel parameters with the values that `/etc/sysctl.d` gives them at boot."""
    found = host.get_fact(KernelParameters, keys=sorted(wanted))
    changed = {key: value for key, value in wanted.items() if found.get(key, value) != value}
    for key, value in changed.items():
        say(f"{key}: {found[key]} -> {value}")
    for key, value in changed.items():
        yield StringCommand("sysctl -q -w", QuoteString(f"{key}={value}"))


@operation()
def admins(wanted: Mapping[str, Admin]) -> Generator[StringCommand, None, None]:
    """Accounts of the persons who may log in, and of no other member of `site-admins`."""
    found = host.get_fact(Admins, names=sorted(wanted))
    commands = []
    for name, admin in sorted(wanted.items()):
        account = found.get(name)
        user = QuoteString(name)
        if account is None:
            say(f"account {name}: new")
            commands.append(StringCommand(
                "useradd --create-home --shell /bin/bash --groups site-admins --comment",
                QuoteString(admin.name), "--password '*'", user,
            ))  # fmt: skip
        elif account.uid < _FIRST_PERSON:
            raise SiteError(
                f"base.admins.{name}: {host.name} has a system account of that name; expected a "
                "name of its own for the person"
            )
        elif account != AdminState(account.uid, admin.name, "/bin/bash", False, True):
            say(f"account {name}: corrected")
            commands.append(StringCommand(
                "usermod --shell /bin/bash --append --groups site-admins --expiredate ''",
                "--comment", QuoteString(admin.name), user,
            ))  # fmt: skip
    for name in sorted(set(found) - set(wanted)):
        say(f"account {name}: locked out")
        # The account stays, so that its files keep an owner; an expired one cannot log in.
        commands.append(StringCommand(
            "usermod --expiredate 1 --shell /usr/sbin/nologin", QuoteString(name),
            "&& gpasswd --delete", QuoteString(name), "site-admins >/dev/null",
            "&& rm -f", QuoteString(f"{KEYS}/{name}"),
            "&& { loginctl kill-user", QuoteString(name), "2>/dev/null; true; }",
        ))  # fmt: skip
    # Planning reads up to the first command: all is said by then.
    yield from commands


@operation()
def firewall_loaded(after: list[OperationMeta]) -> Generator[StringCommand, None, None]:
    """The kernel filters by `/etc/nftables.conf`, whatever was done to it by hand."""
    loaded = host.get_fact(FirewallLoaded)
    # Where the service is about to load them, the plan says so already.
    expected = not state.is_executing and any(meta.will_change for meta in after)
    if not loaded and not expected:
        say("firewall: the kernel's rules are not those of /etc/nftables.conf")
        yield StringCommand("systemctl reload nftables.service")
