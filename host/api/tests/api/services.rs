//! Services as desired state, conditions, waiting, and the feed.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use uuid::Uuid;
use wharf_model::{event::NewEvent, operation::Status};
use wharf_store::{Prune, memory::Fault};

use crate::{
    log::finish,
    world::{Answer, World},
};

fn operation(answer: &Answer) -> Uuid {
    answer.json()["operation"]["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_same_wish_twice_is_one_operation_and_its_place_is_told() {
    let world = World::with_shop().await;
    let first = world.order("shop:1", "mild").await;
    assert_eq!(first.status, 202);
    let place = format!("/v1/operations/{}", operation(&first));
    assert_eq!((first.header("location"), first.header("etag")), (place.as_str(), "\"1\""));
    let second = world.order("shop:1", "mild").await;
    assert_eq!((second.status, second.header("location")), (202, place.as_str()));
    assert_eq!(world.get(&place).await.json()["kind"], "deploy");
    let shown = world.get("/v1/services/shop:1").await;
    assert_eq!((shown.header("etag"), &shown.json()["phase"]), ("\"1\"", &json!("pending")));
    assert_eq!(shown.json(), second.json());
}

#[tokio::test]
async fn if_match_keeps_a_stale_panel_from_writing_over_what_it_has_not_seen() {
    let world = World::with_shop().await;
    let put = |name: &str, value: &str| {
        world.call("PUT", "/v1/services/shop:1").header(name, value).json(&json!({"plan": "mild"}))
    };
    let missing = put("if-match", "\"1\"").send().await;
    assert_eq!(missing.refusal(), (412, "precondition".into()));
    assert_eq!(world.get("/v1/services/shop:1").await.status, 404, "nothing was made");
    assert_eq!(put("if-none-match", "*").send().await.status, 202);
    let exists = put("if-none-match", "*").send().await;
    assert_eq!(exists.refusal(), (412, "precondition".into()));
    assert!(exists.text.contains("If-Match"), "the remedy: {}", exists.text);
    assert_eq!(put("if-match", "\"1\"").send().await.status, 202);

    let delete = |tag: &str| world.call("DELETE", "/v1/services/shop:1").header("if-match", tag);
    for stale in ["\"0\"", "\"2\"", "\"7\", \"8\""] {
        let answer = delete(stale).send().await;
        assert_eq!(answer.refusal(), (412, "precondition".into()), "{stale}");
        assert!(answer.text.contains("read it again"), "the remedy: {}", answer.text);
    }
    for nonsense in ["1", "W/\"1\"", "\"one\"", ""] {
        assert_eq!(delete(nonsense).send().await.refusal(), (400, "condition".into()), "{nonsense}");
    }
    assert_eq!(world.get("/v1/services/shop:1").await.json()["phase"], "pending", "nothing was done");
    let gone = delete("\"1\"").send().await;
    assert_eq!((gone.status, gone.header("etag")), (202, "\"2\""));
    let action = world.call("POST", "/v1/services/shop:1/actions").header("if-match", "\"1\"");
    assert_eq!(action.json(&json!({"verb": "suspend"})).send().await.refusal().0, 412);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_that_have_seen_the_same_state_one_writes() {
    let world = Arc::new(World::with_shop().await);
    // Time between the look and the write, for the others to look too.
    world.store.fault_hook(Box::new(|method, _| {
        if method == "accept" {
            std::thread::sleep(Duration::from_millis(5));
        }
        Fault::None
    }));
    for round in 0..5 {
        let path = format!("/v1/services/shop:{round}");
        world.order(&format!("shop:{round}"), "mild").await;
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let (world, path) = (Arc::clone(&world), path.clone());
                tokio::spawn(async move { world.call("DELETE", &path).header("if-match", "\"1\"").send().await.status })
            })
            .collect();
        let mut answers = Vec::new();
        for writer in writers {
            answers.push(writer.await.unwrap());
        }
        answers.sort_unstable();
        assert_eq!(answers, [202, 412, 412, 412, 412, 412, 412, 412]);
    }
}

