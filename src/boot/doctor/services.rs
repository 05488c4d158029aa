//! Services beside PostgreSQL: Redis, clamd, the bucket.

use super::diagnosis::Diagnosis;
use super::report::{DoctorReport, TIME_MAX, in_time, no_answer};
use crate::backup::dump::DumpPrograms;
use crate::boot::cluster::redis_addresses;
use crate::boot::files;
use crate::config::{Config, FileScan};
use crate::control::files::antivirus::Antivirus;
use crate::files::store::disk::DiskThreads;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, RedisResult};
use std::sync::Arc;
use std::time::Instant;
use tokio::time::timeout;

const PINGS: usize = 10;
/// Redis's own defaults for subscribers: the hard limit and the soft one, in bytes.
const PUBSUB_DEFAULTS: (u64, u64) = (32 << 20, 8 << 20);
const START_REDIS: &str = "start Redis, or correct cluster.redis_url. Events come from PostgreSQL meanwhile, later";
const START_SEED: &str = "start it, or correct cluster.redis_seeds. Nodes connect to the other servers meanwhile";

pub(super) async fn examine(config: &Config, report: &mut DoctorReport) {
    match redis_addresses(config) {
        Ok(none) if none.is_empty() => report.add(&Diagnosis::ok("redis", "not used: cluster.redis_url is not set")),
        Ok(addresses) => {
            let has_seeds = !config.cluster.redis_seeds.is_empty();
            for (number, address) in addresses.iter().enumerate() {
                let to_do = if number == 0 { START_REDIS } else { START_SEED };
                for finding in redis(address, to_do, has_seeds).await {
                    report.add(&finding);
                }
            }
        }
        Err(error) => report.add(&Diagnosis::error("redis", &error)),
    }
    report.add(&scanner(config).await);
    report.add(&bucket(config).await);
}

/// The programs of `chat-server backup`. The server runs without them.
pub(super) fn backup_programs() -> Diagnosis {
    match DumpPrograms::find() {
        Ok(programs) => {
            Diagnosis::ok("backup", format!("pg_dump and pg_restore are in {}", programs.folder().display()))
        }
        Err(error) => Diagnosis::warning("backup", error.to_string(), "install them to make backups"),
    }
}

/// Of one server. `to_do`: the advice if it does not answer. `has_seeds`: it should be of a Redis Cluster.
async fn redis(address: &ConnectionInfo, to_do: &str, has_seeds: bool) -> Vec<Diagnosis> {
    let check = "redis";
    let server = address.addr().to_string();
    let mut findings = Vec::new();
    let client = match Client::open(address.clone()) {
        Ok(client) => client,
        Err(error) => return vec![Diagnosis::error(check, &error)],
    };
    let reached = timeout(TIME_MAX, async {
        // The time below is for all of it.
        let settings = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&settings).await?;
        let mut times = Vec::with_capacity(PINGS);
        for _ in 0..PINGS {
            let began = Instant::now();
            redis::cmd("PING").query_async::<String>(&mut connection).await?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        RedisResult::Ok((connection, times))
    });
    let (mut connection, times) = match reached.await {
        Ok(Ok(reached)) => reached,
        Ok(Err(error)) => return vec![Diagnosis::fault(check, format!("{server}: {error}"), to_do)],
        Err(_) => return vec![Diagnosis::fault(check, format!("{server}: {}", no_answer()), to_do)],
    };
    let ms = |n: usize| times.get(n).map_or(0.0, |time| time.as_secs_f64() * 1_000.0);
    let found = format!("{server}: {PINGS} PINGs, median {:.2} ms, worst {:.2} ms", ms(PINGS / 2), ms(PINGS - 1));
    findings.push(Diagnosis::ok(check, found));
    let examined = cluster(&mut connection, &server, has_seeds);
    findings.push(in_time("redis_cluster", "see whether Redis is overloaded", examined).await);
    findings.push(in_time("redis_buffers", "see whether Redis is overloaded", buffers(&mut connection)).await);
    findings
}

/// Whether the server is of a Redis Cluster, and whether that is complete.
async fn cluster(connection: &mut MultiplexedConnection, server: &str, has_seeds: bool) -> Diagnosis {
    let check = "redis_cluster";
    match redis::cmd("CLUSTER").arg("INFO").query_async::<String>(connection).await {
        Ok(about) if about.lines().any(|line| line.trim() == "cluster_state:ok") => {
            Diagnosis::ok(check, format!("{server} is of a Redis Cluster, whose slots are all served"))
        }
        Ok(about) => {
            let state = about.lines().next().unwrap_or_default().trim();
            let found = format!("the Redis Cluster of {server} does not serve every slot ({state})");
            Diagnosis::fault(
                check,
                found,
                "see redis-cli --cluster check. Events come from PostgreSQL meanwhile, later",
            )
        }
        Err(error) if !error.to_string().contains("cluster support disabled") => {
            let found = format!("{server} does not say whether it is of a Redis Cluster: {error}");
            Diagnosis::warning(check, found, "allow the user of cluster.redis_url the command CLUSTER INFO")
        }
        Err(_) if has_seeds => {
            let to_do = "take it out of cluster.redis_seeds and cluster.redis_url, or empty cluster.redis_seeds";
            Diagnosis::fault(check, format!("{server} is not of a Redis Cluster"), to_do)
        }
        Err(_) => Diagnosis::ok(check, format!("{server} is not of a Redis Cluster")),
    }
}

