//! One server, or the nodes of a cluster with their Redis.

use super::middle::{GroupMeter, scrape};
use crate::compare::child::Child;
use crate::compare::places::{Places, Ports};
use crate::measure::listener::store_meter;
use crate::measure::process::ProcessMeter;
use crate::setup::api::Api;
use crate::setup::launch::{Launch, Server};
use crate::setup::pin;
use chat_server::storage::embedded::Embedded;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use toml::Value;

/// How long the nodes may take to be connected through Redis.
const LINKED: Duration = Duration::from_mins(1);
/// How long a side may index the messages of a phase.
const SETTLED: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);
/// 1 while a node exchanges events through Redis.
const LINK: &str = "chat_server_redis_up";
/// 0 when all messages are in the search index.
const SEARCH_LAG: &str = "chat_server_search_lag_seconds";

/// The Redis of this machine: `redis-server`, or Debian's redis-tools, whose `redis-check-rdb` is the same program.
///
/// # Errors
/// How to install it.
pub(super) fn find_redis(path: Option<&OsStr>) -> Result<PathBuf, String> {
    let places = Places::new(path, PathBuf::from("/nonexistent"));
    places.program("redis-server").or_else(|| places.program("redis-check-rdb")).ok_or_else(|| {
        "Redis was not found, and nodes exchange their events through it; install it: apt-get install redis-tools (or \
         redis-server, which also starts a service)"
            .to_owned()
    })
}

/// A running Redis without files. It ends, and its folder goes, when it is dropped.
struct Redis {
    address: SocketAddr,
    server: Child,
    _folder: TempDir,
}

impl Redis {
    fn start(program: &Path, cores: &[usize]) -> Result<Self, String> {
        let made = tempfile::Builder::new().prefix("loadtest-redis-").tempdir();
        let folder = made.map_err(|error| format!("cannot make a temporary directory: {error}"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, Ports::new(None).reserve()?));
        let mut command = Command::new(program);
        // The program acts by the name that it is started with.
        command.arg0("redis-server").arg("--dir").arg(folder.path());
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--loglevel", "warning"]);
        let mut server = Child::start("redis-server", command, &folder.path().join("redis.log"), cores)?;
        server.wait_until_listening(address)?;
        Ok(Self { address, server, _folder: folder })
    }
}

/// The PostgreSQL of a cluster: the private one of a server, with its settings, but without the server. It ends, and a
/// temporary folder goes, when it is dropped.
struct SharedStore {
    data_dir: PathBuf,
    _postgres: Embedded,
    _temporary: Option<TempDir>,
}

impl SharedStore {
    fn start(folder: Option<PathBuf>, cores: Option<Vec<usize>>) -> Result<Self, String> {
        let (data_dir, temporary) = match folder {
            Some(folder) => (folder, None),
            None => {
                let made = tempfile::Builder::new().prefix("loadtest-").tempdir();
                let made = made.map_err(|error| format!("cannot make a temporary directory: {error}"))?;
                (made.path().to_owned(), Some(made))
            }
        };
        // It inherits the cores of the thread that starts it. Starting it waits in a runtime of its own.
        let place = data_dir.clone();
        let started = std::thread::spawn(move || {
            if let Some(cores) = cores {
                pin::pin(&cores)?;
            }
            Embedded::start(&place).map_err(|error| format!("the PostgreSQL of the nodes: {error}"))
        });
        let postgres = started.join().map_err(|_| "the thread that starts PostgreSQL has panicked".to_owned())??;
        Ok(Self { data_dir, _postgres: postgres, _temporary: temporary })
    }
}

/// One server, or the nodes of a cluster. The nodes stop first, then Redis and their PostgreSQL.
pub(super) struct NodeGroup {
    servers: Vec<Server>,
    apis: Vec<Api>,
    redis: Option<Redis>,
    /// `None` for one server, which has its own.
    store: Option<SharedStore>,
}

impl NodeGroup {
    /// One server of its own.
    pub(super) async fn alone(launch: &Launch, settings: &BTreeMap<String, Value>) -> Result<Self, String> {
        let mut group = Self { servers: Vec::new(), apis: Vec::new(), redis: None, store: None };
        group.add(launch, "one-server", settings.clone()).await?;
        Ok(group)
    }

