//! Veza Chat Server: a self-hosted chat server on a gapless change log per conversation.
//!
//! Every change in a conversation takes the conversation's next `seq` inside the PostgreSQL transaction that commits
//! it. Only committed changes are acknowledged and shown. From this follow: nothing acknowledged is lost, duplicated or
//! reordered; a client that was offline requests everything after its last `seq`; sending again is harmless.
//!
//! # The path of a message
//!
//! 1. [`net`] receives bytes, [`wire::ws`] decodes the frame in place, [`wire::command`] reads the command.
//! 2. `shard/receive` → `shard/commands` → `shard/send`: session, budget ([`budget`]), filter ([`text`]).
//! 3. [`mesh`] carries it to the conversation's owner: `shard/owner`.
//! 4. [`storage::inlet`] → [`storage::batcher`] → [`storage::committer`]: one statement for everything that has
//!    gathered.
//! 5. The outcome returns to the owner: the ack, then the event, serialised once per format (`shard/publish`).
//! 6. [`chat::rooms`] and `shard/deliver`: into every subscriber's queue, if its cursor says that it is the next event.
//! 7. `shard/catch_up`: a subscriber that missed something reads the log.
//!
//! # Modules and what each may import (checked by `tests/tidy`)
//!
//! | module | is | may import |
//! |---|---|---|
//! | [`address`], [`budget`], [`error`], [`faults`], [`ids`], [`latency`] | vocabulary | no other module |
//! | [`limits`], [`planted`], [`text`] | vocabulary | no other module |
//! | [`config`] | layered configuration | vocabulary |
//! | [`wire`] | bytes ⇄ meaning | vocabulary |
//! | [`audit`] | the audit chain, pure | vocabulary |
//! | [`auth`] | passwords, tokens and codes, pure | vocabulary |
//! | [`files`] | what files are, and their bytes on the disk or in a bucket | vocabulary |
//! | [`mesh`] | what crosses cores, and how | vocabulary, auth, [`chat::filter`] |
//! | [`chat`] | rules as pure state machines | vocabulary, commands and events of wire, plain data of mesh |
//! | [`net`] | a shard's sockets on `io_uring` | vocabulary, `wire::ws` |
//! | [`shard`] | one core: sequences the five above | net, chat, wire, mesh, auth, vocabulary |
//! | [`storage`] | the I/O shard: all of PostgreSQL | mesh, audit, files, vocabulary |
//! | [`cluster`] | between nodes: Redis, heads, the audit trail | storage and mesh handles, audit, vocabulary |
//! | [`hooks`] | webhooks | storage and mesh handles, auth, vocabulary |
//! | [`control`] | HTTP | hooks, storage and mesh handles, audit, auth, files, wire, [`chat::filter`], vocabulary |
//! | [`backup`] | what a backup is, and how it is written and read | storage, files, audit, vocabulary |
//! | [`import`] | data of other chat servers, from their dumps | storage, backup, auth, files, vocabulary |
//! | [`export`] | the whole server in the format of another one | storage, files, import, vocabulary |
//! | [`boot`] | start, stop and reload | everything |

pub mod address;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod boot;
pub mod budget;
pub mod chat;
pub mod cluster;
pub mod config;
pub mod control;
pub mod error;
pub mod export;
pub mod faults;
pub mod files;
pub mod hooks;
pub mod ids;
pub mod import;
pub mod latency;
pub mod limits;
pub mod mesh;
pub mod net;
pub mod planted;
pub mod shard;
pub mod storage;
pub mod text;
pub mod wire;
