//! Everything that a plugin under `plugins/` may import: `use crate::plugin::prelude::*;`, or from another crate
//! `use odock_edge::plugin::prelude::*;`.

pub use std::sync::Arc;
pub use std::time::Duration;

pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
pub use schemars::JsonSchema;
pub use serde::{Deserialize, Serialize};
pub use serde_json::{Value, json};
pub use {aho_corasick, base64, jsonschema, log, memchr, parking_lot, regex, ring, schemars, serde, serde_json};

pub use super::delivery::{Delivered, Delivery, DeliveryId, Notice, retry_after};
pub use super::event::{EVENTS, Event};
pub use super::host::{Host, HostError, HttpRequest, HttpResponse};
pub use super::manifest::{BuildContext, BuildError, Manifest, Need, StorageScope, schema_of};
pub use super::outlet::{Carrier, Mail, MailSecurity, Relay, Transmission};
pub use super::storage::{BudgetStanding, PolicyInForce, Shelf, SqlValue, Storage, Tables};
pub use super::view::{PostResponse, PostUpstream, PreRoute, PreUpstream, View, is_the_gateways};
pub use super::{Destination, Digester, Glob, Named, Receiver, Remembered, Subject, Tail, Template, Words, hex};
pub use super::{Frame, OwnedFrame, Plugin, PluginError, PluginResult, StreamFilter, StreamVerdict, Verdict};
pub use crate::config::{Size, Span};
pub use crate::error::{Code, Denial};
pub use crate::gate::{Decision, End, Execution, External, Finished, Gate, Outcome, RequestId, Style};
pub use crate::identity::{Caller, Organisation, Secret, Team, User};
pub use crate::store::records::{UsageBy, UsageFilter, UsageSum};
pub use crate::telemetry::log::{Fields as LogFields, line as log_line};
pub use crate::telemetry::time::Rfc3339;
pub use crate::wire::{self, Dialect, Endpoint, Usage};
