//! Logs as text and live.

use std::time::Duration;

use axum::http::Request;
use futures::StreamExt;
use serde_json::Value;
use tower::ServiceExt;
use uuid::Uuid;
use wharf_model::{
    operation::{LogBody, Status},
    service::Phase,
};
use wharf_store::{Commit, Then};

use crate::world::World;

fn line(text: &str) -> LogBody {
    LogBody::Line { level: "info".into(), message: text.into(), fields: Vec::new() }
}

/// Orders a service; returns its operation.
async fn ordered(world: &World) -> Uuid {
    let answer = world.order("shop:1", "mild").await.json();
    answer["operation"]["id"].as_str().unwrap().parse().unwrap()
}

async fn say(world: &World, operation: Uuid, lines: std::ops::Range<u32>) {
    let lines = lines.map(|n| line(&format!("line {n}"))).collect();
    world.books.append_log(operation, lines, 0).await.unwrap();
}

/// Ends an operation as its worker would.
pub async fn finish(world: &World, operation: Uuid, status: Status) {
    let now = i64::MAX / 4;
    let runs = world.books.claim(Uuid::new_v4(), 60_000, 100, now).await.unwrap();
    let run = runs.into_iter().find(|r| r.claim.operation == operation).unwrap();
    let phase = if status == Status::NeedsAdmin { Phase::NeedsAdmin } else { Phase::Active };
    world.books.commit(Commit::new(run.claim, now, Then::Finish { status, phase, reason: None })).await.unwrap();
}

/// Whole events of a live log, until it ends or nothing more comes for a while: (id, event, data).
async fn events(world: &World, path: &str, last: Option<&str>) -> Vec<(String, String, Value)> {
    let mut call = world.call("GET", path).header("accept", "text/event-stream");
    if let Some(last) = last {
        call = call.header("last-event-id", last);
    }
    let request: Request<_> = call.request();
    let answer = world.router.clone().oneshot(request).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut stream = answer.into_body().into_data_stream();
    let mut text = String::new();
    while let Ok(Some(Ok(bytes))) = tokio::time::timeout(Duration::from_secs(10), stream.next()).await {
        text.push_str(std::str::from_utf8(&bytes).unwrap());
    }
    let field = |event: &str, name: &str| {
        event.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default().to_owned()
    };
    let whole = text.split("\n\n").filter(|e| e.contains("data: "));
    whole.map(|e| (field(e, "id"), field(e, "event"), serde_json::from_str(&field(e, "data")).unwrap())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_live_log_begins_after_last_event_id_and_ends_with_the_operation() {
    let world = World::with_shop().await;
    let operation = ordered(&world).await;
    say(&world, operation, 0..5).await;
    finish(&world, operation, Status::Succeeded).await;
    let path = format!("/v1/operations/{operation}/log");

    let all = events(&world, &path, None).await;
    let (end, log) = all.split_last().unwrap();
    let numbers: Vec<i64> = log.iter().map(|(_, _, data)| data["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5], "from the beginning, without gap or repetition");
    assert!(log.iter().all(|(id, event, data)| event == "log" && id.parse().ok() == data["n"].as_i64()));
    assert_eq!((end.1.as_str(), &end.2["status"]), ("end", &Value::from("succeeded")));

    for (last, first) in [("3", 4), ("0", 1), ("nonsense", 1)] {
        let again = events(&world, &path, Some(last)).await;
        assert_eq!(again[0].2["n"], first, "after {last}");
    }
    let over = events(&world, &path, Some("5")).await;
    assert_eq!(over.iter().map(|e| e.1.as_str()).collect::<Vec<_>>(), ["end"]);
    assert_eq!(events(&world, "/v1/services/shop:1/log", Some("4")).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_logged_while_one_listens_comes_once_and_in_order() {
    let world = World::with_shop().await;
    let operation = ordered(&world).await;
    say(&world, operation, 0..2).await;
    let path = format!("/v1/operations/{operation}/log");
    let writing = async {
        for n in 1..6 {
            tokio::time::sleep(Duration::from_millis(700)).await;
            say(&world, operation, n * 10..n * 10 + 3).await;
        }
        finish(&world, operation, Status::NeedsAdmin).await;
    };
    let (seen, ()) = tokio::join!(events(&world, &path, None), writing);
    let (end, log) = seen.split_last().unwrap();
    let numbers: Vec<i64> = log.iter().map(|(_, _, data)| data["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=17).collect::<Vec<_>>());
    assert_eq!(end.2["status"], "needs-admin");
}

#[tokio::test]
async fn a_log_of_many_pages_is_whole_as_text() {
    let world = World::with_shop().await;
    let operation = ordered(&world).await;
    say(&world, operation, 0..1_201).await;
    let answer = world.get("/v1/services/shop:1/log").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert_eq!(answer.text.lines().filter(|l| l.contains("info: line ")).count(), 1_201);
    assert!(answer.text.starts_with("--- deploy: service=1 "), "{}", &answer.text[..80]);
    assert!(answer.text.ends_with("---\n"));
}
