//! Leases, VM numbers and room.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use async_trait::async_trait;
use sqlx::{SqliteConnection, query, query_as, query_scalar};
use wharf_model::{
    Millis,
    lease::{Lease, Range},
    service::ServiceId,
};
use wharf_store::rows::{LeaseRow, address, address_key, corrupt, num, to_json, uid};
use wharf_store::{
    Addresses, Claim, LeaseWish, RestClock, Rested, Result, Room, StoreError,
    rules::{self, leases},
};

use crate::{
    SqliteStore,
    error::{Db, DbError},
    queue, services,
};

#[async_trait]
impl Addresses for SqliteStore {
    async fn lease(&self, claim: Option<&Claim>, wish: LeaseWish, now: Millis) -> Result<Vec<Lease>> {
        let claim = claim.copied();
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    queue::fence(c, claim).await?;
                    leases::check_wish(&wish)?;
                    if services::service(c, wish.service).await?.is_none() {
                        return Err(rules::no_service(wish.service).into());
                    }
                    let held = leases_of(c, wish.service).await?;
                    let ended_by = leases::rest_ended_by(rest_clock(c).await?, now);
                    for set in &wish.sets {
                        if leases::lacking(set, &held) == 0 {
                            continue;
                        }
                        let mut taken = Vec::with_capacity(set.ranges.len());
                        for range in &set.ranges {
                            taken.push(taken_in(c, range, ended_by).await?);
                        }
                        for lease in leases::fill(wish.service, set, &held, &taken, now)? {
                            put_lease(c, &lease).await?;
                        }
                    }
                    leases_of(c, wish.service).await
                })
            })
            .await
    }

    async fn leases_of(&self, service: ServiceId) -> Result<Vec<Lease>> {
        Ok(leases_of(&mut *self.reader().await?, service).await?)
    }

    async fn leases_in(&self, pool: &str) -> Result<Vec<Lease>> {
        let mut reader = self.reader().await?;
        let rows = query_as!(LeaseRow, "SELECT * FROM lease WHERE pool = ?1 ORDER BY family, address, domain", pool)
            .fetch_all(&mut *reader)
            .await
            .map_err(DbError::from)?;
        Ok(rows.into_iter().map(LeaseRow::model).collect::<Result<_>>()?)
    }

    async fn release_leases(
        &self,
        claim: Option<&Claim>,
        service: ServiceId,
        quarantine_ms: BTreeMap<String, i64>,
        now: Millis,
    ) -> Result<Vec<Lease>> {
        let claim = claim.copied();
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    queue::fence(c, claim).await?;
                    let row = services::service(c, service).await?.ok_or_else(|| rules::no_service(service))?;
                    let id = service.to_string();
                    let numbers =
                        query_scalar!("SELECT COUNT(*) FROM vmid WHERE service_id = ?1", id).fetch_one(&mut *c).await?;
                    leases::may_release(&row, numbers > 0)?;
                    let mut released = leases_of(c, service).await?;
                    let clock = rest_clock(c).await?;
                    for lease in &mut released {
                        leases::rest(lease, &quarantine_ms, clock, now);
                        let (family, key) = address_key(lease.address);
                        query!(
                            "UPDATE lease SET service_id = NULL, ptr = NULL, free_after_ms = ?4
                             WHERE domain = ?1 AND family = ?2 AND address = ?3",
                            lease.domain,
                            family,
                            key,
                            lease.free_after_ms
                        )
                        .execute(&mut *c)
                        .await?;
                    }
                    Ok(released)
                })
            })
            .await
    }

    async fn rest_clock(&self) -> Result<Option<RestClock>> {
        Ok(rest_clock(&mut *self.reader().await?).await?)
    }

    async fn count_rest(&self, seen: i64, measured_ms: i64, now: Millis) -> Result<Rested> {
        self.writer.run(move |c| Box::pin(async move { count_rest(c, seen, measured_ms, now).await })).await
    }

    async fn reserve_vmid(
        &self,
        claim: Option<&Claim>,
        server: &str,
        service: ServiceId,
        first: u32,
        taken: &[u32],
        _now: Millis,
    ) -> Result<u32> {
        let claim = claim.copied();
        let (server, taken) = (server.to_owned(), taken.iter().copied().collect::<BTreeSet<u32>>());
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    queue::fence(c, claim).await?;
                    if services::service(c, service).await?.is_none() {
                        return Err(rules::no_service(service).into());
                    }
                    let id = service.to_string();
                    let live =
                        query!(r#"SELECT server, vmid AS "vmid!" FROM vmid WHERE service_id = ?1 AND live = 1"#, id)
                            .fetch_optional(&mut *c)
                            .await?;
                    let vmid: u32 = match live {
                        Some(row) if row.server == server => num(row.vmid, "vmid.vmid")?,
                        Some(row) => {
                            return Err(StoreError::Conflict(format!(
                                "the service {service} has number {} on server {}",
                                row.vmid, row.server
                            ))
                            .into());
                        }
                        None => {
                            let first = first.max(crate::tables::above(c, &server).await?.saturating_add(1));
                            let used =
                                query_scalar!("SELECT vmid FROM vmid WHERE server = ?1 AND vmid >= ?2", server, first)
                                    .fetch_all(&mut *c)
                                    .await?;
                            let foreign = crate::tables::foreign(c, &server, first).await?;
                            let used: BTreeSet<i64> = used.into_iter().chain(foreign).collect();
                            let free = (first..).find(|n| !taken.contains(n) && !used.contains(&i64::from(*n)));
                            let vmid = free.ok_or_else(|| {
                                StoreError::Conflict(format!("no VM number from {first} on is free on {server}"))
                            })?;
                            query!(
                                "INSERT INTO vmid (server, vmid, service_id, live) VALUES (?1, ?2, ?3, 1)",
                                server,
                                vmid,
                                id
                            )
                            .execute(&mut *c)
                            .await?;
                            vmid
                        }
                    };
                    query!("UPDATE service SET vmid = ?2 WHERE id = ?1", id, vmid).execute(&mut *c).await?;
                    Ok(vmid)
                })
            })
            .await
    }

    async fn burn_vmid(
        &self,
        claim: Option<&Claim>,
        server: &str,
        service: ServiceId,
        vmid: u32,
        _now: Millis,
    ) -> Result<()> {
        let claim = claim.copied();
        let server = server.to_owned();
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    queue::fence(c, claim).await?;
                    let id = service.to_string();
                    let done = query!(
                        "UPDATE vmid SET live = 0 WHERE server = ?1 AND vmid = ?2 AND service_id = ?3",
                        server,
                        vmid,
                        id
                    )
                    .execute(&mut *c)
                    .await?;
                    if done.rows_affected() == 0 {
                        let what = format!("the number {vmid} of service {service} on {server}");
                        return Err(StoreError::NotFound(what).into());
                    }
                    query!("UPDATE service SET vmid = NULL WHERE id = ?1 AND vmid = ?2", id, vmid)
                        .execute(&mut *c)
                        .await?;
                    Ok(())
                })
            })
            .await
    }

    async fn vmids(&self, server: &str) -> Result<Vec<(u32, ServiceId, bool)>> {
        let mut reader = self.reader().await?;
        let rows = query!("SELECT vmid, service_id, live FROM vmid WHERE server = ?1 ORDER BY vmid", server)
            .fetch_all(&mut *reader)
            .await
            .map_err(DbError::from)?;
        let row = |vmid: i64, service: String, live: i64| Ok((num(vmid, "vmid.vmid")?, uid(&service)?, live != 0));
        Ok(rows.into_iter().map(|r| row(r.vmid, r.service_id, r.live)).collect::<Result<_>>()?)
    }

    async fn reserve_room(
        &self,
        claim: Option<&Claim>,
        room: Room,
        memory_limit_mib: u32,
        disk_limit_mib: u32,
    ) -> Result<bool> {
        let claim = claim.copied();
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    queue::fence(c, claim).await?;
                    let others = rooms(c, &room.server).await?;
                    if !rules::room_fits(&room, &others, memory_limit_mib, disk_limit_mib) {
                        return Ok(false);
                    }
                    let id = room.service.to_string();
                    query!(
                        "INSERT INTO room (service_id, server, node, memory_mib, storage, disk_mib) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                         ON CONFLICT (service_id) DO UPDATE SET server = ?2, node = ?3, memory_mib = ?4, storage = ?5, disk_mib = ?6",
                        id,
                        room.server,
                        room.node,
                        room.memory_mib,
                        room.storage,
                        room.disk_mib
                    )
                    .execute(&mut *c)
                    .await?;
                    Ok(true)
                })
            })
            .await
    }

    async fn release_room(&self, claim: Option<&Claim>, service: ServiceId) -> Result<()> {
        let claim = claim.copied();
        self.writer
            .run(move |c| {
                Box::pin(async move {
                    queue::fence(c, claim).await?;
                    let id = service.to_string();
                    query!("DELETE FROM room WHERE service_id = ?1", id).execute(&mut *c).await?;
                    Ok(())
                })
            })
            .await
    }

    async fn rooms(&self, server: &str) -> Result<Vec<Room>> {
        Ok(rooms(&mut *self.reader().await?, server).await?)
    }
}

