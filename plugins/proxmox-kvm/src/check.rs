//! Refuses a plan that can't work, when it is saved, with the field and the remedy.
//!
//! What can't be seen (a node that does not answer) is a warning, never a reason to refuse.

use wharf_sdk::provisioner::prelude::Finding;

use crate::host::{Failure, Server, Storage, Template};
use crate::settings::Settings;
use crate::{disks, naming};

/// Templates of an image by its name, or by the number of one of them.
pub fn templates<S: Server + ?Sized>(server: &S, image: &str) -> Result<Vec<Template>, Failure> {
    let found = server.image(image)?;
    let Ok(number) = image.trim().parse::<u32>() else {
        return Ok(found);
    };
    if !found.is_empty() {
        return Ok(found);
    }
    for name in server.images()? {
        let of_image = server.image(&name)?;
        if of_image.iter().any(|t| t.number == number) {
            return Ok(of_image);
        }
    }
    Ok(Vec::new())
}

fn finding(field: &str, fatal: bool, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding { field: field.into(), message: message.into(), remedy: remedy.into(), fatal, ext: Vec::new() }
}

/// Everything that is wrong with a plan on this server.
pub fn check<S: Server + ?Sized>(server: &S, json: &str) -> Vec<Finding> {
    let settings: Settings = match serde_json::from_str(json) {
        Ok(settings) => settings,
        Err(e) => {
            return vec![finding(
                "",
                true,
                format!("The settings can't be read: {e}."),
                "Correct the field that is named.",
            )];
        }
    };
    let mut out = Vec::new();
    alone(&settings, &mut out);
    if let Err(failure) = with_server(server, &settings, &mut out) {
        out.push(finding(
            "",
            false,
            format!("The server could not be asked: {}", failure.message),
            "Test the server's connection, then save the plan again.",
        ));
    }
    out
}

/// What can be said without the server.
fn alone(s: &Settings, out: &mut Vec<Finding>) {
    if s.first_vm_id < 100 {
        out.push(finding("/first-vm-id", true, "Proxmox keeps the numbers 0 to 99 for itself.", "Choose 100 or more."));
    }
    if s.vlan > 4094 {
        out.push(finding("/vlan", true, format!("There is no VLAN {}.", s.vlan), "Choose 1 to 4094, or 0 for none."));
    }
    if s.anti_spoofing && s.any_dhcp() {
        out.push(finding(
            "/anti-spoofing",
            false,
            "Anti-spoofing stays off while a family is DHCP: the VM's addresses aren't known.",
            "Switch DHCP off, or anti-spoofing.",
        ));
    }
    if s.anti_spoofing && !s.firewall_enable {
        out.push(finding(
            "/firewall-enable",
            false,
            "Anti-spoofing needs the VM's firewall: it is switched on in spite of this setting.",
            "Switch the firewall on, or anti-spoofing off.",
        ));
    }
    if s.wanted_addresses() == (0, 0) && !s.any_dhcp() {
        out.push(finding(
            "/ipv4-addresses",
            false,
            "The VM gets no address of either family.",
            "Set an address count, or DHCP.",
        ));
    }
    let words = naming::Words { client_id: "1", service_id: "1", now_ms: 0, random: &[1] };
    if naming::expand(&s.vm_name_rule, &words).chars().all(|c| !c.is_ascii_alphanumeric()) {
        out.push(finding(
            "/vm-name-rule",
            true,
            "No name comes of this rule.",
            "Use macros such as {client_id}-{service_id}.",
        ));
    }
}

fn with_server<S: Server + ?Sized>(server: &S, s: &Settings, out: &mut Vec<Finding>) -> Result<(), Failure> {
    let (nodes, storages) = (server.nodes()?, server.storages()?);
    if let Some(node) = s.named_node() {
        match nodes.iter().find(|n| n.name == node) {
            None => out.push(finding(
                "/node",
                true,
                format!("The server has no node `{node}`."),
                format!("Choose one of {}, or auto.", list(nodes.iter().map(|n| n.name.as_str()))),
            )),
            Some(n) if !n.online => out.push(finding(
                "/node",
                false,
                format!("Node {node} is not online."),
                "Bring it back, or choose another.",
            )),
            Some(_) => {}
        }
    }
    known_storages(s, &storages, out);
    if s.image.is_empty() {
        out.push(finding("/image", true, "The plan has no image.", "Choose an image that is listed for the server."));
        return Ok(());
    }
    let templates = templates(server, &s.image)?;
    if templates.is_empty() {
        out.push(finding(
            "/image",
            true,
            format!("Image `{}` is not on this server.", s.image),
            format!(
                "List a template for it under Images, or choose one of {}.",
                list(server.images()?.iter().map(String::as_str))
            ),
        ));
        return Ok(());
    }
    for template in &templates {
        match server.template(template.number) {
            Ok(look) => one_template(s, template, &look, out),
            Err(failure) => out.push(finding(
                "/image",
                false,
                format!("Template {} could not be looked at: {}", template.number, failure.message),
                "Bring its node back, or take it from the image.",
            )),
        }
    }
    reach(s, &templates, &storages, out);
    if crate::firewall::enabled(s) && server.firewall_option("enable")?.as_deref() != Some("1") {
        out.push(finding(
            "/firewall-enable",
            false,
            "The cluster's firewall is off: rules and anti-spoofing have no effect.",
            "Switch it on: Datacenter > Firewall > Options.",
        ));
    }
    Ok(())
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.take(20).collect();
    if names.is_empty() { "none yet".into() } else { names.join(", ") }
}

