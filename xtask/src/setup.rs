//! `cargo xtask setup`: the tools that the other commands can use, and what is lost without them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use anyhow::{Context as _, bail};
use nix::unistd::Uid;

use crate::{child, deny, repository};

/// Install what tests and tools need, or say exactly what is missing and what is lost without it
///
/// As root on a system with apt-get: installs the Debian packages, builds bpf-linker and cargo-deny into target/tools,
/// makes the Python venv in target/venv. As a plain user: makes the venv, and prints the lines to be run as root.
/// Building and running the blade needs none of this. A thing that cannot be fetched is no error: it is named. If
/// everything is installed, this is quick.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Install nothing, only report; exit code 1 if something is missing
    #[arg(long)]
    check: bool,
}

/// A thing that may be missing.
struct Piece {
    name: &'static str,
    lost: &'static str,
    is_there: fn(&Path) -> bool,
    how: How,
}

enum How {
    /// Debian packages.
    Apt(&'static [&'static str]),
    /// Debian packages that may start services: `setup` names them but does not install them.
    Services(&'static [&'static str]),
    /// `rustup component add`.
    Rustup(&'static str),
    BpfLinker,
    CargoDeny,
    Venv,
}

const EBPF_LOST: &str =
    "rebuilding the eBPF programs and comparing them with ebpf/prebuilt (the prebuilt object is used)";

/// In the order of installation: the linker needs LLVM, the venv needs Python.
const PIECES: [Piece; 14] = [
    Piece {
        name: "rustfmt and clippy",
        lost: "the format and lint steps of `cargo xtask test`",
        is_there: |_| ["cargo-fmt", "cargo-clippy"].iter().all(|name| repository::find_program(name).is_some()),
        how: How::Rustup("rustfmt clippy"),
    },
    Piece {
        name: "cargo-deny",
        lost: "licences, sources and advisories of dependencies (the deny step of `cargo xtask test`)",
        is_there: |root| deny::program(root).is_some(),
        how: How::CargoDeny,
    },
    Piece {
        name: "iproute2",
        lost: "tests in network namespaces (steering, flow counters)",
        is_there: |_| repository::find_program("ip").is_some(),
        how: How::Apt(&["iproute2"]),
    },
    Piece {
        name: "ethtool",
        lost: "the test that sets an interface's queues as `fanblade tune` does",
        is_there: |_| repository::find_program("ethtool").is_some(),
        how: How::Apt(&["ethtool"]),
    },
    Piece {
        name: "bpftool",
        lost: "the test that maps are readable by bpftool, and reading them yourself",
        is_there: |_| repository::find_program("bpftool").is_some(),
        how: How::Apt(&["bpftool"]),
    },
    Piece {
        name: "valgrind",
        lost: "counting instructions (`cargo xtask bench instructions`) and its test",
        is_there: |_| repository::find_program("valgrind").is_some(),
        how: How::Apt(&["valgrind"]),
    },
    Piece {
        name: "a C++ compiler",
        lost: "fuzzing (`cargo xtask fuzz`); the corpora are tested all the same",
        is_there: |_| ["c++", "g++", "clang++"].iter().any(|name| repository::find_program(name).is_some()),
        how: How::Apt(&["g++"]),
    },
    Piece {
        name: "peers to measure against",
        lost: "NATS, Nchan and mosquitto in `cargo xtask bench peers`, and their tests",
        is_there: |_| {
            ["nats-server", "nginx", "mosquitto"].iter().all(|name| repository::find_program(name).is_some())
                && Path::new("/usr/lib/nginx/modules/ngx_nchan_module.so").is_file()
        },
        how: How::Services(&["nats-server", "nginx", "libnginx-mod-nchan", "mosquitto"]),
    },
    Piece {
        name: "Chromium",
        lost: "the console's test in a browser",
        is_there: |_| {
            ["chromium", "chromium-browser", "google-chrome"]
                .iter()
                .any(|name| repository::find_program(name).is_some())
        },
        how: How::Apt(&["chromium"]),
    },
    Piece {
        name: "the BPF toolchain",
        lost: EBPF_LOST,
        is_there: |_| {
            Path::new("/usr/lib/llvm-22/bin/llvm-config").exists()
                && Path::new("/usr/lib/rustlib/bpfel-unknown-none").exists()
                && Path::new("/usr/bin/cargo").exists()
        },
        how: How::Apt(&["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf", "llvm-22-dev"]),
    },
    Piece { name: "bpf-linker", lost: EBPF_LOST, is_there: |root| bpf_linker(root).is_some(), how: How::BpfLinker },
    Piece {
        name: "mmdebstrap",
        lost: "the appliance image (`cargo xtask image`, `cargo xtask vm`)",
        is_there: |_| repository::find_program("mmdebstrap").is_some(),
        how: How::Apt(&["mmdebstrap"]),
    },
    Piece {
        name: "Python 3 with venv",
        lost: "the test peers in Python",
        is_there: |root| venv_is_current(root) || python().is_some(),
        how: How::Apt(&["python3", "python3-venv"]),
    },
    Piece {
        name: "test peers in Python",
        lost: "conformance (kosoku), comparison with an independent ITCH decoder (itchfeed) and client (websockets)",
        is_there: venv_is_current,
        how: How::Venv,
    },
];

