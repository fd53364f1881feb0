//! HTTP for plugins, against servers of our own on loopback and transports that only write down.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use crate::common::{KEY, Lab, Names, Recorder, SIGNING, serve};
use axum::{Router, body::Bytes, extract::Request, http::HeaderMap, response::IntoResponse, routing::any};
use base64::{Engine, engine::general_purpose::STANDARD};
use tokio::{io::AsyncReadExt, net::TcpListener};
use wasmtime::component::Resource;
use wharf_capabilities::{
    bindings::wharf::http::client::{Failure, HostOutbound, HostReply, Sent},
    call::{CallState, Outbound, Reply},
    http::{Answer, Network, Sender},
};

/// A request under construction.
struct Building<'a> {
    call: &'a mut CallState,
    id: u32,
}

async fn build<'a>(call: &'a mut CallState, method: &str, url: &str) -> Building<'a> {
    let id = HostOutbound::new(call, method.into(), url.into()).await.unwrap().rep();
    Building { call, id }
}

impl Building<'_> {
    fn this(&self) -> Resource<Outbound> {
        Resource::new_borrow(self.id)
    }

    async fn header(self, name: &str, value: &str) -> Self {
        HostOutbound::header(self.call, self.this(), name.into(), value.into()).await.unwrap();
        self
    }

    async fn query(self, name: &str, value: &str) -> Self {
        HostOutbound::query(self.call, self.this(), name.into(), value.into()).await.unwrap();
        self
    }

    async fn text(self, content_type: &str, text: impl Into<String>) -> Self {
        HostOutbound::body_text(self.call, self.this(), content_type.into(), text.into()).await.unwrap();
        self
    }

    async fn form(self, name: &str, value: &str) -> Self {
        HostOutbound::body_form(self.call, self.this(), name.into(), value.into()).await.unwrap();
        self
    }

    async fn timeout(self, ms: u32) -> Self {
        HostOutbound::timeout_ms(self.call, self.this(), ms).await.unwrap();
        self
    }

    async fn send(self) -> Result<(u16, Vec<(String, String)>, String), Failure> {
        let reply = HostOutbound::send(self.call, self.this()).await.unwrap()?;
        let this = || Resource::<Reply>::new_borrow(reply.rep());
        let status = HostReply::status(self.call, this()).await.unwrap();
        let headers = HostReply::headers(self.call, this()).await.unwrap();
        Ok((status, headers, HostReply::text(self.call, this()).await.unwrap()))
    }

    /// The failure's code and whether the peer has surely not seen it.
    async fn fails(self) -> (String, bool) {
        let failure = self.send().await.expect_err("was sent");
        (failure.code, failure.sent == Sent::NotSent)
    }
}

fn refused(code: &str) -> (String, bool) {
    (code.to_owned(), true)
}

fn lost(code: &str) -> (String, bool) {
    (code.to_owned(), false)
}

/// Answers with all it was given.
fn echo() -> Router {
    Router::new().fallback(any(|headers: HeaderMap, body: Bytes| async move {
        let key = headers.get("x-api-key").map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default();
        let body = String::from_utf8(body.to_vec()).unwrap();
        let json = serde_json::json!({"key": key, "coded": STANDARD.encode(format!("admin:{key}")), "body": body});
        ([("x-echo", key)], json.to_string())
    }))
}

async fn granted(app: Router) -> (Lab, String) {
    let origin = format!("http://{}", serve(app).await);
    (Lab::new(Sender::new()).granting(&origin), origin)
}

