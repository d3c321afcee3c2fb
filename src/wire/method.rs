//! Names of methods for logs and records.

use http::Method;

/// IANA's registry of methods beyond those that every server knows, sorted.
const REGISTERED: [&str; 30] = [
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];

/// The name of a registered method, `other` of any other: what a caller may write there (RFC 9110 §9.1: any token) could as
/// well be a secret.
pub fn method_name(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::HEAD
        | Method::OPTIONS
        | Method::CONNECT
        | Method::PATCH
        | Method::TRACE => method.as_str(),
        _ if REGISTERED.binary_search(&method.as_str()).is_ok() => method.as_str(),
        _ => "other",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_registered_methods_are_named() {
        assert!(REGISTERED.is_sorted());
        for name in ["GET", "TRACE", "PROPFIND", "VERSION-CONTROL"] {
            assert_eq!(method_name(&name.parse().unwrap()), name);
        }
        for token in ["sk_0123456789abcdef", "get", "GETS", "propfind"] {
            assert_eq!(method_name(&token.parse().unwrap()), "other");
        }
    }
}
