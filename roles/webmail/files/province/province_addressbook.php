<?php

/**
 * The province's address book: names are found without their diacritics, in any order of words, and
 * departments show by their names.
 */
class province_addressbook extends rcube_ldap
{
    /** @param array<string, mixed> $properties */
    public function __construct(
        array $properties,
        bool $debug,
        string $domain,
        private province_directory $directory,
    ) {
        parent::__construct($properties, $debug, $domain);
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
        $this->set_search_set("(&$filter)");
        $this->result = $select ? $this->list_records() : $this->count();
        return $this->result;
    }

    #[Override]
    public function list_records($cols = null, $subset = 0, $nocount = false)
    {
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

    /**
     * @param array<string, mixed> $record
     *
     * @return array<string, mixed>
     */
    private function with_department(array $record): array
    {
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
