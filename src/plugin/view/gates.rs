//! The views at the gates on a request's path: what a plugin may do there, beyond what [`View`] offers at every gate.

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
    /// The view at `pre_route`: the model may still be changed.
    PreRoute
}
gate_view! {
    /// The view at `pre_upstream`: the provider and the model are settled.
    PreUpstream
}
gate_view! {
    /// The view at `post_upstream`: the request as it was sent, and the answer.
    PostUpstream
}

impl PreRoute<'_> {
    /// Asks for another model of the caller's organisation. The grant is checked afterwards, for that model.
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

            /// Replaces parts of the request body: ranges in order and without overlap. For parts of strings it is cheaper than
            /// [`Self::set_body`]: if the JSON around them evidently stays intact, the body is not parsed again.
            ///
            /// # Errors
            /// As for [`Self::set_body`], or for a range that does not fit; nothing is changed then.
            pub fn edit_body(&mut self, edits: &[(Range<usize>, String)]) -> Result<(), PluginError> {
                self.0.patch_body(edits)
            }

            /// Sets a header of the request sent to the provider.
            ///
            /// # Errors
            /// Without `headers`, from a parallel step, for a malformed header, a credential or a framing header.
            pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), PluginError> {
                self.0.edit_request(name, Some(value))
            }

            /// Removes a header of the request sent to the provider.
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

    /// The provider's status. It cannot be changed: a step refuses instead.
    pub fn status(&self) -> u16 {
        self.response().map_or(0, |response| response.status)
    }

    /// A header of the answer, including edits of earlier steps; never `set-cookie`.
    pub fn response_header(&self, name: &str) -> Option<&str> {
        let response = self.response()?;
        if name.eq_ignore_ascii_case("set-cookie") {
            return None;
        }
        edited(&self.0.draft().response_edits, &response.headers, name)
    }

    /// The whole body of the answer, or `None` if it is streamed.
    ///
    /// # Errors
    /// Without `read_response`.
    pub fn response_body(&self) -> Result<Option<&Bytes>, PluginError> {
        self.0.need(Need::ReadResponse)?;
        Ok(self.response().and_then(|response| response.body.as_ref()))
    }

    /// Replaces the whole body of the answer.
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

    /// Sets a header of the answer sent to the caller.
    ///
    /// # Errors
    /// Without `headers`, from a parallel step, for a malformed header, a credential or a framing header.
    pub fn set_response_header(&mut self, name: &str, value: &str) -> Result<(), PluginError> {
        self.edit_response(name, Some(value))
    }

    /// Removes a header of the answer sent to the caller.
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
