//! The real binary on SQLite, the simulated cluster and PowerDNS as processes: the host is killed, stopped and overtaken at
//! random moments, and the world is counted afterwards.

use std::time::{Duration, Instant};

use crate::orders::{PATIENCE, Panel, count, hasty, moments, stories};
use rand::{RngExt, rngs::StdRng};
use serde_json::json;
use wharf_e2e::{
    client::Client,
    journey::{Built, House},
    peer::Peer,
    whmcs::params,
};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_at_random_moments_lose_and_double_nothing() {
    let mut moments = moments();
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::with(dir.path(), Built::in_target().unwrap(), hasty()).await.unwrap();
    let (panel, moved) = Panel::of(&house);
    let begun = Instant::now();
    let stories = stories(7001, 15, 45_000, &mut moments);
    let told: Vec<_> = stories.iter().map(|story| tokio::spawn(story.play(panel.clone()))).collect();
    for _ in 0..20 {
        // Half of them soon after the start, while claims of the last one still stand.
        let longest = if moments.random_bool(0.5) { 1_500 } else { 6_000 };
        tokio::time::sleep(Duration::from_millis(moments.random_range(50..longest))).await;
        house.wharf.take().unwrap().kill().await.unwrap();
        // As long as a supervisor waits.
        tokio::time::sleep(Duration::from_millis(moments.random_range(0..700))).await;
        house.restart().await.unwrap();
        moved.send_replace(vec![house.client.url.clone()]);
    }
    let mut sent = 0;
    for story in told {
        sent += story.await.unwrap();
    }
    println!("{} orders, {sent} hooks sent in {:?}", stories.len(), begun.elapsed());
    count(&house, &stories).await;
    // What is asked for once more is there.
    for story in stories.iter().filter(|story| story.terminated_after_ms.is_none()) {
        panel.say("create", &story.order()).await;
    }
    count(&house, &stories).await;
    house.wharf.take().unwrap().stop(Duration::from_secs(20)).await.unwrap();
}

/// One process per SQLite file is by design: the data folder is locked, also by a host that hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_on_the_same_sqlite_books_is_refused_with_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let refused = async || format!("{:#}", house.another_host("second.log").await.unwrap_err());
    let sentence = format!("another wharf serves {} already: stop it", house.dir.join("data").display());
    let text = refused().await;
    assert!(text.contains(&sentence) && text.contains("--data-dir"), "{text}");
    let first = house.wharf.as_ref().unwrap();
    first.freeze().unwrap();
    let text = refused().await;
    first.thaw().unwrap();
    assert!(text.contains(&sentence), "{text}");
    house.client.get("/v1/services").await.unwrap();
}

/// On SQLite nobody can take over from a host that hangs (see above): it finds its own claims run out, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_stopped_past_its_lease_and_continued_goes_on_and_doubles_nothing() {
    let mut moments = moments();
    let dir = tempfile::tempdir().unwrap();
    let house = House::with(dir.path(), Built::in_target().unwrap(), hasty()).await.unwrap();
    let (panel, _moved) = Panel::of(&house);
    let stories = stories(7101, 6, 15_000, &mut moments);
    let told: Vec<_> = stories.iter().map(|story| tokio::spawn(story.play(panel.clone()))).collect();
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(moments.random_range(100..2_500))).await;
        let host = house.wharf.as_ref().unwrap();
        host.freeze().unwrap();
        // Longer than a claim holds and than a call is waited for.
        tokio::time::sleep(Duration::from_millis(moments.random_range(4_000..8_000))).await;
        host.thaw().unwrap();
    }
    for story in told {
        story.await.unwrap();
    }
    count(&house, &stories).await;
}

