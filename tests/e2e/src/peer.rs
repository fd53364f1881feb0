//! A peer: a child process that says where it listens, and is killed when it is dropped.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// A running process.
#[derive(Debug)]
pub struct Peer {
    pub name: String,
    /// Where it listens: `http://127.0.0.1:port`.
    pub url: String,
    child: Child,
}

impl Peer {
    /// Starts `command`, sends its error output to `log`, and waits for a line of JSON with `listening` on its output.
    pub async fn start(name: &str, mut command: Command, log: &Path, patience: Duration) -> Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        command.stdout(Stdio::piped()).stderr(file).stdin(Stdio::null()).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("can't start {name}"))?;
        let out = child.stdout.take().context("no output")?;
        let mut lines = BufReader::new(out).lines();
        let found = tokio::time::timeout(patience, async {
            while let Some(line) = lines.next_line().await? {
                if let Ok(value) = serde_json::from_str::<serde_json::Value>(&line)
                    && let Some(url) = value.get("listening").and_then(|v| v.as_str())
                {
                    return Ok::<_, anyhow::Error>(Some(url.to_owned()));
                }
            }
            Ok(None)
        })
        .await;
        let url = match found {
            Ok(Ok(Some(url))) => url,
            Ok(Ok(None)) => bail!("{name} ended before it listened; its log: {}", tail(log)),
            Ok(Err(error)) => return Err(error.context(format!("reading from {name}"))),
            Err(_) => bail!("{name} did not say where it listens within {patience:?}; its log: {}", tail(log)),
        };
        // Whatever it says later must not block it.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { name: name.to_owned(), url, child })
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("can't kill {}", self.name))
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(mut self, patience: Duration) -> Result<()> {
        self.signal(libc::SIGTERM)?;
        match tokio::time::timeout(patience, self.child.wait()).await {
            Ok(ended) => {
                ended?;
                Ok(())
            }
            Err(_) => {
                self.child.kill().await?;
                bail!("{} did not stop within {patience:?}", self.name)
            }
        }
    }

    /// SIGSTOP: it does nothing, and what it holds stays held.
    pub fn freeze(&self) -> Result<()> {
        self.signal(libc::SIGSTOP)
    }

    /// SIGCONT: it goes on as if no time had passed.
    pub fn thaw(&self) -> Result<()> {
        self.signal(libc::SIGCONT)
    }

    /// SIGSTOP, SIGCONT, …
    #[allow(
        unsafe_code,
        reason = "kill(2) on a child of ours that has not been waited for, so the id can't be another's"
    )]
    pub fn signal(&self, signal: i32) -> Result<()> {
        let pid = self.child.id().context("it has ended already")?;
        // SAFETY: no memory is touched.
        let answer = unsafe { libc::kill(i32::try_from(pid)?, signal) };
        if answer == 0 { Ok(()) } else { Err(std::io::Error::last_os_error().into()) }
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

/// The last lines of a log, for messages.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(15)).fold(String::new(), |all, line| format!("{all}\n  {line}"))
}

/// A port that was free a moment ago, for both UDP and TCP.
pub fn free_port() -> Result<u16> {
    for _ in 0..50 {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0")?;
        let port = tcp.local_addr()?.port();
        if std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free for both TCP and UDP")
}
