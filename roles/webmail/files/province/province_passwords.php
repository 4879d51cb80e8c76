<?php

/**
 * What the webmail does about passwords besides changing them: whoever must change theirs does nothing
 * else before; whose password expires soon is told; and a page on which one makes, and revokes,
 * passwords for single applications, such as the mail program of a telephone.
 */
class province_passwords
{
    /** A password for an application: five groups; the first two name it, the others are secret. */
    public const FORM = '/^[a-z2-9]{4}(-[a-z2-9]{4}){4}$/';

    /** Without characters that look alike on paper. */
    private const ALPHABET = 'abcdefghjkmnpqrstuvwxyz23456789';

    /** What an application may use, in the order of the page; those that are chosen beforehand. */
    private const SERVICES = ['imap' => true, 'pop3' => false, 'submission' => true, 'sieve' => false];

    /** So many somebody may have at a time. */
    private const MOST = 20;

    /** Pages that are open to who must change the password first. */
    private const OPEN = ['plugin.password', 'plugin.password-save', 'keep-alive', 'refresh'];

    private rcmail $rcmail;

    public function __construct(private rcube_plugin $plugin, private province_directory $directory)
    {
        $this->rcmail = rcmail::get_instance();
    }

    // -- at the log-in ------------------------------------------------------------------------------

    /** Remember what is to be done about the password of who logs in; whether its form comes first. */
    public function logged_in(string $address): bool
    {
        $_SESSION['province_change'] = (bool) $this->directory->must_change($address);
        if ($_SESSION['province_change']) {
            return true;
        }
        $person = $this->as_user();
        if (!is_array($person) || $person['expires'] === null) {
            return false;
        }
        // The form says so.
        $_SESSION['password_expires'] = $this->rcmail->format_date(time() + $person['expires']);
        return true;
    }

    /** @param array{task: string, action: string} $args where the browser wants to go */
    public function keep_to_the_form(array $args): void
    {
        if (empty($_SESSION['province_change']) || in_array($args['task'], ['login', 'logout'])) {
            return;
        }
        if ($args['task'] === 'settings' && in_array($args['action'], self::OPEN)) {
            return;
        }
        $form = ['_task' => 'settings', '_action' => 'plugin.password'];
        if ($this->rcmail->output->ajax_call) {
            $this->rcmail->output->command('redirect', $this->rcmail->url($form));
            $this->rcmail->output->send();
        }
        $this->rcmail->output->redirect($form);
    }

    /** On the form: that the password must be changed. */
    public function say(): void
    {
        if (!empty($_SESSION['province_change']) && $_SERVER['REQUEST_METHOD'] === 'GET') {
            $this->rcmail->output->show_message('province.passwordchange', 'warning', null, true, 60);
        }
    }

    public function changed(): void
    {
        $this->rcmail->session->remove('province_change');
    }

    // -- passwords for applications -----------------------------------------------------------------

    /** The page: a form for a new one, and those that there are. */
    public function page(): void
    {
        $this->show();
    }

    /** Make one; its page is the only one that shows it. */
    public function create(): void
    {
        $this->rcmail->request_security_check(rcube_utils::INPUT_POST);
        $name = trim(rcube_utils::get_input_string('_name', rcube_utils::INPUT_POST, true));
        $services = array_intersect(
            array_keys(self::SERVICES),
            (array) rcube_utils::get_input_value('_services', rcube_utils::INPUT_POST),
        );
        $person = $this->as_user();
        if (!is_array($person)) {
            $this->show('connecterror');
            return;
        }
        $present = $this->present($person);
        $end = $this->end(rcube_utils::get_input_string('_until', rcube_utils::INPUT_POST));
        if ($name === '' || mb_strlen($name) > 100) {
            $this->show('appnoname');
        } elseif ($end === false) {
            $this->show('appnodate');
        } elseif (!$services) {
            $this->show('appnoservice');
        } elseif (count($present) >= self::MOST) {
            $this->show('apptoomany');
        } else {
            $groups = array_map(fn () => $this->group(), range(1, 5));
            $id = "$groups[0]-$groups[1]";
            $password = implode('-', $groups);
            $made = @ldap_add($person['connection'], "cn=$id,{$person['dn']}", [
                'objectClass' => 'appPassword',
                'cn' => $id,
                'description' => Normalizer::normalize($name),
                'mailboxService' => array_values($services),
                'userPassword' => $password,
                'pwdPolicySubentry' => $this->rcmail->config->get('province_passwords')['policy'],
                ...($end ? ['pwdEndTime' => $end] : []),
            ]);
            $until = $end ? " until $end" : '';
            $this->log($made, "application password $id made for " . implode(' ', $services) . $until, $person);
            $this->show($made ? null : 'connecterror', $made ? $password : null);
        }
    }

