//! `cargo xtask tidy`: checks what the compiler does not. Each check is a function from the tree to its findings.

use std::process::ExitCode;

use crate::repository;
use exceptions::Exceptions;
use finding::Finding;
use tree::Tree;

mod circles;
mod code;
mod exceptions;
mod finding;
mod firmware;
mod links;
mod manifests;
mod numbers;
mod sources;
mod specification;
mod tree;
mod unsafety;

/// Check what the compiler does not check
///
///   manifests      crates depend only in the direction of the data path; versions and lints stand in the workspace
///   unsafe         `unsafe` only in files that xtask/tidy.toml names, each with its reason
///   circles        no file of a crate imports in a circle with another
///   sources        module docs and style, line width, file length, no notes of unfinished work, no paths of a builder
///   links          relative links and anchors in Markdown resolve
///   specification  every promise names tests that exist, or says that it is pending
///   numbers        measured numbers in README.md equal a value in perf/results
///   firmware       the sysctl file holds what `fanblade doctor` checks
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Args {}

pub(crate) fn run(_args: &Args) -> anyhow::Result<ExitCode> {
    let findings = findings()?;
    for finding in &findings {
        println!("{finding}");
    }
    println!(
        "tidy: {}",
        if findings.is_empty() { "nothing found".to_owned() } else { format!("{} found", findings.len()) }
    );
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs all checks over the checkout.
pub(crate) fn findings() -> anyhow::Result<Vec<Finding>> {
    let tree = Tree::read(&repository::root()?)?;
    let exceptions = Exceptions::of(&tree)?;
    let mut findings = [
        manifests::check(&tree),
        unsafety::check(&tree, &exceptions),
        circles::check(&tree, &exceptions),
        sources::check(&tree, &exceptions),
        links::check(&tree),
        specification::check(&tree),
        numbers::check(&tree),
        firmware::check(&tree),
    ]
    .concat();
    findings.sort();
    Ok(findings)
}
