//! Conditions: a fact with operators, or several conditions combined.

use crate::plugin::prelude::*;

/// Most nested levels; deeper conditions are taken for a mistake.
const DEEPEST: usize = 16;

/// A condition: either one of `all`, `any` and `not`, or a `fact` with operators, all of which must hold. A fact without a
/// value meets no operator but `exists: false`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Condition {
    /// Every one of these holds.
    all: Option<Vec<Condition>>,
    /// At least one of these holds.
    any: Option<Vec<Condition>>,
    /// This does not hold.
    not: Option<Box<Condition>>,
    /// What is asked about, such as `organisation.metadata.tier`, `caller.team.name`, `model`, `header.x-project`.
    fact: Option<String>,
    /// It is this.
    eq: Option<String>,
    /// It is one of these.
    #[serde(rename = "in")]
    one_of: Option<Vec<String>>,
    /// It begins with this.
    prefix: Option<String>,
    /// It fits this pattern of `*` and `?`.
    glob: Option<Glob>,
    /// It has a value, or has none.
    exists: Option<bool>,
    /// As a number, it is greater.
    gt: Option<f64>,
    /// As a number, it is greater or equal.
    gte: Option<f64>,
    /// As a number, it is less.
    lt: Option<f64>,
    /// As a number, it is less or equal.
    lte: Option<f64>,
}

/// A compiled condition.
pub enum Test {
    All(Vec<Test>),
    Any(Vec<Test>),
    Not(Box<Test>),
    Fact(Template, Vec<Operator>),
}

/// A comparison with a fact.
pub enum Operator {
    Equals(String),
    OneOf(Vec<String>),
    Prefix(String),
    Glob(Glob),
    Exists(bool),
    Number(Order, f64),
}

/// A comparison of numbers.
#[derive(Debug, Clone, Copy)]
pub enum Order {
    Greater,
    AtLeast,
    Less,
    AtMost,
}

impl Condition {
    /// Compiles the condition at a path of the configuration.
    pub fn compile(self, at: &str, host: &Host, depth: usize) -> Result<Test, BuildError> {
        if depth > DEEPEST {
            return Err(BuildError::at(at, format!("conditions are nested at most {DEEPEST} deep")));
        }
        let wrong = |message: &str| BuildError::at(at, message);
        let forms = [self.all.is_some(), self.any.is_some(), self.not.is_some(), self.fact.is_some()];
        if forms.into_iter().filter(|given| *given).count() != 1 {
            return Err(wrong("exactly one of all, any, not and fact"));
        }
        let several = |name: &str, conditions: Vec<Condition>| {
            if conditions.is_empty() {
                return Err(BuildError::at(format!("{at}.{name}"), "no condition"));
            }
            let compile = |(place, condition): (usize, Condition)| condition.compile(&format!("{at}.{name}.{place}"), host, depth + 1);
            conditions.into_iter().enumerate().map(compile).collect::<Result<Vec<_>, _>>()
        };
        let Self { all, any, not, fact, eq, one_of, prefix, glob, exists, gt, gte, lt, lte } = self;
        let mut operators = Vec::new();
        operators.extend(eq.map(Operator::Equals));
        operators.extend(one_of.map(Operator::OneOf));
        operators.extend(prefix.map(Operator::Prefix));
        operators.extend(glob.map(Operator::Glob));
        operators.extend(exists.map(Operator::Exists));
        for (order, bound) in [(Order::Greater, gt), (Order::AtLeast, gte), (Order::Less, lt), (Order::AtMost, lte)] {
            operators.extend(bound.map(|bound| Operator::Number(order, bound)));
        }
        if let Some(fact) = fact {
            if operators.is_empty() {
                return Err(wrong("a fact needs one of eq, in, prefix, glob, exists, gt, gte, lt and lte"));
            }
            let template = Template::of_placeholder(&fact, host).map_err(|error| BuildError::at(format!("{at}.fact"), error))?;
            return Ok(Test::Fact(template, operators));
        }
        if !operators.is_empty() {
            return Err(wrong("an operator without a fact"));
        }
        match (all, any, not) {
            (Some(all), _, _) => several("all", all).map(Test::All),
            (_, Some(any), _) => several("any", any).map(Test::Any),
            (_, _, Some(not)) => Ok(Test::Not(Box::new(not.compile(&format!("{at}.not"), host, depth + 1)?))),
            _ => Err(wrong("exactly one of all, any, not and fact")),
        }
    }
}

