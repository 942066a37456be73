//! The daemon's side: loads and attaches the programs, and publishes the workers' loads.

use std::os::fd::{AsFd, AsRawFd as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aya::maps::{Map, ReusePortSockArray};
use aya::programs::links::LinkOrder;
use aya::programs::tc::{SchedClassifierLinkId, TcAttachOptions};
use aya::programs::xdp::XdpLinkId;
use aya::programs::{ProgramError, SchedClassifier, SkReuseport, TcAttachType, Xdp, xdp};
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use aya_log::EbpfLogger;
use fanblade_abi::limits::{FLOWS_MAX, PORTS_MAX, WEIGHT_MAX, WORKERS_MAX};
use fanblade_abi::{Config, LAYOUT_VERSION};

use crate::error::{SteerError, errno, io_error};
use crate::limits::{FLOWS_LIMIT, FLOWS_MIN};
use crate::log::ToTracing;
use crate::pins::{DEFAULT_PIN_DIR, MAPS, PinDir};
use crate::probe;
use crate::sys::{WorkerTable, watch};
use crate::view::View;

/// Options for loading the programs.
#[derive(Clone, Debug)]
pub struct SteerOptions {
    /// TCP ports whose packets are counted; at most [`PORTS_MAX`].
    pub ports: Vec<u16>,
    /// The directory in which the maps are pinned; `None`: they are not pinned.
    pub pin_dir: Option<PathBuf>,
    /// Leave the pins when the blade ends, so that the counts can still be read and the next blade continues them.
    pub keep_pins: bool,
    /// Size of the flow table, in flows of about 144 bytes of kernel memory each.
    pub flows_max: u32,
}

impl Default for SteerOptions {
    fn default() -> Self {
        Self { ports: Vec::new(), pin_dir: Some(DEFAULT_PIN_DIR.into()), keep_pins: false, flows_max: FLOWS_MAX }
    }
}

/// How `ingress` is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver, before the kernel makes a socket buffer of the packet.
    Native,
    /// In the kernel's network stack, after it has made a socket buffer: this costs more, and packets that the kernel
    /// has already joined (GRO) count as one.
    Generic,
}

impl XdpMode {
    /// The mode's name in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// The programs that [`Steer::run`] can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// The XDP program.
    Ingress,
    /// The tcx program.
    Egress,
}

/// The result of running a program over a packet.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    /// The program's answer (`XDP_PASS` is 2, tcx "next" is -1).
    pub action: i32,
    /// Mean time of one run.
    pub duration: Duration,
}

/// The kernel programs of one blade. Dropping it detaches `ingress` and `egress` and removes the pins; the listeners'
/// group keeps `steer` for as long as it has sockets.
pub struct Steer {
    ebpf: Ebpf,
    view: View,
    workers: Arc<WorkerTable>,
    listeners: ReusePortSockArray<aya::maps::MapData>,
    logger: Option<EbpfLogger<ToTracing>>,
    log_task: Option<tokio::task::AbortHandle>,
    pin_dir: Option<PinDir>,
    unpinned: Option<SteerError>,
    /// The links by interface, so that an interface which reappears replaces its former link.
    ingress_links: Vec<(String, XdpLinkId)>,
    egress_links: Vec<(String, SchedClassifierLinkId)>,
}

