"""A real Chromium, as an official uses it: it trusts the site's CA and finds the public name."""

import os
import re
import shutil
import subprocess
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from roles.common.site import ROOT, Site
from tests import clients
from tests.browser.namespace import wrapped
from tests.browser.webmail import Webmail

PROGRAMS = {
    "chromium": "chromium",
    "certutil": "libnss3-tools",
    "fc-match": "fontconfig",
    "nsenter": "util-linux",
    "ip": "iproute2",
}
"""What these tests need on the machine that runs them, each with its Debian package."""
SECONDS = 30
"""How long is waited for what a page shall show."""
FONTS = "fonts-noto-core"
"""Letters of every Vietnamese character, for who looks at the screenshots."""


@pytest.fixture(scope="session")
def programs() -> None:
    """Chromium and its tools; installed where that is possible, as `make test` does."""
    missing = [package for name, package in PROGRAMS.items() if not shutil.which(name)]
    if not missing:
        return
    install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing, FONTS]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.fail(f"not installed: {' '.join(missing)}; run as root: {' '.join(install)}")
    subprocess.run(["apt-get", "update", "-q"], check=True)
    subprocess.run(install, check=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


@pytest.fixture(scope="session")
def home(site: Site, programs: None, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ARG001
    """A home in which Chromium trusts the site's CA, besides those it brings along."""
    folder = tmp_path_factory.mktemp("home")
    store = folder / ".pki" / "nssdb"
    store.mkdir(parents=True)
    certutil = ["certutil", "-d", f"sql:{store}"]
    subprocess.run([*certutil, "-N", "--empty-password"], check=True)
    subprocess.run(
        [*certutil, "-A", "-t", "C,,", "-n", "site", "-i", str(site.state / "ca.pem")], check=True
    )
    return folder


@pytest.fixture(scope="session")
def browser(site: Site, home: Path) -> Iterator[Browser]:
    """One Chromium for all tests, in a network in which there is the webmail and nobody else."""
    chromium = shutil.which("chromium")
    assert chromium
    with (
        wrapped(chromium, clients.address_of(site, "front"), home) as program,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=program,
            # Without UTF-8 it would give up names of files that are not ASCII.
            env={"HOME": str(home), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
            args=[
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                f"--host-resolver-rules=MAP {site.mail_name} 127.0.0.1, MAP * ~NOTFOUND",
            ],
        )
        # Generous, since no test depends on speed.
        expect.set_options(timeout=SECONDS * 1000)
        yield browser
        browser.close()


_failed = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether a test failed, for its fixtures."""
    report = yield
    if call.when == "call":
        item.stash[_failed] = report.failed
    return report


@pytest.fixture
def webmail(site: Site, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Webmail]:
    """A window of its own, with no cookies; what went wrong in it fails the test.

    Where a test fails, what the window showed is kept in `.cache/reports/browser`.
    """
    context = browser.new_context(
        base_url=f"https://{site.mail_name}/",
        locale="en-US",  # the webmail is Vietnamese whatever the browser asks for
        timezone_id="Asia/Ho_Chi_Minh",
        viewport={"width": 1280, "height": 800},
    )
    context.set_default_timeout(SECONDS * 1000)
    window = Webmail(context.new_page(), site)
    yield window
    if request.node.stash.get(_failed, True):
        name = re.sub(r"\W+", "-", request.node.name).strip("-")
        window.page.screenshot(path=ROOT / ".cache" / "reports" / "browser" / f"{name}.png")
    context.close()
    assert window.problems == []
