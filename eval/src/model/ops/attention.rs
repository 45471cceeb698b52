//! Causal grouped-query attention over whole sequences, for training.

use candle_core::{Result, Tensor};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array2, ArrayBase, ArrayView2, ArrayViewMut2, Axis, Ix2, RawData, Slice};

use super::lanes::{dot, softmax, wide};
use super::{Rope, tensor, with_values};

/// How the columns of a row of queries, keys and values are divided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    /// Query heads.
    pub(crate) heads: usize,
    /// Key and value heads; divides `heads`.
    pub(crate) kv_heads: usize,
    /// Entries of a head.
    pub(crate) head_dim: usize,
}

impl AttentionShape {
    /// Columns of the input: queries, keys and values of all heads.
    pub(crate) fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// First column of query head `h`.
    fn query(&self, h: usize) -> usize {
        h * self.head_dim
    }

    /// First column of the keys of key-value head `g`.
    fn key(&self, g: usize) -> usize {
        (self.heads + g) * self.head_dim
    }

    /// First column of the values of key-value head `g`.
    fn value(&self, g: usize) -> usize {
        (self.heads + self.kv_heads + g) * self.head_dim
    }
}

/// `softmax(Q K^T / sqrt(D)) V` with rotated queries and keys, each position seeing itself and what
/// came before: `[B T, (heads + 2 kv_heads) D]` to `[B T, heads D]`.
pub(crate) struct Attention<'a> {
    pub(crate) shape: AttentionShape,
    /// Tokens in a sequence, `T`.
    pub(crate) length: usize,
    pub(crate) rope: &'a Rope,
}

/// Who attended to whom, `[B, heads, T, T]`: kept from the forward to the backward pass.
pub(crate) struct Attended(Vec<f32>);

/// Queries handled at once: what comes after the block need not be computed.
const BLOCK: usize = 64;

impl Attention<'_> {
    fn blocks(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let length = self.length;
        (0..length)
            .step_by(BLOCK)
            .map(move |start| (start, (start + BLOCK).min(length)))
    }

    fn scale(&self) -> f32 {
        1.0 / (self.shape.head_dim as f32).sqrt()
    }

    /// A copy of one head's columns, rotated.
    fn rotated(&self, qkv: &ArrayView2<'_, f32>, column: usize) -> Array2<f32> {
        let mut head = columns(*qkv, column, self.shape.head_dim).to_owned();
        self.turn(&mut head, Rope::forward);
        head
    }

    fn turn(&self, head: &mut Array2<f32>, turn: impl Fn(&Rope, &mut [f32], usize)) {
        if let Some(values) = head.as_slice_mut() {
            for (t, row) in values.chunks_exact_mut(self.shape.head_dim).enumerate() {
                turn(self.rope, row, t);
            }
        }
    }

    /// One head: the weights `[T, T]` and the output `[T, D]`.
    fn head(
        &self,
        queries: &Array2<f32>,
        keys: &Array2<f32>,
        values: &ArrayView2<'_, f32>,
        weights: &mut ArrayViewMut2<'_, f32>,
        output: &mut ArrayViewMut2<'_, f32>,
    ) {
        for (start, end) in self.blocks() {
            let mut block = columns(rows(weights.view_mut(), start, end), 0, end);
            let (q, k) = (rows(queries.view(), start, end), rows(keys.view(), 0, end));
            general_mat_mul(self.scale(), &q, &k.t(), 0.0, &mut block);
            wide!({
                for (row, mut scores) in block.rows_mut().into_iter().enumerate() {
                    let (seen, unseen) = scores
                        .as_slice_mut()
                        .unwrap_or_default()
                        .split_at_mut(start + row + 1);
                    softmax(seen);
                    unseen.fill(0.0);
                }
            });
            let mut output = rows(output.view_mut(), start, end);
            general_mat_mul(1.0, &block, &rows(*values, 0, end), 0.0, &mut output);
        }
    }

    /// Gradients of one head, added to `dk` and `dv`; returns that of the queries.
    #[expect(clippy::too_many_arguments, reason = "the operands of one formula")]
    fn head_backward(
        &self,
        queries: &Array2<f32>,
        keys: &Array2<f32>,
        values: &ArrayView2<'_, f32>,
        weights: &ArrayView2<'_, f32>,
        grad: &ArrayView2<'_, f32>,
        dk: &mut Array2<f32>,
        dv: &mut Array2<f32>,
    ) -> Array2<f32> {
        let mut dq = Array2::zeros(queries.dim());
        let mut scratch = Array2::<f32>::zeros((BLOCK.min(self.length), self.length));
        for (start, end) in self.blocks() {
            let w = columns(rows(*weights, start, end), 0, end);
            let g = rows(*grad, start, end);
            let mut ds = columns(rows(scratch.view_mut(), 0, end - start), 0, end);
            general_mat_mul(1.0, &w.t(), &g, 1.0, &mut rows(dv.view_mut(), 0, end));
            general_mat_mul(1.0, &g, &rows(*values, 0, end).t(), 0.0, &mut ds);
            // Softmax: ds_ij = w_ij (dw_ij - sum_k w_ik dw_ik), and the scale of the scores.
            wide!({
                for (mut ds, w) in ds.rows_mut().into_iter().zip(w.rows()) {
                    if let (Some(ds), Some(w)) = (ds.as_slice_mut(), w.as_slice()) {
                        let mean = dot(ds, w);
                        for (ds, w) in ds.iter_mut().zip(w) {
                            *ds = w * (*ds - mean) * self.scale();
                        }
                    }
                }
            });
            let mut dq = rows(dq.view_mut(), start, end);
            general_mat_mul(1.0, &ds, &rows(keys.view(), 0, end), 0.0, &mut dq);
            let q = rows(queries.view(), start, end);
            general_mat_mul(1.0, &ds.t(), &q, 1.0, &mut rows(dk.view_mut(), 0, end));
        }
        dq
    }
}

