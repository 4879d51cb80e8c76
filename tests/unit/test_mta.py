"""The role `mta` without a host: what the templates say for each shape, settings, bounces."""

from email.header import decode_header, make_header
from typing import Any

import pytest
from pydantic import ValidationError

from roles.common.rendering import encoded, render
from roles.common.secrets import Secrets
from roles.common.site import in_turn, load
from roles.mta.settings import MtaSettings
from roles.mta.values import BOUNCE_HEADERS, tunnels, values

SHAPES = [("production", "mx2"), ("production", "front2"), ("single", "mail1"), ("local", "mx1")]


def rendered(name: str, environment: str, host: str, **changes: Any) -> str:
    site = load(environment)
    here = site.hosts[host]
    names = {"site": site, "host": here, "secrets": Secrets(), **values(site, here)}
    if changes:
        names["settings"] = MtaSettings.model_validate(changes)
    return render(f"mta/etc/{name}.j2", names)


def parameters(text: str) -> dict[str, str]:
    """The parameters of a main.cf, each on one line."""
    found: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            if line[0].isspace():
                found[name] = f"{found[name]} {line.strip()}".strip()
            else:
                name, _, value = (part.strip() for part in line.partition("="))
                assert name not in found, f"{name} is set twice"
                found[name] = value
    return found


