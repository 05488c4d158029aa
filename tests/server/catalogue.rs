//! The catalogue of PostgreSQL equals the files of the rules and of the tables, down to each policy, right and body.
//!
//! How: the test reads the catalogue of a migrated database. It then changes one thing at a time in a transaction, and
//! the comparison with the files and with a second, fresh database must find each.

use super::rule_sets::{column, migrated_database};
use crate::support::server;
use chat_server::storage::rules::{RuleFile, RuleSet};
use std::collections::BTreeSet;
use std::path::Path;
use tokio_postgres::Client as Database;

/// What follows `after` in a text, up to `until`.
fn between<'a>(text: &'a str, after: &str, until: &str) -> Option<&'a str> {
    let rest = &text[text.find(after)? + after.len()..];
    rest.find(until).map(|end| &rest[..end])
}

/// Statements of SQL without comments, blanks folded; bodies of functions are cut off.
fn statements(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect();
    let mut outside = String::new();
    for (n, part) in code.join("\n").split("$$").enumerate() {
        if n % 2 == 0 {
            outside.push_str(part);
        }
    }
    outside.split(';').map(|s| s.split_whitespace().collect::<Vec<_>>().join(" ")).filter(|s| !s.is_empty()).collect()
}

fn table_migrations() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/tables");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
}

/// `table privilege [column] role` of every GRANT on tables and sequences.
fn grants_of(statement: &str, grants: &mut BTreeSet<String>) {
    let Some((privileges, rest)) = statement.strip_prefix("GRANT ").and_then(|s| s.split_once(" ON ")) else { return };
    if rest.starts_with("FUNCTION") || rest.starts_with("SCHEMA") {
        return;
    }
    let (objects, roles) = rest.split_once(" TO ").unwrap_or_else(|| panic!("{statement}"));
    let (kinds, columns) = match privileges.split_once(" (") {
        Some((kind, columns)) => (kind, columns.trim_end_matches(')')),
        None => (privileges, ""),
    };
    for object in objects.trim_start_matches("SEQUENCE ").split(", ") {
        for kind in kinds.split(", ") {
            for column in columns.split(", ") {
                for role in roles.split(", ") {
                    grants.insert(format!("{object} {kind} {column} {role}"));
                }
            }
        }
    }
}

