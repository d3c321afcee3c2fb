//! Name patterns: `*` matches any run of characters, `?` matches one, and any other character itself.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// The longest pattern (bytes).
const LONGEST: usize = 256;

/// A pattern for names of models, tools or servers, case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Parses a pattern.
    ///
    /// # Errors
    /// The pattern is empty or longer than 256 bytes.
    pub fn parse(pattern: &str) -> Result<Self, String> {
        if pattern.is_empty() || pattern.len() > LONGEST {
            return Err(format!("a pattern has 1 to {LONGEST} bytes"));
        }
        Ok(Self(pattern.to_owned()))
    }

    /// Whether the whole name matches. Takes at most the product of both lengths in steps.
    pub fn matches(&self, name: &str) -> bool {
        let (mut pattern, mut name) = (self.0.as_str(), name);
        // Where to continue if what follows the last `*` does not match here: with that `*` taking one more character.
        let mut retry: Option<(&str, &str)> = None;
        loop {
            let mut rest = pattern.chars();
            match (rest.next(), name.chars().next()) {
                (Some('*'), _) => {
                    pattern = rest.as_str();
                    retry = Some((pattern, name));
                    continue;
                }
                (Some(want), Some(have)) if want == '?' || want == have => {
                    (pattern, name) = (rest.as_str(), name.get(have.len_utf8()..).unwrap_or_default());
                    continue;
                }
                (None, None) => return true,
                _ => {}
            }
            let Some((after, from)) = retry else { return false };
            let Some(skipped) = from.chars().next() else { return false };
            let from = from.get(skipped.len_utf8()..).unwrap_or_default();
            (pattern, name, retry) = (after, from, Some((after, from)));
        }
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Glob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Glob {
    fn schema_name() -> Cow<'static, str> {
        "Glob".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1, "maxLength": LONGEST, "description": "a name; `*` is any run of characters, `?` is one"})
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;

    fn fits(pattern: &str, name: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn whole_names_fit() {
        for (pattern, name) in
            [("gpt-4o", "gpt-4o"), ("gpt-*", "gpt-"), ("*mini*", "gpt-4o-mini-1"), ("?pt", "ƒpt"), ("*", ""), ("a*b*c", "abbbcc")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("gpt-4o", "gpt-4o-mini"), ("gpt-4o", "GPT-4o"), ("?", ""), ("a*b", "abc"), ("*a?", "a"), ("[a]", "a")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
        assert!(Glob::parse("").is_err() && Glob::parse(&"x".repeat(257)).is_err());
        assert!(!fits(&"*a".repeat(128), &"a".repeat(127)));
    }

    proptest! {
        #[test]
        fn it_is_the_regular_expression_it_stands_for(pattern in "[ab*?.]{1,8}", name in "[ab.]{0,8}") {
            let regex = format!("^{}$", regex::escape(&pattern).replace("\\*", ".*").replace("\\?", "."));
            assert_eq!(fits(&pattern, &name), regex::Regex::new(&regex).unwrap().is_match(&name));
        }
    }
}