impl Attention<'_> {
    /// The result, and what the backward pass needs.
    pub(crate) fn forward(&self, qkv: &Tensor) -> Result<(Tensor, Attended)> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
        } = self.shape;
        let (tokens, width) = qkv.dims2()?;
        let (t, out_width) = (self.length, heads * head_dim);
        let mut output = vec![0f32; tokens * out_width];
        let mut kept = vec![0f32; tokens * t * heads];
        with_values(qkv, |qkv| {
            let sequences = qkv
                .chunks_exact(t * width)
                .zip(output.chunks_exact_mut(t * out_width));
            for ((qkv, output), kept) in sequences.zip(kept.chunks_exact_mut(heads * t * t)) {
                let qkv = view(qkv, t, width)?;
                let mut output = view_mut(output, t, out_width)?;
                for g in 0..kv_heads {
                    let keys = self.rotated(&qkv, self.shape.key(g));
                    let from = self.shape.value(g);
                    let values = columns(qkv.view(), from, head_dim);
                    for h in heads_of(g, heads / kv_heads) {
                        let queries = self.rotated(&qkv, self.shape.query(h));
                        let mut weights = view_mut(&mut kept[h * t * t..(h + 1) * t * t], t, t)?;
                        let mut output = columns(output.view_mut(), h * head_dim, head_dim);
                        self.head(&queries, &keys, &values, &mut weights, &mut output);
                    }
                }
            }
            Ok(())
        })?;
        Ok((tensor(output, (tokens, out_width))?, Attended(kept)))
    }

    /// Gradient of the argument from that of the result.
    pub(crate) fn backward(&self, qkv: &Tensor, kept: &Attended, grad: &Tensor) -> Result<Tensor> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim,
        } = self.shape;
        let (_, width) = qkv.dims2()?;
        let (t, out_width) = (self.length, heads * head_dim);
        let mut d_qkv = vec![0f32; qkv.elem_count()];
        with_values(qkv, |qkv| {
            with_values(grad, |grad| {
                let sequences = qkv
                    .chunks_exact(t * width)
                    .zip(grad.chunks_exact(t * out_width));
                let sequences = sequences.zip(kept.0.chunks_exact(heads * t * t));
                for (((qkv, grad), kept), d_qkv) in sequences.zip(d_qkv.chunks_exact_mut(t * width))
                {
                    let qkv = view(qkv, t, width)?;
                    let grad = view(grad, t, out_width)?;
                    let mut d_qkv = view_mut(d_qkv, t, width)?;
                    for g in 0..kv_heads {
                        let keys = self.rotated(&qkv, self.shape.key(g));
                        let from = self.shape.value(g);
                        let values = columns(qkv.view(), from, head_dim);
                        let mut dk = Array2::zeros((t, head_dim));
                        let mut dv = Array2::zeros((t, head_dim));
                        for h in heads_of(g, heads / kv_heads) {
                            let column = self.shape.query(h);
                            let queries = self.rotated(&qkv, column);
                            let weights = view(&kept[h * t * t..(h + 1) * t * t], t, t)?;
                            let grad = columns(grad.view(), h * head_dim, head_dim);
                            let mut dq = self.head_backward(
                                &queries, &keys, &values, &weights, &grad, &mut dk, &mut dv,
                            );
                            self.turn(&mut dq, Rope::backward);
                            columns(d_qkv.view_mut(), column, head_dim).assign(&dq);
                        }
                        self.turn(&mut dk, Rope::backward);
                        let column = self.shape.key(g);
                        columns(d_qkv.view_mut(), column, head_dim).assign(&dk);
                        columns(d_qkv.view_mut(), from, head_dim).assign(&dv);
                    }
                }
                Ok(())
            })
        })?;
        tensor(d_qkv, qkv.shape())
    }
}

