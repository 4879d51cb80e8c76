"""From the registry to the directory: any registry after any other, in any order, cut off anywhere.

A directory in memory stands for slapd: it applies the same steps and refuses what the overlay
`unique` refuses.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pyinfra.api.exceptions import OperationError

from roles.accounts import operations
from roles.accounts.deploy import site_registry
from roles.accounts.handover import hand_over
from roles.accounts.lifecycle import IN_SERVICE, Step, transitions, written
from roles.accounts.operations import Planner, refusal
from roles.accounts.reconcile import READ, Plan, Target, reconcile, with_passwords
from roles.accounts.registry import (
    Delegation,
    MailDomain,
    MailList,
    Person,
    Registry,
    Right,
    Scope,
    Unit,
)
from roles.accounts.settings import AccountsSettings
from roles.common.errors import SiteError
from roles.common.site import load
from roles.directory.facts import DirectoryText, Written
from roles.directory.ldif import Change, Entries, entries, normalized

BASE = "dc=example,dc=vn"
TARGET = Target(
    base=BASE,
    domain="example.vn",
    stores=["store-a.example.vn"],
    role_addresses=["postmaster", "abuse", "root"],
    settings=AccountsSettings(
        postmaster_unit="a", alias_keep="3d", reservation_keep="4d", departed_keep="5d"
    ),
    now=datetime(2026, 1, 1, tzinfo=UTC),
)
DAYS = st.none() | st.dates(date(2025, 12, 28), date(2026, 1, 20))
CODES = ("a", "b", "b.x", "b.y")
LOCAL = ("p", "q", "anv", "anv2", "r", "s", "t")


def unit(code: str, **more: object) -> Unit:
    parent = code.rpartition(".")[0]
    return replace(Unit(code, f"Sở {code}", "department", parent), **more)  # type: ignore[arg-type]


def person(person_id: str, name: str = "Nguyễn Văn A", **more: object) -> Person:
    return replace(Person(person_id, name, "a"), **more)  # type: ignore[arg-type]


def registry(
    people: Sequence[Person] = (),
    units: Sequence[Unit] = (unit("a"),),
    delegations: Sequence[Delegation] = (),
    lists: Sequence[MailList] = (),
    domains: Sequence[MailDomain] = (),
) -> Registry:
    return Registry(
        {entry.code: entry for entry in units},
        {entry.id: entry for entry in people},
        frozenset(delegations),
        {entry.address: entry for entry in lists},
        {entry.domain: entry for entry in domains},
    )


@st.composite
def registries(draw: st.DrawFn) -> Registry:
    """A valid registry: few names, IDs and addresses, so that they collide often."""
    codes = ["a", *draw(st.sets(st.sampled_from(("b", "b.x", "b.y"))))]
    if any(code.startswith("b.") for code in codes) and "b" not in codes:
        codes.append("b")
    free = draw(st.permutations(LOCAL))
    names = st.sampled_from(("Nguyễn Văn A", "Nguyễn Vân A", "Ngô Vũ Ấ", "Trần Thị Q"))
    people = []
    for person_id in draw(st.sets(st.sampled_from(("1", "2", "3", "10")))):
        named: bool = draw(st.booleans())
        called: bool = draw(st.booleans())
        people.append(
            Person(
                person_id,
                draw(names),
                draw(st.sampled_from(codes)),
                address=free.pop() if free and named else "",
                aliases=(free.pop(),) if free and called else (),
                state=draw(st.sampled_from(("active", "active", "locked", "departed"))),
                until=draw(DAYS),
                successor=draw(st.sampled_from(("", "", "1", "2", "3"))),
                hidden=draw(st.sampled_from(((), ("phone",), ("*",)))),
            )
        )
    ids = [entry.id for entry in people]
    people = [
        replace(entry, successor=entry.successor if entry.successor in {*ids} - {entry.id} else "")
        for entry in people
    ]
    given = st.builds(
        Delegation, st.sampled_from(codes), st.sampled_from(ids or ["-"]),
        st.sampled_from(get_args(Right)), DAYS, DAYS,
    )  # fmt: skip
    delegations = draw(st.sets(given, max_size=5)) if ids else set()
    head = draw(st.sampled_from(["", *ids]))
    redirect = bool(head) and draw(st.booleans())
    units = [
        unit(code, head=head if code == "a" else "", redirect=redirect and code == "a")
        for code in codes
    ]
    lists = draw(mail_lists(free, [*ids, *codes], codes))
    domains = [
        MailDomain(name, draw(DAYS), draw(DAYS))
        for name in draw(st.sets(st.sampled_from(("cu.vn", "cu.gov.vn"))))
    ]
    return registry(people, units, sorted(delegations, key=repr), lists, domains)


@st.composite
def mail_lists(
    draw: st.DrawFn, free: list[str], named: Sequence[str], codes: Sequence[str]
) -> list[MailList]:
    """Up to three lists of what addresses are left."""
    lists: list[MailList] = []
    most = draw(st.integers(0, 3))
    while free and len(lists) < most:
        scope: Scope = draw(st.sampled_from(get_args(Scope)))
        called: bool = draw(st.booleans())
        one = MailList(
            free.pop(),
            draw(st.sampled_from(("Toàn Sở", "Toàn tỉnh"))),
            scope,
            draw(st.sampled_from(codes if scope == "unit" else [*codes, "*"])),
            members=tuple(
                draw(st.sets(st.sampled_from([*named, *(other.address for other in lists)])))
            ),
            posters=tuple(draw(st.sets(st.sampled_from(["site", "x@vidu.example", *named])))),
            owner=draw(st.sampled_from(["", *named])),
            aliases=(free.pop(),) if free and called else (),
            since=draw(DAYS),
            until=draw(DAYS),
        )
        lists.append(one)
    return lists


@st.composite
def histories(draw: st.DrawFn, most: int = 4) -> list[tuple[Registry, datetime]]:
    """Registries one after the other, with days in between."""
    now = TARGET.now
    result = []
    for one in draw(st.lists(registries(), min_size=1, max_size=most)):
        result.append((one, now))
        now += draw(st.integers(0, 6)) * timedelta(days=1)
    return result


def apply(directory: Entries, changes: Sequence[Change]) -> Entries:
    """The directory after some steps."""
    after = {dn: dict(attributes) for dn, attributes in directory.items()}
    for change in changes:
        # Through the text that slapd gets.
        ((dn, attributes),) = entries(change.ldif().splitlines()).items()
        if change.kind == "add":
            assert dn not in after
            after[dn] = {n: v for n, v in attributes.items() if n != "changetype"}
        elif change.kind == "delete":
            assert not [other for other in after if other.endswith(f",{dn}")]
            del after[dn]
        else:
            for name, values in change.attributes.items():
                assert name in after[dn] or values, "slapd refuses to remove what is not there"
                after[dn] = {**after[dn], name: list(values)}
                if not values:
                    del after[dn][name]
        held = [a for e in after.values() for a in {*e.get("mailLocalAddress", ())}]
        held += [f"primary {a}" for e in after.values() for a in e.get("mail", ())]
        assert len(held) == len(set(held)), "the overlay unique refuses this"
    return after


def brought(directory: Entries, *wanted: Registry) -> Entries:
    """The directory after one registry after the other."""
    for one in wanted:
        directory = apply(directory, planned(one, directory).changes)
    return directory


def planned(wanted: Registry, directory: Entries, **more: object) -> Plan:
    read = {
        dn: {name: values for name, values in entry.items() if name in READ}
        for dn, entry in directory.items()
    }
    return reconcile(wanted, read, replace(TARGET, **more))  # type: ignore[arg-type]


def possible(history: Sequence[tuple[Registry, datetime]]) -> Entries:
    """The directory after a history; one that the registry refuses is passed over."""
    directory: Entries = {}
    try:
        for one, now in history:
            directory = apply(directory, planned(one, directory, now=now).changes)
    except SiteError:
        assume(False)
    return directory


def due(directory: Entries, now: datetime) -> list[Step]:
    """What time alone brings until `now`."""
    return transitions(directory, BASE, written(now), TARGET.keep)


def outcome(wanted: Registry, directory: Entries, now: datetime) -> object:
    """The steps of a plan, or that it is refused."""
    try:
        return planned(wanted, directory, now=now).changes
    except SiteError:
        return "refused"


def addresses(directory: Entries) -> dict[str, str]:
    """Who has each address."""
    return {
        address: dn
        for dn, entry in directory.items()
        for address in entry.get("mailLocalAddress", ())
    }


@given(histories())
def test_apply_after_plan_leaves_nothing_to_do(history: list[tuple[Registry, datetime]]) -> None:
    directory = possible(history)
    last, now = history[-1]
    plan = planned(last, directory, now=now)
    assert (plan.changes, plan.words, plan.removals) == ((), (), 0)


@given(histories(2), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(
    history: list[tuple[Registry, datetime]], random: object
) -> None:
    *before, (last, now) = history
    directory = possible(before)
    tables: list[list[tuple[str, Any]]] = [
        list(table.items()) for table in (last.units, last.people, last.lists, last.domains)
    ]
    for table in tables:
        random.shuffle(table)  # type: ignore[attr-defined]
    units, people, lists, domains = map(dict, tables)
    shuffled = Registry(units, people, last.delegations, lists, domains)
    assert outcome(shuffled, directory, now) == outcome(last, directory, now)


@given(histories(3), st.data())
def test_a_run_that_is_cut_off_is_completed_by_the_next(
    history: list[tuple[Registry, datetime]], data: st.DataObject
) -> None:
    *before, (last, now) = history
    directory = possible(before)
    undisturbed = possible(history)
    plan = planned(last, directory, now=now)
    steps = data.draw(st.integers(0, len(plan.changes)))
    half = apply(directory, plan.changes[:steps])
    assert apply(half, planned(last, half, now=now).changes) == undisturbed


@given(histories(3), st.integers(0, 8), st.data())
def test_what_time_brings_is_what_the_registry_would_write(
    history: list[tuple[Registry, datetime]], days: int, data: st.DataObject
) -> None:
    """Nothing is left for the registry behind it, and nothing for it behind the registry."""
    directory = possible(history)
    last, now = history[-1]
    now += timedelta(days=days)
    steps = [step.change for step in due(directory, now)]
    cut = data.draw(st.integers(0, len(steps)))
    half = apply(directory, steps[:cut])
    after = apply(half, [step.change for step in due(half, now)])
    assert after == apply(directory, steps)
    assert due(after, now) == []
    plan = planned(last, after, now=now)
    # A name that a reservation kept away may be had now by who is without an address: nobody.
    assert plan.changes == ()
    alone = apply(directory, planned(last, directory, now=now).changes)
    assert due(alone, now) == []
    assert alone == after


def test_who_gets_a_right_by_time_stands_where_the_registry_has_him() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    wanted = registry(
        [person("2"), person("3", "Lê Văn B")],
        [unit("a", head="3")],
        [Delegation("a", "2", "read", date(2026, 1, 2), None)],
    )
    directory = possible([(wanted, now)])
    by_time = apply(directory, [step.change for step in due(directory, now + timedelta(days=1))])
    plan = planned(wanted, directory, now=now + timedelta(days=1))
    assert by_time == apply(directory, plan.changes)


@given(histories(3), st.integers(0, 8))
def test_a_second_directory_host_begins_later_and_writes_the_same(
    history: list[tuple[Registry, datetime]], days: int
) -> None:
    directory = possible(history)
    now = history[-1][1] + timedelta(days=days)
    before = written(now - timedelta(seconds=20))
    late = transitions(directory, BASE, written(now), TARGET.keep, before)
    behind = apply(directory, [step.change for step in late])
    both = apply(behind, [step.change for step in due(behind, now)])
    assert both == apply(directory, [step.change for step in due(directory, now)])


@given(histories())
def test_an_address_is_given_to_nobody_else_while_it_is_reserved(
    history: list[tuple[Registry, datetime]],
) -> None:
    possible(history)
    owners: dict[str, tuple[str, datetime]] = {}
    directory: Entries = {}
    for one, now in history:
        before = directory
        directory = apply(directory, planned(one, directory, now=now).changes)
        for address in addresses(before):
            owners[address] = (addresses(before)[address], now)
        for address, dn in addresses(directory).items():
            had, last = owners.get(address, (dn, now))
            from_list_to_list = ",ou=lists," in had and ",ou=lists," in dn
            assert had == dn or from_list_to_list or now - last >= timedelta(days=4)


@given(histories(3), registries(), st.integers(0, 8), st.data())
def test_addresses_of_purged_mailboxes_are_reserved_and_then_free(
    history: list[tuple[Registry, datetime]], then: Registry, days: int, data: st.DataObject
) -> None:
    """By time alone as by the registry, cut off anywhere; somebody else has them no earlier."""
    directory = possible(history)
    last, now = history[-1]
    purged = {
        dn: entry["mailLocalAddress"]
        for dn, entry in directory.items()
        if entry.get("mailboxState") == ["departed"]
    }
    for dn in purged:
        directory[dn] |= {"mailboxState": ["purged"], "mailboxStateSince": [written(now)]}
    late = now + timedelta(days=days)
    steps = [step.change for step in due(directory, late)]
    half = apply(directory, steps[: data.draw(st.integers(0, len(steps)))])
    after = apply(half, [step.change for step in due(half, late)])
    assert after == apply(directory, steps)
    assert due(after, late) == []
    assert planned(last, after, now=late).changes == ()
    assert apply(directory, planned(last, directory, now=late).changes) == after
    assert not [dn for dn in purged if "mailLocalAddress" in after[dn]]
    try:
        later = apply(after, planned(then, after, now=late).changes)
    except SiteError:
        return
    has = addresses(later)
    for dn, held in purged.items():
        for address in held:
            assert has.get(address, dn) == dn or days >= 4
    assert planned(then, later, now=late).changes == ()


@given(histories(3))
def test_rights_stand_on_both_sides(history: list[tuple[Registry, datetime]]) -> None:
    directory = possible(history)
    last, now = history[-1]
    today = (now + timedelta(hours=7)).date()
    for code, unit_ in last.units.items():
        mailbox = directory[f"cn={code},ou=mailboxes,{BASE}"]
        for holder in last.people:
            dn = TARGET.person(holder)
            entry = directory[normalized(dn)]
            held = {
                given.right
                for given in last.delegations
                if (given.unit, given.person) == (code, holder)
                and (given.since is None or given.since <= today)
                and (given.until is None or today <= given.until)
            }
            held |= {"read"} if "file" in held else set()
            held = set(get_args(Right)) if unit_.head == holder else held
            if entry["mailboxState"][0] not in IN_SERVICE:
                held = set()
            for right, attribute in (("read", "mailboxReader"), ("file", "mailboxFiler"),
                                     ("send", "mailboxSender")):  # fmt: skip
                assert (right in held) == (dn in mailbox.get(attribute, ()))
            assert ("read" in held) == (code in entry.get("mailboxGroup", ()))
            assert ("file" in held) == (f"{code}+file" in entry.get("mailboxGroup", ()))
            assert ("send" in held) == (f"{code}@example.vn" in entry.get("mailboxSendAs", ()))


@given(histories())
@settings(max_examples=100)
def test_a_departed_mailbox_is_open_to_its_successor_and_to_nobody_else(
    history: list[tuple[Registry, datetime]],
) -> None:
    directory = possible(history)
    expected = {
        (normalized(entry["mailboxSuccessor"][0]), f"handover:{entry['employeeNumber'][0]}")
        for entry in directory.values()
        if entry.get("mailboxState") == ["departed"] and "mailboxSuccessor" in entry
    }
    found = {
        (dn, group)
        for dn, entry in directory.items()
        for group in entry.get("mailboxGroup", ())
        if group.startswith("handover:")
    }
    serving = {
        dn for dn, entry in directory.items() if entry.get("mailboxState", [""])[0] in IN_SERVICE
    }
    assert found == {(dn, group) for dn, group in expected if dn in serving}


def test_who_left_the_registry_is_read_by_the_successor_whom_it_named() -> None:
    here = registry([person("2"), person("10", successor="2")])
    directory = brought({}, here, registry([person("2")]))
    assert directory[normalized(TARGET.person("10"))]["mailboxState"] == ["departed"]
    assert directory[normalized(TARGET.person("2"))]["mailboxGroup"] == ["handover:10"]


def test_those_who_share_a_name_get_addresses_in_the_order_of_their_ids() -> None:
    directory = brought({}, registry([person("10"), person("9"), person("100")]))
    found = {dn.partition(",")[0]: entry["mail"] for dn, entry in directory.items()
             if ",ou=people," in dn}  # fmt: skip
    assert found == {
        "employeenumber=9": ["anv@example.vn"],
        "employeenumber=10": ["anv2@example.vn"],
        "employeenumber=100": ["anv3@example.vn"],
    }


def test_a_renamed_person_keeps_the_address_and_a_new_address_leaves_the_old_one_as_alias() -> None:
    married = brought({}, registry([person("1")]), registry([person("1", "Nguyễn Thị B")]))
    assert married["employeenumber=1,ou=people," + BASE]["mail"] == ["anv@example.vn"]
    moved = brought(married, registry([person("1", "Nguyễn Thị B", address="bnt")]))
    entry = moved["employeenumber=1,ou=people," + BASE]
    assert entry["mail"] == ["bnt@example.vn"]
    assert entry["mailLocalAddress"] == ["bnt@example.vn", "anv@example.vn"]


@pytest.mark.regulation("8")
def test_the_address_of_somebody_who_left_is_refused_to_others_and_given_back() -> None:
    left = brought({}, registry([person("1")]), registry([]))
    gone = left[f"employeenumber=1,ou=people,{BASE}"]
    assert gone["mailboxState"] == ["departed"]
    assert gone["mailboxRetainUntil"] == ["20260106000000Z"]
    assert gone["mail"] == gone["mailLocalAddress"] == ["anv@example.vn"]
    with pytest.raises(SiteError, match=r"anv@example\.vn is the address of employeenumber=1"):
        planned(registry([person("2", address="anv")]), left)
    other = brought(left, registry([person("2")]))
    assert f"{addresses(other)['anv2@example.vn']}".startswith("employeenumber=2")
    plan = planned(registry([person("1")]), left)
    assert (plan.new, dict(plan.returning)) == (("1",), {"1": "20260101000000Z"})
    complete = with_passwords(plan, {"1": "{ARGON2}x"})
    assert [change.attributes["userPassword"] for change in complete.changes] == [["{ARGON2}x"]]
    back = apply(left, plan.changes)
    assert back[f"employeenumber=1,ou=people,{BASE}"]["mailboxState"] == ["active"]
    assert "mailboxRetainUntil" not in back[f"employeenumber=1,ou=people,{BASE}"]
    assert back[f"employeenumber=1,ou=people,{BASE}"]["mail"] == ["anv@example.vn"]


@pytest.mark.regulation("13")
def test_who_comes_back_has_a_new_first_password_also_after_a_run_that_was_cut_off(
    tmp_path: Path,
) -> None:
    file = tmp_path / "accounts.json"
    wanted = registry([person("1")])
    former = hand_over(file, planned(wanted, {}))["1"]
    departed = brought({}, wanted, registry([]))
    plan = planned(wanted, departed)
    new = hand_over(file, plan)["1"]
    assert new != former
    assert hand_over(file, plan)["1"] == new
    # After the next departure it is a former one, too.
    later = TARGET.now + timedelta(days=1)
    back = apply(departed, plan.changes)
    gone = apply(back, planned(registry([]), back, now=later).changes)
    assert hand_over(file, planned(wanted, gone, now=later))["1"] not in (former, new)


@pytest.mark.parametrize(("before", "after"), [("a", "b"), ("b", "a")])
def test_the_postmasters_addresses_go_from_unit_to_unit(before: str, after: str) -> None:
    wanted = registry(units=(unit("a"), unit("b")))
    directory: Entries = {}
    for code in (before, after):
        of_unit = AccountsSettings(postmaster_unit=code)
        directory = apply(directory, planned(wanted, directory, settings=of_unit).changes)
        assert addresses(directory)["postmaster@example.vn"] == f"cn={code},ou=mailboxes,{BASE}"
        assert addresses(directory)["abuse@example.vn"] == f"cn={code},ou=mailboxes,{BASE}"
        assert planned(wanted, directory, settings=of_unit).changes == ()


def test_entries_of_others_are_reported_and_left_alone() -> None:
    dn = f"employeenumber=t1,ou=people,{BASE}"
    foreign = {dn: {"mail": ["anv@example.vn"], "mailLocalAddress": ["anv@example.vn"]}}
    plan = planned(registry([person("1")]), foreign)
    assert plan.unmanaged == (dn,)
    assert not [change for change in plan.changes if normalized(change.dn) == dn]
    assert plan.people["1"].address == "anv2@example.vn"
    with pytest.raises(SiteError, match="not made by the registry"):
        planned(registry([person("t1")]), foreign)


def test_what_an_administrator_added_to_an_entry_stays() -> None:
    directory = brought({}, registry([person("1")]))
    key = f"employeenumber=1,ou=people,{BASE}"
    directory[key]["jpegPhoto"] = ["x"]
    directory[key]["userPassword"] = ["*"]
    directory[f"cn=phone,{key}"] = {"cn": ["phone"], "userPassword": ["*"]}
    assert planned(registry([person("1")]), directory).changes == ()
    # Who comes back has none of the former passwords, those of applications included.
    gone = brought(directory, registry([]))
    plan = planned(registry([person("1")]), gone)
    assert [(change.kind, change.dn) for change in plan.changes] == [
        ("delete", f"cn=phone,{key}"),
        ("modify", TARGET.person("1")),
    ]


@pytest.mark.parametrize("state", ["archived", "purged"])
def test_a_departed_mailbox_goes_on_to_its_end(state: str) -> None:
    key = f"employeenumber=1,ou=people,{BASE}"
    late = TARGET.now + timedelta(days=50)
    for later in (registry([]), registry([person("1", state="departed")])):
        directory = brought({}, registry([person("1")]), later)
        directory[key] |= {"mailboxState": [state], "mailboxStateSince": ["20260201000000Z"]}
        if state == "purged":
            directory = apply(directory, [step.change for step in due(directory, late)])
        assert planned(later, directory, now=late).changes == ()


@pytest.mark.regulation("12")
def test_a_delegation_counts_on_its_days_in_the_provinces_time() -> None:
    days = {"since": date(2026, 3, 2), "until": date(2026, 3, 3)}
    given = Delegation("a", "1", "file", **days)
    directory = brought({}, registry([person("1")], delegations=[given]))
    entry = directory[f"cn=1,cn=a,ou=mailboxes,{BASE}"]
    assert (entry["validFrom"], entry["validUntil"]) == (["20260301170000Z"], ["20260303170000Z"])
    for moment, open_ in (
        (datetime(2026, 3, 1, 16, 59, 59, tzinfo=UTC), []),
        (datetime(2026, 3, 1, 17, tzinfo=UTC), ["a", "a+file"]),
        (datetime(2026, 3, 3, 16, 59, 59, tzinfo=UTC), ["a", "a+file"]),
        (datetime(2026, 3, 3, 17, tzinfo=UTC), []),
    ):
        then = apply(directory, [step.change for step in due(directory, moment)])
        person_ = then[f"employeenumber=1,ou=people,{BASE}"]
        assert person_.get("mailboxGroup", []) == open_
        readers = then[f"cn=a,ou=mailboxes,{BASE}"].get("mailboxReader", [])
        assert readers == ([TARGET.person("1")] if open_ else [])
        directory = then


def test_rights_of_one_person_with_different_days_are_entries_of_their_own() -> None:
    given = [
        Delegation("a", "1", "read"),
        Delegation("a", "1", "send", until=date(2026, 3, 3)),
        Delegation("a", "1-2", "read"),
    ]
    directory = brought({}, registry([person("1"), person("1-2")], delegations=given))
    entries_ = {dn: e["delegate"] for dn, e in directory.items() if "delegate" in e}
    one, other = [TARGET.person("1")], [TARGET.person("1-2")]
    container = f"cn=a,ou=mailboxes,{BASE}"
    assert entries_ == {
        f"cn=1,{container}": one, f"cn=1-3,{container}": one, f"cn=1-2,{container}": other,
    }  # fmt: skip


def test_a_former_address_is_an_alias_then_reserved_then_free() -> None:
    renamed = brought({}, registry([person("1")]), registry([person("1", address="bnt")]))
    key, reserved = (
        f"employeenumber=1,ou=people,{BASE}",
        f"reservedaddress=anv@example.vn,ou=reservations,{BASE}",
    )
    assert renamed[reserved]["reservedAs"] == ["alias"]
    late = TARGET.now + timedelta(days=3)
    assert due(renamed, late - timedelta(seconds=1)) == []
    ended = apply(renamed, [step.change for step in due(renamed, late)])
    assert ended[key]["mailLocalAddress"] == ["bnt@example.vn"]
    assert ended[reserved]["reservedAs"] == ["none"]
    with pytest.raises(SiteError, match="is reserved for"):
        planned(registry([person("1", address="bnt"), person("2", address="anv")]), ended, now=late)
    free = apply(ended, [step.change for step in due(ended, late + timedelta(days=4))])
    assert reserved not in free
    other = registry([person("1", address="bnt"), person("2", address="anv")])
    planned(other, free, now=late + timedelta(days=4))


def test_lists_and_domains_become_entries() -> None:
    lists = [
        MailList("tatca", "Toàn tỉnh", "mailboxes", "*", owner="1", posters=("b", "2", "site")),
        MailList("lanhdao", "Lãnh đạo", "heads", "b", members=("2", "a", "tatca"), aliases=("ld",)),
    ]
    people = [person("1"), person("2", address="q")]
    units = [unit("a", head="1"), unit("b"), unit("b.x", head="2")]
    domains = [MailDomain("cu.vn"), MailDomain("moi.vn", date(2026, 3, 2), date(2026, 3, 3))]
    directory = brought({}, registry(people, units, (), lists, domains))
    assert directory[f"cn=tatca,ou=lists,{BASE}"] == {
        "objectClass": ["mailList"],
        "cn": ["tatca"],
        "displayName": ["Toàn tỉnh"],
        "mail": ["tatca@example.vn"],
        "mailLocalAddress": ["tatca@example.vn"],
        "listScope": ["mailboxes"],
        "departmentNumber": ["*"],
        "listPoster": ["b@example.vn", "q@example.vn", "site"],
        "owner": [TARGET.person("1")],
        "searchName": ["toan tinh"],
        "managedBy": ["registry"],
    }
    heads = directory[f"cn=lanhdao,ou=lists,{BASE}"]
    assert heads["listScope"] == ["members"]
    assert heads["member"] == [
        f"cn=a,ou=mailboxes,{BASE}", f"cn=tatca,ou=lists,{BASE}", TARGET.person("2"),
    ]  # fmt: skip
    assert heads["mailLocalAddress"] == ["lanhdao@example.vn", "ld@example.vn"]
    assert directory[f"associateddomain=cu.vn,ou=domains,{BASE}"] == {
        "objectClass": ["mailDomain"], "associatedDomain": ["cu.vn"], "managedBy": ["registry"],
    }  # fmt: skip
    new = directory[f"associateddomain=moi.vn,ou=domains,{BASE}"]
    assert (new["validFrom"], new["validUntil"]) == (["20260301170000Z"], ["20260303170000Z"])
    assert new["inForce"] == ["FALSE"]


@pytest.mark.parametrize("table", ["lists", "domains"])
def test_a_list_and_a_domain_count_on_their_days_in_the_provinces_time(table: str) -> None:
    days = (date(2026, 3, 2), date(2026, 3, 3))
    one = MailList("tatca", "Toàn Sở", "unit", "a", since=days[0], until=days[1])
    wanted = registry(lists=[one], domains=[MailDomain("cu.vn", *days)])
    key = {"lists": f"cn=tatca,ou=lists,{BASE}",
           "domains": f"associateddomain=cu.vn,ou=domains,{BASE}"}[table]  # fmt: skip
    directory = brought({}, wanted)
    for moment, counts in (
        (datetime(2026, 3, 1, 16, 59, 59, tzinfo=UTC), "FALSE"),
        (datetime(2026, 3, 1, 17, tzinfo=UTC), "TRUE"),
        (datetime(2026, 3, 3, 16, 59, 59, tzinfo=UTC), "TRUE"),
        (datetime(2026, 3, 3, 17, tzinfo=UTC), "FALSE"),
    ):
        directory = apply(directory, [step.change for step in due(directory, moment)])
        assert directory[key]["inForce"] == [counts]


def test_the_address_of_a_list_that_ended_is_refused_to_people_and_goes_on_to_a_list() -> None:
    old = MailList("tatca", "Toàn Sở", "unit", "a")
    directory = brought({}, registry(lists=[old]), registry())
    assert f"cn=tatca,ou=lists,{BASE}" not in directory
    reserved = f"reservedaddress=tatca@example.vn,ou=reservations,{BASE}"
    assert directory[reserved]["reservedFor"] == ["cn=tatca,ou=lists"]
    for other in (
        registry([person("1", address="tatca")]),
        registry(units=[unit("a", aliases=("tatca",))]),
    ):
        with pytest.raises(SiteError, match="is reserved for cn=tatca,ou=lists"):
            planned(other, directory)
    # A unit of that code is not the list, though both are named cn=tatca.
    with pytest.raises(SiteError, match="is reserved for cn=tatca,ou=lists"):
        planned(registry(units=[unit("a"), unit("tatca")]), directory)
    new = MailList("toanso", "Toàn Sở", "unit", "a", aliases=("tatca",))
    renamed = brought(directory, registry(lists=[new]))
    assert addresses(renamed)["tatca@example.vn"] == f"cn=toanso,ou=lists,{BASE}"
    assert reserved not in renamed
    # In one run, too.
    assert brought({}, registry(lists=[old]), registry(lists=[new])) == renamed
    free = apply(directory, [s.change for s in due(directory, TARGET.now + timedelta(days=4))])
    assert reserved not in free


def test_lists_of_others_are_reported_and_left_alone() -> None:
    key = f"cn=tatca,ou=lists,{BASE}"
    theirs = {
        "mail": ["tatca@example.vn"],
        "mailLocalAddress": ["tatca@example.vn", "q@example.vn"],
    }
    foreign = {key: theirs, f"associateddomain=cu.vn,ou=domains,{BASE}": {"managedBy": ["x"]}}
    plan = planned(registry(), foreign)
    assert plan.unmanaged == tuple(sorted(foreign))
    assert not [change for change in plan.changes if normalized(change.dn) in foreign]
    for wanted in (
        registry(lists=[MailList("tatca", "Toàn Sở", "unit", "a")]),
        registry(domains=[MailDomain("cu.vn")]),
    ):
        with pytest.raises(SiteError, match="not made by the registry"):
            planned(wanted, foreign)
    with pytest.raises(SiteError, match=r"q@example.vn is the address of cn=tatca,ou=lists"):
        planned(registry(lists=[MailList("q", "Q", "unit", "a")]), foreign)


def test_a_member_who_gets_another_address_writes_on_and_a_hand_made_member_goes() -> None:
    one = MailList("tatca", "Toàn Sở", "members", "a", members=("1",), posters=("1",))
    directory = brought({}, registry([person("1")], lists=[one]))
    key = f"cn=tatca,ou=lists,{BASE}"
    directory[key] = {**directory[key], "memberURL": ["ldap:///x"], "description": ["stays"]}
    after = brought(directory, registry([person("1", address="bnt")], lists=[one]))
    assert after[key]["listPoster"] == ["bnt@example.vn"]
    assert after[key]["description"] == ["stays"]
    assert "memberURL" not in after[key]


def test_the_plan_tells_of_lists_and_domains_in_words() -> None:
    people = [person("1")]
    both = [
        MailList("tatca", "Toàn tỉnh", "mailboxes", "*", owner="1"),
        MailList("so", "Toàn Sở", "subtree", "a", posters=("members",), until=date(2026, 3, 3)),
    ]
    before = brought({}, registry(people))
    wanted = registry(people, lists=both, domains=[MailDomain("cu.vn")])
    assert planned(wanted, before).words == (
        "Sở a (a)",
        "  created: list <so@example.vn> Toàn Sở: listScope subtree, departmentNumber a, "
        "listPoster members, validUntil 2026-03-04 00:00",
        "Distribution lists",
        "  created: list <tatca@example.vn> Toàn tỉnh: listScope mailboxes, departmentNumber *, "
        "owner 1",
        "Further domains",
        "  created: domain cu.vn",
        "3 created",
    )
    after = registry(people, lists=[replace(both[0], owner="", members=("1",))])
    assert planned(after, brought(before, wanted)).words == (
        "Sở a (a)",
        "  list removed: list <so@example.vn> Toàn Sở: mail to it is refused",
        "Distribution lists",
        "  changed: list <tatca@example.vn> Toàn tỉnh: member: nothing -> 1",
        "  changed: list <tatca@example.vn> Toàn tỉnh: owner: 1 -> nothing",
        "Further domains",
        "  domain removed: domain cu.vn: mail to it is refused",
        "Addresses",
        "  address reserved: so@example.vn of cn=so,ou=lists: is given to nobody else until "
        "2026-01-05 07:00",
        "2 changed, 1 list removed, 1 domain removed, 1 address reserved",
    )


def test_several_former_addresses_end_together() -> None:
    names = ("p", "q", "r")
    directory = brought({}, *(registry([person("1", address=name)]) for name in names))
    late = TARGET.now + timedelta(days=3)
    ended = apply(directory, [step.change for step in due(directory, late)])
    entry = ended[f"employeenumber=1,ou=people,{BASE}"]
    assert entry["mailLocalAddress"] == ["r@example.vn"]


@pytest.mark.regulation("12")
def test_a_redirect_ends_with_its_heads_service() -> None:
    wanted = registry(
        [person("1", until=date(2026, 3, 3))], units=[unit("a", head="1", redirect=True)]
    )
    directory = brought({}, wanted)
    mailbox = f"cn=a,ou=mailboxes,{BASE}"
    assert directory[mailbox]["mailRoutingAddress"] == ["anv@example.vn"]
    late = datetime(2026, 3, 3, 17, tzinfo=UTC)
    after = apply(directory, [step.change for step in due(directory, late)])
    assert "mailRoutingAddress" not in after[mailbox]
    entry = after[f"employeenumber=1,ou=people,{BASE}"]
    assert entry["mailboxState"] == ["departed"]
    assert entry["mailboxStateSince"] == ["20260303170000Z"]
    assert entry["mailboxRetainUntil"] == ["20260308170000Z"]


def test_a_closed_unit_leaves_its_mailbox_without_rights() -> None:
    given = [Delegation("b", "1", "read")]
    before = brought({}, registry([person("1")], [unit("a"), unit("b", head="1")], given))
    after = brought(before, registry([person("1")]))
    assert f"ou=b,ou=units,{BASE}" not in after
    mailbox = after[f"cn=b,ou=mailboxes,{BASE}"]
    assert mailbox["mailboxState"] == ["departed"]
    assert not {"mailboxReader", "mailboxFiler", "mailboxSender", "owner"} & mailbox.keys()
    assert f"cn=1,cn=b,ou=mailboxes,{BASE}" not in after
    assert "mailboxGroup" not in after[f"employeenumber=1,ou=people,{BASE}"]


@pytest.mark.regulation("8")
@pytest.mark.parametrize(
    ("people", "gone", "allowed", "refused"),
    [
        (10, 3, None, False),
        (10, 4, None, True),
        (10, 4, 4, False),
        (10, 4, "4", False),
        (10, 4, 5, True),
        (199, 10, None, False),
        (199, 11, None, True),
    ],
)
def test_a_registry_that_closes_many_mailboxes_is_stopped(
    people: int, gone: int, allowed: str | int | None, refused: bool
) -> None:
    before = [person(str(n)) for n in range(people)]
    directory = brought({}, registry(before))
    locked = [replace(one, state="locked") for one in before[:1]]
    plan = planned(registry([*locked, *before[gone:]]), directory)
    assert (plan.removals, plan.in_service) == (gone, people + 1)
    words = refusal(plan, TARGET.settings, allowed)
    assert bool(words) is refused
    if refused:
        assert f"{gone} of {people + 1} mailboxes" in words
        assert f"REMOVALS={gone}" in words


def test_a_directory_is_compared_anew_where_it_became_different() -> None:
    planner = Planner(lambda: registry([person("1")]), TARGET)
    reads: list[str] = []

    def plan(written: str, text: str) -> Plan:
        def read() -> str:
            reads.append(text)
            return text

        return planner.plan(written, read)

    first = plan("", "")
    filled = "".join(change.entry() for change in first.changes)
    # Nobody knows when it was written: it is read, and found to be the same.
    assert plan("", "") is first
    assert plan("08:00", "") is first
    assert len(reads) == 3
    # It was not written since: it is not even read.
    assert plan("08:00", filled) is first
    assert len(reads) == 3
    # Each time another text, and a plan of its own.
    assert not plan("08:01", filled).changes
    assert plan("08:02", "").changes == first.changes
    # Somebody logged in.
    again = plan("08:03", "")
    assert plan("08:04", "") is again
    assert len(reads) == 7


def test_who_leaves_on_an_announced_day_is_not_counted() -> None:
    wanted = registry([person(str(n), until=date(2026, 1, 5)) for n in range(5)])
    directory = brought({}, wanted)
    plan = planned(wanted, directory, now=TARGET.now + timedelta(days=9))
    assert len(plan.changes) == 5
    assert plan.removals == 0


MOVES = (unit("a"), unit("b"))


@pytest.mark.regulation("12")
@pytest.mark.parametrize(
    ("units", "rows", "refused"),
    [
        ((unit("a", head="1"), unit("b")), [], "units.csv: line 2: person 1 .* is its head;"),
        (MOVES, [Delegation("a", "1", "send")], "d.csv: line 3: person 1 .* may send there;"),
        (MOVES, [Delegation("a", "1", "read", date(2025, 12, 31))], "may read there;"),
        (MOVES, [Delegation("a", "1", "read", None, date(2026, 1, 1))], "may read there;"),
        (MOVES, [Delegation("a", "1", "read", None, date(2025, 12, 31))], ""),
        (MOVES, [Delegation("b", "1", "read")], ""),
        (MOVES, [Delegation("a", "1", "read", date(2026, 1, 1))], ""),
        (MOVES, [Delegation("a", "1", "read", date(2026, 2, 1))], ""),
        ((unit("a", head="1"), unit("b")), [Delegation("a", "1", "read", date(2026, 1, 1))], ""),
        ((unit("b"),), [], ""),
    ],
)
def test_who_moves_keeps_a_right_on_the_former_units_mailbox_only_if_that_is_decided(
    units: Sequence[Unit], rows: Sequence[Delegation], refused: str
) -> None:
    base = TARGET.base
    # `b` has the postmaster's mail where `a` is closed.
    settings_ = TARGET.settings.model_copy(update={"postmaster_unit": units[-1].code})
    directory = brought({}, registry([person("1")], MOVES))
    after = replace(
        registry([person("1", unit="b")], units, rows),
        places={"a": "units.csv: line 2", **dict.fromkeys(rows, "d.csv: line 3")},
    )
    if refused:
        with pytest.raises(SiteError, match=refused) as error:
            planned(after, directory, settings=settings_)
        assert "person 1 moves from a to b and still" in str(error.value)
        assert "expected no right on the former unit's mailbox" in str(error.value)
        assert "with since from 2026-01-01 on" in str(error.value)
        return
    directory = apply(directory, planned(after, directory, settings=settings_).changes)
    assert directory[f"employeenumber=1,ou=people,{base}"]["departmentNumber"] == ["b"]
    # Once moved, nothing is asked again, whatever day it is.
    later = TARGET.now + timedelta(days=60)
    planned(after, directory, settings=settings_, now=later)


def test_a_mailbox_never_moves_by_the_way() -> None:
    two = ["store-a.example.vn", "store-b.example.vn"]
    wanted = registry([person("1", store="store-b")])
    directory = apply({}, planned(wanted, {}, stores=two).changes)
    assert directory[f"employeenumber=1,ou=people,{BASE}"]["mailHost"] == ["store-b.example.vn"]
    with pytest.raises(
        SiteError, match=r"expected .store-b., or nothing, or the mailbox moved: python -m deploy"
    ):
        planned(registry([person("1", store="store-a")]), directory, stores=two)


def test_a_successor_lies_on_the_store_of_the_mail_to_be_read() -> None:
    two = ["store-a.example.vn", "store-b.example.vn"]
    departed = person("1", state="departed", successor="2", store="store-a")
    with pytest.raises(SiteError, match=r"person 2 succeeds 1, but lies on store-b\.example\.vn"):
        planned(registry([departed, person("2", store="store-b")]), {}, stores=two)


def test_the_postmasters_address_is_not_taken_from_a_person() -> None:
    wanted = registry([person("1", address="abuse")])
    directory = apply({}, planned(wanted, {}, role_addresses=["postmaster"]).changes)
    words = "abuse@example.vn is the address of employeenumber=1 in the directory"
    with pytest.raises(SiteError, match=words):
        planned(registry([person("1")]), directory)


# -- what a run says -------------------------------------------------------------------------------


def test_the_plan_tells_what_time_alone_will_bring() -> None:
    people = [
        person("1", "Trần Thị Q", until=date(2026, 1, 30)),
        person("2", "Lê Văn B", until=date(2026, 1, 31)),
        person("3", "Ngô Văn C", state="departed"),
        person("4", "Bùi Văn D", state="locked", until=date(2026, 1, 2)),
        person("5", "Võ Văn E", unit="a"),
    ]
    directory = brought({}, registry(people))
    heading, *lines = planned(registry(people), directory).coming
    assert heading == "By time alone, within 30 days"
    assert lines == [
        "  2026-01-03 00:00: person 4 <dbv@example.vn> Bùi Văn D departs",
        "  2026-01-06 07:00: person 3 <cnv@example.vn> Ngô Văn C is archived",
        "  2026-01-31 00:00: person 1 <qtt@example.vn> Trần Thị Q departs",
    ]
    # `site-archive` on the store writes what follows.
    archived = {"mailboxState": ["archived"], "mailboxRetainUntil": ["20260110000000Z"]}
    dn = f"employeenumber=3,ou=people,{BASE}"
    directory[dn] = directory[dn] | archived
    later = planned(registry(people), directory)
    assert later.changes == ()
    assert "  2026-01-10 07:00: person 3 <cnv@example.vn> Ngô Văn C is purged" in later.coming
    assert planned(registry([person("5")]), {}).coming == ()


ALIEN = f"dn: employeeNumber=9,ou=people,{BASE}\nobjectClass: mailboxAccount\n\n"
"""An entry that the registry did not make."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[list[str], list[str]]]:
    """The operation on a directory, given as LDIF: the lines it says, and its commands."""

    def of(text: str, wanted: Registry, *, acts: bool) -> tuple[list[str], list[str]]:
        said: list[str] = []
        facts = {Written: "", DirectoryText: text}
        host = SimpleNamespace(get_fact=lambda fact, **_: facts[fact], print_prefix="", data={})
        monkeypatch.setattr(operations, "host", host)
        monkeypatch.setattr(operations, "state", SimpleNamespace(is_executing=acts))
        monkeypatch.setattr(operations, "logger", SimpleNamespace(info=said.append))
        commands = operations.registry_entries._inner(
            planner=Planner(lambda: wanted, TARGET), site=load("local"), password_file="/x"
        )
        return said, [str(command) for command in commands]

    return of


