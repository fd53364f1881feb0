//! `cargo xtask wit-check`: keeps the promise that the contract makes to plugins that are already out.
//!
//! `wit/released/<package>-<version>/` holds each released package with its dependencies, readable by itself. Against
//! each of them the tree is compared, item by item, in what reaches a component: names, types, order of fields and
//! cases. Doc comments are free.
//!
//! - A released item is never edited or removed.
//! - At the same version nothing is added: what is new needs a higher version.
//! - At a higher version of the same track (0.1.x, 1.x) interfaces that the host offers may grow. Interfaces that a
//!   plugin exports may not, and no world gets another export: a new duty is a new interface.
//! - Another track stands beside the old one and is not compared with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use wit_parser::{
    FunctionKind, Handle, InterfaceId, PackageId, Resolve, Type, TypeDefKind, TypeId, TypeOwner,
    UnresolvedPackageGroup, WorldItem, WorldKey,
};

/// The package that holds only worlds for tools; nothing of it is in a component.
pub(crate) const WORLDS: &str = "worlds";

/// What can be compared of one package.
#[derive(Debug)]
pub(crate) struct Package {
    /// `wharf:dns`.
    pub(crate) name: String,
    pub(crate) version: Version,
    /// Path of an item to what it is.
    pub(crate) items: BTreeMap<Item, String>,
    /// Names of the interfaces that its worlds export.
    exported: BTreeSet<String>,
}

pub(crate) type Version = (u64, u64, u64);

/// Where an item stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Item {
    Interface(String),
    /// Interface, then type or function.
    Type(String, String),
    Function(String, String),
    World(String),
    /// World, then what it takes or gives.
    Import(String, String),
    Export(String, String),
}

impl std::fmt::Display for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Interface(name) => write!(f, "interface `{name}`"),
            Self::Type(of, name) => write!(f, "type `{of}.{name}`"),
            Self::Function(of, name) => write!(f, "function `{of}.{name}`"),
            Self::World(name) => write!(f, "world `{name}`"),
            Self::Import(of, name) => write!(f, "import `{name}` of world `{of}`"),
            Self::Export(of, name) => write!(f, "export `{name}` of world `{of}`"),
        }
    }
}

/// Versions of one track understand each other: 0.1.x, 1.x.
fn track(v: Version) -> (u64, u64) {
    if v.0 == 0 { (0, v.1) } else { (v.0, 0) }
}

/// The command.
pub fn run(wit: &Path) -> Result<()> {
    let now = tree(wit)?;
    let released = released(wit)?;
    let faults: Vec<String> = released.iter().flat_map(|old| compare(old, &now)).collect();
    if !faults.is_empty() {
        bail!("the contract breaks its promise:\n  {}", faults.join("\n  "));
    }
    println!("wit-check: {} released packages stand as they were released", released.len());
    Ok(())
}

/// Copies what is not released yet to `wit/released`. Fails where the tree breaks what is released already.
pub fn release(wit: &Path) -> Result<()> {
    run(wit)?;
    let mut sources: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(wit.join("deps")).context("wit/deps can't be read")? {
        let folder = entry?.path();
        let group = UnresolvedPackageGroup::parse_dir(&folder)?;
        sources.insert(group.main.name.to_string(), folder);
    }
    let mut resolve = Resolve::default();
    resolve.push_dir(wit)?;
    for (id, package) in resolve.packages.iter() {
        if package.name.name == WORLDS {
            continue;
        }
        let full = package.name.to_string();
        let version = package.name.version.as_ref().with_context(|| format!("{full} has no version"))?;
        let to = wit.join("released").join(format!("{}-{version}", package.name.name));
        if to.exists() {
            continue;
        }
        let from = sources.get(&full).with_context(|| format!("{full} is not in wit/deps"))?;
        copy_wit(from, &to)?;
        for dep in dependencies(&resolve, id) {
            let Some(dep) = resolve.packages.get(dep) else { continue };
            let from =
                sources.get(&dep.name.to_string()).with_context(|| format!("{} is not in wit/deps", dep.name))?;
            copy_wit(from, &to.join("deps").join(&dep.name.name))?;
        }
        println!("released  {full}");
    }
    run(wit)
}