#[tokio::test]
async fn a_secret_goes_into_its_header_and_its_echo_is_taken_out() {
    let got = Arc::new(std::sync::Mutex::new(String::new()));
    let seen = got.clone();
    let app = Router::new().fallback(any(move |headers: HeaderMap, request: Request| {
        *seen.lock().unwrap() = format!("{} {}", headers["x-api-key"].to_str().unwrap(), request.uri());
        async { "fine" }
    }));
    let (lab, origin) = granted(app).await;
    let mut call = lab.zone(&format!("{origin}/behind/")).await;
    let request = build(&mut call, "GET", &format!("{origin}/behind/api/a%2Fb")).await;
    let reply = request.header("X-API-Key", "{{api-key}}").await.query("q", "a b&c").await.send().await.unwrap();
    assert_eq!((reply.0, reply.2.as_str()), (200, "fine"));
    assert_eq!(*got.lock().unwrap(), format!("{KEY} /behind/api/a%2Fb?q=a+b%26c"));

    let (lab, origin) = granted(echo()).await;
    let mut call = lab.zone(&origin).await;
    let request = build(&mut call, "POST", &format!("{origin}/api/x")).await;
    let (_, headers, text) =
        request.header("x-api-key", "{{api-key}}").await.form("hash", "me:{{api-key}}").await.send().await.unwrap();
    assert!(headers.contains(&("x-echo".into(), "[secret api-key]".into())), "{headers:?}");
    let coded = STANDARD.encode(format!("admin:{KEY}"));
    assert!(!text.contains("k3y") && !text.contains(&coded[10..30]), "{text}");
    assert_eq!(text.matches("[secret api-key]").count(), 3, "{text}");
}

