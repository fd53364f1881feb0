//! `wharf plugin new`: a folder with all that a plugin needs, the contract and the SDK included.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use super::{
    files::{self, File},
    project::Language,
};

#[derive(Args)]
pub struct Arguments {
    /// What it is to be.
    #[arg(long, default_value = "dns-provider")]
    kind: Kind,
    /// What it is written in.
    #[arg(long)]
    lang: Language,
    /// Name of the folder and id of the plugin: 2 to 64 of a-z, 0-9 and -, beginning with a letter. Before it may stand the
    /// folder that it is put into.
    name: PathBuf,
}

/// Kinds of plugin that there is a template for.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    DnsProvider,
}

/// The command.
pub fn make(arguments: &Arguments) -> Result<ExitCode> {
    let Kind::DnsProvider = arguments.kind;
    let folder = &arguments.name;
    let id = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    check_name(id, arguments.lang)?;
    if folder.exists() {
        bail!("{} is there already: nothing was written. Take another name, or remove it", folder.display());
    }
    // Made aside and renamed: what is there under the name is whole.
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        bail!("there is no folder {}: make it first", parent.display());
    }
    let draft = parent.join(format!(".{id}.new-{}", std::process::id()));
    let written = write_all(&draft, id, arguments.lang)
        .and_then(|()| std::fs::rename(&draft, folder).with_context(|| format!("{} can't be made", folder.display())));
    if written.is_err() {
        // Best effort: the error that counts is the one above.
        let _ = std::fs::remove_dir_all(&draft);
    }
    written?;
    println!("{}: a DNS provider in {}. Next:\n", folder.display(), arguments.lang.as_str());
    println!("    cd {}\n    wharf plugin build\n    wharf plugin check\n    wharf plugin test\n", folder.display());
    println!("README.md says what stands where.");
    Ok(ExitCode::SUCCESS)
}

/// Words that cargo or Python can't have as a name.
const TAKEN: [&str; 8] = ["test", "core", "std", "alloc", "proc-macro", "wharf-sdk", "build", "deps"];

fn check_name(id: &str, language: Language) -> Result<()> {
    let good = (2..=64).contains(&id.len())
        && id.starts_with(|c: char| c.is_ascii_lowercase())
        && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !good {
        bail!(
            "`{id}` can't be a plugin's name: take 2 to 64 of a-z, 0-9 and -, beginning with a letter, as in `dns-acme`"
        );
    }
    if TAKEN.contains(&id) && language == Language::Rust {
        bail!("`{id}` means something else to cargo: take another name, as in `dns-{id}`");
    }
    Ok(())
}

fn write_all(folder: &Path, id: &str, language: Language) -> Result<()> {
    let rust = &workspace()?;
    let rust_version = text(rust, &["workspace", "package", "rust-version"]).unwrap_or_default();
    // What the language's runtime takes when it does nothing, and as much again for work.
    let memory = if language == Language::Rust { "64" } else { "256" };
    // A Rust component imports what it uses and no more, and the template needs no clock.
    let clock = if language == Language::Rust { "" } else { "\n    \"wharf:base/clock\": \"0.1.0\"," };
    let fill = |text: &str| {
        let text = text.replace("@ID@", id).replace("@RUST@", rust_version);
        text.replace("@MEMORY@", memory).replace("@CLOCK@", clock)
    };
    let (template, sdk): (&[File], &[File]) = match language {
        Language::Rust => (files::RUST, files::RUST_SDK),
        Language::Js => (files::JS, files::JS_SDK),
        Language::Ts => (files::TS, files::JS_SDK),
        Language::Python => (files::PYTHON, files::PYTHON_SDK),
    };
    for (path, text) in files::EVERY.iter().chain(template) {
        put(folder, path, &fill(text))?;
    }
    for (path, text) in files::WIT.iter().chain(sdk) {
        put(folder, path, text)?;
    }
    if language == Language::Rust {
        put(folder, "vendor/wharf-sdk/Cargo.toml", &standalone(files::RUST_SDK_MANIFEST, rust)?)?;
    }
    Ok(())
}

fn put(folder: &Path, path: &str, text: &str) -> Result<()> {
    let file = folder.join(path);
    let made = file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&file, text));
    made.with_context(|| format!("{} can't be written", file.display()))
}

fn workspace() -> Result<toml::Table> {
    files::WORKSPACE_MANIFEST.parse().context("the workspace's Cargo.toml in this executable")
}

fn text<'a>(table: &'a toml::Table, path: &[&str]) -> Option<&'a str> {
    let (last, front) = path.split_last()?;
    let holder = front.iter().try_fold(table, |at, key| at.get(*key)?.as_table())?;
    holder.get(*last)?.as_str()
}

/// The SDK's Cargo.toml without what it has from this workspace.
fn standalone(manifest: &str, workspace: &toml::Table) -> Result<String> {
    let mut manifest: toml::Table = manifest.parse().context("the SDK's Cargo.toml in this executable")?;
    let shared = |section: &str| {
        workspace.get("workspace").and_then(|w| w.get(section)).and_then(|s| s.as_table()).cloned().unwrap_or_default()
    };
    manifest.remove("lints");
    manifest.remove("dev-dependencies");
    for (section, values) in [("package", shared("package")), ("dependencies", shared("dependencies"))] {
        let Some(table) = manifest.get_mut(section).and_then(|s| s.as_table_mut()) else { continue };
        for (name, value) in table.iter_mut() {
            let Some(own) = value.as_table().filter(|t| t.get("workspace").is_some()).cloned() else { continue };
            let mut whole = values.get(name).cloned().with_context(|| format!("`{name}` is not in the workspace"))?;
            // `features` beside `workspace = true`.
            if let Some(features) = own.get("features") {
                if let Some(version) = whole.as_str().map(str::to_owned) {
                    whole = toml::Table::from_iter([("version".to_owned(), version.into())]).into();
                }
                if let Some(table) = whole.as_table_mut() {
                    table.insert("features".to_owned(), features.clone());
                }
            }
            *value = whole;
        }
    }
    Ok(toml::to_string(&manifest)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vendored_sdk_leans_on_no_workspace() {
        let made = standalone(files::RUST_SDK_MANIFEST, &workspace().unwrap()).unwrap();
        assert!(!made.contains("workspace"), "{made}");
        let table: toml::Table = made.parse().unwrap();
        assert_eq!(text(&table, &["package", "name"]), Some("wharf-sdk"));
        assert!(text(&table, &["package", "edition"]).is_some() && made.contains("wit-bindgen"), "{made}");
        assert!(table["dependencies"]["serde"]["features"].as_array().unwrap().contains(&"derive".into()));
    }

    #[test]
    fn a_name_is_what_a_manifest_and_cargo_take() {
        for good in ["dns-acme", "a1"] {
            assert!(check_name(good, Language::Rust).is_ok(), "{good}");
        }
        for bad in ["", "a", "Dns", "dns_acme", "1dns", "-x", "..", "dns acme", &"a".repeat(65)] {
            assert!(check_name(bad, Language::Rust).is_err(), "{bad}");
        }
        assert!(check_name("std", Language::Rust).unwrap_err().to_string().contains("dns-std"));
    }
}
