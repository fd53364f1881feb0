//! What goes wrong between a plugin and its provider.

use std::{fmt, sync::Arc, time::Duration};

use crate::{
    facade::{Facade, Refusal, Request, Response},
    model::Model,
};

/// Which requests a fault strikes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Any,
    Reads,
    Writes,
    /// Whose path contains this.
    Path(String),
}

impl Target {
    pub fn is_hit(&self, request: &Request) -> bool {
        match self {
            Self::Any => true,
            Self::Reads => !request.writes(),
            Self::Writes => request.writes(),
            Self::Path(part) => request.path.contains(part),
        }
    }
}

/// What is done to a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mangle {
    Empty,
    /// Ends after so many bytes, and the length says so: a truncated answer that looks whole.
    Cut(usize),
    /// A page of HTML instead.
    Html,
    /// So many bytes of blanks before it.
    Blow(usize),
    /// This put in front of what is there.
    Prefix(String),
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mishap {
    /// The answer comes so much later.
    Delay(Duration),
    /// The connection is closed and nothing was done.
    LostBefore,
    /// It was done, and the connection is closed without an answer.
    LostAfter,
    /// Not done; the provider refuses in its own words.
    Refused(Refusal),
    /// Not done; this is answered.
    Answered(Response),
    /// Done, and the answer is changed.
    Mangled(Mangle),
    /// Not done: the client is sent elsewhere.
    Redirect(String),
    /// Done, and the request's own headers and body are put at the end of the answer: a debugging proxy.
    Echo,
    /// Somebody else changes the zones first; then it is done.
    Meanwhile(Meanwhile),
    /// Not done; what was answered last is answered again: a cache, or a page that never ends.
    Repeated,
}

/// What somebody else does to the zones between two requests.
#[derive(Clone)]
pub struct Meanwhile(Arc<dyn Fn(&mut Model) + Send + Sync>);

impl Meanwhile {
    pub fn new(change: impl Fn(&mut Model) + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    pub fn happen(&self, model: &mut Model) {
        (self.0)(model);
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

impl PartialEq for Meanwhile {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Meanwhile {}

/// Strikes `times` requests that it is aimed at, after letting `skip` of them pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub target: Target,
    pub skip: usize,
    /// None = for ever.
    pub times: Option<usize>,
    pub mishap: Mishap,
}

impl Fault {
    /// Once, at the first request that it is aimed at.
    pub fn once(target: Target, mishap: Mishap) -> Self {
        Self { target, skip: 0, times: Some(1), mishap }
    }

    /// Every time.
    pub fn always(target: Target, mishap: Mishap) -> Self {
        Self { target, skip: 0, times: None, mishap }
    }

    /// After so many.
    #[must_use]
    pub fn after(mut self, skip: usize) -> Self {
        self.skip = skip;
        self
    }
}

/// Those that are armed.
#[derive(Debug, Default)]
pub struct Armed(Vec<Fault>);

impl Armed {
    pub fn arm(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// What strikes this request: the first that is aimed at it and has let enough pass.
    pub fn strike(&mut self, request: &Request) -> Option<Mishap> {
        let mut struck = None;
        for fault in self.0.iter_mut().filter(|f| f.times != Some(0) && f.target.is_hit(request)) {
            if fault.skip > 0 {
                fault.skip -= 1;
            } else if struck.is_none() {
                fault.times = fault.times.map(|n| n - 1);
                struck = Some(fault.mishap.clone());
            }
        }
        struck
    }
}

/// What comes of a request that this strikes; none = no answer comes. It takes no time here: a delay is for whoever serves it.
pub fn answer(
    mishap: Option<&Mishap>,
    facade: &mut dyn Facade,
    model: &mut Model,
    request: &Request,
) -> Option<Response> {
    let mut response = match mishap {
        Some(Mishap::LostBefore) => return None,
        Some(Mishap::Refused(why)) => return Some(facade.refusal(*why)),
        Some(Mishap::Answered(response)) => return Some(response.clone()),
        Some(Mishap::Redirect(to)) => return Some(Response::empty(302).header("location", to)),
        Some(Mishap::Meanwhile(change)) => {
            change.happen(model);
            facade.answer(model, request)
        }
        _ => facade.answer(model, request),
    };
    match mishap {
        Some(Mishap::LostAfter) => return None,
        Some(Mishap::Mangled(how)) => response.body = mangled(response.body, how),
        Some(Mishap::Echo) => {
            for (name, value) in &request.headers {
                response.body.extend_from_slice(format!("\n{name}: {value}").as_bytes());
            }
            response.body.extend_from_slice(&request.body);
        }
        _ => {}
    }
    Some(response)
}

/// The body as it arrives.
fn mangled(body: Vec<u8>, how: &Mangle) -> Vec<u8> {
    match how {
        Mangle::Empty => Vec::new(),
        Mangle::Cut(most) => body.into_iter().take(*most).collect(),
        Mangle::Html => b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>".to_vec(),
        Mangle::Blow(bytes) => std::iter::repeat_n(b' ', *bytes).chain(body).collect(),
        Mangle::Prefix(text) => text.bytes().chain(body).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str) -> Request {
        Request { method: method.into(), path: "/zones".into(), ..Request::default() }
    }

    #[test]
    fn a_fault_lets_pass_what_it_shall_and_strikes_as_often_as_it_shall() {
        let mut armed = Armed::default();
        armed.arm(Fault::once(Target::Writes, Mishap::LostAfter).after(1));
        assert_eq!(armed.strike(&request("PUT")), None);
        assert_eq!(armed.strike(&request("GET")), None);
        assert_eq!(armed.strike(&request("PUT")), Some(Mishap::LostAfter));
        assert_eq!(armed.strike(&request("PUT")), None);
    }

    #[test]
    fn of_two_faults_one_strikes_at_a_time() {
        let mut armed = Armed::default();
        armed.arm(Fault::once(Target::Any, Mishap::LostBefore));
        armed.arm(Fault::once(Target::Any, Mishap::Echo));
        assert_eq!(armed.strike(&request("GET")), Some(Mishap::LostBefore));
        assert_eq!(armed.strike(&request("GET")), Some(Mishap::Echo));
        assert_eq!(armed.strike(&request("GET")), None);
    }
}
