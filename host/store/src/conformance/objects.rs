//! Objects, secrets and the plugins' own small stores.

use serde_json::json;
use wharf_model::object::ObjectKind;

use super::fixture::*;
use crate::{Books, StoreError};

pub async fn revisions_rise_and_guard_against_lost_updates(books: Books) {
    let put = |name: &'static str, value: i64, expect: Option<i64>, now: i64| {
        let books = books.clone();
        async move { books.put_object(ObjectKind::Plan, name, json!({ "v": value }), expect, None, now).await }
    };
    let conflict = |result: Result<_, StoreError>| {
        let _: Option<&wharf_model::object::Object> = result.as_ref().ok();
        assert!(matches!(result, Err(StoreError::Conflict(_))), "{result:?}");
    };
    conflict(put("a", 1, Some(3), NOW).await);
    let first = put("a", 1, Some(0), NOW).await.unwrap();
    assert_eq!((first.revision, first.created_ms, first.updated_ms), (1, NOW, NOW));
    conflict(put("a", 2, Some(0), NOW + 1).await);
    let second = put("a", 2, Some(1), NOW + 1).await.unwrap();
    assert_eq!((second.revision, second.created_ms, second.updated_ms), (2, NOW, NOW + 1));
    conflict(put("a", 3, Some(1), NOW + 2).await);
    assert_eq!(put("a", 4, None, NOW + 3).await.unwrap().revision, 3);
    let there = books.object(ObjectKind::Plan, "a").await.unwrap().unwrap();
    assert_eq!((there.body, there.kind, there.name.as_str()), (json!({ "v": 4 }), ObjectKind::Plan, "a"));
    assert_eq!(books.object(ObjectKind::Pool, "a").await.unwrap(), None, "kinds have names of their own");
    put("c", 1, None, NOW).await.unwrap();
    put("b", 1, None, NOW).await.unwrap();
    let names: Vec<_> = books.objects(ObjectKind::Plan).await.unwrap().into_iter().map(|o| o.name).collect();
    assert_eq!(names, ["a", "b", "c"]);

    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let put = put("a", n, Some(3), NOW);
            tokio::spawn(put)
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        won += usize::from(task.await.unwrap().is_ok());
    }
    assert_eq!(won, 1, "of those that saw the same revision one wins");
}

pub async fn an_object_goes_with_its_secrets(books: Books) {
    books.put_object(ObjectKind::Server, "a", json!({}), None, None, NOW).await.unwrap();
    for (owner, slot) in [("server/a", "secret"), ("server/a", "other"), ("server/ab", "secret"), ("zone/a", "secret")]
    {
        books.put_secret(owner, slot, b"x", NOW).await.unwrap();
    }
    assert!(books.delete_object(ObjectKind::Server, "a", Some(audit("delete")), NOW).await.unwrap());
    assert!(!books.delete_object(ObjectKind::Server, "a", Some(audit("delete")), NOW).await.unwrap());
    let left: Vec<_> = books.all_secrets().await.unwrap().into_iter().map(|(owner, _, _)| owner).collect();
    assert_eq!(left, ["server/ab", "zone/a"]);
    let again = books.put_object(ObjectKind::Server, "a", json!({}), Some(0), None, NOW).await.unwrap();
    assert_eq!(again.revision, 1);
}

pub async fn audit_rows_come_with_the_change_or_not_at_all(books: Books) {
    books.put_object(ObjectKind::Plan, "a", json!({}), Some(0), Some(audit("create")), NOW).await.unwrap();
    let refused = books.put_object(ObjectKind::Plan, "a", json!({}), Some(0), Some(audit("again")), NOW).await;
    assert!(refused.is_err());
    assert!(!books.delete_object(ObjectKind::Plan, "b", Some(audit("none")), NOW).await.unwrap());
    assert!(books.delete_object(ObjectKind::Plan, "a", Some(audit("delete")), NOW).await.unwrap());
    let actions: Vec<_> = books.audit_log(10).await.unwrap().into_iter().map(|a| a.action).collect();
    assert_eq!(actions, ["delete", "create"]);
}

