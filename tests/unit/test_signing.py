"""The role `signing` without a host: its settings, its configuration, what the DNS says of it."""

import base64
import re
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from pydantic import ValidationError

from deploy.dns import Record, main, records
from roles.common.rendering import render
from roles.common.secrets import Secrets
from roles.common.site import Site, load, merged, parse, read_document
from roles.signing.deploy import KEY, PASSED_ON
from roles.signing.records import key_names, key_record, quoted
from roles.signing.settings import SigningSettings

SECRETS = Secrets()


def site_of(environment: str = "production", **changes: Any) -> Site:
    """A site with secrets of the test's own."""
    source = load(environment).folder / "site.toml"
    site = parse(merged(read_document(source), changes), source)
    return replace(site, _secrets=SECRETS)


def options(settings: SigningSettings) -> dict[str, str]:
    """The configuration, by name."""
    site = site_of()
    text = render(
        "signing/etc/opendkim.conf.j2",
        {
            "site": site,
            "host": site.group("mx")[0],
            "settings": settings,
            "key": KEY,
            "passed_on": PASSED_ON,
        },
    )
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = dict(re.split(r"\s+", line, maxsplit=1) for line in lines)
    assert len(found) == len(lines), "a name is there twice"
    return found


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"selector": "Mail"}, "selector"),
        ({"selector": "mail_1"}, "selector"),
        ({"selector": "-mail"}, "selector"),
        ({"selector": "a..b"}, "selector"),
        ({"selector": "m" * 64}, "selector"),
        ({"selector": ""}, "selector"),
        ({"dmarc_policy": "block"}, "'none', 'quarantine' or 'reject'"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        SigningSettings.model_validate(values)


@pytest.mark.parametrize("selector", ["mail", "s2026-11", "2026.tg", "m" * 63])
def test_a_selector_is_a_name_in_the_dns(selector: str) -> None:
    assert SigningSettings(selector=selector).selector == selector


def test_it_signs_for_the_domain_and_verifies_nothing() -> None:
    found = options(SigningSettings(selector="s2026"))
    assert found["Mode"] == "s"
    assert found["Domain"] == site_of().domain
    assert found["Selector"] == "s2026"
    assert found["KeyFile"] == KEY
    assert found["Canonicalization"] == "relaxed/relaxed"
    assert found["On-SignatureError"] == "tempfail"
    assert found["Socket"] == "local:/run/opendkim/opendkim.sock"
    # Only what is signed can be signed once more than it is there.
    assert set(found["OversignHeaders"].split(",")) <= set(found["SignHeaders"].split(","))
    assert "From" in found["OversignHeaders"].split(",")
    assert not {"BodyLengths", "BodyLengthDB", "InternalHosts"} & set(found)


def test_the_dns_has_the_public_half_alone() -> None:
    text = key_record(site_of())
    tags = dict(tag.strip().split("=", 1) for tag in text.split(";"))
    assert (tags["v"], tags["k"], tags["h"]) == ("DKIM1", "rsa", "sha256")
    private = serialization.load_pem_private_key(
        SECRETS.dkim_key.get_secret_value().encode(), password=None
    )
    public = serialization.load_der_public_key(base64.b64decode(tags["p"]))
    assert public == private.public_key()


def test_a_long_text_is_cut_into_strings() -> None:
    assert quoted("a" * 300) == f'"{"a" * 255}" "{"a" * 45}"'
    assert all(len(part) <= 257 for part in quoted(key_record(site_of())).split(" "))


def test_both_mx_sign_by_one_record() -> None:
    site = site_of("pair")
    assert len(site.group("mx")) == 2
    assert key_names(site) == [f"mail._domainkey.{site.domain}"]


def test_an_mx_with_a_selector_of_its_own_has_a_record() -> None:
    own = {"hosts": {"mx2": {"settings": {"signing": {"selector": "s2"}}}}}
    site = site_of("pair", **own)
    assert key_names(site) == [f"{name}._domainkey.{site.domain}" for name in ("mail", "s2")]


def test_the_records_are_all_that_the_world_must_know() -> None:
    site = site_of(signing={"dmarc_policy": "reject"})
    found = records(site)
    domain = site.domain
    assert Record(domain, "MX", f"10 mx2.{domain}.") in found
    assert Record(f"mx2.{domain}", "A", site.hosts["mx2"].address) in found
    assert {r.value for r in found if r.name == site.mail_name} == {
        front.address for front in site.group("front")
    }
    texts = {record.name: record.value for record in found if record.kind == "TXT"}
    assert texts[domain] == '"v=spf1 mx -all"'
    assert texts[f"_dmarc.{domain}"] == f'"v=DMARC1; p=reject; rua=mailto:{site.postmaster}"'
    assert texts[f"mail._domainkey.{domain}"].startswith('"v=DKIM1; ')
    assert len({str(record) for record in found}) == len(found)


def test_a_record_is_a_line_of_a_zone() -> None:
    assert str(Record("a.example", "A", "192.0.2.1")) == "a.example.\tIN\tA\t192.0.2.1"


def test_the_command_prints_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deploy.dns.load", lambda _environment: site_of())
    assert main(["--env", "production"]) == 0
    said = capsys.readouterr().out
    assert said.splitlines() == [str(record) for record in records(site_of())]
    assert not [value for value in SECRETS.values() if value in said]


def test_without_secrets_the_command_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deploy.dns.load", lambda _environment: replace(site_of(), _secrets=None))
    assert main(["--env", "production"]) == 1
    assert "make secrets ENV=production" in capsys.readouterr().err
