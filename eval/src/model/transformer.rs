//! A decoder-only transformer.
//!
//! ```text
//! x = embedding[ids]
//! for each block:  x += attention(rms_norm(x) W_qkv) W_out
//!                  x += swiglu(rms_norm(x) W_gate_up) W_down
//! logits = rms_norm(x) W_head^T          (W_head is the embedding if tied)
//! ```
//! That is the llama architecture; [`Architecture`] says what another one does differently.
//! One definition serves training (with hand-written gradients), decoding with a cache, and
//! pretrained GGUF files. Matrices are stored `[in, out]`, which small batches multiply fastest.

use candle_core::{Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::decode::Decoding;
use super::ops::lanes::{add_scaled, wide};
use super::ops::{Attended, Attention, AttentionShape, Rope};
use super::ops::{add, rms_norm, rms_norm_backward, swiglu, swiglu_backward};
use super::ops::{cross_entropy, cross_entropy_values, with_values};
use super::ops::{geglu, rms_norm_heads, scaled};
use super::{Architecture, DocumentTokens};
use super::{Batch, Model, ModelError, check_prompts, decode, worker};

/// The shape of a [`Transformer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransformerConfig {
    /// Number of token ids.
    pub vocab: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads; in a llama model of `dim / heads` entries each, an even number.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Width of the feed-forward layer.
    pub hidden: usize,
    /// Largest sequence, in tokens.
    pub context: usize,
    /// Base of the rotary frequencies; where layers differ, in those that see everything.
    pub rope_base: f32,
    /// Added to the mean square in each normalisation.
    pub epsilon: f32,
    /// Whether the output layer shares the embedding's weights.
    pub tied: bool,
    /// The kind of block.
    #[serde(default)]
    pub architecture: Architecture,
}

/// Why a shape is contradictory.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShapeError {
    /// A count or width of zero.
    #[error("`{0}` is zero; every size must be at least one")]
    Zero(&'static str),
    /// Heads of unequal or odd width.
    #[error("width {dim} does not divide into {heads} heads of an even width")]
    Heads {
        /// Width of the residual stream.
        dim: usize,
        /// Query heads.
        heads: usize,
    },
    /// Heads whose entries cannot be turned in pairs.
    #[error("a head has {0} entries; their number must be even")]
    HeadWidth(usize),
    /// Query heads that cannot share key heads evenly.
    #[error("{heads} query heads cannot share {kv_heads} key heads evenly")]
    KeyHeads {
        /// Query heads.
        heads: usize,
        /// Key and value heads.
        kv_heads: usize,
    },
}

impl TransformerConfig {
    /// Checks that the sizes fit each other.
    ///
    /// # Errors
    /// A size is zero, or heads do not divide what they must.
    pub fn check(&self) -> Result<(), ShapeError> {
        let sizes = [
            ("vocab", self.vocab),
            ("dim", self.dim),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("hidden", self.hidden),
            ("context", self.context),
        ];
        let more = match &self.architecture {
            Architecture::Llama => vec![],
            Architecture::Gemma3(gemma) => vec![
                ("head_dim", gemma.head_dim),
                ("window", gemma.window),
                ("global_every", gemma.global_every),
            ],
        };
        if let Some((name, _)) = sizes.iter().chain(&more).find(|(_, size)| *size == 0) {
            return Err(ShapeError::Zero(name));
        }
        let (dim, heads, kv_heads) = (self.dim, self.heads, self.kv_heads);
        match &self.architecture {
            Architecture::Llama if dim % (2 * heads) != 0 => {
                return Err(ShapeError::Heads { dim, heads });
            }
            Architecture::Gemma3(gemma) if gemma.head_dim % 2 != 0 => {
                return Err(ShapeError::HeadWidth(gemma.head_dim));
            }
            _ => {}
        }
        if heads % kv_heads != 0 {
            return Err(ShapeError::KeyHeads { heads, kv_heads });
        }
        Ok(())
    }

