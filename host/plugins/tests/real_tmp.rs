mod common;
#[tokio::test]
async fn real() {
    let lab = common::Lab::with(|c| c.compiler = wharf_plugins::Compiler::Child(env!("CARGO_BIN_EXE_wharf-compile").into())).await;
    for e in std::fs::read_dir("/work/main/target/plugins").unwrap().flatten() {
        if e.path().extension().is_some_and(|x| x == "wasm") {
            let bytes = std::fs::read(e.path()).unwrap();
            let g = wharf_plugins::Runtime::inspect(&bytes).unwrap().needs_grant.into_iter().collect();
            let t = std::time::Instant::now();
            let r = lab.runtime.install(bytes, "t", wharf_plugins::GrantRequest::Allow(g)).await;
            println!("{:?} {:?} {:?}", e.file_name(), r.map(|i| i.version).map_err(|e| e.to_string()), t.elapsed());
        }
    }
    println!("{:?}", lab.runtime.tell("minimal-lifecycle-hook", common::binding()).await);
}
