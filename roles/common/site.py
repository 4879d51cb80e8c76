"""The model of one environment: its hosts, groups, settings and secrets, validated as a whole.

An environment is the folder `inventories/ENV`: `site.toml` holds every value, `inventory.py` hands
the hosts to pyinfra, `registry/` lists units and people. Whatever is wrong in it is reported
before the first connection, all mistakes at once.
"""

import importlib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pyinfra.context import host as pyinfra_host

from roles.common import secrets as secret_files
from roles.common.errors import SiteError
from roles.common.secrets import Secrets
from roles.common.settings import LocalPart, Settings

ROOT = Path(__file__).resolve().parents[2]
"""The project's root folder."""

Group = Literal["directory", "store", "mx", "front", "database", "backup", "monitor"]
GROUPS: tuple[Group, ...] = get_args(Group)

ROLES: Mapping[str, tuple[Group, ...]] = {
    "base": GROUPS,
    "certificates": GROUPS,
    "directory": ("directory",),
    "accounts": ("directory",),
    "database": ("database",),
    "filtering": ("mx", "store"),
    "signing": ("mx",),
    "mta": ("mx", "front"),
    # After the MTA: on a front its SASL socket lies in Postfix' queue directory.
    "mailstore": ("store", "front"),
    "archive": ("store",),
    "webmail": ("front",),
    "publicdirectory": ("front",),
    "addressbook": ("front",),
    "backup": ("backup", "directory", "store", "database", "front", "mx"),
}
"""The roles in the order in which they are deployed, and the groups that switch each one on."""

S = TypeVar("S", bound=Settings)
T = TypeVar("T")

_NAME = r"^[a-z][a-z0-9-]*$"
_Name = Annotated[str, StringConstraints(pattern=_NAME)]
_Domain = Annotated[str, StringConstraints(pattern=r"^([a-z0-9-]+\.)+[a-z]{2,}$")]
_LDAPS = 636
"""Where a directory answers."""
_REFRESHES = 30
"""Seconds between the end of a delegation and its effect that waiting may take."""
_EXPANDED = "$`\\\"'"
"""What a shell's here-document, Postfix or a quoted value would take for more than text."""


def _plain(value: str) -> str:
    """Text that means itself in every file that it is written into."""
    if not value.isprintable() or not value.strip() or set(value) & set(_EXPANDED):
        raise ValueError(
            f"{value!r}: expected one line of text without any of {' '.join(_EXPANDED)}"
        )
    return value


