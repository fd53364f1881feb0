//! Small components, made from text, and a host to run them on.

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
    let books: wharf_store::Books = Arc::new(MemoryStore::default());
    let keyring = Arc::new(wharf_capabilities::secrets::Keyring::new([7; 32]));
    Arc::new(Lender {
        clock: Arc::new(SystemClock),
        servers: Arc::new(wharf_capabilities::proxmox::Servers::new(books.clone(), keyring.clone())),
        sender: Arc::new(wharf_capabilities::http::Sender::new()),
        keyring,
        books,
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
        let posted = wharf_plugins::report::PanelHook {
            verb: "create".into(),
            content_type: "application/json".into(),
            body: "{}".into(),
            ..Default::default()
        };
        let answer = self.runtime.translate(id, &posted).await?.answer;
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

/// A panel adapter whose `translate` has this body (WAT; sixteen i32 in, a pointer out) and whose module has these further
/// fields. At 1024 lies an answer `ok` with the reference `reference`.
pub fn adapter(reference: &str, body: &str, fields: &str) -> Vec<u8> {
    component("panel-adapter", &adapter_module(reference, body, "", fields))
}

/// The text of the module in [`adapter`], with imports.
pub fn adapter_module(reference: &str, body: &str, imports: &str, fields: &str) -> String {
    let length = reference.len();
    format!(
        r#"(module
                {imports}
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
                    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
                    {body})
                (func (export "wharf:panel/adapter@0.1.0#present") (param i32) (result i32)
                    (i32.const 4096))
                {fields})"#
    )
}

/// The body of a `translate` that answers.
pub const ANSWER: &str = "(i32.const 1024)";

/// A component of a world, from the text of its module.
pub fn component(world: &str, module: &str) -> Vec<u8> {
    component_of(&[], &format!("wharf:worlds/{world}"), module)
}

/// As [`component`], with more WIT beside the contract's, and the world by its full name.
pub fn component_of(packages: &[&str], world: &str, module: &str) -> Vec<u8> {
    let mut module = wat::parse_str(module).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let (mut root, _) = resolve.push_dir("../../wit").unwrap();
    for (n, package) in packages.iter().enumerate() {
        root = resolve.push_str(format!("{n}.wit"), package).unwrap();
    }
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

/// A lifecycle hook whose `tell` has this body (WAT; a handle in, a pointer out; `$done` lets go of the handle). At 1024
/// lies `ok`.
pub fn hook(imports: &str, body: &str) -> Vec<u8> {
    component(
        "lifecycle-hook",
        &format!(
            r#"(module
                (import "wharf:hook/events@0.1.0" "[resource-drop]delivery" (func $done (param i32)))
                {imports}
                (memory (export "memory") 4)
                (global $next (mut i32) (i32.const 65536))
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                    (local $at i32)
                    (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                    (global.set $next (i32.add (local.get $at) (local.get 3)))
                    (local.get $at))
                (func (export "wharf:hook/told@0.1.0#tell") (param i32) (result i32)
                    {body}))"#
        ),
    )
}

/// A manifest of a lifecycle hook that wants these interfaces.
pub fn hook_manifest(id: &str, wants: &[&str]) -> serde_json::Value {
    let wants: serde_json::Map<_, _> = wants.iter().map(|w| ((*w).to_owned(), "0.1.0".into())).collect();
    serde_json::json!({
        "id": id, "name": id, "version": "1.0.0", "world": "lifecycle-hook", "licence": "Apache-2.0", "wants": wants
    })
}

/// What a hook is told in tests.
pub fn binding() -> wharf_capabilities::call::HookBinding {
    wharf_capabilities::call::HookBinding {
        name: "hook".into(),
        settings: serde_json::json!({}),
        event: None,
        attempt: 1,
        question: None,
    }
}

/// A provisioner whose `step` has this body (WAT; a handle in, a pointer out; `$done` lets go of the handle). At 1024
/// lies `waiting` for 5 s, at 1152 `reached` of the state `done`.
pub fn provisioner(body: &str) -> Vec<u8> {
    component(
        "provisioner",
        &format!(
            r#"(module
                (import "wharf:provisioner/operations@0.1.0" "[resource-drop]operation" (func $done (param i32)))
                (memory (export "memory") 4)
                (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 65536))
                (data (i32.const 1024) "\00\00\00\00\02\00\00\00\88\13\00\00")
                (data (i32.const 1152) "\00\00\00\00\00\00\00\00\00\05\00\00\01\00\00\00")
                (data (i32.const 1280) "\40\05\00\00\04\00\00\00\00")
                (data (i32.const 1344) "done")
                (func (export "wharf:provisioner/provisioning@0.1.0#step") (param i32) (result i32)
                    (call $done (local.get 0))
                    {body}))"#
        ),
    )
}

/// A manifest of a provisioner with one operation of two states, `begun` and `done`.
pub fn provisioner_manifest(version: &str, reads: (u32, u32), writes: u32) -> serde_json::Value {
    serde_json::json!({
        "id": "maker", "name": "Maker", "version": version, "world": "provisioner", "licence": "Apache-2.0",
        "wants": {"wharf:provisioner/operations": "0.1.0", "wharf:proxmox/vms": "0.1.0"},
        "state": {"reads": [reads.0, reads.1], "writes": writes},
        "operations": [{"kind": "deploy", "label": "Deploy", "phase": "provisioning", "final_phase": "active",
            "states": [{"id": "begun"}, {"id": "done", "label": "Do it"}]}]
    })
}

/// A run of the plugin `maker` at its first state.
pub fn run(state_version: u32) -> wharf_store::Run {
    use wharf_model::{
        operation::{Operation, Status},
        service::{Phase, Service},
    };
    let (service, operation) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
    wharf_store::Run {
        claim: wharf_store::Claim { operation, owner: uuid::Uuid::now_v7(), epoch: 1 },
        service: Service {
            id: service,
            panel: "shop".into(),
            reference: "1".into(),
            plan: "small".into(),
            server: "pve".into(),
            plugin: "maker".into(),
            options: Default::default(),
            settings: serde_json::json!({}),
            order: Default::default(),
            facts: Default::default(),
            phase: Phase::Provisioning,
            suspended: false,
            generation: 1,
            state: "begun".into(),
            state_version,
            vmid: None,
            absence_proven_ms: None,
            created_ms: 0,
            updated_ms: 0,
        },
        operation: Operation {
            id: operation,
            service_id: service,
            generation: 1,
            kind: "deploy".into(),
            plugin: "maker".into(),
            status: Status::Running,
            state: "begun".into(),
            state_version,
            memo: None,
            attempt: 0,
            reason: None,
            created_ms: 0,
            started_ms: None,
            state_ms: 0,
            ended_ms: None,
        },
        effect: None,
        preempted: false,
        taken_over: false,
    }
}
