"""The role `directory`: slapd as it runs, its files, its policy, its replicas. Read-only."""

import json
import re
from pathlib import Path

import pytest
import testinfra
from testinfra.host import Host

from roles.accounts.settings import AccountsSettings
from roles.common.site import Site, SiteHost
from roles.directory.facts import WORDS
from roles.directory.ldif import entries
from roles.directory.settings import DirectorySettings
from roles.directory.tree import SERVICES
from tests.waiting import until

AS_ROOT = "ldapsearch -Q -Y EXTERNAL -H ldapi:/// -LLL -o ldif-wrap=no"
ASK = """
import ctypes, os, sys
check = ctypes.CDLL("libcrack.so.2").FascistCheck
check.restype = ctypes.c_char_p
print("refused" if check(os.fsencode(sys.argv[1]), os.fsencode(sys.argv[2])) else "accepted")
"""
"""Asks cracklib as slapd does."""
DATABASES = {"/var/lib/ldap/mail": "map_size", "/var/lib/ldap/accesslog": "audit_map_size"}


def running_config(host: Host) -> dict[str, dict[str, list[str]]]:
    """cn=config as slapd runs it, by DN."""
    return entries(host.check_output(f"{AS_ROOT} -b cn=config '(!(cn=*core))'").splitlines())


def test_slapd_runs_and_starts_at_boot(host: Host) -> None:
    service = host.service("slapd")
    assert service.is_running
    assert service.is_enabled


def test_slapd_is_nobody_else(host: Host) -> None:
    # A front's address book is another slapd.
    pid = int(host.check_output("systemctl show --value -p MainPID slapd"))
    process = host.process.get(pid=pid)
    assert process.user == "openldap"
    protection = host.check_output(
        "systemctl show slapd -p ProtectSystem -p NoNewPrivileges -p Restart -p LogRateLimitBurst"
    )
    assert "ProtectSystem=strict" in protection
    assert "NoNewPrivileges=yes" in protection
    assert "Restart=on-failure" in protection


def test_slapd_listens_with_tls_only(host: Host) -> None:
    listening = host.check_output("ss -Hltn").splitlines()
    ports = {line.split()[3].rpartition(":")[2] for line in listening}
    assert "636" in ports
    assert "389" not in ports


@pytest.mark.parametrize(
    ("path", "mode", "user"),
    [
        ("/etc/ldap/slapd.ldif", 0o600, "root"),
        ("/etc/ldap/slapd.d", 0o700, "openldap"),
        ("/var/lib/ldap/mail", 0o700, "openldap"),
        ("/var/lib/ldap/mail/data.mdb", 0o600, "openldap"),
        ("/var/lib/ldap/accesslog", 0o700, "openldap"),
        ("/var/lib/ldap/accesslog/data.mdb", 0o600, "openldap"),
        ("/etc/site-tls/reload.d/directory", 0o755, "root"),
    ],
)
def test_files_are_closed(host: Host, path: str, mode: int, user: str) -> None:
    file = host.file(path)
    assert (file.mode, file.user) == (mode, user)


def test_nothing_is_left_of_a_run(host: Host) -> None:
    left = ("/etc/ldap/slapd.d.new", "/etc/ldap/slapd.d.old", "/run/site-directory.ldif")
    assert [path for path in left if host.file(path).exists] == []


def test_the_running_configuration_is_strict(host: Host, site: Site, me: SiteHost) -> None:
    config = running_config(host)
    main = config["cn=config"]
    assert main["olcTLSProtocolMin"] == ["3.3"]
    assert main["olcSecurity"] == ["simple_bind=128"]
    assert main["olcRequires"] == ["authc"]
    assert main["olcDisallows"] == ["bind_anon"]
    assert main["olcServerID"] == [str(site.group("directory").index(me) + 1)]
    assert config["olcdatabase={-1}frontend,cn=config"]["olcPasswordHash"] == ["{ARGON2}"]
    data = config["olcdatabase={2}mdb,cn=config"]
    assert data["olcSuffix"] == [site.base_dn]
    assert "olcRootPW" not in data
    assert len(data.get("olcSyncrepl", [])) == len(site.group("directory")) - 1


@pytest.mark.regulation("13")
def test_the_password_policy_is_the_settings(host: Host, site: Site, me: SiteHost) -> None:
    settings = site.of(DirectorySettings, me.name)
    ((_, policy),) = entries(
        host.check_output(
            f"{AS_ROOT} -s base -b 'cn=default,ou=policies,{site.base_dn}'"
        ).splitlines()
    ).items()
    assert policy["pwdMinLength"] == [str(settings.password_length)]
    assert policy["pwdInHistory"] == [str(settings.password_history)]
    assert policy["pwdLockout"] == ["TRUE"]
    assert policy["pwdMaxFailure"] == [str(settings.lockout_failures)]
    assert policy["pwdLockoutDuration"] == [str(settings.lockout_duration)]
    assert policy["pwdFailureCountInterval"] == [str(settings.lockout_window)]
    assert policy["pwdMinDelay"] == [str(settings.delay_first)]
    assert policy["pwdMaxDelay"] == [str(settings.delay_longest)]
    assert policy["pwdMaxAge"] == [str(settings.password_age)]
    assert policy["pwdExpireWarning"] == [str(settings.password_warning)]
    assert policy["pwdCheckQuality"] == ["2"]
    assert policy["pwdUseCheckModule"] == ["TRUE"]
    assert policy["pwdMustChange"] == [str(settings.password_change_first).upper()]


