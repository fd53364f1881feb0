//! What an author of a plugin does with the binary alone, in a folder outside of this repository.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Instant,
};

use serde_json::Value;
use wharf_testkit::{peer::Peer, script::Script};

/// With an environment that says nothing of settings, as in an author's shell.
fn wharf(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wharf"));
    bare(&mut command).args(arguments).current_dir(folder).output().unwrap()
}

fn bare(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("WHARF_") && name != "WHARF_PLUGIN_TOOLCHAIN" || name.starts_with("CARGO_PKG") {
            command.env_remove(name);
        }
    }
    command.env_remove("CARGO").env_remove("CARGO_MANIFEST_DIR").env_remove("CARGO_TARGET_DIR").env("PATH", path(None))
}

/// Where an author's shell looks for programs: `WHARF_TEST_NODE` is a folder with the Node.js of `cargo xtask test`, which is used
/// where the machine has none that is new enough.
fn path(first: Option<&Path>) -> OsString {
    let node = std::env::var_os("WHARF_TEST_NODE").map(PathBuf::from);
    let others = std::env::var_os("PATH").unwrap_or_default();
    let all = first.map(Path::to_path_buf).into_iter().chain(node).chain(std::env::split_paths(&others));
    std::env::join_paths(all).unwrap()
}

fn said(output: &Output) -> (bool, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// Fails with what was said.
#[track_caller]
fn good(output: &Output) -> String {
    let (good, out, error) = said(output);
    assert!(good, "{out}\n{error}");
    out
}

/// A new project in a folder of its own.
fn new(lang: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    good(&wharf(dir.path(), &["plugin", "new", "--kind", "dns-provider", "--lang", lang, "dns-acme"]));
    let folder = dir.path().join("dns-acme");
    (dir, folder)
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from} is not in {}", file.display());
    std::fs::write(file, text.replacen(from, to, 1)).unwrap();
}

/// The API that a new project's façade describes, with a zone, and its token.
async fn example() -> (Peer, String) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/template/facade.rhai");
    let peer = Peer::start(Script::read(&file).unwrap().facade()).await.unwrap();
    peer.add_zone("example.com.", 3);
    let token = peer.settings()["token"].as_str().unwrap().to_owned();
    (peer, token)
}

async fn peer(folder: &Path) -> Peer {
    let (peer, token) = example().await;
    std::fs::write(folder.join("token.txt"), format!("{token}\n")).unwrap();
    peer
}

/// `wharf plugin run` against a peer; the exit code and the answer.
async fn run(folder: &Path, peer: &Peer, arguments: &[&str]) -> (bool, Value, String) {
    let folder = folder.to_owned();
    let url = peer.url.clone();
    let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    let output = tokio::task::spawn_blocking(move || {
        let setting = format!("server-url={url}");
        let mut all = vec!["plugin", "run"];
        all.extend(arguments.iter().map(String::as_str));
        all.extend(["--setting", &setting, "--secret-file", "token=token.txt"]);
        all.extend(["--allow-private", &url, "--zone", "example.com"]);
        wharf(&folder, &all)
    });
    let (good, out, error) = said(&output.await.unwrap());
    (good, serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}\n{error}")), out)
}

/// The commands of the tutorial for one language, as it is typed into a shell.
fn tutorial(language: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/write-a-dns-provider.md");
    let text = std::fs::read_to_string(page).unwrap();
    let (mut script, mut taken, mut inside) = (String::new(), false, false);
    for line in text.lines().map(str::trim) {
        if let Some(kind) = line.strip_prefix("```") {
            inside = !inside;
            taken = inside && (kind == "sh" || kind == format!("sh {language}"));
        } else if taken {
            script.push_str(line);
            script.push('\n');
        }
    }
    assert!(script.starts_with("language=rust\n") && script.matches("wharf plugin").count() >= 12, "{script}");
    script.replacen("language=rust", &format!("language={language}"), 1)
}