def in_text(directory: Entries) -> str:
    """A directory as LDIF."""
    return "".join(Change("add", dn, entry).entry() for dn, entry in directory.items())


def test_the_plan_says_what_a_run_brings_and_what_it_leaves_alone(
    run: Callable[..., tuple[list[str], list[str]]],
) -> None:
    wanted = replace(registry([person("1")]), notes=("people.csv: line 2: normalised",))
    said, commands = run(ALIEN, wanted, acts=False)
    words = planned(wanted, entries(ALIEN.splitlines())).words
    assert said == [
        "people.csv: line 2: normalised",
        f"not of the registry, left alone: employeenumber=9,ou=people,{BASE}",
        *words,
    ]
    assert any("anv@example.vn" in line for line in words)
    assert commands
    # The run itself does not say it again; where there is nothing to do, it does nothing.
    done = in_text(brought({}, wanted)) + ALIEN
    assert run(done, wanted, acts=True) == ([], [])
    said, commands = run(done, wanted, acts=False)
    assert [line.partition(":")[0] for line in said[:2]] == [
        "people.csv", "not of the registry, left alone",
    ]  # fmt: skip
    assert commands == []


def test_what_would_close_too_many_mailboxes_is_said_and_not_begun(
    run: Callable[..., tuple[list[str], list[str]]],
) -> None:
    done = in_text(brought({}, registry([person(str(n)) for n in range(9)])))
    with pytest.raises(OperationError, match="would lock or close 9 of 10 mailboxes"):
        run(done, registry(), acts=False)
    said, (command,) = run(done, registry(), acts=True)
    assert said == []
    assert command.startswith("echo 'the registry would lock or close 9 of 10 mailboxes")
    assert command.endswith(">&2; exit 1")


