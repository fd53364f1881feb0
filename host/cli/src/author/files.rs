//! What a new project is made of, carried in the executable: the contract, the SDKs and the templates.

/// A file of a project: its path there, and its text.
pub type File = (&'static str, &'static str);

macro_rules! from {
    ($folder:literal, $under:literal: $($name:literal),* $(,)?) => {
        &[$((concat!($under, $name), include_str!(concat!("../../../../", $folder, $name)))),*]
    };
}

/// The contract, whole: tools resolve a folder with all of its packages.
pub const WIT: &[File] = from!("wit/", "wit/":
    "worlds.wit", "deps/base/base.wit", "deps/dns/dns.wit", "deps/hook/hook.wit", "deps/http/http.wit",
    "deps/ipam/ipam.wit", "deps/panel/panel.wit", "deps/provisioner/provisioner.wit", "deps/proxmox/proxmox.wit",
    "deps/storage/storage.wit",
);

/// The Rust SDK but for its Cargo.toml, which leans on this workspace.
pub const RUST_SDK: &[File] = from!("sdk/rust/src/", "vendor/wharf-sdk/src/":
    "base.rs", "batch.rs", "connection.rs", "dns.rs", "failure.rs", "forms.rs", "hook.rs", "http.rs", "lib.rs", "log.rs",
    "names.rs", "panel.rs", "panics.rs", "provisioner.rs", "testing.rs", "text.rs",
);
pub const RUST_SDK_MANIFEST: &str = include_str!("../../../../sdk/rust/Cargo.toml");
pub const WORKSPACE_MANIFEST: &str = include_str!("../../../../Cargo.toml");

/// Templates: `@ID@` and the like are filled in.
pub const EVERY: &[File] = &[
    ("manifest.json", include_str!("../../../../sdk/template/manifest.json.in")),
    ("API.md", include_str!("../../../../sdk/template/API.md")),
    ("facade.rhai", include_str!("../../../../sdk/template/facade.rhai")),
    ("LICENSE-wharf", include_str!("../../../../LICENSE")),
];
pub const RUST: &[File] = &[
    ("Cargo.toml", include_str!("../../../../sdk/rust/template/Cargo.toml.in")),
    ("README.md", include_str!("../../../../sdk/rust/template/README.md.in")),
    (".gitignore", include_str!("../../../../sdk/rust/template/gitignore")),
    ("src/lib.rs", include_str!("../../../../sdk/rust/template/src/lib.rs")),
    ("src/api.rs", include_str!("../../../../sdk/rust/template/src/api.rs")),
    ("src/work.rs", include_str!("../../../../sdk/rust/template/src/work.rs")),
    ("src/tests.rs", include_str!("../../../../sdk/rust/template/src/tests.rs")),
];

pub const JS_SDK: &[File] = from!("sdk/js/src/", "vendor/wharf-sdk/":
    "batch.js", "guard.js", "host.d.ts", "host.js", "http.js", "index.d.ts", "index.js", "names.js", "problem.js", "testing.d.ts",
    "testing.js",
);
pub const JS: &[File] = &[
    ("package.json", include_str!("../../../../sdk/js/template/package.json.in")),
    ("build.mjs", include_str!("../../../../sdk/js/template/build.mjs")),
    ("README.md", include_str!("../../../../sdk/js/template/README.md.in")),
    (".gitignore", include_str!("../../../../sdk/js/template/gitignore")),
    ("src/provider.js", include_str!("../../../../sdk/js/template/src/provider.js")),
    ("src/api.js", include_str!("../../../../sdk/js/template/src/api.js")),
    ("src/work.js", include_str!("../../../../sdk/js/template/src/work.js")),
    ("test/provider.test.js", include_str!("../../../../sdk/js/template/test/provider.test.js")),
];

pub const TS: &[File] = &[
    ("package.json", include_str!("../../../../sdk/js/template-ts/package.json.in")),
    ("tsconfig.json", include_str!("../../../../sdk/js/template-ts/tsconfig.json")),
    ("build.mjs", include_str!("../../../../sdk/js/template-ts/build.mjs")),
    ("README.md", include_str!("../../../../sdk/js/template-ts/README.md.in")),
    (".gitignore", include_str!("../../../../sdk/js/template-ts/gitignore")),
    ("src/provider.ts", include_str!("../../../../sdk/js/template-ts/src/provider.ts")),
    ("src/api.ts", include_str!("../../../../sdk/js/template-ts/src/api.ts")),
    ("src/work.ts", include_str!("../../../../sdk/js/template-ts/src/work.ts")),
    ("test/node.d.ts", include_str!("../../../../sdk/js/template-ts/test/node.d.ts")),
    ("test/provider.test.ts", include_str!("../../../../sdk/js/template-ts/test/provider.test.ts")),
];

pub const PYTHON_SDK: &[File] = from!("sdk/python/wharf_sdk/", "vendor/wharf_sdk/":
    "__init__.py", "batch.py", "guard.py", "host.py", "http.py", "names.py", "problem.py", "testing.py", "types.py",
);
pub const PYTHON: &[File] = &[
    ("requirements.txt", include_str!("../../../../sdk/python/template/requirements.txt")),
    ("README.md", include_str!("../../../../sdk/python/template/README.md.in")),
    (".gitignore", include_str!("../../../../sdk/python/template/gitignore")),
    ("src/app.py", include_str!("../../../../sdk/python/template/src/app.py")),
    ("src/api.py", include_str!("../../../../sdk/python/template/src/api.py")),
    ("src/work.py", include_str!("../../../../sdk/python/template/src/work.py")),
    ("tests/__init__.py", include_str!("../../../../sdk/python/template/tests/__init__.py")),
    ("tests/test_provider.py", include_str!("../../../../sdk/python/template/tests/test_provider.py")),
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    fn below(folder: &Path, at: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{at}{name}");
            if entry.path().is_dir() {
                if name != "released" && name != "node_modules" && name != "__pycache__" {
                    below(&entry.path(), &format!("{path}/"), found);
                }
            } else {
                found.insert(path);
            }
        }
    }

    #[test]
    fn nothing_of_the_contract_and_the_sdks_is_left_out() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        for (folder, under, list) in [
            ("wit", "wit/", WIT),
            ("sdk/rust/src", "vendor/wharf-sdk/src/", RUST_SDK),
            ("sdk/js/src", "vendor/wharf-sdk/", JS_SDK),
            ("sdk/python/wharf_sdk", "vendor/wharf_sdk/", PYTHON_SDK),
        ] {
            let mut there = BTreeSet::new();
            below(&root.join(folder), under, &mut there);
            let listed: BTreeSet<String> = list.iter().map(|(path, _)| (*path).to_owned()).collect();
            assert_eq!(listed, there, "{folder}");
        }
    }
}
