//! The image of the Dockerfile runs as it is meant to: as a user without rights, on a root file system that it cannot
//! write, behind deploy/seccomp/veza.json. It chats, examines pictures and stops gracefully. Where it cannot run, it
//! says what to do.
//!
//! How: scripts/install-test-clients.sh has made a base image of Debian with debootstrap. The Dockerfile is built with
//! all of its lines, but `cargo` is a script that hands over the program under test, because the build of a release
//! takes minutes. PostgreSQL is another server's, and a forwarder of the test passes connections on to its socket. The
//! storage of the containers is the test's own.

use crate::support::{Client, Format, PATIENCE, Received, Server, signal, unique};
use image::{ImageFormat, RgbImage};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Cursor;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tokio::net::UnixStream;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const PROFILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/seccomp/veza.json");
const SECRET: &str = "a signing key for tests, not a secret";
const BASE: &str = "localhost/veza-test-base";
const BUILD: &str = "localhost/veza-test-build";
const IMAGE: &str = "localhost/veza-test-chat";

/// Takes the place of cargo in the build of the image.
const CARGO: &str = "#!/bin/sh
set -e
[ \"$*\" = 'build --release --locked --bin chat-server' ]
[ -f Cargo.lock ] && [ -d src ] && [ -d migrations/functions ] && [ ! -e .git ] && [ ! -e docs ]
install -D /prebuilt target/release/chat-server
";

/// Options of a container with as few rights as possible. docs/operations.md has the same.
const HARDENED: &[&str] =
    &["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host"];

fn storage() -> PathBuf {
    Path::new(ROOT).join("target/test-clients/containers")
}

/// podman or buildah with storage of their own. On machines without systemd, podman needs the rest.
fn tool(name: &str) -> Vec<String> {
    let mut command = vec![name.to_owned()];
    // podman refuses a long path for the second one, and each storage needs one of its own.
    let mut hasher = DefaultHasher::new();
    storage().hash(&mut hasher);
    let state = std::env::temp_dir().join(format!("veza-{:08x}", hasher.finish() as u32));
    for (option, folder) in [("--root", storage().join("storage")), ("--runroot", state)] {
        command.extend([option.to_owned(), folder.to_str().unwrap().to_owned()]);
    }
    if name == "podman" {
        command.extend(["--runtime=runc", "--cgroup-manager=cgroupfs"].map(str::to_owned));
    }
    command
}

#[track_caller]
fn run(name: &str, arguments: &[&str]) -> String {
    let output = output(name, arguments);
    let shown = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(output.status.success(), "{name} {arguments:?}: {}\n{}", output.status, shown.concat());
    shown[0].trim().to_owned()
}

fn output(name: &str, arguments: &[&str]) -> Output {
    let command = tool(name);
    Command::new(&command[0]).args(&command[1..]).args(arguments).current_dir(ROOT).output().unwrap()
}

/// Builds the image once, or returns false where it cannot be built.
fn has_image() -> bool {
    static BUILT: OnceLock<bool> = OnceLock::new();
    *BUILT.get_or_init(|| {
        if !nix::unistd::Uid::effective().is_root() {
            println!("debootstrap and the tests of the image need root");
            return false;
        }
        build_image();
        true
    })
}

fn build_image() {
    let base = storage().join("base.tar");
    assert!(
        base.exists(),
        "{} is missing; type this and try again:\n\n    scripts/install-test-clients.sh\n",
        base.display()
    );
    if !output("podman", &["image", "exists", BASE]).status.success() {
        run("podman", &["import", "--quiet", base.to_str().unwrap(), BASE]);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(file("cargo"), CARGO).unwrap();
    std::fs::set_permissions(file("cargo"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let stripped = Command::new("strip").args(["-o", &file("prebuilt"), env!("CARGO_BIN_EXE_chat-server")]).status();
    assert!(stripped.unwrap().success());

    let container = run("buildah", &["from", BASE]);
    for (from, to) in [
        (file("cargo"), "/usr/local/bin/cargo"),
        (file("prebuilt"), "/prebuilt"),
        ("/etc/ssl/certs/ca-certificates.crt".to_owned(), "/etc/ssl/certs/ca-certificates.crt"),
    ] {
        run("buildah", &["copy", "--quiet", &container, &from, to]);
    }
    run("buildah", &["commit", "--quiet", "--rm", &container, BUILD]);
    let arguments = [format!("BUILD_IMAGE={BUILD}"), format!("BASE_IMAGE={BASE}")];
    let [build_image, base_image] = arguments.each_ref().map(String::as_str);
    // `--format docker`, because an OCI image has no HEALTHCHECK.
    let build = ["bud", "--quiet", "--isolation=chroot", "--network=host", "--format=docker", "--tag", IMAGE];
    run("buildah", &[&build[..], &["--build-arg", build_image, "--build-arg", base_image, "."]].concat());
    // Those of the run before.
    run("podman", &["image", "prune", "--force"]);
}

/// A container's name. The container goes when this is dropped.
struct ContainerName(String);

impl ContainerName {
    fn new() -> Self {
        Self(unique("veza-test"))
    }

    /// The command that runs the image with these options; an argument for `chat-server` follows it.
    fn launcher(&self, options: &[&str]) -> Vec<String> {
        let mut command = tool("podman");
        // Without systemd, podman cannot schedule the health check; the test asks itself.
        command.extend(["run", "--rm", "--no-healthcheck", "--env=CHAT_SERVER__*"].map(str::to_owned));
        command.extend(["--name".to_owned(), self.0.clone()]);
        // The defaults of podman exceed what a container may have inside another one.
        command.extend(["--ulimit=nofile=16384:16384", "--ulimit=nproc=4096:4096"].map(str::to_owned));
        command.extend(HARDENED.iter().chain(options).map(|option| (*option).to_owned()));
        command.push(IMAGE.to_owned());
        command
    }

    /// Runs `chat-server` to its end.
    fn run_to_end(&self, options: &[&str], arguments: &[&str]) -> (Option<i32>, String) {
        let command = self.launcher(options);
        let mut process = Command::new(&command[0]);
        process.args(&command[1..]).args(arguments).current_dir(ROOT);
        let output = process.env("CHAT_SERVER__SECURITY__JWT_SECRET", SECRET).output().unwrap();
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        (output.status.code(), text)
    }
}

impl Drop for ContainerName {
    fn drop(&mut self) {
        let _ = output("podman", &["rm", "--force", "--ignore", "--volumes", &self.0]);
    }
}

fn with_profile() -> String {
    format!("--security-opt=seccomp={PROFILE}")
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// A PostgreSQL, and its address for `database.url`. A killed server has left it running. A port leads to its socket,
/// and closes with the test's runtime.
pub async fn postgresql() -> (Server, String) {
    let server = Server::start(1, &[]);
    server.kill9();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let socket = server.data_dir.join("postgres/.s.PGSQL.5432");
    tokio::spawn(async move {
        while let Ok((mut from, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                if let Ok(mut to) = UnixStream::connect(socket).await {
                    let _ = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    });
    (server, format!("postgresql://veza@{address}/veza_chat"))
}

fn picture() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_fn(800, 400, |x, y| image::Rgb([x as u8, y as u8, 90]))
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// What a program in the container prints.
#[track_caller]
fn inside(container: &ContainerName, command: &[&str]) -> String {
    run("podman", &[&["exec", &container.0], command].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn chats_and_examines_pictures_with_few_rights_and_stops_gracefully() {
    if !has_image() {
        return;
    }
    let (_host, url) = postgresql().await;
    let (container, profile, internal) = (ContainerName::new(), with_profile(), free_address());
    // A migration needs no io_uring: podman's default profile suffices.
    let database = format!("--env=CHAT_SERVER__DATABASE__URL={url}");
    let (code, printed) = ContainerName::new().run_to_end(&[&database], &["migrate"]);
    assert!(code == Some(0) && printed.contains("the database is up to date"), "{code:?}: {printed}");

    let settings = [
        ("database.url", url.as_str()),
        ("database.shared", "true"),
        ("security.jwt_secret", SECRET),
        ("server.internal_addr", &internal),
    ];
    let environment = [("CHAT_SERVER__DATA_DIR", "/var/lib/chat-server")];
    let server = Server::start_by(container.launcher(&[&profile]), 1, &settings, &environment);

    let status = inside(&container, &["cat", "/proc/1/status"]);
    let value = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":\t")).unwrap();
    assert_eq!(value("Uid"), "65532\t65532\t65532\t65532");
    assert_eq!(value("Gid"), "65532\t65532\t65532\t65532");
    for capabilities in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(value(capabilities), "0000000000000000", "{capabilities}");
    }
    assert_eq!((value("NoNewPrivs"), value("Seccomp")), ("1", "2"), "2 is a filter");
    let touched = output("podman", &["exec", &container.0, "touch", "/opt/chat-server/file"]);
    assert!(String::from_utf8_lossy(&touched.stderr).contains("Read-only file system"), "{touched:?}");

    // What HEALTHCHECK runs, with the configuration of the container.
    let health: Value = serde_json::from_str(&inside(&container, &["chat-server", "health"])).unwrap();
    assert_eq!((&health["status"], &health["checks"]["storage"]["status"]), (&json!("ok"), &json!("ok")));

    let (ann, bob) = (server.register().await, server.register().await);
    let room = server.room(&[&ann, &bob]).await;
    let mut listener = Client::all(&server, &bob, Format::Json).await;
    let (file, settled) = server.upload(&ann, &room, "picture.png", &picture()).await;
    assert_eq!(settled["state"], "ready", "{settled}\n{}", server.log_tail());
    assert!(!settled["variants"].as_array().unwrap().is_empty(), "the media worker made smaller pictures: {settled}");
    let message = json!({"conversation_id": room, "content": "from the container", "attachments": [file]});
    server.ok(&ann, "send_message", message).await;
    let event = listener.event("message_created").await;
    assert_eq!(event["content"], "from the container", "{event}");

    server.sigterm();
    let mut end = listener.receive().await;
    while matches!(end, Received::Frame(_)) {
        end = listener.receive().await;
    }
    assert_eq!(crate::support::closed(&end), 1001, "it says goodbye to its clients");
    assert_eq!(server.wait().code(), Some(0), "{}", server.log_tail());
}

#[test]
fn names_the_profile_where_io_uring_is_forbidden() {
    if !has_image() {
        return;
    }
    // podman's default profile.
    let (code, printed) = ContainerName::new().run_to_end(&[], &["serve"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("the server cannot use io_uring: ENOSYS: a seccomp filter refuses it"), "{printed}");
    assert!(printed.contains("seccomp profile deploy/seccomp/veza.json"), "{printed}");
}

#[test]
fn names_the_variable_that_a_container_without_a_database_needs() {
    if !has_image() {
        return;
    }
    let (profile, bind) = (with_profile(), format!("--env=CHAT_SERVER__SERVER__BIND_ADDR={}", free_address()));
    let internal = format!("--env=CHAT_SERVER__SERVER__INTERNAL_ADDR={}", free_address());
    let (code, printed) = ContainerName::new().run_to_end(&[&profile, &bind, &internal], &["serve"]);
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("set CHAT_SERVER__DATABASE__URL there"), "{printed}");

    let (code, printed) = ContainerName::new().run_to_end(&[&profile, &internal], &["health"]);
    assert_eq!(code, Some(1), "no server answers: {printed}");
    assert!(printed.contains("/health/ready: ") && printed.contains("Connection refused"), "{printed}");
}

#[test]
fn the_profile_refuses_what_a_server_does_not_need() {
    if !has_image() {
        return;
    }
    let run_as = |options: &[&str]| {
        let entry = ["--entrypoint=/usr/bin/unshare"];
        ContainerName::new().run_to_end(&[&entry, options].concat(), &["--user", "true"])
    };
    let (code, printed) = run_as(&[&with_profile()]);
    assert!(code == Some(1) && printed.contains("Operation not permitted"), "{code:?}: {printed}");
    assert_eq!(run_as(&[]).0, Some(0), "podman's default allows it");
}

#[test]
fn the_image_says_how_to_run_it() {
    if !has_image() {
        return;
    }
    let inspected: Value = serde_json::from_str(&run("podman", &["image", "inspect", IMAGE])).unwrap();
    let (config, health) = (&inspected[0]["Config"], &inspected[0]["Healthcheck"]);
    assert_eq!(health["Test"], json!(["CMD", "chat-server", "health"]), "{health}");
    assert_eq!((&config["User"], &config["StopSignal"]), (&json!("65532:65532"), &json!("SIGTERM")));
    assert_eq!(config["ExposedPorts"], json!({"8080/tcp": {}, "9464/tcp": {}}));
    assert_eq!(config["Volumes"], json!({"/var/lib/chat-server": {}}));
    assert_eq!(config["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    let secrets = config["Env"].as_array().unwrap().iter().filter(|name| name.as_str().unwrap().contains("SECRET"));
    assert_eq!(secrets.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_gives_the_reason_and_the_exit_code() {
    let (host, url) = postgresql().await;
    let internal = free_address();
    let server = Server::start_first(1, &[("database.url", &url), ("server.internal_addr", &internal)], &[]);
    let well = server.run(&["health"]);
    let report: Value = serde_json::from_slice(&well.stdout).unwrap();
    assert_eq!((well.status.code(), &report["status"]), (Some(0), &json!("ok")));
    assert!(report["checks"]["storage"].is_object(), "the port of operators has the reasons: {report}");
    let public = server.run(&["health", "--url", &format!("{}/health/ready", server.base_url)]);
    assert_eq!(public.status.code(), Some(0), "{public:?}");
    assert!(public.stdout.starts_with(b"{\"status\":\"ok\""), "{public:?}");

    signal(host.postmaster().unwrap(), Signal::SIGQUIT);
    let started = Instant::now();
    let unready = loop {
        let unready = server.run(&["health"]);
        if !unready.status.success() {
            break unready;
        }
        assert!(started.elapsed() < PATIENCE, "it stays ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let printed = String::from_utf8_lossy(&unready.stderr);
    assert_eq!((unready.status.code(), unready.stdout.len()), (Some(1), 0));
    assert!(printed.contains("503: {") && printed.contains("\"storage\":{\"status\":\"failing\""), "{printed}");
    let garbage = server.run(&["health", "--url", "no address"]);
    assert_eq!(garbage.status.code(), Some(1));
}
