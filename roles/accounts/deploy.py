"""The role `accounts`, step by step."""

from pyinfra.api.deploy import deploy

from roles.accounts.operations import registry_entries
from roles.accounts.reconcile import Target
from roles.accounts.registry import Registry, load_registry
from roles.accounts.settings import AccountsSettings
from roles.base.settings import BaseSettings
from roles.common.files import Check, ConfigFile, configure, template
from roles.common.services import service
from roles.common.site import ROOT, Site, current_host, current_site
from roles.common.users import system_user
from roles.directory.operations import in_step
from roles.directory.tree import service_dn

_PASSWORD = "/etc/ldap/accounts.secret"  # noqa: S105 - a path
_LIB = "/usr/local/lib/site-lifecycle"
_UNIT = "/etc/systemd/system/site-lifecycle.service"
_PROGRAM = ("accounts/lifecycle.py", "directory/ldif.py")
"""What runs on the host, below `roles` here and there: nothing of it needs more than Debian has."""
_BEHIND = 20
"""Seconds by which each further directory host acts later, so that one is enough."""


@deploy("Accounts")
def accounts() -> None:
    """Deploy the role."""
    site, host = current_site(), current_host()
    registry = site_registry(site)
    # ldapmodify reads a password from a file, to the last byte: no line end.
    secret = site.secrets.directory_accounts_password.get_secret_value().encode()
    configure(
        [ConfigFile(_PASSWORD, secret, mode="600")], name="The password of the registry's account"
    )
    # Every directory host accepts changes; one of them makes ours, the others follow.
    if host == site.group("directory")[0]:
        in_step(
            base=site.base_dn,
            peers=[other.fqdn for other in site.group("directory") if other != host],
            replicator=service_dn(site, "replicator"),
            name="What other directory hosts know",
        )
        registry_entries(
            registry=registry,
            target=site_target(site),
            site=site,
            password_file=_PASSWORD,
            name="Units, people and mailboxes of the registry",
        )
    # Behind the registry: whose end has just been put off does not depart before.
    program = [
        ConfigFile(f"{_LIB}/roles/{name}", (ROOT / "roles" / name).read_bytes())
        for name in _PROGRAM
    ]
    installed = configure(
        program,
        check=Check("cd {tree} && python3 -B -m roles.accounts.lifecycle --help", tree=_LIB),
        name="Program of what time alone brings",
    )
    sysusers = template("accounts", "/etc/sysusers.d/site-lifecycle.conf")
    configure([sysusers], name="The user that it runs as, described")
    system_user(name="The user that it runs as", user="site-lifecycle", sysusers=sysusers.path)
    unit = template(
        "accounts",
        _UNIT,
        settings=site.of(AccountsSettings),
        name=service_dn(site, "accounts"),
        password=_PASSWORD,
        lib=_LIB,
        behind=site.group("directory").index(host) * _BEHIND,
    )
    started = configure([unit], name="Its unit")
    service(
        "site-lifecycle.service",
        config=[_UNIT, _PASSWORD, *(file.path for file in program)],
        after=[installed, started],
        name="What time alone brings: ends of service, delegations, former addresses",
    )


def site_registry(site: Site) -> Registry:
    """The registry of an environment, read and checked; no host is needed.

    Raises:
        SiteError: every mistake in it.
    """
    settings = site.of(AccountsSettings)
    return load_registry(
        site.folder / settings.registry,
        settings,
        site.role_addresses,
        list(site.table.stores),
    )


def site_target(site: Site) -> Target:
    """Where an environment's registry goes."""
    return Target(
        base=site.base_dn,
        domain=site.domain,
        stores=site.store_names,
        role_addresses=site.role_addresses,
        settings=site.of(AccountsSettings),
        timezone=site.of(BaseSettings).timezone,
    )
