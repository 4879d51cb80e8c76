"""The site's model: what is right is understood, what is wrong is named."""

import copy
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roles.common.errors import SiteError
from roles.common.site import ROLES, ROOT, load, parse, roles_of, settings_model

SOURCE = ROOT / "inventories" / "production" / "site.toml"
PRODUCTION = tomllib.loads(SOURCE.read_text(encoding="utf-8"))

Edit = Callable[[dict[str, Any]], None]


def mistakes(edit: Edit) -> list[str]:
    document = copy.deepcopy(PRODUCTION)
    edit(document)
    with pytest.raises(SiteError) as caught:
        parse(document, SOURCE)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("environment", ["local", "single", "pair", "staging", "production"])
def test_every_environment_is_complete_and_valid(environment: str) -> None:
    site = load(environment)
    for group in ("directory", "store", "mx", "front", "database", "backup"):
        assert site.group(group), group


def test_production_has_two_of_what_must_not_be_missed() -> None:
    site = load("production")
    for group in ("directory", "store", "mx", "front"):
        assert len(site.group(group)) == 2, group


def test_the_lab_pair_has_productions_shape() -> None:
    shapes = [
        {name: host.groups for name, host in load(environment).hosts.items()}
        for environment in ("pair", "production")
    ]
    assert shapes[0] == shapes[1]
    assert load("pair").table.stores == load("production").table.stores


@pytest.mark.regulation("2")
def test_one_name_serves_all() -> None:
    site = load("production")
    assert site.mail_name == "mail.tiengiang.gov.vn"
    assert all(site.mail_name in host.names for host in site.group("front"))


def test_a_store_is_named_apart_from_its_machine() -> None:
    site = load("production")
    assert site.store_host("store-b").name == "store2"
    assert "store-b.tiengiang.gov.vn" in site.hosts["store2"].names


def test_an_instance_of_a_lab_moves_every_address() -> None:
    up, test = load("local", "up"), load("local", "test")
    assert up.hosts["mx1"].address == "10.77.0.13"
    assert test.hosts["mx1"].address == "10.77.1.13"
    assert str(test.table.resolvers[0]) == "10.77.1.20"
    assert str(test.table.networks.management[0]) == "10.77.1.1/32"
    assert up.state != test.state


def test_what_a_lab_leaves_lies_apart_from_what_must_not_be_lost() -> None:
    assert load("local").state == ROOT / ".lab" / "local"
    assert load("production").state == ROOT / ".state" / "production"
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert {"/.lab/", "/.state/"} <= set(ignored)


def test_roles_come_in_the_order_of_deployment() -> None:
    everything = load("single").hosts["mail1"]
    assert roles_of(everything) == list(ROLES)
    assert roles_of(load("local").hosts["mx1"]) == [
        "base", "certificates", "filtering", "signing", "mta", "backup",
    ]  # fmt: skip


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_is_documented(role: str) -> None:
    model = settings_model(role)
    assert model.role == role
    undocumented = [name for name, info in model.model_fields.items() if not info.description]
    assert undocumented == []


