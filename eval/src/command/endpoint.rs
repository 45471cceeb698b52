//! A local model as an endpoint.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use watermark_core::key::{ACTIVE_SLOTS, Epoch, SecretKey, read_key_file};
use watermark_core::profile::Mark;
use watermark_core::text::{HfTokenizer, Tokenizer};
use watermark_eval::endpoint::student::{Which, recall};
use watermark_eval::endpoint::{Limits, Service, is_loopback, serve};
use watermark_eval::model::{Model, Transformer, gguf};
use watermark_eval::student::DOCUMENT_START;

/// Serve a local model on /v1/chat/completions, /v1/completions and /v1/models, so that collecting from a suspect can be
/// practised. Its address is printed on standard output as one line of JSON; it ends by itself.
#[derive(Args)]
pub(crate) struct Endpoint {
    /// A GGUF file of architecture llama or gemma3 [default: the embedded model].
    #[arg(long, value_name = "FILE.gguf")]
    model: Option<PathBuf>,
    /// Serve a student of a finished `cycle --out DIR`, whose teacher is --model.
    #[arg(long, value_name = "DIR")]
    cycle: Option<PathBuf>,
    /// Which student: the one that learned marked text, or the innocent one.
    #[arg(long, value_enum, default_value_t = StudentName::Learned, requires = "cycle")]
    student: StudentName,
    /// The name that requests call it by.
    #[arg(long, default_value = "local")]
    name: String,
    /// Write under the key in this file.
    #[arg(long, value_name = "PATH")]
    mark: Option<PathBuf>,
    /// Epoch of a master key.
    #[arg(long, default_value = "e1", requires = "mark")]
    epoch: String,
    /// Slot of a master key.
    #[arg(long, default_value_t = 0, requires = "mark")]
    slot: u32,
    /// Built-in profile or profile file.
    #[arg(long, value_name = "NAME|FILE.json", default_value = watermark_core::profile::BUILT_IN[0], requires = "mark")]
    profile: String,
    /// Leave out the header that names the key, as someone would who relays the service.
    #[arg(long, requires = "mark")]
    hide_key_id: bool,
    /// The address.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    host: IpAddr,
    /// Serve other machines too: needed for an address that is not the loopback.
    #[arg(long)]
    allow_remote: bool,
    /// The port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// End after so many requests.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    max_requests: u64,
    /// End after so many seconds.
    #[arg(long = "for", value_name = "SECONDS", default_value_t = 600)]
    seconds: u64,
    /// Tokens that a request may ask for.
    #[arg(long, default_value_t = 2048)]
    max_tokens: usize,
    /// Threads that write.
    #[arg(long, default_value_t = NonZeroUsize::MIN)]
    workers: NonZeroUsize,
    /// Decides the texts of requests without a seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StudentName {
    Learned,
    Innocent,
}

impl Endpoint {
    pub(crate) fn run(self) -> Result<(), Box<dyn Error>> {
        let address = SocketAddr::new(self.host, self.port);
        if !is_loopback(&address) && !self.allow_remote {
            return Err(format!(
                "--host {}: others could ask it; add --allow-remote",
                self.host
            )
            .into());
        }
        let (teacher, tokenizer) = self.teacher()?;
        let mark = self.mark(&tokenizer)?;
        let mut documents = teacher.documents();
        let model: Box<dyn Model> = match &self.cycle {
            None => Box::new(teacher),
            Some(directory) => {
                let which = match self.student {
                    StudentName::Learned => Which::Learned,
                    StudentName::Innocent => Which::Innocent,
                };
                documents.start = DOCUMENT_START;
                documents.end = DOCUMENT_START;
                Box::new(recall(directory, which, teacher.vocab_size())?)
            }
        };
        let service = Service {
            model,
            tokenizer: Box::new(tokenizer),
            documents,
            name: self.name,
            name_key: mark.is_some() && !self.hide_key_id,
            mark,
            seed: self.seed,
        };
        let limits = Limits {
            requests: self.max_requests,
            time: Duration::from_secs(self.seconds),
            tokens: self.max_tokens,
            workers: self.workers,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let answered = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(address).await?;
            let url = format!("http://{}/v1", listener.local_addr()?);
            println!(
                "{}",
                serde_json::json!({
                    "type": "watermark.endpoint", "schema": 1, "url": url, "model": service.name,
                    "keyId": service.mark.as_ref().map(|mark| mark.key_id().to_string()),
                })
            );
            serve(listener, service, limits).await
        })?;
        eprintln!("{answered} requests answered");
        Ok(())
    }

    fn teacher(&self) -> Result<(Transformer, HfTokenizer), Box<dyn Error>> {
        Ok(match &self.model {
            Some(path) => {
                let gguf::Pretrained { model, tokenizer } = gguf::load(path)?;
                (model, HfTokenizer::new(tokenizer))
            }
            None => (
                watermark_eval::embedded::teacher()?,
                HfTokenizer::from_bytes(
                    watermark_corpora::tokenizer_json(),
                    "of the embedded model",
                )?,
            ),
        })
    }

    fn mark(&self, tokenizer: &dyn Tokenizer) -> Result<Option<Mark>, Box<dyn Error>> {
        let Some(path) = &self.mark else {
            return Ok(None);
        };
        let profile = super::cycle::profile(&self.profile)?;
        profile.check_tokenizer(tokenizer)?;
        let slot = match read_key_file(path)? {
            SecretKey::Master(_) if self.slot >= ACTIVE_SLOTS => {
                return Err(format!("slot {} is a sealed decoy", self.slot).into());
            }
            SecretKey::Master(master) => master.slot(&Epoch::new(&self.epoch)?, self.slot),
            SecretKey::Slot(slot) => slot,
        };
        Ok(Some(profile.bind(&slot)?))
    }
}
