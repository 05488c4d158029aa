//! The proxies of deploy/proxies pass on what clients need, and only the proxy names the client.
//!
//! How: Debian's nginx and `haproxy` run the shipped files, with ports, paths and their user replaced. They connect to
//! the nodes from 127.0.0.2, which the nodes trust, and the clients have addresses of their own in 127.0.0.0/8.

use crate::programs::installed;
use crate::support::{Client, Format, PASSWORD, PATIENCE, Received, Server, User, closed, signal, text};
use futures_util::future::{join_all, join3};
use nix::sys::signal::Signal;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const CLIENT: &str = "127.0.0.9";
const PROXY: &str = "127.0.0.2";
/// What a stranger writes to appear as somebody else.
const CLAIMS: [(&str, &str); 3] = [
    ("x-forwarded-for", "203.0.113.9"),
    ("x-forwarded-for", "198.51.100.1, 10.0.0.3"),
    ("forwarded", "for=192.0.2.66"),
];

/// Each file of deploy/proxies.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Nginx,
    Haproxy,
    HaproxyTcp,
}

impl Kind {
    fn file(self) -> &'static str {
        match self {
            Self::Nginx => include_str!("../../deploy/proxies/nginx.conf"),
            Self::Haproxy => include_str!("../../deploy/proxies/haproxy.cfg"),
            Self::HaproxyTcp => include_str!("../../deploy/proxies/haproxy-tcp.cfg"),
        }
    }

    fn program(self) -> &'static str {
        if self == Self::Nginx { "nginx" } else { "haproxy" }
    }
}

/// Nodes on one database.
struct Nodes {
    // Dropped first: without PostgreSQL they do not stop in order.
    other: Server,
    proxied: [Server; 2],
    host: Server,
}

impl Nodes {
    /// Those of all tests that run now.
    fn shared() -> Arc<Self> {
        static RUNNING: Mutex<Weak<Nodes>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        running.upgrade().unwrap_or_else(|| {
            let host = Server::start(1, &[("database.shared", "true"), ("server.trusted_proxies", PROXY)]);
            let node = |proxy_protocol| node_of(&host, proxy_protocol, &[]);
            let nodes = Arc::new(Self { other: node(false), proxied: [node(true), node(true)], host });
            *running = Arc::downgrade(&nodes);
            nodes
        })
    }

    /// The two that a proxy of this kind needs.
    fn pair(&self, kind: Kind) -> [&Server; 2] {
        let [one, two] = &self.proxied;
        if kind == Kind::HaproxyTcp { [one, two] } else { [&self.host, &self.other] }
    }

    async fn members(&self) -> (User, User, String) {
        let (ann, bob) = (self.host.register().await, self.host.register().await);
        let room = self.host.room(&[&ann, &bob]).await;
        (ann, bob, room)
    }
}

/// One more node on the database of `host`.
fn node_of(host: &Server, proxy_protocol: bool, more: &[(&str, &str)]) -> Server {
    let folder = host.data_dir.join("postgres").to_str().unwrap().replace('/', "%2F");
    let url = format!("postgresql://veza@{folder}/veza_chat");
    // The private PostgreSQL has connections for a few nodes only.
    let mut settings =
        vec![("database.url", url.as_str()), ("database.shared", "true"), ("database.max_connections", "2")];
    settings.extend([
        ("server.trusted_proxies", PROXY),
        ("server.proxy_protocol", if proxy_protocol { "true" } else { "false" }),
    ]);
    settings.extend(more);
    Server::start(1, &settings)
}

/// A running proxy. It ends with the test.
struct Proxy {
    kind: Kind,
    /// Without TLS.
    address: SocketAddr,
    encrypted: SocketAddr,
    redirecting: SocketAddr,
    child: Child,
    folder: tempfile::TempDir,
}

