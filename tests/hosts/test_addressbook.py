"""The role `addressbook`: what runs, as whom, where it answers, and what it holds. Read-only."""

import re

import pytest
from testinfra.host import Host

from roles.addressbook.deploy import CONFIG, LDAPI, LDIF, LIB, LOGIN, PASSWORD, STATE, UNITS, USER
from roles.addressbook.settings import AddressBookSettings
from roles.common.site import Site, SiteHost
from roles.directory.ldif import entries
from roles.directory.tree import service_dn

MIRROR = "site-addressbook-mirror"
RUNNING = [*UNITS, f"{MIRROR}.timer"]
AS_ROOT = f"ldapsearch -Q -Y EXTERNAL -H ldapi://{LDAPI.replace('/', '%2F')} -LLL -o ldif-wrap=no"
DOWN = (
    """["'](Can't contact LDAP server|Timed out|Connect error|Server is (busy|unavailable))["']"""
)
HERE = "/run/site-addressbook/slapd.d"


USUAL = re.compile(
    # slapd: what it is, its start and end, names that cannot be read, slow clients.
    r"olcSuffix: value #0: suffix DN empty and default search base provided .*"
    r"|@\(#\) \$OpenLDAP: .*|\s*Debian OpenLDAP Maintainers .*"
    r"|slapd (starting|stopped)\.?|(daemon|slapd): shutdown .*|slapd shutdown: .*"
    r"|conn=\d+ op=\d+ do_bind: invalid dn .*"
    r"|connection_input: conn=\d+ deferring operation: .*"
    r"|connection_read\(\d+\): no connection!"
    # The copy: what it took over, and directories that were down.
    r"|\d+ changes"
    rf"|ldaps://[a-z0-9.-]+(:636)?/?: does not answer: \{{.*'desc': {DOWN}.*\}}"
    r"|no directory answers( just now)?; the address book stays as it is"
)


def as_the_role(site: Site) -> str:
    """A search in the directory by the role's own account."""
    return (
        "LDAPTLS_CACERT=/etc/site-tls/ca.pem ldapsearch -x -LLL -o ldif-wrap=no"
        f" -H ldaps://{site.group('directory')[0].fqdn} -D {service_dn(site, 'addressbook')}"
        f" -y {PASSWORD} -b {site.base_dn}"
    )


@pytest.mark.parametrize("unit", RUNNING)
def test_it_runs_and_begins_with_the_host(host: Host, unit: str) -> None:
    assert host.service(unit).is_running
    assert host.service(unit).is_enabled


@pytest.mark.parametrize("unit", [*UNITS, f"{MIRROR}.service"])
def test_it_runs_as_nobody_else(host: Host, unit: str) -> None:
    assert host.check_output("systemctl show --value -p User %s", unit) == USER
    exposure = host.check_output("systemd-analyze security --no-pager %s | tail -n 1", unit)
    assert float(exposure.rpartition(": ")[2].split()[0]) < 2.5, exposure
    assert host.user(USER).shell == "/usr/sbin/nologin"


def test_the_packages_own_slapd_runs_on_directory_hosts_alone(host: Host, me: SiteHost) -> None:
    assert host.service("slapd").is_running == me.serves("directory")
    if not me.serves("directory"):
        assert host.service("slapd").is_masked


def test_it_answers_by_tls_only_on_one_port(host: Host, site: Site, me: SiteHost) -> None:
    port = site.of(AddressBookSettings, me.name).port
    listening = {line.split()[3] for line in host.check_output("ss -Hltn").splitlines()}
    assert f"0.0.0.0:{port}" in listening
    assert not [where for where in listening if where.endswith(":389")]
    shown = host.check_output(
        "openssl s_client -connect 127.0.0.1:%s -servername %s -verify_hostname %s"
        " -CAfile /etc/site-tls/ca.pem -verify_return_error -brief </dev/null 2>&1",
        str(port),
        site.mail_name,
        site.mail_name,
    )
    assert "Verification: OK" in shown


