//! Sets and removes members of a JSON text in place, so that everything else stays byte for byte as the caller wrote it.
//! The text must have been validated as JSON.

use std::ops::Range;

/// A JSON pointer (RFC 6901) with unescaped parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Parses `/a/b~1c/0`. The pointer to the whole document is refused.
    pub fn parse(text: &str) -> Option<Self> {
        let parts = text.strip_prefix('/')?.split('/').map(|part| part.replace("~1", "/").replace("~0", "~"));
        Some(Self(parts.collect()))
    }

    /// The first part.
    pub fn first(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    /// The text with the value at this pointer set to `value` (JSON). Missing objects on the way are created; nothing
    /// changes if the way leads through anything but objects.
    pub fn set(&self, text: &str, value: &str) -> Option<String> {
        let mut edits = Vec::new();
        self.plan_set(text, 0, &self.0, value, &mut edits);
        apply(text, edits)
    }

    fn plan_set(&self, text: &str, at: usize, parts: &[String], value: &str, edits: &mut Vec<(Range<usize>, String)>) {
        let Some((part, rest)) = parts.split_first() else {
            edits.push((at..value_end(text, at), value.to_owned()));
            return;
        };
        let missing = || rest.iter().rev().fold(value.to_owned(), |inner, name| format!("{{{}:{inner}}}", quoted(name)));
        let bytes = text.as_bytes();
        match bytes.get(at) {
            Some(b'{') => {
                let members = members(text, at);
                let mut found = false;
                // If a member repeats, every occurrence is set: readers differ in which one they take.
                for member in members.iter().filter(|m| m.name.as_deref() == Some(part)) {
                    found = true;
                    self.plan_set(text, member.value.start, rest, value, edits);
                }
                if !found {
                    let comma = if members.is_empty() { "" } else { "," };
                    let end = members.last().map_or(at + 1, |m| m.value.end);
                    edits.push((end..end, format!("{comma}{}:{}", quoted(part), missing())));
                }
            }
            Some(b'[') if part.parse::<usize>().is_ok() => {
                if let Some(member) = part.parse::<usize>().ok().and_then(|index| members(text, at).into_iter().nth(index)) {
                    self.plan_set(text, member.value.start, rest, value, edits);
                }
            }
            _ if at == 0 => {}
            // What can hold no such member gives way: who writes a string where an object belongs must not keep the value out.
            _ => edits.push((at..value_end(text, at), format!("{{{}:{}}}", quoted(part), missing()))),
        }
    }

    /// The text without the value at this pointer; `None` if there is none.
    pub fn remove(&self, text: &str) -> Option<String> {
        let mut edits = Vec::new();
        plan_remove(text, 0, &self.0, &mut edits);
        apply(text, edits)
    }
}

fn plan_remove(text: &str, at: usize, parts: &[String], edits: &mut Vec<(Range<usize>, String)>) {
    let Some((part, rest)) = parts.split_first() else { return };
    let members = members(text, at);
    let is_it = |index: usize, member: &Member| match &member.name {
        Some(name) => name == part,
        None => part.parse::<usize>() == Ok(index),
    };
    let mut kept_before = false;
    let mut end_before = at + 1;
    for (index, member) in members.iter().enumerate() {
        let it = is_it(index, member);
        if it && !rest.is_empty() {
            plan_remove(text, member.value.start, rest, edits);
        } else if it {
            // Removes the comma before it; or the one after it, if no member before it remains.
            let next = members.get(index + 1).map(|next| next.start);
            edits.push(match (kept_before, next) {
                (false, Some(next)) => (member.start..next, String::new()),
                _ => (end_before..member.value.end, String::new()),
            });
            end_before = if kept_before { member.value.end } else { next.unwrap_or(member.value.end) };
            continue;
        }
        kept_before = true;
        end_before = member.value.end;
    }
}

