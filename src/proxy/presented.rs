//! The credential of `Authorization`.

use http::HeaderMap;
use http::header::AUTHORIZATION;

/// What stands behind `Bearer`, the name in any case (RFC 9110 §11.1).
pub(super) fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_scheme_has_no_case() {
        let of = |value: &'static str| HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(value))]);
        for value in ["Bearer sk_1", "bearer sk_1", "BEARER sk_1"] {
            assert_eq!(bearer(&of(value)), Some(b"sk_1".as_slice()), "{value}");
        }
        for value in ["Basic sk_1", "Bearer", "Bearersk_1", ""] {
            assert_eq!(bearer(&of(value)), None, "{value}");
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}