@pytest.mark.parametrize(
    ("edit", "key", "expected"),
    [
        (lambda d: d.update(mat={}), "mat", "expected site, hosts, lab or a role"),
        (lambda d: d["site"].update(domian="x.vn"), "site.domian", "unknown key"),
        (lambda d: d["site"].pop("domain"), "site.domain", "required"),
        (lambda d: d["site"].update(domain="Tiền Giang"), "site.domain", "pattern"),
        (lambda d: d["site"].update(resolvers=["dns"]), "site.resolvers.0", "IPv4"),
        (lambda d: d["hosts"]["mx2"].update(address="300.1.1.1"), "hosts.mx2.address", "IPv4"),
        (lambda d: d["hosts"]["mx2"].update(groups=[]), "hosts.mx2.groups", "at least 1"),
        (lambda d: d["hosts"]["mx2"].update(groups=["mxx"]), "hosts.mx2.groups.0", "'mx'"),
        (lambda d: d["hosts"].pop("database1"), "hosts", "group 'database' has no host"),
        (
            lambda d: d["hosts"]["mx2"].update(address="203.0.113.41"),
            "hosts.mx2.address",
            "also that of mx1",
        ),
        (lambda d: d["site"]["stores"].update({"store-b": "mx1"}), "site.stores.store-b", "store1"),
        (
            lambda d: d["site"]["stores"].update(store1="store1"),
            "site.stores.store1",
            "host's name",
        ),
        (
            lambda d: d["hosts"]["mx1"].update(settings={"mxx": {}}),
            "hosts.mx1.settings.mxx",
            "unknown role",
        ),
        (
            lambda d: d["hosts"].update(mail=d["hosts"].pop("mx2")),
            "hosts.mail",
            "is also site.mail_name; expected a name of its own",
        ),
        (
            lambda d: d["site"].update(mail_name="mx1"),
            "hosts.mx1",
            "is also site.mail_name; expected a name of its own",
        ),
        (
            lambda d: d["site"]["stores"].update(mail="store1"),
            "site.stores.mail",
            "is also site.mail_name; expected a name of its own",
        ),
        (lambda d: d["hosts"].update({"Máy 1": d["hosts"].pop("mx2")}), "hosts.Máy 1", "pattern"),
        (lambda d: d["site"].update(stores={}), "site.stores", "at least 1"),
        (lambda d: d["site"].update(resolvers=[]), "site.resolvers", "at least 1"),
        (
            lambda d: d["site"]["networks"].update(management=[]),
            "site.networks.management",
            "at least 1",
        ),
        (
            lambda d: d["site"]["networks"].update(clients=[]),
            "site.networks.clients",
            "at least 1",
        ),
        (lambda d: d.update(accounts={"kinds": []}), "accounts.kinds", "at least 1"),
        (lambda d: d.update(hosts="x"), "hosts", "(found 'x'); expected a table"),
        (lambda d: d.update(site="x"), "site", "dictionary"),
        (lambda d: d["hosts"].update(mx1="x"), "hosts.mx1", "dictionary"),
        (lambda d: d.update(mta="x"), "mta", "dictionary"),
        (
            lambda d: d["hosts"]["mx1"].update(settings={"mta": "x"}),
            "hosts.mx1.settings.mta",
            "dictionary",
        ),
        (lambda d: d["site"].update(postmaster="Quản trị"), "site.postmaster", "pattern"),
        (lambda d: d["site"].update(postmaster="a@b.vn"), "site.postmaster", "pattern"),
        (lambda d: d["site"].update(organisation=""), "site.organisation", "expected one line"),
        (
            lambda d: d.update(mailstore={"quota": "26GIGOTS"}),
            "mailstore.quota",
            "'26GIGOTS' is not a size",
        ),
        (
            lambda d: (
                d.update(accounts={"lifecycle_refresh": "11s"})
                or d["hosts"]["mx1"].update(settings={"mailstore": {"access_refresh": "20s"}})
            ),
            "mailstore.access_refresh",
            "20 s, after up to 11 s of accounts.lifecycle_refresh; expected at most 30 s together",
        ),
    ],
)
def test_a_mistake_is_named_with_file_key_and_expectation(
    edit: Edit, key: str, expected: str
) -> None:
    (line,) = [line for line in mistakes(edit) if f": {key}: " in line]
    assert line.startswith(str(SOURCE))
    assert expected in line


@pytest.mark.parametrize("character", ["$", "`", "\\", '"', "'", "\n", "\r", "\t", "\x00"])
def test_the_organisations_name_can_stand_in_any_file(character: str) -> None:
    """It stands in a shell's here-document and in Postfix' templates, which would expand it."""
    name = f"Ủy ban {character}nhân dân"
    (line,) = mistakes(lambda d: d["site"].update(organisation=name))
    assert line.startswith(f"{SOURCE}: site.organisation: {name!r}: expected one line")


def test_a_name_of_its_own_language_is_an_organisations() -> None:
    document = copy.deepcopy(PRODUCTION)
    document["site"]["organisation"] = "Ủy ban nhân dân “tỉnh” Tiền Giang (thử), 1/2 – Đ&T"
    assert parse(document, SOURCE).table.organisation == document["site"]["organisation"]


@pytest.mark.parametrize("mta", ["x", 5, []])
def test_a_role_that_is_no_table_is_named_once(mta: object) -> None:
    def edit(document: dict[str, Any]) -> None:
        document["mta"] = mta
        document["hosts"]["mx1"]["settings"] = {"mta": {"message_size": "9MiB"}}

    (line,) = mistakes(edit)
    assert f"{SOURCE}: mta: " in line


def test_a_site_without_hosts_is_none() -> None:
    lines = mistakes(lambda d: d.update(hosts={}, site={**d["site"], "stores": {"a": "x"}}))
    assert sum("has no host; expected at least one" in line for line in lines) == 6


def test_all_mistakes_are_reported_at_once() -> None:
    def edit(document: dict[str, Any]) -> None:
        document["site"]["domian"] = "x"
        document["hosts"]["mx1"]["address"] = "x"
        document["hosts"]["mx2"]["groups"] = ["x"]

    assert len(mistakes(edit)) == 3


def test_an_unknown_environment_names_the_known_ones() -> None:
    with pytest.raises(SiteError, match="expected one of local, pair, production, single"):
        load("nowhere")


def test_a_lab_takes_settings_of_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = tmp_path / "overlay.toml"
    overlay.write_text('[site]\norganisation = "Khác"\n')
    monkeypatch.setenv("LAB_SETTINGS", str(overlay))
    assert load.__wrapped__("local").table.organisation == "Khác"
    assert load.__wrapped__("local").domain == "tiengiang.gov.vn"
    assert load.__wrapped__("production").table.organisation != "Khác"
