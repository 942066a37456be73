//! `fanblade tune` on this machine: a plan that says why, and keys that `check` and `size` agree with.

mod common;

use common::fanblade;

#[test]
fn a_dry_run_shows_the_plan_and_changes_nothing() {
    let run = || fanblade(&["tune", "--dry-run"]);
    let (code, plan, stderr) = run();
    assert_eq!((code, stderr.as_str()), (0, ""));
    for word in ["CPUs ", "workers ", "isolation", "governor", "idle states", "huge pages"] {
        assert!(plan.contains(word), "{word} is not in\n{plan}");
    }
    let lines =
        || plan.lines().filter(|line| ["unchanged ", "would set ", "-  "].iter().any(|word| line.starts_with(word)));
    assert!(lines().count() > 3 && lines().all(|line| line.contains(" (")), "a line without its reason:\n{plan}");
    assert!(!plan.contains("\nset ") && !plan.contains("refused"), "{plan}");
    // Below, threads of the kernel come and go.
    let decided = |plan: &str| plan.split("\n\n").next().map(str::to_owned);
    assert_eq!(decided(&run().1), decided(&plan), "the same again");
}

#[test]
fn the_keys_are_those_of_size() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tune.toml");
    let (code, keys, _) = fanblade(&["tune", "--toml"]);
    assert_eq!(code, 0);
    std::fs::write(&file, &keys).unwrap();
    let (code, stdout, stderr) = fanblade(&["check", file.to_str().unwrap()]);
    assert!(code == 0 && stdout.contains("good"), "{keys}{stdout}{stderr}");
    let (_, sizes, _) = fanblade(&["size", "--toml"]);
    assert!(sizes.contains(&keys), "size and tune differ:\n{sizes}\n{keys}");
}

#[test]
fn what_is_wrong_with_a_request_is_told() {
    let (code, plan, stderr) =
        fanblade(&["tune", "--dry-run", "--interface", "no-such0", "--config", "/nonexistent.toml"]);
    assert!(code == 0 && plan.contains("no-such0: there is no such interface"), "{plan}");
    assert!(stderr.contains("goes without the configuration") && stderr.contains("/nonexistent.toml"), "{stderr}");
    let (code, _, stderr) = fanblade(&["tune", "--toml", "--dry-run"]);
    assert!(code != 0 && stderr.contains("cannot be used with"), "{stderr}");
    let (code, _, stderr) = fanblade(&["tune", "--wait", "601"]);
    assert!(code != 0 && stderr.contains("601"), "{stderr}");
}