impl Steer {
    /// Loads the programs and makes their maps. Maps that cannot be pinned still work, and [`Steer::unpinned_because`]
    /// says why other programs cannot see them.
    pub fn load(options: &SteerOptions) -> Result<Self, SteerError> {
        let ports = ports(&options.ports)?;
        if !(FLOWS_MIN..=FLOWS_LIMIT).contains(&options.flows_max) {
            let allowed = format!("{FLOWS_MIN} to {FLOWS_LIMIT}");
            return Err(SteerError::OutOfRange { what: "flows_max", value: options.flows_max.into(), allowed });
        }
        probe::require_capabilities()?;

        // Without a directory for the pins, loading goes on, and `unpinned` keeps the reason.
        let (mut pin_dir, unpinned) = match &options.pin_dir {
            None => (None, None),
            Some(path) => match PinDir::open(path, options.flows_max) {
                Ok(dir) => (Some(dir), None),
                Err(error) => (None, Some(error)),
            },
        };
        // The loader reuses maps that are pinned, and pins the maps that it makes.
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("FLOWS", options.flows_max);
        if let Some(dir) = &pin_dir {
            for name in MAPS {
                loader.map_pin_path(name, dir.path().join(name));
            }
        }
        let mut ebpf = loader.load(OBJECT)?;
        load_programs(&mut ebpf)?;

        // `WORKERS` is accessed through a shared mapping, the other maps by system calls.
        let logger =
            EbpfLogger::init_with_logger(&mut ebpf, ToTracing).map_err(|error| SteerError::load("AYA_LOGS", &error))?;
        let workers = match take(&mut ebpf, "WORKERS")? {
            Map::Array(map) => map,
            other => return Err(SteerError::load("WORKERS", &std::io::Error::other(format!("is {other:?}")))),
        };
        let table = WorkerTable::map(workers.fd().as_fd()).map_err(|error| SteerError::load("WORKERS", &error))?;
        let listeners =
            take(&mut ebpf, "LISTENERS")?.try_into().map_err(|error| SteerError::load("LISTENERS", &error))?;
        let mut view = View::new(
            take(&mut ebpf, "FLOWS")?,
            take(&mut ebpf, "VERDICTS")?,
            Map::Array(workers),
            take(&mut ebpf, "CONFIG")?,
        )
        .map_err(|error| SteerError::load("the maps", &error))?;
        // Pinned maps may hold the workers of an earlier blade: remove the workers, keep the counts.
        for worker in 0..WORKERS_MAX {
            table.set_weight(worker, 0);
            table.set_connections(worker, 0);
        }
        view.set_config(Config { layout_version: LAYOUT_VERSION, workers: 0, ports })?;
        if let Some(dir) = &mut pin_dir {
            dir.keep = options.keep_pins;
        }
        let workers = Arc::new(table);
        Ok(Self {
            ebpf,
            view,
            workers,
            listeners,
            logger: Some(logger),
            log_task: None,
            pin_dir,
            unpinned,
            ingress_links: Vec::new(),
            egress_links: Vec::new(),
        })
    }

    /// Why the maps are not pinned although they should be.
    #[must_use]
    pub const fn unpinned_because(&self) -> Option<&SteerError> {
        self.unpinned.as_ref()
    }

    /// The directory in which the maps are pinned, if they are.
    #[must_use]
    pub fn pin_dir(&self) -> Option<&Path> {
        self.pin_dir.as_ref().map(PinDir::path)
    }

    /// The counters.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    /// Attaches `ingress` to an interface: in its driver if the driver supports XDP, else in generic mode. May be
    /// called for several interfaces.
    pub fn attach_ingress(&mut self, interface: &str) -> Result<XdpMode, SteerError> {
        require_ethernet(interface)?;
        let taken = || SteerError::InterfaceTaken { interface: interface.to_owned() };
        let program: &mut Xdp = program(&mut self.ebpf, INGRESS)?;
        let native = match program.attach(interface, xdp::XdpMode::Driver) {
            Ok(link) => {
                self.ingress_links.push((interface.to_owned(), link));
                return Ok(XdpMode::Native);
            }
            Err(error) => error,
        };
        if is_taken(&native) {
            return Err(taken());
        }
        match program.attach(interface, xdp::XdpMode::Skb) {
            Ok(link) => {
                self.ingress_links.push((interface.to_owned(), link));
                Ok(XdpMode::Generic)
            }
            Err(error) if is_taken(&error) => Err(taken()),
            Err(generic) => Err(SteerError::Ingress {
                interface: interface.to_owned(),
                native: io_error(&native),
                generic: io_error(&generic),
            }),
        }
    }

    /// Attaches `egress` to an interface, behind programs that are attached already. May be called for several
    /// interfaces.
    pub fn attach_egress(&mut self, interface: &str) -> Result<(), SteerError> {
        require_ethernet(interface)?;
        let program: &mut SchedClassifier = program(&mut self.ebpf, EGRESS)?;
        // `attach` would fall back to a clsact filter on old kernels, and a filter outlives us if we are killed.
        let options = TcAttachOptions::TcxOrder(LinkOrder::default());
        match program.attach_with_options(interface, TcAttachType::Egress, options) {
            Ok(link) => {
                self.egress_links.push((interface.to_owned(), link));
                Ok(())
            }
            Err(error) => Err(SteerError::Egress { interface: interface.to_owned(), cause: io_error(&error) }),
        }
    }

    /// Detaches both programs from an interface, which may have been removed.
    pub fn detach(&mut self, interface: &str) -> Result<(), SteerError> {
        let xdp: &mut Xdp = program(&mut self.ebpf, INGRESS)?;
        for (_, link) in self.ingress_links.extract_if(.., |(name, _)| name == interface) {
            // If the interface has been removed, the kernel has detached the program already.
            let _ = xdp.detach(link);
        }
        let classifier: &mut SchedClassifier = program(&mut self.ebpf, EGRESS)?;
        for (_, link) in self.egress_links.extract_if(.., |(name, _)| name == interface) {
            let _ = classifier.detach(link);
        }
        Ok(())
    }

