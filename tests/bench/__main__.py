"""`make bench`: measures side by side in one run, and prints ratios."""

import os
import sys

from roles.common.site import load
from tests.bench import backup, deploy, filtering, rebuild, registry
from tests.lab.lab import LabInstance

ENVIRONMENT = "local"
INSTANCE = "bench"
FIRST_DEPLOY_AT_MOST = 1.5
UNCHANGED_AT_MOST = 15.0
SPAMD_AT_LEAST = 1.0
AMAVIS_AT_LEAST = 1.5
IMPORT_AT_MOST = 60.0
PLAN_AT_MOST = 5.0
CHANGE_AT_MOST = 5.0
LOOK_UP_AT_MOST = 2.0


def main() -> int:
    """Run every bench in a lab of its own; fail where a figure misses its bound."""
    os.environ["LAB_INSTANCE"] = INSTANCE
    site = load(ENVIRONMENT, INSTANCE)
    lab = LabInstance(site, INSTANCE)
    try:
        lab.down(keep=True)
        lab.up()
        deployed = deploy.deploy(site)
        backups = backup.measure(site)
        # Before people come who are in the registry for a while only.
        rebuilt = rebuild.measure(site, lab)
        people = registry.measure(site)
        rates = filtering.measure(site)
        lab.down(keep=True)
        lab.up()
        packages = deploy.install(site, deployed.packages)
    finally:
        lab.down()
    good = [
        _figure(
            "first deploy of all hosts / bare apt-get install of the same packages",
            deployed.first / packages,
            f"{deployed.first:.0f} s / {packages:.0f} s",
            most=FIRST_DEPLOY_AT_MOST,
        ),
        _figure("a deploy that changes nothing, s", deployed.unchanged, most=UNCHANGED_AT_MOST),
        _figure(
            f"{registry.PEOPLE} people in {registry.UNITS} units: first import, s",
            people.first_import,
            most=IMPORT_AT_MOST,
        ),
        _figure("  a plan that finds nothing, s", people.unchanged_plan, most=PLAN_AT_MOST),
        _figure("  one change, s", people.one_change, most=CHANGE_AT_MOST),
        _figure(
            "  a look-up of the mail servers, median, ms",
            people.look_up * 1000,
            most=LOOK_UP_AT_MOST,
        ),
        _against("spamd", rates, least=SPAMD_AT_LEAST),
        _against("amavis", rates, least=AMAVIS_AT_LEAST),
        _against("unfiltered", rates, least=0),
        _figure(
            f"backup of {backup.PEOPLE * backup.EACH} letters, 1 % new / rsync of them",
            backups.backup / backups.rsync,
            f"{backups.backup:.1f} s / {backups.rsync:.1f} s; "
            + ", ".join(f"{what} {seconds:.1f} s" for what, seconds in backups.steps.items()),
        ),
        _figure(
            "restore of a mailbox of 1 GiB / cp -a of it",
            backups.restore / backups.copy,
            f"{backups.restore:.1f} s / {backups.copy:.1f} s; to fetch it and read it back"
            f" {backups.fetched:.1f} s, the rest to put each letter into the mailbox",
        ),
        _figure(
            "restore of the whole site (RTO) / first deploy",
            rebuilt.seconds / deployed.first,
            f"{rebuilt.seconds:.0f} s / {deployed.first:.0f} s;"
            f" {rebuilt.mail / 2**30:.1f} GiB in the mailboxes",
        ),
    ]
    return 0 if all(good) else 1


def _against(other: str, rates: dict[str, float], least: float) -> bool:
    """Print how fast letters are stored through the pipeline, compared with another way."""
    return _figure(
        f"letters through the pipeline / {other}",
        rates["pipeline"] / rates[other],
        f"{rates['pipeline']:.1f}/s / {rates[other]:.1f}/s",
        least=least,
    )


def _figure(
    what: str, value: float, detail: str = "", *, most: float = float("inf"), least: float = 0
) -> bool:
    """Print a figure with its bound; whether it keeps it."""
    good = least <= value <= most
    bound = f"at most {most}" if most < float("inf") else f"at least {least}"
    notes = "; ".join(
        note for note in (bound if most < float("inf") or least else "", detail) if note
    )
    sys.stdout.write(f"{what}: {value:.2f} ({notes}) {'ok' if good else 'MISSED'}\n")
    return good


if __name__ == "__main__":
    sys.exit(main())
