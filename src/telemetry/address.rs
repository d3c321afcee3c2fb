//! IP addresses as text, for logs and fingerprints.

use std::net::IpAddr;

/// Calls `f` with the address as text. IPv4 addresses are written without `core::fmt`, because every request needs one.
pub fn written<R>(ip: IpAddr, f: impl FnOnce(&str) -> R) -> R {
    let IpAddr::V4(ip) = ip.to_canonical() else { return f(&ip.to_string()) };
    let (mut text, mut len) = ([b'.'; 16], 0);
    for octet in ip.octets() {
        let digits = [octet / 100, octet / 10 % 10, octet % 10];
        let zeros = digits.iter().take(2).take_while(|digit| **digit == 0).count();
        for (place, digit) in text.iter_mut().skip(len).zip(digits.iter().skip(zeros)) {
            *place = b'0' + digit;
        }
        len += 4 - zeros;
    }
    f(text.get(..len - 1).and_then(|text| str::from_utf8(text).ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn addresses_are_written_as_they_always_were() {
        for octets in [[0, 0, 0, 0], [1, 10, 100, 255], [255, 9, 90, 199], [127, 0, 0, 1]] {
            let ip = Ipv4Addr::from(octets);
            written(ip.into(), |text| assert_eq!(text, ip.to_string()));
            written(ip.to_ipv6_mapped().into(), |text| assert_eq!(text, ip.to_string()));
        }
        written(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]), |text| assert_eq!(text, "2001:db8::1"));
    }
}
