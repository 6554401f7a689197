//! Objects that arrive in part, wrongly or not at all. The operator is away meanwhile, so that nobody mends them.

use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use selvage_e2e::{Output, output, wait_for};
use serde_json::{Value, json};

use super::{SLOW, World};
use crate::pods;
use crate::product::{self, NAMESPACE};
use crate::status::condition;

/// How long agents have for seeing what they must not take.
const SEEN: Duration = Duration::from_secs(2);

/// What stands stays, whatever becomes of its objects, and what is wrong is reported. The operator mends it.
pub fn half_delivered(world: &World<'_>) -> anyhow::Result<()> {
    let slice = friends(world)?;
    scale_operator(world, 0)?;
    let tried = slices(world, &slice).and_then(|()| node_policies(world));
    let mended = world.witness.case("the operator is back and mends what others did to its objects", || {
        scale_operator(world, 2)?;
        product::wait_ready(world.cluster)?;
        wait_for("the slice as it was", SLOW, || {
            let now = get(world, "addressgroup", name(&slice)).map_err(|error| error.to_string())?;
            if now["spec"]["members"] == slice["spec"]["members"] {
                Ok(())
            } else {
                Err(now["spec"].to_string())
            }
        })?;
        Ok(())
    });
    tried?;
    mended.map(drop)
}

/// A slice of the group of friends: deleted, late, lost bytes, of another format, and of a newer epoch that does not
/// become complete. Whoever took these would cut friends off, or let strangers in.
fn slices(world: &World<'_>, slice: &Value) -> anyhow::Result<()> {
    let stranger = pods::ipv4(world.cluster, world.scene.space, "stranger-far")?.to_string();
    let opened = json!([stranger]);
    world.witness.case("an address group slice is missing, and comes late", || {
        world.cluster.kubectl_ok(&["delete", "addressgroup", "-n", NAMESPACE, name(slice)])?;
        thread::sleep(SEEN);
        write(world, "create", slice)
    })?;
    world.witness.case("a slice that can't be decoded, reported", || {
        let mut broken = slice.clone();
        broken["spec"]["members"] = opened.clone();
        write(world, "replace", &broken)?;
        reported(world, "PartiallyProgrammed", name(slice))?;
        write(world, "replace", slice)?;
        reported(world, "Programmed", "")
    })?;
    world.witness.case("a slice of a newer format, reported", || {
        let mut newer = slice.clone();
        newer["spec"]["format"] = json!(2);
        write(world, "replace", &newer)?;
        reported(world, "PartiallyProgrammed", "unknown format 2")?;
        write(world, "replace", slice)?;
        reported(world, "Programmed", "")
    })?;
    world.witness.case("a slice of a newer epoch, of which the others do not come", || {
        let epoch = slice["spec"]["epoch"].as_u64().context("a slice without epoch")? + 1;
        let newer = of_epoch(slice, epoch, &opened)?;
        write(world, "create", &newer)?;
        thread::sleep(SEEN);
        world.cluster.kubectl_ok(&["delete", "addressgroup", "-n", NAMESPACE, name(&newer)])?;
        Ok(())
    })?;
    world.witness.case(
        "slices that the API server does not take: oversized, and of a newer API version",
        || {
            let mut large = slice.clone();
            large["metadata"]["name"] = json!(format!("{}0", name(slice)));
            let members = (0..40_000_u32).map(|n| format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255));
            large["spec"]["members"] = members.collect::<Vec<_>>().into();
            let refused = kubectl_write(world, "create", &large)?;
            ensure!(
                !refused.success() && refused.stderr.contains("Too many"),
                "oversized: {}",
                refused.stderr
            );
            let mut newer = slice.clone();
            newer["apiVersion"] = json!("selvage.io/v1beta1");
            let refused = kubectl_write(world, "create", &newer)?;
            ensure!(
                !refused.success() && refused.stderr.contains("no matches for kind"),
                "{}",
                refused.stderr
            );
            Ok(())
        },
    )?;
    Ok(())
}

/// The NodePolicy itself: of a newer format, with a digest that is not its content's, and deleted.
fn node_policies(world: &World<'_>) -> anyhow::Result<()> {
    let policy = get(world, "nodepolicy", &world.scene.near)?;
    world.witness.case("a NodePolicy of a newer format, reported", || {
        let mut newer = policy.clone();
        newer["spec"]["format"] = json!(2);
        newer["spec"]["policies"] = json!([]);
        write(world, "replace", &newer)?;
        reported(world, "UnknownFormat", "unknown format 2")
    })?;
    world.witness.case("a NodePolicy that lost its policies on the way, reported", || {
        let mut pruned = policy.clone();
        pruned["spec"]["profiles"] = json!([]);
        write(world, "replace", &pruned)?;
        reported(world, "Unreadable", "spec")
    })?;
    world.witness.case("a NodePolicy that is deleted", || {
        world.cluster.kubectl_ok(&["delete", "nodepolicy", "-n", NAMESPACE, &world.scene.near])?;
        thread::sleep(SEEN);
        Ok(())
    })?;
    Ok(())
}

