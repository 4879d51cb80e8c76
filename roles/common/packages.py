"""Debian packages: installed without starting what is not configured yet."""

import importlib
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.context import host

from roles.common.facts import Packages
from roles.common.files import configure, template
from roles.common.plan import announced, say
from roles.common.site import Site, SiteHost

_APT = (
    # What must be restarted, the roles know: needrestart need not look for it each time.
    "DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 apt-get -q -y --no-install-recommends"
    " -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef"
    " -o Dpkg::Options::=--force-confold -o APT::Keep-Downloaded-Packages=0"
)
_FRESH_MINUTES = 24 * 60
"""Package lists that came later are not fetched again; when they were written, mirrors say."""


@dataclass(frozen=True)
class Needed:
    """What a role needs of Debian on a host."""

    names: Sequence[str]
    debconf: Sequence[str] = ()
    """Answers to the packages' questions, as `debconf-set-selections` reads them."""
    templates: Sequence[tuple[str, str]] = ()
    """Files that packages read when they are installed: the role and the path of each."""

    def __or__(self, other: "Needed") -> "Needed":
        """Both, each thing once."""
        return Needed(
            tuple(dict.fromkeys((*self.names, *other.names))),
            tuple(dict.fromkeys((*self.debconf, *other.debconf))),
            (*self.templates, *other.templates),
        )


NOTHING = Needed(())
SLAPD = Needed(["slapd"], ["slapd slapd/no_configuration boolean true"])
"""Without a configuration of the package's own: it would open port 389."""
POSTFIX = Needed(["postfix"], ["postfix postfix/main_mailer_type select No configuration"])
"""Which kind of site this is, it shall not ask: main.cf says it."""


def needed_by(roles: Iterable[str], site: Site, host: SiteHost) -> Needed:
    """What roles need that may be installed before anything of theirs is configured.

    Args:
        roles: their names; `needed` in `roles/ROLE/deploy.py` says it, where a role has one.
        site: the site.
        host: the host that is deployed.
    """
    everything = NOTHING
    for role in roles:
        needed = getattr(importlib.import_module(f"roles.{role}.deploy"), "needed", None)
        everything |= needed(site, host) if needed else NOTHING
    return everything


def packages(needed: Needed, *, name: str) -> OperationMeta:
    """Packages that shall be installed.

    Services do not start at installation: a daemon shall never run with its package's defaults,
    not even for a second. An installation that was cut off is finished first.

    Args:
        needed: which, and what they ask and read.
        name: the operation's name in the plan.
    """
    if needed.templates:
        files = [template(role, path) for role, path in needed.templates]
        configure(files, name=f"{name}: what they read when they are installed")
    return _packages(names=list(needed.names), debconf=list(needed.debconf), name=name)


@operation()
def _packages(names: list[str], debconf: list[str]) -> Generator[StringCommand, None, None]:
    found = host.get_fact(Packages, names=names)
    before = announced()
    missing = [name for name in names if name not in found.installed and name not in before]
    before.update(dict.fromkeys(missing, True))
    if not missing and not found.broken:
        return
    say(f"to install: {' '.join(missing) or '(unfinished work)'}")
    for answer in debconf:
        yield StringCommand(f"echo '{answer}' | debconf-set-selections")
    yield StringCommand(installation(missing))


def installation(names: Iterable[str]) -> str:
    """The command for a shell of root's that installs packages and starts none of their services.

    Args:
        names: the packages.
    """
    return (
        "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d.site"
        " && chmod 755 /usr/sbin/policy-rc.d.site"
        " && ln -sfn policy-rc.d.site /usr/sbin/policy-rc.d"
        # Waits while a security upgrade holds dpkg's lock; dpkg itself would not.
        f" && {{ {_APT} check >/dev/null 2>&1 || true; }}"
        " && dpkg --configure -a --force-confdef --force-confold >&2"
        f" && {{ test -n \"$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' "
        f'-cmin -{_FRESH_MINUTES} -print -quit)" || {_APT} update; }}'
        f" && {_APT} install {' '.join(names)}"
        "; result=$?; rm -f /usr/sbin/policy-rc.d /usr/sbin/policy-rc.d.site; exit $result"
    )
