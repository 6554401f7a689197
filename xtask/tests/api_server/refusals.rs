//! What can't be meant is refused when it is applied, with a message that says what to do; what the documents show is
//! taken.

use std::fs;

use serde_json::{Value, json};

use crate::ROOT;
use crate::server::{Answer, Server};

const GLOBAL: &str = "GlobalNetworkPolicy";
const NAMESPACED: &str = "SelvageNetworkPolicy";

/// Asks the server to take an object, without keeping it.
pub fn try_out(server: &Server, kind: &str, name: &str, spec: &Value) -> Answer {
    let (group, plural) = match kind {
        "ClusterNetworkPolicy" => ("policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies"),
        GLOBAL => ("selvage.io/v1alpha1", "globalnetworkpolicies"),
        NAMESPACED => ("selvage.io/v1alpha1", "namespaces/default/selvagenetworkpolicies"),
        "NetworkSet" => ("selvage.io/v1alpha1", "namespaces/default/networksets"),
        "GlobalNetworkSet" => ("selvage.io/v1alpha1", "globalnetworksets"),
        "IPPool" => ("selvage.io/v1alpha1", "ippools"),
        "Tier" => ("selvage.io/v1alpha1", "tiers"),
        other => panic!("{other} is none of the kinds that are tried"),
    };
    let object = json!({"apiVersion": group, "kind": kind, "metadata": {"name": name}, "spec": spec});
    server.try_out(&format!("/apis/{group}/{plural}"), &object)
}

pub fn policies(server: &Server) {
    for (spec, words) in of_policies() {
        for kind in [GLOBAL, NAMESPACED] {
            try_out(server, kind, "refused", &spec).refused(words);
        }
    }
    for (direction, end) in [("ingress", "source"), ("egress", "destination")] {
        let rule = |rule: Value| json!({direction: [rule]});
        for (fields, words) in of_rules() {
            let mut fields = fields;
            fields["action"] = "Allow".into();
            for kind in [GLOBAL, NAMESPACED] {
                try_out(server, kind, "refused", &rule(fields.clone())).refused(words);
            }
        }
        for (fields, words) in of_ends() {
            let given = json!({"action": "Allow", "protocol": "TCP", end: fields});
            for kind in [GLOBAL, NAMESPACED] {
                try_out(server, kind, "refused", &rule(given.clone())).refused(words);
            }
        }
        for fields in good_ends() {
            let given = json!({"action": "Allow", "protocol": "TCP", end: fields});
            for kind in [GLOBAL, NAMESPACED] {
                try_out(server, kind, "good", &rule(given.clone())).ok();
            }
        }
    }
    services(server);
    let words = "is for a GlobalNetworkPolicy: this policy is about the pods of its own namespace";
    try_out(server, NAMESPACED, "refused", &json!({"namespaceSelector": "all()"})).refused(words);
    let words = "global() has its meaning in the namespaceSelector of a rule's source or destination alone";
    try_out(server, GLOBAL, "refused", &json!({"namespaceSelector": "global()"})).refused(words);
    try_out(server, GLOBAL, "good", &json!({"namespaceSelector": "name == 'global()'"})).ok();
}

fn of_policies() -> Vec<(Value, &'static str)> {
    let host_endpoints = "is not supported, it is about host endpoints, which nodes are not here: remove it";
    vec![
        (json!({"doNotTrack": true}), host_endpoints),
        (json!({"preDNAT": true}), host_endpoints),
        (json!({"applyOnForward": true}), host_endpoints),
        (json!({"performanceHints": ["AssumeNeededOnEveryNode"]}), "spec.performanceHints: Invalid value"),
        (json!({"types": ["Ingress", "Ingress"]}), "spec.types: Invalid value"),
        (json!({"types": ["Both"]}), "spec.types[0]: Unsupported value: \"Both\""),
        (json!({"order": "first"}), "spec.order: Invalid value"),
        (json!({"tier": "no.dots"}), "spec.tier in body should match"),
        (json!({"tier": ""}), "spec.tier in body should be at least 1 chars long"),
        (json!({"selector": "a".repeat(1025)}), "spec.selector: Too long: may not be more than 1024"),
        (json!({"selector": "has(a) && global()"}), "global() has its meaning in the namespaceSelector"),
        (json!({"serviceAccountSelector": "global()"}), "global() has its meaning in the namespaceSelector"),
        (json!({"ingress": [{}]}), "spec.ingress[0].action: Required value"),
        (json!({"egress": [{"action": "Reject"}]}), "spec.egress[0].action: Unsupported value: \"Reject\""),
    ]
}

