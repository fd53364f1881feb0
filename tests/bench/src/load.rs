//! An open-loop load generator: requests leave when their time has come, whether or not earlier ones were answered, and each
//! is counted from the moment it *should* have left. A server that stalls is charged for everybody who had to wait meanwhile
//! (no coordinated omission).
//!
//! Keep-alive connections, as a reverse proxy before the host holds them; a request waits for one only when all are in use,
//! and that wait counts too. Requests are signed before the run, so that the generator takes little of the CPU that it shares
//! with the host.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, mpsc},
};
use wharf_e2e::whmcs::sign;

/// Connections held open.
const CONNECTIONS: usize = 128;

/// What became of one request.
#[derive(Debug, Clone)]
pub struct Answer {
    /// From when it should have left.
    pub took: Duration,
    /// From when it really left.
    pub served: Duration,
    /// 0 = no answer.
    pub status: u16,
    pub body: String,
}

impl Answer {
    pub fn accepted(&self) -> bool {
        self.status == 200 && self.body.trim() == "success"
    }
}

/// The bytes of a signed hook.
pub fn hook(addr: SocketAddr, secret: &str, verb: &str, params: &Value) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(params)?;
    let id = format!("msg_{:032x}", rand::random::<u128>());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs().to_string();
    let signature = sign(secret, &id, &now, &body)?;
    let mut request = format!(
        "POST /hooks/shop/{verb} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\nwebhook-id: {id}\r\n\
         webhook-timestamp: {now}\r\nwebhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    Ok(request)
}

/// Sends `requests`, one every `1 / rate` seconds, and returns their answers in the same order.
pub async fn fire(addr: SocketAddr, requests: Vec<Vec<u8>>, rate: u32) -> Result<Vec<Answer>> {
    let count = requests.len();
    let (due, waiting) = mpsc::unbounded_channel::<(usize, Instant, Vec<u8>)>();
    let waiting = Arc::new(Mutex::new(waiting));
    let (told, mut answers) = mpsc::unbounded_channel();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS.min(count) {
        let (waiting, told) = (Arc::clone(&waiting), told.clone());
        let stream = connect(addr).await?;
        workers.spawn(async move {
            let mut stream = Some(stream);
            loop {
                let next = waiting.lock().await.recv().await;
                let Some((n, intended, request)) = next else { break };
                let left = Instant::now();
                let result = async {
                    let mut open = match stream.take() {
                        Some(open) => open,
                        None => connect(addr).await?,
                    };
                    let answer = exchange(&mut open, &request).await?;
                    stream = Some(open);
                    Ok::<_, anyhow::Error>(answer)
                }
                .await;
                let (took, served) = (intended.elapsed(), left.elapsed());
                let (status, body) = result.unwrap_or_else(|error| (0, format!("{error:#}")));
                let _ = told.send((n, Answer { took, served, status, body }));
            }
        });
    }
    drop(told);
    // A thread of its own: the timers of the async runtime have a grain of a millisecond.
    let pace = std::thread::spawn(move || {
        let begun = Instant::now() + Duration::from_millis(50);
        for (n, request) in (0_u32..).zip(requests) {
            let intended = begun + Duration::from_secs(1) * n / rate;
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            if due.send((n as usize, intended, request)).is_err() {
                break;
            }
        }
    });
    let mut all: Vec<Option<Answer>> = vec![None; count];
    while let Some((n, answer)) = answers.recv().await {
        if let Some(place) = all.get_mut(n) {
            *place = Some(answer);
        }
    }
    let _ = pace.join();
    all.into_iter().collect::<Option<Vec<_>>>().context("a request was lost in the generator")
}

async fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request and its answer on a keep-alive connection.
async fn exchange(stream: &mut TcpStream, request: &[u8]) -> Result<(u16, String)> {
    stream.write_all(request).await?;
    let mut got = Vec::with_capacity(1_024);
    loop {
        if let Some((status, from, length)) = head(&got)? {
            while got.len() < from + length {
                if stream.read_buf(&mut got).await? == 0 {
                    bail!("the answer ended early");
                }
            }
            let body = got.get(from..from + length).unwrap_or_default();
            return Ok((status, String::from_utf8_lossy(body).into_owned()));
        }
        if stream.read_buf(&mut got).await? == 0 {
            bail!("the connection was closed");
        }
    }
}

/// Status, where the body begins, and its length; none until the head is whole.
fn head(got: &[u8]) -> Result<Option<(u16, usize, usize)>> {
    let Some(end) = got.windows(4).position(|w| w == b"\r\n\r\n") else { return Ok(None) };
    let text = String::from_utf8_lossy(got.get(..end).unwrap_or_default()).to_ascii_lowercase();
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).context("no status")?;
    let length = text.lines().find_map(|l| l.strip_prefix("content-length:")).context("no content-length")?;
    Ok(Some((status, end + 4, length.trim().parse()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_behind_a_stall_is_counted_from_when_it_should_have_left() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        // One connection at a time, and the first answer takes 300 ms.
        std::thread::spawn(move || {
            use std::io::{Read, Write};
            let mut connections: Vec<_> = (0..4).map(|_| listener.accept().unwrap().0).collect();
            std::thread::sleep(Duration::from_millis(300));
            for connection in &mut connections {
                let mut buffer = [0; 1_024];
                let _ = connection.read(&mut buffer).unwrap();
                connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsuccess").unwrap();
            }
        });
        let answers = fire(addr, vec![b"POST / HTTP/1.1\r\n\r\n".to_vec(); 4], 100).await.unwrap();
        assert!(answers.iter().all(Answer::accepted));
        let (first, last) = (answers[0].took, answers[3].took);
        // 10 ms later each, so that much less was waited for.
        assert!(first > last && first - last > Duration::from_millis(15), "{first:?} {last:?}");
    }
}
