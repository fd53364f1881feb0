//! A real PostgreSQL server that belongs to a test: in a folder of its own, on a free port of the loopback, gone with the
//! test, even if that is killed.
//!
//! Uses the programs on the PATH or where Debian puts them (`/usr/lib/postgresql/<version>/bin`). The server refuses to run
//! as root, so a test that does so runs it as `nobody`. `fsync` is off unless asked for: what a killed server had handed to
//! the kernel is there all the same, and only a power cut, which no test makes, would tell the difference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "for tests: what fails here fails the test")]

use std::{
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a start may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// The server. Dropping it ends it.
#[derive(Debug)]
pub struct Server {
    folder: tempfile::TempDir,
    bin: PathBuf,
    port: u16,
    child: Option<Child>,
}

/// How a server is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Connections are cut, what was committed is written out.
    Fast,
    /// As a crash: it recovers from its log at the next start.
    Crash,
}

impl Server {
    /// A new, empty server that answers.
    pub fn start() -> Self {
        let bin = programs();
        let folder = tempfile::Builder::new().prefix("wharf-postgres-").tempdir().unwrap();
        if is_root() {
            let done = Command::new("chown").arg("nobody").arg(folder.path()).status().unwrap();
            assert!(done.success(), "can't give the folder of the server to nobody");
        }
        let made = as_other(&bin.join("initdb"))
            .current_dir(folder.path())
            .args(["-D", "data", "-U", "wharf", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"])
            .output()
            .unwrap();
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self { folder, bin, port, child: None };
        server.run();
        server
    }

    /// Starts it again, on the same port, after [`Server::stop`].
    pub fn run(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log = self.folder.path().join("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let child = as_other(&self.bin.join("postgres"))
            .current_dir(self.folder.path())
            .args(["-D", "data", "-p", &self.port.to_string(), "-k", "", "-h", "127.0.0.1"])
            .args(["-c", "fsync=off", "-c", "max_connections=200", "-c", "log_min_messages=warning"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let begun = Instant::now();
        while !self.answers() {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "PostgreSQL does not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it, and returns when it has ended.
    pub fn stop(&mut self, how: How) {
        let Some(mut child) = self.child.take() else { return };
        // https://www.postgresql.org/docs/current/server-shutdown.html
        let signal = match how {
            How::Fast => "INT",
            How::Crash => "QUIT",
        };
        let _ = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begun.elapsed() > PATIENCE {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// The address of a database on it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://wharf@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes a database, empty or as a copy of another that nobody is connected to; returns its address.
    pub fn database(&self, name: &str, template: Option<&str>) -> String {
        let from = template.map(|t| format!(" TEMPLATE {t} STRATEGY FILE_COPY")).unwrap_or_default();
        self.sql("postgres", &format!("CREATE DATABASE {name}{from}"));
        self.url(name)
    }

    /// Runs a statement as an admin would, with `psql`; returns what it printed.
    pub fn sql(&self, database: &str, statement: &str) -> String {
        let psql = self.bin.join("psql");
        let psql = if psql.exists() { psql } else { PathBuf::from("psql") };
        let done = Command::new(psql)
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", &self.url(database), "-c", statement])
            .output()
            .unwrap();
        assert!(done.status.success(), "{statement}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    /// What the server itself has complained about.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A server that is starting or recovering accepts connections and refuses to work: only a statement tells.
    fn answers(&self) -> bool {
        if TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            return false;
        }
        let ready = self.bin.join("pg_isready");
        let ready = if ready.exists() { ready } else { PathBuf::from("pg_isready") };
        let port = self.port.to_string();
        Command::new(ready).args(["-q", "-h", "127.0.0.1", "-p", &port]).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop(How::Crash);
    }
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0)
}

/// A command that the server's user runs, and that ends with this process, however that ends.
fn as_other(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    }
    command.args(["--pdeathsig", "QUIT"]).arg(program);
    command
}

fn programs() -> PathBuf {
    let on_path = std::env::var_os("PATH").into_iter().flat_map(|p| std::env::split_paths(&p).collect::<Vec<_>>());
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .map(|versions| versions.flatten().map(|v| v.path().join("bin")).collect())
        .unwrap_or_default();
    // The newest first.
    debian.sort();
    debian.reverse();
    on_path
        .chain(debian)
        .find(|dir| dir.join("initdb").exists() && dir.join("postgres").exists())
        .expect("PostgreSQL's programs (initdb, postgres) are neither on the PATH nor in /usr/lib/postgresql: apt-get install postgresql")
}
