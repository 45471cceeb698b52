//! A local model as an OpenAI-compatible endpoint, so that collecting from a suspect can be practised and
//! measured without one: `/v1/models`, `/v1/completions` and `/v1/chat/completions`.
//!
//! It is a stand-in, not a server to run: it ends by itself, after so many requests or so long. Models here have no
//! chat template, so the messages of a chat are joined by line breaks and gone on from. A request with a `seed`
//! gets the same text again; one without gets the server's next one.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, oneshot};
use watermark_core::profile::Mark;
use watermark_core::text::Tokenizer;

use crate::model::{DocumentTokens, Model};

mod logprobs;
mod request;
pub mod student;
mod write;

use request::{Api, Request};
use write::write;

/// What is served.
pub struct Service {
    /// The model.
    pub model: Box<dyn Model>,
    /// Its tokenizer.
    pub tokenizer: Box<dyn Tokenizer>,
    /// The tokens around a document.
    pub documents: DocumentTokens,
    /// The name that requests call the model by; others are refused.
    pub name: String,
    /// Written under, where given.
    pub mark: Option<Mark>,
    /// Whether responses name the mark's key, as our own service does (`x-watermark-key-id`).
    pub name_key: bool,
    /// Decides the texts of requests without a seed.
    pub seed: u64,
}

/// Where it ends.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests for text that are answered.
    pub requests: u64,
    /// From the start.
    pub time: Duration,
    /// Tokens that a request may ask for, over all its choices.
    pub tokens: usize,
    /// Threads that write, one request each.
    pub workers: NonZeroUsize,
}

/// Requests that may wait for a worker.
const QUEUE: usize = 64;
/// Bytes of a request.
const BODY: usize = 1 << 20;
/// What is left on its way at the end gets so long.
const GRACE: Duration = Duration::from_secs(10);

struct Job {
    request: Request,
    number: u64,
    reply: oneshot::Sender<Result<Value, Refusal>>,
}

/// A request that is not answered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
}

impl Refusal {
    fn invalid(message: impl Into<String>) -> Self {
        Self {
            status: 400,
            code: "invalid_request",
            message: message.into(),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::BAD_REQUEST);
        let kind = match status.is_server_error() {
            true => "server_error",
            false => "invalid_request_error",
        };
        let body = json!({"error": {"message": self.message, "type": kind, "code": self.code}});
        let mut response = (status, Json(body)).into_response();
        if self.status == 503 {
            let headers = response.headers_mut();
            headers.insert("retry-after", HeaderValue::from_static("1"));
        }
        response
    }
}

struct Shared {
    name: String,
    key_id: Option<HeaderValue>,
    jobs: mpsc::SyncSender<Job>,
    limits: Limits,
    /// Requests for text so far.
    count: AtomicU64,
    answered: AtomicU64,
    end: Notify,
}

/// Serves on `listener` until a limit is reached or the process is interrupted; gives the number of requests that were
/// answered.
///
/// # Errors
/// The listener or a thread fails.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    limits: Limits,
) -> std::io::Result<u64> {
    let (jobs, queue) = mpsc::sync_channel::<Job>(QUEUE);
    let key_id = service.mark.as_ref().filter(|_| service.name_key);
    let shared = Arc::new(Shared {
        name: service.name.clone(),
        key_id: key_id.and_then(|mark| HeaderValue::from_str(&mark.key_id().to_string()).ok()),
        jobs,
        limits,
        count: AtomicU64::new(0),
        answered: AtomicU64::new(0),
        end: Notify::new(),
    });
    let (service, queue) = (Arc::new(service), Arc::new(Mutex::new(queue)));
    for _ in 0..limits.workers.get() {
        let (service, queue) = (Arc::clone(&service), Arc::clone(&queue));
        std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || work(&service, &queue))?;
    }
    let app = Router::new()
        .route("/v1/models", get(models))
        .route("/v1/completions", post(completions))
        .route("/v1/chat/completions", post(chat))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(Arc::clone(&shared));
    let stop = {
        let shared = Arc::clone(&shared);
        async move {
            tokio::select! {
                () = tokio::time::sleep(limits.time) => {}
                () = shared.end.notified() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        }
    };
    let (stopping, stopped) = oneshot::channel();
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        stop.await;
        let _ = stopping.send(());
    });
    tokio::select! {
        result = server => result?,
        // A connection that is never closed does not keep it.
        () = async {
            let _ = stopped.await;
            tokio::time::sleep(GRACE).await;
        } => {}
    }
    Ok(shared.answered.load(Ordering::SeqCst))
}

/// Whether an address is reached from this machine only.
pub fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().is_loopback()
}

/// Writes what is asked for, one request after the other, until nobody asks any more.
fn work(service: &Service, queue: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = match queue.lock() {
            Ok(queue) => queue.recv(),
            Err(_) => return,
        };
        let Ok(Job {
            request,
            number,
            reply,
        }) = job
        else {
            return;
        };
        // Whoever asked may have gone: then there is nothing to write.
        if !reply.is_closed() {
            let _ = reply.send(write(service, &request, number));
        }
    }
}

async fn models(State(shared): State<Arc<Shared>>) -> Response {
    let model = json!({"id": shared.name, "object": "model", "owned_by": "local"});
    Json(json!({"object": "list", "data": [model]})).into_response()
}

async fn chat(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    answer(&shared, Api::Chat, &body).await
}

async fn completions(State(shared): State<Arc<Shared>>, body: Bytes) -> Response {
    answer(&shared, Api::Completions, &body).await
}

async fn answer(shared: &Shared, api: Api, body: &[u8]) -> Response {
    let number = shared.count.fetch_add(1, Ordering::SeqCst);
    let last = number + 1 >= shared.limits.requests;
    let result = match number < shared.limits.requests {
        true => ask(shared, api, body, number).await,
        false => Err(Refusal {
            status: 503,
            code: "ended",
            message: format!(
                "this endpoint has had its {} requests and ends",
                shared.limits.requests
            ),
        }),
    };
    let mut response = match result {
        Ok(body) => {
            shared.answered.fetch_add(1, Ordering::SeqCst);
            Json(body).into_response()
        }
        Err(refusal) => refusal.into_response(),
    };
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&format!("req-{number}")) {
        headers.insert("x-request-id", id);
    }
    if let Some(key_id) = &shared.key_id {
        headers.insert("x-watermark-key-id", key_id.clone());
    }
    if last {
        shared.end.notify_one();
    }
    response
}

async fn ask(shared: &Shared, api: Api, body: &[u8], number: u64) -> Result<Value, Refusal> {
    let request = Request::parse(api, body, shared.limits.tokens)?;
    if request.model != shared.name {
        return Err(Refusal {
            status: 404,
            code: "model_not_found",
            message: format!(
                "no model `{}` here; there is `{}`",
                request.model, shared.name
            ),
        });
    }
    let (reply, written) = oneshot::channel();
    let job = Job {
        request,
        number,
        reply,
    };
    shared.jobs.try_send(job).map_err(|_| Refusal {
        status: 503,
        code: "overloaded",
        message: format!("{QUEUE} requests are waiting already"),
    })?;
    written.await.unwrap_or_else(|_| {
        Err(Refusal {
            status: 500,
            code: "writer_lost",
            message: "the writing thread ended".to_owned(),
        })
    })
}

/// Seconds since 1970, for `created`.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}
