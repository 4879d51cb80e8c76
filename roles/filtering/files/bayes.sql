-- What SpamAssassin's own schema (bayes_pg.sql) lacks for many writers and many years.

-- Its function looks a word up and then inserts it: of two hosts that learn one new word at a time
-- one loses the whole letter. This one has no gap between the two, and takes words in one order, so
-- that writers do not wait for each other in a circle.
CREATE OR REPLACE FUNCTION put_tokens(
    of_user integer, words bytea[], spam integer, ham integer, at integer
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    added integer := 0;
BEGIN
    IF spam < 0 OR ham < 0 THEN
        UPDATE bayes_token AS known
           SET spam_count = greatest(known.spam_count + spam, 0),
               ham_count = greatest(known.ham_count + ham, 0),
               atime = greatest(known.atime, at)
          FROM (SELECT token FROM bayes_token WHERE id = of_user AND token = ANY (words)
                 ORDER BY token FOR UPDATE) AS locked
         WHERE known.id = of_user AND known.token = locked.token;
    ELSE
        WITH put AS (
            INSERT INTO bayes_token AS known (id, token, spam_count, ham_count, atime)
            SELECT of_user, word, spam, ham, at
              FROM (SELECT DISTINCT unnest(words) AS word) AS given
             ORDER BY word
            ON CONFLICT (id, token) DO UPDATE
               SET spam_count = known.spam_count + spam,
                   ham_count = known.ham_count + ham,
                   atime = greatest(known.atime, at)
            RETURNING (xmax = 0) AS is_new
        )
        SELECT count(*) INTO added FROM put WHERE is_new;
    END IF;
    UPDATE bayes_vars
       SET token_count = token_count + added,
           newest_token_age = greatest(newest_token_age, at),
           oldest_token_age = CASE WHEN at > 0 THEN least(oldest_token_age, at)
                                   ELSE oldest_token_age END
     WHERE id = of_user;
END;
$$;

-- Nothing ever removes what is in bayes_seen; with a date something can.
ALTER TABLE bayes_seen ADD COLUMN IF NOT EXISTS learnt timestamptz NOT NULL DEFAULT now();
CREATE INDEX IF NOT EXISTS bayes_seen_learnt ON bayes_seen (learnt);

-- Every letter updates a few hundred rows: leave room for it in their pages.
ALTER TABLE bayes_token SET (fillfactor = 80);
ALTER TABLE bayes_vars SET (fillfactor = 50);
