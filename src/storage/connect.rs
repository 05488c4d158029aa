//! Connections: where PostgreSQL is, and as which role one speaks to it.

use super::StorageError;
use super::rules::RuleSet;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use postgres_protocol::password::scram_sha_256;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

/// The superuser of a private PostgreSQL. The server never connects as it: what needs it is made by initdb and in
/// PostgreSQL's single-user mode. Backups, operators and tests can connect, from the same user of the operating system.
pub const SUPERUSER: &str = "veza";

/// Who a connection is for PostgreSQL. None of the three is a superuser or bypasses row level security.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Owns the schema; DDL only.
    Owner,
    /// One user's reads.
    App,
    /// Batches of mixed users, and accounts.
    Writer,
}

impl Role {
    /// All of them, in the order in which a database is set up.
    pub const ALL: [Self; 3] = [Self::Owner, Self::App, Self::Writer];

    /// The name in PostgreSQL, of the role and its login.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Owner => "chat_owner",
            Self::App => "chat_app",
            Self::Writer => "chat_writer",
        }
    }

    /// The beginning of the setting `database.…_password`.
    #[must_use]
    pub fn setting(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::App => "app",
            Self::Writer => "writer",
        }
    }
}

/// The password of one role's login.
#[derive(Clone)]
pub enum RolePassword {
    /// PostgreSQL asks for none, or the URL's options bring one.
    None,
    /// From the configuration; an administrator has set it in PostgreSQL.
    Configured(String),
    /// Derived from the server's secret; the server sets it in PostgreSQL.
    Derived(String),
}

/// Where PostgreSQL is.
#[derive(Clone)]
pub struct Target {
    login: Config,
    /// In the order of [`Role`].
    passwords: Arc<[RolePassword; 3]>,
    user_mentions: bool,
    stranger_additions: u32,
    /// The name of the rule set.
    rules: Arc<str>,
}

impl Target {
    /// From `database.url`, whose user sets the database up, and the passwords of the three roles.
    ///
    /// # Errors
    /// [`StorageError::Url`] when it is none.
    pub fn from_url(url: &str, passwords: [RolePassword; 3]) -> Result<Self, StorageError> {
        Ok(Self::new(url.parse().map_err(StorageError::Url)?, passwords))
    }

    /// A database of the private PostgreSQL that has its socket in `directory`. The owner sets it up.
    #[must_use]
    pub fn embedded(directory: &Path, database: &str) -> Self {
        Self::of_socket(directory, database, Role::Owner.name())
    }

    /// The same for tools: its login is the superuser.
    #[must_use]
    pub fn embedded_as_superuser(directory: &Path, database: &str) -> Self {
        Self::of_socket(directory, database, SUPERUSER)
    }

    fn of_socket(directory: &Path, database: &str, user: &str) -> Self {
        let mut login = Config::new();
        login.host_path(directory).user(user).dbname(database);
        Self::new(login, [const { RolePassword::None }; 3])
    }

    fn new(mut login: Config, passwords: [RolePassword; 3]) -> Self {
        login.connect_timeout(Duration::from_secs(3));
        let rules = RuleSet::embedded().name().into();
        Self { login, passwords: Arc::new(passwords), user_mentions: true, stranger_additions: 10, rules }
    }

    /// What PostgreSQL stores of a role's password, if the server derives it.
    #[must_use]
    pub fn derived_verifier(&self, role: Role) -> Option<String> {
        match &self.passwords[role as usize] {
            RolePassword::Derived(password) => Some(scram_sha_256(password.as_bytes())),
            RolePassword::None | RolePassword::Configured(_) => None,
        }
    }

    /// The same, with mentions switched on or off: a setting of the writer's connections that the triggers look at.
    #[must_use]
    pub fn with_mentions(self, user_mentions: bool) -> Self {
        Self { user_mentions, ..self }
    }

    /// The same, with the additions by strangers that a user has within an hour (`rules/addable_users.sql`).
    #[must_use]
    pub fn with_stranger_additions(self, stranger_additions: u32) -> Self {
        Self { stranger_additions, ..self }
    }

