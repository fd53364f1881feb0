//! `cargo xtask reference`: the page docs/contract-reference.md, written from `wit/` and from nothing else.
//!
//! Whoever writes a plugin, in whichever language, finds each interface there with its comment, each type with links to the
//! types in it, which kind of plugin gives or gets it, and the version that brought it. `cargo xtask wit-check` fails when the
//! page is not what `wit/` gives, and when something new has no comment. What was released without one has a remark in
//! [`remarks`].

mod remarks;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use wit_parser::{
    Docs, Function, FunctionKind, Handle, Interface, InterfaceId, Package as WitPackage, PackageId, Resolve, Type,
    TypeDef, TypeDefKind, TypeId, TypeOwner, WorldItem,
};

use crate::wit_check::{Item, Package as Released, WORLDS, released};

/// Where the page is kept, in the workspace.
const PAGE: &str = "docs/contract-reference.md";

/// What stands above the generated part. Everything here that is not of `wit/` is said by docs/contract.md, but for the
/// table: it says what the three tool chains make of a type (wit-bindgen 0.61, componentize-js 0.23, componentize-py 0.25).
const HEAD: &str = "\
<!-- Written by `cargo xtask reference` from wit/; `cargo xtask wit-check` fails when it differs. Don't edit it here. -->

# Contract reference

Everything that the host lends to a plugin, and everything that it calls in one. How the parts go together, what a manifest
says, and what a call is limited to: [contract.md](contract.md). What may change and what never does:
[contract.md, How it evolves](contract.md#how-it-evolves).

*Lent* interfaces are the plugin's imports: the host does the work. *Given* interfaces are the plugin's exports: the host calls
them. Names of interfaces hold their version, as in `wharf:dns/provider@0.1.0`. Where no other version is named, an item is as
old as its interface.

## Types in your language

| here | Rust | JavaScript | Python |
|---|---|---|---|
| `u16` `u32` | `u16` `u32` | number (out of range: wrapped without a word) | `int` |
| `u64` | `u64` | bigint | `int` |
| `string`, `bool` | `String`, `bool` | string, boolean | `str`, `bool` |
| `list<u8>` | `Vec<u8>` | `Uint8Array` | `bytes` |
| `list<t>`, `tuple<a, b>` | `Vec<T>`, `(A, B)` | arrays | `list`, `tuple` |
| `option<t>` | `Option<T>` | the value, or `undefined` | the value, or `None` |
| `result<t, e>`, given | `Ok(t)`, `Err(e)` | return `t`, throw `e` | return `t`, `raise Err(e)` |
| `result<t, e>`, lent | `Result<T, E>` | `t`, or an exception with `e` in `payload` | `t`, or `Err` with `e` in `value` |
| record `zone-ref` | struct `ZoneRef` | object | data class `ZoneRef` |
| field `retry-after-ms` | `retry_after_ms` | `retryAfterMs` | `retry_after_ms` |
| variant case `add-values` | `Edit::AddValues(v)` | `{ tag: 'add-values', val: v }` | `Edit_AddValues(v)` |
| enum case `fix-config` | `Action::FixConfig` | `'fix-config'` | `Action.FIX_CONFIG` |
| resource, `borrow<r>` | a handle with methods | an object with methods | an object with methods |
";

/// A kind of plugin, as its worlds say.
struct Kind<'r> {
    name: &'r str,
    lent: BTreeSet<InterfaceId>,
    must: BTreeSet<InterfaceId>,
    may: BTreeSet<InterfaceId>,
}

/// The command.
pub fn write(root: &Path) -> Result<()> {
    let text = page(&root.join("wit"), remarks::REMARKS)?;
    std::fs::write(root.join(PAGE), text).with_context(|| format!("{PAGE} can't be written"))?;
    println!("written  {PAGE}");
    Ok(())
}

