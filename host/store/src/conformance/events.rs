//! Events, deliveries to hooks, audit.

use serde_json::json;
use uuid::Uuid;
use wharf_model::{event::Delivery, object::ObjectKind, service::Service};

use super::fixture::*;
use crate::{Books, Commit, Decision, StoreError, Then};

async fn hook(books: &Books, name: &str, events: &[&str]) {
    let body = json!({ "plugin": "webhook", "events": events });
    books.put_object(ObjectKind::Hook, name, body, None, None, NOW).await.unwrap();
}

async fn tell(books: &Books, service: Option<&Service>, kind: &str, now: i64) {
    books.append_events(vec![event(service, kind)], now).await.unwrap();
}

async fn deliveries(books: &Books, owner: Uuid, now: i64) -> Vec<Delivery> {
    books.claim_deliveries(owner, TTL, 100, now).await.unwrap()
}

fn kinds(deliveries: &[Delivery]) -> Vec<(String, String)> {
    let mut kinds: Vec<_> = deliveries.iter().map(|d| (d.hook.clone(), d.event.event.kind.clone())).collect();
    kinds.sort();
    kinds
}

fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec()
}

pub async fn the_feed_has_no_gaps_and_is_cut_by_panel(books: Books) {
    let create_told = move |_: Option<&_>, _: &[_]| {
        let new = service("1");
        let events = vec![event(Some(&new), "service.accepted")];
        Decision::Create { service: Box::new(new), operation: operation("deploy"), events }
    };
    let (s, _, _) = done(books.accept(accept("1", create_told, NOW)).await.unwrap());
    let run = claim(&books, NOW).await;
    let events = vec![event(Some(&s), "service.a"), event(Some(&s), "service.b")];
    books.commit(Commit { events, ..Commit::new(run.claim, NOW + 1, Then::Keep) }).await.unwrap();
    tell(&books, None, "host.started", NOW + 2).await;
    // What is refused leaves no hole.
    let refused = Commit {
        effect: Some(succeeded()),
        events: vec![event(None, "wrong")],
        ..Commit::new(run.claim, NOW, Then::Keep)
    };
    assert!(books.commit(refused).await.is_err());
    tell(&books, Some(&s), "service.c", NOW + 3).await;
    let all = books.events_after(0, None, 100).await.unwrap();
    assert_eq!(all.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(all.iter().map(|e| e.at_ms - NOW).collect::<Vec<_>>(), [0, 1, 1, 2, 3]);
    assert_eq!(all.iter().map(|e| e.id).collect::<std::collections::BTreeSet<_>>().len(), 5);
    assert_eq!(all[1].event, event(Some(&s), "service.a"));
    assert_eq!(books.events_after(2, None, 2).await.unwrap(), all[2..4]);
    let panel = books.events_after(0, Some("shop"), 100).await.unwrap();
    assert_eq!(panel.iter().map(|e| e.seq).collect::<Vec<_>>(), [1, 2, 3, 5], "the host's own are not the panel's");
    assert!(books.events_after(0, Some("other"), 100).await.unwrap().is_empty());
}

pub async fn events_of_many_writers_are_numbered_in_order(books: Books) {
    let writers: Vec<_> = (0..16)
        .map(|w| {
            let books = books.clone();
            tokio::spawn(async move {
                for n in 0..8 {
                    tell(&books, None, &format!("{w}.{n}"), NOW).await;
                }
            })
        })
        .collect();
    // A reader that follows the feed must miss nothing.
    let reader = {
        let books = books.clone();
        tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.len() < 128 {
                let new = books.events_after(seen.last().copied().unwrap_or(0), None, 10).await.unwrap();
                seen.extend(new.into_iter().map(|e| e.seq));
                tokio::task::yield_now().await;
            }
            seen
        })
    };
    for writer in writers {
        writer.await.unwrap();
    }
    let seen =
        tokio::time::timeout(std::time::Duration::from_secs(30), reader).await.expect("an event was missed").unwrap();
    assert_eq!(seen, (1..=128).collect::<Vec<i64>>());
}

pub async fn a_hook_is_told_what_it_wants_and_nothing_else(books: Books) {
    hook(&books, "all", &[]).await;
    hook(&books, "family", &["service.*"]).await;
    hook(&books, "exact", &["service.ready"]).await;
    let off = json!({ "plugin": "webhook", "off": true });
    books.put_object(ObjectKind::Hook, "off", off, None, None, NOW).await.unwrap();
    let foreign = json!({ "plugin": "webhook", "panel": "other" });
    books.put_object(ObjectKind::Hook, "foreign", foreign, None, None, NOW).await.unwrap();
    books.put_object(ObjectKind::Hook, "broken", json!({ "nonsense": 1 }), None, None, NOW).await.unwrap();
    let (s, _) = create(&books, "1", NOW).await;
    tell(&books, Some(&s), "service.ready", NOW).await;
    tell(&books, None, "host.started", NOW).await;
    let got = deliveries(&books, Uuid::new_v4(), NOW).await;
    let expected = pairs([
        ("all", "host.started"),
        ("all", "service.ready"),
        ("exact", "service.ready"),
        ("family", "service.ready"),
    ]);
    assert_eq!(kinds(&got), expected);
}

