//! Whether the name of an address leads back to it (forward-confirmed reverse DNS), as others see it.

use std::net::IpAddr;

use serde::Serialize;

use super::{
    look::{Kind, Look, NoAnswer},
    names,
};

/// How an address stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Its one name has this address.
    Pass,
    NoPtr,
    /// Its name has no address of this family.
    ForwardMissing,
    /// Its name has other addresses.
    Mismatch,
    /// It has more names than one: mail servers and the like take any of them.
    SeveralPtr,
    /// Somebody did not answer, so nothing is known.
    TempError,
}

/// What was measured of an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confirmed {
    pub verdict: Verdict,
    /// Where its reverse name leads by CNAMEs, in their order: a classless zone (RFC 2317).
    pub by: Vec<String>,
    /// Its names.
    pub ptr: Vec<String>,
    /// Addresses of its name, if it has one.
    pub forward: Vec<String>,
    /// What went wrong with a question.
    pub error: Option<String>,
}

impl Confirmed {
    fn new(verdict: Verdict) -> Self {
        Self { verdict, by: Vec::new(), ptr: Vec::new(), forward: Vec::new(), error: None }
    }

    fn unknown(self, error: NoAnswer) -> Self {
        Self { verdict: Verdict::TempError, error: Some(error.to_string()), ..self }
    }
}

/// Asks for the names of an address, and for the addresses of its name.
pub async fn confirm(look: &dyn Look, ip: IpAddr) -> Confirmed {
    let Ok(name) = names::reverse_name(ip) else { return Confirmed::new(Verdict::NoPtr) };
    let seen = match look.look(&name, Kind::Ptr).await {
        Ok(seen) => seen,
        Err(error) => return Confirmed::new(Verdict::TempError).unknown(error),
    };
    let found = Confirmed { by: seen.by, ptr: seen.values, ..Confirmed::new(Verdict::NoPtr) };
    let target = match found.ptr.as_slice() {
        [] => return found,
        [one] => one.clone(),
        _ => return Confirmed { verdict: Verdict::SeveralPtr, ..found },
    };
    let kind = if ip.is_ipv4() { Kind::A } else { Kind::Aaaa };
    let forward = match look.look(&target, kind).await {
        Ok(seen) => seen.values,
        Err(error) => return found.unknown(error),
    };
    let verdict = if forward.is_empty() {
        Verdict::ForwardMissing
    } else if forward.iter().any(|text| text.parse::<IpAddr>() == Ok(ip)) {
        Verdict::Pass
    } else {
        Verdict::Mismatch
    };
    Confirmed { verdict, forward, ..found }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::dns::look::Seen;

    /// `name type: value …`, a `!` for no answer.
    struct World(&'static [&'static str]);

    #[async_trait]
    impl Look for World {
        async fn look(&self, name: &str, kind: Kind) -> Result<Seen, NoAnswer> {
            let key = format!("{name} {kind:?}: ");
            let values = self.0.iter().find_map(|line| line.strip_prefix(&key)).unwrap_or_default();
            if values == "!" {
                return Err(NoAnswer("timed out".into()));
            }
            Ok(Seen { values: values.split_whitespace().map(str::to_owned).collect(), by: Vec::new() })
        }
    }

    async fn verdict(ip: &str, world: &'static [&'static str]) -> Verdict {
        confirm(&World(world), ip.parse().unwrap()).await.verdict
    }

    #[tokio::test]
    async fn an_address_is_confirmed_only_by_its_one_name() {
        let cases: [(&'static [&'static str], Verdict); 7] = [
            (&[], Verdict::NoPtr),
            (&["1.2.0.192.in-addr.arpa. Ptr: !"], Verdict::TempError),
            (
                &["1.2.0.192.in-addr.arpa. Ptr: vm.example. other.example.", "vm.example. A: 192.0.2.1"],
                Verdict::SeveralPtr,
            ),
            (&["1.2.0.192.in-addr.arpa. Ptr: vm.example."], Verdict::ForwardMissing),
            (&["1.2.0.192.in-addr.arpa. Ptr: vm.example.", "vm.example. A: !"], Verdict::TempError),
            (&["1.2.0.192.in-addr.arpa. Ptr: vm.example.", "vm.example. A: 192.0.2.2"], Verdict::Mismatch),
            (&["1.2.0.192.in-addr.arpa. Ptr: vm.example.", "vm.example. A: 192.0.2.2 192.0.2.1"], Verdict::Pass),
        ];
        for (world, expected) in cases {
            assert_eq!(verdict("192.0.2.1", world).await, expected, "{world:?}");
        }
    }

    #[tokio::test]
    async fn an_ipv6_address_is_not_confirmed_by_an_ipv4_one() {
        let name = names::reverse_name("2001:db8::1".parse().unwrap()).unwrap();
        let ptr: &'static str = Box::leak(format!("{name} Ptr: vm.example.").into_boxed_str());
        let world: &'static [&'static str] = Box::leak(Box::new([ptr, "vm.example. A: 192.0.2.1"]));
        assert_eq!(verdict("2001:db8::1", world).await, Verdict::ForwardMissing);
        let world: &'static [&'static str] = Box::leak(Box::new([ptr, "vm.example. Aaaa: 2001:db8:0::1"]));
        assert_eq!(verdict("2001:db8::1", world).await, Verdict::Pass);
    }
}
