//! A command whose output cannot be written ends without a panic.

use std::fs::File;
use std::process::{Command, Output, Stdio};

fn tidy(stdout: Stdio) -> Output {
    Command::new(env!("CARGO_BIN_EXE_xtask")).arg("tidy").stdout(stdout).output().unwrap()
}

#[test]
fn output_that_cannot_be_written_is_no_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let gone = tidy(writer.into());
    let full = tidy(File::options().write(true).open("/dev/full").unwrap().into());
    assert_eq!((gone.status.code(), full.status.code()), (Some(141), Some(1)));
    for output in [gone, full] {
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!said.contains("panicked"), "{said}");
    }
}