def test_a_department_shares_a_store_and_who_shares_a_mailbox_must() -> None:
    stores = [f"store-{letter}.example.vn" for letter in "abcdef"]
    units = [unit("a"), unit("b"), unit("b.x"), unit("b.y")]
    people = [person(str(n), unit=CODES[n % 4]) for n in range(40)]
    plan = planned(registry(people, units), {}, stores=stores)
    hosts = {
        normalized(change.dn): change.attributes["mailHost"][0]
        for change in plan.changes
        if "mailHost" in change.attributes
    }
    below_b = {hosts[f"cn={code},ou=mailboxes,{BASE}"] for code in ("b", "b.x", "b.y")}
    below_b |= {
        hosts[f"employeenumber={entry.id},ou=people,{BASE}"]
        for entry in people
        if entry.unit != "a"
    }
    assert len(below_b) == 1
    apart = [person("1", store="store-a"), person("2", store="store-b")]
    given = [Delegation("a", "1", "read"), Delegation("a", "2", "read")]
    with pytest.raises(SiteError, match="expected both on one store"):
        planned(registry(apart, delegations=given), {}, stores=stores)


def test_a_department_goes_where_its_top_unit_does_in_the_run_that_makes_it() -> None:
    stores = [f"store-{letter}.example.vn" for letter in "abcdef"]
    for store in "abcdef":
        units = [unit("a"), unit("b", store=f"store-{store}"), unit("b.x")]
        people = [person("1", unit="b"), person("2", unit="b.x")]
        made = apply({}, planned(registry(people, units), {}, stores=stores).changes)
        for dn in ("cn=b,ou=mailboxes", "cn=b.x,ou=mailboxes", "employeenumber=1,ou=people",
                   "employeenumber=2,ou=people"):  # fmt: skip
            assert made[f"{dn},{BASE}"]["mailHost"] == [f"store-{store}.example.vn"]


