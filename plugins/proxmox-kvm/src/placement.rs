//! Where a VM is cloned and where it ends up. Pure: nodes, storages and templates in, candidates out, best first.
//!
//! The target is the plan's node, or the nodes with the storage at hand by most free RAM (promised RAM counts as used).
//! For each target the template is taken that needs no migration, where there is one. When no node suits, the VM stays
//! on the template's node and the deployment goes on.

use crate::host::{Node, Storage, Template};

/// A template with what a look at it said.
#[derive(Debug, Clone)]
pub struct Source {
    pub template: Template,
    /// All of its volumes (the cloud-init drive too) stand on shared storage, so `target` may be given.
    pub movable: bool,
    /// Size of its system disk, MiB; 0 = not said.
    pub disk_mib: u32,
}

/// What the VM needs.
#[derive(Debug, Clone, Default)]
pub struct Need<'a> {
    pub memory_mib: u32,
    /// Of the system disk; 0 = the template's size.
    pub system_mib: u32,
    pub additional_mib: u32,
    /// A named system disk storage.
    pub storage: Option<&'a str>,
    /// Additional disk's storage; none = the system disk's.
    pub additional_storage: Option<&'a str>,
    pub linked: bool,
    pub migration: bool,
    /// A named node.
    pub node: Option<&'a str>,
}

/// One way to do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    pub template: u32,
    /// Options of the clone.
    pub options: Vec<(String, String)>,
    /// Node where the VM ends up, and the storage of its system disk there.
    pub node: String,
    pub storage: String,
    /// Node to migrate to after the clone.
    pub migrate_to: Option<String>,
    /// Room to set aside on `storage`, MiB.
    pub disk_mib: u32,
    /// No node suits: this is where it stays.
    pub stays: bool,
    pub reason: String,
}

/// A storage that a node can put VM disks on.
pub fn holds_images<'a>(storages: &'a [Storage], name: &str, node: &str) -> Option<&'a Storage> {
    storages.iter().find(|s| s.name == name && s.node == node && s.active && s.content.iter().any(|c| c == "images"))
}

fn free_mib(storage: &Storage) -> u32 {
    storage.free_mib.saturating_sub(storage.promised_mib)
}

/// RAM that is neither used nor promised, MiB.
pub fn free_memory_mib(node: &Node) -> u32 {
    node.memory_total_mib.saturating_sub(node.memory_used_mib).saturating_sub(node.promised_mib)
}

/// The storage with the most room for disks on a node.
pub fn roomiest<'a>(storages: &'a [Storage], node: &str) -> Option<&'a Storage> {
    storages
        .iter()
        .filter(|s| s.node == node && s.active && s.content.iter().any(|c| c == "images"))
        .max_by(|a, b| free_mib(a).cmp(&free_mib(b)).then(b.name.cmp(&a.name)))
}

/// All ways, best first. Empty when no template's node is online, or no storage has room.
pub fn choices(need: &Need<'_>, sources: &[Source], nodes: &[Node], storages: &[Storage]) -> Vec<Choice> {
    let mut online: Vec<&Node> = nodes.iter().filter(|n| n.online).collect();
    online.sort_by(|a, b| free_memory_mib(b).cmp(&free_memory_mib(a)).then(a.name.cmp(&b.name)));
    let is_online = |name: &str| online.iter().any(|n| n.name == name);
    let targets: Vec<&Node> = online
        .iter()
        .copied()
        .filter(|n| need.node.map_or(free_memory_mib(n) >= need.memory_mib, |named| n.name == named))
        .collect();

    let mut found: Vec<(u8, u32, Choice)> = Vec::new();
    for target in targets {
        let best = sources
            .iter()
            .filter(|s| is_online(&s.template.node))
            .filter_map(|source| route(need, source, &target.name, storages))
            .min_by_key(|(rank, choice)| (*rank, choice.template));
        if let Some((rank, choice)) = best {
            found.push((rank, free_memory_mib(target), choice));
        }
    }
    // Most free RAM first; of nodes with as much, the one that needs no migration.
    found.sort_by(|(ra, fa, a), (rb, fb, b)| fb.cmp(fa).then(ra.cmp(rb)).then(a.node.cmp(&b.node)));
    let mut all: Vec<Choice> = found.into_iter().map(|(_, _, choice)| choice).collect();

    let why = match need.node {
        Some(node) if !is_online(node) => format!("node {node} is not online"),
        Some(node) => {
            format!("node {node} can't take it (storage, or the template can't get there)")
        }
        None => "no node has the RAM and the storage".to_owned(),
    };
    for source in sources.iter().filter(|s| is_online(&s.template.node)) {
        if let Some((_, mut choice)) = local(need, source, &source.template.node, storages, false) {
            choice.stays = true;
            choice.reason = format!("no suitable node: {why}; it stays on {}", choice.node);
            if !all.iter().any(|c| c.template == choice.template && c.node == choice.node) {
                all.push(choice);
            }
        }
    }
    all
}

