//! The ordinary users: they send on a clock, read the history twice a second, and connections come and go. Others sign
//! in and read over HTTP ([`super::visitors`]).

use super::report::{Figures, Seen};
use super::visitors::Visitors;
use crate::client::Socket;
use crate::run::Interrupts;
use crate::setup::account::Account;
use crate::setup::api::Target;
use futures_util::future::join_all;
use serde_json::json;
use std::time::{Duration, Instant};

/// Between two reads of the history by one user.
const HISTORY_EVERY: Duration = Duration::from_millis(500);
/// Between two connections that open: a phase of ten seconds has enough of them for a P99 that is not the maximum.
const CONNECT_EVERY: Duration = Duration::from_millis(50);

/// One room, everybody connected.
pub(super) struct Ordinary<'a> {
    target: &'a Target,
    accounts: &'a [Account],
    sockets: Vec<Socket>,
    visitors: Visitors<'a>,
    room: String,
    /// Between two messages of one user.
    send_every: Duration,
}

impl<'a> Ordinary<'a> {
    /// Connects everybody. `rate` is the room's messages per second.
    pub(super) async fn connect(
        target: &'a Target,
        accounts: &'a [Account],
        visitors: Visitors<'a>,
        room: &str,
        rate: f64,
    ) -> Result<Self, String> {
        let mut sockets = Vec::new();
        for account in accounts {
            let mut socket = Socket::open(target, &account.token).await?;
            socket.ask("subscribe", &json!({ "conversation_id": room })).await?.outcome?;
            sockets.push(socket);
        }
        let send_every = Duration::from_secs_f64(accounts.len() as f64 / rate.max(0.001));
        Ok(Self { target, accounts, sockets, visitors, room: room.to_owned(), send_every })
    }

    /// Goes on for so long; what it saw.
    pub(super) async fn go_on(&mut self, length: Duration, interrupts: &Interrupts) -> Result<Figures, String> {
        interrupts.check()?;
        let (began, users) = (Instant::now(), self.sockets.len() as u32);
        let (send_every, room) = (self.send_every, self.room.as_str());
        let acting = self.sockets.iter_mut().enumerate().map(|(n, socket)| {
            // Evenly spread: each user has its own moment within the interval.
            let phase = |every: Duration| began + every * n as u32 / users;
            act(socket, room, (phase(HISTORY_EVERY), phase(send_every)), send_every, began + length)
        });
        let connecting = connect(self.target, self.accounts, began, began + length);
        let visiting = self.visitors.come_and_go(began, began + length);
        let (acted, connected, visited) = tokio::join!(join_all(acting), connecting, visiting);
        let mut all = connected?.and(visited);
        for seen in acted {
            all = all.and(seen?);
        }
        Ok(Figures::of(all))
    }
}

async fn act(
    socket: &mut Socket,
    room: &str,
    (mut next_read, mut next_send): (Instant, Instant),
    send_every: Duration,
    end: Instant,
) -> Result<Seen, String> {
    let mut seen = Seen::default();
    loop {
        let planned = next_read.min(next_send);
        if planned >= end {
            return Ok(seen);
        }
        tokio::time::sleep_until(planned.into()).await;
        let reads = next_read <= next_send;
        let reply = if reads {
            next_read += HISTORY_EVERY;
            socket.ask("get_history", &json!({ "conversation_id": room })).await?
        } else {
            next_send += send_every;
            let message = json!({ "conversation_id": room, "content": "an ordinary message of ordinary length" });
            socket.ask("send_message", &message).await?
        };
        // From the planned time: a reply that was late makes the next one late, and the next one shows it.
        let took = planned.elapsed();
        match reply.outcome {
            Ok(_) if reads => seen.history.push(took),
            Ok(_) => seen.ack.push(took),
            Err(refusal) => seen.refused.push(refusal),
        }
    }
}

async fn connect(target: &Target, accounts: &[Account], began: Instant, end: Instant) -> Result<Seen, String> {
    let mut seen = Seen::default();
    for n in 0.. {
        let planned = began + CONNECT_EVERY * n;
        if planned >= end {
            break;
        }
        tokio::time::sleep_until(planned.into()).await;
        match Socket::open(target, &accounts[n as usize % accounts.len()].token).await {
            Ok(socket) => {
                seen.connect.push(planned.elapsed());
                socket.close().await;
            }
            Err(reason) => seen.refused.push(format!("connecting: {reason}")),
        }
    }
    Ok(seen)
}
