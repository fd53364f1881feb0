//! What builds a plugin in JavaScript, TypeScript or Python: the language's own tool, in the project's folder.
//!
//! The folder is laid out as `wharf plugin new` does it: `wit/` and `vendor/` beside `src/`. What comes out imports `wharf:*` alone,
//! or WASI that a host links to nothing. Both tools give other bytes each time: whoever builds asks first whether anything changed.

use std::path::Path;
use std::process::Command;

use crate::BuildError;
use crate::shell::output;

/// Oldest major version of Node.js that the tools say they run on.
pub const NODE: u32 = 20;

/// The major version that a Node.js says it has; none if it says none.
pub fn node_version(node: &Path) -> Option<u32> {
    let said = output(Command::new(node).arg("--version")).ok()?;
    said.trim_start_matches('v').split('.').next()?.parse().ok()
}

/// Runs the project's `build.mjs`, with its packages in `node_modules`.
///
/// # Errors
/// It failed, with what it said, or made nothing.
pub fn javascript(node: &Path, folder: &Path) -> Result<Vec<u8>, BuildError> {
    made_by(folder, |raw| {
        let mut command = Command::new(node);
        command.arg("build.mjs").arg(raw);
        command
    })
}

/// Runs this componentize-py over `src/app.py`.
///
/// # Errors
/// It failed, with what it said, or made nothing.
pub fn python(componentize: &Path, folder: &Path) -> Result<Vec<u8>, BuildError> {
    made_by(folder, |raw| {
        let mut command = Command::new(componentize);
        command.args(["-d", "wit", "-w", "dns-provider", "componentize", "--stub-wasi", "-p", "src", "-p", "vendor"]);
        command.args(["app", "-o"]).arg(raw);
        command
    })
}

/// The component that a tool writes to the path it is given.
fn made_by(folder: &Path, tool: impl Fn(&Path) -> Command) -> Result<Vec<u8>, BuildError> {
    let place = folder.join("build");
    std::fs::create_dir_all(&place).map_err(|e| BuildError::written(&place, e))?;
    let raw = place.join("component.wasm");
    let mut command = tool(&raw);
    // Tools tell much; it counts only when they fail.
    output(command.current_dir(folder))?;
    std::fs::read(&raw).map_err(|e| BuildError::read(&raw, e))
}