    /// Number of weights.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let shape = self.attention();
        let attention = shape.width() + shape.heads * shape.head_dim;
        let mut block = self.dim * (attention + 3 * self.hidden + 2);
        if let Architecture::Gemma3(_) = self.architecture {
            block += 2 * self.dim + 2 * shape.head_dim;
        }
        let ends = if self.tied { 1 } else { 2 };
        ends * self.vocab * self.dim + self.layers * block + self.dim
    }

    pub(super) fn attention(&self) -> AttentionShape {
        AttentionShape {
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_dim: match &self.architecture {
                Architecture::Llama => self.dim / self.heads,
                Architecture::Gemma3(gemma) => gemma.head_dim,
            },
        }
    }

    /// Refuses what the gradients here are not those of.
    pub(crate) fn check_trainable(&self) -> Result<(), ModelError> {
        match self.architecture {
            Architecture::Llama => Ok(()),
            other => Err(ModelError::NotTrainable {
                architecture: other.name(),
            }),
        }
    }
}

/// The weights of one block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) attention_norm: Tensor,
    /// `[dim, (heads + 2 kv_heads) head_dim]`: queries, keys and values side by side.
    pub(super) qkv: Tensor,
    /// `[heads head_dim, dim]`.
    pub(super) attention_out: Tensor,
    pub(super) feed_norm: Tensor,
    /// `[dim, 2 hidden]`: gate and up side by side.
    pub(super) gate_up: Tensor,
    /// `[hidden, dim]`.
    pub(super) down: Tensor,
    /// Present in Gemma 3.
    pub(super) inner_norms: Option<InnerNorms>,
}

/// Normalisations inside a block of Gemma 3.
#[derive(Clone, Debug)]
pub(super) struct InnerNorms {
    /// Of each query head, `[head_dim]`.
    pub(super) query: Tensor,
    /// Of each key head, `[head_dim]`.
    pub(super) key: Tensor,
    /// Of what attention adds to the residual stream, `[dim]`.
    pub(super) attention_result: Tensor,
    /// Of what the feed-forward layer adds to it, `[dim]`.
    pub(super) feed_result: Tensor,
}

/// What a block's backward pass needs of its forward pass.
struct Trace {
    input: Tensor,
    attention_in: Tensor,
    qkv: Tensor,
    attended: Attended,
    attention_result: Tensor,
    middle: Tensor,
    feed_in: Tensor,
    gate_up: Tensor,
    feed_result: Tensor,
}

impl Block {
    /// One block over whole sequences: its trace and its output.
    fn forward(
        &self,
        input: Tensor,
        attention: &Attention<'_>,
        epsilon: f32,
    ) -> candle_core::Result<(Trace, Tensor)> {
        let attention_in = rms_norm(&input, &self.attention_norm, epsilon)?;
        let qkv = attention_in.matmul(&self.qkv)?;
        let (attention_result, attended) = attention.forward(&qkv)?;
        let middle = add(&input, &attention_result.matmul(&self.attention_out)?)?;
        let feed_in = rms_norm(&middle, &self.feed_norm, epsilon)?;
        let gate_up = feed_in.matmul(&self.gate_up)?;
        let feed_result = swiglu(&gate_up)?;
        let output = add(&middle, &feed_result.matmul(&self.down)?)?;
        let trace = Trace {
            input,
            attention_in,
            qkv,
            attended,
            attention_result,
            middle,
            feed_in,
            gate_up,
            feed_result,
        };
        Ok((trace, output))
    }

    /// Gradients of the weights, in the order of the fields, and of the input, from that of the output.
    fn backward(
        &self,
        trace: Trace,
        d_output: Tensor,
        attention: &Attention<'_>,
        epsilon: f32,
    ) -> candle_core::Result<([Tensor; 6], Tensor)> {
        let d_down = trace.feed_result.t()?.matmul(&d_output)?;
        let d_feed_result = d_output.matmul(&self.down.t()?)?;
        let d_gate_up = swiglu_backward(&trace.gate_up, &d_feed_result)?;
        let d_gate_up_weight = trace.feed_in.t()?.matmul(&d_gate_up)?;
        let d_feed_in = d_gate_up.matmul(&self.gate_up.t()?)?;
        let (d_middle, d_feed_norm) =
            rms_norm_backward(&trace.middle, &self.feed_norm, epsilon, &d_feed_in)?;
        let d_middle = add(&d_output, &d_middle)?;

        let d_attention_out = trace.attention_result.t()?.matmul(&d_middle)?;
        let d_attention_result = d_middle.matmul(&self.attention_out.t()?)?;
        let d_qkv = attention.backward(&trace.qkv, &trace.attended, &d_attention_result)?;
        let d_qkv_weight = trace.attention_in.t()?.matmul(&d_qkv)?;
        let d_attention_in = d_qkv.matmul(&self.qkv.t()?)?;
        let (d_input, d_attention_norm) =
            rms_norm_backward(&trace.input, &self.attention_norm, epsilon, &d_attention_in)?;
        let weights = [
            d_attention_norm,
            d_qkv_weight,
            d_attention_out,
            d_feed_norm,
            d_gate_up_weight,
            d_down,
        ];
        Ok((weights, add(&d_middle, &d_input)?))
    }
}

