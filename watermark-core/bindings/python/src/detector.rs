//! Tokens of one suspect, one answer after another, and what they show.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use watermark_core::detect::{Sample, Score};
use watermark_core::profile::Mark;
use watermark_core::report::KeyInfo;
use watermark_core::stats::evalue::{LnE, Mixture};
use watermark_core::verdict::{Policy, Verdict};
use watermark_core::window::{Exhibit, segments};

use crate::arrays::ids;
use crate::error::value;
use crate::keys::to_python;
use crate::scheme::Scheme;

/// alpha and the least number of cells, checked.
pub(crate) fn policy(alpha: f64, min_cells: u64) -> PyResult<Policy> {
    if !(alpha > 0.0 && alpha < 1.0) {
        return Err(value(format!(
            "alpha is {alpha}; it must be above 0 and below 1"
        )));
    }
    Ok(Policy { alpha, min_cells })
}

/// The verdict's name, as reports have it.
pub(crate) fn verdict_name(verdict: Verdict) -> String {
    verdict.to_string().replace(' ', "-")
}

/// Takes in one answer to the prompt of number `source`; special tokens part it, as they do in a session.
pub(crate) fn push_answer(exhibit: &mut Exhibit, mark: &Mark, source: u32, tokens: &[u32]) {
    let special = &mark.profile().special_tokens;
    if special.is_empty() {
        exhibit.push_from(source, tokens);
    } else {
        segments(tokens, special).for_each(|segment| exhibit.push_from(source, segment));
    }
}

/// Reads text: every cell counts once, over everything that was pushed.
#[pyclass(module = "watermark")]
pub(crate) struct Detector {
    mark: Arc<Mark>,
    exhibit: Exhibit,
    answers: u32,
    policy: Policy,
}

#[pymethods]
impl Detector {
    #[new]
    #[pyo3(signature = (scheme, *, alpha=1e-5, min_cells=50))]
    fn new(scheme: &Scheme, alpha: f64, min_cells: u64) -> PyResult<Self> {
        Ok(Self {
            mark: scheme.mark.clone(),
            exhibit: Exhibit::new(scheme.mark.scheme().context_width()),
            answers: 0,
            policy: policy(alpha, min_cells)?,
        })
    }

    /// Leaves out every window of a prompt, in all answers. Comes before the first answer.
    fn exclude(&mut self, py: Python<'_>, prompt: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.answers > 0 {
            return Err(value(
                "exclude() comes before the first push(): exclusion does not reach back",
            ));
        }
        let prompt = ids("prompt", prompt)?;
        let prompt = prompt.to_slice();
        let exhibit = &mut self.exhibit;
        py.detach(|| exhibit.exclude(&prompt));
        Ok(())
    }

    /// Takes in the tokens of one answer, without its prompt.
    fn push(&mut self, py: Python<'_>, tokens: &Bound<'_, PyAny>) -> PyResult<()> {
        let tokens = ids("tokens", tokens)?;
        let tokens = tokens.to_slice();
        let (exhibit, mark, source) = (&mut self.exhibit, &*self.mark, self.answers);
        py.detach(|| push_answer(exhibit, mark, source, &tokens));
        self.answers += 1;
        Ok(())
    }

    /// The test of everything so far. p holds for one look that was planned; who looks often and stops when it pleases
    /// reads `log10_e`.
    fn result(&self, py: Python<'_>) -> Detection {
        let (mark, exhibit, policy) = (&*self.mark, &self.exhibit, self.policy);
        py.detach(|| {
            let sample = Sample::of(mark, exhibit);
            let Score { cells, sum } = watermark_core::detect::score(mark, exhibit);
            Detection {
                verdict: Verdict::of(&sample.test, &policy),
                e: Mixture::standard(mark.scheme().null()).ln_e(cells, sum),
                key: KeyInfo::of(mark),
                profile: mark.profile().id.clone(),
                policy,
                sample,
            }
        })
    }

    fn __repr__(&self) -> String {
        let counts = self.exhibit.counts();
        format!(
            "Detector(profile='{}', key_id='{}', answers={}, tokens={}, cells={})",
            self.mark.profile().id,
            self.mark.key_id(),
            self.answers,
            counts.tokens,
            counts.cells
        )
    }
}

/// Numbers, and a policy applied to them.
#[pyclass(frozen, module = "watermark")]
pub(crate) struct Detection {
    sample: Sample,
    e: LnE,
    verdict: Verdict,
    policy: Policy,
    key: KeyInfo,
    profile: String,
}

#[pymethods]
impl Detection {
    /// Natural logarithm of p: exact, or an upper bound. Never minus infinity.
    #[getter]
    fn ln_p(&self) -> f64 {
        self.sample.test.p.ln()
    }

    #[getter]
    fn log10_p(&self) -> f64 {
        self.sample.test.p.log10()
    }

    /// p as text, such as `2.9e-288`; a float would end at 1e-308.
    #[getter]
    fn p(&self) -> String {
        self.sample.test.p.to_string()
    }

    /// p for a headline, which stops at `p < 1e-9`.
    #[getter]
    fn headline(&self) -> String {
        if self.sample.test.p.log10() < -9.0 {
            "p < 1e-9".to_owned()
        } else {
            format!("p = {}", self.sample.test.p)
        }
    }

    /// log10 of the lower tail: a small value means a mark that is being avoided.
    #[getter]
    fn lower_log10_p(&self) -> f64 {
        self.sample.test.lower_p.log10()
    }

    /// log10 of an e-value, which may be looked at any time: under the null hypothesis it reaches -log10(alpha) with
    /// probability at most alpha, however often one looks.
    #[getter]
    fn log10_e(&self) -> f64 {
        self.e.log10()
    }

    /// Distinct cells that were scored.
    #[getter]
    fn n_scored(&self) -> u64 {
        self.sample.test.n_scored
    }

    /// Mean score of a cell.
    #[getter]
    fn mean(&self) -> f64 {
        self.sample.test.mean
    }

    /// The mean that chance gives.
    #[getter]
    fn null_mean(&self) -> f64 {
        self.sample.test.null_mean
    }

    /// Standard score: a figure, not the evidence.
    #[getter]
    fn z(&self) -> f64 {
        self.sample.test.z
    }

    /// `rejected`, `not-rejected` or `insufficient-evidence`, of independence of text and key.
    #[getter]
    fn verdict(&self) -> String {
        verdict_name(self.verdict)
    }

    /// What the verdict says, and what it does not say.
    #[getter]
    fn explanation(&self) -> &'static str {
        self.verdict.explanation()
    }

    /// Where the tokens went.
    #[getter]
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        Ok(to_python(py, &self.sample.counts)?.cast_into::<PyDict>()?)
    }

    /// SHA-256 of the scored cells, in hexadecimal.
    #[getter]
    fn cells_digest(&self) -> &str {
        &self.sample.cells_digest
    }

    /// Everything, in the form that `watermark detect --format json` gives.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let value = serde_json::json!({
            "type": "watermark.detection", "schema": 1,
            "profile": self.profile, "key": self.key, "policy": self.policy,
            "verdict": self.verdict, "counts": self.sample.counts,
            "cellsDigest": self.sample.cells_digest, "test": self.sample.test,
        });
        to_python(py, &value)
    }

    fn __repr__(&self) -> String {
        format!(
            "Detection(verdict='{}', p={}, n_scored={}, mean={:.4}, null_mean={:.4})",
            self.verdict(),
            self.sample.test.p,
            self.sample.test.n_scored,
            self.sample.test.mean,
            self.sample.test.null_mean
        )
    }
}
