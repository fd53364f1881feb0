//! From component to machine code: in a child process with limits, kept by content.
//!
//! Guarantees that the serving process never compiles on behalf of a call and never runs the compiler on bytes it was
//! handed (but in tests), and that what it maps as code was made by this user. Artefacts are named by the SHA-256 of the
//! component and the compatibility hash of the engine, written beside their place and renamed, never changed afterwards;
//! the folder is this user's own, mode 0700, and a file in it that others could have written is made anew. Bounded by
//! [`CompileLimits`]: address space, CPU and wall-clock time and the size of the output, the first and the last two
//! enforced by the kernel.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, Permissions},
    io::{Read, Write},
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, PermissionsExt},
        process::ExitStatusExt,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use wasmtime::{Engine, component::Component};

use crate::{
    config::{CompileLimits, Compiler, MIB},
    engine,
    error::{InstallError, RuntimeError},
    text,
};

/// How long an artefact that nothing needs is kept.
const UNUSED_KEPT: Duration = Duration::from_secs(86_400);
/// Threads of the child: more would take more memory at once than they save time.
const THREADS: usize = 4;
/// Of what the child says before it dies, this much is kept.
const STDERR_BYTES: u64 = 8 * 1024;
/// Signals by which the kernel enforces the limits.
const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;
const SIGSEGV: i32 = 11;
const SIGXCPU: i32 = 24;
const SIGXFSZ: i32 = 25;

/// The folder of artefacts.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    dir: PathBuf,
    compatibility: String,
    owner: u32,
}

impl Cache {
    /// Makes the folder, or checks that it is this user's alone.
    pub(crate) fn open(dir: PathBuf, engine: &Engine) -> Result<Self, RuntimeError> {
        let fail = |problem: String| RuntimeError::Cache { path: dir.display().to_string(), problem };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|e| fail(format!("can't be made ({e}): correct `data_dir`, or its owner")))?;
        // Whoever makes a file here is who we are; no call for it in the standard library.
        let owner = tempfile::NamedTempFile::new_in(&dir)
            .and_then(|file| file.as_file().metadata())
            .map_err(|e| fail(format!("can't be written ({e}): correct its owner or mode")))?
            .uid();
        let found = fs::symlink_metadata(&dir).map_err(|e| fail(e.to_string()))?;
        if !found.is_dir() || found.uid() != owner {
            return Err(fail(format!(
                "belongs to user {}, and what lies in it is run as code by user {owner}: remove it, or set `data_dir` to a folder of your own",
                found.uid()
            )));
        }
        if found.mode() & 0o077 != 0 {
            fs::set_permissions(&dir, Permissions::from_mode(0o700)).map_err(|e| {
                fail(format!("is open to other users and can't be closed to them ({e}): set its mode to 0700"))
            })?;
        }
        Ok(Self { compatibility: engine::compatibility(engine), dir, owner })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.dir.join(format!("{digest}-{}.cwasm", self.compatibility))
    }

    /// The artefact of this component, if there is one that nobody else can have written.
    fn get(&self, digest: &str) -> Option<PathBuf> {
        let path = self.path(digest);
        let found = fs::symlink_metadata(&path).ok()?;
        (found.is_file() && found.uid() == self.owner && found.mode() & 0o022 == 0).then_some(path)
    }

    /// Removes what no installed component has any use for: of other components, of other versions of the engine, and
    /// what a kill left half done. Not before a day has passed since it was written: the next start after an
    /// upgrade that is taken back, and another host on the same folder, may have use for it. What is mapped stays
    /// mapped.
    pub(crate) fn tidy(&self, digests: &std::collections::BTreeSet<String>) {
        let Ok(entries) = fs::read_dir(&self.dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let wanted = name
                .strip_suffix(&format!("-{}.cwasm", self.compatibility))
                .is_some_and(|digest| digests.contains(digest));
            let old = |meta: fs::Metadata| {
                meta.is_file() && meta.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > UNUSED_KEPT))
            };
            if !wanted && entry.metadata().is_ok_and(old) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The compiled component, if it is there and can be loaded.
    pub(crate) fn cached(&self, serving: &Engine, digest: &str) -> Option<Component> {
        let path = self.get(digest)?;
        map(serving, &path)
            .inspect_err(|e| {
                // A file system that lost a part of it, or a hash that says too little.
                tracing::warn!(path = %path.display(), error = %e, "a compiled plugin can't be loaded and is compiled again");
            })
            .ok()
    }

    /// Compiles, keeps and loads. Blocks for seconds.
    pub(crate) fn compiled(
        &self,
        serving: &Engine,
        compiler: &Compiler,
        limits: CompileLimits,
        digest: &str,
        component: &[u8],
    ) -> Result<Component, InstallError> {
        let path = self.compile(compiler, limits, digest, component)?;
        map(serving, &path).map_err(|e| InstallError::Compile(load_problem(&e)))
    }

    fn compile(
        &self,
        compiler: &Compiler,
        limits: CompileLimits,
        digest: &str,
        component: &[u8],
    ) -> Result<PathBuf, InstallError> {
        let folder = |e: std::io::Error| InstallError::Cache(e.to_string());
        let mut output = tempfile::NamedTempFile::new_in(&self.dir).map_err(folder)?;
        match compiler {
            Compiler::InProcess => {
                let code = engine::compiling()
                    .and_then(|engine| engine.precompile_component(component))
                    .map_err(|e| InstallError::Compile(text::cut(&format!("{e:#}"), text::MESSAGE)))?;
                output.write_all(&code).map_err(folder)?;
            }
            Compiler::Child(exe) => {
                let mut input = tempfile::NamedTempFile::new_in(&self.dir).map_err(folder)?;
                input.write_all(component).map_err(folder)?;
                run_child(exe, limits, input.path(), output.path())?;
            }
        }
        let path = self.path(digest);
        output.as_file().sync_all().map_err(folder)?;
        output.persist(&path).map_err(|e| folder(e.error))?;
        Ok(path)
    }
}

