//! The kit in a live zone that may be thrown away.
//!
//! Only cases that need neither faults nor a zone of the kit's own are played. They write under one random label of the zone and
//! nowhere else, and what they assert is asserted on what the provider reads. What stands under the label is deleted before each
//! case and at the end, whatever became of the case; what could not be deleted is told by name.

use std::{collections::BTreeSet, path::Path, time::Duration};

use serde_json::Value;
use wharf_plugins::{
    Compiler,
    dns::{Change, Edit, Outcome, ProblemAction, Selector},
};
use wharf_testkit::{
    facade::{Facade, Refusal, Request, Response},
    model::{Model, Record},
};

use crate::{
    case::{Stop, fail},
    scene::Scene,
    stage::{FacadeMaker, Kit, KitError, Subject},
    words,
};

/// Deletions of one `apply`.
const CHUNK: usize = 50;
/// Times that the label is looked at and swept.
const SWEEPS: usize = 5;
/// Longest that is waited for where the provider asks for it.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What is to be tried, and where.
pub struct LiveSubject {
    /// The component with its manifest.
    pub component: Vec<u8>,
    /// The zone, absolute.
    pub zone: String,
    /// Its settings, secrets included.
    pub settings: Value,
    /// Origins that may be reached although they are private.
    pub private_origins: BTreeSet<String>,
    /// A façade of the API, which knows what a write is; without one the method says it.
    pub facade: Option<FacadeMaker>,
    pub compiler: Compiler,
}

/// Where a kit is live.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) zone: String,
    /// The label with the zone: everything is written at it or below.
    pub(crate) under: String,
}

/// What stands in a zone: name, type and values.
pub type Standing = BTreeSet<(String, String, String)>;

/// The settings that were given, and no API.
struct Given {
    settings: Value,
    facade: Option<Box<dyn Facade>>,
}

impl Facade for Given {
    fn settings(&self, _base: &str) -> Value {
        self.settings.clone()
    }

    fn answer(&mut self, _model: &mut Model, _request: &Request) -> Response {
        Response::empty(501)
    }

    fn refusal(&self, _why: Refusal) -> Response {
        Response::empty(501)
    }

    fn is_write(&self, request: &Request) -> bool {
        self.facade.as_ref().map_or_else(|| request.writes(), |facade| facade.is_write(request))
    }
}

/// Eight hexadecimal digits that nobody guesses, from the hasher's own seed.
fn nonce() -> String {
    use std::hash::{BuildHasher, RandomState};
    let n = RandomState::new().hash_one(std::process::id());
    format!("{:08x}", n & 0xffff_ffff)
}

fn told(stop: Stop) -> KitError {
    let Stop::Failed(why) = stop;
    KitError::Live(why)
}

impl Kit {
    /// Installs the component and looks at the zone. Nothing is written yet.
    ///
    /// # Errors
    /// It can't be installed, or does not find the zone.
    pub async fn open_live(subject: LiveSubject, folder: &Path) -> Result<Self, KitError> {
        let LiveSubject { component, zone, settings, private_origins, facade, compiler } = subject;
        let under = format!("wharf-{}.{zone}", nonce());
        let given = move || -> Box<dyn Facade> {
            Box::new(Given { settings: settings.clone(), facade: facade.as_ref().map(|make| make()) })
        };
        let subject = Subject { component, facade: Box::new(given), settings: Value::Null, compiler };
        let mut kit = Self::set_up(subject, folder, Some(Place { zone, under })).await?;
        for origin in &private_origins {
            kit.house.grant(origin).await?;
        }
        let ground = kit.ground();
        let (info, can) = kit.first_probe(&ground).await.map_err(told)?;
        (kit.info, kit.can) = (info, can);
        Ok(kit)
    }

    /// The name that all writes are at or below; none of a kit with a façade.
    pub fn label(&self) -> Option<&str> {
        self.live.as_ref().map(|live| live.under.as_str())
    }

    /// Types that cases may write here.
    pub fn types(&self) -> Vec<String> {
        let used: &[&str] = if self.ground().is_reverse() { &["PTR"] } else { &["A", "AAAA", "CNAME", "TXT"] };
        self.can.types.iter().filter(|t| used.contains(&t.as_str())).cloned().collect()
    }