/// Fails when the page is not what `wit/` gives, or something in `wit/` says nothing of itself.
pub fn check(root: &Path) -> Result<()> {
    let stands = std::fs::read_to_string(root.join(PAGE)).unwrap_or_default();
    differs(&stands, &page(&root.join("wit"), remarks::REMARKS)?)?;
    println!("wit-check: {PAGE} says what wit/ says");
    Ok(())
}

fn differs(stands: &str, should: &str) -> Result<()> {
    if stands == should {
        return Ok(());
    }
    let line = stands.lines().zip(should.lines()).take_while(|(a, b)| a == b).count() + 1;
    bail!("{PAGE} is not what wit/ gives, from line {line} on: type `cargo xtask reference`");
}

/// The page that a tree of WIT gives.
fn page(wit: &Path, remarks: Remarks) -> Result<String> {
    let mut resolve = Resolve::default();
    resolve.push_dir(wit).with_context(|| format!("{} is not valid WIT", wit.display()))?;
    let writer = Writer { resolve: &resolve, kinds: kinds(&resolve), released: released(wit)?, remarks };
    writer.silence(remarks)?;
    writer.page()
}

/// The kinds of plugin: each world `x` of a package with what `x-plus` exports besides. Worlds called `…-part` are for the
/// host alone.
fn kinds(resolve: &Resolve) -> Vec<Kind<'_>> {
    let interfaces = |items: &mut dyn Iterator<Item = &WorldItem>| -> BTreeSet<InterfaceId> {
        items.filter_map(|i| if let WorldItem::Interface { id, .. } = i { Some(*id) } else { None }).collect()
    };
    let mut found: BTreeMap<&str, Kind<'_>> = BTreeMap::new();
    for (_, package) in resolve.packages.iter().filter(|(_, p)| p.name.name != WORLDS) {
        for (name, id) in package.worlds.iter().filter(|(n, _)| !n.ends_with("-part")) {
            let Some(world) = resolve.worlds.get(*id) else { continue };
            let (plain, plus) = match name.strip_suffix("-plus") {
                Some(plain) => (plain, true),
                None => (name.as_str(), false),
            };
            let empty = || Kind { name: plain, lent: BTreeSet::new(), must: BTreeSet::new(), may: BTreeSet::new() };
            let kind = found.entry(plain).or_insert_with(empty);
            kind.lent.extend(interfaces(&mut world.imports.values()));
            let given = interfaces(&mut world.exports.values());
            if plus { kind.may.extend(given) } else { kind.must.extend(given) }
        }
    }
    let mut kinds: Vec<_> = found.into_values().collect();
    for kind in &mut kinds {
        kind.may.retain(|id| !kind.must.contains(id));
    }
    kinds
}

/// Items as package, interface and name, each with what is said of it in place of a comment.
type Remarks = &'static [(&'static str, &'static str)];

/// A piece of a line: program text, or the name of a type with the place that explains it.
enum Piece {
    Code(String),
    Link(String, String),
}

struct Writer<'r> {
    resolve: &'r Resolve,
    kinds: Vec<Kind<'r>>,
    released: Vec<Released>,
    remarks: Remarks,
}