pub(crate) async fn leases_of(c: &mut SqliteConnection, service: ServiceId) -> Db<Vec<Lease>> {
    let id = service.to_string();
    // Reading over the partial index, the check takes numbers that can't be null for such that can.
    let rows = query_as!(
        LeaseRow,
        r#"SELECT domain, family AS "family!", address, pool, service_id, place AS "place!", network, ptr,
              leased_ms AS "leased_ms!", free_after_ms AS "free_after_ms!"
           FROM lease WHERE service_id = ?1"#,
        id
    )
    .fetch_all(&mut *c)
    .await?;
    let mut found = rows.into_iter().map(LeaseRow::model).collect::<Result<Vec<_>>>()?;
    leases::sort(&mut found);
    Ok(found)
}

/// A name of its own for the PTR of an address, or none.
pub(crate) async fn set_ptr(
    c: &mut SqliteConnection,
    service: ServiceId,
    address: IpAddr,
    ptr: Option<String>,
) -> Db<()> {
    let id = service.to_string();
    let (family, key) = address_key(address);
    query!("UPDATE lease SET ptr = ?4 WHERE service_id = ?1 AND family = ?2 AND address = ?3", id, family, key, ptr)
        .execute(&mut *c)
        .await?;
    Ok(())
}

async fn rest_clock(c: &mut SqliteConnection) -> Db<Option<RestClock>> {
    Ok(query_as!(RestClock, "SELECT at_ms, looks FROM rest_clock").fetch_optional(&mut *c).await?)
}