_Plain = Annotated[str, AfterValidator(_plain)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Networks(_Table):
    """Which networks may use what (regulation, article 3): lists of CIDR blocks."""

    management: list[IPv4Network] = Field(min_length=1)
    """From where SSH is answered: the operators' network, nothing else."""
    clients: list[IPv4Network] = Field(default=[IPv4Network("0.0.0.0/0")], min_length=1)
    """From where officials read and write: IMAP, POP3, ManageSieve, submission, webmail, the
    address book by LDAP."""


class Lab(_Table):
    """Only in a lab: how its containers are placed."""

    network: IPv4Network
    """The containers' network for `make up`."""
    instances: dict[_Name, IPv4Network] = {}
    """Networks of further instances; every address is moved there (`LAB_INSTANCE=test`)."""
    outside: IPv4Address
    """Address of `outside1`, which plays the rest of the Internet."""
    foreign_domain: _Domain = "vidu.example"
    """Mail domain that `outside1` serves."""


class SiteTable(_Table):
    """The table `[site]`."""

    domain: _Domain
    """The mail domain; addresses are `unit@domain` (regulation, article 3.1a)."""
    mail_name: _Name = "mail"
    """First label of the one public name for webmail, IMAP, POP3 and submission (article 2)."""
    organisation: _Plain
    """The organisation's name in its own language, for certificates, webmail and bounces."""
    postmaster: LocalPart = "postmaster"
    """Local part of the mailbox that receives the system's own mail."""
    role_addresses: tuple[LocalPart, ...] = (
        "abuse", "hostmaster", "mailer-daemon", "root", "security", "webmaster",
    )  # fmt: skip
    """Further local parts of that mailbox (RFC 2142); the registry gives them to nobody."""
    resolvers: list[IPv4Address] = Field(min_length=1)
    """Recursive DNS resolvers of the hosts."""
    networks: Networks
    stores: dict[_Name, _Name] = Field(min_length=1)
    """Names that `mailHost` may hold, each with the host that serves it now. A standby takes a
    store over by changing this one value."""
    package_mirror: str = ""
    """Base address of a mirror of Debian's packages; empty keeps the sources the hosts have."""


class HostTable(_Table):
    """A table `[hosts.NAME]`."""

    address: IPv4Address
    """The address by which the other hosts and the operator reach it."""
    groups: list[Group] = Field(min_length=1)
    """The groups it belongs to; a group switches roles on."""
    settings: dict[str, dict[str, Any]] = {}
    """Settings of roles that differ on this host: `[hosts.NAME.settings.ROLE]`."""


@dataclass(frozen=True)
class SiteHost:
    """One host of the site."""

    name: str
    address: str
    groups: tuple[Group, ...]
    domain: str
    aliases: tuple[str, ...] = ()
    """Further full names under which it is addressed: the public name, the stores it serves."""

    @property
    def fqdn(self) -> str:
        """Its full name."""
        return f"{self.name}.{self.domain}"

    @property
    def names(self) -> tuple[str, ...]:
        """Every full name it answers to, its own first."""
        return (self.fqdn, *self.aliases)

    def serves(self, *groups: Group) -> bool:
        """Whether it belongs to any of `groups`."""
        return any(group in self.groups for group in groups)


@dataclass(frozen=True)
class Site:
    """One environment, complete and valid."""

    environment: str
    folder: Path
    table: SiteTable
    hosts: Mapping[str, SiteHost]
    settings: Mapping[str, Settings]
    host_settings: Mapping[str, Mapping[str, Settings]]
    lab: Lab | None
    state: Path
    """Folder of what the operator's machine keeps for this environment; ignored by git. That of a
    lab may be thrown away with it; the others hold passwords that nobody else has yet."""
    _secrets: Secrets | None = field(repr=False)

    @property
    def domain(self) -> str:
        """The mail domain."""
        return self.table.domain

    @property
    def mail_name(self) -> str:
        """The one public name, such as `mail.tiengiang.gov.vn`."""
        return f"{self.table.mail_name}.{self.domain}"

    @property
    def postmaster(self) -> str:
        """The address that receives the system's own mail."""
        return f"{self.table.postmaster}@{self.domain}"

    @property
    def role_addresses(self) -> frozenset[str]:
        """Local parts of the postmaster's mailbox: they belong to the mail system itself."""
        return frozenset((self.table.postmaster, *self.table.role_addresses))

    @property
    def base_dn(self) -> str:
        """The directory's suffix, by RFC 2247."""
        return ",".join(f"dc={label}" for label in self.domain.split("."))

    @property
    def secrets(self) -> Secrets:
        """The environment's secrets.

        Raises:
            SiteError: there are none yet.
        """
        if self._secrets is None:
            raise SiteError(
                f"{self.folder / 'secrets.age'}: not found; expected the environment's secrets: "
                f"list the operators' age keys in {self.folder / 'recipients.txt'} and run "
                f"`make secrets ENV={self.environment}`"
            )
        return self._secrets

    def keep_secrets(self) -> None:
        """Keep a lab's secrets from now on; to load a site for reading leaves nothing behind."""
        if self.lab:
            secret_files.keep(self.state, self.secrets)

    def group(self, *groups: Group) -> list[SiteHost]:
        """The hosts of any of `groups`, in the order of `site.toml`."""
        return [host for host in self.hosts.values() if host.serves(*groups)]

    def store_host(self, alias: str) -> SiteHost:
        """The host that serves the store `alias` (its first label) now."""
        return self.hosts[self.table.stores[alias]]

    @property
    def store_names(self) -> list[str]:
        """Full names of the stores: the values that `mailHost` may have."""
        return [f"{alias}.{self.domain}" for alias in self.table.stores]

    def of(self, model: type[S], host: str | None = None) -> S:
        """The settings of a role: `site.of(MtaSettings)`.

        Args:
            model: the role's settings class.
            host: name of the host whose own values count.
        """
        own = self.host_settings.get(host or "", {})
        return cast(S, own.get(model.role, self.settings[model.role]))


def in_turn(hosts: Sequence[T], number: int) -> list[T]:
    """`hosts` beginning with another one for each `number`, so that not all ask the first."""
    start = number % len(hosts)
    return [*hosts[start:], *hosts[:start]]


def current_site() -> Site:
    """The site that pyinfra is deploying."""
    return cast(Site, pyinfra_host.data.site)


def current_host() -> SiteHost:
    """The host that pyinfra is deploying, as the site knows it."""
    return current_site().hosts[pyinfra_host.name]


def roles_of(host: SiteHost) -> list[str]:
    """The roles that the host's groups switch on, in the order of deployment."""
    return [role for role, groups in ROLES.items() if host.serves(*groups)]


def settings_model(role: str) -> type[Settings]:
    """The settings class of a role: the one subclass of `Settings` in `roles/ROLE/settings.py`."""
    module = importlib.import_module(f"roles.{role}.settings")
    models = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Settings) and vars(value).get("role")
    ]
    (model,) = models
    return model


