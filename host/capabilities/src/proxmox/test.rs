//! The admin's Test of a server: what works, what doesn't, and what to do about it.

use serde::Serialize;

use super::{
    Servers,
    client::{Client, PveError, text},
};

/// Privileges that deploy and terminate need, by path. What `packaging/proxmox-role.sh` grants is held to this list.
pub const NEEDED: [(&str, &[&str]); 5] = [
    (
        "/vms",
        &[
            "VM.Allocate",
            "VM.Audit",
            "VM.Clone",
            "VM.Config.CDROM",
            "VM.Config.CPU",
            "VM.Config.Cloudinit",
            "VM.Config.Disk",
            "VM.Config.HWType",
            "VM.Config.Memory",
            "VM.Config.Network",
            "VM.Config.Options",
            "VM.Migrate",
            "VM.PowerMgmt",
            "VM.Backup",
        ],
    ),
    ("/storage", &["Datastore.AllocateSpace", "Datastore.Audit"]),
    ("/nodes", &["Sys.Audit"]),
    // Quorum and the cluster's firewall options.
    ("/", &["Sys.Audit"]),
    // Each bridge that a VM is put on.
    ("/sdn/zones", &["SDN.Use"]),
];
/// What may be granted for some of its members only: which ones a plan names is not known here.
const BY_MEMBER: [&str; 2] = ["/storage", "/sdn/zones"];

/// One line of the test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TestLine {
    /// "reach", "credentials", "permissions", "nodes", "storages".
    pub step: String,
    pub ok: bool,
    pub detail: String,
    /// Empty when ok.
    pub remedy: String,
}

fn line(step: &str, ok: bool, detail: impl Into<String>, remedy: impl Into<String>) -> TestLine {
    TestLine { step: step.into(), ok, detail: detail.into(), remedy: remedy.into() }
}

impl Servers {
    /// Tries a server from reachability to permissions, stops at the first thing that makes the rest pointless. A pass
    /// ends its parking.
    pub async fn test(&self, name: &str) -> Vec<TestLine> {
        let client = match self.client(name).await {
            Ok(client) => client,
            Err(error) => return vec![line("settings", false, error.to_string(), "mend the server's settings")],
        };
        let mut lines = Vec::new();
        match client.get_even_parked("/version", &[], true).await {
            Ok(version) => {
                client.unpark();
                lines.push(line("reach", true, format!("Proxmox VE {}", text(&version, "version")), ""));
                lines.push(line("credentials", true, format!("the token {} is accepted", client.config.token_id), ""));
            }
            Err(PveError::Unauthorized(text)) => {
                lines.push(line("reach", true, "the server answers", ""));
                let remedy = "check token id (user@realm!name) and secret; the token must exist and not be expired";
                lines.push(line("credentials", false, text, remedy));
                return lines;
            }
            Err(error) => {
                let remedy =
                    "check URL and port (8006), the firewall in between, and the certificate's fingerprint or CA";
                lines.push(line("reach", false, error.to_string(), remedy));
                return lines;
            }
        }
        lines.push(permissions(&client).await);
        match client.resources(true).await {
            Ok(resources) if resources.nodes.is_empty() => {
                lines.push(line("nodes", false, "the token sees no node", "give it Sys.Audit on /nodes"));
            }
            Ok(resources) => {
                let offline: Vec<&str> =
                    resources.nodes.iter().filter(|n| !n.online).map(|n| n.name.as_str()).collect();
                let detail = format!("{} nodes, {} storages", resources.nodes.len(), resources.storages.len());
                if offline.is_empty() {
                    lines.push(line("nodes", true, detail, ""));
                } else {
                    lines.push(line(
                        "nodes",
                        false,
                        format!("offline: {}", offline.join(", ")),
                        "bring the node back; VMs on it wait",
                    ));
                }
                if resources.storages.is_empty() {
                    lines.push(line(
                        "storages",
                        false,
                        "the token sees no storage",
                        "give it Datastore.Audit on /storage",
                    ));
                }
            }
            Err(error) => lines.push(line(
                "nodes",
                false,
                error.to_string(),
                "give the token Sys.Audit on /nodes and VM.Audit on /vms",
            )),
        }
        lines
    }
}

async fn permissions(client: &Client) -> TestLine {
    let held = match client.get("/access/permissions", &[]).await {
        Ok(held) => held,
        Err(error) => return line("permissions", false, error.to_string(), "test again"),
    };
    let mut missing = Vec::new();
    for (path, privileges) in NEEDED {
        for privilege in privileges {
            if !grants(&held, path, privilege) {
                missing.push(format!("{privilege} on {path}"));
            }
        }
    }
    if missing.is_empty() {
        line("permissions", true, "all that deploy and terminate need", "")
    } else {
        let remedy = "add them to the role of the token and of its user: a token with privilege separation needs both";
        line("permissions", false, format!("missing: {}", missing.join(", ")), remedy)
    }
}

/// Whether what the server says is held ({path: {privilege: 1 = handed down, 0 = there only}}) has it: there, from above, or
/// below where that will do.
fn grants(held: &serde_json::Value, path: &str, privilege: &str) -> bool {
    let Some(held) = held.as_object() else { return false };
    held.iter().any(|(at, privileges)| {
        let handed_down = privileges.get(privilege).and_then(serde_json::Value::as_u64);
        let within = |inner: &str, outer: &str| {
            let rest = inner.strip_prefix(outer.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.starts_with('/') && rest.len() > 1)
        };
        match handed_down {
            Some(0 | 1) if at == path => true,
            Some(1) if within(path, at) => true,
            Some(0 | 1) => BY_MEMBER.contains(&path) && within(at, path),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::grants;

    #[test]
    fn a_privilege_counts_where_it_holds() {
        let held = json!({
            "/": {"Sys.Audit": 0},
            "/vms": {"VM.Clone": 1},
            "/storage/local-lvm": {"Datastore.Audit": 1},
            "/sdn": {"SDN.Use": 1},
        });
        assert!(grants(&held, "/", "Sys.Audit") && grants(&held, "/vms", "VM.Clone"));
        assert!(!grants(&held, "/nodes", "Sys.Audit"), "it was not handed down");
        assert!(!grants(&held, "/", "VM.Clone"), "nor up");
        assert!(grants(&held, "/sdn/zones", "SDN.Use"), "it was handed down");
        assert!(grants(&held, "/storage", "Datastore.Audit"), "one storage will do");
        assert!(!grants(&held, "/storage", "Datastore.AllocateSpace"));
        assert!(!grants(&json!({"/vms/100": {"VM.Audit": 1}}), "/vms", "VM.Audit"), "one VM won't");
        assert!(grants(&json!({"/": {"VM.Audit": 1}}), "/vms", "VM.Audit"));
    }
}
