//! Posts events to an address: a CloudEvents 1.0 document (structured JSON) in a Standard Webhooks envelope.
//!
//! The webhook's id is the event's id, so a receiver knows a repetition; the signature is made by the host, which alone
//! has the secret. 2xx is delivered; redirects are not followed; 410 switches the hook off; anything else is tried again
//! by the table of Standard Webhooks, ten times in three days, then the event is dropped. The feed of events remains
//! the truth: a webhook only says that it is worth a look.

use wharf_sdk::hook::prelude::*;

struct Webhook;

/// Milliseconds to wait after the n-th failed attempt: 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
const WAITS: [u32; 9] =
    [5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000, 86_400_000];
/// From connect to the last byte, as receivers are used to.
const TIMEOUT_MS: u32 = 15_000;

/// Whether an event is one that was asked for: exactly, by `prefix.*`, or all.
fn wanted(events: &[String], kind: &str) -> bool {
    events.is_empty()
        || events.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => kind.starts_with(prefix),
            None => pattern == kind,
        })
}

/// RFC 3339 with milliseconds, UTC.
fn rfc3339(at_ms: u64) -> String {
    let (seconds, ms) = (at_ms / 1000, at_ms % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Civil date from days: Howard Hinnant, "chrono-compatible low-level date algorithms". Days count from
    // 0000-03-01, so that the leap day is the last of its year.
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The document. An event's `data` is JSON; what isn't goes in as text.
fn document(event: &Event, source: &str) -> String {
    let data: serde_json::Value =
        serde_json::from_str(&event.data).unwrap_or_else(|_| serde_json::Value::String(event.data.clone()));
    serde_json::json!({
        "specversion": "1.0",
        "id": event.id,
        "source": source,
        "type": event.kind,
        "subject": event.subject,
        "time": rfc3339(event.at_ms),
        "datacontenttype": "application/json",
        // An extension attribute: the receiver drops what is older than what it has seen.
        "generation": event.generation,
        "data": data,
    })
    .to_string()
}

/// The request for one attempt, signed over `id.timestamp.body`.
fn request(url: &str, event: &Event, source: &str, now_ms: u64) -> Request {
    let timestamp = now_ms / 1000;
    let body = document(event, source);
    let payload = format!("{}.{timestamp}.{body}", event.id).into_bytes();
    Request::new("POST", url)
        .header("webhook-id", &event.id)
        .header("webhook-timestamp", timestamp.to_string())
        .sign("secret", "standard-webhooks-v1", "webhook-signature", payload)
        .text("application/cloudevents+json; charset=utf-8", body)
        .timeout_ms(TIMEOUT_MS)
}

/// What an attempt that was not delivered leads to: the next one, or the end.
fn again(attempt: u32, why: &str) -> Result<Heard, Failure> {
    let tried = usize::try_from(attempt.max(1)).unwrap_or(usize::MAX);
    match WAITS.get(tried - 1) {
        Some(wait) => Err(Failure::retry("not-delivered", format!("Attempt {attempt} failed: {why}")).after_ms(*wait)),
        None => Ok(Heard::GivenUp(format!("Given up after {attempt} attempts. The last one failed: {why}"))),
    }
}

/// What an answer means.
fn judge(attempt: u32, response: &Response) -> Result<Heard, Failure> {
    match response.status {
        200..=299 => Ok(Heard::Delivered),
        410 => Err(Failure::fix_config(
            "gone",
            "The receiver answered 410: it wants no more events. Enter another address, or remove this hook.",
        )),
        300..=399 => again(
            attempt,
            &format!(
                "the receiver answered with a redirect ({}), and those are not followed: enter the address that it points to.",
                response.status
            ),
        ),
        429 | 503 => again(attempt, &format!("the receiver answered {}.", response.status)).map_err(|mut failure| {
            // A receiver may ask for more patience than the table has, within a day.
            if let (Some(wait), Some(asked)) = (failure.retry_after_ms, response.retry_after_ms()) {
                failure.retry_after_ms = Some(wait.max(asked.min(86_400_000)));
            }
            failure
        }),
        status => again(attempt, &format!("the receiver answered {status}: {}", response.excerpt(200))),
    }
}

/// One attempt, over any transport.
fn deliver<T: Transport>(
    transport: &mut T,
    url: &str,
    source: &str,
    event: &Event,
    attempt: u32,
    now_ms: u64,
) -> Result<Heard, Failure> {
    match transport.send(&request(url, event, source, now_ms)) {
        Ok(response) => judge(attempt, &response),
        // A repetition carries the same id: that the receiver may have got it makes no difference.
        Err(failure) if http::Trouble::of(&failure.code) == http::Trouble::Passing || failure.code == "too-large" => {
            again(attempt, &failure.message)
        }
        Err(failure) => Err(Failure::from_http(failure, false)),
    }
}

impl Told for Webhook {
    fn tell(of: &Delivery) -> Result<Heard, Failure> {
        let event = of.event();
        let settings: serde_json::Value = serde_json::from_str(&of.settings())
            .map_err(|e| Failure::report_bug("settings", format!("The settings are not JSON: {e}.")))?;
        let text = |key: &str| settings.get(key).and_then(|v| v.as_str());
        let events: Vec<String> = settings
            .get("events")
            .and_then(|v| v.as_array())
            .map(|list| list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect())
            .unwrap_or_default();
        if !wanted(&events, &event.kind) {
            return Ok(Heard::Ignored);
        }
        let url = text("url")
            .ok_or_else(|| Failure::fix_config("url", "The setting `url` is missing: enter where events go."))?;
        deliver(&mut http::Host, url, text("source").unwrap_or("wharf"), &event, of.attempt(), clock::now_ms())
    }
}

wharf_sdk::export_lifecycle_hook!(Webhook);

#[cfg(test)]
mod tests {
    use super::*;
    use wharf_sdk::http::{Body, Sent};

    struct Fake(Option<Result<Response, http::Failure>>, Vec<Request>);

    impl Transport for Fake {
        fn send(&mut self, request: &Request) -> Result<Response, http::Failure> {
            self.1.push(request.clone());
            self.0.take().unwrap()
        }
    }

    fn event() -> Event {
        Event {
            id: "evt_1".into(),
            kind: "service.phase-changed".into(),
            subject: "shop:42".into(),
            at_ms: 1_795_238_052_007,
            generation: 3,
            data: r#"{"phase":"active"}"#.into(),
            ext: Vec::new(),
        }
    }

    fn attempt(n: u32, answer: Result<Response, http::Failure>) -> (Result<Heard, Failure>, Request) {
        let mut fake = Fake(Some(answer), Vec::new());
        let result = deliver(&mut fake, "https://r.test/in", "wharf", &event(), n, 1_795_238_100_999);
        (result, fake.1.remove(0))
    }

    fn status(status: u16) -> Result<Response, http::Failure> {
        Ok(Response { status, ..Response::default() })
    }

    #[test]
    fn the_signature_covers_id_timestamp_and_the_very_body_that_is_sent() {
        let (result, request) = attempt(1, status(204));
        assert_eq!(result, Ok(Heard::Delivered));
        let Body::Text(content_type, body) = &request.body else { panic!("no body") };
        assert!(content_type.starts_with("application/cloudevents+json"));
        let signature = request.signature.unwrap();
        assert_eq!(String::from_utf8(signature.payload).unwrap(), format!("evt_1.1795238100.{body}"));
        assert_eq!((signature.slot.as_str(), signature.header.as_str()), ("secret", "webhook-signature"));
        assert!(request.headers.contains(&("webhook-id".into(), "evt_1".into())));
        assert!(request.headers.contains(&("webhook-timestamp".into(), "1795238100".into())));
    }

    #[test]
    fn the_document_is_a_cloud_event() {
        let document: serde_json::Value = serde_json::from_str(&document(&event(), "wharf")).unwrap();
        assert_eq!(document["specversion"], "1.0");
        assert_eq!(document["type"], "service.phase-changed");
        assert_eq!(document["subject"], "shop:42");
        assert_eq!(document["time"], "2026-11-21T05:14:12.007Z");
        assert_eq!(document["data"]["phase"], "active");
        assert_eq!(document["generation"], 3);
    }

    #[test]
    fn dates_are_right_at_the_edges() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(ms), text);
        }
    }

    #[test]
    fn attempts_follow_the_table_and_the_tenth_is_the_last() {
        let waits: Vec<_> = (1..=9).map(|n| attempt(n, status(500)).0.unwrap_err().retry_after_ms.unwrap()).collect();
        assert_eq!(waits, WAITS);
        let Ok(Heard::GivenUp(why)) = attempt(10, status(500)).0 else { panic!("not given up") };
        assert!(why.contains("10 attempts") && why.contains("500"), "{why}");
    }

    #[test]
    fn gone_switches_the_hook_off_and_a_redirect_is_not_followed() {
        let gone = attempt(1, status(410)).0.unwrap_err();
        assert_eq!((gone.action, gone.code.as_str()), (Action::FixConfig, "gone"));
        let moved = attempt(1, status(302)).0.unwrap_err();
        assert_eq!(moved.action, Action::Retry);
        assert!(moved.message.contains("redirect"));
    }

    #[test]
    fn a_receiver_may_ask_for_more_patience() {
        let mut response = status(429).unwrap();
        response.headers = vec![("Retry-After".into(), "60".into())];
        assert_eq!(attempt(1, Ok(response)).0.unwrap_err().retry_after_ms, Some(60_000));
    }

    #[test]
    fn a_lost_answer_is_tried_again_and_a_refused_address_is_for_the_admin() {
        let failure = |code: &str| {
            Err(http::Failure {
                sent: Sent::MaybeSent,
                code: code.into(),
                message: "It broke.".into(),
                ext: Vec::new(),
            })
        };
        assert_eq!(attempt(2, failure("timeout")).0.unwrap_err().retry_after_ms, Some(300_000));
        assert_eq!(attempt(2, failure("address-refused")).0.unwrap_err().action, Action::FixConfig);
    }

    #[test]
    fn the_filter_knows_exact_kinds_prefixes_and_all() {
        let list = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        assert!(wanted(&[], "a.b"));
        assert!(wanted(&list(&["service.*"]), "service.phase-changed"));
        assert!(!wanted(&list(&["service.*"]), "services.x"));
        assert!(wanted(&list(&["x", "a.b"]), "a.b"));
        assert!(!wanted(&list(&["a"]), "a.b"));
    }
}
