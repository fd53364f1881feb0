//! The host knows no product: no crate under `host/` contains the name of an option, a state or a provider.

use std::path::{Path, PathBuf};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn sources(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs" || e == "sql") {
            into.push(path);
        }
    }
}

/// Option names, and states that are no ordinary words, of all provisioners.
fn words() -> Vec<String> {
    let mut words: Vec<String> =
        ["powerdns", "cloudflare", "hestiacp", "whmcs", "fossbilling"].map(str::to_owned).to_vec();
    for manifest in ["plugins/proxmox-kvm", "tests/plugins/provisioner-tiny"] {
        let text = std::fs::read(root().join(manifest).join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_slice(&text).unwrap();
        for property in manifest["settings"]["properties"].as_object().unwrap().values() {
            if let Some(name) = property["x-option"]["name"].as_str().filter(|n| n.contains(' ')) {
                words.push(name.to_lowercase());
            }
        }
        for kind in manifest["operations"].as_array().unwrap() {
            for state in kind["states"].as_array().unwrap() {
                let id = state["id"].as_str().unwrap();
                if id.contains('_') || ["creation", "flavoured", "awake"].contains(&id) {
                    words.push(id.to_lowercase());
                }
            }
        }
    }
    words
}

#[test]
fn no_crate_of_the_host_contains_the_name_of_an_option_a_state_or_a_provider() {
    let words = words();
    assert!(words.len() > 30, "{words:?}");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join("host")).unwrap().flatten() {
        for part in ["src", "migrations"] {
            let dir = entry.path().join(part);
            if dir.is_dir() {
                sources(&dir, &mut files);
            }
        }
    }
    assert!(files.len() > 50);
    let mut found = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap().to_lowercase();
        for word in words.iter().filter(|w| text.contains(w.as_str())) {
            found.push(format!("{}: {word}", file.display()));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
