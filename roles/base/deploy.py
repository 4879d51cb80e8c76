"""The role `base`, step by step."""

from pyinfra.api.deploy import deploy
from pyinfra.context import host as pyinfra_host

from roles.base.access import key_files, refuse_lock_out
from roles.base.firewall import rules
from roles.base.operations import (
    admins,
    firewall_loaded,
    fresh_package_lists,
    hostname,
    kernel_parameters,
    parameters,
    timezone,
)
from roles.base.settings import BaseSettings
from roles.common.facts import Container
from roles.common.files import Check, configure, template
from roles.common.packages import NOTHING, Needed, packages
from roles.common.services import masked, service
from roles.common.site import current_host, current_site
from roles.common.users import group

PACKAGES = (
    "ca-certificates", "needrestart", "nftables", "openssh-server", "openssl", "procps", "sudo",
    "tzdata", "unattended-upgrades",
)  # fmt: skip
"""What every host has."""


_ANY_RESOLVER = (
    "for address in $(awk '$1 == \"nameserver\" {print $2}' {/etc/resolv.conf}); do"
    ' timeout 3 bash -c ": < /dev/tcp/$address/53" 2>/dev/null && exit 0; done;'
    " echo 'none of site.resolvers takes a connection on port 53'; exit 1"
)
"""One that answers is enough: the others may be down just now."""


@deploy("Base")
def base(others: Needed = NOTHING) -> None:
    """Deploy the role.

    Args:
        others: what the host's other roles need. All packages at once: role by role, every host
            would wait for the slowest each time.
    """
    site, host = current_site(), current_host()
    settings = site.of(BaseSettings, host.name)
    in_container = pyinfra_host.get_fact(Container)
    refuse_lock_out()

    configure([template("base", "/etc/hosts")], name="Names of the hosts")
    configure([template("base", "/etc/resolv.conf")], check=Check(_ANY_RESOLVER), name="Resolvers")
    hostname(fqdn=host.fqdn, name="The host's name")
    if site.table.package_mirror:
        sources = configure(
            [template("base", "/etc/apt/sources.list.d/site.sources")],
            absent=["/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources"],
            check=Check(
                "apt-get -o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts={tree}"
                " indextargets >/dev/null",
                tree="/etc/apt/sources.list.d",
            ),
            name="The mirror of Debian's packages",
        )
        fresh_package_lists(after=[sources], name="Package lists of that mirror")
    clock_packages = [] if in_container else ["systemd-timesyncd"]
    packages(Needed([*PACKAGES, *clock_packages]) | others, name="Packages")

    ruleset = [
        template("base", "/etc/nftables.conf", rules=rules(site, host)),
        template("base", "/etc/systemd/system/nftables.service.d/site.conf"),
    ]
    nftables = configure(
        ruleset, check=Check("nft -c -f {/etc/nftables.conf}"), name="Firewall rules"
    )
    firewall = service(
        "nftables.service",
        config=[file.path for file in ruleset],
        after=[nftables],
        reload=True,
        name="Firewall",
    )
    firewall_loaded(after=[firewall], name="Firewall, as the kernel has it")

    group(group="site-admins", name="The group of those who may log in")
    admins(wanted=settings.admins, name="Admins")
    keys, no_keys = key_files(settings)
    configure(keys, absent=no_keys, name="Their SSH keys")
    configure(
        [template("base", "/etc/sudoers.d/site-admins", mode="440", settings=settings)],
        check=Check("visudo -c -q -f {/etc/sudoers.d/site-admins}"),
        name="Who may become root",
    )
    ssh_files = [template("base", "/etc/ssh/sshd_config.d/00-site.conf", settings=settings)]
    if settings.banner:
        ssh_files.append(template("base", "/etc/ssh/banner", settings=settings))
    ssh_config = configure(
        ssh_files,
        absent=[] if settings.banner else ["/etc/ssh/banner"],
        check=Check("mkdir -p /run/sshd && sshd -t -f {/etc/ssh/sshd_config.d/00-site.conf}"),
        name="SSH server's configuration",
    )
    service(
        "ssh.service",
        config=["/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d", "/etc/ssh/banner"],
        after=[ssh_config],
        reload=True,
        name="SSH server",
    )

    journal = template("base", "/etc/systemd/journald.conf.d/60-site.conf", settings=settings)
    journal_config = configure([journal], name="The journal's limits")
    service(
        "systemd-journald.service", config=[journal.path], after=[journal_config], name="Journal"
    )
    sysctl = template("base", "/etc/sysctl.d/60-site.conf", settings=settings)
    configure([sysctl], name="Kernel parameters at boot")
    kernel_parameters(wanted=parameters(sysctl.content.decode()), name="Kernel parameters")
    configure([template("base", "/etc/locale.conf")], name="Language")
    timezone(zone=settings.timezone, name="Time zone")
    if not in_container:
        clock = template("base", "/etc/systemd/timesyncd.conf.d/60-site.conf", settings=settings)
        clock_config = configure([clock], name="Time servers")
        service(
            "systemd-timesyncd.service", config=[clock.path], after=[clock_config], name="Clock"
        )

    configure(
        [
            template("base", "/etc/apt/apt.conf.d/20auto-upgrades", settings=settings),
            template("base", "/etc/apt/apt.conf.d/52unattended-upgrades-site", settings=settings),
        ],
        check=Check(
            "APT_CONFIG={/etc/apt/apt.conf.d/20auto-upgrades} apt-config dump >/dev/null &&"
            " APT_CONFIG={/etc/apt/apt.conf.d/52unattended-upgrades-site} apt-config dump"
            " >/dev/null"
        ),
        name="Security upgrades",
    )
    service("apt-daily.timer", config=[], name="When package lists are fetched")
    timer = template(
        "base", "/etc/systemd/system/apt-daily-upgrade.timer.d/site.conf", settings=settings
    )
    upgrades = configure([timer], name="The hour of upgrades")
    service(
        "apt-daily-upgrade.timer", config=[timer.path], after=[upgrades], name="When upgrades run"
    )
    restarts = template("base", "/etc/needrestart/conf.d/site.conf")
    configure(
        [restarts], check=Check(f"perl -wc {{{restarts.path}}}"), name="Restarts after upgrades"
    )
    masked(unit="ctrl-alt-del.target", name="No reboot by a key at the console")