def test_a_department_stays_together_when_a_store_is_added() -> None:
    units = [unit(code) for code in ("a", "b")]
    few = [person("1", unit="a"), person("2", unit="b")]
    more = [*few, person("3", unit="a"), person("10", unit="b")]
    before = apply({}, planned(registry(few, units), {}).changes)
    added = [f"store-{letter}.example.vn" for letter in "abcdefgh"]
    after = apply(before, planned(registry(more, units), before, stores=added).changes)
    for new in ("3", "10"):
        assert after[f"employeenumber={new},ou=people,{BASE}"]["mailHost"] == TARGET.stores


def test_the_plan_says_in_words_what_changes_and_no_password() -> None:
    directory = brought({}, registry([person("1"), person("2", title="Văn thư")]))
    later = registry([person("2", title="Giám đốc"), person("3", "Lê Văn C")])
    plan = planned(later, directory)
    assert plan.words == (
        "Sở a (a)",
        "  created: person 3 <clv@example.vn> Lê Văn C: mailHost store-a.example.vn, "
        "mailboxQuota 2147483648",
        "  departed: person 1 <anv@example.vn> Nguyễn Văn A: closed; its mail is kept until "
        "2026-01-06 07:00",
        "  changed: person 2 <anv2@example.vn> Nguyễn Văn A: title: Văn thư -> Giám đốc",
        "1 created, 1 departed, 1 changed",
    )
    assert plan.new == ("3",)
    complete = with_passwords(plan, {"3": "{ARGON2}x"})
    assert complete.words == plan.words
    added = [change for change in complete.changes if change.kind == "add"][-1]
    assert added.attributes["userPassword"] == ["{ARGON2}x"]
    assert "pwdReset" not in added.attributes
    complete = with_passwords(plan, {"3": "{ARGON2}x"}, change_first=True)
    resets = [change.attributes.get("pwdReset") for change in complete.changes]
    assert resets.count(["TRUE"]) == 1
    assert complete.changes[resets.index(["TRUE"])].dn == added.dn


