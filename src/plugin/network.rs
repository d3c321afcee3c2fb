//! Which hosts a plugin may call: the operator's allow-list, strict URL parsing, and addresses that are never called.
//!
//! A name is resolved once, and the connection goes to an address that was checked, so that a name cannot resolve differently
//! for the check and for the connection. URLs are parsed strictly on purpose: everything that two parsers could read
//! differently (userinfo, backslashes, numeric hosts that are not dotted quads, escapes) is refused.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::uri::PathAndQuery;

use super::host::HostError;

/// A host: an address, or a lower-case DNS name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostName {
    /// An address literal; an IPv4-mapped IPv6 address is stored as IPv4.
    Ip(IpAddr),
    /// A DNS name.
    Dns(String),
}

impl HostName {
    fn parse(text: &str) -> Result<Self, HostError> {
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::BadUrl("unclosed bracket"))?;
            let ip = Ipv6Addr::from_str(inner).map_err(|_| HostError::BadUrl("malformed IPv6 address"))?;
            return Ok(Self::Ip(IpAddr::V6(ip).to_canonical()));
        }
        if let Ok(ip) = Ipv4Addr::from_str(text) {
            return Ok(Self::Ip(IpAddr::V4(ip)));
        }
        let name = text.to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(HostError::BadUrl("malformed host name"));
        }
        // Some parsers read a name that ends in a number as an address: 2130706433, 0x7f000001, 127.1, 0177.0.0.1.
        let last = name.rsplit('.').next().unwrap_or_default();
        let numeric = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
        if numeric(last) || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) {
            return Err(HostError::BadUrl("numeric host that is not a dotted quad"));
        }
        Ok(Self::Dns(name))
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Ip(IpAddr::V4(ip)) => write!(f, "{ip}"),
            Self::Dns(name) => f.write_str(name),
        }
    }
}

/// An entry of `grant.network`: `host:port`, followed by `private` if the host may have a private address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    host: HostName,
    port: u16,
    private: bool,
}

impl HostRule {
    /// Parses an entry; the port defaults to 443.
    ///
    /// # Errors
    /// A message for the operator.
    pub fn parse(entry: &str) -> Result<Self, String> {
        let mut words = entry.split_ascii_whitespace();
        let authority = words.next().unwrap_or_default();
        let private = match (words.next(), words.next()) {
            (None, _) => false,
            (Some("private"), None) => true,
            _ => return Err(format!("`{entry}`: expected `host:port` or `host:port private`")),
        };
        let (host, port) = split_authority(authority).map_err(|error| format!("`{entry}`: {error}"))?;
        Ok(Self { host, port: port.unwrap_or(443), private })
    }

    /// Whether this address may be called under this entry.
    ///
    /// A private address needs `private`. Link-local, metadata, multicast and reserved addresses need an entry with exactly that
    /// address, because no name should resolve to them.
    pub(crate) fn admits(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        match reach(ip) {
            Reach::Public => true,
            Reach::Private => self.private,
            Reach::Special => self.private && self.host == HostName::Ip(ip),
        }
    }

    pub(crate) fn names(&self, target: &Target) -> bool {
        self.host == target.host && self.port == target.port
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}{}", self.host, self.port, if self.private { " private" } else { "" })
    }
}

/// A parsed URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether the scheme is `https`.
    pub tls: bool,
    /// The host.
    pub host: HostName,
    /// The port, by default the scheme's.
    pub port: u16,
    /// The path and query, at least `/`.
    pub path_and_query: String,
}

