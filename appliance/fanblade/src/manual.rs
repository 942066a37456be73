//! Checks that the program accepts the command lines in the documentation.

use std::fs;
use std::path::Path;

use clap::Parser as _;
use clap::error::ErrorKind;

use super::Cli;

/// The commands in the pages' shell blocks, each split into words, with the page's name.
fn commands() -> Vec<(String, Vec<String>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let pages = docs.chain(["README.md", "CONTRIBUTING.md"].map(|page| root.join(page)));
    let mut commands = Vec::new();
    for page in pages.filter(|page| page.extension().is_some_and(|ending| ending == "md")) {
        let text = fs::read_to_string(&page).unwrap().replace("\\\n", " ");
        let blocks = text.split("```sh\n").skip(1).filter_map(|block| block.split("```").next());
        for line in blocks.flat_map(str::lines) {
            let words = shlex::split(line).unwrap_or_else(|| panic!("{}: {line}", page.display()));
            let parts = words.split(|word| ["|", "&&", ">"].contains(&word.as_str()));
            commands.extend(parts.map(|part| (page.display().to_string(), part.to_vec())));
        }
    }
    commands
}

#[test]
fn every_command_line_of_the_documentation_is_taken() {
    let mut tried = 0;
    for (page, words) in commands() {
        if words.first().is_some_and(|program| program == "fanblade" || program.ends_with("/fanblade")) {
            tried += 1;
            let error = Cli::try_parse_from(&words).err().filter(|error| error.kind() != ErrorKind::DisplayHelp);
            assert!(error.is_none(), "{page}: {words:?}: {}", error.unwrap());
        }
    }
    assert!(tried > 20, "only {tried} were found");
}
