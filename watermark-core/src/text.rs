//! READ: text to token ids.

/// Text to token ids and back, under one fixed vocabulary.
pub trait Tokenizer: Send + Sync {
    /// Token ids of `text`, without special tokens added.
    fn encode(&self, text: &str) -> Vec<u32>;
    /// Text of `tokens`; bytes that are no valid UTF-8 become U+FFFD.
    fn decode(&self, tokens: &[u32]) -> String;
    /// Number of ids: every id is below it.
    fn vocab_size(&self) -> usize;
}
