//! Configuration: the order of the layers, errors with key and origin for every problem, and secrets that are never
//! printed.
//!
//! How: `Sources` reads folders and variables that the test provides, not the environment of the process. For exit
//! codes the tests run the binary as a child process.

use chat_server::config::{
    AbuseResponse, Config, ConfigError, Environment, GivenFile, Loaded, LogFormat, ServerRole, Sources, encryption_key,
};
use chat_server::limits::Limits;
use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;
use tempfile::TempDir;

const SECRET: &str = "0123456789012345678901234567890123456789";

fn sources(files: &[(&str, &str)], env: &[(&str, &str)]) -> (TempDir, Sources) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let sources = Sources {
        dir: Some(dir.path().to_path_buf()),
        file: files
            .iter()
            .any(|(name, _)| *name == "given.toml")
            .then(|| GivenFile::Path(dir.path().join("given.toml"))),
        env: env.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect(),
    };
    (dir, sources)
}

fn load(files: &[(&str, &str)], env: &[(&str, &str)]) -> Loaded {
    sources(files, env).1.load().unwrap()
}

fn errors(files: &[(&str, &str)], env: &[(&str, &str)]) -> Vec<ConfigError> {
    sources(files, env).1.load().unwrap_err().0
}

/// The only error, as key, reason and last part of the origin.
fn error(files: &[(&str, &str)], env: &[(&str, &str)]) -> (String, String, String) {
    let mut all = errors(files, env);
    assert_eq!(all.len(), 1, "{all:#?}");
    let error = all.remove(0);
    let origin = error.origin.rsplit('/').next().unwrap().to_owned();
    (error.key, error.reason, origin)
}

#[test]
fn has_valid_defaults() {
    let config = Config::default();
    assert_eq!(config.limits(), Limits::default());
    assert_eq!(config.server.environment, Environment::Development);
    assert_eq!(config.server.bind_addr.to_string(), "127.0.0.1:8080");
    assert_eq!(config.security.jwt_refresh_duration, Duration::from_hours(7 * 24));
    assert_eq!(config.database.url, None);
    assert_eq!(config.warnings(), Vec::<String>::new());
}

#[test]
fn has_valid_files_for_every_environment() {
    for environment in ["development", "staging", "production"] {
        let env = [("CHAT_SERVER__SERVER__ENVIRONMENT", environment), ("CHAT_SERVER__SECURITY__JWT_SECRET", SECRET)];
        let sources =
            Sources { dir: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("config")), ..sources(&[], &env).1 };
        let config = sources.load().unwrap().config;
        assert_eq!(config.server.environment.as_str(), environment);
        let unscanned = usize::from(environment == "production");
        let warnings = config.warnings();
        assert!(
            warnings.len() == unscanned && warnings.iter().all(|text| text.contains("files.clamd")),
            "{warnings:?}"
        );
    }
}

#[test]
fn overrides_each_layer_by_the_next_one() {
    let files = [
        (
            "default.toml",
            "[limits]\nmax_connections = 1\nmax_connections_per_user = 1\nmax_messages_per_minute = 1\n\
             max_file_size = 1",
        ),
        ("staging.toml", "[limits]\nmax_connections_per_user = 2\nmax_messages_per_minute = 2\nmax_file_size = 2"),
        ("production.toml", "not even TOML"),
        ("given.toml", "server.environment = 'staging'\n[limits]\nmax_messages_per_minute = 3\nmax_file_size = 3"),
    ];
    let env = [("CHAT_SERVER__LIMITS__MAX_FILE_SIZE", "4"), ("CHAT_SERVER__SECURITY__JWT_SECRET", SECRET)];
    let loaded = load(&files, &env);
    let limits = loaded.config.limits();
    assert_eq!(
        (limits.max_connections, limits.max_connections_per_user, limits.max_messages_per_minute, limits.max_file_size),
        (1, 2, 3, 4)
    );
    assert_eq!(limits.max_message_length, 4_000);
    let origin = |key: &str| loaded.origins[key].rsplit('/').next().unwrap().to_owned();
    assert_eq!(origin("limits.max_message_length"), "built-in default");
    assert_eq!(origin("limits.max_connections"), "default.toml");
    assert_eq!(origin("limits.max_connections_per_user"), "staging.toml");
    assert_eq!(origin("limits.max_messages_per_minute"), "given.toml");
    assert_eq!(origin("limits.max_file_size"), "environment variable CHAT_SERVER__LIMITS__MAX_FILE_SIZE");
    assert_eq!(origin("server.environment"), "given.toml");
}