/// The differences between the catalogue of `database` and the files.
async fn differences(database: &Database, set: &RuleSet) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, expected: BTreeSet<String>, actual: Vec<String>| {
        let actual: BTreeSet<String> = actual.into_iter().collect();
        found.extend(expected.difference(&actual).map(|name| format!("{what} {name} is missing")));
        found.extend(actual.difference(&expected).map(|name| format!("{what} {name} is in no file")));
    };
    let name = set.name();
    let files = |kind: &str| -> Vec<(String, &RuleFile)> {
        let prefix = format!("CREATE {kind} ");
        let created = |file: &RuleFile| {
            let of_kind = statements(&file.text).into_iter().find(|s| s.starts_with(&prefix));
            of_kind.map(|s| s[prefix.len()..].split([' ', '(']).next().unwrap_or_default().to_owned())
        };
        set.files().iter().filter_map(|file| Some((created(file)?, file))).collect()
    };

    // Functions, views and types: one object per file, with the name and the text of the file.
    let functions = files("FUNCTION");
    let mut objects = BTreeSet::new();
    for (kind, created) in [("function", &functions), ("view", &files("VIEW")), ("type", &files("TYPE"))] {
        for (object, file) in created {
            assert_eq!(object, file.name(), "{} makes another object", file.path);
            objects.insert(format!("{kind} {object}"));
        }
    }
    assert_eq!(objects.len(), set.files().len(), "every file makes an object");
    let of_set = format!(
        "SELECT 'function ' || proname FROM pg_proc WHERE pronamespace = '{name}'::regnamespace
         UNION ALL SELECT CASE relkind WHEN 'v' THEN 'view ' WHEN 'c' THEN 'type ' ELSE 'relation ' END || relname
           FROM pg_class WHERE relnamespace = '{name}'::regnamespace"
    );
    compare("the set's", objects, column(database, &of_set).await);
    let bodies = functions.iter().map(|(object, file)| {
        let text = set.installed_text(file);
        let body = between(&text, "$$", "$$").unwrap_or_else(|| panic!("{}: no body", file.path));
        format!("{object}{body}")
    });
    let bodies = bodies.collect();
    let of_set = format!("SELECT proname || prosrc FROM pg_proc WHERE pronamespace = '{name}'::regnamespace");
    compare("the body of", bodies, column(database, &of_set).await);

    // Rights to functions: every role by default. SECURITY DEFINER functions list their roles.
    let rights = functions.iter().flat_map(|(object, file)| {
        let granted: Vec<String> = statements(&file.text);
        let definer = granted.iter().any(|s| s.contains("SECURITY DEFINER"));
        if definer {
            assert!(granted.iter().any(|s| s.starts_with("REVOKE ALL ON FUNCTION")), "{}: no REVOKE", file.path);
            assert!(file.text.contains("SET search_path FROM CURRENT"), "{}: its path is not pinned", file.path);
        }
        let roles = granted.iter().filter(|s| s.starts_with("GRANT EXECUTE ON FUNCTION"));
        let roles = roles.filter_map(|s| s.rsplit(' ').next().map(str::to_owned)).collect::<Vec<_>>();
        let by_default = (!definer).then(|| "public".to_owned());
        roles.into_iter().chain(by_default).map(move |role| format!("{object} {definer} {role}")).collect::<Vec<_>>()
    });
    let rights = rights.collect();
    let of_set = format!(
        "SELECT format('%s %s %s', proname, prosecdef::text,
                CASE a.grantee WHEN 0 THEN 'public' ELSE a.grantee::regrole::text END)
           FROM pg_proc CROSS JOIN LATERAL aclexplode(coalesce(proacl, acldefault('f', proowner))) a
          WHERE pronamespace = '{name}'::regnamespace AND a.grantee <> proowner"
    );
    let actual = column(database, &of_set).await;
    compare("the right to", rights, actual);
    let unpinned = format!(
        "SELECT format('%s.%s', pronamespace::regnamespace, proname) FROM pg_proc
          WHERE prosecdef AND pronamespace IN ('{name}'::regnamespace, 'public'::regnamespace)
            AND NOT coalesce(proconfig, '{{}}') && ARRAY[
                format('search_path=%s, public, pg_temp', '{name}'), 'search_path=public, pg_temp']"
    );
    compare("the search_path of", BTreeSet::new(), column(database, &unpinned).await);

    // Triggers: those of the files, which fire only for sessions of the set, and the guards.
    let mut triggers = BTreeSet::new();
    for file in set.files() {
        for statement in statements(&set.installed_text(file)).iter().filter(|s| s.starts_with("CREATE TRIGGER ")) {
            let condition = format!("current_setting('app.rules', true) = '{name}'");
            assert!(statement.contains(&condition), "{}: it fires for other sets: {statement}", file.path);
            triggers.insert(statement.split(' ').nth(2).unwrap().to_owned());
        }
    }
    let tables = table_migrations();
    let of_tables = statements(&tables);
    let guards = of_tables.iter().filter_map(|s| s.strip_prefix("CREATE TRIGGER "));
    let guards: BTreeSet<String> = guards.map(|s| s.split(' ').next().unwrap().to_owned()).collect();
    triggers.extend(guards.iter().cloned());
    // Counts, notes about ranges of ids and access epochs must be complete, whichever version writes.
    let others: Vec<&String> = guards.iter().filter(|name| !name.starts_with("refuse_")).collect();
    let complete = ["count_messages", "note_ranges", "raise_epoch", "raise_epoch_of_changed", "raise_epochs_of_former"];
    assert_eq!(others, complete, "a table's own triggers only refuse");
    let all = "SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal";
    compare("the trigger", triggers, column(database, all).await);
    let foreign = format!(
        "SELECT tgname::text FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE NOT tgisinternal
            AND p.pronamespace <> CASE WHEN tgname NOT LIKE '%_{name}' THEN 'public'
                                       ELSE '{name}' END::regnamespace"
    );
    compare("the function of the trigger", BTreeSet::new(), column(database, &foreign).await);

    // Policies and rights of tables.
    let policies = of_tables.iter().filter_map(|s| s.strip_prefix("CREATE POLICY "));
    let policies = policies.map(|s| s.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect();
    let all = "SELECT format('%s ON %s', policyname, tablename) FROM pg_policies";
    compare("the policy", policies, column(database, all).await);
    let mut grants = BTreeSet::new();
    for statement in &of_tables {
        grants_of(statement, &mut grants);
    }
    for file in set.files() {
        for statement in statements(&file.text) {
            grants_of(&statement, &mut grants);
        }
    }
    let all = format!(
        "SELECT format('%s %s  %s', c.relname, a.privilege_type, a.grantee::regrole)
           FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
          WHERE c.relnamespace IN ('{name}'::regnamespace, 'public'::regnamespace) AND a.grantee <> c.relowner
         UNION ALL
         SELECT format('%s %s %s %s', c.relname, a.privilege_type, t.attname, a.grantee::regrole)
           FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN LATERAL aclexplode(t.attacl) a
          WHERE c.relnamespace IN ('{name}'::regnamespace, 'public'::regnamespace)"
    );
    compare("the grant", grants, column(database, &all).await);
    found
}

