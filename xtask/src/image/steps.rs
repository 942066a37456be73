//! The steps of a build: each runs only if something that it depends on has changed, and says how long it took.

use std::fmt::{self, Write as _};
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// What a step depends on.
#[derive(Clone)]
pub(super) struct Key(Sha256);

impl Key {
    /// `recipe`: the source of the step, so that a changed recipe is a changed step.
    pub(super) fn new(recipe: &str) -> Key {
        Key(Sha256::new()).with(recipe)
    }

    pub(super) fn with(mut self, input: impl fmt::Display) -> Key {
        let text = input.to_string();
        self.0.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_le_bytes());
        self.0.update(text);
        self
    }

    /// A file's content, or all files below a directory, with their paths and modes.
    pub(super) fn with_path(self, path: &Path) -> anyhow::Result<Key> {
        use std::os::unix::fs::PermissionsExt as _;
        if path.is_dir() {
            let mut names: Vec<PathBuf> =
                fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
            names.sort();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return names.iter().try_fold(self.with(name), |key, path| key.with_path(path));
        }
        let mode = fs::metadata(path).with_context(|| path.display().to_string())?.permissions().mode();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(self.with(name).with(mode).with(hash(path)?))
    }

    /// The key itself: 64 hexadecimal digits.
    pub(super) fn digest(&self) -> String {
        hex(&self.0.clone().finalize())
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub(super) fn hash(path: &Path) -> anyhow::Result<String> {
    let mut file = fs::File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        let len = file.read(&mut buffer).with_context(|| format!("reading {}", path.display()))?;
        if len == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..len]);
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// All steps of one build.
pub(super) struct Steps {
    /// Where products lie, and for each step the key of its last run.
    dir: PathBuf,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    took: Option<Duration>,
    note: String,
}

impl Steps {
    pub(super) fn new(dir: &Path) -> Steps {
        Steps { dir: dir.to_owned(), rows: Vec::new() }
    }

    /// The key that a step's last run in this directory returned.
    pub(super) fn last(dir: &Path, name: &str) -> anyhow::Result<Key> {
        let stamp = dir.join(format!("{name}.step"));
        let text = fs::read_to_string(&stamp).with_context(|| format!("reading {}", stamp.display()))?;
        Ok(Key::new(name).with(text.lines().next().unwrap_or_default()))
    }

    /// Runs a step unless its products are there already, made from the same inputs. Returns the step's own key, an
    /// input of the steps that follow. `products` are paths below the build's directory.
    pub(super) fn run(
        &mut self,
        name: &'static str,
        key: &Key,
        products: &[&str],
        make: impl FnOnce() -> anyhow::Result<String>,
    ) -> anyhow::Result<Key> {
        let (stamp, hex) = (self.dir.join(format!("{name}.step")), key.digest());
        let last = fs::read_to_string(&stamp).unwrap_or_default();
        let is_current = last.lines().next() == Some(&hex) && products.iter().all(|path| self.dir.join(path).exists());
        let (took, note) = if is_current {
            (None, last.lines().nth(1).unwrap_or_default().to_owned())
        } else {
            // A step that is interrupted has no stamp.
            let _ = fs::remove_file(&stamp);
            let started = Instant::now();
            eprintln!("{name} …");
            let note = make().with_context(|| format!("step {name}"))?;
            fs::write(&stamp, format!("{hex}\n{note}\n")).with_context(|| stamp.display().to_string())?;
            (Some(started.elapsed()), note)
        };
        let row = Row { name, took, note };
        eprint!("{row}");
        self.rows.push(row);
        Ok(Key::new(name).with(hex))
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.took {
            Some(took) => writeln!(f, "  {:<12} {:>7.1} s  {}", self.name, took.as_secs_f64(), self.note),
            None => writeln!(f, "  {:<12} unchanged  {}", self.name, self.note),
        }
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.iter().try_for_each(|row| row.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_runs_again_only_for_other_inputs_or_lost_products() {
        let dir = tempfile::tempdir().unwrap();
        let product = dir.path().join("product");
        let run = |input: &str| {
            let mut has_run = false;
            let mut steps = Steps::new(dir.path());
            steps
                .run("make", &Key::new("recipe").with(input), &["product"], || {
                    has_run = true;
                    fs::write(&product, input)?;
                    Ok("made".to_owned())
                })
                .unwrap();
            assert!(steps.to_string().contains("made"), "{steps}");
            has_run
        };
        assert_eq!([run("a"), run("a"), run("b"), run("b")], [true, false, true, false]);
        fs::remove_file(&product).unwrap();
        assert!(run("b"));
    }

    #[test]
    fn a_step_that_fails_runs_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut steps = Steps::new(dir.path());
        let key = Key::new("recipe");
        steps.run("make", &key, &[], || Ok(String::new())).unwrap();
        assert!(steps.run("make", &key.clone().with("x"), &[], || anyhow::bail!("no")).is_err());
        let mut has_run = false;
        let again = steps.run("make", &key, &[], || {
            has_run = true;
            Ok(String::new())
        });
        assert!(again.is_ok() && has_run, "the first one's product may have been overwritten");
    }

    #[test]
    fn a_mode_or_a_name_is_an_input_too() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let key = || Key::new("").with_path(dir.path()).unwrap().digest();
        fs::write(dir.path().join("a"), "text").unwrap();
        let first = key();
        fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o700)).unwrap();
        let second = key();
        fs::rename(dir.path().join("a"), dir.path().join("b")).unwrap();
        assert!(first != second && second != key());
        assert_eq!(hash(&dir.path().join("b")).unwrap()[..8], *"982d9e3e");
    }
}