/// Version of a package in the tree, as text.
pub fn version_of(wit: &Path, package: &str) -> Result<String> {
    let mut resolve = Resolve::default();
    resolve.push_dir(wit)?;
    let found = resolve.packages.iter().find(|(_, p)| p.name.name == package);
    let version = found.and_then(|(_, p)| p.name.version.as_ref());
    Ok(version.with_context(|| format!("wit/ has no package `{package}` with a version"))?.to_string())
}

fn dependencies(resolve: &Resolve, of: PackageId) -> Vec<PackageId> {
    let mut found: Vec<PackageId> = Vec::new();
    let mut open: Vec<PackageId> = resolve.package_direct_deps(of).collect();
    while let Some(id) = open.pop() {
        if id != of && !found.contains(&id) {
            found.push(id);
            open.extend(resolve.package_direct_deps(id));
        }
    }
    found
}

fn copy_wit(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let path = entry?.path();
        if let (Some(name), true) = (path.file_name(), path.extension().is_some_and(|e| e == "wit")) {
            std::fs::copy(&path, to.join(name)).with_context(|| format!("{} can't be copied", path.display()))?;
        }
    }
    Ok(())
}

/// All packages of the tree but that of the worlds.
fn tree(wit: &Path) -> Result<Vec<Package>> {
    let mut resolve = Resolve::default();
    resolve.push_dir(wit).with_context(|| format!("{} is not valid WIT", wit.display()))?;
    let ids = resolve.packages.iter().filter(|(_, p)| p.name.name != WORLDS).map(|(id, _)| id);
    ids.map(|id| describe(&resolve, id)).collect()
}

/// The released packages, each read from its own folder.
pub(crate) fn released(wit: &Path) -> Result<Vec<Package>> {
    let Ok(entries) = std::fs::read_dir(wit.join("released")) else { return Ok(Vec::new()) };
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            folders.push(path);
        }
    }
    folders.sort();
    let mut out = Vec::new();
    for folder in folders {
        let mut resolve = Resolve::default();
        let (id, _) = resolve.push_dir(&folder).with_context(|| format!("{} is not valid WIT", folder.display()))?;
        let package = describe(&resolve, id)?;
        let (major, minor, patch) = package.version;
        let name = package.name.rsplit(':').next().unwrap_or_default();
        if folder.file_name().is_none_or(|f| f != format!("{name}-{major}.{minor}.{patch}").as_str()) {
            bail!("{} holds {} {major}.{minor}.{patch}: name the folder so", folder.display(), package.name);
        }
        out.push(package);
    }
    Ok(out)
}

/// What breaks the promise of `old`, a sentence each.
fn compare(old: &Package, tree: &[Package]) -> Vec<String> {
    let ((major, minor, patch), name) = (old.version, &old.name);
    let of = format!("{name}@{major}.{minor}.{patch}");
    let same: Vec<&Package> = tree.iter().filter(|p| p.name == *name).collect();
    let Some(newest) = same.iter().map(|p| p.version).max() else {
        return vec![format!("{of} is gone from wit/: bring it back")];
    };
    let Some(now) = same.iter().find(|p| track(p.version) == track(old.version)) else {
        // Another track: the old one is served from wit/released, side by side.
        return if newest > old.version {
            Vec::new()
        } else {
            vec![format!("{of} is released, and wit/ has an older one: raise its version")]
        };
    };
    if now.version < old.version {
        return vec![format!("{of} is released, and wit/ has an older one: raise its version")];
    }
    let mut faults = Vec::new();
    for (item, was) in &old.items {
        match now.items.get(item) {
            None => faults.push(format!("{of}: {item} is gone. What is released stays")),
            Some(is) if is != was => {
                faults.push(format!("{of}: {item} was `{was}` and is `{is}` now. Add a new item beside it instead"));
            }
            Some(_) => {}
        }
    }
    let exported: BTreeSet<&String> = old.exported.union(&now.exported).collect();
    for item in now.items.keys().filter(|item| !old.items.contains_key(item)) {
        let grows_export = match item {
            Item::Type(of, _) | Item::Function(of, _) => {
                exported.contains(of) && old.items.contains_key(&Item::Interface(of.clone()))
            }
            Item::Export(of, _) => old.items.contains_key(&Item::World(of.clone())),
            _ => false,
        };
        if grows_export {
            faults.push(format!(
                "{of}: {item} is new, and every plugin that is out lacks it. Make it a new, optional interface"
            ));
        } else if now.version == old.version {
            faults.push(format!("{of}: {item} is new. Raise the version of {name}"));
        }
    }
    faults
}

