//! The eBPF programs, as far as they are available: each failure is logged once, and the blade serves without that
//! program.

use std::net::SocketAddr;
use std::sync::Arc;

use fanblade_net::{Listener, interfaces};
use fanblade_steer::{Steer, SteerOptions};
use nix::net::if_::if_nametoindex;

use crate::settings::Ebpf;
use crate::view::{Blade, KernelView};

/// The active programs.
pub(crate) struct Kernel {
    steer: Option<Steer>,
    /// The view without the counts.
    view: KernelView,
    counted: Vec<Counted>,
    /// What is not active, apart from the interfaces.
    lacking: Vec<String>,
}

impl Kernel {
    /// Loads and attaches the programs. Call it within a runtime, since a task reads the programs' log.
    pub(crate) fn start(settings: &Ebpf, data: SocketAddr, listeners: &[Listener]) -> Kernel {
        let mut kernel = Kernel { steer: None, view: KernelView::default(), counted: Vec::new(), lacking: Vec::new() };
        if !settings.enabled {
            kernel.lacking.push("switched off by configuration".to_owned());
            kernel.gather();
            tracing::info!("serving without eBPF, as configured");
            return kernel;
        }
        let pin_dir = Some(settings.pin_dir.clone());
        let options = SteerOptions { ports: vec![data.port()], pin_dir, ..SteerOptions::default() };
        match Steer::load(&options) {
            Ok(steer) => kernel.attach(steer, settings, data, listeners),
            Err(error) => kernel.lacking.push(KernelView::reason(&error)),
        }
        kernel.gather();
        if kernel.view.lacking.is_empty() {
            tracing::info!("eBPF: steering {} workers, counting on {}", listeners.len(), kernel.view.egress.join(", "));
        } else {
            let how_much = if kernel.view.is_active() { "part of eBPF" } else { "eBPF" };
            tracing::warn!("serving without {how_much}: {}", kernel.view.lacking.join("; "));
        }
        kernel
    }

    fn attach(&mut self, mut steer: Steer, settings: &Ebpf, data: SocketAddr, listeners: &[Listener]) {
        if let Some(error) = steer.unpinned_because() {
            self.lacking.push(KernelView::reason(error));
        }
        match steer.attach_listeners(listeners) {
            Ok(()) => self.view.steering = true,
            Err(error) => self.lacking.push(KernelView::reason(&error)),
        }
        let names = settings.interface.clone().map_or_else(|| interfaces::of(data), |name| vec![name]);
        for name in names {
            let mut counted = Counted::new(name);
            counted.attach(&mut steer);
            self.counted.push(counted);
        }
        if let Err(error) = steer.spawn_log() {
            tracing::debug!("cannot read the log of the eBPF programs: {error}");
        }
        self.steer = Some(steer);
    }

    /// Checks which interfaces have gone, and which have come back.
    fn look_at_interfaces(&mut self) {
        let Some(steer) = &mut self.steer else { return };
        let mut is_changed = false;
        for counted in &mut self.counted {
            is_changed |= counted.look(steer);
        }
        if is_changed {
            self.gather();
        }
    }

    /// Collects what is active and what is not.
    fn gather(&mut self) {
        let Self { view, counted, lacking, .. } = self;
        let of = |counted: &Counted| counted.ingress.map(|mode| (counted.name.clone(), mode));
        view.ingress = counted.iter().filter_map(of).collect();
        view.egress = counted.iter().filter(|counted| counted.egress).map(|counted| counted.name.clone()).collect();
        view.lacking = lacking.iter().chain(counted.iter().flat_map(|counted| &counted.lacking)).cloned().collect();
    }

    /// Tells the programs how many connections each worker holds.
    pub(crate) fn publish_load(&self, blade: &Blade) {
        let Some(steer) = &self.steer else { return };
        for (index, worker) in (0..).zip(&blade.workers) {
            let connections = u32::try_from(worker.stats.sessions.value()).unwrap_or(u32::MAX);
            // Fails only for an index that attaching would have refused.
            let _ = steer.publish_load(index, connections);
        }
    }

    /// Sends no more connections to a worker that has ended. Those that wait at its listener stay there.
    pub(crate) fn retire(&self, worker: usize) {
        self.weigh(worker, 0);
    }

    /// Sends connections to the worker's replacement, whose listener is the same and never left the kernel's map.
    pub(crate) fn reinstate(&self, worker: usize) {
        self.weigh(worker, Steer::WEIGHT_INITIAL);
    }

    fn weigh(&self, worker: usize, weight: u32) {
        if let Some((steer, worker)) = self.steer.as_ref().zip(u32::try_from(worker).ok())
            && let Err(error) = steer.set_weight(worker, weight)
        {
            tracing::warn!("cannot set the steering weight of worker {worker} to {weight}: {error}");
        }
    }

    /// Reads the counts for the admin port.
    pub(crate) fn refresh(&mut self, blade: &Blade) {
        self.look_at_interfaces();
        if let Some(steer) = &self.steer {
            if let Ok(verdicts) = steer.view().verdicts() {
                self.view.verdicts = verdicts.to_vec();
            }
            if let Ok(workers) = steer.view().workers() {
                self.view.steered = workers.iter().map(|worker| worker.steered).collect();
            }
        }
        blade.kernel.store(Arc::new(self.view.clone()));
    }
}

/// An interface whose packets are counted while it exists.
struct Counted {
    name: String,
    /// The index of the interface that last had this name; none while there is none.
    index: Option<u32>,
    ingress: Option<&'static str>,
    egress: bool,
    /// What is not active here, and why.
    lacking: Vec<String>,
}

impl Counted {
    fn new(name: String) -> Counted {
        let index = if_nametoindex(name.as_str()).ok();
        Counted { name, index, ingress: None, egress: false, lacking: Vec::new() }
    }

    fn attach(&mut self, steer: &mut Steer) {
        match steer.attach_ingress(&self.name) {
            Ok(mode) => self.ingress = Some(mode.name()),
            Err(error) => self.lacking.push(KernelView::reason(&error)),
        }
        match steer.attach_egress(&self.name) {
            Ok(()) => self.egress = true,
            Err(error) => self.lacking.push(KernelView::reason(&error)),
        }
    }

    /// Follows the interface: it may have gone, come back, or been replaced by another of the same name. True:
    /// something changed.
    fn look(&mut self, steer: &mut Steer) -> bool {
        let index = if_nametoindex(self.name.as_str()).ok();
        if index == self.index {
            return false;
        }
        self.index = index;
        self.lacking.clear();
        (self.ingress, self.egress) = (None, false);
        let name = &self.name;
        if let Err(error) = steer.detach(name) {
            tracing::debug!("cannot detach from interface {name}: {error}");
        }
        if index.is_none() {
            tracing::warn!("interface {name} has gone: its packets are not counted until it is there again");
            self.lacking.push(format!("interface {name} has gone"));
            return true;
        }
        self.attach(steer);
        match self.lacking.first() {
            None => tracing::info!("interface {} is there again: its packets are counted", self.name),
            Some(reason) => tracing::warn!("interface {} is there again: {reason}", self.name),
        }
        true
    }
}