/// Follows the tutorial from its first command to its last; the folder that it leaves. How long it took is printed.
async fn followed(language: &str) -> (tempfile::TempDir, PathBuf) {
    let began = Instant::now();
    let dir = tempfile::tempdir().unwrap();
    let (peer, token) = example().await;
    let (script, place, url) = (tutorial(language), dir.path().to_owned(), peer.url.clone());
    let output = tokio::task::spawn_blocking(move || {
        let own = Path::new(env!("CARGO_BIN_EXE_wharf")).parent().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-e", "-u", "-x", "-c", &script]).current_dir(place);
        bare(&mut shell).env("PATH", path(Some(own))).env("API", url).env("TOKEN", token).output().unwrap()
    });
    let told = good(&output.await.unwrap());
    assert_eq!(told.matches("is good: a host takes it").count(), 2, "{told}");
    for (words, what) in [
        ("badge: hosting", "the provider has its badge"),
        ("2 passed, 0 failed", "two cases were run by number"),
        ("normalize of 4 sets", "its cost is told"),
        ("do not apply", "cases that can't be played live say so"),
    ] {
        assert!(told.contains(words) || words == "badge: hosting" && told.contains("badge: scale"), "{what}: {told}");
    }
    println!("the tutorial in {language}, from nothing to the last command: {:.0} s", began.elapsed().as_secs_f64());
    let model = peer.model();
    assert_eq!(model.zone("example.com.").unwrap().records.len(), 3, "what was added is removed");
    let folder = dir.path().join("dns-acme");
    (dir, folder)
}

/// What every template can do, whatever it is written in.
async fn speaks_the_example_api(folder: &Path) {
    let peer = peer(folder).await;
    let (good, probed, text) = run(folder, &peer, &["probe"]).await;
    assert!(good, "{text}");
    assert_eq!(probed["answer"]["ok"]["info"]["zone"]["name"], "example.com.");
    assert_eq!(probed["requests"][0]["headers"]["authorization"], "Bearer [secret token]", "{text}");
    assert!(probed["used"]["memory_bytes"].as_u64().unwrap() > 0 && probed["used"]["requests"] == 1, "{text}");

    let add = ["apply", "--add", "www.example.com", "A", "192.0.2.7", "--ttl", "300"];
    let (good, applied, text) = run(folder, &peer, &add).await;
    assert!(good, "{text}");
    assert_eq!(applied["answer"]["ok"]["outcomes"][0]["outcome"]["applied"]["values"][0], "192.0.2.7", "{text}");
    assert_eq!(peer.model().zone("example.com.").unwrap().data("www.example.com.", "A"), ["192.0.2.7"]);
    peer.take_log();
    let (_, again, text) = run(folder, &peer, &add).await;
    assert!(again["answer"]["ok"]["outcomes"][0]["outcome"].get("unchanged").is_some(), "{text}");
    assert!(peer.take_log().iter().all(|asked| !asked.request.writes()), "a write for what is so already");

    let (good, read, text) = run(folder, &peer, &["read"]).await;
    assert!(good && read["answer"]["ok"]["complete"] == true, "{text}");
    assert_eq!(read["answer"]["ok"]["rrsets"].as_array().unwrap().len(), 4, "{text}");
    let (good, _, text) = run(folder, &peer, &["apply", "--remove", "www.example.com", "A", "192.0.2.7"]).await;
    assert!(good, "{text}");
    assert_eq!(peer.model().zone("example.com.").unwrap().records.len(), 3, "those of others are there");

    let normalize = ["normalize", "--add", "WWW.example.com", "AAAA", "2001:DB8::0:1", "--ttl", "1"];
    let (good, verdicts, text) = run(folder, &peer, &normalize).await;
    assert!(good, "{text}");
    let set = &verdicts["answer"]["ok"][0]["adjusted"];
    assert_eq!((&set["values"][0], &set["ttl"]), (&"2001:db8::1".into(), &60.into()), "{text}");

    std::fs::write(folder.join("token.txt"), "another-token-that-is-wrong").unwrap();
    peer.take_log();
    let (good, refused, text) = run(folder, &peer, &["read"]).await;
    assert!(!good && refused["answer"]["problem"]["action"] == "fix-config", "{text}");
    assert!(!text.contains("another-token"), "{text}");
    assert_eq!(peer.take_log().len(), 1, "credentials are tried once");
}

