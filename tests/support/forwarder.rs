//! An address that leads to a server which can be replaced by another one, as behind a proxy.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;

/// Where connections lead.
#[derive(Clone, Debug)]
pub enum Backend {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Accepts connections, and passes on what they send. A connection that its server does not accept is closed.
pub struct Forwarder {
    address: SocketAddr,
    backend: Arc<Mutex<Backend>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Forwarder {
    /// Listens on a free port of this address.
    pub fn start(address: IpAddr, backend: Backend) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let backend = Arc::new(Mutex::new(backend));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&backend);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, &shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, backend, stop: Some(stop), thread: Some(thread) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Leads new connections there. Those that stand stay where they are.
    pub fn lead_to(&self, backend: Backend) {
        *self.backend.lock().unwrap() = backend;
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, backend: &Mutex<Backend>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        client.set_nodelay(true).unwrap();
        let backend = backend.lock().unwrap().clone();
        tokio::spawn(async move {
            // Either end closes a connection when it likes.
            match backend {
                Backend::Tcp(address) => match TcpStream::connect(address).await {
                    Ok(server) => {
                        server.set_nodelay(true).unwrap();
                        pass(client, server).await;
                    }
                    Err(_) => drop(client),
                },
                Backend::Unix(path) => match UnixStream::connect(path).await {
                    Ok(server) => pass(client, server).await,
                    Err(_) => drop(client),
                },
            }
        });
    }
}

async fn pass(mut client: TcpStream, mut server: impl AsyncRead + AsyncWrite + Unpin) {
    let _ = copy_bidirectional(&mut client, &mut server).await;
}
