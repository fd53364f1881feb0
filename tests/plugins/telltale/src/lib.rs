//! Looks for secrets where none may be: in what it gets back from a peer that echoes everything, and in its own memory. And goes
//! wherever it is told to, to see whether it is let.
//!
//! What it finds it tells in a disguise (hex of each byte XOR 0xa5), so that whoever cleans up behind it can't hide it.

use wharf_sdk::dns::prelude::*;

struct Telltale;

const MASK: u8 = 0xa5;

fn masked(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{:02x}", b ^ MASK)).collect()
}

/// Needles as they are handed over: still masked.
fn needles(text: &str) -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).ok();
    text.split_whitespace().map(|hex| hex.as_bytes().chunks(2).filter_map(byte).collect()).collect()
}

/// How often a needle stands in this component's whole linear memory, what was freed included. It is unmasked byte by byte
/// while comparing, so the search itself leaves no copy.
#[cfg(target_family = "wasm")]
fn stands(masked: &[u8]) -> usize {
    let size = core::arch::wasm32::memory_size(0) * 65_536;
    let at = |address: usize| {
        #[allow(
            unsafe_code,
            reason = "every address below the memory's size can be read, and reading is all that is done"
        )]
        // SAFETY: the address is inside the linear memory and not zero.
        unsafe {
            core::ptr::with_exposed_provenance::<u8>(address).read_volatile()
        }
    };
    let stands_at = |from: &usize| masked.iter().enumerate().all(|(n, b)| at(from + n) ^ MASK == *b);
    (1..size.saturating_sub(masked.len())).filter(stands_at).count()
}

#[cfg(not(target_family = "wasm"))]
fn stands(_masked: &[u8]) -> usize {
    0
}

fn check(step: &str, detail: String) -> Check {
    Check { step: step.into(), ok: true, detail, ext: Vec::new() }
}

/// The code that a request is refused with; what was answered if it is not.
fn refused(request: &Request) -> String {
    match http::Host.send(request) {
        Ok(response) => format!("answered {}", response.status),
        Err(failure) => failure.code,
    }
}

impl Provider for Telltale {
    fn normalize(_can: Capabilities, _zone: Name, sets: Vec<Rrset>) -> Vec<Verdict> {
        sets.into_iter().map(Verdict::Ok).collect()
    }

    fn probe(_call: &Call, _zone: Name) -> Result<Probed, Problem> {
        Err(Problem::report_bug("test-only", "This plugin only tests."))
    }

    fn test_connection(call: &Call, _zone: Option<Name>, _try_write: bool) -> Vec<Check> {
        let url = format!("{}/echo", call.config("server-url").unwrap_or_default().trim_end_matches('/'));
        let slot = "{{api-key}}";
        let mut checks = Vec::new();
        // In a header and in a form's field, where the manifest allows it.
        let requests = [Request::get(&url).header("X-API-Key", slot), Request::new("POST", &url).form("key", slot)];
        // Kept, so that what was received still stands whole in memory when that is searched.
        let mut kept = Vec::new();
        for request in &requests {
            match http::Host.send(request) {
                Ok(response) => {
                    let headers: String =
                        response.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
                    checks.push(check("echo", masked(format!("{headers}\n{}", response.text).as_bytes())));
                    kept.push(response);
                }
                Err(failure) => checks.push(check("echo-failed", format!("{}: {}", failure.code, failure.message))),
            }
        }
        checks.push(check("setting", masked(call.config("api-key").unwrap_or_default().as_bytes())));
        // Everywhere else.
        let json = |text: &str| Request::new("POST", &url).text("application/json", text);
        for (step, request) in [
            ("url", Request::get(format!("{url}/{slot}"))),
            ("host", Request::get(url.replace("127.0.0.1", &format!("{slot}.peer.test")))),
            ("query", Request::get(&url).query("q", slot)),
            ("query-name", Request::get(&url).query(slot, "q")),
            ("header", Request::get(&url).header("X-Other", slot)),
            ("header-name", Request::get(&url).header(slot, "x")),
            ("record-value", json(&format!("{{\"rrsets\":[{{\"records\":[{{\"content\":\"{slot}\"}}]}}]}}"))),
            ("record-name", json(&format!("{{\"rrsets\":[{{\"name\":\"{slot}.example.com.\"}}]}}"))),
            ("field", Request::new("POST", &url).form("other", slot)),
            ("field-name", Request::new("POST", &url).form(slot, "x")),
            ("method", Request::new(slot, &url)),
        ] {
            checks.push(check(step, refused(&request)));
        }
        // An address, a blank, and a form; what became of it.
        for line in call.config("tries").unwrap_or_default().lines() {
            let mut words = line.split(' ');
            let mut next = || words.next().unwrap_or_default().to_owned();
            let mut request = Request::new(next(), next()).header("X-API-Key", slot);
            for (name, value) in next().split('&').filter_map(|pair| pair.split_once('=')) {
                request = request.form(name, value);
            }
            checks.push(check("try", format!("{}: {line}", refused(&request))));
        }
        for needle in needles(&call.config("sought").unwrap_or_default()) {
            checks.push(check("memory", stands(&needle).to_string()));
        }
        drop(kept);
        checks
    }

    fn list_zones(_call: &Call) -> Result<Vec<ZoneRef>, Problem> {
        Ok(Vec::new())
    }

    fn read(_call: &Call, _zone: ZoneRef, _what: Selector) -> Result<Snapshot, Problem> {
        Err(Problem::report_bug("test-only", "This plugin only tests."))
    }

    fn apply(_call: &Call, _zone: ZoneRef, _batch: Vec<Change>) -> Result<Report, Problem> {
        Err(Problem::report_bug("test-only", "This plugin only tests."))
    }

    fn poll(_call: &Call, _zone: ZoneRef, _operation: String) -> Result<Outcome, Problem> {
        Err(Problem::report_bug("test-only", "This plugin only tests."))
    }
}

wharf_sdk::export_dns_provider!(Telltale);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_needle_survives_its_disguise() {
        let text = masked(b"secret");
        assert!(!text.contains("secret"));
        let [needle] = needles(&text).try_into().unwrap();
        assert_eq!(needle.iter().map(|b| b ^ MASK).collect::<Vec<_>>(), b"secret");
    }
}
