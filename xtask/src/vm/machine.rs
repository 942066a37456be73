//! One emulated machine and its serial console.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::image::Place;

/// What a machine has, apart from its disk.
#[derive(Default)]
pub(super) struct Options {
    pub(super) cpus: u32,
    pub(super) memory_mib: u32,
    /// QEMU's arguments for the network.
    pub(super) network: Vec<String>,
    /// Print the console as it comes.
    pub(super) echo: bool,
    /// Credentials for systemd (systemd.io/CREDENTIALS): name and content.
    pub(super) credentials: Vec<(String, String)>,
}

/// A running machine. It ends when it is dropped.
pub(super) struct Machine {
    child: Child,
    started: Instant,
    console: Arc<Mutex<Vec<Line>>>,
}

/// A line of the console, and when it came.
struct Line {
    at: Duration,
    text: String,
}

impl Machine {
    /// `scratch`: a directory for the firmware's variables.
    pub(super) fn start(place: &Place, disk: &Path, scratch: &Path, options: &Options) -> anyhow::Result<Machine> {
        // A machine of its own has variables of its own.
        let variables = scratch.join("variables.fd");
        if !variables.exists() {
            fs::copy(place.tree.join("usr/share/OVMF/OVMF_VARS_4M.fd"), &variables).context("OVMF's variables")?;
        }
        let mut qemu = Command::new("qemu-system-x86_64");
        qemu.args(["-accel", "tcg,thread=multi,tb-size=256", "-machine", "q35", "-cpu", "max", "-display", "none"]);
        qemu.args(["-smp", &options.cpus.to_string(), "-m", &options.memory_mib.to_string(), "-no-reboot"]);
        qemu.args(["-serial", "stdio", "-monitor", "none", "-device", "virtio-rng-pci", "-device", "i6300esb"]);
        qemu.arg("-drive").arg("if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd");
        qemu.arg("-drive").arg(format!("if=pflash,format=raw,file={}", place.inside(&variables)?));
        let format = if disk.extension().is_some_and(|extension| extension == "raw") { "raw" } else { "qcow2" };
        qemu.arg("-drive").arg(format!("if=virtio,format={format},file={},cache=unsafe", place.inside(disk)?));
        qemu.args(&options.network);
        for (name, content) in &options.credentials {
            let value = BASE64_STANDARD.encode(content);
            qemu.arg("-smbios").arg(format!("type=11,value=io.systemd.credential.binary:{name}={value}"));
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = place.room.spawn(&mut qemu)?;
        let (started, console) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let streams: [Option<Box<dyn std::io::Read + Send>>; 2] =
            [child.stdout.take().map(|out| Box::new(out) as _), child.stderr.take().map(|err| Box::new(err) as _)];
        for stream in streams.into_iter().flatten() {
            let (console, echo) = (Arc::clone(&console), options.echo);
            // The thread ends with the machine.
            std::thread::spawn(move || read_console(stream, started, &console, echo));
        }
        Ok(Machine { child, started, console })
    }

    /// Waits until the console says this. The error holds the console's end.
    pub(super) fn until(&mut self, words: &str, time_max: Duration) -> anyhow::Result<Duration> {
        let deadline = Instant::now() + time_max;
        loop {
            if let Some(at) = self.said(words) {
                return Ok(at);
            }
            if let Some(status) = self.child.try_wait()? {
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

    /// When the console first said this.
    pub(super) fn said(&self, words: &str) -> Option<Duration> {
        let console = self.console.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        console.iter().find(|line| line.text.contains(words)).map(|line| line.at)
    }

    /// The first line of the console that holds this.
    pub(super) fn line(&self, words: &str) -> Option<String> {
        let console = self.console.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        console.iter().find(|line| line.text.contains(words)).map(|line| line.text.clone())
    }

    pub(super) fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the machine's end; `None`: it still runs after this time.
    pub(super) fn wait(&mut self, time_max: Duration) -> anyhow::Result<Option<ExitStatus>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if self.started.elapsed() > time_max {
                return Ok(None);
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// The console's last lines, each with its time.
    pub(super) fn tail(&self) -> String {
        let console = self.console.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lines = &console[console.len().saturating_sub(TAIL_LINES)..];
        lines.iter().fold(String::new(), |mut text, line| {
            let _ = writeln!(text, "{:8.2} {}", line.at.as_secs_f64(), line.text);
            text
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_console(stream: impl std::io::Read, started: Instant, console: &Mutex<Vec<Line>>, echo: bool) {
    let mut stream = BufReader::new(stream);
    let mut bytes = Vec::new();
    while stream.read_until(b'\n', &mut bytes).is_ok_and(|len| len > 0) {
        if echo {
            let _ = std::io::stdout().write_all(&bytes);
        }
        let line = Line { at: started.elapsed(), text: plain(&String::from_utf8_lossy(&bytes)) };
        console.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
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

const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Lines of the console that an error quotes.
const TAIL_LINES: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_no_words() {
        assert_eq!(
            plain("\u{1b}[0;32m  OK  \u{1b}[0m] Started \u{1b}(Bfanblade.service\r\n"),
            "  OK  ] Started fanblade.service"
        );
    }
}
