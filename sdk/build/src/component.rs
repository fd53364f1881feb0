//! From a core module to a component that carries its manifest. What comes out is valid and has exactly one manifest,
//! at its top level.

use std::path::Path;

use wasmparser::{Parser, Payload};
use wit_parser::WorldItem;
use wit_parser::decoding::{DecodedWasm, decode};

use crate::BuildError;

/// Name of the custom section, as the host reads it.
pub const SECTION: &str = "wharf:manifest";

fn broken(what: &str, why: impl std::fmt::Display) -> BuildError {
    BuildError::Component(format!("{what}: {why:#}"))
}

/// Makes a component of a core module whose contract is in its `component-type` sections.
///
/// # Errors
/// The module names no world, or does not do what its world asks for.
pub fn encode(module: &[u8]) -> Result<Vec<u8>, BuildError> {
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.module(module).map_err(|e| broken("the module does not say which world it is for", e))?.validate(true);
    encoder.encode().map_err(|e| broken("the module can't be made a component", e))
}

/// Appends the manifest at the top level.
///
/// # Errors
/// The component has a manifest already.
pub fn with_manifest(mut component: Vec<u8>, manifest: &[u8]) -> Result<Vec<u8>, BuildError> {
    if manifest_of(&component)?.is_some() {
        return Err(BuildError::Component("the component has a manifest already".to_owned()));
    }
    let section = wasm_encoder::CustomSection { name: SECTION.into(), data: manifest.into() };
    // Section id 0, its length, then what `encode` writes: name and data.
    component.push(0);
    wasm_encoder::Encode::encode(&section, &mut component);
    Ok(component)
}

/// The manifest at the top level of a component, if it has one; those of modules and components inside don't count.
///
/// # Errors
/// These are not the bytes of a component.
pub fn manifest_of(component: &[u8]) -> Result<Option<Vec<u8>>, BuildError> {
    let mut depth = 0usize;
    let mut found = None;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|e| broken("this is no WebAssembly component", e))? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::CustomSection(section) if depth == 0 && section.name() == SECTION => {
                found = Some(section.data().to_vec());
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Fails when a component imports an interface of ours that its manifest does not want: the host would refuse it.
/// Interfaces that hold types alone give no authority and need not be named.
///
/// # Errors
/// The interfaces that are missing in `wants`.
pub fn check_imports(component: &[u8], manifest: &[u8]) -> Result<(), BuildError> {
    let manifest: serde_json::Value = serde_json::from_slice(manifest)
        .map_err(|e| BuildError::Component(format!("the manifest is not JSON: {e}")))?;
    let wants = manifest.get("wants").and_then(|w| w.as_object());
    let decoded = decode(component).map_err(|e| broken("the component can't be read", e))?;
    let DecodedWasm::Component(resolve, world) = decoded else {
        return Err(BuildError::Component("this holds WIT, not a component".to_owned()));
    };
    let imports = resolve.worlds.get(world).map(|w| &w.imports).into_iter().flatten();
    let mut missing = Vec::new();
    for (_, item) in imports {
        let WorldItem::Interface { id, .. } = item else { continue };
        let name = resolve.id_of(*id).unwrap_or_default();
        let has_functions = resolve.interfaces.get(*id).is_some_and(|i| !i.functions.is_empty());
        let bare = name.split('@').next().unwrap_or_default();
        if has_functions && name.starts_with("wharf:") && wants.is_none_or(|w| !w.contains_key(bare)) {
            missing.push(bare.to_owned());
        }
    }
    if !missing.is_empty() {
        return Err(BuildError::Component(format!(
            "`wants` in the manifest lacks what the component imports: {}",
            missing.join(", ")
        )));
    }
    Ok(())
}

/// A manifest file, without white space, and the id in it.
///
/// # Errors
/// The file is missing, is no JSON (with line and column), or has no id that can name a file.
pub fn read_manifest(path: &Path) -> Result<(String, Vec<u8>), BuildError> {
    let text = std::fs::read(path).map_err(|e| BuildError::read(path, e))?;
    let wrong = |place: String, problem: String| BuildError::Manifest { place, problem };
    let value: serde_json::Value = serde_json::from_slice(&text)
        .map_err(|e| wrong(format!("{}:{}:{}", path.display(), e.line(), e.column()), format!("no JSON: {e}")))?;
    let id = value.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        let problem = "`id` must be a word of a-z, 0-9 and -, it names the built file".to_owned();
        return Err(wrong(path.display().to_string(), problem));
    }
    let bytes = serde_json::to_vec(&value).map_err(|e| wrong(path.display().to_string(), e.to_string()))?;
    Ok((id, bytes))
}

/// Puts a manifest file into a component file, in place.
///
/// # Errors
/// As [`read_manifest`] and [`with_manifest`].
pub fn put_manifest(component: &Path, manifest: &Path) -> Result<(), BuildError> {
    let (_, manifest) = read_manifest(manifest)?;
    let bytes = std::fs::read(component).map_err(|e| BuildError::read(component, e))?;
    let bytes = with_manifest(bytes, &manifest)?;
    std::fs::write(component, bytes).map_err(|e| BuildError::written(component, e))
}

/// Writes a file unless it is so already, so that its time says when it changed. True when it was written.
///
/// # Errors
/// It can't be written.
pub fn write_if_new(path: &Path, bytes: &[u8]) -> Result<bool, BuildError> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    // Beside it first: whoever reads meanwhile gets the old file or the new one, and a file that is linked elsewhere stays there.
    let part = path.with_extension("part");
    std::fs::write(&part, bytes).map_err(|e| BuildError::written(&part, e))?;
    std::fs::rename(&part, path).map_err(|e| BuildError::written(path, e))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_comes_back_whole_and_only_once() {
        let empty = wasm_encoder::Component::new().finish();
        assert_eq!(manifest_of(&empty).unwrap(), None);
        let with = with_manifest(empty, b"{\"id\":\"x\"}").unwrap();
        assert_eq!(manifest_of(&with).unwrap().as_deref(), Some(&b"{\"id\":\"x\"}"[..]));
        assert!(with_manifest(with, b"{}").unwrap_err().to_string().contains("already"));
    }

    #[test]
    fn a_manifest_inside_a_nested_component_does_not_count() {
        let mut inner = wasm_encoder::Component::new();
        inner.section(&wasm_encoder::CustomSection { name: SECTION.into(), data: b"{}".as_slice().into() });
        let mut outer = wasm_encoder::Component::new();
        outer.section(&wasm_encoder::NestedComponentSection(&inner));
        assert_eq!(manifest_of(&outer.finish()).unwrap(), None);
    }
}
