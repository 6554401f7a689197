//! etcd set back to an older state: what was written since is gone, and revisions begin again from there.

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use selvage_e2e::wait_for;
use serde_json::{Value, json};

use super::{SLOW, SPACE, World, policy};
use crate::netns::PodNet;
use crate::pods::{self, Pod};
use crate::probe::Seen;
use crate::product;
use crate::status;
use crate::traffic::Echo;

const PORT: u16 = 9100;
/// Objects that are written after the save, so that the new history takes a while to reach the old one's revisions.
const LATER: u32 = 300;

/// A policy that the saved state has is as it was, one that it has not is gone, and what is changed afterwards holds.
pub fn older(world: &mut World<'_>) -> anyhow::Result<()> {
    let cluster = world.cluster;
    let bed = cluster.require_bed()?;
    let far = world.scene.far.clone();
    let near = world.scene.near.clone();
    pods::start(cluster, &[Pod::client(SPACE, "kept", Some(&far)), Pod::client(SPACE, "asks", Some(&near))])?;
    let (kept, asks) = (PodNet::of(cluster, SPACE, "kept")?, PodNet::of(cluster, SPACE, "asks")?);
    let _echo = Echo::start(&kept, PORT)?;
    let to = SocketAddr::new(kept.address(false)?, PORT);
    let sees = |what: &str, expected: Seen| -> anyhow::Result<()> {
        let seen = asks.attempt_until(to, expected, SLOW)?;
        ensure!(seen == expected, "{what}: {}, where {} was expected", seen.word(), expected.word());
        Ok(())
    };
    cluster.apply(SPACE, &kept_policy("nobody").to_string())?;
    status::programmed(cluster, SPACE, "kept")?;
    sees("before the save", Seen::TimedOut)?;
    bed.save_etcd()?;

    cluster.apply(SPACE, &kept_policy("asks").to_string())?;
    let muted = json!({ "podSelector": { "matchLabels": { "pod": "server" } }, "policyTypes": ["Egress"] });
    cluster.apply(SPACE, &policy("late", muted).to_string())?;
    status::programmed(cluster, SPACE, "late")?;
    sees("with the policy changed after the save", Seen::Answered)?;
    let later = (0..LATER).map(|number| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("later-{number}") },
        })
    });
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": later.collect::<Vec<_>>() });
    cluster.apply(SPACE, &list.to_string())?;
    let before = revision(world)?;

    world.witness()?.case("etcd set back to an older state", || {
        bed.restore_etcd()?;
        let after = revision(world)?;
        println!("  revision {before} before, {after} after");
        ensure!(after < before, "the revision did not go back");
        sees("the policy as it was saved", Seen::TimedOut)?;
        // A deny that is new, and one that is changed, both of the new history.
        world.reword(1)?;
        world.converged()?;
        cluster.apply(SPACE, &kept_policy("asks").to_string())?;
        status::programmed_within(cluster, SPACE, "kept", SLOW)?;
        sees("the policy changed after the restore", Seen::Answered)?;
        cluster.apply(SPACE, &kept_policy("nobody").to_string())?;
        status::programmed_within(cluster, SPACE, "kept", SLOW)?;
        sees("and changed back", Seen::TimedOut)?;
        status::gone(cluster, SPACE, "late")?;
        world.reword(0)?;
        world.converged()?;
        product::wait_ready(cluster)
    })?;
    let words = ["delete", "-n", SPACE, "--wait", "pod/kept", "pod/asks", "networkpolicy/kept"];
    cluster.kubectl_ok(&words)?;
    wait_for("the operators to be Ready", SLOW, || {
        product::wait_ready(cluster).map_err(|e| format!("{e:#}"))
    })?;
    Ok(())
}

/// Lets pods with that name into `kept`.
fn kept_policy(from: &str) -> Value {
    let from = json!([{ "podSelector": { "matchLabels": { "pod": from } } }]);
    let select = json!({ "matchLabels": { "pod": "kept" } });
    policy("kept", json!({ "podSelector": select, "ingress": [{ "from": from }] }))
}

/// etcd's revision, as the API server tells it.
fn revision(world: &World<'_>) -> anyhow::Result<u64> {
    let words = ["get", "--raw", "/api/v1/namespaces?limit=1"];
    let list: Value = serde_json::from_str(&world.cluster.kubectl_ok(&words)?)?;
    let version = list["metadata"]["resourceVersion"].as_str().context("a list without version")?;
    Ok(version.parse()?)
}
