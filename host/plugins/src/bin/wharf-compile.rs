//! The compile child by itself, for tests of the runtime: what `wharf plugin compile` is in production.

use std::process::ExitCode;

fn main() -> ExitCode {
    // After the program's name and the two words `plugin compile`.
    wharf_plugins::compile_child(std::env::args_os().skip(3))
}
