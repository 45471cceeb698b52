//! The configuration file: paths, hashes and numbers; no secret stands in it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::ServeError;

/// `serve.toml`. Paths are relative to its directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ServeConfig")]
pub(crate) struct Config {
    #[serde(default = "loopback")]
    pub(super) listen: SocketAddr,
    /// Listening beyond the loopback interface: bearer tokens then cross a network in the clear, unless a proxy with
    /// TLS stands before the service.
    #[serde(default)]
    pub(super) allow_remote: bool,
    #[serde(default)]
    pub(super) page: Page,
    /// Values of `Host` that the page answers to, beside the loopback names.
    #[serde(default)]
    pub(super) hosts: Vec<String>,
    /// Seconds between looks for changed files; 0 looks only at SIGHUP.
    #[serde(default = "five")]
    pub(super) reload_seconds: u64,
    #[serde(rename = "mark", default)]
    pub(super) marks: Vec<MarkConfig>,
    #[serde(rename = "token", default)]
    pub(super) tokens: Vec<TokenConfig>,
    pub(super) cohort: Option<CohortConfig>,
    #[serde(default)]
    pub(super) limits: Limits,
}

/// Who gets the page with the form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Page {
    /// Served while the service listens on the loopback interface.
    #[default]
    Loopback,
    /// Served to every host of `hosts`.
    On,
    /// Not served.
    Off,
}

/// A mark that texts are tested for: profile, key and policy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MarkConfig {
    pub(super) name: String,
    #[serde(default = "default_profile")]
    pub(super) profile: String,
    pub(super) key_file: PathBuf,
    pub(super) epoch: Option<String>,
    pub(super) slot: Option<u32>,
    pub(super) tokenizer: Option<PathBuf>,
    #[serde(default = "default_alpha")]
    pub(super) alpha: f64,
    #[serde(default = "default_min_cells")]
    pub(super) min_cells: u64,
}

/// A bearer token: its hash, or a file that holds it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenConfig {
    pub(super) name: String,
    /// SHA-256 of the token, in hexadecimal.
    pub(super) sha256: Option<String>,
    /// A file of mode 0600 with the token on its only line.
    pub(super) file: Option<PathBuf>,
    pub(super) role: Role,
    /// Texts a minute, in place of the common limit.
    pub(super) per_minute: Option<u32>,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// Three-way verdicts.
    Verdict,
    /// Verdicts with their numbers, and explanations.
    Scores,
    /// The slot of a request: for inference servers.
    Provider,
}

impl Role {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Scores => "scores",
            Self::Provider => "provider",
        }
    }
}

/// Which mark an account's answers are written under.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CohortConfig {
    /// JSONL: `{"account_sha256": HEX, "mark": NAME}`.
    pub(super) file: PathBuf,
    /// The mark of all other accounts.
    pub(super) default: String,
}

/// What one client, and all together, can take.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// Bytes of a request's body.
    pub(super) body_bytes: usize,
    /// Tokens of a request, prompts included.
    pub(super) tokens: usize,
    /// Tokens of a text that is explained.
    pub(super) explain_tokens: usize,
    /// Texts of a request.
    pub(super) inputs: usize,
    /// Texts a minute and token; as many may come at once.
    pub(super) per_minute: u32,
    /// Open connections. Needs a restart.
    pub(super) connections: usize,
    /// Detections at a time; as many as there are processors, if it is not given. Needs a restart.
    #[schemars(transform = crate::schema::without_default)]
    pub(super) concurrent: usize,
    /// Until the headers are there, also of the next request on a connection.
    pub(super) header_seconds: u64,
    /// Until the body is there.
    pub(super) body_seconds: u64,
    /// Until the answer is there, waiting for a free place included.
    pub(super) request_seconds: u64,
    /// Of a connection.
    pub(super) connection_seconds: u64,
    /// For requests at hand when the service is told to stop.
    pub(super) drain_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 1 << 20,
            tokens: 100_000,
            explain_tokens: 20_000,
            inputs: 64,
            per_minute: 600,
            connections: 256,
            concurrent: std::thread::available_parallelism().map_or(1, usize::from),
            header_seconds: 5,
            body_seconds: 15,
            request_seconds: 30,
            connection_seconds: 300,
            drain_seconds: 20,
        }
    }
}

impl Limits {
    pub(super) fn body_time(&self) -> Duration {
        Duration::from_secs(self.body_seconds)
    }

    pub(super) fn request_time(&self) -> Duration {
        Duration::from_secs(self.request_seconds)
    }

    fn check(&self) -> Result<(), String> {
        let seconds = |value: u64| value as usize;
        for (field, value, most) in [
            ("body_bytes", self.body_bytes, 1 << 28),
            ("tokens", self.tokens, 1 << 26),
            ("explain_tokens", self.explain_tokens, 1 << 20),
            ("inputs", self.inputs, 1 << 16),
            ("per_minute", self.per_minute as usize, 1 << 30),
            ("connections", self.connections, 1 << 16),
            ("concurrent", self.concurrent, 1 << 10),
            ("header_seconds", seconds(self.header_seconds), 3600),
            ("body_seconds", seconds(self.body_seconds), 3600),
            ("request_seconds", seconds(self.request_seconds), 3600),
            (
                "connection_seconds",
                seconds(self.connection_seconds),
                86_400,
            ),
            ("drain_seconds", seconds(self.drain_seconds), 3600),
        ] {
            if value == 0 || value > most {
                return Err(format!(
                    "field `limits.{field}` is {value}; it must be 1 to {most}"
                ));
            }
        }
        Ok(())
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8737)
}