#[tokio::test]
async fn an_idempotency_key_gives_the_same_operation_and_refuses_another_content() {
    let world = World::with_shop().await;
    let put = |key: &str, plan: &str| {
        world.call("PUT", "/v1/services/shop:1").header("idempotency-key", key).json(&json!({"plan": plan}))
    };
    let first = put("\"k-1\"", "mild").send().await;
    assert_eq!(first.status, 202);
    assert_eq!(operation(&put("k-1", "mild").send().await), operation(&first));
    assert_eq!(put("k-1", "hot").send().await.refusal(), (409, "key-reused".into()));
    let delete = world.call("DELETE", "/v1/services/shop:1").header("idempotency-key", "k-1");
    assert_eq!(delete.send().await.refusal(), (409, "key-reused".into()));
    for key in ["", "\"\"", &"k".repeat(256)] {
        assert_eq!(put(key, "mild").send().await.refusal(), (400, "idempotency-key".into()));
    }
    // Keys are the caller's own.
    let other = world.token(&["services:write"], None).await;
    let answer = put("k-1", "mild").token(&other).send().await;
    assert_eq!(answer.status, 202);
    // A repeated request gets its own operation, also when others came later.
    let delete = world.call("DELETE", "/v1/services/shop:1").send().await;
    assert_ne!(operation(&delete), operation(&first));
    assert_eq!(operation(&put("k-1", "mild").send().await), operation(&first));
}

#[tokio::test(start_paused = true)]
async fn prefer_wait_holds_the_answer_back_until_the_operation_has_ended() {
    let world = World::with_shop().await;
    let begun = tokio::time::Instant::now();
    let put = world.call("PUT", "/v1/services/shop:1").header("prefer", "wait=20").json(&json!({"plan": "mild"}));
    let ending = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let id = operation(&world.get("/v1/services/shop:1").await);
        finish(&world, id, Status::Succeeded).await;
    };
    let (answer, ()) = tokio::join!(put.send(), ending);
    assert_eq!((answer.status, answer.header("preference-applied")), (200, "wait=20"));
    let shown = answer.json();
    assert_eq!((&shown["phase"], &shown["operation"]["status"]), (&json!("active"), &json!("succeeded")));
    assert!((5..9).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn patience_ends_after_what_was_asked_for_and_after_thirty_seconds_at_most() {
    let world = World::with_shop().await;
    for (n, (prefer, applied, seconds)) in
        [("wait=3", "wait=3", 3), ("respond-async, wait=600", "respond-async, wait=30", 30), ("wait=0", "wait=0", 0)]
            .into_iter()
            .enumerate()
    {
        let begun = tokio::time::Instant::now();
        let call = world.call("PUT", &format!("/v1/services/shop:{n}")).header("prefer", prefer);
        let answer = call.json(&json!({"plan": "mild"})).send().await;
        assert_eq!((answer.status, answer.header("preference-applied")), (202, applied));
        assert!(!answer.header("location").is_empty() && !answer.header("retry-after").is_empty());
        assert_eq!(begun.elapsed().as_secs(), seconds, "{prefer}");
        assert_eq!(answer.json()["operation"]["status"], "waiting");
    }
    // Nothing to wait for.
    let begun = tokio::time::Instant::now();
    let action = world.call("POST", "/v1/services/shop:1/actions").header("prefer", "wait=30");
    let answer = action.json(&json!({"verb": "suspend"})).send().await;
    assert_eq!((answer.status, &answer.json()["suspended"]), (200, &json!(true)));
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn an_operation_that_needs_an_admin_is_no_success_and_nobody_waits_on_it() {
    let world = World::with_shop().await;
    let begun = tokio::time::Instant::now();
    let put = world.call("PUT", "/v1/services/shop:1").header("prefer", "wait=30").json(&json!({"plan": "mild"}));
    let ending = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let id = operation(&world.get("/v1/services/shop:1").await);
        finish(&world, id, Status::NeedsAdmin).await;
    };
    let (answer, ()) = tokio::join!(put.send(), ending);
    assert_eq!((answer.status, &answer.json()["operation"]["status"]), (202, &json!("needs-admin")));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn services_are_listed_by_pages_and_phase() {
    let world = World::with_shop().await;
    for n in 0..7 {
        world.order(&format!("shop:{n}"), "mild").await;
    }
    let (mut seen, mut after) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("/v1/services?limit=3{after}")).await.json();
        let page = page.as_array().unwrap();
        let Some(last) = page.last() else { break };
        after = format!("&after={}", last["id"].as_str().unwrap());
        seen.extend(page.iter().map(|s| s["ref"].as_str().unwrap().to_owned()));
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..7).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(world.get("/v1/services?phase=pending").await.json().as_array().unwrap().len(), 7);
    assert_eq!(world.get("/v1/services?phase=active").await.json(), json!([]));
}

