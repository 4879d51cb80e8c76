"""The entries that every directory has: containers, services, password policies."""

import hashlib

from passlib.hash import argon2

from roles.common.site import Site
from roles.directory.ldif import Attributes
from roles.directory.settings import DirectorySettings

CONTAINERS = ("units", "people", "mailboxes", "lists", "reservations", "domains")
"""What the registry fills."""
SERVICES = ("postfix", "dovecot", "webmail", "accounts", "replicator")
"""Who binds, besides people: `cn=NAME,ou=services`."""


def service_dn(site: Site, name: str) -> str:
    """The name under which a service binds."""
    return f"cn={name},ou=services,{site.base_dn}"


def hashed(password: str, settings: DirectorySettings, salt: bytes | None = None) -> str:
    """A password as `userPassword` holds it.

    Args:
        password: in clear.
        settings: what hashing costs.
        salt: 16 bytes; random by default.
    """
    options = {"salt": salt} if salt else {}
    scheme = argon2.using(
        type="ID",
        memory_cost=settings.argon2_memory // 1024,
        time_cost=settings.argon2_passes,
        parallelism=settings.argon2_lanes,
        **options,
    )
    return f"{{ARGON2}}{scheme.hash(password)}"


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
    result.append((f"cn=default,ou=policies,{base}", _people_policy(settings)))
    result.append((f"cn=services,ou=policies,{base}", _services_policy()))
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
                    "userPassword": [hashed(password, settings, salt)],
                    "pwdPolicySubentry": [f"cn=services,ou=policies,{base}"],
                },
            )
        )
    return result


def _container(name: str) -> Attributes:
    return {"objectClass": ["organizationalUnit"], "ou": [name]}


def _people_policy(settings: DirectorySettings) -> Attributes:
    """The policy of everyone who has no other (article 13)."""
    return {
        "objectClass": ["namedPolicy", "pwdPolicy"],
        "cn": ["default"],
        "pwdAttribute": ["userPassword"],
        # 2: what cannot be checked is refused, such as a hash that somebody sends for himself.
        "pwdCheckQuality": ["2"],
        "pwdMinLength": [str(settings.password_length)],
        "pwdInHistory": [str(settings.password_history)],
        "pwdMaxAge": [str(settings.password_age)],
        "pwdExpireWarning": [str(settings.password_warning)],
        "pwdMustChange": [_boolean(settings.password_change_first)],
        "pwdAllowUserChange": ["TRUE"],
        "pwdLockout": ["TRUE"],
        "pwdMaxFailure": [str(settings.lockout_failures)],
        "pwdFailureCountInterval": [str(settings.lockout_window)],
        "pwdLockoutDuration": [str(settings.lockout_duration)],
        "pwdMinDelay": [str(settings.delay_first)],
        "pwdMaxDelay": [str(settings.delay_longest)],
    }


def _services_policy() -> Attributes:
    """Services are never locked out: that would let anyone with a wrong password stop the mail."""
    return {
        "objectClass": ["namedPolicy", "pwdPolicy"],
        "cn": ["services"],
        "pwdAttribute": ["userPassword"],
        "pwdLockout": ["FALSE"],
    }


def _boolean(value: bool) -> str:
    return "TRUE" if value else "FALSE"
