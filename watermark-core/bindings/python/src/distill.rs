//! A suspect's answers, tested as a whole exhibit among decoy keys.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use pyo3::prelude::*;
use watermark_core::detect::TestId;
use watermark_core::distill::{self as core, Distillation};
use watermark_core::key::{ACTIVE_SLOTS, SLOTS};
use watermark_core::verdict::Verdict;
use watermark_core::window::Exhibit;

use crate::arrays::texts;
use crate::detector::{policy, push_answer};
use crate::error::value;
use crate::keys::{KeySource, profile, to_python};

/// Was the suspect trained on text under this key? Its answers among decoys; the report as a dictionary.
#[pyfunction]
#[pyo3(signature = (
    profile, suspect, *, key_file=None, key_line=None, epoch=None, slot=None, prompts=None, sources=None, control=None,
    corpus=None, decoys=4063, tests=None, two_sided=false, alpha=1e-5, min_cells=50, threads=1
))]
#[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
pub(crate) fn distill<'py>(
    py: Python<'py>,
    profile: &Bound<'py, PyAny>,
    suspect: &Bound<'py, PyAny>,
    key_file: Option<PathBuf>,
    key_line: Option<&Bound<'py, PyAny>>,
    epoch: Option<&str>,
    slot: Option<u32>,
    prompts: Option<&Bound<'py, PyAny>>,
    sources: Option<Vec<u32>>,
    control: Option<&Bound<'py, PyAny>>,
    corpus: Option<&Bound<'py, PyAny>>,
    decoys: u32,
    tests: Option<Vec<String>>,
    two_sided: bool,
    alpha: f64,
    min_cells: u64,
    threads: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let profile = self::profile(profile)?;
    let policy = policy(alpha, min_cells)?;
    let threads = NonZeroUsize::new(threads)
        .filter(|threads| threads.get() <= 1024)
        .ok_or_else(|| value(format!("threads is {threads}; it must be from 1 to 1024")))?;
    // The default in the signature is a literal, so that Python's help shows it.
    const { assert!(SLOTS - ACTIVE_SLOTS == 4063) };
    let most = SLOTS - ACTIVE_SLOTS;
    if decoys > most {
        return Err(value(format!("decoys is {decoys}; an epoch has {most}")));
    }
    let tests = tests.map(|names| {
        names
            .iter()
            .map(|name| test(name))
            .collect::<PyResult<Vec<_>>>()
    });
    let tests = tests.transpose()?;
    let key = KeySource {
        file: key_file,
        line: key_line,
        slot_key: None,
        epoch,
        slot,
    }
    .read()?;
    let suspect = texts("suspect", suspect)?;
    let prompts = prompts.map_or(Ok(Vec::new()), |given| texts("prompts", given))?;
    let control = control.map(|given| texts("control", given)).transpose()?;
    let corpus = corpus.map(|given| texts("corpus", given)).transpose()?;
    if let Some(sources) = &sources
        && sources.len() != suspect.len()
    {
        return Err(value(format!(
            "sources: {} numbers for {} answers",
            sources.len(),
            suspect.len()
        )));
    }
    let mark = key.bind(&profile, 0)?;
    let decoys = key.decoys(&profile, decoys as usize)?;
    let result = py.detach(|| {
        let exhibit = |texts: &[Vec<u32>], sources: Option<&[u32]>| {
            let mut exhibit = Exhibit::new(mark.scheme().context_width());
            prompts.iter().for_each(|prompt| exhibit.exclude(prompt));
            for (index, text) in texts.iter().enumerate() {
                let source = sources.map_or(index as u32, |sources| sources[index]);
                push_answer(&mut exhibit, &mark, source, text);
            }
            exhibit
        };
        let suspect = exhibit(&suspect, sources.as_deref());
        let control = control.as_ref().map(|control| exhibit(control, None));
        let input = Distillation {
            control: control.as_ref(),
            corpus: corpus.as_deref(),
            tests: tests.as_deref(),
            two_sided,
            threads,
            ..Distillation::new(&mark, &suspect, &decoys)
        };
        core::distill(&input, &|_| {})
    });
    let report = result.map_err(value)?;
    let verdict = Verdict::of_report(&report, &policy);
    let whole = serde_json::json!({
        "type": "watermark.distillation", "schema": 1, "verdict": verdict,
        "explanation": verdict.explanation(), "policy": policy,
        "plan": "exploratory: no sealed plan", "report": report,
    });
    to_python(py, &whole)
}

fn test(name: &str) -> PyResult<TestId> {
    serde_json::from_value(serde_json::Value::String(name.to_owned()))
        .map_err(|error| value(format!("tests: {error}")))
}
