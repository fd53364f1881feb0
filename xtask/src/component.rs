//! From a core module to a component that carries its manifest. What comes out is valid and has exactly one manifest,
//! at its top level.

use std::path::Path;

use anyhow::{Context, Result, bail};
use wasmparser::{Parser, Payload};
use wit_parser::WorldItem;
use wit_parser::decoding::{DecodedWasm, decode};

/// Name of the custom section, as the host reads it.
pub const SECTION: &str = "wharf:manifest";

/// Makes a component of a core module whose contract is in its `component-type` sections.
pub fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = wit_component::ComponentEncoder::default();
    encoder.module(module).context("the module does not say which world it is for")?.validate(true);
    encoder.encode().context("the module can't be made a component")
}

/// Appends the manifest at the top level. Refuses a component that has one already.
pub fn with_manifest(mut component: Vec<u8>, manifest: &[u8]) -> Result<Vec<u8>> {
    if manifest_of(&component)?.is_some() {
        bail!("the component has a manifest already");
    }
    let section = wasm_encoder::CustomSection { name: SECTION.into(), data: manifest.into() };
    // Section id 0, its length, then what `encode` writes: name and data.
    component.push(0);
    wasm_encoder::Encode::encode(&section, &mut component);
    Ok(component)
}

/// The manifest at the top level of a component, if it has one; those of modules and components inside don't count.
pub fn manifest_of(component: &[u8]) -> Result<Option<Vec<u8>>> {
    let mut depth = 0usize;
    let mut found = None;
    for payload in Parser::new(0).parse_all(component) {
        match payload.context("this is not a WebAssembly component")? {
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
pub fn check_imports(component: &[u8], manifest: &[u8]) -> Result<()> {
    let manifest: serde_json::Value = serde_json::from_slice(manifest)?;
    let wants = manifest.get("wants").and_then(|w| w.as_object());
    let DecodedWasm::Component(resolve, world) = decode(component).context("the component can't be read")? else {
        bail!("this holds WIT, not a component");
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
        bail!("`wants` in the manifest lacks what the component imports: {}", missing.join(", "));
    }
    Ok(())
}

/// A manifest file, without white space, and the id in it.
pub fn read_manifest(path: &Path) -> Result<(String, Vec<u8>)> {
    let place = path.display();
    let text =
        std::fs::read(path).with_context(|| format!("{place} can't be read: each plugin has a manifest.json"))?;
    let value: serde_json::Value = serde_json::from_slice(&text).with_context(|| format!("{place} is not JSON"))?;
    let id = value.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
    if id.is_empty() || !id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        bail!("{place}: `id` must be a word of a-z, 0-9 and -, it names the built file");
    }
    Ok((id, serde_json::to_vec(&value)?))
}

/// `cargo xtask manifest`: in place.
pub fn put_manifest(component: &Path, manifest: &Path) -> Result<()> {
    let (_, manifest) = read_manifest(manifest)?;
    let bytes = std::fs::read(component).with_context(|| format!("{} can't be read", component.display()))?;
    let bytes = with_manifest(bytes, &manifest).with_context(|| component.display().to_string())?;
    std::fs::write(component, bytes).with_context(|| format!("{} can't be written", component.display()))
}

/// Writes a file unless it is so already, so that its time says when it changed. True when it was written.
pub fn write_if_new(path: &Path, bytes: &[u8]) -> Result<bool> {
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(false);
    }
    std::fs::write(path, bytes).with_context(|| format!("{} can't be written", path.display()))?;
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

    #[test]
    fn every_manifest_in_the_tree_is_one_that_the_host_reads() {
        let root = crate::shell::root();
        let mut seen = 0;
        for folder in ["plugins", "tests/plugins", "tests/providers"] {
            for entry in std::fs::read_dir(root.join(folder)).unwrap().flatten() {
                let path = entry.path().join("manifest.json");
                if path.is_file() {
                    let (id, bytes) = read_manifest(&path).unwrap();
                    let manifest = wharf_model::manifest::Manifest::parse(&bytes);
                    assert_eq!(manifest.map(|m| m.id).map_err(|e| format!("{}: {e}", path.display())), Ok(id));
                    seen += 1;
                }
            }
        }
        assert!(seen >= 7, "only {seen} manifests found");
    }
}
