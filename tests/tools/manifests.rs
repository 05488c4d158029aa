//! The files for containers fit each other and the server: compose.yaml with what it mounts, deploy/kubernetes,
//! deploy/seccomp.
//!
//! How: hadolint, the schema of the Compose Specification and those of Kubernetes check the files offline
//! (scripts/install-test-clients.sh installs them). `chat-server check-config` reads the environment that the files
//! give to a server: it refuses keys that do not exist. Nothing is pulled.

use crate::programs::installed;
use crate::support::Server;
use chat_server::config::Config;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const DOCKERFILE: &str = include_str!("../../Dockerfile");
/// Fields that the OCI runtime specification has. Others are read by some programs and ignored by others.
const PROFILE_FIELDS: &[&str] = &["architectures", "defaultAction", "defaultErrnoRet", "syscalls"];
const CALL_FIELDS: &[&str] = &["action", "args", "errnoRet", "names"];
/// The default profile from which the shipped one was derived: containers-common 0.50.1 of Debian 12.
const DERIVED_FROM: &str = "cc374cf23846ce1f62f4dc807a8e2b8673c783c6f56cb475467621035d281e6c";

pub fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

pub fn text(path: &str) -> String {
    std::fs::read_to_string(root(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A program that scripts/install-test-clients.sh has put into target/test-clients.
#[track_caller]
pub fn client(path: &str) -> PathBuf {
    installed(&format!("target/test-clients/{path}"))
}

#[track_caller]
fn checked(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let printed = [&stdout, &stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat();
    assert!(status.success(), "{command:?}: {status}\n{printed}");
    String::from_utf8(stdout).unwrap()
}

/// What make-secrets.sh prints.
pub fn secrets() -> BTreeMap<String, String> {
    let printed = checked(&mut Command::new(root("deploy/compose/make-secrets.sh")));
    let lines = printed.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once('=').unwrap()).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Puts variables into `${NAME:-default}` and `${NAME:?message}`, as Compose does.
fn interpolated(template: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let (mut out, mut rest) = (String::new(), template);
    while let Some((before, after)) = rest.split_once("${") {
        let (inner, after) = after.split_once('}').unwrap();
        let (name, otherwise) = inner.split_once(':').unwrap_or((inner, "?no value"));
        out.push_str(before);
        match (variables.get(name), otherwise.split_at(1)) {
            (Some(value), _) => out.push_str(value),
            (None, ("-", default)) => out.push_str(default),
            (None, (_, message)) => return Err(format!("{name}: {message}")),
        }
        rest = after;
    }
    Ok(out + rest)
}

/// The environment of a service of compose.yaml.
pub fn environment(service: &str, secrets: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let compose = yaml("compose.yaml");
    let given = compose["services"][service]["environment"].as_object().unwrap().clone();
    let entries = given.into_iter().map(|(name, value)| {
        let value = interpolated(value.as_str().unwrap_or_else(|| panic!("{name} is no text")), secrets).unwrap();
        (name, value)
    });
    entries.collect()
}

/// `ENV` of the Dockerfile.
pub fn image_environment() -> BTreeMap<String, String> {
    let lines = DOCKERFILE.lines().map(|line| line.trim().trim_start_matches("ENV ").trim_end_matches(" \\"));
    let pairs = lines.filter(|line| line.starts_with("CHAT_SERVER__")).map(|line| line.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The configuration of a server in the image with this environment, as `check-config` prints it.
#[track_caller]
fn configuration(given: &BTreeMap<String, String>) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
    command.arg("check-config").current_dir(folder.path()).env_clear().envs(image_environment()).envs(given);
    std::fs::create_dir(folder.path().join("config")).unwrap();
    for file in ["default.toml", "production.toml"] {
        std::fs::copy(root("config").join(file), folder.path().join("config").join(file)).unwrap();
    }
    let printed = checked(&mut command);
    let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut section = String::new();
    for line in printed.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
        } else if let Some((key, value)) = line.split_once(" = ") {
            let value = value.split(" #").next().unwrap().trim().trim_matches('"');
            sections.entry(section.clone()).or_default().insert(key.to_owned(), value.to_owned());
        }
    }
    serde_json::to_value(sections).unwrap()
}

fn port(address: &Value) -> u64 {
    address.as_str().and_then(|text| text.rsplit_once(':')).unwrap().1.parse().unwrap()
}

/// The manifests of a folder, as `kubectl apply -k` sends them.
fn rendered(folder: &str) -> Vec<Value> {
    let printed = checked(Command::new("kubectl").arg("kustomize").arg(root(folder)));
    serde_saphyr::from_multiple(&printed).unwrap()
}

#[track_caller]
fn of_kind<'a>(manifests: &'a [Value], kind: &str) -> &'a Value {
    let mut found = manifests.iter().filter(|manifest| manifest["kind"] == kind);
    found.next().unwrap_or_else(|| panic!("there is no {kind}"))
}

fn seconds(duration: &Value) -> u64 {
    duration.as_str().unwrap().strip_suffix('s').unwrap().parse().unwrap()
}

#[test]
fn hadolint_accepts_the_dockerfile() {
    let hadolint = client("lint/bin/hadolint");
    checked(Command::new(&hadolint).arg(root("Dockerfile")));
    let folder = tempfile::tempdir().unwrap();
    let worse = folder.path().join("Dockerfile");
    std::fs::write(&worse, DOCKERFILE.replace("USER 65532:65532", "USER root")).unwrap();
    assert!(!Command::new(hadolint).arg(worse).output().unwrap().status.success(), "the check finds mistakes");
}

#[test]
fn the_compose_file_follows_the_specification() {
    let schema = client("lint/bin/check-jsonschema");
    let check = |file: &Path| {
        let mut command = Command::new(&schema);
        command.args(["--builtin-schema", "vendor.compose-spec"]).arg(file);
        command
    };
    checked(&mut check(&root("compose.yaml")));
    let folder = tempfile::tempdir().unwrap();
    let worse = folder.path().join("compose.yaml");
    std::fs::write(&worse, text("compose.yaml").replace("read_only: true", "readonly: true")).unwrap();
    assert!(!check(&worse).output().unwrap().status.success(), "the check finds mistakes");

    let compose = yaml("compose.yaml");
    for (name, service) in compose["services"].as_object().unwrap() {
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has no image"));
        let tag = image.rsplit_once(':').unwrap_or_else(|| panic!("{name}: {image} has no version")).1;
        assert!(tag.contains('.') && !tag.contains("latest"), "{name}: {image} names no version");
        let options = service["security_opt"].as_array().unwrap_or_else(|| panic!("{name} has no security_opt"));
        assert!(options.iter().any(|option| option == "no-new-privileges:true"), "{name}");
        for mounted in service["volumes"].as_array().into_iter().flatten() {
            let from = mounted.as_str().unwrap().split(':').next().unwrap();
            let is_volume = compose["volumes"].get(from).is_some();
            assert!(is_volume || root(from).exists(), "{name}: there is no {from}");
        }
    }
}

#[test]
fn compose_starts_nothing_without_secrets() {
    let secrets = secrets();
    assert_eq!(secrets.len(), 5);
    for name in secrets.keys() {
        let mut fewer = secrets.clone();
        fewer.remove(name);
        let refused = text("compose.yaml").lines().any(|line| {
            interpolated(line, &fewer).is_err_and(|message| message.contains("run deploy/compose/make-secrets.sh"))
        });
        assert!(refused, "without {name}, Compose must refuse to start");
    }
    let values: BTreeSet<&String> = secrets.values().collect();
    assert_eq!(values.len(), secrets.len(), "each secret is another one");
    assert_ne!(secrets, self::secrets(), "and another one each time");
}

#[test]
fn the_nodes_of_the_compose_file_have_one_configuration_that_the_server_accepts() {
    let (compose, secrets) = (yaml("compose.yaml"), secrets());
    let nodes = ["chat-1", "chat-2"].map(|service| environment(service, &secrets));
    assert_eq!(nodes[0], nodes[1]);
    let config = configuration(&nodes[0]);
    assert_eq!(
        (&config["server"]["environment"], &config["database"]["shared"]),
        (&"production".into(), &"true".into())
    );
    let node = &compose["services"]["chat-1"];
    for (key, value) in [("read_only", Value::from(true)), ("cap_drop", ["ALL"].as_slice().into())] {
        assert_eq!(node[key], value, "{key}");
    }
    let options = node["security_opt"].as_array().unwrap();
    assert!(options.contains(&"seccomp=deploy/seccomp/veza.json".into()), "{options:?}");
    let timeout = Config::default().server.shutdown_timeout.as_secs();
    assert!(seconds(&node["stop_grace_period"]) > timeout + 10, "it is killed during its stop");
    let files = node["ulimits"]["nofile"].as_u64().unwrap();
    assert!(files * 3 / 4 > Config::default().limits.max_connections as u64);
    assert_ne!(compose["services"]["chat-1"]["cpuset"], compose["services"]["chat-2"]["cpuset"], "shards are pinned");

    // The services that it names exist, and the proxy is the one that is trusted.
    let services = compose["services"].as_object().unwrap();
    for (name, value) in &nodes[0] {
        let host = value.rsplit('@').next().unwrap().trim_start_matches("tcp:").split([':', '/']).next().unwrap();
        if name.ends_with("_URL") || name.ends_with("CLAMD") {
            assert!(services.contains_key(host), "{name}: there is no service {host}");
        }
    }
    let proxy = &compose["services"]["proxy"]["networks"]["front"]["ipv4_address"];
    assert_eq!(nodes[0]["CHAT_SERVER__SERVER__TRUSTED_PROXIES"], proxy.as_str().unwrap());
}

#[test]
fn clamd_has_the_limits_of_its_shipped_configuration() {
    let compose = yaml("compose.yaml");
    let given = compose["services"]["clamav"]["environment"].as_object().unwrap();
    let shipped = text("deploy/clamd.conf");
    let shipped: BTreeMap<&str, &str> = shipped.lines().filter_map(|line| line.split_once(' ')).collect();
    assert!(given.len() > 5);
    for (name, value) in given {
        let key = name.strip_prefix("CLAMD_CONF_").unwrap();
        assert_eq!(Some(value.as_str().unwrap()), shipped.get(key).copied(), "{key}");
    }
}

#[test]
fn all_files_name_the_ports_of_the_image() {
    let config = configuration(&environment("chat-1", &secrets()));
    let [public, internal] = ["bind_addr", "internal_addr"].map(|key| port(&config["server"][key]));
    assert!(DOCKERFILE.contains(&format!("EXPOSE {public} {internal}\n")));
    let proxy = text("deploy/compose/haproxy.cfg");
    let servers: Vec<&str> = proxy.lines().filter_map(|line| line.trim().strip_prefix("server ")).collect();
    assert_eq!(servers.len(), 4, "two nodes, twice");
    for server in servers {
        let (name, address) = server.split_once(' ').unwrap();
        assert_eq!(address, format!("{name}:{public}"));
    }
    let prometheus = yaml("deploy/compose/prometheus.yml");
    let targets = &prometheus["scrape_configs"][0]["static_configs"][0]["targets"];
    assert_eq!(*targets, serde_json::json!([format!("chat-1:{internal}"), format!("chat-2:{internal}")]));
    let base = rendered("deploy/kubernetes/base");
    let ports = &of_kind(&base, "Deployment")["spec"]["template"]["spec"]["containers"][0]["ports"];
    assert_eq!(ports[0], serde_json::json!({"name": "http", "containerPort": public}));
    assert_eq!(ports[1], serde_json::json!({"name": "internal", "containerPort": internal}));
    for service in base.iter().filter(|manifest| manifest["kind"] == "Service") {
        let target = &service["spec"]["ports"][0]["targetPort"];
        assert!(*target == ports[0]["name"] || *target == ports[1]["name"], "{service}");
    }
}

#[test]
fn promtool_accepts_the_configuration_of_the_compose_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(root("deploy/compose/prometheus.yml"), folder.path().join("prometheus.yml")).unwrap();
    for rules in ["recording.rules.yml", "alerts.rules.yml"] {
        std::fs::copy(root("deploy/prometheus").join(rules), folder.path().join(rules)).unwrap();
    }
    checked(
        Command::new(client("promtool/promtool")).args(["check", "config"]).arg(folder.path().join("prometheus.yml")),
    );
    for file in ["grafana-datasource.yml", "grafana-dashboards.yml"] {
        assert_eq!(yaml(&format!("deploy/compose/{file}"))["apiVersion"], 1, "{file}");
    }
}

