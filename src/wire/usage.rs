//! How many tokens an exchange used, as the provider told it or, failing that, as its text suggests.

/// Where the numbers of a [`Usage`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsageSource {
    /// The provider said so.
    Provider,
    /// Derived from the length of the text, four bytes a token: an answer that broke off, or a silent provider.
    Estimated,
    /// Nothing is known.
    #[default]
    None,
}

impl UsageSource {
    /// The stable name used in evidence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}

/// Tokens of one exchange, normalised over dialects: `input` includes `cached`, `output` includes `reasoning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// Tokens of the prompt that the provider read from its cache.
    pub cached: u64,
    /// Tokens of the answer that were reasoning.
    pub reasoning: u64,
    /// What the provider calls the total, else `input + output`.
    pub total: u64,
    /// Who says so.
    pub source: UsageSource,
}
