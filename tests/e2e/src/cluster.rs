//! Several hosts on one PostgreSQL, each with a data folder of its own.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use postgres_peer::Server;
use rand::seq::IndexedRandom;
use tokio::sync::watch;

use crate::{
    journey::{Built, House, Setup},
    peer::Peer,
};

/// Everything that runs. Dropping it ends it.
pub struct Cluster {
    pub house: House,
    pub postgres: Server,
    hosts: Vec<Option<Peer>>,
    /// Where hosts that run listen: for whoever looks for one that answers.
    living: watch::Sender<Vec<String>>,
}

impl Cluster {
    /// A house with so many hosts.
    pub async fn build(dir: &Path, built: Built, setup: Setup, count: usize) -> Result<Self> {
        let postgres = Server::start();
        let database = Some(postgres.database("books", None));
        let mut house = House::with(dir, built, Setup { database, ..setup }).await?;
        let mut hosts = vec![house.wharf.take()];
        for number in 2..=count {
            hosts.push(Some(house.host(number).await?));
        }
        let cluster = Self { house, postgres, hosts, living: watch::channel(Vec::new()).0 };
        cluster.tell();
        Ok(cluster)
    }

    pub fn count(&self) -> usize {
        self.hosts.len()
    }

    /// Those that run.
    pub fn living(&self) -> watch::Receiver<Vec<String>> {
        self.living.subscribe()
    }

    /// Number `n`, from 0.
    pub fn host(&self, n: usize) -> Result<&Peer> {
        self.hosts.get(n).and_then(Option::as_ref).context("that host does not run")
    }

    /// SIGKILL.
    pub async fn kill(&mut self, n: usize) -> Result<()> {
        let host = self.take(n)?;
        let ended = host.kill().await;
        self.tell();
        ended
    }

    /// SIGTERM, and waits for the end. It is still among the living meanwhile: panels learn of a stop by being refused.
    pub async fn stop(&mut self, n: usize, patience: Duration) -> Result<()> {
        let host = self.take(n)?;
        let ended = host.stop(patience).await;
        self.tell();
        ended
    }

    /// Number `n` again, at another address.
    pub async fn start(&mut self, n: usize) -> Result<()> {
        let host = self.house.host(n + 1).await?;
        *self.hosts.get_mut(n).context("no such host")? = Some(host);
        self.tell();
        Ok(())
    }

    /// Questions of the house go to this one.
    pub fn ask(&mut self, n: usize) -> Result<()> {
        let url = self.host(n)?.url.clone();
        self.house.client.url.clone_from(&url);
        self.house.whmcs.host = url;
        Ok(())
    }

    fn take(&mut self, n: usize) -> Result<Peer> {
        self.hosts.get_mut(n).and_then(Option::take).context("that host does not run")
    }

    fn tell(&self) {
        self.living.send_replace(self.hosts.iter().flatten().map(|host| host.url.clone()).collect());
    }
}

/// Any of them.
pub fn any(living: &watch::Receiver<Vec<String>>) -> String {
    living.borrow().choose(&mut rand::rng()).cloned().unwrap_or_default()
}