def test_a_change_of_one_attribute_is_one_small_step() -> None:
    directory = brought({}, registry([person("1")]))
    plan = planned(registry([person("1", phone="+84 273 000 001")]), directory)
    assert [change.ldif() for change in plan.changes] == [
        f"dn: employeeNumber=1,ou=people,{BASE}\nchangetype: modify\n"
        "replace: telephoneNumber\ntelephoneNumber: +84 273 000 001\n-\n\n"
    ]


def test_the_lab_has_what_the_other_tests_need() -> None:
    """Two members of a unit mailbox, one of the unit who is none, a tiny mailbox, a locked one."""
    lab = site_registry(load("local"))
    mailbox = brought({}, lab)[f"cn=stttt,ou=mailboxes,{BASE}"]
    readers = mailbox["mailboxReader"]
    assert len(mailbox["mailboxSender"]) >= 2
    of_unit = [TARGET.person(p.id) for p in lab.people.values() if p.unit == "stttt"]
    assert set(of_unit) - set(readers)
    assert [p for p in lab.people.values() if p.quota and p.quota <= 2 * 2**20]
    assert [p for p in lab.people.values() if p.state == "locked"]


@pytest.mark.regulation("16")
def test_a_unit_has_rules_of_its_own_over_the_provinces() -> None:
    rules = {
        "b": {"person_quota": "3GiB", "services": ["imap", "lmtp"]},
        "b.x": {"person_quota": "4GiB", "unit_quota": "7GiB"},
    }
    settings = AccountsSettings.model_validate({"postmaster_unit": "a", "unit_rules": rules})
    wanted = registry(
        [
            person("1"),
            person("2", unit="b"),
            person("3", unit="b.x"),
            person("4", unit="b.y", quota=2**30, services=("pop3",)),
        ],
        [unit("a"), unit("b"), unit("b.x"), unit("b.y")],
    )
    directory = apply({}, planned(wanted, {}, settings=settings).changes)

    def of(dn: str) -> tuple[int, list[str]]:
        found = directory[normalized(dn)]
        return int(found["mailboxQuota"][0]) // 2**30, sorted(found["mailboxService"])

    everything = sorted(settings.services)
    assert [of(TARGET.person(number)) for number in "1234"] == [
        (2, everything), (3, ["imap", "lmtp"]), (4, ["imap", "lmtp"]), (1, ["pop3"]),
    ]  # fmt: skip
    quotas = [of(TARGET.mailbox(code))[0] for code in ("a", "b", "b.x", "b.y")]
    assert quotas == [5, 5, 7, 5]