pub async fn a_hook_gets_the_events_of_a_service_in_order(books: Books) {
    hook(&books, "h", &[]).await;
    hook(&books, "i", &[]).await;
    let (a, b) = (create(&books, "a", NOW).await.0, create(&books, "b", NOW).await.0);
    for (s, kind) in [(&a, "a1"), (&a, "a2"), (&b, "b1"), (&a, "a3")] {
        tell(&books, Some(s), kind, NOW).await;
    }
    let owner = Uuid::new_v4();
    let first = deliveries(&books, owner, NOW).await;
    assert_eq!(kinds(&first), pairs([("h", "a1"), ("h", "b1"), ("i", "a1"), ("i", "b1")]));
    assert!(deliveries(&books, owner, NOW + 1).await.is_empty(), "the next waits for the one before");
    let h = first.iter().find(|d| d.hook == "h" && d.event.event.kind == "a1").unwrap();
    books.settle_delivery(owner, h, None, NOW + 1).await.unwrap();
    let second = deliveries(&books, owner, NOW + 1).await;
    assert_eq!(kinds(&second), pairs([("h", "a2")]), "hooks do not wait for each other");
    books.settle_delivery(owner, &second[0], Some(NOW + 500), NOW + 2).await.unwrap();
    assert!(deliveries(&books, owner, NOW + 2).await.is_empty(), "one that failed holds the others back");
    let again = deliveries(&books, owner, NOW + 500).await;
    assert_eq!(kinds(&again), pairs([("h", "a2")]));
    books.settle_delivery(owner, &again[0], None, NOW + 500).await.unwrap();
    assert_eq!(kinds(&deliveries(&books, owner, NOW + 500).await), pairs([("h", "a3")]));
}

pub async fn a_failed_delivery_comes_again_and_counts(books: Books) {
    hook(&books, "h", &[]).await;
    let (s, _) = create(&books, "1", NOW).await;
    assert_eq!(books.next_delivery_due().await.unwrap(), None);
    tell(&books, Some(&s), "x", NOW).await;
    assert_eq!(books.next_delivery_due().await.unwrap(), Some(NOW));
    let owner = Uuid::new_v4();
    let mut now = NOW;
    for attempt in 1..=3 {
        let got = deliveries(&books, owner, now).await;
        assert_eq!((got[0].attempt, got[0].event.event.kind.as_str()), (attempt, "x"));
        books.settle_delivery(owner, &got[0], Some(now + 100), now).await.unwrap();
        assert_eq!(books.next_delivery_due().await.unwrap(), Some(now + 100));
        assert!(deliveries(&books, owner, now + 99).await.is_empty());
        now += 100;
    }
    let got = deliveries(&books, owner, now).await;
    books.settle_delivery(owner, &got[0], None, now).await.unwrap();
    assert_eq!(books.next_delivery_due().await.unwrap(), None);
}

pub async fn a_lost_delivery_claim_settles_nothing(books: Books) {
    hook(&books, "h", &[]).await;
    tell(&books, None, "x", NOW).await;
    let owner = Uuid::new_v4();
    let old = deliveries(&books, owner, NOW).await.remove(0);
    let new = deliveries(&books, owner, NOW + TTL).await.remove(0);
    assert_eq!((new.attempt, new.epoch), (old.attempt + 1, old.epoch + 1));
    for again in [None, Some(NOW)] {
        let stale = books.settle_delivery(owner, &old, again, NOW + TTL).await;
        assert!(matches!(stale, Err(StoreError::ClaimLost)), "{stale:?}");
        let foreign = books.settle_delivery(Uuid::new_v4(), &new, again, NOW + TTL).await;
        assert!(matches!(foreign, Err(StoreError::ClaimLost)), "{foreign:?}");
    }
    books.settle_delivery(owner, &new, None, NOW + TTL).await.unwrap();
}

pub async fn a_deleted_hook_is_told_nothing_more(books: Books) {
    hook(&books, "h", &[]).await;
    tell(&books, None, "x", NOW).await;
    assert!(books.delete_object(ObjectKind::Hook, "h", None, NOW).await.unwrap());
    tell(&books, None, "y", NOW).await;
    assert!(deliveries(&books, Uuid::new_v4(), NOW).await.is_empty());
    assert_eq!(books.events_after(0, None, 10).await.unwrap().len(), 2, "the feed keeps them");
}

pub async fn the_audit_log_is_newest_first(books: Books) {
    for n in 0..4 {
        books.audit(audit(&n.to_string()), NOW + n).await.unwrap();
    }
    let log = books.audit_log(3).await.unwrap();
    assert_eq!(log.iter().map(|a| (a.seq, a.at_ms - NOW)).collect::<Vec<_>>(), [(4, 3), (3, 2), (2, 1)]);
    let first = &log[0];
    assert_eq!((first.actor.as_str(), first.action.as_str(), first.subject.as_str()), ("admin", "3", "x"));
    assert_eq!(first.body, json!({ "why": "3" }));
}
