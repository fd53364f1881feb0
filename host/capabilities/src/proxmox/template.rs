//! What a path of the API asks for, without what it names: few enough to group by, and nothing in them that a trace must
//! not have (a task's id holds the token's id, a volume's a customer's file).

/// `/nodes/{node}/qemu/{vmid}/config`
pub(super) fn template(path: &str) -> String {
    let mut before = "";
    let mut template = String::new();
    for segment in path.trim_start_matches('/').split('/') {
        let word = !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        let part = match before {
            "nodes" => "{node}",
            "qemu" | "lxc" => "{vmid}",
            "storage" => "{storage}",
            "content" => "{volume}",
            "tasks" => "{upid}",
            "snapshot" | "pools" | "zones" | "vnets" | "users" | "token" | "domains" => "{name}",
            _ if word => segment,
            _ => "{}",
        };
        template.push('/');
        template.push_str(part);
        // What stands for a name opens nothing, even if something is named like a collection.
        before = part;
    }
    template
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_says_what_is_asked_for_and_names_nothing() {
        for (path, expected) in [
            ("/version", "/version"),
            ("/nodes", "/nodes"),
            ("/cluster/resources", "/cluster/resources"),
            ("/nodes/pve/qemu", "/nodes/{node}/qemu"),
            ("/nodes/qemu/qemu/101/status/current", "/nodes/{node}/qemu/{vmid}/status/current"),
            ("/nodes/pve1/qemu/9000/clone", "/nodes/{node}/qemu/{vmid}/clone"),
            (
                "/nodes/pve1/tasks/UPID%3Apve1%3A0000%3Awharf%40pve%21wharf%3A/status",
                "/nodes/{node}/tasks/{upid}/status",
            ),
            ("/nodes/pve1/storage/ceph/content/ceph%3Asecret.iso", "/nodes/{node}/storage/{storage}/content/{volume}"),
            ("/nodes/pve1/qemu/101/snapshot/before", "/nodes/{node}/qemu/{vmid}/snapshot/{name}"),
            ("/new/Thing7", "/new/{}"),
        ] {
            assert_eq!(template(path), expected);
        }
    }
}