#[test]
fn takes_the_environment_from_the_variable_before_any_file() {
    let files = [
        ("default.toml", "server.environment = 'production'"),
        ("development.toml", "logging.format = 'json'"),
        ("production.toml", "server.workers = 7"),
    ];
    let config = load(&files, &[("CHAT_SERVER__SERVER__ENVIRONMENT", "development")]).config;
    assert_eq!((config.server.workers, config.logging.format), (0, LogFormat::Json));
}

#[test]
fn refuses_a_file_that_names_another_environment() {
    let (key, reason, origin) = error(
        &[(
            "development.toml",
            "server.environment = 'staging'\nsecurity.jwt_secret = '01234567890123456789012345678901'",
        )],
        &[],
    );
    assert_eq!((key.as_str(), origin.as_str()), ("server.environment", "development.toml"));
    assert!(reason.contains("\"development\"") && reason.contains("\"staging\""), "{reason}");
}

#[test]
fn reads_variables_as_the_type_of_their_key() {
    let loaded = load(
        &[],
        &[
            ("CHAT_SERVER__DATA_DIR", "/srv/chat"),
            ("CHAT_SERVER__SECURITY__JWT_SECRET", SECRET),
            ("CHAT_SERVER__SECURITY__ENABLE_2FA", "true"),
            ("CHAT_SERVER__SECURITY__ALLOWED_ORIGINS", "https://a.example, http://localhost:3000"),
            ("CHAT_SERVER__SECURITY__ADMIN_USER_IDS", "7, 11"),
            ("CHAT_SERVER__SERVER__WORKERS", "2"),
            ("CHAT_SERVER__SERVER__SHUTDOWN_TIMEOUT", "1m 30s"),
            ("CHAT_SERVER__LOGGING__FILE", "123"),
            ("CHAT_SERVER_PORT", "tcp://10.0.0.1:8080"),
            ("PATH", "/bin"),
        ],
    );
    let config = loaded.config;
    assert_eq!(config.security.jwt_secret.unwrap().expose(), SECRET, "a secret of digits stays a string");
    assert!(config.security.enable_2fa);
    assert_eq!(config.security.allowed_origins, ["https://a.example", "http://localhost:3000"]);
    assert_eq!(config.security.admin_user_ids, [7, 11]);
    assert_eq!(config.server.workers, 2);
    assert_eq!(config.server.shutdown_timeout, Duration::from_secs(90));
    assert_eq!(config.logging.file.as_deref(), Some(Path::new("123")));
    assert_eq!(config.data_dir, Path::new("/srv/chat"));
}

#[test]
fn unsets_an_optional_value_by_an_empty_variable() {
    let files = [("default.toml", "database.url = 'postgresql://chat@db/veza'\nlogging.file = 'app.log'")];
    let config = load(&files, &[("CHAT_SERVER__DATABASE__URL", ""), ("CHAT_SERVER__LOGGING__FILE", "")]).config;
    assert_eq!((config.database.url, config.logging.file), (None, None));
}

