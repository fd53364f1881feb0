//! `cargo xtask package`: the Debian package, and the proof that it installs, serves, stops and goes on a clean Debian.
//!
//! The proof boots a Debian 12 of its own (debootstrap, then systemd-nspawn without network), so it needs root and a kernel
//! that lets it; nothing of this machine's system is touched. The clean root is kept in `target/package` and copied for
//! each proof.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use wharf_build::component::read_manifest;

use crate::plugins;
use crate::shell::{apt_install, cargo, find, output, root, run};

/// Builds the package from the finished binary and the files of `packaging/`.
const CARGO_DEB: &str = "3.8.0";
const RELEASE: &str = "bookworm";
const MIRROR: &str = "http://deb.debian.org/debian";
/// Prepared roots of another recipe are made anew.
const RECIPE: &str = "bookworm minbase systemd-sysv";

/// What `cargo xtask package` takes.
#[derive(clap::Args)]
pub struct Args {
    /// Take the binary of the debug profile, which tests have built anyway: for a try, not for others.
    #[arg(long)]
    dev: bool,
    /// Install, use, stop, upgrade and purge it on a clean Debian 12.
    #[arg(long)]
    check: bool,
}

/// The command.
pub fn package(args: &Args) -> Result<()> {
    let stage = root().join("target/package");
    shipped_plugins(&stage.join("plugins"))?;
    let mut build = cargo();
    build.args(["build", "--locked"]);
    // The debug binary is built as the tests build it: with other features all that it depends on would be built twice.
    build.args(if args.dev { &["--workspace", "--all-targets"][..] } else { &["--release", "-p", "wharf"][..] });
    run(&mut build)?;
    let tool = cargo_deb()?;
    let file = stage.join("wharf.deb");
    let mut deb = Command::new(tool);
    deb.current_dir(root()).args(["-p", "wharf", "--no-build", "--strip", "--no-dbgsym", "-q", "-o"]).arg(&file);
    if args.dev {
        deb.args(["--profile", "dev"]);
    }
    run(&mut deb)?;
    println!("{}", file.display());
    println!("{}", output(Command::new("dpkg-deb").args(["--field"]).arg(&file).args(["Version", "Depends"]))?);
    if args.check { check(&stage, &file) } else { Ok(()) }
}

/// The plugins of `plugins/`, and none of the tests'.
fn shipped_plugins(to: &Path) -> Result<()> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(root().join("plugins"))? {
        let manifest = entry?.path().join("manifest.json");
        if manifest.is_file() {
            ids.push(read_manifest(&manifest)?.0);
        }
    }
    plugins::build_all(&ids)?;
    if to.exists() {
        std::fs::remove_dir_all(to)?;
    }
    std::fs::create_dir_all(to)?;
    for id in ids {
        let name = format!("{id}.wasm");
        std::fs::copy(plugins::out_dir().join(&name), to.join(&name)).with_context(|| name)?;
    }
    Ok(())
}

/// The pinned cargo-deb, installed below `target/` if it is not there.
fn cargo_deb() -> Result<PathBuf> {
    let folder = root().join("target/tools");
    let tool = folder.join("bin/cargo-deb");
    if output(Command::new(&tool).arg("--version")).is_ok_and(|v| v.contains(CARGO_DEB)) {
        return Ok(tool);
    }
    eprintln!("xtask: installing cargo-deb {CARGO_DEB} into target/tools");
    run(cargo().args(["install", "cargo-deb", "--locked", "--quiet", "--version", CARGO_DEB, "--root"]).arg(&folder))?;
    Ok(tool)
}

fn check(stage: &Path, package: &Path) -> Result<()> {
    if output(Command::new("id").arg("-u"))? != "0" {
        bail!("--check boots a Debian of its own: run it as root");
    }
    let mut missing = Vec::new();
    if find("debootstrap").is_none() {
        missing.push("debootstrap");
    }
    if find("systemd-nspawn").is_none() {
        missing.push("systemd-container");
    }
    apt_install(&missing)?;
    let clean = clean_root(stage)?;
    let trial = stage.join("trial");
    if trial.exists() {
        std::fs::remove_dir_all(&trial)?;
    }
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&clean).arg(&trial))?;
    let inside = trial.join("check");
    std::fs::create_dir(&inside)?;
    std::fs::copy(package, inside.join("wharf.deb"))?;
    std::fs::copy(root().join("packaging/check"), inside.join("check"))?;
    // What the package depends on comes from Debian's mirror; the trial itself has no network.
    run(Command::new("chroot").arg(&trial).args([
        "apt-get",
        "install",
        "-qqy",
        "--no-install-recommends",
        "--download-only",
        "/check/wharf.deb",
    ]))?;
    boots_into_the_check(&trial)?;
    let booted = Command::new("systemd-nspawn")
        .args(["--quiet", "--boot", "--register=no", "--keep-unit", "--private-network", "--directory"])
        .arg(&trial)
        // Ends in any case: nobody is there to log in.
        .args(["--console=read-only", "--kill-signal=SIGRTMIN+3"])
        .stdin(std::process::Stdio::null())
        .stdout(std::fs::File::create(stage.join("boot.log"))?)
        .stderr(std::fs::File::create(stage.join("boot.err"))?)
        .status()
        .context("systemd-nspawn can't be started")?;
    let log = std::fs::read_to_string(inside.join("log")).unwrap_or_default();
    print!("{log}");
    let result = std::fs::read_to_string(inside.join("result")).unwrap_or_default();
    if result.trim() != "0" {
        bail!(
            "the package failed its check (`{}`; the trial ended with {booted}): see above, {} and {}",
            result.trim(),
            inside.display(),
            stage.join("boot.log").display()
        );
    }
    println!("the package holds on a clean Debian 12");
    std::fs::remove_dir_all(&trial)?;
    Ok(())
}

/// A Debian 12 with an init and nothing else, made once.
fn clean_root(stage: &Path) -> Result<PathBuf> {
    let clean = stage.join("debian-12");
    let mark = stage.join("debian-12.recipe");
    if std::fs::read_to_string(&mark).is_ok_and(|m| m == RECIPE) {
        return Ok(clean);
    }
    if clean.exists() {
        std::fs::remove_dir_all(&clean)?;
    }
    eprintln!("xtask: making a clean Debian 12 in {}", clean.display());
    let mut command = Command::new(find("debootstrap").context("debootstrap is missing")?);
    command.args(["--variant=minbase", "--include=systemd-sysv", RELEASE]).arg(&clean).arg(MIRROR);
    command.stdout(std::fs::File::create(stage.join("debootstrap.log"))?);
    run(&mut command).with_context(|| format!("see {}", stage.join("debootstrap.log").display()))?;
    std::fs::write(mark, RECIPE)?;
    Ok(clean)
}

/// The check is a unit of the trial, which is switched off when it has ended, however it did.
fn boots_into_the_check(trial: &Path) -> Result<()> {
    let units = trial.join("etc/systemd/system");
    let unit = "[Unit]\nDescription=Check of the package\n\n[Service]\nType=oneshot\nTimeoutStartSec=10min\n\
        ExecStart=/bin/bash -c '/bin/bash /check/check >/check/log 2>&1; echo $? >/check/result'\n\
        ExecStopPost=/bin/systemctl --no-block poweroff\n";
    std::fs::write(units.join("wharf-check.service"), unit)?;
    let wants = units.join("multi-user.target.wants");
    std::fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink("../wharf-check.service", wants.join("wharf-check.service"))?;
    Ok(())
}