fn of_rules() -> Vec<(Value, &'static str)> {
    let protocol = "must be TCP, UDP, SCTP, ICMP, ICMPv6, UDPLite, or a number from 1 to 255";
    let icmp = "icmp and notICMP need protocol: ICMP or ICMPv6";
    let family = "protocol ICMP is IPv4's and ICMPv6 is IPv6's";
    let ports = "ports by number need protocol: TCP, UDP or SCTP";
    vec![
        (json!({"protocol": "tcp"}), protocol),
        (json!({"protocol": 0}), protocol),
        (json!({"protocol": 256}), protocol),
        (json!({"notProtocol": "IP"}), protocol),
        (json!({"protocol": "HopByHop"}), "may not be more than 7"),
        (json!({"icmp": {"type": 8}}), icmp),
        (json!({"protocol": "TCP", "notICMP": {"type": 8}}), icmp),
        (json!({"protocol": "ICMP", "icmp": {"code": 0}}), "code needs type"),
        (
            json!({"protocol": "ICMP", "icmp": {"type": 256}}),
            "type in body should be less than or equal to 255",
        ),
        (json!({"protocol": 1, "ipVersion": 6}), family),
        (json!({"protocol": "ICMPv6", "ipVersion": 4}), family),
        (json!({"ipVersion": 5}), "ipVersion: Unsupported value: 5: supported values: \"4\", \"6\""),
        (json!({"destination": {"ports": [80]}}), ports),
        (json!({"destination": {"notPorts": ["80"]}}), ports),
        (json!({"source": {"ports": ["80:90"]}}), ports),
        (json!({"protocol": "ICMP", "destination": {"ports": ["http"]}}), ports),
        (json!({"protocol": 47, "source": {"notPorts": [80]}}), ports),
        (
            json!({"http": {"methods": ["GET"]}}),
            "is not supported, there is no application layer policy here",
        ),
        (json!({"metadata": {"annotations": {}}}), "describe the rule in an annotation of the policy"),
        (
            json!({"ipVersion": 6, "source": {"nets": ["fd00::/8", "10.0.0.0/8"]}}),
            "10.0.0.0/8 is not of the ipVersion of its rule",
        ),
        (
            json!({"ipVersion": 4, "destination": {"nets": ["fd00::1"]}}),
            "fd00::1 is not of the ipVersion of its rule",
        ),
    ]
}

