//! Users: the rows of all generations become people. One person has one row of each generation at most.

/// Rejects what is no user. The same id cannot be two users of one table.
const REJECT: &str = "
UPDATE s_users SET reason = CASE WHEN id IS NULL THEN 'it has no id' ELSE 'it has no username' END
 WHERE id IS NULL OR coalesce(btrim(username), '') = '';
UPDATE s_users u SET reason = 'its id occurs twice in this table'
  FROM (SELECT no, row_number() OVER (PARTITION BY src, id ORDER BY no) AS n FROM s_users WHERE reason IS NULL) d
 WHERE d.no = u.no AND d.n > 1;
CREATE UNLOGGED TABLE p_pool AS
SELECT no AS person, no, src, id, lower(username) AS lname, lower(nullif(btrim(email), '')) AS lmail
  FROM s_users WHERE src = 1 AND reason IS NULL;
CREATE INDEX ON p_pool (lname);
CREATE INDEX ON p_pool (lmail);";

/// Unites the rows of another generation with the people that are known: the same name or address, without case. The
/// same address counts for more than the same name, and both for more than one.
fn unite(src: u8) -> String {
    format!(
        "
INSERT INTO p_pool
WITH candidates AS (
    SELECT u.no, p.person, (p.id = u.id)::int + 2 * (p.lname = lower(u.username))::int
           + 4 * coalesce(p.lmail = lower(btrim(u.email)), false)::int AS score
      FROM s_users u JOIN p_pool p ON p.lname = lower(u.username) WHERE u.src = {src} AND u.reason IS NULL
    UNION
    SELECT u.no, p.person, (p.id = u.id)::int + 2 * (p.lname = lower(u.username))::int + 4
      FROM s_users u JOIN p_pool p ON p.lmail = lower(btrim(u.email)) WHERE u.src = {src} AND u.reason IS NULL
), best AS (
    SELECT DISTINCT ON (no) no, person, score FROM candidates ORDER BY no, score DESC, person
), united AS (
    SELECT DISTINCT ON (person) no, person FROM best ORDER BY person, score DESC, no
)
SELECT coalesce(b.person, u.no), u.no, u.src, u.id, lower(u.username), lower(nullif(btrim(u.email), ''))
  FROM s_users u LEFT JOIN united b ON b.no = u.no WHERE u.src = {src} AND u.reason IS NULL;"
    )
}

/// A person's values: of the newest generation that has one. Someone who is inactive or banned in one generation is so.
const PEOPLE: &str = "
CREATE UNLOGGED TABLE p_people AS
WITH ranked AS (
    SELECT p.person, u.*, CASE u.src WHEN 2 THEN 1 WHEN 3 THEN 2 ELSE 0 END AS age,
           (SELECT max(i.id) FROM import_ids i
             WHERE i.source = (SELECT source FROM run) AND i.kind = 'user:' || u.src
                 AND i.legacy_id = u.id::text) AS known
      FROM p_pool p JOIN s_users u ON u.no = p.no
)
SELECT person, max(known) AS user_id, max(known) IS NOT NULL AS existing,
       (array_agg(id ORDER BY src))[1] AS wanted, min(src) AS src, min(line) AS line,
       (array_agg(username ORDER BY updated_at DESC NULLS LAST, age))[1] AS source_name,
       (array_agg(clean_name ORDER BY updated_at DESC NULLS LAST, age))[1] AS name,
       (array_agg(is_clean ORDER BY updated_at DESC NULLS LAST, age))[1] AS is_clean,
       (array_agg(clean_display ORDER BY updated_at DESC NULLS LAST, age))[1] AS display_name,
       (array_agg(btrim(email) ORDER BY updated_at DESC NULLS LAST, age) FILTER (WHERE btrim(email) <> ''))[1] AS email,
       (array_agg(password_hash ORDER BY updated_at DESC NULLS LAST, age)
           FILTER (WHERE password_hash ~ '^([$]2[aby][$][0-9]{2}[$][./A-Za-z0-9]{53}$|[$]argon2id[$])'))[1]
           AS password_hash,
       (array_agg(avatar_url ORDER BY updated_at DESC NULLS LAST, age)
           FILTER (WHERE avatar_url <> ''))[1] AS avatar_url,
       (array_agg(bio ORDER BY updated_at DESC NULLS LAST, age) FILTER (WHERE bio <> ''))[1] AS bio,
       bool_and(coalesce(is_active, true)) AS is_active,
       bool_or(coalesce(is_banned, false) OR coalesce(role = 'banned', false)) AS is_banned,
       bool_or(coalesce(two_factor, false)) AS two_factor,
       (array_agg(role ORDER BY updated_at DESC NULLS LAST, age) FILTER (WHERE role <> ''))[1] AS role,
       (array_agg(label))[1] AS label, coalesce(min(created_at), now()) AS created_at,
       NULL::timestamptz AS muted_until,
       NULL::text AS kept_email, count(*) - 1 AS united
  FROM ranked GROUP BY person;