/// Query heads that share key-value head `g`.
fn heads_of(g: usize, group: usize) -> std::ops::Range<usize> {
    g * group..(g + 1) * group
}

/// Rows `start..end` of a view.
fn rows<S: RawData>(mut view: ArrayBase<S, Ix2>, start: usize, end: usize) -> ArrayBase<S, Ix2> {
    view.slice_axis_inplace(Axis(0), Slice::from(start..end));
    view
}

/// `count` columns of a view, the first of them `from`.
fn columns<S: RawData>(
    mut view: ArrayBase<S, Ix2>,
    from: usize,
    count: usize,
) -> ArrayBase<S, Ix2> {
    view.slice_axis_inplace(Axis(1), Slice::from(from..from + count));
    view
}

fn view(values: &[f32], rows: usize, columns: usize) -> Result<ArrayView2<'_, f32>> {
    ArrayView2::from_shape((rows, columns), values).map_err(candle_core::Error::wrap)
}

fn view_mut(values: &mut [f32], rows: usize, columns: usize) -> Result<ArrayViewMut2<'_, f32>> {
    ArrayViewMut2::from_shape((rows, columns), values).map_err(candle_core::Error::wrap)
}

#[cfg(test)]
mod tests {
    use super::super::check::{gradient, wave};
    use super::*;

    #[test]
    fn gradient_with_shared_keys_across_blocks() {
        let shape = AttentionShape {
            heads: 4,
            kv_heads: 2,
            head_dim: 2,
        };
        // Two sequences, longer than a block, so that blocks after the first count too.
        let length = BLOCK + 3;
        let rope = Rope::new(length, 2, 10_000.0);
        let qkv = wave(&[2 * length, shape.width()], 0.2);
        let attention = Attention {
            shape,
            length,
            rope: &rope,
        };
        let (_, kept) = attention.forward(&qkv).unwrap();
        let forward = |qkv: &Tensor| Ok(attention.forward(qkv)?.0);
        gradient(&qkv, forward, |g| attention.backward(&qkv, &kept, g));
    }
}
