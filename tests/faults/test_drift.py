"""What somebody changes by hand on a host shows up in the plan, and the next deploy mends it."""

import io
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from deploy.run import EXIT_CHANGES, EXIT_DONE, run
from roles.common.site import Group, Site
from tests import clients, remote

FORMER = f"mat-khau-cu-{secrets.token_hex(8)}"
"""What a host still holds after a rotation: a secret that is not among the site's any more."""


@dataclass(frozen=True)
class Drift:
    """A change by hand, what the plan must say of it, and how to see that it is gone."""

    group: Group
    command: str
    words: str
    mended: str


DRIFT = (
    Drift(
        "mx", "echo 'relay_domains = example.com' >> /etc/postfix/main.cf",
        "-relay_domains = example.com", "! grep -q example.com /etc/postfix/main.cf",
    ),
    Drift(
        "mx", "nft insert rule inet site input accept", "Firewall, as the kernel has it",
        "! nft list chain inet site input | grep -q '^[[:space:]]*accept$'",
    ),
    Drift("front", "systemctl stop nginx", "nginx.service: restart", "systemctl is-active nginx"),
    Drift(
        "store", "chmod 644 /etc/dovecot/private/ldap-password", "mode 644 -> 600",
        "test $(stat -c %a /etc/dovecot/private/ldap-password) = 600",
    ),
    # A file that is a secret, and one that holds a secret among other things.
    Drift(
        "mx", f"echo {FORMER} >> /etc/site-lists/ldap-password",
        "/etc/site-lists/ldap-password: a secret, not shown, differs",
        "! grep -q mat-khau-cu /etc/site-lists/ldap-password",
    ),
    Drift(
        "mx",
        "sed -i '/^bayes_sql_password /{p;s/^/# before: /;s/[^ ]*$/" + FORMER + "/}'"
        " /etc/spamassassin/bayes.cf",
        "-# ********", "! grep -q mat-khau-cu /etc/spamassassin/bayes.cf",
    ),
    Drift(
        "directory",
        "printf 'dn: cn=config\\nchangetype: modify\\nreplace: olcIdleTimeout\\n"
        "olcIdleTimeout: 7\\n' | ldapmodify -Q -Y EXTERNAL -H ldapi:///",
        "olcIdleTimeout",
        "! ldapsearch -LLL -Q -Y EXTERNAL -H ldapi:/// -b cn=config -s base"
        " | grep -q '^olcIdleTimeout: 7$'",
    ),
)  # fmt: skip


@pytest.fixture
def drifted(site: Site) -> Iterator[None]:
    """Hosts on which somebody worked by hand; deployed again afterwards."""
    for drift in DRIFT:
        remote.shell(site, clients.address_of(site, drift.group), drift.command)
    yield
    assert deploy(site) == EXIT_DONE


def plan(site: Site, *limit: str) -> tuple[int, str]:
    """The plan's exit code, and what it says."""
    log = io.StringIO()
    return run("plan", "site", site.environment, list(limit), log), log.getvalue()


def deploy(site: Site, *limit: str) -> int:
    return run("apply", "site", site.environment, list(limit), io.StringIO())


@pytest.mark.usefixtures("drifted")
def test_drift_is_planned_and_mended(site: Site) -> None:
    code, said = plan(site)
    assert code == EXIT_CHANGES
    for drift in DRIFT:
        assert drift.words in said
    assert FORMER not in said
    for secret in site.secrets.values():
        assert not any(line in said for line in secret.splitlines() if "-----" not in line)

    # A part of the site at a time: a group, a host.
    code, said = plan(site, "store")
    assert code == EXIT_CHANGES
    assert "ldap-password" in said
    assert "relay_domains" not in said
    assert deploy(site, "store") == EXIT_DONE
    host = site.group("mx")[0].name
    assert plan(site, "store", host)[0] == EXIT_CHANGES
    assert deploy(site, host) == EXIT_DONE
    assert plan(site, "store", host)[0] == EXIT_DONE

    assert deploy(site) == EXIT_DONE
    code, said = plan(site)
    assert code == EXIT_DONE, said
    for drift in DRIFT:
        remote.shell(site, clients.address_of(site, drift.group), drift.mended)
