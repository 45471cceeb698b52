//! Dry runs: what a command would read, send, test and write, told without doing it.
//!
//! A dry run opens what the real run opens for reading, keys too, and refuses what the real run refuses before its work.
//! It makes no test, sends nothing and opens no file for writing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;
use watermark_core::detect::TestId;
use watermark_core::evidence::plan::SealedPlan;
use watermark_core::key::{KeyId, MasterKey, SlotLabel};
use watermark_core::profile::Mark;
use watermark_core::verdict::Policy;
use watermark_core::window::Counts;

use crate::cli::{Format, KeySource};
use crate::command::collect::forms::Asks;
use crate::mark::{Context, Held, Keys};
use crate::render::print_json;
use crate::schema::{Type, Version};
use crate::serve::forms::Service;

/// What a command would do: nothing was sent, tested or written.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.dry-run", rename_all = "camelCase")]
#[schemars(transform = Type("watermark.dry-run"))]
pub(crate) struct DryRun {
    schema: Version,
    /// The command.
    command: &'static str,
    /// The keys that it opens, by their public names.
    keys: Vec<DryKey>,
    /// What it reads.
    reads: Vec<DryRead>,
    /// What it would write.
    writes: Vec<DryWrite>,
    /// The sealed plan that it follows, or the plan that it would seal.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<DryPlan>,
    /// The text at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<DryText>,
    /// The text that it would make.
    #[serde(skip_serializing_if = "Option::is_none")]
    makes: Option<DryMakes>,
    /// What it would test.
    #[serde(skip_serializing_if = "Option::is_none")]
    test: Option<DryTest>,
    /// What it would send, and what that costs.
    #[serde(skip_serializing_if = "Option::is_none")]
    asks: Option<Asks>,
    /// What it would serve.
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<Service>,
}

/// A key by its public name.
#[derive(Serialize, JsonSchema)]
struct DryKey {
    kind: Kind,
    id: String,
    /// Of a slot's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<u32>,
}

/// Kinds of keys.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Master,
    Slot,
    /// Another engine's.
    Engine,
}

/// A file, or what stands for one.
#[derive(Serialize, JsonSchema)]
struct DryRead {
    /// What it is given as.
    role: &'static str,
    /// Its name as it was given.
    name: String,
    /// Its size; absent of directories, standard input and what a command prints.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
}

/// A file or directory that would be written.
#[derive(Serialize, JsonSchema)]
struct DryWrite {
    role: &'static str,
    name: String,
    /// Something of this name is there, and would be replaced or gone on with.
    exists: bool,
}

/// A plan by its name and digest.
#[derive(Serialize, JsonSchema)]
struct DryPlan {
    id: String,
    /// SHA-256 of its canonical JSON.
    digest: String,
}

/// How much text.
#[derive(Serialize, JsonSchema)]
struct DryText {
    answers: u64,
    tokens: u64,
    /// Distinct cells: what a test would score.
    cells: u64,
}

/// How much text would be made.
#[derive(Serialize, JsonSchema)]
struct DryMakes {
    answers: u64,
    /// At most.
    tokens: u64,
}

/// What would be tested.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct DryTest {
    /// The tests; absent where all are run that the evidence allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    tests: Option<Vec<TestId>>,
    policy: Policy,
    /// Keys nobody used that are scored beside the key.
    decoys: u64,
}

impl DryRun {
    pub(crate) fn of(command: &'static str) -> Self {
        Self {
            schema: Version,
            command,
            keys: Vec::new(),
            reads: Vec::new(),
            writes: Vec::new(),
            plan: None,
            text: None,
            makes: None,
            test: None,
            asks: None,
            service: None,
        }
    }

    /// A mark's key, and the master key that it was derived from, where that is at hand.
    pub(crate) fn context(self, context: &Context) -> Self {
        self.held(&context.held, &context.mark)
    }

    /// The same of its parts.
    pub(crate) fn held(self, held: &Held, mark: &Mark) -> Self {
        match held {
            Held::Ours(Keys {
                master: Some(master),
                ..
            }) => self.master(master).mark(mark),
            Held::Ours(_) => self.mark(mark),
            Held::Engine { key, .. } => self.engine(key.id()),
        }
    }

    /// Another engine's key.
    pub(crate) fn engine(mut self, id: KeyId) -> Self {
        self.keys.push(DryKey {
            kind: Kind::Engine,
            id: id.to_string(),
            epoch: None,
            slot: None,
        });
        self
    }

    /// A mark's key.
    pub(crate) fn mark(self, mark: &Mark) -> Self {
        self.slot(mark.key_id().to_string(), mark.label())
    }

    pub(crate) fn master(mut self, master: &MasterKey) -> Self {
        self.keys.push(DryKey {
            kind: Kind::Master,
            id: master.id().to_string(),
            epoch: None,
            slot: None,
        });
        self
    }

    pub(crate) fn slot(mut self, id: String, label: &SlotLabel) -> Self {
        self.keys.push(DryKey {
            kind: Kind::Slot,
            id,
            epoch: Some(label.epoch.to_string()),
            slot: Some(label.index),
        });
        self
    }

    /// Where the key comes from.
    pub(crate) fn source(self, key_file: Option<&Path>, key_command: Option<&str>) -> Self {
        let program = key_command.and_then(shlex::split).unwrap_or_default();
        match program.first() {
            Some(program) => {
                let name = PathBuf::from(format!("(output of {program})"));
                self.reads("key", [name])
            }
            None => self.reads("key", key_file),
        }
    }

    /// Where a mark's key comes from.
    pub(crate) fn key_source(self, source: &KeySource) -> Self {
        self.source(source.key_file.as_deref(), source.key_command.as_deref())
    }

