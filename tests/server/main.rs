//! What clients can do with a running server: the tests of one module share a server with those of the others.
//!
//! How: each test creates its own users and conversations on a shared server (`support::server`, `support::shards`), so
//! that tests can run at the same time. A test that configures its server or reads its counters starts its own.
//! `cargo test --workspace --features test-db --test server -- messages::` runs the tests of one module.
#![cfg(feature = "test-db")]

mod adaptive_limits;
mod audit;
mod audit_accounts;
mod audit_chain;
mod audit_sources;
mod avatars;
mod blocks;
mod bot_commands;
mod bots;
mod captchas;
mod catalogue;
mod catch_up;
mod connections;
mod consent;
mod conversations;
mod data_rights;
mod file_attacks;
mod file_pictures;
mod file_shares;
mod files;
mod filter;
mod filter_texts;
mod handshakes;
mod http_accounts;
mod http_requests;
mod incoming_webhooks;
mod known_commits;
mod large_rooms;
mod media_worker;
mod message_changes;
mod messages;
mod old_passwords;
mod operators;
mod outsiders;
mod partitions;
mod passwords;
mod people;
mod permissions;
mod plans;
mod presence;
mod profiles;
mod proxies;
mod rate_limits;
mod read_state;
mod registration_proofs;
mod reloads;
mod revocations;
mod rule_sets;
mod search;
mod security_conduct;
mod security_events;
mod security_responses;
mod security_travel;
mod store;
#[path = "../support/mod.rs"]
mod support;
mod texts;
mod two_factor;
mod webhooks;
