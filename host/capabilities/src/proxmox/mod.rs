//! Proxmox VE: one client a server, looks at the service's own VM, and effects.
//!
//! A VM is recognised by its ownership marker, never by its number alone. Nothing here remembers where a VM is.

pub mod client;
mod effects;
mod inventory;
pub mod keys;
mod look;
mod survey;
mod template;
mod test;
mod tls;
mod vms;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use wharf_model::{
    object::{ObjectKind, Server},
    service::ServiceId,
};
use wharf_store::Books;

pub use client::{PveError, Request, Response, Transport, TransportError};
pub use effects::{EffectBody, Executor};
pub use test::{NEEDED, TestLine};
pub(crate) use vms::to_failure;

use crate::secrets::Keyring;
use client::Client;

/// Begins the line in a VM's description by which it is known: `wharf:<service id>`.
pub const MARKER: &str = "wharf:";

/// The marker of a service.
pub fn marker(service: ServiceId) -> String {
    format!("{MARKER}{service}")
}

/// The marker in a description, if there is one.
pub fn marked(description: &str) -> Option<ServiceId> {
    description.lines().find_map(|line| line.trim().strip_prefix(MARKER)?.trim().parse().ok())
}

/// All servers, one client each; a client lives as long as its server's row and secret stay the same.
pub struct Servers {
    books: Books,
    keyring: Arc<Keyring>,
    /// Given in tests; else TLS.
    transport: Option<Arc<dyn Transport>>,
    tls: tls::Tls,
    clients: Mutex<HashMap<String, Arc<Client>>>,
}

impl Servers {
    pub fn new(books: Books, keyring: Arc<Keyring>) -> Self {
        Self { books, keyring, transport: None, tls: tls::Tls::default(), clients: Mutex::default() }
    }

    /// With another way out, for tests in process.
    pub fn with_transport(books: Books, keyring: Arc<Keyring>, transport: Arc<dyn Transport>) -> Self {
        Self { transport: Some(transport), ..Self::new(books, keyring) }
    }

    /// Names of servers that refused their token to this process, and were neither saved nor tested since.
    pub fn all_parked(&self) -> Vec<String> {
        self.lock().iter().filter(|(_, client)| client.parked().is_some()).map(|(name, _)| name.clone()).collect()
    }

    /// The client of a server, made anew when its row or secret has changed (which also ends its parking).
    pub async fn client(&self, name: &str) -> Result<Arc<Client>, PveError> {
        let books = |e: wharf_store::StoreError| PveError::Unreachable(format!("the host's books: {e}"));
        let object = self
            .books
            .object(ObjectKind::Server, name)
            .await
            .map_err(books)?
            .ok_or_else(|| PveError::Config(format!("there is no server `{name}`: create it")))?;
        let owner = format!("server/{name}");
        let sealed = self
            .books
            .secret(&owner, "secret")
            .await
            .map_err(books)?
            .ok_or_else(|| PveError::Config(format!("server `{name}` has no token secret: enter it")))?;
        let stamp = (object.revision, sealed);
        if let Some(client) = self.lock().get(name)
            && client.stamp == stamp
        {
            return Ok(Arc::clone(client));
        }
        let config: Server = serde_json::from_value(object.body)
            .map_err(|e| PveError::Config(format!("server `{name}` can't be read ({e}): save it again")))?;
        let secret = self
            .keyring
            .open(&owner, "secret", &stamp.1)
            .map_err(|e| PveError::Config(format!("the token secret of server `{name}`: {e}")))?;
        let secret =
            std::str::from_utf8(&secret).map_err(|_| PveError::Config("the token secret is not text".into()))?;
        let transport: Arc<dyn Transport> = match &self.transport {
            Some(transport) => Arc::clone(transport),
            None => Arc::new(self.tls.for_server(&config).map_err(PveError::Config)?),
        };
        let client = Arc::new(Client::new(name, config, secret, stamp, transport));
        self.lock().insert(name.to_owned(), Arc::clone(&client));
        Ok(client)
    }

    /// Why nothing is sent to a server, if so.
    pub fn parked(&self, name: &str) -> Option<String> {
        self.lock().get(name).and_then(|c| c.parked())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Client>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_in_a_description_of_several_lines_and_nothing_else_is() {
        let id = ServiceId::from_u128(7);
        assert_eq!(marked(&format!("order 5\n {} \nnote", marker(id))), Some(id));
        assert_eq!(marked("wharf: nothing"), None);
        assert_eq!(marked(&format!("see {}", marker(id))), None);
    }
}
