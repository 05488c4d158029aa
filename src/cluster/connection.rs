//! The connection to Redis: to one server, or to the servers of a Redis Cluster.
//!
//! One connection publishes and receives (RESP3): the answer to a batch and the node's own copy of it arrive together,
//! so they wake the thread once. `INFO cluster` shows which of the two Redis is.

use super::channels::{Channel, PARTITIONS, by_partition};
use futures_util::future::try_join_all;
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionInfo, Pipeline, ProtocolVersion, RedisError};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A connection must be made within this time, and each statement on it be answered.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same for one server of a Redis Cluster: without it the others can be used.
const SERVER_PATIENCE: Duration = Duration::from_secs(1);
/// The connection to a Redis Cluster must be made within this time. It waits twice for servers that do not answer: for
/// the addresses, and for those that the first one names.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(5);

/// A message for a channel.
pub(super) type Outgoing = (Channel, Vec<u8>);

/// A connection; clones share it.
#[derive(Clone)]
pub(super) enum RedisConnection {
    /// To one server.
    Alone(MultiplexedConnection),
    /// To a Redis Cluster, whose channels are sharded.
    Cluster(ClusterConnection),
}

impl RedisConnection {
    /// Connects to the first address that answers. `receive` gets whatever arrives on the channels, and must not wait.
    ///
    /// # Errors
    /// What the last address answered.
    pub(super) async fn open(addresses: &[ConnectionInfo], receive: Arc<dyn AsyncPushSender>) -> Result<Self, String> {
        let mut last = "no address is configured".to_owned();
        for (index, address) in addresses.iter().enumerate() {
            match is_of_cluster(address).await {
                Ok(true) => return Self::open_cluster(addresses, receive).await,
                Ok(false) if index == 0 => return Self::open_alone(address, receive).await,
                Ok(false) => {
                    last = format!("{} is not of a Redis Cluster: take it out of cluster.redis_seeds", address.addr());
                }
                Err(error) => last = format!("{}: {error}", address.addr()),
            }
        }
        Err(last)
    }

    async fn open_alone(address: &ConnectionInfo, receive: Arc<dyn AsyncPushSender>) -> Result<Self, String> {
        let settings = address.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(address.clone().set_redis_settings(settings)).map_err(|error| error.to_string())?;
        let config = settings_of_connection().set_push_sender(receive);
        Ok(Self::Alone(in_time(client.get_multiplexed_async_connection_with_config(&config)).await?))
    }

    async fn open_cluster(addresses: &[ConnectionInfo], receive: Arc<dyn AsyncPushSender>) -> Result<Self, String> {
        let client = ClusterClientBuilder::new(addresses.iter().cloned())
            .use_protocol(ProtocolVersion::RESP3)
            .connection_timeout(SERVER_PATIENCE)
            .response_timeout(PATIENCE)
            .push_sender(receive)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self::Cluster(within(CLUSTER_PATIENCE, client.get_async_connection()).await?))
    }

    /// The partitions through which heartbeats go: each may be on a server of its own.
    pub(super) fn partitions(&self) -> usize {
        match self {
            Self::Alone(_) => 1,
            Self::Cluster(_) => PARTITIONS,
        }
    }

    /// Subscribes to channels.
    ///
    /// # Errors
    /// Redis did not accept all of them in time.
    pub(super) async fn subscribe(&self, channels: impl Iterator<Item = Channel>) -> Result<(), String> {
        self.change(true, channels).await
    }

    /// Leaves channels.
    ///
    /// # Errors
    /// As [`Self::subscribe`].
    pub(super) async fn unsubscribe(&self, channels: impl Iterator<Item = Channel>) -> Result<(), String> {
        self.change(false, channels).await
    }

    /// Joins channels, or leaves them.
    async fn change(&self, joins: bool, channels: impl Iterator<Item = Channel>) -> Result<(), String> {
        match self {
            Self::Alone(connection) => {
                let names: Vec<String> = channels.map(|channel| channel.name).collect();
                let mut connection = connection.clone();
                if joins {
                    in_time(connection.subscribe(names)).await
                } else {
                    in_time(connection.unsubscribe(names)).await
                }
            }
            Self::Cluster(connection) => {
                let each = by_partition(channels).into_iter().map(|names| {
                    let mut connection = connection.clone();
                    async move {
                        if joins { connection.ssubscribe(names).await } else { connection.sunsubscribe(names).await }
                    }
                });
                in_time(try_join_all(each)).await.map(drop)
            }
        }
    }

    /// Publishes messages, those of one channel in their order.
    ///
    /// # Errors
    /// Redis did not take all of them in time.
    pub(super) async fn publish(&self, messages: Vec<Outgoing>) -> Result<(), String> {
        match self {
            Self::Alone(connection) => {
                let mut batch = Pipeline::with_capacity(messages.len());
                for (channel, message) in messages {
                    batch.publish(channel.name, message).ignore();
                }
                in_time(batch.query_async::<()>(&mut connection.clone())).await
            }
            Self::Cluster(connection) => {
                let mut batches: Vec<Option<Pipeline>> = vec![None; PARTITIONS];
                for (channel, message) in messages {
                    batches[channel.partition].get_or_insert_default().spublish(channel.name, message).ignore();
                }
                let each = batches.into_iter().flatten().map(|batch| {
                    let mut connection = connection.clone();
                    async move { batch.query_async::<()>(&mut connection).await }
                });
                in_time(try_join_all(each)).await.map(drop)
            }
        }
    }
}

fn settings_of_connection() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(PATIENCE)).set_response_timeout(Some(PATIENCE))
}

/// Whether the server is of a Redis Cluster.
async fn is_of_cluster(address: &ConnectionInfo) -> Result<bool, String> {
    let client = Client::open(address.clone()).map_err(|error| error.to_string())?;
    let mut connection =
        in_time(client.get_multiplexed_async_connection_with_config(&settings_of_connection())).await?;
    let about: String = in_time(redis::cmd("INFO").arg("cluster").query_async(&mut connection)).await?;
    Ok(about.lines().any(|line| line.trim() == "cluster_enabled:1"))
}

async fn in_time<T>(asked: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
    within(PATIENCE, asked).await
}

async fn within<T>(patience: Duration, asked: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
    match timeout(patience, asked).await {
        Ok(answered) => answered.map_err(|error| error.to_string()),
        Err(_) => Err(format!("Redis did not answer within {patience:?}")),
    }
}