@pytest.mark.regulation("13")
def test_a_new_password_is_compared_with_a_list(host: Host) -> None:
    overlay = running_config(host)["olcoverlay={2}ppolicy,olcdatabase={2}mdb,cn=config"]
    assert overlay["olcPPolicyCheckModule"] == ["ppm.so"]
    # slapd ends where it cannot read a list that is there.
    host.check_output(
        f"runuser -u openldap -- sha256sum {WORDS}/words.pwd {WORDS}/words.pwi {WORDS}/words.hwm"
    )
    said = host.check_output(
        "printf '%s\n' tiengiang2026 'NguyenVanBinh@1985' 'Mật khẩu 2026' matkhau123456"
        f" | while read -r word; do python3 -c '{ASK}' \"$word\" {WORDS}/words; done"
    )
    assert said.splitlines() == ["refused"] * 4


@pytest.mark.regulation("15")
def test_the_audit_log_is_kept_as_long_as_set(host: Host, site: Site, me: SiteHost) -> None:
    overlay = running_config(host)["olcoverlay={1}accesslog,olcdatabase={2}mdb,cn=config"]
    days = site.of(DirectorySettings, me.name).audit_kept // 86400
    assert overlay["olcAccessLogPurge"] == [f"{days}+00:00 01+00:00"]
    assert overlay["olcAccessLogOps"] == ["writes"]


def test_every_hash_is_argon2id(host: Host, site: Site) -> None:
    """Save those of a former system whose owners have not logged in yet.

    Only the kind is read; the hashes stay on the host.
    """
    imported = f"cn=imported,ou=policies,{site.base_dn}"
    kinds = host.check_output(
        "runuser -u openldap -- slapcat -F /etc/ldap/slapd.d -o ldif-wrap=no "
        f"-b '{site.base_dn}' -a '(!(pwdPolicySubentry={imported}))'"
        " | sed -n 's/^userPassword:: //p' | while read -r value; do"
        " printf %s \"$value\" | base64 -d | cut -d'$' -f1-2; echo; done | grep . | sort -u"
    )
    assert kinds.splitlines() == ["{ARGON2}$argon2id"]


def test_every_service_has_an_account_that_is_never_locked(host: Host, site: Site) -> None:
    found = entries(
        host.check_output(
            f"{AS_ROOT} -s one -b 'ou=services,{site.base_dn}' pwdPolicySubentry"
        ).splitlines()
    )
    assert found == {
        f"cn={name},ou=services,{site.base_dn}": {
            "pwdPolicySubentry": [f"cn=services,ou=policies,{site.base_dn}"]
        }
        for name in SERVICES
    }


@pytest.mark.parametrize("folder", DATABASES)
def test_a_database_has_room(host: Host, site: Site, me: SiteHost, folder: str) -> None:
    limit = getattr(site.of(DirectorySettings, me.name), DATABASES[folder])
    kibibytes = int(host.check_output(f"du -k {folder}/data.mdb").split()[0])
    assert 0 < kibibytes * 1024 < 0.8 * limit


def test_the_log_is_clean(host: Host) -> None:
    """Beside the line for each operation, slapd says nothing but that it starts and stops."""
    # As JSON, for an entry may have several lines, and any byte that somebody asked for.
    log = host.check_output(
        "journalctl --no-pager --all -o json --output-fields=MESSAGE -u slapd"
        ' _SYSTEMD_INVOCATION_ID="$(systemctl show -p InvocationID --value slapd)"'
        ' | grep -v \'"MESSAGE":"conn=\''
    )
    messages = [json.loads(line)["MESSAGE"] for line in log.splitlines()]
    usual = re.compile(
        r"conn=|slapd starting|@\(#\) \$OpenLDAP|connection_read"
        # Somebody wanted a password that the policy refuses.
        r"|check_password_quality: .* is too (weak|simple)"
        # Somebody's password is too old.
        r"|ppolicy_bind: Entry .* has an expired password: 0 grace logins"
        # Another directory host was away for a while.
        r"|slap_client_connect|do_syncrepl: .* retrying"
        # Several are being filled: there is nothing to copy yet, or more than the audit log has.
        r"|findbase failed! 32|do_syncrep2: .* Content Sync Refresh Required"
    )
    said = [text if isinstance(text, str) else bytes(text).decode("latin1") for text in messages]
    assert [text for text in said if not usual.search(text)] == []


@pytest.mark.regulation("3.2")
def test_all_replicas_hold_the_same(host: Host, site: Site, me: SiteHost, ssh_config: Path) -> None:
    """Every directory host has seen every other's last change."""

    def last_changes(of: Host) -> list[str]:
        shown = of.check_output(f"{AS_ROOT} -s base -b '{site.base_dn}' contextCSN")
        return sorted(line for line in shown.splitlines() if line.startswith("contextCSN"))

    others = [
        testinfra.get_host(f"ssh://{other.name}", ssh_config=str(ssh_config))
        for other in site.group("directory")
        if other != me
    ]
    assert last_changes(host)
    until(lambda: all(last_changes(o) == last_changes(host) for o in others), "the same changes")


@pytest.mark.regulation("9")
def test_the_postmaster_has_a_mailbox(host: Host, site: Site) -> None:
    address = f"{site.of(AccountsSettings).postmaster_unit}@{site.domain}"
    shown = host.check_output(
        f"{AS_ROOT} -b '{site.base_dn}' '(mailLocalAddress={site.postmaster})' mail"
    )
    assert f"mail: {address}" in shown