/// All weights.
#[derive(Clone, Debug)]
pub(super) struct Weights {
    /// `[vocab, dim]`.
    pub(super) embedding: Tensor,
    pub(super) blocks: Vec<Block>,
    pub(super) norm: Tensor,
    /// `[vocab, dim]`, absent if tied.
    pub(super) head: Option<Tensor>,
}

impl Weights {
    /// The same weights with `change` applied to each under its name.
    fn map<E>(
        &self,
        mut change: impl FnMut(&str, &Tensor) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let embedding = change("embedding", &self.embedding)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let mut change = |name: &str, tensor| change(&format!("blocks.{i}.{name}"), tensor);
            blocks.push(Block {
                attention_norm: change("attention_norm", &block.attention_norm)?,
                qkv: change("qkv", &block.qkv)?,
                attention_out: change("attention_out", &block.attention_out)?,
                feed_norm: change("feed_norm", &block.feed_norm)?,
                gate_up: change("gate_up", &block.gate_up)?,
                down: change("down", &block.down)?,
                inner_norms: match &block.inner_norms {
                    None => None,
                    Some(norms) => Some(InnerNorms {
                        query: change("query_norm", &norms.query)?,
                        key: change("key_norm", &norms.key)?,
                        attention_result: change("attention_result_norm", &norms.attention_result)?,
                        feed_result: change("feed_result_norm", &norms.feed_result)?,
                    }),
                },
            });
        }
        let norm = change("norm", &self.norm)?;
        let head = self
            .head
            .as_ref()
            .map(|head| change("head", head))
            .transpose()?;
        Ok(Self {
            embedding,
            blocks,
            norm,
            head,
        })
    }
}

/// A transformer with its weights; cloning shares them.
#[derive(Clone, Debug)]
pub struct Transformer {
    config: TransformerConfig,
    weights: Weights,
    rope: Rope,
    /// Of the layers with a window, where they differ.
    local_rope: Option<Rope>,
    documents: DocumentTokens,
}

impl Transformer {
    /// Wraps weights of matching shapes.
    pub(super) fn new(config: TransformerConfig, weights: Weights) -> Self {
        let rope = |base| Rope::new(config.context, config.attention().head_dim, base);
        let local_rope = match &config.architecture {
            Architecture::Llama => None,
            Architecture::Gemma3(gemma) => Some(rope(gemma.local_rope_base)),
        };
        Self {
            rope: rope(config.rope_base),
            local_rope,
            config,
            weights,
            documents: DocumentTokens::default(),
        }
    }

    /// The same model, expecting documents between other tokens.
    pub(super) fn with_documents(self, documents: DocumentTokens) -> Self {
        Self { documents, ..self }
    }

    /// The tokens between which the model expects a document: token 0, unless a file said otherwise.
    #[must_use]
    pub fn documents(&self) -> DocumentTokens {
        self.documents
    }

