//! How Cloudflare would store a set: pure. And what the zone's plan makes of it.

use wharf_sdk::dns::prelude::*;

/// Types that are written. Others are read and left alone: theirs is a form of its own in the API (`data`).
pub const TYPES: [&str; 7] = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "TXT"];

/// 1 stands for automatic, so a TTL has 60 to 86,400 seconds, on Enterprise from 30 (the API's reference, field `ttl`).
const TTL_MIN: u32 = 60;
const TTL_MIN_ENTERPRISE: u32 = 30;
const TTL_MAX: u32 = 86_400;
/// A record has at most so many bytes
/// (<https://developers.cloudflare.com/dns/manage-dns-records/reference/dns-record-types/>, seen through the reference page).
const RECORD_BYTES: usize = 4_096;
/// Key in the capabilities' extras: they are all that `normalize` gets.
const TTL_MIN_KEY: &str = "ttl-min";

/// The zone's plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Or not known: the least is assumed.
    Free,
    /// Pro and Business.
    Paid,
    Enterprise,
}

impl Plan {
    /// By the plan's `legacy_id` of a zone (`free` recorded; the others by the plans' names).
    pub fn of(id: Option<&str>) -> Self {
        match id {
            Some("pro" | "business") => Self::Paid,
            Some("enterprise") => Self::Enterprise,
            _ => Self::Free,
        }
    }

    /// Records that one batch may touch
    /// (<https://developers.cloudflare.com/dns/manage-dns-records/how-to/batch-record-changes/>).
    pub fn batch(self) -> usize {
        match self {
            Self::Free => 200,
            Self::Paid | Self::Enterprise => 3_500,
        }
    }

    pub fn ttl_min(self) -> u32 {
        if self == Self::Enterprise { TTL_MIN_ENTERPRISE } else { TTL_MIN }
    }

    /// Records that a zone may have. Free: 200 if it was made since 2024-09-01, else 1,000; Pro and Business: 3,500
    /// (<https://developers.cloudflare.com/dns/manage-dns-records/>). Cloudflare raises it on request, so this is no promise.
    pub fn records_max(self, created_on: Option<&str>) -> Option<u32> {
        match (self, created_on) {
            // RFC 3339 sorts as text.
            (Self::Free, Some(created)) if created < "2024-09-01" => Some(1_000),
            (Self::Free, Some(_)) => Some(200),
            (Self::Paid, _) => Some(3_500),
            _ => None,
        }
    }
}

/// What can be done in a zone of this plan.
pub fn capabilities(plan: Plan) -> Capabilities {
    Capabilities {
        types: TYPES.map(String::from).to_vec(),
        max_values: 0,
        // A change of one value is one operation of a batch; sets that need more are sent in further batches.
        max_changes: u32::try_from(plan.batch()).unwrap_or(200),
        atomic: true,
        native_merge: true,
        conditional: false,
        owner_per_value: false,
        owner_per_rrset: false,
        owner_max_bytes: 0,
        parallel_per_zone: 1,
        // Zones are apart from each other; what they share is the token's limit of requests.
        parallel_per_server: 4,
        asynchronous: false,
        reverse_only: false,
        ext: ext([(TTL_MIN_KEY, plan.ttl_min().to_string())]),
    }
}

/// What a zone of a plan takes.
pub struct CloudflareForms {
    ttl_min: u32,
}

impl CloudflareForms {
    /// By the capabilities, which are all that `normalize` gets.
    pub fn of(can: &Capabilities) -> Self {
        Self { ttl_min: ext_get(&can.ext, TTL_MIN_KEY).and_then(|t| t.parse().ok()).unwrap_or(TTL_MIN) }
    }
}

impl From<Plan> for CloudflareForms {
    fn from(plan: Plan) -> Self {
        Self { ttl_min: plan.ttl_min() }
    }
}

impl Forms for CloudflareForms {
    fn ttls(&self) -> Ttls {
        Ttls { default: None, min: self.ttl_min, max: TTL_MAX }
    }

    fn name(&self, zone: &str, name: &str, _rtype: &str) -> Result<(), Problem> {
        // Whether Cloudflare takes a slash is not known; a backslash has no meaning in its names. The zone's own name is there.
        if names::relative(name, zone).is_some_and(|front| front.contains(['/', '\\'])) {
            let message = format!("{name} has a character that is not written at Cloudflare.");
            return Err(Problem::fix_input("name", message));
        }
        Ok(())
    }

