//! What is asked in the query of an API of the admin listener.

use crate::wire::percent;

/// The pairs of a query, values without their percent-encoding. A value that is not what a query may hold is the text of a
/// refusal.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = Result<(&str, String), String>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent::query_value(value).ok_or_else(|| format!("`{name}` is not what a query may hold"))?;
        Ok((name, value))
    })
}

/// How many are wanted, at most so many.
pub(super) fn limit(name: &str, value: &str, most: u32) -> Result<u32, String> {
    let limit: u32 = value.parse().map_err(|_| format!("`{name}` is a number"))?;
    Ok(limit.clamp(1, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_or_refused() {
        let read: Vec<_> = pairs("a=x%2Fy+z&&b&c=1=2").collect();
        let expected = [("a", "x/y z"), ("b", ""), ("c", "1=2")].map(|(name, value)| Ok((name, value.to_owned())));
        assert_eq!(read, expected);
        assert!(pairs("a=%zz").all(|pair| pair.is_err()));
        assert_eq!(["0", "7", "99"].map(|value| limit("limit", value, 10)), [Ok(1), Ok(7), Ok(10)]);
        assert!(["", "x", "-1", "99999999999"].iter().all(|value| limit("limit", value, 10).is_err()));
    }
}