    /// Random weights, the same for the same seed on every machine.
    ///
    /// Normal with standard deviation `1 / sqrt(dim)` (`1 / sqrt(in)` for the down projection), times
    /// `1 / sqrt(2 layers)` where a block adds to the residual stream; 0.02 for the embedding.
    ///
    /// # Errors
    /// The shape is contradictory.
    pub fn random(config: TransformerConfig, seed: u64) -> Result<Self, ModelError> {
        config.check()?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = |rows: usize, columns: usize, deviation: f64| {
            let values: Vec<f32> = (0..rows * columns)
                .map(|_| (gaussian(&mut rng) * deviation) as f32)
                .collect();
            Tensor::from_vec(values, (rows, columns), &Device::Cpu)
        };
        let ones = |width: usize| Tensor::ones(width, candle_core::DType::F32, &Device::Cpu);
        let shape = config.attention();
        let inner = 1.0 / (config.dim as f64).sqrt();
        let residual = 1.0 / (2.0 * config.layers as f64).sqrt();
        let down = residual / (config.hidden as f64).sqrt();
        let embedding = normal(config.vocab, config.dim, 0.02)?;
        let mut blocks = Vec::with_capacity(config.layers);
        for _ in 0..config.layers {
            blocks.push(Block {
                attention_norm: ones(config.dim)?,
                qkv: normal(config.dim, shape.width(), inner)?,
                attention_out: normal(shape.heads * shape.head_dim, config.dim, inner * residual)?,
                feed_norm: ones(config.dim)?,
                gate_up: normal(config.dim, 2 * config.hidden, inner)?,
                down: normal(config.hidden, config.dim, down)?,
                inner_norms: match config.architecture {
                    Architecture::Llama => None,
                    Architecture::Gemma3(_) => Some(InnerNorms {
                        query: ones(shape.head_dim)?,
                        key: ones(shape.head_dim)?,
                        attention_result: ones(config.dim)?,
                        feed_result: ones(config.dim)?,
                    }),
                },
            });
        }
        let head = if config.tied {
            None
        } else {
            Some(normal(config.vocab, config.dim, 0.02)?)
        };
        let weights = Weights {
            embedding,
            blocks,
            norm: ones(config.dim)?,
            head,
        };
        Ok(Self::new(config, weights))
    }

    /// The shape.
    #[must_use]
    pub fn config(&self) -> &TransformerConfig {
        &self.config
    }

    pub(super) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The same model with `change` applied to each weight under its name, shapes unchanged.
    pub(crate) fn map_weights<E>(
        &self,
        change: impl FnMut(&str, &Tensor) -> Result<Tensor, E>,
    ) -> Result<Self, E> {
        let weights = self.weights.map(change)?;
        Ok(Self {
            config: self.config.clone(),
            weights,
            rope: self.rope.clone(),
            local_rope: self.local_rope.clone(),
            documents: self.documents,
        })
    }

    /// The rotations in a layer, and how many tokens a position there sees.
    pub(super) fn sight(&self, layer: usize) -> (&Rope, Option<usize>) {
        let window = self.config.architecture.window(layer);
        match (&self.local_rope, window) {
            (Some(local), Some(_)) => (local, window),
            _ => (&self.rope, window),
        }
    }

    /// The output layer, `[vocab, dim]`.
    pub(super) fn head(&self) -> &Tensor {
        self.weights
            .head
            .as_ref()
            .unwrap_or(&self.weights.embedding)
    }

    /// The residual stream after the blocks, before the last normalisation: `[N, dim]`.
    ///
    /// `attend` maps a block's index and its `[N, width]` queries, keys and values to
    /// `[N, heads head_dim]`.
    pub(super) fn blocks(
        &self,
        ids: &[u32],
        mut attend: impl FnMut(usize, &Tensor) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let epsilon = self.config.epsilon;
        let ids = Tensor::new(ids, &Device::Cpu)?;
        let mut x = self.weights.embedding.index_select(&ids, 0)?;
        if let Architecture::Gemma3(_) = self.config.architecture {
            x = scaled(&x, (self.config.dim as f32).sqrt())?;
        }
        for (i, block) in self.weights.blocks.iter().enumerate() {
            let mut qkv = rms_norm(&x, &block.attention_norm, epsilon)?.matmul(&block.qkv)?;
            if let Some(InnerNorms { query, key, .. }) = &block.inner_norms {
                qkv = rms_norm_heads(&qkv, self.config.attention(), query, key, epsilon)?;
            }
            let mut result = attend(i, &qkv)?.matmul(&block.attention_out)?;
            if let Some(norms) = &block.inner_norms {
                result = rms_norm(&result, &norms.attention_result, epsilon)?;
            }
            x = add(&x, &result)?;
            let gate_up = rms_norm(&x, &block.feed_norm, epsilon)?.matmul(&block.gate_up)?;
            let hidden = match self.config.architecture {
                Architecture::Llama => swiglu(&gate_up)?,
                Architecture::Gemma3(_) => geglu(&gate_up)?,
            };
            let mut result = hidden.matmul(&block.down)?;
            if let Some(norms) = &block.inner_norms {
                result = rms_norm(&result, &norms.feed_result, epsilon)?;
            }
            x = add(&x, &result)?;
        }
        Ok(x)
    }

