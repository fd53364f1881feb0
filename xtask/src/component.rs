//! `cargo xtask manifest`, and the proof that every manifest of the tree is one that a host reads.

use std::path::Path;

use anyhow::{Context, Result};

/// The command: puts a manifest into a component, in place.
pub fn put_manifest(component: &Path, manifest: &Path) -> Result<()> {
    wharf_build::component::put_manifest(component, manifest).with_context(|| component.display().to_string())
}

#[cfg(test)]
mod tests {
    use wharf_build::component::read_manifest;

    #[test]
    fn every_manifest_in_the_tree_is_one_that_the_host_reads() {
        let root = crate::shell::root();
        let mut seen = 0;
        for folder in ["plugins", "tests/plugins"] {
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
