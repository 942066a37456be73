//! Which thread runs where.

use anyhow::bail;

use crate::config::DataConfig;

/// CPUs of the threads of the data path; None: wherever the kernel likes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) sequencer: Option<usize>,
    pub(super) workers: Vec<Option<usize>>,
}

impl Plan {
    pub(super) fn new(config: &DataConfig) -> anyhow::Result<Plan> {
        let allowed = fanblade_net::affinity::cpus_allowed()?;
        let workers = config.workers.as_ref().map(|workers| *workers.get_ref());
        Plan::choose(&allowed, config.cpus.get_ref(), workers)
    }

    /// The first CPU is left to the control thread, the kernel's interrupts and everything else, if there are enough.
    fn choose(allowed: &[usize], wanted: &[usize], workers: Option<usize>) -> anyhow::Result<Plan> {
        if let [sequencer, rest @ ..] = wanted {
            if let Some(cpu) = wanted.iter().find(|cpu| !allowed.contains(cpu)) {
                bail!(
                    "CPU {cpu} is not for this process, which may use {allowed:?}; see `cpus` in the configuration and taskset(1)"
                );
            }
            return Ok(Plan { sequencer: Some(*sequencer), workers: rest.iter().map(|cpu| Some(*cpu)).collect() });
        }
        let workers = workers.unwrap_or_else(|| allowed.len().saturating_sub(2).max(1));
        match allowed {
            [_control, sequencer, rest @ ..] if rest.len() >= workers => Ok(Plan {
                sequencer: Some(*sequencer),
                workers: rest.iter().take(workers).map(|cpu| Some(*cpu)).collect(),
            }),
            _ => Ok(Plan { sequencer: None, workers: vec![None; workers] }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_get_cpus_of_their_own_or_none() {
        let plan = |allowed: &[usize], wanted: &[usize], workers| Plan::choose(allowed, wanted, workers).unwrap();
        assert_eq!(plan(&[0, 1, 2, 3], &[], None), Plan { sequencer: Some(1), workers: vec![Some(2), Some(3)] });
        assert_eq!(plan(&[0, 1, 2, 3], &[], Some(1)), Plan { sequencer: Some(1), workers: vec![Some(2)] });
        assert_eq!(plan(&[0, 1, 2, 3], &[], Some(3)), Plan { sequencer: None, workers: vec![None; 3] });
        assert_eq!(plan(&[4, 6], &[], None), Plan { sequencer: None, workers: vec![None] });
        assert_eq!(plan(&[0], &[], None), Plan { sequencer: None, workers: vec![None] });
        assert_eq!(plan(&[4, 6], &[6, 4], None), Plan { sequencer: Some(6), workers: vec![Some(4)] });
        let error = Plan::choose(&[4, 6], &[4, 5], None).unwrap_err().to_string();
        assert!(error.starts_with("CPU 5 is not for this process, which may use [4, 6]"), "{error}");
    }
}
