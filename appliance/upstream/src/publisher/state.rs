//! The file with which the numbering outlives the process: the epoch's name, and the first number not yet reserved.
//!
//! The file is written before the numbers are used: first under another name, and renamed once it is on the disk. So a
//! number is never used twice: after a crash the blade continues behind the reserved numbers, after a clean stop
//! exactly where it stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use fanblade_feed::Session;
use nix::fcntl::{Flock, FlockArg};
use parking_lot::Mutex;
use serde::Deserialize;

use super::limits::{RESERVE_NUMBERS, SEQ_END_MAX};

/// The open file, locked against other blades; or, without a path, a numbering that is not kept.
#[derive(Debug)]
pub(super) struct StateFile {
    place: Option<Place>,
    session: Session,
    epoch: String,
    /// Lets one write at a time through, in the order of the calls, since a write may be stuck.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct Place {
    path: PathBuf,
    /// The lock is on a file of its own, because each write replaces the state file.
    _lock: Flock<File>,
}

/// The content of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    epoch: String,
    next: u64,
}

/// Why there is no numbering.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read or written.
    #[error("cannot {what} {}: {error}; `state` in [feed.publisher] names the file that keeps the numbering, \"\" for none", path.display())]
    File {
        /// What cannot be done.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Another process holds the lock.
    #[error("{} is used by another blade: two of them would give out the same numbers", .0.display())]
    Taken(PathBuf),
    /// The file is not what a blade writes.
    #[error(
        "{}: {what}; it should hold the epoch and the next number. If it cannot be restored, remove it: the blade begins a \
         new epoch, and subscribers get a snapshot where they would have resumed",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        what: String,
    },
}

impl StateFile {
    /// Opens or begins a numbering; returns it with its first number, which may be used once it is reserved.
    pub(super) fn open(path: Option<&Path>) -> Result<(StateFile, u64), StateError> {
        let Some(path) = path else {
            return Ok((StateFile::begin(None), 1));
        };
        let failed = |what, path: &Path, error| StateError::File { what, path: path.to_owned(), error };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(|error| failed("make the directory", directory, error))?;
        }
        let lock_path = beside(path, "lock");
        let lock_file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| failed("open", &lock_path, error))?;
        let lock = Flock::lock(lock_file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
            nix::errno::Errno::EWOULDBLOCK => StateError::Taken(path.to_owned()),
            errno => failed("lock", &lock_path, errno.into()),
        })?;
        let place = Place { path: path.to_owned(), _lock: lock };
        match fs::read_to_string(path) {
            Ok(text) => {
                let (epoch, next) = parse(path, &text)?;
                tracing::info!("epoch {epoch} goes on at {next}");
                Ok((StateFile { place: Some(place), session: session(&epoch), epoch, writing: Mutex::default() }, next))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let state = StateFile::begin(Some(place));
                tracing::info!("{} does not exist yet: epoch {} begins", path.display(), state.epoch);
                Ok((state, 1))
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(StateError::Corrupt { path: path.to_owned(), what: "it is not text".to_owned() })
            }
            Err(error) => Err(failed("read", path, error)),
        }
    }

    /// A new numbering, with a random name.
    fn begin(place: Option<Place>) -> StateFile {
        let mut bits = rand::random::<u64>();
        let mut id = String::with_capacity(ID_LEN);
        for _ in 0..ID_LEN {
            id.push(char::from(ID_LETTERS[(bits % 32) as usize]));
            bits /= 32;
        }
        let epoch = format!("{PREFIX}{id}");
        StateFile { place, session: session(&epoch), epoch, writing: Mutex::default() }
    }

    pub(super) fn epoch(&self) -> &str {
        &self.epoch
    }

    pub(super) fn session(&self) -> Session {
        self.session
    }

    /// Is there a file?
    pub(super) fn is_kept(&self) -> bool {
        self.place.is_some()
    }

    /// Records that all numbers below `next` may have been used. Returns when the file is on the disk.
    pub(super) fn write(&self, next: u64) -> io::Result<()> {
        let Some(Place { path, .. }) = &self.place else { return Ok(()) };
        let _writing = self.writing.lock();
        let new = beside(path, "new");
        let mut file = File::create(&new)?;
        write!(file, "{HEADING}epoch = \"{}\"\nnext = {next}\n", self.epoch)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // The directory must be on the disk, too, as it holds the new name.
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }
}

