//! Who works on the books.

use uuid::Uuid;

use super::fixture::{NOW, TTL, create};
use crate::{Books, Host};

fn host(name: &str) -> Host {
    Host {
        id: Uuid::new_v4(),
        name: name.into(),
        address: "http://127.0.0.1:8480".into(),
        version: "0.1.0".into(),
        started_ms: NOW,
        seen_ms: NOW,
    }
}

pub async fn a_host_is_listed_with_what_it_has_in_hand(books: Books) {
    let (one, two) = (host("a"), host("b"));
    books.host_seen(&two).await.unwrap();
    books.host_seen(&one).await.unwrap();
    create(&books, "1", NOW).await;
    create(&books, "2", NOW).await;
    assert_eq!(books.claim(one.id, TTL, 10, NOW).await.unwrap().len(), 2);
    assert!(books.hold_watch("pve", two.id, TTL, NOW).await.unwrap());
    let seen = Host { seen_ms: NOW + 5_000, ..one.clone() };
    books.host_seen(&seen).await.unwrap();
    let hosts = books.hosts().await.unwrap();
    assert_eq!(hosts.iter().map(|h| h.host.clone()).collect::<Vec<_>>(), [seen, two]);
    assert_eq!((hosts[0].runs, hosts[1].runs), (2, 0));
    assert_eq!((hosts[0].watches.len(), hosts[1].watches.clone()), (0, vec!["pve".to_owned()]));
}

pub async fn a_host_that_stopped_is_gone_and_one_that_was_not_seen_for_long_is_forgotten(books: Books) {
    let (one, two, three) = (host("a"), host("b"), host("c"));
    for host in [&one, &two, &three] {
        books.host_seen(host).await.unwrap();
    }
    assert!(books.hold_watch("pve", one.id, TTL, NOW).await.unwrap());
    books.host_gone(one.id).await.unwrap();
    assert!(books.hold_watch("pve", two.id, TTL, NOW).await.unwrap(), "what it watched is free at once");
    let later = Host { seen_ms: NOW + crate::rules::HOST_FORGOTTEN_MS, ..two };
    books.host_seen(&later).await.unwrap();
    let left = books.hosts().await.unwrap();
    assert_eq!(left.into_iter().map(|h| h.host).collect::<Vec<_>>(), [later]);
}

pub async fn what_waits_is_counted(books: Books) {
    use super::fixture::{TTL as LATER, change, claim, event, write};
    let body = serde_json::json!({"plugin": "x", "settings": {}});
    books.put_object(wharf_model::object::ObjectKind::Hook, "h", body, None, None, NOW).await.unwrap();
    let (service, _) = create(&books, "1", NOW).await;
    let run = claim(&books, NOW).await;
    change(&books, run.claim, write(None), NOW).await;
    books.append_events(vec![event(Some(&service), "service.x")], NOW).await.unwrap();
    let key = |name: &str| wharf_model::record::RecordKey {
        zone: "z".into(),
        name: name.into(),
        rtype: "A".into(),
        value: "192.0.2.1".into(),
        service_id: service.id,
    };
    let queues = std::collections::BTreeMap::from([("z".to_owned(), "q".to_owned())]);
    books.want_records(None, service.id, vec![(key("a."), None), (key("b."), None)], queues, NOW).await.unwrap();
    let dns = books.claim_dns(Uuid::new_v4(), LATER, 1, NOW).await.unwrap().remove(0);
    books.due_records(&dns, 10, NOW).await.unwrap();
    let failed = crate::RecordOutcome::Failed { reason: "no".into(), due_ms: NOW + 1 };
    books.settle_records(&dns, vec![(key("a."), failed)], NOW).await.unwrap();
    let counts = books.queue_counts().await.unwrap();
    assert_eq!((counts.sent, counts.deliveries, counts.records, counts.records_failed), (1, 1, 2, 1), "{counts:?}");
}

pub async fn a_server_is_watched_by_one_host_until_its_time_runs_out(books: Books) {
    let (one, two) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(books.hold_watch("pve", one, TTL, NOW).await.unwrap());
    assert!(!books.hold_watch("pve", two, TTL, NOW + TTL - 1).await.unwrap());
    assert!(books.hold_watch("other", two, TTL, NOW).await.unwrap());
    assert!(books.hold_watch("pve", one, TTL, NOW + TTL - 1).await.unwrap(), "held on to");
    assert!(!books.hold_watch("pve", two, TTL, NOW + TTL).await.unwrap());
    assert!(books.hold_watch("pve", two, TTL, NOW + 2 * TTL).await.unwrap());
    assert!(!books.hold_watch("pve", one, TTL, NOW + 2 * TTL).await.unwrap());
}
