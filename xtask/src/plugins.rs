//! `cargo xtask plugins`: builds every plugin to `target/plugins/<id>.wasm`, ready to be installed.
//!
//! Plugins are built one after another, each by itself: built together, cargo would switch on the SDK's features of
//! all of them in each. One target folder serves all. What has not changed is not built again. Those in other languages than Rust
//! are [`crate::guests`]' work.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use wharf_build::component::{check_imports, encode, read_manifest, with_manifest, write_if_new};
use wharf_build::toolchain::{self, Toolchain};

use crate::guests::{self, Language};
use crate::shell::{apt, root, run};

/// A folder that holds a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    pub folder: PathBuf,
    /// Package name in its Cargo.toml; of a plugin that is not in Rust, the folder's.
    pub package: String,
    /// None = Rust.
    pub guest: Option<Language>,
}

/// Where built plugins are.
pub fn out_dir() -> PathBuf {
    root().join("target/plugins")
}

/// Builds those named, or all. All are tried; the first failure is told at the end, with the names of the others.
pub fn build_all(names: &[String]) -> Result<()> {
    build_these(&choose(sources(&root())?, names)?)
}

/// Builds all that are in Rust: for who should need no other language's tools.
pub fn build_rust() -> Result<()> {
    let mut sources = sources(&root())?;
    sources.retain(|s| s.guest.is_none());
    build_these(&sources)
}

/// Builds those in other languages, and names them.
pub fn build_guests() -> Result<Vec<(PathBuf, Language)>> {
    let mut sources = sources(&root())?;
    sources.retain(|s| s.guest.is_some());
    build_these(&sources)?;
    Ok(sources.into_iter().filter_map(|s| Some((s.folder, s.guest?))).collect())
}

fn build_these(sources: &[Source]) -> Result<()> {
    std::fs::create_dir_all(out_dir())?;
    let languages: Vec<Language> = sources.iter().filter_map(|s| s.guest).collect();
    guests::tools(&languages)?;
    let toolchain = if languages.len() < sources.len() { Some(toolchain::choose(apt)?) } else { None };
    let mut failed = Vec::new();
    for source in sources {
        let built = match (source.guest, &toolchain) {
            (Some(language), _) => build_guest(source, language),
            (None, Some(toolchain)) => build(toolchain, source),
            (None, None) => Ok(()),
        };
        if let Err(error) = built {
            eprintln!("xtask: {}: {error:#}", source.package);
            failed.push(source.package.clone());
        }
    }
    if !failed.is_empty() {
        bail!("not built: {} (see above)", failed.join(", "));
    }
    Ok(())
}

fn build(toolchain: &Toolchain, source: &Source) -> Result<()> {
    // Before the compiler: a missing manifest should not cost a minute.
    let (id, manifest) = read_manifest(&source.folder.join("manifest.json"))?;
    let target_dir = out_dir();
    let mut command: Command = toolchain.build(&root(), &target_dir);
    run(command.args(["--package", &source.package]))?;
    let module = toolchain::module(&target_dir, &source.package);
    let module = std::fs::read(&module)
        .with_context(|| format!("{} was not made: is `crate-type = [\"cdylib\"]` set?", module.display()))?;
    let component = encode(&module)?;
    check_imports(&component, &manifest)?;
    let component = with_manifest(component, &manifest)?;
    let file = target_dir.join(format!("{id}.wasm"));
    let state = if write_if_new(&file, &component)? { "built" } else { "unchanged" };
    println!("{state:<10}{:>7} KiB  {}", component.len().div_ceil(1024), relative(&file));
    Ok(())
}

fn build_guest(source: &Source, language: Language) -> Result<()> {
    let (id, manifest) = read_manifest(&source.folder.join("manifest.json"))?;
    let file = out_dir().join(format!("{id}.wasm"));
    let Some(component) = guests::build(&source.folder, language, &file)? else {
        println!("unchanged              {}", relative(&file));
        return Ok(());
    };
    check_imports(&component, &manifest)?;
    let component = with_manifest(component, &manifest)?;
    // Under its name only when it is whole.
    let raw = out_dir().join(format!("{id}.raw"));
    std::fs::write(&raw, &component)?;
    std::fs::rename(&raw, &file)?;
    guests::done(&source.folder)?;
    println!("built     {:>7} KiB  {}", component.len().div_ceil(1024), relative(&file));
    Ok(())
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// All plugin folders under `plugins/` and `tests/plugins/`, sorted.
fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut out = Vec::new();
    for parent in ["plugins", "tests/plugins"] {
        let Ok(entries) = std::fs::read_dir(root.join(parent)) else { continue };
        for entry in entries {
            let folder = entry?.path();
            let file = folder.join("Cargo.toml");
            if !file.is_file() {
                if let Some(language) = Language::of(&folder) {
                    let package = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
                    out.push(Source { folder, package, guest: Some(language) });
                }
                continue;
            }
            let text = std::fs::read_to_string(&file)?;
            let table: toml::Table = text.parse().with_context(|| file.display().to_string())?;
            let package = table.get("package").and_then(|p| p.get("name")).and_then(|n| n.as_str());
            let package = package.with_context(|| format!("{} names no package", file.display()))?.to_owned();
            out.push(Source { folder, package, guest: None });
        }
    }
    out.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(out)
}

/// Those whose folder, package or manifest id is named. A name that fits none is an error.
fn choose(sources: Vec<Source>, names: &[String]) -> Result<Vec<Source>> {
    if names.is_empty() {
        return Ok(sources);
    }
    let fits = |source: &Source, name: &str| {
        source.package == name
            || source.folder.file_name().is_some_and(|f| f == name)
            || read_manifest(&source.folder.join("manifest.json")).is_ok_and(|(id, _)| id == name)
    };
    if let Some(name) = names.iter().find(|name| !sources.iter().any(|s| fits(s, name))) {
        let known: Vec<_> = sources.iter().filter_map(|s| s.folder.file_name()?.to_str()).collect();
        bail!("there is no plugin `{name}`; there are {}", known.join(", "));
    }
    Ok(sources.into_iter().filter(|s| names.iter().any(|name| fits(s, name))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_is_found_by_its_folder_package_or_id_and_a_wrong_name_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("plugins/one");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("Cargo.toml"), "[package]\nname = \"plugin-one\"\n").unwrap();
        std::fs::write(folder.join("manifest.json"), "{\"id\": \"first\"}").unwrap();
        std::fs::create_dir_all(dir.path().join("plugins/no-plugin")).unwrap();
        std::fs::create_dir_all(dir.path().join("plugins/other/src")).unwrap();
        std::fs::write(dir.path().join("plugins/other/src/app.py"), "").unwrap();
        let mut all = sources(dir.path()).unwrap();
        let guest = all.pop().unwrap();
        assert_eq!((guest.package.as_str(), guest.guest), ("other", Some(Language::Python)));
        assert_eq!(all.len(), 1);
        for name in ["one", "plugin-one", "first"] {
            assert_eq!(choose(all.clone(), &[name.to_owned()]).unwrap(), all);
        }
        let error = choose(all, &["two".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("two") && error.contains("one"), "{error}");
    }
}
