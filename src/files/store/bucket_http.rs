//! HTTP to a bucket: the same hyper and rustls as in the rest of the server. `object_store` would bring another client
//! and another implementation of cryptography.
//!
//! Invariant: a request that the bucket does not answer ends after [`ANSWER_TIME_MAX`], and no redirect is followed.
//! Otherwise a bucket that hangs would hold jobs and downloads, and signed requests could go to another host. Readers
//! of bodies bound the pauses themselves.

use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector as Connect, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use std::io;
use std::time::Duration;
use tokio::time::timeout;

/// How long it may take to connect.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a request may take until its answer begins: a part of 8 MiB at 140 KB/s.
const ANSWER_TIME_MAX: Duration = Duration::from_mins(1);
/// How long a connection is kept for the next request. S3 closes its side after a similar time.
const IDLE_TIME_MAX: Duration = Duration::from_secs(15);
/// Connections that are kept.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// Connections to one endpoint.
#[derive(Clone, Debug)]
pub(super) enum BucketTransport {
    Plain(Client<HttpConnector, HttpRequestBody>),
    Tls(Client<HttpsConnector<HttpConnector>, HttpRequestBody>),
}

impl BucketTransport {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// The certificates of the machine cannot be read.
    pub(super) fn new(is_plain: bool) -> io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_TIME_MAX));
        tcp.set_nodelay(true);
        tcp.enforce_http(is_plain);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIME_MAX);
        builder.pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
        Ok(if is_plain {
            Self::Plain(builder.build(tcp))
        } else {
            let tls = HttpsConnectorBuilder::new().with_native_roots()?.https_only().enable_http1().wrap_connector(tcp);
            Self::Tls(builder.build(tls))
        })
    }
}

impl Connect for BucketTransport {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

impl HttpService for BucketTransport {
    fn call<'s, 'async_trait>(
        &'s self,
        request: HttpRequest,
    ) -> BoxFuture<'async_trait, Result<HttpResponse, HttpError>>
    where
        's: 'async_trait,
        Self: 'async_trait,
    {
        let answer = match self {
            Self::Plain(client) => client.request(request),
            Self::Tls(client) => client.request(request),
        };
        Box::pin(async move {
            let late = |error| HttpError::new(HttpErrorKind::Timeout, error);
            let answer = timeout(ANSWER_TIME_MAX, answer).await.map_err(late)?.map_err(client_error)?;
            // Reads can be repeated, and object_store goes on where a body broke off.
            let broken = |error| HttpError::new(HttpErrorKind::Interrupted, error);
            Ok(answer.map(|body| HttpResponseBody::new(body.map_err(broken))))
        })
    }
}

/// Every request of the store can be repeated, so it matters only whether there was a connection.
fn client_error(error: ClientError) -> HttpError {
    let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
    HttpError::new(kind, error)
}
