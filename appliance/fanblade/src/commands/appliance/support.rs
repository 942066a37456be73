//! `fanblade support`: one archive with what somebody needs who helps from afar, and no secrets.
//!
//! It works on any Linux machine, as far as the caller's rights go, and while the blade is down or stuck: each part has
//! a limit of time and of bytes, and a part that fails is a line of the index.

mod capture;
mod redact;

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::terminal::out;
use capture::{Captured, Limits, What};
use redact::Secrets;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The archive to write; `-`: standard output. Left out: fanblade-support-HOST-TIME.tar.gz in this directory
    file: Option<PathBuf>,
    /// The blade's configuration: only keys and values that are known to be harmless go into the archive
    #[arg(long, value_name = "FILE", default_value = super::CONFIG)]
    config: PathBuf,
    /// The blade's admin port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7401")]
    admin: std::net::SocketAddr,
}

pub(crate) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let now = jiff::Timestamp::now();
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = format!("fanblade-support-{}-{}", host.trim(), now.strftime("%Y%m%dT%H%M%SZ"));
    let (config, secrets) = redact::config_file(&args.config);
    let path = args.file.clone().unwrap_or_else(|| format!("{name}.tar.gz").into());
    if path.as_os_str() == "-" {
        write(out::stdout(), &name, args, &config, &secrets)?;
        return Ok(ExitCode::SUCCESS);
    }
    // Nobody else reads it on its way.
    let file = File::options().write(true).create_new(true).mode(0o600).open(&path).with_context(|| {
        format!("cannot make {}: name another file, such as /var/tmp/support.tar.gz", path.display())
    })?;
    write(&file, &name, args, &config, &secrets).with_context(|| format!("cannot write {}", path.display()))?;
    let bytes = file.metadata().map(|meta| meta.len()).unwrap_or_default();
    out::say(format_args!("{}: {} KiB; index.txt in it says what is there", path.display(), bytes.div_ceil(1 << 10)))?;
    Ok(ExitCode::SUCCESS)
}

fn write(to: impl io::Write, dir: &str, args: &Args, config: &str, secrets: &Secrets) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut archive = tar::Builder::new(GzEncoder::new(to, Compression::default()));
    let mut index = String::from("file, bytes, milliseconds, what it is and what went wrong\n");
    let mut append = |name: &str, bytes: &[u8]| -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len())?);
        header.set_mode(0o600);
        header.set_mtime(u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or_default());
        archive.append_data(&mut header, format!("{dir}/{name}"), bytes)?;
        Ok(())
    };
    append("configuration.toml", config.as_bytes())?;
    index += &format!("configuration.toml, {}, 0, {} without secrets\n", config.len(), args.config.display());
    for (name, what) in parts(args) {
        let part_started = Instant::now();
        let left = TOTAL_MAX.saturating_sub(started.elapsed());
        let limits = Limits { time: PART_MAX.min(left), bytes: what.bytes_max() };
        let Captured { bytes, note } = if left.is_zero() {
            Captured { bytes: Vec::new(), note: "left out: the time for the whole is over".to_owned() }
        } else {
            what.capture(limits)
        };
        let text = secrets.scrub(&String::from_utf8_lossy(&bytes));
        append(&name, text.as_bytes())?;
        let took = part_started.elapsed().as_millis();
        index += &secrets.scrub(&format!("{name}, {}, {took}, {what}: {note}\n", text.len()));
    }
    append("index.txt", index.as_bytes())?;
    io::Write::flush(&mut archive.into_inner()?.finish()?)?;
    Ok(())
}