/// Room that the disks need on the storage of the system disk, MiB. A linked clone takes none for its base.
fn disk_need(need: &Need<'_>, source: &Source, storage: &str) -> u32 {
    let system = if need.system_mib == 0 { source.disk_mib } else { need.system_mib.max(source.disk_mib) };
    let system = if need.linked { system.saturating_sub(source.disk_mib) } else { system };
    let beside = need.additional_storage.is_none_or(|name| name == storage);
    system.saturating_add(if beside { need.additional_mib } else { 0 })
}

/// Storage of the system disk on this node: the named one, else the template's, else (after a migration) any with room.
fn storage_there(need: &Need<'_>, source: &Source, node: &str, storages: &[Storage], strict: bool) -> Option<String> {
    let fits = |storage: &Storage| free_mib(storage) >= disk_need(need, source, &storage.name);
    if need.linked {
        return holds_images(storages, &source.template.storage, node).filter(|s| fits(s)).map(|s| s.name.clone());
    }
    let named = need.storage.and_then(|name| holds_images(storages, name, node)).filter(|s| fits(s));
    if named.is_some() || (need.storage.is_some() && strict) {
        return named.map(|s| s.name.clone());
    }
    holds_images(storages, &source.template.storage, node)
        .filter(|s| fits(s))
        .or_else(|| roomiest(storages, node).filter(|s| fits(s)))
        .map(|s| s.name.clone())
}

/// A clone on the template's own node.
fn local(need: &Need<'_>, source: &Source, node: &str, storages: &[Storage], strict: bool) -> Option<(u8, Choice)> {
    let storage = storage_there(need, source, node, storages, strict)?;
    let options = if !need.linked && storage != source.template.storage {
        vec![("storage".to_owned(), storage.clone())]
    } else {
        Vec::new()
    };
    let choice = Choice {
        template: source.template.number,
        options,
        node: node.to_owned(),
        disk_mib: disk_need(need, source, &storage),
        storage,
        migrate_to: None,
        stays: false,
        reason: format!("template {} is at hand on {node}", source.template.number),
    };
    Some((0, choice))
}

/// The best way to bring this template to this node: 0 = it is there, 1 = cloned over shared storage, 2 = migrated.
fn route(need: &Need<'_>, source: &Source, target: &str, storages: &[Storage]) -> Option<(u8, Choice)> {
    let template = &source.template;
    if template.node == target {
        return local(need, source, target, storages, true);
    }
    let storage = storage_there(need, source, target, storages, true)?;
    let disk_mib = disk_need(need, source, &storage);
    let shared = |name: &str| holds_images(storages, name, target).is_some_and(|s| s.shared);
    let choice = |options: Vec<(String, String)>, migrate_to: Option<String>, reason: String| Choice {
        template: template.number,
        options,
        node: target.to_owned(),
        storage: storage.clone(),
        migrate_to,
        disk_mib,
        stays: false,
        reason,
    };
    if source.movable && shared(&template.storage) && (need.linked || shared(&storage)) {
        let mut options = vec![("target".to_owned(), target.to_owned())];
        if !need.linked && storage != template.storage {
            options.push(("storage".to_owned(), storage.clone()));
        }
        return Some((1, choice(options, None, format!("shared storage lets it be cloned to {target} at once"))));
    }
    let stuck_to_base = need.linked && !shared(&template.storage);
    if !need.migration || stuck_to_base {
        return None;
    }
    // The clone is made on the template's node: on the named storage if that is there too, else on its own.
    let options = need
        .storage
        .filter(|name| {
            !need.linked && *name != template.storage && holds_images(storages, name, &template.node).is_some()
        })
        .map(|name| vec![("storage".to_owned(), name.to_owned())])
        .unwrap_or_default();
    Some((2, choice(options, Some(target.to_owned()), format!("cloned on {} and migrated to {target}", template.node))))
}

