//! What this host offers of the contract, and how a component's imports and exports are held to it.
//!
//! Names *and versions* are compared here, before anything is compiled: an import without functions links silently
//! against any version, and the linker's own message names one interface of many. Every refusal is a sentence with a
//! remedy. The table is held to `wit/` by a test.

use std::collections::BTreeSet;

use semver::Version;
use serde::Serialize;
use wharf_model::manifest::{Manifest, World};

/// A name that a component imports or exports.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Name {
    /// `wharf:http/client`, or the plain name of something that is no interface.
    pub interface: String,
    pub version: Option<Version>,
}

impl Name {
    /// Splits `wharf:http/client@0.1.0`.
    pub fn parse(text: &str) -> Self {
        match text.rsplit_once('@').map(|(name, version)| (name, Version::parse(version))) {
            Some((name, Ok(version))) => Self { interface: name.to_owned(), version: Some(version) },
            _ => Self { interface: text.to_owned(), version: None },
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.version {
            Some(version) => write!(f, "{}@{version}", self.interface),
            None => f.write_str(&self.interface),
        }
    }
}

/// What an interface takes to be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// Types only: nothing is lent.
    Nothing,
    /// Nothing reaches outside of the call: comes with the world, but must stand in `wants`.
    Wish,
    /// An admin's yes.
    Grant,
}

struct Offered {
    interface: &'static str,
    version: Version,
    needs: Needs,
    worlds: &'static [World],
}

const fn at(interface: &'static str, needs: Needs, worlds: &'static [World]) -> Offered {
    Offered { interface, version: Version::new(0, 1, 0), needs, worlds }
}

const ALL: &[World] = &[World::Provisioner, World::DnsProvider, World::LifecycleHook, World::PanelAdapter];
const ACTIVE: &[World] = &[World::Provisioner, World::DnsProvider, World::LifecycleHook];
const PROVISIONER: &[World] = &[World::Provisioner];

/// Everything that can be imported, and by whom.
static OFFERED: &[Offered] = &[
    at("wharf:base/common", Needs::Nothing, ALL),
    at("wharf:base/log", Needs::Wish, ALL),
    at("wharf:base/clock", Needs::Wish, ACTIVE),
    at("wharf:base/entropy", Needs::Wish, ACTIVE),
    at("wharf:base/kv", Needs::Grant, &[World::LifecycleHook]),
    at("wharf:base/secrets", Needs::Grant, PROVISIONER),
    at("wharf:http/client", Needs::Grant, &[World::DnsProvider, World::LifecycleHook]),
    at("wharf:dns/zones", Needs::Nothing, &[World::Provisioner, World::DnsProvider]),
    at("wharf:dns/calls", Needs::Wish, &[World::DnsProvider]),
    at("wharf:dns/naming", Needs::Grant, PROVISIONER),
    at("wharf:proxmox/vms", Needs::Grant, PROVISIONER),
    at("wharf:proxmox/cluster", Needs::Grant, PROVISIONER),
    at("wharf:ipam/leases", Needs::Grant, PROVISIONER),
    at("wharf:storage/storages", Needs::Grant, PROVISIONER),
    at("wharf:provisioner/protocol", Needs::Nothing, PROVISIONER),
    at("wharf:provisioner/operations", Needs::Wish, PROVISIONER),
    at("wharf:hook/events", Needs::Wish, &[World::LifecycleHook]),
];

