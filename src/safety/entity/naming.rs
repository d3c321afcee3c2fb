//! Names that tell what the value after them is: `db_password`, `"apiKey"`, `SESSION_SECRET`.

use super::view::{View, ends_with};

/// How far back a name is read, in bytes.
pub const NAME_BYTES: usize = 32;
/// How far back the type of a declared name is read, in bytes.
const TYPE_BYTES: usize = 28;

/// What a name says about its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A password: short, and chosen by a person.
    Password,
    /// A token, secret or API key.
    Secret,
    /// A key of some sort, possibly only that of a map.
    Key,
    /// A session cookie: `JSESSIONID=…`, but not a session in a log.
    Session,
}

const PASSWORDS: &[&str] = &[
    "password",
    "passwd",
    "passwort",
    "passphrase",
    "passcode",
    "pwd",
    "psw",
    "pswd",
    "userpass",
    "dbpass",
    "rootpass",
    "sqlpass",
    "비번",
    "비밀번호",
    "패스워드",
    "암호",
    "contraseña",
    "contrasena",
    "senha",
    "motdepasse",
    "密码",
    "密碼",
    "パスワード",
    "пароль",
    "identifiedby",
    "userpwd",
    "kennwort",
    "passw",
    "passwordany",
    "passwords",
    "psword",
    "pasword",
    "securestring",
];
/// Short words count only as whole words.
const SHORT_PASSWORDS: &[&str] = &["pass", "pw"];
const SECRETS: &[&str] = &[
    "token",
    "tokens",
    "secret",
    "secrets",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "licensekey",
    "authkey",
    "credential",
    "credentials",
    "authorization",
    "encryptionkey",
    "signingkey",
    "accountkey",
    "sharedkey",
    "masterkey",
    "bearer",
    "apitoken",
    "secretaccesskey",
    "clientkey",
    "apisecret",
    "appsecret",
    "integrationkey",
    "sharedaccesskey",
    "servicekey",
    "consumerkey",
    "securitykey",
    "keysecret",
    "signaturekey",
];
const KEYS: &[&str] = &["key", "auth", "authentication", "api", "login", "access", "private", "appid", "license"];
const SESSIONS: &[&str] = &["session", "sessionid", "sessid"];
/// Names of keys that are not secret.
const OPEN_KEYS: &[&str] = &[
    "publickey",
    "primarykey",
    "foreignkey",
    "cachekey",
    "idempotencykey",
    "partitionkey",
    "sortkey",
    "objectkey",
    "bucketkey",
    "routekey",
    "hotkey",
    "monkey",
    "keyboardkey",
    "pubkey",
    "rowkey",
    "lookupkey",
    "hostkey",
    "nexttoken",
    "pagetoken",
    "maxtokens",
    "csrftoken",
    "authenticitytoken",
    "publictoken",
    "publickeytoken",
    "continuationtoken",
    "s3key",
    "filekey",
    "imagekey",
    "storagekey",
    "blobkey",
    "rediskey",
    "featurekey",
    "projectkey",
    "issuekey",
    "messagekey",
    "eventkey",
    "groupkey",
    "dedupkey",
    "shardkey",
    "uniquekey",
    "querykey",
    "registrykey",
    "translationkey",
];

/// For each possible last byte of these words, a bit set of the letters before it: most names are dismissed with one
/// lookup.
const ENDINGS: [u32; 256] = {
    let mut endings = [0u32; 256];
    let lists: [&[&str]; 5] = [PASSWORDS, SHORT_PASSWORDS, SECRETS, KEYS, SESSIONS];
    let mut list = 0;
    while list < lists.len() {
        let mut i = 0;
        while i < lists[list].len() {
            let word = lists[list][i].as_bytes();
            endings[word[word.len() - 1] as usize] |= letter(word[word.len() - 2]);
            i += 1;
        }
        list += 1;
    }
    endings
};

/// One bit for each letter, and one for all other bytes.
const fn letter(byte: u8) -> u32 {
    let byte = byte.to_ascii_lowercase();
    if byte.is_ascii_lowercase() { 1 << (byte - b'a') } else { 1 << 31 }
}

/// What the name at the end of `text` says.
pub fn sort_of(text: &[u8]) -> Option<Sort> {
    let [.., before, last] = text else { return None };
    let ending = last.to_ascii_lowercase();
    if ENDINGS.get(usize::from(ending)).is_none_or(|letters| letters & letter(*before) == 0) {
        return None;
    }
    let mut name = [0u8; NAME_BYTES];
    let name = squeezed(text, &mut name);
    let is = |words: &[&str]| words.iter().map(|word| word.as_bytes()).any(|word| word.last() == Some(&ending) && name.ends_with(word));
    if is(OPEN_KEYS) || [b"checksum".as_slice(), b"digest", b"sha256"].iter().any(|word| name.windows(word.len()).any(|w| w == *word)) {
        return None;
    }
    if is(PASSWORDS) || SHORT_PASSWORDS.iter().any(|word| own_word(text, word)) {
        return Some(Sort::Password);
    }
    if is(SECRETS) {
        return Some(Sort::Secret);
    }
    if is(SESSIONS) {
        return Some(Sort::Session);
    }
    KEYS.iter().any(|word| own_word(text, word)).then_some(Sort::Key)
}