#[track_caller]
fn replaced(file: &str, from: &str, to: &str) -> String {
    assert!(file.contains(from), "{from:?} is not in the file");
    file.replace(from, to)
}

/// A program that scripts/install-test-clients.sh has extracted.
fn extracted(name: &str) -> PathBuf {
    installed(&format!("target/test-clients/{name}/{name}"))
}

impl Proxy {
    /// Starts the shipped file for these nodes, with further replacements.
    #[track_caller]
    fn start(kind: Kind, nodes: [&Server; 2], more: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The workers of nginx may have another user.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = folder.path().display().to_string();
        certificate(folder.path());
        let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [address, encrypted, redirecting] = listeners.map(|listener| listener.local_addr().unwrap());
        let mut file = kind.file().to_owned();
        let mut replace = |from: &str, to: &str| file = replaced(&file, from, to);
        let nodes = nodes.map(|node| node.address.to_string());
        let is_root = nix::unistd::geteuid().is_root();
        if kind == Kind::Nginx {
            replace("user www-data;", if is_root { "user root root;" } else { "" });
            replace("/run/nginx.pid", &format!("{path}/pid"));
            replace("/var/log/nginx", &path);
            replace("/etc/ssl/chat.example.com", &path);
            replace("listen [::]:443 ssl http2;", "");
            replace("listen [::]:80;", "");
            replace("listen 443 ssl http2;", &format!("listen {encrypted} ssl http2; listen {address};"));
            replace("listen 80;", &format!("listen {redirecting};"));
            let kept = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let kept: String = kept.map(|name| format!("{name}_temp_path {path}/{name}; ")).concat();
            replace("http {", &format!("http {{ proxy_bind {PROXY}; {kept}"));
            replace("10.0.0.1:8080", &nodes[0]);
            replace("10.0.0.2:8080", &nodes[1]);
        } else {
            replace("    user haproxy\n    group haproxy\n", "");
            replace("/var/lib/haproxy", if is_root { &path } else { "/" });
            if !is_root {
                replace("    chroot /\n", "");
            }
            replace("/etc/haproxy/chat.example.com.pem", &format!("{path}/both.pem"));
            replace("    bind :443 ", &format!("    bind {address}\n    bind {encrypted} "));
            if kind == Kind::Haproxy {
                replace("bind :80", &format!("bind {redirecting}"));
            }
            replace("10.0.0.1:8080", &format!("{} source {PROXY}", nodes[0]));
            replace("10.0.0.2:8080", &format!("{} source {PROXY}", nodes[1]));
        }
        for (from, to) in more {
            replace(from, to);
        }
        let configuration = folder.path().join("configuration");
        std::fs::write(&configuration, &file).unwrap();
        let program = extracted(kind.program());
        let log = std::fs::File::create(folder.path().join("output")).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM"]).arg(&program).current_dir(folder.path());
        if kind == Kind::Nginx {
            command.args(["-e", "stderr", "-g", "daemon off;", "-c"]).arg(&configuration).arg("-p").arg(folder.path());
        } else {
            command.env("LD_LIBRARY_PATH", program.with_file_name("lib")).args(["-db", "-f"]).arg(&configuration);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        let child = command.spawn().unwrap();
        let mut proxy = Self { kind, address, encrypted, redirecting, child, folder };
        let started = Instant::now();
        while std::net::TcpStream::connect(address).is_err() {
            assert_eq!(proxy.child.try_wait().unwrap(), None, "{kind:?}: {}", proxy.output());
            assert!(started.elapsed() < PATIENCE, "{kind:?} does not listen: {}", proxy.output());
            std::thread::sleep(Duration::from_millis(20));
        }
        proxy
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }

    /// A connection of the client with this address.
    async fn connect(&self, from: &str) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from.parse().unwrap(), 0))?;
        let stream = socket.connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn try_websocket(&self, user: &User, from: &str, format: Format) -> Result<Client, String> {
        let mut request = "ws://chat.example.com/ws".into_client_request().unwrap();
        let bearer = format!("Bearer {}", user.token);
        for (name, value) in [("authorization", bearer.as_str()), ("sec-websocket-protocol", format.subprotocol())] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        for (name, value) in CLAIMS {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let stream = self.connect(from).await.map_err(|error| error.to_string())?;
        let opened = tokio::time::timeout(PATIENCE, tokio_tungstenite::client_async(request, stream)).await;
        let (socket, _) = opened.expect("an answer to the upgrade").map_err(|error| format!("{error:?}"))?;
        Client::welcomed(socket, format).await
    }

    async fn websocket(&self, user: &User, from: &str, format: Format) -> Client {
        let opened = self.try_websocket(user, from, format).await;
        opened.unwrap_or_else(|error| panic!("{:?}: {error}: {}", self.kind, self.output()))
    }

    /// A request of the client at [`CLIENT`].
    fn request(&self, method: &str, path: &str, token: Option<&str>) -> reqwest::RequestBuilder {
        let client = reqwest::Client::builder().local_address(CLIENT.parse::<IpAddr>().unwrap());
        let client = client.redirect(reqwest::redirect::Policy::none()).build().unwrap();
        let request =
            client.request(method.parse().unwrap(), format!("http://{}{path}", self.address)).timeout(PATIENCE);
        let request = CLAIMS.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        if let Some(token) = token { request.bearer_auth(token) } else { request }
    }

    async fn json(&self, request: reqwest::RequestBuilder, status: u16) -> Value {
        let answer = request.send().await.unwrap_or_else(|error| panic!("{:?}: {error:?}", self.kind));
        let (found, body) = (answer.status(), answer.text().await.unwrap());
        assert_eq!(found, status, "{:?}: {body}\n{}", self.kind, self.output());
        serde_json::from_str(&body).unwrap_or(Value::Null)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // SIGKILL would leave the workers of nginx behind.
        signal(self.child.id().cast_signed(), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// Writes a certificate for chat.example.com and its key.
fn certificate(folder: &Path) {
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]);
    command.args(["-subj", "/CN=chat.example.com", "-addext", "subjectAltName=DNS:chat.example.com"]);
    command.args(["-keyout", "privkey.pem", "-out", "fullchain.pem"]).current_dir(folder);
    let made = command.output().expect("openssl, which scripts/install-test-clients.sh installs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let [chain, key] = ["fullchain.pem", "privkey.pem"].map(|name| std::fs::read(folder.join(name)).unwrap());
    std::fs::write(folder.join("both.pem"), [chain, key].concat()).unwrap();
}

/// Runs a check with each kind of proxy at the same time.
async fn with_each<F: Future<Output = ()>>(check: impl Fn(Kind) -> F) {
    join3(check(Kind::Nginx), check(Kind::Haproxy), check(Kind::HaproxyTcp)).await;
}

/// Upgrades over TLS. Prints the protocol that was negotiated out of h2 and http/1.1, and the status line.
const ENCRYPTED: &str = r"
import socket, ssl, sys
address, port, certificate, token = sys.argv[1:]
def connect(protocols):
    context = ssl.create_default_context(cafile=certificate)
    context.set_alpn_protocols(protocols)
    return context.wrap_socket(socket.create_connection((address, int(port)), 60), server_hostname='chat.example.com')
print(connect(['h2', 'http/1.1']).selected_alpn_protocol())
stream = connect(['http/1.1'])
fields = ['Host: chat.example.com', 'Upgrade: websocket', 'Connection: Upgrade', 'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==', 'Origin: https://chat.example.com', 'Authorization: Bearer ' + token]
stream.sendall(('GET /ws HTTP/1.1\r\n' + '\r\n'.join(fields) + '\r\n\r\n').encode())
print(stream.makefile('rb').readline().decode().strip())
";

#[tokio::test]
async fn websockets_pass_with_and_without_tls() {
    let nodes = Nodes::shared();
    with_each(async |kind| {
        let proxy = Proxy::start(kind, nodes.pair(kind), &[]);
        let (ann, bob, room) = nodes.members().await;
        let mut sender = proxy.websocket(&ann, CLIENT, Format::Json).await;
        let mut reader = proxy.websocket(&bob, "127.0.0.8", Format::MessagePack).await;
        for content in ["short", &"long ".repeat(700)] {
            let sent = sender.ok("send_message", json!({"conversation_id": room, "content": content})).await;
            let seen = reader.event("message_created").await;
            assert_eq!((&seen["seq"], text(&seen["content"])), (&sent["seq"], content), "{kind:?}");
        }
        // A request first, and then an upgrade by the same client.
        proxy.json(proxy.request("GET", "/users/me", Some(&ann.token)), 200).await;
        proxy.websocket(&ann, CLIENT, Format::Json).await.close().await;

        let (address, folder) = (proxy.encrypted, proxy.folder.path().join("fullchain.pem"));
        let arguments = [address.ip().to_string(), address.port().to_string(), folder.display().to_string(), ann.token];
        let run = move || Command::new("python3").args(["-c", ENCRYPTED]).args(arguments).output().unwrap();
        let printed = tokio::task::spawn_blocking(run).await.unwrap();
        let negotiated = if kind == Kind::HaproxyTcp { "http/1.1" } else { "h2" };
        let expected = format!("{negotiated}\nHTTP/1.1 101 Switching Protocols\n");
        assert_eq!(String::from_utf8_lossy(&printed.stdout), expected, "{kind:?}: {printed:?}");
        if kind != Kind::HaproxyTcp {
            let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
            let answer = client.get(format!("http://{}/a?b=c", proxy.redirecting)).header("host", "chat.example.com");
            let answer = answer.send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::MOVED_PERMANENTLY, "{kind:?}");
            assert_eq!(answer.headers()["location"], "https://chat.example.com/a?b=c", "{kind:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn heartbeats_keep_idle_websockets_open() {
    let nodes = Nodes::shared();
    let often = [("server.heartbeat_interval", "1s")];
    let beating = [node_of(&nodes.host, false, &often), node_of(&nodes.host, true, &often)];
    with_each(async |kind| {
        let (ann, _, room) = nodes.members().await;
        // No heartbeat comes within four seconds from nodes with the default.
        let silent = Proxy::start(kind, nodes.pair(kind), &[("90s", "4s")]);
        let mut cut = silent.websocket(&ann, CLIENT, Format::Json).await;
        let node = &beating[usize::from(kind == Kind::HaproxyTcp)];
        let proxy = Proxy::start(kind, [node; 2], &[("90s", "4s")]);
        let mut kept = proxy.websocket(&ann, CLIENT, Format::Json).await;
        let (end, ()) = tokio::join!(cut.end(), kept.wait_for_pings(6));
        assert!(matches!(end, Received::Lost(_)), "{kind:?}: {end:?}");
        kept.ok("send_message", json!({"conversation_id": room, "content": "still here"})).await;
    })
    .await;
}

#[tokio::test]
async fn clients_that_close_their_sending_half_receive_the_answer() {
    let nodes = Nodes::shared();
    with_each(async |kind| {
        let proxy = Proxy::start(kind, nodes.pair(kind), &[]);
        let ann = nodes.host.register().await;
        // The hash of a password takes longer than the end needs to arrive.
        let body = json!({"login": ann.name, "password": PASSWORD}).to_string();
        let mut stream = proxy.connect(CLIENT).await.unwrap();
        let request = format!(
            "POST /auth/login HTTP/1.1\r\nHost: chat.example.com\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an end").unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("access_token"), "{kind:?}: {answer:?}");
    })
    .await;
}

#[tokio::test]
async fn uploads_arrive_as_they_are_sent_and_downloads_have_ranges() {
    // Without other nodes: only the node that has received a file can check it, and any of them may try first.
    let single = |proxy_protocol| {
        Server::start(1, &[("server.trusted_proxies", PROXY), ("server.proxy_protocol", proxy_protocol)])
    };
    let servers = [single("false"), single("true")];
    with_each(async |kind| {
        let server = &servers[usize::from(kind == Kind::HaproxyTcp)];
        let proxy = Proxy::start(kind, [server; 2], &[]);
        let (ann, bob) = (server.register().await, server.register().await);
        let room = server.room(&[&ann, &bob]).await;
        let content: Vec<u8> = (0..4_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let given = json!({"conversation_id": room, "name": "plan.bin", "size": content.len()});
        let begun = proxy.json(proxy.request("POST", "/files", Some(&ann.token)).json(&given), 201).await;
        let url = text(&begun["upload_url"]).to_owned();

        // What came before the connection was lost is kept.
        let offset = async || {
            let head = proxy.request("HEAD", &url, Some(&ann.token)).send().await.unwrap();
            assert_eq!(head.status(), 200, "{kind:?}");
            head.headers()["upload-offset"].to_str().unwrap().parse::<usize>().unwrap()
        };
        let mut stream = proxy.connect(CLIENT).await.unwrap();
        let head = format!(
            "PATCH {url} HTTP/1.1\r\nHost: chat.example.com\r\nAuthorization: Bearer {}\r\nUpload-Offset: 0\r\n\
             Content-Type: application/offset+octet-stream\r\nTus-Resumable: 1.0.0\r\nContent-Length: {}\r\n\r\n",
            ann.token,
            content.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&content[..700_000]).await.unwrap();
        drop(stream);
        let started = Instant::now();
        let mut at = offset().await;
        while at == 0 {
            assert!(started.elapsed() < PATIENCE, "{kind:?}: nothing was kept");
            tokio::time::sleep(Duration::from_millis(50)).await;
            at = offset().await;
        }
        assert!(at <= 700_000, "{kind:?}: {at}");
        while at < content.len() {
            let end = content.len().min(at + (1 << 20));
            let request = proxy.request("PATCH", &url, Some(&ann.token)).header("upload-offset", at.to_string());
            let request =
                request.header("tus-resumable", "1.0.0").header("content-type", "application/offset+octet-stream");
            let answer = request.body(content[at..end].to_vec()).send().await.unwrap();
            assert_eq!(answer.status(), 204, "{kind:?}");
            at = end;
        }

        let file = &begun["file_id"];
        let message = json!({"conversation_id": room, "content": "the plan", "attachments": [file]});
        server.ok(&ann, "send_message", message).await;
        let started = Instant::now();
        while proxy.json(proxy.request("GET", &url, Some(&ann.token)), 200).await["state"] != "ready" {
            assert!(started.elapsed() < PATIENCE, "{kind:?}: it is not ready");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let path = format!("{url}/plan.bin");
        let whole = proxy.request("GET", &path, Some(&bob.token)).send().await.unwrap();
        assert_eq!(whole.status(), 200, "{kind:?}");
        assert!(whole.bytes().await.unwrap() == content, "{kind:?}: another content");
        let part = proxy.request("GET", &path, Some(&bob.token)).header("range", "bytes=1000000-2999999").send().await;
        let part = part.unwrap();
        assert_eq!(part.status(), 206, "{kind:?}");
        assert_eq!(part.headers()["content-range"], "bytes 1000000-2999999/4194304", "{kind:?}");
        assert!(part.bytes().await.unwrap() == content[1_000_000..3_000_000], "{kind:?}: another content");
    })
    .await;
}

#[tokio::test]
async fn sessions_and_audit_rows_have_the_address_of_the_client() {
    let nodes = Nodes::shared();
    let database = nodes.host.database().await;
    with_each(async |kind| {
        let proxy = Proxy::start(kind, nodes.pair(kind), &[]);
        let (registered, bob, _) = nodes.members().await;
        let login = json!({"login": registered.name, "password": PASSWORD});
        let ann = User::from_answer(&proxy.json(proxy.request("POST", "/auth/login", None).json(&login), 200).await);
        let sessions = proxy.json(proxy.request("GET", "/auth/sessions", Some(&ann.token)), 200).await;
        let all = sessions["sessions"].as_array().or(sessions.as_array()).expect("sessions");
        let current = all.iter().find(|session| session["current"] == true).expect("the session of the request");
        assert_eq!(current["ip"], CLIENT, "{kind:?}");
        let mut client = proxy.websocket(&ann, "127.0.0.7", Format::Json).await;
        client.ok("block_user", json!({"user_id": bob.id})).await;
        for (action, address) in [("sign_in", CLIENT), ("block_user", "127.0.0.7")] {
            let query = "SELECT ip_address FROM audit_logs WHERE user_id = $1 AND action = $2";
            let row = database.query_one(query, &[&ann.id, &action]).await.unwrap();
            assert_eq!(row.get::<_, Option<String>>(0).as_deref(), Some(address), "{kind:?}: {action}");
        }
    })
    .await;
}

#[tokio::test]
async fn new_connections_reach_the_other_node_while_one_shuts_down() {
    let nodes = Nodes::shared();
    // One after the other: the private PostgreSQL has connections for a few nodes only.
    for kind in [Kind::Nginx, Kind::Haproxy, Kind::HaproxyTcp] {
        let (ann, _, _) = nodes.members().await;
        let ending = node_of(&nodes.host, kind == Kind::HaproxyTcp, &[]);
        let proxy = Proxy::start(kind, [&ending, nodes.pair(kind)[1]], &[]);
        let mut clients =
            join_all((10..22).map(async |n| proxy.websocket(&ann, &format!("127.0.0.{n}"), Format::Json).await)).await;
        let page = reqwest::get(format!("{}/metrics", ending.base_url)).await.unwrap().text().await.unwrap();
        let opened = page.lines().find_map(|line| line.strip_prefix("chat_server_active_connections{shard=\"0\"} "));
        let opened: usize = opened.unwrap_or_else(|| panic!("{page}")).parse().unwrap();
        assert!((1..12).contains(&opened), "{kind:?}: {opened} of 12 clients are on the node that will end");

        ending.sigterm();
        let (mut refused, mut after) = (Vec::new(), 0);
        while after < 12 {
            after += usize::from(!ending.is_running());
            let from = format!("127.0.0.{}", 10 + after);
            match proxy.try_websocket(&ann, &from, Format::Json).await {
                Ok(client) => client.close().await,
                // It was accepted when the node began to end, and learns that it may come back.
                Err(error) if error.contains("going_away") => {}
                Err(error) => refused.push(error),
            }
            let answer = proxy.request("GET", "/users/me", Some(&ann.token)).send().await;
            refused.extend(answer.and_then(reqwest::Response::error_for_status).err().map(|error| error.to_string()));
        }
        assert_eq!(ending.wait().code(), Some(0));
        // In TCP mode, HAProxy cannot repeat what a node accepted and has not read when it began to end.
        let allowed = usize::from(kind == Kind::HaproxyTcp);
        assert!(refused.len() <= allowed, "{kind:?}: {refused:?}\n{}", proxy.output());

        let mut ended = 0;
        for client in &mut clients {
            let id = client.send("ping", json!({})).await;
            if let Err(end) = client.try_reply(id).await {
                assert_eq!(closed(&end), 1001, "{kind:?}");
                assert!(client.take_events().iter().any(|event| event["type"] == "going_away"), "{kind:?}");
                ended += 1;
            }
        }
        assert_eq!(ended, opened, "{kind:?}: the other clients stay");
    }
}
