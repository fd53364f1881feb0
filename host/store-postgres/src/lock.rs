//! What transactions wait for each other for, and in which order.
//!
//! An advisory lock of PostgreSQL guards a decision that no row can: it is taken within a transaction, ends with it, and says
//! nothing about ownership (claims and slots are rows). Two names that hash alike only wait for each other.
//!
//! The order, in every transaction: [`Lock::Key`]; [`Lock::Reference`] or [`Lock::Records`]; the row of the service; the row
//! of its run in the queue; any other [`Lock`]; rows that belong to what is locked already.

use sqlx::{PgConnection, query};

use crate::error::Db;

/// What is decided by one at a time.
pub(crate) enum Lock<'a> {
    /// An idempotency key: scope and key.
    Key(&'a str, &'a str),
    /// What a panel calls a service, whether it is there or not.
    Reference(&'a str, &'a str),
    /// Wishes and ledger of DNS: the same record may pass from one service to another.
    Records,
    /// Who gets a slot of the pool.
    Slots(&'a str),
    /// Addresses of a routing domain.
    Addresses(&'a str),
    /// The clock by which addresses rest: shared by those who lease and release, alone for who moves it.
    Rest,
    /// VM numbers of a server.
    Numbers(&'a str),
    /// Memory and disk of a server.
    Room(&'a str),
    /// An object, whether it is there or not.
    Object(&'a str, &'a str),
    /// A plugin's own store.
    Kv(&'a str),
    /// Installed plugins.
    Plugins,
}

impl Lock<'_> {
    /// Waits until it is free; held until the transaction ends.
    pub(crate) async fn take(self, c: &mut PgConnection) -> Db<()> {
        let (class, name) = self.key();
        query!("SELECT pg_advisory_xact_lock($1, hashtext($2))", class, name).execute(&mut *c).await?;
        Ok(())
    }

    /// The same, beside others who share it.
    pub(crate) async fn share(self, c: &mut PgConnection) -> Db<()> {
        let (class, name) = self.key();
        query!("SELECT pg_advisory_xact_lock_shared($1, hashtext($2))", class, name).execute(&mut *c).await?;
        Ok(())
    }

    fn key(self) -> (i32, String) {
        let (class, name) = match self {
            Self::Reference(panel, reference) => (1, format!("{panel}:{reference}")),
            Self::Records => (2, String::new()),
            Self::Slots(pool) => (3, pool.to_owned()),
            Self::Addresses(domain) => (4, domain.to_owned()),
            Self::Numbers(server) => (5, server.to_owned()),
            Self::Room(server) => (6, server.to_owned()),
            Self::Object(kind, name) => (7, format!("{kind}/{name}")),
            Self::Kv(plugin) => (8, plugin.to_owned()),
            Self::Rest => (11, String::new()),
            Self::Plugins => (9, String::new()),
            Self::Key(scope, key) => (10, format!("{scope}:{key}")),
        };
        // "Wh" before the class: other programs in the same database may use small numbers.
        (0x5768_0000 + class, name)
    }
}
