//! Text that came from a plugin, made fit to store and show.

/// Longest message that is kept, in bytes (the contract's word on `failure.message`).
pub(crate) const MESSAGE: usize = 2 * 1024;
/// Longest code.
pub(crate) const CODE: usize = 64;
/// Most pairs in an `ext`, and longest key and value.
const EXT_PAIRS: usize = 32;
const EXT_KEY: usize = 64;
const EXT_VALUE: usize = 1024;

/// At most `max` bytes, cut between characters, control characters but line feeds and tabs replaced.
pub(crate) fn cut(text: &str, max: usize) -> String {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut out: String = text
        .get(..end)
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c })
        .collect();
    if end < text.len() {
        out.push('…');
    }
    out
}

pub(crate) fn cut_option(text: Option<String>, max: usize) -> Option<String> {
    text.map(|t| cut(&t, max))
}

pub(crate) fn cut_ext(ext: Vec<(String, String)>) -> Vec<(String, String)> {
    ext.into_iter().take(EXT_PAIRS).map(|(k, v)| (cut(&k, EXT_KEY), cut(&v, EXT_VALUE))).collect()
}

/// "64 MiB", "1.7 kB": sizes in messages.
pub(crate) fn size(bytes: u64) -> String {
    const MIB: u64 = 1024 * 1024;
    if bytes >= MIB { format!("{} MiB", bytes.div_ceil(MIB)) } else { format!("{} KiB", bytes.div_ceil(1024)) }
}

/// "a, b and c".
pub(crate) fn list<S: AsRef<str>>(items: &[S]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [head @ .., last] => {
            let head: Vec<_> = head.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", head.join(", "), last.as_ref())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("aé", 2), "a…");
        assert_eq!(cut("aé", 3), "aé");
        assert_eq!(cut("a\u{0}b", 10), "a\u{fffd}b");
    }
}
