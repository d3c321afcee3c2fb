//! Stored passwords: hashes in modular crypt format, `$id$salt$digest` (crypt(5)), and Kerberos material for offline
//! guessing.

use super::view::View;

/// Longest hash in bytes: a Kerberos ticket.
const HASH_BYTES: usize = 4096;
/// Most fields after the scheme: a ticket has a user, a realm, a service and two parts of ciphertext.
const FIELDS: usize = 7;
/// Shortest digest at the end, in bytes.
const DIGEST_BYTES: usize = 20;

/// Identifiers of hash schemes.
const SCHEMES: [&[u8]; 25] = [
    b"1",
    b"2",
    b"2a",
    b"2b",
    b"2x",
    b"2y",
    b"5",
    b"6",
    b"7",
    b"8",
    b"9",
    b"14",
    b"md5",
    b"sha1",
    b"apr1",
    b"pbkdf2",
    b"pbkdf2-sha1",
    b"pbkdf2-sha256",
    b"pbkdf2-sha512",
    b"bcrypt-sha256",
    b"argon2i",
    b"argon2d",
    b"argon2id",
    b"krb5asrep",
    b"krb5tgs",
];

/// The end of a hash whose scheme is the word from `start` to `end`, after its `$`.
pub fn end(view: &View<'_>, start: usize, end: usize) -> Option<usize> {
    if view.before(start, 1) != b'$' || view.at(end) != b'$' || !SCHEMES.contains(&view.slice(start, end)) {
        return None;
    }
    let ticket = view.at(start) == b'k';
    let takes = |b: u8| {
        b.is_ascii_alphanumeric()
            || matches!(b, b'.' | b'/' | b'+' | b'=' | b',' | b'$' | b'_' | b'-')
            || ticket && matches!(b, b'@' | b':' | b'*')
    };
    // No scheme has more fields; the bound keeps a text of nothing but dollars linear.
    let (mut stop, mut fields) = (end, 0);
    while stop - end < HASH_BYTES && takes(view.at(stop)) {
        fields += usize::from(view.at(stop) == b'$');
        if fields > FIELDS {
            return None;
        }
        stop += 1;
    }
    while matches!(view.before(stop, 1), b',' | b'.' | b':' | b'-') && stop > end {
        stop -= 1;
    }
    let fields = view.slice(end + 1, stop);
    let digest = fields.rsplit(|b| *b == b'$').next().unwrap_or_default();
    let salted = fields.len() > digest.len();
    let mixed = digest.iter().any(u8::is_ascii_digit) || digest.iter().any(u8::is_ascii_uppercase);
    (digest.len() >= DIGEST_BYTES && salted && mixed && !super::gate::is_stand_in(digest)).then_some(stop)
}