#[tokio::test]
async fn the_feed_gives_no_gap_and_no_repetition_to_who_goes_on_with_next() {
    let world = World::with_shop().await;
    let event = |n: i64| NewEvent {
        kind: "test.happened".into(),
        service_id: None,
        // Every third is not for the panel that reads.
        panel: Some(if n % 3 == 0 { "rival" } else { "shop" }.into()),
        subject: format!("shop:{n}"),
        generation: 0,
        data: json!({"n": n}),
    };
    let reader = world.token(&["events:read"], Some("shop")).await;
    let (mut seen, mut after, mut written) = (Vec::new(), 0, 0);
    for limit in [2, 1, 5, 3, 200, 1, 2].into_iter().cycle().take(60) {
        // The feed grows while it is read.
        if written < 90 {
            world.books.append_events((written..written + 3).map(event).collect(), 0).await.unwrap();
            written += 3;
        }
        let path = format!("/v1/events?after={after}&limit={limit}");
        let page = world.call("GET", &path).token(&reader).send().await.json();
        let events = page["events"].as_array().unwrap();
        assert!(events.len() <= limit);
        assert!(events.iter().all(|e| e["seq"].as_i64().unwrap() > after), "{path}: {page}");
        assert_eq!(world.call("GET", &path).token(&reader).send().await.json(), page, "the same again is the same");
        seen.extend(events.iter().map(|e| e["data"]["n"].as_i64().unwrap()));
        after = page["next"].as_i64().unwrap();
    }
    assert_eq!(seen, (0..90).filter(|n| n % 3 != 0).collect::<Vec<_>>());
    let page = world.call("GET", &format!("/v1/events?after={after}")).token(&reader).send().await.json();
    assert_eq!(page, json!({"events": [], "next": after}));
}

#[tokio::test]
async fn a_reader_that_comes_back_after_retention_is_told_where_to_go_on() {
    let world = World::with_shop().await;
    let event = |n: i64| NewEvent {
        kind: "test.happened".into(),
        service_id: None,
        panel: Some("shop".into()),
        subject: format!("shop:{n}"),
        generation: 0,
        data: json!({}),
    };
    world.books.append_events((0..5).map(event).collect(), 100).await.unwrap();
    world.books.append_events(vec![event(5)], 200).await.unwrap();
    world.books.prune(Prune::Events { before: 200 }, 100).await.unwrap();
    let reader = world.token(&["events:read"], Some("shop")).await;
    let get = async |after: i64| world.call("GET", &format!("/v1/events?after={after}")).token(&reader).send().await;
    let late = get(2).await;
    assert_eq!(late.status, 410);
    let told = late.json();
    assert_eq!(told["code"], "events-gone");
    assert!(told["detail"].as_str().unwrap().ends_with("go on with after=5"), "{told}");
    for (after, there) in [(5, 1), (0, 1), (6, 0)] {
        let answer = get(after).await;
        assert_eq!((answer.status, answer.json()["events"].as_array().unwrap().len()), (200, there), "{after}");
    }
}

#[tokio::test]
async fn a_wrong_order_is_refused_with_its_fields_and_leaves_nothing() {
    let world = World::with_shop().await;
    let put = async |body: Value| world.call("PUT", "/v1/services/shop:1").json(&body).send().await;
    for (body, field) in [
        (json!({}), "plan"),
        (json!({"plan": "mild", "option": {}}), "option"),
        (json!({"plan": "mild", "options": {"Flavour": 5}}), "options.Flavour"),
        (json!({"plan": "mild", "options": {"Flavor": "hot"}}), "options.Flavor"),
        (json!({"plan": "mild", "options": {"Flavour": "sweet"}}), "/flavour"),
        (json!({"plan": "no-such"}), "plan"),
    ] {
        let answer = put(body.clone()).await;
        assert_eq!(answer.refusal(), (422, "fields".into()), "{body}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{body}: {}", answer.text);
    }
    let answer = world.call("POST", "/v1/services/shop:1/actions").json(&json!({"verb": "reboot"})).send().await;
    assert_eq!(answer.refusal(), (422, "fields".into()));
    assert!(answer.text.contains("unsuspend"), "what there is: {}", answer.text);
    assert_eq!(world.get("/v1/services").await.json(), json!([]));
}
