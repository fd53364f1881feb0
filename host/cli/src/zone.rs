//! `wharf zone`: what providers have, how it differs from what should be, and mending that; and what others must enter.

use anyhow::{Result, ensure};
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    RemoteArguments,
    remote::{self, segment, text},
};

#[derive(Subcommand)]
pub enum ZoneCommand {
    /// The difference between what should be in a zone and what is. The exit code is 1 if there is any.
    Plan {
        /// Name of the zone in the configuration.
        zone: String,
        /// Have it mended: what is missing is written again, what is left over is removed.
        #[arg(long)]
        apply: bool,
        /// With --apply: even if a large part of our records there would be removed.
        #[arg(long, requires = "apply")]
        yes: bool,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// What whoever holds the parent of a classless reverse zone (RFC 2317) must enter: NS, and a CNAME for each address. What is not
    /// there yet is marked; the exit code is 1 if there is any.
    Parent {
        zone: String,
        #[command(flatten)]
        remote: RemoteArguments,
    },
    /// All records that the provider shows in a zone, and whose they are.
    Records {
        zone: String,
        #[command(flatten)]
        remote: RemoteArguments,
    },
}

pub async fn run(command: ZoneCommand) -> Result<()> {
    match command {
        ZoneCommand::Plan { zone, apply: false, remote, .. } => {
            let plan = remote::get(&remote, &format!("/v1/admin/zones/{}/plan", segment(&zone)), &[]).await?;
            show(&plan);
            ensure!(list(&plan, "differences").is_empty(), "the zone is not as it should be: --apply mends it");
            Ok(())
        }
        ZoneCommand::Plan { zone, apply: true, yes, remote } => {
            let body = serde_json::to_vec(&json!({ "removals": yes }))?;
            let path = format!("/v1/admin/zones/{}/repair", segment(&zone));
            let said = remote::call(&remote, Method::POST, &path, &[], Some(("application/json", body))).await?;
            let said: Value = serde_json::from_str(&said)?;
            show(said.get("plan").unwrap_or(&Value::Null));
            let number =
                |key: &str| said.pointer(&format!("/repair/{key}")).and_then(Value::as_u64).unwrap_or_default();
            println!(
                "{} records are looked at again and {} tried at once; `wharf zone plan {zone}` says when all is done",
                number("rechecked"),
                number("hurried")
            );
            Ok(())
        }
        ZoneCommand::Parent { zone, remote } => {
            let plan = remote::get(&remote, &format!("/v1/admin/zones/{}/parent", segment(&zone)), &[]).await?;
            let records = list(&plan, "records");
            // As a zone file has it, so that it can be handed on.
            println!(
                "; {} for {}, to be entered in {}",
                text(&plan, "/covers"),
                text(&plan, "/dns_zone"),
                text(&plan, "/parent")
            );
            for record in records {
                let note = match record.get("present").and_then(Value::as_bool) {
                    Some(true) => "",
                    Some(false) => "\t; missing",
                    None => "\t; nobody answered",
                };
                println!("{}\tIN\t{}\t{}{note}", text(record, "/name"), text(record, "/rtype"), text(record, "/value"));
            }
            let there = |record: &&Value| record.get("present").and_then(Value::as_bool) == Some(true);
            ensure!(records.iter().all(|r| there(&r)), "not all of it is there");
            Ok(())
        }
        ZoneCommand::Records { zone, remote } => {
            let all = remote::get(&remote, &format!("/v1/admin/zones/{}/records", segment(&zone)), &[]).await?;
            for set in list(&all, "sets") {
                let ttl =
                    set.get("ttl").and_then(Value::as_u64).map_or_else(|| "auto".to_owned(), |ttl| ttl.to_string());
                for value in list(set, "values") {
                    let whose = value.get("subject").and_then(Value::as_str).map(|s| format!("  # {s}"));
                    let (name, rtype, data) = (text(set, "/name"), text(set, "/rtype"), text(value, "/data"));
                    println!("{name}\t{ttl}\t{rtype}\t{data}{}", whose.unwrap_or_default());
                }
            }
            if all.get("complete").and_then(Value::as_bool) != Some(true) {
                eprintln!("the provider did not show everything");
            }
            Ok(())
        }
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn show(plan: &Value) {
    for one in list(plan, "differences") {
        let whose = one.get("subject").and_then(Value::as_str).unwrap_or("a service that is gone");
        let reason = one.get("reason").and_then(Value::as_str).map(|r| format!(": {r}")).unwrap_or_default();
        println!(
            "{:<9}  {} {} {}  ({whose}){reason}",
            text(one, "/what"),
            text(one, "/name"),
            text(one, "/rtype"),
            text(one, "/value")
        );
    }
    for set in list(plan, "beside") {
        let values: Vec<&str> = list(set, "values").iter().filter_map(Value::as_str).collect();
        println!("beside ours  {} {} {}  (not touched)", text(set, "/name"), text(set, "/rtype"), values.join(", "));
    }
    let number = |key: &str| plan.get(key).and_then(Value::as_u64).unwrap_or_default();
    println!("{} of {} records are there, by {}", number("present"), number("wanted"), text(plan, "/plugin"));
    if plan.get("complete").and_then(Value::as_bool) != Some(true) {
        println!("the provider did not show everything: what is not seen is not said to be missing");
    }
}

/// `wharf service set-names` and `wharf service ptr`: what was said, and what an admin should know about it.
async fn said(remote: &RemoteArguments, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<()> {
    let body = body.map(|body| ("application/json", body));
    let said: Value = serde_json::from_str(&remote::call(remote, method, path, &[], body).await?)?;
    println!("{}", said_line(&said));
    for warning in list(&said, "warnings").iter().filter_map(Value::as_str) {
        println!("    {warning}");
    }
    for name in list(&said, "homeless").iter().filter_map(Value::as_str) {
        println!("    no zone holds {name}: it is written nowhere");
    }
    Ok(())
}

fn said_line(said: &Value) -> String {
    let number = |key: &str| said.get(key).and_then(Value::as_u64).unwrap_or_default();
    let again = match number("rechecked") {
        0 => String::new(),
        n => format!(", {n} looked at again"),
    };
    format!("{}: {} records should be{again}; DNS follows by itself", text(said, "/name"), number("records"))
}

/// `wharf service set-names`.
pub async fn set_names(remote: &RemoteArguments, id: &str) -> Result<()> {
    said(remote, Method::POST, &format!("/v1/services/{}/names", segment(id)), None).await
}

/// `wharf service ptr`; no name = follow that of the service.
pub async fn ptr(remote: &RemoteArguments, id: &str, address: &str, name: Option<&str>) -> Result<()> {
    let path = format!("/v1/services/{}/names/{}", segment(id), segment(address));
    match name {
        Some(name) => said(remote, Method::PUT, &path, Some(serde_json::to_vec(&json!({ "name": name }))?)).await,
        None => said(remote, Method::DELETE, &path, None).await,
    }
}

/// `wharf service names`.
pub async fn names(remote: &RemoteArguments, id: &str) -> Result<()> {
    let all = remote::get(remote, &format!("/v1/services/{}/names", segment(id)), &[]).await?;
    let all = all.as_array().map(Vec::as_slice).unwrap_or_default();
    for one in all {
        let words = |key: &str| list(one, key).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        let (ptr, forward) = (words("ptr"), words("forward"));
        let arrow = |text: &str| if text.is_empty() { String::new() } else { format!(" -> {text}") };
        println!("{:<15}  {}{}{}", text(one, "/verdict"), text(one, "/address"), arrow(&ptr), arrow(&forward));
        for ours in list(one, "ours") {
            let state =
                if ours.get("written").and_then(Value::as_bool) == Some(true) { "written" } else { "not written" };
            let why = ours.get("reason").and_then(Value::as_str).map(|r| format!(": {r}")).unwrap_or_default();
            println!(
                "    ours in {}: {} {} ({state}{why})",
                text(ours, "/zone"),
                text(ours, "/name"),
                text(ours, "/value")
            );
        }
        for key in ["warning", "error"] {
            if let Some(said) = one.get(key).and_then(Value::as_str) {
                println!("    {said}");
            }
        }
    }
    ensure!(all.iter().all(|one| text(one, "/verdict") == "pass"), "not all addresses are confirmed both ways");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_of_names_stands_in_one_line() {
        let mut said = json!({"name": "vm.example.com.", "records": 4, "rechecked": 3, "warnings": [], "homeless": []});
        let expected = "vm.example.com.: 4 records should be, 3 looked at again; DNS follows by itself";
        assert_eq!(said_line(&said), expected);
        said["rechecked"] = json!(0);
        assert_eq!(said_line(&said), "vm.example.com.: 4 records should be; DNS follows by itself");
    }
}
