//! Decoding a batch of sequences with cached keys and values.

use candle_core::{Device, Tensor};
use ndarray::{Array2, ArrayView2};

use super::ops::lanes::{combine, softmax, wide};
use super::ops::{AttentionShape, Rope, with_values};
use super::{Batch, ModelError, Transformer, check_step, worker};

/// Sequences being decoded by a [`Transformer`].
pub(super) struct Decoding<'a> {
    model: &'a Transformer,
    rows: usize,
    len: usize,
    cache: Vec<LayerCache>,
    logits: Array2<f32>,
}

impl<'a> Decoding<'a> {
    /// Reads prompts of one common length, already checked.
    pub(super) fn start(model: &'a Transformer, prompts: &[&[u32]]) -> Result<Self, ModelError> {
        let rows = prompts.len();
        let cache = (0..model.config().layers)
            .map(|_| LayerCache::default())
            .collect();
        let mut decoding = Self {
            model,
            rows,
            len: 0,
            cache,
            logits: Array2::default((0, 0)),
        };
        decoding.extend(&prompts.concat())?;
        Ok(decoding)
    }

    /// Appends the same number of tokens to every row, given row by row.
    fn extend(&mut self, tokens: &[u32]) -> Result<(), ModelError> {
        let (rows, start) = (self.rows, self.len);
        let new = tokens.len() / rows;
        let capacity = (start + new)
            .next_power_of_two()
            .max(64)
            .min(self.model.config().context);
        let logits = worker::alone(|| {
            let x = continued(self.model, &mut self.cache, tokens, rows, start, capacity)?;
            let x = if new == 1 {
                x
            } else {
                let last: Vec<u32> = (1..=rows).map(|row| (row * new - 1) as u32).collect();
                x.index_select(&Tensor::new(last, &Device::Cpu)?, 0)?
            };
            let x = self.model.normalised(&x)?;
            x.matmul(&self.model.head().t()?)?
                .flatten_all()?
                .to_vec1::<f32>()
        })?;
        self.logits = Array2::from_shape_vec((rows, self.model.config().vocab), logits)
            .map_err(candle_core::Error::wrap)?;
        self.len += new;
        Ok(())
    }
}

/// The residual stream of new tokens, given row by row, after `start` others in the cache.
fn continued(
    model: &Transformer,
    cache: &mut [LayerCache],
    tokens: &[u32],
    rows: usize,
    start: usize,
    capacity: usize,
) -> candle_core::Result<Tensor> {
    let shape = model.config().attention();
    model.blocks(tokens, |layer, qkv| {
        let cache = &mut cache[layer];
        cache.grow(shape, rows, start, capacity);
        let (rope, window) = model.sight(layer);
        let attended = with_values(qkv, |qkv| {
            Ok(cache.attend(shape, rope, window, qkv, rows, start))
        })?;
        let size = (tokens.len(), shape.heads * shape.head_dim);
        Tensor::from_vec(attended, size, &Device::Cpu)
    })
}

/// The residual stream at every position of whole sequences, given row by row.
pub(super) fn whole(
    model: &Transformer,
    tokens: &[u32],
    rows: usize,
) -> candle_core::Result<Tensor> {
    let mut cache: Vec<LayerCache> = (0..model.config().layers)
        .map(|_| LayerCache::default())
        .collect();
    continued(model, &mut cache, tokens, rows, 0, tokens.len() / rows)
}

impl Batch for Decoding<'_> {
    fn logits(&self) -> ArrayView2<'_, f32> {
        self.logits.view()
    }

    fn step(&mut self, tokens: &[u32]) -> Result<(), ModelError> {
        let config = self.model.config();
        check_step(tokens, self.rows, self.len, config.vocab, config.context)?;
        self.extend(tokens)
    }

    fn len(&self) -> usize {
        self.len
    }
}

