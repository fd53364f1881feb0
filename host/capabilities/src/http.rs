//! HTTP to granted destinations: what a plugin builds is checked against its manifest and the admin's grant, its names
//! are resolved and checked, secrets go in at declared positions only, and what comes back is scrubbed.
//!
//! Bounded by the figures of `wit/deps/http/http.wit`: 1 MiB out, 4 MiB in, [`REQUESTS`] requests a call, the call's
//! wall-clock budget. Whatever is refused here was surely not sent.

pub mod address;
pub mod rules;
pub mod sign;
pub mod slots;
pub mod transport;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;
use url::{Host, Url};
use wasmtime::component::Resource;
use wharf_model::manifest::Position;
use zeroize::Zeroizing;

pub use self::transport::{Answer, Lost, Network, Prepared, Resolver, SystemResolver, Transport};
use crate::{
    bindings::wharf::http::client,
    call::{Body, Bound, CallState, Outbound, Reply, Sign},
    hook::with_defaults,
    scrub::Scrubber,
};

/// Largest body of a request.
const REQUEST_BYTES: usize = 1024 * 1024;
/// Largest answer.
const REPLY_BYTES: usize = 4 * 1024 * 1024;
/// URL, headers and query of a request together.
const HEAD_BYTES: usize = 64 * 1024;
/// Requests of one call into a plugin.
pub const REQUESTS: u32 = 200;
const TIMEOUT_MS: u32 = 10_000;

/// Headers that the host sets itself, that would change what a rule has checked, or that would hide a secret's echo.
const RESERVED: [&str; 22] = [
    "host",
    "content-length",
    "content-type",
    "content-encoding",
    "accept-encoding",
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
    "range",
    "proxy-connection",
    "proxy-authorization",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    "x-original-host",
    "x-forwarded-host",
];

/// Whether the host sets this header itself, so that a plugin can't.
pub fn is_reserved(header: &str) -> bool {
    RESERVED.iter().any(|name| name.eq_ignore_ascii_case(header))
}

/// Sends what plugins build.
pub struct Sender {
    transport: Arc<dyn Transport>,
    resolver: Arc<dyn Resolver>,
}

impl Default for Sender {
    fn default() -> Self {
        Self::new()
    }
}

impl Sender {
    /// Over the real network, with the system's resolver and roots.
    pub fn new() -> Self {
        Self::with_transport(Arc::new(Network::default()))
    }

    /// Over a transport of one's own; everything is checked as ever.
    pub fn with_transport(transport: Arc<dyn Transport>) -> Self {
        Self { transport, resolver: Arc::new(SystemResolver) }
    }

    /// The same with another resolver.
    #[must_use]
    pub fn resolving(self, resolver: Arc<dyn Resolver>) -> Self {
        Self { resolver, ..self }
    }
}

/// A request that was not made, or not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fault {
    maybe_sent: bool,
    code: &'static str,
    message: String,
}

impl Fault {
    fn refused(code: &'static str, message: impl Into<String>) -> Self {
        Self { maybe_sent: false, code, message: message.into() }
    }
}

impl From<Lost> for Fault {
    fn from(lost: Lost) -> Self {
        Self { maybe_sent: lost.maybe_sent, code: lost.code, message: lost.message }
    }
}

type Values = BTreeMap<String, Zeroizing<String>>;

impl CallState {
    /// Settings that stand in for `{name}` in rules.
    fn rule_settings(&self) -> Value {
        match &self.bound {
            Bound::Zone(binding) => {
                let manifest = &self.caller.manifest;
                let mut settings = with_defaults(manifest, &binding.zone.settings);
                let properties = manifest.settings.get("properties");
                if properties.is_none_or(|p| p.get(rules::ZONE).is_none())
                    && let Some(map) = settings.as_object_mut()
                {
                    let name = crate::dns::names::canonical(&binding.zone.zone);
                    map.insert(rules::ZONE.into(), name.trim_end_matches('.').into());
                }
                settings
            }
            Bound::Hook(binding) => with_defaults(&self.caller.manifest, &binding.settings),
            Bound::Nothing | Bound::Operation(_) | Bound::Server(_) => Value::Null,
        }
    }

