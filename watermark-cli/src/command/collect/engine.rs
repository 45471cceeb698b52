//! The loop of a run: dispatch under the caps and the pace, keep what comes back, ask again what failed.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rand_core::TryRng as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::bar::Bar;
use super::budget::{Budget, Cap, Caps, Charge};
use super::client::{Attempt, Client, Kind};
use super::error::CollectError;
use super::folder::{Event, Folder};
use super::retry::{Pace, backoff};
use super::time::rfc3339;
use super::transcript::{Custody, Origin, Outcome, Raw, Record, Response, sha256};
use super::until::Until;
use crate::cli::PaceArgs;
use crate::error::CliError;

/// Why a run ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ending {
    /// Every request has its answer or a final refusal.
    Complete,
    /// The any-time test is decided, or has become futile.
    Tested,
    /// A cap would be broken.
    Cap(Cap),
    /// A signal.
    Interrupted { drained: bool },
    /// Some requests failed at every attempt of this run.
    GaveUp(u64),
    /// Nothing but failures for a while; the last one.
    Broken { failures: u32, last: String },
    /// The endpoint asks to wait for longer than is allowed.
    Wait(Duration),
    /// No request can succeed.
    Stop(String),
    /// Our own service answers.
    Own(String),
}

impl Ending {
    /// Whether `resume` has something to do.
    fn code(&self, answered: bool) -> u8 {
        match self {
            Self::Complete | Self::Tested | Self::Cap(Cap::Planned) => 0,
            Self::Cap(_) | Self::Interrupted { .. } | Self::GaveUp(_) | Self::Wait(_) => 5,
            Self::Broken { .. } => match answered {
                true => 5,
                false => 1,
            },
            Self::Stop(_) => 1,
            Self::Own(_) => 4,
        }
    }

    /// The exit code: 0 done, 1 failed, 4 the wrong endpoint, 5 resumable.
    pub(super) fn exit_code(&self, answered: u64) -> u8 {
        self.code(answered > 0)
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Tested => "tested",
            Self::Cap(Cap::Planned) => "planned",
            Self::Cap(_) => "cap",
            Self::Interrupted { .. } => "interrupted",
            Self::GaveUp(_) => "gave-up",
            Self::Broken { .. } => "broken",
            Self::Wait(_) => "wait",
            Self::Stop(_) => "stopped",
            Self::Own(_) => "own-service",
        }
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Complete => write!(f, "every request has its response"),
            Self::Tested => write!(f, "the any-time test says to stop"),
            Self::Cap(cap) => write!(f, "{cap}"),
            Self::Interrupted { drained: true } => {
                write!(f, "stopped by a signal; what was on its way was taken in")
            }
            Self::Interrupted { drained: false } => {
                write!(
                    f,
                    "stopped by a signal at once; what was on its way is lost"
                )
            }
            Self::GaveUp(requests) => write!(
                f,
                "{requests} requests failed at every attempt of this run (--attempts)"
            ),
            Self::Broken { failures, last } => write!(
                f,
                "{failures} failures in a row without an answer between them, the last: {last}"
            ),
            Self::Wait(wait) => write!(
                f,
                "the endpoint asks to wait {} s, more than --max-retry-after",
                wait.as_secs()
            ),
            Self::Stop(why) => write!(f, "no request can succeed: {why}"),
            Self::Own(what) => write!(f, "{}", CollectError::OwnService { what: what.clone() }),
        }
    }
}

/// What a run is held to.
#[derive(Debug)]
pub(super) struct Limits {
    attempts: u32,
    backoff: Duration,
    retry_after: Duration,
    failures: u32,
    concurrency: u32,
}

impl Limits {
    pub(super) fn new(arguments: &PaceArgs) -> Result<Self, CollectError> {
        let seconds = |option: &str, value: f64| {
            Duration::try_from_secs_f64(value)
                .map_err(|_| CollectError::Usage(format!("{option} {value}: seconds")))
        };
        Ok(Self {
            attempts: arguments.attempts,
            backoff: seconds("--backoff", arguments.backoff)?,
            retry_after: seconds("--max-retry-after", arguments.max_retry_after)?,
            failures: arguments.stop_after_failures,
            concurrency: arguments.concurrency,
        })
    }
}

/// A request on its way.
struct Flight {
    index: usize,
    attempt: u32,
    sent: Instant,
}

