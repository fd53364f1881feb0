//! Providers that want to be left alone.
//!
//! Guaranteed: credentials that were refused are not shown to a provider again before an admin has saved or tested the zone, by no
//! zone that has the same ones; and who asked for a pause is not asked before its end. Parking is in the books, in the zone's row; a
//! pause is in the memory of the host that heard of it, beside the due times of the records.

use wharf_model::{
    Millis,
    object::{ObjectKind, Parked, Zone},
};
use wharf_plugins::dns::{Problem, ProblemAction};
use wharf_store::{NewAudit, StoreError};

use crate::{Engine, zones::ZoneError};

/// The provider refused to let the zone in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// In its own words.
    reason: String,
    /// True of the credentials; else of these with this zone.
    everywhere: bool,
}

impl Refusal {
    /// A 403 may mean that the credentials are right and this zone is not theirs.
    pub(super) fn of(problem: &Problem) -> Option<Self> {
        let credentials = problem.code == "credentials";
        let refused = matches!(problem.http_status, Some(401 | 403));
        (problem.action == ProblemAction::FixConfig && (credentials || refused)).then(|| Self {
            reason: problem.message.clone(),
            everywhere: credentials && problem.http_status != Some(403),
        })
    }
}

/// What is said of a record whose zone is parked.
pub(crate) fn parked_text(parked: &Parked) -> String {
    format!(
        "the zone is parked, nothing more is sent to its provider: save or test the zone when this is mended: {}",
        parked.reason
    )
}

impl Engine {
    /// Parks the zone, and with it those that show the same credentials to the same server. What an admin has changed meanwhile is
    /// not parked: then the inner error is what the provider said of the former credentials.
    pub(super) async fn park_zone(
        &self,
        name: &str,
        revision: i64,
        login: &str,
        refusal: Refusal,
    ) -> Result<Result<Parked, String>, StoreError> {
        let zones = self.books.objects(ObjectKind::Zone).await?;
        if !zones.iter().any(|o| o.name == name && o.revision == revision) {
            return Ok(Err(refusal.reason));
        }
        let parked = Parked { reason: refusal.reason, since_ms: self.clock.now_ms() };
        for object in zones {
            let own = object.name == name;
            if !own && !refusal.everywhere {
                continue;
            }
            let Ok(mut zone) = serde_json::from_value::<Zone>(object.body) else { continue };
            if zone.parked.is_some() || (!own && self.runtime.zone_login(&object.name, &zone).await? != login) {
                continue;
            }
            tracing::error!(
                zone = object.name,
                reason = parked.reason,
                "zone parked: nothing is sent to its provider any more"
            );
            zone.parked = Some(parked.clone());
            self.put_zone(&object.name, object.revision, &zone, "host", "zone.park").await?;
        }
        Ok(Ok(parked))
    }

    /// An admin has seen that the provider lets the zone in: it and those with the same credentials are taken up again.
    ///
    /// # Errors
    /// The books can't be read or written.
    pub async fn release_zone(&self, name: &str, actor: &str) -> Result<(), StoreError> {
        let zones = self.books.objects(ObjectKind::Zone).await?;
        let mut login = None;
        if let Some(object) = zones.iter().find(|o| o.name == name)
            && let Ok(zone) = serde_json::from_value::<Zone>(object.body.clone())
        {
            login = Some(self.runtime.zone_login(name, &zone).await?);
        }
        let mut released = false;
        for object in zones {
            let Ok(mut zone) = serde_json::from_value::<Zone>(object.body) else { continue };
            if zone.parked.is_none() || Some(self.runtime.zone_login(&object.name, &zone).await?) != login {
                continue;
            }
            zone.parked = None;
            self.put_zone(&object.name, object.revision, &zone, actor, "zone.release").await?;
            released = true;
        }
        if released {
            self.books.hurry_records(None, self.clock.now_ms()).await?;
            self.dns_work.notify_one();
        }
        Ok(())
    }

    async fn put_zone(
        &self,
        name: &str,
        revision: i64,
        zone: &Zone,
        actor: &str,
        action: &str,
    ) -> Result<(), StoreError> {
        let Ok(body) = serde_json::to_value(zone) else { return Ok(()) };
        let reason = zone.parked.as_ref().map(|p| p.reason.clone());
        let audit = NewAudit {
            actor: actor.into(),
            action: action.into(),
            subject: format!("zone/{name}"),
            body: serde_json::json!({ "reason": reason }),
        };
        let now = self.clock.now_ms();
        match self.books.put_object(ObjectKind::Zone, name, body, Some(revision), Some(audit), now).await {
            // Changed by an admin meanwhile: that newer setting counts, and is tried.
            Ok(_) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// How long zones with these credentials have still to wait, if their provider asked for that.
    pub(super) fn resting_ms(&self, login: &str) -> Option<Millis> {
        let now = self.clock.now_ms();
        let mut resting = self.resting.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        resting.retain(|_, until| *until > now);
        resting.get(login).map(|until| until - now)
    }

    pub(super) fn rest(&self, login: String, ms: Millis) {
        let until = self.clock.now_ms().saturating_add(ms);
        self.resting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(login, until);
    }

    /// Refuses to ask a parked zone's provider.
    pub(crate) fn not_parked(name: &str, zone: &Zone) -> Result<(), ZoneError> {
        match &zone.parked {
            Some(parked) => Err(ZoneError::Parked { name: name.to_owned(), reason: parked.reason.clone() }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(action: ProblemAction, code: &str, http_status: Option<u16>) -> Problem {
        Problem {
            action,
            code: code.into(),
            message: "no".into(),
            retry_after_ms: None,
            http_status,
            provider_code: None,
            ext: Vec::new(),
        }
    }

    #[test]
    fn only_what_is_refused_to_whoever_asks_parks_a_zone() {
        let everywhere = |action, code: &str, status| Refusal::of(&problem(action, code, status)).map(|r| r.everywhere);
        assert_eq!(everywhere(ProblemAction::FixConfig, "credentials", Some(401)), Some(true));
        assert_eq!(everywhere(ProblemAction::FixConfig, "credentials", None), Some(true));
        assert_eq!(everywhere(ProblemAction::FixConfig, "credentials", Some(403)), Some(false));
        assert_eq!(everywhere(ProblemAction::FixConfig, "privilege", Some(401)), Some(false));
        assert_eq!(everywhere(ProblemAction::FixConfig, "quota", Some(400)), None);
        assert_eq!(everywhere(ProblemAction::FixConfig, "zone-not-found", Some(404)), None);
        assert_eq!(everywhere(ProblemAction::Retry, "gateway", Some(401)), None);
    }
}