fn describe(resolve: &Resolve, id: PackageId) -> Result<Package> {
    let package = resolve.packages.get(id).context("a package is not in its own tree")?;
    let v = package.name.version.as_ref().with_context(|| format!("{} has no version", package.name))?;
    let mut items = BTreeMap::new();
    let mut exported = BTreeSet::new();
    let words = Words { resolve };
    for (name, interface_id) in &package.interfaces {
        let Some(interface) = resolve.interfaces.get(*interface_id) else { continue };
        items.insert(Item::Interface(name.clone()), "interface".into());
        for (of, ty) in &interface.types {
            items.insert(Item::Type(name.clone(), of.clone()), words.definition(*ty));
        }
        for (of, function) in &interface.functions {
            items.insert(Item::Function(name.clone(), of.clone()), words.function(function));
        }
    }
    for (name, world_id) in &package.worlds {
        let Some(world) = resolve.worlds.get(*world_id) else { continue };
        items.insert(Item::World(name.clone()), "world".into());
        for (key, item) in &world.imports {
            items.insert(Item::Import(name.clone(), words.key(key)), words.world_item(item));
        }
        for (key, item) in &world.exports {
            items.insert(Item::Export(name.clone(), words.key(key)), words.world_item(item));
            if let WorldItem::Interface { id: of, .. } = item
                && let Some(interface) = resolve.interfaces.get(*of)
                && interface.package == Some(id)
            {
                exported.extend(interface.name.clone());
            }
        }
    }
    let name = format!("{}:{}", package.name.namespace, package.name.name);
    Ok(Package { name, version: (v.major, v.minor, v.patch), items, exported })
}

/// Puts types into words that are equal exactly when a component can't tell them apart.
struct Words<'r> {
    resolve: &'r Resolve,
}

