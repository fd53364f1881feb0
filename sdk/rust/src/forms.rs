//! What a provider would store, for `normalize`: pure, and the same for every provider but for what it says in its [`Forms`].
//!
//! Names, types and values take their canonical form, TTLs the provider's bounds, a value stands once; each of these has its
//! reason. What the provider would refuse is refused here, so that a plan shows it before anything is sent.

use crate::{
    batch::{Ttls, Work},
    dns::{Capabilities, Change, Edit, Problem, Rrset, Value, Verdict},
    names,
};

/// One provider's own limits. As they are, everything that is DNS is taken.
pub trait Forms {
    /// Bounds of a TTL.
    fn ttls(&self) -> Ttls {
        Ttls::default()
    }

    /// Whether a name of the zone is taken; it is canonical, the type in capitals.
    ///
    /// # Errors
    /// It is not, and why.
    fn name(&self, _zone: &str, _name: &str, _rtype: &str) -> Result<(), Problem> {
        Ok(())
    }

    /// A value in the form in which it is read back. `name` and `rtype` as above.
    ///
    /// # Errors
    /// It is not taken, and why.
    fn value(&self, _name: &str, rtype: &str, data: &str) -> Result<String, Problem> {
        names::canonical_data(rtype, data).map_err(refused)
    }
}

/// A value that is refused.
pub fn refused(why: impl ToString) -> Problem {
    Problem::fix_input("value", why.to_string())
}

fn no_type(rtype: &str) -> Problem {
    Problem::fix_input("type", format!("Records of type {rtype} are not written here."))
}

/// Each set's verdict, in order: what `normalize` answers.
pub fn verdicts(forms: &impl Forms, can: &Capabilities, zone: &str, sets: Vec<Rrset>) -> Vec<Verdict> {
    sets.into_iter().map(|set| verdict(forms, can, zone, set)).collect()
}

/// One set's verdict.
pub fn verdict(forms: &impl Forms, can: &Capabilities, zone: &str, set: Rrset) -> Verdict {
    match adjusted(forms, can, zone, &set) {
        Err(problem) => Verdict::Refused(problem),
        Ok((_, reasons)) if reasons.is_empty() => Verdict::Ok(set),
        Ok((other, reasons)) => Verdict::Adjusted((other, format!("{}.", reasons.join("; ")))),
    }
}

fn adjusted(forms: &impl Forms, can: &Capabilities, zone: &str, set: &Rrset) -> Result<(Rrset, Vec<String>), Problem> {
    let mut reasons = Vec::new();
    let name = names::canonical(&set.name).map_err(|e| Problem::fix_input("name", e.to_string()))?;
    if !names::is_within(&name, zone) {
        return Err(Problem::fix_input("out-of-zone", format!("{name} is not in the zone {zone}")));
    }
    if name != set.name {
        reasons.push("the name is stored in lower case with a final dot".to_owned());
    }
    let rtype = set.rtype.to_ascii_uppercase();
    if !can.types.contains(&rtype) {
        return Err(no_type(&set.rtype));
    }
    if rtype != set.rtype {
        reasons.push("the type is stored in capitals".to_owned());
    }
    forms.name(zone, &name, &rtype)?;
    let ttls = forms.ttls();
    let ttl = ttls.fit(set.ttl);
    if ttl != set.ttl {
        let automatic = if ttls.default.is_none() { ", or is automatic" } else { "" };
        reasons.push(format!("a TTL has {} to {} seconds{automatic}", ttls.min, ttls.max));
    }
    let mut values: Vec<Value> = Vec::with_capacity(set.values.len());
    for value in &set.values {
        let data = forms.value(&name, &rtype, &value.data)?;
        if values.iter().any(|v| v.data == data) {
            reasons.push(format!("{data} is stored once"));
            continue;
        }
        if data != value.data {
            reasons.push(format!("{} is stored as {data}", value.data));
        }
        values.push(Value { data, ..value.clone() });
    }
    let most = if rtype == "CNAME" { 1 } else { can.max_values };
    if most > 0 && u32::try_from(values.len()).is_ok_and(|count| count > most) {
        return Err(Problem::fix_input("values", format!("{name} can have {most} {rtype} only.")));
    }
    Ok((Rrset { name, rtype, ttl, values, ..set.clone() }, reasons))
}

