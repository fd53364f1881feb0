//! The types of `sdk/js` say what the contract says: each record, variant and function of `wit/deps/dns` is written here as the
//! TypeScript that a component sees (names in camel case, `option` as optional, a variant as `{ tag, val }`), and must stand in
//! `index.d.ts` so.

use wit_parser::{Function, Handle, Resolve, Type, TypeDefKind, TypeId};

use crate::shell::root;

fn camel(name: &str) -> String {
    let mut words = name.split('-');
    let mut out = words.next().unwrap_or_default().to_owned();
    for word in words {
        out.push_str(&word[..1].to_uppercase());
        out.push_str(&word[1..]);
    }
    out
}

/// `zone-ref` is `ZoneRef`. The class that carries a problem has its name, so the record has another.
fn title(name: &str) -> String {
    let name = camel(name);
    let name = name[..1].to_uppercase() + &name[1..];
    if name == "Problem" { "ProblemRecord".into() } else { name }
}

fn shown(resolve: &Resolve, ty: &Type) -> String {
    match ty {
        Type::Bool => "boolean".into(),
        Type::U8 | Type::U16 | Type::U32 | Type::S32 => "number".into(),
        Type::U64 => "bigint".into(),
        Type::String => "string".into(),
        Type::Id(id) => named(resolve, *id),
        other => panic!("{other:?} is not written yet"),
    }
}

fn named(resolve: &Resolve, id: TypeId) -> String {
    let def = &resolve.types[id];
    match &def.kind {
        // A word for a string says nothing to TypeScript; `ext` is a type of its own.
        TypeDefKind::Type(Type::Id(of)) => named(resolve, *of),
        TypeDefKind::Type(of) => shown(resolve, of),
        TypeDefKind::List(of) if def.name.as_deref() != Some("ext") => {
            let of = shown(resolve, of);
            if of.contains(" | ") && !of.starts_with('[') { format!("({of})[]") } else { format!("{of}[]") }
        }
        TypeDefKind::Tuple(tuple) => {
            format!("[{}]", tuple.types.iter().map(|t| shown(resolve, t)).collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Option(of) => format!("{} | undefined", shown(resolve, of)),
        // A problem is thrown.
        TypeDefKind::Result(result) => result.ok.as_ref().map_or_else(|| "void".into(), |ok| shown(resolve, ok)),
        TypeDefKind::Handle(Handle::Borrow(of) | Handle::Own(of)) => named(resolve, *of),
        _ => title(def.name.as_deref().unwrap()),
    }
}

/// `ttl?: number` for a field of type `option<u32>`.
fn field(resolve: &Resolve, name: &str, ty: &Type) -> String {
    let shown = shown(resolve, ty);
    match shown.strip_suffix(" | undefined") {
        Some(some) => format!("{}?: {some}", camel(name)),
        None => format!("{}: {shown}", camel(name)),
    }
}

fn function(resolve: &Resolve, function: &Function) -> String {
    let parameters = function.params.iter().filter(|p| p.name != "self");
    let parameters = parameters.map(|p| {
        // As an argument an `option` has to be handed over.
        format!("{}: {}", camel(&p.name), shown(resolve, &p.ty))
    });
    let result = function.result.as_ref().map_or_else(|| "void".into(), |ty| shown(resolve, ty));
    let name = function.item_name();
    format!("{}({}): {result}", camel(name), parameters.collect::<Vec<_>>().join(", "))
}

fn case(resolve: &Resolve, name: &str, of: Option<&Type>) -> String {
    match of {
        None => format!("{{ tag: '{name}' }}"),
        Some(ty) => format!("{{ tag: '{name}'; val: {} }}", shown(resolve, ty)),
    }
}

/// What must stand in the file, each a text in one line.
fn wanted(resolve: &Resolve) -> Vec<String> {
    let mut all = vec!["export type Ext = [string, string][]".to_owned()];
    for (interface, head) in [("zones", ""), ("calls", "Call"), ("provider", "Provider")] {
        let found = resolve.interfaces.iter().find(|(_, i)| {
            i.name.as_deref() == Some(interface) && i.package.is_some_and(|p| resolve.packages[p].name.name == "dns")
        });
        let (_, found) = found.unwrap();
        for (name, id) in &found.types {
            let name = title(name);
            all.push(match &resolve.types[*id].kind {
                TypeDefKind::Record(record) => {
                    let fields = record.fields.iter().map(|f| field(resolve, &f.name, &f.ty));
                    format!("export interface {name} {{ {} }}", fields.collect::<Vec<_>>().join("; "))
                }
                TypeDefKind::Enum(of) => {
                    let cases = of.cases.iter().map(|c| format!("'{}'", c.name));
                    format!("export type {name} = {}", cases.collect::<Vec<_>>().join(" | "))
                }
                TypeDefKind::Variant(of) => {
                    let cases = of.cases.iter().map(|c| case(resolve, &c.name, c.ty.as_ref()));
                    format!("export type {name} = {}", cases.collect::<Vec<_>>().join(" | "))
                }
                _ => continue,
            });
        }
        if !head.is_empty() {
            let functions = found.functions.values().map(|f| function(resolve, f));
            all.push(format!("export interface {head} {{ {} }}", functions.collect::<Vec<_>>().join("; ")));
        }
    }
    all
}

/// Without comments, in one line, with one way to set separators.
fn plain(text: &str) -> String {
    let text: Vec<&str> = text.lines().filter(|l| !l.trim_start().starts_with("//")).collect();
    let text = text.join(" ");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, behind)) = rest.split_once("/**") {
        out.push_str(before);
        rest = behind.split_once("*/").map_or("", |(_, behind)| behind);
    }
    out.push_str(rest);
    let words: Vec<&str> = out.split_whitespace().collect();
    words.join(" ").replace("; }", " }").replace("= | ", "= ")
}

#[test]
fn the_types_of_sdk_js_say_what_the_contract_says() {
    let mut resolve = Resolve::default();
    resolve.push_dir(root().join("wit")).unwrap();
    let file = plain(&std::fs::read_to_string(root().join("sdk/js/src/index.d.ts")).unwrap());
    let wanted = wanted(&resolve);
    assert!(wanted.len() >= 19, "only {wanted:?}");
    let missing: Vec<&String> = wanted.iter().filter(|text| !file.contains(text.as_str())).collect();
    assert!(missing.is_empty(), "sdk/js/src/index.d.ts lacks:\n{missing:#?}");
}

#[test]
fn a_field_that_is_missing_or_of_another_type_is_seen() {
    let text = "export interface A {\n  /** x */\n  a: string; b?: number;\n}\n// c\nexport type B =\n  | 'x' | 'y';";
    assert_eq!(plain(text), "export interface A { a: string; b?: number } export type B = 'x' | 'y';");
}