impl Target {
    /// Parses an `http` or `https` URL.
    ///
    /// # Errors
    /// [`HostError::BadUrl`] for everything that two parsers could read differently.
    pub fn parse(url: &str) -> Result<Self, HostError> {
        if !url.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(HostError::BadUrl("a character that must be escaped"));
        }
        let (scheme, rest) = url.split_once("://").ok_or(HostError::BadUrl("no scheme"))?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" => true,
            "http" => false,
            _ => return Err(HostError::BadUrl("scheme is neither http nor https")),
        };
        if rest.contains(['\\', '#']) {
            return Err(HostError::BadUrl("a backslash or a fragment"));
        }
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (host, port) = split_authority(authority)?;
        let path_and_query = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        PathAndQuery::from_str(&path_and_query).map_err(|_| HostError::BadUrl("malformed path"))?;
        Ok(Self { tls, host, port: port.unwrap_or(if tls { 443 } else { 80 }), path_and_query })
    }

    /// Parses `host:port`.
    ///
    /// # Errors
    /// As for [`Self::parse`], and if the port is missing.
    pub fn of_socket(address: &str) -> Result<Self, HostError> {
        if !address.bytes().all(|b| b.is_ascii_graphic()) || address.contains(['\\', '#', '/', '?']) {
            return Err(HostError::BadUrl("not `host:port`"));
        }
        let (host, port) = split_authority(address)?;
        let port = port.ok_or(HostError::BadUrl("no port"))?;
        Ok(Self { tls: false, host, port, path_and_query: "/".to_owned() })
    }

    /// The value of `Host`, with the port only if it is not the scheme's default.
    pub fn authority(&self) -> String {
        if self.port == if self.tls { 443 } else { 80 } { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }
}

fn split_authority(authority: &str) -> Result<(HostName, Option<u16>), HostError> {
    if authority.contains(['@', '%']) {
        return Err(HostError::BadUrl("userinfo or an escape in the host"));
    }
    let after_bracket = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[after_bracket..].find(':') {
        None => (authority, None),
        Some(at) => {
            let (host, port) = authority.split_at(after_bracket + at);
            (host, Some(&port[1..]))
        }
    };
    let port = match port {
        None => None,
        Some(digits) if !digits.is_empty() && digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit()) => {
            let port = digits.parse().ok().filter(|port| *port != 0);
            Some(port.ok_or(HostError::BadUrl("port out of range"))?)
        }
        Some(_) => return Err(HostError::BadUrl("malformed port")),
    };
    Ok((HostName::parse(host)?, port))
}

/// The kind of network that an address belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The public Internet.
    Public,
    /// A private network: RFC 1918, loopback, unique local, carrier-grade NAT.
    Private,
    /// Nothing that a name should resolve to: link-local, cloud metadata, multicast, documentation, transition and reserved ranges.
    Special,
}

fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => reach_v6(ip),
    }
}

