"""The role `mta`, step by step."""

from typing import Any

from pyinfra.api.deploy import deploy

from roles.common.files import Check, ConfigFile, configure, static, template
from roles.common.packages import POSTFIX, Needed, packages
from roles.common.services import service
from roles.common.site import Site, SiteHost, current_host, current_site
from roles.common.tunnels import tunnel
from roles.common.users import in_group, system_user
from roles.mta.values import LIST_PASSWORD, LISTS, values

_CHECK_POSTFIX = "/usr/local/libexec/site/check-postfix"
_UNIT = "/etc/systemd/system/postfix.service.d/site.conf"
_SPF = "/etc/postfix-policyd-spf-python/policyd-spf.conf"
_LIMITS = "/etc/policyd-rate-limit.yaml"
_UNITS = "/etc/systemd/system"
_LIMITS_UNIT = ("mta", f"{_UNITS}/policyd-rate-limit.service")
"""How the sending limits run."""
_POLICY_SERVICES = ["postfix-policyd-spf-python", "stunnel4"]
"""SPF; the way to the stores' quota services."""
_LOOKUPS = {"mailhost", "further", "list"}
_LOOKUPS_OF_MX = {"alias", "list-transport", "redirect", "transport"}
_LOOKUPS_OF_FRONT = {"sender", "senders", "units"}


def needed(_site: Site, host: SiteHost) -> Needed:
    """Packages."""
    return POSTFIX | Needed(
        [
            "postfix-ldap", "postfix-lmdb", "postfix-pcre",
            # Who may write to a list.
            "python3-ldap",
            *(_POLICY_SERVICES if host.serves("mx") else []),
            *(["policyd-rate-limit"] if host.serves("front") else []),
        ],
        # policyd-rate-limit's own unit logs in an obsolete way, of which systemd would complain.
        templates=[_LIMITS_UNIT] if host.serves("front") else [],
    )  # fmt: skip


@deploy("Mta")
def mta() -> None:
    """Deploy the role."""
    site, host = current_site(), current_host()
    names = values(site, host)

    packages(needed(site, host), name="Packages")
    configure(
        [
            static("mta", "check-postfix", _CHECK_POSTFIX, mode="755"),
            static("mta", "reload", "/etc/site-tls/reload.d/mta", mode="755"),
            template("mta", "/etc/default/postfix"),
        ],
        name="Checker, reload on renewal, no chroot",
    )
    if host.serves("mx"):
        _policy_services(names)
        # The roles of the milters came before, and their groups with them.
        in_group(name="Postfix reaches the scanners", user="postfix", group="defang")
        in_group(name="Postfix reaches the signer", user="postfix", group="opendkim")
    if host.serves("front"):
        _sending_limits(names)

    _lists()
    lookups = set(_LOOKUPS)
    lookups |= _LOOKUPS_OF_MX if host.serves("mx") else set()
    lookups |= _LOOKUPS_OF_FRONT if host.serves("front") else set()
    # The directory's password is in them. What main.cf names is in place before main.cf is.
    files = [_postfix(f"ldap/{lookup}.cf", names, mode="640") for lookup in sorted(lookups)]
    files += [_postfix(name, names) for name in ("bounce.cf", "master.cf", "main.cf")]
    configuration = configure(
        files,
        absent=sorted(
            f"/etc/postfix/ldap/{lookup}.cf"
            for lookup in (_LOOKUPS | _LOOKUPS_OF_MX | _LOOKUPS_OF_FRONT) - lookups
        ),
        check=Check(f"{_CHECK_POSTFIX} {{tree}}", tree="/etc/postfix"),
        name="Configuration",
    )
    unit = configure([template("mta", _UNIT)], name="Unit")
    service(
        "postfix.service",
        config=["/etc/postfix", _UNIT],
        after=[configuration, unit],
        reload=True,
        name="Postfix",
    )


def _policy_services(names: dict[str, Any]) -> None:
    """What Postfix asks on port 25: SPF, and the stores for full mailboxes."""
    configure([template("mta", _SPF, **names)], name="SPF")
    tunnel(
        template("mta", "/etc/stunnel/quota-client.conf", **names),
        template("mta", f"{_UNITS}/stunnel@quota-client.service.d/site.conf"),
        unit="stunnel@quota-client.service",
    )


def _lists() -> None:
    """What Postfix asks who may write to a distribution list, and what delivers to one."""
    sysusers = template("mta", "/etc/sysusers.d/site-lists.conf")
    configure([sysusers], name="The user that the lists' program runs as, described")
    system_user(
        name="The user that the lists' program runs as", user="site-lists", sysusers=sysusers.path
    )
    password = current_site().secrets.directory_postfix_password.get_secret_value().encode()
    configure(
        [
            static("mta", "lists.py", LISTS, mode="755"),
            ConfigFile(LIST_PASSWORD, password, mode="640", group="site-lists"),
        ],
        check=Check(f"python3 {{{LISTS}}} --help >/dev/null"),
        name="Who may write to a list, and who is in it",
    )


def _sending_limits(names: dict[str, Any]) -> None:
    """What Postfix asks before an official's letter is taken: how much he has sent."""
    unit = template(*_LIMITS_UNIT)
    clean = [
        template("mta", f"{_UNITS}/policyd-rate-limit-clean.{kind}")
        for kind in ("service", "timer")
    ]
    forgetting = configure(clean, name="Units that forget old counts")
    in_group(name="Postfix reaches the limits", user="postfix", group="policyd-rate-limit")
    limits = configure(
        [template("mta", _LIMITS, mode="640", group="policyd-rate-limit", **names)],
        check=Check(
            "runuser -u policyd-rate-limit -- policyd-rate-limit"
            f" --file {{{_LIMITS}}} --get-config limits >/dev/null"
        ),
        name="How much one official may send",
    )
    service(
        "policyd-rate-limit.service",
        config=[_LIMITS, unit.path],
        after=[limits],
        name="Limits are counted",
    )
    service(
        "policyd-rate-limit-clean.timer",
        config=[file.path for file in clean],
        after=[forgetting],
        name="Old counts are forgotten",
    )


def _postfix(name: str, names: dict[str, Any], mode: str = "644") -> ConfigFile:
    group = "postfix" if mode == "640" else "root"
    return template("mta", f"/etc/postfix/{name}", mode=mode, group=group, **names)
