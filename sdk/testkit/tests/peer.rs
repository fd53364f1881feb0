//! The peer itself, asked by a plain client: faults do what they say to what is true behind it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use wharf_testkit::{
    facade::{Facade, Refusal, Request, Response, Wait},
    faults::{Fault, Mangle, Meanwhile, Mishap, Target},
    model::{Model, Record},
    peer::Peer,
};

/// An API of two requests.
struct Tiny;

impl Facade for Tiny {
    fn settings(&self, base: &str) -> Value {
        json!({"url": base, "token": "s3cret"})
    }

    fn answer(&mut self, model: &mut Model, request: &Request) -> Response {
        if request.header("authorization") != Some("Bearer s3cret") {
            return self.refusal(Refusal::Credentials);
        }
        let zone = model.zone_mut("example.test.").unwrap();
        if request.writes() {
            let body = request.json().unwrap();
            zone.records.push(Record::new(body["name"].as_str().unwrap(), "A", body["data"].as_str().unwrap(), 60));
            zone.serial += 1;
        }
        Response::json(200, &json!(zone.sets()))
    }

    fn refusal(&self, why: Refusal) -> Response {
        match why {
            Refusal::Credentials => Response::json(401, &json!({"error": "who are you?"})),
            Refusal::RateLimited(Wait::Seconds(s)) => Response::empty(429).header("retry-after", s.to_string()),
            _ => Response::empty(500),
        }
    }
}

async fn peer() -> (Peer, reqwest::Client) {
    let peer = Peer::start(Box::new(Tiny)).await.unwrap();
    peer.add_zone("example.test.", 3);
    // reqwest asks for one, though nothing here is encrypted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    (peer, reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap())
}

fn get(client: &reqwest::Client, peer: &Peer) -> reqwest::RequestBuilder {
    client.get(format!("{}/zone?a=b%20c", peer.url)).bearer_auth("s3cret")
}

fn post(client: &reqwest::Client, peer: &Peer) -> reqwest::RequestBuilder {
    client
        .post(format!("{}/zone", peer.url))
        .bearer_auth("s3cret")
        .json(&json!({"name": "new.example.test.", "data": "192.0.2.1"}))
}

fn written(peer: &Peer) -> usize {
    peer.model().zone("example.test.").unwrap().data("new.example.test.", "A").len()
}

#[tokio::test]
async fn what_is_asked_is_in_the_log_and_what_is_written_in_the_model() {
    let (peer, client) = peer().await;
    let sets: Vec<(String, String)> = get(&client, &peer).send().await.unwrap().json().await.unwrap();
    assert_eq!(sets.len(), 3);
    assert_eq!(post(&client, &peer).send().await.unwrap().status(), 200);
    assert_eq!(written(&peer), 1);
    let log = peer.take_log();
    assert_eq!(log.len(), 2);
    assert_eq!(log[0].request.query("a"), Some("b c"));
    assert_eq!(log[1].request.json().unwrap()["data"], "192.0.2.1");
    assert!(peer.take_log().is_empty());
}

#[tokio::test]
async fn an_answer_is_lost_before_or_after_the_write() {
    let (peer, client) = peer().await;
    peer.arm(Fault::once(Target::Writes, Mishap::LostBefore));
    assert!(post(&client, &peer).send().await.is_err());
    assert_eq!(written(&peer), 0);
    peer.arm(Fault::once(Target::Writes, Mishap::LostAfter));
    assert!(post(&client, &peer).send().await.is_err());
    assert_eq!(written(&peer), 1);
    let statuses: Vec<_> = peer.take_log().into_iter().map(|asked| asked.status).collect();
    assert_eq!(statuses, [None, None]);
}

#[tokio::test]
async fn refusals_delays_mangled_bodies_redirects_and_echoes_arrive_as_they_are_armed() {
    let (peer, client) = peer().await;
    peer.arm(Fault::once(Target::Any, Mishap::Refused(Refusal::RateLimited(Wait::Seconds(7)))));
    let limited = post(&client, &peer).send().await.unwrap();
    assert_eq!((limited.status().as_u16(), limited.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(written(&peer), 0);
    peer.arm(Fault::once(Target::Any, Mishap::Delay(Duration::from_millis(150))));
    let begun = Instant::now();
    assert_eq!(get(&client, &peer).send().await.unwrap().status(), 200);
    assert!(begun.elapsed() >= Duration::from_millis(150));
    for (how, expected) in [(Mangle::Empty, ""), (Mangle::Cut(2), "[["), (Mangle::Html, "<html>")] {
        peer.arm(Fault::once(Target::Any, Mishap::Mangled(how)));
        assert!(get(&client, &peer).send().await.unwrap().text().await.unwrap().starts_with(expected));
    }
    peer.arm(Fault::once(Target::Any, Mishap::Redirect("http://192.0.2.1/".into())));
    assert_eq!(get(&client, &peer).send().await.unwrap().status(), 302);
    peer.arm(Fault::once(Target::Any, Mishap::Echo));
    assert!(get(&client, &peer).send().await.unwrap().text().await.unwrap().contains("Bearer s3cret"));
    assert_eq!(client.get(&peer.url).send().await.unwrap().status(), 401);
}

#[tokio::test]
async fn somebody_else_changes_a_zone_between_two_requests_and_a_page_comes_again_and_again() {
    let (peer, client) = peer().await;
    let emptied = Meanwhile::new(|model| model.zones.iter_mut().for_each(|z| z.records.clear()));
    peer.arm(Fault::once(Target::Reads, Mishap::Meanwhile(emptied)).after(1));
    let sets = async || get(&client, &peer).send().await.unwrap().json::<Vec<(String, String)>>().await.unwrap().len();
    assert_eq!((sets().await, sets().await), (3, 0));
    post(&client, &peer).send().await.unwrap();
    assert_eq!(sets().await, 1);
    peer.arm(Fault::always(Target::Reads, Mishap::Repeated));
    peer.model().zones.iter_mut().for_each(|z| z.records.clear());
    assert_eq!((sets().await, sets().await), (1, 1));
}
