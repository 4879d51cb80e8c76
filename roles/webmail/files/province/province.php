<?php

/**
 * What the province's webmail adds to Roundcube:
 *
 *  - the Vietnamese texts that the packages lack (localization/),
 *  - one identity for each address that the directory lets the user write from,
 *  - the province's address book, searched without regard to diacritics,
 *  - old Vietnamese encodings by all their names,
 *  - the client's own address for the login proxy, for its log and its penalties,
 *  - no log-in that nginx has not counted,
 *  - what is to be said and done about passwords, and passwords for single applications,
 *  - the end of a session whose owner may no longer, with the reason on the log-in page,
 *  - the log-in page, and an honest answer while the database is down.
 *
 * It stands first in the list of plug-ins: the first one to name a text wins.
 */
class province extends rcube_plugin
{
    private const BOOK = 'province';

    /** Names that mail programs gave to the encodings before Unicode, and the C library's names. */
    private const ENCODINGS = [
        'CSVISCII' => 'VISCII',
        'VISCII111' => 'VISCII',
        'TCVN3' => 'TCVN5712-1',
        'VIETTCVN' => 'TCVN5712-1',
        'VIETTCVN5712' => 'TCVN5712-1',
        'TCVN57121' => 'TCVN5712-1',
    ];

    /** The folders that the store makes in a unit mailbox, and their labels. */
    private const FOLDERS = [
        'Archive' => 'archive.archivefolder',
        'Drafts' => 'drafts',
        'Junk' => 'junk',
        'Sent' => 'sent',
        'Trash' => 'trash',
    ];

    /** Seconds between two questions to the directory whether somebody who is logged in still may. */
    private const LOOK = 30;

    /** Seconds after a log-in, or a change of the password in the webmail, in which one counts as known. */
    private const KNOWN = 10;

    /** Why a session was ended; each has a text. */
    private const ENDED = ['closed', 'password'];

    /** What must be there before the plug-ins are initialised: errors may come earlier. */
    public function onload(): void
    {
        $this->add_hook('raise_error', [$this, 'raise_error']);
        rcube_charset::$aliases += self::ENCODINGS;
    }

    public function init(): void
    {
        $this->add_vietnamese_texts();
        $this->add_hook('authenticate', [$this, 'authenticate']);
        $this->add_hook('storage_connect', [$this, 'storage_connect']);
        $this->add_hook('login_after', [$this, 'login_after']);
        $this->add_hook('startup', [$this, 'startup']);
        $this->add_hook('render_page', [$this, 'render_page']);
        $this->add_hook('password_change', [$this, 'password_change']);
        $this->add_hook('settings_actions', [$this, 'settings_actions']);
        $this->add_hook('addressbooks_list', [$this, 'addressbooks_list']);
        $this->add_hook('addressbook_get', [$this, 'addressbook_get']);
        $this->add_hook('render_mailboxlist', [$this, 'render_mailboxlist']);
        $this->add_hook('render_folder_selector', [$this, 'render_mailboxlist']);
        $this->add_hook('preferences_sections_list', [$this, 'preferences_sections_list']);
        $this->add_hook('template_object_loginform', [$this, 'loginform']);
        $this->include_stylesheet('province.css');
        if ($this->api->task === 'login') {
            $this->api->add_content($this->contact(), 'loginfooter');
            // A link to write to the postmaster is of no use to who cannot log in.
            rcube::get_instance()->config->set('support_url', '');
        }
    }

    /**
     * Texts are merged over those of the core, and set before other plug-ins add theirs. Our own
     * exist in Vietnamese only.
     */
    private function add_vietnamese_texts(): void
    {
        $vietnamese = ($_SESSION['language'] ?? '') === 'vi_VN';
        $texts = [];
        foreach (glob("{$this->home}/localization/*.inc") as $file) {
            $domain = basename($file, '.inc');
            if (!$vietnamese && $domain !== 'province') {
                continue;
            }
            foreach (rcube::read_localization_file($file) as $name => $text) {
                $texts[$domain === 'core' ? $name : "$domain.$name"] = $text;
            }
        }
        rcube::get_instance()->load_language(null, [], $texts);
        // The core has handed its commonest texts to the page already.
        $output = rcmail::get_instance()->output;
        if ($output instanceof rcmail_output_html) {
            $output->add_label((fn () => array_keys($this->js_labels))->call($output));
        }
    }

