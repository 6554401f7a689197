//! A release before this one, and the ways between the two.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use super::World;
use crate::product::{self, NAMESPACE, RELEASE};

/// The version of the release before, in the chart and as the images' tag.
const BEFORE: &str = "0.0.9";
const IMAGES: [&str; 2] = ["operator", "node-agent"];
/// The field that its definition of NodePolicy does not have: in a status, so that the agents of this release, whose
/// reports the old definition prunes, are understood still.
const FIELD: &str = "              agentVersion:\n";

/// To the release before and by `helm rollback` back; in a long run by upgrades and a rollback both ways.
pub fn there_and_back(world: &World<'_>) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("slv-upgrade-{}", std::process::id()));
    let done = chart_before(&folder).and_then(|chart| between(world, &chart));
    fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
    done
}

fn between(world: &World<'_>, before: &Path) -> anyhow::Result<()> {
    for node in world.cluster.nodes()? {
        for image in IMAGES {
            let name = format!("ghcr.io/selvage/{image}");
            let (now, then) = (format!("{name}:{}", version()?), format!("{name}:{BEFORE}"));
            let words = ["ctr", "--namespace", "k8s.io", "images", "tag", "--force", &now, &then];
            let tagged = world.cluster.require_bed()?.node_exec(&node.name, &words)?;
            ensure!(tagged.success(), "{}: {}", node.name, tagged.stderr);
        }
    }
    let mut values = product::values(world.cluster, world.images)?;
    values.push("agent.maxUnavailable=100%".to_owned());
    let to = |chart: &Path, has_field: bool, round: u64| -> anyhow::Result<()> {
        product::helm_upgrade(world.cluster, chart, &values)?;
        arrived(world, has_field, round)
    };
    let rollback = |has_field: bool, round: u64| -> anyhow::Result<()> {
        let done = world.cluster.helm(&["rollback", RELEASE, "--namespace", NAMESPACE])?;
        ensure!(done.success(), "helm rollback: {}{}", done.stdout, done.stderr);
        arrived(world, has_field, round)
    };
    world.witness()?.case("helm upgrade to the release before", || to(before, false, 1))?;
    if !world.long {
        // Back to what was installed first: this release.
        world.witness()?.case("helm rollback to this release", || rollback(true, 0))?;
        return Ok(());
    }
    world.witness()?.case("helm upgrade to this release", || to(&product::chart(), true, 0))?;
    world.witness()?.case("helm rollback to the release before", || rollback(false, 1))?;
    world.witness()?.case("helm upgrade to this release again", || to(&product::chart(), true, 0))?;
    Ok(())
}

/// Waits until everything is as the release wants it, and policies that change are followed.
fn arrived(world: &World<'_>, has_field: bool, round: u64) -> anyhow::Result<()> {
    product::wait_ready(world.cluster)?;
    let crd = world.cluster.kubectl_json(&["get", "crd", "nodepolicies.selvage.io"])?;
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let field = &schema["properties"]["status"]["properties"]["agentVersion"];
    ensure!(field.is_object() == has_field, "the definition is not that of the release: {field}");
    world.reword(round)?;
    world.converged()
}

fn version() -> anyhow::Result<String> {
    let chart = fs::read_to_string(product::chart().join("Chart.yaml"))?;
    let line = chart.lines().find_map(|line| line.strip_prefix("appVersion: "));
    Ok(line.context("Chart.yaml has no appVersion")?.trim_matches('"').to_owned())
}

/// A copy of the chart with another version and without [`FIELD`].
fn chart_before(folder: &Path) -> anyhow::Result<PathBuf> {
    copy(&product::chart(), folder)?;
    let now = version()?;
    let change = |file: &str, change: &dyn Fn(String) -> anyhow::Result<String>| -> anyhow::Result<()> {
        let path = folder.join(file);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(fs::write(&path, change(text)?)?)
    };
    change("Chart.yaml", &|text| Ok(text.replace(&now, BEFORE)))?;
    change("templates/crds/nodepolicies.yaml", &|text| {
        let (head, rest) = text.split_once(FIELD).context("the definition has no agentVersion")?;
        let depth = FIELD.len() - FIELD.trim_start().len();
        let deeper = |line: &&str| line.len() - line.trim_start().len() > depth;
        let rest: Vec<&str> = rest.lines().skip_while(deeper).collect();
        Ok(format!("{head}{}\n", rest.join("\n")))
    })?;
    Ok(folder.to_owned())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