fn apply(text: &str, mut edits: Vec<(Range<usize>, String)>) -> Option<String> {
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(range, _)| range.start);
    let mut out = String::with_capacity(text.len() + 64);
    let mut at = 0;
    for (range, new) in edits {
        out.push_str(text.get(at..range.start)?);
        out.push_str(&new);
        at = range.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A member of an object, or an element of an array.
struct Member {
    /// Decoded name; `None` for elements.
    name: Option<String>,
    /// Offset of the name, or of the element.
    start: usize,
    value: Range<usize>,
}

fn members(text: &str, at: usize) -> Vec<Member> {
    let bytes = text.as_bytes();
    let object = match bytes.get(at) {
        Some(b'{') => true,
        Some(b'[') => false,
        _ => return Vec::new(),
    };
    let mut found = Vec::new();
    let mut at = space(bytes, at + 1);
    while at < bytes.len() && !matches!(bytes.get(at), Some(b'}' | b']')) {
        let start = at;
        let mut name = None;
        if object {
            let end = value_end(text, at);
            name = text.get(at..end).and_then(|quoted| serde_json::from_str(quoted).ok());
            at = space(bytes, space(bytes, end) + 1);
        }
        let end = value_end(text, at);
        found.push(Member { name, start, value: at..end });
        at = space(bytes, end);
        if bytes.get(at) == Some(&b',') {
            at = space(bytes, at + 1);
        }
        if at <= start {
            break;
        }
    }
    found
}

fn space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// The end of the value that begins at `at`.
fn value_end(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    let mut depth = 0usize;
    let mut inside = false;
    let mut index = at;
    while let Some(byte) = bytes.get(index) {
        match byte {
            b'\\' if inside => index += 1,
            b'"' => inside = !inside,
            _ if inside => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 0 => return index,
            b'}' | b']' => depth -= 1,
            b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' if depth == 0 => return index,
            _ => {}
        }
        index += 1;
        if depth == 0 && !inside && matches!(bytes.get(index - 1), Some(b'"' | b'}' | b']')) {
            return index;
        }
    }
    bytes.len().min(index)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::{Strategy, any, prop, proptest};
    use serde_json::Value;

    fn set(text: &str, pointer: &str, value: &str) -> String {
        Pointer::parse(pointer).unwrap().set(text, value).unwrap_or_else(|| text.to_owned())
    }

    fn remove(text: &str, pointer: &str) -> String {
        Pointer::parse(pointer).unwrap().remove(text).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn setting() {
        for (text, pointer, expected) in [
            (r#"{ "a": 1 , "b":2}"#, "/a", r#"{ "a": 9 , "b":2}"#),
            (r#"{"a":{"b":"x,]}\""}}"#, "/a/b", r#"{"a":{"b":9}}"#),
            ("{}", "/a", r#"{"a":9}"#),
            ("{ }", "/a/b/c", r#"{"a":{"b":{"c":9}} }"#),
            (r#"{"a":[1,{"b":2}]}"#, "/a/1/b", r#"{"a":[1,{"b":9}]}"#),
            (r#"{"a":[1]}"#, "/a/1", r#"{"a":[1]}"#),
            (r#"{"a":null}"#, "/a/b", r#"{"a":{"b":9}}"#),
            (r#"{"a":"s","c":1}"#, "/a/b", r#"{"a":{"b":9},"c":1}"#),
            (r#"{"a":[]}"#, "/a/b", r#"{"a":{"b":9}}"#),
            (r#"{"a":1,"a":2}"#, "/a", r#"{"a":9,"a":9}"#),
            (r#"{"\u0061":1}"#, "/a", r#"{"\u0061":9}"#),
            (r#"{"a/b~":1}"#, "/a~1b~0", r#"{"a/b~":9}"#),
            ("[]", "/a", "[]"),
        ] {
            assert_eq!(set(text, pointer, "9"), expected, "{text} {pointer}");
        }
    }

    #[test]
    fn removing() {
        for (text, pointer, expected) in [
            (r#"{"a":1,"b":2,"c":3}"#, "/a", r#"{"b":2,"c":3}"#),
            (r#"{"a":1,"b":2,"c":3}"#, "/b", r#"{"a":1,"c":3}"#),
            (r#"{"a":1, "b":2, "c":3 }"#, "/c", r#"{"a":1, "b":2 }"#),
            (r#"{"a":1}"#, "/a", "{}"),
            (r#"{"a":1,"a":2,"b":3}"#, "/a", r#"{"b":3}"#),
            (r#"{"b":3,"a":1,"a":2}"#, "/a", r#"{"b":3}"#),
            (r#"{"a":1,"b":3,"a":2}"#, "/a", r#"{"b":3}"#),
            (r#"{"a":[1,2,3]}"#, "/a/1", r#"{"a":[1,3]}"#),
            (r#"{"a":{"b":{"c":1}}}"#, "/a/b/c", r#"{"a":{"b":{}}}"#),
            (r#"{"a":1}"#, "/b", r#"{"a":1}"#),
        ] {
            assert_eq!(remove(text, pointer), expected, "{text} {pointer}");
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = proptest::prop_oneof![
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[a-c\"\\\\,{}\\[\\]: ]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            proptest::prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_rest_stays(value in json(), pretty in any::<bool>(), parts in prop::collection::vec("[a-c0-2]", 1..4)) {
            let text = if pretty { serde_json::to_string_pretty(&value).unwrap() } else { value.to_string() };
            let pointer = format!("/{}", parts.join("/"));
            let after: Value = serde_json::from_str(&set(&text, &pointer, "\"new\"")).unwrap();
            let mut expected = value.clone();
            if let Some(slot) = expected.pointer_mut(&pointer) {
                *slot = "new".into();
                proptest::prop_assert_eq!(&after, &expected);
            }
            let gone: Value = serde_json::from_str(&remove(&text, &pointer)).unwrap();
            if value.pointer(&pointer).is_none() {
                proptest::prop_assert_eq!(gone, value);
            } else {
                proptest::prop_assert_ne!(gone, value);
            }
        }
    }
}
