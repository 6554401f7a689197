//! Arithmetic on networks: `except` taken out, and what is left merged.

use ipnet::IpNet;

/// The part of a network that lies in none of the exceptions, as prefixes.
pub(crate) fn subtract(net: IpNet, except: &[IpNet]) -> Vec<IpNet> {
    let mut left = Vec::new();
    let mut todo = vec![(net.trunc(), except.iter().map(IpNet::trunc).collect::<Vec<_>>())];
    while let Some((net, except)) = todo.pop() {
        if except.iter().any(|hole| hole.contains(&net)) {
            continue;
        }
        let inside: Vec<IpNet> = except.into_iter().filter(|hole| net.contains(hole)).collect();
        if inside.is_empty() {
            left.push(net);
            continue;
        }
        // A hole strictly inside means that the prefix can be cut in two.
        if let Ok(halves) = net.subnets(net.prefix_len() + 1) {
            todo.extend(halves.map(|half| (half, inside.clone())));
        }
    }
    merge(left)
}

/// The same addresses with the fewest prefixes: masked, sorted, none inside another.
pub(crate) fn merge(nets: Vec<IpNet>) -> Vec<IpNet> {
    let masked = nets.iter().map(IpNet::trunc).collect();
    let mut merged = IpNet::aggregate(&masked);
    merged.sort_unstable();
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(text: &str) -> Vec<IpNet> {
        text.split_whitespace().map(|net| net.parse().unwrap()).collect()
    }

    #[rstest::rstest]
    #[case::no_exception("10.0.0.0/8", "", "10.0.0.0/8")]
    #[case::host_bits_are_masked("10.1.2.3/8", "", "10.0.0.0/8")]
    #[case::upper_half("10.0.0.0/8", "10.128.0.0/9", "10.0.0.0/9")]
    #[case::all_of_it("10.0.0.0/8", "10.0.0.0/8", "")]
    #[case::more_than_all("10.0.0.0/8", "0.0.0.0/0", "")]
    #[case::outside("10.0.0.0/8", "11.0.0.0/8", "10.0.0.0/8")]
    #[case::other_family("10.0.0.0/8", "::/0", "10.0.0.0/8")]
    #[case::two_quarters("10.0.0.0/8", "10.0.0.0/10 10.128.0.0/10", "10.64.0.0/10 10.192.0.0/10")]
    #[case::one_inside_another("10.0.0.0/29", "10.0.0.0/30 10.0.0.1/32", "10.0.0.4/30")]
    #[case::one_address("10.0.0.0/30", "10.0.0.2/32", "10.0.0.0/31 10.0.0.3/32")]
    #[case::v6("fd00::/126", "fd00::1/128", "fd00::/128 fd00::2/127")]
    fn except_is_taken_out(#[case] net: &str, #[case] except: &str, #[case] left: &str) {
        assert_eq!(subtract(net.parse().unwrap(), &nets(except)), nets(left));
    }

    #[test]
    fn one_address_out_of_everything_leaves_a_prefix_for_every_bit() {
        assert_eq!(subtract("0.0.0.0/0".parse().unwrap(), &nets("1.2.3.4/32")).len(), 32);
        assert_eq!(subtract("::/0".parse().unwrap(), &nets("fd00::1/128")).len(), 128);
    }

    #[test]
    fn neighbours_and_parts_merge() {
        assert_eq!(
            merge(nets("10.0.1.0/24 10.0.0.0/24 10.0.0.7/32 fd00::/64")),
            nets("10.0.0.0/23 fd00::/64")
        );
    }
}
