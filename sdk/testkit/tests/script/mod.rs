//! Runs a script of sdk/testkit/tests/clients with the clients in `.venv`: for tests here, and in tests/e2e.

use std::path::Path;

use tokio::process::Command;

/// Runs it; what it printed. Its traceback is the failure.
pub async fn run(script: &str, arguments: &[&str]) -> String {
    // Either package lies two folders deep.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let python = root.join(".venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run `cargo xtask test --only setup`, which installs the clients there",
        python.display()
    );
    let output = Command::new(python)
        .arg(root.join("sdk/testkit/tests/clients").join(script))
        .args(arguments)
        // Their own variables would change what they do.
        .env_clear()
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !said.contains("No module named"),
        "the client is not installed: run `cargo xtask test --only setup`\n{said}"
    );
    assert!(output.status.success(), "{script} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
