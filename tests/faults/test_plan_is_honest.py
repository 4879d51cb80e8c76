"""What `plan` prints is what `deploy` then changes, operation by operation and host by host."""

import io
import re
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from deploy.run import EXIT_CHANGES, EXIT_DONE, EXIT_ERROR, run
from roles.common.site import ROOT, Site
from roles.mailstore.facts import NO_ANSWER
from tests import remote
from tests.deploys import overlaid

CHANGE = """
[base]
journal_size = "96MiB"
banner = "Chỉ dành cho cán bộ được giao quyền."

[directory]
audit_kept = "399d"

[mta]
message_size = "45MiB"
recipients_per_hour = 500

[mailstore]
user_connections = 20
person_trash_keep = "29d"

[filtering]
queue = 90
bayes_letters = "179d"
local_signatures = ["roles/filtering/files/eicar.ndb", "{signatures}"]
"""
"""Settings that files of several daemons follow; each daemon has neighbours that shall rest."""


@pytest.fixture
def change(site: Site) -> Iterator[str]:
    """Settings to lay over the environment's; its own are deployed again afterwards."""
    signatures = site.state / "honest.ndb"
    signatures.write_text("Honest:0:*:686f6e657374\n")
    yield CHANGE.replace("{signatures}", str(signatures.relative_to(ROOT)))
    assert told(site, "apply")[0] == EXIT_DONE
    signatures.unlink()


def told(site: Site, action: str) -> tuple[int, dict[str, str]]:
    """The exit code, and each operation that changes something with its hosts."""
    log = io.StringIO()
    code = run(action, "site", site.environment, [], log)
    said = log.getvalue()
    assert code != EXIT_ERROR, said
    summary = said.rpartition(f"\n{site.environment}: ")[2]
    found = re.findall(r"^  (\w+(?:, \w+)*): (.+)$", summary, re.MULTILINE)
    return code, {name: hosts for hosts, name in found}


def test_a_deploy_changes_what_the_plan_names(site: Site, change: str) -> None:
    # There, and back again: what was added is removed.
    for settings in (change, ""):
        with overlaid(settings):
            code, planned = told(site, "plan")
            assert code == EXIT_CHANGES
            assert planned
            assert told(site, "apply")[1] == planned
            assert told(site, "plan") == (EXIT_DONE, {})


def test_a_store_is_deployed_while_the_directory_is_down(site: Site) -> None:
    store = site.group("store")[0]
    with ExitStack() as stack:
        for host in site.group("directory"):
            stack.enter_context(remote.stopped(site, host.address, "slapd.service"))
        log = io.StringIO()
        code = run("plan", "site", site.environment, [store.name], log)
        assert code == (EXIT_CHANGES if store.serves("directory") else EXIT_DONE), log.getvalue()
        assert NO_ANSWER in log.getvalue()
        assert run("apply", "site", site.environment, [store.name], log) == EXIT_DONE
