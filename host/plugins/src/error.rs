//! Why a plugin was not installed, or the runtime not opened: sentences with remedies.

use wharf_model::manifest::ManifestError;
use wharf_store::StoreError;

/// The runtime can't be opened or refreshed.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("the WebAssembly engine can't be set up with these limits; lower `slots`")]
    Engine(#[source] wasmtime::Error),
    #[error("the folder of compiled plugins {path}: {problem}")]
    Cache { path: String, problem: String },
    #[error("the list of installed plugins can't be read or written")]
    Store(#[from] StoreError),
}

/// A plugin was not installed. Nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    #[error(
        "the file has {size}, and {limit} are the most that a plugin may have: build it without debug information, or raise `component_bytes`"
    )]
    TooLarge { size: String, limit: String },
    #[error("the file is not WebAssembly: it must begin with the bytes 00 61 73 6d")]
    NotWasm,
    #[error(
        "the file is a core module, not a component: make one of it with `wasm-tools component new`, or build it with `wharf plugin build`"
    )]
    CoreModule,
    #[error("the file ends after {size} bytes in the middle of a section, so it was truncated: upload it again")]
    Truncated { size: u64 },
    #[error("the file is damaged: {0}; build or upload it again")]
    Malformed(String),
    #[error("the component has {0}: simplify it")]
    TooComplex(String),
    #[error(
        "the component has no manifest: append it as the custom section `wharf:manifest` (`wharf plugin build` does)"
    )]
    NoManifest,
    #[error(
        "the component has two manifests at its top level, and it can't be told which one counts: build it again from the unsigned component"
    )]
    SecondManifest,
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A sentence for each thing that stands in the way.
    #[error("it can't run on this host: {}", .0.join("; "))]
    Contract(Vec<String>),
    #[error(
        "`{id}` wants {missing}, which it was not granted: look at what it is, and install it again with `--allow {0}` (in a request: `?allow={0}`)",
        .interfaces.join(",")
    )]
    NotGranted { id: String, missing: String, interfaces: Vec<String> },
    #[error("`{id}` does not want {extra}: leave it out of what you allow")]
    NotWanted { id: String, extra: String },
    #[error("`{id}` {version} is installed with other contents: raise the version in its manifest")]
    OtherContents { id: String, version: semver::Version },
    #[error("`{id}` is installed as a {installed}, and this file says it is a {this}: give it an id of its own")]
    OtherWorld { id: String, installed: String, this: String },
    #[error("`{id}` {version} is not installed: `wharf plugin list` shows what is")]
    NoSuchVersion { id: String, version: String },
    #[error("`{id}` has no version to go back to")]
    NoPrevious { id: String },
    #[error("it can't be compiled: {0}")]
    Compile(String),
    #[error("it was compiled, but does not start: {0}")]
    Warm(String),
    #[error("the folder of compiled plugins can't be used: {0}")]
    Cache(String),
    #[error("the plugin can't be kept in the books; nothing was installed, try again")]
    Store(#[from] StoreError),
}

impl InstallError {
    /// Stable kebab-case, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::NotWasm => "not-wasm",
            Self::CoreModule => "core-module",
            Self::Truncated { .. } => "truncated",
            Self::Malformed(_) => "malformed",
            Self::TooComplex(_) => "too-complex",
            Self::NoManifest => "no-manifest",
            Self::SecondManifest => "second-manifest",
            Self::Manifest(_) => "manifest",
            Self::Contract(_) => "contract",
            Self::NotGranted { .. } => "not-granted",
            Self::NotWanted { .. } => "not-wanted",
            Self::OtherContents { .. } => "other-contents",
            Self::OtherWorld { .. } => "other-world",
            Self::NoSuchVersion { .. } => "no-such-version",
            Self::NoPrevious { .. } => "no-previous",
            Self::Compile(_) => "compile",
            Self::Warm(_) => "warm",
            Self::Cache(_) => "cache",
            Self::Store(_) => "store",
        }
    }

    /// Whether the host failed, not the plugin: worth repeating as it is.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Store(_) | Self::Cache(_))
    }
}
