//! What is in an image: a software bill of materials as CycloneDX 1.6 (<https://cyclonedx.org/docs/1.6/json/>).
//!
//! Crates that are compiled in, by cargo's own resolution for this platform, with their licences and the checksums of
//! Cargo.lock; and the shared libraries, by the Debian packages that they come from. Nothing in it depends on when or where
//! it was made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::command;

/// Cargo's view of the workspace, read once for all images.
pub struct Crates {
    /// By cargo's id.
    packages: BTreeMap<String, Value>,
    /// What each is compiled with: no dev-dependencies and nothing that only builds.
    needs: BTreeMap<String, BTreeSet<String>>,
    /// By (name, version).
    checksums: BTreeMap<(String, String), String>,
}

impl Crates {
    /// Asks cargo.
    pub fn read(root: &Path) -> Result<Self> {
        let host = host()?;
        let mut cargo = Command::new("cargo");
        cargo.current_dir(root).args([
            "metadata",
            "--format-version=1",
            "--locked",
            "--filter-platform",
            &host,
        ]);
        let metadata: Value =
            serde_json::from_str(&command::output(&mut cargo)?).context("cargo metadata's JSON")?;
        let packages =
            array(&metadata["packages"]).iter().map(|package| (text(&package["id"]), package.clone()));
        let nodes = array(&metadata["resolve"]["nodes"]).iter();
        let needs = nodes.map(|node| (text(&node["id"]), compiled_in(node)));
        let lock = root.join("Cargo.lock");
        let lock = fs::read_to_string(&lock).with_context(|| format!("reading {}", lock.display()))?;
        Ok(Self { packages: packages.collect(), needs: needs.collect(), checksums: checksums(&lock) })
    }

    /// The bill of a program of the workspace and the shared libraries that its image holds.
    pub fn bill(&self, program: &str, libraries: &BTreeSet<PathBuf>) -> Result<Value> {
        let is_it = |package: &&Value| package["name"] == program && package["source"].is_null();
        let package = self.packages.values().find(is_it).with_context(|| format!("no package {program}"))?;
        let top = text(&package["id"]);
        let (mut found, mut open) = (BTreeSet::from([top.clone()]), vec![top.clone()]);
        while let Some(id) = open.pop() {
            for need in self.needs.get(&id).into_iter().flatten() {
                if found.insert(need.clone()) {
                    open.push(need.clone());
                }
            }
        }
        let mut components = Vec::new();
        let mut dependencies = Vec::new();
        for id in &found {
            let component = self.component(id)?;
            let needs = self.needs.get(id).into_iter().flatten().map(|need| self.reference(need));
            let needs: BTreeSet<String> = needs.collect::<Result<_>>()?;
            dependencies.push(json!({ "ref": component["bom-ref"], "dependsOn": needs }));
            if *id != top {
                components.push(component);
            }
        }
        let files: BTreeSet<(String, String)> =
            libraries.iter().map(|library| debian(library)).collect::<Result<_>>()?;
        components.extend(files.iter().map(|(name, version)| {
            let purl = format!("pkg:deb/debian/{name}@{version}");
            json!({ "type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl })
        }));
        let mut this = self.component(&top)?;
        this["type"] = json!("application");
        Ok(json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
            "metadata": { "component": this }, "components": components, "dependencies": dependencies,
        }))
    }

    fn package(&self, id: &str) -> Result<&Value> {
        self.packages.get(id).with_context(|| format!("cargo metadata names no package {id}"))
    }

    fn reference(&self, id: &str) -> Result<String> {
        let package = self.package(id)?;
        Ok(format!("pkg:cargo/{}@{}", text(&package["name"]), text(&package["version"])))
    }

    fn component(&self, id: &str) -> Result<Value> {
        let package = self.package(id)?;
        let (name, version) = (text(&package["name"]), text(&package["version"]));
        let reference = self.reference(id)?;
        let Some(license) = package["license"].as_str() else { bail!("{name} {version} names no licence") };
        let mut component = json!({
            "type": "library", "bom-ref": reference, "name": name, "version": version, "purl": reference,
            "licenses": [{ "expression": license.replace('/', " OR ") }],
        });
        if let Some(checksum) = self.checksums.get(&(name, version)) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
        }
        Ok(component)
    }
}

/// The ids that a package of cargo's resolution is compiled with.
fn compiled_in(node: &Value) -> BTreeSet<String> {
    let normal =
        |dependency: &&Value| array(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"].is_null());
    array(&node["deps"]).iter().filter(normal).map(|dependency| text(&dependency["pkg"])).collect()
}

/// The checksums of a lock file, each a few lines below the name and version of its package.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |block: &str, name: &str| {
        let line = block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = "));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let blocks = lock.split("[[package]]");
    blocks
        .filter_map(|block| {
            Some(((field(block, "name")?, field(block, "version")?), field(block, "checksum")?))
        })
        .collect()
}

/// The package that a file comes from, and its version.
fn debian(file: &Path) -> Result<(String, String)> {
    // Where /lib is a link to /usr/lib, a package's list may say either.
    let moved = Path::new("/usr").join(file.strip_prefix("/").unwrap_or(file));
    let real = fs::canonicalize(file).with_context(|| format!("looking for {}", file.display()))?;
    for path in [file, &moved, &real] {
        let owner = Command::new("dpkg-query").arg("--search").arg(path).output().context("dpkg-query")?;
        let said = String::from_utf8_lossy(&owner.stdout);
        // "libc6:amd64: /lib/x86_64-linux-gnu/libc.so.6"; a diversion is said in a line of its own.
        let line = said.lines().find(|line| !line.starts_with("diversion by "));
        let Some((package, _)) = line.and_then(|line| line.split_once(": ")) else { continue };
        let mut show = Command::new("dpkg-query");
        let version = command::output(show.args(["--show", "--showformat=${Version}", package]))?;
        let name = package.split_once(':').map_or(package, |(name, _)| name);
        return Ok((name.to_owned(), version.trim().to_owned()));
    }
    bail!("{}: no Debian package says that it holds this file", file.display())
}

/// The platform that is built for.
fn host() -> Result<String> {
    let said = command::output(Command::new("rustc").arg("-vV"))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_holds_what_is_compiled_in_and_nothing_else() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let crates = Crates::read(root).unwrap();
        let own = crate::images::libraries(&std::env::current_exe().unwrap()).unwrap();
        let bill = crates.bill("selvage-node-agent", &own).unwrap();
        let components = array(&bill["components"]);
        let named = |name: &str| components.iter().find(|component| component["name"] == name);
        for name in ["selvage-nftables", "netlink-packet-netfilter", "kube", "tokio"] {
            assert!(named(name).is_some(), "{name} is compiled in");
        }
        // Readers in tests, and what is under another licence for them alone.
        for name in ["rustables", "proptest", "selvage-operator"] {
            assert!(named(name).is_none(), "{name} is not compiled in");
        }
        assert_eq!(named("tokio").unwrap()["hashes"][0]["content"].as_str().unwrap().len(), 64);
        assert_eq!(bill["metadata"]["component"]["type"], "application");
        assert!(components.iter().any(|component| text(&component["purl"]).starts_with("pkg:deb/debian/")));
        let known: Vec<&Value> = components
            .iter()
            .chain([&bill["metadata"]["component"]])
            .map(|component| &component["bom-ref"])
            .collect();
        for dependency in array(&bill["dependencies"]) {
            for need in array(&dependency["dependsOn"]) {
                assert!(known.contains(&need), "{need} is listed");
            }
        }
    }
}
