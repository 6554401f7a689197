//! One cached result of libcni: which pod got which addresses, behind which host interface.
//!
//! libcni writes a file for each network attachment (`cacheAdd` in libcni/api.go of containernetworking/cni, kind
//! `cniCacheV1`) once every plugin of the list has run, and the runtime starts no container before that. So an
//! address is known here before the pod's first packet. The file is written in place, not renamed: it can be seen
//! half written or empty, and after a reboot it can be older than the network it tells of.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use selvage_nftables::model::Mac;
use selvage_policy::compiled::EndpointKey;
use serde::Deserialize;

/// One pod's attachment to its network, as libcni remembers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Which pod.
    pub pod: EndpointKey,
    /// The pod's uid; runtimes before containerd 1.6 did not tell it.
    pub uid: Option<Arc<str>>,
    /// The pod's addresses in this network.
    pub addresses: Vec<IpAddr>,
    /// Interfaces on the host that the result names, bridges included.
    pub host_interfaces: Vec<Arc<str>>,
    /// The MAC address of the pod's end, where the plugin tells it.
    pub mac: Option<Mac>,
    /// When the file was last written: where two attachments hold one address, the younger one has it.
    pub written: SystemTime,
}

/// Why a file is no attachment.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// Half written, empty or damaged.
    #[error("not the JSON of a CNI result: {0}")]
    Json(#[from] serde_json::Error),
    /// Another sort of file.
    #[error("kind {0:?}, expected \"cniCacheV1\"")]
    Kind(String),
    /// An address that can't be read.
    #[error("result.ips[{index}].address {text:?} is not an address")]
    Address {
        /// Its place in the list.
        index: usize,
        /// What is there.
        text: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheFile {
    kind: String,
    #[serde(default)]
    if_name: String,
    #[serde(default)]
    cni_args: Vec<(String, String)>,
    #[serde(default)]
    result: CniResult,
}

#[derive(Deserialize, Default)]
struct CniResult {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Ip>,
}

#[derive(Deserialize)]
struct Interface {
    #[serde(default)]
    name: String,
    #[serde(default)]
    mac: String,
    /// The pod's network namespace; empty for an interface of the host.
    #[serde(default)]
    sandbox: String,
}

#[derive(Deserialize)]
struct Ip {
    address: String,
}

/// Reads one file. `Ok(None)`: a sound file that tells of no pod's address (the loopback network, another
/// orchestrator's container, a plugin without IPAM).
///
/// # Errors
/// Where the content is not a complete cached result; a later look may find it whole.
pub fn parse(content: &[u8], written: SystemTime) -> Result<Option<Attachment>, ParseError> {
    let file: CacheFile = serde_json::from_slice(content)?;
    if file.kind != "cniCacheV1" {
        return Err(ParseError::Kind(file.kind));
    }
    let arg = |name: &str| {
        file.cni_args
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, v)| Arc::from(&**v))
    };
    let (Some(namespace), Some(name)) = (arg("K8S_POD_NAMESPACE"), arg("K8S_POD_NAME")) else {
        return Ok(None);
    };
    if file.if_name == "lo" {
        return Ok(None);
    }
    let mut addresses = Vec::with_capacity(file.result.ips.len());
    for (index, ip) in file.result.ips.iter().enumerate() {
        let bare = ip.address.split_once('/').map_or(&*ip.address, |(address, _)| address);
        let address = bare
            .parse::<IpAddr>()
            .map_err(|_| ParseError::Address { index, text: ip.address.chars().take(64).collect() })?;
        addresses.push(address.to_canonical());
    }
    addresses.sort_unstable();
    addresses.dedup();
    if addresses.is_empty() {
        return Ok(None);
    }
    let host_interfaces = file
        .result
        .interfaces
        .iter()
        .filter(|i| i.sandbox.is_empty() && !i.name.is_empty())
        .map(|i| Arc::from(&*i.name))
        .collect();
    let inside = file.result.interfaces.iter().find(|i| !i.sandbox.is_empty() && i.name == file.if_name);
    Ok(Some(Attachment {
        pod: EndpointKey { namespace, name },
        uid: arg("K8S_POD_UID"),
        addresses,
        host_interfaces,
        mac: inside.and_then(|i| mac(&i.mac)),
        written,
    }))
}

