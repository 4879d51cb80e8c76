"""Debian packages: installed without starting what is not configured yet."""

from collections.abc import Generator, Sequence

from pyinfra.api.command import StringCommand
from pyinfra.api.operation import operation
from pyinfra.context import host

from roles.common.facts import Packages
from roles.common.plan import say

_APT = (
    "DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends"
    " -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef"
    " -o Dpkg::Options::=--force-confold -o APT::Keep-Downloaded-Packages=0"
)
_FRESH_MINUTES = 24 * 60
"""Package lists younger than this are not fetched again."""


@operation()
def packages(
    names: Sequence[str], debconf: Sequence[str] = ()
) -> Generator[StringCommand, None, None]:
    """Packages that shall be installed.

    Services do not start at installation: a daemon shall never run with its package's defaults,
    not even for a second. An installation that was cut off is finished first.

    Args:
        names: the packages.
        debconf: answers to their questions, as `debconf-set-selections` reads them.
    """
    found = host.get_fact(Packages, names=list(names))
    missing = [name for name in names if name not in found.installed]
    if not missing and not found.broken:
        return
    say(f"to install: {' '.join(missing) or '(unfinished work)'}")
    for answer in debconf:
        yield StringCommand(f"echo '{answer}' | debconf-set-selections")
    yield StringCommand(
        "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d.site"
        " && chmod 755 /usr/sbin/policy-rc.d.site"
        " && ln -sfn policy-rc.d.site /usr/sbin/policy-rc.d"
        # Waits while a security upgrade holds dpkg's lock; dpkg itself would not.
        f" && {{ {_APT} check >/dev/null 2>&1 || true; }}"
        " && dpkg --configure -a --force-confdef --force-confold >&2"
        f" && {{ test -n \"$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' "
        f'-mmin -{_FRESH_MINUTES} -print -quit)" || {_APT} update; }}'
        f" && {_APT} install {' '.join(missing)}"
        "; result=$?; rm -f /usr/sbin/policy-rc.d /usr/sbin/policy-rc.d.site; exit $result"
    )