    /** Without its database Roundcube shows its error page with status 200; the truth is 503. */
    public function raise_error(array $args): array
    {
        $db = rcube::get_instance()->db;
        if (($args['type'] ?? '') === 'db' && $db && !$db->is_connected() && !headers_sent()) {
            http_response_code(503);
        }
        if (($args['type'] ?? '') === 'imap') {
            // The store refuses whom the webmail knows: perhaps rightly.
            $this->end_if_no_longer();
        }
        return $args;
    }

    /**
     * End the session of somebody who was locked, departed or lost the webmail, or whose password was changed
     * elsewhere: the log-in page says why. Where the directory is silent nothing happens.
     */
    private function end_if_no_longer(): void
    {
        $rcmail = rcmail::get_instance();
        if (empty($_SESSION['user_id']) || !isset($_SESSION['province_since'])) {
            return;
        }
        $_SESSION['province_looked'] = time();
        $reason = $this->directory()->no_longer($rcmail->get_user_name(), $_SESSION['province_since']);
        if ($reason === null) {
            return;
        }
        $rcmail->session->log(sprintf('%s: session ended: %s', $rcmail->get_user_name(), $reason));
        $rcmail->kill_session();
        $page = ['_task' => 'login', '_ended' => $reason];
        if ($rcmail->output->ajax_call || $rcmail->output->get_env('framed')) {
            $rcmail->output->command('session_error', $rcmail->url($page));
            $rcmail->output->send('iframe');
        }
        $rcmail->output->redirect($page);
    }

    /** From now on another password was changed by somebody else. */
    private function remember_now(): void
    {
        $_SESSION['province_since'] = gmdate('YmdHis\Z', time() + self::KNOWN);
        $_SESSION['province_looked'] = time();
    }

    /**
     * To whoever is not logged in Roundcube treats every request as one of the task `login`, and takes
     * the action from the body as well: what nginx has not counted as a log-in is none.
     */
    public function authenticate(array $args): array
    {
        if (empty($_SERVER['LOGIN_COUNTED'])) {
            $args['valid'] = false;
        }
        return $args;
    }

    /** The proxy trusts its own host's webmail to say who the client is. */
    public function storage_connect(array $args): array
    {
        $args['preauth_ident'] = ['x-originating-ip' => rcube_utils::remote_addr()];
        return $args;
    }

    /** Bring the user's identities in line with the directory. Where it is silent, nothing changes. */
    public function login_after(array $args): array
    {
        $this->remember_now();
        if ($this->passwords()->logged_in(rcmail::get_instance()->get_user_name())) {
            $args = ['_task' => 'settings', '_action' => 'plugin.password'];
        }
        $user = rcmail::get_instance()->user;
        $address = rcmail::get_instance()->get_user_name();
        $allowed = $this->directory()->senders($address);
        if ($allowed === null) {
            return $args;
        }
        $known = [];
        foreach ($user->list_identities() as $identity) {
            $email = strtolower($identity['email']);
            if (!isset($allowed[$email])) {
                $user->delete_identity($identity['identity_id']);
                continue;
            }
            $known[$email] = true;
            if ($identity['name'] === '') {
                $user->update_identity($identity['identity_id'], ['name' => $allowed[$email]]);
            }
        }
        foreach (array_diff_key($allowed, $known) as $email => $name) {
            $user->insert_identity([
                'name' => $name,
                'email' => $email,
                'standard' => (int) ($email === $address && !$known),
            ]);
        }
        return $args;
    }

    public function startup(array $args): array
    {
        if (!empty($_SESSION['user_id'])) {
            if (time() - ($_SESSION['province_looked'] ?? 0) >= self::LOOK && $args['task'] !== 'logout') {
                $this->end_if_no_longer();
            }
            $this->passwords()->keep_to_the_form($args);
        } elseif (in_array($_GET['_ended'] ?? '', self::ENDED, true)) {
            rcmail::get_instance()->output->show_message("province.ended$_GET[_ended]", 'warning', null, true, -1);
        }
        if ($args['task'] === 'settings' && rcube::get_instance()->config->get('province_passwords')['applications']) {
            $passwords = $this->passwords();
            $this->register_action('plugin.province-apps', [$passwords, 'page']);
            $this->register_action('plugin.province-apps-create', [$passwords, 'create']);
            $this->register_action('plugin.province-apps-revoke', [$passwords, 'revoke']);
        }
        return $args;
    }