impl Words<'_> {
    /// An interface by package, name and track: a dependency may rise within its track.
    fn interface(&self, id: InterfaceId) -> String {
        let Some(interface) = self.resolve.interfaces.get(id) else { return "?".into() };
        let package = interface.package.and_then(|p| self.resolve.packages.get(p));
        let name = interface.name.as_deref().unwrap_or("?");
        match package.map(|p| (&p.name, p.name.version.as_ref())) {
            Some((p, Some(v))) => {
                let (a, b) = track((v.major, v.minor, v.patch));
                format!("{}:{}/{name}@{a}.{b}", p.namespace, p.name)
            }
            Some((p, None)) => format!("{}:{}/{name}", p.namespace, p.name),
            None => name.to_owned(),
        }
    }

    fn key(&self, key: &WorldKey) -> String {
        match key {
            WorldKey::Name(name) => name.clone(),
            WorldKey::Interface(id) => self.interface(*id),
        }
    }

    fn world_item(&self, item: &WorldItem) -> String {
        match item {
            WorldItem::Interface { .. } => "interface".into(),
            WorldItem::Function(function) => self.function(function),
            WorldItem::Type { id, .. } => self.definition(*id),
        }
    }

    fn function(&self, function: &wit_parser::Function) -> String {
        let asynchronous = matches!(
            function.kind,
            FunctionKind::AsyncFreestanding | FunctionKind::AsyncMethod(_) | FunctionKind::AsyncStatic(_)
        );
        let params: Vec<String> = function.params.iter().map(|p| format!("{}: {}", p.name, self.ty(&p.ty))).collect();
        let result = function.result.as_ref().map(|t| format!(" -> {}", self.ty(t))).unwrap_or_default();
        format!("{}func({}){result}", if asynchronous { "async " } else { "" }, params.join(", "))
    }

    /// A type where it is used: by name if it has one.
    fn ty(&self, ty: &Type) -> String {
        let Type::Id(id) = ty else { return format!("{ty:?}").to_lowercase() };
        let Some(def) = self.resolve.types.get(*id) else { return "?".into() };
        match (&def.name, def.owner) {
            (Some(name), TypeOwner::Interface(of)) => format!("{}.{name}", self.interface(of)),
            (Some(name), _) => name.clone(),
            (None, _) => self.definition(*id),
        }
    }

    fn optional(&self, ty: Option<&Type>) -> String {
        ty.map_or_else(|| "_".into(), |t| self.ty(t))
    }

    /// What a type is.
    fn definition(&self, id: TypeId) -> String {
        let Some(def) = self.resolve.types.get(id) else { return "?".into() };
        let list = |parts: Vec<String>| parts.join(", ");
        match &def.kind {
            TypeDefKind::Record(r) => {
                let fields = r.fields.iter().map(|f| format!("{}: {}", f.name, self.ty(&f.ty))).collect();
                format!("record {{ {} }}", list(fields))
            }
            TypeDefKind::Variant(v) => {
                let case = |c: &wit_parser::Case| match &c.ty {
                    Some(ty) => format!("{}({})", c.name, self.ty(ty)),
                    None => c.name.clone(),
                };
                format!("variant {{ {} }}", list(v.cases.iter().map(case).collect()))
            }
            TypeDefKind::Enum(e) => format!("enum {{ {} }}", list(e.cases.iter().map(|c| c.name.clone()).collect())),
            TypeDefKind::Flags(f) => format!("flags {{ {} }}", list(f.flags.iter().map(|x| x.name.clone()).collect())),
            TypeDefKind::Resource => "resource".into(),
            TypeDefKind::Tuple(t) => format!("tuple<{}>", list(t.types.iter().map(|t| self.ty(t)).collect())),
            TypeDefKind::Option(t) => format!("option<{}>", self.ty(t)),
            TypeDefKind::Result(r) => {
                format!("result<{}, {}>", self.optional(r.ok.as_ref()), self.optional(r.err.as_ref()))
            }
            TypeDefKind::List(t) => format!("list<{}>", self.ty(t)),
            TypeDefKind::Map(k, v) => format!("map<{}, {}>", self.ty(k), self.ty(v)),
            TypeDefKind::FixedLengthList(t, n) => format!("list<{}, {n}>", self.ty(t)),
            TypeDefKind::Future(t) => format!("future<{}>", self.optional(t.as_ref())),
            TypeDefKind::Stream(t) => format!("stream<{}>", self.optional(t.as_ref())),
            TypeDefKind::Handle(Handle::Own(of)) => format!("own<{}>", self.ty(&Type::Id(*of))),
            TypeDefKind::Handle(Handle::Borrow(of)) => format!("borrow<{}>", self.ty(&Type::Id(*of))),
            TypeDefKind::Type(t) => format!("= {}", self.ty(t)),
            TypeDefKind::Unknown => "?".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "package wharf:base@0.1.0;
        interface common { type ext = list<string>; }
        /// The log.
        interface log { write: func(text: string); }";
    const DNS: &str = "package wharf:dns@0.1.0;
        interface zones {
          use wharf:base/common@0.1.0.{ext};
          /// A set.
          record rrset { name: string, ext: ext }
          enum action { retry, wait }
          resource call { config: func(key: string) -> option<string>; }
        }
        interface provider {
          use zones.{rrset, call};
          read: func(call: borrow<call>) -> list<rrset>;
        }
        world dns-provider { import wharf:base/log@0.1.0; import zones; export provider; }";

    /// A tree with a released 0.1.0 of both packages.
    fn released_tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), BASE, DNS);
        release(dir.path()).unwrap();
        dir
    }

    fn write(wit: &Path, base: &str, dns: &str) {
        for (folder, text) in [("base", base), ("dns", dns)] {
            std::fs::create_dir_all(wit.join("deps").join(folder)).unwrap();
            std::fs::write(wit.join("deps").join(folder).join("x.wit"), text).unwrap();
        }
        let version = |text: &str| text.split(['@', ';']).nth(1).unwrap().to_owned();
        let worlds =
            format!("package wharf:worlds@9.9.9; world w {{ include wharf:dns/dns-provider@{}; }}", version(dns));
        std::fs::write(wit.join("worlds.wit"), worlds).unwrap();
    }

    /// Checks the tree after edits of the two packages.
    fn after(base: impl Fn(&str) -> String, dns: impl Fn(&str) -> String) -> Result<(), String> {
        let dir = released_tree();
        write(dir.path(), &base(BASE), &dns(DNS));
        run(dir.path()).map_err(|e| e.to_string())
    }

    fn same(text: &str) -> String {
        text.to_owned()
    }

    /// DNS at 0.1.1, with an edit.
    fn raised(edit: impl Fn(&str) -> String) -> impl Fn(&str) -> String {
        move |text| edit(&text.replace("wharf:dns@0.1.0", "wharf:dns@0.1.1"))
    }

    #[test]
    fn an_untouched_tree_stands_and_releasing_again_changes_nothing() {
        let dir = released_tree();
        assert!(dir.path().join("released/dns-0.1.0/deps/base/x.wit").is_file());
        assert!(!dir.path().join("released/worlds-9.9.9").exists());
        release(dir.path()).unwrap();
        run(dir.path()).unwrap();
    }

    #[test]
    fn doc_comments_are_free() {
        after(|t| t.replace("/// The log.", ""), |t| t.replace("/// A set.", "/// Another word.")).unwrap();
    }

    #[test]
    fn an_edited_record_is_refused_at_any_version_of_the_track() {
        let edit = |t: &str| t.replace("name: string,", "name: string, ttl: u32,");
        for error in [after(same, edit), after(same, raised(edit))] {
            let error = error.unwrap_err();
            assert!(error.contains("zones.rrset") && error.contains("ttl: u32"), "{error}");
        }
    }

    #[test]
    fn reordered_fields_and_an_added_enum_case_are_edits() {
        let order = |t: &str| t.replace("name: string, ext: ext", "ext: ext, name: string");
        assert!(after(same, raised(order)).unwrap_err().contains("zones.rrset"));
        let case = |t: &str| t.replace("retry, wait", "retry, wait, replan");
        assert!(after(same, raised(case)).unwrap_err().contains("zones.action"));
    }

    #[test]
    fn an_exported_interface_never_grows() {
        let edit = |t: &str| t.replace("read: func", "poll: func(); read: func");
        for error in [after(same, edit), after(same, raised(edit))] {
            assert!(error.unwrap_err().contains("new, optional interface"));
        }
        let export = |t: &str| {
            t.replace("world dns", "interface extra { go: func(); } world dns")
                .replace("export provider;", "export provider; export extra;")
        };
        assert!(after(same, raised(export)).unwrap_err().contains("export `wharf:dns/extra@0.1`"));
    }

    #[test]
    fn an_imported_interface_grows_with_a_higher_version_only() {
        let edit = |t: &str| t.replace("config: func", "zone: func() -> string; config: func");
        after(same, raised(edit)).unwrap();
        assert!(after(same, edit).unwrap_err().contains("Raise the version of wharf:dns"));
    }

    #[test]
    fn a_new_optional_interface_and_world_are_welcome() {
        let edit = |t: &str| {
            format!(
                "{t} interface extra {{ go: func(); }} world dns-provider-plus {{ include dns-provider; export extra; }}"
            )
        };
        after(same, raised(edit)).unwrap();
        assert!(after(same, edit).unwrap_err().contains("Raise the version"));
    }

    #[test]
    fn a_dependency_may_rise_within_its_track() {
        let base = |t: &str| t.replace("base@0.1.0", "base@0.1.1").replace("write: func", "flush: func(); write: func");
        after(base, |t| t.replace("@0.1.0.{ext}", "@0.1.1.{ext}").replace("log@0.1.0", "log@0.1.1")).unwrap();
    }

    #[test]
    fn what_is_released_does_not_vanish_or_go_back() {
        let gone = |t: &str| t.replace("enum action { retry, wait }", "");
        assert!(after(same, raised(gone)).unwrap_err().contains("is gone"));
        let back = |t: &str| t.replace("wharf:dns@0.1.0", "wharf:dns@0.0.9");
        assert!(after(same, back).unwrap_err().contains("older"));
    }

    #[test]
    fn another_track_is_not_compared() {
        let next = |t: &str| t.replace("wharf:dns@0.1.0", "wharf:dns@0.2.0").replace("name: string,", "");
        after(same, next).unwrap();
    }

    #[test]
    fn the_contract_of_this_tree_is_readable() {
        let wit = crate::shell::root().join("wit");
        run(&wit).unwrap();
        let packages = tree(&wit).unwrap();
        let exported: BTreeSet<_> = packages.iter().flat_map(|p| p.exported.clone()).collect();
        for name in ["provisioning", "provider", "told", "adapter"] {
            assert!(exported.contains(name), "{name} is not exported by any world");
        }
    }
}