/// Six bytes in hexadecimal, with colons between them. Anything else is no Ethernet address.
fn mac(text: &str) -> Option<Mac> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let digits = parts.next().filter(|digits| digits.len() == 2)?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    parts.next().is_none().then_some(Mac(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLANNEL: &[u8] = include_bytes!("testdata/cbr0-flannel-eth0.json");
    const OLD: &[u8] = include_bytes!("testdata/cbr0-without-uid-eth0.json");
    const LOOPBACK: &[u8] = include_bytes!("testdata/cni-loopback-lo.json");

    fn read(content: &[u8]) -> Result<Option<Attachment>, ParseError> {
        parse(content, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn a_dual_stack_result_of_flannel_and_bridge() {
        let attachment = read(FLANNEL).unwrap().unwrap();
        assert_eq!(attachment.pod.to_string(), "shop/web-7d4b9c6f5-x2x9k");
        assert_eq!(attachment.uid.as_deref(), Some("3c5ff1a7-6d5b-4f0c-9f7a-0d6f2f6c8c11"));
        let addresses: Vec<IpAddr> = vec!["10.244.1.7".parse().unwrap(), "fd00:10:244:1::7".parse().unwrap()];
        assert_eq!(attachment.addresses, addresses);
        let names: Vec<&str> = attachment.host_interfaces.iter().map(|n| &**n).collect();
        assert_eq!(names, ["cni0", "veth5f0c9a31"]);
        assert_eq!(attachment.mac, Some(Mac([0x9e, 0xf7, 0xae, 0x2b, 0x17, 0x54])), "the pod's end");
    }

    #[test]
    fn a_result_without_uid_or_interfaces() {
        let attachment = read(OLD).unwrap().unwrap();
        assert_eq!(attachment.uid, None);
        assert_eq!(attachment.addresses, ["10.244.2.3".parse::<IpAddr>().unwrap()]);
        assert!(attachment.host_interfaces.is_empty());
        assert_eq!(attachment.mac, None);
    }

    #[test]
    fn files_of_no_pod_are_not_errors() {
        assert_eq!(read(LOOPBACK).unwrap(), None);
        assert_eq!(
            read(br#"{"kind":"cniCacheV1","result":{"ips":[{"address":"10.0.0.1/24"}]}}"#).unwrap(),
            None
        );
        let no_address =
            br#"{"kind":"cniCacheV1","ifName":"eth0","cniArgs":[["K8S_POD_NAMESPACE","a"],["K8S_POD_NAME","b"]]}"#;
        assert_eq!(read(no_address).unwrap(), None);
    }

    #[test]
    fn only_six_bytes_are_a_mac_address() {
        assert_eq!(mac("02:00:00:00:02:0f"), Some(Mac([2, 0, 0, 0, 2, 15])));
        for bad in [
            "",
            "02:00:00:00:02",
            "02:00:00:00:02:0f:01",
            "2:0:0:0:2:f",
            "02-00-00-00-02-0f",
            "0x:00:00:00:00:00",
        ] {
            assert_eq!(mac(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn every_prefix_of_a_file_is_an_error_and_never_half_an_attachment() {
        for end in 0..FLANNEL.trim_ascii_end().len() {
            let cut = &FLANNEL[..end];
            assert!(matches!(read(cut), Err(ParseError::Json(_))), "cut at {end}");
        }
    }

    #[test]
    fn what_is_no_result_is_named() {
        let error = read(br#"{"kind":"cniCacheV2"}"#).unwrap_err();
        assert_eq!(error.to_string(), "kind \"cniCacheV2\", expected \"cniCacheV1\"");
        let bad = br#"{"kind":"cniCacheV1","ifName":"eth0",
            "cniArgs":[["K8S_POD_NAMESPACE","a"],["K8S_POD_NAME","b"]],
            "result":{"ips":[{"address":"10.0.0.1/24"},{"address":"10.0.0/24"}]}}"#;
        assert_eq!(
            read(bad).unwrap_err().to_string(),
            "result.ips[1].address \"10.0.0/24\" is not an address"
        );
    }
}
