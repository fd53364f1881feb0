//! Child processes and places. A command that fails is an error that names the command.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use wharf_build::BuildError;

use wharf_build::shell;
pub use wharf_build::shell::{find, succeeds};

/// Runs a command with the terminal's own output. Fails on any exit code but 0.
pub fn run(command: &mut Command) -> Result<()> {
    Ok(shell::run(command)?)
}

/// Runs a command and gives its standard output, trimmed. Fails on any exit code but 0, with its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    Ok(shell::output(command)?)
}

/// The workspace's folder.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Cargo on the workspace, as it would be if it was typed. What `cargo run` says of xtask itself is taken out of the environment:
/// build scripts look at it (ring's does), and all that stands on them would be compiled anew each time the other way was taken.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|n| n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(&name);
        }
    }
    command.current_dir(root());
    command
}

/// Installs Debian packages. Without root it fails and names the command that a person can type.
pub fn apt_install(packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if find("apt-get").is_none() {
        bail!("missing: {list}. There is no apt-get here: install what those Debian packages hold, then try again");
    }
    if output(Command::new("id").arg("-u"))? != "0" {
        bail!("missing: {list}. Type `sudo apt-get install --no-install-recommends {list}`, then try again");
    }
    eprintln!("xtask: installing {list}");
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        run(&mut command)
    };
    apt(&["update", "-q"])?;
    let mut args = vec!["install", "-qy", "--no-install-recommends"];
    args.extend(packages);
    apt(&args)
}

/// The same for who builds plugins.
pub fn apt(packages: &[&str]) -> Result<(), BuildError> {
    apt_install(packages).map_err(|error| BuildError::Missing(format!("{error:#}")))
}
