//! A statement with its values, written once for both engines.

use std::borrow::Cow;
use std::fmt::Write;

/// Marks a placeholder in the text. Each engine gets its own form: PostgreSQL has only numbered placeholders, and SQLite
/// looks these up one by one, which for thousands of values costs more than writing them.
const NEXT: char = '\u{1}';

/// One value.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Vec<u8>),
    Flag(bool),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(Some(value))
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Int(Some(value.into()))
    }
}

/// A count beyond `i64` does not occur; it would saturate instead of becoming negative.
impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Int(Some(i64::try_from(value).unwrap_or(i64::MAX)))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Int(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(Some(value.to_owned()))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(Some(value.clone()))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(Some(value))
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Self {
        Self::Text(value.clone())
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Bytes(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(value.to_vec())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Flag(value)
    }
}

/// A statement under construction. Values never become part of its text. A text has placeholders either of its own (`$1`)
/// or from [`Self::bind`], not both.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub text: Cow<'static, str>,
    pub values: Vec<Value>,
}

impl Statement {
    /// A statement without values, or with `$1, $2, …` whose values follow in that order by [`Self::value`].
    pub fn fixed(text: &'static str) -> Self {
        Self { text: Cow::Borrowed(text), values: Vec::new() }
    }

    /// Adds the value of the next placeholder of a fixed text.
    pub fn value(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Appends text.
    pub fn push(&mut self, text: &str) -> &mut Self {
        self.text.to_mut().push_str(text);
        self
    }

    /// Appends a placeholder and its value.
    pub fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.to_mut().push(NEXT);
        self
    }

    /// The text with placeholders for SQLite (`?`) or PostgreSQL (`$1`), and the values.
    pub fn parts(self, numbered: bool) -> (String, Vec<Value>) {
        let mut text = String::with_capacity(self.text.len() * 2);
        for (number, piece) in self.text.split(NEXT).enumerate() {
            match (number, numbered) {
                (0, _) => {}
                (_, false) => text.push('?'),
                (_, true) => {
                    let _ = write!(text, "${number}");
                }
            }
            text.push_str(piece);
        }
        (text, self.values)
    }

    /// Appends rows of values, `(…), (…)`, for `VALUES`.
    pub fn rows<R, const N: usize>(&mut self, rows: impl IntoIterator<Item = R>) -> &mut Self
    where
        R: Into<[Value; N]>,
    {
        for (n, row) in rows.into_iter().enumerate() {
            self.push(if n == 0 { "(" } else { ", (" });
            for (m, value) in row.into().into_iter().enumerate() {
                if m > 0 {
                    self.push(", ");
                }
                self.bind(value);
            }
            self.push(")");
        }
        self
    }

    /// Appends a list of values, `$1, $2`, for `IN (…)`.
    pub fn list<V: Into<Value>>(&mut self, values: impl IntoIterator<Item = V>) -> &mut Self {
        for (n, value) in values.into_iter().enumerate() {
            if n > 0 {
                self.push(", ");
            }
            self.bind(value);
        }
        self
    }
}

/// The conditions of a query, joined by `AND`; whether there is one already.
#[derive(Debug, Default)]
pub(super) struct Conditions(bool);

impl Conditions {
    /// Begins a condition: `WHERE` the first time, `AND` later.
    pub fn and<'s>(&mut self, statement: &'s mut Statement, text: &str) -> &'s mut Statement {
        let word = if std::mem::replace(&mut self.0, true) { " AND " } else { " WHERE " };
        statement.push(word).push(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_gets_its_own_placeholders() {
        let mut statement = Statement::fixed("INSERT INTO t VALUES ");
        statement.rows((0..2).map(|n| -> [Value; 2] { [i64::from(n).into(), "x".into()] })).push(" RETURNING a");
        let (numbered, values) = statement.clone().parts(true);
        assert_eq!((numbered.as_str(), values.len()), ("INSERT INTO t VALUES ($1, $2), ($3, $4) RETURNING a", 4));
        assert_eq!(statement.parts(false).0, "INSERT INTO t VALUES (?, ?), (?, ?) RETURNING a");
        assert_eq!(Statement::fixed("SELECT $1").value(1u32).parts(false).0, "SELECT $1");
    }
}
