//! One emulated machine and its serial console.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fanblade_testkit::Child;
use serde_json::{Value, json};

use super::network::Network;
use crate::image::Place;

/// What a machine has, apart from its disk.
pub(super) struct Options {
    pub(super) cpus: u32,
    pub(super) memory_mib: u32,
    pub(super) firmware: Firmware,
    pub(super) card: Card,
    /// Disks beside the one that it boots from; each is found in the machine as /dev/disk/by-id/virtio-SERIAL.
    pub(super) disks: Vec<Disk>,
    /// Everything that the machine writes to its first disk is recorded here, with its flushes (see [`super::writes`]).
    pub(super) write_log: Option<PathBuf>,
    /// What the machine's clock says at its start; `None`: the host's time.
    pub(super) clock: Option<&'static str>,
    /// Credentials for systemd (systemd.io/CREDENTIALS): name and content.
    pub(super) credentials: Vec<(String, String)>,
    /// Boot again when the machine says so; otherwise that ends it.
    pub(super) reboots: bool,
    /// Print the console as it comes.
    pub(super) echo: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            cpus: 4,
            memory_mib: 1_024,
            firmware: Firmware::Uefi,
            card: Card::None,
            disks: Vec::new(),
            write_log: None,
            clock: None,
            credentials: Vec::new(),
            reboots: false,
            echo: false,
        }
    }
}

/// What starts the machine.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Firmware {
    Uefi,
    Bios,
}

/// The network card.
#[derive(Clone)]
pub(super) enum Card {
    None,
    /// As many queues as processors, on a tap.
    Tap(Arc<Network>),
    /// QEMU's own network: it has a DHCP server.
    User,
}

/// A further disk.
pub(super) struct Disk {
    pub(super) file: PathBuf,
    pub(super) serial: &'static str,
    pub(super) is_read_only: bool,
    pub(super) bus: Bus,
}

/// How a disk is connected.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Bus {
    Virtio,
    /// A stick; the machine starts it first.
    Usb,
}