    /// Everything in the zone that is not under the label; what the API makes by itself is left out.
    ///
    /// # Errors
    /// The provider can't read the zone.
    pub async fn others(&self) -> Result<Standing, KitError> {
        let Some(live) = &self.live else { return Ok(Standing::new()) };
        let records = self.standing(Selector::All).await.map_err(told)?;
        let other = |r: &&Record| {
            let own = r.rtype == "SOA" || (r.rtype == "NS" && r.name == live.zone);
            !own && r.name != live.under && !r.name.ends_with(&format!(".{}", live.under))
        };
        Ok(records.iter().filter(other).map(|r| (r.name.clone(), r.rtype.clone(), r.data.clone())).collect())
    }

    /// What the provider reads, value by value.
    async fn standing(&self, what: Selector) -> Result<Vec<Record>, Stop> {
        let scene = self.scene(0).await?;
        let mut open = scene.usual().await?;
        let mut tries = 3;
        let snapshot = loop {
            tries -= 1;
            match open.try_read(what.clone()).await?.answer {
                Ok(snapshot) => break snapshot,
                Err(problem) if problem.action == ProblemAction::Wait && tries > 0 => {
                    pause(problem.retry_after_ms).await
                }
                Err(problem) => return fail(format!("`read` gave {}", words::problem(&problem))),
            }
        };
        if !snapshot.complete {
            return fail("`read` gave a list that may lack something");
        }
        let mut records = Vec::new();
        for set in snapshot.rrsets {
            for value in set.values {
                records.push(Record { ttl: set.ttl, ..Record::new(&set.name, &set.rtype, &value.data, 0) });
            }
        }
        Ok(records)
    }

    /// Deletes all that stands under the label; what is left, by name and type.
    ///
    /// # Errors
    /// The provider can't read the zone, so that it is not known.
    pub async fn sweep(&self) -> Result<Vec<String>, KitError> {
        let Some(live) = &self.live else { return Ok(Vec::new()) };
        let mut left = Vec::new();
        for _ in 0..SWEEPS {
            let records = self.standing(Selector::Below(live.under.clone())).await.map_err(told)?;
            let sets: BTreeSet<(String, String)> = records.into_iter().map(|r| (r.name, r.rtype)).collect();
            left = sets.iter().map(|(name, rtype)| format!("{name} {rtype}")).collect();
            if left.is_empty() {
                return Ok(left);
            }
            let scene = self.scene(0).await.map_err(told)?;
            let mut open = scene.usual().await.map_err(told)?;
            let most = usize::try_from(self.can.max_changes).ok().filter(|n| *n > 0).unwrap_or(CHUNK).min(CHUNK);
            let sets: Vec<_> = sets.into_iter().collect();
            for chunk in sets.chunks(most) {
                let change = |(id, (name, rtype)): (u32, &(String, String))| Change {
                    id,
                    name: name.clone(),
                    rtype: rtype.clone(),
                    ttl: None,
                    edit: Edit::Delete,
                    expect: None,
                    owner: None,
                };
                let batch = (1..).zip(chunk).map(change).collect();
                // What failed is there at the next look.
                let asked = match open.try_apply(batch).await {
                    Ok(report) => match report.answer {
                        Ok(report) => report.outcomes.into_iter().find_map(|(_, outcome)| match outcome {
                            Outcome::Failed(problem) => Some(problem),
                            _ => None,
                        }),
                        Err(problem) => Some(problem),
                    },
                    Err(_) => None,
                };
                if let Some(problem) = asked.filter(|p| p.action == ProblemAction::Wait) {
                    pause(problem.retry_after_ms).await;
                }
            }
        }
        Ok(left)
    }
}

async fn pause(ms: Option<u32>) {
    let asked = Duration::from_millis(ms.unwrap_or(5_000).into());
    tokio::time::sleep(asked.min(LONGEST_WAIT)).await;
}

impl Scene<'_> {
    /// Looks at the live zone again, as the provider shows it.
    pub(crate) async fn refresh(&self) -> Result<(), Stop> {
        let (crate::site::Site::Live(mirror), Some(live)) = (&self.peer, &self.kit.live) else { return Ok(()) };
        mirror.set_aside();
        let below = Selector::Below(live.under.clone());
        let records = Box::pin(self.kit.standing(below)).await?;
        mirror.read(records);
        Ok(())
    }
}