#[test]
fn reports_all_problems_at_once_with_their_origins() {
    let files = [
        ("default.toml", "[server]\nworker = 2\nbind_addr = 'localhost'\n[limits]\nmax_connections = -1"),
        (
            "given.toml",
            "[databse]\nurl = 'x'\n[features]\nwebhooks = 'yes'\n[server]\nheartbeat_interval = '1 fortnight'",
        ),
    ];
    let env = [("CHAT_SERVER__LOGGING__FORMAT", "xml"), ("CHAT_SERVER__SERVER__WORKERS", "65")];
    let mut found: Vec<(String, String)> = errors(&files, &env)
        .into_iter()
        .map(|error| (error.key, error.origin.rsplit('/').next().unwrap().to_owned()))
        .collect();
    found.sort();
    let expected = [
        ("databse", "given.toml"),
        ("features.webhooks", "given.toml"),
        ("limits.max_connections", "default.toml"),
        ("logging.format", "environment variable CHAT_SERVER__LOGGING__FORMAT"),
        ("server.bind_addr", "default.toml"),
        ("server.heartbeat_interval", "given.toml"),
        ("server.worker", "default.toml"),
        ("server.workers", "environment variable CHAT_SERVER__SERVER__WORKERS"),
    ];
    assert_eq!(found, expected.map(|(key, origin)| (key.to_owned(), origin.to_owned())));
}

#[test]
fn has_the_valid_values_in_each_reason() {
    for (text, key, reason) in [
        ("server.worker = 1", "server.worker", "there is no such key; did you mean \"workers\"?"),
        ("cache.size = 1", "cache.size", "there is no such key; known here are url"),
        ("server = 1", "server", "must be a section, [name] on a line of its own, found 1"),
        ("server.workers = 'two'", "server.workers", "must be a whole number, not negative, found \"two\""),
        ("server.workers = 65", "server.workers", "must be between 0 and 64, found 65"),
        (
            "server.connection_timeout = 5",
            "server.connection_timeout",
            "must be a time such as \"30s\", \"15m\" or \"7d\", found 5",
        ),
        ("server.heartbeat_interval = '1ms'", "server.heartbeat_interval", "must be between 100ms and 1h, found 1ms"),
        ("server.internal_addr = '127.0.0.1:8080'", "server.internal_addr", "must differ from server.bind_addr"),
        (
            "responses.privilege_jump = 'mute'",
            "responses.privilege_jump",
            "must be notify, slow_down or challenge, found mute: a rival could have a new owner muted",
        ),
        (
            "limits.max_connections_per_network = 0",
            "limits.max_connections_per_network",
            "must be between 1 and 10000000, found 0",
        ),
        ("server.metrics_token = 'short'", "server.metrics_token", "must have at least 32 bytes"),
        (
            "server.trusted_proxies = ['proxy.example']",
            "server.trusted_proxies",
            "\"proxy.example\" is neither a network (10.0.0.0/8) nor an address",
        ),
        (
            "server.proxy_protocol = true",
            "server.proxy_protocol",
            "needs server.trusted_proxies: only these may send a PROXY header",
        ),
        (
            "server.forwarded_header = 'x-real-ip'",
            "server.forwarded_header",
            "must be x-forwarded-for or forwarded, found \"x-real-ip\"",
        ),
        (
            "server.environment = 'prod'",
            "server.environment",
            "must be development, staging or production, found \"prod\"",
        ),
        (
            "logging.level = 'inof'",
            "logging.level",
            "\"inof\" is no level (error, warn, info, debug, trace, off); for a module write module=level",
        ),
        (
            "limits.max_message_length = 20000",
            "limits.max_frame_bytes",
            "must be at least 81024, so that a message of limits.max_message_length = 20000 characters fits; \
             found 65536",
        ),
        (
            "security.jwt_refresh_duration = '15m'",
            "security.jwt_refresh_duration",
            "must be longer than security.jwt_access_duration",
        ),
        (
            "database.url = 'mysql://db/veza'",
            "database.url",
            "must be a URL beginning with postgresql:// or postgres://",
        ),
    ] {
        let found = error(&[("given.toml", text)], &[]);
        assert_eq!((found.0.as_str(), found.1.as_str()), (key, reason), "{text}");
    }
}

