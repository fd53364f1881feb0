//! One request over one connection, to an address that was checked.
//!
//! The phases are told apart: until the request is handed to a connection that stands, it is surely not sent; from then on
//! it may have been. Each request has a connection of its own, so no address is ever reached that was not just checked. No
//! proxy, no redirect, no cookie, HTTP/1.1 only. Bounded by the request's own deadline and the largest answer.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tokio_rustls::TlsConnector;
use url::{Position, Url};

/// Addresses of one name that are tried, one after the other.
const TRIES: usize = 4;
/// Least time that one of several addresses gets.
const LEAST_TRY: Duration = Duration::from_millis(250);
const MAX_HEADERS: usize = 200;

/// A request that passed every check, its secrets put in.
#[derive(Clone)]
pub struct Prepared {
    pub method: Method,
    pub url: Url,
    /// Checked. Nothing else may be connected to.
    pub addresses: Vec<SocketAddr>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// From connect to the last byte.
    pub timeout: Duration,
    /// Bytes of the largest answer.
    pub max_reply: usize,
}

impl fmt::Debug for Prepared {
    /// Neither headers nor body: they hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("method", &self.method)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

/// What came back, as the peer sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Lost {
    /// False = the peer has surely not seen the request.
    pub maybe_sent: bool,
    /// One of the codes of `wit/deps/http/http.wit`.
    pub code: &'static str,
    pub message: String,
}

impl Lost {
    fn before(code: &'static str, message: impl Into<String>) -> Self {
        Self { maybe_sent: false, code, message: message.into() }
    }

    fn after(code: &'static str, message: impl Into<String>) -> Self {
        Self { maybe_sent: true, code, message: message.into() }
    }
}

/// How prepared requests are sent. Tests and simulations answer in process.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    async fn send(&self, request: Prepared) -> Result<Answer, Lost>;
}

/// Names to addresses.
#[async_trait]
pub trait Resolver: Send + Sync + 'static {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((host, 0)).await?.map(|a| a.ip()).collect())
    }
}

/// The real network.
#[derive(Default)]
pub struct Network {
    tls: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Network {
    /// With trust of one's own in place of the system's roots.
    pub fn with_tls(config: Arc<ClientConfig>) -> Self {
        Self { tls: OnceLock::from(Ok(config)) }
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, Lost> {
        let made = self.tls.get_or_init(|| {
            use rustls_platform_verifier::BuilderVerifierExt;
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .and_then(BuilderVerifierExt::with_platform_verifier)
                .map(|builder| Arc::new(builder.with_no_client_auth()))
                .map_err(|error| error.to_string())
        });
        made.clone()
            .map_err(|why| Lost::before("tls", format!("this machine's root certificates can't be used: {why}")))
    }
}

#[async_trait]
impl Transport for Network {
    async fn send(&self, request: Prepared) -> Result<Answer, Lost> {
        let deadline = Instant::now() + request.timeout;
        let stream = connect(&request.addresses, deadline).await?;
        if request.url.scheme() != "https" {
            return exchange(stream, request, deadline).await;
        }
        let host = request.url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| Lost::before("tls", format!("`{host}` can't stand in a certificate")))?;
        let connector = TlsConnector::from(self.tls()?);
        let stream = match timeout_at(deadline, connector.connect(name, stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(Lost::before("tls", format!("no trusted connection to {host}: {error}"))),
            Err(_) => return Err(Lost::before("timeout", format!("{host} did not finish the TLS handshake in time"))),
        };
        exchange(stream, request, deadline).await
    }
}

async fn connect(addresses: &[SocketAddr], deadline: Instant) -> Result<TcpStream, Lost> {
    let mut last = Lost::before("resolve", "the name has no address");
    let count = addresses.len().min(TRIES);
    for (n, address) in addresses.iter().take(TRIES).enumerate() {
        let now = Instant::now();
        if now >= deadline {
            return Err(Lost::before("timeout", "no connection was made in time"));
        }
        let rest = deadline - now;
        // The last one may use all that is left.
        let share = u32::try_from(count - n).map_or(rest, |left| (rest / left).max(LEAST_TRY));
        last = match timeout_at((now + share).min(deadline), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Only costs speed.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => Lost::before("connect", format!("no connection to {address}: {error}")),
            Err(_) => Lost::before("timeout", format!("{address} did not accept a connection in time")),
        };
    }
    Err(last)
}

async fn exchange<S>(stream: S, request: Prepared, deadline: Instant) -> Result<Answer, Lost>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let max = request.max_reply;
    let target = &request.url[Position::BeforePath..Position::AfterQuery];
    let mut outgoing = Request::builder()
        .method(request.method.clone())
        .uri(target)
        .body(Full::new(request.body.clone()))
        .map_err(|error| Lost::before("malformed", format!("the request can't be written: {error}")))?;
    *outgoing.headers_mut() = request.headers.clone();
    let host = request.url[Position::BeforeHost..Position::AfterPort].parse();
    outgoing.headers_mut().insert(
        header::HOST,
        host.map_err(|_| Lost::before("malformed", "the host of the URL can't stand in a header"))?,
    );

    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| {
            Lost::before("broken", format!("the connection broke before the request was sent: {error}"))
        })?;
    // Ends with this call, whatever becomes of it.
    let mut driver = JoinSet::new();
    driver.spawn(connection);

    let answered = timeout_at(deadline, async {
        let reply = sender.try_send_request(outgoing).await.map_err(|mut error| {
            // The request comes back only if not one byte of it was written.
            let sent = error.take_message().is_none();
            let why = describe(error.error());
            if sent {
                Lost::after("broken", format!("the connection broke before an answer came: {why}"))
            } else {
                Lost::before("broken", format!("the connection broke before the request was sent: {why}"))
            }
        })?;
        let (head, body) = reply.into_parts();
        let too_large = || Lost::after("too-large", format!("the answer has more than {max} bytes"));
        let body = Limited::new(body, max).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                return too_large();
            }
            Lost::after("broken", format!("the connection broke within the answer: {error}"))
        })?;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
            body: body.to_bytes().to_vec(),
        })
    });
    answered.await.unwrap_or_else(|_| Err(Lost::after("timeout", "no whole answer came in time")))
}

/// With the cause, which hyper leaves out of its own text.
fn describe(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