/// A running machine. It ends when it is dropped, and with this process.
pub(super) struct Machine {
    started: Instant,
    console: Arc<Mutex<Vec<Line>>>,
    /// Set when the machine has ended.
    status: Arc<Mutex<Option<ExitStatus>>>,
    has_stalled: Arc<AtomicBool>,
    /// What the machine reads from its serial line.
    input: Option<ChildStdin>,
    control: PathBuf,
    /// Dropped to end it.
    stop: Option<mpsc::Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

/// A line of the console, and when it came.
struct Line {
    at: Duration,
    text: String,
}

impl Machine {
    /// `scratch`: a directory for the firmware's variables and QEMU's socket, below [`Place::dir`].
    pub(super) fn start(place: &Place, disk: &Path, scratch: &Path, options: &Options) -> anyhow::Result<Machine> {
        let mut qemu = command(place, disk, scratch, options)?;
        let (room, echo) = (place.room.clone(), options.echo);
        let network = if let Card::Tap(network) = &options.card { Some(Arc::clone(network)) } else { None };
        let ((stop, stopped), (begin, begun)) = (mpsc::channel(), mpsc::channel());
        let (console, status) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(None)));
        let has_stalled = Arc::new(AtomicBool::new(false));
        let (lines, result, failed) = (Arc::clone(&console), Arc::clone(&status), begin.clone());
        let (stalled, silence, is_watched) = (Arc::clone(&has_stalled), Arc::clone(&console), !options.echo);
        let started = Instant::now();
        // The kernel ends a `Child` with the thread that started it: this thread lives as long as the machine.
        let keeper = std::thread::spawn(move || {
            let run = move || {
                let mut child = Child::try_spawn(&mut qemu).context("starting qemu-system-x86_64")?;
                let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
                    child.stdout.take().map(|out| Box::new(out) as _),
                    child.stderr.take().map(|err| Box::new(err) as _),
                ];
                for stream in streams.into_iter().flatten() {
                    let (lines, stalled) = (Arc::clone(&lines), Arc::clone(&stalled));
                    // The thread ends with the machine.
                    std::thread::spawn(move || read_console(stream, started, &lines, &stalled, echo));
                }
                let _ = begin.send(Ok(child.stdin.take()));
                while child.try_wait()?.is_none()
                    && !stalled.load(Relaxed)
                    && !(is_watched && is_silent(&silence, started, &stalled))
                    && stopped.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout)
                {}
                let _ = child.kill();
                *locked(&result) = Some(child.wait()?);
                Ok(())
            };
            let ran = match network {
                Some(network) => network.run(|| room.within(run)),
                None => room.within(run),
            };
            if let Err(error) = ran.flatten() {
                let _ = failed.send(Err(error));
            }
        });
        let input = begun.recv().context("the thread that keeps the machine has ended")??;
        let control = scratch.join(CONTROL);
        Ok(Machine { started, console, status, has_stalled, input, control, stop: Some(stop), keeper: Some(keeper) })
    }

    /// Waits until the console says this. The error holds the console's end.
    pub(super) fn until(&self, words: &str, time_max: Duration) -> anyhow::Result<Duration> {
        let deadline = Instant::now() + time_max;
        loop {
            if let Some(at) = self.said(words) {
                return Ok(at);
            }
            if let Some(status) = self.status() {
                // What was written last may still be in the pipe.
                std::thread::sleep(Duration::from_millis(300));
                if let Some(at) = self.said(words) {
                    return Ok(at);
                }
                bail!("the machine has ended ({status}) before it said {words:?}\n{}", self.tail());
            }
            if Instant::now() >= deadline {
                bail!("not within {} s: {words:?}\n{}", time_max.as_secs(), self.tail());
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Types a line on the serial console.
    pub(super) fn type_line(&mut self, line: &str) -> anyhow::Result<()> {
        let input = self.input.as_mut().context("the machine has no input")?;
        input.write_all(format!("{line}\r").as_bytes()).context("typing on the serial console")
    }

    /// Types all that comes from this reader, in the background; [`Machine::type_line`] cannot be called any more.
    pub(super) fn read(&mut self, mut from: impl std::io::Read + Send + 'static) {
        let input = self.input.take();
        // The thread ends with the reader or the machine.
        std::thread::spawn(move || input.map(|mut input| std::io::copy(&mut from, &mut input)));
    }

    /// Writes what the screen shows as a PNG. The file lies below [`Place::dir`].
    pub(super) fn screenshot(&self, place: &Place, file: &Path) -> anyhow::Result<()> {
        self.control("screendump", &json!({"filename": place.inside(file)?, "format": "png"}))
    }

    /// Presses the power button, as a BMC or a hypervisor does for an orderly shutdown.
    pub(super) fn press_power_button(&self) -> anyhow::Result<()> {
        self.control("system_powerdown", &json!({}))
    }

    /// A command of QEMU's own protocol.
    fn control(&self, command: &str, arguments: &Value) -> anyhow::Result<()> {
        let mut stream = UnixStream::connect(&self.control).context("QEMU's control socket")?;
        let mut answers = BufReader::new(stream.try_clone()?).lines();
        for (command, arguments) in [("qmp_capabilities", &json!({})), (command, arguments)] {
            writeln!(stream, "{}", json!({"execute": command, "arguments": arguments}))?;
            // Between greeting, events and answers only an answer has one of these keys.
            let answer = answers
                .by_ref()
                .map_while(Result::ok)
                .find(|line| line.contains(r#""return""#) || line.contains(r#""error""#));
            let answer = answer.with_context(|| format!("QEMU does not answer {command}"))?;
            ensure!(!answer.contains(r#""error""#), "QEMU's answer to {command}: {answer}");
        }
        Ok(())
    }

    /// When the console first said this.
    pub(super) fn said(&self, words: &str) -> Option<Duration> {
        let console = locked(&self.console);
        console.iter().find(|line| line.text.contains(words)).map(|line| line.at)
    }

    /// The first line of the console that holds this.
    pub(super) fn line(&self, words: &str) -> Option<String> {
        let console = locked(&self.console);
        console.iter().find(|line| line.text.contains(words)).map(|line| line.text.clone())
    }

    /// All lines of the console that hold this.
    pub(super) fn lines(&self, words: &str) -> Vec<String> {
        let console = locked(&self.console);
        console.iter().filter(|line| line.text.contains(words)).map(|line| line.text.clone()).collect()
    }

    /// The time since its start.
    pub(super) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// How it ended, if it has.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        *locked(&self.status)
    }

    /// Waits for the machine's end; `None`: it still runs this long after its start.
    pub(super) fn wait(&self, time_max: Duration) -> Option<ExitStatus> {
        while self.status().is_none() && self.started.elapsed() <= time_max {
            std::thread::sleep(POLL_INTERVAL);
        }
        self.status()
    }

    /// The console's last lines, each with its time, and [`STALLED`] where that is why they are the last.
    pub(super) fn tail(&self) -> String {
        let console = locked(&self.console);
        let lines = &console[console.len().saturating_sub(TAIL_LINES)..];
        let mut text = lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{:8.2} {}", line.at.as_secs_f64(), line.text);
            text
        });
        if self.has_stalled.load(Relaxed) {
            text.push_str(STALLED);
        }
        text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.stop.take());
        let _ = self.keeper.take().map(JoinHandle::join);
    }
}

/// QEMU's command line.
fn command(place: &Place, disk: &Path, scratch: &Path, options: &Options) -> anyhow::Result<Command> {
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-accel", "tcg,thread=multi,tb-size=256", "-machine", "q35", "-cpu", "max", "-display", "none"]);
    qemu.args(["-smp", &options.cpus.to_string(), "-m", &options.memory_mib.to_string()]);
    qemu.args(["-serial", "stdio", "-monitor", "none", "-nodefaults", "-vga", "std"]);
    // An identifier and a watchdog, since a server has them.
    qemu.args(["-uuid", "6b1c7a3e-52d4-4a5f-9f0e-3d2c1b0a9f8e"]);
    qemu.args(["-device", "virtio-rng-pci", "-device", "i6300esb"]);
    if let Some(clock) = options.clock {
        qemu.args(["-rtc", &format!("base={clock}")]);
    }
    if !options.reboots {
        qemu.arg("-no-reboot");
    }
    qemu.arg("-qmp").arg(format!("unix:{},server=on,wait=off", place.inside(&scratch.join(CONTROL))?));
    // Without these QEMU starts its BIOS.
    if options.firmware == Firmware::Uefi {
        // A machine of its own has variables of its own.
        let variables = scratch.join("variables.fd");
        if !variables.exists() {
            fs::copy(place.tree.join("usr/share/OVMF/OVMF_VARS_4M.fd"), &variables).context("OVMF's variables")?;
        }
        qemu.arg("-drive").arg("if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd");
        qemu.arg("-drive").arg(format!("if=pflash,format=raw,file={}", place.inside(&variables)?));
    }
    qemu.args(["-device", "qemu-xhci"]);
    if let Some(log) = &options.write_log {
        fs::File::create(log).with_context(|| log.display().to_string())?;
    }
    let first = Disk { file: disk.to_owned(), serial: "first", is_read_only: false, bus: Bus::Virtio };
    for (number, disk) in [&first].into_iter().chain(&options.disks).enumerate() {
        let format = if disk.file.extension().is_some_and(|extension| extension == "qcow2") { "qcow2" } else { "raw" };
        let read_only = if disk.is_read_only { "on" } else { "off" };
        let file = place.inside(&disk.file)?;
        let source = match &options.write_log {
            // Flushes reach the log, but not this host's disk.
            Some(log) if number == 0 => format!(
                "driver=blklogwrites,log-sector-size=512,log.driver=file,log.filename={},log.cache.no-flush=on,\
                 file.driver={format},file.file.driver=file,file.file.filename={file},file.cache.no-flush=on,\
                 discard=unmap,cache=writeback",
                place.inside(log)?
            ),
            // Nobody cuts this machine's power: what it has written may wait in memory.
            _ => format!("format={format},file={file},readonly={read_only},cache=unsafe"),
        };
        qemu.arg("-drive").arg(format!("if=none,id=disk{number},{source}"));
        let (device, boot) = match disk.bus {
            Bus::Virtio => ("virtio-blk-pci", number + 1),
            Bus::Usb => ("usb-storage,removable=on", 0),
        };
        qemu.arg("-device").arg(format!("{device},drive=disk{number},serial={},bootindex={boot}", disk.serial));
    }
    match &options.card {
        Card::None => {}
        Card::Tap(_) => drop(qemu.args(Network::arguments(options.cpus))),
        Card::User => drop(qemu.args(["-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0"])),
    }
    // Emulation on a busy host is slower than any hardware.
    qemu.arg("-smbios").arg(format!("type=11,value=io.systemd.stub.kernel-cmdline-extra={PATIENCE}"));
    let patient = ("systemd.unit-dropin.fanblade-healthy.service~patient".to_owned(), PATIENT.to_owned());
    for (name, content) in options.credentials.iter().chain([&patient]) {
        let value = BASE64_STANDARD.encode(content);
        qemu.arg("-smbios").arg(format!("type=11,value=io.systemd.credential.binary:{name}={value}"));
    }
    qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(qemu)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the console said nothing for so long that the machine will say nothing any more? Then that is noted.
fn is_silent(console: &Mutex<Vec<Line>>, started: Instant, has_stalled: &AtomicBool) -> bool {
    let newest = locked(console).last().map_or(Duration::ZERO, |line| line.at);
    let is_silent = started.elapsed().saturating_sub(newest) > SILENCE_MAX;
    if is_silent {
        has_stalled.store(true, Relaxed);
    }
    is_silent
}

fn read_console(
    stream: impl std::io::Read,
    started: Instant,
    console: &Mutex<Vec<Line>>,
    has_stalled: &AtomicBool,
    echo: bool,
) {
    let mut stream = BufReader::new(stream);
    let mut bytes = Vec::new();
    while stream.read_until(b'\n', &mut bytes).is_ok_and(|len| len > 0) {
        if echo {
            let _ = std::io::stdout().write_all(&bytes);
        }
        let line = Line { at: started.elapsed(), text: plain(&String::from_utf8_lossy(&bytes)) };
        if line.text.contains(TIMER_STANDS_STILL) {
            has_stalled.store(true, Relaxed);
        }
        locked(console).push(line);
        bytes.clear();
    }
}

/// A line without the control sequences that colour it.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut chars = line.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1b}' {
            // "ESC [ parameters letter", "ESC ( letter", or two characters.
            match chars.next() {
                Some('[') => drop(chars.find(char::is_ascii_alphabetic)),
                Some('(') => drop(chars.next()),
                _ => {}
            }
        } else if !char.is_control() {
            text.push(char);
        }
    }
    text
}

