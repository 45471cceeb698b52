//! A whole walk against a local model behind an endpoint: key, sealed plan, collection, test.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde_json::{Value, json};
use watermark_core::evidence::plan::Looks;
use watermark_core::key::{Epoch, SecretKey, read_key_file};
use watermark_core::profile::Profile;
use watermark_core::text::HfTokenizer;
use watermark_eval::embedded;
use watermark_eval::endpoint::{Limits, Service, serve};

use super::Bench;
use super::planned::seal;

/// Serves the embedded model under the key in `m.key` for a minute at most.
fn start(bench: &Bench, name_key: bool) -> SocketAddr {
    let SecretKey::Master(master) = read_key_file(&bench.path("m.key")).unwrap() else {
        panic!("a master key");
    };
    let slot = master.slot(&Epoch::new("e1").unwrap(), 0);
    let profile = Profile::built_in("greenlist-h1").unwrap();
    let teacher = embedded::teacher().unwrap();
    let tokenizer = HfTokenizer::from_bytes(watermark_corpora::tokenizer_json(), "embedded");
    let service = Service {
        documents: teacher.documents(),
        model: Box::new(teacher),
        tokenizer: Box::new(tokenizer.unwrap()),
        name: "suspect-1".into(),
        mark: Some(profile.bind(&slot).unwrap()),
        name_key,
        seed: 1,
    };
    let limits = Limits {
        requests: 200,
        time: Duration::from_secs(60),
        tokens: 200,
        workers: NonZeroUsize::new(2).unwrap(),
    };
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            send.send(listener.local_addr().unwrap()).unwrap();
            serve(listener, service, limits).await.unwrap();
        });
    });
    receive.recv().unwrap()
}

/// Positive control: the suspect writes under the key itself. Each of some 300 cells is green with probability well
/// above a half, against 1/4 by chance; a share below 0.4 would be missed at alpha 1e-5.
#[test]
fn key_plan_collect_distill() {
    let bench = Bench::new();
    bench.ends("key new --out m.key", 0);
    let openings = watermark_corpora::prompts().take(5).enumerate();
    let line = |(i, text)| format!("{}\n", json!({"id": format!("p{i}"), "prompt": text}));
    bench.write("p.jsonl", &openings.map(line).collect::<String>());
    seal(&bench, "plan.json", |plan| {
        plan.request.max_tokens = 40;
        plan.request.temperature = 1.0;
        plan.request.top_p = 1.0;
        plan.budget.answers = 10;
        plan.looks = Looks::Once;
    });
    let endpoint = start(&bench, false);
    bench.ends(
        &format!(
            "collect run --out c --plan plan.json --endpoint http://{endpoint}/v1 --logprobs 3 --extra {{\"return_token_ids\":true}}"
        ),
        0,
    );
    let status = bench.status("c");
    assert_eq!(status["answered"], 10);
    assert_eq!(status["spent"]["estimated"], 0);
    assert_eq!(status["collectorHeldKey"], false);
    let (out, _) = bench.ends("distill --key-file m.key --decoys 50 --format json c", 0);
    let report: Value = serde_json::from_str(&out).unwrap();
    // Token ids as they were sampled, with the prompts as context.
    assert_eq!(report["read"]["suspect"]["answersFromIds"], 10);
    assert_eq!(report["verdict"], "rejected", "{report}");
    // The same directory as log-probabilities.
    let (out, error) = bench.ends(
        "distill --key-file m.key --decoys 0 --format json c --reference c/transcript.jsonl",
        0,
    );
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["verdict"], "rejected", "{error}");

    // An endpoint that names our key is our own service.
    let endpoint = start(&bench, true);
    bench.refuses(
        &format!("collect run --out d --plan plan.json --endpoint http://{endpoint}/v1"),
        4,
        &["our own service"],
    );
}