fn of_ends() -> Vec<(Value, &'static str)> {
    let port = "must be from 1 to 65535, and a range FIRST:LAST must not end before it starts";
    let alone =
        "services excludes nets, notNets, selector, notSelector, namespaceSelector and serviceAccounts";
    let service = json!({"name": "s", "namespace": "n"});
    vec![
        (json!({"ports": [0]}), port),
        (json!({"ports": [65536]}), port),
        (json!({"notPorts": ["65536"]}), port),
        (json!({"ports": ["90:80"]}), port),
        (json!({"ports": ["80:65536"]}), port),
        (json!({"ports": ["080"]}), "ports[0] in body should match"),
        (json!({"ports": ["80-90"]}), "ports[0] in body should match"),
        (json!({"ports": ["HTTP"]}), "ports[0] in body should match"),
        (json!({"ports": ["sixteen-letters-"]}), "may not be more than 15"),
        (json!({"nets": ["somewhere"]}), "nets[0] in body should match"),
        (json!({"nets": ["10.0.0.0/8", "10.0.0.0/33"]}), "10.0.0.0/33 is neither a network nor an address"),
        (json!({"nets": ["010.0.0.0/8"]}), "010.0.0.0/8 is neither a network nor an address"),
        (
            json!({"notNets": ["::ffff:10.0.0.0/104"]}),
            "::ffff:10.0.0.0/104 is neither a network nor an address",
        ),
        (json!({"selector": "global()"}), "global() has its meaning in the namespaceSelector"),
        (json!({"notSelector": "!global()"}), "global() has its meaning in the namespaceSelector"),
        (json!({"namespaceSelector": "global() || all()"}), "global() stands alone"),
        (
            json!({"serviceAccounts": {"selector": "global()"}}),
            "global() has its meaning in the namespaceSelector",
        ),
        (json!({"serviceAccounts": {"names": ["No_Name"]}}), "serviceAccounts.names[0] in body should match"),
        (json!({"domains": ["example.com"]}), "there is no policy by domain name here"),
        (json!({"services": {}}), "services.name: Required value"),
        (json!({"services": {"name": "a.b", "namespace": "n"}}), "services.name in body should match"),
        (json!({"services": service, "nets": ["10.0.0.0/8"]}), alone),
        (json!({"services": service, "notNets": ["10.0.0.0/8"]}), alone),
        (json!({"services": service, "selector": "all()"}), alone),
        (json!({"services": service, "notSelector": "all()"}), alone),
        (json!({"services": service, "namespaceSelector": "all()"}), alone),
        (json!({"services": service, "serviceAccounts": {}}), alone),
    ]
}

fn good_ends() -> Vec<Value> {
    vec![
        json!({"ports": [1, 65535, "80", "80:80", "1:65535", "http", "8080-tcp", "x"], "notPorts": [80]}),
        json!({"nets": ["10.0.0.1/8", "192.0.2.7", "2001:db8::1/32", "::1", "0.0.0.0/0"], "notNets": ["10.1.0.0/16"]}),
        json!({"selector": "a == 'global()' && b != \"global()\"", "namespaceSelector": " global( ) "}),
        json!({"selector": "this is ) not read here", "namespaceSelector": "all()"}),
        json!({"serviceAccounts": {"names": ["front.end"], "selector": "team == 'a'"}}),
        json!({"services": {"name": "db", "namespace": "shop"}}),
    ]
}

/// Services: which end of which direction, and of which namespace.
fn services(server: &Server) {
    let service = json!({"services": {"name": "db", "namespace": "shop"}});
    let near = json!({"services": {"name": "db"}});
    for kind in [GLOBAL, NAMESPACED] {
        let rule = |end: &str, given: &Value| json!([{"action": "Allow", end: given}]);
        try_out(server, kind, "refused", &json!({"ingress": rule("destination", &service)}))
            .refused("destination.services is for egress rules");
        try_out(server, kind, "refused", &json!({"egress": rule("source", &service)}))
            .refused("source.services is for ingress rules");
        let ports = json!({"services": service["services"], "ports": ["http"]});
        try_out(server, kind, "refused", &json!({"egress": rule("destination", &ports)}))
            .refused("destination.services brings its own ports: remove ports and notPorts");
        try_out(server, kind, "good", &json!({"ingress": rule("source", &ports)})).ok();
        for (direction, end) in [("ingress", "source"), ("egress", "destination")] {
            let answer = try_out(server, kind, "near", &json!({direction: rule(end, &near)}));
            if kind == GLOBAL {
                answer.refused("a global policy has no namespace of its own: give services its namespace");
            } else {
                answer.ok();
            }
        }
    }
}