fn five() -> u64 {
    5
}

fn default_profile() -> String {
    watermark_core::profile::BUILT_IN[0].to_owned()
}

fn default_alpha() -> f64 {
    watermark_core::verdict::Policy::default().alpha
}

fn default_min_cells() -> u64 {
    watermark_core::verdict::Policy::default().min_cells
}

impl Config {
    /// Reads and checks a file. `listen` takes the place of the file's.
    pub(super) fn read(path: &Path, listen: Option<SocketAddr>) -> Result<Self, ServeError> {
        let text = std::fs::read_to_string(path).map_err(|source| ServeError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut config: Self = toml::from_str(&text).map_err(|error| {
            // The library's own display quotes the line.
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..at]
                .iter()
                .filter(|&&b| b == b'\n')
                .count()
                + 1;
            ServeError::config(path, Some(line), error.message())
        })?;
        config.listen = listen.unwrap_or(config.listen);
        config
            .check()
            .map_err(|message| ServeError::config(path, None, message))?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let below = |file: &mut PathBuf| *file = directory.join(&*file);
        for mark in &mut config.marks {
            below(&mut mark.key_file);
            mark.tokenizer.iter_mut().for_each(below);
            if watermark_core::profile::Profile::built_in(&mark.profile).is_none() {
                let file = directory.join(&mark.profile);
                if file.exists() {
                    mark.profile = file.display().to_string();
                }
            }
        }
        config
            .tokens
            .iter_mut()
            .filter_map(|token| token.file.as_mut())
            .for_each(below);
        config
            .cohort
            .iter_mut()
            .for_each(|cohort| below(&mut cohort.file));
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let listen = self.listen;
        if !listen.ip().is_loopback() && !self.allow_remote {
            return Err(format!(
                "field `listen`: {listen} is no loopback address, and bearer tokens would cross the network in the clear; put a proxy with TLS before the service, or set allow_remote = true"
            ));
        }
        if self.page == Page::On && !listen.ip().is_loopback() && self.hosts.is_empty() {
            return Err(
                "field `hosts` is empty: name the hosts under which the page is served".into(),
            );
        }
        if self.marks.is_empty() {
            return Err("there is no [[mark]]: name at least one, with its key_file".into());
        }
        if self.tokens.is_empty() {
            return Err("there is no [[token]]: nobody could ask anything".into());
        }
        unique("mark", self.marks.iter().map(|mark| &mark.name))?;
        unique("token", self.tokens.iter().map(|token| &token.name))?;
        for mark in &self.marks {
            let name = &mark.name;
            if !(mark.alpha > 0.0 && mark.alpha < 1.0) {
                return Err(format!(
                    "mark `{name}`, field `alpha` is {}; it must be above 0 and below 1",
                    mark.alpha
                ));
            }
            if mark.min_cells == 0 {
                return Err(format!(
                    "mark `{name}`, field `min_cells` is 0; it must be at least 1"
                ));
            }
            if mark.key_file == Path::new("-") {
                return Err(format!(
                    "mark `{name}`, field `key_file`: a service needs a file, to read it again"
                ));
            }
        }
        for token in &self.tokens {
            if token.sha256.is_some() == token.file.is_some() {
                return Err(format!(
                    "token `{}`: give either `sha256` or `file`",
                    token.name
                ));
            }
            if token.per_minute == Some(0) {
                return Err(format!(
                    "token `{}`, field `per_minute` is 0; it must be at least 1",
                    token.name
                ));
            }
        }
        if let Some(cohort) = &self.cohort
            && !self.marks.iter().any(|mark| mark.name == cohort.default)
        {
            return Err("field `cohort.default` names no [[mark]]".into());
        }
        self.limits.check()
    }

    /// Whether the page is served at all.
    pub(super) fn serves_page(&self) -> bool {
        match self.page {
            Page::Loopback => self.listen.ip().is_loopback(),
            Page::On => true,
            Page::Off => false,
        }
    }
}

/// Names are short, plain and given once: they stand in logs.
fn unique<'n>(what: &str, names: impl Iterator<Item = &'n String>) -> Result<(), String> {
    let mut met = std::collections::HashSet::new();
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    for name in names {
        if name.is_empty() || name.len() > 32 || !name.chars().all(plain) {
            return Err(format!(
                "[[{what}]], field `name`: use 1 to 32 characters out of letters, digits, `.`, `_`, `-`"
            ));
        }
        if !met.insert(name) {
            return Err(format!("two [[{what}]] have the name `{name}`"));
        }
    }
    Ok(())
}
