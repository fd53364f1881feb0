//! Plugins of this repository in Python, JavaScript and TypeScript: built, and their tests run.
//!
//! Such a plugin is a manifest, `src/` and tests. In `target/guests/<name>` it becomes the project that `wharf plugin new` would have
//! made: the template's build files, the contract and the SDK beside the source. There the tools run as they run for any author, with
//! the packages of `.venv` and `.ci/node_modules`. The tools give other bytes each time, so a component is made anew only when
//! something that was laid out has changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use wharf_build::guest;
use wharf_build::shell::output;

use crate::setup;
use crate::shell::{root, run};

/// What a guest is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Python,
    JavaScript,
    TypeScript,
}

/// Files and folders of a project, from where they are here to where they are there.
type Parts = &'static [(&'static str, &'static str)];

impl Language {
    /// By the file that holds the exports; none where no guest is.
    pub fn of(folder: &Path) -> Option<Self> {
        [("src/app.py", Self::Python), ("src/provider.js", Self::JavaScript), ("src/provider.ts", Self::TypeScript)]
            .into_iter()
            .find(|(file, _)| folder.join(file).is_file())
            .map(|(_, language)| language)
    }

    /// What is laid beside the plugin's own files.
    fn parts(self) -> Parts {
        match self {
            Self::Python => &[
                ("sdk/python/wharf_sdk", "vendor/wharf_sdk"),
                ("sdk/python/template/requirements.txt", "requirements.txt"),
            ],
            Self::JavaScript => &[
                ("sdk/js/src", "vendor/wharf-sdk"),
                ("sdk/js/template/build.mjs", "build.mjs"),
                ("sdk/js/template/package.json.in", "package.json"),
                (".ci/package-lock.json", "tools.json"),
            ],
            Self::TypeScript => &[
                ("sdk/js/src", "vendor/wharf-sdk"),
                ("sdk/js/template-ts/build.mjs", "build.mjs"),
                ("sdk/js/template-ts/tsconfig.json", "tsconfig.json"),
                ("sdk/js/template-ts/test/node.d.ts", "test/node.d.ts"),
                ("sdk/js/template-ts/package.json.in", "package.json"),
                (".ci/package-lock.json", "tools.json"),
            ],
        }
    }
}

/// Where a guest is laid out.
fn place(name: &str) -> PathBuf {
    root().join("target/guests").join(name)
}

/// Installs the tools of these languages.
pub fn tools(languages: &[Language]) -> Result<()> {
    if languages.is_empty() {
        return Ok(());
    }
    // A Node.js that the machine lacks comes from there, too.
    setup::python()?;
    if languages.iter().any(|l| *l != Language::Python) {
        setup::javascript()?;
    }
    Ok(())
}

/// The component of a guest without its manifest; none if nothing changed since it was built last and `built` is there.
pub fn build(folder: &Path, language: Language, built: &Path) -> Result<Option<Vec<u8>>> {
    let name = folder.file_name().and_then(|n| n.to_str()).context("a plugin's folder has a name")?;
    let place = place(name);
    // There while what is laid out is what `built` was made of.
    let stamp = place.join("build/done");
    if !lay_out(folder, language, &place)? && stamp.is_file() && built.is_file() {
        return Ok(None);
    }
    if stamp.is_file() {
        std::fs::remove_file(&stamp)?;
    }
    let component = match language {
        Language::Python => guest::python(&setup::venv().join("bin/componentize-py"), &place)?,
        Language::JavaScript | Language::TypeScript => guest::javascript(&setup::node()?.node, &place)?,
    };
    Ok(Some(component))
}

/// Says that the component is where it belongs.
pub fn done(folder: &Path) -> Result<()> {
    let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    std::fs::write(place(name).join("build/done"), "")?;
    Ok(())
}

/// Makes `place` the project. True if anything was not so already.
fn lay_out(folder: &Path, language: Language, place: &Path) -> Result<bool> {
    let mut wanted = Vec::new();
    for (from, to) in language.parts() {
        gather(&root().join(from), Path::new(to), &mut wanted)?;
    }
    gather(&root().join("wit"), Path::new("wit"), &mut wanted)?;
    gather(folder, Path::new(""), &mut wanted)?;
    let mut changed = false;
    for (from, to) in &wanted {
        let (bytes, to) = (std::fs::read(from).with_context(|| from.display().to_string())?, place.join(to));
        if std::fs::read(&to).is_ok_and(|old| old == bytes) {
            continue;
        }
        changed = true;
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(to, bytes)?;
    }
    let keep: BTreeSet<PathBuf> = wanted.into_iter().map(|(_, to)| to).collect();
    let mut there = Vec::new();
    gather(place, Path::new(""), &mut there)?;
    for (file, to) in there {
        if !keep.contains(&to) {
            changed = true;
            std::fs::remove_file(file)?;
        }
    }
    let modules = place.join("node_modules");
    if language != Language::Python && !modules.exists() {
        std::os::unix::fs::symlink(setup::node_modules(), modules)?;
    }
    Ok(changed)
}

