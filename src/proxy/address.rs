//! The caller's address: `X-Forwarded-For` is believed only as far as it was written by proxies that the operator trusts.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use pingora_proxy::Session;

/// The caller's address. `X-Forwarded-For` counts only when the peer is trusted; then the right-most address that is not
/// itself a trusted proxy is the caller, because everything left of it was written by the caller. `None` is on no list.
pub fn client(session: &Session, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = session.client_addr()?.as_inet()?.ip().to_canonical();
    if !is_trusted(peer, trusted) {
        return Some(peer);
    }
    // What is no text is no address either.
    let lines = session.req_header().headers.get_all("x-forwarded-for").iter().map(|line| line.to_str().unwrap_or("unknown"));
    through(peer, &lines.collect::<Vec<_>>(), trusted)
}

/// Whether the peer of this connection is a proxy whose word counts.
pub fn is_behind_a_proxy(session: &Session, trusted: &[IpNet]) -> bool {
    let peer = || Some(session.client_addr()?.as_inet()?.ip().to_canonical());
    !trusted.is_empty() && peer().is_some_and(|peer| is_trusted(peer, trusted))
}

fn is_trusted(ip: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&ip))
}

/// The caller behind this peer. Nobody, if a proxy says what is no address: the proxy's own would be on lists that the caller
/// is not on.
fn through(peer: IpAddr, forwarded: &[&str], trusted: &[IpNet]) -> Option<IpAddr> {
    let mut last = peer;
    // Elements of a list may be empty (RFC 9110 §5.6.1).
    for hop in forwarded.iter().flat_map(|line| line.split(',')).map(str::trim).filter(|hop| !hop.is_empty()).rev() {
        last = hop_address(hop)?.to_canonical();
        if !is_trusted(last, trusted) {
            break;
        }
    }
    Some(last)
}

/// The address of a hop, which some proxies write with its port: `203.0.113.9:4711`, `[2001:db8::1]:4711`, `[2001:db8::1]`.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let bare = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    hop.parse().ok().or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip())).or_else(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_most_untrusted_hop_is_the_caller() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8"].iter().filter_map(|n| n.parse().ok()).collect();
        let ip = |s: &str| s.parse::<IpAddr>().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let peer = ip("10.0.0.1");
        let seen = |forwarded: &[&str]| through(peer, forwarded, &trusted);
        assert_eq!(seen(&["1.1.1.1, 2.2.2.2, 10.0.0.9"]), Some(ip("2.2.2.2")));
        assert_eq!(seen(&["1.1.1.1", "3.3.3.3"]), Some(ip("3.3.3.3")));
        assert_eq!(seen(&["10.0.0.7, 10.0.0.9"]), Some(ip("10.0.0.7")));
        assert_eq!(seen(&[]), Some(peer));
        for with_port in ["203.0.113.9:4711", "203.0.113.9:4711, 10.0.0.9:80", "1.1.1.1, 203.0.113.9:1, ,"] {
            assert_eq!(seen(&[with_port]), Some(ip("203.0.113.9")), "{with_port}");
        }
        for six in ["[2001:db8::1]:80", "[2001:db8::1]", "2001:db8::1"] {
            assert_eq!(seen(&[six]), Some(ip("2001:db8::1")), "{six}");
        }
    }

    /// A proxy that names nobody must not lend the caller its own address, which internal networks' lists admit.
    #[test]
    fn a_hop_that_is_no_address_is_nobodys() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8"].iter().filter_map(|n| n.parse().ok()).collect();
        for hop in ["unknown", "_hidden", "10.0.0.1:http", "1.1.1.1, spoofed, 10.0.0.9", "[::1", "1.1.1.1 2.2.2.2"] {
            assert_eq!(through(IpAddr::from([10, 0, 0, 1]), &[hop], &trusted), None, "{hop}");
        }
    }
}
