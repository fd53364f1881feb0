//! Components under other manifests, as their next versions.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    reason = "for tests: what fails here fails the test"
)]

use wharf_model::manifest::SECTION;

/// The same code under another manifest: what this makes of the one it has.
pub fn reissued(component: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let (mut bare, mut manifest) = without_manifest(component);
    change(&mut manifest);
    let (name, data) = (SECTION.as_bytes(), serde_json::to_vec(&manifest).unwrap());
    let mut section = leb128(name.len());
    section.extend(name);
    section.extend(data);
    // A custom section has the number 0.
    bare.push(0);
    bare.extend(leb128(section.len()));
    bare.extend(section);
    bare
}

/// This code under that component's manifest, changed.
pub fn disguised(code: &[u8], manifest_of: &[u8], change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let (_, mut theirs) = without_manifest(manifest_of);
    change(&mut theirs);
    reissued(code, |own| *own = theirs)
}

/// Sections follow each other as number, length, contents; those of modules inside are contents here.
fn without_manifest(component: &[u8]) -> (Vec<u8>, serde_json::Value) {
    let (preamble, mut rest) = component.split_at(8);
    let (mut bare, mut manifest) = (preamble.to_vec(), None);
    while let Some((number, after)) = rest.split_first() {
        let (length, contents) = leb128_of(after);
        let (contents, next) = contents.split_at(length);
        let named = (*number == 0).then(|| leb128_of(contents)).map(|(n, text)| text.split_at(n));
        match named {
            Some((name, data)) if name == SECTION.as_bytes() => manifest = Some(serde_json::from_slice(data).unwrap()),
            _ => bare.extend(&rest[..rest.len() - next.len()]),
        }
        rest = next;
    }
    (bare, manifest.expect("a manifest at the top level"))
}

fn leb128(mut n: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while n > 0x7f {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

fn leb128_of(bytes: &[u8]) -> (usize, &[u8]) {
    let length = bytes.iter().position(|b| b & 0x80 == 0).unwrap() + 1;
    let (number, rest) = bytes.split_at(length);
    (number.iter().rev().fold(0, |n, b| n << 7 | usize::from(b & 0x7f)), rest)
}
