"""The role `accounts`, step by step."""

import gc

from gevent.threadpool import ThreadPoolExecutor  # type: ignore[import-untyped]
from pyinfra.api.deploy import deploy

from roles.accounts.notices import KINDS
from roles.accounts.operations import Planner, registry_entries
from roles.accounts.reconcile import Target
from roles.accounts.registry import Registry, load_registry
from roles.accounts.settings import AccountsSettings
from roles.base.settings import BaseSettings
from roles.common.errors import SiteError
from roles.common.files import Check, ConfigFile, configure, program, static, template
from roles.common.services import service
from roles.common.site import Site, SiteHost, current_host, current_site, in_turn
from roles.common.users import system_user
from roles.directory.operations import in_step
from roles.directory.tree import service_dn
from roles.webmail.settings import WebmailSettings

_PASSWORD = "/etc/ldap/accounts.secret"  # noqa: S105 - a path
_LIB = "/usr/local/lib/site-lifecycle"
_TEXTS = f"{_LIB}/texts"
_UNIT = "/etc/systemd/system/site-lifecycle.service"
_PROGRAM = ("accounts/lifecycle.py", "accounts/notices.py", "directory/ldif.py")
"""What runs on the host, below `roles` here and there: nothing of it needs more than Debian has."""
_ALLOCATIONS = 100_000
"""So many new objects are no reason to look for garbage: 20,000 people are more, and all stay."""
_BEHIND = 20
"""Seconds by which each further directory host acts later, so that one is enough."""


@deploy("Accounts")
def accounts() -> None:
    """Deploy the role."""
    site, host = current_site(), current_host()
    # ldapmodify reads a password from a file, to the last byte: no line end.
    secret = site.secrets.directory_accounts_password.get_secret_value().encode()
    configure(
        [ConfigFile(_PASSWORD, secret, mode="600")], name="The password of the registry's account"
    )
    # Every directory host accepts changes; one of them makes ours, the others follow.
    if host == site.group("directory")[0]:
        gc.set_threshold(_ALLOCATIONS)
        # By a thread of its own: meanwhile the host is asked what its directory holds.
        reading = ThreadPoolExecutor(1).submit(_attempt, site)
        in_step(
            base=site.base_dn,
            peers=[other.fqdn for other in site.group("directory") if other != host],
            replicator=service_dn(site, "replicator"),
            name="What other directory hosts know",
        )
        registry_entries(
            planner=Planner(lambda: _read(reading.result()), site_target(site)),
            site=site,
            password_file=_PASSWORD,
            name="Units, people and mailboxes of the registry",
        )
    else:
        # A mistake in it is refused whichever host is deployed.
        site_registry(site)
    # Behind the registry: whose end has just been put off does not depart before.
    modules = program(_LIB, _PROGRAM)
    installed = configure(
        modules,
        check=Check(
            "cd {tree} && python3 -B -m roles.accounts.lifecycle --help"
            " && python3 -B -m roles.accounts.notices --help",
            tree=_LIB,
        ),
        name="Programs of what time alone brings",
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
        config=[_UNIT, _PASSWORD, *(file.path for file in modules)],
        after=[installed, started],
        name="What time alone brings: ends of service, delegations, former addresses",
    )
    _notices(site, host)


def _notices(site: Site, host: SiteHost) -> None:
    """Letters about what ends soon; each further directory host looks an hour later."""
    settings = site.of(AccountsSettings)
    number = site.group("directory").index(host)
    texts = [
        static("accounts", f"notices/{name}.txt", f"{_TEXTS}/{name}.txt")
        for name in ("letter", *KINDS)
    ]
    configure(texts, name="Texts of letters about what ends soon")
    units = [
        template(
            "accounts",
            f"/etc/systemd/system/site-notices.{kind}",
            settings=settings,
            name=service_dn(site, "accounts"),
            password=_PASSWORD,
            lib=_LIB,
            texts=_TEXTS,
            timezone=site.of(BaseSettings).timezone,
            contact=site.of(WebmailSettings).incident_contact or site.postmaster,
            relays=[other.fqdn for other in in_turn(site.group("mx"), number)],
            hour=(settings.notice_hour + number) % 24,
        )
        for kind in ("service", "timer")
    ]
    described = configure(units, name="Units of those letters")
    service(
        "site-notices.timer",
        config=[unit.path for unit in units],
        after=[described],
        name="Letters about what ends soon, every morning",
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
        {site.domain, *(name for host in site.hosts.values() for name in host.names)},
    )


def _attempt(site: Site) -> Registry | SiteError:
    """The registry, or what is wrong with it: a thread says nothing of its own."""
    try:
        return site_registry(site)
    except SiteError as error:
        return error


def _read(found: Registry | SiteError) -> Registry:
    if isinstance(found, SiteError):
        raise found
    return found


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
