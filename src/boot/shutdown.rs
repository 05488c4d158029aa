//! The loop of the control thread, and the shutdown of the process. SIGHUP reloads the configuration (`reload`).
//!
//! 1. SIGTERM or SIGINT: readiness fails, so that load balancers stop sending clients.
//! 2. Shards: stop accepting, `going_away`, flush what is in flight, close 1001 (`shard::drain`).
//! 3. HTTP requests finish; the I/O shard commits what it has and ends; the embedded PostgreSQL stops (`boot`).
//!
//! A second signal or the timeout ends the process at once. No acknowledged message is lost by that.

use super::error::{BootError, system};
use super::topology::Ended;
use crate::control::Control;
use crate::control::bot_commands;
use crate::control::http::HttpServer;
use crate::mesh::frame::ControlFrame;
use crate::mesh::lane::Mesh;
use crate::storage::accounts::Accounts;
use crate::storage::bell::BellWaiter;
use glommio::ExecutorJoinHandle;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// How often connections for HTTP are taken from the shards while they stop.
const HANDOVER_INTERVAL: Duration = Duration::from_millis(10);

/// Whether the shutdown has begun.
#[derive(Default)]
pub(super) struct State {
    draining: AtomicBool,
}

impl State {
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// The parts that run and must be stopped.
pub(super) struct Parts {
    pub(super) mesh: Arc<Mesh>,
    pub(super) state: Arc<State>,
    pub(super) shards: Vec<ExecutorJoinHandle<Ended>>,
    pub(super) storage: JoinHandle<Ended>,
    pub(super) storage_stop: Arc<AtomicBool>,
    pub(super) http: HttpServer,
    /// Serves operators, if they have a listener of their own.
    pub(super) internal: HttpServer,
    pub(super) control: Control,
    pub(super) accounts: Accounts,
    /// SIGHUP came; must not block.
    pub(super) on_hangup: Box<dyn Fn() + Send>,
}

/// A thread that ended, with its result.
enum PartEnded {
    Shard(Ended),
    Storage(Ended),
}

/// Runs the control thread until the process stops.
pub(super) async fn run(parts: Parts, timeout: Duration, sweep_every: Duration) -> Result<(), BootError> {
    let broken = |what: &str| BootError::Broken(what.to_owned());
    let mut terminate = signal(SignalKind::terminate()).map_err(system("cannot listen for SIGTERM"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(system("cannot listen for SIGHUP"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(system("cannot listen for SIGINT"))?;
    let Parts { mesh, state, shards, storage, storage_stop, http, internal, control, accounts, on_hangup } = parts;
    let mut bell =
        BellWaiter::new(&mesh.control_bell).map_err(system("cannot wait for connections of the control plane"))?;
    let mut running = shards.len();
    let mut ended = watch(shards, storage);
    let mut sweep = tokio::time::interval(sweep_every);
    let sweeping = Arc::new(tokio::sync::Semaphore::new(1));
    loop {
        adopt_waiting(&mesh, &http, &control);
        mesh.control_bell.about_to_sleep();
        if !mesh.http.is_empty() || !mesh.bot_posts.is_empty() {
            mesh.control_bell.awake();
            continue;
        }
        tokio::select! {
            () = bell.rung() => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => on_hangup(),
            _ = sweep.tick() => {
                let accounts = accounts.clone();
                // A sweep that has much to remove takes longer than the time between two.
                let Ok(one) = Arc::clone(&sweeping).try_acquire_owned() else { continue };
                tokio::spawn(async move {
                    let _one = one;
                    let swept = accounts.sweep_two_factor().await;
                    if let Err(refusal) = swept.and(accounts.sweep_expired().await) {
                        tracing::warn!("expired tokens were not removed: {refusal}");
                    }
                });
            }
            part = ended.recv() => return Err(match part {
                Some(PartEnded::Shard(Err(reason)) | PartEnded::Storage(Err(reason))) => broken(&reason),
                _ => broken("a thread of the server ended unexpectedly"),
            }),
        }
        mesh.control_bell.awake();
    }

    tracing::info!("shutting down; a second signal ends the process at once");
    state.draining.store(true, Ordering::Relaxed);
    let end = async {
        for shard in mesh.placement.all() {
            let mut frame = ControlFrame::Drain;
            while let Err(back) = mesh.control(shard).try_push(frame) {
                frame = back;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            mesh.bell(shard).ring();
        }
        while running > 0 {
            // Requests that the shards had accepted before they stopped listening are answered like those before.
            let part = tokio::select! {
                part = ended.recv() => part,
                () = tokio::time::sleep(HANDOVER_INTERVAL) => {
                    adopt_waiting(&mesh, &http, &control);
                    continue;
                }
            };
            match part {
                Some(PartEnded::Shard(Ok(()))) => running -= 1,
                Some(PartEnded::Shard(Err(reason)) | PartEnded::Storage(Err(reason))) => return Err(broken(&reason)),
                Some(PartEnded::Storage(Ok(()))) | None => return Err(broken("the I/O shard ended before the shards")),
            }
        }
        adopt_waiting(&mesh, &http, &control);
        tokio::join!(http.shutdown(timeout / 4), internal.shutdown(timeout / 4));
        storage_stop.store(true, Ordering::Release);
        mesh.storage_bell.ring();
        match ended.recv().await {
            Some(PartEnded::Storage(Err(reason))) => Err(broken(&reason)),
            _ => Ok(()),
        }
    };
    tokio::select! {
        outcome = end => outcome,
        () = second_signal(&mut terminate, &mut interrupt) => {
            Err(BootError::CutShort("a second signal came while connections were still open"))
        }
        () = tokio::time::sleep(timeout) => {
            Err(BootError::CutShort("server.shutdown_timeout has passed while connections were still open"))
        }
    }
}

/// Gives the HTTP server the connections that the shards have for it.
fn adopt_waiting(mesh: &Mesh, http: &HttpServer, control: &Control) {
    while let Some(post) = mesh.bot_posts.pop() {
        bot_commands::post(control.clone(), *post);
    }
    while let Some(handover) = mesh.http.pop() {
        let stream = TcpStream::from(handover.socket);
        let peer = stream.peer_addr().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let peer = handover.client.map_or(peer, |client| SocketAddr::new(client, peer.port()));
        http.adopt(stream, handover.received, peer);
    }
}

async fn second_signal(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Waits for each thread and reports its result.
fn watch(shards: Vec<ExecutorJoinHandle<Ended>>, storage: JoinHandle<Ended>) -> mpsc::Receiver<PartEnded> {
    let (sender, receiver) = mpsc::channel(shards.len() + 1);
    for shard in shards {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let ended = shard.join().unwrap_or_else(|e| Err(e.to_string()));
            let _ = sender.blocking_send(PartEnded::Shard(ended)); // fails only when the process ends
        });
    }
    std::thread::spawn(move || {
        let ended = storage.join().unwrap_or_else(|_| Err("the I/O shard panicked".to_owned()));
        let _ = sender.blocking_send(PartEnded::Storage(ended));
    });
    receiver
}
