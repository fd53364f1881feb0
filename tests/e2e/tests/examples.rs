//! What stands in `examples/` works as it stands there.

use std::{path::Path, time::Duration};

use tokio::process::Command;
use wharf_e2e::journey::{Built, House};

fn example(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples").join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_orders_a_vm_and_tells_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let run = async |verb: &str, service: &str, plan: &str, secret: &str| {
        let out = Command::new("python3")
            .arg(example("order.py"))
            .args([&house.client.url, "shop", verb, service, plan, r#"{"CPU Cores": "2"}"#])
            .env("WHARF_PANEL_SECRET", secret)
            .output()
            .await
            .unwrap();
        (out.status.success(), String::from_utf8(out.stdout).unwrap())
    };
    assert_eq!(run("create", "31", "linked", &house.setup.secrets.panel).await, (true, "success\n".into()));
    house.until("31", "active", Duration::from_secs(120)).await.unwrap();
    let (ok, text) = run("create", "32", "no-such-plan", &house.setup.secrets.panel).await;
    assert!(!ok && text.contains("no-such-plan"), "{text}");
    let (ok, text) = run("create", "33", "linked", "whsec_c3RyYW5nZXItd2l0aC1hbm90aGVyLWtleS1hbHRvZ2V0aGVy").await;
    assert!(!ok && text.contains("signature"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_file_is_accepted_as_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let wharf = Built::in_target().unwrap().wharf;
    let token = |config: &Path| {
        Command::new(&wharf)
            .args(["token", "create", "--note", "example", "--data-dir"])
            .arg(dir.path().join("data"))
            .arg("--config")
            .arg(config)
            .output()
    };
    let out = token(&example("wharf.toml")).await.unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = std::fs::read_to_string(example("wharf.toml")).unwrap();
    let wrong = dir.path().join("wrong.toml");
    std::fs::write(&wrong, text.replace("slots = 32", "slotz = 32")).unwrap();
    let out = token(&wrong).await.unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success() && said.contains("slotz") && said.contains("slots"), "{said}");
}