async fn buffers(connection: &mut MultiplexedConnection) -> Diagnosis {
    let mut asked = redis::cmd("CONFIG");
    asked.arg("GET").arg("client-output-buffer-limit");
    match asked.query_async::<Vec<String>>(connection).await {
        Ok(answer) => buffer_limits(answer.get(1).map(String::as_str).unwrap_or_default()),
        // Hosted ones do not allow it.
        Err(error) => Diagnosis::ok("redis_buffers", format!("Redis does not say its buffer limits: {error}")),
    }
}

/// Of `normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60`.
fn buffer_limits(text: &str) -> Diagnosis {
    let check = "redis_buffers";
    let limits = text.split_once("pubsub ").and_then(|(_, rest)| {
        let mut numbers = rest.split_whitespace().map_while(|number| number.parse::<u64>().ok());
        Some((numbers.next()?, numbers.next()?, numbers.next()?))
    });
    let Some((hard, soft, seconds)) = limits else {
        return Diagnosis::ok(check, "Redis does not say its buffer limits");
    };
    let found = format!("client-output-buffer-limit pubsub {hard} {soft} {seconds}");
    let is_small = |limit: u64, least: u64| limit != 0 && limit < least;
    if is_small(hard, PUBSUB_DEFAULTS.0) || is_small(soft, PUBSUB_DEFAULTS.1) {
        let (hard, soft) = PUBSUB_DEFAULTS;
        let found = format!("{found}: Redis disconnects a node that is a moment behind");
        return Diagnosis::warning(check, found, format!("set at least: pubsub {hard} {soft} 60"));
    }
    Diagnosis::ok(check, found)
}

async fn scanner(config: &Config) -> Diagnosis {
    let check = "clamd";
    if !config.features.file_uploads {
        return Diagnosis::ok(check, "not used: features.file_uploads is false");
    }
    let Some(antivirus) = files::antivirus(config, Arc::default()) else {
        return Diagnosis::ok(check, "not used: files.clamd is not set, or files.scan is \"off\"");
    };
    let waits = config.files.scan == FileScan::Required;
    let refused = |reason: String| {
        if waits {
            return Diagnosis::fault(
                check,
                reason,
                "start clamd, or correct files.clamd. Files wait for their virus scan",
            );
        }
        Diagnosis::warning(
            check,
            reason,
            "start clamd, or correct files.clamd. Files are released without a virus scan",
        )
    };
    match timeout(TIME_MAX, antivirus.ping()).await {
        Ok(Ok(())) => {}
        Ok(Err(reason)) => return refused(reason),
        Err(_) => return refused(format!("no answer within {} s", TIME_MAX.as_secs())),
    }
    match timeout(TIME_MAX, finds_virus(&antivirus)).await {
        Ok(Ok(())) => {
            Diagnosis::ok(check, format!("it finds viruses in files of {} bytes", config.limits.max_file_size))
        }
        Ok(Err(reason)) => refused(reason),
        // The server waits longer.
        Err(_) => Diagnosis::warning(
            check,
            format!(
                "it answers, but did not scan {} bytes within {} s",
                config.limits.max_file_size,
                TIME_MAX.as_secs()
            ),
            "see whether clamd is overloaded; /health says later whether the server trusts it",
        ),
    }
}

async fn finds_virus(antivirus: &Antivirus) -> Result<(), String> {
    let threads = DiskThreads::new().map_err(|error| error.to_string())?;
    let probed = antivirus.probe(&threads.disk()).await;
    // A runtime must not be dropped on another one.
    let _ = tokio::task::spawn_blocking(move || drop(threads)).await;
    probed
}

async fn bucket(config: &Config) -> Diagnosis {
    let check = "s3";
    match files::probe_bucket(config, TIME_MAX).await {
        Ok(None) => Diagnosis::ok(check, "not used: files.store is \"folder\""),
        Ok(Some(())) => Diagnosis::ok(check, "objects of files.s3_bucket can be written, read, listed and removed"),
        Err(error) => Diagnosis::error(check, &error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::diagnosis::Grade;
    use super::*;

    #[test]
    fn reads_the_limits_of_subscribers() {
        let line = |pubsub: &str| format!("normal 0 0 0 slave 268435456 67108864 60 pubsub {pubsub}");
        assert_eq!(buffer_limits(&line("33554432 8388608 60")).severity, Grade::Ok);
        assert_eq!(buffer_limits(&line("0 0 0")).severity, Grade::Ok, "0 is no limit");
        let small = buffer_limits(&line("1048576 0 0"));
        assert!(small.severity == Grade::Warning && small.found.contains("pubsub 1048576 0 0"), "{small}");
        assert_eq!(buffer_limits(&line("0 1048576 60")).severity, Grade::Warning);
        assert_eq!(buffer_limits("").severity, Grade::Ok);
    }
}
