//! The eBPF programs, as far as they can be had: whatever fails is said once, and the blade serves without it.

use std::net::SocketAddr;
use std::path::PathBuf;

use fanblade_net::Listener;
use fanblade_steer::{Steer, SteerOptions};

use super::interfaces;
use crate::blade::{Blade, KernelView, lock};
use crate::config::EbpfConfig;

/// The programs at work.
pub(super) struct Kernel {
    steer: Option<Steer>,
    /// All but the counts.
    view: KernelView,
}

impl Kernel {
    /// Loads and attaches. Within the runtime: the programs' log is read by a task.
    pub(super) fn start(config: &EbpfConfig, data: SocketAddr, listeners: &[Listener]) -> anyhow::Result<Kernel> {
        let mut kernel = Kernel { steer: None, view: KernelView::default() };
        if !config.enabled {
            kernel.view.lacking.push("switched off by configuration".to_owned());
            tracing::info!("serving without eBPF, as configured");
            return Ok(kernel);
        }
        let pin_dir = PathBuf::from(&config.pin_dir);
        let options = SteerOptions { ports: vec![data.port()], pin_dir: Some(pin_dir), ..SteerOptions::default() };
        match Steer::load(&options) {
            Ok(steer) => kernel.attach(steer, config, data, listeners),
            Err(error) => kernel.view.lack(&error),
        }
        if kernel.view.lacking.is_empty() {
            tracing::info!("eBPF: steering {} workers, counting on {}", listeners.len(), kernel.view.egress.join(", "));
        } else {
            let how_much = if kernel.view.is_active() { "part of eBPF" } else { "eBPF" };
            tracing::warn!("serving without {how_much}: {}", kernel.view.lacking.join("; "));
        }
        Ok(kernel)
    }

    fn attach(&mut self, mut steer: Steer, config: &EbpfConfig, data: SocketAddr, listeners: &[Listener]) {
        let view = &mut self.view;
        if let Some(error) = steer.unpinned_because() {
            view.lack(error);
        }
        match steer.attach_listeners(listeners) {
            Ok(()) => view.steering = true,
            Err(error) => view.lack(&error),
        }
        let names = config.interface.clone().map_or_else(|| interfaces::of(data), |name| vec![name]);
        for name in names {
            match steer.attach_ingress(&name) {
                Ok(mode) => view.ingress.push((name.clone(), mode.name())),
                Err(error) => view.lack(&error),
            }
            match steer.attach_egress(&name) {
                Ok(()) => view.egress.push(name),
                Err(error) => view.lack(&error),
            }
        }
        if let Err(error) = steer.spawn_log() {
            tracing::debug!("the log of the eBPF programs cannot be read: {error}");
        }
        self.steer = Some(steer);
    }

    /// Tells the programs how many connections each worker holds.
    pub(super) fn publish_load(&self, blade: &Blade) {
        let Some(steer) = &self.steer else { return };
        for (index, worker) in (0..).zip(&blade.workers) {
            let connections = u32::try_from(worker.stats.sessions.value()).unwrap_or(u32::MAX);
            // It fails only for a number that attaching would have refused.
            let _ = steer.publish_load(index, connections);
        }
    }

    /// A worker has ended: no connection is given to it any more. Those that wait at its listener stay there.
    pub(super) fn retire(&self, worker: usize) {
        self.weigh(worker, 0);
    }

    /// Another serves in its place, at the same listener, which never left its place in the kernel's map.
    pub(super) fn reinstate(&self, worker: usize) {
        self.weigh(worker, Steer::WEIGHT_INITIAL);
    }

    fn weigh(&self, worker: usize, weight: u32) {
        if let Some((steer, worker)) = self.steer.as_ref().zip(u32::try_from(worker).ok())
            && let Err(error) = steer.set_weight(worker, weight)
        {
            tracing::warn!("worker {worker} cannot be given the weight {weight} in steering: {error}");
        }
    }

    /// Reads the counts for the admin port.
    pub(super) fn refresh(&mut self, blade: &Blade) {
        if let Some(steer) = &self.steer {
            if let Ok(verdicts) = steer.view().verdicts() {
                self.view.verdicts = verdicts.to_vec();
            }
            if let Ok(workers) = steer.view().workers() {
                self.view.steered = workers.iter().map(|worker| worker.steered).collect();
            }
        }
        lock(&blade.kernel).clone_from(&self.view);
    }
}
