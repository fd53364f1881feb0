//! What an answer of HestiaCP means: its exit codes, and answers that are not HestiaCP's at all.
//!
//! With an access key the header `Hestia-Exit-Code` counts and not the status (a suspended domain is 401, too). With a
//! password or a key file a command that fails answers 200: writes ask for the code as body (`returncode=yes`), and what is
//! read counts only when it is JSON. Codes: `func/main.sh` and `web/inc/helpers.php` of HestiaCP 1.10.

use wharf_sdk::dns::prelude::*;

/// Exit codes that are more than a reason to stop.
pub const NOTEXIST: u16 = 3;
pub const EXISTS: u16 = 4;

/// What a command came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Exit(u16),
    /// No code: text that must be JSON to be worth anything.
    Text,
}

/// Finds the exit code. `keyed`: with an access key. An error where no HestiaCP has answered.
pub fn said(response: &Response, keyed: bool, write: bool) -> Result<Said, Problem> {
    let code = |text: &str| text.trim().parse::<u16>().ok();
    if let Some(header) = response.header("hestia-exit-code") {
        return code(header).map(Said::Exit).ok_or_else(|| strange(response, write));
    }
    match (keyed, write, response.status) {
        (false, true, 200) => code(&response.text).map(Said::Exit).ok_or_else(|| strange(response, write)),
        (false, false, 200) => Ok(Said::Text),
        _ => Err(strange(response, write)),
    }
}

/// An answer that HestiaCP does not give: of a proxy, a firewall, a broken PHP.
fn strange(response: &Response, write: bool) -> Problem {
    let (status, text) = (response.status, response.excerpt(300));
    let problem = match status {
        429 => Problem::wait("rate-limited", format!("The server asks to wait: {text}"), response.retry_after_ms()),
        503 => Problem::retry("unavailable", format!("The server is not available: {text}")),
        300..=399 => Problem::fix_config(
            "redirect",
            format!("The server answers with a redirect ({status}). Enter the address that it points to."),
        ),
        401 | 403 => Problem::fix_config(
            "refused-address",
            format!(
                "The server refuses this host before HestiaCP is asked ({status} {text}). Look whether its firewall has banned \
                 the address: five failed logins are enough."
            ),
        ),
        404 => Problem::fix_config(
            "no-api",
            "The address answers, and there is no HestiaCP API (404). Check address and port, and whether the API is on.",
        ),
        // It may have been done, whatever came back.
        _ if write => Problem::verify(
            "malformed-answer",
            format!("A command was sent, and the answer is not HestiaCP's ({status} {text})."),
        ),
        500..=599 => Problem::retry("server-error", format!("The server has a fault of its own ({status} {text}).")),
        _ => Problem::report_bug("malformed-answer", format!("The answer is not HestiaCP's ({status} {text}).")),
    };
    problem.status(status)
}

/// What a code asks for. `text` is HestiaCP's own; a number when that is all it said.
pub fn problem(code: u16, response: &Response) -> Problem {
    let text = response.excerpt(300);
    let because = if text.is_empty() || text == code.to_string() { format!("exit code {code}") } else { text.clone() };
    let has = |part: &str| text.contains(part);
    let problem = match code {
        2 => Problem::fix_input("refused", format!("HestiaCP refused it ({because}).")),
        NOTEXIST if has("user ") => Problem::fix_config(
            "user-not-found",
            format!("HestiaCP has no such user ({because}). Check the setting `user`."),
        ),
        NOTEXIST => not_found(&because),
        EXISTS => Problem::replan("exists", format!("HestiaCP has it already ({because}).")),
        5 => Problem::fix_config(
            "suspended",
            format!("The user or the domain is suspended in HestiaCP ({because}). Unsuspend it there."),
        ),
        8 => Problem::fix_config(
            "quota",
            format!("The package of the user allows no more records ({because}). Raise its DNS records limit."),
        ),
        9 => Problem::fix_config(
            "credentials",
            format!("HestiaCP refused the login ({because}). Enter the credentials again."),
        ),
        10 if has("permission") || has("not found") => Problem::fix_config(
            "privilege",
            format!(
                "The access key may not run this command ({because}). Give it a profile with all six DNS commands."
            ),
        ),
        10 if has("IP is not allowed") => Problem::fix_config(
            "address-not-allowed",
            format!("HestiaCP does not let this host use its API ({because}). Add its address to the API's list."),
        ),
        10 => Problem::fix_config(
            "credentials",
            format!("HestiaCP forbids it ({because}). Check the credentials, and that the key belongs to the user."),
        ),
        11 | 21 => Problem::fix_config(
            "switched-off",
            format!("The API or the DNS of this HestiaCP is switched off ({because}). Switch it on in its settings."),
        ),
        13 => Problem::fix_config("disk", format!("HestiaCP has no room left on its disk ({because}).")),
        14 | 15 | 17 => Problem::retry("busy", format!("HestiaCP can't do it just now ({because}).")),
        // The line is written before the DNS server is told; the next look at the zone finds it.
        20 => Problem::retry("restart", format!("HestiaCP's DNS server did not load its zones ({because}).")),
        _ => Problem::report_bug("exit-code", format!("HestiaCP ended with the code {code} ({because}).")),
    };
    with_code(problem, code).status(response.status)
}

fn with_code(mut problem: Problem, code: u16) -> Problem {
    problem.provider_code = Some(code.to_string());
    problem
}

fn not_found(because: &str) -> Problem {
    let text = format!("HestiaCP's user has no such zone ({because}). Add it there, or take it out of the zones here.");
    Problem::fix_config("zone-not-found", text)
}

/// What was read is no JSON: a failure without a code, or something else altogether.
pub fn not_json(response: &Response, why: &str) -> Problem {
    let text = response.excerpt(300);
    let problem = if text.starts_with("Error:") && text.contains("doesn't exist") {
        if text.contains("user ") {
            Problem::fix_config(
                "user-not-found",
                format!("HestiaCP has no such user ({text}). Check the setting `user`."),
            )
        } else {
            not_found(&text)
        }
    } else {
        Problem::report_bug("malformed-answer", format!("HestiaCP's list can't be read ({why}): {text}"))
    };
    problem.status(response.status)
}
