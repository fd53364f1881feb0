//! `cargo xtask providers`: the throw-away DNS providers in JavaScript and Python, as components in
//! `target/providers/`.
//!
//! Both tools give other bytes each time, so a component is made anew only when a source, the contract or a version is
//! newer than it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result};

use wharf_build::component::{check_imports, read_manifest, with_manifest};

use crate::setup;
use crate::shell::{root, run};

/// Where the components are.
pub fn out_dir() -> PathBuf {
    root().join("target/providers")
}

/// The command: installs the tools and builds both.
pub fn run_command() -> Result<()> {
    setup::python()?;
    setup::javascript()?;
    build_all()
}

/// Builds what is not up to date.
pub fn build_all() -> Result<()> {
    std::fs::create_dir_all(out_dir())?;
    let wit = root().join("wit");
    let node = setup::node()?.node;
    make("js", |raw| {
        let script = root().join("tests/providers/js/build.mjs");
        let mut command = Command::new(&node);
        command.arg(script).arg(&wit).arg(raw);
        command
    })?;
    make("python", |raw| {
        let mut command = Command::new(setup::venv().join("bin/componentize-py"));
        command.arg("-d").arg(&wit).args(["-w", "dns-provider", "componentize", "--stub-wasi", "-p"]);
        command.arg(root().join("tests/providers/python")).arg("pdns").arg("-o").arg(raw);
        command
    })
}

fn make(language: &str, tool: impl Fn(&Path) -> Command) -> Result<()> {
    let folder = root().join("tests/providers").join(language);
    let (id, manifest) = read_manifest(&folder.join("manifest.json"))?;
    let file = out_dir().join(format!("{id}.wasm"));
    let mut newest = newest_in(&folder)?;
    for place in ["wit", ".ci/requirements.txt"] {
        newest = newest.max(newest_in(&root().join(place))?);
    }
    if std::fs::metadata(&file).and_then(|m| m.modified()).is_ok_and(|made| made > newest) {
        println!("unchanged  target/providers/{id}.wasm");
        return Ok(());
    }
    let raw = out_dir().join(format!("{id}.raw"));
    run(&mut tool(&raw))?;
    let component = std::fs::read(&raw).with_context(|| format!("{} was not made", raw.display()))?;
    check_imports(&component, &manifest)?;
    let component = with_manifest(component, &manifest)?;
    // Under its name only when it is whole.
    std::fs::write(&raw, &component)?;
    std::fs::rename(&raw, &file)?;
    println!("built     {:>7} KiB  target/providers/{id}.wasm", component.len().div_ceil(1024));
    Ok(())
}

/// When the newest file below a place was written; installed packages and caches left out.
fn newest_in(place: &Path) -> Result<SystemTime> {
    let meta = std::fs::metadata(place).with_context(|| format!("{} is missing", place.display()))?;
    if !meta.is_dir() {
        return Ok(meta.modified()?);
    }
    let mut newest = SystemTime::UNIX_EPOCH;
    for entry in std::fs::read_dir(place)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != "node_modules" && name != "__pycache__" && name != "released" {
            newest = newest.max(newest_in(&entry.path())?);
        }
    }
    Ok(newest)
}
