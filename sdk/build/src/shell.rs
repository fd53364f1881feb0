//! Child processes. A command that fails is an error that names the command.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::BuildError;

/// Runs a command with the terminal's own output. Fails on any exit code but 0.
pub fn run(command: &mut Command) -> Result<(), BuildError> {
    let status = command.status().map_err(|source| BuildError::Start { command: words(command), source })?;
    if !status.success() {
        return Err(BuildError::Ended { command: words(command), status, said: String::new() });
    }
    Ok(())
}

/// Runs a command and gives its standard output, trimmed. Fails on any exit code but 0, with what it said: on standard error, or
/// where that is empty on standard output.
pub fn output(command: &mut Command) -> Result<String, BuildError> {
    let out = command.stdin(Stdio::null()).output();
    let out = out.map_err(|source| BuildError::Start { command: words(command), source })?;
    if !out.status.success() {
        let said = if out.stderr.trim_ascii().is_empty() { &out.stdout } else { &out.stderr };
        let said = format!(": {}", String::from_utf8_lossy(said).trim());
        return Err(BuildError::Ended { command: words(command), status: out.status, said });
    }
    Ok(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}

/// Whether a command runs and ends with 0; its output is dropped.
pub fn succeeds(program: &str, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}

/// Where a program is, by `PATH` and the folders that only root has in it.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// A command as it would be typed.
fn words(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

/// Takes away what `cargo run` and rustup have put into the environment for this process, so that another tool chain
/// can be asked.
pub fn without_cargo(command: &mut Command) -> &mut Command {
    for name in [
        "CARGO",
        "RUSTUP_TOOLCHAIN",
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
        "LD_LIBRARY_PATH",
        "RUST_RECURSION_COUNT",
    ] {
        command.env_remove(name);
    }
    command
}
