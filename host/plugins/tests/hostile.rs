//! Hostile components: each is refused, or fails alone with its cause, while a good one beside it answers, and what it
//! took comes back.

use crate::common;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::common::{ANSWER, Lab, bad, good, resident_mib};
use wharf_plugins::report::{CallError, Cause};

/// Calls a bad plugin while a good one is asked all the time; both run on one runtime.
async fn beside_a_good_one(body: &str, fields: &str) -> CallError {
    let lab = Arc::new(
        Lab::with(|config| {
            config.call_ms = 500;
            config.memory_mib = 32;
        })
        .await,
    );
    lab.install(good("good", "1.0.0")).await;
    lab.install(bad("bad", body, fields)).await;
    let other = lab.clone();
    let asking = tokio::spawn(async move {
        let mut answers = 0;
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            assert_eq!(other.ask("good").await.unwrap(), "1.0.0");
            answers += 1;
        }
        answers
    });
    let error = lab.ask("bad").await.unwrap_err();
    assert!(asking.await.unwrap() > 5, "the good plugin was kept waiting");
    assert_eq!(lab.ask("good").await.unwrap(), "1.0.0");
    assert_eq!(lab.runtime.in_use(), 0);
    assert!(error.text.starts_with("`bad` 1.0.0 failed in `translate`: "), "{}", error.text);
    error
}

const FOREVER: &str = "(loop $again (br $again)) unreachable";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_loop_ends_with_its_time() {
    let error = beside_a_good_one(FOREVER, "").await;
    assert_eq!(error.cause, Cause::Timeout);
    assert!(error.text.contains("500 ms"), "{}", error.text);
}

#[tokio::test]
async fn an_endless_loop_leaves_turns_to_others_even_on_a_single_thread() {
    let error = beside_a_good_one(FOREVER, "").await;
    assert_eq!(error.cause, Cause::Timeout);
}

#[tokio::test(start_paused = true)]
async fn an_endless_loop_ends_even_where_the_clock_stands_still() {
    let lab = Lab::with(|config| config.call_ms = 200).await;
    lab.install(bad("bad", FOREVER, "")).await;
    lab.install(good("good", "1.0.0")).await;
    let before = tokio::time::Instant::now();
    assert_eq!(lab.ask("bad").await.unwrap_err().cause, Cause::Timeout);
    assert_eq!(lab.ask("good").await.unwrap(), "1.0.0");
    assert!(before.elapsed() < Duration::from_millis(200), "virtual time stood still");
}