CREATE UNIQUE INDEX ON p_people (person);
-- An id stays if nobody has it. The rows of the oldest generation come first. Ids above 2^52 would leave too few.
WITH ranked AS (
    SELECT person, wanted, row_number() OVER (PARTITION BY wanted ORDER BY src, person) AS n FROM p_people
     WHERE NOT existing
), kept AS (
    SELECT r.person, r.wanted FROM ranked r
     WHERE r.n = 1 AND r.wanted BETWEEN 1 AND 4503599627370496
       AND NOT EXISTS (SELECT FROM users u WHERE u.id = r.wanted)
)
UPDATE p_people p SET user_id = k.wanted FROM kept k WHERE k.person = p.person;
WITH base AS (
    SELECT greatest((SELECT last_value FROM user_ids), (SELECT coalesce(max(id), 0) FROM users),
                    (SELECT coalesce(max(user_id), 0) FROM p_people)) AS id
), numbered AS (
    SELECT person, row_number() OVER (ORDER BY src, wanted, person) AS n FROM p_people WHERE user_id IS NULL
)
UPDATE p_people p SET user_id = base.id + n.n FROM numbered n, base WHERE n.person = p.person;
CREATE UNIQUE INDEX ON p_people (user_id);
INSERT INTO mended SELECT 'users', src, line, coalesce(label, wanted::text),
       format('the id %s is taken; it became %s', wanted, user_id)
  FROM p_people WHERE user_id <> wanted AND wanted < 1::bigint << 62 AND NOT existing;";

/// Usernames and addresses that are unique without case, among these people and those of the server.
const NAMES: &str = "
DO $$
DECLARE v_round int := 0; v_changed bigint;
BEGIN
    LOOP
        WITH ranked AS (
            SELECT p.person, row_number() OVER (PARTITION BY lower(p.name) ORDER BY NOT p.is_clean, p.person) AS n,
                   EXISTS (SELECT FROM users u WHERE lower(u.username) = lower(p.name)) AS taken
              FROM p_people p WHERE NOT p.existing
        )
        UPDATE p_people p SET name = left(p.name, 49 - length(p.user_id::text) - v_round) || repeat('_', v_round + 1)
                                     || p.user_id
          FROM ranked r WHERE r.person = p.person AND (r.n > 1 OR r.taken);
        GET DIAGNOSTICS v_changed = ROW_COUNT;
        EXIT WHEN v_changed = 0;
        v_round := v_round + 1;
        IF v_round > 20 THEN
            RAISE EXCEPTION 'usernames cannot be made unique';
        END IF;
    END LOOP;
END $$;
INSERT INTO mended SELECT 'users', src, line, coalesce(label, wanted::text),
       format('the username %s became %s, which is allowed and free', quote_literal(left(source_name, 60)), name)
  FROM p_people WHERE name <> source_name AND NOT existing;
UPDATE p_people p SET kept_email = p.email
  FROM (SELECT person, row_number() OVER (PARTITION BY lower(email) ORDER BY src, person) AS n FROM p_people
         WHERE NOT existing) r
 WHERE r.person = p.person AND r.n = 1 AND p.email ~ '^[^[:space:][:cntrl:]@]+@[^[:space:][:cntrl:]@]+$'
   AND char_length(p.email) BETWEEN 3 AND 254
   AND NOT EXISTS (SELECT FROM credentials c WHERE lower(c.email) = lower(p.email));
INSERT INTO mended SELECT 'users', src, line, coalesce(label, wanted::text),
       CASE WHEN email IS NULL THEN 'there is no e-mail address'
            ELSE 'the e-mail address is wrong, or another user has it' END
       || format('; it became user-%s@legacy.invalid', user_id)
  FROM p_people WHERE kept_email IS NULL AND NOT existing;
