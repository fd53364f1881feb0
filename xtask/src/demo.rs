//! `cargo xtask demo`: builds host, plugins and simulator, and shows them.

use std::process::Command;

use anyhow::Result;

use crate::{
    plugins, setup,
    shell::{cargo, root, run},
};

/// Everything that is needed on the way is installed, or named. Where no PowerDNS can be had, the demo brings its own.
pub fn show(once: bool) -> Result<()> {
    if let Err(error) = setup::peers() {
        eprintln!("xtask: {error:#}; the demo goes on without");
    }
    // Those that it shows are in Rust: nobody needs Python or Node.js to see it.
    plugins::build_rust()?;
    run(cargo().args(["build", "--bins", "-p", "wharf", "-p", "pve-sim", "-p", "wharf-e2e"]))?;
    let bin = root().join("target/debug");
    let mut demo = Command::new(bin.join("wharf-demo"));
    demo.arg("--wharf").arg(bin.join("wharf")).arg("--pve-sim").arg(bin.join("pve-sim"));
    demo.arg("--plugins").arg(plugins::out_dir());
    if once {
        demo.arg("--once");
    }
    run(&mut demo)
}
