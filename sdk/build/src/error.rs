//! Why a plugin was not built: sentences with remedies.

use std::{io, process::ExitStatus};

/// A plugin was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("`{command}` can't be started: is it installed?")]
    Start { command: String, source: io::Error },
    #[error("`{command}` ended with {status}{said}")]
    Ended { command: String, status: ExitStatus, said: String },
    /// A tool is not there; how it is had.
    #[error("{0}")]
    Missing(String),
    #[error("{path} can't be {done}")]
    File { path: String, done: &'static str, source: io::Error },
    /// Of a manifest's file, with its place in it where there is one.
    #[error("{place}: {problem}")]
    Manifest { place: String, problem: String },
    #[error("{0}")]
    Component(String),
}

impl BuildError {
    pub(crate) fn read(path: &std::path::Path, source: io::Error) -> Self {
        Self::File { path: path.display().to_string(), done: "read", source }
    }

    pub(crate) fn written(path: &std::path::Path, source: io::Error) -> Self {
        Self::File { path: path.display().to_string(), done: "written", source }
    }
}