const PATIENCE: &str = "systemd.default_device_timeout_sec=600 no_timer_check";
const PATIENT: &str = "[Service]\nTimeoutStartSec=600\n";
/// QEMU's control socket in the scratch directory.
const CONTROL: &str = "control";
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of the console that an error quotes.
const TAIL_LINES: usize = 40;
/// Why a machine was ended that did not go on. Mostly it says nothing of the image.
pub(super) const STALLED: &str = "the emulated machine stood still";
/// Nothing in a trial takes so long without a word on the console, on a host with little else to do. Early in a boot a
/// kernel whose timer has stopped says nothing.
const SILENCE_MAX: Duration = Duration::from_secs(400);
/// The kernel's words (kernel/rcu/tree_stall.h), 21 s after the timer of one processor has stopped. With several
/// emulated processors on a busy host that happens now and then, early in a boot, and the machine never goes on.
const TIMER_STANDS_STILL: &str = "kthread timer wakeup didn't happen";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_whose_timer_stands_still_is_seen_by_its_kernels_words() {
        let said = |text: &str| {
            let (console, has_stalled) = (Mutex::new(Vec::new()), AtomicBool::new(false));
            read_console(text.as_bytes(), Instant::now(), &console, &has_stalled, false);
            (locked(&console).len(), has_stalled.into_inner())
        };
        let words = "[  254.7] rcu: rcu_preempt kthread timer wakeup didn't happen for 5252 jiffies! g-1095 f0x0\n";
        assert_eq!(said(&format!("fanblade: serving\n{words}[ 254.8] rcu: \n")), (3, true));
        assert_eq!(said("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n"), (1, false));
    }

    #[test]
    fn a_machine_that_says_nothing_for_long_is_given_up() {
        let has_stalled = AtomicBool::new(false);
        let silent_for = |silence: Duration| {
            let at = Duration::from_secs(50);
            let started = Instant::now().checked_sub(at + silence)?;
            let console = Mutex::new(vec![Line { at, text: "fanblade: serving".to_owned() }]);
            Some(is_silent(&console, started, &has_stalled))
        };
        assert_ne!(silent_for(Duration::from_secs(300)), Some(true));
        assert!(!has_stalled.load(Relaxed));
        // A machine that was started less than eight minutes ago has no such moment.
        if let Some(is_silent) = silent_for(SILENCE_MAX + Duration::from_secs(1)) {
            assert!(is_silent && has_stalled.load(Relaxed));
        }
    }

    #[test]
    fn colours_are_no_words() {
        assert_eq!(
            plain("\u{1b}[0;32m  OK  \u{1b}[0m] Started \u{1b}(Bfanblade.service\r\n"),
            "  OK  ] Started fanblade.service"
        );
    }
}
