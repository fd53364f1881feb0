//! A host that has grown: `wharf:dns@0.1.1` with one more function in an interface that it lends and one more interface that a
//! plugin may give (`tests/grown/dns.wit`), generated and linked as the host does it, and nothing of 0.1.0 beside it.
//!
//! The provider in tests/frozen was built against 0.1.0 and is run on it.

use crate::common;
use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::Instant,
};
use wasmtime::{
    Config, Engine, Store,
    component::{Component, HasData, InstancePre, Linker, Resource, ResourceTable},
};
use wharf_capabilities::{
    HasCall,
    bindings::wharf as old,
    call::{Bound, CallState, Caller, DnsCall, ZoneBinding},
};
use wharf_model::object::{Grant, Zone};
use wharf_plugins::Runtime;

/// The grown contract, for a provider.
mod provider {
    wasmtime::component::bindgen!({
        path: ["../../wit/deps/base", "../../wit/deps/http", "tests/grown"],
        world: "wharf:dns/dns-provider@0.1.1",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "wharf:base": wharf_capabilities::bindings::wharf::base,
            "wharf:http": wharf_capabilities::bindings::wharf::http,
            "wharf:dns/calls.call": wharf_capabilities::call::DnsCall,
        },
    });
}

/// The optional interface that only this host knows.
mod checks {
    wasmtime::component::bindgen!({
        path: ["../../wit/deps/base", "../../wit/deps/http", "tests/grown"],
        world: "wharf:dns/zone-checks-part@0.1.1",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "wharf:base": wharf_capabilities::bindings::wharf::base,
            "wharf:dns/zones": super::provider::wharf::dns::zones,
            "wharf:dns/calls": super::provider::wharf::dns::calls,
        },
    });
}

use provider::{
    exports::wharf::dns::provider::{Change, Edit, Outcome},
    wharf::dns::{calls, zones},
};

/// Data of a store.
struct Data(CallState);

impl HasCall for Data {
    fn call(&mut self) -> &mut CallState {
        &mut self.0
    }
}

struct Lent;

impl HasData for Lent {
    type Data<'a> = &'a mut CallState;
}

/// What was there does what it did.
impl calls::HostCall for CallState {
    async fn config(&mut self, this: Resource<DnsCall>, key: String) -> wasmtime::Result<Option<String>> {
        old::dns::calls::HostCall::config(self, this, key).await
    }
    async fn deadline_ms(&mut self, this: Resource<DnsCall>) -> wasmtime::Result<u32> {
        old::dns::calls::HostCall::deadline_ms(self, this).await
    }
    async fn cancelled(&mut self, this: Resource<DnsCall>) -> wasmtime::Result<bool> {
        old::dns::calls::HostCall::cancelled(self, this).await
    }
    async fn idempotency_key(&mut self, this: Resource<DnsCall>) -> wasmtime::Result<String> {
        old::dns::calls::HostCall::idempotency_key(self, this).await
    }
    async fn learnt(&mut self, this: Resource<DnsCall>, key: String) -> wasmtime::Result<Option<String>> {
        old::dns::calls::HostCall::learnt(self, this, key).await
    }
    async fn progress(&mut self, this: Resource<DnsCall>, done: u32, total: u32) -> wasmtime::Result<()> {
        old::dns::calls::HostCall::progress(self, this, done, total).await
    }
    async fn drop(&mut self, this: Resource<DnsCall>) -> wasmtime::Result<()> {
        old::dns::calls::HostCall::drop(self, this).await
    }
    /// The function that is new.
    async fn urgent(&mut self, _: Resource<DnsCall>) -> wasmtime::Result<bool> {
        Ok(true)
    }
}

impl calls::Host for CallState {}

/// What the host lends to a provider, `wharf:dns` at 0.1.1 alone.
fn link(engine: &Engine) -> Linker<Data> {
    let mut linker = Linker::new(engine);
    old::base::log::add_to_linker::<Data, Lent>(&mut linker, Data::call).unwrap();
    old::base::clock::add_to_linker::<Data, Lent>(&mut linker, Data::call).unwrap();
    old::base::entropy::add_to_linker::<Data, Lent>(&mut linker, Data::call).unwrap();
    old::http::client::add_to_linker::<Data, Lent>(&mut linker, Data::call).unwrap();
    calls::add_to_linker::<Data, Lent>(&mut linker, Data::call).unwrap();
    linker
}

