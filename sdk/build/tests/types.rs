//! The types of the SDKs for JavaScript and Python are the contract's: each record, variant, enum and function of
//! `wharf:dns/zones`, `calls` and `provider`, by name, in order, with its kind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::path::PathBuf;

use wit_parser::{Function, FunctionKind, Interface, Resolve, Type, TypeDefKind, TypeId};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

fn contract() -> Resolve {
    let mut resolve = Resolve::default();
    resolve.push_dir(root().join("wit")).unwrap();
    resolve
}

/// The three interfaces that a provider's types are of.
fn interfaces(resolve: &Resolve) -> Vec<&Interface> {
    let of = |name: &str| {
        let found = resolve.interfaces.iter().find(|(_, interface)| {
            let package = interface.package.map(|id| &resolve.packages[id].name);
            interface.name.as_deref() == Some(name) && package.is_some_and(|p| p.name == "dns")
        });
        found.unwrap().1
    };
    ["zones", "calls", "provider"].map(of).to_vec()
}

/// Types that are made here, not taken from another interface.
fn own<'r>(resolve: &'r Resolve, interface: &'r Interface) -> impl Iterator<Item = (String, &'r TypeDefKind)> {
    interface.types.iter().map(|(name, id)| (name.clone(), &resolve.types[*id].kind))
}

fn pascal(name: &str) -> String {
    // An error has the short name.
    if name == "problem" {
        return "ProblemRecord".into();
    }
    name.split('-').map(|part| part[..1].to_uppercase() + &part[1..]).collect()
}

fn camel(name: &str) -> String {
    let whole: String = name.split('-').map(|part| part[..1].to_uppercase() + &part[1..]).collect();
    whole[..1].to_lowercase() + &whole[1..]
}

fn snake(name: &str) -> String {
    name.replace('-', "_")
}

fn option(resolve: &Resolve, ty: &Type) -> Option<Type> {
    match ty {
        Type::Id(id) => match &resolve.types[*id].kind {
            TypeDefKind::Option(inner) => Some(*inner),
            _ => None,
        },
        _ => None,
    }
}

/// A type as TypeScript writes it.
fn ts(resolve: &Resolve, ty: &Type) -> String {
    match ty {
        Type::Bool => "boolean".into(),
        Type::U8 | Type::U16 | Type::U32 | Type::S8 | Type::S16 | Type::S32 | Type::F32 | Type::F64 => "number".into(),
        Type::String => "string".into(),
        Type::Id(id) => ts_of(resolve, *id),
        other => panic!("the contract has {other:?}, which this test does not know"),
    }
}

fn ts_of(resolve: &Resolve, id: TypeId) -> String {
    let definition = &resolve.types[id];
    match (&definition.kind, definition.name.as_deref()) {
        (TypeDefKind::Record(_) | TypeDefKind::Variant(_) | TypeDefKind::Enum(_), Some(name)) => pascal(name),
        (TypeDefKind::Resource, Some(name)) => pascal(name),
        (_, Some("ext")) => "Ext".into(),
        (TypeDefKind::Type(inner), _) => ts(resolve, inner),
        (TypeDefKind::List(inner), _) => format!("{}[]", ts(resolve, inner)),
        (TypeDefKind::Option(inner), _) => format!("{} | undefined", ts(resolve, inner)),
        (TypeDefKind::Tuple(tuple), _) => {
            format!("[{}]", tuple.types.iter().map(|t| ts(resolve, t)).collect::<Vec<_>>().join(", "))
        }
        // A problem is thrown.
        (TypeDefKind::Result(result), _) => result.ok.map_or("void".into(), |ok| ts(resolve, &ok)),
        (TypeDefKind::Handle(wit_parser::Handle::Own(id) | wit_parser::Handle::Borrow(id)), _) => ts_of(resolve, *id),
        (other, name) => panic!("the contract has {other:?} ({name:?}), which this test does not know"),
    }
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let skip = usize::from(matches!(function.kind, FunctionKind::Method(_)));
    let parameters = function.params.iter().skip(skip);
    let parameters: Vec<String> = parameters.map(|p| format!("{}: {}", camel(&p.name), ts(resolve, &p.ty))).collect();
    let name = function.name.rsplit('.').next().unwrap();
    let gives = function.result.as_ref().map_or("void".into(), |ty| ts(resolve, ty));
    format!("{}({}): {gives};", camel(name), parameters.join(", "))
}

