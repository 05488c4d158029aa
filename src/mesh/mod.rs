//! Between cores: ownership, lanes, and how a sleeping core is woken. No runtime.
//!
//! ```text
//!   shard A ──request──► shard B ──commit──► I/O shard
//!      ▲                  │  ▲                  │
//!      └────delivery──────┘  └─────outcome──────┘        (reads: A ──► I/O shard ──► A)
//! ```
//!
//! Lanes form a DAG: request → commit → outcome → delivery. A stage takes its next item only when the stage after it
//! has room, and no stage waits on an earlier one, so bounded queues in both directions cannot deadlock
//! (DataDog/glommio#555 is what happens otherwise). Every push is a `try_push`; each variant of [`frame`] documents
//! what happens when its lane is full.

pub mod activity;
pub mod admissions;
pub mod asked;
pub mod bot_grant;
pub mod counters;
pub mod doorbell;
pub mod event;
pub mod frame;
pub mod invocation;
pub mod lane;
pub mod live;
pub mod log_watch;
pub mod node_status;
pub mod nodes;
pub mod overload;
pub mod placement;
pub mod port;
pub mod quota;
pub mod read_class;
pub mod record;
pub mod shard_queue;
pub mod standing;
pub mod storage_room;
pub mod token;
pub mod user_limit;