    /// Builds, checks, sends; `outbound` is used up.
    async fn exchange(&mut self, outbound: Outbound) -> Result<Reply, Fault> {
        if outbound.sent {
            return Err(Fault::refused("already-sent", "this request was sent before: build a new one"));
        }
        self.meter.requests = self.meter.requests.saturating_add(1);
        if self.meter.requests > REQUESTS {
            return Err(Fault::refused(
                "budget",
                format!("a call may make {REQUESTS} requests: return a partial result before"),
            ));
        }
        let timeout_ms = outbound.timeout_ms.unwrap_or(TIMEOUT_MS).min(self.left_ms());
        if timeout_ms == 0 {
            return Err(Fault::refused("budget", "no time is left in this call: return a partial result before"));
        }
        let url = target(&outbound)?;
        let values = self.check_slots(&outbound).await?;
        let asked = rules::Asked { method: &outbound.method, url: &url, body: content(&outbound.body) };
        rules::check(&self.caller.manifest.requests, &self.rule_settings(), &asked)
            .map_err(|why| Fault::refused("rule", format!("{} {}: {why}", outbound.method, shown(&url))))?;

        let timeout = Duration::from_millis(timeout_ms.into());
        let began = tokio::time::Instant::now();
        let addresses = tokio::time::timeout(timeout, self.addresses(&url))
            .await
            .map_err(|_| Fault::refused("timeout", format!("the name of {} was not found in time", shown(&url))))??;
        let prepared = Prepared {
            method: Method::from_bytes(outbound.method.as_bytes())
                .map_err(|_| Fault::refused("malformed", format!("`{}` is no method", outbound.method)))?,
            headers: self.headers(&outbound, &values)?,
            body: body(&outbound.body, &values)?,
            addresses,
            timeout: timeout.saturating_sub(began.elapsed()),
            max_reply: REPLY_BYTES,
            url,
        };
        let answer = self.lender.sender.transport.send(prepared).await?;
        let scrubber = self.scrubber().await.map_err(|why| Fault { maybe_sent: true, code: "broken", message: why })?;
        let reply = scrubbed(answer, &scrubber)?;
        self.charge(reply.body.len());
        Ok(reply)
    }

    /// Values of all slots that the request names, if each stands where the manifest allows it.
    async fn check_slots(&mut self, outbound: &Outbound) -> Result<Values, Fault> {
        let manifest = std::sync::Arc::clone(&self.caller.manifest);
        let position = |slot: &str, at: &str| {
            Fault::refused(
                "secret-position",
                format!("the manifest does not allow the secret `{slot}` {at}: nothing was sent"),
            )
        };
        let declared = |slot: &str, at: &str, allows: &dyn Fn(&Position) -> bool| match manifest.slot(slot) {
            None => Err(Fault::refused("unknown-slot", format!("the manifest declares no secret `{slot}`"))),
            Some(known) if known.positions.iter().any(allows) => Ok(()),
            Some(_) => Err(position(slot, at)),
        };
        let mut wanted = BTreeSet::new();
        if let Some(slot) = slots::named(&outbound.method).chain(slots::named(&outbound.url)).next() {
            return Err(position(slot, "in a URL"));
        }
        if let Some(slot) = outbound.query.iter().flat_map(|(k, v)| slots::named(k).chain(slots::named(v))).next() {
            return Err(position(slot, "in a query"));
        }
        for (name, value) in &outbound.headers {
            if let Some(slot) = slots::named(name).next() {
                return Err(position(slot, "in the name of a header"));
            }
            for slot in slots::named(value) {
                let allows = |p: &Position| matches!(p, Position::Header(h) if h.eq_ignore_ascii_case(name));
                declared(slot, &format!("in the header `{name}`"), &allows)?;
                wanted.insert(slot.to_owned());
            }
        }
        let stored = self.secrets_of_call().await.map_err(|why| Fault::refused("broken", why))?;
        match &outbound.body {
            Body::None => {}
            Body::Bytes { content_type, data } => {
                // Braces around other words are content like any other: nothing is put in there.
                let text = String::from_utf8_lossy(data);
                let known = |slot: &&str| manifest.slot(slot).is_some() || stored.iter().any(|s| s.slot == *slot);
                if let Some(slot) = slots::named(&text).chain(slots::named(content_type)).find(known) {
                    return Err(position(slot, "in a body"));
                }
            }
            Body::Form(fields) => {
                for (name, value) in fields {
                    if let Some(slot) = slots::named(name).next() {
                        return Err(position(slot, "in the name of a field"));
                    }
                    for slot in slots::named(value) {
                        declared(
                            slot,
                            &format!("in the field `{name}`"),
                            &|p| matches!(p, Position::Form(f) if f == name),
                        )?;
                        wanted.insert(slot.to_owned());
                    }
                }
            }
        }
        for Sign { slot, scheme, header, .. } in &outbound.signs {
            let at = format!("for a `{scheme}` signature in the header `{header}`");
            let allows = |p: &Position| matches!(p, Position::Sign { scheme: s, header: h } if s == scheme && h.eq_ignore_ascii_case(header));
            declared(slot, &at, &allows)?;
            wanted.insert(slot.clone());
        }
        let mut values = Values::new();
        for slot in wanted {
            let Some(secret) = stored.iter().find(|s| s.owned && s.slot == slot) else {
                return Err(Fault::refused(
                    "unknown-slot",
                    format!("no value is stored for the secret `{slot}`: enter it"),
                ));
            };
            let text = std::str::from_utf8(&secret.value)
                .map_err(|_| Fault::refused("malformed", format!("the secret `{slot}` is not text: enter it again")))?;
            values.insert(slot, Zeroizing::new(text.to_owned()));
        }
        Ok(values)
    }