#[test]
fn accepts_origins_only_as_browsers_send_them() {
    for good in ["https://chat.example.com", "http://localhost:3000", "http://[::1]:8080", "chrome-extension://abc"] {
        load(&[], &[("CHAT_SERVER__SECURITY__ALLOWED_ORIGINS", good)]);
    }
    for bad in [
        "*",
        "null",
        "https://a.example/",
        "https://A.example",
        "https://a.example:443",
        "a.example",
        "https://",
        "http://a:0",
    ] {
        let (key, _, origin) = error(&[], &[("CHAT_SERVER__SECURITY__ALLOWED_ORIGINS", bad)]);
        assert_eq!(key, "security.allowed_origins", "{bad}");
        assert_eq!(origin, "environment variable CHAT_SERVER__SECURITY__ALLOWED_ORIGINS");
    }
}

#[test]
fn accepts_only_valid_user_ids_as_administrators() {
    for (bad, part) in [("ann", "whole number"), ("0", "between 1 and"), ("9007199254740992", "between 1 and")] {
        let (key, reason, origin) = error(&[], &[("CHAT_SERVER__SECURITY__ADMIN_USER_IDS", bad)]);
        assert!(key.starts_with("security.admin_user_ids") && reason.contains(part), "{key}: {reason}");
        assert_eq!(origin, "environment variable CHAT_SERVER__SECURITY__ADMIN_USER_IDS");
    }
}

#[test]
fn accepts_only_whole_encryption_keys_with_distinct_ids() {
    let variable = "CHAT_SERVER__SECURITY__ENCRYPTION_KEYS";
    let (a, b) = ("a:b2xkIGtleSBvZiB0aGlydHktdHdvIGJ5dGVzIC4uLi4=", "b-2:bmV3IGtleSBvZiB0aGlydHktdHdvIGJ5dGVzIC4uLi4=");
    let loaded = load(&[], &[(variable, &format!("{a}, {b}"))]);
    let ids = loaded.config.security.encryption_keys.iter().map(|key| encryption_key(key).unwrap().0);
    assert_eq!(ids.collect::<Vec<_>>(), ["a", "b-2"]);
    assert!(!loaded.to_toml().contains("b2xk") && !format!("{:?}", loaded.config).contains("b2xk"));
    for (bad, part) in [
        (format!("{a},{a}"), "two keys have the id \"a\""),
        ("b2xkIGtleSBvZiB0aGlydHktdHdvIGJ5dGVzIC4uLi4=".to_owned(), "id:base64"),
        (a.replacen("a:", ":", 1), "the id of each key"),
        (a.replacen("a:", "a b:", 1), "the id of each key"),
        ("a:b2xkIGtleSBvZg==".to_owned(), "32 bytes in base64"),
        ("a:b2xk?".to_owned(), "32 bytes in base64"),
    ] {
        let (key, reason, _) = error(&[], &[(variable, &bad)]);
        assert!(key == "security.encryption_keys" && reason.contains(part) && !reason.contains("b2xk"), "{reason}");
    }
}

#[test]
fn requires_two_factor_authentication_only_where_users_can_set_it_up() {
    let required = ("CHAT_SERVER__SECURITY__TWO_FACTOR_REQUIRED", "admin,member");
    assert_eq!(load(&[], &[required]).config.security.two_factor_required, [ServerRole::Admin, ServerRole::Member]);
    let (key, ..) = error(&[], &[required, ("CHAT_SERVER__SECURITY__ENABLE_2FA", "false")]);
    assert_eq!(key, "security.two_factor_required");
    let (_, reason, _) = error(&[], &[(required.0, "owner")]);
    assert!(reason.contains("must be admin or member"), "{reason}");
}

#[test]
fn takes_a_captcha_as_a_whole_and_sends_its_secret_to_nobody_else() {
    let whole = |verify_url| {
        [
            ("CHAT_SERVER__SECURITY__CAPTCHA_VERIFY_URL", verify_url),
            ("CHAT_SERVER__SECURITY__CAPTCHA_SECRET", "a secret"),
            ("CHAT_SERVER__SECURITY__CAPTCHA_SITE_KEY", "key-1"),
        ]
    };
    for url in ["https://captcha.example/siteverify", "http://127.0.0.1:9000/verify", "http://localhost/verify"] {
        assert_eq!(load(&[], &whole(url)).config.security.captcha_verify_url.as_deref(), Some(url));
    }
    for url in [
        "http://captcha.example/verify",
        "captcha.example",
        "https://",
        "https://a.example@evil.example/verify",
        "https://a.example; script-src *",
        "ftp://127.0.0.1/verify",
    ] {
        let (key, reason, _) = error(&[], &whole(url));
        assert_eq!(key, "security.captcha_verify_url", "{url}");
        assert!(reason.contains("https://"), "{reason}");
    }
    for missing in 0..3 {
        let all = whole("https://captcha.example/siteverify");
        let some: Vec<_> = all.iter().enumerate().filter(|(at, _)| *at != missing).map(|(_, set)| *set).collect();
        let (key, reason, _) = error(&[], &some);
        assert_eq!(key.to_uppercase().replace('.', "__"), all[missing].0["CHAT_SERVER__".len()..], "{reason}");
    }
}

