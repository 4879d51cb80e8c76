"""The role `webmail`: what runs, as whom, and who may read what."""

import json
import re

import pytest
from testinfra.host import Host

from roles.common.site import Site, SiteHost
from roles.webmail.facts import SCHEMA
from roles.webmail.roundcube import TEXTS
from roles.webmail.settings import WebmailSettings

CONFIG = "/etc/roundcube/config.inc.php"

LABELS = r"""
$root = '/usr/share/roundcube';
function texts($file) {
    $labels = $messages = [];
    if (is_file($file)) {
        include $file;
    }
    return $labels + $messages;
}
$core = "$root/program/localization";
$sets = ['core' => [
    texts("$core/en_US/labels.inc") + texts("$core/en_US/messages.inc"),
    texts("$core/vi_VN/labels.inc") + texts("$core/vi_VN/messages.inc"),
]];
include '/etc/roundcube/config.inc.php';
foreach ($config['plugins'] as $plugin) {
    $folder = "$root/plugins/$plugin/localization";
    $sets[$plugin] = [texts("$folder/en_US.inc"), texts("$folder/vi_VN.inc")];
}
$report = [];
foreach ($sets as $name => [$english, $vietnamese]) {
    $ours = texts("/var/lib/roundcube/plugins/province/localization/$name.inc");
    $report[$name] = [
        'missing' => array_keys(array_diff_key($english, $ours + $vietnamese)),
        'english' => (object) $english,
        'shown' => (object) array_intersect_key($ours + $vietnamese, $english),
    ];
}
echo json_encode($report);
"""
"""Every text of the core and of the enabled plug-ins: in English, and as a Vietnamese reads it."""

SENDERS = r"""
require '/var/lib/roundcube/plugins/province/province_directory.php';
$person = ['mail' => ['a@x.vn'], 'displayname' => ['A'], 'cn' => [], 'mailboxsendas' => ['u@x.vn']];
$unit = ['mail' => ['u@x.vn'], 'displayname' => ['U']];
foreach ([[null], [[$person], null], [[$person], []], [[$person], [$unit]]] as $answers) {
    $directory = new class([], $answers) extends province_directory {
        public function __construct(array $config, private array $answers)
        {
            parent::__construct($config);
        }
        public function find(string $filter, array $attributes, int $limit = 0): ?array
        {
            return array_shift($this->answers);
        }
    };
    $report[] = $directory->senders('a@x.vn');
}
echo json_encode($report);
"""
"""Who may write as whom: the directory is silent, falls silent, knows no such unit, answers."""

SORTING = r"""
$names = ['Ơn', 'Đỗ', 'Âu', 'Yên', 'Oanh', 'Ưng', 'Ăn', 'Dương', 'An', 'Ông', 'Uyên'];
setlocale(LC_ALL, 'vi_VN.utf8', 'vi_VN.UTF-8', 'en_US.utf8', 'en_US.UTF-8');
usort($names, 'strcoll');
echo implode(' ', $names);
"""
"""As Roundcube sorts folders: `rcmail::set_user`, `rcube_imap::sort_folder_comparator`."""


@pytest.mark.parametrize(
    "unit",
    ["nginx.service", "php8.4-fpm.service", "roundcube-gc.timer", "roundcube-cleandb.timer"],
)
def test_it_runs_and_begins_with_the_host(host: Host, unit: str) -> None:
    service = host.service(unit)
    assert service.is_running
    assert service.is_enabled


@pytest.mark.parametrize("unit", ["roundcube-gc.service", "roundcube-cleandb.service"])
def test_old_sessions_and_records_are_swept(host: Host, unit: str) -> None:
    assert host.check_output("systemctl show --value -p Result %s", unit) == "success"
    assert host.check_output("systemctl show --value -p User %s", unit) == "webmail"


def test_it_listens_for_clients(host: Host) -> None:
    for port in (80, 443):
        assert host.socket(f"tcp://0.0.0.0:{port}").is_listening


def test_php_is_never_root(host: Host, site: Site, me: SiteHost) -> None:
    users = host.check_output("ps -C php-fpm8.4 -o user=").split()
    assert set(users) == {"webmail"}
    assert len(users) <= site.of(WebmailSettings, me.name).workers + 1


def test_only_the_master_of_nginx_is_root(host: Host) -> None:
    users = host.check_output("ps -C nginx -o user=").split()
    assert users.count("root") == 1
    assert set(users) == {"root", "www-data"}