async fn count_rest(c: &mut SqliteConnection, seen: i64, measured_ms: i64, now: Millis) -> Db<Rested> {
    let old = rest_clock(c).await?;
    let looks = old.map_or(0, |clock| clock.looks);
    if looks != seen {
        return Err(leases::rest_counted(seen, looks).into());
    }
    let moved_ms = old.map_or(0, |clock| leases::rest_moves_by(clock, measured_ms, now));
    let mut freed = 0;
    if let Some(clock) = old.filter(|_| moved_ms != 0) {
        // What is free already does not rest again.
        freed += free_rested(c, clock.at_ms).await?;
        query!("UPDATE lease SET free_after_ms = free_after_ms + ?1 WHERE service_id IS NULL", moved_ms)
            .execute(&mut *c)
            .await?;
    }
    freed += free_rested(c, now).await?;
    let clock = RestClock { at_ms: now, looks: looks.saturating_add(1) };
    query!(
        "INSERT INTO rest_clock (id, at_ms, looks) VALUES (1, ?1, ?2) ON CONFLICT (id) DO UPDATE SET at_ms = ?1, looks = ?2",
        clock.at_ms,
        clock.looks
    )
    .execute(&mut *c)
    .await?;
    let resting = query_scalar!("SELECT COUNT(*) FROM lease WHERE service_id IS NULL").fetch_one(&mut *c).await?;
    Ok(Rested { clock, moved_ms, freed, resting: num(resting, "lease")? })
}