/// Freezes the first host, takes the lock away and starts a second one.
///
/// Frozen in the middle of a write, the first one holds the file itself: then nobody writes, which is safe, too, and no
/// overtaking. That is tried again at another moment.
async fn overtake(house: &House, first: &Peer, moments: &mut StdRng) -> Peer {
    for _ in 0..20 {
        first.freeze().unwrap();
        std::fs::remove_file(house.dir.join("data/lock")).unwrap();
        match house.another_host("second.log").await {
            Ok(second) => {
                let writer = Client { url: second.url.clone(), ..house.client.clone() };
                let image = json!({"templates": [{"server": "pve", "vmid": 9001}]});
                match writer.put("/v1/admin/images/written-by-the-second-host", &image).await {
                    Ok(_) => return second,
                    Err(error) => assert!(format!("{error:#}").contains("503"), "{error:#}"),
                }
                second.kill().await.unwrap();
            }
            Err(error) => assert!(format!("{error:#}").contains("locked"), "{error:#}"),
        }
        first.thaw().unwrap();
        tokio::time::sleep(Duration::from_millis(moments.random_range(20..300))).await;
    }
    panic!("the first host was frozen twenty times in the middle of a write");
}

/// What happens on shared books, and here to an admin who takes the lock away from a host that hangs: another host takes its
/// work over, and what the first one still says when it wakes up is refused by the fence.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_stopped_past_its_lease_and_overtaken_changes_nothing_when_it_goes_on() {
    let mut moments = moments();
    let dir = tempfile::tempdir().unwrap();
    let mut house = House::with(dir.path(), Built::in_target().unwrap(), hasty()).await.unwrap();
    let (panel, moved) = Panel::of(&house);
    let mut stories = stories(7201, 4, 2_000, &mut moments);
    for story in &mut stories {
        story.terminated_after_ms = None;
    }
    let told: Vec<_> = stories.iter().map(|story| tokio::spawn(story.play(panel.clone()))).collect();
    tokio::time::sleep(Duration::from_millis(moments.random_range(800..4_000))).await;
    let first = house.wharf.take().unwrap();
    let second = overtake(&house, &first, &mut moments).await;
    house.client.url.clone_from(&second.url);
    house.whmcs.host.clone_from(&second.url);
    moved.send_replace(vec![second.url.clone()]);
    house.wharf = Some(second);
    for story in told {
        story.await.unwrap();
    }
    for story in &stories {
        house.until(&story.service.to_string(), "active", PATIENCE).await.unwrap();
    }
    let vms = house.cluster().await.unwrap()["vms"].clone();
    first.thaw().unwrap();
    // Longer than anything that it may have had in hand.
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(house.cluster().await.unwrap()["vms"], vms);
    count(&house, &stories).await;
    first.kill().await.unwrap();
    count(&house, &stories).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_is_refused_before_the_body_is_parsed_and_a_repeated_id_gives_the_same_operation() {
    let dir = tempfile::tempdir().unwrap();
    let house = House::build(dir.path(), Built::in_target().unwrap()).await.unwrap();
    let order = params(8001, "linked", "", json!({}));
    let stranger = wharf_e2e::whmcs::Whmcs {
        secret: "whsec_c3RyYW5nZXItd2l0aC1hbm90aGVyLWtleS1hbHRvZ2V0aGVy".into(),
        ..house.whmcs.clone()
    };
    assert_eq!(stranger.post("create", &order).await.unwrap().0, 401);
    let nobody = wharf_e2e::whmcs::Whmcs { panel: "nobody".into(), ..house.whmcs.clone() };
    assert_eq!(nobody.post("create", &order).await.unwrap().0, 401);
    assert_eq!(house.whmcs.post_as("msg_1", "create", &order).await.unwrap().0, 200);
    assert_eq!(house.whmcs.post_as("msg_1", "create", &order).await.unwrap().0, 200);
    let other = params(8002, "linked", "", json!({}));
    let (status, body) = house.whmcs.post_as("msg_1", "create", &other).await.unwrap();
    assert_eq!(status, 409, "{body}");
    let (status, body) = house.whmcs.post("create", &params(8003, "secret-plan", "", json!({}))).await.unwrap();
    assert!(status == 422 && !body.contains("success"), "{status} {body}");
    let (status, body) =
        house.whmcs.post("create", &params(8004, "linked", "", json!({"CPU Coers": "2"}))).await.unwrap();
    assert!(status == 422 && !body.contains("success"), "{status} {body}");
    assert!(house.client.get("/v1/services/shop:8004").await.is_err(), "nothing is half done");
    house.until("8001", "active", PATIENCE).await.unwrap();
}