const BPF_LINKER_VERSION: &str = "0.13.0";

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let root = repository::root()?;
    let missing = if args.check { missing(&root) } else { install(&root, Uid::effective().is_root()) };
    if missing.is_empty() {
        println!("everything is installed");
    }
    for piece in &missing {
        println!("missing: {}\n  without it: {}\n  to get it:  {}", piece.name, piece.lost, piece.command());
    }
    Ok(if args.check && !missing.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// For the test command: installs what it is allowed to, and returns one line for each thing that is still missing.
pub(crate) fn prepare(root: &Path, with_packages: bool) -> Vec<String> {
    install(root, with_packages)
        .iter()
        .map(|piece| {
            format!(
                "{} is missing, so this run goes without {}. To get it: {}",
                piece.name,
                piece.lost,
                piece.command()
            )
        })
        .collect()
}

/// The venv's interpreter, if all test peers are installed there.
pub(crate) fn python_with_peers(root: &Path) -> Option<PathBuf> {
    venv_is_current(root).then(|| repository::venv(root).join("bin/python"))
}

fn missing(root: &Path) -> Vec<&'static Piece> {
    PIECES.iter().filter(|piece| !(piece.is_there)(root)).collect()
}

/// Installs what is missing and returns what is still missing. Failures are printed and are not fatal.
fn install(root: &Path, with_packages: bool) -> Vec<&'static Piece> {
    let missing_before = missing(root);
    if with_packages {
        let packages: Vec<&str> = missing_before.iter().flat_map(|piece| piece.packages()).copied().collect();
        if !packages.is_empty() {
            report("Debian packages", apt_install(&packages));
        }
    }
    for piece in missing_before {
        match piece.how {
            How::BpfLinker if with_packages => report(piece.name, build_bpf_linker(root)),
            How::CargoDeny if with_packages => report(piece.name, build_cargo_deny(root)),
            How::Venv => report(piece.name, make_venv(root)),
            How::Rustup(components) if with_packages => report(piece.name, add_components(components)),
            _ => {}
        }
    }
    missing(root)
}

fn report(name: &str, done: anyhow::Result<()>) {
    if let Err(error) = done {
        eprintln!("warning: {name}: {error:#}");
    }
}

impl Piece {
    fn packages(&self) -> &'static [&'static str] {
        match self.how {
            How::Apt(packages) => packages,
            _ => &[],
        }
    }

    /// The command that installs it.
    fn command(&self) -> String {
        match self.how {
            How::Apt(packages) | How::Services(packages) => {
                let sudo = if Uid::effective().is_root() { "" } else { "sudo " };
                format!("{sudo}apt-get install -y --no-install-recommends {}", packages.join(" "))
            }
            How::Rustup(components) => format!("rustup component add {components}"),
            How::BpfLinker => format!(
                "LLVM_SYS_221_PREFIX={LLVM} PATH={LLVM}/bin:$PATH cargo install bpf-linker --version {BPF_LINKER_VERSION} \
                 --locked --no-default-features --features llvm-22 --root target/tools"
            ),
            How::CargoDeny => deny::install_line(),
            How::Venv => "cargo xtask setup".to_owned(),
        }
    }
}

const LLVM: &str = "/usr/lib/llvm-22";

fn apt_install(packages: &[&str]) -> anyhow::Result<()> {
    let apt = repository::find_program("apt-get")
        .context("there is no apt-get here; install the packages your system's way")?;
    let apt = |args: &[&str]| child::succeed(Command::new(&apt).env("DEBIAN_FRONTEND", "noninteractive").args(args));
    if let Err(error) = apt(&["update", "-q"]) {
        eprintln!("warning: {error:#}; going on with the package lists that are there");
    }
    let install: Vec<&str> = ["install", "-yq", "--no-install-recommends"].iter().chain(packages).copied().collect();
    // dpkg has been seen to fail once and to succeed at the second try.
    apt(&install).or_else(|_| apt(&install))
}