    /// Addresses that may be connected to. All of a name's must be good, or none is used.
    async fn addresses(&mut self, url: &Url) -> Result<Vec<SocketAddr>, Fault> {
        let origin = rules::origin(url);
        let granted = self.caller.grant.private_origins.iter().any(|o| rules::origin_of(o).as_deref() == Some(&origin));
        if url.scheme() != "https" && !granted {
            let text = format!("{origin} is not https: grant that origin to the plugin, or use https");
            return Err(Fault::refused("rule", text));
        }
        let found: Vec<IpAddr> =
            match url.host() {
                Some(Host::Ipv4(v4)) => vec![v4.into()],
                Some(Host::Ipv6(v6)) => vec![v6.into()],
                Some(Host::Domain(name)) => self.lender.sender.resolver.lookup(name).await.map_err(|error| {
                    Fault::refused("resolve", format!("the name `{name}` can't be resolved: {error}"))
                })?,
                None => return Err(Fault::refused("malformed", "the URL has no host")),
            };
        if found.is_empty() {
            return Err(Fault::refused("resolve", format!("the name in {origin} has no address")));
        }
        if !granted && let Some((ip, why)) = found.iter().find_map(|ip| address::refused(*ip).map(|why| (ip, why))) {
            let text = format!(
                "{origin} is at {ip} ({why}), which plugins may not reach: grant that origin to the plugin if it is meant"
            );
            return Err(Fault::refused("address-refused", text));
        }
        let port = url.port_or_known_default().unwrap_or(443);
        Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }

    fn headers(&self, outbound: &Outbound, values: &Values) -> Result<HeaderMap, Fault> {
        let name = |text: &str| {
            HeaderName::from_bytes(text.as_bytes())
                .map_err(|_| Fault::refused("malformed", format!("`{text}` is no name of a header")))
        };
        let bad = |text: &str| {
            Fault::refused("malformed", format!("the value of the header `{text}` has a character that is not allowed"))
        };
        let mut map = HeaderMap::new();
        for (key, value) in &outbound.headers {
            let parsed = name(key)?;
            if RESERVED.contains(&parsed.as_str()) {
                return Err(Fault::refused(
                    "malformed",
                    format!("the header `{key}` is set by the host: leave it out"),
                ));
            }
            let mut filled = HeaderValue::from_bytes(slots::fill(value, values).as_bytes()).map_err(|_| bad(key))?;
            filled.set_sensitive(slots::named(value).next().is_some());
            map.append(parsed, filled);
        }
        for Sign { slot, scheme, header, payload } in &outbound.signs {
            let secret = values.get(slot).map(|v| v.as_str()).unwrap_or_default();
            let signature =
                sign::sign(scheme, secret, payload).map_err(|e| Fault::refused("malformed", e.to_string()))?;
            map.insert(name(header)?, HeaderValue::from_str(&signature).map_err(|_| bad(header))?);
        }
        let content_type = match &outbound.body {
            Body::None => None,
            Body::Bytes { content_type, .. } => Some(content_type.as_str()),
            Body::Form(_) => Some("application/x-www-form-urlencoded"),
        };
        if let Some(text) = content_type {
            map.insert(header::CONTENT_TYPE, HeaderValue::from_str(text).map_err(|_| bad("content-type"))?);
        }
        // Compressed answers would carry echoes of secrets past the scrubber.
        map.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if !map.contains_key(header::USER_AGENT) {
            map.insert(header::USER_AGENT, HeaderValue::from_static(concat!("wharf/", env!("CARGO_PKG_VERSION"))));
        }
        Ok(map)
    }
}

