//! Veza Chat Server: a self-hosted chat server on a gapless change log per conversation.
//!
//! Every change in a conversation gets the conversation's next `seq` inside the PostgreSQL transaction that commits it.
//! The server acknowledges and delivers only committed changes. Three guarantees follow. Nothing acknowledged is lost,
//! duplicated or reordered. A client that was away asks for everything after its last `seq`. Sending again is harmless.
//!
//! `docs/architecture.md` describes the whole system. This page is the short form.
//!
//! # The way of a message
//!
//! 1. [`net`] receives bytes, [`wire::ws`] decodes the frame in place, and [`wire::command`] reads the command.
//! 2. `shard/receive` → `shard/commands` → `shard/send` checks the command slot, the rate limit ([`chat::budget`]) and
//!    the text ([`text`]).
//! 3. [`mesh`] carries the message to the owner shard of its conversation, `shard/owner`.
//! 4. [`storage::inlet`] → [`storage::batcher`] → [`storage::committer`] commits it, in one statement with every message
//!    that arrived during the previous commit.
//! 5. The outcome returns to the owner shard. It sends the ack, then the event, encoded once per format
//!    ([`wire::event`]).
//! 6. [`chat::rooms`] selects the bytes for every subscriber whose cursor is right before the event
//!    ([`chat::subscribers`]), and `shard/deliver` queues them.
//! 7. `shard/catch_up` replays the log to every subscriber that missed an event.
//!
//! # Modules and their permitted imports (checked by `tests/tidy`)
//!
//! | module | purpose | may import |
//! |---|---|---|
//! | [`ids`], [`limits`], [`error`], [`latency`], [`faults`], [`text`], [`planted`] | shared vocabulary | nothing of this crate |
//! | [`config`] | layered configuration | vocabulary |
//! | [`wire`] | bytes ⇄ meaning | vocabulary |
//! | [`auth`] | passwords and tokens, pure | vocabulary |
//! | [`chat`] | rules as pure state machines | vocabulary, commands and events of wire, plain data of mesh |
//! | [`mesh`] | queues between cores, and the frames in them | vocabulary |
//! | [`net`] | a shard's sockets on `io_uring` | vocabulary, `wire::ws` |
//! | [`shard`] | one core: calls the five above in order | net, chat, wire, mesh, auth, vocabulary |
//! | [`storage`] | the I/O shard: all access to PostgreSQL | mesh, vocabulary |
//! | [`control`] | HTTP: accounts, health, metrics, profile changes | storage and mesh handles, auth, wire, vocabulary |
//! | [`boot`] | start and stop | everything |

pub mod auth;
pub mod boot;
pub mod chat;
pub mod config;
pub mod control;
pub mod error;
pub mod faults;
pub mod ids;
pub mod latency;
pub mod limits;
pub mod mesh;
pub mod net;
pub mod planted;
pub mod shard;
pub mod storage;
pub mod text;
pub mod wire;
