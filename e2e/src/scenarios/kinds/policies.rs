//! GlobalNetworkPolicy and SelvageNetworkPolicy: their rules, one after the other.

use serde_json::{Value, json};

use super::{AWAY, HOME, OTHER, WEB, World};
use crate::checks::{self, pair};
use crate::probe::{From, Seen, Way};
use crate::status;

use Seen::{Answered, TimedOut};

impl World<'_> {
    pub(super) fn policies(&mut self) -> anyhow::Result<()> {
        self.lock_and_open()?;
        self.rules()?;
        self.services()?;
        self.clear()
    }

    /// A GlobalNetworkPolicy closes a namespace; a SelvageNetworkPolicy before it opens it again, for some.
    fn lock_and_open(&mut self) -> anyhow::Result<()> {
        self.see("open", WEB, Answered, Answered)?;
        let lock = json!({ "order": 2000, "namespaceSelector": "side == 'home'", "types": ["Ingress"] });
        self.global("GlobalNetworkPolicy", "kinds-lock", lock)?;
        self.see("lock", WEB, TimedOut, TimedOut)?;
        let words = ["wait", "gnp/kinds-lock", "--for=condition=Programmed", "--timeout=30s"];
        self.cluster.kubectl_ok(&words)?;
        for (step, accounts) in
            [("names", json!({ "names": ["friend"] })), ("labels", json!({ "selector": "trusted == 'yes'" }))]
        {
            let source = json!({ "serviceAccounts": accounts, "namespaceSelector": "side == 'away'" });
            self.open("accounts", json!([{ "action": "Allow", "source": source }]))?;
            self.see(step, WEB, Answered, TimedOut)?;
        }
        self.cluster.kubectl_ok(&["label", "serviceaccount", "--namespace", AWAY, "friend", "trusted-"])?;
        self.until("unlabelled", "friend", TimedOut)?;
        self.cluster.kubectl_ok(&[
            "label",
            "serviceaccount",
            "--namespace",
            AWAY,
            "friend",
            "trusted=yes",
        ])?;
        self.until("labelled", "friend", Answered)
    }

    fn rules(&mut self) -> anyhow::Result<()> {
        let friend = "pod == 'friend'";
        let from_friend = json!({ "selector": friend, "namespaceSelector": "all()" });
        let port = |ports: Value| json!([{ "action": "Allow", "protocol": "TCP", "source": from_friend, "destination": { "ports": ports } }]);
        self.open("number", port(json!([WEB])))?;
        self.see("number", WEB, Answered, TimedOut)?;
        self.see("number", OTHER, TimedOut, TimedOut)?;
        self.open("range", port(json!([format!("{}:{}", WEB + 1, OTHER)])))?;
        self.see("range", WEB, TimedOut, TimedOut)?;
        self.see("range", OTHER, Answered, TimedOut)?;
        self.open("name", port(json!(["web"])))?;
        self.see("name", WEB, Answered, TimedOut)?;
        self.see("name", OTHER, TimedOut, TimedOut)?;
        let not_ports = json!({ "notPorts": [WEB] });
        let rule =
            json!({ "action": "Allow", "protocol": "TCP", "source": from_friend, "destination": not_ports });
        self.open("notPorts", json!([rule]))?;
        self.see("notPort", WEB, TimedOut, TimedOut)?;
        self.see("notPort", OTHER, Answered, TimedOut)?;
        // A deny before an allow, by what the source is not.
        let deny =
            json!({ "action": "Deny", "source": { "notSelector": friend, "namespaceSelector": "all()" } });
        self.open("notSelector", json!([deny, { "action": "Log" }, { "action": "Allow" }]))?;
        self.see("notSel", WEB, Answered, TimedOut)?;
        // Echo requests alone, of IPv4 alone.
        let echo = json!({ "action": "Allow", "protocol": "ICMP", "icmp": { "type": 8, "code": 0 } });
        self.open("icmp", json!([echo]))?;
        let mut checks = Vec::new();
        for (to, expected) in self.server.iter().zip([Answered, TimedOut]) {
            checks.push(checks::Check {
                what: format!("stranger -> server, ping {to}"),
                from: From::Pod(AWAY, "stranger"),
                to: *to,
                way: Way::Ping,
                expected,
            });
        }
        checks.extend(pair(&From::Pod(AWAY, "friend"), "friend -> server", self.server, WEB, TimedOut));
        checks::run(self.cluster, &mut self.table, "icmp", &checks)?;
        let [v4, v6] = self.friend.map(checks::host);
        let nets = json!({ "action": "Allow", "ipVersion": 6, "source": { "nets": [v6] } });
        self.open(
            "nets",
            json!([nets, { "action": "Allow", "source": { "nets": ["0.0.0.0/0"], "notNets": [v4] } }]),
        )?;
        let mut checks = Vec::new();
        for (client, [on_4, on_6]) in [("friend", [TimedOut, Answered]), ("stranger", [Answered, TimedOut])] {
            for (mut check, expected) in
                pair(&From::Pod(AWAY, client), client, self.server, WEB, on_4).into_iter().zip([on_4, on_6])
            {
                check.expected = expected;
                checks.push(check);
            }
        }
        checks::run(self.cluster, &mut self.table, "nets", &checks)
    }

    /// Egress to a Service's backends: its ports and no others.
    fn services(&mut self) -> anyhow::Result<()> {
        let service = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
            "spec": {
                "selector": { "app": "server" }, "ipFamilyPolicy": "RequireDualStack",
                "ports": [{ "port": 80, "targetPort": WEB, "protocol": "TCP" }],
            },
        });
        self.apply(HOME, service)?;
        self.open("all", json!([{ "action": "Allow" }]))?;
        let service = json!({ "name": "web", "namespace": HOME });
        let rules = json!([{ "action": "Allow", "destination": { "services": service } }]);
        let spec = json!({ "selector": "pod == 'friend'", "types": ["Egress"], "egress": rules });
        self.namespaced(AWAY, "SelvageNetworkPolicy", "services", spec)?;
        self.see("service", WEB, Answered, Answered)?;
        self.see("service", OTHER, TimedOut, Answered)
    }

    /// The home namespace's one SelvageNetworkPolicy has these ingress rules from now on.
    fn open(&mut self, step: &str, ingress: Value) -> anyhow::Result<()> {
        let spec = json!({ "order": 10, "ingress": ingress });
        self.namespaced(HOME, "SelvageNetworkPolicy", "open", spec)?;
        let message = status::says(self.cluster, "snp", HOME, "open", ("Accepted", "True Accepted"));
        message.map(drop).map_err(|error| error.context(step.to_owned()))
    }
}
