//! `cargo xtask ebpf`: the kernel programs, from ebpf/ to ebpf/prebuilt.
//!
//! The object is committed together with its disassembly, so that nobody needs a BPF toolchain to build the appliance,
//! and so that a reviewer sees what a change does to the instructions. The first line of the disassembly names the
//! toolchain: another compiler makes other instructions, so that only builds of the same compiler can be compared.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, bail};

use crate::{child, repository};

/// Build the kernel programs and refresh ebpf/prebuilt
///
/// The appliance embeds fanblade.bpf.o and lanes.bpf.o of ebpf/prebuilt, and the load generator swarm.bpf.o, so this is
/// needed only after a change to ebpf/, appliance/abi or perf/swarm-abi.
/// The command builds with Debian's rustc-web and its BPF library if they are installed, else with rustup's nightly
/// and its rust-src.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Change nothing: build, and fail if the disassembly differs from the committed one
    #[arg(long)]
    check: bool,
}

/// The outcome of a build.
pub(crate) enum Outcome {
    /// Built, and ebpf/prebuilt is new.
    Built,
    /// Built, and the same as committed.
    Unchanged,
    /// Built, and different from what is committed: the first difference.
    Differs(String),
    /// Not built, or not comparable: the reason, and the commands that install what is missing.
    Skipped(String),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    Ok(match build(args.check)? {
        Outcome::Built => {
            println!("ebpf/prebuilt has changed: commit it together with the change to its sources");
            ExitCode::SUCCESS
        }
        Outcome::Unchanged => {
            println!("ebpf/prebuilt is what ebpf/ makes");
            ExitCode::SUCCESS
        }
        Outcome::Differs(difference) => {
            println!("ebpf/prebuilt is not what ebpf/ makes (cargo xtask ebpf refreshes it)\n{difference}");
            ExitCode::FAILURE
        }
        Outcome::Skipped(reason) => {
            println!("skipped: {reason}");
            // A build that is asked for and not made is a failure; a check is skipped where the tools are missing.
            if args.check { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
    })
}

/// Builds ebpf/ with the installed toolchain. `check`: compares the result with ebpf/prebuilt and writes nothing.
pub(crate) fn build(check: bool) -> anyhow::Result<Outcome> {
    let root = repository::root()?;
    let Some(llvm) = Llvm::find() else { return Ok(Outcome::Skipped(format!("no llvm-objdump\n{INSTALL}"))) };
    let committed: Vec<Prebuilt> = OBJECTS.iter().map(|object| Prebuilt::read(&root, object)).collect();
    if check {
        // This needs no toolchain: the committed object must hold the instructions of its committed disassembly.
        for prebuilt in &committed {
            if let Some(difference) = first_difference(&prebuilt.code, &llvm.disassemble(&prebuilt.object)?) {
                let (object, disassembly) = (prebuilt.object.display(), prebuilt.disassembly.display());
                return Ok(Outcome::Differs(format!("{object} is not what {disassembly} says: {difference}")));
            }
        }
    }
    let Some(toolchain) = Toolchain::find(&root)? else {
        return Ok(Outcome::Skipped(format!("no toolchain for BPF\n{INSTALL}")));
    };
    // A different toolchain makes different instructions: there is nothing to compare with.
    let built_by = format!("; built by {}", toolchain.version);
    if check && let Some(other) = committed.iter().find(|prebuilt| prebuilt.built_by != built_by) {
        return Ok(Outcome::Skipped(format!(
            "the toolchains differ, so the objects cannot be compared: committed is {:?}, here it would be {built_by:?}",
            other.built_by
        )));
    }

    let release = toolchain.build(&root)?;
    let mut is_new = false;
    for (prebuilt, object) in committed.iter().zip(OBJECTS) {
        let built = release.join(object.program);
        let stripped = built.with_extension("stripped");
        // The linker has made BTF, which stays, of the debug information.
        child::succeed(Command::new(&llvm.objcopy).arg("--strip-debug").arg(&built).arg(&stripped))?;
        let code = llvm.disassemble(&stripped)?;
        if check {
            if let Some(difference) = first_difference(&prebuilt.code, &code) {
                return Ok(Outcome::Differs(format!("{}: {difference}", object.name)));
            }
            continue;
        }
        let bytes = fs::read(&stripped)?;
        if let Some(path) = path_of_this_machine(&bytes, &root) {
            bail!("the object names {path}, a path of this machine; see `remaps` in xtask/src/ebpf.rs");
        }
        if fs::read(&prebuilt.object).ok().as_deref() == Some(&bytes)
            && (&prebuilt.built_by, &prebuilt.code) == (&built_by, &code)
        {
            continue;
        }
        is_new = true;
        fs::create_dir_all(root.join(PREBUILT))?;
        fs::write(&prebuilt.object, bytes)?;
        fs::write(&prebuilt.disassembly, format!("{built_by}\n{code}"))?;
    }
    Ok(if is_new { Outcome::Built } else { Outcome::Unchanged })
}

/// A committed object: its name, and the name of the program that it is built from.
struct Object {
    program: &'static str,
    name: &'static str,
}

const OBJECTS: [Object; 3] = [
    Object { program: "fanblade-bpf", name: "fanblade.bpf" },
    Object { program: "fanblade-lanes-bpf", name: "lanes.bpf" },
    Object { program: "fanblade-swarm-bpf", name: "swarm.bpf" },
];

/// An object and its disassembly as committed; both texts are empty if nothing is committed yet.
struct Prebuilt {
    object: PathBuf,
    disassembly: PathBuf,
    /// The first line of the disassembly.
    built_by: String,
    code: String,
}

impl Prebuilt {
    fn read(root: &Path, object: &Object) -> Self {
        let place = |kind: &str| root.join(PREBUILT).join(format!("{}.{kind}", object.name));
        let disassembly = place("disasm");
        let text = fs::read_to_string(&disassembly).unwrap_or_default();
        let (built_by, code) = text.split_once('\n').unwrap_or_default();
        Self { object: place("o"), built_by: built_by.to_owned(), code: code.to_owned(), disassembly }
    }
}

/// Cargo, and the other programs that a build for BPF needs.
struct Toolchain {
    cargo: Vec<&'static str>,
    rustc: Option<&'static str>,
    build_std: bool,
    linker: PathBuf,
    /// Versions of the compiler and the linker.
    version: String,
}

impl Toolchain {
    fn find(root: &Path) -> anyhow::Result<Option<Self>> {
        let tools = repository::tools(root).join("bin/bpf-linker");
        let home = cargo_home().join("bin/bpf-linker");
        let linker = [tools, home].into_iter().find(|linker| repository::is_executable(linker));
        let Some(linker) = linker.or_else(|| repository::find_program("bpf-linker")) else { return Ok(None) };
        let linker_version = output(Command::new(&linker).arg("--version"))?;

        if Path::new("/usr/bin/cargo").exists() && Path::new("/usr/lib/rustlib/bpfel-unknown-none").exists() {
            let version = format!("{}, {}", output(Command::new(DEBIAN_RUSTC).arg("--version"))?, linker_version);
            let (cargo, rustc) = (vec!["/usr/bin/cargo"], Some(DEBIAN_RUSTC));
            return Ok(Some(Self { cargo, rustc, build_std: false, linker, version }));
        }
        let nightly = |args: &[&str]| output(Command::new("rustup").args(["run", "nightly", "rustc"]).args(args)).ok();
        let source = nightly(&["--print", "sysroot"]).map(|root| Path::new(&root).join("lib/rustlib/src/rust/library"));
        if source.is_some_and(|source| source.is_dir()) {
            let version = format!("{}, {linker_version}", nightly(&["--version"]).context("rustc of nightly")?);
            let cargo = vec!["rustup", "run", "nightly", "cargo"];
            return Ok(Some(Self { cargo, rustc: None, build_std: true, linker, version }));
        }
        Ok(None)
    }

    /// Returns the directory of the objects, with debug information.
    fn build(&self, root: &Path) -> anyhow::Result<PathBuf> {
        let target_dir = repository::build_dir(root).join("ebpf");
        let mut flags = vec!["-Cdebuginfo=2".to_owned(), "-Clink-arg=--btf".into()];
        flags.push(format!("-Clinker={}", self.linker.display()));
        flags.extend(remaps(root).into_iter().map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())));
        let (program, arguments) = self.cargo.split_first().context("no cargo")?;
        let mut cargo = Command::new(program);
        cargo.args(arguments).args(["build", "--release", "--locked", "--target", TARGET]);
        if self.build_std {
            cargo.args(["-Z", "build-std=core"]);
        }
        // Cargo has set these for the userland's toolchain; the toolchain for BPF must not see them.
        for name in ["RUSTC", "RUSTUP_TOOLCHAIN", "RUSTFLAGS", "CARGO", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH"] {
            cargo.env_remove(name);
        }
        if let Some(rustc) = self.rustc {
            // Debian's compiler is a stable release, and the programs use two unstable features.
            cargo.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
        }
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).env("CARGO_TARGET_DIR", &target_dir);
        child::succeed(cargo.current_dir(root.join("ebpf")))?;
        Ok(target_dir.join(TARGET).join("release"))
    }
}