/// Keys and values of one layer.
///
/// Keys are `[rows, kv_heads, head_dim, capacity]`: one query's scores are then sums of scaled
/// stretches of memory, and no sum runs across vector lanes. Values are
/// `[rows, kv_heads, capacity, head_dim]`, for the same reason.
#[derive(Default)]
struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
    capacity: usize,
}

impl LayerCache {
    /// Makes room for `capacity` tokens, keeping the first `len`.
    fn grow(&mut self, shape: AttentionShape, rows: usize, len: usize, capacity: usize) {
        if capacity <= self.capacity {
            return;
        }
        let dim = shape.head_dim;
        let heads = rows * shape.kv_heads;
        let mut keys = vec![0f32; heads * dim * capacity];
        let mut values = vec![0f32; heads * dim * capacity];
        if len > 0 {
            let old = self.keys.chunks_exact(self.capacity);
            for (new, old) in keys.chunks_exact_mut(capacity).zip(old) {
                new[..len].copy_from_slice(&old[..len]);
            }
            let old = self.values.chunks_exact(self.capacity * dim);
            for (new, old) in values.chunks_exact_mut(capacity * dim).zip(old) {
                new[..len * dim].copy_from_slice(&old[..len * dim]);
            }
        }
        *self = Self {
            keys,
            values,
            capacity,
        };
    }