@pytest.mark.parametrize(
    ("path", "mode", "user"),
    [
        (CONFIG, 0o644, "root"),
        (LDIF, 0o644, "root"),
        (PASSWORD, 0o640, "root"),
        (STATE, 0o700, USER),
        (f"{STATE}/book/data.mdb", 0o600, USER),
        (HERE, 0o700, USER),
        ("/run/site-addressbook", 0o700, USER),
        ("/run/site-addressbook-login", 0o700, USER),
        ("/etc/site-tls/reload.d/addressbook", 0o755, "root"),
    ],
)
def test_files_are_closed(host: Host, path: str, mode: int, user: str) -> None:
    file = host.file(path)
    assert (file.mode, file.user) == (mode, user)
    assert host.file(LOGIN).is_socket


def test_nobody_but_root_writes_its_programs(host: Host) -> None:
    assert host.check_output("find %s ! -user root -o -perm /022", LIB) == ""


def test_what_runs_is_what_is_on_disk(host: Host) -> None:
    host.check_output(f"cmp {LDIF} {STATE}/slapd.ldif")
    host.check_output(f"cd {LIB} && python3 -B -m roles.addressbook.configuration {CONFIG}")
    running = entries(
        host.check_output(f"slapcat -F {HERE} -o ldif-wrap=no -n0 2>/dev/null").splitlines()
    )
    main = running["cn=config"]
    assert main["olcRequires"] == ["authc"]
    assert main["olcDisallows"] == ["bind_anon"]
    assert main["olcTLSProtocolMin"] == ["3.3"]
    assert main["olcSecurity"] == ["simple_bind=128"]
    assert not [dn for dn, entry in running.items() if "olcRootPW" in entry]


@pytest.mark.regulation("13")
def test_the_copy_holds_no_password_and_no_state(host: Host, site: Site) -> None:
    copy = entries(host.check_output(f"{AS_ROOT} -b {site.base_dn} '*' +").splitlines())
    held = {name for entry in copy.values() for name in entry}
    assert "mail" in held
    assert not [name for name in held if name.startswith(("userPassword", "pwd", "mailbox"))]


@pytest.mark.regulation("8")
def test_the_copy_has_as_many_units_as_the_directory(host: Host, site: Site) -> None:
    # 75, that no directory answered, is a success to systemd; here it is none.
    for name, value in {"Result": "success", "ExecMainStatus": "0"}.items():
        said = host.check_output("systemctl show --value -p %s %s", name, f"{MIRROR}.service")
        assert said == value
    shown = "(&(objectClass=unitProfile)(!(directoryHidden=\\2a)))"
    known = host.check_output(f"{as_the_role(site)} '{shown}' ou | grep -c ^ou:")
    copied = host.check_output(
        f"{AS_ROOT} -b {site.base_dn} '(objectClass=organizationalUnit)' 1.1 | grep -c ^dn:"
    )
    assert int(copied) == int(known) > 0


def test_what_nobody_needs_its_account_cannot_ask_for(host: Host, site: Site) -> None:
    secret = "mailHost mailLocalAddress mailboxQuota userPassword pwdHistory employeeNumber sn"
    found = host.check_output(f"{as_the_role(site)} '(objectClass=*)' {secret}")
    assert [line for line in found.splitlines() if line and not line.startswith("dn")] == []


def test_nothing_went_wrong_since_it_was_deployed(host: Host) -> None:
    since = host.check_output(
        f"systemctl show --value --timestamp=unix -p ActiveEnterTimestamp {UNITS[1]}"
    )
    log = host.check_output(
        f"journalctl --no-pager -q -o cat --since={since} -t site-addressbook -t {MIRROR}"
        # A name that somebody gave need not be UTF-8.
        r" | LC_ALL=C tr -d '\200-\377'"
    )
    assert [line for line in log.splitlines() if line.strip() and not USUAL.fullmatch(line)] == []
