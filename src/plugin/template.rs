//! Texts with placeholders, compiled when the configuration is loaded and rendered for each request.

use std::borrow::Cow;

use super::host::{Host, HostError};
use super::manifest::StorageScope;
use super::{PluginError, View};

/// The longest caller's header that is inserted (bytes); it must not contain control characters either.
const LONGEST_HEADER: usize = 256;

/// A compiled text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The value of the first of these placeholders that has one.
    Value(Vec<Placeholder>),
}

/// A placeholder.
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
    /// A key in the metadata of the organisation, the team or the user; read from storage.
    Metadata(StorageScope, String),
    /// A header of the request, never a credential.
    Header(String),
    /// A tag that an earlier step attached.
    Tag(String),
    RequestId,
    TraceId,
    ClientIp,
    Route,
    Model,
    Provider,
    Endpoint,
    Dialect,
    Stream,
    /// On whose behalf the key acts.
    Kind,
    /// The model's name at the provider; read from storage.
    ModelSlug,
    /// The provider of the model; read from storage.
    ModelProvider,
    /// A text in single quotes.
    Literal(String),
}

/// All placeholders without a key; also used for messages.
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
    ("trace.id", Placeholder::TraceId),
    ("client_ip", Placeholder::ClientIp),
    ("route", Placeholder::Route),
    ("model", Placeholder::Model),
    ("provider", Placeholder::Provider),
    ("endpoint", Placeholder::Endpoint),
    ("dialect", Placeholder::Dialect),
    ("stream", Placeholder::Stream),
    ("caller.kind", Placeholder::Kind),
    ("model.slug", Placeholder::ModelSlug),
    ("model.provider", Placeholder::ModelProvider),
];

/// The prefixes of metadata placeholders, with the scopes that they need.
const METADATA: [(&str, StorageScope); 3] = [
    ("organisation.metadata.", StorageScope::Organisations),
    ("caller.team.metadata.", StorageScope::Teams),
    ("caller.user.metadata.", StorageScope::Users),
];

impl Template {
    /// Compiles a text for an instance. `{{` and `}}` are literal braces; `{a|b|'text'}` is the first of these with a value.
    ///
    /// # Errors
    /// A message for the operator: an unknown placeholder, a single brace, or metadata of a scope that is not granted.
    pub fn compile(text: &str, host: &Host) -> Result<Self, String> {
        let template = Self::parse(text)?;
        for placeholder in template.placeholders() {
            let (name, scope) = match placeholder {
                Placeholder::Metadata(StorageScope::Organisations, _) => ("organisation.metadata", StorageScope::Organisations),
                Placeholder::Metadata(StorageScope::Teams, _) => ("caller.team.metadata", StorageScope::Teams),
                Placeholder::Metadata(scope, _) => ("caller.user.metadata", *scope),
                Placeholder::ModelSlug | Placeholder::ModelProvider => ("what is known of models", StorageScope::Models),
                _ => continue,
            };
            if !may_read(host, scope) {
                return Err(format!("{name} needs `storage_access: [{}]`", scope.as_str()));
            }
        }
        Ok(template)
    }

    /// Compiles one placeholder, given by its name without braces, for an instance.
    ///
    /// # Errors
    /// As for [`Self::compile`].
    pub fn of_placeholder(name: &str, host: &Host) -> Result<Self, String> {
        if name.contains(['{', '}', '|', '\'']) {
            return Err(format!("`{name}` is not the name of a placeholder"));
        }
        Self::compile(&format!("{{{name}}}"), host)
    }

    fn parse(text: &str) -> Result<Self, String> {
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
            } else if let Some((names, after)) = from.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Value(names.split('|').map(Placeholder::parse).collect::<Result<_, _>>()?));
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

    fn placeholders(&self) -> impl Iterator<Item = &Placeholder> {
        self.0.iter().flat_map(|part| match part {
            Part::Text(_) => &[][..],
            Part::Value(choices) => choices.as_slice(),
        })
    }

    /// The text, if it contains no placeholders.
    pub fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Renders the text; `None` if a placeholder has no value for this request.
    ///
    /// # Errors
    /// Storage refuses, which [`Self::compile`] has ruled out.
    pub fn render(&self, cx: &View<'_>, host: &Host) -> Result<Option<String>, PluginError> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(choices) => {
                    let mut found = None;
                    for placeholder in choices {
                        found = placeholder.value(cx, host)?;
                        if found.is_some() {
                            break;
                        }
                    }
                    match found {
                        Some(value) => out.push_str(&value),
                        None => return Ok(None),
                    }
                }
            }
        }
        Ok(Some(out))
    }

    /// Renders the text as the value of a header: non-ASCII bytes are percent-encoded.
    ///
    /// # Errors
    /// The value contains control characters; else as for [`Self::render`].
    pub fn render_header(&self, cx: &View<'_>, host: &Host) -> Result<Option<String>, PluginError> {
        self.render(cx, host)?.map(header_value).transpose()
    }
}