/// Scheme, host, port and path: what may stand in a message.
fn shown(url: &Url) -> String {
    crate::base::cut(&format!("{}{}", rules::origin(url), url.path()), 300)
}

/// The URL with its query, and the sizes.
fn target(outbound: &Outbound) -> Result<Url, Fault> {
    let pairs = |list: &[(String, String)]| list.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
    let head = outbound.url.len() + pairs(&outbound.query) + pairs(&outbound.headers);
    if head > HEAD_BYTES {
        return Err(Fault::refused(
            "too-large",
            format!("URL, query and headers have more than {HEAD_BYTES} bytes together"),
        ));
    }
    let size = match &outbound.body {
        Body::None => 0,
        Body::Bytes { data, .. } => data.len(),
        Body::Form(fields) => pairs(fields),
    };
    if size > REQUEST_BYTES {
        return Err(Fault::refused(
            "too-large",
            format!("a body has at most {REQUEST_BYTES} bytes, this one has {size}"),
        ));
    }
    let malformed = |why: &str| Fault::refused("malformed", format!("the URL {why}"));
    let mut url = Url::parse(&outbound.url).map_err(|e| malformed(&format!("can't be read: {e}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(malformed("is neither https nor http"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(malformed("holds a user or password: use a header at a declared position"));
    }
    url.set_fragment(None);
    if !outbound.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&outbound.query);
    }
    if matches!(outbound.method.as_str(), "CONNECT" | "TRACE") {
        return Err(Fault::refused("malformed", format!("the method {} is not for plugins", outbound.method)));
    }
    Ok(url)
}

fn content(body: &Body) -> rules::Content<'_> {
    match body {
        Body::None => rules::Content::None,
        Body::Bytes { content_type, data } => rules::Content::Bytes { content_type, data },
        Body::Form(fields) => rules::Content::Form(fields),
    }
}

fn body(body: &Body, values: &Values) -> Result<Bytes, Fault> {
    let bytes = match body {
        Body::None => Bytes::new(),
        Body::Bytes { data, .. } => Bytes::copy_from_slice(data),
        Body::Form(fields) => {
            let mut form = url::form_urlencoded::Serializer::new(String::new());
            for (name, value) in fields {
                form.append_pair(name, &slots::fill(value, values));
            }
            Bytes::from(form.finish())
        }
    };
    if bytes.len() > REQUEST_BYTES {
        return Err(Fault::refused("too-large", format!("a body has at most {REQUEST_BYTES} bytes, encoded too")));
    }
    Ok(bytes)
}

fn scrubbed(answer: Answer, scrubber: &Scrubber) -> Result<Reply, Fault> {
    let encoded = answer.headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("content-encoding")
            && !value.trim().eq_ignore_ascii_case("identity")
            && !value.trim().is_empty()
    });
    if encoded {
        let message = "the answer is compressed, which was not asked for: switch that off at the peer".to_owned();
        return Err(Fault { maybe_sent: true, code: "broken", message });
    }
    Ok(Reply {
        status: answer.status,
        headers: answer.headers.iter().map(|(name, value)| (scrubber.text(name), scrubber.text(value))).collect(),
        body: scrubber.bytes(answer.body),
    })
}

impl client::Host for CallState {}

impl client::HostOutbound for CallState {
    async fn new(&mut self, method: String, url: String) -> wasmtime::Result<Resource<Outbound>> {
        self.charge(method.len() + url.len());
        Ok(self.table.push(Outbound { method, url, ..Outbound::default() })?)
    }