/// A component on the grown host.
struct Grown {
    pre: InstancePre<Data>,
    manifest: Arc<wharf_model::manifest::Manifest>,
}

impl Grown {
    fn load(component: &[u8]) -> Self {
        let mut config = Config::new();
        config.concurrency_support(false);
        let engine = Engine::new(&config).unwrap();
        let compiled = Component::new(&engine, component).unwrap();
        let pre = link(&engine).instantiate_pre(&compiled).unwrap();
        Self { pre, manifest: Arc::new(Runtime::inspect(component).unwrap().manifest) }
    }

    /// The state of a call for the zone `example.com` whose setting `url` is this.
    fn store(&self, origin: &str) -> (Store<Data>, Resource<DnsCall>) {
        let settings = serde_json::json!({"url": format!("{origin}/")});
        let zone = Zone { zone: "example.com.".into(), plugin: self.manifest.id.clone(), settings, ..Zone::default() };
        let binding = ZoneBinding::new("grown", zone, "1");
        let wanted: Vec<_> = self.manifest.wants.keys().cloned().collect();
        let grant: Grant =
            serde_json::from_value(serde_json::json!({"interfaces": wanted, "private_origins": [origin]})).unwrap();
        let began = Instant::now();
        let mut call = CallState {
            table: ResourceTable::new(),
            caller: Caller {
                id: self.manifest.id.clone(),
                version: self.manifest.version.clone(),
                manifest: self.manifest.clone(),
                grant: Arc::new(grant),
            },
            lender: common::lender(),
            bound: Bound::Zone(Box::new(binding)),
            log: Default::default(),
            meter: Default::default(),
            deadline: began + std::time::Duration::from_secs(20),
            began,
        };
        let handle = call.table.push(DnsCall).unwrap();
        (Store::new(self.pre.engine(), Data(call)), Resource::new_borrow(handle.rep()))
    }
}

/// Answers `{}` to every request, and keeps what came.
async fn peer() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let requests = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut text = String::new();
            let complete = |text: &str| {
                let (head, body) = text.split_once("\r\n\r\n")?;
                let length = head
                    .lines()
                    .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                (body.len() >= length.map_or(0, |l| l.parse().unwrap())).then_some(())
            };
            while complete(&text).is_none() {
                let mut buffer = [0; 4096];
                let n = stream.read(&mut buffer).await.unwrap();
                assert!(n > 0, "half a request: {text}");
                text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
            }
            requests.lock().unwrap().push(text);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await.unwrap();
        }
    });
    (origin, seen)
}

#[tokio::test]
async fn a_provider_of_the_contract_before_runs_on_a_host_that_has_grown() {
    let frozen = std::fs::read("../../tests/frozen/dns-provider-0.1.0.wasm").unwrap();
    let (imports, exports) = names(&frozen);
    assert!(imports.contains(&"wharf:dns/calls@0.1.0".into()), "it was not built against 0.1.0: {imports:?}");
    assert!(exports.contains(&"wharf:dns/provider@0.1.0".into()), "{exports:?}");
    let grown = Grown::load(&frozen);
    assert!(checks::ZoneChecksPartIndices::new(&grown.pre).is_err(), "it gives what it can't know of");

    let (origin, seen) = peer().await;
    let (mut store, call) = grown.store(&origin);
    let instance = grown.pre.instantiate_async(&mut store).await.unwrap();
    let provider = provider::DnsProvider::new(&mut store, &instance).unwrap();
    let provider = provider.wharf_dns_provider();
    let probed = provider.call_probe(&mut store, call, &"example.com.".to_owned()).await.unwrap().unwrap();
    assert!(probed.info.writable && probed.can.types.contains(&"PTR".to_owned()));

    let (mut store, call) = grown.store(&origin);
    let instance = grown.pre.instantiate_async(&mut store).await.unwrap();
    let value = zones::Value { data: "192.0.2.1".into(), owner: None, ext: Vec::new() };
    let change = Change {
        id: 7,
        name: "a.example.com.".into(),
        rtype: "A".into(),
        ttl: Some(60),
        edit: Edit::Replace(vec![value]),
        expect: None,
        owner: None,
        ext: Vec::new(),
    };
    let provider = provider::DnsProvider::new(&mut store, &instance).unwrap();
    let provider = provider.wharf_dns_provider();
    let report = provider.call_apply(&mut store, call, &probed.info.zone, &[change]).await.unwrap().unwrap();
    assert!(matches!(&report.outcomes[..], [(7, Outcome::Applied(set))] if set.values[0].data == "192.0.2.1"));
    let seen = seen.lock().unwrap();
    assert!(seen[0].starts_with("GET / ") && seen[1].starts_with("PUT / "), "{seen:?}");
    assert!(seen[1].ends_with("name=a.example.com.&type=A&value=192.0.2.1"), "{}", seen[1]);
}