    /// The last normalisation: what the output layer sees.
    pub(super) fn normalised(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        rms_norm(x, &self.weights.norm, self.config.epsilon)
    }

    /// What the output layer sees at every position of sequences of `length` tokens: `[N, dim]`.
    fn states(&self, inputs: &[u32], length: usize) -> candle_core::Result<Tensor> {
        let x = match self.config.architecture {
            Architecture::Llama => {
                let attention = self.attention(length);
                self.blocks(inputs, |_, qkv| Ok(attention.forward(qkv)?.0))?
            }
            // Attention over whole sequences knows no windows; the decoder's does.
            Architecture::Gemma3(_) => decode::whole(self, inputs, inputs.len() / length)?,
        };
        self.normalised(&x)
    }

    fn attention(&self, length: usize) -> Attention<'_> {
        let shape = self.config.attention();
        Attention {
            shape,
            length,
            rope: &self.rope,
        }
    }

    /// Mean cross-entropy in nats of the targets, and its gradient: one tensor a weight, in the order
    /// of [`map_weights`](Self::map_weights).
    ///
    /// `inputs` and `targets` are sequences of `length` tokens one after the other.
    pub(crate) fn gradients(
        &self,
        inputs: &[u32],
        targets: &[u32],
        length: usize,
    ) -> Result<(f32, Vec<Tensor>), ModelError> {
        self.config.check_trainable()?;
        let attention = self.attention(length);
        let ids = Tensor::new(inputs, &Device::Cpu)?;
        let mut x = self.weights.embedding.index_select(&ids, 0)?;
        let mut traces = Vec::with_capacity(self.config.layers);
        for block in &self.weights.blocks {
            let trace = block.forward(x, &attention, self.config.epsilon)?;
            x = trace.1;
            traces.push(trace.0);
        }
        let loss = cross_entropy(&self.normalised(&x)?, self.head(), targets)?;
        let (mut dx, d_norm) =
            rms_norm_backward(&x, &self.weights.norm, self.config.epsilon, &loss.dx)?;
        let mut d_blocks = Vec::with_capacity(self.config.layers);
        for (block, trace) in self.weights.blocks.iter().zip(traces).rev() {
            let (d_block, d_input) = block.backward(trace, dx, &attention, self.config.epsilon)?;
            dx = d_input;
            d_blocks.push(d_block);
        }
        let (d_embedding, d_head) = match self.weights.head {
            Some(_) => (loss.d_head.zeros_like()?, Some(loss.d_head)),
            None => (loss.d_head, None),
        };
        let mut gradients = vec![scatter_rows(&d_embedding, inputs, &dx)?];
        gradients.extend(d_blocks.into_iter().rev().flatten());
        gradients.push(d_norm);
        gradients.extend(d_head);
        Ok((loss.mean, gradients))
    }

    /// `-ln p(token | what precedes it)` in nats for every token of `tokens` but the first.
    ///
    /// Long texts are read in stretches of the context length, each with nothing before it.
    ///
    /// # Errors
    /// An id is outside the vocabulary, or the engine failed.
    pub fn surprisals(&self, tokens: &[u32]) -> Result<Vec<f64>, ModelError> {
        super::check_tokens(0, tokens, self.config.vocab)?;
        worker::alone(|| {
            let mut all = Vec::with_capacity(tokens.len());
            let mut start = 0;
            while start + 1 < tokens.len() {
                let length = self.config.context.min(tokens.len() - 1 - start);
                let inputs = &tokens[start..start + length];
                let targets = &tokens[start + 1..start + length + 1];
                let states = self.states(inputs, length)?;
                all.extend(cross_entropy_values(&states, self.head(), targets)?);
                start += length;
            }
            Ok(all)
        })
    }
}

impl Model for Transformer {
    fn vocab_size(&self) -> usize {
        self.config.vocab
    }

    fn context_length(&self) -> usize {
        self.config.context
    }

