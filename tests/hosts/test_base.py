"""The role `base`: names, SSH, the firewall as others see it, the journal, upgrades."""

import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from testinfra.host import Host

from roles.base.access import public_keys
from roles.base.firewall import rules
from roles.base.operations import parameters
from roles.base.settings import BaseSettings
from roles.common.site import Site, SiteHost

DROPPED_AFTER = 2
"""Seconds without any answer after which a connection counts as dropped."""
SURELY = 20
"""The same where an answer is expected: a machine that has much to do begins slowly."""


def listening(host: Host) -> set[int]:
    """TCP ports on which something listens that is not for this host alone."""
    ports = set()
    for line in host.check_output("ss -Hltn").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        address = address.strip("[]").partition("%")[0]
        if address == "*" or not ip_address(address).is_loopback:
            ports.add(int(port))
    return ports


def open_to(site: Site, me: SiteHost, address: str) -> set[int]:
    """The ports of `me` to which the site's table lets `address` connect."""
    return {
        port
        for rule in rules(site, me)
        if not rule.sources
        or any(ip_address(address) in ip_network(source) for source in rule.sources)
        for port in rule.ports
    }


def our_address(me: SiteHost) -> str:
    """The address from which this machine speaks to the host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((me.address, 9))
        return str(probe.getsockname()[0])


def answers(address: str, port: int) -> bool:
    """Whether a connection from here is taken."""
    try:
        socket.create_connection((address, port), timeout=DROPPED_AFTER).close()
    except TimeoutError:
        return False
    return True


def test_every_host_is_found_by_all_its_names(host: Host, site: Site) -> None:
    expected = {
        (name, other.address)
        for other in site.hosts.values()
        for name in (*other.names, other.name)
    }
    names = " ".join(sorted({name for name, _ in expected}))
    found = host.check_output(
        f'for name in {names}; do getent ahostsv4 $name | sed "s/^/$name /"; done'
    )
    assert {tuple(line.split()[:2]) for line in found.splitlines()} == expected


def test_its_own_name_is_the_full_one(host: Host, me: SiteHost) -> None:
    assert host.check_output("hostname --fqdn") == me.fqdn
    assert me.address in host.check_output("getent ahostsv4 %s", me.fqdn)


def test_resolvers_are_the_sites_own_and_answer(host: Host, site: Site) -> None:
    lines = host.file("/etc/resolv.conf").content_string.splitlines()
    found = [line.split()[1] for line in lines if line.startswith("nameserver ")]
    assert found == [str(resolver) for resolver in site.table.resolvers]
    attempts = [f"timeout 3 bash -c ': < /dev/tcp/{address}/53'" for address in found]
    assert host.run(" || ".join(attempts)).succeeded


def test_ssh_takes_keys_only(host: Host, me: SiteHost, ssh_config: Path) -> None:
    effective = dict(
        line.split(" ", 1) for line in host.check_output("sshd -T").splitlines() if " " in line
    )
    expected = {
        "passwordauthentication": "no",
        "kbdinteractiveauthentication": "no",
        "permitrootlogin": "without-password",
        "x11forwarding": "no",
        "authenticationmethods": "publickey",
        "authorizedkeysfile": "/etc/ssh/authorized_keys.d/%u",
    }
    assert {key: effective[key] for key in expected} == expected
    # What the server that runs says to one without a key.
    refused = subprocess.run(
        ["ssh", "-F", ssh_config, "-o", "ControlPath=none", "-o", "PubkeyAuthentication=no",
         "-o", "PreferredAuthentications=password,keyboard-interactive,none", me.name, "true"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 255
    assert "Permission denied (publickey)." in refused.stderr


def test_admins_are_those_of_the_settings(host: Host, site: Site, me: SiteHost) -> None:
    wanted = site.of(BaseSettings, me.name).admins
    members = host.check_output("getent group site-admins").split(":")[3]
    assert {name for name in members.split(",") if name} == set(wanted)
    for name, admin in wanted.items():
        assert host.user(name).password == "*"
        keys = host.file(f"/etc/ssh/authorized_keys.d/{name}").content_string.splitlines()
        assert [key for key in keys if not key.startswith("#")] == public_keys(admin.keys, site)
        assert ("NOPASSWD" in host.check_output("sudo -l -U %s", name)) is admin.sudo


def test_the_kernel_has_the_tables_rules_and_drops_the_rest(
    host: Host, site: Site, me: SiteHost
) -> None:
    objects = json.loads(host.check_output("nft --json list table inet site"))["nftables"]
    policies = {
        entry["chain"]["name"]: entry["chain"]["policy"]
        for entry in objects[1:]
        if "chain" in entry
    }
    assert policies == {"input": "drop", "forward": "drop", "output": "accept"}
    comments = [entry["rule"]["comment"] for entry in objects if "comment" in entry.get("rule", {})]
    assert comments == [rule.comment for rule in rules(site, me)]
    assert host.service("nftables").is_enabled


@pytest.mark.regulation("3")
def test_this_machine_reaches_what_the_table_opens_and_nothing_else(
    host: Host, site: Site, me: SiteHost
) -> None:
    ports = sorted(listening(host))
    with ThreadPoolExecutor(len(ports)) as pool:
        answered = dict(zip(ports, pool.map(partial(answers, me.address), ports), strict=True))
    allowed = open_to(site, me, our_address(me))
    assert answered == {port: port in allowed for port in ports}


def test_the_other_hosts_reach_what_the_table_opens_and_nothing_else(
    host: Host, site: Site, me: SiteHost
) -> None:
    """From this host to all others: whatever is listening there, and SSH."""
    attempts = {
        (other.address, port): port in open_to(site, other, me.address)
        for other in site.hosts.values()
        if other is not me
        for port in (22, *[port for rule in rules(site, other) for port in rule.ports])
    }
    # All at once: each dropped one takes its full time.
    script = "; ".join(
        f"(timeout {SURELY if allowed else DROPPED_AFTER} bash -c ': < /dev/tcp/{address}/{port}'"
        f" 2>/dev/null; echo {address} {port} $?) &"
        for (address, port), allowed in attempts.items()
    )
    output = host.check_output("bash -c %s", script.replace("&;", "&") + " wait")
    dropped = {
        (address, int(port))
        for address, port, code in (line.split() for line in output.splitlines())
        if code == "124"
    }
    assert dropped == {attempt for attempt, allowed in attempts.items() if not allowed}


def test_the_journal_is_kept_within_its_limits(host: Host, site: Site, me: SiteHost) -> None:
    settings = site.of(BaseSettings, me.name)
    assert host.file(f"/var/log/journal/{host.check_output('cat /etc/machine-id')}").is_directory
    config = host.check_output("systemd-analyze cat-config systemd/journald.conf")
    assert f"\nSystemMaxUse={settings.journal_size}\n" in config
    # What it takes on the disk: archived files have holes. They grow in steps of 8 MiB.
    used = int(host.check_output("du -s -B1 /var/log/journal").split()[0])
    assert used <= settings.journal_size + 2**24


@pytest.mark.regulation("7")
def test_security_upgrades_alone_come_by_themselves(host: Host, site: Site, me: SiteHost) -> None:
    settings = site.of(BaseSettings, me.name)
    dump = host.check_output("apt-config dump").splitlines()
    values = dict(line.rstrip(";").split(" ", 1) for line in dump)
    expected = '"1"' if settings.security_upgrades else '"0"'
    assert values["APT::Periodic::Unattended-Upgrade"] == expected
    origins = [line for line in dump if line.startswith("Unattended-Upgrade::Origins-Pattern:: ")]
    assert len(origins) == 1
    assert "-security" in origins[0]
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        assert host.service(timer).is_running
        assert host.service(timer).is_enabled
    schedule = host.check_output("systemctl show -p TimersCalendar --value apt-daily-upgrade.timer")
    assert schedule.count("OnCalendar=") == 1
    assert f"{settings.upgrade_time}:00" in schedule


def test_the_kernels_parameters_are_those_of_the_file(host: Host) -> None:
    wanted = parameters(host.file("/etc/sysctl.d/60-site.conf").content_string)
    found = host.check_output(
        f"for key in {' '.join(wanted)}; do file=/proc/sys/$(echo $key | tr . /);"
        ' test -w $file && echo "$key = $(cat $file)"; done; true'
    )
    own = parameters(found)
    assert own == {key: wanted[key] for key in own}


def test_time_zone_and_language(host: Host, site: Site, me: SiteHost) -> None:
    zone = site.of(BaseSettings, me.name).timezone
    assert host.check_output("readlink /etc/localtime").endswith(f"/zoneinfo/{zone}")
    assert host.check_output("bash -lc 'locale charmap'") == "UTF-8"


def test_the_clock_is_kept(host: Host) -> None:
    if host.run("systemd-detect-virt --container").rc == 0:
        pytest.skip("a container has its machine's clock")
    assert host.service("systemd-timesyncd").is_running
    assert host.check_output("timedatectl show -p NTPSynchronized --value") == "yes"


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
