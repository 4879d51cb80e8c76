"""The role `publicdirectory`: what runs, as whom, what it may read, and that it is up to date."""

import json
from datetime import datetime, timedelta

import pytest
from testinfra.host import Host

from roles.common.site import Site, SiteHost
from roles.directory.tree import service_dn
from roles.publicdirectory.deploy import CONFIG, LIB, OUTPUT, PASSWORD, USER
from roles.publicdirectory.publish import CHECKED
from roles.publicdirectory.settings import PublicDirectorySettings

SERVICE = "site-publicdirectory.service"
CURRENT = f"{OUTPUT}/current"
SLACK = timedelta(minutes=2)
"""How much later than its interval a timer may come on a slow machine."""


def test_it_runs_and_begins_with_the_host(host: Host) -> None:
    timer = host.service("site-publicdirectory.timer")
    assert timer.is_running
    assert timer.is_enabled
    assert host.check_output("systemctl show --value -p Result %s", SERVICE) == "success"


def test_its_user_is_nobody_else(host: Host) -> None:
    assert host.check_output("systemctl show --value -p User %s", SERVICE) == USER
    assert host.user(USER).shell == "/usr/sbin/nologin"
    exposure = host.check_output("systemd-analyze security --no-pager %s | tail -n 1", SERVICE)
    assert float(exposure.rpartition(": ")[2].split()[0]) < 2.5, exposure


def test_only_it_reads_its_password(host: Host) -> None:
    file = host.file(PASSWORD)
    assert (file.mode, file.user, file.group) == (0o640, "root", USER)
    assert host.check_output("getent group %s", USER).rpartition(":")[2] == ""


def test_only_it_writes_the_pages_and_everybody_reads_them(host: Host) -> None:
    strange = host.check_output(
        "find %s ! -type l '(' ! -user %s -o -perm /022 -o ! -perm -004 ')'", OUTPUT, USER
    )
    assert strange == ""
    assert host.check_output("find %s ! -user root -o -perm /022", LIB) == ""


def test_the_configuration_on_disk_is_good(host: Host) -> None:
    module = "roles.publicdirectory.publish"
    host.check_output(f"cd {LIB} && python3 -B -m {module} --check {CONFIG}")


@pytest.mark.regulation("8")
def test_the_pages_are_up_to_date(host: Host, site: Site, me: SiteHost) -> None:
    refresh = timedelta(seconds=site.of(PublicDirectorySettings, me.name).refresh)
    checked = json.loads(host.file(f"{CURRENT}/{CHECKED}").content_string)["checked"]
    now = datetime.fromisoformat(host.check_output("date --iso-8601=seconds"))
    assert now - datetime.fromisoformat(checked) < refresh + SLACK
    assert host.file(f"{CURRENT}/index.html").contains('<html lang="vi">')


@pytest.mark.regulation("8")
def test_what_is_not_public_it_cannot_ask_for(host: Host, site: Site) -> None:
    search = (
        f"LDAPTLS_CACERT=/etc/site-tls/ca.pem runuser -u {USER} -- ldapsearch -x -LLL"
        f" -H ldaps://{site.group('directory')[0].fqdn} -D {service_dn(site, 'publicdirectory')}"
        f" -y {PASSWORD} -b {site.base_dn}"
    )
    found = host.check_output(f"{search} '(objectClass=mailboxAccount)' mail cn")
    assert "\nmail: " in found
    secret = "mailHost mailLocalAddress mailboxState mailboxQuota userPassword employeeNumber sn"
    found = host.check_output(f"{search} '(objectClass=*)' {secret}")
    assert [line for line in found.splitlines() if line and not line.startswith("dn")] == []
    assert "ou=services" not in found.replace("dn: ou=services", "")


def test_nothing_went_wrong_since_it_was_deployed(host: Host) -> None:
    since = host.check_output(
        "systemctl show --value --timestamp=unix -p ActiveEnterTimestamp site-publicdirectory.timer"
    )
    found = host.check_output(
        f"journalctl --no-pager -q -o cat -p warning --since={since} -u {SERVICE}"
    )
    assert found == ""