    /// So many nodes, which share a PostgreSQL and a Redis.
    pub(super) async fn cluster(
        launch: &Launch,
        settings: &BTreeMap<String, Value>,
        nodes: u32,
        redis: &Path,
    ) -> Result<Self, String> {
        let redis = Redis::start(redis, launch.cores.as_deref().unwrap_or_default())?;
        let mut settings = settings.clone();
        let mut set = |key: &str, value: Value| drop(settings.insert(key.to_owned(), value));
        set("cluster.redis_url", format!("redis://{}", redis.address).into());
        set("database.shared", true.into());
        // A session of one node must be valid on the others.
        let secret = format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>());
        set("security.jwt_secret", secret.into());
        let store =
            SharedStore::start(launch.data_dir.as_ref().map(|folder| folder.join("store")), launch.cores.clone())?;
        set("database.url", database_url(&store.data_dir)?.into());
        let mut group = Self { servers: Vec::new(), apis: Vec::new(), redis: Some(redis), store: Some(store) };
        for node in 1..=nodes {
            group.add(launch, &format!("node-{node}"), settings.clone()).await?;
        }
        group.wait_for_links().await?;
        Ok(group)
    }

    async fn add(&mut self, launch: &Launch, name: &str, settings: BTreeMap<String, Value>) -> Result<(), String> {
        let data_dir = launch.data_dir.as_ref().map(|folder| folder.join(name));
        let mut server = Server::start(&Launch { data_dir, settings, ..launch.clone() })?;
        let api = Api::new(server.target().clone()).map_err(|error| error.to_string())?;
        let ready = server.ready(&api).await.map_err(|error| format!("{name}: {error}"));
        self.servers.push(server);
        self.apis.push(api);
        ready
    }

    async fn wait_for_links(&self) -> Result<(), String> {
        let deadline = Instant::now() + LINKED;
        for api in &self.apis {
            while scrape(api).await?.sum(LINK, None).is_none_or(|up| up < 1.0) {
                if Instant::now() > deadline {
                    let seconds = LINKED.as_secs();
                    return Err(format!("{}: not connected to Redis after {seconds} s ({LINK})", api.target()));
                }
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// Waits until the search index has the messages of the last phase, at most [`SETTLED`]. Indexing them must not
    /// cost the next phase.
    pub(super) async fn settle(&self) -> Result<(), String> {
        let deadline = Instant::now() + SETTLED;
        for api in &self.apis {
            while scrape(api).await?.sum(SEARCH_LAG, None).is_some_and(|lag| lag > 0.0) && Instant::now() < deadline {
                tokio::time::sleep(POLL).await;
            }
        }
        Ok(())
    }

    /// The number of servers.
    pub(super) fn nodes(&self) -> u32 {
        self.servers.len() as u32
    }

    /// Each of them.
    pub(super) fn apis(&self) -> &[Api] {
        &self.apis
    }

    /// The folder with their PostgreSQL.
    pub(super) fn store_dir(&self) -> PathBuf {
        let own = || self.servers.first().map(Server::data_dir).unwrap_or_default();
        self.store.as_ref().map_or_else(own, |store| store.data_dir.clone())
    }

    /// Measures all of them.
    ///
    /// # Errors
    /// That PostgreSQL's processes were not found.
    pub(super) fn meter(&self) -> Result<GroupMeter, String> {
        let store = store_meter(&[], Some(&self.store_dir())).ok_or("PostgreSQL's processes were not found")?;
        let pid = |redis: &Redis| i32::try_from(redis.server.pid()).map_err(|_| "Redis has no process".to_owned());
        let redis = self.redis.as_ref().map(pid).transpose()?.map(|pid| ProcessMeter::new(vec![pid]));
        Ok(GroupMeter { apis: self.apis.clone(), store, redis })
    }
}

/// The private PostgreSQL below this directory, through its socket.
fn database_url(data_dir: &Path) -> Result<String, String> {
    let folder = data_dir.join("postgres");
    let folder = folder.to_str().ok_or_else(|| format!("{} is no text", folder.display()))?;
    let host = folder.replace('%', "%25").replace('/', "%2F");
    Ok(format!("postgresql://veza@{host}/veza_chat"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_socket_of_a_private_postgresql() {
        let url = database_url(Path::new("/tmp/a%b/data")).unwrap();
        assert_eq!(url, "postgresql://veza@%2Ftmp%2Fa%25b%2Fdata%2Fpostgres/veza_chat");
    }

    #[test]
    fn prefers_redis_server_and_accepts_the_program_of_redis_tools() {
        let folder = tempfile::tempdir().unwrap();
        let path = Some(folder.path().as_os_str());
        assert!(find_redis(path).unwrap_err().contains("apt-get install redis-tools"));
        for name in ["redis-check-rdb", "redis-server"] {
            std::fs::write(folder.path().join(name), "").unwrap();
            assert_eq!(find_redis(path).unwrap(), folder.path().join(name));
        }
    }
}