def services(text: str) -> dict[str, list[str]]:
    """The services of a master.cf with their options."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            if line[0].isspace():
                found[name].append(line.split("-o", 1)[-1].strip())
            else:
                name = "/".join(line.split()[:2])
                assert line.split()[4] == "n", f"{name} is chrooted"
                found[name] = []
    return found


@pytest.mark.parametrize(("environment", "host"), SHAPES)
def test_a_shape_listens_where_its_groups_say(environment: str, host: str) -> None:
    groups = load(environment).hosts[host].groups
    listening = {
        name.removesuffix("/inet")
        for name in services(rendered("postfix/master.cf", environment, host))
        if name.endswith("/inet")
    }
    expected = {"smtp", "10025", "127.0.0.1:10027"} if "mx" in groups else set()
    assert listening == expected | ({"submissions", "submission"} if "front" in groups else set())


@pytest.mark.parametrize(("environment", "host"), SHAPES)
def test_main_cf_refuses_to_pass_on_whatever_its_shape(environment: str, host: str) -> None:
    main = parameters(rendered("postfix/main.cf", environment, host))
    further, last = main["smtpd_relay_restrictions"].rsplit(maxsplit=1)
    assert further.startswith("check_recipient_access pipemap:{ $further ")
    assert last == "reject_unauth_destination"
    assert main["mynetworks"] == "127.0.0.1/32"
    assert "smtpd_sasl_auth_enable" not in main
    assert "permit" not in main["smtpd_recipient_restrictions"]


@pytest.mark.parametrize(
    ("environment", "host"), [shape for shape in SHAPES if shape[1] != "front2"]
)
def test_an_mx_fails_closed(environment: str, host: str) -> None:
    main = parameters(rendered("postfix/main.cf", environment, host))
    assert main["scanners"] == "unix:/var/spool/MIMEDefang/mimedefang.sock"
    assert main["signer"] == "unix:/run/opendkim/opendkim.sock"
    assert main["smtpd_milters"] == "$scanners"
    assert main["ours"] == "$scanners, $signer"
    assert main["non_smtpd_milters"] == "$ours"
    assert main["milter_default_action"] == "tempfail"
    own = {
        name: option
        for name, options in services(rendered("postfix/master.cf", environment, host)).items()
        for option in options
        if "milters" in option
    }
    ports = ["10025", *(["submission", "submissions"] if host == "mail1" else [])]
    assert own == {
        **{f"{port}/inet": "smtpd_milters=$ours" for port in ports},
        # Written by Postfix itself.
        "notices/unix": "non_smtpd_milters=$signer",
    }


def test_a_front_hands_all_mail_to_an_mx() -> None:
    main = parameters(rendered("postfix/main.cf", "production", "front2"))
    domain = load("production").domain
    # The second front begins with the other mx than the first.
    first = parameters(rendered("postfix/main.cf", "production", "front1"))["default_transport"]
    assert sorted(first.removeprefix("internal:").split(", ")) == [
        f"[mx1.{domain}]:10025",
        f"[mx2.{domain}]:10025",
    ]
    assert main["default_transport"] != first
    assert main["relay_transport"] == "$default_transport"
    assert "smtpd_milters" not in main


def test_one_host_of_both_groups_delivers_by_itself() -> None:
    main = parameters(rendered("postfix/main.cf", "single", "mail1"))
    assert "default_transport" not in main
    assert main["transport_maps"].startswith("proxy:ldap:")
    assert "internal/unix" not in services(rendered("postfix/master.cf", "single", "mail1"))


@pytest.mark.parametrize(("environment", "host"), SHAPES)
def test_auth_is_offered_on_submission_alone_and_with_tls(environment: str, host: str) -> None:
    for name, options in services(rendered("postfix/master.cf", environment, host)).items():
        if name.startswith("submission"):
            assert "smtpd_sasl_auth_enable=yes" in options
            tls = {"smtpd_tls_wrappermode=yes", "smtpd_tls_security_level=encrypt"}
            assert len(tls & set(options)) == 1
            assert "smtpd_sender_restrictions=$mua_sender_restrictions" in options
        else:
            assert "smtpd_sasl_auth_enable=yes" not in options


@pytest.mark.parametrize(("environment", "host"), SHAPES)
def test_every_store_has_its_own_way_to_its_quota_service(environment: str, host: str) -> None:
    site = load(environment)
    if "mx" not in site.hosts[host].groups:
        return
    main = parameters(rendered("postfix/main.cf", environment, host))
    tunnel_conf = rendered("stunnel/quota-client.conf", environment, host)
    assert main["smtpd_restriction_classes"].replace(",", " ").split() == [
        "listed",
        *(tunnel.restriction for tunnel in tunnels(site)),
    ]
    for tunnel in tunnels(site):
        assert f"{{ {tunnel.store} = {tunnel.restriction} }}" in main["quota_restrictions"]
        assert f"inet:127.0.0.1:{tunnel.port}," in main[tunnel.restriction]
        assert "default_action=DUNNO" in main[tunnel.restriction]
        assert f"connect = {tunnel.store}:12341\ncheckHost = {tunnel.store}\n" in tunnel_conf
    assert len({tunnel.port for tunnel in tunnels(site)}) == len(site.table.stores)


@pytest.mark.parametrize(
    "lookup",
    [
        "alias",
        "further",
        "list",
        "list-transport",
        "mailhost",
        "redirect",
        "transport",
        "sender",
        "senders",
        "units",
    ],
)
def test_the_directory_is_asked_over_verified_tls(lookup: str) -> None:
    found = parameters(rendered(f"postfix/ldap/{lookup}.cf", "production", "mx2"))
    servers = found["server_host"].split()
    assert len(servers) == 2
    assert all(server.startswith("ldaps://") and server.endswith(":636") for server in servers)
    assert found["tls_require_cert"] == "yes"
    assert found["bind_dn"].startswith("cn=postfix,ou=services,")
    assert found["query_filter"].count("(") == found["query_filter"].count(")")


def test_other_domains_are_asked_for_only_where_they_may_be_ours() -> None:
    tables = [
        "alias", "list", "list-transport", "mailhost", "redirect", "transport", "sender", "senders",
        "units",
    ]  # fmt: skip
    for table in tables:
        assert "domain" in parameters(rendered(f"postfix/ldap/{table}.cf", "production", "mx2"))
    assert "domain" not in parameters(rendered("postfix/ldap/further.cf", "production", "mx2"))


@pytest.mark.parametrize(("environment", "host"), SHAPES)
def test_nobody_writes_to_addresses_of_our_own_making(environment: str, host: str) -> None:
    main = parameters(rendered("postfix/main.cf", environment, host))
    asked = [main["smtpd_recipient_restrictions"]]
    for options in services(rendered("postfix/master.cf", environment, host)).values():
        given = [option.partition("smtpd_recipient_restrictions=")[2] for option in options]
        asked += [main.get(value.removeprefix("$"), value) for value in given if value]
    for restrictions in asked:
        assert "$reserved_recipients" in restrictions.partition("reject_unlisted_recipient")[0]


def test_optional_parts_follow_their_settings() -> None:
    main = parameters(
        rendered(
            "postfix/main.cf",
            "production",
            "mx1",
            dane=True,
            deep_tests=True,
            dnsbl_sites=["zen.example.org*3"],
            own_sender_outside="accept",
            require_reverse_dns=True,
        )
    )
    assert main["smtp_tls_security_level"] == "dane"
    assert main["smtp_dns_support_level"] == "dnssec"
    assert main["postscreen_dnsbl_sites"] == "zen.example.org*3"
    assert main["postscreen_pipelining_enable"] == "yes"
    assert "senders of this domain" not in main["smtpd_sender_restrictions"]
    assert "reject_unknown_reverse_client_hostname" in main["smtpd_sender_restrictions"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"message_size": "26GIGOTS"}, "expected a whole number and a unit"),
        ({"message_size": "1GiB"}, "expected at least 1.5 times message_size"),
        ({"retry_first": "2h"}, "retry_first is longer than retry_last"),
        ({"delay_warning": "9d"}, "delay_warning is not shorter"),
        ({"milters": ["tcp:1"]}, "milters.0"),
        ({"dnsbl_sites": ["zen example"]}, "dnsbl_sites.0"),
        ({"spf": "perhaps"}, "'reject' or 'mark'"),
        ({"recipients_per_message": 0}, "greater than or equal to 1"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        MtaSettings.model_validate(change)


@pytest.mark.parametrize("name", BOUNCE_HEADERS)
def test_headers_of_bounces_are_ascii_on_one_line(name: str) -> None:
    header = encoded(BOUNCE_HEADERS[name])
    assert header.isascii()
    assert "\n" not in header
    assert all(len(word) <= 75 for word in header.split(" "))
    assert str(make_header(decode_header(header))) == BOUNCE_HEADERS[name]


def test_bounces_use_only_what_postfix_expands() -> None:
    text = rendered("postfix/bounce.cf", "production", "mx1")
    used = {word.strip(",.()") for word in text.split() if word.startswith("$")}
    assert used <= {
        "$mydomain",
        "$myhostname",
        "$maximal_queue_lifetime_days",
        "$delay_warning_time_hours",
    }
    headers = [line for line in text.splitlines() if line.startswith(("From:", "Subject:"))]
    assert len(headers) == 8
    assert all(line.isascii() for line in headers)


def test_in_turn_begins_elsewhere_for_each() -> None:
    assert [in_turn(["a", "b", "c"], number)[0] for number in range(4)] == ["a", "b", "c", "a"]
    assert sorted(in_turn(["a", "b", "c"], 2)) == ["a", "b", "c"]