struct Llvm {
    objcopy: PathBuf,
    objdump: PathBuf,
}

impl Llvm {
    fn find() -> Option<Self> {
        let find = |name: &str| {
            let versions = (18..=30).rev().map(|version| PathBuf::from(format!("/usr/lib/llvm-{version}/bin/{name}")));
            versions.into_iter().find(|path| path.exists()).or_else(|| repository::find_program(name))
        };
        Some(Self { objcopy: find("llvm-objcopy")?, objdump: find("llvm-objdump")? })
    }

    /// The instructions with their relocations, without addresses, so that an insertion changes one line only.
    fn disassemble(&self, object: &Path) -> anyhow::Result<String> {
        let mut objdump = Command::new(&self.objdump);
        objdump.args(["--disassemble", "--reloc", "--no-leading-addr", "--no-show-raw-insn"]).arg(object);
        let text = output(&mut objdump)?;
        // The first line names the file.
        Ok(text
            .lines()
            .filter(|line| !line.contains("file format"))
            .map(|line| without_crate_hashes(line) + "\n")
            .collect())
    }
}

/// Removes from mangled names the hash that depends on the path of the checkout: `NtCs8vcDmAn3AJB_12fanblade` →
/// `NtCs_12fanblade`.
fn without_crate_hashes(line: &str) -> String {
    let mut parts = line.trim_end().split("Cs");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (hash, rest) = part.split_once('_').unwrap_or_default();
        let is_hash = hash.len() >= 8 && hash.bytes().all(|byte| byte.is_ascii_alphanumeric());
        text.push_str("Cs");
        text.extend(if is_hash { ["_", rest] } else { ["", part] });
    }
    text
}