#[test]
fn requires_a_long_signing_secret_outside_development() {
    let (key, reason, origin) = error(&[("given.toml", "server.environment = 'production'")], &[]);
    assert_eq!((key.as_str(), origin.as_str()), ("security.jwt_secret", "not set anywhere"));
    assert!(reason.contains("CHAT_SERVER__SECURITY__JWT_SECRET"), "{reason}");

    let short = "zq81".repeat(7);
    let (key, reason, _) = error(&[], &[("CHAT_SERVER__SECURITY__JWT_SECRET", &short)]);
    assert_eq!(key, "security.jwt_secret");
    assert!(reason.contains("32 bytes") && reason.contains("28") && !reason.contains("zq81"), "{reason}");
}

#[test]
fn quotes_no_secret_in_errors() {
    for text in [
        "security.jwt_secret = 918273645",
        "security.jwt_secret = 'a918273645",
        "database.url = 918273645",
        "database.url = ['postgresql://u:918273645@h/d']",
        "cache.url = 'http://u:918273645@h'",
        "cluster.redis_url = '918273645'",
        "security.encryption_keys = 'a:918273645'",
        "security.encryption_keys = ['a:918273645']",
        "security.encryption_keys = [918273645]",
    ] {
        let all = format!("{:?}", errors(&[("given.toml", text)], &[]));
        assert!(!all.contains("918273645"), "{all}");
    }
}

#[test]
fn names_file_and_line_of_invalid_toml() {
    let (key, reason, origin) = error(&[("default.toml", "data_dir = 'x'\n\n[server\n")], &[]);
    assert_eq!((key.as_str(), origin.as_str()), ("", "default.toml"));
    assert!(reason.starts_with("line 3 is not valid TOML"), "{reason}");
}

#[test]
fn requires_only_a_given_file_to_exist() {
    let (_dir, mut sources) = sources(&[], &[]);
    sources.load().unwrap();
    sources.file = Some(GivenFile::Path("/nowhere/chat.toml".into()));
    let errors = sources.load().unwrap_err();
    assert_eq!(errors.0[0].origin, "/nowhere/chat.toml");
}

#[test]
fn lists_keys_without_effect_that_are_set() {
    let config = load(
        &[("given.toml", "features.webhooks = true\nsecurity.bcrypt_cost = 12\ncache.url = 'redis://redis:6379'")],
        &[],
    )
    .config;
    assert_eq!(config.without_effect(), ["cache.url"]);
    assert_eq!(config.warnings().len(), 1);
}

#[test]
fn warns_about_secrets_from_public_documentation() {
    let config = load(&[], &[("CHAT_SERVER__SECURITY__JWT_SECRET", "production-secret-key-change-this")]).config;
    assert!(config.warnings().iter().any(|warning| warning.contains("jwt_secret")));
}

