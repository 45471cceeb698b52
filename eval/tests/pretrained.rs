//! Pretrained models against llama.cpp, an implementation that shares nothing with this one.
//!
//! Ignored unless asked for, because the models do not come with the toolkit:
//! ```text
//! corpora/fetch.sh smollm2 MODELS; corpora/fetch.sh gemma3 MODELS
//! SMOLLM2_GGUF=MODELS/SmolLM2-135M-Instruct.Q4_1.gguf GEMMA3_GGUF=MODELS/gemma-3-270m-q4_k_m.gguf \
//!     cargo test --release -p watermark-eval --test pretrained -- --ignored
//! ```
//! The expected numbers are those of llama.cpp as packaged in PyPI xllamacpp 2026.10.11549, on the same
//! weights dequantised to `f32`, with an `f32` cache and one thread; token ids are those of its own
//! tokenizer. As the files stand, llama.cpp rounds activations to eight bits besides, and its
//! probabilities then differ by more than a mistake here might.

use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_eval::model::{Architecture, DocumentTokens, Model, gguf};

/// What llama.cpp says about one prompt.
struct Expected {
    prompt: String,
    /// Tokens of the prompt, document start included.
    tokens: usize,
    /// Some tokens' ln p: the most probable four, and the 101st, 1001st and 20001st.
    ln_p: [(u32, f64); 7],
    /// The continuation by the most probable token.
    greedy: [u32; 16],
}

/// The first 4500 characters of the held-out text: longer than the window of Gemma's local layers.
fn long_prompt() -> String {
    let passages: Vec<&str> = watermark_corpora::held_out().take(8).collect();
    passages.join("\n").chars().take(4500).collect()
}

/// Compares a model with its expectations; no ln p may differ by `tolerance` or more.
fn compare(variable: &str, documents: DocumentTokens, expected: &[Expected], tolerance: f64) {
    let path = std::env::var(variable).expect("the variable names the GGUF file");
    let loaded = gguf::load(path.as_ref()).unwrap();
    let tokenizer = HfTokenizer::new(loaded.tokenizer);
    assert_eq!(loaded.model.documents(), documents);
    let mut worst = 0f64;
    for expected in expected {
        let text = tokenizer.encode(&expected.prompt);
        assert_eq!(tokenizer.decode(&text), expected.prompt);
        let prompt = [&[documents.start], text.as_slice()].concat();
        assert_eq!(prompt.len(), expected.tokens);
        let mut batch = loaded.model.start(&[&prompt]).unwrap();
        let logits = batch.logits().row(0).mapv(f64::from);
        let total = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
        for (token, ln_p) in expected.ln_p {
            let error = (logits[token as usize] - total - ln_p).abs();
            assert!(error < tolerance, "token {token}: off by {error}");
            worst = worst.max(error);
        }
        let greedy = expected.greedy.map(|_| {
            let logits = batch.logits().row(0).to_owned();
            let best = (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
            let best = best.unwrap() as u32;
            batch.step(&[best]).unwrap();
            best
        });
        assert_eq!(greedy, expected.greedy);
    }
    println!("{variable}: ln p differ by {worst:.1e} at most");
}

#[test]
#[ignore = "needs the model: see the file's head"]
fn smollm2_is_that_of_llama_cpp() {
    let expected = [
        Expected {
            prompt: "The capital of France is".to_owned(),
            tokens: 6,
            ln_p: [
                (7042, -0.21561),
                (260, -3.32209),
                (441, -4.15782),
                (597, -4.52885),
                (5373, -8.70274),
                (17525, -12.30039),
                (45525, -19.2903),
            ],
            greedy: [
                7042, 30, 198, 198, 504, 3575, 282, 4649, 314, 7042, 30, 198, 198, 504, 805, 3193,
            ],
        },
        Expected {
            prompt: long_prompt(),
            tokens: 846,
            ln_p: [
                (915, -3.11381),
                (1109, -3.70229),
                (2775, -3.74606),
                (1525, -4.09059),
                (17831, -6.31767),
                (6655, -9.39347),
                (26930, -16.19243),
            ],
            greedy: [
                915, 284, 2371, 15626, 30, 198, 504, 1109, 284, 14905, 1728, 282, 260, 701, 282,
                260,
            ],
        },
    ];
    // Measured: 2.9e-4 over all ids and six prompts.
    let documents = DocumentTokens { start: 0, end: 0 };
    compare("SMOLLM2_GGUF", documents, &expected, 1e-3);
}

#[test]
#[ignore = "needs the model: see the file's head"]
fn gemma3_is_that_of_llama_cpp() {
    let expected = [
        Expected {
            prompt: "Die Hauptstadt von Deutschland heißt".to_owned(),
            tokens: 6,
            ln_p: [
                (15687, -1.63407),
                (236_743, -3.44912),
                (236_787, -3.57283),
                (48080, -3.66767),
                (80554, -6.8442),
                (10337, -9.99664),
                (77173, -16.72597),
            ],
            greedy: [
                15687, 236_761, 5698, 3526, 1778, 145_697, 30820, 1556, 30335, 941, 41633, 528,
                18884, 731, 236_772, 100_073,
            ],
        },
        Expected {
            prompt: long_prompt(),
            tokens: 828,
            ln_p: [
                (2268, -2.83087),
                (1051, -3.14535),
                (1855, -3.55263),
                (919, -3.6022),
                (2820, -6.4285),
                (5111, -9.82135),
                (195_968, -16.73183),
            ],
            greedy: [
                2268, 919, 20976, 1082, 506, 13361, 529, 506, 12153, 236_761, 107, 818, 42403, 815,
                6915, 496,
            ],
        },
    ];
    // Measured: 2.4e-3 here, and 1.2e-2 over all ids and six prompts, where SmolLM2 has 2.9e-4:
    // llama.cpp looks GELU up in a table of half precision. A frequency base 10 % too low fails
    // here by 1.3e-2. A window of 511 is seen over all ids only, 2.1e-2 against 5.2e-3 on the long
    // prompt: the decoder's own tests hold the windows to the token.
    let documents = DocumentTokens { start: 2, end: 1 };
    compare("GEMMA3_GGUF", documents, &expected, 5e-3);
    let path = std::env::var("GEMMA3_GGUF").unwrap();
    let model = gguf::load_model(path.as_ref()).unwrap();
    assert!(matches!(
        model.config().architecture,
        Architecture::Gemma3(_)
    ));
    assert_eq!(model.config().parameters(), 268_098_176);
}