    pub(crate) fn reads(
        mut self,
        role: &'static str,
        paths: impl IntoIterator<Item = impl AsRef<Path>>,
    ) -> Self {
        let read = |path: &Path| DryRead {
            role,
            name: path.display().to_string(),
            bytes: std::fs::metadata(path)
                .ok()
                .filter(std::fs::Metadata::is_file)
                .map(|metadata| metadata.len()),
        };
        let files = paths.into_iter().map(|path| read(path.as_ref()));
        self.reads.extend(files);
        self
    }

    pub(crate) fn writes(
        mut self,
        role: &'static str,
        paths: impl IntoIterator<Item = impl AsRef<Path>>,
    ) -> Self {
        let write = |path: &Path| DryWrite {
            role,
            name: path.display().to_string(),
            exists: path.exists(),
        };
        let files = paths.into_iter().map(|path| write(path.as_ref()));
        self.writes.extend(files);
        self
    }

    pub(crate) fn plan(mut self, plan: Option<&SealedPlan>) -> Self {
        self.plan = plan.map(|sealed| DryPlan {
            id: sealed.plan().id.clone(),
            digest: sealed.digest().to_owned(),
        });
        self
    }

    pub(crate) fn text(mut self, answers: u64, counts: &Counts) -> Self {
        self.text = Some(DryText {
            answers,
            tokens: counts.tokens,
            cells: counts.cells,
        });
        self
    }

    /// So many answers, and so many tokens at most.
    pub(crate) fn makes(mut self, answers: u64, tokens: u64) -> Self {
        self.makes = Some(DryMakes { answers, tokens });
        self
    }

    pub(crate) fn test(
        mut self,
        tests: Option<Vec<TestId>>,
        policy: &Policy,
        decoys: usize,
    ) -> Self {
        self.test = Some(DryTest {
            tests,
            policy: *policy,
            decoys: decoys as u64,
        });
        self
    }

    pub(crate) fn asks(mut self, asks: Asks) -> Self {
        self.asks = Some(asks);
        self
    }

    pub(crate) fn service(mut self, service: Service) -> Self {
        self.service = Some(service);
        self
    }

    pub(crate) fn print(&self, format: Format) {
        match format {
            Format::Human => print!("{}", self.lines()),
            Format::Json | Format::Jsonl => print_json(self),
        }
    }

    /// For people.
    fn lines(&self) -> String {
        let mut out = format!(
            "dry run of `watermark {}`: nothing is sent, tested or written\n",
            self.command
        );
        // Writing to a String cannot fail.
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "  {name:<10} {value}");
        };
        for key in &self.keys {
            line(
                "key",
                match (&key.epoch, key.slot) {
                    (Some(epoch), Some(slot)) => format!("{} (epoch {epoch}, slot {slot})", key.id),
                    _ => format!("{} (master)", key.id),
                },
            );
        }
        if self.keys.is_empty() {
            line("key", "none is read".to_owned());
        }
        if let Some(plan) = &self.plan {
            line("plan", format!("{}, digest {}", plan.id, plan.digest));
        }
        for DryRead { role, name, bytes } in &self.reads {
            let bytes = bytes.map_or(String::new(), |bytes| format!(", {bytes} bytes"));
            line("reads", format!("{role} {name}{bytes}"));
        }
        if let Some(text) = &self.text {
            line(
                "text",
                format!(
                    "{} answers, {} tokens, {} distinct cells",
                    text.answers, text.tokens, text.cells
                ),
            );
        }
        if let Some(DryMakes { answers, tokens }) = &self.makes {
            line(
                "makes",
                format!("{answers} answers, {tokens} tokens at most"),
            );
        }
        if let Some(test) = &self.test {
            let names = |ids: &Vec<TestId>| {
                let names: Vec<_> = ids.iter().map(|id| id.name()).collect();
                names.join(", ")
            };
            let tests = test.tests.as_ref().map(names);
            line(
                "tests",
                format!(
                    "{} at alpha {:e}, from {} cells on, beside {} keys that nobody used",
                    tests.as_deref().unwrap_or("all that the evidence allows"),
                    test.policy.alpha,
                    test.policy.min_cells,
                    test.decoys
                ),
            );
        }
        if let Some(asks) = &self.asks {
            asks.lines(&mut line);
        }
        for DryWrite { role, name, exists } in &self.writes {
            let there = match exists {
                true => ", which is there already",
                false => "",
            };
            line("writes", format!("{role} {name}{there}"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory};

    /// Whatever opens a key or asks an endpoint can be asked what it would do. `key inspect` does nothing else.
    #[test]
    fn every_command_with_a_key_or_a_cost_has_a_dry_run() {
        fn check(command: &Command, path: &str, found: &mut usize) {
            let has = |name: &str| command.get_arguments().any(|arg| arg.get_id() == name);
            let opens = ["key_file", "key_command", "endpoint", "api_key_file"];
            if opens.into_iter().any(has) && path != "watermark key inspect" {
                assert!(has("dry_run"), "{path}");
                *found += 1;
            }
            for command in command.get_subcommands() {
                check(command, &format!("{path} {}", command.get_name()), found);
            }
        }
        let mut found = 0;
        check(&crate::cli::Cli::command(), "watermark", &mut found);
        assert!(found >= 12, "{found}");
        let serve = crate::cli::Cli::command();
        for path in [&["serve"][..], &["plan", "seal"]] {
            let mut command = &serve;
            for name in path {
                command = command.find_subcommand(name).unwrap();
            }
            assert!(command.get_arguments().any(|arg| arg.get_id() == "dry_run"));
        }
    }
}
