//! Watches tasks: for each server one look a tick at all tasks that run there, by one of the hosts. It only wakes; the run
//! itself reads how its task ended, under its claim.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::watch, time::Instant};

use crate::Engine;

impl Engine {
    pub(crate) async fn watch_tasks(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let first = Duration::from_millis(u64::try_from(self.config.task_poll_first_ms).unwrap_or(500));
        let longest = Duration::from_millis(u64::try_from(self.config.task_poll_longest_ms).unwrap_or(2_000));
        let mut pause = first;
        let mut watched = 0;
        let mut watches = Watches::default();
        while !*stop.borrow() {
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                changed = stop.changed() => if changed.is_err() { break } else { continue },
            }
            self.kill.reach("watch").await;
            match self.look_at_tasks(&mut watches).await {
                Ok((woken, running)) => {
                    if woken > 0 {
                        self.work.notify_one();
                    }
                    // New tasks and ends are looked after closely, long ones less and less.
                    let moved = woken > 0 || running > watched;
                    watched = running;
                    pause = if moved { first } else { (pause * 2).min(longest) };
                }
                Err(error) => tracing::warn!(%error, "can't look at running tasks"),
            }
        }
    }

    async fn look_at_tasks(&self, watches: &mut Watches) -> wharf_store::Result<(usize, usize)> {
        let mut servers = Vec::new();
        for server in self.books.servers_with_tasks().await? {
            if self.watches(watches, &server).await? {
                servers.push(server);
            }
        }
        let looks = servers.iter().map(|server| async move {
            let tasks = self.books.issued_tasks(server).await?;
            let ids: Vec<String> = tasks.iter().map(|(_, id)| id.clone()).collect();
            let ended = self.effector.ended_tasks(server, &ids).await;
            let mut woken = 0;
            for (operation, id) in &tasks {
                if ended.contains(id) && self.books.wake(*operation, self.clock.now_ms()).await? {
                    woken += 1;
                }
            }
            Ok::<(usize, usize), wharf_store::StoreError>((woken, tasks.len()))
        });
        let (mut woken, mut running) = (0, 0);
        for look in futures::future::join_all(looks).await {
            let (ended, all) = look?;
            woken += ended;
            running += all;
        }
        Ok((woken, running))
    }

    /// Whether this host is the one that watches over the server. The books are asked no more often than the hold needs.
    async fn watches(&self, watches: &mut Watches, server: &str) -> wharf_store::Result<bool> {
        let ttl = self.config.watch_ttl_ms;
        let third = Duration::from_millis(u64::try_from(ttl / 3).unwrap_or(3_000));
        if let Some((asked, ours)) = watches.0.get(server)
            && asked.elapsed() < third
        {
            return Ok(*ours);
        }
        let asked = Instant::now();
        let ours = self.books.hold_watch(server, self.owner, ttl, self.clock.now_ms()).await?;
        watches.0.insert(server.to_owned(), (asked, ours));
        Ok(ours)
    }
}

/// For each server when the books were asked last, and whether the watch is ours.
#[derive(Default)]
struct Watches(HashMap<String, (Instant, bool)>);
