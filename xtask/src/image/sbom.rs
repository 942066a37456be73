//! Bills of material: what the image consists of, in the two formats that auditors ask for.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::build::{Build, time};
use super::steps::{Key, Steps, hash};
use crate::repository;

/// One thing that the image contains.
struct Component {
    name: String,
    version: String,
    /// package-url: <https://github.com/package-url/purl-spec>
    purl: String,
    licence: Option<String>,
}

/// Writes both files.
pub(super) fn make(build: &Build<'_>, steps: &mut Steps, root: &Key) -> anyhow::Result<Key> {
    let Build { dir, root: checkout, version, definition, .. } = *build;
    let key = root.clone().with(include_str!("sbom.rs")).with_path(&checkout.join("Cargo.lock"))?;
    let [spdx, cyclonedx] = build.sbom_names();
    steps.run("sbom", &key, &[&spdx, &cyclonedx], || {
        let mut components = debian(&fs::read_to_string(dir.join("packages.txt"))?)?;
        let packages = components.len();
        components.extend(crates(checkout)?);
        let serial = hash(&dir.join("root.erofs"))?;
        let created = time(definition.image.epoch)?;
        fs::write(dir.join(&spdx), pretty(&as_spdx(&components, version, &serial, &created))?)?;
        fs::write(dir.join(&cyclonedx), pretty(&as_cyclonedx(&components, version, &serial, &created)?)?)?;
        Ok(format!("{packages} packages of Debian, {} crates", components.len() - packages))
    })
}

fn pretty(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

/// Debian's packages; their licences stand in files without a fixed form, so none is claimed.
fn debian(list: &str) -> anyhow::Result<Vec<Component>> {
    list.lines()
        .map(|line| {
            let mut fields = line.split(' ');
            let mut next = || fields.next().with_context(|| format!("packages.txt: {line:?}"));
            let (name, version, architecture) = (next()?, next()?, next()?);
            let purl = format!("pkg:deb/debian/{name}@{}?arch={architecture}&distro=debian-13", escaped(version));
            Ok(Component { name: name.to_owned(), version: version.to_owned(), purl, licence: None })
        })
        .collect()
}

/// A version's `+` and `:` would mean something else in a URL.
fn escaped(version: &str) -> String {
    version.replace('+', "%2B").replace(':', "%3A").replace('~', "%7E")
}

/// The crates that are linked into the program, from cargo's own resolution.
fn crates(checkout: &Path) -> anyhow::Result<Vec<Component>> {
    let mut cargo = repository::cargo(checkout);
    cargo.args(["metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]);
    let output = cargo.output().context("cargo metadata")?;
    anyhow::ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let nodes = list(&metadata["resolve"]["nodes"]);
    let packages = list(&metadata["packages"]);
    let find = |id: &str| packages.iter().find(|package| package["id"] == id);
    let start =
        packages.iter().find(|package| package["name"] == "fanblade").and_then(|package| package["id"].as_str());
    let mut waiting = vec![start.context("the workspace has no package fanblade")?.to_owned()];
    let mut seen = std::collections::BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        for dependency in nodes.iter().filter(|node| node["id"] == *id).flat_map(|node| list(&node["deps"])) {
            // Build scripts and tests do not end up in the program; `kind` is null for what does.
            if list(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null()) {
                waiting.push(dependency["pkg"].as_str().unwrap_or_default().to_owned());
            }
        }
    }
    let component = |package: &Value| {
        let text = |field: &str| package[field].as_str().map(str::to_owned);
        let (name, version) = (text("name")?, text("version")?);
        let purl = format!("pkg:cargo/{name}@{}", escaped(&version));
        Some(Component { name, version, purl, licence: text("license") })
    };
    let mut found: Vec<Component> = seen.iter().filter_map(|id| component(find(id)?)).collect();
    found.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(found)
}

/// SPDX 2.3: <https://spdx.github.io/spdx-spec/v2.3/>
fn as_spdx(components: &[Component], version: &str, serial: &str, created: &str) -> Value {
    let package = |(number, component): (usize, &Component)| {
        let licence = component.licence.as_deref().map_or("NOASSERTION".to_owned(), |text| text.replace('/', " OR "));
        json!({
            "SPDXID": format!("SPDXRef-{number}"), "name": component.name, "versionInfo": component.version,
            "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
            "licenseConcluded": "NOASSERTION", "licenseDeclared": licence, "copyrightText": "NOASSERTION",
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": component.purl,
            }],
        })
    };
    let describes = |number: usize| {
        json!({
            "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
            "relatedSpdxElement": format!("SPDXRef-{number}"),
        })
    };
    json!({
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("fanblade-{version}"), "documentNamespace": format!("https://spdx.org/spdxdocs/fanblade-{serial}"),
        "creationInfo": {"created": created, "creators": ["Tool: cargo-xtask-image"]},
        "packages": components.iter().enumerate().map(package).collect::<Vec<_>>(),
        "relationships": (0..components.len()).map(describes).collect::<Vec<_>>(),
    })
}

/// CycloneDX 1.5: <https://cyclonedx.org/docs/1.5/json/>
fn as_cyclonedx(components: &[Component], version: &str, serial: &str, created: &str) -> anyhow::Result<Value> {
    let item = |component: &Component| {
        let mut item = json!({
            "type": "library", "bom-ref": component.purl, "name": component.name, "version": component.version,
            "purl": component.purl,
        });
        if let Some(licence) = &component.licence {
            item["licenses"] = json!([{"expression": licence.replace('/', " OR ")}]);
        }
        item
    };
    Ok(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "serialNumber": format!("urn:uuid:{}", super::disk::uuid(&serial[..32])?),
        "metadata": {
            "timestamp": created,
            "component": {"type": "operating-system", "name": "fanblade", "version": version},
        },
        "components": components.iter().map(item).collect::<Vec<_>>(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_has_a_purl_that_can_be_looked_up() {
        let list = "libgcc-s1 14.2.0-19 amd64 gcc-14 14.2.0-19 200\nudev 257+dfsg~1:2 amd64 systemd 257 1\n";
        let found = debian(list).unwrap();
        assert_eq!(found[0].purl, "pkg:deb/debian/libgcc-s1@14.2.0-19?arch=amd64&distro=debian-13");
        assert_eq!(found[1].purl, "pkg:deb/debian/udev@257%2Bdfsg%7E1%3A2?arch=amd64&distro=debian-13");
        assert!(debian("one-field\n").is_err());
    }

    #[test]
    fn the_program_s_crates_are_those_that_it_links() {
        let root = repository::root().unwrap();
        let names: Vec<String> = crates(&root).unwrap().into_iter().map(|component| component.name).collect();
        let has = |name: &str| names.iter().any(|found| found == name);
        assert!(has("fanblade-worker") && has("aya") && has("libc"), "{names:?}");
        assert!(!has("proptest") && !has("fanblade-testkit") && !has("xtask"), "{names:?}");
    }
}
