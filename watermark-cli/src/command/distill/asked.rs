//! What is asked of the evidence: by a sealed plan, or by the arguments.

use std::path::Path;

use watermark_core::detect::TestId;
use watermark_core::evidence::plan::{Control, Looks, Plan, SealedPlan};
use watermark_core::key::{ACTIVE_SLOTS, Epoch, SLOTS, SecretKey};
use watermark_core::profile::{Mark, Vocabulary};
use watermark_core::report::{CommitmentCheck, CommitmentInfo, KeyInfo, PlanInfo};
use watermark_core::verdict::Policy;

use crate::cli::Distill;
use crate::command::key::commitment;
use crate::error::CliError;
use crate::keysource::Found;
use crate::mark::{Context, Held, Keys};

/// What does not go together with a sealed plan.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnderPlan {
    #[error("{option}: {why}")]
    Option {
        option: &'static str,
        why: &'static str,
    },
    #[error("the key is not the plan's: {found} was given, and the plan names {planned}")]
    Key { found: String, planned: String },
    #[error("the commitment is not the plan's: its root is {found}, and the plan names {planned}")]
    Commitment { found: String, planned: String },
    #[error(
        "the tokenizer is not the plan's: {found} was given, and the plan names {planned}; token ids of two vocabularies cannot be mixed"
    )]
    Tokenizer { found: String, planned: String },
    #[error("answers to {found} different prompts were given, and the plan has {planned}")]
    Prompts { found: u64, planned: u64 },
    #[error(
        "{found} {what} were given, and the plan has a budget for {planned}: choosing among them is not in it"
    )]
    Budget {
        what: &'static str,
        found: u64,
        planned: u64,
    },
}

impl UnderPlan {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Option { .. } => 2,
            Self::Key { .. } | Self::Commitment { .. } => 3,
            Self::Tokenizer { .. } | Self::Prompts { .. } | Self::Budget { .. } => 4,
        }
    }
}

/// What is asked.
pub(super) struct Asked {
    pub(super) policy: Policy,
    pub(super) decoys: usize,
    /// The family; all that the evidence allows if empty.
    pub(super) tests: Vec<TestId>,
    pub(super) two_sided: bool,
    pub(super) supervised_cells: Option<u64>,
    /// Tests beyond the plan.
    pub(super) explore: Vec<TestId>,
    pub(super) plan: Option<SealedPlan>,
}

impl Asked {
    pub(super) fn of(arguments: &Distill) -> Result<Self, CliError> {
        let Some(path) = &arguments.sealed.plan else {
            return Ok(Self {
                policy: arguments.policy.policy()?,
                decoys: arguments.decoys,
                tests: arguments.tests.clone(),
                two_sided: arguments.two_sided,
                supervised_cells: arguments.logs.supervised_cells,
                explore: Vec::new(),
                plan: None,
            });
        };
        let sealed = open(path)?;
        let plan = sealed.plan();
        let watched = arguments.watch.watch.is_some();
        let option = |option, why| UnderPlan::Option { option, why };
        match plan.looks {
            Looks::Once if watched => {
                return Err(
                    option("--watch", "the plan is looked at once, when all is there").into(),
                );
            }
            Looks::Anytime if !watched => {
                return Err(option(
                    "--watch",
                    "is missing: the plan is a test that may be looked at any time",
                )
                .into());
            }
            _ => {}
        }
        if plan.controls.contains(&Control::Answers) && arguments.control.is_empty() {
            return Err(option("--control", "is missing: the plan has a control").into());
        }
        if plan.controls.contains(&Control::OpenWeights) && arguments.open.open_control.is_none() {
            return Err(option("--open-control", "is missing: the plan has a control").into());
        }
        if plan.key.commitment.is_some() && arguments.sealed.commitment.is_none() {
            return Err(option("--commitment", "is missing: the plan names one").into());
        }
        if let Some(id) = arguments
            .sealed
            .explore
            .iter()
            .find(|id| plan.tests.contains(id))
        {
            return Err(CliError::Usage(format!(
                "--explore {id}: the test is in the plan"
            )));
        }
        match &arguments.sealed.prompts {
            Some(path) => {
                let bytes = std::fs::read(path).map_err(CliError::io(path))?;
                let checked = plan.prompts.check(&bytes);
                checked.map_err(|source| CliError::Prompts {
                    path: path.clone(),
                    source,
                })?;
            }
            None if arguments.suspect.is_empty() => {}
            None => {
                return Err(option(
                    "--prompts",
                    "is missing: the plan holds the digest of the prompts",
                )
                .into());
            }
        }
        Ok(Self {
            policy: plan.policy(),
            decoys: plan.decoys as usize,
            tests: plan.tests.clone(),
            two_sided: plan.two_sided,
            supervised_cells: plan.supervised_cells,
            explore: arguments.sealed.explore.clone(),
            plan: Some(sealed),
        })
    }