    /// Whether PostgreSQL runs on this machine, as far as its address shows.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.login.get_hosts().iter().all(|host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        })
    }

    /// Where PostgreSQL is, without user and password: `host:port` or a socket's directory, several with commas.
    #[must_use]
    pub fn address(&self) -> String {
        let ports = self.login.get_ports();
        let hosts = self.login.get_hosts().iter().enumerate().map(|(n, host)| match host {
            Host::Tcp(name) => format!("{name}:{}", ports.get(n).or(ports.first()).unwrap_or(&5432)),
            Host::Unix(directory) => directory.display().to_string(),
        });
        hosts.collect::<Vec<_>>().join(", ")
    }

    /// The configuration of that user's session that is called `name` and runs with `options`.
    #[must_use]
    pub fn reservation(&self, name: &str, options: &str) -> Config {
        let mut config = self.login.clone();
        let given = config.get_options().unwrap_or_default();
        config.options(format!("{given} {options}").trim());
        config.application_name(name);
        config
    }

    /// The same, with another rule set than the one that this binary carries.
    #[must_use]
    pub fn with_rules(self, set: &RuleSet) -> Self {
        Self { rules: set.name().into(), ..self }
    }

    /// A connection as the user of `database.url`, which may create the three roles.
    ///
    /// # Errors
    /// [`StorageError::Connect`] when PostgreSQL does not answer.
    pub async fn connect_as_login(&self) -> Result<Client, StorageError> {
        connect(&self.login_config()).await.map_err(StorageError::Connect)
    }

    /// The configuration of connections as the user of `database.url`.
    #[must_use]
    pub fn login_config(&self) -> Config {
        let mut config = self.login.clone();
        let given = config.get_options().unwrap_or_default();
        config.options(format!("{given}{}", self.rules()).trim());
        config
    }

    /// Start-up options that choose the rule set: unqualified names lead to its objects, and its triggers fire. The
    /// path is the one that the set's SECURITY DEFINER functions pin; with another, PostgreSQL would plan what both
    /// call anew.
    fn rules(&self) -> String {
        format!(" -c search_path={0},public,pg_temp -c app.rules={0}", self.rules)
    }

    /// The name of the rule set.
    #[must_use]
    pub fn rule_set(&self) -> &str {
        &self.rules
    }

    /// That path, for a session of the owner that calls the set's functions.
    #[must_use]
    pub fn rule_path(&self) -> String {
        format!("{}, public, pg_temp", self.rules)
    }

    /// The configuration of connections as one of the three roles, which log in by themselves: no statement leads back
    /// to a login with more rights.
    #[must_use]
    pub fn config(&self, role: Role) -> Config {
        let mut config = self.login.clone();
        config.user(role.name());
        if let RolePassword::Configured(password) | RolePassword::Derived(password) = &self.passwords[role as usize] {
            config.password(password);
        }
        let given = config.get_options().unwrap_or_default();
        let options = format!(
            "{given} -c synchronous_commit=on -c timezone=UTC -c statement_timeout={} \
             -c idle_in_transaction_session_timeout=30000 -c client_min_messages=warning -c jit=off \
             -c app.stranger_additions={}{}{}{}",
            if role == Role::App { crate::limits::READ_DEADLINE_MS } else { 20_000 },
            self.stranger_additions,
            match role {
                Role::Owner => "",
                Role::App => READER_PLANS,
                Role::Writer => WRITER_PLANS,
            },
            if self.user_mentions { "" } else { " -c app.user_mentions=off" },
            // The owner makes tables, which must not land in the schema of a set.
            if role == Role::Owner { " -c search_path=public,pg_temp".to_owned() } else { self.rules() },
        );
        config.options(options.trim());
        config.application_name(format!("veza {}", role.name()));
        config
    }

    /// The environment in which PostgreSQL's own programs connect as one of the roles; `None` is the login.
    #[must_use]
    pub fn program_environment(&self, role: Option<Role>) -> Vec<(&'static str, String)> {
        let config = role.map_or_else(|| self.login.clone(), |role| self.config(role));
        let hosts = config.get_hosts().iter().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(directory) => directory.display().to_string(),
        });
        let hosts: Vec<String> = hosts.collect();
        let ports: Vec<String> = config.get_ports().iter().map(u16::to_string).collect();
        let password = config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
        let given = self.login.get_options().map(str::to_owned);
        [
            ("PGHOST", Some(hosts.join(",")).filter(|hosts| !hosts.is_empty())),
            ("PGPORT", Some(ports.join(",")).filter(|ports| !ports.is_empty())),
            ("PGUSER", config.get_user().map(str::to_owned)),
            ("PGDATABASE", config.get_dbname().or(config.get_user()).map(str::to_owned)),
            ("PGPASSWORD", password),
            ("PGOPTIONS", given),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }

    /// A pool of connections as `role`.
    ///
    /// # Errors
    /// [`StorageError::Pool`] when it cannot be made.
    pub fn pool(&self, role: Role, size: usize) -> Result<Pool, StorageError> {
        let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let wait = Some(Duration::from_millis(crate::limits::READ_DEADLINE_MS));
        Pool::builder(Manager::from_config(self.config(role), NoTls, manager))
            .max_size(size)
            .runtime(Runtime::Tokio1)
            .wait_timeout(wait)
            .create_timeout(wait)
            .recycle_timeout(wait)
            .build()
            .map_err(|e| StorageError::Pool(e.to_string()))
    }
}

/// Every join of the writer's statements is a look-up by key, whatever the arrays hold. Planned anew each time (which
/// PostgreSQL prefers for arrays), a commit of one message costs twice as much; and of the plans that it would keep,
/// those made while the tables are small read them whole for every batch, until they have grown. The newest messages of
/// a conversation are read by their order, and not all of them by a bitmap.
const WRITER_PLANS: &str = " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off \
    -c enable_mergejoin=off -c enable_bitmapscan=off";

/// A page is looked up by key as well, however little PostgreSQL knows of the tables: without statistics it takes a
/// large conversation for a small one, reads all of it and sorts. The search, which does need bitmaps, switches them on
/// for itself. The kept plan fits every page, and planning a page takes nearly as long as reading it. PostgreSQL would
/// prefer plans for the partitions of one page, and plan each page anew.
pub const READER_PLANS: &str = " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off \
    -c enable_mergejoin=off -c enable_bitmapscan=off";

/// Connects and lets the connection run on the present runtime.
///
/// # Errors
/// PostgreSQL's, or the socket's.
pub async fn connect(config: &Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // The user of the client receives the error. Here a line for debugging is enough.
        if let Err(error) = connection.await {
            tracing::debug!("connection to PostgreSQL ended: {error}");
        }
    });
    Ok(client)
}
