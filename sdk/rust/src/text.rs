//! Texts of TXT records in presentation form (RFC 1035 §5.1): one string or more within quotes, in which a backslash stands
//! before a quote, before another backslash, and before the three decimal digits of any other byte.

use crate::names::Refused;

/// A string holds so many bytes (RFC 1035 §3.3).
pub const STRING_BYTES: usize = 255;

/// The strings of a value, as bytes. Text that is not within quotes is one string, and a backslash in it is one.
///
/// # Errors
/// A quote is not closed, or something stands between strings.
pub fn strings(data: &str) -> Result<Vec<Vec<u8>>, Refused> {
    let data = data.trim();
    if !data.starts_with('"') {
        return Ok(vec![data.as_bytes().to_vec()]);
    }
    let wrong = |why: &str| Refused(format!("The text {data} {why}."));
    let mut all = Vec::new();
    let mut rest = data.bytes().peekable();
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => {}
            b' ' | b'\t' => continue,
            _ => return Err(wrong("has something outside of its quotes")),
        }
        let mut string = Vec::new();
        loop {
            match rest.next().ok_or_else(|| wrong("has a quote that is not closed"))? {
                b'"' => break,
                b'\\' => {
                    let next = rest.next().ok_or_else(|| wrong("ends with a backslash"))?;
                    if !next.is_ascii_digit() {
                        string.push(next);
                        continue;
                    }
                    let mut value = u16::from(next - b'0');
                    for _ in 0..2 {
                        let digit = rest.next().filter(u8::is_ascii_digit);
                        let digit = digit.ok_or_else(|| wrong("has a backslash before fewer than three digits"))?;
                        value = value * 10 + u16::from(digit - b'0');
                    }
                    string.push(u8::try_from(value).map_err(|_| wrong("has a byte of more than 255"))?);
                }
                other => string.push(other),
            }
        }
        all.push(string);
    }
    Ok(all)
}

/// Strings in presentation form. Bytes beyond printable ASCII become three digits.
pub fn presentation<S: AsRef<[u8]>>(strings: &[S]) -> String {
    let one = |string: &S| {
        let mut out = String::from("\"");
        for byte in string.as_ref() {
            match byte {
                b'"' | b'\\' => out.extend(['\\', char::from(*byte)]),
                b' '..=b'~' => out.push(char::from(*byte)),
                _ => out.push_str(&format!("\\{byte:03}")),
            }
        }
        out.push('"');
        out
    };
    strings.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// A value in canonical presentation form: long strings are cut, since a string has 255 bytes at most.
///
/// # Errors
/// It is no text.
pub fn canonical(data: &str) -> Result<String, Refused> {
    let cut = |string: Vec<u8>| match string.len() {
        0 => vec![string],
        _ => string.chunks(STRING_BYTES).map(<[u8]>::to_vec).collect(),
    };
    Ok(presentation(&strings(data)?.into_iter().flat_map(cut).collect::<Vec<_>>()))
}

/// Text that was entered without quotes gets them; other text stays as it is.
pub fn quoted(text: &str) -> String {
    let text = text.trim();
    if text.starts_with('"') {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_makes_the_round_trip() {
        for text in
            [r#""""#, r#""plain""#, r#""a \"b\" \\ c; d""#, r#""b\195\188cher""#, r#""two" "strings""#, r#""\000\255""#]
        {
            assert_eq!(presentation(&strings(text).unwrap()), text);
            assert_eq!(canonical(text).as_deref(), Ok(text));
        }
        assert_eq!(strings(r#""b\195\188cher""#).unwrap(), ["bücher".as_bytes()]);
    }

    #[test]
    fn one_text_has_one_form() {
        for (text, form) in [
            ("v=spf1 -all", r#""v=spf1 -all""#),
            (r"a\b", r#""a\\b""#),
            (r#"  "a"   "b" "#, r#""a" "b""#),
            (r#""bücher\065""#, r#""b\195\188cherA""#),
        ] {
            assert_eq!(canonical(text).as_deref(), Ok(form));
        }
        let long = canonical(&"x".repeat(300)).unwrap();
        assert_eq!(strings(&long).unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [255, 45]);
        assert_eq!(quoted(r#"a "b" \"#), r#""a \"b\" \\""#);
        assert_eq!(quoted(r#""a""#), r#""a""#);
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for bad in [r#""a"#, r#""a\"#, r#""a" b"#, r#""\25""#, r#""\256""#] {
            assert!(strings(bad).is_err(), "{bad}");
        }
    }
}
