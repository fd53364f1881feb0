//! The simulator over TCP: HTTP/1.1 as pveproxy speaks it.
//!
//! Idle connections end after 5 s, every connection after 100 requests and after an error; a lost answer is a broken
//! connection without a byte.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tower::ServiceExt;

use crate::http::LOST_HEADER;
use crate::sim::Sim;

/// Keep-alive of an idle connection.
const IDLE: Duration = Duration::from_secs(5);
/// Requests over one connection.
const MAX_REQUESTS: u32 = 100;

#[derive(Debug, thiserror::Error)]
#[error("the answer is lost on purpose")]
struct Lost;

impl Sim {
    /// Serves until `stop` is ready. Open connections are then ended.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let stream = tokio::select! {
                () = &mut stop => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(e) => {
                        tracing::warn!(error = %e, "could not accept a connection");
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                },
                Some(_) = connections.join_next() => continue,
            };
            let _ = stream.set_nodelay(true);
            let router = self.router();
            let count = Arc::new(AtomicU32::new(0));
            connections.spawn(async move {
                let service = service_fn(move |request: Request<Incoming>| {
                    let (router, count) = (router.clone(), count.clone());
                    async move {
                        let answer: Result<Response<Body>, Infallible> = router.oneshot(request.map(Body::new)).await;
                        let Ok(mut response) = answer;
                        if response.headers().contains_key(LOST_HEADER) {
                            return Err(Lost);
                        }
                        if count.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_REQUESTS {
                            response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
                        }
                        Ok(response)
                    }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(IDLE)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(e) = served {
                    tracing::debug!(error = %e, "connection ended");
                }
            });
        }
        connections.shutdown().await;
    }
}
