//! Texts with placeholders, compiled when the configuration is loaded.

use crate::plugin::prelude::*;

/// A text with its placeholders resolved to what they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Value(Placeholder),
}

/// What a placeholder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Placeholder {
    KeyId,
    KeyName,
    TeamId,
    TeamName,
    UserId,
    UserName,
    OrganisationId,
    OrganisationName,
    /// A key of the organisation's metadata; read through storage.
    OrganisationMetadata(String),
    RequestId,
    Route,
    Model,
    Provider,
    Endpoint,
}

/// Every placeholder, for messages.
const KNOWN: &[(&str, Placeholder)] = &[
    ("caller.key_id", Placeholder::KeyId),
    ("caller.key_name", Placeholder::KeyName),
    ("caller.team.id", Placeholder::TeamId),
    ("caller.team.name", Placeholder::TeamName),
    ("caller.user.id", Placeholder::UserId),
    ("caller.user.name", Placeholder::UserName),
    ("organisation.id", Placeholder::OrganisationId),
    ("organisation.name", Placeholder::OrganisationName),
    ("request.id", Placeholder::RequestId),
    ("route", Placeholder::Route),
    ("model", Placeholder::Model),
    ("provider", Placeholder::Provider),
    ("endpoint", Placeholder::Endpoint),
];

impl Template {
    /// Compiles a text. `{{` and `}}` are braces.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                plain.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                plain.push('}');
                rest = after;
            } else if let Some((name, after)) = from.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Value(Placeholder::parse(name)?));
                rest = after;
            } else {
                return Err("a brace stands alone; write {{ or }} for the character itself".to_owned());
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() || parts.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The text, if it has no placeholders.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether it reads what only storage knows.
    pub fn reads_organisations(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Value(Placeholder::OrganisationMetadata(_))))
    }

    /// The text with every placeholder filled in; `None` if one has no value for this request.
    pub fn render(&self, cx: &View<'_>, host: &Host) -> Result<Option<String>, PluginError> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(placeholder) => match placeholder.value(cx, host)? {
                    Some(value) => out.push_str(&value),
                    None => return Ok(None),
                },
            }
        }
        Ok(Some(out))
    }
}

impl Placeholder {
    fn parse(name: &str) -> Result<Self, String> {
        if let Some(key) = name.strip_prefix("organisation.metadata.").filter(|key| !key.is_empty()) {
            return Ok(Self::OrganisationMetadata(key.to_owned()));
        }
        KNOWN.iter().find(|(known, _)| *known == name).map(|(_, placeholder)| placeholder.clone()).ok_or_else(|| {
            let known: Vec<&str> = KNOWN.iter().map(|(known, _)| *known).collect();
            format!("unknown placeholder {{{name}}}; known are {} and organisation.metadata.<key>", known.join(", "))
        })
    }

    fn value(&self, cx: &View<'_>, host: &Host) -> Result<Option<String>, PluginError> {
        let caller = cx.caller();
        let team = || caller.and_then(|caller| caller.team.as_ref());
        let user = || caller.and_then(|caller| caller.user.as_ref());
        Ok(match self {
            Self::KeyId => caller.map(|caller| caller.key_id.to_string()),
            Self::KeyName => caller.map(|caller| caller.key_name.to_string()),
            Self::TeamId => team().map(|team| team.id.to_string()),
            Self::TeamName => team().map(|team| team.name.to_string()),
            Self::UserId => user().map(|user| user.id.to_string()),
            Self::UserName => user().map(|user| user.name.to_string()),
            Self::OrganisationId => caller.map(|caller| caller.organisation.id.to_string()),
            Self::OrganisationName => caller.map(|caller| caller.organisation.name.to_string()),
            Self::OrganisationMetadata(key) => match caller {
                None => None,
                Some(caller) => {
                    let storage = host.storage();
                    let organisation = storage.organisation(&caller.organisation.id)?;
                    organisation.and_then(|organisation| organisation.metadata.get(key)).cloned()
                }
            },
            Self::RequestId => Some(cx.request_id().to_string()),
            Self::Route => Some(cx.route().to_owned()),
            Self::Model => cx.model().map(str::to_owned),
            Self::Provider => cx.provider().map(str::to_owned),
            Self::Endpoint => Some(cx.endpoint().as_str().to_owned()),
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_checked_when_they_are_read() {
        assert_eq!(Template::parse("a {{b}} c").unwrap().literal(), Some("a {b} c"));
        assert_eq!(Template::parse("").unwrap().literal(), Some(""));
        assert_eq!(Template::parse("{model}").unwrap().0, [Part::Value(Placeholder::Model)]);
        assert!(Template::parse("x{organisation.metadata.cost_center}").unwrap().reads_organisations());
        for wrong in ["{", "}", "a}b", "{model", "{}", "{models}", "{organisation.metadata.}", "{caller.secret}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
