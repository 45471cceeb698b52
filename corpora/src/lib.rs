//! The embedded default model, its tokenizer, held-out text and prompts.
