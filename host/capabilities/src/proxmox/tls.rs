//! The real transport: HTTP/1.1 over TLS with pinned certificates, a CA, or the system's roots.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};
use sha2::{Digest, Sha256};
use wharf_model::object::Server;

use super::client::{Request, Response, Transport, TransportError};

/// Below pveproxy's 5 s: a connection that it has closed is never used for a write.
const IDLE: Duration = Duration::from_secs(4);
/// Largest answer that is read.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// One reqwest client for each way of trusting.
#[derive(Default)]
pub struct Tls {
    clients: Mutex<HashMap<String, reqwest::Client>>,
}

/// For one server: its trust decides which client is used.
pub struct ServerTls {
    client: reqwest::Client,
}

impl Tls {
    pub fn for_server(&self, server: &Server) -> Result<ServerTls, String> {
        let key = format!("{:?}{:?}", server.fingerprints, server.ca_pem);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(ServerTls { client: client.clone() });
        }
        let client = build(server)?;
        clients.insert(key, client.clone());
        Ok(ServerTls { client })
    }
}

fn build(server: &Server) -> Result<reqwest::Client, String> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .http1_only()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .pool_idle_timeout(IDLE)
        .connect_timeout(Duration::from_secs(10));
    if !server.fingerprints.is_empty() {
        let mut pins = Vec::new();
        for text in &server.fingerprints {
            let hex: String = text.chars().filter(|c| *c != ':').collect::<String>().to_lowercase();
            if hex.len() != 64 || !hex.chars().all(|c| c.is_ascii_hexdigit()) {
                return Err(format!("fingerprint `{text}` is not a SHA-256: 64 hex digits, with or without colons"));
            }
            pins.push(hex);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pinned { pins, provider }))
            .with_no_client_auth();
        builder = builder.tls_backend_preconfigured(config);
    } else if let Some(pem) = &server.ca_pem {
        let mut roots = rustls::RootCertStore::empty();
        for found in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = found.map_err(|e| format!("the CA is not PEM: {e}"))?;
            roots.add(certificate).map_err(|e| format!("the CA can't be used: {e}"))?;
        }
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        builder = builder.tls_backend_preconfigured(config);
    }
    builder.build().map_err(|e| e.to_string())
}

/// Accepts exactly the certificates whose fingerprints an admin entered. Signatures are checked as ever.
#[derive(Debug)]
struct Pinned {
    pins: Vec<String>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = Sha256::digest(leaf.as_ref()).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        if self.pins.contains(&seen) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General(format!(
                "the server's certificate has the fingerprint {seen}, which is not entered"
            )))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The causes of an error, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}

#[async_trait]
impl Transport for ServerTls {
    async fn send(&self, base: &str, authorization: &str, request: &Request) -> Result<Response, TransportError> {
        let url = format!("{}/api2/json{}", base.trim_end_matches('/'), request.path);
        let method = reqwest::Method::from_bytes(request.method.as_bytes())
            .map_err(|e| TransportError::NotSent(e.to_string()))?;
        let mut builder =
            self.client.request(method, url).header("authorization", authorization).timeout(request.timeout);
        builder = match request.method {
            "GET" | "DELETE" => builder.query(&request.params),
            _ => builder.form(&request.params),
        };
        let answer = builder.send().await.map_err(|error| {
            let text = chain(&error.without_url());
            let never_left = text.contains("error trying to connect") || text.contains("client error (Connect)");
            if never_left { TransportError::NotSent(text) } else { TransportError::MaybeSent(text) }
        })?;
        let status = answer.status().as_u16();
        let reason = answer
            .extensions()
            .get::<hyper::ext::ReasonPhrase>()
            .map(|r| String::from_utf8_lossy(r.as_bytes()).into_owned())
            .unwrap_or_default();
        let body = answer.bytes().await.map_err(|error| TransportError::MaybeSent(chain(&error.without_url())))?;
        if body.len() > MAX_BODY {
            return Err(TransportError::MaybeSent(format!("the answer has more than {MAX_BYTES_TEXT}")));
        }
        Ok(Response { status, reason, body: body.to_vec() })
    }
}

const MAX_BYTES_TEXT: &str = "32 MiB";