#[test]
fn haproxy_accepts_the_configuration_of_the_compose_file() {
    let folder = tempfile::tempdir().unwrap();
    let check = |config: &str| {
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config).unwrap();
        let mut haproxy = Command::new(client("haproxy/haproxy"));
        haproxy.env("LD_LIBRARY_PATH", client("haproxy/lib"));
        let output = haproxy.args(["-c", "-f"]).arg(file).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // Only Docker's name server knows these names.
    let config =
        text("deploy/compose/haproxy.cfg").replace(" chat-1:", " 127.0.0.1:").replace(" chat-2:", " 127.0.0.1:");
    let (accepted, printed) = check(&config);
    assert!(accepted && !printed.contains("[WARNING]"), "{printed}");
    assert!(!check(&config.replace("default_backend nodes", "default_backend all")).0, "the check finds mistakes");
}

#[test]
fn kubernetes_accepts_the_manifests() {
    let validate = client("lint/bin/kubernetes-validate");
    let folder = tempfile::tempdir().unwrap();
    for path in
        ["deploy/kubernetes/base", "deploy/kubernetes/monitoring", "deploy/kubernetes/migration", "deploy/seccomp"]
    {
        let file = folder.path().join("rendered.yaml");
        let printed = checked(Command::new("kubectl").arg("kustomize").arg(root(path)));
        std::fs::write(&file, &printed).unwrap();
        checked(Command::new(&validate).args(["--strict", "--kubernetes-version", "1.32"]).arg(&file));
        std::fs::write(&file, printed.replace("metadata:", "metadatum:")).unwrap();
        let worse = Command::new(&validate).args(["--strict", "--kubernetes-version", "1.32"]).arg(&file).output();
        assert!(!worse.unwrap().status.success(), "{path}: the check finds mistakes");
    }
}