@cache
def load(environment: str, instance: str | None = None) -> Site:
    """Load and validate `inventories/ENVIRONMENT`.

    In a lab, the file that the environment variable `LAB_SETTINGS` names is laid over its
    `site.toml`: so a test changes settings without touching the repository.

    Args:
        environment: the folder's name.
        instance: which instance of a lab; by default the environment variable `LAB_INSTANCE`,
            else `up`.

    Raises:
        SiteError: listing every mistake with file, key, what was found and what is expected.
    """
    source = ROOT / "inventories" / environment / "site.toml"
    values = read_document(source)
    overlay = os.environ.get("LAB_SETTINGS")
    if overlay and "lab" in values:
        values = merged(values, read_document(Path(overlay)))
    return parse(values, source, instance or os.environ.get("LAB_INSTANCE", "up"))


def read_document(source: Path) -> dict[str, Any]:
    """The content of a `site.toml`, not validated yet.

    Raises:
        SiteError: it is not there, or not TOML.
    """
    if not source.exists():
        known = sorted(path.parent.name for path in (ROOT / "inventories").glob("*/site.toml"))
        raise SiteError(f"{source}: no such environment; expected one of {', '.join(known)}")
    try:
        return tomllib.loads(source.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SiteError(f"{source}: is not TOML in UTF-8: {error}") from None


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Two documents as one: where both have a table their keys are joined, else `above` counts."""
    return below | {
        key: merged(below[key], value)
        if isinstance(value, dict) and isinstance(below.get(key), dict)
        else value
        for key, value in above.items()
    }


def parse(document: dict[str, Any], source: Path, instance: str = "up") -> Site:
    """Build a `Site` from the content of a `site.toml`.

    Raises:
        SiteError: as `load`.
    """
    mistakes: list[str] = []
    environment = source.parent.name
    lab = None
    if "lab" in document:
        lab = _validated(Lab, document["lab"], ("lab",), mistakes)
        if lab is not None and instance != "up":
            document, lab = _moved(document, lab, instance, source)
    table = _validated(SiteTable, document.get("site", {}), ("site",), mistakes)
    hosts = document.get("hosts", {})
    known = isinstance(hosts, dict)
    if not known:
        mistakes.append(f"hosts: is no table (found {hosts!r}); expected a table a host")
    host_tables = {
        name: _validated(HostTable, values, ("hosts", name), mistakes)
        for name, values in (hosts.items() if known else ())
    }
    for key in sorted(set(document) - {"site", "hosts", "lab", *ROLES}):
        mistakes.append(
            f"{key}: unknown table; expected site, hosts, lab or a role: {', '.join(ROLES)}"
        )
    settings = {}
    for role in ROLES:
        settings[role] = _validated(settings_model(role), document.get(role, {}), (role,), mistakes)
    host_settings: dict[str, dict[str, Settings]] = {}
    for name, entry in host_tables.items():
        for role, own in (entry.settings if entry else {}).items():
            place = ("hosts", name, "settings", role)
            if role not in ROLES:
                mistakes.append(f"{'.'.join(place)}: unknown role; expected {', '.join(ROLES)}")
                continue
            if not isinstance(document.get(role, {}), dict):
                continue
            merged = {**document.get(role, {}), **own}
            value = _validated(settings_model(role), merged, place, mistakes)
            if value is not None:
                host_settings.setdefault(name, {})[role] = value
    if table is not None and known and all(host_tables.values()):
        _check_whole(table, cast(dict[str, HostTable], host_tables), mistakes)
        books = {
            name: host_settings.get(name, {}).get("addressbook", settings["addressbook"])
            for name in host_tables
        }
        _check_ports(cast(dict[str, HostTable], host_tables), books, mistakes)
    _check_refreshes([settings, *host_settings.values()], mistakes)
    if mistakes:
        raise SiteError("\n".join(f"{source}: {mistake}" for mistake in mistakes))
    assert table is not None  # noqa: S101 - otherwise there were mistakes
    name = environment if instance == "up" or not lab else f"{environment}-{instance}"
    state = ROOT / (".lab" if lab else ".state") / name
    return Site(
        environment=environment,
        folder=source.parent,
        table=table,
        hosts=_hosts(table, cast(dict[str, HostTable], host_tables)),
        settings=cast(dict[str, Settings], settings),
        host_settings=host_settings,
        lab=lab,
        state=state,
        _secrets=secret_files.load(source.parent, state if lab else None),
    )


M = TypeVar("M", bound=BaseModel)


def _validated(
    model: type[M], values: Any, place: tuple[str, ...], mistakes: list[str]
) -> M | None:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        for mistake in error.errors():
            key = ".".join(str(part) for part in (*place, *mistake["loc"]))
            found = "" if mistake["type"] == "missing" else f" (found {mistake['input']!r})"
            if mistake["type"] == "extra_forbidden":
                message = f"unknown key; expected one of {', '.join(model.model_fields)}"
            else:
                message = mistake["msg"].removeprefix("Value error, ")
            mistakes.append(
                f"{key}: {message}{found if repr(mistake['input']) not in message else ''}"
            )
        return None


def _check_whole(table: SiteTable, hosts: dict[str, HostTable], mistakes: list[str]) -> None:
    """Check what no single table can know."""
    for name in hosts:
        if not re.fullmatch(_NAME, name):
            mistakes.append(f"hosts.{name}: is no host name; expected one by the pattern {_NAME}")
    needed = {"directory", "store", "mx", "front", "database", "backup"}
    for group in sorted(needed - {group for entry in hosts.values() for group in entry.groups}):
        mistakes.append(f"hosts: group {group!r} has no host; expected at least one")
    seen: dict[IPv4Address, str] = {}
    for name, entry in hosts.items():
        if entry.address in seen:
            mistakes.append(
                f"hosts.{name}.address: {entry.address} is also that of {seen[entry.address]}; "
                "expected one address a host"
            )
        seen[entry.address] = name
    for alias, name in table.stores.items():
        if name not in hosts or "store" not in hosts[name].groups:
            mistakes.append(
                f"site.stores.{alias}: {name!r} is no host of the group 'store'; expected one of "
                f"{', '.join(sorted(n for n, e in hosts.items() if 'store' in e.groups))}"
            )
        if alias in hosts:
            mistakes.append(
                f"site.stores.{alias}: is also a host's name; expected a name of its own, so that "
                "a standby can take the store over"
            )
    # It stands for every front.
    for place, names in (("hosts", set(hosts)), ("site.stores", set(table.stores))):
        if table.mail_name in names:
            mistakes.append(
                f"{place}.{table.mail_name}: is also site.mail_name; expected a name of its own"
            )


def _check_ports(
    hosts: dict[str, HostTable], books: Mapping[str, Settings | None], mistakes: list[str]
) -> None:
    """Check that the address book and the directory share no port of a host."""
    for name, entry in hosts.items():
        port = getattr(books[name], "port", None)
        if {"directory", "front"} <= {*entry.groups} and port == _LDAPS:
            mistakes.append(
                f"addressbook.port: {port} is the directory's on {name}, which is a front as well; "
                "expected another port there, such as 3269"
            )


def _check_refreshes(tables: Sequence[Mapping[str, Settings | None]], mistakes: list[str]) -> None:
    """Check that what time ends is over within a minute, though two programs wait in turn.

    The second directory host acts 20 s later than the first; the rest is for the work.
    """

    def longest(role: str, name: str) -> int:
        return max(getattr(table.get(role), name, 0) for table in tables)

    waits, then = longest("accounts", "lifecycle_refresh"), longest("mailstore", "access_refresh")
    if waits + then > _REFRESHES:
        mistakes.append(
            f"mailstore.access_refresh: {then} s, after up to {waits} s of "
            f"accounts.lifecycle_refresh; expected at most {_REFRESHES} s together, so that access "
            "ends within a minute"
        )


def _hosts(table: SiteTable, tables: dict[str, HostTable]) -> dict[str, SiteHost]:
    hosts = {}
    for name, entry in tables.items():
        aliases = [f"{alias}.{table.domain}" for alias, at in table.stores.items() if at == name]
        if "front" in entry.groups:
            aliases.insert(0, f"{table.mail_name}.{table.domain}")
        hosts[name] = SiteHost(
            name=name,
            address=str(entry.address),
            groups=tuple(entry.groups),
            domain=table.domain,
            aliases=tuple(aliases),
        )
    return hosts


def _moved(
    document: dict[str, Any], lab: Lab, instance: str, source: Path
) -> tuple[dict[str, Any], Lab]:
    """The document with every address of the lab's network moved to the instance's network."""
    if instance not in lab.instances:
        raise SiteError(
            f"{source}: lab.instances: has no {instance!r}; expected one of up, "
            f"{', '.join(lab.instances)}"
        )
    old = str(lab.network.network_address).removesuffix(".0") + "."
    new = str(lab.instances[instance].network_address).removesuffix(".0") + "."

    def move(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(old):
            return new + value.removeprefix(old)
        if isinstance(value, list):
            return [move(item) for item in value]
        if isinstance(value, dict):
            return {key: move(item) for key, item in value.items() if key != "instances"}
        return value

    moved = move(document)
    return moved, Lab.model_validate({**moved["lab"], "instances": {}})
