//! The few members of a request body that steer it, read in one pass without copying.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::json::Offsets;

/// Why a body could not be read. Contains nothing of the body: it may be logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// Not JSON, not UTF-8, something after the JSON, or nested deeper than 127 levels. Byte offset is approximate.
    Syntax {
        /// Line of the offending byte, from 1.
        line: usize,
        /// Column of the offending byte, from 1.
        column: usize,
    },
    /// JSON, but no object.
    NotAnObject,
    /// A steering member (`model`, `stream`) stands twice, also under another case: parsers would disagree on it.
    Ambiguous(&'static str),
    /// A steering member has a value of the wrong type.
    WrongType(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax { line, column } => write!(f, "not valid JSON at line {line}, column {column}"),
            Self::NotAnObject => f.write_str("the body must be a JSON object"),
            Self::Ambiguous(key) => write!(f, "`{key}` is given more than once or in another case"),
            Self::WrongType(key) => write!(f, "`{key}` has the wrong type"),
        }
    }
}

impl std::error::Error for ParseError {}

impl From<serde_json::Error> for ParseError {
    fn from(error: serde_json::Error) -> Self {
        Self::Syntax { line: error.line(), column: error.column() }
    }
}

/// The steering members of a request body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Head<'a> {
    /// `model`, decoded; absent or null is `None`.
    pub model: Option<Cow<'a, str>>,
    /// Where the value of `model` stands in the body, quotes included, for [`super::set_string`].
    pub model_span: Option<Range<usize>>,
    /// `stream`.
    pub stream: bool,
    /// `stream_options.include_usage`, or the top-level `include_usage` of the unified endpoint.
    pub include_usage: bool,
    /// The largest of `max_tokens`, `max_completion_tokens` and `max_output_tokens`.
    pub max_tokens: Option<u64>,
}

/// Reads the steering members of a request body.
///
/// # Errors
/// [`ParseError`] when the body is not one JSON object that every parser would read alike in these members. Members
/// nested anywhere else may repeat: [`super::texts()`] visits all of them.
pub fn head(body: &[u8]) -> Result<Head<'_>, ParseError> {
    let mut walk = HeadWalk { offsets: Offsets::new(body), head: Head::default(), seen: 0, refusal: None };
    let mut json = serde_json::Deserializer::from_slice(body);
    let result = json.deserialize_any(&mut walk).and_then(|()| json.end());
    if let Some(refusal) = walk.refusal {
        return Err(refusal);
    }
    result?;
    Ok(walk.head)
}

struct HeadWalk<'a> {
    offsets: Offsets<'a>,
    head: Head<'a>,
    /// Bit per steering key already met.
    seen: u8,
    refusal: Option<ParseError>,
}

impl HeadWalk<'_> {
    fn refuse<E: serde::de::Error>(&mut self, refusal: ParseError) -> E {
        self.refusal = Some(refusal);
        E::custom("refused")
    }

    fn once<E: serde::de::Error>(&mut self, bit: u8, key: &'static str) -> Result<(), E> {
        if self.seen & bit != 0 {
            return Err(self.refuse(ParseError::Ambiguous(key)));
        }
        self.seen |= bit;
        Ok(())
    }

    fn larger(&mut self, value: Scalar<'_>) {
        if let Scalar::Number(n) = value {
            self.head.max_tokens = Some(self.head.max_tokens.unwrap_or(0).max(n));
        }
    }
}

macro_rules! not_an_object {
    ($($visit:ident: $type:ty),*) => {$(
        fn $visit<E: serde::de::Error>(self, _: $type) -> Result<(), E> {
            Err(self.refuse(ParseError::NotAnObject))
        }
    )*};
}