def test_only_the_webmail_reads_its_secrets(host: Host) -> None:
    file = host.file(CONFIG)
    assert (file.mode, file.user, file.group) == (0o640, "root", "webmail")
    members = host.check_output("getent group webmail").rpartition(":")[2]
    assert members == "", "nginx, or somebody else, could read the configuration"
    for folder in ("temp", "upload"):
        state = host.file(f"/var/lib/webmail/{folder}")
        assert (state.mode, state.user) == (0o700, "webmail")


def test_nginx_alone_reaches_php(host: Host) -> None:
    socket = host.file("/run/webmail/php.sock")
    assert socket.user == "webmail"
    assert socket.mode & 0o007 == 0


def test_the_configuration_on_disk_is_good(host: Host) -> None:
    host.check_output("nginx -t -q")
    host.check_output("runuser -u webmail -- php-fpm8.4 --test")
    host.check_output(f"/usr/local/libexec/site/check-roundcube {CONFIG}")


def test_an_unknown_option_is_refused(host: Host) -> None:
    found = host.run(
        "file=$(mktemp) && printf '<?php $config = [\"imap_hots\" => 1];' > $file &&"
        " { /usr/local/libexec/site/check-roundcube $file; result=$?; rm $file; exit $result; }"
    )
    assert found.rc == 1
    assert "'imap_hots']: Roundcube has no such option" in found.stderr


def test_the_tables_are_of_the_installed_version(host: Host) -> None:
    assert host.check_output(f"runuser -u webmail -- {SCHEMA} status") == "current"


def test_debians_database_tool_has_no_part(host: Host) -> None:
    assert "dbc_install='false'" in host.file("/etc/dbconfig-common/roundcube.conf").content_string


def test_the_database_is_verified(host: Host) -> None:
    dsn = re.search(r"db_dsnw'\] = '([^']*)'", host.file(CONFIG).content_string)
    assert dsn
    assert "sslmode=verify-full" in dsn[1]
    assert "sslrootcert=/etc/site-tls/ca.pem" in dsn[1]


def test_a_renewed_certificate_is_read(host: Host) -> None:
    assert host.file("/etc/site-tls/reload.d/webmail").mode == 0o755


def test_folders_sort_in_vietnamese_order(host: Host) -> None:
    found = host.check_output("php8.4 -r %s", SORTING)
    assert found == "An Ăn Âu Dương Đỗ Oanh Ông Ơn Uyên Ưng Yên"


def test_an_upgrade_of_the_c_library_keeps_that_order(host: Host) -> None:
    assert host.file("/etc/locale.gen").contains("^vi_VN UTF-8$")


@pytest.mark.regulation("3.3")
def test_every_text_is_vietnamese(host: Host) -> None:
    report = json.loads(host.check_output("php8.4 -r %s", LABELS))
    missing = [f"{name}: {label}" for name, texts in report.items() for label in texts["missing"]]
    assert missing == []
    assert sum(len(texts["shown"]) for texts in report.values()) > 1000


def test_a_translation_keeps_every_variable(host: Host) -> None:
    report = json.loads(host.check_output("php8.4 -r %s", LABELS))
    lost = []
    for name, texts in report.items():
        for label, english in texts["english"].items():
            shown = texts["shown"].get(label, english)
            if set(re.findall(r"\$\w+", english)) != set(re.findall(r"\$\w+", shown)):
                lost.append(f"{name}: {label}: {shown}")
    assert lost == []


def test_our_texts_are_all_installed(host: Host) -> None:
    folder = "/var/lib/roundcube/plugins/province/localization"
    assert sorted(host.file(folder).listdir()) == sorted(f"{name}.inc" for name in TEXTS)


def test_a_directory_that_falls_silent_takes_no_identity_away(host: Host) -> None:
    assert json.loads(host.check_output("php8.4 -r %s", SENDERS)) == [
        None,
        None,
        {"a@x.vn": "A"},
        {"a@x.vn": "A", "u@x.vn": "U"},
    ]


def test_nothing_went_wrong_since_it_started(host: Host) -> None:
    since = host.check_output(
        "systemctl show --value --timestamp=unix -p ActiveEnterTimestamp php8.4-fpm"
    )
    found = host.check_output(
        f"journalctl --no-pager -q -o cat -p err --since={since} -t webmail-php"
    )
    assert found == ""
