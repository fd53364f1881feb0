//! Small components, made from text, and a host to run them on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    reason = "test code; each test binary uses a part of it"
)]

use std::{collections::BTreeSet, sync::Arc};

use wharf_capabilities::call::Lender;
use wharf_model::SystemClock;
use wharf_plugins::{GrantRequest, Installed, Runtime, RuntimeConfig};
use wharf_store::memory::MemoryStore;

pub struct Lab {
    pub runtime: Arc<Runtime>,
    pub lender: Arc<Lender>,
    pub dir: tempfile::TempDir,
}

pub fn lender() -> Arc<Lender> {
    Arc::new(Lender {
        books: Arc::new(MemoryStore::default()),
        clock: Arc::new(SystemClock),
        keyring: Arc::new(wharf_capabilities::secrets::Keyring),
        servers: Arc::new(wharf_capabilities::proxmox::Servers),
        sender: Arc::new(wharf_capabilities::http::Sender),
    })
}

impl Lab {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(set: impl FnOnce(&mut RuntimeConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = RuntimeConfig::for_tests(dir.path());
        set(&mut config);
        let lender = lender();
        Self { runtime: Runtime::open(config, lender.clone()).await.unwrap(), lender, dir }
    }

    pub async fn install(&self, component: Vec<u8>) -> Installed {
        self.runtime.install(component, "tester", GrantRequest::Allow(BTreeSet::new())).await.unwrap()
    }

    /// Calls `translate`: the reference that it answers, or why not.
    pub async fn ask(&self, id: &str) -> Result<String, wharf_plugins::report::CallError> {
        let answer = self.runtime.translate(id, "create", "application/json", "{}").await?.answer;
        Ok(answer.map_or_else(|f| f.code, |command| command.reference))
    }
}

/// A manifest of a panel adapter.
pub fn manifest(id: &str, version: &str) -> serde_json::Value {
    serde_json::json!({
        "id": id, "name": id, "version": version, "world": "panel-adapter", "licence": "Apache-2.0",
        "wants": {"wharf:base/log": "0.1.0"}
    })
}

/// A panel adapter whose `translate` has this body (WAT; six i32 in, a pointer out) and whose module has these further
/// fields. At 1024 lies an answer `ok` with the reference `reference`.
pub fn adapter(reference: &str, body: &str, fields: &str) -> Vec<u8> {
    let length = reference.len();
    component(
        "panel-adapter",
        &format!(
            r#"(module
                (memory (export "memory") 4)
                (global $next (mut i32) (i32.const 65536))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                    (global.set $next (i32.add (local.get $at) (local.get 3)))
                    (local.get $at))
                (data (i32.const 1024) "\00\00\00\00\00\08\00\00\09\00\00\00\09\08\00\00\{length:02x}\00\00\00")
                (data (i32.const 2048) "provision{reference}")
                (func $translate (export "wharf:panel/adapter@0.1.0#translate")
                    (param i32 i32 i32 i32 i32 i32) (result i32)
                    {body})
                (func (export "wharf:panel/adapter@0.1.0#present") (param i32) (result i32)
                    (i32.const 4096))
                {fields})"#
        ),
    )
}

/// The body of a `translate` that answers.
pub const ANSWER: &str = "(i32.const 1024)";

/// A component of a world, from the text of its module.
pub fn component(world: &str, module: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let (root, _) = resolve.push_dir("../../wit").unwrap();
    let world = resolve.select_world(&[root], Some(world)).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
    wit_component::ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// Appends a manifest.
pub fn signed(mut component: Vec<u8>, manifest: &serde_json::Value) -> Vec<u8> {
    append(&mut component, "wharf:manifest", manifest.to_string().as_bytes());
    component
}

pub fn append(component: &mut Vec<u8>, name: &str, data: &[u8]) {
    use wasm_encoder::ComponentSection as _;
    wasm_encoder::CustomSection { name: name.into(), data: data.into() }.append_to_component(component);
}

/// A good panel adapter that answers its version.
pub fn good(id: &str, version: &str) -> Vec<u8> {
    signed(adapter(version, ANSWER, ""), &manifest(id, version))
}

/// A panel adapter that does something else.
pub fn bad(id: &str, body: &str, fields: &str) -> Vec<u8> {
    signed(adapter("bad", body, fields), &manifest(id, "1.0.0"))
}

/// Resident memory of this process, in MiB.
pub fn resident_mib() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
}