struct Engine<'a, 'o> {
    folder: &'a mut Folder,
    client: Arc<Client>,
    limits: &'a Limits,
    budget: Budget,
    pace: Pace,
    /// To be asked now.
    queue: VecDeque<usize>,
    /// To be asked again, by when; the counter tells equal instants apart.
    later: BTreeMap<(Instant, u64), usize>,
    flights: HashMap<tokio::task::Id, Flight>,
    tasks: JoinSet<Attempt>,
    /// Attempts of this run, by request.
    tried: HashMap<usize, u32>,
    gave_up: u64,
    failures: u32,
    /// The endpoint asked to be left alone until then.
    quiet: Instant,
    /// Set once nothing more is to be sent.
    ending: Option<Ending>,
    until: Option<&'a mut Until<'o>>,
    bar: Bar,
    count: u64,
}

/// Runs until everything is answered or a reason to stop has come.
pub(super) fn run(
    folder: &mut Folder,
    client: Arc<Client>,
    limits: &Limits,
    caps: Caps,
    until: Option<&mut Until<'_>>,
) -> Result<Ending, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| CollectError::Client(error.to_string()))?;
    let book = &folder.view.book;
    let asks = folder.view.asks.iter().enumerate();
    let queue = asks
        .filter(|(_, ask)| !book.is_done(&ask.id))
        .map(|(index, _)| index)
        .collect();
    let bar = Bar::new(
        folder.view.asks.len() as u64,
        book.answered() + book.refused(),
    );
    let mut engine = Engine {
        budget: Budget::new(caps, book.spent),
        folder,
        client,
        limits,
        pace: Pace::new(limits.concurrency),
        queue,
        later: BTreeMap::new(),
        flights: HashMap::new(),
        tasks: JoinSet::new(),
        tried: HashMap::new(),
        gave_up: 0,
        failures: 0,
        quiet: Instant::now(),
        ending: None,
        until,
        bar,
        count: 0,
    };
    let ending = runtime.block_on(engine.drive());
    engine.folder.view.book.spent = engine.budget.spent;
    engine.bar.finish();
    // Requests that nobody waits for any more are not waited for.
    runtime.shutdown_background();
    ending
}

impl Engine<'_, '_> {
    async fn drive(&mut self) -> Result<Ending, CliError> {
        let signal = |error: std::io::Error| CollectError::Client(format!("signals: {error}"));
        let mut interrupt = Signals::new().map_err(signal)?;
        if self.until.as_ref().is_some_and(|until| until.is_over()) {
            self.ending = Some(Ending::Tested);
        }
        loop {
            let now = Instant::now();
            self.wake(now);
            self.dispatch(now)?;
            if self.tasks.is_empty()
                && (self.ending.is_some() || self.queue.is_empty() && self.later.is_empty())
            {
                break;
            }
            let next = self.next_wake(now);
            tokio::select! {
                done = self.tasks.join_next_with_id(), if !self.tasks.is_empty() => {
                    match done {
                        Some(Ok((task, attempt))) => self.settle(task, attempt)?,
                        // A task neither panics nor is cancelled before the end of a run.
                        Some(Err(error)) => return Err(CollectError::Client(error.to_string()).into()),
                        None => {}
                    }
                }
                () = tokio::time::sleep_until(next.into()) => {}
                () = interrupt.next() => {
                    if matches!(self.ending, Some(Ending::Interrupted { .. })) {
                        return Ok(Ending::Interrupted { drained: false });
                    }
                    eprintln!(
                        "stopping: {} requests are on their way and are waited for; once more stops at once",
                        self.tasks.len()
                    );
                    self.ending = Some(Ending::Interrupted { drained: true });
                }
            }
        }
        Ok(match self.ending.take() {
            Some(ending) => ending,
            None if self.gave_up > 0 => Ending::GaveUp(self.gave_up),
            None => Ending::Complete,
        })
    }

