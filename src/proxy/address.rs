//! Whose request is it: the caller's address, seen through proxies that the operator trusts and no others.

use std::net::IpAddr;

use ipnet::IpNet;
use pingora_proxy::Session;

/// The caller's address. `X-Forwarded-For` counts only when the peer is trusted; then the right-most address that is not
/// itself a trusted proxy is the caller, because everything left of it was written by the caller.
pub fn client(session: &Session, trusted: &[IpNet]) -> Option<IpAddr> {
    let peer = session.client_addr()?.as_inet()?.ip().to_canonical();
    if !is_trusted(peer, trusted) {
        return Some(peer);
    }
    let forwarded: Vec<&str> = session.req_header().headers.get_all("x-forwarded-for").iter().filter_map(|v| v.to_str().ok()).collect();
    Some(through(peer, &forwarded, trusted))
}

fn is_trusted(ip: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&ip))
}

fn through(peer: IpAddr, forwarded: &[&str], trusted: &[IpNet]) -> IpAddr {
    let mut last = peer;
    for hop in forwarded.iter().flat_map(|line| line.split(',')).rev() {
        let Ok(ip) = hop.trim().parse::<IpAddr>() else { return last };
        last = ip.to_canonical();
        if !is_trusted(last, trusted) {
            return last;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_most_untrusted_hop_is_the_caller() {
        let trusted: Vec<IpNet> = ["10.0.0.0/8"].iter().filter_map(|n| n.parse().ok()).collect();
        let ip = |s: &str| s.parse::<IpAddr>().unwrap_or(IpAddr::from([0, 0, 0, 0]));
        let peer = ip("10.0.0.1");
        assert_eq!(through(peer, &["1.1.1.1, 2.2.2.2, 10.0.0.9"], &trusted), ip("2.2.2.2"));
        assert_eq!(through(peer, &["spoofed, 10.0.0.9"], &trusted), ip("10.0.0.9"));
        assert_eq!(through(peer, &["1.1.1.1", "3.3.3.3"], &trusted), ip("3.3.3.3"));
        assert_eq!(through(peer, &[], &trusted), peer);
    }
}