UPDATE p_people SET kept_email = format('user-%s@legacy.invalid', user_id) WHERE kept_email IS NULL;
INSERT INTO mended SELECT 'users', src, line, coalesce(label, wanted::text),
       'there is no password hash of bcrypt or Argon2id; an operator must set a password'
  FROM p_people WHERE password_hash IS NULL AND NOT existing;
INSERT INTO mended SELECT 'users', src, line, coalesce(label, wanted::text), 'the bio was cut to 500 characters'
  FROM p_people WHERE char_length(bio) > 500 AND NOT existing;
INSERT INTO mended SELECT 'users', src, line, coalesce(label, wanted::text),
       'the avatar is no address of the web and was left out'
  FROM p_people WHERE NOT existing AND NOT (avatar_url ~ '^https?://[^[:space:]]+$'
      AND char_length(avatar_url) <= 2000);
UPDATE p_people SET avatar_url = NULL
 WHERE NOT (avatar_url ~ '^https?://[^[:space:]]+$' AND char_length(avatar_url) <= 2000);
INSERT INTO mended SELECT 'users', src, line, coalesce(label, wanted::text),
       'two-factor authentication is off until the user switches it on again'
  FROM p_people WHERE two_factor AND NOT existing;
INSERT INTO mended SELECT 'users', src, line, coalesce(label, wanted::text),
       format('the role %s of the whole server is not imported: see security.admin_user_ids', role)
  FROM p_people WHERE role IN ('admin', 'owner', 'moderator') AND NOT existing;";

/// Which user a reference means. A table's references mean its own generation; another one only where that has no such
/// id at all, so that nothing goes to somebody else whose row was rejected.
const KEYS: &str = "
CREATE UNLOGGED TABLE p_user_keys AS
WITH known AS (
    SELECT p.src, p.id::text AS key, x.user_id FROM p_pool p JOIN p_people x USING (person)
    UNION ALL SELECT src, id::text, NULL FROM s_users u WHERE reason IS NOT NULL AND id IS NOT NULL
       AND NOT EXISTS (SELECT FROM p_pool p WHERE p.src = u.src AND p.id = u.id)
    UNION ALL SELECT src, id, NULL FROM quarantine WHERE staged = 'users'
    UNION ALL SELECT p.src, p.lname, x.user_id FROM p_pool p JOIN p_people x USING (person) WHERE p.lname !~ '^[0-9]+$'
)
SELECT DISTINCT ON (r.src, k.key) r.src, k.key, k.user_id
  FROM known k
 CROSS JOIN (VALUES (1, ARRAY[1, 2, 3]), (2, ARRAY[2, 3, 1]), (3, ARRAY[3, 2, 1])) AS r (src, preferred)
 ORDER BY r.src, k.key, array_position(r.preferred, k.src::int), k.user_id NULLS LAST;
CREATE UNIQUE INDEX ON p_user_keys (src, key);
CREATE UNLOGGED TABLE p_user_names AS
SELECT DISTINCT ON (p.id, p.lname) p.id::text AS key, p.lname, x.user_id
  FROM p_pool p JOIN p_people x USING (person) ORDER BY p.id, p.lname, p.src;
CREATE UNIQUE INDEX ON p_user_names (key, lname);
ANALYZE p_user_keys, p_user_names, p_people;";

/// The marks of mentions in texts become names. Users of an earlier import have the names that they have now.
const MENTIONS: &str = "
UPDATE s_messages m SET content = (
    SELECT string_agg(t.part || CASE WHEN t.mention IS NULL THEN ''
                                     ELSE '@' || coalesce(u.username, x.name, split_part(t.mention, '/', 2)) END, ''
                      ORDER BY t.n)
      FROM unnest(string_to_array(m.content, E'\\x02'), string_to_array(m.mentions, ' ')) WITH ORDINALITY
           AS t (part, mention, n)
      LEFT JOIN p_user_keys k ON k.src = 1 AND k.key = split_part(t.mention, '/', 1)
      LEFT JOIN p_people x ON x.user_id = k.user_id
      LEFT JOIN users u ON x.existing AND u.id = x.user_id)
 WHERE m.mentions IS NOT NULL;";

/// The steps.
#[must_use]
pub fn plan() -> Vec<(&'static str, String)> {
    vec![
        ("users", REJECT.to_owned()),
        ("users", unite(2)),
        ("users", unite(3)),
        ("users", PEOPLE.to_owned()),
        ("users", NAMES.to_owned()),
        ("users", KEYS.to_owned()),
        ("mentions", MENTIONS.to_owned()),
    ]
}
