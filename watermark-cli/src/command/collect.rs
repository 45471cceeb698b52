//! `watermark collect`.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use watermark_core::anytime::Look;
use watermark_core::profile::Profile;

use crate::cli::{Collect, CollectResume, CollectRun, Format, UntilKeyArgs};
use crate::command::said::CollectionRun;
use crate::dry::DryRun;
use crate::error::CliError;
use crate::render::{headline, print_json};
use crate::schema::Version;

mod asks;
mod bar;
mod budget;
mod client;
mod engine;
pub(crate) mod error;
mod folder;
mod import;
mod planned;
mod prompts;
mod retry;
mod status;
mod time;
pub(crate) mod transcript;
mod until;

use asks::Asks;
use budget::Caps;
use client::Client;
use engine::{Ending, Limits};
use error::CollectError;
use folder::{Collection, Event, Folder, KIND, PromptsInfo, TOOL};
use planned::Planned;
use prompts::{Ask, Shape};
use status::Status;
use transcript::{Origin, sha256};
use until::{Opened, Until};

/// Forms of what is written, read and printed.
pub(crate) mod forms {
    pub(crate) use super::asks::Asks;
    pub(crate) use super::status::Status;
    #[cfg(test)]
    pub(crate) use super::{
        folder::{Collection, Event},
        prompts::RequestLine,
        transcript::Line,
    };
}

pub(super) fn run(arguments: &Collect) -> Result<ExitCode, CliError> {
    match arguments {
        Collect::Run(arguments) => begin(arguments),
        Collect::Resume(arguments) => resume(arguments),
        Collect::Status(arguments) => status::run(arguments),
        Collect::Import(arguments) => import::run(arguments),
    }
}

fn begin(arguments: &CollectRun) -> Result<ExitCode, CliError> {
    let limits = Limits::new(&arguments.pace)?;
    let planned = arguments
        .plan
        .as_deref()
        .map(|path| Planned::open(path, arguments))
        .transpose()?;
    let (shape, source) = match &planned {
        Some(planned) => (planned.shape(arguments)?, planned.prompts(arguments)?),
        None => {
            let model = arguments.model.clone().unwrap_or_default();
            let api = arguments.api.unwrap_or(crate::cli::Api::Chat);
            let source = arguments.prompts.clone().unwrap_or_default();
            (Shape::new(api, model, &arguments.shape)?, source)
        }
    };
    let bytes = prompts::bytes(&source)?;
    if let Some(planned) = &planned {
        planned.check(&source, &bytes)?;
    }
    let url = client::endpoint(&arguments.endpoint, shape.api)?;
    let host = url.host_str().unwrap_or_default();
    if let Some(own) = arguments
        .own_host
        .iter()
        .find(|own| own.eq_ignore_ascii_case(host))
    {
        let what = format!("--endpoint: {own} is given as --own-host");
        return Err(CollectError::OwnService { what }.into());
    }
    // A plan's prompts have one form, whatever their file is called.
    let jsonl = planned.is_some() || prompts::is_jsonl(&source);
    let lines = prompts::requests(&source, &bytes, jsonl, &shape)?;
    let lines: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let asks = prompts::asks(Path::new("prompts.jsonl"), &lines)?;
    let mut caps = Caps::new(&arguments.caps)?;
    if let Some(planned) = &planned {
        planned.cap(&mut caps);
    }
    check_limits(&caps, &asks)?;
    let opened = match arguments.until.until {
        None if arguments.until.key.is_given() => {
            return Err(CliError::Usage(
                "--key-file without --until: a collector needs no key; leave it out".into(),
            ));
        }
        None => None,
        Some(alpha) => {
            if !(alpha > 0.0 && alpha < 1.0) {
                return Err(CliError::Usage(format!(
                    "--until {alpha}: it must be above 0 and below 1"
                )));
            }
            let profile = profile(arguments, planned.as_ref())?;
            let opened = Opened::new(&profile, &arguments.until.key)?;
            let info = opened.info(alpha, arguments.until.planned_cells);
            if let Some(planned) = &planned {
                planned.check_until(&info)?;
            }
            Some((opened, info))
        }
    };
    // Whatever can be wrong with the client is told before anything is written.
    let client = Client::new(url.clone(), &arguments.access)?;
    let collection = Collection {
        kind: KIND.to_owned(),
        schema: 1,
        tool: TOOL.to_owned(),
        created: time::rfc3339(SystemTime::now()),
        origin: Origin::Observed,
        endpoint: Some(url.to_string()),
        api: Some(shape.api),
        model: Some(shape.model.clone()),
        parameters: shape.parameters(),
        prompts: PromptsInfo {
            source: name_of(&source),
            source_sha256: Some(sha256(&bytes)),
            count: asks.len() as u64,
            sha256: sha256(lines.as_bytes()),
        },
        caps,
        own_hosts: arguments.own_host.clone(),
        plan: planned.as_ref().map(Planned::info),
        collector_held_key: opened.is_some(),
        until: opened.as_ref().map(|(_, info)| info.clone()),
        imported: Vec::new(),
    };
    if arguments.dry_run {
        Folder::check_new(&arguments.out)?;
        let dry = DryRun::of("collect run").reads("plan", &arguments.plan);
        let source = Path::new(&source);
        let dry = match source.exists() {
            true => dry.reads("prompts", [source]),
            false => dry,
        };
        let dry = until_key(dry, &arguments.until.key, opened.as_ref().map(|(o, _)| o))
            .plan(planned.as_ref().map(Planned::sealed));
        let first = lines.lines().next().unwrap_or_default();
        dry.asks(Asks::new(collection, &caps, asks.iter(), first))
            .writes("collection", [&arguments.out])
            .print(arguments.format);
        return Ok(ExitCode::SUCCESS);
    }
    Folder::create(&arguments.out, &collection, lines.as_bytes(), None)?;
    let opened = opened.map(|(opened, _)| opened);
    go_on(&Going {
        dir: &arguments.out,
        client: Arc::new(client),
        limits: &limits,
        caps,
        opened: opened.as_ref(),
        retry_refused: false,
        format: arguments.format,
    })
}