/// Maps an artefact.
fn map(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    #[allow(
        unsafe_code,
        reason = "a file in a folder of this user's own, mode 0700, made by our own compiler, renamed whole into its \
                  place under the hash of its source and never changed afterwards: what `deserialize_file` asks for"
    )]
    unsafe {
        Component::deserialize_file(engine, path)
    }
}

fn load_problem(error: &wasmtime::Error) -> String {
    let text = format!("{error:#}");
    if text.contains("exceeds the configured maximum") {
        return format!("it consists of more parts than a call may have ({}): simplify it", text::cut(&text, 500));
    }
    text::cut(&text, text::MESSAGE)
}

fn run_child(exe: &Path, limits: CompileLimits, input: &Path, output: &Path) -> Result<(), InstallError> {
    let failed = |e: std::io::Error| {
        InstallError::Compile(format!("the compiler `{}` can't be started ({e}): correct the path", exe.display()))
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let mut child = Command::new(exe)
        .args(["plugin", "compile", "--input"])
        .arg(input)
        .arg("--output")
        .arg(output)
        .arg("--limits")
        .arg(format!("{},{},{}", limits.memory_mib, limits.seconds, limits.output_mib))
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        // Every further arena of glibc's allocator takes 64 MiB of address space, used or not.
        .env("MALLOC_ARENA_MAX", "2")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let said = child.stderr.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = pipe.by_ref().take(STDERR_BYTES).read_to_end(&mut said);
            // Reads on, so that a talkative child is never blocked by a full pipe.
            let _ = std::io::copy(&mut pipe, &mut std::io::sink());
            String::from_utf8_lossy(&said).into_owned()
        })
    });
    // Real time on purpose: the child lives outside of the virtual time of tests.
    let deadline = Instant::now() + Duration::from_secs(u64::from(limits.seconds));
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break Some(status),
            None if Instant::now() >= deadline => {
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let said = said.and_then(|thread| thread.join().ok()).unwrap_or_default();
    match status {
        Some(status) if status.success() => Ok(()),
        status => Err(InstallError::Compile(child_problem(status, said.trim(), limits))),
    }
}

fn child_problem(status: Option<ExitStatus>, said: &str, limits: CompileLimits) -> String {
    let time = format!("it took more than {} seconds: simplify it, or raise `compile.seconds`", limits.seconds);
    let memory =
        format!("it took more than {} MiB of memory: simplify it, or raise `compile.memory_mib`", limits.memory_mib);
    let Some(status) = status else { return time };
    let out_of_memory = said.contains("memory allocation of") || said.contains("Cannot allocate memory");
    match status.signal() {
        Some(SIGXCPU) => time,
        Some(SIGXFSZ) => {
            format!(
                "its machine code has more than {} MiB: simplify it, or raise `compile.output_mib`",
                limits.output_mib
            )
        }
        Some(SIGKILL) => "the compiler was killed, perhaps for want of memory on this machine: try again".to_owned(),
        Some(SIGABRT | SIGSEGV) | None if out_of_memory => memory,
        // Where even the message can't be allocated.
        Some(SIGABRT | SIGSEGV) if said.is_empty() => memory,
        Some(signal) => format!("the compiler ended with signal {signal}: {}", text::cut(said, text::MESSAGE)),
        None if said.contains("File too large") => {
            format!(
                "its machine code has more than {} MiB: simplify it, or raise `compile.output_mib`",
                limits.output_mib
            )
        }
        None => text::cut(said, text::MESSAGE),
    }
}

