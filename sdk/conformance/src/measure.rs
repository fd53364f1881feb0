//! What calls of a provider cost: percentiles of times, and the most that a call used up.
//!
//! `cargo xtask bench` and `wharf plugin bench` measure with the same code: each call in a fresh store, under all limits, as in
//! production. A percentile is by the nearest rank: always a value that was measured.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use wharf_plugins::{
    dns::{Capabilities, DnsSession, RrSet, Selector, Value},
    report::Used,
};

use crate::{
    case::{Stop, fail},
    scene::Ground,
    stage::Kit,
    words,
};

/// Samples of one thing, in microseconds.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn push(&mut self, took: Duration) {
        self.0.push(took.as_secs_f64() * 1e6);
    }

    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// As they were taken.
    pub fn all(&self) -> &[f64] {
        &self.0
    }

    /// The sample that `share` (0 to 1) of all are not above. Zero if there is none.
    pub fn at(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank"
        )]
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or_default()
    }

    pub fn p50(&self) -> f64 {
        self.at(0.5)
    }

    pub fn p99(&self) -> f64 {
        self.at(0.99)
    }

    pub fn most(&self) -> f64 {
        self.at(1.0)
    }
}

impl FromIterator<f64> for Samples {
    fn from_iter<T: IntoIterator<Item = f64>>(all: T) -> Self {
        Self(all.into_iter().collect())
    }
}

/// Microseconds as a person reads them.
pub fn readable(us: f64) -> String {
    match us {
        us if us < 1_000.0 => format!("{us:.1} µs"),
        us if us < 100_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.2} s", us / 1e6),
    }
}

/// What calls of one kind cost.
#[derive(Debug, Clone, Default)]
pub struct Cost {
    pub times: Samples,
    /// The most that one of them used up.
    pub used: Used,
}

impl Cost {
    fn note(&mut self, took: Duration, used: Used) {
        self.times.push(took);
        self.used = Used {
            cpu: self.used.cpu.max(used.cpu),
            memory: self.used.memory.max(used.memory),
            host_calls: self.used.host_calls.max(used.host_calls),
            bytes: self.used.bytes.max(used.bytes),
            requests: self.used.requests.max(used.requests),
        };
    }

    pub fn to_json(&self) -> Json {
        json!({
            "calls": self.times.len(), "p50_us": self.times.p50(), "p99_us": self.times.p99(), "most_us": self.times.most(),
            "memory_bytes": self.used.memory, "host_calls": self.used.host_calls, "bytes": self.used.bytes,
            "requests": self.used.requests,
        })
    }
}

/// Calls of `normalize` with these sets, after a tenth of them to warm up.
///
/// # Errors
/// A call fails, or answers with another number of verdicts: the text says so.
pub async fn normalized(
    session: &mut DnsSession,
    can: &Capabilities,
    zone: &str,
    sets: &[RrSet],
    calls: usize,
) -> Result<Cost, String> {
    let mut cost = Cost::default();
    for n in 0..calls + calls / 10 {
        let (can, sets) = (can.clone(), sets.to_vec());
        let count = sets.len();
        let begun = Instant::now();
        let report = session.normalize(can, zone, sets).await;
        let took = begun.elapsed();
        let report = report.map_err(|e| e.text)?;
        match report.answer {
            Ok(verdicts) if verdicts.len() == count => {}
            Ok(verdicts) => return Err(format!("`normalize` of {count} sets gave {} verdicts", verdicts.len())),
            Err(problem) => return Err(format!("`normalize` gave {}", words::problem(&problem))),
        }
        if n >= calls / 10 {
            cost.note(took, report.used);
        }
    }
    Ok(cost)
}

/// What a provider costs.
#[derive(Debug, Clone)]
pub struct Costs {
    /// From the component's bytes to calls, compiled in a child process.
    pub compile: Duration,
    /// Of what is compiled already, as at a host's start.
    pub load: Duration,
    /// `normalize` of nothing: a store, an instance, a call, and nothing to do.
    pub empty: Cost,
    /// `normalize` of the four sets of a VM.
    pub normalize: Cost,
    /// `read` of a whole zone, and how many records it has; the API's own time is in it.
    pub read: Cost,
    pub records: usize,
}

impl Costs {
    pub fn to_json(&self) -> Json {
        json!({
            "format": 1, "compile_ms": self.compile.as_secs_f64() * 1e3, "load_ms": self.load.as_secs_f64() * 1e3,
            "empty": self.empty.to_json(), "normalize": self.normalize.to_json(), "read": self.read.to_json(),
            "records": self.records,
        })
    }
}

/// The sets of a VM with an address of each kind and a mail name, one of them spelt so that it is adjusted.
fn vm(ground: &Ground) -> Vec<RrSet> {
    let set = |name: String, rtype: &str, data: &str| RrSet {
        name,
        rtype: rtype.into(),
        ttl: Some(300),
        values: vec![Value::new(data)],
        ..RrSet::default()
    };
    if ground.is_reverse() {
        return (0..4).map(|n| set(ground.name(n), "PTR", &ground.value(n))).collect();
    }
    vec![
        set(ground.name(0), "A", "192.0.2.10"),
        set(ground.name(0), "AAAA", "2001:DB8::10"),
        set(format!("mail.{}", ground.name(0)), "CNAME", &ground.name(0)),
        set(ground.name(1), "TXT", "\"v=spf1 -all\""),
    ]
}

impl Kit {
    /// Measures calls: so many of `normalize`, a tenth as many of `read` of a zone with so many records.
    ///
    /// # Errors
    /// A call fails: the text says which.
    pub async fn costs(&self, calls: usize, records: usize) -> Result<Costs, String> {
        self.measured(calls, records).await.map_err(|Stop::Failed(why)| why)
    }

    async fn measured(&self, calls: usize, records: usize) -> Result<Costs, Stop> {
        let (scene, ground) = (self.scene(records).await?, self.ground());
        let mut open = scene.usual().await?;
        let (can, zone) = (open.probed.can.clone(), ground.zone.clone());
        let empty = normalized(&mut open.session, &can, &zone, &[], calls).await.map_err(Stop::Failed)?;
        let four = vm(&ground);
        let normalize = normalized(&mut open.session, &can, &zone, &four, calls).await.map_err(Stop::Failed)?;
        let mut read = Cost::default();
        for _ in 0..calls.div_ceil(10) {
            let begun = Instant::now();
            let report = open.try_read(Selector::All).await?;
            let took = begun.elapsed();
            match report.answer {
                Ok(snapshot) if snapshot.complete => read.note(took, report.used),
                Ok(_) => return fail("`read` gave a list that may lack something"),
                Err(problem) => return fail(format!("`read` gave {}", words::problem(&problem))),
            }
        }
        let (compile, load) = self.house.took;
        Ok(Costs { compile, load, empty, normalize, read, records })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_value_that_was_measured() {
        let samples: Samples = (1..=100).map(f64::from).collect();
        assert_eq!((samples.p50(), samples.p99(), samples.most()), (50.0, 99.0, 100.0));
        let few: Samples = [7.0, 3.0].into_iter().collect();
        assert_eq!((few.p50(), few.p99()), (3.0, 7.0));
        assert_eq!(Samples::default().p99(), 0.0);
    }
}