    /// Key, mark and tokenizer.
    pub(super) fn open(&self, arguments: &Distill) -> Result<Context, CliError> {
        match &self.plan {
            None => arguments.mark.open(),
            Some(sealed) => context(arguments, sealed.plan()),
        }
    }

    /// What does not go together.
    pub(super) fn check(&self, arguments: &Distill) -> Result<(), CliError> {
        if self.decoys > (SLOTS - ACTIVE_SLOTS) as usize {
            return Err(CliError::TooManyDecoys { asked: self.decoys });
        }
        let silent = arguments.suspect.is_empty();
        let of_text = [
            ("--control", !arguments.control.is_empty()),
            ("--reference", arguments.reference.is_some()),
            ("--corpus", !arguments.corpus.is_empty()),
            ("--logs", !arguments.logs.logs.is_empty()),
            ("--dose-curve", arguments.dose_curve.is_some()),
        ];
        if let Some((option, _)) = of_text.iter().find(|(_, given)| silent && *given) {
            return Err(CliError::Usage(format!(
                "{option} needs the suspect's generations: give SUSPECT files"
            )));
        }
        let asked_by = match self.plan {
            None => "--tests",
            Some(_) => "the plan's test",
        };
        let asked = self.tests.iter().map(|&id| (asked_by, id));
        for (by, id) in asked.chain(self.explore.iter().map(|&id| ("--explore", id))) {
            if let Some(missing) = self.missing(arguments, id) {
                return Err(CliError::Usage(format!("{by} {id} needs {missing}")));
            }
        }
        if self.plan.is_none() {
            return Ok(());
        }
        // Evidence that no test reads would look as if it had been read.
        let reads = |ids: &[TestId]| {
            let mut all = self.tests.iter().chain(&self.explore);
            all.any(|id| ids.contains(id))
        };
        use TestId as T;
        let given = [
            ("--reference", of_text[1].1, &[T::ClosedReference][..]),
            ("--corpus", of_text[2].1, &[T::ClosedCorpus]),
            (
                "--open-suspect",
                arguments.open.open_suspect.is_some(),
                &[T::OpenArgmax, T::OpenSoft, T::OpenContrast],
            ),
            (
                "--open-reference",
                !arguments.open.open_reference.is_empty(),
                &[T::OpenContrast],
            ),
        ];
        for (option, given, tests) in given {
            if given && !reads(tests) {
                let why = "no test of the plan reads it; name one that does with --explore";
                return Err(UnderPlan::Option { option, why }.into());
            }
        }
        Ok(())
    }

