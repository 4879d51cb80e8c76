"""The role `mta`, step by step."""

from typing import Any

from pyinfra.api.deploy import deploy

from roles.common.files import Check, ConfigFile, configure, static, template
from roles.common.packages import packages
from roles.common.services import service
from roles.common.site import current_host, current_site
from roles.common.tunnels import tunnel
from roles.common.users import in_group
from roles.mta.values import values

_CHECK_POSTFIX = "/usr/local/libexec/site/check-postfix"
_UNIT = "/etc/systemd/system/postfix.service.d/site.conf"
_SPF = "/etc/postfix-policyd-spf-python/policyd-spf.conf"
_LIMITS = "/etc/policyd-rate-limit.yaml"
_UNITS = "/etc/systemd/system"


@deploy("Mta")
def mta() -> None:
    """Deploy the role."""
    site, host = current_site(), current_host()
    names = values(site, host)

    # Which kind of site this is, the package shall not ask: main.cf says it.
    packages(
        name="Packages",
        names=["postfix", "postfix-ldap", "postfix-lmdb", "postfix-pcre"],
        debconf=["postfix postfix/main_mailer_type select No configuration"],
    )
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
        # The role filtering came before, and the group with it.
        in_group(name="Postfix reaches the milter", user="postfix", group="defang")
    if host.serves("front"):
        _sending_limits(names)

    lookups = ["mailhost"]
    lookups += ["alias", "transport"] if host.serves("mx") else []
    lookups += ["sender", "senders"] if host.serves("front") else []
    # The directory's password is in them. What main.cf names is in place before main.cf is.
    files = [_postfix(f"ldap/{lookup}.cf", names, mode="640") for lookup in sorted(lookups)]
    files += [_postfix(name, names) for name in ("bounce.cf", "master.cf", "main.cf")]
    configuration = configure(
        files,
        absent=sorted(
            f"/etc/postfix/ldap/{lookup}.cf"
            for lookup in {"mailhost", "alias", "transport", "sender", "senders"} - set(lookups)
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
    packages(name="Policy services", names=["postfix-policyd-spf-python", "stunnel4"])
    configure([template("mta", _SPF, **names)], name="SPF")
    tunnel(
        template("mta", "/etc/stunnel/quota-client.conf", **names),
        template("mta", f"{_UNITS}/stunnel@quota-client.service.d/site.conf"),
        unit="stunnel@quota-client.service",
    )


def _sending_limits(names: dict[str, Any]) -> None:
    """What Postfix asks before an official's letter is taken: how much he has sent."""
    units = [
        template("mta", f"{_UNITS}/policyd-rate-limit{name}")
        for name in (".service", "-clean.service", "-clean.timer")
    ]
    # Before the package: its own unit logs in an obsolete way, of which systemd would complain.
    unit = configure(units[:1], name="Limits' unit")
    clean = configure(units[1:], name="Units that forget old counts")
    packages(name="Sending limits", names=["policyd-rate-limit"])
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
        config=[_LIMITS, units[0].path],
        after=[limits, unit],
        name="Limits are counted",
    )
    service(
        "policyd-rate-limit-clean.timer",
        config=[file.path for file in units[1:]],
        after=[clean],
        name="Old counts are forgotten",
    )


def _postfix(name: str, names: dict[str, Any], mode: str = "644") -> ConfigFile:
    group = "postfix" if mode == "640" else "root"
    return template("mta", f"/etc/postfix/{name}", mode=mode, group=group, **names)