#[tokio::test]
async fn an_endless_loop_at_the_start_is_found_before_it_is_rolled_out() {
    let lab = Lab::with(|config| config.call_ms = 300).await;
    lab.install(good("good", "1.0.0")).await;
    let fields = "(func $begin (loop $again (br $again))) (start $begin)";
    let error =
        lab.runtime.install(bad("bad", ANSWER, fields), "tester", wharf_plugins::GrantRequest::Keep).await.unwrap_err();
    assert_eq!(error.code(), "warm");
    assert!(error.to_string().contains("300 ms"), "{error}");
    assert!(lab.runtime.manifest("bad").is_none());
    assert_eq!(lab.ask("good").await.unwrap(), "1.0.0");
    assert_eq!(lab.runtime.in_use(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_bomb_over_several_memories_is_stopped_at_the_sum_and_gives_it_back() {
    // Touches what it gets, so that it is really taken.
    let grow = |n: u32| {
        format!(
            "(block $full{n} (loop $more
                (br_if $full{n} (i32.eq (memory.grow $m{n} (i32.const 16)) (i32.const -1)))
                (memory.fill $m{n} (i32.const 0) (i32.const 1) (i32.mul (memory.size $m{n}) (i32.const 65536)))
                (br_if $more (i32.lt_u (memory.size $m{n}) (i32.const 200)))))"
        )
    };
    let body = format!("{} {} {} unreachable", grow(1), grow(2), grow(3));
    // The exported memory comes first; it is the third that is refused.
    let fields = "(memory $m1 0) (memory $m2 0) (memory $m3 0)";
    let before = resident_mib();
    let error = beside_a_good_one(&body, fields).await;
    assert_eq!(error.cause, Cause::Memory, "{}", error.text);
    assert!(error.text.contains("32 MiB") && error.text.contains("limits.memory_mib"), "{}", error.text);
    let after = resident_mib();
    assert!(after < before + 60, "{before} MiB before, {after} MiB after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_grows_for_ever_is_stopped() {
    let body =
        "(loop $more (br_if $more (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable";
    let error = beside_a_good_one(body, "(table 1 funcref)").await;
    assert_eq!(error.cause, Cause::Limit, "{}", error.text);
    assert!(error.text.contains("elements"), "{}", error.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_string_of_a_gibibyte_is_refused() {
    // err(failure) whose message says that it has 1 GiB.
    let body = "(i32.store8 (i32.const 1024) (i32.const 1))
        (i32.store (i32.const 1040) (i32.const 0)) (i32.store (i32.const 1044) (i32.const 0x40000000))
        (i32.const 1024)";
    let error = beside_a_good_one(body, "").await;
    assert!(matches!(error.cause, Cause::Trap | Cause::Limit), "{}", error.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_string_that_fits_its_memory_but_not_the_call_is_refused() {
    let body = "(drop (memory.grow (i32.const 400)))
        (i32.store8 (i32.const 1024) (i32.const 1))
        (i32.store (i32.const 1040) (i32.const 0)) (i32.store (i32.const 1044) (i32.const 20000000))
        (i32.const 1024)";
    let error = beside_a_good_one(body, "").await;
    assert_eq!(error.cause, Cause::Limit, "{}", error.text);
    assert!(error.text.contains("more at once"), "{}", error.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_a_million_is_refused() {
    // ok(command) whose options are 1.5 million pairs of empty strings.
    let body = "(drop (memory.grow (i32.const 400)))
        (i32.store (i32.const 1056) (i32.const 65536)) (i32.store (i32.const 1060) (i32.const 1500000))
        (i32.const 1024)";
    let error = beside_a_good_one(body, "").await;
    assert_eq!(error.cause, Cause::Limit, "{}", error.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trap_costs_one_call() {
    let error = beside_a_good_one("unreachable", "").await;
    assert_eq!(error.cause, Cause::Trap);
    assert!(error.text.contains("unreachable"), "{}", error.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_recursion_is_a_trap() {
    let given: String = (0..16).map(|n| format!("(local.get {n})")).collect();
    let error = beside_a_good_one(&format!("(call $translate {given}) (i32.const 1) i32.add"), "").await;
    assert_eq!(error.cause, Cause::Trap);
    assert!(error.text.contains("stack"), "{}", error.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_pool_is_waited_for_and_no_error() {
    let lab = Arc::new(Lab::with(|config| config.slots = std::num::NonZeroU32::new(2).unwrap()).await);
    lab.install(good("good", "1.0.0")).await;
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let lab = lab.clone();
            tokio::spawn(async move { lab.ask("good").await })
        })
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), "1.0.0");
    }
    assert!((1..=2).contains(&lab.runtime.max_in_use()), "{}", lab.runtime.max_in_use());
    assert_eq!(lab.runtime.in_use(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_plugin_cannot_take_all_the_places() {
    let lab = Arc::new(
        Lab::with(|config| {
            config.slots = std::num::NonZeroU32::new(4).unwrap();
            config.slots_per_plugin = std::num::NonZeroU32::new(2).unwrap();
            config.call_ms = 1_000;
        })
        .await,
    );
    lab.install(good("good", "1.0.0")).await;
    lab.install(bad("bad", FOREVER, "")).await;
    let stuck: Vec<_> = (0..8)
        .map(|_| {
            let lab = lab.clone();
            tokio::spawn(async move { lab.ask("bad").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    assert_eq!(lab.ask("good").await.unwrap(), "1.0.0");
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    for call in stuck {
        assert_eq!(call.await.unwrap().unwrap_err().cause, Cause::Timeout);
    }
}

#[tokio::test]
async fn nothing_is_left_of_one_call_in_the_next() {
    // Counts its calls in a global: a second call would answer 2.
    let body = "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (i32.store8 (i32.const 2057) (i32.add (global.get $calls) (i32.const 48)))
        (i32.const 1024)";
    let lab = Lab::new().await;
    lab.install(common::signed(
        common::adapter("0", body, "(global $calls (mut i32) (i32.const 0))"),
        &common::manifest("counter", "1.0.0"),
    ))
    .await;
    for _ in 0..3 {
        assert_eq!(lab.ask("counter").await.unwrap(), "1");
    }
}

/// Writes one line of 16 bytes to the log.
const LOG: &str = r#"(import "wharf:base/log@0.1.0" "write" (func $log (param i32 i32 i32 i32 i32)))"#;
const WRITE: &str = "(call $log (i32.const 3) (i32.const 2048) (i32.const 9) (i32.const 0) (i32.const 0))";

#[tokio::test]
async fn a_flood_of_log_lines_is_cut_and_an_endless_one_ended() {
    let lab = Lab::with(|config| config.call_ms = 500).await;
    let install = async |id: &str, body: String| {
        let module = common::adapter_module("bad", &body, LOG, "");
        lab.install(common::signed(common::component("panel-adapter", &module), &common::manifest(id, "1.0.0"))).await
    };
    install(
        "flood",
        format!(
            "(local $n i32) (loop $more {WRITE}
                (br_if $more (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 5000))))
             (i32.const 1024)"
        ),
    )
    .await;
    let report = lab.runtime.translate("flood", &wharf_plugins::report::PanelHook::default()).await.unwrap();
    assert!(report.answer.is_ok());
    assert!((1..=201).contains(&report.log.len()), "{} lines", report.log.len());

    install("endless", format!("(loop $more {WRITE} (br $more)) unreachable")).await;
    let error = lab.ask("endless").await.unwrap_err();
    assert!(matches!(error.cause, Cause::Timeout | Cause::Limit), "{}", error.text);
    assert!(error.log.len() <= 201);
    assert!(error.text.contains("it said last: provision"), "{}", error.text);
    assert_eq!(lab.runtime.in_use(), 0);
}

#[tokio::test]
async fn a_flood_of_handles_is_stopped() {
    let lab = Lab::with(|config| config.call_ms = 5_000).await;
    let import = r#"(import "wharf:http/client@0.1.0" "[constructor]outbound" (func $new (param i32 i32 i32 i32) (result i32)))"#;
    let body = "(call $done (local.get 0))
        (loop $more (drop (call $new (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))) (br $more)) unreachable";
    let manifest = common::hook_manifest("holder", &["wharf:hook/events", "wharf:http/client"]);
    let allow = wharf_plugins::GrantRequest::Allow(["wharf:http/client".to_owned()].into());
    lab.runtime.install(common::signed(common::hook(import, body), &manifest), "tester", allow).await.unwrap();
    let error = lab.runtime.tell("holder", common::binding()).await.unwrap_err();
    assert_eq!(error.cause, Cause::Limit, "{}", error.text);
    assert!(error.text.contains("more handles"), "{}", error.text);
    assert_eq!(lab.runtime.in_use(), 0);
}

#[tokio::test]
async fn a_plugin_with_wasi_finds_it_empty() {
    let packages = [
        "package wasi:cli@0.2.3; interface environment { get-environment: func() -> list<tuple<string, string>>; }",
        "package wasi:filesystem@0.2.3; interface types { resource descriptor; }
         interface preopens { use types.{descriptor}; get-directories: func() -> list<tuple<descriptor, string>>; }",
        "package wasi:clocks@0.2.3;
         interface wall-clock { record datetime { seconds: u64, nanoseconds: u32 } now: func() -> datetime; }
         interface monotonic-clock { now: func() -> u64; }",
        "package wasi:sockets@0.2.3;
         interface network {
           resource network;
           enum error-code {
             unknown, access-denied, not-supported, invalid-argument, out-of-memory, timeout, concurrency-conflict,
             not-in-progress, would-block, invalid-state, new-socket-limit, address-not-bindable, address-in-use,
             remote-unreachable, connection-refused, connection-reset, connection-aborted, datagram-too-large,
             name-unresolvable, temporary-resolver-failure, permanent-resolver-failure,
           }
           enum ip-address-family { ipv4, ipv6 }
         }
         interface instance-network { use network.{network}; instance-network: func() -> network; }
         interface tcp { resource tcp-socket; }
         interface tcp-create-socket {
           use network.{error-code, ip-address-family}; use tcp.{tcp-socket};
           create-tcp-socket: func(address-family: ip-address-family) -> result<tcp-socket, error-code>;
         }
         interface ip-name-lookup {
           use network.{network, error-code}; resource resolve-address-stream;
           resolve-addresses: func(network: borrow<network>, name: string) -> result<resolve-address-stream, error-code>;
         }",
        "package test:wasi; world nosy {
           include wharf:worlds/panel-adapter@0.1.0; import wasi:cli/environment@0.2.3;
           import wasi:filesystem/preopens@0.2.3; import wasi:clocks/wall-clock@0.2.3; import wasi:clocks/monotonic-clock@0.2.3;
           import wasi:sockets/instance-network@0.2.3; import wasi:sockets/tcp-create-socket@0.2.3;
           import wasi:sockets/ip-name-lookup@0.2.3;
         }",
    ];
    let imports = r#"
        (import "wasi:cli/environment@0.2.3" "get-environment" (func $env (param i32)))
        (import "wasi:filesystem/preopens@0.2.3" "get-directories" (func $dirs (param i32)))
        (import "wasi:clocks/wall-clock@0.2.3" "now" (func $wall (param i32)))
        (import "wasi:clocks/monotonic-clock@0.2.3" "now" (func $ticks (result i64)))
        (import "wasi:sockets/instance-network@0.2.3" "instance-network" (func $net (result i32)))
        (import "wasi:sockets/tcp-create-socket@0.2.3" "create-tcp-socket" (func $tcp (param i32 i32)))
        (import "wasi:sockets/ip-name-lookup@0.2.3" "resolve-addresses" (func $resolve (param i32 i32 i32 i32)))"#;
    // A digit each: variables, folders, the two clocks, whether there is a socket and an address, and why not.
    let body = r#"
        (call $env (i32.const 8192))
        (i32.store8 (i32.const 2057) (i32.add (i32.load (i32.const 8196)) (i32.const 48)))
        (call $dirs (i32.const 8192))
        (i32.store8 (i32.const 2058) (i32.add (i32.load (i32.const 8196)) (i32.const 48)))
        (call $wall (i32.const 8192))
        (i32.store8 (i32.const 2059) (i32.add (i64.ne (i64.load (i32.const 8192)) (i64.const 0)) (i32.const 48)))
        (i32.store8 (i32.const 2060) (i32.add (i64.ne (call $ticks) (i64.const 0)) (i32.const 48)))
        (call $tcp (i32.const 0) (i32.const 8192))
        (i32.store8 (i32.const 2061) (i32.add (i32.load8_u (i32.const 8192)) (i32.const 48)))
        (i32.store8 (i32.const 2062) (i32.add (i32.load8_u (i32.const 8196)) (i32.const 48)))
        (call $resolve (call $net) (i32.const 2048) (i32.const 9) (i32.const 8192))
        (i32.store8 (i32.const 2063) (i32.add (i32.load8_u (i32.const 8192)) (i32.const 48)))
        (i32.const 1024)"#;
    let module = common::adapter_module("xxxxxxx", body, imports, "");
    let component = common::component_of(&packages, "test:wasi/nosy", &module);
    let lab = Lab::new().await;
    lab.install(common::signed(component, &common::manifest("nosy", "1.0.0"))).await;
    assert!(std::env::vars().count() > 0);
    // No variable, no folder, no time; errors for a socket (1: access denied) and a name.
    assert_eq!(lab.ask("nosy").await.unwrap(), "0000111");
}
