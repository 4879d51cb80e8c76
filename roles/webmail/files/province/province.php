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
        return $args;
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
            'groups' => false,
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

    /** Unit mailboxes show by the units' names, and the folders in them in Vietnamese. */
    public function render_mailboxlist(array $args): array
    {
        // Unit mailboxes are users of the store, whose folders others see.
        foreach (rcmail::get_instance()->get_storage()->get_namespace('other') ?? [] as [$prefix]) {
            $this->name_unit_folders($args['list'], $prefix, $this->directory()->units());
        }
        return $args;
    }

    /**
     * @param array<string, array<string, mixed>> $folders one level of the tree of folders
     * @param string                              $prefix  what the names of unit mailboxes begin with
     * @param array<string, string>               $units   names of units by their codes
     */
    private function name_unit_folders(array &$folders, string $prefix, array $units): void
    {
        foreach ($folders as &$folder) {
            if (str_starts_with($folder['id'], $prefix)) {
                $path = explode('/', substr($folder['id'], strlen($prefix)));
                $label = self::FOLDERS[end($path)] ?? null;
                if (count($path) === 1) {
                    $folder['name'] = $units[$path[0]] ?? $folder['name'];
                } elseif (count($path) === 2 && $label) {
                    $folder['name'] = rcube::get_instance()->gettext($label);
                }
            }
            if (!empty($folder['folders'])) {
                $this->name_unit_folders($folder['folders'], $prefix, $units);
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
}