/// What a peer said once is said again without it, whatever the token; what it was not asked has no answer.
async fn a_recording_answers_as_the_peer_did(folder: &Path) {
    let peer = peer(folder).await;
    let (good, live, text) = run(folder, &peer, &["read", "--record", "read.har"]).await;
    assert!(good, "{text}");
    let kept = std::fs::read_to_string(folder.join("read.har")).unwrap();
    assert!(!kept.contains(peer.settings()["token"].as_str().unwrap()), "{kept}");
    std::fs::write(folder.join("token.txt"), "of-no-account").unwrap();
    peer.take_log();
    let (good, replayed, text) = run(folder, &peer, &["read", "--replay", "read.har"]).await;
    assert!(good && replayed["answer"] == live["answer"] && replayed["replay"]["left"] == 0, "{text}");
    let add = ["apply", "--add", "www.example.com", "A", "192.0.2.7", "--replay", "read.har"];
    let (good, _, text) = run(folder, &peer, &add).await;
    assert!(!good && text.contains("read.har has no answer to GET"), "{text}");
    assert!(peer.take_log().is_empty(), "a replay sends nothing");

    std::fs::write(folder.join("token.txt"), "short").unwrap();
    let all = ["--setting", "server-url=https://x.test", "--secret-file", "token=token.txt", "--record", "other.har"];
    let all = [&["plugin", "run", "probe", "--zone", "example.com"], &all[..]].concat();
    let (good, _, error) = said(&wharf(folder, &all));
    assert!(!good && error.contains("fewer than 6 bytes") && !folder.join("other.har").exists(), "{error}");
}

#[test]
fn a_name_that_no_plugin_can_have_and_a_folder_that_is_there_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| said(&wharf(dir.path(), &["plugin", "new", "--lang", "rust", name]));
    for bad in ["Dns-Acme", "dns_acme", "9dns", "x"] {
        let (good, _, error) = make(bad);
        assert!(!good && error.contains(bad) && error.contains("dns-acme"), "{error}");
    }
    std::fs::create_dir(dir.path().join("dns-there")).unwrap();
    let (good, _, error) = make("dns-there");
    assert!(!good && error.contains("is there already"), "{error}");
    let (good, _, error) = make("no/such/dns-acme");
    assert!(!good && error.contains("no/such"), "{error}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn a_new_project_holds_no_path_of_this_repository() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let repository = repository.to_str().unwrap();
    for lang in ["rust", "js", "ts", "python"] {
        let (_dir, folder) = new(lang);
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                    continue;
                }
                let text = std::fs::read_to_string(entry.path()).unwrap();
                for left in [repository, "@ID@", "@RUST@", "@MEMORY@", "@CLOCK@", "workspace = true"] {
                    assert!(!text.contains(left), "{left} in {}", entry.path().display());
                }
            }
        }
    }
}

#[test]
fn what_is_wrong_in_a_manifest_is_told_with_its_line_before_anything_is_built() {
    let (_dir, folder) = new("rust");
    let file = folder.join("manifest.json");
    let whole = std::fs::read_to_string(&file).unwrap();
    for (from, to, place, words) in [
        ("\"version\": \"0.1.0\",", "\"version\": \"0.1.0\"", "manifest.json:5:3", "expected `,`"),
        ("\"licence\"", "\"license\"", "manifest.json:6:11", "unknown field `license`"),
        ("\"type\": \"object\"", "\"type\": \"objekt\"", "manifest.json:18:5", "JSON Schema"),
        (
            "\"origin\": \"{server-url}\", \"path\": \"/v1/zones\"",
            "\"origin\": \"{url}\", \"path\": \"/v1/zones\"",
            "manifest.json:40:27",
            "no setting `url`",
        ),
        ("\"slot\": \"token\"", "\"slot\": \"tokn\"", "manifest.json:44:17", "`tokn`"),
        (
            "\"path\": \"/v1/zones/*/records\"",
            "\"path\": \"v1/zones/*/records\"",
            "manifest.json:41:5",
            "must begin with `/`",
        ),
    ] {
        assert!(whole.contains(from), "{from}");
        std::fs::write(&file, whole.replacen(from, to, 1)).unwrap();
        let (good, _, error) = said(&wharf(&folder, &["plugin", "check"]));
        assert!(!good && error.contains(place) && error.contains(words), "{from}: {error}");
    }
    std::fs::write(&file, whole).unwrap();
    let (good, _, error) = said(&wharf(&folder, &["plugin", "check"]));
    assert!(!good && error.contains("wharf plugin build"), "{error}");
    let (good, _, error) = said(&wharf(folder.parent().unwrap(), &["plugin", "build"]));
    assert!(!good && error.contains("manifest.json") && error.contains("wharf plugin new"), "{error}");
}

