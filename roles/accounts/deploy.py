"""The role `accounts`, step by step."""

from pyinfra.api.deploy import deploy

from roles.accounts.operations import registry_entries
from roles.accounts.reconcile import Target
from roles.accounts.registry import Registry, load_registry
from roles.accounts.settings import AccountsSettings
from roles.common.files import ConfigFile, configure
from roles.common.site import Site, current_host, current_site
from roles.directory.operations import in_step
from roles.directory.tree import service_dn

_PASSWORD = "/etc/ldap/accounts.secret"  # noqa: S105 - a path


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
    )
