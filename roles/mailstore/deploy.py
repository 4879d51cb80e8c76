"""The role `mailstore`, step by step."""

from typing import Any

from pyinfra.api.deploy import deploy
from pyinfra.api.operation import OperationMeta

from roles.common.files import Check, ConfigFile, configure, directory, static, template
from roles.common.packages import POSTFIX, Needed, packages
from roles.common.services import service
from roles.common.site import Site, SiteHost, current_host, current_site
from roles.common.tunnels import tunnel
from roles.common.users import group, in_group
from roles.mailstore.facts import UNITS
from roles.mailstore.operations import accounts_file, sieve_compiled, unit_mailboxes, vmail_user
from roles.mailstore.values import VMAIL_ID, values

_CONF = "/etc/dovecot/dovecot.conf"
_LIB = "/usr/local/lib/site-mailstore"
_UNITS = "/etc/systemd/system"
_STATE = "/var/lib/site-mailstore"
_MOVE = "/var/lib/site-move"
_PRIVATE = "/etc/dovecot/private"
_PROXY = [
    "dovecot-core", "dovecot-imapd", "dovecot-pop3d", "dovecot-managesieved", "dovecot-ldap",
    "python3-ldap",
]  # fmt: skip
_BACKEND = ["dovecot-lmtpd", "dovecot-sieve", "dovecot-flatcurve", "ldap-utils", "stunnel4"]
_FRONT = ["dovecot-auth-lua"]


def needed(_site: Site, host: SiteHost) -> Needed:
    """Packages."""
    own = Needed([*_PROXY, *(_BACKEND if host.serves("store") else [])])
    # In Postfix' queue Dovecot answers who may submit; the role `mta` configures it.
    return own | Needed(_FRONT) | POSTFIX if host.serves("front") else own


@deploy("Mailstore")
def mailstore() -> None:
    """Deploy the role."""
    site, host = current_site(), current_host()
    names = values(site, host)
    backend, front = host.serves("store"), host.serves("front")
    packages(needed(site, host), name="Packages")
    if front:
        # As Postfix would make it at its first start, which is after Dovecot's.
        directory(
            name="Where Postfix asks who may submit",
            path="/var/spool/postfix/private",
            mode="700",
            user="postfix",
        )
    directory(name="Folder of passwords", path=_PRIVATE, mode="700")
    secrets = configure(
        [_password("ldap-password", site.secrets.directory_dovecot_password.get_secret_value())],
        absent=[f"{_PRIVATE}/doveadm-password"],
        name="Passwords",
    )
    sieve = _store_files(names) if backend else []
    configure(
        [static("mailstore", "reload", "/etc/site-tls/reload.d/mailstore", mode="755")],
        name="Reload on renewal",
    )
    if front:
        configure(
            [
                static("mailstore", "rehash.lua", "/etc/dovecot/rehash.lua"),
                template("mailstore", f"{_LIB}/rehash", mode="755", **names),
            ],
            check=Check(f"python3 -c 'import ast; ast.parse(open(0).read())' < {{{_LIB}/rehash}}"),
            name="Hashes of another system are stored anew",
        )
    drop_in = template("mailstore", f"{_UNITS}/dovecot.service.d/site.conf", **names)
    configuration = configure(
        [template("mailstore", _CONF, **names), drop_in],
        check=Check(
            f'said=$(doveconf -n -c {{{_CONF}}} 2>&1 >/dev/null); test -z "$said"'
            ' || { echo "$said"; false; }'
        ),
        name="Configuration",
    )
    if backend:
        # With the extensions that the configuration allows.
        sieve_compiled(name="Sieve scripts, compiled", after=sieve)
    service(
        "dovecot.service",
        config=[_CONF, _PRIVATE, drop_in.path],
        after=[secrets, configuration],
        reload=True,
        name="Dovecot",
    )
    _access(names)
    if backend:
        _store_services(names)


def _password(name: str, text: str) -> ConfigFile:
    # Without an end of line: ldapsearch would take it for a part of the password.
    return ConfigFile(f"{_PRIVATE}/{name}", text.encode(), mode="600")