/// Prefixes of source paths to replace, so that BTF's line information is the same on every machine.
fn remaps(root: &Path) -> Vec<(PathBuf, &'static str)> {
    let mut remaps = vec![(cargo_home(), "/cargo"), (root.to_owned(), "/fanblade")];
    // Each registry has its own directory, with a checksum in its name.
    let sources = cargo_home().join("registry/src");
    remaps.extend(repository::list(&sources).into_iter().map(|name| (sources.join(name), "/cargo")));
    // The compiler takes the last prefix that fits: the longest, once they are sorted.
    remaps.sort();
    remaps
}

fn path_of_this_machine(object: &[u8], root: &Path) -> Option<String> {
    let home = env::var_os("HOME").map(PathBuf::from);
    [Some(root.to_owned()), Some(cargo_home()), home].into_iter().flatten().find_map(|path| {
        let bytes = path.as_os_str().as_encoded_bytes();
        let is_there = bytes.len() > 1 && object.windows(bytes.len()).any(|window| window == bytes);
        is_there.then(|| path.display().to_string())
    })
}

fn first_difference(committed: &str, built: &str) -> Option<String> {
    let mut lines = (1..).zip(committed.lines().map(Some).chain(std::iter::repeat(None)));
    let mut built = built.lines();
    loop {
        let (number, committed) = lines.next()?;
        let built = built.next();
        if committed != built {
            let show = |line: Option<&str>| line.unwrap_or("(end)").trim().to_owned();
            return Some(format!("line {}: {:?} became {:?}", number + 1, show(committed), show(built)));
        }
        committed?;
    }
}

fn cargo_home() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from)
}

fn output(command: &mut Command) -> anyhow::Result<String> {
    let line = child::line(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}`: {}\n{}", child::ending(output.status), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
}

const PREBUILT: &str = "ebpf/prebuilt";
const TARGET: &str = "bpfel-unknown-none";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const INSTALL: &str = "\
    on Debian 12 or later:
      apt-get install -y --no-install-recommends rustc-web cargo-web libstd-rust-web-dev-bpf llvm-22-dev llvm-22
      LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 PATH=/usr/lib/llvm-22/bin:$PATH \\
        cargo install bpf-linker --version 0.13.0 --locked --no-default-features --features llvm-22
    elsewhere:
      rustup toolchain install nightly --component rust-src
      cargo install bpf-linker --version 0.13.0 --locked    (and LLVM's llvm-objdump and llvm-objcopy on PATH)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_found_wherever_one_ends() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n").unwrap(), "line 3: \"b\" became \"c\"");
        assert_eq!(first_difference("a\n", "a\nb\n").unwrap(), "line 3: \"(end)\" became \"b\"");
        assert_eq!(first_difference("a\nb\n", "a\n").unwrap(), "line 3: \"b\" became \"(end)\"");
    }

    #[test]
    fn names_do_not_depend_on_the_checkout() {
        let line = "R_BPF_64_64\t_RNvNtCshUX1xheENBQ_12fanblade_abi6packet10EXTENSIONS ";
        assert_eq!(without_crate_hashes(line), "R_BPF_64_64\t_RNvNtCs_12fanblade_abi6packet10EXTENSIONS");
        assert_eq!(without_crate_hashes("r1 = Cs_x Cs"), "r1 = Cs_x Cs");
    }

    #[test]
    fn paths_of_this_machine_are_found_in_an_object() {
        let root = Path::new("/somewhere/checkout");
        assert_eq!(path_of_this_machine(b"..\0/fanblade/ebpf\0..", root), None);
        assert!(path_of_this_machine(b"..\0/somewhere/checkout/ebpf\0..", root).is_some());
    }
}