/// Why a set of a batch can't be written, as far as that is known without asking: what comes is held to the same forms.
pub fn refusal(forms: &impl Forms, types: &[&str], zone: &str, work: &Work) -> Option<Problem> {
    let Work { name, rtype, .. } = work;
    let mut come = work.come().peekable();
    come.peek()?;
    if !types.contains(&rtype.as_str()) {
        return Some(no_type(rtype));
    }
    let values = || come.find_map(|held| forms.value(name, rtype, &held.data).err());
    forms.name(zone, name, rtype).err().or_else(values)
}

/// A change with its values in the form in which they are read back, so that they compare. What is refused stays as it is.
pub fn as_stored(forms: &impl Forms, change: &Change) -> Change {
    let rtype = change.rtype.to_ascii_uppercase();
    let name = names::canonical(&change.name).unwrap_or_else(|_| change.name.clone());
    let data = |data: &str| forms.value(&name, &rtype, data).unwrap_or_else(|_| data.to_owned());
    let values = |list: &[Value]| list.iter().map(|v| Value { data: data(&v.data), ..v.clone() }).collect();
    let edit = match &change.edit {
        Edit::AddValues(list) => Edit::AddValues(values(list)),
        Edit::Replace(list) => Edit::Replace(values(list)),
        Edit::RemoveValues(list) => Edit::RemoveValues(list.iter().map(|d| data(d)).collect()),
        Edit::Delete => Edit::Delete,
    };
    let expect = change.expect.as_ref().map(|list| list.iter().map(|d| data(d)).collect());
    Change { edit, expect, ..change.clone() }
}