/// A provider built against the grown contract: it asks the new function, and gives the new interface.
#[tokio::test]
async fn what_the_host_has_grown_by_is_there_for_who_knows_of_it() {
    let provider = [
        ("normalize", 1),
        ("probe", 3),
        ("test-connection", 5),
        ("list-zones", 1),
        ("read", 8),
        ("apply", 7),
        ("poll", 7),
    ]
    .map(|(name, inputs)| {
        let inputs = "i32 ".repeat(inputs);
        format!(r#"(func (export "wharf:dns/provider@0.1.1#{name}") (param {inputs}) (result i32) unreachable)"#)
    })
    .concat();
    let module = format!(
        r#"(module
            (import "wharf:dns/calls@0.1.1" "[resource-drop]call" (func $done (param i32)))
            (import "wharf:dns/calls@0.1.1" "[method]call.urgent" (func $urgent (param i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 4096))
            (func (export "wharf:dns/zone-checks@0.1.1#audit") (param i32 i32 i32 i32 i32) (result i32)
                (i32.store8 (i32.const 1028) (call $urgent (local.get 0)))
                (call $done (local.get 0))
                (i32.const 1024))
            {provider})"#
    );
    let wit = std::fs::read_to_string("tests/grown/dns.wit").unwrap();
    let bare = common::component_of(&[&wit], "wharf:dns/dns-provider-checked@0.1.1", &module);
    let manifest = serde_json::json!({"id": "newer", "name": "Newer", "version": "1.0.0", "world": "dns-provider",
        "licence": "Apache-2.0", "wants": {"wharf:dns/calls": "0.1.1"}});
    let newer = common::signed(bare, &manifest);

    let grown = Grown::load(&newer);
    let (mut store, call) = grown.store("http://127.0.0.1:1");
    let instance = grown.pre.instantiate_async(&mut store).await.unwrap();
    let part = checks::ZoneChecksPartIndices::new(&grown.pre).unwrap().load(&mut store, &instance).unwrap();
    let zone = zones::ZoneRef { id: "1".into(), name: "example.com.".into() };
    assert!(part.wharf_dns_zone_checks().call_audit(&mut store, call, &zone).await.unwrap().unwrap());

    // The host of today says what it lacks, before it runs anything.
    let lab = common::Lab::new().await;
    let grant = wharf_plugins::GrantRequest::Allow(Default::default());
    let error = lab.runtime.install(newer, "tester", grant).await.unwrap_err().to_string();
    assert!(error.contains("wharf:dns/calls@0.1.1, this host has 0.1.0: upgrade the host"), "{error}");
}

#[tokio::test]
async fn the_grown_contract_is_the_released_one_and_two_things_more() {
    let released = std::fs::read_to_string("../../wit/released/dns-0.1.0/dns.wit").unwrap();
    let grown = std::fs::read_to_string("tests/grown/dns.wit").unwrap();
    let without = grown
        .replace("@0.1.1;", "@0.1.0;")
        .replace("    /// Whether an admin waits for the answer.\n    urgent: func() -> bool;\n", "");
    let added =
        without.strip_prefix(released.as_str()).expect("something that was released is edited in the grown contract");
    assert_ne!(without.len(), grown.len());
    assert!(added.starts_with("\n/// Optional:") && added.matches("\ninterface ").count() == 1, "{added}");
}

/// Interfaces that a component imports and exports, as they are called in it.
fn names(component: &[u8]) -> (Vec<String>, Vec<String>) {
    let inspection = Runtime::inspect(component).unwrap();
    (
        inspection.imports.iter().map(ToString::to_string).collect(),
        inspection.exports.iter().map(ToString::to_string).collect(),
    )
}
