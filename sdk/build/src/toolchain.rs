//! What builds a plugin in Rust: the first of three tool chains that is there or can be had.
//!
//! 1. the `wasm32-unknown-unknown` target of the tool chain in use;
//! 2. the same after `rustup target add`;
//! 3. Debian's `rustc-web`, which brings the standard library as source, where rustup's servers can't be reached.
//!
//! `WHARF_PLUGIN_TOOLCHAIN=rustup` or `debian` asks for one of them and nothing else. Whatever is set for a plugin's
//! build is set on that child process alone: with `RUSTC` in the environment the next build of another program would
//! compile everything anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::BuildError;
use crate::shell::{find, output, run, without_cargo};

/// The target that plugins are built for: a component made from it imports nothing but `wharf:*`.
pub const TARGET: &str = "wasm32-unknown-unknown";
/// Debian's way.
pub const DEBIAN: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];

/// A tool chain that can build plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// The one in use, which has the target.
    Installed,
    /// Debian's, with this linker.
    Debian { linker: PathBuf },
}

/// Finds one, or has it. `install` is asked for Debian packages when nothing else is left.
///
/// # Errors
/// There is none, and how one is had.
pub fn choose(install: impl Fn(&[&str]) -> Result<(), BuildError>) -> Result<Toolchain, BuildError> {
    let asked = std::env::var("WHARF_PLUGIN_TOOLCHAIN").unwrap_or_default();
    match asked.as_str() {
        "debian" => return debian(&install),
        "" | "rustup" => {}
        other => {
            return Err(BuildError::Missing(format!(
                "WHARF_PLUGIN_TOOLCHAIN is `{other}`: it can be `rustup` or `debian`, or not set"
            )));
        }
    }
    if has_target() {
        return Ok(Toolchain::Installed);
    }
    if find("rustup").is_some() {
        eprintln!("the target {TARGET} is missing, asking rustup for it");
        match run(Command::new("rustup").args(["target", "add", TARGET])) {
            Ok(()) if has_target() => return Ok(Toolchain::Installed),
            Ok(()) => eprintln!("rustup has added the target to another tool chain than the one in use"),
            Err(error) => eprintln!("{error}"),
        }
    }
    if asked == "rustup" {
        return Err(BuildError::Missing(format!(
            "the target {TARGET} can't be had from rustup: see above, or unset WHARF_PLUGIN_TOOLCHAIN"
        )));
    }
    debian(&install)
}

impl Toolchain {
    /// A `cargo build` in `folder` for the target, into `target_dir`.
    pub fn build(&self, folder: &Path, target_dir: &Path) -> Command {
        let mut command = match self {
            Self::Installed => {
                let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
                // Flags meant for the host's processor are wrong here.
                for name in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_TARGET"] {
                    command.env_remove(name);
                }
                command
            }
            Self::Debian { linker } => {
                let mut command = Command::new("/usr/bin/cargo");
                without_cargo(&mut command)
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker)
                    .arg("-Zbuild-std=std,panic_abort");
                command
            }
        };
        command
            .args(["build", "--release", "--quiet", "--target", TARGET, "--target-dir"])
            .arg(target_dir)
            // Plugins are loaded by the thousand: no debug sections, function names stay for backtraces.
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
            .env("CARGO_PROFILE_RELEASE_LTO", "fat")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1")
            .current_dir(folder);
        command
    }
}

/// Where `cargo build` of a package puts its module.
pub fn module(target_dir: &Path, package: &str) -> PathBuf {
    target_dir.join(TARGET).join("release").join(format!("{}.wasm", package.replace('-', "_")))
}

/// Whether the compiler in use has a standard library for the target.
fn has_target() -> bool {
    let libdir = output(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]));
    libdir.is_ok_and(|dir| {
        std::fs::read_dir(dir)
            .is_ok_and(|entries| entries.flatten().any(|e| e.file_name().to_string_lossy().starts_with("libcore-")))
    })
}

fn debian(install: &impl Fn(&[&str]) -> Result<(), BuildError>) -> Result<Toolchain, BuildError> {
    let ready = || debian_source().is_some() && Path::new("/usr/bin/cargo").is_file();
    if !ready() {
        install(&DEBIAN)?;
    }
    if !ready() {
        return Err(BuildError::Missing(format!(
            "the packages {} are installed, yet /usr/bin/rustc finds no source of its library",
            DEBIAN.join(", ")
        )));
    }
    Ok(Toolchain::Debian { linker: linker()? })
}

/// Where Debian's compiler looks for the source of the standard library.
fn debian_source() -> Option<PathBuf> {
    let mut rustc = Command::new("/usr/bin/rustc");
    let sysroot = output(without_cargo(&mut rustc).args(["--print", "sysroot"])).ok()?;
    let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/std/Cargo.toml");
    source.is_file().then_some(source)
}

/// rustup's `rust-lld`, which is named for what it does; Debian's next to the compiler otherwise.
fn linker() -> Result<PathBuf, BuildError> {
    let bin = |sysroot: String, host: &str| Path::new(&sysroot).join("lib/rustlib").join(host).join("bin/rust-lld");
    let host = output(Command::new("rustc").arg("-vV"))
        .ok()
        .and_then(|text| text.lines().find_map(|l| l.strip_prefix("host: ").map(str::to_owned)))
        .unwrap_or_else(|| "x86_64-unknown-linux-gnu".into());
    let rustup = output(Command::new("rustc").args(["--print", "sysroot"])).ok().map(|s| bin(s, &host));
    rustup.into_iter().chain(find("rust-lld")).chain(find("wasm-ld")).find(|p| p.is_file()).ok_or_else(|| {
        BuildError::Missing(
            "no linker for wasm: neither rust-lld nor wasm-ld is there; `apt-get install lld` brings one".to_owned(),
        )
    })
}