/// By the IANA special-purpose registry for IPv4, plus metadata addresses that clouds put elsewhere.
fn reach_v4(ip: Ipv4Addr) -> Reach {
    match ip.octets() {
        [100, 100, 100, 200] | [168, 63, 129, 16] => Reach::Special,
        [10 | 127, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Reach::Private,
        [0, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [224..=255, ..] => Reach::Special,
        _ => Reach::Public,
    }
}

/// Global unicast is `2000::/3`. Addresses in it that stand for other addresses are judged by those, or refused.
fn reach_v6(ip: Ipv6Addr) -> Reach {
    let s = ip.segments();
    let embedded = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match s {
        // IPv4-mapped (::ffff:0:0/96) and translated (64:ff9b::/96): the IPv4 address inside decides.
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => reach_v4(embedded(high, low)),
        [0, 0, 0, 0, 0, 0, 0, 1] => Reach::Private,
        [0xfd00, 0xec2, ..] | [0xfd20, 0xce, ..] => Reach::Special,
        [0xfc00..=0xfdff, ..] => Reach::Private,
        // Teredo and neighbouring assignments, documentation, 6to4, the second documentation block.
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x2002, ..] | [0x3fff, 0..=0xfff, ..] => Reach::Special,
        [0x2000..=0x3fff, ..] => Reach::Public,
        _ => Reach::Special,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_no_name_may_lead_to() {
        let private = "10.0.0.1 10.255.255.255 127.0.0.1 127.8.8.8 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 \
                       100.127.255.255 ::1 fc00::1 fdab::1 ::ffff:10.0.0.1 ::ffff:127.0.0.1 64:ff9b::7f00:1 \
                       64:ff9b::a00:1";
        let special = "0.0.0.0 0.1.2.3 169.254.169.254 169.254.0.1 192.0.0.1 192.0.2.1 192.88.99.1 198.18.0.1 \
                       198.19.255.255 198.51.100.7 203.0.113.7 224.0.0.1 239.1.1.1 240.0.0.1 255.255.255.255 \
                       100.100.100.200 168.63.129.16 :: ::2 ::127.0.0.1 fe80::1 fec0::1 ff02::1 2001::1 2001:db8::1 \
                       2002:7f00:1:: 2002:a9fe:a9fe:: 3fff::1 5f00::1 100::1 64:ff9b:1::1 fd00:ec2::254 \
                       fd20:ce::254 ::ffff:169.254.169.254 64:ff9b::a9fe:a9fe";
        let public = "1.1.1.1 8.8.8.8 172.15.0.1 172.32.0.1 100.63.255.255 100.128.0.1 192.0.1.1 198.17.0.1 \
                      223.255.255.255 2606:4700:4700::1111 2a00:1450::1 ::ffff:8.8.8.8 64:ff9b::808:808 2001:4860::8888";
        let open = HostRule::parse("api.example.com:443").unwrap();
        let inside = HostRule::parse("api.example.com:443 private").unwrap();
        let ips = |text: &'static str| text.split_ascii_whitespace().map(|ip| IpAddr::from_str(ip).unwrap());
        for ip in ips(private) {
            assert!(!open.admits(ip), "{ip} without private");
            assert!(inside.admits(ip), "{ip} with private");
        }
        for ip in ips(special) {
            assert!(!open.admits(ip) && !inside.admits(ip), "{ip}");
        }
        for ip in ips(public) {
            assert!(open.admits(ip), "{ip}");
        }
        let exact = HostRule::parse("169.254.169.254:80 private").unwrap();
        assert!(exact.admits("169.254.169.254".parse().unwrap()));
        assert!(exact.admits("::ffff:169.254.169.254".parse().unwrap()));
        assert!(!exact.admits("169.254.169.253".parse().unwrap()));
        assert!(!HostRule::parse("169.254.169.254:80").unwrap().admits("169.254.169.254".parse().unwrap()));
    }

    #[test]
    fn urls_that_two_parsers_could_read_differently_are_refused() {
        for url in [
            "",
            "api.example.com",
            "//api.example.com/",
            "ftp://api.example.com/",
            "file:///etc/passwd",
            "gopher://api.example.com/",
            "https:///path",
            "https://",
            "https://user@api.example.com/",
            "https://api.example.com@127.0.0.1/",
            "https://api.example.com:443@127.0.0.1/",
            "https://127.0.0.1\\@api.example.com/",
            "https://api.example.com\\.evil.com/",
            "https://api.example.com#@127.0.0.1/",
            "https://api.example.com%00.evil.com/",
            "https://%31%32%37.0.0.1/",
            "https://api.example.com /",
            "https://api.example.com\t/",
            "https://api.example.com\r\nHost: x/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0x7f.0.0.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://127.0.1/",
            "https://0/",
            "https://127.0.0.1./",
            "https://1.2.3.4.5/",
            "https://256.1.1.1/",
            "https://api.example.com./",
            "https://api..example.com/",
            "https://-a.example.com/",
            "https://[::1/",
            "https://[::1%25eth0]/",
            "https://[fe80::1%eth0]/",
            "https://[127.0.0.1]/",
            "https://[::1]evil/",
            "https://::1/",
            "https://api.example.com:/",
            "https://api.example.com:0/",
            "https://api.example.com:65536/",
            "https://api.example.com:443:80/",
            "https://api.example.com:+443/",
            "https://аpi.example.com/",
            "https://①②⑦.0.0.1/",
            "https://api。example.com/",
        ] {
            assert!(matches!(Target::parse(url), Err(HostError::BadUrl(_))), "{url:?} was read");
        }
    }

    #[test]
    fn forms_of_one_host_are_one_host() {
        let rule = HostRule::parse("Api.Example.com").unwrap();
        let target = Target::parse("HTTPS://API.example.COM/v1?x=1").unwrap();
        assert!(rule.names(&target));
        assert_eq!((target.authority().as_str(), target.path_and_query.as_str()), ("api.example.com", "/v1?x=1"));
        assert_eq!(Target::parse("http://a.example:8080?q").unwrap().path_and_query, "/?q");
        for other in ["https://api.example.com:8443/", "http://api.example.com/", "https://xapi.example.com/"] {
            assert!(!rule.names(&Target::parse(other).unwrap()), "{other}");
        }
        let mapped = Target::parse("https://[::ffff:10.0.0.5]/").unwrap();
        assert!(HostRule::parse("10.0.0.5:443 private").unwrap().names(&mapped));
        for bad in ["", "a b c", "host:port", "host:443 public", "user@host", "*", "*.example.com", "127.1:80"] {
            assert!(HostRule::parse(bad).is_err(), "{bad:?}");
        }
    }
}
