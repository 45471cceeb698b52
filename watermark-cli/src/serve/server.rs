//! The service: connections with deadlines, requests with ids, reloads, and an orderly end.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use axum::extract::{Request, State as Extract};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::Response;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::config::Limits;
use super::log::{self, Audit, RequestLine};
use super::state::{Stamp, State};
use super::token::Rates;
use super::work::Places;
use super::{ServeError, known, routes};
use crate::schema::{Type, Version};

/// `/readyz` opens files; asked more often than this, it repeats itself.
const READY_FOR: Duration = Duration::from_millis(500);

/// What all requests share.
pub(super) struct Server {
    state: RwLock<Arc<State>>,
    config: PathBuf,
    listen: Option<SocketAddr>,
    /// Where it really listens: the port of port 0.
    pub(super) address: SocketAddr,
    pub(super) rates: Rates,
    pub(super) places: Places,
    ready: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
    /// The files as they were at the last attempt to load them.
    seen: Mutex<Vec<(PathBuf, Stamp)>>,
    /// Why that failed, if it did. It is tried again, since a file that was missing need not be among those seen.
    failed: Mutex<Option<String>>,
    run: u32,
    requests: AtomicU64,
}

impl Server {
    /// The state at this moment: a request works with one, whatever is loaded meanwhile.
    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether known answers come out and every mark's key file is still there.
    pub(super) async fn ready(&self) -> Result<(), String> {
        let mut last = self.ready.lock().await;
        if let Some((at, result)) = &*last
            && at.elapsed() < READY_FOR
        {
            return result.clone();
        }
        let state = self.state();
        let check = move || {
            known::test().map_err(|reason| format!("known-answer test: {reason}"))?;
            state.marks.iter().try_for_each(|mark| mark.check_key())
        };
        let result = tokio::task::spawn_blocking(check)
            .await
            .unwrap_or_else(|_| Err("the check failed".to_owned()));
        *last = Some((Instant::now(), result.clone()));
        result
    }

    /// Loads everything again. A bad configuration is logged once, and the old state stays.
    fn reload(&self) {
        self.look();
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match State::open(&self.config, self.listen) {
            Ok(state) => {
                let old = self.state();
                let (before, after) = (&old.config, &state.config);
                let fixed = |config: &super::config::Config| {
                    let limits = &config.limits;
                    (config.listen, limits.connections, limits.concurrent)
                };
                if fixed(before) != fixed(after) {
                    log::event(
                        "reload",
                        "`listen`, `connections` and `concurrent` change at the next start",
                    );
                }
                let summary = state.summary();
                *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
                self.look();
                *failed = None;
                log::loaded("reloaded", summary);
            }
            Err(error) => {
                let message = format!("{error}; the old state stays");
                if failed.as_ref() != Some(&message) {
                    log::event("reload-failed", &message);
                    *failed = Some(message);
                }
            }
        }
    }

    fn has_failed(&self) -> bool {
        let failed = self.failed.lock();
        failed.unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Remembers the files as they are, and says whether they were different before.
    fn look(&self) -> bool {
        let files = self.state().files(&self.config);
        let now: Vec<_> = files
            .into_iter()
            .map(|file| {
                let stamp = Stamp::of(&file);
                (file, stamp)
            })
            .collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *seen != now;
        *seen = now;
        changed
    }
}

/// Gives a request its id, and the log its line.
pub(super) async fn observe(
    Extract(server): Extract<Arc<Server>>,
    mut request: Request,
    next: Next,
) -> Response {
    let start = Instant::now();
    let number = server.requests.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:08x}-{number}", server.run);
    let route = routes::known(request.uri().path());
    let method = match *request.method() {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        _ => "other",
    };
    let audit = Arc::new(Audit::default());
    request.extensions_mut().insert(Arc::clone(&audit));
    let mut response = next.run(request).await;
    let key_id = server.state().marks[0].mark.key_id().to_string();
    let headers = response.headers_mut();
    set(headers, HeaderName::from_static("x-request-id"), &id);
    set(
        headers,
        HeaderName::from_static("x-watermark-key-id"),
        &key_id,
    );
    set(headers, header::CACHE_CONTROL, "no-store");
    set(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    let caller = audit.caller.get();
    log::write(&log::LogLine::Request(RequestLine {
        time: log::now(),
        event: "request",
        id: &id,
        method,
        route,
        status: response.status().as_u16(),
        ms: (start.elapsed().as_secs_f64() * 1e5).round() / 100.0,
        caller: caller.map(|caller| caller.name.as_str()),
        role: caller.map(|caller| caller.role.name()),
        texts: audit.texts.get().copied(),
        tokens: audit.tokens.get().copied(),
    }));
    response
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// Serves until a signal.
pub(crate) fn run(config: &Path, listen: Option<SocketAddr>) -> Result<(), ServeError> {
    let state = State::open(config, listen)?;
    known::test().map_err(ServeError::KnownAnswer)?;
    // The message of a panic may hold what a client sent; the place does not.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or(String::new(), ToString::to_string);
        log::event("panic", place);
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(state.config.limits.concurrent + 2)
        .enable_all()
        .build()
        .map_err(ServeError::Runtime)?;
    let result = runtime.block_on(serve(config.to_owned(), listen, state));
    // Work that outlived the deadline is not waited for.
    runtime.shutdown_background();
    result
}

async fn serve(
    config: PathBuf,
    listen: Option<SocketAddr>,
    state: State,
) -> Result<(), ServeError> {
    let address = state.config.listen;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })?;
    let address = listener.local_addr().map_err(ServeError::Runtime)?;
    let limits = state.config.limits.clone();
    let mut seed = [0; 4];
    rand_core::TryRng::try_fill_bytes(&mut getrandom::SysRng, &mut seed)
        .map_err(|error| ServeError::Runtime(std::io::Error::other(error)))?;
    let server = Arc::new(Server {
        state: RwLock::new(Arc::new(state)),
        config,
        listen,
        address,
        rates: Rates::default(),
        places: Places::new(limits.concurrent),
        ready: tokio::sync::Mutex::new(None),
        seen: Mutex::new(Vec::new()),
        failed: Mutex::new(None),
        run: u32::from_le_bytes(seed),
        requests: AtomicU64::new(0),
    });
    server.look();
    let stop = signals(&server).map_err(ServeError::Runtime)?;
    announce(&server);
    tokio::spawn(watch_files(Arc::clone(&server), stop.clone()));
    accept(listener, &server, &limits, stop).await;
    Ok(())
}