    /// Enters the workers' listeners, which must be one SO_REUSEPORT group, and attaches `steer` to the group. A
    /// listener has the index of its worker; every worker begins with [`Steer::WEIGHT_INITIAL`] and no load.
    ///
    /// There is one group only: a call for another group replaces the first, whose connections the kernel's hash then
    /// spreads.
    pub fn attach_listeners<L: AsFd>(&mut self, listeners: &[L]) -> Result<(), SteerError> {
        let workers = u32::try_from(listeners.len()).unwrap_or(u32::MAX);
        if workers == 0 || workers > WORKERS_MAX {
            let allowed = format!("1 to {WORKERS_MAX}");
            return Err(SteerError::OutOfRange { what: "number of workers", value: workers.into(), allowed });
        }
        for (worker, listener) in (0..).zip(listeners) {
            self.set_listener(worker, listener)?;
        }
        for worker in 0..WORKERS_MAX {
            self.workers.set_connections(worker, 0);
            self.workers.set_weight(worker, if worker < workers { Self::WEIGHT_INITIAL } else { 0 });
        }
        let config = Config { workers, ..self.view.config()? };
        self.view.set_config(config)?;
        let program: &mut SkReuseport = program(&mut self.ebpf, STEER)?;
        if let Some(first) = listeners.first() {
            program.attach(first).map_err(|error| SteerError::Listener { worker: 0, cause: io_error(&error) })?;
        }
        Ok(())
    }

    /// Sets or replaces a worker's listener: new connections go to this one from now on. A listener can belong to one
    /// worker only.
    pub fn set_listener<L: AsFd>(&mut self, worker: u32, listener: &L) -> Result<(), SteerError> {
        let failed = |error: &aya::maps::MapError| {
            let cause = errno(error)
                .map_or_else(|| std::io::Error::other(error.to_string()), std::io::Error::from_raw_os_error);
            SteerError::Listener { worker, cause }
        };
        self.listeners.set(worker, &listener.as_fd().as_raw_fd(), 0).map_err(|error| failed(&error))
    }

    /// Removes a worker's listener. While the worker has a weight, the kernel's hash spreads its share, counted as
    /// `steer_fallback`; so set the weight to 0 first.
    pub fn remove_listener(&mut self, worker: u32) -> Result<(), SteerError> {
        self.listeners.clear_index(&worker).map_err(|cause| SteerError::Map { map: "LISTENERS", cause })
    }

    /// Sets a worker's share of the new connections, relative to the others'; 0: none.
    pub fn set_weight(&self, worker: u32, weight: u32) -> Result<(), SteerError> {
        if weight > WEIGHT_MAX {
            let allowed = format!("at most {WEIGHT_MAX}");
            return Err(SteerError::OutOfRange { what: "weight", value: weight.into(), allowed });
        }
        require_worker(worker)?;
        self.workers.set_weight(worker, weight);
        Ok(())
    }

    /// Publishes how many connections a worker holds.
    pub fn publish_load(&self, worker: u32, connections: u32) -> Result<(), SteerError> {
        require_worker(worker)?;
        self.workers.set_connections(worker, connections);
        Ok(())
    }

    /// Returns a handle with which the worker itself publishes its load, from its own thread, by one store each time.
    pub fn load_publisher(&self, worker: u32) -> Result<LoadPublisher, SteerError> {
        require_worker(worker)?;
        Ok(LoadPublisher { workers: Arc::clone(&self.workers), worker })
    }

    /// Writes the programs' log lines to the log. Call this now and then, or when [`Steer::log_fd`] is readable; it is
    /// not needed after [`Steer::spawn_log`].
    pub fn drain_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// A descriptor that is readable when the programs have log lines.
    #[must_use]
    pub fn log_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        self.logger.as_ref().map(AsFd::as_fd)
    }

    /// Starts a tokio task that writes the programs' log lines to the log, until `self` is dropped. Needs a runtime.
    pub fn spawn_log(&mut self) -> std::io::Result<()> {
        let Some(logger) = self.logger.take() else { return Ok(()) };
        let mut logger = watch(logger)?;
        let task = tokio::spawn(async move {
            while let Ok(mut ready) = logger.readable_mut().await {
                ready.get_inner_mut().flush();
                ready.clear_ready();
            }
        });
        self.log_task = Some(task.abort_handle());
        Ok(())
    }

    /// Runs a program over a frame, as if the interface had seen it (`BPF_PROG_TEST_RUN`): the counters count it.
    pub fn run(&mut self, hook: Hook, frame: &[u8], repeat: u32) -> Result<Run, SteerError> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let (name, result) = match hook {
            Hook::Ingress => (INGRESS, program::<Xdp>(&mut self.ebpf, INGRESS)?.test_run(options)),
            Hook::Egress => (EGRESS, program::<SchedClassifier>(&mut self.ebpf, EGRESS)?.test_run(options)),
        };
        let result = result.map_err(|error| SteerError::load(name, &error))?;
        Ok(Run { action: result.return_value.cast_signed(), duration: result.duration })
    }

    /// Weight of a worker until another weight is set.
    pub const WEIGHT_INITIAL: u32 = 100;
}

