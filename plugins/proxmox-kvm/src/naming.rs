//! Names: the VM name rule with its macros, the FQDN, the OS user. A name is made once and kept as a fact.

/// What a rule may speak of.
#[derive(Debug, Clone, Copy)]
pub struct Words<'a> {
    pub client_id: &'a str,
    pub service_id: &'a str,
    pub now_ms: u64,
    /// Random bytes for digits and letters, used one after another, over again when they run out.
    pub random: &'a [u8],
}

/// Expands a rule. Unknown macros stay as they are (and lose their braces in [`host_label`]).
pub fn expand(rule: &str, words: &Words<'_>) -> String {
    let date = Date::of(words.now_ms);
    let mut random = words.random.iter().copied().cycle();
    let mut out = String::new();
    let mut rest = rule;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            rest = after;
            break;
        };
        rest = tail;
        match name {
            "client_id" => out.push_str(words.client_id),
            "service_id" => out.push_str(words.service_id),
            "unixtime" => out.push_str(&(words.now_ms / 1000).to_string()),
            "year" => out.push_str(&format!("{:04}", date.year)),
            "month" => out.push_str(&format!("{:02}", date.month)),
            "day" => out.push_str(&format!("{:02}", date.day)),
            "hour" => out.push_str(&format!("{:02}", date.hour)),
            "minute" => out.push_str(&format!("{:02}", date.minute)),
            "second" => out.push_str(&format!("{:02}", date.second)),
            other => match count(other) {
                Some((n, letters)) => out.extend((0..n).filter_map(|_| {
                    let byte = random.next()?;
                    Some(char::from(if letters { b'a' + byte % 26 } else { b'0' + byte % 10 }))
                })),
                None => out.push_str(other),
            },
        }
    }
    out.push_str(rest);
    out
}

/// "random_digit_4" → (4, false), "random_letter_2" → (2, true); at most 32.
fn count(name: &str) -> Option<(usize, bool)> {
    let (digits, letters) = match name.strip_prefix("random_digit_") {
        Some(digits) => (digits, false),
        None => (name.strip_prefix("random_letter_")?, true),
    };
    digits.parse().ok().map(|n: usize| (n.min(32), letters))
}

/// Makes a text one DNS label: lower case, letters, digits and inner hyphens, at most 63; "vm" when nothing is left.
pub fn host_label(text: &str) -> String {
    let mut label = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        let c = if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
        if c != '-' || (!label.is_empty() && !label.ends_with('-')) {
            label.push(c);
        }
    }
    label.truncate(63);
    let label = label.trim_end_matches('-');
    if label.is_empty() { "vm".into() } else { label.into() }
}

/// A random user name: a letter, then seven letters and digits.
pub fn random_user(random: &[u8]) -> String {
    const SET: &[u8] = b"abcdefghijkmnpqrstuvwxyz23456789";
    random
        .iter()
        .take(8)
        .enumerate()
        .filter_map(|(n, byte)| SET.get(usize::from(*byte) % if n == 0 { 24 } else { SET.len() }))
        .map(|c| char::from(*c))
        .collect()
}

struct Date {
    year: i64,
    month: u32,
    day: u32,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Date {
    /// UTC. Days to a date after Howard Hinnant's `civil_from_days`.
    fn of(now_ms: u64) -> Self {
        let seconds = now_ms / 1000;
        let days = i64::try_from(seconds / 86_400).unwrap_or_default() + 719_468;
        let era = days.div_euclid(146_097);
        let doe = days.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = u32::try_from(doy - (153 * mp + 2) / 5 + 1).unwrap_or(1);
        let month = u32::try_from(if mp < 10 { mp + 3 } else { mp - 9 }).unwrap_or(1);
        Self {
            year: yoe + era * 400 + i64::from(month <= 2),
            month,
            day,
            hour: seconds / 3600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // 2024-02-29 13:05:09 UTC
    const WORDS: Words<'static> =
        Words { client_id: "17", service_id: "5546", now_ms: 1_709_211_909_000, random: &[0, 1, 12, 27] };

    #[test]
    fn every_macro_is_expanded() {
        let table = [
            ("{client_id}-{service_id}", "17-5546"),
            ("vm{year}{month}{day}-{hour}{minute}{second}", "vm20240229-130509"),
            ("a{random_digit_4}b", "a0127b"),
            ("{random_letter_5}", "abmba"),
            ("{unixtime}", "1709211909"),
            ("x{unknown}y", "xunknowny"),
            ("x{open", "xopen"),
            ("{random_digit_x}", "random_digit_x"),
        ];
        for (rule, wanted) in table {
            assert_eq!(expand(rule, &WORDS), wanted, "{rule}");
        }
    }

    #[test]
    fn a_label_is_always_a_dns_name() {
        for (text, label) in [("17-5546", "17-5546"), ("Ä_My VM!", "my-vm"), ("--", "vm"), ("a..b", "a-b"), ("", "vm")]
        {
            assert_eq!(host_label(text), label, "{text}");
        }
        assert_eq!(host_label(&"a".repeat(80)).len(), 63);
        assert_eq!(host_label(&format!("{}-b", "a".repeat(62))), "a".repeat(62));
    }

    #[test]
    fn a_random_user_begins_with_a_letter() {
        let user = random_user(&[255, 31, 0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(user.len(), 8);
        assert!(user.starts_with(|c: char| c.is_ascii_lowercase()), "{user}");
    }
}
