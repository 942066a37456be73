//! Which thread runs where.

use fanblade_abi::limits::WORKERS_MAX;

use crate::error::StartError;
use crate::settings::Data;

/// CPUs of the data path's threads; None: the kernel chooses.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) sequencer: Option<usize>,
    pub(crate) workers: Vec<Option<usize>>,
}

impl Plan {
    pub(crate) fn new(settings: &Data) -> Result<Plan, StartError> {
        let allowed = fanblade_net::affinity::cpus_allowed().map_err(StartError::Cpus)?;
        Plan::choose(&allowed, &settings.cpus, settings.workers)
    }

    /// The first CPU is left to the control thread, the kernel's interrupts and everything else, if there are enough
    /// CPUs.
    fn choose(allowed: &[usize], wanted: &[usize], workers: Option<usize>) -> Result<Plan, StartError> {
        if let [sequencer, rest @ ..] = wanted {
            if let Some(cpu) = wanted.iter().find(|cpu| !allowed.contains(cpu)) {
                return Err(StartError::Cpu { cpu: *cpu, allowed: allowed.to_vec() });
            }
            return Ok(Plan { sequencer: Some(*sequencer), workers: rest.iter().map(|cpu| Some(*cpu)).collect() });
        }
        let workers = workers.unwrap_or_else(|| workers_for(allowed.len()));
        match allowed {
            [_control, sequencer, rest @ ..] if rest.len() >= workers => Ok(Plan {
                sequencer: Some(*sequencer),
                workers: rest.iter().take(workers).map(|cpu| Some(*cpu)).collect(),
            }),
            _ => Ok(Plan { sequencer: None, workers: vec![None; workers] }),
        }
    }
}

/// How many workers a blade has on so many CPUs unless the configuration says otherwise: one CPU is for the sequencer,
/// one for everything else. At most `WORKERS_MAX`, as many as the kernel's programs steer to.
#[must_use]
pub fn workers_for(cpus: usize) -> usize {
    cpus.saturating_sub(2).clamp(1, WORKERS_MAX as usize)
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
        let many: Vec<usize> = (0..300).collect();
        assert_eq!(
            plan(&many, &[], None).workers.len(),
            WORKERS_MAX as usize,
            "as many as the kernel's programs steer to"
        );
        let error = Plan::choose(&[4, 6], &[4, 5], None).unwrap_err().to_string();
        assert!(error.starts_with("this process may not use CPU 5, only [4, 6]"), "{error}");
    }
}
