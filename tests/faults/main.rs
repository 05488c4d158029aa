//! What the server does when something fails: the server is killed, PostgreSQL hangs or refuses, clients flood it or do
//! not read, a start is impossible.
//!
//! How: every test starts its own server, since it kills, floods or starves it. The binary is apart from `server`, so
//! that these tests do not slow down the others.
#![cfg(feature = "test-db")]

mod antivirus;
mod audit_lock;
mod audit_trail;
mod backup;
mod backup_stores;
mod cluster;
mod crash;
mod database_logins;
mod differential;
mod doctor;
mod erasures;
mod exports;
mod fair_reads;
mod file_buckets;
mod handover;
mod imports;
mod imports_mattermost;
mod imports_slack;
mod late_readers;
mod nodes;
mod nodes_away;
mod overload;
mod rolling;
mod sign_in;
mod slow_requests;
mod starting;
mod store_faults;
#[path = "../support/mod.rs"]
mod support;
mod traffic;
mod uploads;
mod victims;
mod webhooks;