/// The one slice of the group that both friends are in, as it can be written again.
fn friends(world: &World<'_>) -> anyhow::Result<Value> {
    let friend =
        |pod| pods::ipv4(world.cluster, world.scene.space, pod).map(|address| json!(address.to_string()));
    let friends = [friend("friend-near")?, friend("friend-far")?];
    let list = world.cluster.kubectl_json(&["get", "addressgroups", "-n", NAMESPACE])?;
    let slices = list["items"].as_array().cloned().unwrap_or_default();
    let members = |slice: &Value| slice["spec"]["members"].as_array().cloned().unwrap_or_default();
    let of_both = |slice: &&Value| friends.iter().all(|friend| members(slice).contains(friend));
    // Two pods of two families: a larger group of the same pods would be another one's.
    let smallest = slices.iter().filter(of_both).min_by_key(|slice| members(slice).len());
    Ok(bare(smallest.context("no group holds both friends")?.clone()))
}

fn get(world: &World<'_>, kind: &str, name: &str) -> anyhow::Result<Value> {
    Ok(bare(world.cluster.kubectl_json(&["get", kind, "-n", NAMESPACE, name])?))
}

/// Without what only the API server writes.
fn bare(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| ["name", "namespace", "labels", "annotations"].contains(&field.as_str()));
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object
}

/// Slice 0 of 2 of another epoch, with other members; its digest is right.
fn of_epoch(slice: &Value, epoch: u64, members: &Value) -> anyhow::Result<Value> {
    let mut other = slice.clone();
    let spec: selvage_crds::AddressGroupSpec = serde_json::from_value(slice["spec"].clone())?;
    let mut decoded = selvage_crds::codec::decode_slice(&spec)?;
    (decoded.epoch, decoded.index, decoded.count) = (u32::try_from(epoch)?, 0, 2);
    let of_strangers = |member: &Value| -> anyhow::Result<_> {
        let address: std::net::IpAddr = member.as_str().context("a member is no text")?.parse()?;
        Ok(selvage_policy::compiled::Member::Net(address.into()))
    };
    decoded.members =
        members.as_array().into_iter().flatten().map(of_strangers).collect::<anyhow::Result<_>>()?;
    decoded.owners = None;
    other["metadata"]["name"] = json!(decoded.object_name());
    other["spec"] = serde_json::to_value(selvage_crds::codec::encode_slice(&decoded, spec.basis)?)?;
    Ok(other)
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn write(world: &World<'_>, verb: &str, object: &Value) -> anyhow::Result<()> {
    let done = kubectl_write(world, verb, object)?;
    ensure!(done.success(), "{verb} {}: {}", name(object), done.stderr);
    Ok(())
}

fn kubectl_write(world: &World<'_>, verb: &str, object: &Value) -> anyhow::Result<Output> {
    let mut kubectl = world.cluster.kubectl_command(&[verb, "-n", NAMESPACE, "-f", "-"]);
    Ok(output(&mut kubectl, Some(object.to_string().as_bytes()))?)
}

/// Waits until the near node says so of its NodePolicy.
fn reported(world: &World<'_>, reason: &str, message: &str) -> anyhow::Result<()> {
    Ok(wait_for(&format!("{} to report {reason}", world.scene.near), SLOW, || {
        let words = ["get", "nodepolicy", "-n", NAMESPACE, &world.scene.near];
        let seen = world.cluster.kubectl_json(&words).map_err(|error| error.to_string())?;
        let programmed = condition(&seen, "Programmed");
        let said = programmed["message"].as_str().is_some_and(|said| said.contains(message));
        if programmed["reason"] == reason && said { Ok(()) } else { Err(programmed.to_string()) }
    })?)
}

fn scale_operator(world: &World<'_>, replicas: u32) -> anyhow::Result<()> {
    let replicas = format!("--replicas={replicas}");
    world.cluster.kubectl_ok(&["scale", "-n", NAMESPACE, "deployment/selvage-operator", &replicas])?;
    if replicas == "--replicas=0" {
        let words = ["wait", "-n", NAMESPACE, "--for=delete", "--timeout=60s", "pod"];
        let labels = ["-l", "app.kubernetes.io/component=operator"];
        world.cluster.kubectl_ok(&[&words[..], &labels].concat())?;
    }
    Ok(())
}
