//! `{{slot}}`: where the value of a secret goes in on the way out.
//!
//! A text is read once, from left to right; what was put in is never read again, so a value that looks like a placeholder
//! stays a value. A placeholder is two braces around 1 to 64 of `A-Z a-z 0-9 . _ -`; anything else is text.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

const NAME_MAX: usize = 64;

/// A piece of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a str),
    Slot(&'a str),
}

/// The text up to the first placeholder and the placeholder, then what is behind it.
fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    let mut next: Option<Piece<'_>> = None;
    std::iter::from_fn(move || {
        if let Some(slot) = next.take() {
            return Some(slot);
        }
        if rest.is_empty() {
            return None;
        }
        let mut from = 0;
        while let Some(at) = rest.get(from..).and_then(|r| r.find("{{")).map(|at| from + at) {
            // Of `{{{name}}` the inner two braces count.
            let inner = rest.get(at + 2..).unwrap_or_default();
            let length = inner.find(|c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c))).unwrap_or(inner.len());
            let (name, behind) = inner.split_at_checked(length).unwrap_or((inner, ""));
            if (1..=NAME_MAX).contains(&length)
                && let Some(behind) = behind.strip_prefix("}}")
            {
                let before = rest.get(..at).unwrap_or_default();
                rest = behind;
                if before.is_empty() {
                    return Some(Piece::Slot(name));
                }
                next = Some(Piece::Slot(name));
                return Some(Piece::Text(before));
            }
            from = at + 1;
        }
        Some(Piece::Text(std::mem::take(&mut rest)))
    })
}

/// The slots that a text names, in order.
pub fn named(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).filter_map(|piece| match piece {
        Piece::Slot(name) => Some(name),
        Piece::Text(_) => None,
    })
}

/// The text with values put in; a slot without value is left as it stands.
pub fn fill(text: &str, values: &BTreeMap<String, Zeroizing<String>>) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(text.len() + 256));
    for piece in pieces(text) {
        match piece {
            Piece::Text(text) => out.push_str(text),
            Piece::Slot(name) => match values.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("{{");
                    out.push_str(name);
                    out.push_str("}}");
                }
            },
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> BTreeMap<String, Zeroizing<String>> {
        [("a", "1"), ("b-c", "{{a}}")].into_iter().map(|(k, v)| (k.to_owned(), Zeroizing::new(v.to_owned()))).collect()
    }

    #[test]
    fn slots_are_found_wherever_they_stand() {
        assert_eq!(named("{{a}}x{{b-c}}").collect::<Vec<_>>(), ["a", "b-c"]);
        assert_eq!(named("{{{a}}}").collect::<Vec<_>>(), ["a"]);
        assert_eq!(named("{{ a }} {{}} {{a} {a}} ä{{ü}} {{").count(), 0);
        assert_eq!(named("{{ {{a}}").collect::<Vec<_>>(), ["a"]);
    }

    #[test]
    fn a_value_that_looks_like_a_placeholder_is_not_read_again() {
        assert_eq!(fill("x {{b-c}} {{a}} y", &values()).as_str(), "x {{a}} 1 y");
        assert_eq!(fill("{{{a}}}", &values()).as_str(), "{1}");
    }
}
