"""The role `database`: PostgreSQL over TLS, each client its own database."""

import pytest
from testinfra.host import Host

from roles.common.site import Site, SiteHost
from roles.database.scram import matches
from tests.waiting import until

UNIT = "postgresql@17-main.service"


def sql(host: Host, query: str, database: str = "postgres") -> str:
    """The superuser's answer to a query, unaligned."""
    answer: str = host.check_output(
        "cd / && runuser -u postgres -- psql -XAtqd %s -c %s", database, query
    )
    return answer.strip()


def test_it_runs_and_begins_with_the_host(host: Host) -> None:
    service = host.service(UNIT)
    assert service.is_running
    assert service.is_enabled


def test_it_listens_on_the_hosts_own_address_alone(host: Host, me: SiteHost) -> None:
    listening = host.check_output("ss -Hltn sport = :5432").splitlines()
    assert [line.split()[3] for line in listening] == [f"{me.address}:5432"]


def test_it_presents_the_sites_certificate(host: Host, me: SiteHost) -> None:
    said = host.run(
        "openssl s_client -connect %s:5432 -starttls postgres -CAfile /etc/site-tls/ca.pem"
        " -verify_return_error -verify_hostname %s </dev/null 2>&1",
        me.address,
        me.fqdn,
    )
    assert "Verify return code: 0 (ok)" in said.stdout
    assert "TLSv1.3" in said.stdout


def test_nobody_gets_in_without_tls(host: Host, me: SiteHost) -> None:
    for name in ("bayes", "roundcube"):
        said = host.run(
            "psql -wX %s -c 'select 1'",
            f"host={me.address} user={name} dbname={name} sslmode=disable",
        )
        assert said.rc != 0
        assert "no pg_hba.conf entry" in said.stderr
        assert "no encryption" in said.stderr


def test_the_rules_of_access_are_those_of_the_site(host: Host, site: Site) -> None:
    query = (
        "select type, array_to_string(database, ','), array_to_string(user_name, ','),"
        " coalesce(address, ''), auth_method, coalesce(error, '') from pg_hba_file_rules"
    )
    rules = {tuple(line.split("|")) for line in sql(host, query).splitlines()}
    expected = {("local", "all", "postgres", "", "peer", "")}
    for name, clients in (
        ("roundcube", site.group("front")),
        ("bayes", site.group("mx", "store")),
    ):
        expected |= {
            ("hostssl", name, name, client.address, "scram-sha-256", "") for client in clients
        }
    assert rules == expected


def test_the_settings_are_in_force(host: Host) -> None:
    query = "select name from pg_settings where pending_restart"
    assert sql(host, query) == ""
    assert sql(host, "select count(*) from pg_file_settings where error is not null") == "0"
    for name, value in {
        "ssl": "on",
        "ssl_min_protocol_version": "TLSv1.3",
        "password_encryption": "scram-sha-256",
        "data_checksums": "on",
        "autovacuum": "on",
        "fsync": "on",
    }.items():
        assert sql(host, f"show {name}") == value, name


@pytest.mark.parametrize("name", ["roundcube", "bayes"])
def test_a_role_may_do_no_more_than_it_must(host: Host, site: Site, name: str) -> None:
    query = (
        "select rolname, rolsuper or rolcreatedb or rolcreaterole or rolreplication"
        " or rolbypassrls or rolconnlimit < 1, rolpassword from pg_authid where rolcanlogin"
    )
    roles = {line.split("|")[0]: line.split("|")[1:] for line in sql(host, query).splitlines()}
    may_more, known = roles[name]
    assert may_more == "f"
    query = (
        "select datname, pg_get_userbyid(datdba), has_database_privilege('public', oid, 'CONNECT')"
        " from pg_database"
    )
    assert f"{name}|{name}|f" in sql(host, query).splitlines()
    password = {
        "roundcube": site.secrets.webmail_database_password,
        "bayes": site.secrets.bayes_database_password,
    }[name]
    its_own = matches(password.get_secret_value(), known)
    assert its_own, "the verifier is not that of the site's secret"


def test_contacts_sort_as_a_vietnamese_reader_expects(host: Host) -> None:
    query = "select string_agg(x, '' order by x) from unnest(array['đ','e','d','ă','b','â','a']) x"
    assert sql(host, query, "roundcube") == "aăâbdđe"


def test_no_password_was_logged(host: Host, site: Site) -> None:
    journal = host.check_output("journalctl --no-pager -o cat -u %s", UNIT)
    assert "SCRAM-SHA-256$" not in journal
    for secret in (site.secrets.webmail_database_password, site.secrets.bayes_database_password):
        found = secret.get_secret_value() in journal
        assert not found


def test_the_log_is_the_journal(host: Host, me: SiteHost) -> None:
    # What it said at its start may have left a small journal long ago: it says something now.
    since = host.check_output("date +@%s")
    refused = f'no pg_hba.conf entry for host "{me.address}", user "nobody"'
    host.run("psql -wX %s", f"host={me.address} user=nobody dbname=bayes sslmode=disable")
    # A line is in the journal before the client has its answer, or a moment later.
    until(
        lambda: (
            refused
            in host.check_output("journalctl --no-pager -q -o cat -u %s --since %s", UNIT, since)
        ),
        "the refusal in the journal",
    )
    assert host.check_output("find /var/log/postgresql -type f -size +0") == ""


def test_it_reads_a_renewed_certificate(host: Host) -> None:
    hook = host.file("/etc/site-tls/reload.d/database")
    assert hook.mode == 0o755
    assert hook.user == "root"
    assert host.user("postgres").groups.count("site-tls") == 1