pub fn sets(server: &Server) {
    let words = "must be a network or an address, such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32";
    for kind in ["NetworkSet", "GlobalNetworkSet"] {
        for net in ["", "somewhere", "10.0.0.0/33", "010.0.0.0/8", "::ffff:10.0.0.1", "fe80::1%eth0"] {
            try_out(server, kind, "refused", &json!({"nets": ["10.0.0.0/8", net]})).refused(words);
        }
        let domains = json!({"allowedEgressDomains": ["example.com"]});
        try_out(server, kind, "refused", &domains).refused("there is no policy by domain name here");
        let nets = json!({"nets": ["10.0.0.1/8", "10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"]});
        try_out(server, kind, "good", &nets).ok();
    }
    // What etcd takes, by server-side apply, and one network more.
    let mut nets: Vec<String> = (0..60_000)
        .map(|index| format!("10.{}.{}.{}/32", index >> 16, (index >> 8) & 255, index & 255))
        .collect();
    for count in [60_000, 60_001] {
        nets.resize(count, "192.0.2.0/24".to_owned());
        let object = json!({
            "apiVersion": "selvage.io/v1alpha1", "kind": "NetworkSet",
            "metadata": {"name": "large", "namespace": "default"}, "spec": {"nets": nets},
        });
        server.kubectl_with(&["apply", "--server-side", "--filename=-"], &object).ok();
        let back = server.kubectl(&["get", "netset", "large", "--namespace=default", "--output=json"]).ok();
        let back: Value = serde_json::from_str(&back).expect("JSON");
        assert_eq!(back["spec"]["nets"], json!(nets));
    }
    server.kubectl(&["delete", "netset", "large", "--namespace=default"]).ok();
}

pub fn pools(server: &Server) {
    let words = "is not supported, it is about what the CNI does";
    for (field, value) in [
        ("ipipMode", json!("Always")),
        ("vxlanMode", json!("Never")),
        ("blockSize", json!(26)),
        ("allowedUses", json!(["Workload"])),
        ("assignmentMode", json!("Manual")),
        ("namespaceSelector", json!("all()")),
        ("disableBGPExport", json!(true)),
    ] {
        try_out(server, "IPPool", "refused", &json!({"cidr": "10.9.0.0/16", field: value})).refused(words);
    }
    let spec =
        json!({"cidr": "10.9.0.0/16", "natOutgoing": true, "disabled": true, "nodeSelector": "has(gpu)"});
    try_out(server, "IPPool", "good", &spec).ok();
    let spec = json!({"cidr": "10.9.0.0/16", "nodeSelector": "global()"});
    try_out(server, "IPPool", "refused", &spec).refused("global() has its meaning in the namespaceSelector");
}

/// Every manifest that the documents show.
pub fn documents(server: &Server) {
    for namespace in ["shop", "front"] {
        server.kubectl(&["create", "namespace", namespace]).ok();
    }
    let take = |from: &str, manifest: &str| {
        for object in serde_saphyr::from_multiple::<Value>(manifest).expect("YAML") {
            let answer = server.kubectl_with(&["create", "--dry-run=server", "--filename=-"], &object);
            assert!(answer.success, "{from}: {}", answer.text);
        }
    };
    let files = |folder: &str, ending: &str| -> Vec<(String, String)> {
        let folder = fs::read_dir(format!("{ROOT}/docs/{folder}")).expect("a folder of the documents");
        let paths = folder.map(|entry| entry.expect("an entry").path().display().to_string());
        paths
            .filter(|path| path.ends_with(ending))
            .map(|path| (path.clone(), fs::read_to_string(path).expect("a document")))
            .collect()
    };
    let recipes = files("recipes", ".yaml");
    assert!(!recipes.is_empty());
    recipes.iter().for_each(|(path, text)| take(path, text));
    let mut examples = 0;
    for (path, text) in files("kinds", ".md") {
        for block in text.split("```yaml\n").skip(1) {
            examples += 1;
            take(&path, block.split("```").next().unwrap_or_default());
        }
    }
    assert!(examples > 5, "{examples} examples");
}