    /// The evidence that a test lacks.
    fn missing(&self, arguments: &Distill, id: TestId) -> Option<&'static str> {
        let open = &arguments.open;
        let no_logs = arguments.logs.logs.is_empty();
        match id {
            TestId::ClosedCells | TestId::ClosedSqrt | TestId::ClosedInverseVariance => arguments
                .suspect
                .is_empty()
                .then_some("the suspect's generations"),
            TestId::ClosedCorpus => arguments.corpus.is_empty().then_some("--corpus"),
            TestId::ClosedReference => arguments.reference.is_none().then_some("--reference"),
            TestId::OpenArgmax | TestId::OpenSoft => {
                open.open_suspect.is_none().then_some("--open-suspect")
            }
            TestId::OpenContrast => open.open_reference.is_empty().then_some("--open-reference"),
            TestId::Supervised => {
                (no_logs || self.supervised_cells.is_none()).then_some(match self.plan {
                    None => "--logs and --supervised-cells",
                    Some(_) => "--logs, and a number of cells in the plan",
                })
            }
            TestId::NeverEmitted => None,
        }
    }

    /// The same profile under keys that nobody used.
    pub(super) fn decoys(&self, context: &Context) -> Result<Vec<Mark>, CliError> {
        let sealed = context.held.ours().is_some_and(|k| k.master.is_some());
        if self.plan.is_some() && self.decoys > 0 && !sealed {
            return Err(CliError::NeedsMaster("a plan with decoys"));
        }
        context.decoys(self.decoys)
    }

    /// The commitment that the key belongs to.
    pub(super) fn commitment(
        &self,
        arguments: &Distill,
        context: &Context,
    ) -> Result<Option<CommitmentInfo>, CliError> {
        let Some(path) = &arguments.sealed.commitment else {
            return Ok(None);
        };
        let found = commitment(path)?;
        let planned = self
            .plan
            .as_ref()
            .and_then(|plan| plan.plan().key.commitment.as_ref());
        if let Some(planned) = planned
            && planned != found.root()
        {
            return Err(UnderPlan::Commitment {
                found: found.root().to_owned(),
                planned: planned.clone(),
            }
            .into());
        }
        let vocabulary = Vocabulary::of(&context.tokenizer);
        let Some(Keys { slot, master, .. }) = context.held.ours() else {
            return Err(CliError::EngineKeyNotCommitted);
        };
        let checked = match master {
            Some(_) => CommitmentCheck::Root,
            None => CommitmentCheck::KeyId,
        };
        found
            .check_recipe(context.mark.profile(), &vocabulary)
            .and_then(|()| match master {
                // The slot's epoch first: the root of the commitment's own epoch would match.
                Some(master) => found
                    .check_slot(slot)
                    .and_then(|()| found.check_master(master)),
                None => found.check_slot(slot),
            })
            .map_err(|source| CliError::Commitment {
                path: path.clone(),
                source,
            })?;
        Ok(Some(CommitmentInfo {
            root: found.root().to_owned(),
            digest: found.digest(),
            checked,
        }))
    }

    /// The plan with what was given, if that is within it.
    pub(super) fn plan_info(&self, evidence: &Given) -> Result<Option<PlanInfo>, UnderPlan> {
        let Some(sealed) = &self.plan else {
            return Ok(None);
        };
        let plan = sealed.plan();
        if evidence.prompts > plan.prompts.count {
            return Err(UnderPlan::Prompts {
                found: evidence.prompts,
                planned: plan.prompts.count,
            });
        }
        for (what, found, planned) in [
            ("answers", evidence.answers, plan.budget.answers),
            ("tokens", evidence.tokens, plan.budget.tokens),
        ] {
            if found > planned {
                return Err(UnderPlan::Budget {
                    what,
                    found,
                    planned,
                });
            }
        }
        Ok(Some(PlanInfo {
            id: plan.id.clone(),
            digest: sealed.digest().to_owned(),
            sealed_at: sealed.sealed_at().to_owned(),
            tests: plan.tests.clone(),
            primary: plan.primary,
            planned_answers: plan.budget.answers,
            answers: evidence.answers,
            answers_to_prompts: evidence.answers_to_prompts,
        }))
    }
}

/// How much of the suspect was given.
#[derive(Clone, Copy, Default)]
pub(super) struct Given {
    pub(super) answers: u64,
    /// 0 where they are not known as they were sampled.
    pub(super) tokens: u64,
    /// Prompts that differ.
    pub(super) prompts: u64,
    /// Answers whose prompt is one of the file's.
    pub(super) answers_to_prompts: u64,
}

/// A sealed plan from its file.
pub(crate) fn open(path: &Path) -> Result<SealedPlan, CliError> {
    let json = crate::input::read_text(path)?;
    SealedPlan::open(&json).map_err(|source| CliError::Plan {
        path: path.to_owned(),
        source,
    })
}

fn context(arguments: &Distill, plan: &Plan) -> Result<Context, CliError> {
    let tokenizer = crate::mark::tokenizer(arguments.mark.tokenizer.as_deref())?;
    let vocabulary = Vocabulary::of(&tokenizer);
    if vocabulary != plan.tokenizer {
        let name = |v: &Vocabulary| format!("{} ids, sha256 {}", v.size, v.sha256);
        return Err(UnderPlan::Tokenizer {
            found: name(&vocabulary),
            planned: name(&plan.tokenizer),
        }
        .into());
    }
    let Found { key, exposure } = arguments.mark.key.source.read()?;
    let (slot, master) = match key {
        SecretKey::Slot(slot) => (slot, None),
        SecretKey::Master(master) => {
            let slot = master.slot(&Epoch::new(&plan.key.epoch)?, plan.key.slot);
            (slot, Some(master))
        }
    };
    let bound = plan.profile.bind(&slot);
    let mark = bound.map_err(|source| CliError::Profile {
        name: plan.profile.id.clone(),
        source,
    })?;
    let found = KeyInfo::of(&mark);
    if !plan.key.is(&found) {
        let name = |id: &str, epoch: &str, slot: u32| format!("{id} (epoch {epoch}, slot {slot})");
        let planned = &plan.key;
        return Err(UnderPlan::Key {
            found: name(&found.id, &found.epoch, found.slot),
            planned: name(&planned.id, &planned.epoch, planned.slot),
        }
        .into());
    }
    Ok(Context {
        held: Held::Ours(Keys {
            slot,
            master,
            exposure,
        }),
        mark,
        tokenizer,
    })
}