pub async fn a_secret_once_stored_is_not_replaced(books: Books) {
    let tasks: Vec<_> = (0..16_u8)
        .map(|n| {
            let books = books.clone();
            tokio::spawn(async move { books.put_secret_once("service/1", "password", &[n], NOW).await.unwrap() })
        })
        .collect();
    let mut seen = std::collections::BTreeSet::new();
    for task in tasks {
        seen.insert(task.await.unwrap());
    }
    assert_eq!(seen.len(), 1, "all were told of the one that stands");
    assert_eq!(books.secret("service/1", "password").await.unwrap(), seen.pop_first());
}

pub async fn secrets_are_replaced_listed_and_deleted(books: Books) {
    assert_eq!(books.secret("server/a", "secret").await.unwrap(), None);
    books.put_secret("server/a", "secret", &[0, 255, 1], NOW).await.unwrap();
    books.put_secret("server/a", "secret", &[9, 0, 9], NOW).await.unwrap();
    books.put_secret("server/a", "next", &[], NOW).await.unwrap();
    assert_eq!(books.secret("server/a", "secret").await.unwrap(), Some(vec![9, 0, 9]));
    assert_eq!(books.secret("server/a", "next").await.unwrap(), Some(Vec::new()));
    assert_eq!(books.secret_slots("server/a").await.unwrap(), ["next", "secret"]);
    let all = books.all_secrets().await.unwrap();
    assert_eq!(all[1], ("server/a".to_owned(), "secret".to_owned(), vec![9, 0, 9]));
    books.delete_secret("server/a", "secret").await.unwrap();
    books.delete_secret("server/a", "secret").await.unwrap();
    assert_eq!(books.secret_slots("server/a").await.unwrap(), ["next"]);
}

pub async fn the_store_of_a_plugin_has_a_limit(books: Books) {
    assert!(books.kv_set("p", "a", &[0; 9], 10).await.unwrap());
    assert!(!books.kv_set("p", "b", &[], 10).await.unwrap(), "keys count too");
    assert_eq!(books.kv_get("p", "b").await.unwrap(), None);
    assert!(books.kv_set("p", "a", &[1; 9], 10).await.unwrap(), "what is replaced does not count");
    assert!(!books.kv_set("p", "a", &[2; 10], 10).await.unwrap());
    assert_eq!(books.kv_get("p", "a").await.unwrap(), Some(vec![1; 9]));
    assert!(books.kv_set("q", "a", &[0; 9], 10).await.unwrap(), "each plugin has its own");
    books.kv_delete("p", "a").await.unwrap();
    assert!(!books.kv_set("p", "ü", &[0; 9], 10).await.unwrap(), "bytes are counted, not letters");
    assert!(books.kv_set("p", "ü", &[0; 8], 10).await.unwrap());
}

pub async fn keys_are_listed_by_prefix(books: Books) {
    for key in ["b", "a/1", "a/10", "a/2", "a", "a%", "A/3", "ä/1"] {
        books.kv_set("p", key, b"v", 10_000).await.unwrap();
    }
    books.kv_set("q", "a/9", b"v", 10_000).await.unwrap();
    assert_eq!(books.kv_keys("p", "a/", 10).await.unwrap(), ["a/1", "a/10", "a/2"]);
    assert_eq!(books.kv_keys("p", "a/", 2).await.unwrap(), ["a/1", "a/10"]);
    assert_eq!(books.kv_keys("p", "a%", 10).await.unwrap(), ["a%"], "a prefix is no pattern");
    assert_eq!(books.kv_keys("p", "ä", 10).await.unwrap(), ["ä/1"]);
    assert_eq!(books.kv_keys("p", "", 10).await.unwrap(), ["A/3", "a", "a%", "a/1", "a/10", "a/2", "b", "ä/1"]);
}