/// `serve`, once it listens: its one line on standard output.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "type", rename = "watermark.listening")]
#[schemars(transform = Type("watermark.listening"))]
pub(crate) struct Listening {
    schema: Version,
    address: SocketAddr,
    url: String,
}

/// The address on standard output, for whoever started it with port 0.
fn announce(server: &Server) {
    crate::render::print_json(&Listening {
        schema: Version,
        address: server.address,
        url: format!("http://{}/", server.address),
    });
    log::loaded("listening", server.state().summary());
}

/// How far the end has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Not,
    /// No new requests.
    Drain,
    /// Now.
    Cut,
}

/// Turns signals into reloads and the end. A second signal cuts the end short.
fn signals(server: &Arc<Server>) -> std::io::Result<watch::Receiver<Stop>> {
    let (send, receive) = watch::channel(Stop::Not);
    let next = move || {
        let after = match *send.borrow() {
            Stop::Not => Stop::Drain,
            Stop::Drain | Stop::Cut => Stop::Cut,
        };
        let _ = send.send(after);
    };
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut hup = signal(SignalKind::hangup())?;
        let server = Arc::clone(server);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = term.recv() => next(),
                    _ = int.recv() => next(),
                    _ = hup.recv() => {
                        let server = Arc::clone(&server);
                        let _ = tokio::task::spawn_blocking(move || server.reload()).await;
                    }
                }
            }
        });
    }
    #[cfg(not(unix))]
    {
        let _ = server;
        tokio::spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                next();
            }
        });
    }
    Ok(receive)
}

/// Loads again when a file has changed, until the end.
async fn watch_files(server: Arc<Server>, mut stop: watch::Receiver<Stop>) {
    loop {
        let seconds = server.state().config.reload_seconds;
        // 0 is read anew now and then: a reload by signal may change it.
        let pause = Duration::from_secs(if seconds == 0 { 60 } else { seconds });
        tokio::select! {
            _ = stop.changed() => return,
            () = tokio::time::sleep(pause) => {}
        }
        let server = Arc::clone(&server);
        let _ = tokio::task::spawn_blocking(move || {
            if seconds > 0 && (server.look() || server.has_failed()) {
                server.reload();
            }
        })
        .await;
    }
}

/// Takes connections, as many as the limit at a time, until told to stop; then waits for them.
async fn accept(
    listener: TcpListener,
    server: &Arc<Server>,
    limits: &Limits,
    mut stop: watch::Receiver<Stop>,
) {
    let router = routes::router(Arc::clone(server));
    let room = Arc::new(Semaphore::new(limits.connections));
    let mut open = JoinSet::new();
    loop {
        // Connections beyond the limit wait in the system's queue.
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await;
            (place, listener.accept().await)
        };
        tokio::select! {
            _ = stop.changed() => break,
            Some(_) = open.join_next() => {}
            (place, accepted) = accepted => match accepted {
                Ok((stream, _)) => {
                    let service = TowerToHyperService::new(router.clone());
                    let limits = server.state().config.limits.clone();
                    let stop = stop.clone();
                    open.spawn(async move {
                        let _place = place;
                        connection(stream, service, &limits, stop).await;
                    });
                }
                // Out of descriptors, or the client is gone already.
                Err(error) => {
                    log::event("accept-failed", error);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    drop(listener);
    let left = open.len();
    log::event("stopping", format!("{left} connections open"));
    let drained = async { while open.join_next().await.is_some() {} };
    let deadline = Duration::from_secs(server.state().config.limits.drain_seconds);
    let cut = async {
        tokio::select! {
            () = tokio::time::sleep(deadline) => {}
            _ = stop.wait_for(|&stop| stop == Stop::Cut) => {}
        }
    };
    let whole = tokio::select! {
        () = drained => true,
        () = cut => false,
    };
    log::event(
        "stopped",
        if whole {
            "all requests were answered".to_owned()
        } else {
            "connections were cut at the deadline".to_owned()
        },
    );
}

/// One connection: headers in time, an age at which it ends, and the end when the service stops.
async fn connection(
    stream: TcpStream,
    service: TowerToHyperService<axum::Router>,
    limits: &Limits,
    mut stop: watch::Receiver<Stop>,
) {
    let _ = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(limits.header_seconds))
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ends = async {
        tokio::select! {
            _ = stop.wait_for(|&stop| stop != Stop::Not) => {}
            () = tokio::time::sleep(Duration::from_secs(limits.connection_seconds)) => {}
        }
    };
    // Errors are the client's: it is gone, too slow, or speaks no HTTP.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = ends => connection.as_mut().graceful_shutdown(),
    }
    let last = limits.header_seconds + limits.body_seconds + limits.request_seconds;
    let _ = tokio::time::timeout(Duration::from_secs(last), connection).await;
}
