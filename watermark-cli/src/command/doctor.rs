//! `watermark doctor`: what works here, what is missing, and how to get it.

use std::path::Path;
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;
use watermark_core::kernel::Kernel;
use watermark_core::key::read_key_file;

use super::said::DoctorSaid;
use crate::cli::{Doctor, Format};
use crate::config::Config;
use crate::error::CliError;
use crate::mark::{profile, tokenizer};
use crate::render::print_json;
use crate::schema::Version;

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Health {
    Works,
    /// Something that only some commands need.
    Missing,
    Broken,
}

/// One check.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Check {
    name: &'static str,
    health: Health,
    /// What was found.
    found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Check {
    fn works(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            health: Health::Works,
            found: found.into(),
            remedy: None,
        }
    }

    fn missing(name: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            name,
            health: Health::Missing,
            found: found.into(),
            remedy: Some(remedy.into()),
        }
    }

    /// Errors of this tool say themselves what to do.
    fn broken(name: &'static str, error: &CliError) -> Self {
        Self {
            name,
            health: Health::Broken,
            found: error.to_string(),
            remedy: None,
        }
    }

    fn of(name: &'static str, result: Result<String, CliError>) -> Self {
        result.map_or_else(
            |error| Self::broken(name, &error),
            |found| Self::works(name, found),
        )
    }
}

pub(super) fn run(arguments: &Doctor, config: &Config) -> Result<ExitCode, CliError> {
    let checks = checks(config);
    let broken = checks.iter().any(|check| check.health == Health::Broken);
    match arguments.format {
        Format::Human => checks.iter().for_each(print),
        Format::Json | Format::Jsonl => print_json(&DoctorSaid {
            schema: Version,
            version: env!("CARGO_PKG_VERSION"),
            checks,
        }),
    }
    Ok(ExitCode::from(u8::from(broken)))
}

fn print(check: &Check) {
    let health = match check.health {
        Health::Works => "works",
        Health::Missing => "missing",
        Health::Broken => "BROKEN",
    };
    println!("{health:<8} {:<14} {}", check.name, check.found);
    if let Some(remedy) = &check.remedy {
        println!("{:<23} {remedy}", "");
    }
}

fn checks(config: &Config) -> Vec<Check> {
    let kernels: Vec<_> = Kernel::available().map(Kernel::name).collect();
    let kernel = format!("{} (of {})", Kernel::current().name(), kernels.join(", "));
    let mut checks = vec![
        Check::works("version", env!("CARGO_PKG_VERSION")),
        Check::works("kernel", kernel),
        Check::of(
            "tokenizer",
            tokenizer(None).map(|_| "the embedded one".to_owned()),
        ),
        temporary(),
        roots(),
    ];
    checks.push(match &config.file {
        Some(path) => Check::works("configuration", path.display().to_string()),
        None => Check::works("configuration", "no file; flags and the environment only"),
    });
    for (name, value, origin) in config.settings() {
        let found = format!("{value} ({origin})");
        checks.push(Check::of(name, examine(name, value).map(|()| found)));
    }
    if !config.settings().any(|(name, ..)| name == "model") {
        checks.push(Check::missing(
            "model",
            "only the embedded one, which writes like the texts that it was trained on",
            "corpora/fetch.sh smollm2 DIRECTORY fetches a pretrained model (98 MB); give it with --model",
        ));
    }
    checks
}

/// Opens what a setting names.
fn examine(name: &str, value: &str) -> Result<(), CliError> {
    let path = Path::new(value);
    match name {
        "key_file" => read_key_file(path).map(drop).map_err(CliError::from),
        "profile" => profile(value).map(drop),
        "tokenizer" => tokenizer(Some(path)).map(drop),
        "model" => std::fs::File::open(path)
            .map(drop)
            .map_err(CliError::io(path)),
        _ => Ok(()),
    }
}

/// Large inputs sort on disk.
fn temporary() -> Check {
    let folder = std::env::temp_dir();
    let written = tempfile::tempfile_in(&folder)
        .and_then(|mut file| std::io::Write::write_all(&mut file, &[0; 4096]));
    Check::of(
        "scratch",
        written
            .map(|()| folder.display().to_string())
            .map_err(CliError::io(folder.as_path())),
    )
}

/// Where systems keep the certificates that `collect` trusts.
fn roots() -> Check {
    let places = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/ssl/cert.pem",
        "/etc/ssl/ca-bundle.pem",
    ];
    if cfg!(not(all(unix, not(target_vendor = "apple")))) {
        return Check::works("certificates", "those of the system");
    }
    let named = std::env::var("SSL_CERT_FILE").ok();
    let found = named
        .iter()
        .map(String::as_str)
        .chain(places)
        .find(|place| Path::new(place).exists());
    match found {
        Some(place) => Check::works("certificates", place),
        None => Check::missing(
            "certificates",
            "no file of root certificates",
            "collect over https needs them: install the package ca-certificates, or set SSL_CERT_FILE",
        ),
    }
}
