//! What downloads are compared with: nginx with a private configuration, and the least that can serve a file, a loop of
//! sendfile(2) in this process, which shows what the client can receive.

use crate::compare::child::{Child, run, write_file};
use crate::compare::places::{Places, Ports};
use rustix::process::geteuid;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// Bytes of the head of a request.
const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// Where both have the file.
pub(super) const FILE_PATH: &str = "/file";

/// The nginx of this machine.
///
/// # Errors
/// How to install it.
pub(super) fn find_nginx(path: Option<&std::ffi::OsStr>) -> Result<PathBuf, String> {
    Places::new(path, PathBuf::from("/nonexistent")).program("nginx").ok_or_else(|| {
        "nginx was not found, and downloads are compared with it; install it: apt-get install nginx-light. Without \
         it, leave the downloads out: --set 'uploads.parts=[\"memory\", \"messages\"]'"
            .to_owned()
    })
}

/// A running nginx. It ends, and its folder goes, when it is dropped.
pub(super) struct Nginx {
    pub(super) address: SocketAddr,
    pub(super) version: String,
    _server: Child,
    _folder: TempDir,
}

impl Nginx {
    /// Serves one file at [`FILE_PATH`].
    pub(super) fn start(program: &Path, file: &Path, cores: &[usize]) -> Result<Self, String> {
        let made = tempfile::Builder::new().prefix("loadtest-nginx-").tempdir();
        let folder = made.map_err(|error| format!("cannot make a temporary directory: {error}"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, Ports::new(None).reserve()?));
        let workers = match cores.len() {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            some => some,
        };
        let configuration = folder.path().join("nginx.conf");
        write_file(&configuration, &configured(folder.path(), file, address, workers, geteuid().is_root()))?;
        let mut command = Command::new(program);
        command.arg("-e").arg("stderr").arg("-p").arg(folder.path()).arg("-c").arg(&configuration);
        let mut server = Child::start("nginx", command, &folder.path().join("nginx.log"), cores)?;
        server.wait_until_listening(address)?;
        Ok(Self { address, version: version(program), _server: server, _folder: folder })
    }
}

/// The version, from `nginx version: nginx/1.22.1` on its standard error.
fn version(program: &Path) -> String {
    let mut command = Command::new("sh");
    command.arg("-c").arg("\"$0\" -v 2>&1").arg(program);
    let line = run(command).unwrap_or_default();
    line.trim().rsplit('/').next().unwrap_or_default().to_owned()
}

fn configured(folder: &Path, file: &Path, address: SocketAddr, workers: usize, is_root: bool) -> String {
    let (folder, file) = (folder.display(), file.display());
    // Its workers must be able to read the file of the server, which has the user of this program.
    let user = if is_root { "user root root;\n" } else { "" };
    format!(
        "daemon off;
{user}worker_processes {workers};
pid \"{folder}/nginx.pid\";
error_log stderr error;
events {{ worker_connections 256; }}
http {{
  access_log off;
  default_type application/octet-stream;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 60s;
  keepalive_requests 1000000;
  client_body_temp_path \"{folder}/body\";
  proxy_temp_path \"{folder}/proxy\";
  fastcgi_temp_path \"{folder}/fastcgi\";
  uwsgi_temp_path \"{folder}/uwsgi\";
  scgi_temp_path \"{folder}/scgi\";
  server {{
    listen {address};
    location = {FILE_PATH} {{ alias \"{file}\"; }}
  }}
}}
"
    )
}

/// A server of one file with a thread for each connection. The threads end with their connections.
pub(super) struct BareServer {
    pub(super) address: SocketAddr,
    over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl BareServer {
    pub(super) fn start(file: &Path) -> Result<Self, String> {
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
            let address = listener.local_addr()?;
            Ok((listener, address))
        });
        let (listener, address) = listening.map_err(|error| format!("cannot listen: {error}"))?;
        let over = Arc::new(AtomicBool::new(false));
        let accepting = std::thread::spawn({
            let (over, file) = (Arc::clone(&over), file.to_owned());
            move || {
                for stream in listener.incoming() {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let file = file.clone();
                    if let Ok(stream) = stream {
                        // A client that ends its connection in the middle is no fault.
                        std::thread::spawn(move || drop(serve(stream, &file)));
                    }
                }
            }
        });
        Ok(Self { address, over, accepting: Some(accepting) })
    }
}

impl Drop for BareServer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // The last connection wakes the thread.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(accepting) = self.accepting.take().filter(|_| woken) {
            let _ = accepting.join();
        }
    }
}

fn serve(mut stream: TcpStream, path: &Path) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = vec![0; REQUEST_BYTES_MAX];
    loop {
        let mut length = 0;
        while !request[..length].ends_with(b"\r\n\r\n") {
            match stream.read(&mut request[length..])? {
                0 => return Ok(()),
                received => length += received,
            }
        }
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n").as_bytes())?;
        // From a file to a socket, the standard library uses sendfile(2).
        io::copy(&mut file, &mut stream)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn a_missing_nginx_is_named_with_its_install_command() {
        let error = find_nginx(Some(OsStr::new(""))).unwrap_err();
        assert!(error.contains("apt-get install nginx-light"), "{error}");
    }

    #[test]
    fn nginx_is_configured_with_sendfile_and_writes_into_its_folder_only() {
        let address = SocketAddr::from(([127, 0, 0, 1], 4711));
        let text = configured(Path::new("/tmp/n"), Path::new("/data/blob"), address, 2, true);
        for line in
            ["sendfile on;", "listen 127.0.0.1:4711;", "alias \"/data/blob\";", "user root root;", "access_log off;"]
        {
            assert!(text.contains(line), "{line}: {text}");
        }
        for (_, rest) in text.match_indices("_temp_path").map(|(at, name)| text[at..].split_at(name.len())) {
            assert!(rest.starts_with(" \"/tmp/n/"), "{rest}");
        }
        assert!(!configured(Path::new("/n"), Path::new("/b"), address, 2, false).contains("user"));
    }
}
