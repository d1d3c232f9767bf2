//! `bpf`: the only builder of the kernel programs; `--check` refuses a stale object.
//!
//! The same sources and tools give the same bytes in any folder: paths are remapped, DWARF is removed (BTF stays), and
//! this command has its own target directory. But some links (2 of 24) order forward declarations in BTF differently:
//! if the bytes differ, it links again.

use std::{
    env,
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    manifest::{Manifest, sha256, sources},
    packages,
    process::{note, output, run, workspace},
};

const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";
const TARGET: &str = "bpfel-unknown-none";
/// Number of links that may differ from the committed object before it is refused.
const LINKS: usize = 4;
const HELP: &str = "help: cargo xtask bpf, and commit tracer/bpf";

fn object() -> PathBuf {
    workspace().join(format!("tracer/bpf/leaktrace-{ARCH}.bpf.o"))
}

fn manifest() -> PathBuf {
    workspace().join(format!("tracer/bpf/manifest-{ARCH}.txt"))
}

/// Builds the object and writes it with its manifest.
pub(crate) fn build() -> Result<()> {
    packages::for_bpf()?;
    let built = compile()?;
    let made = Manifest { object: sha256(&built)?, ..tools()? };
    fs::create_dir_all(workspace().join("tracer/bpf"))?;
    fs::copy(&built, object())?;
    fs::write(manifest(), made.text())?;
    note(&format!("{} bytes in {}", fs::metadata(object())?.len(), object().display()));
    Ok(())
}

/// Refuses an object that was not built from these sources or has different bytes.
pub(crate) fn check() -> Result<()> {
    let committed = Manifest::read(&manifest()).context(HELP)?;
    if sources(workspace())? != committed.sources {
        bail!(
            "tracer/bpf was not built from these sources of tracer-ebpf and tracer-common\n{HELP}"
        );
    }
    if sha256(&object())? != committed.object {
        bail!("the object in tracer/bpf is not the one its manifest describes\n{HELP}");
    }
    let here = match packages::for_bpf().and_then(|()| tools()) {
        Ok(here) if here.rustc == committed.rustc && here.linker == committed.linker => here,
        Ok(here) => {
            note(&format!(
                "bpf: not rebuilt: {} and {} here, {} and {} in the manifest",
                here.rustc, here.linker, committed.rustc, committed.linker
            ));
            return Ok(());
        }
        Err(missing) => {
            note(&format!("bpf: not rebuilt: {missing:#}"));
            return Ok(());
        }
    };
    let mut again = String::new();
    for _ in 0..LINKS {
        again = sha256(&compile()?)?;
        if again == committed.object {
            note("bpf: the committed object is what these sources build");
            return Ok(());
        }
        note(&format!("bpf: this link made other bytes ({again})"));
        run(cargo().args(["clean", "--release", "--target", TARGET, "--package", "tracer-ebpf"]))?;
    }
    bail!("{} builds other bytes ({again}) from the same sources\n{HELP}", here.rustc);
}

/// The manifest without the object's hash.
fn tools() -> Result<Manifest> {
    Ok(Manifest {
        sources: sources(workspace())?,
        rustc: output(Command::new(RUSTC).arg("--version"))?,
        linker: output(Command::new("bpf-linker").arg("--version"))?,
        object: String::new(),
    })
}

/// Cargo's target directory.
fn folder() -> PathBuf {
    workspace().join("target/bpf")
}

/// Debian's cargo with this target directory.
fn cargo() -> Command {
    let mut command = Command::new(CARGO);
    command.env("CARGO_TARGET_DIR", folder()).env_remove("RUSTUP_TOOLCHAIN");
    // An incremental build splits the crate into more units, and makes other bytes.
    command.env_remove("CARGO_INCREMENTAL");
    // Environment variables with which cargo describes its own toolchain must not reach Debian's cargo.
    for (name, _) in env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_")) {
        command.env_remove(name);
    }
    command
}

fn compile() -> Result<PathBuf> {
    let home = env::var("HOME").unwrap_or_else(|_| "/".to_owned());
    let cargo_home = env::var("CARGO_HOME").unwrap_or_else(|_| format!("{home}/.cargo"));
    let sysroot = output(Command::new(RUSTC).args(["--print", "sysroot"]))?;
    let flags = [
        "-Clinker=bpf-linker".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        // Selects `arch` in both kernel crates, and in aya: the processor that the programs run on.
        format!("--cfg=bpf_target_arch=\"{ARCH}\""),
        // The last match wins: the most specific folder comes last.
        format!("--remap-path-prefix={sysroot}=/rustc"),
        format!("--remap-path-prefix={cargo_home}=/cargo"),
        format!("--remap-path-prefix={}=/leaktrace", workspace().display()),
    ];
    let mut command = cargo();
    command
        .args(["build", "--release", "--locked", "--target", TARGET, "--package", "tracer-ebpf"])
        .env("RUSTC", RUSTC)
        // `-Z` features of a stable compiler, for this one command: BPF targets are tier 3.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"))
        .env_remove("RUSTFLAGS");
    run(&mut command)?;
    let built = folder().join(TARGET).join("release/leaktrace");
    let stripped = folder().join("leaktrace.bpf.o");
    strip(&built, &stripped)?;
    Ok(stripped)
}

/// Removes DWARF and keeps BTF, which the kernel needs for verification and relocation.
fn strip(from: &Path, to: &Path) -> Result<()> {
    let tool = "/usr/lib/llvm-22/bin/llvm-objcopy";
    output(Command::new(tool).arg("--strip-debug").arg(from).arg(to))?;
    let sections = output(Command::new("/usr/lib/llvm-22/bin/llvm-readelf").arg("-S").arg(to))?;
    if !sections.contains(".BTF ") || !sections.contains("license") {
        bail!("`{}` has no BTF or no license section after stripping", to.display());
    }
    Ok(())
}
