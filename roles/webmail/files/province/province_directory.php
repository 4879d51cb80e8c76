<?php

/**
 * The directory, as the webmail's own account reads it. Not answering is no error here: what asks
 * goes on without it, and the journal has a line.
 */
class province_directory
{
    /** The password is wrong, or the account locked. */
    public const REFUSED = 1;
    /** No directory answers. */
    public const SILENT = 2;
    /** More than there ever are. */
    private const ALL = 1000000;
    private const INVALID_CREDENTIALS = 49;

    /** @param array<string, mixed> $config `province_directory` of Roundcube's configuration */
    public function __construct(private array $config)
    {
    }

    /** A connection to the first directory that answers, bound as the webmail's account. */
    public function connect(): ?LDAP\Connection
    {
        foreach ($this->config['hosts'] as $uri) {
            $connection = ldap_connect($uri);
            ldap_set_option($connection, LDAP_OPT_PROTOCOL_VERSION, 3);
            ldap_set_option($connection, LDAP_OPT_REFERRALS, false);
            ldap_set_option($connection, LDAP_OPT_NETWORK_TIMEOUT, $this->config['network_timeout']);
            ldap_set_option($connection, LDAP_OPT_TIMELIMIT, $this->config['timelimit']);
            if (@ldap_bind($connection, $this->config['bind_dn'], $this->config['bind_pass'])) {
                return $connection;
            }
            rcube::write_log('errors', "directory $uri: " . ldap_error($connection));
        }
        return null;
    }

    /**
     * Entries below the base, each with its DN and the values of `$attributes` in lower case.
     *
     * @param list<string> $attributes
     * @param int $limit of entries; 0 for the directory's own, above which it leaves some out
     *
     * @return ?list<array<string, mixed>> null where the directory does not answer
     */
    public function find(string $filter, array $attributes, int $limit = 0): ?array
    {
        $connection = $this->connect();
        if ($connection === null) {
            return null;
        }
        $found = @ldap_search($connection, $this->config['base_dn'], $filter, $attributes, 0, $limit);
        if ($found === false) {
            rcube::write_log('errors', "directory: $filter: " . ldap_error($connection));
            return null;
        }
        $entries = [];
        foreach (array_filter(ldap_get_entries($connection, $found), 'is_array') as $raw) {
            $entry = ['dn' => $raw['dn']];
            foreach ($attributes as $attribute) {
                $values = $raw[strtolower($attribute)] ?? ['count' => 0];
                unset($values['count']);
                $entry[strtolower($attribute)] = $values;
            }
            $entries[] = $entry;
        }
        return $entries;
    }

    /**
     * The addresses that somebody may write from, each with its name; their own comes first.
     *
     * @return ?array<string, string> null where the directory does not answer or does not know them
     */
    public function senders(string $address): ?array
    {
        $person = $this->find($this->by_address([$address]), ['mail', 'displayName', 'cn', 'mailboxSendAs']);
        if (!$person) {
            return null;
        }
        $senders = [$address => $person[0]['displayname'][0] ?? $person[0]['cn'][0] ?? ''];
        $units = array_map('strtolower', $person[0]['mailboxsendas']);
        if ($units) {
            $found = $this->find($this->by_address($units), ['mail', 'displayName']);
            if ($found === null) {
                return null;
            }
            foreach ($found as $unit) {
                $senders[strtolower($unit['mail'][0])] = $unit['displayname'][0] ?? '';
            }
        }
        return $senders;
    }

    /** Whether somebody must change the password before anything else; null where nobody knows. */
    public function must_change(string $address): ?bool
    {
        $found = $this->find($this->by_address([$address]), ['pwdReset']);
        return $found ? ($found[0]['pwdreset'][0] ?? '') === 'TRUE' : null;
    }

    /**
     * Why somebody who is logged in may be no longer: `closed` or `password`.
     *
     * @param string $since the moment, as the directory writes it, after which a new password is not the one of
     *                      the session
     *
     * @return ?string null where nothing is wrong, or the directory does not answer
     */
    public function no_longer(string $address, string $since): ?string
    {
        $found = $this->find($this->by_address([$address]), ['mailboxState', 'mailboxService', 'pwdChangedTime']);
        if ($found === null) {
            return null;
        }
        $may = $found && in_array($found[0]['mailboxstate'][0] ?? '', ['active', 'expiring'], true)
            && in_array('webmail', $found[0]['mailboxservice'], true);
        if (!$may) {
            return 'closed';
        }
        return ($found[0]['pwdchangedtime'][0] ?? '') > $since ? 'password' : null;
    }

    /**
     * A connection bound as a person.
     *
     * @return int|array<string, mixed> REFUSED or SILENT; or `connection`, `dn`, the values of
     *         `pwdpolicysubentry` and `pwdendtime`, and in `expires` the seconds until the password does, if it is soon
     */
    public function log_in(string $address, string $password): int|array
    {
        $found = $this->find($this->by_address([$address]), ['pwdPolicySubentry', 'pwdEndTime']);
        $connection = $found ? $this->connect() : null;
        if ($connection === null) {
            return self::SILENT;
        }
        $ask = [['oid' => LDAP_CONTROL_PASSWORDPOLICYREQUEST]];
        $answer = @ldap_bind_ext($connection, $found[0]['dn'], $password, $ask);
        if ($answer === false || !ldap_parse_result($connection, $answer, $code, $dn, $text, $referrals, $controls)) {
            return self::SILENT;
        }
        if ($code !== 0) {
            return $code === self::INVALID_CREDENTIALS ? self::REFUSED : self::SILENT;
        }
        $expires = $controls[LDAP_CONTROL_PASSWORDPOLICYRESPONSE]['value']['expire'] ?? -1;
        return [...$found[0], 'connection' => $connection, 'expires' => $expires >= 0 ? $expires : null];
    }

    /**
     * The names of units by their codes; remembered for all users.
     *
     * @return array<string, string>
     */
    public function units(): array
    {
        $cache = rcube::get_instance()->get_cache_shared('province');
        $names = $cache?->get('units');
        if (is_array($names)) {
            return $names;
        }
        $units = $this->find('(objectClass=unitProfile)', ['ou', 'displayName'], self::ALL);
        $names = [];
        foreach ($units ?? [] as $unit) {
            $names[$unit['ou'][0]] = $unit['displayname'][0] ?? $unit['ou'][0];
        }
        if ($units !== null) {
            $cache?->set('units', $names);
        }
        return $names;
    }

    /** @param list<string> $addresses */
    private function by_address(array $addresses): string
    {
        $any = '';
        foreach ($addresses as $address) {
            $any .= '(mail=' . ldap_escape($address, '', LDAP_ESCAPE_FILTER) . ')';
        }
        return "(&(objectClass=mailboxAccount)(|$any))";
    }
}
