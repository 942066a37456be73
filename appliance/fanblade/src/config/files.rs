//! The files that a configuration is read from: the operator's, and the one that `fanblade size --toml` made for this
//! machine. The operator's words count.

use std::path::{Path, PathBuf};

use serde_spanned::Spanned;

use super::{Config, ConfigError, Keys, unplaced};

/// Where a configuration is read from, and read again from at SIGHUP.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files {
    /// None: every key has its default.
    pub(crate) config: Option<PathBuf>,
    /// Sizes for what `config` leaves out.
    pub(crate) sizing: Option<PathBuf>,
}

impl Files {
    /// Reads and checks both files, each by itself and the two together.
    pub(crate) fn load(&self) -> Result<(Config, Keys), ConfigError> {
        let read = |file: &Option<PathBuf>| -> Result<(Config, String), ConfigError> {
            let Some(file) = file else { return Ok((Config::default(), String::new())) };
            let source = Config::read(file)?;
            Ok((Config::parse(file, &source)?, source))
        };
        let ((mut config, source), (sizing, sizes)) = (read(&self.config)?, read(&self.sizing)?);
        if let Some(file) = &self.sizing {
            config.take_sizes(&sizing);
            let own = self.config.as_deref().unwrap_or(Path::new("the defaults"));
            config.validate().map_err(|fault| ConfigError::together(own, file, fault.message, fault.hint))?;
        }
        Ok((config, Keys::of(&[&sizes, &source])))
    }
}

impl Config {
    /// Takes sizes where this configuration leaves them open. A `[ring]` of its own is taken whole, since its sizes
    /// depend on each other; `cpus` say how many workers there are.
    fn take_sizes(&mut self, sizing: &Config) {
        if self.data.workers.is_none() && self.data.cpus.get_ref().is_empty() {
            self.data.workers = copy(&sizing.data.workers);
            self.data.cpus = unplaced(sizing.data.cpus.get_ref().clone());
        }
        let ring = &self.ring;
        // Only what stands in a file has a place.
        let is_sized = [&ring.updates, &ring.subjects_max].iter().any(|value| !value.span().is_empty())
            || [&ring.json, &ring.binary].iter().any(|value| !value.span().is_empty());
        if !is_sized {
            self.ring = sizing.ring.clone();
        }
        let (own, limits) = (&mut self.limits, &sizing.limits);
        for (own, sized) in [
            (&mut own.sessions_max, &limits.sessions_max),
            (&mut own.subscriptions_max, &limits.subscriptions_max),
            (&mut own.filters_max, &limits.filters_max),
        ] {
            *own = own.take().or_else(|| copy(sized));
        }
        own.held_bytes_max = own.held_bytes_max.take().or_else(|| copy(&limits.held_bytes_max));
    }
}

/// The value, without its place in another file.
fn copy<T: Clone>(value: &Option<Spanned<T>>) -> Option<Spanned<T>> {
    value.as_ref().map(|value| unplaced(value.get_ref().clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(own: &str, sizes: &str) -> Config {
        let mut config = Config::parse(Path::new("own"), own).unwrap();
        config.take_sizes(&Config::parse(Path::new("sizes"), sizes).unwrap());
        config
    }

    const SIZES: &str = "[data]\nworkers = 2\ncpus = [4, 5, 6]\n[ring]\nupdates = 4096\nsubjects_max = 50\n[limits]\nsessions_max = 9\nheld_bytes_max = \"2MiB\"\n";

    #[test]
    fn sizes_fill_what_is_left_open_and_no_more() {
        let config = both("", SIZES);
        assert_eq!(config.data.cpus.get_ref(), &[4, 5, 6]);
        assert_eq!(config.data.workers.map(Spanned::into_inner), Some(2));
        assert_eq!((*config.ring.updates.get_ref(), *config.ring.subjects_max.get_ref()), (4096, 50));
        assert_eq!(config.limits.sessions_max.map(Spanned::into_inner), Some(9));
        assert_eq!(config.limits.held_bytes_max.map(|bytes| bytes.get_ref().0), Some(2 << 20));
        let own = both("[data]\nworkers = 4\n", SIZES);
        assert_eq!((own.data.workers.map(Spanned::into_inner), own.data.cpus.into_inner()), (Some(4), vec![]));
        let config = both("[data]\ncpus = [0, 1, 2]\n[ring]\njson = \"1MiB\"\n[limits]\nsessions_max = 5\n", SIZES);
        assert_eq!(
            (config.data.workers.map(Spanned::into_inner), config.data.cpus.get_ref().as_slice()),
            (None, &[0, 1, 2][..])
        );
        assert_eq!((*config.ring.updates.get_ref(), config.ring.json.get_ref().0), (1 << 17, 1 << 20));
        assert_eq!(config.limits.sessions_max.map(Spanned::into_inner), Some(5));
        assert_eq!(config.limits.held_bytes_max.map(|bytes| bytes.get_ref().0), Some(2 << 20));
    }
}