    /// Stores the keys and values of new tokens, the first of them at position `start`, and lets each
    /// attend to itself and what precedes it, or to the last `window` of these:
    /// `[rows new, width]` to `[rows new, heads head_dim]`.
    fn attend(
        &mut self,
        shape: AttentionShape,
        rope: &Rope,
        window: Option<usize>,
        qkv: &[f32],
        rows: usize,
        start: usize,
    ) -> Vec<f32> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim: dim,
        } = shape;
        let group = heads / kv_heads;
        let tokens = qkv.len() / shape.width();
        let new = tokens / rows;
        let scale = 1.0 / (dim as f32).sqrt();
        let mut output = vec![0f32; tokens * heads * dim];
        let mut scores = vec![0f32; start + new];
        let mut turned = vec![0f32; dim];
        let cache_size = dim * self.capacity;
        wide!({
            let tokens = qkv
                .chunks_exact(shape.width())
                .zip(output.chunks_exact_mut(heads * dim));
            for (index, (qkv, output)) in tokens.enumerate() {
                let (row, position) = (index / new, start + index % new);
                let seen = window.map_or(0, |window| (position + 1).saturating_sub(window));
                let (queries, rest) = qkv.split_at(heads * dim);
                let (keys, values) = rest.split_at(kv_heads * dim);
                for g in 0..kv_heads {
                    let from = (row * kv_heads + g) * cache_size;
                    let cached_keys = &mut self.keys[from..from + cache_size];
                    let cached_values = &mut self.values[from..from + cache_size];
                    turned.copy_from_slice(&keys[g * dim..(g + 1) * dim]);
                    rope.forward(&mut turned, position);
                    for (cached, key) in cached_keys.chunks_exact_mut(self.capacity).zip(&turned) {
                        cached[position] = *key;
                    }
                    cached_values[position * dim..(position + 1) * dim]
                        .copy_from_slice(&values[g * dim..(g + 1) * dim]);
                    for h in g * group..(g + 1) * group {
                        turned.copy_from_slice(&queries[h * dim..(h + 1) * dim]);
                        rope.forward(&mut turned, position);
                        let scores = &mut scores[seen..=position];
                        for query in &mut turned {
                            *query *= scale;
                        }
                        combine(scores, &turned, &cached_keys[seen..], self.capacity);
                        softmax(scores);
                        let output = &mut output[h * dim..(h + 1) * dim];
                        combine(output, scores, &cached_values[seen * dim..], dim);
                    }
                }
            }
        });
        output
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Architecture, Gemma3, Model, TransformerConfig};
    use super::*;

    fn model() -> Transformer {
        let config = TransformerConfig {
            vocab: 50,
            dim: 16,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            hidden: 24,
            context: 100,
            rope_base: 10_000.0,
            epsilon: 1e-5,
            tied: false,
            architecture: Architecture::Llama,
        };
        Transformer::random(config, 5).unwrap()
    }

    /// The same sizes with heads of 8 entries, and one layer in three that sees everything.
    fn gemma(window: usize) -> Transformer {
        let architecture = Architecture::Gemma3(Gemma3 {
            head_dim: 8,
            window,
            global_every: 3,
            local_rope_base: 500.0,
        });
        let config = TransformerConfig {
            layers: 4,
            architecture,
            ..model().config().clone()
        };
        Transformer::random(config, 5).unwrap()
    }

    #[test]
    fn steps_equal_reading_the_whole_prompt() {
        steps_and_whole_of(&model());
    }

    #[test]
    fn steps_beyond_the_window_equal_reading_the_whole_prompt() {
        steps_and_whole_of(&gemma(7));
    }

    #[test]
    fn a_window_hides_what_came_before_it_in_local_layers_only() {
        let first_logits = |model: &Transformer, first: u32| {
            let tokens = [&[first][..], &[5; 20]].concat();
            model.start(&[&tokens]).unwrap().logits().to_owned()
        };
        let differ = |model: &Transformer| first_logits(model, 1) != first_logits(model, 2);
        // Four local layers see back 4 x 6 tokens and no further; a global one sees everything.
        let local_only = |window| {
            let mut config = gemma(window).config().clone();
            if let Architecture::Gemma3(gemma) = &mut config.architecture {
                gemma.global_every = 100;
            }
            Transformer::random(config, 5).unwrap()
        };
        assert!(differ(&local_only(6)));
        assert!(!differ(&local_only(5)));
        assert!(differ(&gemma(5)));
    }

    fn steps_and_whole_of(model: &Transformer) {
        let tokens: Vec<u32> = (0..90).map(|i| i * 7 % 50).collect();
        let mut batch = model.start(&[&tokens[..3]]).unwrap();
        for end in 4..=tokens.len() {
            batch.step(&tokens[end - 1..end]).unwrap();
            assert_eq!(batch.len(), end);
        }
        let whole = model.start(&[&tokens]).unwrap();
        for (a, b) in batch.logits().iter().zip(whole.logits()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }

    #[test]
    fn rows_do_not_see_each_other() {
        let model = model();
        let mut first = model.start(&[&[0, 1], &[0, 2], &[0, 3]]).unwrap();
        let mut second = model.start(&[&[0, 9], &[0, 2], &[0, 8]]).unwrap();
        for token in 10..30 {
            first.step(&[token, 5, token]).unwrap();
            second.step(&[4, 5, token + 1]).unwrap();
        }
        assert_eq!(first.logits().row(1), second.logits().row(1));
        assert_ne!(first.logits().row(0), second.logits().row(0));
    }

    #[test]
    fn bad_prompts_and_steps_are_refused() {
        let model = model();
        assert!(matches!(model.start(&[]), Err(ModelError::NoPrompts)));
        assert!(matches!(
            model.start(&[&[]]),
            Err(ModelError::EmptyPrompt { row: 0 })
        ));
        assert!(matches!(
            model.start(&[&[1], &[1, 2]]),
            Err(ModelError::UnequalPrompts {
                row: 1,
                expected: 1,
                found: 2
            })
        ));
        assert!(matches!(
            model.start(&[&[50]]),
            Err(ModelError::UnknownToken { token: 50, .. })
        ));
        assert!(matches!(
            model.start(&[&[0; 101]]),
            Err(ModelError::ContextFull { .. })
        ));
        let mut batch = model.start(&[&[0; 99], &[1; 99]]).unwrap();
        assert!(matches!(
            batch.step(&[1]),
            Err(ModelError::Rows {
                expected: 2,
                found: 1
            })
        ));
        batch.step(&[1, 2]).unwrap();
        assert!(matches!(
            batch.step(&[1, 2]),
            Err(ModelError::ContextFull { needed: 101, .. })
        ));
        assert_eq!(batch.len(), 100);
    }
}
