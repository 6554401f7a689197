//! Tiers: Pass, the three that always exist, and what happens to policies whose tier is not there.

use anyhow::ensure;
use serde_json::{Value, json};

use super::{HOME, WEB, World, object};
use crate::probe::Seen::{Answered, TimedOut};
use crate::status;

impl World<'_> {
    pub(super) fn ladder(&mut self) -> anyhow::Result<()> {
        self.pass_through_tiers()?;
        self.clear()?;
        self.admin_over_namespace_over_baseline()?;
        self.clear()?;
        self.tiers_that_are_kept()
    }

    /// The first tier passes the friend on to the NetworkPolicy and denies everybody else.
    fn pass_through_tiers(&mut self) -> anyhow::Result<()> {
        let early = |rules: Value| json!({ "tier": "kinds-early", "namespaceSelector": "side == 'home'", "ingress": rules });
        let friend = json!({ "selector": "pod == 'friend'" });
        let pass = early(json!([{ "action": "Pass", "source": friend }, { "action": "Deny" }]));
        // Without its tier it is not enforced, and says so.
        self.apply("", object("GlobalNetworkPolicy", "kinds-early", pass))?;
        let missing = ("Accepted", "False TierNotFound");
        status::says(self.cluster, "gnp", "default", "kinds-early", missing)?;
        self.see("no tier", WEB, Answered, Answered)?;
        self.global("Tier", "kinds-early", json!({ "order": 100 }))?;
        status::stands(self.cluster, "gnp", "default", "kinds-early")?;
        self.see("pass", WEB, Answered, TimedOut)?;
        let deny = json!({ "podSelector": {}, "policyTypes": ["Ingress"] });
        self.namespaced(HOME, "NetworkPolicy", "deny", deny)?;
        self.see("passed", WEB, TimedOut, TimedOut)?;
        let away = json!({ "namespaceSelector": { "matchLabels": { "side": "away" } } });
        let allow = json!({ "podSelector": {}, "ingress": [{ "from": [away] }] });
        self.namespaced(HOME, "NetworkPolicy", "allow", allow)?;
        self.see("allowed", WEB, Answered, TimedOut)
    }

    /// ClusterNetworkPolicy Admin over NetworkPolicy over Baseline.
    fn admin_over_namespace_over_baseline(&mut self) -> anyhow::Result<()> {
        let from_away = json!([{ "namespaces": { "matchLabels": { "side": "away" } } }]);
        let from_friend = json!([{ "pods": {
            "namespaceSelector": { "matchLabels": { "side": "away" } },
            "podSelector": { "matchLabels": { "pod": "friend" } },
        } }]);
        let subject = json!({ "namespaces": { "matchLabels": { "side": "home" } } });
        let policy = |tier: &str, priority: u32, action: &str, from: &Value| {
            json!({
                "tier": tier, "priority": priority, "subject": subject,
                "ingress": [{ "name": "r", "action": action, "from": from }],
            })
        };
        self.global("ClusterNetworkPolicy", "kinds-base", policy("Baseline", 1, "Deny", &from_away))?;
        self.see("baseline", WEB, TimedOut, TimedOut)?;
        let away = json!({ "namespaceSelector": { "matchLabels": { "side": "away" } } });
        let allow = json!({ "podSelector": {}, "ingress": [{ "from": [away] }] });
        self.namespaced(HOME, "NetworkPolicy", "allow", allow)?;
        self.see("netpol", WEB, Answered, Answered)?;
        self.global("ClusterNetworkPolicy", "kinds-deny", policy("Admin", 20, "Deny", &from_away))?;
        self.see("admin", WEB, TimedOut, TimedOut)?;
        self.global("ClusterNetworkPolicy", "kinds-pass", policy("Admin", 10, "Pass", &from_friend))?;
        self.see("pass", WEB, Answered, TimedOut)?;
        let deny = json!({ "podSelector": {}, "policyTypes": ["Ingress"] });
        self.namespaced(HOME, "NetworkPolicy", "allow", deny)?;
        self.see("denied", WEB, TimedOut, TimedOut)?;
        self.global("ClusterNetworkPolicy", "kinds-accept", policy("Admin", 5, "Accept", &from_friend))?;
        self.see("accept", WEB, Answered, TimedOut)
    }

    /// The three tiers can't be changed, and one that has policies does not go before them.
    fn tiers_that_are_kept(&mut self) -> anyhow::Result<()> {
        for (words, what) in [
            (vec!["delete", "tier", "default"], "deleting"),
            (
                vec!["patch", "tier", "kube-admin", "--type=merge", "-p", r#"{"spec":{"order":5}}"#],
                "changing",
            ),
        ] {
            let seen = self.cluster.kubectl(&words)?;
            ensure!(!seen.success(), "{what} a tier that always exists was not refused: {}", seen.stdout);
            self.table.row("kept", &format!("{what} a tier that always exists"), "refused", "refused");
        }
        self.global("Tier", "kinds-late", json!({ "order": 200 }))?;
        let deny =
            json!({ "tier": "kinds-late", "namespaceSelector": "side == 'home'", "types": ["Ingress"] });
        self.global("GlobalNetworkPolicy", "kinds-late", deny)?;
        self.see("late", WEB, TimedOut, TimedOut)?;
        self.cluster.kubectl_ok(&["delete", "tier", "kinds-late", "--wait=false"])?;
        self.see("held", WEB, TimedOut, TimedOut)?;
        self.cluster.kubectl_ok(&["get", "tier", "kinds-late"])?;
        self.cluster.kubectl_ok(&["delete", "gnp", "kinds-late"])?;
        let gone = ["wait", "tier/kinds-late", "--for=delete", "--timeout=30s"];
        self.cluster.kubectl_ok(&gone)?;
        self.until("gone", "stranger", Answered)?;
        self.clear()
    }
}
