//! NetworkSets and GlobalNetworkSets.

use serde_json::{Value, json};

use super::{HOME, WEB, World};
use crate::checks::host;
use crate::probe::Seen::{Answered, TimedOut};
use crate::status;

impl World<'_> {
    pub(super) fn sets(&mut self) -> anyhow::Result<()> {
        let lock = json!({ "order": 2000, "namespaceSelector": "side == 'home'", "types": ["Ingress"] });
        self.global("GlobalNetworkPolicy", "kinds-lock", lock)?;
        let open = json!({
            "order": 10, "namespaceSelector": "side == 'home'",
            "ingress": [{
                "action": "Allow",
                "source": { "selector": "role == 'partner'", "namespaceSelector": "global()" },
            }],
        });
        self.global("GlobalNetworkPolicy", "kinds-partners", open)?;
        self.see("no set", WEB, TimedOut, TimedOut)?;
        let (friend, stranger) = (self.friend.map(host), self.stranger.map(host));
        self.global_set(json!(friend))?;
        self.see("friend", WEB, Answered, TimedOut)?;
        self.global_set(json!(stranger))?;
        self.see("other", WEB, TimedOut, Answered)?;
        self.cluster.kubectl_ok(&["label", "gns", "kinds-partners", "role=none", "--overwrite"])?;
        self.unused("gns", "default", "kinds-partners")?;
        self.see("label", WEB, TimedOut, TimedOut)?;

        // A NetworkSet serves its own namespace; an entry that can't be read is left out and named.
        let mut set = super::object("NetworkSet", "own", json!({ "nets": friend }));
        set["metadata"]["labels"] = json!({ "role": "own" });
        self.apply(HOME, set)?;
        let rules = json!([{ "action": "Allow", "source": { "selector": "role == 'own'" } }]);
        self.namespaced(HOME, "SelvageNetworkPolicy", "own", json!({ "order": 5, "ingress": rules }))?;
        status::stands(self.cluster, "netset", HOME, "own")?;
        self.see("own", WEB, Answered, TimedOut)?;
        self.clear()
    }

    fn global_set(&mut self, nets: Value) -> anyhow::Result<()> {
        let mut set = super::object("GlobalNetworkSet", "kinds-partners", json!({ "nets": nets }));
        set["metadata"]["labels"] = json!({ "role": "partner" });
        self.apply("", set)?;
        status::stands(self.cluster, "gns", "default", "kinds-partners")
    }

    /// Waits until a set says that no policy uses it.
    fn unused(&self, kind: &str, namespace: &str, name: &str) -> anyhow::Result<()> {
        Ok(selvage_e2e::wait_for("the set to be unused", 30, || {
            let words = ["get", kind, "--namespace", namespace, name];
            let seen = self.cluster.kubectl_json(&words).map_err(|error| error.to_string())?;
            let users = seen["status"]["policies"]["count"].as_u64().unwrap_or_default();
            if users == 0 { Ok(()) } else { Err(seen["status"].to_string()) }
        })?)
    }
}
