//! Serves a façade, on loopback or in process, with faults and a log of what was asked.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Response as Outgoing, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

use crate::{
    facade::{Facade, Features, Request, Response, pairs},
    faults::{self, Armed, Fault, Mishap},
    model::Model,
};

/// What a request may carry: more than any provider takes.
const BODY: usize = 32 << 20;

struct Shared {
    facade: Mutex<Box<dyn Facade>>,
    model: Mutex<Model>,
    armed: Mutex<Armed>,
    log: Mutex<Vec<Asked>>,
    /// What was answered last, as it was sent.
    last: Mutex<Option<Response>>,
}

/// What was asked, and the status that was answered; none where there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    pub request: Request,
    pub status: Option<u16>,
}

/// A façade that is being served. Dropping it ends the service.
pub struct Peer {
    /// `http://127.0.0.1:port`, or what it was given in process.
    pub url: String,
    shared: Arc<Shared>,
    /// None in process.
    serving: Option<JoinHandle<()>>,
}

impl Peer {
    /// Serves on a free port of loopback.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn start(facade: Box<dyn Facade>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let url = format!("http://{}", listener.local_addr()?);
        let mut peer = Self::in_process(url, facade);
        peer.serving = Some(tokio::spawn(serve(listener, Arc::clone(&peer.shared))));
        Ok(peer)
    }

    /// Without a socket, for virtual time: it is asked by [`Peer::ask`] alone, and believed to be at this address.
    pub fn in_process(url: impl Into<String>, facade: Box<dyn Facade>) -> Self {
        let shared = Arc::new(Shared {
            facade: Mutex::new(facade),
            model: Mutex::default(),
            armed: Mutex::default(),
            log: Mutex::default(),
            last: Mutex::default(),
        });
        Self { url: url.into(), shared, serving: None }
    }

    /// Answers as it would over the network, as late as that; none = the connection is closed without an answer.
    pub async fn ask(&self, request: Request) -> Option<Response> {
        exchange(&self.shared, request).await
    }

    /// A zone of this name, with so many records of others.
    pub fn add_zone(&self, name: &str, foreign: usize) {
        held(&self.shared.facade).new_zone(&mut held(&self.shared.model), name, foreign);
    }

    /// Settings of a zone here, secrets included.
    pub fn settings(&self) -> Value {
        held(&self.shared.facade).settings(&self.url)
    }

    /// What of a zone the API can show.
    pub fn features(&self) -> Features {
        held(&self.shared.facade).features()
    }

    /// The same for the zone of this very name.
    pub fn zone_settings(&self, name: &str) -> Value {
        held(&self.shared.facade).zone_settings(&self.url, name)
    }

    pub fn model(&self) -> MutexGuard<'_, Model> {
        held(&self.shared.model)
    }

    pub fn arm(&self, fault: Fault) {
        held(&self.shared.armed).arm(fault);
    }

    pub fn clear_faults(&self) {
        held(&self.shared.armed).clear();
    }

    /// What was asked since this was called last.
    pub fn take_log(&self) -> Vec<Asked> {
        std::mem::take(&mut *held(&self.shared.log))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task: connections end with their peer.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |incoming| answer(Arc::clone(&shared), incoming));
            // Ends in an error where a connection was to be lost.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Nothing is answered and the connection is closed.
#[derive(Debug)]
struct Lost;

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is closed on purpose")
    }
}

impl std::error::Error for Lost {}

async fn answer(shared: Arc<Shared>, incoming: hyper::Request<Incoming>) -> Result<Outgoing<Full<Bytes>>, Lost> {
    let Some(request) = read(incoming).await else {
        return Ok(outgoing(Response::text(413, "text/plain", "more than a request may carry")));
    };
    exchange(&shared, request).await.map(outgoing).ok_or(Lost)
}

/// None = no answer.
async fn exchange(shared: &Shared, mut request: Request) -> Option<Response> {
    request.is_write = Some(held(&shared.facade).is_write(&request));
    let mishap = held(&shared.armed).strike(&request);
    let pause = held(&shared.facade).pause(&request);
    let last = matches!(mishap, Some(Mishap::Repeated)).then(|| held(&shared.last).clone()).flatten();
    let answered = last
        .or_else(|| faults::answer(mishap.as_ref(), held(&shared.facade).as_mut(), &mut held(&shared.model), &request));
    if answered.is_some() {
        held(&shared.last).clone_from(&answered);
    }
    held(&shared.log).push(Asked { request, status: answered.as_ref().map(|a| a.status) });
    let late = if let Some(Mishap::Delay(how_long)) = mishap { how_long } else { Duration::ZERO };
    // No pause, no turn through the timer.
    if !(pause + late).is_zero() {
        tokio::time::sleep(pause + late).await;
    }
    answered
}

async fn read(incoming: hyper::Request<Incoming>) -> Option<Request> {
    let (head, body) = incoming.into_parts();
    let body = Limited::new(body, BODY).collect().await.ok()?.to_bytes().to_vec();
    let headers =
        head.headers.iter().map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned()));
    Some(Request {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: pairs(head.uri.query().unwrap_or_default()),
        headers: headers.collect(),
        body,
        is_write: None,
    })
}

fn outgoing(response: Response) -> Outgoing<Full<Bytes>> {
    let mut out = Outgoing::new(Full::new(Bytes::from(response.body)));
    *out.status_mut() = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in response.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            out.headers_mut().append(name, value);
        }
    }
    out
}
