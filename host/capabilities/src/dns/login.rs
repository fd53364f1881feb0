//! Which zones log in with the same credentials, so that what a provider says of one's is known of all.

use wharf_model::{manifest::Manifest, object::Zone};
use wharf_store::StoreError;

use super::naming::queue_of;
use crate::call::Lender;

/// A mark that zones have in common which show the same secrets to the same server. It says nothing of the secrets, and is worth
/// nothing in another process. A zone without any has a mark of its own.
///
/// # Errors
/// The books can't be read.
pub async fn login_of(
    lender: &Lender,
    name: &str,
    zone: &Zone,
    manifest: Option<&Manifest>,
) -> Result<String, StoreError> {
    let owner = format!("zone/{name}");
    let mut slots = lender.books.secret_slots(&owner).await?;
    slots.sort();
    let mut mark = queue_of(name, zone, manifest);
    let mut known = false;
    for slot in slots {
        let Some(sealed) = lender.books.secret(&owner, &slot).await? else { continue };
        // What can't be opened is not shown to anybody.
        if let Ok(value) = lender.keyring.open(&owner, &slot, &sealed) {
            mark = format!("{mark}|{slot} {}", lender.keyring.fingerprint("login", &slot, &value));
            known = true;
        }
    }
    Ok(if known { mark } else { format!("{mark}|zone {name}") })
}