#[test]
fn prints_loadable_toml_with_masked_secrets() {
    let env = [
        ("CHAT_SERVER__SECURITY__JWT_SECRET", SECRET),
        ("CHAT_SERVER__DATABASE__URL", "postgresql://chat:s3cret@db/veza"),
        ("CHAT_SERVER__DATA_DIR", "a \"quoted\" \\ folder\u{7}"),
        ("CHAT_SERVER__SECURITY__ALLOWED_ORIGINS", "https://a.example,https://b.example"),
    ];
    let loaded = load(&[], &env);
    let text = loaded.to_toml();
    assert!(!text.contains(SECRET) && !text.contains("s3cret"), "{text}");
    assert!(text.contains("url = \"postgresql://chat:***@db/veza\""), "{text}");
    assert!(text.contains("# environment variable CHAT_SERVER__DATA_DIR"), "{text}");
    assert!(text.contains("# redis_url is not set"), "{text}");
    assert!(!format!("{:?}", loaded.config).contains("s3cret"));

    let again = load(&[("given.toml", &text)], &env[..1]).config;
    assert_eq!(again.data_dir, loaded.config.data_dir);
    assert_eq!(again.limits, loaded.config.limits);
    assert_eq!(again.security.allowed_origins, loaded.config.security.allowed_origins);
    assert_eq!(again.server, loaded.config.server);
}

