//! For tests: a transport that answers in order and keeps what was asked, and a request as a peer gets it.

use std::collections::VecDeque;

use crate::http::{Body, Failure, Request, Response, Sent, Transport};

/// Answers requests one after the other. When nothing is left to answer, the request is not sent (code `connect`).
#[derive(Debug, Default)]
pub struct Scripted {
    answers: VecDeque<Result<Response, Failure>>,
    /// What was asked, in order.
    pub asked: Vec<Request>,
}

impl Scripted {
    /// The next answer: a status and a body.
    #[must_use]
    pub fn answer(mut self, status: u16, body: impl ToString) -> Self {
        self.answers.push_back(Ok(Response { status, headers: Vec::new(), text: body.to_string() }));
        self
    }

    /// Adds a header to the answer that was given last.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if let Some(Ok(last)) = self.answers.back_mut() {
            last.headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// The next request gets no answer; whether the peer may have seen it.
    #[must_use]
    pub fn lost(mut self, sent: Sent, code: &str) -> Self {
        self.answers.push_back(Err(Failure { sent, code: code.into(), message: "no answer".into(), ext: Vec::new() }));
        self
    }

    /// What was asked, as `GET https://…` lines.
    pub fn lines(&self) -> Vec<String> {
        self.asked.iter().map(|r| format!("{} {}", r.method, r.url)).collect()
    }
}

impl Transport for Scripted {
    fn send(&mut self, request: &Request) -> Result<Response, Failure> {
        self.asked.push(request.clone());
        let none = || Failure {
            sent: Sent::NotSent,
            code: "connect".into(),
            message: "the script has no further answer".into(),
            ext: Vec::new(),
        };
        self.answers.pop_front().unwrap_or_else(|| Err(none()))
    }
}

/// Headers (names in lower case) and body of a request as a peer gets it from the host: secrets, given by slot, stand in the place
/// of their slots, and a form is encoded. That a slot stands where the manifest allows it is the host's to check.
pub fn delivered(request: &Request, secrets: &[(&str, &str)]) -> (Vec<(String, String)>, Vec<u8>) {
    let filled = |text: &str| {
        secrets.iter().fold(text.to_owned(), |text, (slot, value)| text.replace(&format!("{{{{{slot}}}}}"), value))
    };
    let mut headers: Vec<_> =
        request.headers.iter().map(|(name, value)| (name.to_lowercase(), filled(value))).collect();
    let (kind, body) = match &request.body {
        Body::None => return (headers, Vec::new()),
        Body::Text(kind, text) => (kind.clone(), text.clone()),
        Body::Form(fields) => {
            // Every byte is escaped, so no rule is needed of which may stay.
            let encoded = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
            let pairs = fields.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(&filled(value))));
            ("application/x-www-form-urlencoded".to_owned(), pairs.collect::<Vec<_>>().join("&"))
        }
    };
    headers.push(("content-type".to_owned(), kind));
    (headers, body.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_in_order_and_what_was_asked_is_kept() {
        let mut script =
            Scripted::default().answer(200, "{}").header("retry-after", "3").lost(Sent::MaybeSent, "timeout");
        let first = script.send(&Request::get("https://a.test/x")).unwrap();
        assert_eq!((first.status, first.retry_after_ms()), (200, Some(3000)));
        assert_eq!(script.send(&Request::new("PUT", "https://a.test/y")).unwrap_err().sent, Sent::MaybeSent);
        assert_eq!(script.send(&Request::get("https://a.test/z")).unwrap_err().code, "connect");
        assert_eq!(script.lines(), ["GET https://a.test/x", "PUT https://a.test/y", "GET https://a.test/z"]);
    }

    #[test]
    fn a_peer_gets_secrets_in_the_place_of_their_slots_and_a_form_encoded() {
        let request = Request::new("POST", "https://a.test/").header("X-Key", "a {{key}}").form("who", "{{other}}&");
        let (headers, body) = delivered(&request, &[("key", "s3cret"), ("other", "B")]);
        assert_eq!(headers[0], ("x-key".to_owned(), "a s3cret".to_owned()));
        assert_eq!(headers[1], ("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
        assert_eq!(body, b"%77%68%6F=%42%26");
        let (headers, body) =
            delivered(&Request::new("PUT", "https://a.test/").text("text/plain", "{{key}}"), &[("key", "x")]);
        assert_eq!(
            (headers[0].1.as_str(), body.as_slice()),
            ("text/plain", b"{{key}}".as_slice()),
            "no slot in a body"
        );
    }
}