/// Everything in the schemas of the server that decides who may do what, as text: whole functions with their
/// attributes, views, policies, triggers, constraints, defaults, row level security, owners and rights.
async fn snapshot(database: &Database, set: &RuleSet) -> BTreeSet<String> {
    let schemas = format!("('{}'::regnamespace, 'public'::regnamespace)", set.name());
    let everything = format!(
        "SELECT concat_ws(' ', 'function', proowner::regrole, proacl, pg_get_functiondef(oid))
           FROM pg_proc WHERE pronamespace IN {schemas} AND prokind IN ('f', 'p')
         UNION ALL SELECT concat_ws(' ', 'relation', relname, relkind, relowner::regrole, relrowsecurity,
                                    relforcerowsecurity, relacl, reloptions,
                                    CASE relkind WHEN 'v' THEN pg_get_viewdef(oid)
                                                 WHEN 'i' THEN pg_get_indexdef(oid) END)
           FROM pg_class WHERE relnamespace IN {schemas}
         UNION ALL SELECT concat_ws(' ', 'column', attrelid::regclass, attname, format_type(atttypid, atttypmod),
                                    attnotnull, attacl, pg_get_expr(d.adbin, d.adrelid))
           FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
           LEFT JOIN pg_attrdef d ON d.adrelid = attrelid AND d.adnum = attnum
          WHERE relnamespace IN {schemas} AND attnum > 0
         UNION ALL SELECT concat_ws(' ', 'policy', tablename, policyname, permissive, roles, cmd, 'USING', qual,
                                    'CHECK', with_check)
           FROM pg_policies
         UNION ALL SELECT concat_ws(' ', 'trigger', tgenabled, pg_get_triggerdef(oid))
           FROM pg_trigger WHERE NOT tgisinternal
         UNION ALL SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
           FROM pg_constraint WHERE connamespace IN {schemas}
         UNION ALL SELECT concat_ws(' ', 'type', typname, typowner::regrole, typacl)
           FROM pg_type WHERE typnamespace IN {schemas} AND typelem = 0
         UNION ALL SELECT concat_ws(' ', 'schema', nspname, nspowner::regrole, nspacl)
           FROM pg_namespace WHERE oid IN {schemas}"
    );
    column(database, &everything).await.into_iter().collect()
}

/// The differences between two databases. `fresh` was migrated a moment ago.
async fn foreign_to(fresh: &BTreeSet<String>, database: &Database, set: &RuleSet) -> Vec<String> {
    let found = snapshot(database, set).await;
    let missing = fresh.difference(&found).map(|object| format!("missing: {object}"));
    missing.chain(found.difference(fresh).map(|object| format!("foreign: {object}"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_catalogue_equal_to_the_files() {
    let target = migrated_database(server().await).await;
    let (set, database) = (RuleSet::embedded(), target.connect_as_login().await.unwrap());
    assert_eq!(differences(&database, set).await, Vec::<String>::new());
    let other = migrated_database(server().await).await;
    let fresh = snapshot(&other.connect_as_login().await.unwrap(), set).await;
    assert_eq!(foreign_to(&fresh, &database, set).await, Vec::<String>::new());

    // The comparison finds each kind of difference.
    let name = set.name();
    let view = column(&database, &format!("SELECT pg_get_viewdef('{name}.shown_messages'::regclass)")).await.remove(0);
    let view = view.trim_end_matches(';');
    for (tampering, seen) in [
        (format!("CREATE FUNCTION {name}.extra() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$"), "extra is in no file"),
        (format!("DROP FUNCTION {name}.refuse_until"), "refuse_until is missing"),
        (
            format!(
                "CREATE OR REPLACE FUNCTION {name}.is_blocked(p_one bigint, p_other bigint) RETURNS boolean \
                     LANGUAGE sql STABLE AS $$ SELECT false $$"
            ),
            "the body of is_blocked SELECT false ",
        ),
        (format!("GRANT EXECUTE ON FUNCTION {name}.app_search TO chat_writer"), "app_search true chat_writer is in"),
        (format!("ALTER FUNCTION {name}.app_access RESET search_path"), "the search_path of"),
        (format!("DROP TRIGGER keep_edits_{name} ON messages"), "keep_edits"),
        ("DROP POLICY writer_sends ON messages".to_owned(), "writer_sends ON messages is missing"),
        (
            "GRANT SELECT (content) ON messages TO chat_writer".to_owned(),
            "messages SELECT content chat_writer is in no",
        ),
        ("ALTER POLICY writer_sends ON messages WITH CHECK (true)".to_owned(), "foreign: policy messages writer_sends"),
        (
            "CREATE OR REPLACE FUNCTION public.refuse_without_rules() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN RETURN NULL; END $$"
                .to_owned(),
            "FUNCTION public.refuse_without_rules",
        ),
        (format!("ALTER FUNCTION {name}.is_blocked SECURITY DEFINER"), "foreign: function"),
        (
            format!("CREATE OR REPLACE VIEW {name}.shown_messages AS {view} OFFSET 0"),
            "foreign: relation shown_messages",
        ),
        ("DROP TRIGGER refuse_audit_change ON audit_logs".to_owned(), "refuse_audit_change"),
        ("ALTER TABLE messages DISABLE ROW LEVEL SECURITY".to_owned(), "foreign: relation messages"),
        ("ALTER TABLE messages DISABLE TRIGGER refuse_without_rules".to_owned(), "foreign: trigger D"),
    ] {
        database.batch_execute("BEGIN").await.unwrap();
        database.batch_execute(&tampering).await.unwrap_or_else(|e| panic!("{tampering}: {e:?}"));
        let mut found = differences(&database, set).await;
        found.extend(foreign_to(&fresh, &database, set).await);
        assert!(found.iter().any(|difference| difference.contains(seen)), "{tampering}: {found:?}");
        database.batch_execute("ROLLBACK").await.unwrap();
    }
}