/// The name at the end of a text in lower case, without separators.
fn squeezed<'a>(text: &[u8], name: &'a mut [u8; NAME_BYTES]) -> &'a [u8] {
    let mut from = name.len();
    let mut spaces = 0;
    for &byte in text.iter().rev() {
        let kept = byte.is_ascii_alphanumeric() || byte >= 0x80;
        let joins = matches!(byte, b'_' | b'-' | b'.' | b'/') || byte == b' ' && spaces == 0;
        if !(kept || joins) || from == 0 {
            break;
        }
        spaces += usize::from(byte == b' ');
        if kept {
            from -= 1;
            if let Some(slot) = name.get_mut(from) {
                *slot = byte.to_ascii_lowercase();
            }
        }
    }
    name.get(from..).unwrap_or_default()
}

/// Names of random values that are not secret: identifiers, references, signatures.
const OPEN_NAMES: &[&str] = &[
    "id",
    "ids",
    "uuid",
    "guid",
    "publickey",
    "pubkey",
    "publictoken",
    "publickeytoken",
    "fingerprint",
    "hash",
    "digest",
    "checksum",
    "etag",
    "version",
    "revision",
    "commit",
    "url",
    "uri",
    "href",
    "src",
    "path",
    "file",
    "filename",
    "image",
    "cursor",
    "pagetoken",
    "nexttoken",
    "continuationtoken",
    "accessor",
    "boundary",
    "address",
    "signature",
    "integrity",
    "slug",
    "name",
    "username",
    "title",
    "ref",
];

/// Whether the value at `start` has such a name.
pub fn is_open(view: &View<'_>, start: usize) -> bool {
    let joins = |b: u8| matches!(b, b' ' | b'"' | b'\'' | b'\\' | b':' | b'=' | b'>');
    let gap = (1..=6).take_while(|back| joins(view.before(start, *back))).count();
    let left = view.left(start - gap, NAME_BYTES);
    let signed = view.left(start, gap).iter().any(|b| matches!(b, b':' | b'='));
    let mut name = [0u8; NAME_BYTES];
    let name = squeezed(left, &mut name);
    signed && OPEN_NAMES.iter().any(|open| name.ends_with(open.as_bytes()))
}

/// Whether `text` ends with `word` as a word of its own: `db_pass`, `userPass`, `MYSQLPASS`, but not `compass`.
fn own_word(text: &[u8], word: &str) -> bool {
    if !ends_with(text, word.as_bytes()) {
        return false;
    }
    let at = text.len() - word.len();
    let first_upper = text.get(at).is_some_and(u8::is_ascii_uppercase);
    at.checked_sub(1).and_then(|i| text.get(i)).is_none_or(|before| !before.is_ascii_alphabetic() || first_upper)
}

/// What a name says whose type stands between it and the `=` at `sign`, before a quoted value: `password: String = …`,
/// `token: Optional[str] = …`.
pub fn declared(view: &View<'_>, sign: usize) -> Option<Sort> {
    let value = view.run(sign + 1, 4, |b| b == b' ');
    if view.at(sign) != b'='
        || !matches!(view.at(value), b'"' | b'\'' | b'`')
        || matches!(view.before(sign, 1), b'!' | b'<' | b'>' | b'=' | b':')
        || view.at(sign + 1) == b'='
    {
        return None;
    }
    let left = view.left(sign, TYPE_BYTES);
    let stop = |b: &u8| matches!(b, b'\n' | b',' | b'(' | b';' | b'{' | b'"' | b':' | b'=');
    let colon = left.iter().rposition(stop).filter(|at| left.get(*at) == Some(&b':'))?;
    let kind = left.get(colon + 1..)?.trim_ascii();
    let shaped = kind.first().is_some_and(|b| b.is_ascii_alphabetic() || matches!(b, b'&' | b'[' | b'*' | b'?'));
    if !shaped || left.get(colon.checked_sub(1)?) == Some(&b':') {
        return None;
    }
    sort_of(view.left(sign - (left.len() - colon), NAME_BYTES))
}

/// Words between a name and its value in a sentence: `the password is …`.
const JOINTS: [&[u8]; 8] = [b" is", b" was", b" ist", b" war", b" est", b" es", b" now", b" lautet"];

/// What separates a name from its value where there is no `=` or `:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joint {
    /// Spaces and quotes: `--token …`, `IDENTIFIED BY '…'`.
    Space,
    /// A comma: `setopt(PASSWORD, "…")`, `get("API_KEY", "…")`.
    Comma,
    /// A verb: `my password is …`.
    Verb,
}

/// The end of the name of the value at `start`, and what separates them.
pub fn joined(view: &View<'_>, start: usize) -> Option<(usize, Joint)> {
    let quotes = |at: usize| at - (0..2).take_while(|n| matches!(view.before(at, n + 1), b'"' | b'\'' | b'`' | b'\\')).count();
    let blanks = |mut at: usize| {
        for _ in 0..4 {
            match view.before(at, 1) {
                b' ' | b'\t' => at -= 1,
                // A tab, escaped in quoted source text.
                b't' if view.before(at, 2) == b'\\' => at -= 2,
                _ => break,
            }
        }
        at
    };
    let opening = quotes(start);
    let mut at = blanks(opening);
    if at < opening && view.before(at, 1).is_ascii_alphabetic() {
        let left = view.left(at, 8);
        if let Some(verb) = JOINTS.iter().find(|verb| ends_with(left, verb)) {
            return Some((at - verb.len(), Joint::Verb));
        }
    }
    let comma = view.before(at, 1) == b',';
    at = quotes(at - usize::from(comma));
    (at < start).then_some((at, if comma { Joint::Comma } else { Joint::Space }))
}