/// An MX in canonical form: a priority and a host.
///
/// # Errors
/// It is something else.
pub fn mx(data: &str) -> Result<String, Problem> {
    let parts: Vec<&str> = data.split_whitespace().collect();
    let [priority, host] = parts.as_slice() else {
        return Err(refused(format!("`{data}` is not a priority and a host name, and an MX record holds those.")));
    };
    let priority: u16 =
        priority.parse().map_err(|_| refused(format!("`{priority}` is not a priority: a number from 0 to 65535.")))?;
    Ok(format!("{priority} {}", names::canonical(host).map_err(refused)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        batch::{Batch, Held, Set},
        dns::ProblemAction,
    };

    /// A provider that has no name with a `+`, no value `192.0.2.66`, and TTLs from a minute to a day.
    struct Picky;

    impl Forms for Picky {
        fn ttls(&self) -> Ttls {
            Ttls { default: None, min: 60, max: 86_400 }
        }

        fn name(&self, _zone: &str, name: &str, _rtype: &str) -> Result<(), Problem> {
            if name.contains('+') { Err(Problem::fix_input("name", "No `+`.")) } else { Ok(()) }
        }

        fn value(&self, _name: &str, rtype: &str, data: &str) -> Result<String, Problem> {
            match (rtype, data) {
                ("A", "192.0.2.66") => Err(refused("Not this one.")),
                ("MX", _) => mx(data),
                _ => names::canonical_data(rtype, data).map_err(refused),
            }
        }
    }

    fn can(max_values: u32) -> Capabilities {
        Capabilities {
            types: ["A", "AAAA", "CNAME", "MX", "PTR"].map(String::from).to_vec(),
            max_values,
            max_changes: 0,
            atomic: false,
            native_merge: false,
            conditional: false,
            owner_per_value: false,
            owner_per_rrset: false,
            owner_max_bytes: 0,
            parallel_per_zone: 1,
            parallel_per_server: 1,
            asynchronous: false,
            reverse_only: false,
            ext: Vec::new(),
        }
    }

    fn set(name: &str, rtype: &str, ttl: Option<u32>, values: &[&str]) -> Rrset {
        let values = values.iter().map(|v| Value::new(*v)).collect();
        Rrset { name: name.into(), rtype: rtype.into(), ttl, values, owner: None, version: None, ext: Vec::new() }
    }

    fn judge(set: Rrset) -> Verdict {
        verdict(&Picky, &can(2), "example.test.", set)
    }

    #[test]
    fn what_is_canonical_and_within_the_limits_is_ok_as_it_is() {
        for good in [
            set("a.example.test.", "AAAA", Some(300), &["2001:db8::1"]),
            set("example.test.", "MX", None, &["10 mx.example.test.", "20 mx.example.test."]),
            set("*.example.test.", "A", Some(60), &[]),
        ] {
            assert_eq!(judge(good.clone()), Verdict::Ok(good));
        }
    }

    #[test]
    fn spelling_ttl_and_doubles_are_adjusted_each_with_its_reason() {
        let Verdict::Adjusted((other, why)) =
            judge(set("A.example.test", "aaaa", Some(1), &["2001:DB8::0:1", "2001:db8::1"]))
        else {
            panic!("not adjusted");
        };
        assert_eq!(other, set("a.example.test.", "AAAA", Some(60), &["2001:db8::1"]));
        for words in ["final dot", "capitals", "60 to 86400 seconds, or is automatic", "stored as", "stored once"] {
            assert!(why.contains(words), "{words} is missing in: {why}");
        }
    }

    #[test]
    fn what_the_provider_would_not_take_is_refused_by_what_is_wrong() {
        for (bad, code) in [
            (set("a..example.test.", "A", None, &[]), "name"),
            (set("a+b.example.test.", "A", None, &["192.0.2.1"]), "name"),
            (set("a.notexample.test.", "A", None, &["192.0.2.1"]), "out-of-zone"),
            (set("a.example.test.", "TYPE65280", None, &["x"]), "type"),
            (set("a.example.test.", "A", None, &["192.0.2.66"]), "value"),
            (set("a.example.test.", "MX", None, &["mx.example.test."]), "value"),
            (set("a.example.test.", "MX", None, &["70000 mx.example.test."]), "value"),
            (set("a.example.test.", "CNAME", None, &["b.test.", "c.test."]), "values"),
            (set("a.example.test.", "A", None, &["192.0.2.1", "192.0.2.2", "192.0.2.3"]), "values"),
        ] {
            let Verdict::Refused(problem) = judge(bad.clone()) else { panic!("{bad:?} was not refused") };
            assert_eq!((problem.action, problem.code.as_str()), (ProblemAction::FixInput, code), "{bad:?}");
        }
    }

    fn change(rtype: &str, edit: Edit) -> Change {
        Change {
            id: 1,
            name: "A.example.test.".into(),
            rtype: rtype.into(),
            ttl: None,
            edit,
            expect: Some(vec!["2001:DB8::1".into()]),
            owner: None,
            ext: Vec::new(),
        }
    }

    #[test]
    fn a_change_is_put_into_the_form_that_is_read_back() {
        let stored = as_stored(&Picky, &change("aaaa", Edit::RemoveValues(vec!["2001:DB8::2".into(), "no".into()])));
        assert_eq!(stored.edit, Edit::RemoveValues(vec!["2001:db8::2".into(), "no".into()]));
        assert_eq!(stored.expect, Some(vec!["2001:db8::1".into()]));
        let stored = as_stored(&Picky, &change("aaaa", Edit::AddValues(vec![Value::new("2001:DB8::2")])));
        assert_eq!(stored.edit, Edit::AddValues(vec![Value::new("2001:db8::2")]));
    }

    #[test]
    fn only_what_comes_is_refused_and_what_goes_may_go() {
        let refused = |rtype: &str, there: &[&str], edit: Edit| {
            let held = there.iter().map(|data| Held { data: (*data).into(), ttl: Some(60), ..Held::default() });
            let there = [Set { name: "a.example.test.".into(), rtype: rtype.into(), held: held.collect() }];
            let asked = Change { expect: None, ..change(rtype, edit) };
            let batch = Batch::new("example.test.", &there, &[asked], &Ttls::default()).unwrap();
            refusal(&Picky, &["A"], "example.test.", batch.changed()[0]).map(|problem| problem.code)
        };
        let add = |data: &str| Edit::AddValues(vec![Value::new(data)]);
        assert_eq!(refused("A", &[], add("192.0.2.1")), None);
        assert_eq!(refused("A", &[], add("192.0.2.66")).as_deref(), Some("value"));
        assert_eq!(refused("AAAA", &[], add("2001:db8::1")).as_deref(), Some("type"));
        assert_eq!(refused("A", &["192.0.2.66"], Edit::Delete), None);
        assert_eq!(refused("AAAA", &["2001:db8::1"], Edit::Delete), None);
    }
}
