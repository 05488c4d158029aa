//! The ordinary users: they send on a clock, read the history twice a second, and connections come and go. Others sign
//! in and read over HTTP ([`super::visitors`]). All of them listen to the room, and each message has the time for which
//! it was planned, so that deliveries count from it too.

use super::report::Seen;
use super::visitors::Visitors;
use crate::client::{ReceivedFrame, Socket};
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
/// After the last send of a phase: its deliveries still count.
const LISTEN_ON: Duration = Duration::from_secs(1);
/// The content of a message, before its planned time in microseconds.
const CONTENT: &str = "an ordinary message of ordinary length, planned for ";

/// One room, everybody connected.
pub struct Ordinary<'a> {
    target: &'a Target,
    accounts: &'a [Account],
    sockets: Vec<Socket>,
    visitors: Visitors<'a>,
    room: String,
    /// Between two messages of one user.
    send_every: Duration,
    /// What planned times count from.
    epoch: Instant,
}

impl<'a> Ordinary<'a> {
    /// Connects everybody. `rate` is the room's messages per second.
    pub async fn connect(
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
        Ok(Self { target, accounts, sockets, visitors, room: room.to_owned(), send_every, epoch: Instant::now() })
    }

    /// Goes on for so long; what it saw.
    pub async fn go_on(&mut self, length: Duration, interrupts: &Interrupts) -> Result<Seen, String> {
        interrupts.check()?;
        let (began, users) = (Instant::now(), self.sockets.len() as u32);
        let (send_every, room, epoch) = (self.send_every, self.room.as_str(), self.epoch);
        let acting = self.sockets.iter_mut().enumerate().map(|(n, socket)| {
            // Evenly spread: each user has its own moment within the interval.
            let phase = |every: Duration| began + every * n as u32 / users;
            let listener = Listener { epoch, began: micros_after(epoch, began), delivery: Vec::new() };
            act(socket, room, listener, (phase(HISTORY_EVERY), phase(send_every)), send_every, began + length)
        });
        let connecting = connect(self.target, self.accounts, began, began + length);
        let visiting = self.visitors.come_and_go(began, began + length);
        let (acted, connected, visited) = tokio::join!(join_all(acting), connecting, visiting);
        let mut all = connected?.and(visited);
        for seen in acted {
            all = all.and(seen?);
        }
        Ok(all)
    }
}

/// What one user hears of the room.
struct Listener {
    epoch: Instant,
    /// Messages planned before this, in microseconds after the epoch, belong to an earlier phase.
    began: u64,
    delivery: Vec<Duration>,
}

impl Listener {
    fn hear(&mut self, frame: &ReceivedFrame<'_>) {
        let data = frame.data.filter(|_| frame.kind == "message_created");
        if let Some(planned) = data.and_then(|data| planned_at(data.get())).filter(|planned| *planned >= self.began) {
            self.delivery.push((self.epoch + Duration::from_micros(planned)).elapsed());
        }
    }

    /// Listens until then.
    async fn until(&mut self, socket: &mut Socket, end: Instant) -> Result<(), String> {
        let listening = socket.next(|frame| {
            self.hear(frame);
            None::<()>
        });
        match tokio::time::timeout_at(end.into(), listening).await {
            Ok(ended) => ended,
            Err(_) => Ok(()),
        }
    }
}

fn micros_after(epoch: Instant, at: Instant) -> u64 {
    at.duration_since(epoch).as_micros() as u64
}

/// The planned time in the event of a message, in microseconds after the epoch.
fn planned_at(event: &str) -> Option<u64> {
    let (_, rest) = event.split_once(CONTENT)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

async fn act(
    socket: &mut Socket,
    room: &str,
    mut listener: Listener,
    (mut next_read, mut next_send): (Instant, Instant),
    send_every: Duration,
    end: Instant,
) -> Result<Seen, String> {
    let mut seen = Seen::default();
    loop {
        let planned = next_read.min(next_send);
        if planned >= end {
            listener.until(socket, end + LISTEN_ON).await?;
            seen.delivery = listener.delivery;
            return Ok(seen);
        }
        listener.until(socket, planned).await?;
        let reads = next_read <= next_send;
        let reply = if reads {
            next_read += HISTORY_EVERY;
            socket.ask_hearing("get_history", &json!({ "conversation_id": room }), |frame| listener.hear(frame)).await?
        } else {
            next_send += send_every;
            let content = format!("{CONTENT}{}", micros_after(listener.epoch, planned));
            let message = json!({ "conversation_id": room, "content": content });
            socket.ask_hearing("send_message", &message, |frame| listener.hear(frame)).await?
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_of_this_phase_count_from_the_planned_time() {
        let epoch = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        // The first message is planned for the moment at which the phase begins, to the nanosecond.
        let began = epoch + Duration::from_nanos(5_000_000_700);
        let mut listener = Listener { epoch, began: micros_after(epoch, began), delivery: Vec::new() };
        let first = micros_after(epoch, began);
        for (kind, us) in [("message_created", first - 1), ("ack", first), ("message_created", first)] {
            let text = format!(r#"{{"type":"{kind}","data":{{"content":"{CONTENT}{us}","seq":7}}}}"#);
            listener.hear(&serde_json::from_str(&text).unwrap());
        }
        assert_eq!(listener.delivery.len(), 1);
        assert!(listener.delivery[0] >= Duration::from_secs(5));
        assert_eq!(planned_at(r#"{"content":"another"}"#), None);
    }
}
