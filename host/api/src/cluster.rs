//! The hosts that work on the same books.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;
use wharf_engine::presence::SEEN_EVERY_MS;
use wharf_model::Millis;

use crate::{
    Api, Problem,
    auth::{Allowed, scope},
    extract::NoQuery,
};

/// A host that was not seen for so many of its own intervals is shown as lost.
const MISSED: i64 = 4;

/// The hosts, and what is in the queue that they share.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cluster {
    hosts: Vec<Host>,
    /// Operations that are live: worked on or waiting.
    live: i64,
    /// Those that a host has claimed right now.
    claimed: i64,
    /// Those that wait for a slot.
    parked: i64,
    /// Operations that only an admin can carry on.
    needs_admin: i64,
    /// Binaries of more than one version are at work: an upgrade is under way, or was forgotten.
    mixed_versions: bool,
    /// The books were restored: when, as JSON. Nothing is sent anywhere until they are merged (`POST /v1/admin/reconcile`).
    #[serde(skip_serializing_if = "Option::is_none")]
    reconcile: Option<String>,
}

/// A host process.
#[derive(Debug, Serialize, ToSchema)]
pub struct Host {
    /// A fresh one for each start; claims name it.
    id: Uuid,
    /// Of the machine.
    name: String,
    /// Where it listens.
    address: String,
    version: String,
    started_ms: Millis,
    seen_ms: Millis,
    /// Not seen for 20 seconds: what it had in hand goes to the others when its claims have run out.
    lost: bool,
    /// The host that answers.
    this: bool,
    /// Operations that it has claimed.
    runs: i64,
    /// Servers whose tasks it watches.
    watches: Vec<String>,
    /// Queues of DNS work that it has claimed.
    dns_queues: Vec<String>,
}

/// Who works on these books.
#[utoipa::path(
    get, path = "/v1/admin/cluster", tag = "admin", operation_id = "show-cluster",
    security(("token" = ["admin"])),
    responses((status = 200, description = "All hosts of these books, by name.", body = Cluster))
)]
pub async fn show(_: Allowed<scope::Admin>, State(api): State<Api>, _: NoQuery) -> Result<Json<Cluster>, Problem> {
    let books = &api.lender.books;
    let (now, counts) = (api.lender.clock.now_ms(), books.queue_counts().await?);
    let hosts: Vec<Host> = books
        .hosts()
        .await?
        .into_iter()
        .map(|view| Host {
            lost: now - view.host.seen_ms > MISSED * SEEN_EVERY_MS,
            this: view.host.id == api.engine.owner(),
            id: view.host.id,
            name: view.host.name,
            address: view.host.address,
            version: view.host.version,
            started_ms: view.host.started_ms,
            seen_ms: view.host.seen_ms,
            runs: view.runs,
            watches: view.watches,
            dns_queues: view.dns_queues,
        })
        .collect();
    let mut versions: Vec<&str> = hosts.iter().filter(|h| !h.lost).map(|h| h.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    Ok(Json(Cluster {
        mixed_versions: versions.len() > 1,
        reconcile: books.meta(wharf_store::tables::RECONCILE).await?,
        live: counts.live,
        claimed: counts.claimed,
        parked: counts.parked,
        needs_admin: counts.needs_admin,
        hosts,
    }))
}