/// The profile of an any-time test.
fn profile(arguments: &CollectRun, planned: Option<&Planned>) -> Result<Profile, CliError> {
    match (&arguments.until.profile, planned) {
        (Some(name), _) => crate::mark::profile(name),
        (None, Some(planned)) => Ok(planned.profile().clone()),
        (None, None) => crate::mark::profile(watermark_core::profile::BUILT_IN[0]),
    }
}

/// The last part of a path: the rest is nobody's business.
fn name_of(source: &str) -> String {
    let name = Path::new(source).file_name();
    name.map_or_else(
        || source.to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// A cap on tokens or money needs to know what a request can become.
fn check_limits(caps: &Caps, asks: &[Ask]) -> Result<(), CollectError> {
    let without = asks.iter().find(|ask| ask.worst.output.is_none());
    match without.filter(|_| caps.need_limits()) {
        Some(ask) => Err(CollectError::Usage(format!(
            "request {} has no `max_tokens`: a cap on tokens or money cannot be kept",
            ask.id
        ))),
        None => Ok(()),
    }
}

/// The key of an any-time test; a collector without one reads none.
fn until_key(dry: DryRun, arguments: &UntilKeyArgs, opened: Option<&Opened>) -> DryRun {
    match opened {
        None => dry,
        Some(opened) => dry
            .source(
                arguments.key_file.as_deref(),
                arguments.key_command.as_deref(),
            )
            .mark(opened.mark()),
    }
}

fn resume(arguments: &CollectResume) -> Result<ExitCode, CliError> {
    let limits = Limits::new(&arguments.pace)?;
    // Read without the lock, and again with it: what is fixed does not change.
    let view = folder::View::of(&arguments.dir)?;
    let collection = view.collection;
    let Some(endpoint) = &collection.endpoint else {
        return Err(CollectError::Usage(format!(
            "{}: imported answers; there is no endpoint to ask",
            arguments.dir.display()
        ))
        .into());
    };
    let content = |message: String| CollectError::Content {
        path: arguments.dir.join("collection.json"),
        message,
    };
    let api = collection
        .api
        .ok_or_else(|| content("no field `api`".into()))?;
    let url = client::endpoint(endpoint, api)?;
    let caps = collection.caps.with(Caps::new(&arguments.caps)?);
    check_limits(&caps, &view.asks)?;
    let opened = match &collection.until {
        None if arguments.key.is_given() => {
            return Err(CliError::Usage(
                "--key-file: the collection was begun without a key (--until), and stays without"
                    .into(),
            ));
        }
        None => None,
        Some(info) => Some(Opened::new(&info.profile, &arguments.key)?),
    };
    let client = Client::new(url, &arguments.access)?;
    if arguments.dry.dry_run {
        return dry_resume(arguments, &caps, opened.as_ref());
    }
    go_on(&Going {
        dir: &arguments.dir,
        client: Arc::new(client),
        limits: &limits,
        caps,
        opened: opened.as_ref(),
        retry_refused: arguments.retry_refused,
        format: arguments.format,
    })
}

/// What is left to ask, by a look that takes no lock and repairs nothing.
fn dry_resume(
    arguments: &CollectResume,
    caps: &Caps,
    opened: Option<&Opened>,
) -> Result<ExitCode, CliError> {
    let dir = &arguments.dir;
    if folder::is_locked(dir) {
        return Err(CollectError::Locked(dir.clone()).into());
    }
    let (mut view, ..) = folder::View::look(dir)?;
    if arguments.retry_refused {
        view.book.forget_refusals();
    }
    let requests = crate::input::read_text(&dir.join("prompts.jsonl"))?;
    if let (Some(opened), Some(info)) = (opened, &view.collection.until) {
        Until::open(opened, info, dir, &requests)?;
    }
    let left = view.asks.iter().zip(requests.lines());
    let mut left = left.filter(|(ask, _)| !view.book.is_done(&ask.id));
    let first = left.clone().next().map_or("", |(_, line)| line);
    let left: Vec<&Ask> = left.by_ref().map(|(ask, _)| ask).collect();
    let asks = Asks::new(view.collection.clone(), caps, left.into_iter(), first);
    until_key(DryRun::of("collect resume"), &arguments.key, opened)
        .reads("collection", [dir])
        .asks(asks)
        .writes("collection", [dir])
        .print(arguments.format);
    Ok(ExitCode::SUCCESS)
}

/// What a run needs, whether it begins or goes on.
struct Going<'a> {
    dir: &'a Path,
    client: Arc<Client>,
    limits: &'a Limits,
    caps: Caps,
    opened: Option<&'a Opened>,
    retry_refused: bool,
    format: Format,
}

fn go_on(going: &Going<'_>) -> Result<ExitCode, CliError> {
    let watched = going.opened.is_some();
    let mut answers = Vec::new();
    let mut folder = Folder::open(going.dir, &mut |line| {
        if watched
            && line
                .pointer("/x_wmk/outcome")
                .is_some_and(|o| o == "answered")
        {
            answers.push(line.clone());
        }
    })?;
    if going.retry_refused {
        folder.view.book.forget_refusals();
    }
    let mut until = match (going.opened, folder.view.collection.until.clone()) {
        (Some(opened), Some(info)) => {
            let requests = crate::input::read_text(&going.dir.join("prompts.jsonl"))?;
            let mut until = Until::open(opened, &info, going.dir, &requests)?;
            until.catch_up(&answers)?;
            Some(until)
        }
        _ => None,
    };
    drop(answers);
    folder.note(&Event::Run {
        at: time::rfc3339(SystemTime::now()),
        tool: TOOL.to_owned(),
        caps: going.caps,
    })?;
    let ending = engine::run(
        &mut folder,
        Arc::clone(&going.client),
        going.limits,
        going.caps,
        until.as_mut(),
    )?;
    engine::note_end(&mut folder, &ending)?;
    let look = until.as_mut().map(Until::finish).transpose()?.flatten();
    folder.view.collection.caps = going.caps;
    let status = Status::of(&folder.view, folder.transcript.head(), 0, false);
    let code = ending.exit_code(folder.view.book.answered());
    match going.format {
        Format::Human => {
            print!("{}", status.text());
            if let Some(look) = &look {
                println!("  any-time   {}", look_text(look));
            }
        }
        Format::Json | Format::Jsonl => print_json(&CollectionRun {
            schema: Version,
            ending: ending.name(),
            message: ending.to_string(),
            exit_code: code,
            status,
            look,
        }),
    }
    let dir = going.dir.display();
    match (&ending, code) {
        (Ending::Complete | Ending::Tested | Ending::Cap(_), 0) => eprintln!("done: {ending}"),
        (_, 5) => eprintln!("stopped: {ending}. Go on with: watermark collect resume {dir}"),
        _ => eprintln!("error: {ending}"),
    }
    Ok(ExitCode::from(code))
}

fn look_text(look: &Look) -> String {
    let advice = match look.advice {
        watermark_core::anytime::Advice::Decided => "decided: E has reached 1/alpha",
        watermark_core::anytime::Advice::Futile => "futile: reaching 1/alpha has become improbable",
        watermark_core::anytime::Advice::GoOn => "not decided",
    };
    format!(
        "E = {}, {} by 1/E, {} cells of {} tokens; {advice}",
        look.e,
        headline(look.p),
        look.cells,
        look.tokens
    )
}
