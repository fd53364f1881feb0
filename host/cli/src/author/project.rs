//! A plugin's folder: where it is, what it is written in, and what its manifest says.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use wharf_build::component;

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    Rust,
    Js,
    Ts,
    Python,
}

impl Language {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Js => "JavaScript",
            Self::Ts => "TypeScript",
            Self::Python => "Python",
        }
    }
}

/// A project.
pub struct Project {
    pub folder: PathBuf,
    pub language: Language,
    pub id: String,
    /// The manifest without white space, as it goes into the component.
    pub manifest: Vec<u8>,
}

impl Project {
    /// The project in this folder.
    ///
    /// # Errors
    /// There is no manifest, or no source of a known language.
    pub fn open(folder: &Path) -> Result<Self> {
        let file = folder.join("manifest.json");
        if !file.is_file() {
            bail!(
                "there is no {}: go to the folder of a plugin, or start one with `wharf plugin new --lang rust my-dns`",
                file.display()
            );
        }
        let (id, manifest) = component::read_manifest(&file)?;
        let has = |name: &str| folder.join(name).is_file();
        let language = if has("Cargo.toml") {
            Language::Rust
        } else if has("tsconfig.json") {
            Language::Ts
        } else if has("package.json") {
            Language::Js
        } else if has("requirements.txt") {
            Language::Python
        } else {
            bail!(
                "{} has neither Cargo.toml nor package.json nor requirements.txt, so it can't be seen what the plugin is \
                 written in",
                folder.display()
            );
        };
        Ok(Self { folder: folder.to_owned(), language, id, manifest })
    }

    /// The component's file.
    pub fn component(&self) -> PathBuf {
        self.folder.join(format!("{}.wasm", self.id))
    }
}

impl Project {
    /// Why the component has to be built: it is missing, or this source is newer. None if it is as the sources are.
    pub fn stale(&self) -> Option<String> {
        let file = self.component();
        let shown = |path: &Path| path.strip_prefix(&self.folder).unwrap_or(path).display().to_string();
        let Ok(built) = std::fs::metadata(&file).and_then(|m| m.modified()) else {
            return Some(format!("{} is missing", shown(&file)));
        };
        let mut left: Vec<PathBuf> = SOURCES.iter().map(|name| self.folder.join(name)).collect();
        while let Some(path) = left.pop() {
            let Ok(meta) = std::fs::metadata(&path) else { continue };
            if meta.is_dir() {
                let inside = std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path());
                left.extend(inside.filter(|p| p.file_name().is_none_or(|name| name != "__pycache__")));
            } else if meta.modified().is_ok_and(|changed| changed > built) {
                return Some(format!("{} is newer than {}", shown(&path), shown(&file)));
            }
        }
        None
    }
}

/// What a component is made of.
const SOURCES: [&str; 9] = [
    "manifest.json",
    "Cargo.toml",
    "Cargo.lock",
    "package.json",
    "build.mjs",
    "requirements.txt",
    "src",
    "vendor",
    "wit",
];

/// A component to look at, and the manifest file that its author would edit, if it is known.
pub struct Subject {
    pub path: PathBuf,
    pub bytes: Vec<u8>,
    pub manifest: Option<PathBuf>,
}

/// The component of a file, or of a project's folder.
///
/// # Errors
/// It is not there, or not built.
pub fn subject(given: Option<&Path>) -> Result<Subject> {
    let given = given.unwrap_or(Path::new("."));
    let (path, manifest) = if given.is_dir() {
        let project = Project::open(given)?;
        (project.component(), Some(given.join("manifest.json")))
    } else {
        let beside = given.parent().map(|folder| folder.join("manifest.json")).filter(|file| file.is_file());
        // Of another plugin, it would mislead.
        let stem = given.file_stem().map(|s| s.to_string_lossy().into_owned());
        let own = beside.filter(|file| component::read_manifest(file).is_ok_and(|(id, _)| Some(id) == stem));
        (given.to_owned(), own)
    };
    let built = if given.is_dir() { ": build it with `wharf plugin build`" } else { "" };
    let bytes = std::fs::read(&path).with_context(|| format!("{} can't be read{built}", path.display()))?;
    let manifest = manifest.map(|m| m.strip_prefix("./").map(Path::to_path_buf).unwrap_or(m));
    Ok(Subject { path, bytes, manifest })
}