fn known_storages(s: &Settings, storages: &[Storage], out: &mut Vec<Finding>) {
    let named = [
        ("/system-disk-storage", s.named_storage(), "images"),
        ("/additional-disk-storage", s.named_additional_storage().filter(|_| s.additional_disk > 0), "images"),
        ("/backup-storage", Some(s.backup_storage.trim()).filter(|n| !n.is_empty()), "backup"),
        ("/iso-storage", Some(s.iso_storage.trim()).filter(|n| !n.is_empty()), "iso"),
    ];
    for (field, name, content) in named {
        let Some(name) = name else { continue };
        let of_name: Vec<&Storage> = storages.iter().filter(|x| x.name == name).collect();
        let holds = |x: &&Storage| x.content.iter().any(|c| c == content);
        if of_name.is_empty() {
            let good = list(
                storages
                    .iter()
                    .filter(holds)
                    .map(|x| x.name.as_str())
                    .collect::<std::collections::BTreeSet<_>>()
                    .into_iter(),
            );
            out.push(finding(
                field,
                true,
                format!("The server has no storage `{name}`."),
                format!("Choose one of {good}."),
            ));
        } else if !of_name.iter().any(holds) {
            out.push(finding(
                field,
                true,
                format!("Storage `{name}` may not hold content `{content}`."),
                "Allow it under Datacenter > Storage, or choose another.",
            ));
        } else if content == "images"
            && s.named_node().is_some_and(|node| !of_name.iter().any(|x| x.node == node && x.active))
        {
            out.push(finding(
                field,
                true,
                format!("Storage `{name}` is not active on node {}.", s.node),
                "Choose a storage of that node, or another node.",
            ));
        }
    }
    if s.linked() && s.named_storage().is_some() {
        out.push(finding(
            "/system-disk-storage",
            false,
            "A linked clone always stays on its template's storage.",
            "Choose `auto`, or full clones.",
        ));
    }
}

fn one_template(s: &Settings, template: &Template, look: &crate::host::Look, out: &mut Vec<Finding>) {
    let number = template.number;
    if !disks::has_cloudinit(&look.config) {
        out.push(finding(
            "/image",
            true,
            format!("Template {number} has no cloud-init drive."),
            "Add one to it: Hardware > Add > CloudInit Drive.",
        ));
    }
    match disks::system_disk(&look.config) {
        Err(failure) => out.push(finding(
            "/image",
            true,
            format!("Template {number}: {}", failure.message),
            "Give the template a disk and a boot order.",
        )),
        Ok((_, drive)) => {
            let size = drive.size_mib().unwrap_or_default();
            if s.system_disk > 0 && size > s.system_disk.saturating_mul(1024) {
                out.push(finding(
                    "/system-disk",
                    true,
                    format!(
                        "Template {number}'s disk has {size} MiB, more than the plan's {} GiB: a disk never shrinks.",
                        s.system_disk
                    ),
                    "Enlarge the plan's disk, or choose a smaller template.",
                ));
            }
        }
    }
    let memory = look
        .get("memory")
        .and_then(|m| m.split(',').find_map(|p| p.strip_prefix("current=").unwrap_or(p).parse::<u32>().ok()));
    if memory.is_some_and(|m| m > s.memory_mib()) {
        out.push(finding(
            "/ram",
            true,
            format!(
                "Template {number} has {} MiB of RAM, more than the plan's {} MiB.",
                memory.unwrap_or_default(),
                s.memory_mib()
            ),
            "Give the plan more RAM, or the template less.",
        ));
    }
}

/// Whether the VM can get from where the image is to where the plan wants it.
fn reach(s: &Settings, templates: &[Template], storages: &[Storage], out: &mut Vec<Finding>) {
    let at_hand = |node: &str| {
        templates.iter().any(|t| {
            t.node == node || (t.shared && storages.iter().any(|x| x.name == t.storage && x.node == node && x.active))
        })
    };
    let movable = s.migration && (!s.linked() || templates.iter().any(|t| t.shared));
    match s.named_node() {
        Some(node) if !at_hand(node) && !movable => {
            if s.linked() && s.migration {
                out.push(finding("/clone", true, format!("A linked clone can't be migrated off local storage, and no template of `{}` is on node {node}.", s.image), format!("Choose full clones, put a template on node {node} or on shared storage, or choose the template's node.")));
            } else {
                out.push(finding(
                    "/migration",
                    true,
                    format!("No template of `{}` is on node {node}, and migration is off.", s.image),
                    format!("Switch migration on, or put a template on node {node}."),
                ));
            }
        }
        None if s.linked() && s.migration && !templates.iter().any(|t| t.shared) => {
            out.push(finding(
                "/clone",
                false,
                "Linked clones on local storage stay on their template's node: they can't be migrated.",
                "Choose full clones or a template on shared storage if VMs are to spread over all nodes.",
            ));
        }
        _ => {}
    }
}
