//! The place of every string in a JSON text as a JSON pointer: how external systems refer to the texts they were sent.

use std::ops::Range;

use super::head::ParseError;
use super::scan::{Literal, Scan};

/// Visits every string of a JSON text in order, with its range inside the quotes and its pointer (RFC 6901). The pointer of
/// a member name is that of the member followed by `#`, as in Relative JSON Pointer.
///
/// # Errors
/// [`ParseError::Syntax`]; some strings may have been visited by then.
/// [`ParseError::Syntax`]; some strings may have been visited by then.
pub fn places(json: &[u8], f: &mut dyn FnMut(Range<usize>, &str)) -> Result<(), ParseError> {
    let mut scan = Scan::new(json)?;
    value(&mut scan, &mut String::new(), f)?;
    scan.end()
}

fn value(scan: &mut Scan<'_>, at: &mut String, f: &mut dyn FnMut(Range<usize>, &str)) -> Result<(), ParseError> {
    let here = at.len();
    match scan.peek() {
        Some(b'"') => f(scan.string()?.span, at),
        Some(b'{') => scan.object(|scan, Literal { text, span }| {
            at.push('/');
            for c in text.chars() {
                match c {
                    '~' => at.push_str("~0"),
                    '/' => at.push_str("~1"),
                    c => at.push(c),
                }
            }
            let member = at.len();
            at.push('#');
            f(span, at);
            at.truncate(member);
            value(scan, at, f)?;
            at.truncate(here);
            Ok(())
        })?,
        Some(b'[') => {
            let mut index = 0usize;
            scan.array(|scan| {
                at.push('/');
                at.push_str(&index.to_string());
                index += 1;
                value(scan, at, f)?;
                at.truncate(here);
                Ok(())
            })?;
        }
        _ => {
            scan.scalar()?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_leads_to_its_string() {
        let json = br#"{"a/b~":[1,{"c":"x\ny"},"z"],"":"e"}"#;
        let mut seen = Vec::new();
        places(json, &mut |span, pointer| seen.push((String::from_utf8_lossy(&json[span]).into_owned(), pointer.to_owned()))).unwrap();
        let own = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        let expected = [("a/b~", "/a~1b~0#"), ("c", "/a~1b~0/1/c#"), (r"x\ny", "/a~1b~0/1/c"), ("z", "/a~1b~0/2"), ("", "/#"), ("e", "/")];
        assert_eq!(seen, own(&expected));
        let value: serde_json::Value = serde_json::from_slice(json).unwrap();
        for (text, pointer) in seen.iter().filter(|(_, p)| !p.ends_with('#')) {
            assert_eq!(value.pointer(pointer).unwrap().to_string(), format!("\"{text}\""));
        }
        assert!(places(b"{\"a\":", &mut |_, _| {}).is_err());
    }
}
