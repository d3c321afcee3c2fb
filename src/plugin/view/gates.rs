//! What a plugin may do at each gate of a request's path, on top of what every view shows.

use std::ops::{Deref, DerefMut, Range};

use bytes::Bytes;

use super::{View, edited, header_edit};
use crate::gate::Response;
use crate::plugin::{Need, PluginError};

macro_rules! gate_view {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name<'a>(pub(crate) View<'a>);

        impl<'a> Deref for $name<'a> {
            type Target = View<'a>;
            fn deref(&self) -> &View<'a> {
                &self.0
            }
        }

        impl DerefMut for $name<'_> {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.0
            }
        }
    };
}

gate_view! {
    /// The view at `pre_route`: the model may still change.
    PreRoute
}
gate_view! {
    /// The view at `pre_upstream`: the provider is known, the model is settled.
    PreUpstream
}
gate_view! {
    /// The view at `post_upstream`: the request as it was sent, and the answer.
    PostUpstream
}

impl PreRoute<'_> {
    /// Asks for another model of the caller's organisation; grants are checked afterwards, for this one.
    ///
    /// # Errors
    /// Without `write_request`, or from a parallel step.
    pub fn set_model(&mut self, model: impl Into<String>) -> Result<(), PluginError> {
        let model = model.into();
        let draft = self.0.write(Need::WriteRequest)?;
        if draft.model.as_deref() != Some(model.as_str()) {
            draft.model = Some(model);
            self.0.trail.get_mut().changed_request = true;
        }
        Ok(())
    }
}

macro_rules! request_writes {
    ($($name:ident)*) => {$(
        impl $name<'_> {
            /// Replaces the request body.
            ///
            /// # Errors
            /// Without `write_request`, or from a parallel step.
            pub fn set_body(&mut self, body: impl Into<Bytes>) -> Result<(), PluginError> {
                self.0.replace_body(body.into())
            }

            /// Replaces parts of the request body: ranges in order and without overlap. To be preferred to [`Self::set_body`] for
            /// parts of strings: where it is plain that the JSON around them stays what it is nobody reads all of it again.
            ///
            /// # Errors
            /// As for [`Self::set_body`], or for a range that does not fit; then nothing is changed.
            pub fn edit_body(&mut self, edits: &[(Range<usize>, String)]) -> Result<(), PluginError> {
                self.0.patch_body(edits)
            }

            /// Sets a field of the head towards the provider.
            ///
            /// # Errors
            /// Without `headers`, from a parallel step, for a malformed field, a credential or a framing field.
            pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), PluginError> {
                self.0.edit_request(name, Some(value))
            }

            /// Removes a field from the head towards the provider.
            ///
            /// # Errors
            /// As for [`Self::set_header`].
            pub fn remove_header(&mut self, name: &str) -> Result<(), PluginError> {
                self.0.edit_request(name, None)
            }
        }
    )*};
}
request_writes!(PreRoute PreUpstream);

impl PostUpstream<'_> {
    fn response(&self) -> Option<&Response> {
        self.0.draft().response.as_ref()
    }

    /// The provider's status. It is the provider's to say: a step refuses, it does not rewrite.
    pub fn status(&self) -> u16 {
        self.response().map_or(0, |response| response.status)
    }

    /// A field of the answer's head, edits of earlier steps included; never `set-cookie`.
    pub fn response_header(&self, name: &str) -> Option<&str> {
        let response = self.response()?;
        if name.eq_ignore_ascii_case("set-cookie") {
            return None;
        }
        edited(&self.0.draft().response_edits, &response.headers, name)
    }

    /// The whole answer, or `None` if it is streamed.
    ///
    /// # Errors
    /// Without `read_response`.
    pub fn response_body(&self) -> Result<Option<&Bytes>, PluginError> {
        self.0.need(Need::ReadResponse)?;
        Ok(self.response().and_then(|response| response.body.as_ref()))
    }

    /// Replaces the whole answer.
    ///
    /// # Errors
    /// Without `write_response`, from a parallel step, or on a stream.
    pub fn set_response_body(&mut self, body: impl Into<Bytes>) -> Result<(), PluginError> {
        let body = body.into();
        let draft = self.0.write(Need::WriteResponse)?;
        let Some(held) = draft.response.as_mut().and_then(|response| response.body.as_mut()) else {
            return Err(PluginError::NotPossible("the answer is streamed"));
        };
        if *held != body {
            *held = body;
            self.0.trail.get_mut().changed_response = true;
        }
        Ok(())
    }

    /// Sets a field of the head towards the caller.
    ///
    /// # Errors
    /// Without `headers`, from a parallel step, for a malformed field, a credential or a framing field.
    pub fn set_response_header(&mut self, name: &str, value: &str) -> Result<(), PluginError> {
        self.edit_response(name, Some(value))
    }

    /// Removes a field from the head towards the caller.
    ///
    /// # Errors
    /// As for [`Self::set_response_header`].
    pub fn remove_response_header(&mut self, name: &str) -> Result<(), PluginError> {
        self.edit_response(name, None)
    }

    fn edit_response(&mut self, name: &str, value: Option<&str>) -> Result<(), PluginError> {
        let edit = header_edit(name, value)?;
        self.0.write(Need::Headers)?.response_edits.push(edit);
        self.0.trail.get_mut().changed_response = true;
        Ok(())
    }
}