fn parse(path: &Path, text: &str) -> Result<(String, u64), StateError> {
    let corrupt = |what: String| StateError::Corrupt { path: path.to_owned(), what };
    let Text { epoch, next } = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        corrupt(format!("line {line}: {}", error.message()))
    })?;
    let is_epoch = (1..=fanblade_ring::limits::EPOCH_LEN_MAX).contains(&epoch.len())
        && epoch.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_epoch {
        return Err(corrupt(format!("`{}` is not an epoch", epoch.escape_debug())));
    }
    if next > SEQ_END_MAX - RESERVE_NUMBERS {
        return Err(corrupt(format!("`next` is {next}: after it there are not enough numbers left")));
    }
    if next == 0 {
        return Err(corrupt("numbers begin with 1, `next` is 0".to_owned()));
    }
    Ok((epoch, next))
}

/// As much of the epoch's name as fits. Subscribers see the whole name.
fn session(epoch: &str) -> Session {
    let mut session = [b' '; 10];
    let id = epoch.strip_prefix(PREFIX).unwrap_or(epoch);
    session.iter_mut().zip(id.bytes()).for_each(|(place, byte)| *place = byte);
    session
}

/// `publisher.toml.lock`
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    name.into()
}

const PREFIX: &str = "pub-";
const ID_LEN: usize = 10;
/// Letters and digits that are not mistaken for each other.
const ID_LETTERS: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
const HEADING: &str =
    "# The numbering of [feed.publisher], written by the blade. To begin a new epoch, stop it and remove this file.\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_numbering_outlives_its_file_handle_and_is_nobody_elses() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new/publisher.toml");
        let (state, next) = StateFile::open(Some(&path)).unwrap();
        assert_eq!(next, 1);
        state.write(42).unwrap();
        let error = StateFile::open(Some(&path)).unwrap_err().to_string();
        assert!(error.contains("used by another blade"), "{error}");
        let epoch = state.epoch().to_owned();
        assert!(epoch.starts_with("pub-") && epoch.len() == 14, "{epoch}");
        drop(state);
        let (again, next) = StateFile::open(Some(&path)).unwrap();
        assert_eq!((again.epoch(), next), (epoch.as_str(), 42));
        assert_eq!(&again.session(), &epoch.as_bytes()[4..]);
        let mut names: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["publisher.toml", "publisher.toml.lock"]);
        drop(again);
        fs::remove_file(&path).unwrap();
        let (other, next) = StateFile::open(Some(&path)).unwrap();
        assert!(other.epoch() != epoch && next == 1, "a new epoch");
    }

    #[test]
    fn what_is_wrong_with_the_file_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("publisher.toml");
        for (text, expected) in [
            (&b"epoch = \"pub-a\"\n"[..], "line 1: missing field `next`"),
            (b"epoch = \"pub-a\"\nnext = -1\n", "line 2: "),
            (b"epoch = \"pub-a\"\nnext = 0\n", "numbers begin with 1"),
            (b"epoch = \"pub a\"\nnext = 1\n", "`pub a` is not an epoch"),
            (b"epoch = \"\"\nnext = 1\n", "`` is not an epoch"),
            (b"", "missing field"),
            (b"epoch = \"pub-a\"\nnext = 7\nnxt = 8\n", "line 3: unknown field `nxt`"),
            (b"\xff\xfe", "it is not text"),
            (b"epoch = \"pub-a\nnext", "line 2: "),
        ] {
            fs::write(&path, text).unwrap();
            let error = StateFile::open(Some(&path)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("remove it"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), text, "it is left as it was");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let error = StateFile::open(Some(&path)).unwrap_err().to_string();
        assert!(error.starts_with("cannot read"), "{error}");
    }

    #[test]
    fn without_a_file_each_start_is_an_epoch_of_its_own() {
        let ((one, _), (other, next)) = (StateFile::open(None).unwrap(), StateFile::open(None).unwrap());
        assert!(one.epoch() != other.epoch() && next == 1);
        one.write(5).unwrap();
    }
}
