//! Watches tasks: for each server one look a tick at all tasks that run there. It only wakes; the run itself reads how its
//! task ended, under its claim.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::Engine;

impl Engine {
    pub(crate) async fn watch_tasks(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let first = Duration::from_millis(u64::try_from(self.config.task_poll_first_ms).unwrap_or(500));
        let longest = Duration::from_millis(u64::try_from(self.config.task_poll_longest_ms).unwrap_or(2_000));
        let mut pause = first;
        let mut watched = 0;
        while !*stop.borrow() {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = stop.changed() => if changed.is_err() { break } else { continue },
            }
            self.kill.reach("watch").await;
            match self.look_at_tasks().await {
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

    async fn look_at_tasks(&self) -> wharf_store::Result<(usize, usize)> {
        let servers = self.books.servers_with_tasks().await?;
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
}