    fn start(&self, prompts: &[&[u32]]) -> Result<Box<dyn Batch + '_>, ModelError> {
        check_prompts(prompts, self.config.vocab, self.config.context)?;
        Ok(Box::new(Decoding::start(self, prompts)?))
    }

    /// The whole text at once; the output layer in stretches, whose logits fit the cache.
    fn read(
        &self,
        tokens: &[u32],
        visit: &mut (dyn FnMut(usize, &[f32]) + Send),
    ) -> Result<(), ModelError> {
        check_prompts(&[tokens], self.config.vocab, self.config.context)?;
        worker::alone(|| {
            let states = self.states(tokens, tokens.len())?;
            let head = self.head().t()?;
            for from in (0..tokens.len()).step_by(READ_ROWS) {
                let rows = READ_ROWS.min(tokens.len() - from);
                let logits = states.narrow(0, from, rows)?.matmul(&head)?;
                with_values(&logits, |logits| {
                    for (row, logits) in logits.chunks_exact(self.config.vocab).enumerate() {
                        visit(from + row, logits);
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })
    }
}

/// Positions whose logits are computed together when a text is read.
const READ_ROWS: usize = 32;

/// Adds row `i` of `rows` to row `ids[i]` of `table`, in the order of `i`.
fn scatter_rows(table: &Tensor, ids: &[u32], rows: &Tensor) -> candle_core::Result<Tensor> {
    let (_, width) = table.dims2()?;
    let mut sums: Vec<f32> = table.flatten_all()?.to_vec1()?;
    with_values(rows, |rows| {
        wide!({
            for (id, row) in ids.iter().zip(rows.chunks_exact(width)) {
                let from = *id as usize * width;
                add_scaled(&mut sums[from..from + width], 1.0, row);
            }
        });
        Ok(())
    })?;
    Tensor::from_vec(sums, table.shape(), &Device::Cpu)
}

/// A standard normal variate (Box and Muller).
fn gaussian(rng: &mut impl Rng) -> f64 {
    let mut unit = || (rng.next_u32() as f64 + 0.5) / 4_294_967_296.0;
    let radius = (-2.0 * unit().ln()).sqrt();
    radius * (std::f64::consts::TAU * unit()).cos()
}

#[cfg(test)]
mod tests {
    use super::super::Gemma3;
    use super::*;

    pub(crate) fn tiny() -> TransformerConfig {
        TransformerConfig {
            vocab: 50,
            dim: 16,
            layers: 2,
            heads: 4,
            kv_heads: 2,
            hidden: 24,
            context: 40,
            rope_base: 10_000.0,
            epsilon: 1e-5,
            tied: true,
            architecture: Architecture::Llama,
        }
    }

    /// Heads wider than `dim / heads`, and windows shorter than the sequences.
    fn gemma() -> TransformerConfig {
        TransformerConfig {
            layers: 3,
            architecture: Architecture::Gemma3(Gemma3 {
                head_dim: 6,
                window: 3,
                global_every: 3,
                local_rope_base: 1_000.0,
            }),
            ..tiny()
        }
    }

    #[test]
    fn a_gemma_shape_is_checked() {
        assert_eq!(gemma().check(), Ok(()));
        let with = |change: fn(&mut Gemma3)| {
            let mut config = gemma();
            if let Architecture::Gemma3(gemma) = &mut config.architecture {
                change(gemma);
            }
            config.check()
        };
        assert_eq!(with(|g| g.head_dim = 5), Err(ShapeError::HeadWidth(5)));
        assert_eq!(with(|g| g.window = 0), Err(ShapeError::Zero("window")));
        assert_eq!(
            with(|g| g.global_every = 0),
            Err(ShapeError::Zero("global_every"))
        );
    }

    #[test]
    fn a_gemma_model_is_not_trained() {
        let model = Transformer::random(gemma(), 1).unwrap();
        let refused = model.gradients(&[0, 1], &[1, 2], 2).unwrap_err();
        assert!(matches!(
            refused,
            ModelError::NotTrainable {
                architecture: "gemma3"
            }
        ));
    }

    #[test]
    fn a_contradictory_shape_is_refused() {
        let odd = TransformerConfig {
            heads: 3,
            kv_heads: 3,
            ..tiny()
        };
        assert_eq!(odd.check(), Err(ShapeError::Heads { dim: 16, heads: 3 }));
        let uneven = TransformerConfig {
            kv_heads: 3,
            ..tiny()
        };
        assert_eq!(
            uneven.check(),
            Err(ShapeError::KeyHeads {
                heads: 4,
                kv_heads: 3
            })
        );
        let empty = TransformerConfig {
            layers: 0,
            ..tiny()
        };
        assert_eq!(empty.check(), Err(ShapeError::Zero("layers")));
    }

    #[test]
    fn parameters_are_counted() {
        let shapes = [tiny(), gemma()].map(|shape| [true, false].map(|tied| (tied, shape.clone())));
        for (tied, shape) in shapes.into_iter().flatten() {
            let model = Transformer::random(TransformerConfig { tied, ..shape }, 1).unwrap();
            let mut count = 0;
            model
                .map_weights(|_, weight| {
                    count += weight.elem_count();
                    Ok::<_, candle_core::Error>(weight.clone())
                })
                .unwrap();
            assert_eq!(count, model.config().parameters());
        }
    }

    #[test]
    fn gradients_match_finite_differences_in_every_weight() {
        let inputs = [0, 7, 12, 49, 3, 0, 5, 7];
        let targets = [7, 12, 49, 3, 20, 5, 7, 1];
        for tied in [true, false] {
            let model = Transformer::random(TransformerConfig { tied, ..tiny() }, 2).unwrap();
            let (_, gradients) = model.gradients(&inputs, &targets, 4).unwrap();
            let mut index = 0;
            model
                .map_weights(|name, weight| {
                    let found: Vec<f32> = gradients[index].flatten_all()?.to_vec1()?;
                    assert_eq!(found.len(), weight.elem_count(), "{name}");
                    // Along the gradient itself the difference is largest against rounding.
                    let norm = found.iter().map(|g| g * g).sum::<f32>().sqrt();
                    let loss = |by: f32| {
                        let mut other = 0;
                        let moved = model.map_weights(|_, weight| {
                            other += 1;
                            if other - 1 != index {
                                return Ok(weight.clone());
                            }
                            let mut values: Vec<f32> = weight.flatten_all()?.to_vec1()?;
                            add_scaled(&mut values, by / norm, &found);
                            Tensor::from_vec(values, weight.shape(), &Device::Cpu)
                        })?;
                        Ok::<_, candle_core::Error>(
                            moved.gradients(&inputs, &targets, 4).unwrap().0,
                        )
                    };
                    let step = 2e-3;
                    let slope = (loss(step)? - loss(-step)?) / (2.0 * step);
                    assert!(
                        (slope - norm).abs() < 0.02 * norm + 1e-3,
                        "{name}: {slope} {norm}"
                    );
                    index += 1;
                    Ok::<_, candle_core::Error>(weight.clone())
                })
                .unwrap();
            assert_eq!(index, gradients.len());
        }
    }

    #[test]
    fn reading_at_once_is_reading_step_by_step() {
        let model = Transformer::random(tiny(), 4).unwrap();
        let tokens: Vec<u32> = (0..40).map(|i| i * 3 % 11).collect();
        let tokens = &tokens[..model.context_length().min(40)];
        let mut steps = Vec::new();
        let mut batch = model.start(&[&tokens[..1]]).unwrap();
        for at in 0..tokens.len() {
            if at > 0 {
                batch.step(&tokens[at..=at]).unwrap();
            }
            steps.push(batch.logits().row(0).to_vec());
        }
        let mut seen = 0;
        model
            .read(tokens, &mut |at, logits| {
                for (a, b) in logits.iter().zip(&steps[at]) {
                    assert!((a - b).abs() < 1e-4, "{at}: {a} {b}");
                }
                seen += 1;
            })
            .unwrap();
        assert_eq!(seen, tokens.len());
    }

    #[test]
    fn surprisals_are_those_of_the_decoder() {
        surprisals_of(&Transformer::random(tiny(), 3).unwrap());
    }

    #[test]
    fn surprisals_beyond_the_window_are_those_of_the_decoder() {
        surprisals_of(&Transformer::random(gemma(), 3).unwrap());
    }

    fn surprisals_of(model: &Transformer) {
        let tokens = [0, 7, 12, 49, 3, 3, 20];
        let mut batch = model.start(&[&tokens[..1]]).unwrap();
        for (i, surprisal) in model.surprisals(&tokens).unwrap().into_iter().enumerate() {
            let next = tokens[i + 1];
            let logits = batch.logits().row(0).mapv(f64::from);
            let total: f64 = logits.iter().map(|x| x.exp()).sum();
            assert!((total.ln() - logits[next as usize] - surprisal).abs() < 1e-4);
            batch.step(&[next]).unwrap();
        }
    }
}
