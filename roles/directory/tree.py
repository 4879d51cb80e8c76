"""The entries that every directory has: containers, services, password policies."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from passlib.hash import argon2

from roles.common.site import Site
from roles.directory.facts import WORDS
from roles.directory.ldif import Attributes, Change
from roles.directory.settings import DirectorySettings

CONTAINERS = ("units", "people", "mailboxes", "lists", "reservations", "domains")
"""What the registry fills."""
_CHECKED = f"""\
minQuality 0
useCracklib 1
cracklibDict {WORDS}/words
checkAttributes searchName,displayName,mail,departmentNumber
"""
"""What slapd's module ppm looks at: no kinds of letters, but whether a password is made of a word
that everybody knows, or holds a part of its owner's name, address or unit."""
SERVICES = (
    "postfix",
    "dovecot",
    "webmail",
    "accounts",
    "replicator",
    "publicdirectory",
    "archive",
    "addressbook",
)
"""Who binds, besides people: `cn=NAME,ou=services`."""


def service_dn(site: Site, name: str) -> str:
    """The name under which a service binds."""
    return f"cn={name},ou=services,{site.base_dn}"


def policy_dn(site: Site, name: str) -> str:
    """The name of a password policy, other than that of everyone."""
    return f"cn={name},ou=policies,{site.base_dn}"


def one_time(site: Site, dn: str, password: str, now: datetime) -> Change:
    """The change that gives a person a password of the help desk.

    It opens the webmail only, where it must be changed, within `onetime_valid`; then nothing is
    left of it. A lock ends with it.

    Args:
        site: the site.
        dn: the person.
        password: in clear.
        now: from when it counts; with a time zone.
    """
    settings = site.of(DirectorySettings)
    end = now + timedelta(seconds=settings.onetime_valid)
    return Change(
        "modify",
        dn,
        {
            "userPassword": [hashed(password, settings)],
            "pwdReset": ["TRUE"],
            "pwdEndTime": [f"{end.astimezone(UTC):%Y%m%d%H%M%SZ}"],
        },
    )


def hashed(password: str, settings: DirectorySettings) -> str:
    """A password as `userPassword` holds it.

    Args:
        password: in clear.
        settings: what hashing costs.
    """
    return _argon2id(
        password,
        memory_cost=settings.argon2_memory // 1024,
        time_cost=settings.argon2_passes,
        parallelism=settings.argon2_lanes,
    )


def hashed_generated(password: str, settings: DirectorySettings, salt: bytes | None = None) -> str:
    """A generated password as `userPassword` holds it.

    Args:
        password: in clear.
        settings: what hashing costs.
        salt: 16 bytes; random by default.
    """
    memory = settings.generated_hash_memory // 1024
    salted = {"salt": salt} if salt else {}
    return _argon2id(password, memory_cost=memory, time_cost=1, parallelism=1, **salted)


def _argon2id(password: str, **cost: Any) -> str:
    return f"{{ARGON2}}{argon2.using(type='ID', **cost).hash(password)}"


def tree(site: Site, settings: DirectorySettings) -> list[tuple[str, Attributes]]:
    """The entries, parents first."""
    base = site.base_dn
    label = site.domain.split(".", 1)[0]
    result: list[tuple[str, Attributes]] = [
        (
            base,
            {
                "objectClass": ["dcObject", "organization"],
                "dc": [label],
                "o": [site.table.organisation],
            },
        )
    ]
    # The policies first: the overlay asks for them at every further entry.
    result.append((f"ou=policies,{base}", _container("policies")))
    for name, policy in policies(settings).items():
        result.append((policy_dn(site, name), policy))
    for name in ("services", *CONTAINERS):
        result.append((f"ou={name},{base}", _container(name)))
    for name in SERVICES:
        password = getattr(site.secrets, f"directory_{name}_password").get_secret_value()
        # The salt is the password's own digest, so that the same password makes the same entry
        # and a second run finds nothing to change. These passwords are random, 190 bits.
        salt = hashlib.sha256(f"{name}:{password}".encode()).digest()[:16]
        result.append(
            (
                service_dn(site, name),
                {
                    "objectClass": ["applicationProcess", "simpleSecurityObject"],
                    "cn": [name],
                    "userPassword": [hashed_generated(password, settings, salt)],
                    "pwdPolicySubentry": [policy_dn(site, "services")],
                },
            )
        )
    return result


def policies(settings: DirectorySettings) -> dict[str, Attributes]:
    """The password policies by name; `default` is that of everyone who has no other."""
    people: Attributes = {
        "objectClass": ["namedPolicy", "pwdPolicy", "pwdPolicyChecker"],
        "pwdAttribute": ["userPassword"],
        # 2: what cannot be checked is refused, such as a hash that somebody sends for himself.
        "pwdCheckQuality": ["2"],
        "pwdUseCheckModule": ["TRUE"],
        "pwdCheckModuleArg": [_CHECKED],
        "pwdMinLength": [str(settings.password_length)],
        "pwdInHistory": [str(settings.password_history)],
        "pwdMaxAge": [str(settings.password_age)],
        "pwdExpireWarning": [str(settings.password_warning)],
        "pwdMustChange": ["TRUE" if settings.password_change_first else "FALSE"],
        "pwdAllowUserChange": ["TRUE"],
        "pwdLockout": ["TRUE"],
        "pwdMaxFailure": [str(settings.lockout_failures)],
        "pwdFailureCountInterval": [str(settings.lockout_window)],
        "pwdLockoutDuration": [str(settings.lockout_duration)],
        "pwdMinDelay": [str(settings.delay_first)],
        "pwdMaxDelay": [str(settings.delay_longest)],
    }
    unlocked: Attributes = {
        "objectClass": ["namedPolicy", "pwdPolicy"],
        "pwdAttribute": ["userPassword"],
        "pwdLockout": ["FALSE"],
    }
    named = {
        "default": people,
        # A hash of another system: the same password may be stored anew, as Argon2id, by its owner.
        "imported": {
            **people,
            "pwdCheckQuality": ["0"],
            "pwdUseCheckModule": ["FALSE"],
            "pwdMinLength": ["0"],
            "pwdInHistory": ["0"],
            "pwdMaxAge": ["0"],
            "pwdMustChange": ["FALSE"],
        },
        # Generated, too long to be guessed; nobody shall be able to lock somebody's phone out.
        "applications": {**unlocked, "pwdAllowUserChange": ["FALSE"]},
        # Never locked out: that would let anyone with a wrong password stop the mail.
        "services": unlocked,
    }
    return {name: {**policy, "cn": [name]} for name, policy in named.items()}


def _container(name: str) -> Attributes:
    return {"objectClass": ["organizationalUnit"], "ou": [name]}