/// The interface that a world must export, and those that it may.
fn exports_of(world: World) -> (&'static str, &'static [&'static str]) {
    match world {
        World::Provisioner => ("wharf:provisioner/provisioning", &["wharf:provisioner/plan-check"]),
        World::DnsProvider => ("wharf:dns/provider", &["wharf:dns/zone-actions"]),
        World::LifecycleHook => ("wharf:hook/told", &["wharf:hook/asked"]),
        World::PanelAdapter => ("wharf:panel/adapter", &[]),
    }
}

/// Version of every exported interface that this host calls.
const EXPORTED: Version = Version::new(0, 1, 0);
/// The WASI that is linked, to an empty context.
const WASI_PACKAGES: [&str; 6] =
    ["wasi:cli", "wasi:clocks", "wasi:filesystem", "wasi:io", "wasi:random", "wasi:sockets"];

/// Whether two versions are of one track: what the second built on works with the first, as far as it has it.
fn same_track(a: &Version, b: &Version) -> bool {
    a.major == b.major && (a.major > 0 || a.minor == b.minor)
}

/// Whether a component has to be linked to WASI.
pub(crate) fn is_wasi(name: &Name) -> bool {
    name.interface.starts_with("wasi:")
}

/// Interfaces that it takes an admin's yes to import, of those that a manifest wants.
pub fn grantable(manifest: &Manifest) -> BTreeSet<String> {
    manifest
        .wants
        .keys()
        .filter(|name| OFFERED.iter().find(|o| o.interface == *name).is_none_or(|o| o.needs == Needs::Grant))
        .cloned()
        .collect()
}

/// What stands in the way of running a component on this host, whoever allows it: a sentence each. Empty = nothing.
pub fn problems(manifest: &Manifest, imports: &[Name], exports: &[Name]) -> Vec<String> {
    let mut found = Vec::new();
    for (interface, version) in &manifest.wants {
        if let Err(sentence) = offered(manifest.world, interface, version, None) {
            found.push(sentence);
        }
    }
    for import in imports {
        if is_wasi(import) {
            found.extend(wasi_problem(import));
            continue;
        }
        let Some(version) = &import.version else {
            found.push(format!(
                "it imports `{import}`, which is no interface of the contract: a plugin is lent `wharf:…` interfaces only, \
                 so build it for the world `{}`",
                manifest.world
            ));
            continue;
        };
        let wanted = manifest.wants.get(&import.interface);
        match offered(manifest.world, &import.interface, version, wanted) {
            // The same sentence stands there already for the manifest's wish.
            Err(_) if wanted == Some(version) => {}
            Err(sentence) => found.push(sentence),
            Ok(Needs::Nothing) => {}
            Ok(Needs::Wish | Needs::Grant) if wanted.is_some() => {}
            Ok(_) => found.push(format!(
                "it imports `{import}`, but its manifest does not list `{}` in `wants`: add it there, or leave the import out",
                import.interface
            )),
        }
    }
    let (required, _) = exports_of(manifest.world);
    match exports.iter().find(|e| e.interface == required) {
        None => found.push(format!(
            "its manifest says world `{}`, but it does not export `{required}`: build it for that world",
            manifest.world
        )),
        Some(export) => found.extend(export_problem(export, &EXPORTED)),
    }
    found
}

/// Whether it exports this optional interface in a version that this host calls.
pub(crate) fn exports(exports: &[Name], interface: &str) -> bool {
    exports.iter().any(|e| e.interface == interface && export_problem(e, &EXPORTED).is_none())
}

/// Why a host that calls one version of an interface can't call this.
fn export_problem(export: &Name, calls: &Version) -> Option<String> {
    match &export.version {
        Some(version) if same_track(version, calls) => None,
        Some(version) if version > calls => {
            Some(format!("it speaks {export}, this host {calls}: upgrade the host, or build the plugin for {calls}"))
        }
        Some(_) => Some(format!("it speaks {export}, this host {calls}: build the plugin for {calls}")),
        None => Some(format!("it exports `{export}` without a version: build it with the contract's `wit/`")),
    }
}

fn offered(world: World, interface: &str, needed: &Version, can_live_with: Option<&Version>) -> Result<Needs, String> {
    let Some(offer) = OFFERED.iter().find(|o| o.interface == interface) else {
        let package = interface.split('/').next().unwrap_or(interface);
        let known = OFFERED.iter().any(|o| o.interface.split('/').next() == Some(package));
        let remedy = if known || package.starts_with("wharf:") {
            "upgrade the host, or leave it out"
        } else {
            "a plugin is lent `wharf:…` interfaces only"
        };
        return Err(format!("it needs {interface}@{needed}, which this host does not have: {remedy}"));
    };
    if !offer.worlds.contains(&world) {
        return Err(format!("it needs {interface}, which is not lent to the world `{world}`: leave it out"));
    }
    match lag(interface, &offer.version, needed, can_live_with) {
        Some(sentence) => Err(sentence),
        None => Ok(offer.needs),
    }
}

/// Why a host that has one version of an interface can't serve who needs another.
fn lag(interface: &str, has: &Version, needed: &Version, can_live_with: Option<&Version>) -> Option<String> {
    if !same_track(has, needed) {
        let remedy = if needed > has { "upgrade the host" } else { "build the plugin against the newer contract" };
        return Some(format!("it needs {interface}@{needed}, this host has {has}: {remedy}"));
    }
    // A component names the version that it was built against; its manifest, the oldest it can live with.
    if needed > has && can_live_with.is_none_or(|oldest| oldest > has) {
        return Some(format!("it needs {interface}@{needed}, this host has {has}: upgrade the host"));
    }
    None
}

fn wasi_problem(import: &Name) -> Option<String> {
    let package = import.interface.split('/').next().unwrap_or_default();
    let served = WASI_PACKAGES.contains(&package)
        && import.version.as_ref().is_some_and(|v| v.major == 0 && v.minor == 2 && v.pre.is_empty());
    (!served).then(|| {
        format!(
            "it imports {import}, which this host does not have (it links cli, clocks, filesystem, io, random and sockets \
             of WASI 0.2, all of them empty): use the `wharf:…` interfaces instead"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(wants: serde_json::Value) -> Manifest {
        Manifest::parse(
            serde_json::json!({"id": "example", "name": "E", "version": "1.0.0", "world": "dns-provider",
                "licence": "MIT", "wants": wants})
            .to_string()
            .as_bytes(),
        )
        .unwrap()
    }

    fn names(of: &[&str]) -> Vec<Name> {
        of.iter().map(|n| Name::parse(n)).collect()
    }

    const GOOD: &str = "wharf:dns/provider@0.1.0";

    #[test]
    fn the_table_says_what_wit_says() {
        let mut resolve = wit_parser::Resolve::default();
        let (root, _) = resolve.push_dir("../../wit").unwrap();
        for (world, name) in [
            (Some(World::Provisioner), "provisioner-plus"),
            (Some(World::DnsProvider), "dns-provider-plus"),
            (Some(World::LifecycleHook), "lifecycle-hook-plus"),
            (Some(World::PanelAdapter), "panel-adapter"),
            (None, "capabilities"),
        ] {
            let id = resolve.select_world(&[root], Some(name)).unwrap();
            let imports: BTreeSet<_> =
                resolve.worlds[id].imports.keys().map(|k| Name::parse(&resolve.name_world_key(k))).collect();
            for import in &imports {
                let offer = OFFERED.iter().find(|o| o.interface == import.interface);
                let offer = offer.unwrap_or_else(|| panic!("{import} is not in the table"));
                assert_eq!(Some(&offer.version), import.version.as_ref(), "{import}");
                if let Some(world) = world {
                    assert!(offer.worlds.contains(&world), "{import} in {world}");
                }
            }
            for export in resolve.worlds[id].exports.keys().map(|k| Name::parse(&resolve.name_world_key(k))) {
                let (required, optional) = exports_of(world.unwrap());
                assert!(export.interface == required || optional.contains(&export.interface.as_str()), "{export}");
                assert_eq!(export.version, Some(EXPORTED));
            }
            if world.is_none() {
                assert_eq!(imports.len(), OFFERED.len(), "something in the table is not lent");
            }
        }
    }

    #[test]
    fn what_the_table_offers_with_functions_is_what_is_linked() {
        let linked: BTreeSet<_> =
            wharf_capabilities::OFFERED.iter().map(|(n, v)| Name::parse(&format!("{n}@{v}"))).collect();
        let offered: BTreeSet<_> = OFFERED
            .iter()
            .filter(|o| o.needs != Needs::Nothing)
            .map(|o| Name { interface: o.interface.to_owned(), version: Some(o.version.clone()) })
            .collect();
        assert_eq!(linked, offered);
    }

    #[test]
    fn an_interface_of_a_newer_track_says_upgrade_the_host() {
        let found = problems(
            &manifest(serde_json::json!({"wharf:http/client": "0.2.0"})),
            &names(&["wharf:http/client@0.2.0"]),
            &names(&[GOOD]),
        );
        assert_eq!(found, ["it needs wharf:http/client@0.2.0, this host has 0.1.0: upgrade the host"]);
    }

    #[test]
    fn an_import_without_functions_of_another_version_is_refused_too() {
        let found = problems(&manifest(serde_json::json!({})), &names(&["wharf:base/common@2.0.0"]), &names(&[GOOD]));
        assert_eq!(found, ["it needs wharf:base/common@2.0.0, this host has 0.1.0: upgrade the host"]);
    }

    #[test]
    fn a_component_built_against_a_newer_patch_loads_if_its_manifest_can_live_with_ours() {
        let newer = names(&["wharf:http/client@0.1.7"]);
        let lives = manifest(serde_json::json!({"wharf:http/client": "0.1.0"}));
        assert_eq!(problems(&lives, &newer, &names(&[GOOD])), Vec::<String>::new());
        let needs = manifest(serde_json::json!({"wharf:http/client": "0.1.7"}));
        assert_eq!(
            problems(&needs, &newer, &names(&[GOOD])),
            ["it needs wharf:http/client@0.1.7, this host has 0.1.0: upgrade the host"]
        );
    }

    #[test]
    fn a_host_that_has_grown_takes_what_was_built_before() {
        let (old, grown, other) = (Version::new(0, 1, 0), Version::new(0, 1, 1), Version::new(0, 2, 0));
        assert_eq!(lag("wharf:dns/calls", &grown, &old, None), None);
        assert_eq!(export_problem(&Name::parse(GOOD), &grown), None);
        let gone = lag("wharf:dns/calls", &other, &old, None).unwrap();
        assert!(gone.ends_with("build the plugin against the newer contract"), "{gone}");
        assert!(export_problem(&Name::parse(GOOD), &other).unwrap().ends_with("build the plugin for 0.2.0"));
    }

    #[test]
    fn an_import_that_the_manifest_does_not_want_is_refused() {
        let found = problems(&manifest(serde_json::json!({})), &names(&["wharf:http/client@0.1.0"]), &names(&[GOOD]));
        assert!(found[0].contains("`wants`"), "{found:?}");
    }

    #[test]
    fn a_world_is_lent_only_its_own() {
        let wants = manifest(serde_json::json!({"wharf:proxmox/vms": "0.1.0"}));
        assert!(problems(&wants, &[], &names(&[GOOD]))[0].contains("not lent to the world `dns-provider`"));
    }

    #[test]
    fn a_missing_export_names_the_world() {
        let found = problems(&manifest(serde_json::json!({})), &[], &names(&["wharf:hook/told@0.1.0"]));
        assert!(found[0].contains("does not export `wharf:dns/provider`"), "{found:?}");
        let found = problems(&manifest(serde_json::json!({})), &[], &names(&["wharf:dns/provider@0.2.0"]));
        assert!(found[0].contains("upgrade the host"), "{found:?}");
    }

    #[test]
    fn sockets_are_linked_and_wasi_http_is_not() {
        let none = manifest(serde_json::json!({}));
        assert!(problems(&none, &names(&["wasi:sockets/tcp@0.2.3"]), &names(&[GOOD])).is_empty());
        for other in ["wasi:http/outgoing-handler@0.2.0", "wasi:cli/environment@0.3.0", "env"] {
            assert_eq!(problems(&none, &names(&[other]), &names(&[GOOD])).len(), 1, "{other}");
        }
    }
}
