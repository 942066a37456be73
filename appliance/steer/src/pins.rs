//! The directory under /sys/fs/bpf in which the maps are pinned.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData, MapError, MapInfo, MapType};
use fanblade_abi::limits::WORKERS_MAX;
use fanblade_abi::{Config, FlowCounters, FlowKey, LAYOUT_VERSION, VerdictCounters, WorkerSlot};

use crate::error::{SteerError, chain};
use crate::limits::LOCK_WAIT_MAX;
use crate::sys::{self, Plain};

/// The directory in which the maps are pinned by default.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/fanblade";

/// Names of the pinned maps.
pub const MAPS: [&str; 5] = ["FLOWS", "VERDICTS", "WORKERS", "LISTENERS", "CONFIG"];

/// The pin directory while a blade runs: locked, so that a second blade does not take the maps of the first, and
/// emptied at the end unless the pins are to be kept.
#[derive(Debug)]
pub(crate) struct PinDir {
    path: PathBuf,
    /// Holds the lock; the kernel releases it when the process ends, however it ends.
    _lock: File,
    pub(crate) keep: bool,
}

impl PinDir {
    /// Makes and locks the directory, mounting the BPF file system if it is missing, and removes pins of another
    /// layout.
    pub(crate) fn open(path: &Path, flows_max: u32) -> Result<Self, SteerError> {
        let failed = |cause: String, mend: &str| SteerError::Pin { dir: path.to_owned(), cause, mend: mend.to_owned() };
        ensure_mounted(path)?;
        let again = "check its owner and mode";
        fs::create_dir_all(path).map_err(|error| failed(error.to_string(), again))?;
        let lock = File::open(path).map_err(|error| failed(error.to_string(), again))?;
        match lock_within(&lock, LOCK_WAIT_MAX) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(failed("another blade has its maps there".into(), "give each its own pin_dir"));
            }
            Err(TryLockError::Error(error)) => return Err(failed(error.to_string(), again)),
        }
        let dir = Self { path: path.to_owned(), _lock: lock, keep: false };
        match incompatibility(path, Some(flows_max)) {
            Ok(None) => {}
            Ok(Some(reason)) => {
                tracing::info!(dir = %path.display(), "replacing pinned maps of another layout: {reason}");
                dir.remove_pins().map_err(|error| failed(error.to_string(), again))?;
            }
            Err(error) => return Err(failed(chain(&error), again)),
        }
        Ok(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn remove_pins(&self) -> io::Result<()> {
        for name in MAPS {
            match fs::remove_file(self.path.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for PinDir {
    fn drop(&mut self) {
        if self.keep {
            return;
        }
        if let Err(error) = self.remove_pins() {
            tracing::warn!(dir = %self.path.display(), "pinned maps not removed: {error}");
        }
        // This fails, as it should, if the directory holds somebody else's files.
        let _: io::Result<()> = fs::remove_dir(&self.path);
    }
}

/// Locks the directory. A blade that is just ending may hold the lock a moment longer.
fn lock_within(lock: &File, wait_max: Duration) -> Result<(), TryLockError> {
    let deadline = Instant::now() + wait_max;
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => thread::sleep(wait_max / 20),
            result => return result,
        }
    }
}

/// Why the pinned maps are not those that this version makes; `None` if they are, or if nothing is pinned and a blade
/// is about to make them (`flows_max` is given).
pub(crate) fn incompatibility(dir: &Path, flows_max: Option<u32>) -> Result<Option<String>, MapError> {
    for shape in shapes(flows_max) {
        let path = dir.join(shape.name);
        if flows_max.is_some() && !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path)?;
        if let Some(difference) = shape.difference(&info) {
            return Ok(Some(format!("{} {difference}", shape.name)));
        }
    }
    let config = dir.join("CONFIG");
    if flows_max.is_some() && config.exists() {
        let config: Array<_, Plain<Config>> = Map::Array(MapData::from_pin(config)?).try_into()?;
        // 0: a blade made the map and ended before it could write the version.
        let version = config.get(&0, 0)?.0.layout_version;
        if version != LAYOUT_VERSION && version != 0 {
            return Ok(Some(format!("layout version {version} instead of {LAYOUT_VERSION}")));
        }
    }
    Ok(None)
}

struct Shape {
    name: &'static str,
    map_type: MapType,
    key_len: usize,
    value_len: usize,
    entries: Option<u32>,
}

fn shapes(flows_max: Option<u32>) -> [Shape; MAPS.len()] {
    let shape = |name, map_type, key_len, value_len, entries| Shape { name, map_type, key_len, value_len, entries };
    let index = size_of::<u32>();
    [
        shape("FLOWS", MapType::LruHash, size_of::<FlowKey>(), size_of::<FlowCounters>(), flows_max),
        shape("VERDICTS", MapType::PerCpuArray, index, size_of::<VerdictCounters>(), Some(1)),
        shape("WORKERS", MapType::Array, index, size_of::<WorkerSlot>(), Some(WORKERS_MAX)),
        shape("LISTENERS", MapType::ReuseportSockArray, index, size_of::<u32>(), Some(WORKERS_MAX)),
        shape("CONFIG", MapType::Array, index, size_of::<Config>(), Some(1)),
    ]
}

impl Shape {
    fn difference(&self, info: &MapInfo) -> Option<String> {
        let sizes = (info.key_size() as usize, info.value_size() as usize);
        if !info.map_type().is_ok_and(|map_type| map_type == self.map_type) {
            return Some(format!("is not a {:?}", self.map_type));
        }
        if sizes != (self.key_len, self.value_len) {
            return Some(format!("has keys and values of {sizes:?} bytes, not {:?}", (self.key_len, self.value_len)));
        }
        let entries = info.max_entries();
        self.entries
            .filter(|expected| *expected != entries)
            .map(|expected| format!("has {entries} entries, not {expected}"))
    }
}

/// Makes sure that `path` is on a BPF file system. Mounts one only at its usual place, and only if none is there.
fn ensure_mounted(path: &Path) -> Result<(), SteerError> {
    if is_bpffs(path) {
        return Ok(());
    }
    let usual = Path::new(BPFFS);
    let mounted = if path.starts_with(usual) && !is_bpffs(usual) {
        sys::mount_bpffs(usual)
    } else {
        Err(io::Error::other("not on a BPF file system"))
    };
    match mounted {
        Ok(()) => {
            tracing::info!("mounted the BPF file system at {BPFFS}");
            Ok(())
        }
        Err(error) => Err(SteerError::Pin {
            dir: path.to_owned(),
            cause: format!("the BPF file system is not mounted there ({error})"),
            mend: format!("mount -t bpf bpf {BPFFS}"),
        }),
    }
}

/// Is the path, or the nearest existing directory above it, on a BPF file system?
pub(crate) fn is_bpffs(path: &Path) -> bool {
    path.ancestors()
        .find(|ancestor| ancestor.exists())
        .and_then(|existing| nix::sys::statfs::statfs(existing).ok())
        .is_some_and(|stat| stat.filesystem_type() == nix::sys::statfs::BPF_FS_MAGIC)
}

pub(crate) const BPFFS: &str = "/sys/fs/bpf";
