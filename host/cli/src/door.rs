//! The listening socket, and how it is closed.
//!
//! Guarantees, on Linux, that a stop is seen by a client as a refused connection or not at all: whose connection stands is
//! let in and answered. A socket that is simply closed resets those who wait in its queue, and a server that is told to
//! end closes connections whose first request it has not read yet.
//!
//! After the signal, `/readyz` says 503 for [`TURN_AWAY`], so that balancers turn away; what comes all the same is served.
//! Then new handshakes stay without an answer (the client repeats them after a second, and is refused), those under way
//! end, the queue is emptied, the socket closed, and the last one let in has [`FIRST_REQUEST`] to say what it wants.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    serve::Listener,
};
use socket2::{SockFilter, SockRef};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{oneshot, watch},
};
use wharf_api::Problem;

/// How long a host that stops still takes on connections. Balancers ask every second or less often; one that comes too late
/// is refused the connection, and goes to another host.
const TURN_AWAY: Duration = Duration::from_secs(1);
/// Nobody came for so long after new handshakes were turned away: the queue is empty.
const QUIET: Duration = Duration::from_millis(200);
/// The queue is emptied for so long at most, where the system does not turn away.
const LONGEST: Duration = Duration::from_secs(2);
/// Who was let in last has so long for its first request.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// The socket.
pub struct Door {
    /// None: closed.
    listener: Option<TcpListener>,
    stop: watch::Receiver<bool>,
    /// When new connections are turned away.
    until: Option<Instant>,
    turned_away: bool,
    last: Option<Instant>,
    closed: Option<oneshot::Sender<Option<Instant>>>,
}

/// Told when the socket is closed.
pub struct Shut(oneshot::Receiver<Option<Instant>>);

impl Door {
    /// `stop` becomes true when it is to be closed.
    pub fn new(listener: TcpListener, stop: watch::Receiver<bool>) -> (Self, Shut) {
        let (closed, shut) = oneshot::channel();
        let door =
            Self { listener: Some(listener), stop, until: None, turned_away: false, last: None, closed: Some(closed) };
        (door, Shut(shut))
    }
}

impl Shut {
    /// Until the socket is closed and everybody who was let in had time for a first request.
    pub async fn wait(self) {
        if let Ok(Some(last)) = self.0.await {
            tokio::time::sleep(FIRST_REQUEST.saturating_sub(last.elapsed())).await;
        }
    }
}

impl Listener for Door {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            let now = Instant::now();
            let Some(listener) = &mut self.listener else { return std::future::pending().await };
            let patience = match self.until {
                None if *self.stop.borrow() => {
                    self.until = Some(now + TURN_AWAY);
                    TURN_AWAY
                }
                None => {
                    tokio::select! {
                        came = Listener::accept(listener) => return came,
                        changed = self.stop.changed() => if changed.is_err() { self.until = Some(now) },
                    }
                    continue;
                }
                Some(until) if now < until => until - now,
                Some(until) => {
                    if !self.turned_away {
                        self.turned_away = true;
                        if let Err(error) = turn_away(listener) {
                            tracing::debug!(%error, "new connections can't be turned away before the socket is closed");
                        }
                    }
                    QUIET.min((until + LONGEST).saturating_duration_since(now))
                }
            };
            if let Ok(came) = tokio::time::timeout(patience, Listener::accept(listener)).await {
                self.last = Some(Instant::now());
                return came;
            }
            if self.turned_away {
                self.listener = None;
                if let Some(closed) = self.closed.take() {
                    let _ = closed.send(self.last);
                }
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.listener.as_ref().ok_or_else(|| std::io::Error::other("closed"))?.local_addr()
    }
}

/// Drops segments that would begin a connection (SYN is the second bit of byte 13 of the header), and no others.
/// <https://www.kernel.org/doc/html/latest/networking/filter.html>
fn turn_away(listener: &TcpListener) -> std::io::Result<()> {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_SET: u16 = 0x45;
    const RETURN: u16 = 0x06;
    SockRef::from(listener).attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, 13),
        SockFilter::new(JUMP_IF_SET, 0, 1, 0x02),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// While the host stops: it is not ready, and each connection ends with its answer.
pub fn turning_away(api: Router, stop: watch::Receiver<bool>) -> Router {
    api.layer(from_fn(move |request: Request, next: Next| {
        let stop = stop.clone();
        async move {
            let ready = request.uri().path() == "/readyz";
            let mut answer = if *stop.borrow() && ready { stopping() } else { next.run(request).await };
            if *stop.borrow() {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        }
    }))
}

fn stopping() -> Response {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "this host is being stopped: ask another").into_response()
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    };

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Asks once, over a connection of its own. An error: refused before there was a connection.
    async fn ask(at: SocketAddr, path: &str, think: Duration) -> Result<String, String> {
        let Ok(mut stream) = TcpStream::connect(at).await else { return Err("refused".into()) };
        tokio::time::sleep(think).await;
        let mut text = String::new();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|e| format!("thrown out: {e}"))?;
        let mut buffer = [0; 1024];
        while !text.contains("\r\n\r\n") {
            let n = stream.read(&mut buffer).await.map_err(|e| format!("thrown out: {e}"))?;
            if n == 0 {
                return Err(format!("thrown out after {text:?}"));
            }
            text.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        Ok(text)
    }

    async fn open() -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<std::io::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let (door, shut) = Door::new(listener, stopped.clone());
        let api = Router::new().route("/", get(async || "here")).route("/readyz", get(async || "ready"));
        let serving = axum::serve(door, turning_away(api, stopped)).with_graceful_shutdown(shut.wait());
        (at, stop, tokio::spawn(async move { serving.await }))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_was_let_in_is_answered_and_the_rest_is_refused() {
        let (at, stop, served) = open().await;
        let over = Arc::new(AtomicBool::new(false));
        let (answered, refused) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let mut clients = Vec::new();
        for n in 0..8 {
            let (over, answered, refused) = (Arc::clone(&over), Arc::clone(&answered), Arc::clone(&refused));
            clients.push(tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    // Some are slow to say what they want.
                    match ask(at, "/", Duration::from_millis(n * 30)).await {
                        Ok(text) => {
                            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(why) => {
                            assert_eq!(why, "refused");
                            refused.fetch_add(1, Ordering::Relaxed);
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                }
            }));
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        stop.send_replace(true);
        served.await.unwrap().unwrap();
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.await.unwrap();
        }
        assert!(answered.load(Ordering::Relaxed) > 0);
        assert_eq!(ask(at, "/", Duration::ZERO).await, Err("refused".into()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_host_that_stops_says_so_to_balancers_before_it_refuses_anybody() {
        let (at, stop, served) = open().await;
        assert!(ask(at, "/readyz", Duration::ZERO).await.unwrap().starts_with("HTTP/1.1 200"));
        stop.send_replace(true);
        let told = ask(at, "/readyz", Duration::ZERO).await.unwrap();
        assert!(told.starts_with("HTTP/1.1 503") && told.contains("connection: close"), "{told}");
        let served_still = ask(at, "/", Duration::ZERO).await.unwrap();
        assert!(served_still.starts_with("HTTP/1.1 200") && served_still.contains("connection: close"));
        served.await.unwrap().unwrap();
    }
}
