//! Jobs and pauses: how they stand, and an admin's moves.

use serde_json::{Value, json};
use uuid::Uuid;
use wharf_store::JobEnd;

use crate::world::World;

async fn declared() -> (World, i64) {
    let world = World::new().await;
    let now = world.api.lender.clock.now_ms();
    for name in ["drift", "orphans"] {
        world.books.declare_job(name, 3_600_000, 10_800_000, now).await.unwrap();
    }
    (world, now)
}

async fn audit(world: &World) -> Vec<(String, String)> {
    let log = world.get("/v1/admin/audit").await.json();
    let rows = log.as_array().unwrap().iter();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.map(|row| (text(row, "action"), text(row, "subject"))).filter(|(a, _)| !a.starts_with("token.")).collect()
}

#[tokio::test]
async fn jobs_are_listed_shown_and_forced() {
    let (world, now) = declared().await;
    let list = world.get("/v1/admin/jobs").await.json();
    let names: Vec<_> = list.as_array().unwrap().iter().map(|j| j["name"].clone()).collect();
    assert_eq!(names, ["drift", "orphans"]);
    let claim = world.books.claim_jobs(&["drift"], Uuid::new_v4(), 30_000, now).await.unwrap().remove(0);
    let end = JobEnd::Done { result: json!({"findings": []}), events: Vec::new() };
    world.books.end_job(&claim, end, now).await.unwrap();
    world.pass(1_000);
    let forced = world.call("POST", "/v1/admin/jobs/drift/force").send().await;
    assert_eq!(forced.status, 202, "{}", forced.text);
    assert_eq!((&forced.json()["epoch"], &forced.json()["last_epoch"]), (&json!(1), &json!(1)));
    let shown = world.get("/v1/admin/jobs/drift").await.json();
    assert_eq!((&shown["due_ms"], &shown["stale"]), (&json!(now + 1_000), &json!(false)));
    assert_eq!(shown["last_result"], json!({"findings": []}));
    assert_eq!(audit(&world).await, [("job.force".to_owned(), "job/drift".to_owned())]);
    for path in ["/v1/admin/jobs/none/force", "/v1/admin/jobs/none/clear-locks"] {
        assert_eq!(world.call("POST", path).send().await.refusal(), (404, "not-found".into()));
    }
    assert_eq!(world.get("/v1/admin/jobs/none").await.refusal(), (404, "not-found".into()));
    world.pass(20_000_000);
    assert_eq!(world.get("/v1/admin/jobs/drift").await.json()["stale"], true);
}

#[tokio::test]
async fn locks_of_jobs_are_cleared_one_or_all() {
    let (world, now) = declared().await;
    let claims = world.books.claim_jobs(&["drift", "orphans"], Uuid::new_v4(), 30_000, now).await.unwrap();
    let one = world.call("POST", "/v1/admin/jobs/drift/clear-locks").send().await;
    assert_eq!((one.status, one.json()), (200, json!({"cleared": ["drift"]})));
    let all = world.call("POST", "/v1/admin/jobs/clear-locks").send().await;
    assert_eq!((all.status, all.json()), (200, json!({"cleared": ["orphans"]})));
    for claim in claims {
        let end = JobEnd::Failed { error: "late".into(), again_ms: now };
        assert!(world.books.end_job(&claim, end, now).await.is_err(), "{}: a zombie's end is refused", claim.name);
    }
    let actions: Vec<_> = audit(&world).await.into_iter().map(|(_, subject)| subject).collect();
    assert_eq!(actions, ["job", "job/drift"]);
}

#[tokio::test]
async fn a_pause_is_added_listed_and_removed() {
    let world = World::with_shop().await;
    let add = async |scope: &str| {
        let body = json!({"scope": scope, "reason": " the disks are swapped "});
        world.call("POST", "/v1/admin/pauses").json(&body).send().await
    };
    // The server can't be asked in this world: that must not keep it from being paused.
    let scopes = ["everything", "kind:deploy", "node:pve/pve1", "panel:shop", "server:pve"];
    for scope in scopes {
        let added = add(scope).await;
        assert_eq!(added.status, 201, "{scope}: {}", added.text);
        assert_eq!(added.json()["reason"], "the disks are swapped");
    }
    let list = world.get("/v1/admin/pauses").await.json();
    let listed: Vec<_> = list.as_array().unwrap().iter().map(|p| p["scope"].as_str().unwrap().to_owned()).collect();
    assert_eq!(listed, scopes);
    assert!(list[0]["by"].as_str().is_some_and(|by| !by.is_empty()) && list[0]["since_ms"].is_i64(), "{list}");
    let twice = add("server:pve").await;
    assert_eq!(twice.refusal(), (409, "conflict".into()));
    assert!(twice.json()["detail"].as_str().unwrap().contains("already"), "{}", twice.text);
    for scope in scopes {
        let path = format!("/v1/admin/pauses/{}", scope.replace('/', "%2F"));
        let removed = world.call("DELETE", &path).send().await;
        assert_eq!((removed.status, removed.json()), (200, json!({"removed": scope})));
        assert_eq!(world.call("DELETE", &path).send().await.refusal(), (404, "not-found".into()));
    }
    assert_eq!(world.get("/v1/admin/pauses").await.json(), json!([]));
    let moves: Vec<_> = audit(&world).await.into_iter().filter(|(a, _)| a.starts_with("pause.")).collect();
    assert_eq!(moves.len(), 10, "{moves:?}");
    assert_eq!(moves[0], ("pause.remove".to_owned(), "pause/server:pve".to_owned()));
}

#[tokio::test]
async fn a_pause_of_what_is_not_there_is_refused_with_a_remedy() {
    let world = World::with_shop().await;
    for (scope, reason, field, remedy) in [
        ("", "x", "scope", "server:<name>"),
        ("servers:pve", "x", "scope", "server:<name>"),
        ("node:pve", "x", "scope", "node:<server>/<node>"),
        ("server:pvee", "x", "scope", "no server `pvee`"),
        ("node:pvee/a", "x", "scope", "no server `pvee`"),
        ("panel:shpo", "x", "scope", "no panel `shpo`"),
        ("kind:deplyo", "x", "scope", "use one of"),
        ("everything", "  ", "reason", "say why"),
        ("everything", "a\nb", "reason", "one line"),
    ] {
        let body = json!({"scope": scope, "reason": reason});
        let answer = world.call("POST", "/v1/admin/pauses").json(&body).send().await;
        assert_eq!(answer.refusal(), (422, "fields".into()), "{scope}: {}", answer.text);
        let error = &answer.json()["errors"][0];
        assert_eq!(error["field"], field, "{scope}");
        assert!(error["message"].as_str().unwrap().contains(remedy), "{scope}: {error}");
    }
    assert_eq!(world.get("/v1/admin/pauses").await.json(), json!([]));
    // Not by way of the other objects either.
    let put = world.call("PUT", "/v1/admin/pauses/everything").json(&json!({})).send().await;
    assert_eq!(put.refusal(), (405, "method".into()));
}