/// Mapping for an offline migration: `a:b` for each storage that has to change; empty when none has to.
pub fn storage_mapping(
    used: &[&str],
    system: &str,
    wanted: Option<&str>,
    target: &str,
    storages: &[Storage],
) -> Result<String, String> {
    let mut map: Vec<(String, String)> = Vec::new();
    for name in used {
        if map.iter().any(|(from, _)| from == name) {
            continue;
        }
        let there = holds_images(storages, name, target);
        if there.is_some_and(|s| s.shared) {
            continue;
        }
        // The system disk's storage and whatever shares it (the cloud-init drive) go to the plan's storage.
        let to = wanted
            .filter(|_| *name == system)
            .and_then(|w| holds_images(storages, w, target))
            .or(there)
            .or_else(|| wanted.and_then(|w| holds_images(storages, w, target)))
            .or_else(|| roomiest(storages, target))
            .ok_or_else(|| format!("node {target} has no active storage for VM disks"))?;
        if to.name != *name {
            map.push(((*name).to_owned(), to.name.clone()));
        }
    }
    Ok(map.iter().map(|(from, to)| format!("{from}:{to}")).collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, free: u32) -> Node {
        Node {
            name: name.into(),
            online: true,
            memory_total_mib: 100_000,
            memory_used_mib: 100_000 - free,
            promised_mib: 0,
            cpus: 8,
            ext: Vec::new(),
        }
    }

    fn storage(name: &str, node: &str, shared: bool) -> Storage {
        Storage {
            name: name.into(),
            node: node.into(),
            kind: "dir".into(),
            shared,
            active: true,
            content: vec!["images".into()],
            total_mib: 1_000_000,
            free_mib: 500_000,
            promised_mib: 0,
            ext: Vec::new(),
        }
    }

    fn source(number: u32, node: &str, storage: &str, shared: bool) -> Source {
        Source {
            template: Template { number, node: node.into(), storage: storage.into(), shared, ext: Vec::new() },
            movable: shared,
            disk_mib: 2048,
        }
    }

    fn storages() -> Vec<Storage> {
        ["a", "b", "c"].iter().flat_map(|n| [storage("local", n, false), storage("nfs", n, true)]).collect()
    }

    fn need() -> Need<'static> {
        Need { memory_mib: 1024, migration: true, ..Need::default() }
    }

    fn first(need: &Need<'_>, sources: &[Source], nodes: &[Node]) -> Choice {
        choices(need, sources, nodes, &storages()).into_iter().next().unwrap()
    }

    const NONE: Vec<(String, String)> = Vec::new();

    #[test]
    fn automatic_takes_the_node_with_the_most_free_ram() {
        let nodes = [node("a", 5000), node("b", 9000), node("c", 7000)];
        let choice = first(&need(), &[source(9000, "a", "local", false)], &nodes);
        assert_eq!((choice.node.as_str(), choice.migrate_to.as_deref()), ("b", Some("b")));
        let mut promised = nodes.clone();
        promised[1].promised_mib = 5000;
        assert_eq!(first(&need(), &[source(9000, "a", "local", false)], &promised).node, "c");
    }

    #[test]
    fn of_equal_nodes_the_one_without_migration_wins() {
        let nodes = [node("a", 5000), node("b", 5000), node("c", 5000)];
        let choice = first(&need(), &[source(9000, "c", "local", false)], &nodes);
        assert_eq!((choice.node.as_str(), choice.migrate_to), ("c", None));
    }

    #[test]
    fn a_template_at_hand_on_the_target_saves_the_migration() {
        let nodes = [node("a", 5000), node("b", 9000)];
        let choice = first(&need(), &[source(9000, "a", "local", false), source(9001, "b", "local", false)], &nodes);
        assert_eq!((choice.template, choice.migrate_to, choice.options), (9001, None, NONE));
    }

    #[test]
    fn shared_storage_is_cloned_to_the_target_at_once() {
        let nodes = [node("a", 5000), node("b", 9000)];
        let choice = first(&need(), &[source(9000, "a", "nfs", true)], &nodes);
        assert_eq!((choice.node.as_str(), choice.migrate_to), ("b", None));
        assert_eq!(choice.options, vec![("target".to_owned(), "b".to_owned())]);
    }

    #[test]
    fn a_cloud_init_drive_on_local_storage_forbids_the_target_option() {
        let nodes = [node("a", 5000), node("b", 9000)];
        let mut template = source(9000, "a", "nfs", true);
        template.movable = false;
        assert_eq!(first(&need(), &[template], &nodes).migrate_to.as_deref(), Some("b"));
    }

    #[test]
    fn a_linked_clone_on_local_storage_stays_with_its_base() {
        let nodes = [node("a", 5000), node("b", 9000)];
        let linked = Need { linked: true, storage: Some("nfs"), ..need() };
        let choice = first(&linked, &[source(9000, "a", "local", false)], &nodes);
        assert_eq!((choice.node.as_str(), choice.migrate_to, choice.stays, choice.options), ("a", None, false, NONE));
        let named = Need { node: Some("b"), ..linked };
        let choice = first(&named, &[source(9000, "a", "local", false)], &nodes);
        assert!(choice.stays && choice.node == "a" && choice.reason.contains("node b"), "{choice:?}");
    }

    #[test]
    fn a_named_node_that_is_offline_leaves_the_vm_where_the_template_is() {
        let mut nodes = [node("a", 5000), node("b", 9000)];
        nodes[1].online = false;
        let choice = first(&Need { node: Some("b"), ..need() }, &[source(9000, "a", "local", false)], &nodes);
        assert!(choice.stays && choice.reason.contains("not online"), "{choice:?}");
    }

    #[test]
    fn without_migration_only_nodes_with_the_template_count() {
        let nodes = [node("a", 5000), node("b", 9000)];
        let choice = first(&Need { migration: false, ..need() }, &[source(9000, "a", "local", false)], &nodes);
        assert_eq!((choice.node.as_str(), choice.stays), ("a", false));
    }

    #[test]
    fn no_ram_anywhere_still_clones_on_the_templates_node() {
        let nodes = [node("a", 500), node("b", 900)];
        let choice = first(&need(), &[source(9000, "a", "local", false)], &nodes);
        assert!(choice.stays, "{choice:?}");
    }

    #[test]
    fn full_storages_leave_no_choice() {
        let mut full = storages();
        for s in &mut full {
            s.free_mib = 100;
        }
        assert!(choices(&need(), &[source(9000, "a", "local", false)], &[node("a", 5000)], &full).is_empty());
    }

    #[test]
    fn a_full_clone_goes_to_the_named_storage() {
        let nodes = [node("a", 5000)];
        let choice = first(&Need { storage: Some("nfs"), ..need() }, &[source(9000, "a", "local", false)], &nodes);
        assert_eq!(choice.options, vec![("storage".to_owned(), "nfs".to_owned())]);
    }

    #[test]
    fn the_mapping_names_only_what_changes() {
        let mut all = storages();
        all.push(storage("fast", "b", false));
        all.push(storage("old", "a", false));
        assert_eq!(storage_mapping(&["local", "nfs"], "local", None, "b", &all).unwrap(), "");
        assert_eq!(
            storage_mapping(&["local", "nfs", "local"], "local", Some("fast"), "b", &all).unwrap(),
            "local:fast"
        );
        assert_eq!(storage_mapping(&["old"], "old", None, "b", &all).unwrap(), "old:fast");
        assert!(storage_mapping(&["old"], "old", None, "z", &all).unwrap_err().contains("node z"));
    }
}