impl Drop for Steer {
    fn drop(&mut self) {
        if let Some(task) = &self.log_task {
            task.abort();
        }
    }
}

/// Publishes the load of one worker.
#[derive(Clone, Debug)]
pub struct LoadPublisher {
    workers: Arc<WorkerTable>,
    worker: u32,
}

impl LoadPublisher {
    /// Publishes how many connections the worker holds.
    pub fn publish(&self, connections: u32) {
        self.workers.set_connections(self.worker, connections);
    }
}

fn load_programs(ebpf: &mut Ebpf) -> Result<(), SteerError> {
    let loaded = program::<Xdp>(ebpf, INGRESS)?.load();
    loaded.map_err(|error| SteerError::load(INGRESS, &error))?;
    let loaded = program::<SchedClassifier>(ebpf, EGRESS)?.load();
    loaded.map_err(|error| SteerError::load(EGRESS, &error))?;
    let loaded = program::<SkReuseport>(ebpf, STEER)?.load();
    loaded.map_err(|error| SteerError::load(STEER, &error))
}

/// A program of the embedded object. Every test here shows that the object has it.
pub(crate) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, SteerError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = ProgramError>,
{
    let program = ebpf.program_mut(name).ok_or(ProgramError::NotLoaded).and_then(TryInto::try_into);
    program.map_err(|error| SteerError::load(name, &error))
}

pub(crate) fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<Map, SteerError> {
    ebpf.take_map(name).ok_or_else(|| SteerError::load(name, &std::io::Error::other("not in the object")))
}

pub(crate) fn ports(ports: &[u16]) -> Result<[u16; PORTS_MAX], SteerError> {
    let mut places = [0; PORTS_MAX];
    let allowed = || format!("at most {PORTS_MAX}");
    let used = places.get_mut(..ports.len());
    let used = used.ok_or_else(|| SteerError::OutOfRange {
        what: "number of ports",
        value: ports.len() as u64,
        allowed: allowed(),
    })?;
    used.copy_from_slice(ports);
    Ok(places)
}

fn require_worker(worker: u32) -> Result<(), SteerError> {
    if worker < WORKERS_MAX {
        return Ok(());
    }
    Err(SteerError::OutOfRange { what: "worker", value: worker.into(), allowed: format!("less than {WORKERS_MAX}") })
}

/// The programs read Ethernet headers: on a tunnel, which has none, they would misread the packets.
fn require_ethernet(interface: &str) -> Result<(), SteerError> {
    let unknown = |_errno| SteerError::UnknownInterface { interface: interface.to_owned() };
    nix::net::if_::if_nametoindex(interface).map_err(unknown)?;
    let is_ethernet = nix::ifaddrs::getifaddrs()
        .map_err(unknown)?
        .filter(|entry| entry.interface_name == interface)
        .filter_map(|entry| Some(entry.address?.as_link_addr()?.hatype()))
        // The loopback interface has an Ethernet header too, of zeros.
        .any(|hardware| matches!(hardware, libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK));
    if is_ethernet { Ok(()) } else { Err(SteerError::NotEthernet { interface: interface.to_owned() }) }
}

fn is_taken(error: &ProgramError) -> bool {
    matches!(errno(error), Some(libc::EBUSY | libc::EEXIST))
}

const OBJECT: &[u8] = aya::include_bytes_aligned!("../../../ebpf/prebuilt/fanblade.bpf.o");
const INGRESS: &str = "ingress";
const EGRESS: &str = "egress";
const STEER: &str = "steer";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_ports_are_refused_with_the_limit() {
        assert_eq!(ports(&[443, 9001]).unwrap()[..3], [443, 9001, 0]);
        let error = ports(&[1; PORTS_MAX + 1]).unwrap_err().to_string();
        assert_eq!(error, "number of ports is 9, must be at most 8");
    }

    #[test]
    fn the_object_holds_no_path_of_the_machine_it_was_built_on() {
        for needle in ["/root", "/home", "/work", "/tmp"] {
            let found = OBJECT.windows(needle.len()).any(|window| window == needle.as_bytes());
            assert!(!found, "{needle} is in the object");
        }
    }
}