fn collapsed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_types_of_javascript_are_the_contracts() {
    let (resolve, page) = (contract(), collapsed(&read("sdk/js/src/index.d.ts")));
    let has = |expected: &str| assert!(page.contains(expected), "sdk/js/src/index.d.ts lacks: {expected}");
    let mut seen = 0;
    for interface in interfaces(&resolve) {
        for (name, kind) in own(&resolve, interface) {
            let head = pascal(&name);
            match kind {
                TypeDefKind::Record(record) => {
                    let field = |f: &wit_parser::Field| match option(&resolve, &f.ty) {
                        Some(inner) => format!("{}?: {}", camel(&f.name), ts(&resolve, &inner)),
                        None => format!("{}: {}", camel(&f.name), ts(&resolve, &f.ty)),
                    };
                    let fields: Vec<String> = record.fields.iter().map(field).collect();
                    let (short, long) = (fields.join("; "), format!("{};", fields.join("; ")));
                    let whole = [short, long].map(|fields| format!("export interface {head} {{ {fields} }}"));
                    assert!(whole.iter().any(|w| page.contains(w)), "sdk/js/src/index.d.ts lacks: {}", whole[0]);
                }
                TypeDefKind::Enum(cases) => {
                    let cases: Vec<String> = cases.cases.iter().map(|c| format!("'{}'", c.name)).collect();
                    has(&format!("export type {head} = {};", cases.join(" | ")));
                }
                TypeDefKind::Variant(variant) => {
                    let case = |c: &wit_parser::Case| match &c.ty {
                        Some(ty) => format!("{{ tag: '{}'; val: {} }}", c.name, ts(&resolve, ty)),
                        None => format!("{{ tag: '{}' }}", c.name),
                    };
                    let cases: Vec<String> = variant.cases.iter().map(case).collect();
                    let (one, more) = (cases.join(" | "), format!("| {}", cases.join(" | ")));
                    let whole = [one, more].map(|cases| format!("export type {head} = {cases};"));
                    assert!(whole.iter().any(|w| page.contains(w)), "sdk/js/src/index.d.ts lacks: {}", whole[0]);
                }
                _ => continue,
            }
            seen += 1;
        }
        for function in interface.functions.values() {
            has(&signature(&resolve, function));
            seen += 1;
        }
    }
    assert!(seen > 25, "only {seen} items of the contract were looked at");
}

/// Fields of a class, in order: `name: type` at one level, up to the next class.
fn fields(page: &str, class: &str) -> Vec<String> {
    let (_, behind) = page.split_once(&format!("\nclass {class}:\n")).unwrap_or_else(|| {
        panic!("sdk/python/wharf_sdk/types.py lacks the class {class}");
    });
    let lines = behind.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    // What a docstring says before a colon is no name.
    let named = |(name, _): (&str, &str)| {
        let good = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        good.then(|| name.to_owned())
    };
    lines.filter_map(|line| line.trim().split_once(": ")).filter_map(named).collect()
}

#[test]
fn the_types_of_python_are_the_contracts() {
    let (resolve, page) = (contract(), read("sdk/python/wharf_sdk/types.py"));
    let mut seen = 0;
    for interface in interfaces(&resolve) {
        for (name, kind) in own(&resolve, interface) {
            match kind {
                TypeDefKind::Record(record) => {
                    let expected: Vec<String> = record.fields.iter().map(|f| snake(&f.name)).collect();
                    assert_eq!(fields(&page, &pascal(&name)), expected, "{name}");
                }
                TypeDefKind::Variant(variant) => {
                    for case in &variant.cases {
                        let class = format!("{}_{}", pascal(&name), pascal(&case.name));
                        let expected: &[&str] = if case.ty.is_some() { &["value"] } else { &[] };
                        assert_eq!(fields(&page, &class), expected, "{class}");
                    }
                }
                TypeDefKind::Enum(cases) => {
                    let (_, behind) = page.split_once(&format!("\nclass {}(Enum):\n", pascal(&name))).unwrap();
                    let behind = behind.split("\n@").next().unwrap();
                    let there: Vec<&str> = behind.lines().filter(|l| l.contains(" = ")).map(str::trim).collect();
                    let line =
                        |(n, c): (usize, &wit_parser::EnumCase)| format!("{} = {n}", snake(&c.name).to_uppercase());
                    assert_eq!(there, cases.cases.iter().enumerate().map(line).collect::<Vec<_>>(), "{name}");
                }
                _ => continue,
            }
            seen += 1;
        }
    }
    assert!(seen > 13, "only {seen} items of the contract were looked at");
}