fn add_components(components: &str) -> anyhow::Result<()> {
    child::succeed(Command::new("rustup").args(["component", "add"]).args(components.split(' ')))
}

/// bpf-linker of the right version: our own, else the one on PATH.
fn bpf_linker(root: &Path) -> Option<PathBuf> {
    [Some(repository::tools(root).join("bin/bpf-linker")), repository::find_program("bpf-linker")]
        .into_iter()
        .flatten()
        .find(|linker| {
            let version = Command::new(linker).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
            version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(BPF_LINKER_VERSION))
        })
}

fn build_bpf_linker(root: &Path) -> anyhow::Result<()> {
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([PathBuf::from(LLVM).join("bin")].into_iter().chain(env::split_paths(&path)))?;
    let mut install = repository::cargo(root);
    install
        .env("LLVM_SYS_221_PREFIX", LLVM)
        .env("PATH", path)
        .args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--locked"])
        .args(["--no-default-features", "--features", "llvm-22"])
        .args([OsStr::new("--root"), repository::tools(root).as_os_str()]);
    child::succeed(&mut install)
}

fn build_cargo_deny(root: &Path) -> anyhow::Result<()> {
    let mut install = repository::cargo(root);
    install.args(["install", "cargo-deny", "--version", deny::VERSION, "--locked"]);
    install.args([OsStr::new("--root"), repository::tools(root).as_os_str()]);
    child::succeed(&mut install)
}

/// A Python that can make a venv.
fn python() -> Option<PathBuf> {
    [repository::find_program("python3"), Some(PathBuf::from("/usr/bin/python3"))].into_iter().flatten().find(
        |python| {
            let mut probe = Command::new(python);
            probe
                .args(["-c", "import venv, ensurepip"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            probe.status().is_ok_and(|status| status.success())
        },
    )
}

const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// Written last: the stamp says that all requirements are installed, and where (a venv cannot be moved or copied).
fn stamp(root: &Path) -> PathBuf {
    repository::venv(root).join("requirements.txt")
}

fn stamp_text(root: &Path) -> String {
    format!("{REQUIREMENTS}# in {}\n", repository::venv(root).display())
}

fn venv_is_current(root: &Path) -> bool {
    // The interpreter is a link to the system's, which may have been removed.
    repository::is_executable(&repository::venv(root).join("bin/python"))
        && fs::read_to_string(stamp(root)).is_ok_and(|installed| installed == stamp_text(root))
}

fn make_venv(root: &Path) -> anyhow::Result<()> {
    let Some(python) = python() else { bail!("no python3 here can make a venv; install python3 and python3-venv") };
    let venv = repository::venv(root);
    if venv.exists() {
        fs::remove_dir_all(&venv).with_context(|| format!("cannot remove the old {}", venv.display()))?;
    }
    child::succeed(Command::new(python).args(["-m", "venv"]).arg(&venv))?;
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    child::succeed(pip.arg(root.join("xtask/requirements.txt")))?;
    fs::write(stamp(root), stamp_text(root)).context("cannot note what has been installed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_venv_of_other_requirements_or_without_python_is_not_current() {
        let root = tempfile::tempdir().unwrap();
        let bin = repository::venv(root.path()).join("bin");
        fs::create_dir_all(&bin).unwrap();
        std::os::unix::fs::symlink("/bin/sh", bin.join("python")).unwrap();
        fs::write(stamp(root.path()), "kosoku==0.0.9\n").unwrap();
        assert!(!venv_is_current(root.path()));
        fs::write(stamp(root.path()), stamp_text(Path::new("/elsewhere"))).unwrap();
        assert!(!venv_is_current(root.path()));
        fs::write(stamp(root.path()), stamp_text(root.path())).unwrap();
        assert!(venv_is_current(root.path()));
        fs::remove_file(bin.join("python")).unwrap();
        std::os::unix::fs::symlink("/nowhere/python3", bin.join("python")).unwrap();
        assert!(!venv_is_current(root.path()));
    }

    #[test]
    fn every_piece_says_how_to_get_it() {
        for piece in &PIECES {
            assert!(!piece.lost.is_empty() && piece.command().len() > 10, "{}", piece.name);
        }
    }

    #[test]
    fn requirements_are_pinned() {
        for line in REQUIREMENTS.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.contains("=="), "{line}");
        }
    }
}