    /// What has waited long enough is asked first.
    fn wake(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            self.queue.push_front(entry.remove());
        }
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let later = self.later.first_key_value().map(|((at, _), _)| *at);
        let quiet = (self.quiet > now).then_some(self.quiet);
        let idle = now + Duration::from_secs(3600);
        let earliest = later.into_iter().chain(quiet).min().unwrap_or(idle);
        earliest.max(now)
    }

    fn dispatch(&mut self, now: Instant) -> Result<(), CollectError> {
        while self.ending.is_none()
            && now >= self.quiet
            && self.tasks.len() < self.pace.limit()
            && let Some(index) = self.queue.pop_front()
        {
            let worst = self.folder.view.asks[index].worst;
            if let Err(cap) = self.budget.reserve(worst) {
                self.queue.push_front(index);
                // What is on its way may use less than its worst case: then there is room again.
                if self.tasks.is_empty() {
                    self.ending = Some(Ending::Cap(cap));
                }
                break;
            }
            let attempt = self.folder.sending(index)?;
            let body = self.folder.view.asks[index].body.clone();
            let client = Arc::clone(&self.client);
            let task = self.tasks.spawn(async move { client.ask(body).await });
            let sent = Instant::now();
            let flight = Flight {
                index,
                attempt,
                sent,
            };
            self.flights.insert(task.id(), flight);
        }
        Ok(())
    }

    fn settle(&mut self, task: tokio::task::Id, attempt: Attempt) -> Result<(), CliError> {
        let Some(flight) = self.flights.remove(&task) else {
            return Ok(());
        };
        let index = flight.index;
        let worst = self.folder.view.asks[index].worst;
        let result = attempt.result.clone();
        let (charge, outcome) = match &result {
            Ok(usage) => (usage.map_or(Charge::Worst, Charge::Told), Outcome::Answered),
            Err(trouble) => {
                let charge = match trouble.failure.maybe_charged {
                    true => Charge::Worst,
                    false => Charge::Nothing,
                };
                let outcome = match trouble.kind {
                    Kind::Refused => Outcome::Refused,
                    _ => Outcome::Failed,
                };
                (charge, outcome)
            }
        };
        let line = self.line(&flight, attempt, outcome);
        self.folder.keep(index, &line)?;
        let answered = outcome == Outcome::Answered;
        self.budget.settle(worst, charge, answered);
        let now = Instant::now();
        match result {
            Ok(_) => {
                self.failures = 0;
                self.pace.answered();
                if let Some(until) = &mut self.until
                    && until.take(&line)?
                    && self.ending.is_none()
                {
                    self.ending = Some(Ending::Tested);
                }
            }
            Err(trouble) => {
                let what = format!("{}: {}", trouble.failure.code, trouble.failure.message);
                self.failures += 1;
                match trouble.kind {
                    Kind::Again { after, load } => {
                        if load {
                            self.pace.refused(flight.sent, now);
                        }
                        self.again(index, after, now);
                    }
                    Kind::Refused => {}
                    Kind::Stop => self.end(Ending::Stop(what.clone())),
                    Kind::Own => self.end(Ending::Own(trouble.failure.message)),
                }
                if self.failures >= self.limits.failures {
                    let failures = self.failures;
                    self.end(Ending::Broken {
                        failures,
                        last: what,
                    });
                }
            }
        }
        let book = &self.folder.view.book;
        self.bar.show(
            book.answered() + book.refused(),
            &self.budget.spent,
            &self.budget.caps,
        );
        Ok(())
    }

    fn end(&mut self, ending: Ending) {
        self.ending.get_or_insert(ending);
    }

    /// Lines a failed request up again, unless it had its attempts or the wait is too long.
    fn again(&mut self, index: usize, after: Option<Duration>, now: Instant) {
        let tried = self.tried.entry(index).or_default();
        *tried += 1;
        if *tried >= self.limits.attempts {
            self.gave_up += 1;
            return;
        }
        let coin = getrandom::SysRng.try_next_u32().unwrap_or(0);
        let mut wait = backoff(self.limits.backoff, *tried, coin);
        if let Some(asked) = after {
            if asked > self.limits.retry_after {
                self.end(Ending::Wait(asked));
                return;
            }
            // The endpoint speaks for itself, not for one request.
            self.quiet = self.quiet.max(now + asked);
            wait = wait.max(asked);
        }
        self.count += 1;
        self.later.insert((now + wait, self.count), index);
    }

    /// The line of the transcript.
    fn line(&self, flight: &Flight, attempt: Attempt, outcome: Outcome) -> Value {
        let ask = &self.folder.view.asks[flight.index];
        let body = serde_json::from_slice(&attempt.raw).unwrap_or(Value::Null);
        let record = Record {
            custom_id: ask.id.clone(),
            response: attempt.status.map(|status_code| Response {
                status_code,
                request_id: attempt.request_id,
                body,
            }),
            error: attempt
                .result
                .as_ref()
                .err()
                .map(|trouble| trouble.failure.clone()),
            x_wmk: Custody {
                // Filled in where it is written.
                seq: 0,
                prev: String::new(),
                origin: Origin::Observed,
                outcome,
                attempt: Some(flight.attempt),
                sent_at: Some(rfc3339(attempt.sent)),
                recv_at: rfc3339(attempt.received),
                req_sha256: Some(sha256(&ask.body)),
                source: None,
                raw_sha256: sha256(&attempt.raw),
                raw: Raw::new(attempt.raw),
                usage: attempt.result.ok().flatten(),
            },
        };
        json!(record)
    }
}

/// ^C and the polite signal of a scheduler.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
            })
        }
        #[cfg(not(unix))]
        Ok(Self {})
    }

    async fn next(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        #[cfg(not(unix))]
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Notes the end of a run.
pub(super) fn note_end(folder: &mut Folder, ending: &Ending) -> Result<(), CollectError> {
    folder.note(&Event::End {
        at: rfc3339(SystemTime::now()),
        why: ending.to_string(),
    })
}
