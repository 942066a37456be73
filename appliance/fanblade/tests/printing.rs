//! Runs every command with an output that nobody reads or that is full: it ends by itself with a message, never by a
//! panic.

mod common;

use std::fs::File;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Output, Stdio};

use common::FANBLADE;
use fanblade_testkit::{Blade, Child};

/// What the test does with one of the two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sink {
    Read,
    /// A pipe whose reader has gone.
    Gone,
    /// `/dev/full`.
    Full,
}

impl Sink {
    fn open(self) -> Stdio {
        match self {
            Sink::Read => Stdio::piped(),
            Sink::Gone => std::io::pipe().unwrap().1.into(),
            Sink::Full => File::options().write(true).open("/dev/full").unwrap().into(),
        }
    }
}

fn run(args: &[&str], input: &str, stdout: Sink, stderr: Sink) -> Output {
    let mut command = Command::new(FANBLADE);
    command.args(args).stdin(Stdio::piped()).stdout(stdout.open()).stderr(stderr.open());
    let mut child = Child::spawn(&mut command);
    // The command may have ended already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.output()
}

#[test]
fn no_command_panics_where_its_output_cannot_be_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("blade.toml");
    std::fs::write(
        &file,
        "[feed]\nsource = \"publisher\"\n[feed.publisher]\nlisten = [\"127.0.0.1:0\"]\nstate = \"\"\n",
    )
    .unwrap();
    let config = file.to_str().unwrap();
    let blade = Blade::start(&["--workers", "1"]);
    let mut publisher = Command::new(FANBLADE);
    publisher.args(["run", "--no-ebpf", "--workers", "1", "--config", config]);
    let publisher = Blade::spawn(publisher);
    let source = publisher.status()["feed"]["source"].as_str().unwrap().to_owned();
    let intake = source.split('/').find(|part| part.starts_with("127.")).unwrap();
    let (data, admin, pid) = (blade.data.to_string(), blade.admin.to_string(), blade.pid().to_string());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let replay =
        ["replay", "sim", "--to", "239.192.77.1:26477@lo", "--messages", "50", "--speed", "max", "--linger", "0"];
    let value = "{\"s\":\"/X/a/v\",\"d\":1}\n";
    let wrong = "{\"s\":\"/X/a/v\"}\nno JSON\n";
    // Arguments, input, whether the command prints to standard output, and whether to standard error.
    let commands: &[(&[&str], &str, bool, bool)] = &[
        (&["--help"], "", true, false),
        (&["--version"], "", true, false),
        (&["run", "--help"], "", true, false),
        (&["no-such-command"], "", false, true),
        (&["run", "--config", "/nonexistent.toml"], "", false, true),
        (&["run", "--no-ebpf", "--listen", &data, "--admin", "127.0.0.1:0"], "", false, true),
        (&["check", config], "", true, false),
        (&["check", "/nonexistent.toml"], "", false, true),
        (&["doctor"], "", true, false),
        (&["doctor", "--json"], "", true, false),
        (&["tune", "--dry-run"], "", true, false),
        (&["tune", "--toml"], "", true, false),
        (&["flows", "--pin-dir", "/nonexistent"], "", false, true),
        (&["subscribe", &data, "/NASDAQ/**", "--count", "200", "--for", "50"], "", true, true),
        (&["subscribe", &data, "/NASDAQ/**", "--check", "--count", "200", "--for", "50"], "", true, false),
        (&["subscribe", &data, "/NASDAQ/**", "--check", "--json", "--count", "200", "--for", "50"], "", true, false),
        (&["subscribe", &data, "/NASDAQ/**", "--check", "--connections", "3", "--for", "2.5"], "", true, true),
        (&["subscribe", &free, "/NASDAQ/**"], "", false, true),
        (&[&replay[..], &["--json"]].concat(), "", true, false),
        (&replay, "", true, false),
        (&["publish", intake], value, false, true),
        (&["publish", intake, "--json"], value, true, false),
        (&["publish", intake], wrong, false, true),
        (&["publish", &free], value, false, true),
        (&["top", "--once", &admin], "", true, false),
        (&["top"], "", false, true),
        (&["tap", "--pid", &pid, "--once"], "", true, false),
        (&["tap", "--pid", &pid, "--json", "--once"], "", true, false),
        (&["tap", "subjects", "--pid", &pid], "", true, false),
        (&["tap", "info", "--pid", &pid, "--json"], "", true, false),
        (&["tap", "info", "--pid", &pid], "", true, false),
        (&["tap", "follow", "/NASDAQ/**", "--pid", &pid, "--count", "100"], "", true, true),
        (&["tap", "info", "--pid", "1"], "", false, true),
    ];
    for (args, input, prints_out, prints_err) in commands {
        let mut usual = None;
        for (out, err) in [
            (Sink::Read, Sink::Read),
            (Sink::Gone, Sink::Read),
            (Sink::Full, Sink::Read),
            (Sink::Read, Sink::Gone),
            (Sink::Read, Sink::Full),
            (Sink::Full, Sink::Full),
            (Sink::Gone, Sink::Gone),
        ] {
            let output = run(args, input, out, err);
            let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            let what = format!("{args:?} with {out:?} and {err:?}: {}\n{stdout}{stderr}", output.status);
            assert!(output.status.signal().is_none(), "it dies: {what}");
            assert!(!stderr.contains("panicked"), "{what}");
            let code = output.status.code().unwrap();
            match (out, err) {
                (Sink::Read, Sink::Read) => {
                    assert_eq!((!stdout.is_empty(), !stderr.is_empty()), (*prints_out, *prints_err), "{what}");
                    usual = Some(code);
                }
                (Sink::Gone, Sink::Read) if *prints_out => {
                    assert_eq!(code, 0, "quietly: {what}");
                    assert!(!stderr.contains("fanblade:"), "quietly: {what}");
                }
                (Sink::Full, Sink::Read) if *prints_out => {
                    assert_ne!(code, 0, "{what}");
                    let words = "standard output cannot be written: No space left on device";
                    assert!(stderr.contains(words), "{what}");
                }
                (Sink::Full, _) if *prints_out => assert_ne!(code, 0, "{what}"),
                // A failed write of a result to standard error counts as well; that of a side remark does not.
                (Sink::Read, Sink::Full) if usual != Some(code) => assert_eq!(code, 1, "{what}"),
                _ => {}
            }
        }
    }
}
