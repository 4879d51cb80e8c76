<?php

/**
 * The province's address book: names are found without their diacritics, in any order of words,
 * departments show by their names, and units are a tree, as in the public directory.
 */
class province_addressbook extends rcube_ldap
{
    /** Kinds of units at the top, in the order of the public directory (role `publicdirectory`). */
    private const KINDS = [
        'department', 'service-unit', 'district', 'commune', 'party', 'association', 'enterprise',
    ];

    /** Behind every place that is given. */
    private const LAST = 1000000000;

    /** Code of the unit that is shown alone. */
    private ?string $unit = null;

    /** @param array<string, mixed> $properties */
    public function __construct(
        array $properties,
        bool $debug,
        string $domain,
        private province_directory $directory,
    ) {
        parent::__construct($properties, $debug, $domain);
        $this->groups = true;
        $this->readonly = true;
    }

    /**
     * As the directory keeps `searchName`: lower case, no diacritics, đ as d.
     */
    public static function folded(string $text): string
    {
        static $rules;
        $rules ??= Transliterator::createFromRules(
            ':: Any-Lower; :: NFKD; :: [:Nonspacing Mark:] Remove; đ > d; :: NFC;'
        );
        return $rules->transliterate($text);
    }

    /**
     * A search in names and addresses, or in every field; other fields as `rcube_ldap` does.
     */
    #[Override]
    public function search($fields, $value, $mode = 0, $select = true, $nocount = false, $required = [])
    {
        $general = $fields === '*' || in_array('name', (array) $fields, true);
        if (is_array($value) || !$general || in_array($fields, ['ID', $this->primary_key], true)) {
            return parent::search($fields, $value, $mode, $select, $nocount, $required);
        }
        $filter = '';
        foreach (preg_split('/\s+/u', self::folded($value), -1, PREG_SPLIT_NO_EMPTY) as $word) {
            $word = rcube_ldap_generic::quote_string($word);
            $filter .= "(|(searchName=*$word*)(mail=*$word*))";
        }
        if ($filter === '') {
            return parent::search($fields, $value, $mode, $select, $nocount, $required);
        }
        $this->reset();
        $this->set_search_set('(&' . $filter . $this->members() . ')');
        $this->result = $select ? $this->list_records() : $this->count();
        return $this->result;
    }

    #[Override]
    public function list_records($cols = null, $subset = 0, $nocount = false)
    {
        if ($this->unit !== null && !$this->get_search_set()) {
            $this->set_search_set($this->members());
        }
        $result = parent::list_records($cols, $subset, $nocount);
        foreach ($result->records as $key => $record) {
            $result->records[$key] = $this->with_department($record);
        }
        return $result;
    }

    #[Override]
    public function get_record($dn, $assoc = false)
    {
        $record = parent::get_record($dn, $assoc);
        if ($assoc && is_array($record)) {
            return $this->with_department($record);
        }
        return $record;
    }

    // -- units, which the webmail calls groups -------------------------------------------------------

    /**
     * The units as a tree. None where they are asked for by a word, or for a list of memberships: they
     * are found by their mailboxes, and a person's unit stands on the person's card.
     */
    #[Override]
    public function list_groups($search = null, $mode = 0)
    {
        if ($search || rcmail::get_instance()->action === 'show') {
            return [];
        }
        return $this->below('', '');
    }

    #[Override]
    public function get_group($group_id)
    {
        $unit = $this->tree()[$group_id] ?? null;
        return $unit ? ['ID' => $group_id, 'name' => $unit['name']] : null;
    }

    /** Show the people of one unit, and its mailbox; 0 for everybody again. */
    #[Override]
    public function set_group($group_id)
    {
        $this->unit = $group_id ? (string) $group_id : null;
    }

    #[Override]
    public function get_record_groups($contact_id)
    {
        return [];
    }

    private function members(): string
    {
        return $this->unit === null
            ? ''
            : '(departmentNumber=' . rcube_ldap_generic::quote_string($this->unit) . ')';
    }

    /** @return list<array<string, mixed>> the units below one, each before those below it */
    private function below(string $parent, string $indent): array
    {
        $result = [];
        foreach ($this->tree() as $code => $unit) {
            if ($unit['parent'] === $parent) {
                $result[] = ['ID' => (string) $code, 'name' => $indent . $unit['name'], 'virtual' => true];
                array_push($result, ...$this->below((string) $code, "$indent\u{2003}"));
            }
        }
        return $result;
    }

    /** The order of two names, word by word as in the public directory: Giao thông before Giáo dục. */
    private static function compared(Collator $words, string $one, string $other): int
    {
        [$one, $other] = [explode(' ', $one), explode(' ', $other)];
        foreach ($one as $place => $word) {
            if ($order = $words->compare($word, $other[$place] ?? '')) {
                return $order;
            }
        }
        return count($one) <=> count($other);
    }

    /**
     * Names of units and the codes of those above them, by code, in the order of the public directory;
     * remembered for all users.
     *
     * @return array<string, array{name: string, parent: string}>
     */
    private function tree(): array
    {
        $cache = rcube::get_instance()->get_cache_shared('province');
        $known = $cache?->get('unit_tree');
        if (is_array($known)) {
            return $known;
        }
        $asked = ['ou', 'displayName', 'unitKind', 'unitParent', 'directoryHidden', 'directoryOrder'];
        $found = $this->directory->find('(objectClass=unitProfile)', $asked, self::LAST);
        $units = [];
        foreach ($found ?? [] as $entry) {
            if (!in_array('*', $entry['directoryhidden'], true)) {
                $code = strtolower($entry['ou'][0]);
                $above = ldap_explode_dn($entry['unitparent'][0] ?? '', 1);
                $kind = array_search($entry['unitkind'][0] ?? '', self::KINDS, true);
                $units[$code] = [
                    'name' => $entry['displayname'][0] ?? $code,
                    'parent' => strtolower($above[0] ?? ''),
                    'kind' => $kind === false ? count(self::KINDS) : $kind,
                    'order' => (int) ($entry['directoryorder'][0] ?? self::LAST),
                ];
            }
        }
        $words = new Collator('vi_VN');
        $words->setAttribute(Collator::NUMERIC_COLLATION, Collator::ON);
        uasort($units, fn ($one, $other) => [$one['parent'] === '' ? $one['kind'] : 0, $one['order']]
            <=> [$other['parent'] === '' ? $other['kind'] : 0, $other['order']]
            ?: self::compared($words, $one['name'], $other['name']));
        $tree = array_map(fn ($unit) => ['name' => $unit['name'], 'parent' => $unit['parent']], $units);
        if ($found !== null) {
            $cache?->set('unit_tree', $tree);
        }
        return $tree;
    }

    /**
     * @param array<string, mixed> $record
     *
     * @return array<string, mixed>
     */
    private function with_department(array $record): array
    {
        // What the registry hides is not shown, save an address: colleagues write to it.
        if (in_array('telephonenumber', array_map('strtolower', (array) ($record['hidden'] ?? [])), true)) {
            unset($record['phone:work']);
        }
        unset($record['hidden']);
        $codes = (array) ($record['department'] ?? []);
        if ($codes) {
            $names = $this->directory->units();
            $record['department'] = array_map(fn ($code) => $names[$code] ?? $code, $codes);
        }
        // A unit's own mailbox need not say twice whose it is.
        if (($record['department'] ?? []) === [$record['name'] ?? null]) {
            unset($record['department']);
        }
        return $record;
    }
}
