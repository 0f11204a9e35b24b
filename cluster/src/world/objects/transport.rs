//! HTTP for object stores: hyper's client with rustls, ring and the certificates that this machine trusts.
//!
//! A transport of our own, because the one that object_store brings has its TLS from reqwest, which either adds a second
//! crypto provider or makes every client of the process depend on the machine's certificates. It follows no redirects, uses
//! no proxy, and bounds what it reads of answers that object_store takes into memory whole.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody, HttpResponse,
    HttpResponseBody, HttpService,
};
use rustls::{ClientConfig, RootCertStore};

/// How long a connection may take to be made, TLS not counted.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// Connections that nobody uses are closed after this long, before a store does it in the middle of a request.
const IDLE_MAX: Duration = Duration::from_secs(20);
/// Connections kept for each store.
const IDLE_CONNECTIONS_MAX: usize = 8;
/// Of an answer that is no range of an object: a page of a listing, a token, an error. A page of a thousand long names is
/// about a megabyte.
const ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Makes clients. All trust the same certificates.
#[derive(Debug)]
pub struct Transport {
    tls: ClientConfig,
}

impl Transport {
    /// Reads which certificates this machine trusts.
    ///
    /// # Errors
    /// Where TLS cannot be had at all.
    pub fn new() -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        // Some machines keep broken ones among the good ones; what can be read is trusted.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let tls = tls.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls })
    }
}

impl HttpConnector for Transport {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_PATIENCE));
        let plain = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|said| said == "true");
        let tls = HttpsConnectorBuilder::new().with_tls_config(self.tls.clone());
        let tls = if plain { tls.https_or_http() } else { tls.https_only() };
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(tls.enable_http1().wrap_connector(tcp));
        Ok(HttpClient::new(Hyper { client }))
    }
}

#[derive(Debug)]
struct Hyper {
    client: Client<HttpsConnector<Tcp>, HttpRequestBody>,
}

#[async_trait::async_trait]
impl HttpService for Hyper {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let asks_for_range = request.headers().contains_key("range");
        let answer = self.client.request(request).await.map_err(|error| {
            // An object is put whole and by its content, so that any request may be made again.
            let kind = if error.is_connect() { HttpErrorKind::Connect } else { HttpErrorKind::Interrupted };
            HttpError::new_boxed(kind, chain(&error).into())
        })?;
        let (head, body) = answer.into_parts();
        // Whoever asks for a range counts what comes; all else is taken into memory.
        let bytes_max = if asks_for_range && head.status.is_success() { usize::MAX } else { ANSWER_BYTES_MAX };
        let body = Limited::new(body, bytes_max)
            .map_err(|error| HttpError::new_boxed(HttpErrorKind::Interrupted, chain(error.as_ref()).into()));
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

/// An error with what caused it: hyper's outermost words are only that something went wrong.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause: &&(dyn StdError + 'static)| (*cause).source());
    causes.fold(error.to_string(), |words, cause| format!("{words}: {cause}"))
}