    async fn query(&mut self, this: Resource<Outbound>, name: String, value: String) -> wasmtime::Result<()> {
        self.charge(name.len() + value.len());
        self.table.get_mut(&this)?.query.push((name, value));
        Ok(())
    }

    async fn header(&mut self, this: Resource<Outbound>, name: String, value: String) -> wasmtime::Result<()> {
        self.charge(name.len() + value.len());
        self.table.get_mut(&this)?.headers.push((name, value));
        Ok(())
    }

    async fn body_text(
        &mut self,
        this: Resource<Outbound>,
        content_type: String,
        text: String,
    ) -> wasmtime::Result<()> {
        self.body_bytes(this, content_type, text.into_bytes()).await
    }

    async fn body_bytes(
        &mut self,
        this: Resource<Outbound>,
        content_type: String,
        data: Vec<u8>,
    ) -> wasmtime::Result<()> {
        self.charge(content_type.len() + data.len());
        self.table.get_mut(&this)?.body = Body::Bytes { content_type, data };
        Ok(())
    }

    async fn body_form(&mut self, this: Resource<Outbound>, name: String, value: String) -> wasmtime::Result<()> {
        self.charge(name.len() + value.len());
        let body = &mut self.table.get_mut(&this)?.body;
        match body {
            Body::Form(fields) => fields.push((name, value)),
            // The last body set wins.
            Body::None | Body::Bytes { .. } => *body = Body::Form(vec![(name, value)]),
        }
        Ok(())
    }

    async fn sign(
        &mut self,
        this: Resource<Outbound>,
        slot: String,
        scheme: String,
        header: String,
        payload: Vec<u8>,
    ) -> wasmtime::Result<()> {
        self.charge(payload.len());
        self.table.get_mut(&this)?.signs.push(Sign { slot, scheme, header, payload });
        Ok(())
    }

    async fn timeout_ms(&mut self, this: Resource<Outbound>, ms: u32) -> wasmtime::Result<()> {
        self.charge(0);
        self.table.get_mut(&this)?.timeout_ms = Some(ms);
        Ok(())
    }

    async fn send(&mut self, this: Resource<Outbound>) -> wasmtime::Result<Result<Resource<Reply>, client::Failure>> {
        self.charge(0);
        let outbound = self.table.get_mut(&this)?;
        let used = Outbound { sent: true, ..Outbound::default() };
        let outbound = std::mem::replace(outbound, used);
        match self.exchange(outbound).await {
            Ok(reply) => Ok(Ok(self.table.push(reply)?)),
            Err(fault) => {
                let message = match self.scrubber().await {
                    Ok(scrubber) => scrubber.text(&fault.message),
                    Err(why) => why,
                };
                let sent = if fault.maybe_sent { client::Sent::MaybeSent } else { client::Sent::NotSent };
                let message = crate::base::cut(&message, 2048);
                Ok(Err(client::Failure { sent, code: fault.code.to_owned(), message, ext: Vec::new() }))
            }
        }
    }

    async fn drop(&mut self, this: Resource<Outbound>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}

impl client::HostReply for CallState {
    async fn status(&mut self, this: Resource<Reply>) -> wasmtime::Result<u16> {
        Ok(self.table.get(&this)?.status)
    }

    async fn header(&mut self, this: Resource<Reply>, name: String) -> wasmtime::Result<Option<String>> {
        let headers = &self.table.get(&this)?.headers;
        Ok(headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(&name)).map(|(_, value)| value.clone()))
    }

    async fn headers(&mut self, this: Resource<Reply>) -> wasmtime::Result<Vec<(String, String)>> {
        let headers = self.table.get(&this)?.headers.clone();
        self.charge(headers.iter().map(|(k, v)| k.len() + v.len()).sum());
        Ok(headers)
    }

    async fn text(&mut self, this: Resource<Reply>) -> wasmtime::Result<String> {
        let text = String::from_utf8_lossy(&self.table.get(&this)?.body).into_owned();
        self.charge(text.len());
        Ok(text)
    }

    async fn body(&mut self, this: Resource<Reply>) -> wasmtime::Result<Vec<u8>> {
        let body = self.table.get(&this)?.body.clone();
        self.charge(body.len());
        Ok(body)
    }

    async fn drop(&mut self, this: Resource<Reply>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        Ok(())
    }
}
