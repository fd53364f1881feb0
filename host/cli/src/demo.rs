//! `wharf demo`: hands over to `wharf-demo`, which is built from the source tree beside this executable.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// Becomes the demo; returns only if that fails.
pub fn show(arguments: Vec<OsString>) -> Result<()> {
    let own = std::env::current_exe().context("can't find the host's own executable")?;
    let folder = own.parent().unwrap_or(Path::new("."));
    let demo = folder.join("wharf-demo");
    if !demo.exists() {
        bail!(
            "there is no {}: the demo comes with the source tree, where `cargo xtask demo` builds and shows it",
            demo.display()
        );
    }
    let mut command = Command::new(&demo);
    // What the demo needs and was not told, as the source tree's build lays it out.
    let plugins = [folder.join("plugins"), folder.join("../plugins")];
    let plugins = plugins.iter().find(|p| p.is_dir()).cloned();
    let beside: [(&str, Option<PathBuf>); 3] =
        [("--wharf", Some(own.clone())), ("--pve-sim", Some(folder.join("pve-sim"))), ("--plugins", plugins)];
    for (flag, value) in beside {
        if let Some(value) = value.filter(|_| !says(&arguments, flag)) {
            command.arg(flag).arg(value);
        }
    }
    let error = command.args(arguments).exec();
    Err(error).with_context(|| format!("can't run {}", demo.display()))
}

fn says(arguments: &[OsString], flag: &str) -> bool {
    arguments.iter().any(|argument| {
        let text = argument.to_string_lossy();
        text == flag || text.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))
    })
}