/// Everything, by the file's name in the archive. What is most wanted comes first, for when the time is over.
fn parts(args: &Args) -> Vec<(String, What)> {
    let mut parts = Vec::new();
    let mut add = |name: &str, what: What| parts.push((name.to_owned(), what));
    let itself = |words: &[&str]| What::itself(words);
    let run = |line: &str| What::run(line);
    add("fanblade/version.txt", itself(&["--version"]));
    add("fanblade/doctor.txt", itself(&["doctor"]));
    add("fanblade/size.txt", itself(&["size"]));
    add("fanblade/versions.txt", itself(&["versions"]));
    for (name, path) in [("status.json", "/v1/status"), ("healthz.txt", "/healthz"), ("readyz.txt", "/readyz")] {
        add(&format!("fanblade/{name}"), What::Http(args.admin, path));
    }
    add("fanblade/metrics.txt", What::Http(args.admin, "/metrics"));
    add("fanblade/flows.txt", itself(&["flows", "--verdicts", "--closed", "--top", "1000"]));
    add("fanblade/top.txt", itself(&["top", "--once", &args.admin.to_string()]));
    // A machine without an identifier of its own has another one at each boot: its last boot is in another directory.
    let kept = if Path::new(JOURNAL).exists() {
        format!("journalctl --no-pager -D {JOURNAL}")
    } else {
        "journalctl --no-pager".to_owned()
    };
    add("journal/this-boot.txt", run("journalctl --no-pager -o short-precise -b 0 -n 40000"));
    add("journal/last-boot.txt", run(&format!("{kept} -o short-precise -b -1 -n 40000")));
    add("journal/boots.txt", run(&format!("{kept} --list-boots")));
    add("system/dmesg.txt", run("dmesg --time-format=iso"));
    add("system/units.txt", run("systemctl --no-pager --all list-units"));
    add("system/failed.txt", run("systemctl --no-pager --failed"));
    add("system/fanblade.service.txt", run("systemctl --no-pager show fanblade.service"));
    add("system/disks.txt", run("lsblk -o NAME,SIZE,FSTYPE,LABEL,PARTLABEL,PARTUUID,MOUNTPOINTS,MODEL"));
    add("system/disk-use.txt", run("df -h"));
    add("system/disk-inodes.txt", run("df -i"));
    add("system/kernel.txt", run("uname -a"));
    add("system/time.txt", run("chronyc -n tracking"));
    add("system/time-sources.txt", run("chronyc -n sources"));
    add("system/sysctl.txt", What::Sysctls);
    add("system/command-line.txt", What::CommandLine);
    for file in ["/etc/os-release", "/usr/share/fanblade/packages.txt"] {
        add(&format!("system/{}.txt", file.trim_start_matches('/').replace('/', "-")), What::File(file.into()));
    }
    for file in [
        "interrupts",
        "softirqs",
        "meminfo",
        "vmstat",
        "cpuinfo",
        "loadavg",
        "stat",
        "mounts",
        "modules",
        "pressure/cpu",
        "pressure/memory",
        "net/snmp",
        "net/netstat",
        "net/softnet_stat",
        "net/sockstat",
        "net/sockstat6",
    ] {
        add(&format!("proc/{}.txt", file.replace('/', "-")), What::File(format!("/proc/{file}").into()));
    }
    add("network/addresses.txt", run("ip -s addr"));
    add("network/routes.txt", run("ip route show table all"));
    add("network/routes-v6.txt", run("ip -6 route show table all"));
    add("network/neighbours.txt", run("ip neigh"));
    add("network/sockets.txt", run("ss -s"));
    add("network/filter.txt", run("nft list ruleset"));
    add("network/networkd.txt", run("networkctl --no-pager status --all"));
    for card in capture::cards() {
        for (option, what) in [
            ("-i", "driver"),
            ("-l", "queues"),
            ("-g", "rings"),
            ("-k", "features"),
            ("-c", "coalescing"),
            ("-S", "counters"),
        ] {
            add(&format!("network/{card}-{what}.txt"), What::Run(vec!["ethtool".into(), option.into(), card.clone()]));
        }
    }
    parts
}

const JOURNAL: &str = "/var/log/journal";
const PART_MAX: Duration = Duration::from_secs(10);
const TOTAL_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    /// Name and content of each file.
    fn unpack(bytes: &[u8]) -> Vec<(String, String)> {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            (name, text)
        });
        entries.collect()
    }

    #[test]
    fn no_secret_is_in_the_archive_and_a_stuck_blade_keeps_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (config, token) = (dir.path().join("fanblade.toml"), dir.path().join("token"));
        std::fs::write(&token, "geheim-of-a-file\n").unwrap();
        std::fs::write(
            &config,
            format!(
                "# geheim-comment\n[feed]\nsource = \"websocket\"\n[feed.websocket]\n\
                 url = \"wss://user:geheim-user@venue.example.com/geheim-path?token=geheim-query\"\n\
                 headers = {{ \"X-Api-Key\" = \"geheim-header\" }}\nsubscribe = ['{{\"op\":\"login\",\"key\":\"geheim-text\"}}']\n\
                 [feed.publisher]\ntoken = \"geheim-token\"\nunknown = \"geheim-unknown\"\nnumber_of_mine = 4711471147\n\
                 [feed.soupbintcp]\npassword = \"geheimSoup\"\nusername = \"geheim\"\n\
                 [feed.moldudp64]\nsnapshot_password = \"geheimGlim\"\nsnapshot_password_file = \"{}\"\n\
                 [data]\nlisten = \"127.0.0.1:7400\"\n[\"geheim section\"]\na = 1\n",
                token.display()
            ),
        )
        .unwrap();
        // An admin port that takes a connection, repeats a secret, and never ends.
        let blade = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = blade.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for stream in blade.incoming().flatten() {
                let _ = (&stream).write_all(
                    b"HTTP/1.0 200 OK\r\n\r\nfeed geheim-of-a-file geheim-token wss://user:geheim-user@h/x?k=geheim-query\n\
                      {\"password\": \"geheim-json\"} bearer geheim-bearer PASSWORD=geheim-line\n",
                );
                held.push(stream);
            }
        });
        let args = Args { file: None, config: config.clone(), admin };
        let (text, secrets) = redact::config_file(&config);
        let (mut bytes, started) = (Vec::new(), Instant::now());
        write(&mut bytes, "bundle", &args, &text, &secrets).unwrap();
        assert!(started.elapsed() < TOTAL_MAX + PART_MAX, "{:?}", started.elapsed());
        let files = unpack(&bytes);
        for (name, text) in &files {
            for secret in ["geheim", "4711471147"] {
                assert!(!text.contains(secret), "{name}: {text}");
            }
        }
        let of = |name: &str| &files.iter().find(|file| file.0 == format!("bundle/{name}")).unwrap().1;
        let kept = of("configuration.toml");
        assert!(kept.contains("listen = \"127.0.0.1:7400\"") && kept.contains("wss://venue.example.com"), "{kept}");
        assert!(of("fanblade/status.json").contains("200 OK"));
        let index = of("index.txt");
        assert!(index.contains("fanblade/status.json") && index.contains("not within"), "{index}");
        assert!(of("proc/meminfo.txt").contains("MemTotal"));
    }
}