/// All files at or below a place; what tools make there and the contract's history are left out.
fn gather(from: &Path, to: &Path, into: &mut Vec<(PathBuf, PathBuf)>) -> Result<()> {
    if !from.is_dir() {
        into.push((from.to_owned(), to.to_owned()));
        return Ok(());
    }
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        if ["node_modules", "__pycache__", "released", "build"].iter().all(|made| name != *made) {
            gather(&entry.path(), &to.join(name), into)?;
        }
    }
    Ok(())
}

/// Runs the tests of the SDKs and of these guests, which have been built.
pub fn test(guests: &[(PathBuf, Language)]) -> Result<()> {
    let node = setup::node()?.node;
    println!("sdk/js");
    node_tests(&node, &root().join("sdk/js"), "test")?;
    println!("sdk/python");
    unittest(&root().join("sdk/python"))?;
    for (folder, language) in guests {
        let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let place = place(name);
        println!("{name}");
        match language {
            Language::Python => unittest(&place)?,
            Language::JavaScript => node_tests(&node, &place, "test")?,
            Language::TypeScript => node_tests(&node, &place, "build/test")?,
        }
    }
    Ok(())
}

/// Each file by its name: what Node.js makes of a folder differs between versions.
fn node_tests(node: &Path, folder: &Path, tests: &str) -> Result<()> {
    let there = std::fs::read_dir(folder.join(tests)).with_context(|| format!("{} has no tests", folder.display()))?;
    let names = there.flatten().map(|entry| Path::new(tests).join(entry.file_name()));
    let files: Vec<PathBuf> = names.filter(|file| file.to_string_lossy().ends_with(".test.js")).collect();
    if files.is_empty() {
        bail!("{} has no tests", folder.join(tests).display());
    }
    run(Command::new(node).arg("--test").args(files).current_dir(folder))
}

fn unittest(folder: &Path) -> Result<()> {
    let mut command = Command::new(setup::venv().join("bin/python"));
    run(command.args(["-B", "-m", "unittest", "discover", "-s", "tests", "-t", "."]).current_dir(folder))
}

/// Checks the types of sdk/js by the strictest rules, without anything of a plugin's.
pub fn check_types() -> Result<()> {
    let tsc = setup::node_modules().join("typescript/bin/tsc");
    let mut command = Command::new(setup::node()?.node);
    command.arg(tsc).args(["--noEmit", "--strict", "--module", "nodenext", "--target", "es2023", "--types", ""]);
    output(command.args(["src/index.d.ts", "src/host.d.ts", "src/testing.d.ts"]).current_dir(root().join("sdk/js")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_laid_out_once_and_again_when_a_file_of_it_comes_changes_or_goes() {
        let (plugin, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(plugin.path().join("src")).unwrap();
        let file = plugin.path().join("src/app.py");
        std::fs::write(&file, "1").unwrap();
        let again = || lay_out(plugin.path(), Language::Python, place.path()).unwrap();
        assert_eq!(Language::of(plugin.path()), Some(Language::Python));
        assert!(again() && !again());
        for there in ["src/app.py", "wit/deps/dns/dns.wit", "vendor/wharf_sdk/batch.py", "requirements.txt"] {
            assert!(place.path().join(there).is_file(), "{there}");
        }
        assert!(!place.path().join("wit/released").exists());
        std::fs::write(&file, "2").unwrap();
        assert!(again() && !again());
        std::fs::write(plugin.path().join("src/more.py"), "").unwrap();
        assert!(again() && !again());
        std::fs::remove_file(plugin.path().join("src/more.py")).unwrap();
        assert!(again() && !again());
        assert!(!place.path().join("src/more.py").exists());
    }

    #[test]
    fn what_tools_have_made_is_neither_taken_nor_taken_away() {
        let (plugin, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(plugin.path().join("src/__pycache__")).unwrap();
        std::fs::write(plugin.path().join("src/__pycache__/x.pyc"), "").unwrap();
        std::fs::create_dir(place.path().join("build")).unwrap();
        std::fs::write(place.path().join("build/done"), "").unwrap();
        lay_out(plugin.path(), Language::Python, place.path()).unwrap();
        assert!(place.path().join("build/done").is_file() && !place.path().join("src/__pycache__").exists());
    }

    #[test]
    fn the_templates_pin_the_tools_that_this_repository_uses() {
        let read = |path: &str| std::fs::read_to_string(root().join(path)).unwrap();
        let tools: serde_json::Value = serde_json::from_str(&read(".ci/package.json")).unwrap();
        for template in ["sdk/js/template/package.json.in", "sdk/js/template-ts/package.json.in"] {
            let template: serde_json::Value = serde_json::from_str(&read(template)).unwrap();
            for (name, version) in template["devDependencies"].as_object().unwrap() {
                assert_eq!(Some(version), tools["dependencies"].get(name), "{name}");
            }
        }
        let pinned = read("sdk/python/template/requirements.txt");
        let pinned = pinned.lines().find(|line| line.starts_with("componentize-py")).unwrap();
        assert!(read(".ci/requirements.txt").lines().any(|line| line == pinned), "{pinned}");
    }
}