def _access(names: dict[str, Any]) -> None:
    """What ends a log-in that the directory allows no longer."""
    files = [
        static("mailstore", "access.py", f"{_LIB}/access", mode="755"),
        template("mailstore", f"{_UNITS}/site-access.service", **names),
    ]
    program = configure(
        files,
        check=Check(f"python3 {{{_LIB}/access}} --help >/dev/null"),
        name="Files of site-access",
    )
    service(
        "site-access.service",
        config=[file.path for file in files],
        after=[program],
        name="Whoever may no longer is out",
    )


def _store_files(names: dict[str, Any]) -> list[OperationMeta]:
    """What Dovecot on a store reads and runs; the operations that write Sieve scripts."""
    vmail_user(name="Owner of all mail", uid=VMAIL_ID)
    group(name="Who hands letters to the learner", group="site-learn")
    in_group(name="The owner of mail does", user="vmail", group="site-learn")
    directory(name="Mail", path="/var/vmail", mode="700", user="vmail", group="vmail")
    directory(
        name="State of the unit mailboxes", path=_STATE, mode="700", user="vmail", group="vmail"
    )
    # Dovecot's auth process reads it, who is neither root nor the owner of mail.
    directory(name="Folder of accounts that are being moved", path=_MOVE, mode="755")
    accounts_file(name="Accounts that are being moved", path=f"{_MOVE}/closed")
    directory(name="Spool of the learner", path="/var/spool/site-learn", mode="755")
    for kind in ("spam", "ham"):
        directory(
            name=f"Spool of {kind}",
            path=f"/var/spool/site-learn/{kind}",
            mode="2770",
            user="vmail",
            group="site-learn",
        )
    configure(
        [
            static("mailstore", "learn", f"{_LIB}/sieve/learn", mode="755"),
            template("mailstore", f"{_LIB}/sieve/filed-once", mode="755"),
            template("mailstore", f"{_LIB}/quota-warning", mode="755", **names),
            template("mailstore", UNITS, mode="755", **names),
            template("mailstore", f"{_LIB}/retention", mode="755", **names),
            static("mailstore", "move.py", f"{_LIB}/move", mode="755"),
        ],
        check=Check(
            f"sh -n {{{_LIB}/sieve/learn}} && sh -n {{{_LIB}/sieve/filed-once}}"
            f" && sh -n {{{_LIB}/quota-warning}}"
            f" && sh -n {{{_LIB}/retention}} && perl -wc {{{UNITS}}}"
            f" && python3 {{{_LIB}/move}} --help >/dev/null"
        ),
        name="Programs of the store",
    )
    sieve = configure(
        [
            static("mailstore", "learn.sieve", "/etc/dovecot/sieve/learn.sieve"),
            static("mailstore", "spam.sieve", "/etc/dovecot/sieve/spam.sieve"),
            static("mailstore", "unit-filed.sieve", "/etc/dovecot/sieve/unit-filed.sieve"),
            template("mailstore", "/etc/dovecot/sieve/unit-sent.sieve", **names),
        ],
        name="Sieve scripts",
    )
    return [sieve]


def _store_services(names: dict[str, Any]) -> None:
    """What runs beside Dovecot on a store."""
    script = template("mailstore", UNITS, **names)
    unit_mailboxes(name="Unit mailboxes", script=script.content)
    for job, what in (
        ("units", "New unit mailboxes, soon"),
        ("retention", "Retention, every night"),
    ):
        timer = [
            template("mailstore", f"{_UNITS}/site-{job}.{kind}", **names)
            for kind in ("service", "timer")
        ]
        units = configure(timer, name=f"Units of site-{job}")
        service(
            f"site-{job}.timer",
            config=[file.path for file in timer],
            after=[units],
            name=what,
        )
    tunnel(
        template("mailstore", "/etc/stunnel/quota-server.conf"),
        template("mailstore", f"{_UNITS}/stunnel@quota-server.service.d/site.conf"),
        unit="stunnel@quota-server.service",
    )
