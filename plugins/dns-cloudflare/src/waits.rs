//! How long Cloudflare asks to be left alone.
//!
//! `Retry-After` in seconds is what is documented for today (<https://developers.cloudflare.com/fundamentals/api/reference/limits/>,
//! with `Ratelimit: "default";r=50;t=30`); older copies of that page show `x-ratelimit-*` with an RFC 1123 date. None is required.
//! A date is held against the answer's own `Date`: a plugin needs no clock for it, and two clocks can't disagree.

use wharf_sdk::http::{Response, http_date};

/// Whoever exceeds the limit is blocked for five minutes (the page above).
const BLOCKED_MS: u32 = 300_000;
/// Longer is not believed.
const LONGEST_S: u64 = 3_600;

/// Milliseconds to wait after a 429.
pub fn wait_ms(response: &Response) -> u32 {
    let seconds = retry_after(response).or_else(|| window(response)).or_else(|| reset(response));
    seconds.map_or(BLOCKED_MS, |s| u32::try_from(s.clamp(1, LONGEST_S) * 1_000).unwrap_or(BLOCKED_MS))
}

/// Seconds, or a date.
fn retry_after(response: &Response) -> Option<u64> {
    let text = response.header("retry-after")?.trim();
    text.parse().ok().or_else(|| until(response, text))
}

/// The windows that are used up, or all if none says so: the longest.
fn window(response: &Response) -> Option<u64> {
    let number = |item: &str, key: &str| -> Option<u64> {
        item.split(';').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix('=')?.trim().parse().ok())
    };
    let items: Vec<(u64, u64)> = response
        .header("ratelimit")?
        .split(',')
        .filter_map(|item| Some((number(item, "r").unwrap_or(0), number(item, "t")?)))
        .collect();
    let used_up = items.iter().filter(|(left, _)| *left == 0).map(|(_, t)| *t).max();
    used_up.or_else(|| items.iter().map(|(_, t)| *t).max())
}

fn reset(response: &Response) -> Option<u64> {
    until(response, response.header("x-ratelimit-reset")?.trim())
}

fn until(response: &Response, date: &str) -> Option<u64> {
    let now = http_date(response.header("date")?)?;
    u64::try_from(http_date(date)? - now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(headers: &[(&str, &str)]) -> u32 {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        wait_ms(&Response { status: 429, headers, text: String::new() })
    }

    const NOW: (&str, &str) = ("Date", "Sat, 28 Feb 2026 23:59:30 GMT");

    #[test]
    fn each_way_to_say_it_is_understood() {
        assert_eq!(wait(&[("Retry-After", "7"), ("Ratelimit", "\"default\";r=0;t=99")]), 7_000);
        assert_eq!(wait(&[NOW, ("retry-after", "Sun, 01 Mar 2026 00:00:00 GMT")]), 30_000);
        assert_eq!(wait(&[("ratelimit", "\"default\";r=50;t=90, \"burst\";r=0;t=30")]), 30_000);
        assert_eq!(wait(&[("ratelimit", "\"default\";r=1;t=12")]), 12_000);
        assert_eq!(wait(&[NOW, ("x-ratelimit-reset", "Sun, 01 Mar 2026 00:01:30 GMT")]), 120_000);
    }

    #[test]
    fn what_is_not_said_or_not_sane_is_five_minutes_or_an_hour() {
        assert_eq!(wait(&[]), 300_000);
        assert_eq!(wait(&[("retry-after", "soon"), ("ratelimit", "x")]), 300_000);
        // Past, and without a Date to hold it against.
        assert_eq!(wait(&[NOW, ("retry-after", "Fri, 27 Feb 2026 00:00:00 GMT")]), 300_000);
        assert_eq!(wait(&[("retry-after", "Sun, 01 Mar 2026 00:00:00 GMT")]), 300_000);
        assert_eq!(wait(&[("retry-after", "99999999999")]), 3_600_000);
        assert_eq!(wait(&[("retry-after", "0")]), 1_000);
    }
}
