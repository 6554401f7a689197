//! A set as large as one object holds, and the change of one of its networks.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use selvage_e2e::run_with_input;
use serde_json::json;

use super::{HOME, WEB, World, object};
use crate::checks::host;
use crate::probe::Seen::{Answered, TimedOut};
use crate::product;
use crate::status;

/// About what etcd takes in one object.
const NETS: usize = 60_000;
/// Objects that one network more may write: its slice, and another where the group is cut anew meanwhile.
const WRITES: usize = 2;
const NAME: &str = "kinds-large";

impl World<'_> {
    pub(super) fn large_set(&mut self) -> anyhow::Result<()> {
        let mut nets: Vec<String> =
            (0..NETS).map(|n| format!("20.{}.{}.{}/32", n >> 15, (n >> 7) & 255, (n * 2) & 255)).collect();
        self.put_set(&nets)?;
        let source = json!({ "selector": "size == 'large'", "namespaceSelector": "global()" });
        let rules = json!([{ "action": "Allow", "source": source }]);
        self.namespaced(HOME, "SelvageNetworkPolicy", NAME, json!({ "ingress": rules }))?;
        self.stands()?;
        self.see("large", WEB, TimedOut, TimedOut)?;
        let before = self.slices()?;
        ensure!(before.len() > NETS / 250 / 2, "{} slices hold {NETS} networks", before.len());
        nets.push(host(self.friend[0]));
        self.put_set(&nets)?;
        self.stands()?;
        let after = self.slices()?;
        let written = after.iter().filter(|(name, version)| before.get(*name) != Some(version)).count();
        self.table.row(
            "one more",
            &format!("objects written, of {} slices", after.len()),
            "1 or 2",
            if (1..=WRITES).contains(&written) { "1 or 2" } else { "more" },
        );
        let from = crate::probe::From::Pod(super::AWAY, "friend");
        let way = crate::probe::Way::Tcp(WEB);
        let seen = crate::probe::probe_until(self.cluster, &from, self.server[0], way, Answered, 20)?;
        self.table.row("one more", "the friend, whose address was added", Answered.word(), seen.word());
        self.clear()
    }

    /// By server-side apply: the list would not fit into the annotation of the other one.
    fn put_set(&mut self, nets: &[String]) -> anyhow::Result<()> {
        let mut set = object("GlobalNetworkSet", NAME, json!({ "nets": nets }));
        set["metadata"]["labels"] = json!({ "size": "large" });
        if !self.made.iter().any(|(_, name)| name == NAME) {
            self.made.push(("GlobalNetworkSet".to_owned(), NAME.to_owned()));
        }
        let mut kubectl =
            self.cluster.kubectl_command(&["apply", "--server-side", "--force-conflicts", "-f", "-"]);
        run_with_input(&mut kubectl, set.to_string().as_bytes())?;
        Ok(())
    }

    fn stands(&self) -> anyhow::Result<()> {
        status::stands(self.cluster, "gns", "default", NAME)
    }

    /// Every slice of every group, by name, with its version.
    fn slices(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let path = "jsonpath={range .items[*]}{.metadata.name} {.metadata.resourceVersion}{\"\\n\"}{end}";
        let words = ["get", "addressgroups", "--namespace", product::NAMESPACE, "-o", path];
        let listed = self.cluster.kubectl_ok(&words)?;
        let pair =
            |line: &str| line.split_once(' ').map(|(name, version)| (name.to_owned(), version.to_owned()));
        listed.lines().map(|line| pair(line).with_context(|| format!("a slice: {line}"))).collect()
    }
}