/// Addresses whose rest ended by then leave the books.
async fn free_rested(c: &mut SqliteConnection, by: Millis) -> Db<u64> {
    let done =
        query!("DELETE FROM lease WHERE service_id IS NULL AND free_after_ms <= ?1", by).execute(&mut *c).await?;
    Ok(done.rows_affected())
}

/// Numbers of the range that are held or resting.
async fn taken_in(c: &mut SqliteConnection, range: &Range, ended_by: Millis) -> Db<BTreeSet<u128>> {
    let (family, first) = address_key(range.first);
    let (_, last) = address_key(range.last);
    let rows = query_scalar!(
        "SELECT address FROM lease WHERE domain = ?1 AND family = ?2 AND address BETWEEN ?3 AND ?4
           AND (service_id IS NOT NULL OR free_after_ms > ?5)",
        range.domain,
        family,
        first,
        last,
        ended_by
    )
    .fetch_all(&mut *c)
    .await?;
    rows.iter().map(|bytes| Ok(leases::number(address(family, bytes)?).1)).collect()
}

/// Makes an address that nobody holds rest for as long as is said; one that a service holds stays as it is.
pub(crate) async fn rest(c: &mut SqliteConnection, lease: &Lease) -> Db<()> {
    let (family, key) = address_key(lease.address);
    let network = to_json(&lease.network, "lease.network")?;
    sqlx::query(
        "INSERT INTO lease (domain, family, address, pool, service_id, place, network, ptr, leased_ms, free_after_ms)
         VALUES (?1, ?2, ?3, ?4, NULL, 0, ?5, NULL, ?6, ?7)
         ON CONFLICT (domain, family, address) DO UPDATE SET free_after_ms = ?7 WHERE lease.service_id IS NULL",
    )
    .bind(&lease.domain)
    .bind(family)
    .bind(key)
    .bind(&lease.pool)
    .bind(network)
    .bind(lease.leased_ms)
    .bind(lease.free_after_ms)
    .execute(&mut *c)
    .await?;
    Ok(())
}

async fn put_lease(c: &mut SqliteConnection, lease: &Lease) -> Db<()> {
    let (family, key) = address_key(lease.address);
    let service = lease.service_id.map(|s| s.to_string());
    let network = to_json(&lease.network, "lease.network")?;
    let done = query!(
        "INSERT INTO lease (domain, family, address, pool, service_id, place, network, ptr, leased_ms, free_after_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
         ON CONFLICT (domain, family, address) DO UPDATE SET pool = ?4, service_id = ?5, place = ?6, network = ?7, ptr = ?8,
            leased_ms = ?9, free_after_ms = ?10 WHERE lease.service_id IS NULL",
        lease.domain,
        family,
        key,
        lease.pool,
        service,
        lease.index,
        network,
        lease.ptr,
        lease.leased_ms,
        lease.free_after_ms
    )
    .execute(&mut *c)
    .await?;
    if done.rows_affected() == 0 {
        return Err(corrupt(format!("the address {} was chosen although it is held", lease.address)).into());
    }
    Ok(())
}

async fn rooms(c: &mut SqliteConnection, server: &str) -> Db<Vec<Room>> {
    let rows = query!("SELECT * FROM room WHERE server = ?1 ORDER BY service_id", server).fetch_all(&mut *c).await?;
    rows.into_iter()
        .map(|r| {
            Ok(Room {
                service: uid(&r.service_id)?,
                server: r.server,
                node: r.node,
                memory_mib: num(r.memory_mib, "room.memory_mib")?,
                storage: r.storage,
                disk_mib: num(r.disk_mib, "room.disk_mib")?,
            })
        })
        .collect()
}