impl<'de> Visitor<'de> for &mut HeadWalk<'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    not_an_object!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        Err(self.refuse(ParseError::NotAnObject))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.refuse(ParseError::NotAnObject))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((key, _)) = map.next_key_seed(Key(&mut self.offsets))? {
            match key.as_ref() {
                "model" => {
                    self.once(1, "model")?;
                    match map.next_value_seed(ScalarSeed(&mut self.offsets))? {
                        Scalar::Text(text, span) => {
                            self.head.model = Some(text);
                            self.head.model_span = Some(span.start.saturating_sub(1)..span.end + 1);
                        }
                        Scalar::Null => {}
                        _ => return Err(self.refuse(ParseError::WrongType("model"))),
                    }
                }
                "stream" => {
                    self.once(2, "stream")?;
                    match map.next_value_seed(ScalarSeed(&mut self.offsets))? {
                        Scalar::Bool(stream) => self.head.stream = stream,
                        Scalar::Null => {}
                        _ => return Err(self.refuse(ParseError::WrongType("stream"))),
                    }
                }
                "include_usage" => {
                    let value = map.next_value_seed(ScalarSeed(&mut self.offsets))?;
                    self.head.include_usage |= matches!(value, Scalar::Bool(true));
                }
                "stream_options" => {
                    let include = map.next_value_seed(StreamOptions(&mut self.offsets))?;
                    self.head.include_usage |= include;
                }
                "max_tokens" | "max_completion_tokens" | "max_output_tokens" => {
                    let value = map.next_value_seed(ScalarSeed(&mut self.offsets))?;
                    self.larger(value);
                }
                other => {
                    // Go servers match members without regard to case: `Model` beside `model` would steer past us.
                    if other.eq_ignore_ascii_case("model") {
                        return Err(self.refuse(ParseError::Ambiguous("model")));
                    }
                    if other.eq_ignore_ascii_case("stream") {
                        return Err(self.refuse(ParseError::Ambiguous("stream")));
                    }
                    map.next_value_seed(Skip(&mut self.offsets))?;
                }
            }
        }
        Ok(())
    }
}

/// A member name, with its place.
pub(super) struct Key<'w, 'de>(pub(super) &'w mut Offsets<'de>);