    /** Revoke one: it ends now. The directory deletes it later, for whoever remembers it must see its end. */
    public function revoke(): void
    {
        $this->rcmail->request_security_check(rcube_utils::INPUT_POST);
        $id = rcube_utils::get_input_string('_id', rcube_utils::INPUT_POST);
        $person = $this->as_user();
        if (!is_array($person) || !preg_match('/^[a-z0-9-]+$/', $id)) {
            $this->show('connecterror');
            return;
        }
        // The second that it ends in still counts.
        $now = gmdate('YmdHis\Z', time() - 1);
        $gone = @ldap_mod_replace($person['connection'], "cn=$id,{$person['dn']}", ['pwdEndTime' => $now]);
        $this->log($gone, "application password $id revoked", $person);
        $this->show($gone ? null : 'connecterror');
    }

    private function show(?string $error = null, ?string $password = null): void
    {
        $output = $this->rcmail->output;
        $output->set_pagetitle($this->plugin->gettext('apps'));
        $output->add_handler('plugin.body', fn () => $this->body($password));
        if ($error) {
            $output->show_message("province.$error", 'error');
        }
        $this->rcmail->overwrite_action('plugin.province-apps');
        $output->send('plugin');
    }

    private function body(?string $password): string
    {
        $person = $this->as_user();
        $content = html::p('hint', $this->text('appshint'));
        if ($password) {
            $content .= html::div(
                ['class' => 'boxconfirmation', 'id' => 'app-password', 'role' => 'status'],
                html::p(null, $this->text('appmade')) . html::tag('code', null, rcube::Q($password)),
            );
        }
        $content .= is_array($person)
            ? $this->list($person) . $this->form($person)
            : html::p('boxerror', $this->text('connecterror'));
        return html::div(['id' => 'prefs-title', 'class' => 'boxtitle'], $this->text('apps'))
            . html::div(['class' => 'box formcontainer scroller'], html::div('boxcontent formcontent', $content));
    }

    /** @param array<string, mixed> $person as `log_in` answers */
    private function list(array $person): string
    {
        $present = $this->present($person);
        if (!$present) {
            return '';
        }
        $table = new html_table(['cols' => 6, 'class' => 'table', 'id' => 'app-passwords']);
        foreach (['appname', 'appservices', 'appcreated', 'applast', 'appends'] as $head) {
            $table->add_header(['scope' => 'col'], $this->text($head));
        }
        $table->add_header(['scope' => 'col'], html::span('sr-only', $this->text('apprevoke')));
        foreach ($present as $entry) {
            $name = $entry['description'][0] ?? $entry['cn'][0];
            $services = array_map(fn ($service) => $this->text("app$service"), $entry['mailboxservice'] ?? []);
            $table->add(null, rcube::Q($name));
            $table->add(null, implode('<br>', $services));
            $table->add(null, $this->date($entry['createtimestamp'][0] ?? null));
            $table->add(null, $this->date($entry['pwdlastsuccess'][0] ?? null));
            // The last day: it ends at midnight.
            $table->add(null, $this->date($entry['pwdendtime'][0] ?? null, -1));
            $button = html::tag('button', [
                'type' => 'submit',
                'class' => 'btn btn-danger delete',
                'aria-label' => $this->plugin->gettext('apprevoke') . ": $name",
            ], $this->text('apprevoke'));
            $hidden = new html_hiddenfield(['name' => '_id', 'value' => $entry['cn'][0]]);
            $table->add(null, $this->rcmail->output->form_tag([
                'method' => 'post', 'action' => './?_task=settings&_action=plugin.province-apps-revoke',
            ], $hidden->show() . $button));
        }
        return $table->show();
    }