impl Writer<'_> {
    fn page(&self) -> Result<String> {
        let mut out = HEAD.to_owned();
        self.worlds(&mut out)?;
        for (_, package) in self.packages() {
            let version = package.name.version.as_ref().context("a package has no version")?;
            writeln!(out, "\n## `{}:{}`\n\nVersion {version}.", package.name.namespace, package.name.name)?;
            paragraph(&mut out, text(&package.docs))?;
            for id in package.interfaces.values() {
                self.interface(&mut out, package, *id)?;
            }
        }
        Ok(out)
    }

    /// By name; those for tools left out.
    fn packages(&self) -> Vec<(PackageId, &WitPackage)> {
        let mut all: Vec<_> = self.resolve.packages.iter().filter(|(_, p)| p.name.name != WORLDS).collect();
        all.sort_by_key(|(_, p)| p.name.to_string());
        all
    }

    fn worlds(&self, out: &mut String) -> Result<()> {
        out.push_str("\n## Kinds of plugin\n\n| kind | gives | may give | is lent |\n|---|---|---|---|\n");
        for kind in &self.kinds {
            let list = |of: &BTreeSet<InterfaceId>| {
                let mut names: Vec<_> = of.iter().map(|id| self.interface_link(*id)).collect();
                names.sort();
                names.join(", ")
            };
            writeln!(out, "| `{}` | {} | {} | {} |", kind.name, list(&kind.must), list(&kind.may), list(&kind.lent))?;
        }
        Ok(())
    }

    fn interface(&self, out: &mut String, package: &WitPackage, id: InterfaceId) -> Result<()> {
        let interface = self.resolve.interfaces.get(id).context("an interface is not in its own tree")?;
        let name = interface.name.as_deref().context("an interface of a package has no name")?;
        let since = self.since(package, &Item::Interface(name.to_owned()));
        let of = format!("{}:{}", package.name.namespace, package.name.name);
        let at = format!("{}/{name}", package.name.name);
        write!(out, "\n<a id=\"{}\"></a>\n\n### `{of}/{name}`\n\n", self.interface_anchor(id))?;
        writeln!(out, "{} Since {since}.", self.whose(id, interface))?;
        paragraph(out, self.said(&interface.docs, &at))?;
        for (of, ty) in &interface.types {
            let Some(def) = self.resolve.types.get(*ty) else { continue };
            if !is_use(def, self.resolve) {
                let later = self.later(package, &since, &Item::Type(name.to_owned(), of.clone()));
                self.definition(out, interface, *ty, def, &at, &later)?;
            }
        }
        for function in interface.functions.values().filter(|f| matches!(f.kind, FunctionKind::Freestanding)) {
            let later = self.later(package, &since, &Item::Function(name.to_owned(), function.name.clone()));
            let anchor = format!("{}.{}", self.interface_anchor(id), function.name);
            write!(out, "\n<a id=\"{anchor}\"></a>\n\n#### `{}`\n\n", function.name)?;
            writeln!(out, "{}{later}", self.signature(function))?;
            paragraph(out, self.said(&function.docs, &format!("{at}.{}", function.name)))?;
        }
        Ok(())
    }

    /// Who gives it to whom.
    fn whose(&self, id: InterfaceId, interface: &Interface) -> String {
        let of = |has: &dyn Fn(&Kind<'_>) -> bool| {
            let names: Vec<_> = self.kinds.iter().filter(|k| has(k)).map(|k| format!("`{}`", k.name)).collect();
            names.join(", ")
        };
        let (must, may) = (of(&|k| k.must.contains(&id)), of(&|k| k.may.contains(&id)));
        let lent = of(&|k| k.lent.contains(&id));
        let types_only = interface.functions.is_empty();
        match (must.is_empty(), may.is_empty(), lent.is_empty()) {
            (false, ..) => format!("Given by {must}."),
            (true, false, _) => format!("May be given by {may}."),
            (true, true, false) if types_only => format!("Types only, for {lent}."),
            (true, true, false) => format!("Lent to {lent}."),
            (true, true, true) => "In no kind of plugin yet.".into(),
        }
    }

    fn definition(
        &self,
        out: &mut String,
        of: &Interface,
        id: TypeId,
        def: &TypeDef,
        at: &str,
        later: &str,
    ) -> Result<()> {
        let name = def.name.as_deref().unwrap_or_default();
        let anchor = self.type_anchor(id).unwrap_or_default();
        let word = match &def.kind {
            TypeDefKind::Record(_) => "record",
            TypeDefKind::Variant(_) => "variant",
            TypeDefKind::Enum(_) => "enum",
            TypeDefKind::Flags(_) => "flags",
            TypeDefKind::Resource => "resource",
            _ => "type",
        };
        write!(out, "\n<a id=\"{anchor}\"></a>\n\n#### {word} `{name}`\n")?;
        if word == "type" {
            let mut pieces = Vec::new();
            self.kind_of(&def.kind, &mut pieces);
            write!(out, "\n= {}\n", render(pieces))?;
        }
        if !later.is_empty() {
            write!(out, "\n{}\n", later.trim_start())?;
        }
        paragraph(out, self.said(&def.docs, &format!("{at}.{name}")))?;
        match &def.kind {
            TypeDefKind::Record(r) => {
                let rows = r.fields.iter().map(|f| (f.name.as_str(), self.ty(&f.ty), &f.docs)).collect();
                table(out, "field", Some("type"), rows)?;
            }
            TypeDefKind::Variant(v) => {
                let rows = v.cases.iter().map(|c| {
                    let carries = c.ty.as_ref().map(|t| self.ty(t)).unwrap_or_default();
                    (c.name.as_str(), carries, &c.docs)
                });
                table(out, "case", Some("carries"), rows.collect())?;
            }
            TypeDefKind::Enum(e) => {
                table(out, "case", None, e.cases.iter().map(|c| (c.name.as_str(), String::new(), &c.docs)).collect())?;
            }
            TypeDefKind::Flags(f) => {
                table(out, "flag", None, f.flags.iter().map(|x| (x.name.as_str(), String::new(), &x.docs)).collect())?;
            }
            TypeDefKind::Resource => {
                out.push('\n');
                for method in of.functions.values().filter(|f| f.kind.resource() == Some(id)) {
                    write!(out, "* <a id=\"{anchor}.{}\"></a>**{0}** ", method.item_name())?;
                    // A backslash at the end of a line breaks it there.
                    writeln!(out, "{}\\", self.signature(method))?;
                    for line in self.said(&method.docs, &format!("{at}.{}", method.name)).lines() {
                        writeln!(out, "  {}", line.trim_end())?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Parameters and result. What a method is called on goes without saying.
    fn signature(&self, function: &Function) -> String {
        let (of, skip) = match &function.kind {
            FunctionKind::Constructor(_) => ("constructor(", 0),
            FunctionKind::Static(_) | FunctionKind::AsyncStatic(_) => ("static func(", 0),
            FunctionKind::Method(_) | FunctionKind::AsyncMethod(_) => ("func(", 1),
            _ => ("func(", 0),
        };
        let mut pieces = vec![Piece::Code(of.into())];
        for (n, parameter) in function.params.iter().skip(skip).enumerate() {
            pieces.push(Piece::Code(format!("{}{}: ", if n == 0 { "" } else { ", " }, parameter.name)));
            self.pieces(&parameter.ty, &mut pieces);
        }
        pieces.push(Piece::Code(")".into()));
        if let (Some(result), false) = (&function.result, matches!(function.kind, FunctionKind::Constructor(_))) {
            pieces.push(Piece::Code(" -> ".into()));
            self.pieces(result, &mut pieces);
        }
        render(pieces)
    }

    fn ty(&self, ty: &Type) -> String {
        let mut pieces = Vec::new();
        self.pieces(ty, &mut pieces);
        render(pieces)
    }

    fn pieces(&self, ty: &Type, out: &mut Vec<Piece>) {
        let Type::Id(id) = ty else { return out.push(Piece::Code(format!("{ty:?}").to_lowercase())) };
        let Some(def) = self.resolve.types.get(*id) else { return };
        match (&def.name, self.type_anchor(*id)) {
            (Some(name), Some(anchor)) => out.push(Piece::Link(name.clone(), anchor)),
            _ => self.kind_of(&def.kind, out),
        }
    }

    fn kind_of(&self, kind: &TypeDefKind, out: &mut Vec<Piece>) {
        let mut nested = |before: &str, types: Vec<Option<&Type>>, after: &str| {
            out.push(Piece::Code(format!("{before}<")));
            for (n, ty) in types.into_iter().enumerate() {
                if n > 0 {
                    out.push(Piece::Code(", ".into()));
                }
                match ty {
                    Some(ty) => self.pieces(ty, out),
                    None => out.push(Piece::Code("_".into())),
                }
            }
            out.push(Piece::Code(format!("{after}>")));
        };
        match kind {
            TypeDefKind::Type(ty) => self.pieces(ty, out),
            TypeDefKind::Option(ty) => nested("option", vec![Some(ty)], ""),
            TypeDefKind::List(ty) => nested("list", vec![Some(ty)], ""),
            TypeDefKind::FixedLengthList(ty, n) => nested("list", vec![Some(ty)], &format!(", {n}")),
            TypeDefKind::Map(key, value) => nested("map", vec![Some(key), Some(value)], ""),
            TypeDefKind::Tuple(tuple) => nested("tuple", tuple.types.iter().map(Some).collect(), ""),
            TypeDefKind::Result(r) => nested("result", vec![r.ok.as_ref(), r.err.as_ref()], ""),
            TypeDefKind::Future(ty) => nested("future", vec![ty.as_ref()], ""),
            TypeDefKind::Stream(ty) => nested("stream", vec![ty.as_ref()], ""),
            TypeDefKind::Handle(Handle::Borrow(of)) => nested("borrow", vec![Some(&Type::Id(*of))], ""),
            TypeDefKind::Handle(Handle::Own(of)) => self.pieces(&Type::Id(*of), out),
            // These always have a name of their own.
            TypeDefKind::Record(_) | TypeDefKind::Variant(_) | TypeDefKind::Enum(_) => {}
            TypeDefKind::Flags(_) | TypeDefKind::Resource | TypeDefKind::Unknown => {}
        }
    }

    fn interface_anchor(&self, id: InterfaceId) -> String {
        let Some(interface) = self.resolve.interfaces.get(id) else { return String::new() };
        let package = interface.package.and_then(|p| self.resolve.packages.get(p)).map(|p| p.name.name.as_str());
        format!("{}.{}", package.unwrap_or_default(), interface.name.as_deref().unwrap_or_default())
    }

    fn interface_link(&self, id: InterfaceId) -> String {
        let anchor = self.interface_anchor(id);
        format!("[`{}`](#{anchor})", anchor.replacen('.', "/", 1))
    }

    /// Where a type with a name is explained: at its definition, however often it was taken over by `use`.
    fn type_anchor(&self, id: TypeId) -> Option<String> {
        let def = self.resolve.types.get(id)?;
        if let (TypeDefKind::Type(Type::Id(origin)), true) = (&def.kind, is_use(def, self.resolve)) {
            return self.type_anchor(*origin);
        }
        let TypeOwner::Interface(of) = def.owner else { return None };
        Some(format!("{}.{}", self.interface_anchor(of), def.name.as_ref()?))
    }

    /// The version that brought an item: the oldest released one of the same name that has it, else the coming one.
    fn since(&self, package: &WitPackage, item: &Item) -> String {
        let name = format!("{}:{}", package.name.namespace, package.name.name);
        let released = self.released.iter().filter(|p| p.name == name && p.items.contains_key(item));
        match (released.map(|p| p.version).min(), &package.name.version) {
            (Some((major, minor, patch)), _) => format!("{major}.{minor}.{patch}"),
            (None, Some(version)) => version.to_string(),
            (None, None) => String::new(),
        }
    }

    fn later(&self, package: &WitPackage, than: &str, item: &Item) -> String {
        let since = self.since(package, item);
        if since == than { String::new() } else { format!(" *Since {since}.*") }
    }

    /// The comment in `wit/`, else the remark.
    fn said<'t>(&self, docs: &'t Docs, item: &str) -> &'t str {
        if docs.is_empty() {
            return self.remarks.iter().find(|(of, _)| *of == item).map_or("", |(_, remark)| *remark);
        }
        text(docs)
    }

    /// Fails when an item has neither comment nor remark, or a remark has no item without comment.
    fn silence(&self, remarks: Remarks) -> Result<()> {
        let silent = self.silent();
        if let Some(new) = silent.iter().find(|item| remarks.iter().all(|(of, _)| of != item)) {
            bail!("{new} has no doc comment in wit/: say there what it is, in which unit, and what can go wrong");
        }
        if let Some((stale, _)) = remarks.iter().find(|(of, _)| silent.iter().all(|item| item != of)) {
            bail!("{stale} has a doc comment in wit/, or is not there: take it out of xtask/src/reference/remarks.rs");
        }
        Ok(())
    }

    /// Interfaces, types and functions that say nothing of themselves. What a case or a field is may stand in the comment of
    /// the whole; a resource's in that of its interface.
    fn silent(&self) -> Vec<String> {
        let mut found = Vec::new();
        for (_, package) in self.packages() {
            for (of, id) in &package.interfaces {
                let Some(interface) = self.resolve.interfaces.get(*id) else { continue };
                let at = |name: &str| format!("{}/{of}.{name}", package.name.name);
                if interface.docs.is_empty() {
                    found.push(format!("{}/{of}", package.name.name));
                }
                for (name, ty) in &interface.types {
                    let Some(def) = self.resolve.types.get(*ty) else { continue };
                    if def.docs.is_empty() && !is_use(def, self.resolve) {
                        found.push(at(name));
                    }
                }
                found.extend(interface.functions.values().filter(|f| f.docs.is_empty()).map(|f| at(&f.name)));
            }
        }
        found
    }
}

/// Whether a type is another interface's, taken over by `use`.
fn is_use(def: &TypeDef, resolve: &Resolve) -> bool {
    let TypeDefKind::Type(Type::Id(of)) = &def.kind else { return false };
    resolve.types.get(*of).is_some_and(|origin| origin.owner != def.owner && origin.name.is_some())
}

fn text(docs: &Docs) -> &str {
    docs.contents.as_deref().unwrap_or_default().trim()
}

fn paragraph(out: &mut String, text: &str) -> Result<()> {
    if !text.is_empty() {
        out.push('\n');
        for line in text.lines() {
            writeln!(out, "{}", line.trim_end())?;
        }
    }
    Ok(())
}

/// Without the column of meanings where no line has one.
fn table(out: &mut String, what: &str, second: Option<&str>, rows: Vec<(&str, String, &Docs)>) -> Result<()> {
    let meanings = rows.iter().any(|(.., docs)| !text(docs).is_empty());
    let columns: Vec<&str> = [Some(what), second, meanings.then_some("meaning")].into_iter().flatten().collect();
    write!(out, "\n| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()))?;
    for (name, ty, docs) in rows {
        write!(out, "| `{name}` |")?;
        if second.is_some() {
            write!(out, " {ty} |")?;
        }
        if meanings {
            write!(out, " {} |", text(docs).replace('\n', " ").replace('|', "\\|"))?;
        }
        out.push('\n');
    }
    Ok(())
}

/// As Markdown: program text between back-ticks, names of types as links.
fn render(pieces: Vec<Piece>) -> String {
    let (mut out, mut open) = (String::new(), false);
    for piece in pieces {
        match piece {
            Piece::Code(text) => {
                if !open {
                    out.push('`');
                }
                open = true;
                out.push_str(&text);
            }
            Piece::Link(name, anchor) => {
                if open {
                    out.push('`');
                }
                open = false;
                out.push_str(&format!("[`{name}`](#{anchor})"));
            }
        }
    }
    if open {
        out.push('`');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIT: &str = "/// Things.
        package wharf:thing@0.1.1;
        /// Words.
        interface words {
          /// A | B.
          enum level { low, /// Not | low.
            high }
          /// Rows.
          record row { level: level, names: list<tuple<string, level>> }
          /// The call.
          resource call {
            /// A setting.
            config: func(key: string) -> option<string>;
          }
        }
        /// The work.
        interface work {
          use words.{row, call};
          /// Does it.
          go: func(call: borrow<call>, rows: list<row>) -> result<_, row>;
        }
        /// More of it.
        interface more {
          /// Again.
          again: func();
        }
        world thing { export work; }
        world thing-plus { include thing; export more; }";

    fn tree(text: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thing.wit"), text).unwrap();
        dir
    }

    #[test]
    fn the_page_of_this_tree_is_what_wit_gives_and_every_link_in_it_leads_somewhere() {
        let root = crate::shell::root();
        check(&root).unwrap();
        let page = std::fs::read_to_string(root.join(PAGE)).unwrap();
        let links: BTreeSet<&str> = page.split("](#").skip(1).map(|rest| rest.split(')').next().unwrap()).collect();
        assert!(links.len() > 50, "{links:?}");
        for link in links {
            assert!(page.contains(&format!("<a id=\"{link}\">")), "nothing is at #{link}");
        }
        let contract = std::fs::read_to_string(root.join("docs/contract.md")).unwrap();
        assert!(contract.contains("\n## How it evolves\n"), "the page links to a heading that is not there");
    }

    #[test]
    fn an_edited_page_is_told_with_its_line() {
        let error = differs("a\nb\n", "a\nc\n").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("cargo xtask reference"), "{error}");
        differs("a\n", "a\n").unwrap();
    }

    #[test]
    fn types_link_to_where_they_are_defined_and_kinds_say_who_gives_what() {
        let page = page(tree(WIT).path(), &[]).unwrap();
        assert!(
            page.contains(
                "`func(call: borrow<`[`call`](#thing.words.call)`>, rows: list<`[`row`](#thing.words.row)`>)"
            )
        );
        assert!(page.contains("| `names` | `list<tuple<string, `[`level`](#thing.words.level)`>>` |"), "{page}");
        assert!(page.contains("Given by `thing`. Since 0.1.1."));
        assert!(page.contains("May be given by `thing`."));
        assert!(page.contains("| `high` | Not \\| low. |"));
        assert!(page.contains("**config** `func(key: string) -> option<string>`\\\n  A setting.\n"));
    }

    #[test]
    fn an_item_that_came_later_says_so() {
        let dir = tree(WIT);
        let old = WIT.replace("0.1.1", "0.1.0").replace("/// Again.\n          again", "/// Once.\n          once");
        let at = dir.path().join("released/thing-0.1.0");
        std::fs::create_dir_all(&at).unwrap();
        std::fs::write(at.join("thing.wit"), old).unwrap();
        let page = page(dir.path(), &[]).unwrap();
        assert!(page.contains("Given by `thing`. Since 0.1.0."), "{page}");
        assert!(page.contains("`func()` *Since 0.1.1.*"), "{page}");
    }

    #[test]
    fn what_is_new_has_a_comment() {
        for (comment, named) in
            [("/// Does it.", "thing/work.go"), ("/// Rows.", "thing/words.row"), ("/// More of it.", "thing/more")]
        {
            let error = page(tree(&WIT.replace(comment, "")).path(), &[]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{named} has no doc comment")), "{error}");
        }
    }

    #[test]
    fn a_remark_stands_for_a_comment_that_is_not_there_and_goes_when_one_is() {
        const REMARKS: Remarks = &[("thing/work.go", "Works.")];
        let page_of = |text: &str| page(tree(text).path(), REMARKS);
        assert!(page_of(&WIT.replace("/// Does it.", "")).unwrap().contains("`\n\nWorks.\n"));
        let error = page_of(WIT).unwrap_err().to_string();
        assert!(error.starts_with("thing/work.go has a doc comment"), "{error}");
    }
}
