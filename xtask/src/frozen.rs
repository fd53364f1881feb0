//! `cargo xtask frozen`: one built component per world, kept for good.
//!
//! `tests/frozen/<world>-<version of the contract>.wasm` is written once, from a released contract, and never again:
//! every later host must load and run it.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::plugins;
use crate::shell::root;

/// The worlds, and the package that each belongs to.
const WORLDS: [(&str, &str); 4] =
    [("provisioner", "provisioner"), ("dns-provider", "dns"), ("lifecycle-hook", "hook"), ("panel-adapter", "panel")];

/// The command: builds the minimal plugins and keeps those that are not kept yet.
pub fn run() -> Result<()> {
    let names: Vec<String> = WORLDS.iter().map(|(world, _)| format!("minimal-{world}")).collect();
    plugins::build_all(&names)?;
    for (world, package) in WORLDS {
        let version = crate::wit_check::version_of(&root().join("wit"), package)?;
        let from = plugins::out_dir().join(format!("minimal-{world}.wasm"));
        let to = root().join(format!("tests/frozen/{world}-{version}.wasm"));
        let state = if keep(&from, &to)? { "kept" } else { "stands" };
        println!("{state:<10}tests/frozen/{world}-{version}.wasm");
    }
    Ok(())
}

/// Copies, unless something is there already. True when it was copied.
fn keep(from: &Path, to: &Path) -> Result<bool> {
    if to.exists() {
        return Ok(false);
    }
    if !from.is_file() {
        bail!("{} is missing", from.display());
    }
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::copy(from, to).with_context(|| format!("{} can't be written", to.display()))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_frozen_is_never_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("new.wasm"), dir.path().join("frozen/x.wasm"));
        std::fs::write(&from, "first").unwrap();
        assert!(keep(&from, &to).unwrap());
        std::fs::write(&from, "second").unwrap();
        assert!(!keep(&from, &to).unwrap());
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "first");
    }
}
