//! A collection that follows a sealed plan: what the plan says is taken from it, and nothing else may say
//! otherwise.

use std::path::{Path, PathBuf};

use serde_json::Value;
use watermark_core::evidence::plan::{self, Looks, Plan, SealedPlan};
use watermark_core::profile::Profile;

use super::budget::Caps;
use super::error::CollectError;
use super::folder::{PlanInfo, UntilInfo};
use super::prompts::Shape;
use crate::cli::{Api, CollectRun};
use crate::error::CliError;

/// Further fields of requests that change nothing about how answers are drawn.
const HARMLESS: [&str; 1] = ["return_token_ids"];

/// A sealed plan and where it lies.
pub(super) struct Planned {
    path: PathBuf,
    sealed: SealedPlan,
}

impl Planned {
    pub(super) fn open(path: &Path, arguments: &CollectRun) -> Result<Self, CliError> {
        let json = crate::input::read_text(path)?;
        let sealed = SealedPlan::open(&json).map_err(|source| CollectError::Plan {
            path: path.to_owned(),
            source,
        })?;
        let planned = Self {
            path: path.to_owned(),
            sealed,
        };
        planned.conflicts(arguments)?;
        Ok(planned)
    }

    pub(super) fn sealed(&self) -> &SealedPlan {
        &self.sealed
    }

    fn plan(&self) -> &Plan {
        self.sealed.plan()
    }

    pub(super) fn profile(&self) -> &Profile {
        &self.plan().profile
    }

    fn api(&self) -> Api {
        match self.plan().request.api {
            plan::Api::Chat => Api::Chat,
            plan::Api::Completions => Api::Completions,
        }
    }

    /// Options that say something else than the plan.
    fn conflicts(&self, arguments: &CollectRun) -> Result<(), CollectError> {
        let request = &self.plan().request;
        let shape = &arguments.shape;
        let differs = [
            ("--api", arguments.api.is_some_and(|api| api != self.api())),
            (
                "--model",
                arguments
                    .model
                    .as_ref()
                    .is_some_and(|model| *model != request.model),
            ),
            (
                "--max-tokens",
                shape
                    .max_tokens
                    .is_some_and(|n| n != u64::from(request.max_tokens)),
            ),
            (
                "--temperature",
                shape.temperature.is_some_and(|t| t != request.temperature),
            ),
            ("--top-p", shape.top_p.is_some_and(|p| p != request.top_p)),
            (
                "--repeat",
                shape.repeat.is_some_and(|n| n != request.samples),
            ),
            // Not in a plan: they would change what is asked.
            ("--system", shape.system.is_some()),
            ("--limit", shape.limit.is_some()),
        ];
        if let Some((option, _)) = differs.iter().find(|(_, differs)| *differs) {
            return Err(CollectError::Usage(format!(
                "{option} does not go with --plan: the sealed plan says what is asked; leave it out, or seal another plan"
            )));
        }
        let extra = shape
            .extra
            .as_deref()
            .and_then(|json| serde_json::from_str(json).ok());
        if let Some(Value::Object(extra)) = extra
            && let Some(field) = extra
                .keys()
                .find(|field| !HARMLESS.contains(&field.as_str()))
        {
            return Err(CollectError::Usage(format!(
                "--extra `{field}` does not go with --plan: it may change how answers are drawn"
            )));
        }
        Ok(())
    }

    pub(super) fn shape(&self, arguments: &CollectRun) -> Result<Shape, CollectError> {
        let request = &self.plan().request;
        let mut shape = Shape::new(self.api(), request.model.clone(), &arguments.shape)?;
        shape.max_tokens = u64::from(request.max_tokens);
        shape.temperature = request.temperature;
        shape.top_p = Some(request.top_p);
        shape.repeat = request.samples;
        Ok(shape)
    }

    /// The prompts: as given, else the packaged set or the file beside the plan that has the plan's name.
    pub(super) fn prompts(&self, arguments: &CollectRun) -> Result<String, CollectError> {
        if let Some(given) = &arguments.prompts {
            return Ok(given.clone());
        }
        let name = &self.plan().prompts.name;
        let set = name.strip_suffix(".jsonl").unwrap_or(name);
        if watermark_corpora::prompt_set(set).is_some() {
            return Ok(set.to_owned());
        }
        let file = self.path.with_file_name(name);
        match file.exists() {
            true => Ok(file.display().to_string()),
            false => Err(CollectError::Usage(format!(
                "the plan's prompts are `{name}`, which is neither a packaged set nor a file beside the plan; give --prompts"
            ))),
        }
    }

    /// Whether these are the prompts that were sealed.
    pub(super) fn check(&self, source: &str, bytes: &[u8]) -> Result<(), CollectError> {
        let error = |error| CollectError::Prompts {
            path: source.into(),
            source: error,
        };
        self.plan().prompts.check(bytes).map_err(error)
    }

    /// The plan's budget.
    pub(super) fn cap(&self, caps: &mut Caps) {
        let budget = self.plan().budget;
        caps.answers = Some(budget.answers);
        caps.output_tokens = Some(budget.tokens);
    }

    /// Whether an any-time test is the one that was sealed.
    pub(super) fn check_until(&self, until: &UntilInfo) -> Result<(), CollectError> {
        let plan = self.plan();
        let rules = [
            (
                plan.looks == Looks::Anytime,
                "--until: the plan says that the result is looked at once".to_owned(),
            ),
            (
                plan.alpha == until.alpha,
                format!(
                    "--until {}: the plan's alpha is {}",
                    until.alpha, plan.alpha
                ),
            ),
            (
                plan.key.id == until.key_id,
                format!(
                    "--key-file: key {}, and the plan's is {}",
                    until.key_id, plan.key.id
                ),
            ),
            (
                plan.profile == until.profile,
                "--profile: not the plan's".to_owned(),
            ),
            (
                plan.tokenizer == until.vocabulary,
                "--tokenizer: not the plan's".to_owned(),
            ),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, message)) => Err(CollectError::Usage(message)),
            None => Ok(()),
        }
    }

    pub(super) fn info(&self) -> PlanInfo {
        PlanInfo {
            id: self.plan().id.clone(),
            digest: self.sealed.digest().to_owned(),
            sealed_at: self.sealed.sealed_at().to_owned(),
        }
    }
}
