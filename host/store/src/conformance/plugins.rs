//! Installed plugins.

use semver::Version;
use serde_json::json;
use wharf_model::plugin::PluginVersion;

use super::fixture::*;
use crate::{Books, StoreError};

fn plugin(id: &str, version: &str, digest: &str) -> PluginVersion {
    let manifest = json!({
        "id": id, "name": "A plugin", "version": version, "world": "panel-adapter", "licence": "Apache-2.0",
        "wants": { "wharf:base/log": "0.1.0" }
    });
    PluginVersion {
        id: id.into(),
        version: Version::parse(version).unwrap(),
        digest: digest.into(),
        manifest: serde_json::from_value(manifest).unwrap(),
        size: 3,
        installed_ms: NOW,
        installed_by: "admin".into(),
    }
}

async fn install(books: &Books, id: &str, version: &str) {
    let digest = format!("{id}-{version}");
    books.add_plugin(plugin(id, version, &digest), digest.clone().into_bytes(), audit("install")).await.unwrap();
}

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

pub async fn a_version_is_never_replaced_by_other_bytes(books: Books) {
    let first = plugin("p", "1.0.0", "d1");
    books.add_plugin(first.clone(), vec![1, 0, 2], audit("install")).await.unwrap();
    books.add_plugin(first.clone(), vec![1, 0, 2], audit("install")).await.unwrap();
    let other = books.add_plugin(plugin("p", "1.0.0", "d2"), vec![3], audit("install")).await;
    assert!(matches!(other, Err(StoreError::Conflict(_))), "{other:?}");
    assert_eq!(books.plugin_versions().await.unwrap(), [first]);
    assert_eq!(books.component("d1").await.unwrap(), Some(vec![1, 0, 2]));
    assert_eq!(books.component("d2").await.unwrap(), None);
    assert_eq!(books.audit_log(10).await.unwrap().len(), 1, "what changed nothing is not in the audit log");
    // The same bytes under another version are stored once.
    books.add_plugin(plugin("p", "1.0.1", "d1"), vec![1, 0, 2], audit("install")).await.unwrap();
    assert_eq!(books.plugin_versions().await.unwrap().len(), 2);
}

pub async fn rolling_out_remembers_what_was_before(books: Books) {
    for v in ["1.0.0", "1.1.0", "2.0.0"] {
        install(&books, "p", v).await;
    }
    let roll = |v: &'static str| {
        let books = books.clone();
        async move { books.roll_out("p", &version(v), audit("roll-out"), NOW).await.unwrap() }
    };
    let first = roll("1.0.0").await;
    assert_eq!((first.current, first.previous, first.enabled, first.revision), (version("1.0.0"), None, true, 1));
    let second = roll("1.1.0").await;
    assert_eq!((second.previous, second.revision), (Some(version("1.0.0")), 2));
    let same = roll("1.1.0").await;
    assert_eq!((same.previous, same.revision), (Some(version("1.0.0")), 2), "what is current already moves nothing");
    let off = books.set_plugin_enabled("p", false, audit("disable"), NOW).await.unwrap();
    assert_eq!((off.enabled, off.revision, &off.current), (false, 3, &version("1.1.0")));
    let back = roll("1.0.0").await;
    assert_eq!((&back.current, &back.previous, back.enabled), (&version("1.0.0"), &Some(version("1.1.0")), false));
    assert_eq!(books.rollouts().await.unwrap(), [back]);
}

pub async fn only_what_is_installed_can_be_rolled_out(books: Books) {
    install(&books, "p", "1.0.0").await;
    for (id, v) in [("p", "1.0.1"), ("q", "1.0.0")] {
        let result = books.roll_out(id, &version(v), audit("roll-out"), NOW).await;
        assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    }
    let result = books.set_plugin_enabled("p", true, audit("enable"), NOW).await;
    assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
    assert!(books.rollouts().await.unwrap().is_empty());
    assert_eq!(books.audit_log(10).await.unwrap().len(), 1);
}

pub async fn versions_sort_as_versions(books: Books) {
    for (id, v) in [("q", "1.0.0"), ("p", "0.10.0"), ("p", "0.9.0"), ("p", "1.0.0-rc.1"), ("p", "1.0.0")] {
        install(&books, id, v).await;
    }
    let all: Vec<_> =
        books.plugin_versions().await.unwrap().into_iter().map(|v| format!("{} {}", v.id, v.version)).collect();
    assert_eq!(all, ["p 0.9.0", "p 0.10.0", "p 1.0.0-rc.1", "p 1.0.0", "q 1.0.0"]);
}