impl Test {
    /// Whether the condition holds for a request.
    pub fn holds(&self, cx: &View<'_>, host: &Host) -> Result<bool, PluginError> {
        match self {
            Self::All(tests) => {
                for test in tests {
                    if !test.holds(cx, host)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Any(tests) => {
                for test in tests {
                    if test.holds(cx, host)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Not(test) => Ok(!test.holds(cx, host)?),
            Self::Fact(fact, operators) => {
                let value = fact.render(cx, host)?;
                Ok(operators.iter().all(|operator| operator.holds(value.as_deref())))
            }
        }
    }
}

impl Operator {
    fn holds(&self, value: Option<&str>) -> bool {
        if let Self::Exists(wanted) = self {
            return value.is_some() == *wanted;
        }
        let Some(value) = value else { return false };
        match self {
            Self::Equals(text) => value == text,
            Self::OneOf(texts) => texts.iter().any(|text| text == value),
            Self::Prefix(text) => value.starts_with(text.as_str()),
            Self::Glob(glob) => glob.matches(value),
            Self::Exists(_) => true,
            Self::Number(order, bound) => value.trim().parse::<f64>().is_ok_and(|number| match order {
                Order::Greater => number > *bound,
                Order::AtLeast => number >= *bound,
                Order::Less => number < *bound,
                Order::AtMost => number <= *bound,
            }),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn operators_hold_for_values_and_a_missing_value_meets_none() {
        let pattern = Glob::parse("eu-*").unwrap();
        for (operator, yes, no) in [
            (Operator::Equals("gold".into()), "gold", "Gold"),
            (Operator::OneOf(vec!["a".into(), "b".into()]), "b", "ab"),
            (Operator::Prefix("eu-".into()), "eu-west", "us-eu-"),
            (Operator::Glob(pattern), "eu-west", "eu"),
            (Operator::Number(Order::Greater, 2.0), "2.5", "2"),
            (Operator::Number(Order::AtLeast, 2.0), "2", "1.9"),
            (Operator::Number(Order::Less, 2.0), "-3", "2"),
            (Operator::Number(Order::AtMost, 2.0), "2", "three"),
            (Operator::Number(Order::AtMost, 2.0), " 1 ", "NaN"),
        ] {
            assert!(operator.holds(Some(yes)) && !operator.holds(Some(no)) && !operator.holds(None), "{yes} {no}");
        }
        assert!(Operator::Exists(false).holds(None) && !Operator::Exists(false).holds(Some("")));
        assert!(Operator::Exists(true).holds(Some("")) && !Operator::Exists(true).holds(None));
    }

    #[test]
    fn a_condition_is_one_thing() {
        let compile = |text: &str| serde_json::from_str::<Condition>(text).unwrap().compile("when", &Host::detached(), 0);
        assert!(compile(r#"{"all":[{"fact":"model","eq":"a"},{"not":{"any":[{"fact":"route","glob":"x*"}]}}]}"#).is_ok());
        let mut deep = r#"{"fact":"model","eq":"a"}"#.to_owned();
        for _ in 0..17 {
            deep = format!(r#"{{"not":{deep}}}"#);
        }
        for (text, part) in [
            ("{}", "when: exactly one"),
            (r#"{"fact":"model"}"#, "when: a fact needs one"),
            (r#"{"all":[]}"#, "when.all: no condition"),
            (r#"{"all":[],"fact":"model","eq":"a"}"#, "when: exactly one"),
            (r#"{"not":{"fact":"model","eq":"a"},"eq":"b"}"#, "when: an operator without a fact"),
            (r#"{"any":[{"fact":"caller.secret","eq":"a"}]}"#, "when.any.0.fact: unknown placeholder"),
            (r#"{"fact":"model}{route","eq":"a"}"#, "when.fact: `model}{route`"),
            (deep.as_str(), "nested at most"),
        ] {
            let error = compile(text).err().unwrap().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