    fn value(&self, _name: &str, rtype: &str, data: &str) -> Result<String, Problem> {
        if data.len() > RECORD_BYTES {
            let message = format!("A value has at most {RECORD_BYTES} bytes, this one has {}.", data.len());
            return Err(forms::refused(message));
        }
        match rtype {
            "TXT" => Ok(text::quoted(data)),
            "MX" => forms::mx(data),
            _ => names::canonical_data(rtype, data).map_err(forms::refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(name: &str, rtype: &str, ttl: Option<u32>, values: &[&str]) -> Rrset {
        let values = values.iter().map(|v| Value::new(*v)).collect();
        Rrset { name: name.into(), rtype: rtype.into(), ttl, values, owner: None, version: None, ext: Vec::new() }
    }

    fn judged(plan: Plan, set: Rrset) -> Verdict {
        let can = capabilities(plan);
        forms::verdict(&CloudflareForms::of(&can), &can, "example.test.", set)
    }

    fn judge(set: Rrset) -> Verdict {
        judged(Plan::Free, set)
    }

    #[test]
    fn what_is_canonical_is_ok_as_it_is() {
        for good in [
            set("a.example.test.", "AAAA", Some(300), &["2001:db8::1"]),
            set("*.example.test.", "A", None, &["192.0.2.1"]),
            set("example.test.", "MX", Some(60), &["10 mx.example.test."]),
            set("_x.example.test.", "TXT", Some(86_400), &["\"a\""]),
        ] {
            assert_eq!(judge(good.clone()), Verdict::Ok(good));
        }
    }

    #[test]
    fn ttls_are_brought_within_the_plans_bounds() {
        for (asked, plan, stored) in [
            (0, Plan::Free, 60),
            (1, Plan::Free, 60),
            (59, Plan::Paid, 60),
            (30, Plan::Enterprise, 30),
            (1, Plan::Enterprise, 30),
            (u32::MAX, Plan::Free, 86_400),
        ] {
            let ttl = match judged(plan, set("a.example.test.", "A", Some(asked), &["192.0.2.1"])) {
                Verdict::Ok(set) | Verdict::Adjusted((set, _)) => set.ttl,
                Verdict::Refused(problem) => panic!("{problem:?}"),
            };
            assert_eq!(ttl, Some(stored), "{asked} {plan:?}");
        }
    }

    #[test]
    fn spelling_and_doubles_are_adjusted_with_reasons() {
        let Verdict::Adjusted((other, why)) =
            judge(set("A.example.test", "txt", Some(300), &["plain", "\"plain\"", "\"other\""]))
        else {
            panic!("not adjusted");
        };
        assert_eq!(other, set("a.example.test.", "TXT", Some(300), &["\"plain\"", "\"other\""]));
        for word in ["lower case", "capitals", "stored as", "once"] {
            assert!(why.contains(word), "{word} is missing in: {why}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let long = "x".repeat(5_000);
        for (bad, code) in [
            (set("a.notexample.test.", "A", None, &["192.0.2.1"]), "out-of-zone"),
            (set("a.example.test.", "A", None, &["2001:db8::1"]), "value"),
            (set("a.example.test.", "MX", None, &["mx.example.test."]), "value"),
            (set("a.example.test.", "TXT", None, &[&long]), "value"),
            (set("a.example.test.", "SRV", None, &["1 2 3 x."]), "type"),
            (set("a.example.test.", "CNAME", None, &["b.test.", "c.test."]), "values"),
            (set("1/2.example.test.", "PTR", None, &["b.test."]), "name"),
            (set("a..example.test.", "A", None, &[]), "name"),
        ] {
            let Verdict::Refused(problem) = judge(bad.clone()) else { panic!("{bad:?} was not refused") };
            assert_eq!(problem.code, code);
        }
    }

    #[test]
    fn an_unknown_plan_is_taken_for_the_smallest() {
        assert_eq!([None, Some("free"), Some("lite")].map(|p| Plan::of(p).batch()), [200; 3]);
        assert_eq!(["pro", "business", "enterprise"].map(|p| Plan::of(Some(p)).batch()), [3_500; 3]);
        assert_eq!(Plan::Free.records_max(Some("2024-08-31T23:59:59Z")), Some(1_000));
        assert_eq!(Plan::Free.records_max(Some("2024-09-01T00:00:00Z")), Some(200));
        assert_eq!(Plan::Enterprise.records_max(Some("2020-01-01T00:00:00Z")), None);
    }
}
