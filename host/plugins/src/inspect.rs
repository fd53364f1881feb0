//! Looking at a component without running any of it.
//!
//! Guarantees that whatever passes is a whole component of bounded size and shape with exactly one valid manifest at its
//! top level. Bounded by one pass over the bytes; nothing is validated here that the compiler validates.

use serde::Serialize;
use sha2::{Digest, Sha256};
use wasmparser::{Encoding, Parser, Payload};
use wharf_model::manifest::{MAX_BYTES, Manifest, SECTION};

use crate::{
    contract::{self, Name},
    error::InstallError,
    text,
};

/// Components and modules within each other. The tool chains make two levels.
const MAX_DEPTH: u32 = 8;
/// Of modules, nested components and instances. A Python component has 38 modules.
const MAX_MODULES: u32 = 256;
const MAX_INSTANCES: u32 = 4_096;
/// CPython and its libraries have some 20,000.
const MAX_FUNCTIONS: u32 = 200_000;
/// Bytes of one function; the interpreter loop of CPython, the largest that is met, has 200 KiB. Register allocation
/// takes more than linear time.
const MAX_FUNCTION_BYTES: usize = 2 << 20;

/// What a component is, as far as its bytes say.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    pub manifest: Manifest,
    /// SHA-256 of the component, lower-case hex.
    pub digest: String,
    pub bytes: u64,
    pub imports: Vec<Name>,
    pub exports: Vec<Name>,
    pub shape: Shape,
    /// Interfaces that an admin has to allow.
    pub needs_grant: Vec<String>,
    /// Why it can't run on this host, a sentence each; empty = it can.
    pub problems: Vec<String>,
}

/// Counts over all levels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Shape {
    pub modules: u32,
    pub components: u32,
    pub instances: u32,
    pub functions: u32,
    pub depth: u32,
}

/// Looks at a component of at most `limit` bytes.
pub(crate) fn inspect(bytes: &[u8], limit: u64) -> Result<Inspection, InstallError> {
    let size = bytes.len() as u64;
    if size > limit {
        return Err(InstallError::TooLarge { size: text::size(size), limit: text::size(limit) });
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(InstallError::NotWasm);
    }
    let mut seen = Seen::default();
    for payload in Parser::new(0).parse_all(bytes) {
        seen.take(payload.map_err(|e| malformed(&e, size))?, size)?;
    }
    if seen.level != 0 {
        return Err(InstallError::Truncated { size });
    }
    let manifest = seen.manifest.ok_or(InstallError::NoManifest)?;
    let manifest = Manifest::parse(&manifest)?;
    let needs_grant = contract::grantable(&manifest).into_iter().collect();
    let problems = contract::problems(&manifest, &seen.imports, &seen.exports);
    Ok(Inspection {
        manifest,
        digest: crate::engine::hex(&Sha256::digest(bytes)),
        bytes: size,
        imports: seen.imports,
        exports: seen.exports,
        shape: seen.shape,
        needs_grant,
        problems,
    })
}

#[derive(Default)]
struct Seen {
    /// How many components and modules are open; 1 = the component itself.
    level: u32,
    shape: Shape,
    imports: Vec<Name>,
    exports: Vec<Name>,
    manifest: Option<Vec<u8>>,
}

impl Seen {
    fn take(&mut self, payload: Payload<'_>, size: u64) -> Result<(), InstallError> {
        match payload {
            Payload::Version { encoding, .. } => {
                if self.level == 0 && encoding == Encoding::Module {
                    return Err(InstallError::CoreModule);
                }
                self.level += 1;
                self.shape.depth = self.shape.depth.max(self.level);
                within("levels of components within components", self.level, MAX_DEPTH)?;
            }
            Payload::End(_) => self.level = self.level.saturating_sub(1),
            Payload::ModuleSection { .. } => {
                self.shape.modules += 1;
                within("modules", self.shape.modules, MAX_MODULES)?;
            }
            Payload::ComponentSection { .. } => {
                self.shape.components += 1;
                within("nested components", self.shape.components, MAX_MODULES)?;
            }
            Payload::InstanceSection(section) => self.instances(section.count())?,
            Payload::ComponentInstanceSection(section) => self.instances(section.count())?,
            Payload::CodeSectionStart { count, .. } => {
                self.shape.functions = self.shape.functions.saturating_add(count);
                within("functions", self.shape.functions, MAX_FUNCTIONS)?;
            }
            Payload::CodeSectionEntry(body) if body.range().len() > MAX_FUNCTION_BYTES => {
                return Err(InstallError::TooComplex(format!(
                    "a function of {}, and {} are the most that is compiled",
                    text::size(body.range().len() as u64),
                    text::size(MAX_FUNCTION_BYTES as u64)
                )));
            }
            Payload::ComponentImportSection(section) if self.level == 1 => {
                for import in section {
                    let name = import.map_err(|e| malformed(&e, size))?.name;
                    self.imports.push(full_name(&name));
                }
            }
            Payload::ComponentExportSection(section) if self.level == 1 => {
                for export in section {
                    let name = export.map_err(|e| malformed(&e, size))?.name;
                    self.exports.push(full_name(&name));
                }
            }
            // Modules and nested components may carry sections of this name; only the top level speaks for the plugin.
            Payload::CustomSection(section) if self.level == 1 && section.name() == SECTION => {
                if section.data().len() > MAX_BYTES {
                    return Err(wharf_model::manifest::ManifestError::TooLarge(section.data().len()).into());
                }
                if self.manifest.replace(section.data().to_vec()).is_some() {
                    return Err(InstallError::SecondManifest);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn instances(&mut self, count: u32) -> Result<(), InstallError> {
        self.shape.instances = self.shape.instances.saturating_add(count);
        within("instances", self.shape.instances, MAX_INSTANCES)
    }
}

fn within(what: &str, found: u32, limit: u32) -> Result<(), InstallError> {
    if found > limit {
        return Err(InstallError::TooComplex(format!("more than {limit} {what}")));
    }
    Ok(())
}

fn full_name(name: &wasmparser::ComponentExternName<'_>) -> Name {
    match name.version_suffix {
        Some(suffix) => Name::parse(&format!("{}{suffix}", name.name)),
        None => Name::parse(name.name),
    }
}

fn malformed(error: &wasmparser::BinaryReaderError, size: u64) -> InstallError {
    if error.message().contains("unexpected end") {
        return InstallError::Truncated { size };
    }
    InstallError::Malformed(format!("{} at byte {}", error.message(), error.offset()))
}
