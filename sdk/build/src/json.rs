//! Where something stands in a JSON text, so that an author is told the line.
//!
//! Only for texts that a JSON parser has read: on others the answer is none. Bounded by the length of the text.

/// A place in a text; both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub line: usize,
    pub column: usize,
}

/// Where the value at a JSON pointer (RFC 6901) begins; for a member of an object, where its name does. Of a pointer that
/// leads further than the text, the last part that is there.
pub fn place(text: &str, pointer: &str) -> Option<Place> {
    let mut at = Scan { bytes: text.as_bytes(), at: 0 };
    at.blank();
    let mut found = at.at;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        match at.enter(&part) {
            Some(start) => found = start,
            None => break,
        }
    }
    let before = text.get(..found)?;
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Some(Place { line, column })
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Scan<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blank(&mut self) {
        while self.peek().is_some_and(|b| b.is_ascii_whitespace()) {
            self.at += 1;
        }
    }

    /// Goes to the member or element of this name; where it begins.
    fn enter(&mut self, name: &str) -> Option<usize> {
        let object = match self.peek()? {
            b'{' => true,
            b'[' => false,
            _ => return None,
        };
        self.at += 1;
        let mut index = 0usize;
        loop {
            self.blank();
            if matches!(self.peek()?, b'}' | b']') {
                return None;
            }
            let start = self.at;
            let hit = if object {
                let key = self.string()?;
                self.blank();
                // The colon.
                self.at += 1;
                self.blank();
                key == name
            } else {
                name.parse() == Ok(index)
            };
            if hit {
                return Some(start);
            }
            self.skip()?;
            self.blank();
            if self.peek()? != b',' {
                return None;
            }
            self.at += 1;
            index += 1;
        }
    }

    fn string(&mut self) -> Option<String> {
        let start = self.at;
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            match self.peek()? {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        serde_json::from_slice(self.bytes.get(start..self.at)?).ok()
    }

    /// Passes one value.
    fn skip(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1)?;
                    self.at += 1;
                }
                _ => {
                    self.at += 1;
                }
            }
            if depth == 0 && matches!(self.peek(), None | Some(b',' | b'}' | b']')) {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{\n  \"id\": \"a,}\\\"b\",\n  \"requests\": [\n    { \"path\": \"/x\" },\n    { \"path\": \"/y\", \"ö/~\": [1, [2, 3]] }\n  ]\n}\n";

    #[test]
    fn a_member_is_found_by_its_name_and_an_element_by_its_number() {
        let at = |pointer| place(TEXT, pointer).map(|p| (p.line, p.column)).unwrap();
        assert_eq!(at(""), (1, 1));
        assert_eq!(at("/id"), (2, 3));
        assert_eq!(at("/requests"), (3, 3));
        assert_eq!(at("/requests/1"), (5, 5));
        assert_eq!(at("/requests/1/path"), (5, 7));
        assert_eq!(at("/requests/1/ö~1~0/1/1"), (5, 36));
    }

    #[test]
    fn a_pointer_that_leads_too_far_ends_at_the_last_part_that_is_there() {
        assert_eq!(place(TEXT, "/requests/1/nothing/below"), Some(Place { line: 5, column: 5 }));
        assert_eq!(place(TEXT, "/nowhere"), Some(Place { line: 1, column: 1 }));
    }
}