#[test]
fn a_file_that_is_no_component_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.wasm"), "no wasm").unwrap();
    let (good, _, error) = said(&wharf(dir.path(), &["plugin", "check", "x.wasm"]));
    assert!(!good && error.contains("x.wasm") && error.contains("not WebAssembly"), "{error}");
    assert!(!said(&wharf(dir.path(), &["plugin", "inspect", "x.wasm"])).0);
}

/// One test, because the build is what takes the time.
#[tokio::test]
async fn a_provider_in_rust_is_made_built_checked_run_and_its_panics_are_named() {
    let (_dir, folder) = followed("rust").await;
    let shown: Value = serde_json::from_str(&good(&wharf(&folder, &["plugin", "inspect", "--json"]))).unwrap();
    let imports = shown["imports"].as_array().unwrap();
    assert!(imports.iter().all(|i| i["interface"].as_str().unwrap().starts_with("wharf:")), "{imports:?}");
    assert!(
        good(&wharf(&folder, &["plugin", "inspect", "dns-acme.wasm"])).contains("requests GET {server-url}/v1/zones")
    );
    speaks_the_example_api(&folder).await;
    a_recording_answers_as_the_peer_did(&folder).await;

    the_kit_tells_who_failed(&folder);
    a_live_zone_that_is_used_is_left_alone(&folder).await;

    // A setting that is missing, wrong or a secret.
    for (arguments, words) in [
        (&["--setting", "server-url=ftp://x"][..], "/server-url"),
        (&["--setting", "token=abc"], "--secret-file token="),
        (&["--setting", "server-url=https://x.test"], "the secret `token` is missing"),
    ] {
        let all = [&["plugin", "run", "probe", "--zone", "example.com"], arguments].concat();
        let (good, _, error) = said(&wharf(&folder, &all));
        assert!(!good && error.contains(words), "{error}");
    }
    // Without leave, loopback is as closed as on a host.
    let url = ["--setting", "server-url=https://127.0.0.1:1", "--secret-file", "token=token.txt"];
    let all = [&["plugin", "run", "probe", "--zone", "example.com"], &url[..]].concat();
    let (good_, out, _) = said(&wharf(&folder, &all));
    assert!(!good_ && out.contains("address-refused"), "{out}");

    // The manifest was edited and not built in.
    edit(&folder.join("manifest.json"), "\"call_ms\": 30000", "\"call_ms\": 20000");
    let (good_, _, error) = said(&wharf(&folder, &["plugin", "check"]));
    assert!(!good_ && error.contains("build it again"), "{error}");

    // A panic names the author's line, a trap the author's function.
    let here = "pub fn probe<T: Transport>(api: &mut Api<T>, zone: &str) -> Result<Probed, Problem> {\n";
    edit(&folder.join("src/work.rs"), here, &format!("{here}    assert!(zone.is_empty(), \"a stray thought\");\n"));
    good(&wharf(&folder, &["plugin", "build"]));
    let peer = peer(&folder).await;
    let (good_, trapped, text) = run(&folder, &peer, &["probe"]).await;
    assert!(!good_ && trapped["answer"]["failed"]["cause"] == "trap", "{text}");
    let words = trapped["answer"]["failed"]["text"].as_str().unwrap();
    assert!(words.contains("src/work.rs:") && words.contains("a stray thought"), "{text}");
    assert!(!words.contains("wasm function"), "{text}");
    assert_eq!(trapped["log"][0]["level"], "error", "{text}");
}