fn header_value(value: String) -> Result<String, PluginError> {
    if value.chars().any(char::is_control) {
        return Err(PluginError::failed("a header value would have control characters"));
    }
    if value.is_ascii() {
        return Ok(value);
    }
    let mut out = String::with_capacity(value.len() + 8);
    for byte in value.bytes() {
        if byte.is_ascii() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(out)
}

fn may_read(host: &Host, scope: StorageScope) -> bool {
    let storage = host.storage();
    let refused = match scope {
        StorageScope::Organisations => storage.organisation("").err(),
        StorageScope::Teams => storage.team("", "").err(),
        StorageScope::Models => storage.model("", "").err(),
        _ => storage.user("", "").err(),
    };
    !matches!(refused, Some(HostError::NotGranted(_)))
}

impl Placeholder {
    fn parse(name: &str) -> Result<Self, String> {
        if let Some(text) = name.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
            return Ok(Self::Literal(text.to_owned()));
        }
        let keyed = |prefix: &str| name.strip_prefix(prefix).filter(|key| !key.is_empty()).map(str::to_owned);
        if let Some((key, scope)) = METADATA.iter().find_map(|(prefix, scope)| Some((keyed(prefix)?, scope))) {
            return Ok(Self::Metadata(*scope, key));
        }
        if let Some(key) = keyed("header.") {
            return Ok(Self::Header(key));
        }
        if let Some(key) = keyed("tag.") {
            return Ok(Self::Tag(key));
        }
        KNOWN.iter().find(|(known, _)| *known == name).map(|(_, placeholder)| placeholder.clone()).ok_or_else(|| {
            let known: Vec<&str> = KNOWN.iter().map(|(known, _)| *known).collect();
            format!(
                "unknown placeholder {{{name}}}; known are {}, organisation.metadata.<key>, caller.team.metadata.<key>, \
                 caller.user.metadata.<key>, header.<name> and tag.<key>",
                known.join(", ")
            )
        })
    }

    fn value<'v>(&'v self, cx: &'v View<'_>, host: &Host) -> Result<Option<Cow<'v, str>>, PluginError> {
        let caller = cx.caller();
        let team = || caller.and_then(|caller| caller.team.as_ref());
        let user = || caller.and_then(|caller| caller.user.as_ref());
        let own = |text: String| Some(Cow::Owned(text));
        Ok(match self {
            Self::KeyId => caller.map(|caller| Cow::Borrowed(&*caller.key_id)),
            Self::KeyName => caller.map(|caller| Cow::Borrowed(&*caller.key_name)),
            Self::TeamId => team().map(|team| Cow::Borrowed(&*team.id)),
            Self::TeamName => team().map(|team| Cow::Borrowed(&*team.name)),
            Self::UserId => user().map(|user| Cow::Borrowed(&*user.id)),
            Self::UserName => user().map(|user| Cow::Borrowed(&*user.name)),
            Self::OrganisationId => caller.map(|caller| Cow::Borrowed(&*caller.organisation.id)),
            Self::OrganisationName => caller.map(|caller| Cow::Borrowed(&*caller.organisation.name)),
            Self::Metadata(scope, key) => {
                let Some(caller) = caller else { return Ok(None) };
                let (storage, organisation) = (host.storage(), &*caller.organisation.id);
                let value = match scope {
                    StorageScope::Organisations => storage.organisation(organisation)?.and_then(|o| o.metadata.get(key)),
                    StorageScope::Teams => match team() {
                        Some(team) => storage.team(organisation, &team.id)?.and_then(|t| t.metadata.get(key)),
                        None => None,
                    },
                    _ => match user() {
                        Some(user) => storage.user(organisation, &user.id)?.and_then(|u| u.metadata.get(key)),
                        None => None,
                    },
                };
                value.cloned().map(Cow::Owned)
            }
            Self::Header(name) => {
                let plain = |text: &&str| !text.is_empty() && text.len() <= LONGEST_HEADER && !text.chars().any(char::is_control);
                cx.header(name).filter(plain).map(Cow::Borrowed)
            }
            Self::Tag(key) => cx.tags().iter().find(|(known, _)| known == key).map(|(_, value)| Cow::Borrowed(value.as_str())),
            Self::RequestId => own(cx.request_id().to_string()),
            Self::TraceId => cx.trace_id().map(Cow::Borrowed),
            Self::ClientIp => cx.client_ip().map(|ip| Cow::Owned(ip.to_string())),
            Self::Route => Some(Cow::Borrowed(cx.route())),
            Self::Model => cx.model().map(Cow::Borrowed),
            Self::Provider => cx.provider().map(Cow::Borrowed),
            Self::Endpoint => Some(Cow::Borrowed(cx.endpoint().as_str())),
            Self::Dialect => Some(Cow::Borrowed(cx.dialect().as_str())),
            Self::Stream => Some(Cow::Borrowed(if cx.streaming() { "true" } else { "false" })),
            Self::Kind => caller.map(|caller| Cow::Borrowed(caller.kind.as_str())),
            Self::ModelSlug | Self::ModelProvider => {
                let Some((caller, model)) = caller.zip(cx.model()) else { return Ok(None) };
                let entry = host.storage().model(&caller.organisation.id, model)?;
                let slug = matches!(self, Self::ModelSlug);
                entry.map(|entry| Cow::Owned(if slug { entry.slug.to_string() } else { entry.provider.to_string() }))
            }
            Self::Literal(text) => Some(Cow::Borrowed(text)),
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
        assert_eq!(Template::parse("{model}").unwrap().0, [Part::Value(vec![Placeholder::Model])]);
        let choices = vec![Placeholder::Tag("t".into()), Placeholder::Literal("none".into())];
        assert_eq!(Template::parse("{tag.t|'none'}").unwrap().0, [Part::Value(choices)]);
        for wrong in ["{", "}", "a}b", "{model", "{}", "{models}", "{organisation.metadata.}", "{caller.secret}", "{model|}", "{'a}"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_storage_does_not_open_is_told_at_load() {
        for (text, scope) in [
            ("{organisation.metadata.a}", "organisations"),
            ("{model|caller.team.metadata.a}", "teams"),
            ("{caller.user.metadata.a}", "users"),
            ("{model.slug}", "models"),
        ] {
            let error = Template::compile(text, &Host::detached()).unwrap_err();
            assert!(error.ends_with(&format!("needs `storage_access: [{scope}]`")), "{error}");
        }
        assert!(Template::compile("{model}", &Host::detached()).is_ok());
    }
}
