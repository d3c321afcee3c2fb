//! `providers`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SecretRef, Span};
use crate::route::ProviderKind;

/// Who serves models.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProviderEntry {
    /// Unique name.
    pub name: String,
    /// What it speaks.
    #[serde(rename = "type")]
    pub kind: ProviderType,
    /// Where it lives; openai, anthropic, gemini, mistral and huggingface have a default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// The credential it is called with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<SecretRef>,
    /// Longest silence of one attempt.
    #[serde(default = "timeout")]
    pub timeout: Span,
    /// Longest time for connecting, TLS included.
    #[serde(default = "connect_timeout")]
    pub connect_timeout: Span,
    /// Serve its models; off means 403 `provider_disabled`.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Speak HTTP/2 (by ALPN with https, by prior knowledge with http).
    #[serde(default)]
    pub http2: bool,
    /// Ask streams of chats and completions for their usage (`stream_options.include_usage`) where the gateway counts it; on
    /// by default for all who know the option (openai, azure_openai, vllm, huggingface, custom).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream_usage: Option<bool>,
    /// PEM file of the authorities that sign its certificate, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

fn timeout() -> Span {
    Span::seconds(120)
}

fn connect_timeout() -> Span {
    Span::seconds(5)
}

fn yes() -> bool {
    true
}

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProviderType {
    /// api.openai.com.
    #[serde(alias = "OPENAI")]
    Openai,
    /// Azure OpenAI.
    #[serde(alias = "AZURE_OPENAI")]
    AzureOpenai,
    /// Anthropic.
    #[serde(alias = "ANTHROPIC")]
    Anthropic,
    /// Google Gemini; `google` is the same.
    #[serde(alias = "google", alias = "GEMINI", alias = "GOOGLE")]
    Gemini,
    /// vLLM.
    #[serde(alias = "VLLM")]
    Vllm,
    /// Mistral.
    #[serde(alias = "MISTRAL")]
    Mistral,
    /// Hugging Face's router.
    #[serde(alias = "HUGGINGFACE")]
    Huggingface,
    /// Anything else that speaks the OpenAI dialect.
    #[serde(alias = "CUSTOM")]
    Custom,
}

impl From<ProviderType> for ProviderKind {
    fn from(written: ProviderType) -> Self {
        match written {
            ProviderType::Openai => Self::OpenAi,
            ProviderType::AzureOpenai => Self::AzureOpenAi,
            ProviderType::Anthropic => Self::Anthropic,
            ProviderType::Gemini => Self::Gemini,
            ProviderType::Vllm => Self::Vllm,
            ProviderType::Mistral => Self::Mistral,
            ProviderType::Huggingface => Self::HuggingFace,
            ProviderType::Custom => Self::Custom,
        }
    }
}
