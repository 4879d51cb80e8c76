<?php

/**
 * Driver of the plug-in `password`: the directory changes the password (RFC 3062) and its policy
 * decides; what it refuses is said in the user's language.
 */
class rcube_province_password
{
    /** What OpenLDAP's policy says, and what to tell the user. */
    private const REASONS = [
        'history' => PASSWORD_IN_HISTORY,
        'not being changed' => PASSWORD_IN_HISTORY,
        'too young' => 'tooyoung',
        'quality' => 'quality',
    ];

    /**
     * What the form says beneath its fields, besides the shortest length.
     *
     * @return list<string>
     */
    public function strength_rules(): array
    {
        return [rcmail::get_instance()->gettext('province.passwordnew')];
    }

    /**
     * @return int|array{code: int, message: string}
     */
    public function save(string $current, string $new, string $username): int|array
    {
        $rcmail = rcmail::get_instance();
        require_once RCUBE_PLUGINS_DIR . 'province/province_directory.php';
        $directory = new province_directory($rcmail->config->get('province_directory'));

        $dn = $directory->dn($username);
        $connection = $directory->connect();
        if ($dn === null || $connection === null) {
            return PASSWORD_CONNECT_ERROR;
        }
        if (!@ldap_bind($connection, $dn, $current)) {
            return ldap_errno($connection) === 49
                ? ['code' => PASSWORD_ERROR, 'message' => $rcmail->gettext('password.passwordincorrect')]
                : PASSWORD_CONNECT_ERROR;
        }
        if (@ldap_exop_passwd($connection, $dn, $current, $new)) {
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
