//! `wharf plugin build`: from the source in a folder to `<id>.wasm` beside it.
//!
//! What comes out imports `wharf:*` alone, or WASI that a host links to nothing. The tools are the language's own: cargo;
//! the packages that package.json and requirements.txt pin, put into the project and nowhere else.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use wharf_build::{
    BuildError,
    component::{check_imports, encode, with_manifest, write_if_new},
    guest,
    shell::{find, run},
    toolchain,
};

use super::project::{Language, Project};

#[derive(Args)]
pub struct Arguments {
    /// The plugin's folder.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

/// The command.
pub fn build(arguments: &Arguments) -> Result<ExitCode> {
    println!("{}", made(&Project::open(&arguments.folder)?)?);
    Ok(ExitCode::SUCCESS)
}

/// Builds, and says what became of it.
pub fn made(project: &Project) -> Result<String> {
    let began = Instant::now();
    let folder = std::path::absolute(&project.folder)?;
    let component = match project.language {
        Language::Rust => rust(&folder)?,
        Language::Js | Language::Ts => javascript(&folder)?,
        Language::Python => python(&folder)?,
    };
    check_imports(&component, &project.manifest)?;
    let component = with_manifest(component, &project.manifest)?;
    let file = project.component();
    let state = if write_if_new(&file, &component)? { "built" } else { "unchanged:" };
    // What was built from newer sources is newer, also where nothing came of it.
    touch(&file)?;
    let shown = file.strip_prefix("./").unwrap_or(&file).display();
    Ok(format!("{state} {shown}, {} KiB, in {:.1} s", component.len().div_ceil(1024), began.elapsed().as_secs_f64()))
}

fn rust(folder: &Path) -> Result<Vec<u8>> {
    let text = std::fs::read_to_string(folder.join("Cargo.toml"))?;
    let table: toml::Table = text.parse().context("Cargo.toml")?;
    let package = table.get("package").and_then(|p| p.get("name")).and_then(|n| n.as_str());
    let package = package.context("Cargo.toml names no package")?;
    let toolchain = toolchain::choose(|packages| {
        Err(BuildError::Missing(format!(
            "the target {} is missing: type `rustup target add {}`; on Debian without rustup's servers, \
             `apt-get install {}`",
            toolchain::TARGET,
            toolchain::TARGET,
            packages.join(" ")
        )))
    })?;
    let target = folder.join("target");
    run(&mut toolchain.build(folder, &target))?;
    let module = toolchain::module(&target, package);
    let module = std::fs::read(&module)
        .with_context(|| format!("{} was not made: is `crate-type = [\"cdylib\"]` set?", module.display()))?;
    Ok(encode(&module)?)
}

fn javascript(folder: &Path) -> Result<Vec<u8>> {
    let node = find("node").context("there is no `node`: install Node.js 20 or later, with npm")?;
    let major = guest::node_version(&node).unwrap_or_default();
    if major < guest::NODE {
        bail!("{} is Node.js {major}, and the tools need {} or later", node.display(), guest::NODE);
    }
    let changed = |file: &str| std::fs::metadata(folder.join(file)).and_then(|m| m.modified()).ok();
    // npm writes this file last.
    if changed("node_modules/.package-lock.json") < changed("package.json") {
        let npm = find("npm").context("there is no `npm`: it comes with Node.js")?;
        eprintln!("installing the packages that package.json pins into node_modules");
        run(Command::new(npm).args(["install", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder))?;
        touch(&folder.join("node_modules/.package-lock.json"))?;
    }
    Ok(guest::javascript(&node, folder)?)
}

fn python(folder: &Path) -> Result<Vec<u8>> {
    let venv = folder.join(".venv");
    let requirements = folder.join("requirements.txt");
    let stamp = venv.join("wharf-installed.txt");
    let wanted = std::fs::read(&requirements).context("requirements.txt")?;
    if std::fs::read(&stamp).ok().as_ref() != Some(&wanted) {
        let python = find("python3").context("there is no `python3`: install Python 3.10 or later, with venv")?;
        eprintln!("installing the packages that requirements.txt pins into .venv");
        run(Command::new(python).args(["-m", "venv"]).arg(&venv))
            .context("no Python environment can be made: on Debian, install python3-venv")?;
        let mut pip = Command::new(venv.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "-r"]).arg(&requirements);
        run(&mut pip)?;
        std::fs::write(&stamp, &wanted)?;
    }
    Ok(guest::python(&venv.join("bin/componentize-py"), folder)?)
}

fn touch(file: &Path) -> Result<()> {
    if let Ok(file) = std::fs::File::options().append(true).open(file) {
        file.set_modified(std::time::SystemTime::now())?;
    }
    Ok(())
}
