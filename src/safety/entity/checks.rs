//! Issuers' rules for keys beyond prefix, length and alphabet.

use super::gate::is_uuid;

/// Whether a value satisfies its issuer's further rules: places of separators, check characters.
pub fn keeps(prefix: &[u8], value: &[u8]) -> bool {
    let hex = |part: &[u8]| part.iter().all(u8::is_ascii_hexdigit);
    match prefix {
        b"AGE-SECRET-KEY-1" => bech32(b"age-secret-key-", value),
        // API keys, unlike session keys, have 93 characters and an end mark. A truncated one is still somebody's.
        b"sk-ant-" if value.starts_with(b"api03-") => ended(value, 101),
        b"sk-ant-" if value.starts_with(b"admin01-") => ended(value, 103),
        b"sk-" if value.starts_with(b"ant-") => false,
        b"sgp_" => match value.iter().position(|b| *b == b'_') {
            None => value.len() == 40 && hex(value),
            Some(cut) => value.len() == cut + 41 && value.get(cut + 1..).is_some_and(hex) && (cut == 16 || value.starts_with(b"local_")),
        },
        // A stream key: a channel number and thirty characters.
        b"live_" => match value.iter().position(|b| *b == b'_') {
            Some(cut) if value.iter().take(cut).all(u8::is_ascii_digit) => value.len() - cut > 30,
            _ => true,
        },
        b"ntn_" => value.iter().take(11).all(u8::is_ascii_digit) && value.iter().any(u8::is_ascii_alphabetic),
        b"re_" => value.get(8) == Some(&b'_'),
        b"akab-" => value.get(16) == Some(&b'-'),
        b"lsv2_pt_" | b"lsv2_sk_" => value.get(32) == Some(&b'_'),
        b"pat-na1-" | b"pat-na2-" | b"pat-eu1-" | b"px-api-" | b"px-dep-" => is_uuid(value),
        _ => true,
    }
}

/// At most this long; at full length with the end mark.
fn ended(value: &[u8], len: usize) -> bool {
    value.len() < len || value.len() == len && value.ends_with(b"AA")
}

/// The characters of bech32 by their value, in upper case.
const BECH32: &[u8; 32] = b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";

/// Whether the last six characters are the right checksum (BIP 173). The value is in upper case, the name in lower case.
fn bech32(name: &[u8], value: &[u8]) -> bool {
    value.iter().all(|byte| BECH32.contains(byte)) && remainder(name, value) == 1
}

fn remainder(name: &[u8], value: &[u8]) -> u32 {
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let step = |sum: u32, value: u32| {
        let top = sum >> 25;
        let sum = (sum & 0x01ff_ffff) << 5 ^ value;
        GENERATOR.iter().enumerate().fold(sum, |sum, (bit, part)| if top >> bit & 1 == 1 { sum ^ part } else { sum })
    };
    let high = name.iter().map(|b| u32::from(b >> 5));
    let low = name.iter().map(|b| u32::from(b & 31));
    let values = value.iter().map(|byte| BECH32.iter().position(|c| c == byte).unwrap_or(0) as u32);
    high.chain([0]).chain(low).chain(values).fold(1, step)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
pub mod tests {
    use super::*;

    /// 52 characters and their checksum; bytes that are not bech32 characters are mapped to one.
    pub fn signed(drawn: &[u8]) -> Vec<u8> {
        let mut value: Vec<u8> = drawn.iter().map(|b| BECH32[usize::from(b & 31)]).collect();
        value.extend_from_slice(b"QQQQQQ");
        let sum = remainder(b"age-secret-key-", &value) ^ 1;
        for place in 0..6 {
            value[52 + place] = BECH32[(sum >> (5 * (5 - place)) & 31) as usize];
        }
        value
    }

    /// The test vectors of BIP 173 that are in upper case and share one name.
    #[test]
    fn one_wrong_character_shows() {
        assert!(bech32(b"a", b"2UEL5L") && !bech32(b"a", b"2UEL5Q"));
        let key = signed(&[7; 52]);
        assert!(keeps(b"AGE-SECRET-KEY-1", &key));
        for at in 0..key.len() {
            let mut wrong = key.clone();
            wrong[at] = if wrong[at] == b'Q' { b'P' } else { b'Q' };
            assert!(!keeps(b"AGE-SECRET-KEY-1", &wrong), "{at}");
        }
    }

    #[test]
    fn signs_stand_where_the_issuer_has_them() {
        assert!(keeps(b"re_", b"Xk7vT2mQ_9LbW4nZs6HcT3BlbkFJ5yPdG") && !keeps(b"re_", b"Xk7vT2mQ9_LbW4nZs6HcT3BlbkFJ5yPdG"));
        assert!(keeps(b"ntn_", b"52918374650aB3") && !keeps(b"ntn_", b"5291837465x0aB3") && !keeps(b"ntn_", b"52918374650123"));
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (value, holds) in [(commit.to_owned(), true), (format!("local_{commit}"), true), (format!("abc_{commit}"), false)] {
            assert_eq!(keeps(b"sgp_", value.as_bytes()), holds, "{value}");
        }
    }
}