/// A provider that fails is built anew, fails its case with what was seen, and has no badge; a façade that fails is not taken for
/// the provider.
fn the_kit_tells_who_failed(folder: &Path) {
    let report = std::fs::read_to_string(folder.join("report.xml")).unwrap();
    assert!(report.contains("tests=\"54\""), "{report}");
    // Beyond hosting, 3,501 changes take their time in a build like this one.
    let failed = |line: &&str| line.contains("<failure") && !line.contains("classname=\"scale\"");
    assert_eq!(report.lines().find(failed), None);
    edit(&folder.join("src/api.rs"), "401 | 403 => Problem::fix_config(", "401 | 403 => Problem::retry(");
    let (good_, out, error) = said(&wharf(folder, &["plugin", "test", "--case", "22", "--case", "13", "--json"]));
    assert!(!good_ && error.contains("building, because src/api.rs is newer than dns-acme.wasm"), "{error}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&told["badge"], &told["counts"]["failed"]), (&Value::Null, &1.into()), "{out}");
    assert_eq!((&told["cases"][0]["number"], &told["cases"][0]["result"]), (&22.into(), &"failed".into()), "{out}");
    let (good_, out, error) = said(&wharf(folder, &["plugin", "test", "--case", "22"]));
    assert!(!good_ && !error.contains("building"), "{error}");
    assert!(
        out.contains("FAILED  Wrong credentials are `fix-config`") && out.contains("it gave the problem `retry`"),
        "{out}"
    );
    let (good_, _, error) = said(&wharf(folder, &["plugin", "test", "--case", "55"]));
    assert!(!good_ && error.contains("there is no case 55"), "{error}");
    edit(&folder.join("src/api.rs"), "401 | 403 => Problem::retry(", "401 | 403 => Problem::fix_config(");

    let facade = folder.join("facade.rhai");
    let whole = std::fs::read_to_string(&facade).unwrap();
    for (from, to, words) in [
        ("fn page_size() { 100 }", "fn page_size() { 100 ", "facade.rhai:"),
        ("fn features() {", "fn feature() {", ""),
        ("return create(request, zone_of(request, api));", "return creat(request);", "there is no function `creat"),
    ] {
        assert!(whole.contains(from), "{from}");
        std::fs::write(&facade, whole.replacen(from, to, 1)).unwrap();
        let (good_, out, error) = said(&wharf(folder, &["plugin", "test", "--case", "13"]));
        let told = format!("{out}{error}");
        assert_eq!(good_, words.is_empty(), "{from}: {told}");
        assert!(told.contains(words), "{from}: {told}");
        if to.contains("creat(") {
            assert!(told.contains("the façade broke") && told.contains("facade.rhai:"), "{told}");
        }
    }
    std::fs::write(&facade, whole).unwrap();
}

/// Too many records of others: refused before anything is written. With a yes it is played, and all is as it was.
async fn a_live_zone_that_is_used_is_left_alone(folder: &Path) {
    let peer = peer(folder).await;
    peer.add_zone("used.example.", 30);
    let before = peer.model().zone("used.example.").unwrap().picture();
    let setting = format!("server-url={}", peer.url);
    let mut all = vec!["plugin", "test", "--live", "--zone", "used.example", "--setting", &setting, "--case", "16"];
    all.extend(["--secret-file", "token=token.txt", "--allow-private", &peer.url]);
    let play = async |arguments: &[&str]| {
        let (folder, owned) = (folder.to_owned(), arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        let output =
            tokio::task::spawn_blocking(move || wharf(&folder, &owned.iter().map(String::as_str).collect::<Vec<_>>()));
        said(&output.await.unwrap())
    };
    let (good_, out, error) = play(&all).await;
    assert!(
        !good_ && error.contains("holds 30 records that are not the kit's") && error.contains("--yes"),
        "{out}{error}"
    );
    assert!(peer.take_log().iter().all(|asked| !asked.request.writes()), "nothing is written");
    all.push("--yes");
    let (good_, out, error) = play(&all).await;
    assert!(
        good_ && error.contains("This writes into the live zone used.example: records of the types A"),
        "{out}{error}"
    );
    assert!(out.contains("1 passed, 0 failed") && error.contains("is deleted"), "{out}{error}");
    assert!(peer.take_log().iter().any(|asked| asked.request.writes()));
    assert_eq!(peer.model().zone("used.example.").unwrap().picture(), before);
}

#[tokio::test]
async fn a_provider_in_javascript_is_made_built_checked_run_and_its_exceptions_are_told() {
    let (_dir, folder) = followed("js").await;
    let shown: Value = serde_json::from_str(&good(&wharf(&folder, &["plugin", "inspect", "--json"]))).unwrap();
    let imports = shown["imports"].as_array().unwrap();
    assert!(imports.iter().all(|i| i["interface"].as_str().unwrap().starts_with("wharf:")), "{imports:?}");
    speaks_the_example_api(&folder).await;

    edit(
        &folder.join("src/work.js"),
        "export function probe(api, zone) {\n",
        "export function probe(api, zone) {\n  zone.oh.no();\n",
    );
    good(&wharf(&folder, &["plugin", "build"]));
    exception_is_told(&folder, "work.js").await;
    what_is_left_of_wasi_is_closed(&folder).await;
}

/// A build with what componentize-js leaves on unless it is told otherwise imports WASI. It loads, its calls work, and there is
/// neither a variable nor the time.
async fn what_is_left_of_wasi_is_closed(folder: &Path) {
    edit(&folder.join("build.mjs"), "['stdio', 'random', 'clocks', 'http', 'fetch-event']", "['http', 'fetch-event']");
    edit(&folder.join("src/work.js"), "  zone.oh.no();\n", "  console.log('said to nobody');\n");
    let told = "ttlDefault: TTLS.initial, ext: [";
    edit(&folder.join("src/work.js"), told, &format!("{told}['now', String(Date.now())]"));
    good(&wharf(folder, &["plugin", "build"]));
    let shown: Value = serde_json::from_str(&good(&wharf(folder, &["plugin", "inspect", "--json"]))).unwrap();
    let imported = shown["imports"].to_string();
    for interface in ["wasi:cli/stdout", "wasi:clocks/wall-clock", "wasi:io/streams"] {
        assert!(imported.contains(interface), "{imported}");
    }
    let said = good(&wharf(folder, &["plugin", "check"]));
    assert!(said.contains("which the host links to nothing"), "{said}");
    let peer = peer(folder).await;
    let (good, probed, text) = run(folder, &peer, &["probe"]).await;
    assert!(good && !text.contains("said to nobody"), "{text}");
    assert_eq!(probed["answer"]["ok"]["info"]["ext"]["now"], "0", "{text}");
}

#[tokio::test]
async fn a_provider_in_typescript_is_made_built_checked_run_and_its_exceptions_are_told() {
    let (_dir, folder) = followed("ts").await;
    let shown: Value = serde_json::from_str(&good(&wharf(&folder, &["plugin", "inspect", "--json"]))).unwrap();
    let imports = shown["imports"].as_array().unwrap();
    assert!(imports.iter().all(|i| i["interface"].as_str().unwrap().starts_with("wharf:")), "{imports:?}");
    speaks_the_example_api(&folder).await;

    // What the types don't allow is told with its line before anything is built.
    let kept = std::fs::read_to_string(folder.join("src/work.ts")).unwrap();
    edit(&folder.join("src/work.ts"), "writable: true", "writable: 1");
    let (good_, _, error) = said(&wharf(&folder, &["plugin", "build"]));
    assert!(!good_ && error.contains("src/work.ts(") && error.contains("'boolean'"), "{error}");
    std::fs::write(folder.join("src/work.ts"), kept).unwrap();

    edit(
        &folder.join("src/work.ts"),
        "export function probe(api: Api, zone: string): Probed {\n",
        "export function probe(api: Api, zone: string): Probed {\n  (zone as any).oh.no();\n",
    );
    good(&wharf(&folder, &["plugin", "build"]));
    exception_is_told(&folder, "work.js").await;
}

#[tokio::test]
async fn a_provider_in_python_is_made_built_checked_run_and_its_exceptions_are_told() {
    let (_dir, folder) = followed("python").await;
    let shown: Value = serde_json::from_str(&good(&wharf(&folder, &["plugin", "inspect", "--json"]))).unwrap();
    let imports = shown["imports"].as_array().unwrap();
    assert!(imports.iter().all(|i| i["interface"].as_str().unwrap().starts_with("wharf:")), "{imports:?}");
    speaks_the_example_api(&folder).await;

    edit(&folder.join("src/work.py"), "def probe(api, zone):\n", "def probe(api, zone):\n    zone.oh.no()\n");
    good(&wharf(&folder, &["plugin", "build"]));
    exception_is_told(&folder, "work.py").await;
}

/// A stray exception names the author's file.
async fn exception_is_told(folder: &Path, file: &str) {
    let peer = peer(folder).await;
    let (good, answer, text) = run(folder, &peer, &["probe"]).await;
    assert!(!good, "{text}");
    assert_eq!(answer["answer"]["problem"]["code"], "guest-exception", "{text}");
    assert_eq!(answer["log"][0]["level"], "error", "{text}");
    assert!(answer["log"][0]["message"].as_str().unwrap().contains(file), "{text}");
}
