"""A configuration that its daemon cannot understand never replaces the running one.

The run fails in the daemon's own words; the file on the host and the process are the same as
before.
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.run import EXIT_ERROR, command
from roles.common.facts import reload_stamp
from roles.common.site import ROOT, Group, Site
from tests import clients, remote
from tests.deploys import overlaid


@dataclass(frozen=True)
class Mistake:
    """A line that is wrong, and what its daemon's checker says: what was found, and where."""

    role: str
    group: Group
    path: str
    line: str
    words: str
    unit: str


MISTAKES = {
    "unknown Postfix parameter": Mistake(
        "mta", "mx", "/etc/postfix/main.cf", "mesage_size_limit = 1", "mesage_size_limit",
        "postfix.service",
    ),
    "invalid Postfix value": Mistake(
        "mta", "mx", "/etc/postfix/main.cf", "smtpd_peername_lookup = perhaps", "perhaps",
        "postfix.service",
    ),
    "bad nginx directive": Mistake(
        "webmail", "front", "/etc/nginx/nginx.conf", "lisen 443;", "lisen", "nginx.service",
    ),
    "Dovecot quota": Mistake(
        "mailstore", "store", "/etc/dovecot/dovecot.conf", "quota_storage_size = 26GIGOTS",
        "26GIGOTS", "dovecot.service",
    ),
    "PostgreSQL value": Mistake(
        "database", "database", "/etc/postgresql/17/main/conf.d/site.conf",
        "max_connections = many", "max_connections", "postgresql@17-main.service",
    ),
    "firewall rule": Mistake(
        "base", "mx", "/etc/nftables.conf", "table inet broken { chian x {} }", "syntax error",
        "nftables.service",
    ),
    "SpamAssassin rule": Mistake(
        "filtering", "mx", "/etc/spamassassin/local.cf", "scroe GTUBE 1", "scroe",
        "mimedefang-multiplexor.service",
    ),
    "clamd option": Mistake(
        "filtering", "mx", "/etc/clamav/clamd.conf", "MaxScnSize 1M", "MaxScnSize",
        "clamav-daemon.service",
    ),
    "OpenDKIM parameter": Mistake(
        "signing", "mx", "/etc/opendkim.conf", "Selektor mail", "unrecognized parameter",
        "opendkim.service",
    ),
    "sshd keyword": Mistake(
        "base", "mx", "/etc/ssh/sshd_config.d/00-site.conf", "PermitRotLogin yes",
        "PermitRotLogin", "ssh.service",
    ),
    "PHP's pool": Mistake(
        "webmail", "front", "/etc/php/8.4/fpm/php-fpm.conf", "pm.max_childrn = 1",
        "pm.max_childrn", "php8.4-fpm.service",
    ),
    "stunnel option": Mistake(
        "mailstore", "store", "/etc/stunnel/quota-server.conf", "verfyChain = yes", "verfyChain",
        "stunnel@quota-server.service",
    ),
    "slapd attribute": Mistake(
        "directory", "directory", "/etc/ldap/slapd.ldif", "olcIdleTimeot: 7", "olcIdleTimeot",
        "slapd.service",
    ),
}  # fmt: skip


def state(site: Site, mistake: Mistake) -> str:
    """The file's digest and the process that runs."""
    return remote.shell(
        site,
        clients.address_of(site, mistake.group),
        f"sha256sum {mistake.path};"
        f" systemctl show -p MainPID -p ActiveEnterTimestamp -p ActiveState {mistake.unit};"
        f" stat -c %z {reload_stamp(mistake.unit)};"
        f" ls -A {Path(mistake.path).parent}",
    )


@pytest.mark.parametrize("name", MISTAKES)
def test_a_broken_configuration_leaves_the_running_one_untouched(site: Site, name: str) -> None:
    mistake = MISTAKES[name]
    before = state(site, mistake)
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("pyinfra")),
            "-y",
            *("--limit", site.group(mistake.group)[0].name),
            f"inventories/{site.environment}/inventory.py",
            "tests/faults/broken.py",
        ],
        cwd=ROOT,
        env={
            **os.environ,
            "BROKEN_ROLE": mistake.role,
            "BROKEN_TEMPLATE": f"{mistake.role}{mistake.path}.j2",
            "BROKEN_LINE": mistake.line,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0, "the run was expected to fail"
    assert mistake.words in done.stderr, done.stderr
    refusal = f"{mistake.path}.*: refused by its own checker; what is running is untouched"
    assert re.search(refusal, done.stderr), done.stderr
    assert state(site, mistake) == before


@dataclass(frozen=True)
class WrongValue:
    """A value that a setting does not take, what the error says, and what it would have changed."""

    setting: str
    value: str
    words: str
    mistake: str
    """The row of `MISTAKES` whose file and service stay as they are."""


WRONG_VALUES = (
    WrongValue(
        "mailstore.quota", "26GIGOTS", "expected a whole number and a unit of B, KiB, MiB",
        "Dovecot quota",
    ),
    WrongValue(
        "mta.queue_lifetime", "5 days", "expected a whole number and a unit of",
        "invalid Postfix value",
    ),
    WrongValue("mta.mesage_size", "40MiB", "unknown", "unknown Postfix parameter"),
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG_VALUES, ids=lambda wrong: wrong.setting)
@pytest.mark.parametrize("by", ["make deploy", "pyinfra"])
def test_a_broken_setting_is_refused_before_the_first_connection(
    site: Site, by: str, wrong: WrongValue
) -> None:
    # pyinfra itself prints each connection; what `make deploy` prints has these lines left out.
    plain = command("apply", "site", site.environment, [])
    condensed = [sys.executable, "-m", "deploy.run", "apply", "site", "--env", site.environment]
    role, _, key = wrong.setting.partition(".")
    mistake = MISTAKES[wrong.mistake]
    before = state(site, mistake)
    with overlaid(f'[{role}]\n{key} = "{wrong.value}"\n'):
        done = subprocess.run(
            condensed if by == "make deploy" else plain,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    said = done.stdout + done.stderr
    assert done.returncode == EXIT_ERROR, said
    assert f"{wrong.setting}: " in said
    assert "site.toml" in said
    assert wrong.words in said
    assert "Connect" not in said, "a host was connected to"
    assert state(site, mistake) == before