/// Runs the binary in an empty folder with only these `CHAT_SERVER__` variables.
fn run(arguments: &[&str], env: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CHAT_SERVER__")) {
        command.env_remove(name);
    }
    command.args(arguments).envs(env.iter().copied()).current_dir(dir.path()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn mutes_and_slows_down_no_account_that_may_be_a_victim() {
    for key in ["refresh_token_reuse", "impossible_travel"] {
        for response in ["mute", "slow_down"] {
            let toml = format!("[responses]\n{key} = '{response}'");
            let (named, reason, _) = error(&[("given.toml", &toml)], &[]);
            assert_eq!(named, format!("responses.{key}"));
            assert!(reason.contains("notify") && reason.contains("challenge"), "{reason}");
        }
    }
    let (named, ..) = error(&[("given.toml", "[responses]\npassword_guessing = 'mute'")], &[]);
    assert_eq!(named, "responses.password_guessing", "there is no such key");
    let config = load(&[("given.toml", "[responses]\nmass_reading = 'mute'")], &[]).config;
    assert_eq!(config.responses.mass_reading, AbuseResponse::Mute);
}

#[test]
fn a_bucket_needs_a_name_a_key_and_an_address_that_keeps_files_private() {
    let s3 = "[files]\nstore = 's3'\n";
    let mut missing: Vec<String> = errors(&[("given.toml", s3)], &[]).into_iter().map(|error| error.key).collect();
    missing.sort_unstable();
    assert_eq!(missing, ["files.s3_access_key_id", "files.s3_bucket", "files.s3_secret_access_key"]);

    let whole = format!("{s3}s3_bucket = 'veza-files'\ns3_access_key_id = 'AK'\ns3_secret_access_key = 'hidden'\n");
    let load_with = |line: &str| sources(&[("given.toml", &format!("{whole}{line}"))], &[]).1.load();
    assert!(load_with("").is_ok(), "AWS needs no address");
    for address in [
        "https://s3.example.org",
        "https://[fd00::1]:9000",
        "http://127.0.0.1:9000",
        "http://10.1.2.3",
        "http://localhost",
    ] {
        assert!(load_with(&format!("s3_endpoint = '{address}'")).is_ok(), "{address}");
    }
    assert!(load_with("s3_allow_http = true\ns3_endpoint = 'http://s3.example.org'").is_ok());
    for (line, key) in [
        ("s3_endpoint = 'http://s3.example.org'", "files.s3_endpoint"),
        ("s3_endpoint = 'http://10.1.2.3.example.org'", "files.s3_endpoint"),
        ("s3_endpoint = 'http://8.8.8.8:9000'", "files.s3_endpoint"),
        ("s3_endpoint = 'https://s3.example.org/path'", "files.s3_endpoint"),
        ("s3_endpoint = 's3.example.org'", "files.s3_endpoint"),
        ("s3_prefix = 'chat'", "files.s3_prefix"),
        ("s3_prefix = '/chat/'", "files.s3_prefix"),
        ("s3_prefix = 'a/../b/'", "files.s3_prefix"),
        ("s3_region = ''", "files.s3_region"),
    ] {
        let found: Vec<String> = load_with(line).unwrap_err().0.into_iter().map(|error| error.key).collect();
        assert_eq!(found, [key], "{line}");
    }
    let (named, ..) = error(
        &[("given.toml", &format!("{s3}s3_bucket = 'Files'\n{}", &whole[whole.find("s3_access").unwrap()..]))],
        &[],
    );
    assert_eq!(named, "files.s3_bucket");

    let printed = run(&["check-config"], &[("CHAT_SERVER__FILES__S3_SECRET_ACCESS_KEY", "hidden-from-all")]);
    assert_eq!(printed.status.code(), Some(0));
    let printed = text(&printed.stdout) + &text(&printed.stderr);
    assert!(printed.contains("s3_secret_access_key = \"***\"") && !printed.contains("hidden-from-all"), "{printed}");
}

#[test]
fn prints_the_effective_configuration_with_check_config() {
    let output = run(&["check-config"], &[("CHAT_SERVER__LIMITS__MAX_CONNECTIONS", "77")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("max_connections = 77"));
}

#[test]
fn exits_2_with_the_reasons_on_an_invalid_configuration() {
    for command in ["check-config", "serve", "migrate"] {
        let output = run(&[command], &[("CHAT_SERVER__SERVER__WORKERS", "many"), ("CHAT_SERVER__LIMITS__MAX", "1")]);
        assert_eq!(output.status.code(), Some(2));
        let printed = text(&output.stderr);
        assert!(printed.contains("server.workers") && printed.contains("CHAT_SERVER__SERVER__WORKERS"), "{printed}");
        assert!(printed.contains("limits.max") && printed.contains("CHAT_SERVER__LIMITS__MAX"), "{printed}");
    }
    assert_eq!(run(&["--config", "/nowhere.toml"], &[]).status.code(), Some(2));
    assert_eq!(run(&["dance"], &[]).status.code(), Some(2));
    let places = run(&["serve"], &[("CHAT_SERVER__SECURITY__GEOIP_DATABASE", "/proc/self/status")]);
    assert!(!places.status.success());
    let printed = text(&places.stderr) + &text(&places.stdout);
    assert!(printed.contains("security.geoip_database: /proc/self/status is no readable file"), "{printed}");
    let log = run(&["serve"], &[("CHAT_SERVER__LOGGING__FILE", "/proc/nowhere/app.log")]);
    assert_eq!(log.status.code(), Some(2));
    assert!(text(&log.stderr).contains("logging.file"));
}

#[test]
fn prints_help_with_examples_and_the_version() {
    let help = text(&run(&["--help"], &[]).stdout);
    assert!(help.contains("Examples:") && help.contains("check-config") && help.contains("migrate"), "{help}");
    assert!(text(&run(&["--version"], &[]).stdout).contains(env!("CARGO_PKG_VERSION")));
}

/// docs/configuration.md and .env.example have the same keys as the configuration.
#[test]
fn documents_every_key_and_no_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let docs = std::fs::read_to_string(root.join("docs/configuration.md")).unwrap();
    let mut documented: Vec<&str> =
        docs.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|line| line.split('`').next()).collect();
    documented.sort_unstable();
    let mut keys: Vec<String> = load(&[], &[]).origins.into_keys().collect();
    keys.extend(
        [
            "cache.url",
            "cluster.redis_url",
            "database.app_password",
            "database.owner_password",
            "database.url",
            "database.writer_password",
            "files.clamd",
            "files.s3_access_key_id",
            "files.s3_bucket",
            "files.s3_endpoint",
            "files.s3_secret_access_key",
            "logging.file",
            "security.captcha_script_url",
            "security.captcha_secret",
            "security.captcha_site_key",
            "security.captcha_verify_url",
            "security.geoip_database",
            "security.jwt_secret",
            "server.internal_addr",
            "server.metrics_token",
        ]
        .map(str::to_owned),
    );
    keys.sort_unstable();
    assert_eq!(documented, keys);

    let example = std::fs::read_to_string(root.join(".env.example")).unwrap();
    let env: Vec<(&str, &str)> =
        example.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('=')).collect();
    assert!(env.len() > 3);
    load(&[], &env);
}