#[tokio::test]
async fn a_secret_anywhere_but_at_its_position_is_refused_and_nothing_is_sent() {
    let recorder = Arc::new(Recorder::default());
    let names = Arc::new(Names::default().with("api.test", &[&["1.1.1.1"]]));
    let lab = Lab::new(Sender::with_transport(recorder.clone()).resolving(names));
    let mut call = lab.zone("https://api.test").await;
    let url = "https://api.test/api/x";

    let wrong = refused("secret-position");
    assert_eq!(build(&mut call, "GET", "https://api.test/api/{{api-key}}").await.fails().await, wrong);
    assert_eq!(build(&mut call, "GET", "https://api.test/api/x?k={{api-key}}").await.fails().await, wrong);
    assert_eq!(build(&mut call, "GET", "https://{{api-key}}.api.test/api/x").await.fails().await, wrong);
    assert_eq!(build(&mut call, "GET", url).await.query("k", "{{api-key}}").await.fails().await, wrong);
    assert_eq!(build(&mut call, "GET", url).await.query("{{api-key}}", "v").await.fails().await, wrong);
    assert_eq!(build(&mut call, "GET", url).await.header("X-Other", "{{api-key}}").await.fails().await, wrong);
    assert_eq!(build(&mut call, "GET", url).await.header("X-API-Key", "{{signing}}").await.fails().await, wrong);
    assert_eq!(build(&mut call, "POST", url).await.form("other", "{{api-key}}").await.fails().await, wrong);
    assert_eq!(build(&mut call, "POST", url).await.form("{{api-key}}", "v").await.fails().await, wrong);
    // The value of a record.
    let record = r#"{"rrsets":[{"records":[{"content":"{{api-key}}"}]}]}"#;
    assert_eq!(build(&mut call, "PATCH", url).await.text("application/json", record).await.fails().await, wrong);
    assert_eq!(build(&mut call, "PATCH", url).await.text("text/{{api-key}}", "x").await.fails().await, wrong);

    let unknown = refused("unknown-slot");
    assert_eq!(build(&mut call, "GET", url).await.header("X-API-Key", "{{nobody}}").await.fails().await, unknown);
    assert_eq!(build(&mut call, "GET", url).await.header("X-Empty", "{{empty}}").await.fails().await, unknown);
    assert!(recorder.seen.lock().unwrap().is_empty());

    // Braces around other words are content.
    build(&mut call, "PATCH", url).await.text("application/json", r#"{"a":"{{name}}"}"#).await.send().await.unwrap();
    assert_eq!(recorder.seen.lock().unwrap()[0].body.as_ref(), br#"{"a":"{{name}}"}"#);
}

#[tokio::test]
async fn what_no_rule_allows_is_refused() {
    let recorder = Arc::new(Recorder::default());
    let names = Arc::new(Names::default().with("api.test", &[&["1.1.1.1"]]).with("evil.test", &[&["1.1.1.1"]]));
    let lab = Lab::new(Sender::with_transport(recorder.clone()).resolving(names));
    let mut call = lab.zone("https://api.test").await;
    for (method, url) in [
        ("DELETE", "https://api.test/api/x"),
        ("get", "https://api.test/api/x"),
        ("GET", "https://api.test/other"),
        ("GET", "https://api.test/api/x/y"),
        ("GET", "https://api.test/api/../other"),
        ("GET", "https://api.test/api/%2e%2e%2fother"),
        ("GET", "https://api.test:8443/api/x"),
        ("GET", "http://api.test/api/x"),
        ("GET", "https://evil.test/api/x"),
        ("POST", "https://api.test/cmd"),
        ("POST", "https://api.test/cmd?cmd=delete"),
    ] {
        assert_eq!(build(&mut call, method, url).await.fails().await, refused("rule"), "{method} {url}");
    }
    for url in [
        "https://me:pw@api.test/api/x",
        "ftp://api.test/api/x",
        "/api/x",
        "https://",
        "data:text/plain,x",
        "https://[::1%25lo]/api/x",
    ] {
        assert_eq!(build(&mut call, "GET", url).await.fails().await, refused("malformed"), "{url}");
    }
    for header in
        ["Host", "content-length", "Transfer-Encoding", "X-HTTP-Method-Override", "Accept-Encoding", "bad name", "a\nb"]
    {
        let fault = build(&mut call, "GET", "https://api.test/api/x").await.header(header, "v").await.fails().await;
        assert_eq!(fault, refused("malformed"), "{header}");
    }
    let fault =
        build(&mut call, "GET", "https://api.test/api/x").await.header("X-A", "a\r\nX-B: b").await.fails().await;
    assert_eq!(fault, refused("malformed"));
    assert!(recorder.seen.lock().unwrap().is_empty());
    build(&mut call, "POST", "https://api.test/cmd").await.form("cmd", "list").await.send().await.unwrap();
    // A setting that was not entered has its default.
    build(&mut call, "GET", "https://api.test/servers/localhost").await.send().await.unwrap();
}

#[tokio::test]
async fn a_private_address_is_refused_in_every_spelling_and_by_every_name() {
    let recorder = Arc::new(Recorder::default());
    let names = Names::default()
        .with("inside.test", &[&["10.0.0.5"]])
        .with("metadata.test", &[&["169.254.169.254"]])
        .with("mixed.test", &[&["1.1.1.1", "127.0.0.1"]])
        .with("localhost", &[&["127.0.0.1"]])
        .with("nat64.test", &[&["64:ff9b::a00:1"]]);
    let lab = Lab::new(Sender::with_transport(recorder.clone()).resolving(Arc::new(names)));
    for host in [
        "127.0.0.1",
        "127.1",
        "0x7f.1",
        "0x7f000001",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "127.0.0.1.",
        "①②⑦.⓪.⓪.①",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "169.254.169.254",
        "0xa9fea9fe",
        "10.1.2.3",
        "192.168.1.1",
        "100.64.0.1",
        "localhost",
        "inside.test",
        "metadata.test",
        "mixed.test",
        "nat64.test",
    ] {
        let origin = format!("https://{host}:8443");
        let mut call = lab.zone(&origin).await;
        let fault = build(&mut call, "GET", &format!("{origin}/api/x")).await.fails().await;
        assert_eq!(fault, refused("address-refused"), "{host}");
    }
    assert!(recorder.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn an_answer_that_changes_between_check_and_connect_changes_nothing() {
    let recorder = Arc::new(Recorder::default());
    let names = Arc::new(Names::default().with("api.test", &[&["1.1.1.1"], &["127.0.0.1"]]));
    let lab = Lab::new(Sender::with_transport(recorder.clone()).resolving(names.clone()));
    let mut call = lab.zone("https://api.test").await;
    build(&mut call, "GET", "https://api.test/api/x").await.send().await.unwrap();
    // Asked once; what is connected to is what was checked.
    assert_eq!(*names.asked.lock().unwrap(), 1);
    assert_eq!(recorder.seen.lock().unwrap()[0].addresses, ["1.1.1.1:443".parse().unwrap()]);
    assert_eq!(build(&mut call, "GET", "https://api.test/api/x").await.fails().await, refused("address-refused"));
    assert_eq!(build(&mut call, "GET", "https://api.test/api/x").await.fails().await, refused("address-refused"));
    assert_eq!(recorder.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn the_checked_address_is_the_one_that_is_connected_to() {
    // The name exists for our resolver alone: had the transport asked again, it would have found nothing.
    let address = serve(
        Router::new().fallback(any(|headers: HeaderMap| async move { headers["host"].to_str().unwrap().to_owned() })),
    )
    .await;
    let names = Arc::new(Names::default().with("ns.invalid", &[&["127.0.0.1"]]));
    let origin = format!("http://ns.invalid:{}", address.port());
    let lab = Lab::new(Sender::new().resolving(names)).granting(&origin);
    let mut call = lab.zone(&origin).await;
    let reply = build(&mut call, "GET", &format!("{origin}/api/x")).await.send().await.unwrap();
    assert_eq!(reply.2, format!("ns.invalid:{}", address.port()));
}

#[tokio::test]
async fn a_grant_is_for_one_origin_and_not_for_its_neighbours() {
    let recorder = Arc::new(Recorder::default());
    let lab = Lab::new(Sender::with_transport(recorder.clone())).granting("http://127.0.0.1:8081/");
    for (url, outcome) in [
        ("http://127.0.0.1:8082", "rule"),
        ("https://127.0.0.1:8081", "address-refused"),
        ("https://127.0.0.1", "address-refused"),
    ] {
        let mut call = lab.zone(url).await;
        assert_eq!(build(&mut call, "GET", &format!("{url}/api/x")).await.fails().await, refused(outcome), "{url}");
    }
    let mut call = lab.zone("http://127.0.0.1:8081").await;
    build(&mut call, "GET", "http://127.0.0.1:8081/api/x").await.send().await.unwrap();
    assert_eq!(recorder.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_redirect_is_handed_over_and_not_followed() {
    let hits = Arc::new(AtomicU32::new(0));
    let counted = hits.clone();
    let other = serve(Router::new().fallback(any(move || {
        counted.fetch_add(1, Ordering::SeqCst);
        async { "secret place" }
    })))
    .await;
    let app = Router::new().fallback(any(move || async move {
        (axum::http::StatusCode::FOUND, [("location", format!("http://{other}/api/x"))])
    }));
    let (lab, origin) = granted(app).await;
    let mut call = lab.zone(&origin).await;
    let reply = build(&mut call, "GET", &format!("{origin}/api/x")).await.send().await.unwrap();
    assert_eq!(reply.0, 302);
    assert_eq!(hits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_too_large_is_refused_on_both_ways() {
    let app = Router::new().fallback(any(|request: Request| async move {
        let size: usize = request.uri().path().rsplit('/').next().unwrap().parse().unwrap();
        if request.uri().query().is_some() {
            // Without a length.
            let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
            let count = size.div_ceil(chunk.len());
            let stream = futures::stream::iter((0..count).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
            return axum::body::Body::from_stream(stream).into_response();
        }
        vec![b'x'; size].into_response()
    }));
    let (lab, origin) = granted(app).await;
    let mut call = lab.zone(&origin).await;
    let most = 4 * 1024 * 1024;
    let reply = build(&mut call, "GET", &format!("{origin}/api/{most}")).await.send().await.unwrap();
    assert_eq!(reply.2.len(), most);
    for url in [format!("{origin}/api/{}", most + 1), format!("{origin}/api/{}?chunked", most * 16)] {
        assert_eq!(build(&mut call, "GET", &url).await.fails().await, lost("too-large"), "{url}");
    }
    let body = "x".repeat(1024 * 1024 + 1);
    let url = format!("{origin}/api/0");
    assert_eq!(
        build(&mut call, "POST", &url).await.text("text/plain", &body).await.fails().await,
        refused("too-large")
    );
    assert_eq!(build(&mut call, "POST", &url).await.text("text/plain", &body[1..]).await.send().await.unwrap().0, 200);
    // Small until it is encoded.
    let form = build(&mut call, "POST", &url).await.form("f", &"ä".repeat(300_000)).await.fails().await;
    assert_eq!(form, refused("too-large"));
    assert_eq!(
        build(&mut call, "GET", &url).await.header("X-A", &"x".repeat(70_000)).await.fails().await,
        refused("too-large")
    );
}

/// What a raw server does with its first connection.
async fn raw<F, R>(serve: F) -> String
where
    F: FnOnce(tokio::net::TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
    });
    address.to_string()
}

async fn fault_of(origin: &str, ms: u32) -> (String, bool) {
    let lab = Lab::new(Sender::new().resolving(Arc::new(Names::default()))).granting(origin);
    let mut call = lab.zone(origin).await;
    build(&mut call, "POST", &format!("{origin}/api/x"))
        .await
        .text("text/plain", "hello")
        .await
        .timeout(ms)
        .await
        .fails()
        .await
}

async fn read_some(stream: &mut tokio::net::TcpStream) {
    let mut buffer = [0; 1024];
    assert!(stream.read(&mut buffer).await.unwrap() > 0);
}

#[tokio::test]
async fn it_is_known_exactly_whether_a_request_may_have_arrived() {
    // Nobody listens.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(fault_of(&format!("http://{free}"), 5_000).await, refused("connect"));
    // No such name.
    assert_eq!(fault_of("https://nowhere.invalid", 5_000).await, refused("resolve"));
    // TLS to what speaks something else.
    let plain = raw(|mut stream| async move {
        read_some(&mut stream).await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    })
    .await;
    assert_eq!(fault_of(&format!("https://{plain}"), 5_000).await, refused("tls"));
    // A handshake that is never answered.
    let silent = raw(|stream| async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(stream);
    })
    .await;
    assert_eq!(fault_of(&format!("https://{silent}"), 300).await, refused("timeout"));
    // Read, then closed without an answer.
    let closed = raw(|mut stream| async move { read_some(&mut stream).await }).await;
    assert_eq!(fault_of(&format!("http://{closed}"), 5_000).await, lost("broken"));
    // Read, then nothing.
    let hanging = raw(|mut stream| async move {
        read_some(&mut stream).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    })
    .await;
    assert_eq!(fault_of(&format!("http://{hanging}"), 300).await, lost("timeout"));
    // Closed within the answer.
    let cut = raw(|mut stream| async move {
        read_some(&mut stream).await;
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
            .await
            .unwrap();
    })
    .await;
    assert_eq!(fault_of(&format!("http://{cut}"), 5_000).await, lost("broken"));
}

/// A TLS server for `ns.invalid` that answers every connection with 200, and what trusts it.
async fn tls_server() -> (u16, Arc<Network>) {
    let made = rcgen::generate_simple_self_signed(vec!["ns.invalid".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that does not trust us goes away.
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut buffer = [0; 1024];
            let length = stream.read(&mut buffer).await.unwrap();
            let body = String::from_utf8_lossy(&buffer[..length]).lines().next().unwrap().to_owned();
            let text = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            tokio::io::AsyncWriteExt::write_all(&mut stream, text.as_bytes()).await.unwrap();
        }
    });
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let trusting = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (port, Arc::new(Network::with_tls(Arc::new(trusting))))
}

#[tokio::test]
async fn https_wants_a_certificate_that_is_trusted_and_for_this_name() {
    let (port, trusting) = tls_server().await;
    let names =
        || Arc::new(Names::default().with("ns.invalid", &[&["127.0.0.1"]]).with("other.invalid", &[&["127.0.0.1"]]));
    let (good, other) = (format!("https://ns.invalid:{port}"), format!("https://other.invalid:{port}"));
    let lab = Lab::new(Sender::with_transport(trusting).resolving(names())).granting(&good).granting(&other);
    let mut call = lab.zone(&good).await;
    let reply = build(&mut call, "GET", &format!("{good}/api/x")).await.query("a", "b").await.send().await.unwrap();
    assert_eq!((reply.0, reply.2.as_str()), (200, "GET /api/x?a=b HTTP/1.1"));
    let mut call = lab.zone(&other).await;
    assert_eq!(build(&mut call, "GET", &format!("{other}/api/x")).await.fails().await, refused("tls"));
    // The system's roots don't know it.
    let lab = Lab::new(Sender::new().resolving(names())).granting(&good);
    let mut call = lab.zone(&good).await;
    assert_eq!(build(&mut call, "GET", &format!("{good}/api/x")).await.fails().await, refused("tls"));
}

#[tokio::test]
async fn a_signature_is_made_by_the_host_and_the_key_never_leaves_it() {
    let recorder = Arc::new(Recorder::default());
    let names = Arc::new(Names::default().with("api.test", &[&["1.1.1.1"]]));
    let lab = Lab::new(Sender::with_transport(recorder.clone()).resolving(names));
    let mut call = lab.zone("https://api.test").await;
    let payload = b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}".to_vec();
    let sign = |slot: &str, scheme: &str, header: &str| (slot.to_owned(), scheme.to_owned(), header.to_owned());
    for ((slot, scheme, header), code) in [
        (sign("signing", "standard-webhooks-v1", "x-other"), "secret-position"),
        (sign("signing", "other", "webhook-signature"), "secret-position"),
        (sign("api-key", "standard-webhooks-v1", "webhook-signature"), "secret-position"),
        (sign("nobody", "standard-webhooks-v1", "webhook-signature"), "unknown-slot"),
    ] {
        let request = build(&mut call, "POST", "https://api.test/api/x").await;
        HostOutbound::sign(request.call, request.this(), slot, scheme, header, payload.clone()).await.unwrap();
        assert_eq!(request.fails().await, refused(code));
    }
    let request = build(&mut call, "POST", "https://api.test/api/x").await;
    let (slot, scheme, header) = sign("signing", "standard-webhooks-v1", "Webhook-Signature");
    HostOutbound::sign(request.call, request.this(), slot, scheme, header, payload).await.unwrap();
    request.send().await.unwrap();
    let seen = recorder.seen.lock().unwrap();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    assert!(!format!("{:?} {:?}", seen[0], seen[0].headers).contains(SIGNING));
}

#[tokio::test]
async fn a_request_is_sent_once_and_a_call_has_a_budget() {
    let recorder = Arc::new(Recorder::default());
    let names = Arc::new(Names::default().with("api.test", &[&["1.1.1.1"]]));
    let lab = Lab::new(Sender::with_transport(recorder.clone()).resolving(names));
    let mut call = lab.zone("https://api.test").await;
    let id = build(&mut call, "GET", "https://api.test/api/x").await.id;
    Building { call: &mut call, id }.send().await.unwrap();
    assert_eq!(Building { call: &mut call, id }.fails().await, refused("already-sent"));
    for _ in 1..200 {
        build(&mut call, "GET", "https://api.test/api/x").await.send().await.unwrap();
    }
    assert_eq!(build(&mut call, "GET", "https://api.test/api/x").await.fails().await, refused("budget"));
    assert_eq!(recorder.seen.lock().unwrap().len(), 200);

    let mut late = lab.zone("https://api.test").await;
    late.deadline = tokio::time::Instant::now();
    assert_eq!(build(&mut late, "GET", "https://api.test/api/x").await.fails().await, refused("budget"));
    let mut short = lab.zone("https://api.test").await;
    short.deadline = tokio::time::Instant::now() + Duration::from_secs(2);
    build(&mut short, "GET", "https://api.test/api/x").await.timeout(60_000).await.send().await.unwrap();
    assert!(recorder.seen.lock().unwrap()[200].timeout <= Duration::from_secs(2));
}

#[tokio::test]
async fn a_compressed_answer_is_not_handed_over() {
    let recorder = Arc::new(Recorder::default());
    let headers = vec![("Content-Encoding".to_owned(), "gzip".to_owned())];
    *recorder.answer.lock().unwrap() = Some(Ok(Answer { status: 200, headers, body: Vec::new() }));
    let names = Arc::new(Names::default().with("api.test", &[&["1.1.1.1"]]));
    let lab = Lab::new(Sender::with_transport(recorder.clone()).resolving(names));
    let mut call = lab.zone("https://api.test").await;
    assert_eq!(build(&mut call, "GET", "https://api.test/api/x").await.fails().await, lost("broken"));
    assert_eq!(recorder.seen.lock().unwrap()[0].headers["accept-encoding"], "identity");
}

#[tokio::test]
async fn without_a_zone_or_hook_nothing_can_be_reached() {
    let recorder = Arc::new(Recorder::default());
    let lab = Lab::new(Sender::with_transport(recorder.clone()));
    let mut call = lab.call(wharf_capabilities::call::Bound::Nothing);
    assert_eq!(build(&mut call, "GET", "https://1.1.1.1/api/x").await.fails().await, refused("rule"));
    assert!(recorder.seen.lock().unwrap().is_empty());
}
