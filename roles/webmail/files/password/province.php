<?php

/**
 * Driver of the plug-in `password`: the directory changes the password and its policy decides; what it
 * refuses is said in the user's language.
 */
class rcube_province_password
{
    /** What OpenLDAP's policy says, and what to tell the user. */
    private const REASONS = [
        'history' => PASSWORD_IN_HISTORY,
        'not being changed' => PASSWORD_IN_HISTORY,
        'too young' => 'tooyoung',
        'part of an attribute' => 'personal',
        'too weak' => 'common',
        'quality' => 'quality',
    ];

    /**
     * What the form says beneath its fields, besides the shortest length.
     *
     * @return list<string>
     */
    public function strength_rules(): array
    {
        $rcmail = rcmail::get_instance();
        return array_map(
            fn ($rule) => rcube::Q($rcmail->gettext("province.password$rule")),
            ['common', 'personal', 'new'],
        );
    }

    /**
     * @return int|array{code: int, message: string}
     */
    public function save(string $current, string $new, string $username): int|array
    {
        $rcmail = rcmail::get_instance();
        require_once RCUBE_PLUGINS_DIR . 'province/province_directory.php';
        require_once RCUBE_PLUGINS_DIR . 'province/province_passwords.php';
        $directory = new province_directory($rcmail->config->get('province_directory'));

        $person = $directory->log_in($username, $current);
        if (is_int($person)) {
            return $person === province_directory::REFUSED
                ? ['code' => PASSWORD_ERROR, 'message' => $rcmail->gettext('password.passwordincorrect')]
                : PASSWORD_CONNECT_ERROR;
        }
        ['connection' => $connection, 'dn' => $dn] = $person;
        if (preg_match(province_passwords::FORM, $new)) {
            return ['code' => PASSWORD_ERROR, 'message' => $rcmail->gettext('province.passwordform')];
        }
        $changes = [[
            'attrib' => 'userPassword', 'modtype' => LDAP_MODIFY_BATCH_REPLACE, 'values' => [$new],
        ]];
        // The end of a one-time password, and the policy of another system's hash, go with them.
        if ($person['pwdendtime']) {
            $changes[] = ['attrib' => 'pwdEndTime', 'modtype' => LDAP_MODIFY_BATCH_REMOVE_ALL];
        }
        if ($policy = $person['pwdpolicysubentry']) {
            $changes[] = [
                'attrib' => 'pwdPolicySubentry', 'modtype' => LDAP_MODIFY_BATCH_REMOVE, 'values' => $policy,
            ];
        }
        if (@ldap_modify_batch($connection, $dn, $changes)) {
            return PASSWORD_SUCCESS;
        }
        ldap_get_option($connection, LDAP_OPT_DIAGNOSTIC_MESSAGE, $said);
        $said = (string) $said;
        rcube::write_log('password', sprintf('%s: refused: %s: %s', $username, ldap_error($connection), $said));
        foreach (self::REASONS as $part => $reason) {
            if (stripos($said, $part) !== false) {
                return is_int($reason) ? $reason : [
                    'code' => PASSWORD_CONSTRAINT_VIOLATION,
                    'message' => $rcmail->gettext([
                        'name' => "province.password$reason",
                        'vars' => ['length' => $rcmail->config->get('password_minimum_length')],
                    ]),
                ];
            }
        }
        return ldap_errno($connection) === 19 ? PASSWORD_CONSTRAINT_VIOLATION : PASSWORD_ERROR;
    }
}
