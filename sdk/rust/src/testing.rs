//! A transport for tests: answers in order, and keeps what was asked.

use std::collections::VecDeque;

use crate::http::{Failure, Request, Response, Sent, Transport};

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
}