    public function render_page(array $args): array
    {
        $this->passwords()->say();
        return $args;
    }

    public function password_change(array $args): array
    {
        $this->passwords()->changed();
        $this->remember_now();
        return $args;
    }

    public function settings_actions(array $args): array
    {
        if (rcube::get_instance()->config->get('province_passwords')['applications']) {
            $args['actions'][] = [
                'action' => 'plugin.province-apps',
                'class' => 'password apps',
                'label' => 'apps',
                'title' => 'apps',
                'domain' => 'province',
            ];
        }
        return $args;
    }

    public function addressbooks_list(array $args): array
    {
        // There are no photos in it: no need to ask for one with every letter that is opened.
        if (rcmail::get_instance()->action === 'photo') {
            return $args;
        }
        // Before the personal ones: what is looked for is mostly a colleague.
        $book = [
            'id' => self::BOOK,
            'name' => rcube::get_instance()->config->get('province_directory')['name'],
            'groups' => true,
            'readonly' => true,
            'undelete' => false,
            'autocomplete' => true,
        ];
        $args['sources'] = [self::BOOK => $book] + $args['sources'];
        return $args;
    }

    public function addressbook_get(array $args): array
    {
        if ($args['id'] === self::BOOK) {
            require_once "{$this->home}/province_addressbook.php";
            $config = rcube::get_instance()->config;
            $args['instance'] = new province_addressbook(
                $config->get('province_directory'),
                (bool) $config->get('ldap_debug'),
                $config->get('mail_domain'),
                $this->directory(),
            );
        }
        return $args;
    }

    /** The folders in unit mailboxes, which the store shows by the units' names, in Vietnamese. */
    public function render_mailboxlist(array $args): array
    {
        // Unit mailboxes are users of the store, whose folders others see.
        foreach (rcmail::get_instance()->get_storage()->get_namespace('other') ?? [] as [$prefix]) {
            $this->name_unit_folders($args['list'], $prefix);
        }
        return $args;
    }

    /**
     * @param array<string, array<string, mixed>> $folders one level of the tree of folders
     * @param string                              $prefix  what the names of unit mailboxes begin with
     */
    private function name_unit_folders(array &$folders, string $prefix): void
    {
        foreach ($folders as &$folder) {
            if (str_starts_with($folder['id'], $prefix)) {
                $path = explode('/', substr($folder['id'], strlen($prefix)));
                $label = self::FOLDERS[end($path)] ?? null;
                if (count($path) === 2 && $label) {
                    $folder['name'] = rcube::get_instance()->gettext($label);
                }
            }
            if (!empty($folder['folders'])) {
                $this->name_unit_folders($folder['folders'], $prefix);
            }
        }
    }

    /** Not here: a browser extension that nobody has, and folders that the store names. */
    public function preferences_sections_list(array $args): array
    {
        unset($args['list']['encryption'], $args['list']['folders']);
        return $args;
    }

    /** Above the form: where one is; below: what to type. */
    public function loginform(array $args): array
    {
        $config = rcube::get_instance()->config;
        $head = html::div(
            ['id' => 'province-head'],
            html::div(['class' => 'organisation'], rcube::Q($config->get('province_organisation')))
            . html::div(['class' => 'product'], rcube::Q($config->get('product_name')))
        );
        $example = sprintf('ten@%s', $config->get('mail_domain'));
        $hint = $this->gettext(['name' => 'loginhint', 'vars' => ['example' => $example]]);
        $args['content'] = $head . $args['content'] . html::p(['id' => 'province-hint'], rcube::Q($hint));
        return $args;
    }

    /** Whom to turn to (regulation, article 11). */
    private function contact(): string
    {
        $text = $this->gettext([
            'name' => 'contact',
            'vars' => ['contact' => rcube::get_instance()->config->get('province_contact')],
        ]);
        return html::span(['id' => 'province-contact'], rcube::Q($text));
    }

    private function directory(): province_directory
    {
        require_once "{$this->home}/province_directory.php";
        return new province_directory(rcube::get_instance()->config->get('province_directory'));
    }

    private function passwords(): province_passwords
    {
        require_once "{$this->home}/province_passwords.php";
        return new province_passwords($this, $this->directory());
    }
}
