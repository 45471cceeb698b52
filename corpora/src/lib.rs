//! What comes with the watermark toolkit: the embedded default model and its tokenizer, held-out
//! neutral text, and prompts. `manifest.toml` has source, licence and digest of each; a test
//! enforces it.

/// The embedded teacher: a GGUF file of llama architecture with eight-bit weights.
pub fn teacher() -> &'static [u8] {
    include_bytes!("../data/teacher.gguf")
}

/// Its tokenizer, a `tokenizer.json` of 4096 ids; id 0 starts and ends a document.
pub fn tokenizer_json() -> &'static [u8] {
    include_bytes!("../data/tokenizer.json")
}

/// Human text that the teacher never read: one passage a line.
pub fn held_out() -> impl Iterator<Item = &'static str> {
    include_str!("../data/held_out.txt").lines()
}

/// First words for a teacher to go on from, taken from held-out passages.
pub fn prompts() -> impl Iterator<Item = &'static str> + Clone {
    include_str!("../data/prompts.txt").lines()
}

/// Single first words to ask a suspect with: they exclude almost no window.
pub fn openings() -> impl Iterator<Item = &'static str> + Clone {
    include_str!("../data/openings.txt").lines()
}

/// The names of the packaged sets of prompts.
pub const PROMPT_SETS: [&str; 4] = ["prose", "code", "reasoning", "dialogue"];

/// A packaged set of prompts to ask a suspect with, by name: one object `{"id", "prompt"}` a line. They
/// draw long text of high entropy and depend on no key.
pub fn prompt_set(name: &str) -> Option<&'static str> {
    Some(match name {
        "prose" => include_str!("../prompts/prose.jsonl"),
        "code" => include_str!("../prompts/code.jsonl"),
        "reasoning" => include_str!("../prompts/reasoning.jsonl"),
        "dialogue" => include_str!("../prompts/dialogue.jsonl"),
        _ => return None,
    })
}

/// The manifest, as TOML.
pub fn manifest() -> &'static str {
    include_str!("../manifest.toml")
}