impl<'de> DeserializeSeed<'de> for Key<'_, 'de> {
    type Value = (Cow<'de, str>, Range<usize>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key<'_, 'de> {
    type Value = (Cow<'de, str>, Range<usize>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        let span = self.0.borrowed(text);
        Ok((Cow::Borrowed(text), span))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let span = self.0.escaped();
        Ok((Cow::Owned(text.to_owned()), span))
    }
}

/// A value that should be a scalar; anything nested is walked over.
pub(super) enum Scalar<'de> {
    Text(Cow<'de, str>, Range<usize>),
    Bool(bool),
    /// A whole number; fractions are rounded up, negative ones count as nested.
    Number(u64),
    Null,
    Other,
}

pub(super) struct ScalarSeed<'w, 'de>(pub(super) &'w mut Offsets<'de>);

impl<'de> DeserializeSeed<'de> for ScalarSeed<'_, 'de> {
    type Value = Scalar<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ScalarSeed<'_, 'de> {
    type Value = Scalar<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        let span = self.0.borrowed(text);
        Ok(Scalar::Text(Cow::Borrowed(text), span))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        let span = self.0.escaped();
        Ok(Scalar::Text(Cow::Owned(text.to_owned()), span))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Number(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(u64::try_from(value).map_or(Scalar::Other, Scalar::Number))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        // `as` saturates, so 1e300 is u64::MAX and NaN cannot occur in JSON.
        Ok(if value >= 0.0 { Scalar::Number(value.ceil() as u64) } else { Scalar::Other })
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        Skip(self.0).visit_seq(seq)?;
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Skip(self.0).visit_map(map)?;
        Ok(Scalar::Other)
    }
}

/// `stream_options`: whether it asks for usage.
struct StreamOptions<'w, 'de>(&'w mut Offsets<'de>);

impl<'de> DeserializeSeed<'de> for StreamOptions<'_, 'de> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StreamOptions<'_, 'de> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        let mut include = false;
        while let Some((key, _)) = map.next_key_seed(Key(self.0))? {
            let value = map.next_value_seed(ScalarSeed(self.0))?;
            include |= key == "include_usage" && matches!(value, Scalar::Bool(true));
        }
        Ok(include)
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

/// Walks over a value. Unlike serde's `IgnoredAny` it validates strings and bounds depth, so that what `head` accepts is
/// what the walk over texts accepts.
pub(super) struct Skip<'w, 'de>(pub(super) &'w mut Offsets<'de>);

impl<'de> DeserializeSeed<'de> for Skip<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skip<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.0.borrowed(text);
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        self.0.escaped();
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Skip(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key_seed(Key(self.0))?.is_some() {
            map.next_value_seed(Skip(self.0))?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::wire::json::set_string;
    use bytes::Bytes;
    use proptest::prelude::*;

    #[test]
    fn steering_members() {
        let body = br#"{"messages":[{"role":"user","content":"a \"model\": \"x\""}], "max_tokens":5,"max_completion_tokens":9.0,
            "stream":true,"stream_options":{"include_usage":true,"x":[1,{}]},"model" : "gpt-4o"}"#;
        let head = head(body).unwrap();
        assert!(matches!(head.model, Some(Cow::Borrowed("gpt-4o"))));
        assert_eq!(&body[head.model_span.clone().unwrap()], br#""gpt-4o""#);
        assert!(head.stream && head.include_usage);
        assert_eq!(head.max_tokens, Some(9));
    }

    #[test]
    fn an_escaped_model_is_found_where_it_stands() {
        let body = Bytes::from_static(br#"{"a\n":"\"","n":[1.5,true,null],"mod\u0065l":"g\u0070t","z":1}"#);
        let head = head(&body).unwrap();
        assert_eq!(head.model.as_deref(), Some("gpt"));
        let changed = set_string(&body, head.model_span.unwrap(), "q\"\n");
        assert_eq!(&changed[..], br#"{"a\n":"\"","n":[1.5,true,null],"mod\u0065l":"q\"\n","z":1}"#);
    }

    #[test]
    fn what_parsers_would_read_differently_is_refused() {
        for (body, expected) in [
            (r#"{"model":"a","model":"b"}"#, Some(ParseError::Ambiguous("model"))),
            (r#"{"model":"a","mod\u0065l":"b"}"#, Some(ParseError::Ambiguous("model"))),
            (r#"{"model":"a","MODEL":"b"}"#, Some(ParseError::Ambiguous("model"))),
            (r#"{"stream":false,"stream":true}"#, Some(ParseError::Ambiguous("stream"))),
            (r#"{"model":5}"#, Some(ParseError::WrongType("model"))),
            (r#"{"stream":"yes"}"#, Some(ParseError::WrongType("stream"))),
            (r"[]", Some(ParseError::NotAnObject)),
            (r#""x""#, Some(ParseError::NotAnObject)),
            ("null", Some(ParseError::NotAnObject)),
            (r#"{"model":"a"} {"model":"b"}"#, None),
            (r#"{"model":"a"}x"#, None),
            ("{\"model\":\"a\u{1}\"}", None),
            (r#"{"model":"\ud800"}"#, None),
            (r#"{"a":"\ud800"}"#, None),
            ("\u{feff}{}", None),
            ("", None),
        ] {
            let error = head(body.as_bytes()).expect_err(body);
            match expected {
                Some(expected) => assert_eq!(error, expected, "{body}"),
                None => assert!(matches!(error, ParseError::Syntax { .. }), "{body}: {error}"),
            }
        }
        assert!(head(b"{\"a\":\"\xff\"}").is_err());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        assert!(head(deep.as_bytes()).is_err());
        assert_eq!(head(br#"{"model":null,"stream":null}"#).unwrap(), Head::default());
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = head(&body);
        }

        #[test]
        fn never_panics_near_json(body in r#"[{}\[\]",:a-c\\u0-9 modelstrun]{0,60}"#) {
            let _ = head(body.as_bytes());
        }

        #[test]
        fn the_span_is_the_model(model in any::<String>(), before in any::<String>(), new in any::<String>()) {
            let quote = |s: &str| serde_json::to_string(s).unwrap();
            let body = Bytes::from(format!(r#"{{"x":{{"y":[{}]}},"model":{} , "z":{}}}"#, quote(&before), quote(&model), quote(&before)));
            let found = head(&body).unwrap();
            prop_assert_eq!(found.model.as_deref(), Some(model.as_str()));
            let changed = set_string(&body, found.model_span.unwrap(), &new);
            let again = head(&changed).unwrap();
            prop_assert_eq!(again.model.as_deref(), Some(new.as_str()));
        }
    }
}
