"""A second site by SFTP, played by `outside1`.

An account there can do nothing but SFTP, below a folder that it cannot leave, at a port that is not
ssh's own. The backup host copies by its own unit, in that unit's sandbox.
"""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import SecretStr

from deploy.run import EXIT_DONE, run
from roles.backup.deploy import clients as holders
from roles.backup.deploy import server
from roles.common.secrets import TargetSecrets
from roles.common.site import ROOT, Site, SiteHost
from tests import clients, remote
from tests.deploys import overlaid

NAME, ACCOUNT, PORT = "second", "saoluu", 2222
HOME, KEPT = "/srv/second-site", "kho"
"""What the account sees as `/`, and the folder in it where it may write."""
RUN, UNIT = "/run/second-site", "second-site.service"
COPY = "site-backup-copy.service"
MAKE = f"""
set -eu
umask 022
useradd --no-create-home --home-dir / --shell /usr/sbin/nologin --password '*' {ACCOUNT}
mkdir {RUN} {HOME}
install -d -m 700 -o {ACCOUNT} -g {ACCOUNT} {HOME}/{KEPT}
for name in host other client; do ssh-keygen -q -t ed25519 -N '' -C '' -f {RUN}/$name; done
cp {RUN}/client.pub {RUN}/authorized
cat > {RUN}/sshd_config <<.
Port {PORT}
HostKey {RUN}/key
PidFile none
AuthorizedKeysFile {RUN}/authorized
PasswordAuthentication no
KbdInteractiveAuthentication no
AllowUsers {ACCOUNT}
PerSourcePenalties no
ChrootDirectory {HOME}
Subsystem sftp internal-sftp
ForceCommand internal-sftp
DisableForwarding yes
.
"""
START = (
    f"cp {RUN}/{{key}} {RUN}/key && systemd-run -q --collect -p Type=notify --unit={UNIT}"
    f" /usr/sbin/sshd -D -e -f {RUN}/sshd_config"
)
UNDO = (
    f"systemctl stop {UNIT} 2>/dev/null; userdel {ACCOUNT} 2>/dev/null; rm -rf {RUN} {HOME}; :"
)  # fmt: skip


@dataclass(frozen=True)
class Second:
    """The second site, which the backup host knows."""

    site: Site

    @property
    def keeper(self) -> SiteHost:
        """The backup host."""
        return server(self.site)

    def shell(self, command: str) -> str:
        """Run a command at the second site."""
        return remote.shell(self.site, clients.outside_address(self.site), command)

    def at_keeper(self, command: str, *, check: bool = True) -> str:
        """Run a command on the backup host."""
        return remote.shell(self.site, self.keeper.address, command, check=check)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Inside the block nobody answers there."""
        self.shell(f"systemctl stop {UNIT}")
        try:
            yield
        finally:
            self.shell(START.format(key="host"))

    @contextmanager
    def somebody_else(self) -> Iterator[None]:
        """Inside the block somebody answers there who has another key."""
        with self.away():
            self.shell(START.format(key="other"))
            try:
                yield
            finally:
                self.shell(f"systemctl stop {UNIT}")

    def copied(self) -> str:
        """Copy by the backup host's own unit; its result."""
        self.at_keeper(f"systemctl reset-failed {COPY} 2>/dev/null; systemctl start {COPY}",
                       check=False)  # fmt: skip
        return self.at_keeper(f"systemctl show -P Result {COPY}").strip()

    def copy(self, host: SiteHost) -> None:
        """Copy what one host backed up."""
        self.at_keeper(f"site-backup-keeper copy {host.name}")

    def alarms(self) -> dict[str, str]:
        """What the keeper says of copies: words by host."""
        said = self.at_keeper("site-backup-keeper status || test $? = 2")
        found = {}
        for line in said.splitlines():
            place, _, words = line.removeprefix("ALARM ").partition(": copy: ")
            if words and place.endswith(f"/{NAME}"):
                found[place.removesuffix(f"/{NAME}")] = words
        return found

    def snapshots(self, host: SiteHost) -> int:
        """How many backups of a host are kept there."""
        return len(self.shell(f"ls {HOME}/{KEPT}/{host.name}/snapshots").split())

    def restore(self, action: str, *words: str) -> tuple[int, str]:
        """What an operator types; the exit code, and what is said."""
        done = subprocess.run(
            [sys.executable, "-m", "deploy.restore", "--env", self.site.environment, action,
             *words, "--from", NAME],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr


def deployed(site: Site) -> None:
    """Deploy the backup host as the environment says now."""
    assert run("apply", "site", site.environment, [server(site).name], sys.stdout) == EXIT_DONE


@contextmanager
def knowing(site: Site, key: str) -> Iterator[None]:
    """Inside the block the lab's secrets have what opens the second site."""
    path = site.state / "secrets.toml"
    before = path.read_text(encoding="utf-8")
    own = {NAME: TargetSecrets(ssh_key=SecretStr(key))}
    path.write_text(site.secrets.model_copy(update={"backup_targets": own}).to_toml())
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")


@contextmanager
def second_site(site: Site) -> Iterator[Second]:
    """Inside the block there is one, which the backup host knows; every host has a backup."""
    made = Second(site)
    address = clients.outside_address(site)
    made.shell(UNDO)
    try:
        made.shell(MAKE)
        made.shell(START.format(key="host"))
        settings = (
            f"[backup.targets.{NAME}]\n"
            f'url = "sftp://{ACCOUNT}@{address}:{PORT}/{KEPT}"\n'
            f'host_key = "{made.shell(f"cat {RUN}/host.pub").strip()}"\n'
            'upload_limit = "0B"\n'
        )
        key = made.shell(f"cat {RUN}/client")
        try:
            with knowing(site, key), overlaid(settings):
                deployed(site)
                # Of a host without a backup nothing is copied.
                for host in holders(site):
                    remote.shell(site, host.address, "systemctl start site-backup.service")
                yield made
        finally:
            deployed(site)
            made.at_keeper(f"systemctl reset-failed {COPY}", check=False)
        # What opened it is there no more.
        assert made.at_keeper("cat /etc/site-backup/targets.json").strip() == "{}"
    finally:
        made.shell(UNDO)