    /** @param array<string, mixed> $person as `log_in` answers */
    private function form(array $person): string
    {
        $own = $this->read($person, $person['dn'], 'ldap_read', ['mailboxService'])[0]['mailboxservice'] ?? [];
        $name = new html_inputfield([
            'name' => '_name', 'id' => 'app-name', 'maxlength' => 100, 'required' => 'required',
            'class' => 'form-control', 'autocomplete' => 'off',
        ]);
        $boxes = '';
        foreach (array_intersect_key(self::SERVICES, array_flip($own)) as $service => $usual) {
            $box = new html_checkbox(['name' => '_services[]', 'id' => "app-$service", 'value' => $service]);
            $boxes .= html::div('form-check', $box->show($usual ? $service : null)
                . html::label(['for' => "app-$service"], $this->text("app$service")));
        }
        $until = new html_inputfield([
            'type' => 'date', 'name' => '_until', 'id' => 'app-until', 'class' => 'form-control',
            'min' => (new DateTimeImmutable('today', $this->timezone()))->format('Y-m-d'),
        ]);
        $button = html::tag('button', ['type' => 'submit', 'class' => 'btn btn-primary create'], $this->text('appcreate'));
        return $this->rcmail->output->form_tag(
            ['id' => 'app-form', 'method' => 'post', 'action' => './?_task=settings&_action=plugin.province-apps-create'],
            html::p(null, html::label('app-name', $this->text('appname')) . $name->show())
            . html::tag('fieldset', null, html::tag('legend', null, $this->text('appservices')) . $boxes)
            . html::p(null, html::label('app-until', $this->text('appuntil')) . $until->show())
            . html::p('formbuttons', $button),
        );
    }

    /**
     * Those that have not ended.
     *
     * @param array<string, mixed> $person as `log_in` answers
     *
     * @return list<array<string, mixed>>
     */
    private function present(array $person): array
    {
        $attributes = ['cn', 'description', 'mailboxService', 'createTimestamp', 'pwdLastSuccess', 'pwdEndTime'];
        $counts = sprintf('(&(objectClass=appPassword)(!(pwdEndTime<=%s)))', gmdate('YmdHis\Z'));
        return $this->read($person, $person['dn'], 'ldap_list', $attributes, $counts);
    }

    /** The end of a day as the directory has it; null where none is named, false where that is none to come. */
    private function end(string $day): string|false|null
    {
        if ($day === '') {
            return null;
        }
        $begin = DateTimeImmutable::createFromFormat('!Y-m-d', $day, $this->timezone());
        if (!$begin || $begin->format('Y-m-d') !== $day) {
            return false;
        }
        $end = $begin->modify('+1 day');
        return $end->getTimestamp() > time() ? gmdate('YmdHis\Z', $end->getTimestamp()) : false;
    }

    /** Where the user's days begin and end. */
    private function timezone(): DateTimeZone
    {
        return new DateTimeZone($this->rcmail->config->get('timezone', 'UTC'));
    }

    /**
     * @param array<string, mixed> $person as `log_in` answers
     * @param list<string>         $attributes
     *
     * @return list<array<string, list<string>>>
     */
    private function read(
        array $person,
        string $base,
        string $how,
        array $attributes,
        string $filter = '(objectClass=*)',
    ): array {
        $found = @$how($person['connection'], $base, $filter, $attributes);
        $entries = $found ? ldap_get_entries($person['connection'], $found) : [];
        $result = [];
        foreach (array_filter($entries, 'is_array') as $raw) {
            $values = array_filter($raw, fn ($value, $name) => is_string($name) && is_array($value), ARRAY_FILTER_USE_BOTH);
            $result[] = array_map(fn ($value) => array_values(array_diff_key($value, ['count' => 0])), $values);
        }
        return $result;
    }

    /** @return int|array<string, mixed> as `log_in` answers */
    private function as_user(): int|array
    {
        $password = $this->rcmail->decrypt($_SESSION['password']);
        return $this->directory->log_in($this->rcmail->get_user_name(), $password);
    }

    private function group(): string
    {
        $letters = array_map(fn () => self::ALPHABET[random_int(0, strlen(self::ALPHABET) - 1)], range(1, 4));
        return implode('', $letters);
    }

    /** @param int $shift seconds by which another moment is shown */
    private function date(?string $time, int $shift = 0): string
    {
        $known = $time ? DateTimeImmutable::createFromFormat('YmdHis\Z', $time, new DateTimeZone('UTC')) : null;
        return $known ? rcube::Q($this->rcmail->format_date($known->getTimestamp() + $shift)) : '–';
    }

    private function text(string $name): string
    {
        return rcube::Q($this->plugin->gettext($name));
    }

    /** @param array<string, mixed> $person as `log_in` answers */
    private function log(bool $done, string $what, array $person): void
    {
        $said = $done ? '' : ': ' . ldap_error($person['connection']);
        rcube::write_log('password', sprintf('%s: %s%s', $this->rcmail->get_user_name(), $what, $said));
    }
}