/// What Pod Security asks of a pod in a namespace with the level "restricted".
fn assert_restricted(name: &str, pod: &Value) {
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
    let profile = &pod["securityContext"]["seccompProfile"]["type"];
    assert!(profile == "Localhost" || profile == "RuntimeDefault", "{name}: {profile}");
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        assert!(pod[key].is_null(), "{name}: {key}");
    }
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        assert!(volume["hostPath"].is_null(), "{name}: {volume}");
    }
    for container in pod["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["capabilities"], serde_json::json!({"drop": ["ALL"]}), "{name}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name} has no limits");
        assert!(!container["image"].as_str().unwrap().ends_with(":latest"), "{name}");
    }
}

#[test]
fn pods_fit_pod_security_and_the_nodes_of_one_deployment_go_one_at_a_time() {
    let base = rendered("deploy/kubernetes/base");
    let namespace = &of_kind(&base, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
    assert_eq!(namespace, "restricted");
    let deployment = of_kind(&base, "Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_restricted("Deployment", pod);
    let job = rendered("deploy/kubernetes/migration");
    assert_restricted("Job", &of_kind(&job, "Job")["spec"]["template"]["spec"]);
    let profile = &pod["securityContext"]["seccompProfile"];
    assert_eq!(*profile, serde_json::json!({"type": "Localhost", "localhostProfile": "profiles/veza.json"}));
    assert_eq!(
        deployment["spec"]["strategy"]["rollingUpdate"],
        serde_json::json!({"maxUnavailable": 1, "maxSurge": 0})
    );
    assert_eq!(of_kind(&base, "PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
    let budget = &of_kind(&base, "PodDisruptionBudget")["spec"]["selector"];
    assert_eq!(*budget, deployment["spec"]["selector"]);

    let container = &pod["containers"][0];
    let sleep: u64 = container["lifecycle"]["preStop"]["exec"]["command"][1].as_str().unwrap().parse().unwrap();
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > sleep + Config::default().server.shutdown_timeout.as_secs() + 10, "it is killed during its stop");
    let cores: u64 = container["resources"]["limits"]["cpu"].as_str().unwrap().parse().unwrap();
    assert_eq!(container["resources"]["limits"], container["resources"]["requests"], "a guaranteed pod");
    let config: BTreeMap<String, String> = serde_json::from_value(of_kind(&base, "ConfigMap")["data"].clone()).unwrap();
    assert_eq!(config["CHAT_SERVER__SERVER__WORKERS"], (cores - 1).to_string());

    // The profile that a DaemonSet copies is the shipped one, to the place that the pods name.
    let installer = rendered("deploy/seccomp");
    assert_eq!(of_kind(&installer, "ConfigMap")["data"]["veza.json"], text("deploy/seccomp/veza.json"));
    let volumes = &of_kind(&installer, "DaemonSet")["spec"]["template"]["spec"]["volumes"];
    assert_eq!(volumes[1]["hostPath"]["path"], "/var/lib/kubelet/seccomp/profiles");
}

#[test]
fn the_server_accepts_the_configuration_of_the_manifests() {
    let base = rendered("deploy/kubernetes/base");
    let mut given: BTreeMap<String, String> =
        serde_json::from_value(of_kind(&base, "ConfigMap")["data"].clone()).unwrap();
    assert!(given.keys().all(|name| name.starts_with("CHAT_SERVER__")), "{given:?}");
    // The secrets are made by a command of the document.
    let readme = text("deploy/kubernetes/README.md");
    let secrets = readme.split("--from-literal=").skip(1).map(|rest| rest.split_once('=').unwrap());
    let made: Vec<String> =
        secrets.filter(|(name, _)| name.starts_with("CHAT_SERVER__")).map(|(name, _)| name.to_owned()).collect();
    assert!(made.len() >= 6, "{made:?}");
    let keys = self::secrets();
    for name in made {
        let value = match name.as_str() {
            "CHAT_SERVER__DATABASE__URL" => "postgresql://veza:x@db.example.com/veza_chat",
            "CHAT_SERVER__CLUSTER__REDIS_URL" => "rediss://:x@redis.example.com:6379",
            "CHAT_SERVER__SECURITY__JWT_SECRET" => &keys["JWT_SECRET"],
            "CHAT_SERVER__SECURITY__ENCRYPTION_KEYS" => &keys["ENCRYPTION_KEYS"],
            _ => "text",
        };
        given.insert(name, value.to_owned());
    }
    let config = configuration(&given);
    assert_eq!(config["files"]["store"], "s3");
}

#[tokio::test]
async fn probes_and_scrapes_ask_for_what_the_server_has() {
    let internal = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let server = Server::start(1, &[("server.internal_addr", &internal)]);
    let get = async |address: String| reqwest::get(address).await.unwrap();
    let base = rendered("deploy/kubernetes/base");
    let container = &of_kind(&base, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(asked["port"], "http", "{probe}");
        let path = asked["path"].as_str().unwrap();
        assert_eq!(get(format!("{}{path}", server.base_url)).await.status(), 200, "{probe}");
    }
    for check in
        text("deploy/compose/haproxy.cfg").lines().filter_map(|line| line.trim().strip_prefix("option httpchk GET "))
    {
        assert_eq!(get(format!("{}{check}", server.base_url)).await.status(), 200, "{check}");
    }
    let monitoring = rendered("deploy/kubernetes/monitoring");
    let monitor = &of_kind(&monitoring, "ServiceMonitor")["spec"];
    let path = monitor["endpoints"][0]["path"].as_str().unwrap();
    let page = get(format!("http://{internal}{path}")).await.text().await.unwrap();
    let metric = &of_kind(&monitoring, "HorizontalPodAutoscaler")["spec"]["metrics"][0]["pods"]["metric"]["name"];
    let metric = metric.as_str().unwrap();
    assert!(page.contains(&format!("\n{metric}{{")), "{metric}");
    let adapter = yaml("deploy/kubernetes/monitoring/adapter-values.yaml");
    assert_eq!(adapter["rules"]["custom"][0]["name"]["as"], metric);

    let selected = &monitor["selector"]["matchLabels"];
    let service =
        base.iter().find(|manifest| manifest["metadata"]["labels"] == *selected && manifest["kind"] == "Service");
    let service = service.expect("a Service with the labels of the ServiceMonitor");
    assert_eq!(service["spec"]["ports"][0]["name"], monitor["endpoints"][0]["port"]);
    let job = monitor["jobLabel"].as_str().unwrap();
    assert_eq!(service["metadata"]["labels"][job], "veza-chat", "the alerts select this job");
}

#[test]
fn the_profile_is_the_default_one_with_io_uring_for_every_runtime() {
    let profile: Value = serde_json::from_str(&text("deploy/seccomp/veza.json")).unwrap();
    assert!(profile.as_object().unwrap().keys().map(String::as_str).eq(PROFILE_FIELDS.iter().copied()));
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let mut allowed = BTreeSet::new();
    for call in profile["syscalls"].as_array().unwrap() {
        let fields: BTreeSet<&str> = call.as_object().unwrap().keys().map(String::as_str).collect();
        assert!(fields.is_subset(&CALL_FIELDS.iter().copied().collect()), "{fields:?}");
        if call["action"] == "SCMP_ACT_ALLOW" {
            allowed.extend(call["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()));
        }
    }
    for needed in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(allowed.contains(needed), "{needed}");
    }
    for refused in
        ["bpf", "init_module", "keyctl", "mount", "perf_event_open", "ptrace", "setns", "unshare", "userfaultfd"]
    {
        assert!(!allowed.contains(refused), "{refused}");
    }
    let default = Path::new("/usr/share/containers/seccomp.json");
    if !default.exists() || !checked(Command::new("sha256sum").arg(default)).starts_with(DERIVED_FROM) {
        println!("{} is of another version than the one from which the profile was derived", default.display());
        return;
    }
    let derived = checked(Command::new("python3").arg(root("deploy/seccomp/derive.py")).arg(default));
    assert_eq!(derived, text("deploy/seccomp/veza.json"), "derive.py makes it");
}
