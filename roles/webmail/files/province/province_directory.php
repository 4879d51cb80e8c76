<?php

/**
 * The directory, as the webmail's own account reads it. Not answering is no error here: what asks
 * goes on without it, and the journal has a line.
 */
class province_directory
{
    /** More than there ever are. */
    private const ALL = 1000000;

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

    /** The DN of the person with this address. */
    public function dn(string $address): ?string
    {
        return $this->find($this->by_address([$address]), ['mail'])[0]['dn'] ?? null;
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