/// What `wharf plugin compile` runs: compiles `--input` to `--output` under `--limits memory-MiB,seconds,output-MiB`.
/// `args` are those after `plugin compile`. A failure is one line on stderr and exit code 1.
pub fn compile_child(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match child(args.into_iter().collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Stderr is where the parent reads; there is nobody to tell if it is closed.
            let _ = writeln!(std::io::stderr(), "{problem}");
            ExitCode::FAILURE
        }
    }
}

fn child(args: Vec<OsString>) -> Result<(), String> {
    let (input, output, limits) = child_args(&args)?;
    let component = fs::read(&input).map_err(|e| format!("{}: {e}", input.display()))?;
    let engine = engine::compiling().map_err(|e| format!("{e:#}"))?;
    limit_self(limits).map_err(|e| format!("the limits of the compiler can't be set: {e}"))?;
    let code = engine.precompile_component(&component).map_err(|e| format!("{e:#}"))?;
    // Into the file that the parent made, so that it is renamed by whoever owns it.
    File::create(&output)
        .and_then(|mut file| file.write_all(&code).and_then(|()| file.sync_all()))
        .map_err(|e| format!("{}: {e}", output.display()))
}

fn child_args(args: &[OsString]) -> Result<(PathBuf, PathBuf, CompileLimits), String> {
    let usage = || "usage: plugin compile --input FILE --output FILE --limits MEMORY_MIB,SECONDS,OUTPUT_MIB".to_owned();
    let value = |name: &str| {
        let at = args.iter().position(|a| a == name)?;
        args.get(at + 1).cloned()
    };
    let (Some(input), Some(output)) = (value("--input"), value("--output")) else { return Err(usage()) };
    let limits = match value("--limits") {
        None => CompileLimits::default(),
        Some(text) => {
            let text = text.into_string().map_err(|_| usage())?;
            let numbers: Vec<u32> = text.split(',').filter_map(|n| n.parse().ok()).collect();
            let [memory_mib, seconds, output_mib] = numbers.as_slice() else { return Err(usage()) };
            CompileLimits { memory_mib: *memory_mib, seconds: *seconds, output_mib: *output_mib }
        }
    };
    Ok((input.into(), output.into(), limits))
}

fn limit_self(limits: CompileLimits) -> std::io::Result<()> {
    use rlimit::Resource;
    // On top of what is mapped already: the program itself, its libraries, its stacks.
    let mapped = fs::read_to_string("/proc/self/status")?
        .lines()
        .find_map(|line| line.strip_prefix("VmSize:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
        .unwrap_or(0)
        * 1024;
    let memory = mapped + u64::from(limits.memory_mib) * MIB;
    let seconds = u64::from(limits.seconds);
    let output = u64::from(limits.output_mib) * MIB;
    Resource::CORE.set(0, 0)?;
    Resource::AS.set(memory, memory)?;
    Resource::CPU.set(seconds, seconds + 1)?;
    Resource::FSIZE.set(output, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_others_can_read_is_closed_to_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("compiled");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        Cache::open(path.clone(), &engine::compiling().unwrap()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn an_artefact_that_others_could_have_written_is_not_used_and_one_of_others_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().join("compiled"), &engine::compiling().unwrap()).unwrap();
        let path = cache.path("abc");
        fs::write(&path, b"x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(cache.get("abc").is_some());
        fs::set_permissions(&path, Permissions::from_mode(0o622)).unwrap();
        assert!(cache.get("abc").is_none());
        for (name, age) in [("gone", UNUSED_KEPT * 2), ("fresh", UNUSED_KEPT / 2), ("abc", UNUSED_KEPT * 2)] {
            let file = fs::File::create(cache.path(name)).unwrap();
            file.set_modified(std::time::SystemTime::now() - age).unwrap();
        }
        cache.tidy(&["abc".to_owned()].into());
        assert!(path.exists() && cache.path("fresh").exists() && !cache.path("gone").exists());
    }

    #[test]
    fn the_arguments_of_the_child_are_read_back() {
        let args = ["--input", "a", "--output", "b", "--limits", "1,2,3"].map(OsString::from);
        let (input, output, limits) = child_args(&args).unwrap();
        assert_eq!((input, output), ("a".into(), "b".into()));
        assert_eq!(limits, CompileLimits { memory_mib: 1, seconds: 2, output_mib: 3 });
        assert!(child_args(&args[..2]).is_err());
    }
}
