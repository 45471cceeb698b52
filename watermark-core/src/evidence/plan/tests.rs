use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::*;

const PROMPTS: &[u8] = b"{\"id\":\"a\",\"prompt\":\"One.\"}\n{\"id\":\"b\",\"messages\":[{\"role\":\"user\",\"content\":\"Two.\"}]}\n";

fn plan() -> Plan {
    Plan {
        kind: PlanType::Plan,
        schema: PLAN_SCHEMA,
        id: "case 1".into(),
        profile: Profile::built_in("greenlist-h1").unwrap(),
        tokenizer: Vocabulary {
            size: 4096,
            sha256: "ab".repeat(32),
        },
        key: PlannedKey {
            id: "0123456789abcdef".into(),
            epoch: "e1".into(),
            slot: 3,
            commitment: Some("cd".repeat(32)),
        },
        tests: vec![TestId::ClosedCells, TestId::ClosedSqrt],
        primary: TestId::ClosedSqrt,
        two_sided: false,
        alpha: 1e-5,
        min_cells: 50,
        looks: Looks::Once,
        decoys: 1000,
        supervised_cells: None,
        controls: vec![Control::Answers],
        prompts: Prompts::of("p.jsonl", PROMPTS).unwrap(),
        request: Request {
            api: Api::Chat,
            model: "suspect".into(),
            max_tokens: 200,
            temperature: 1.0,
            top_p: 1.0,
            samples: 5,
        },
        budget: Budget {
            answers: 10,
            tokens: 2000,
        },
        forecast: None,
    }
}

fn sealed() -> SealedPlan {
    SealedPlan::seal(plan(), UNIX_EPOCH + Duration::from_secs(1_795_603_389)).unwrap()
}

#[test]
fn a_sealed_plan_opens() {
    assert_eq!(Plan::from_json(&plan().to_json()).unwrap(), plan());
    let sealed = sealed();
    let json = sealed.to_json();
    assert_eq!(SealedPlan::open(&json).unwrap(), sealed);
    assert_eq!(sealed.sealed_at(), "2026-11-25T10:43:09Z");
    assert!(json.starts_with(&format!("{{\"digest\":\"{}\",\"plan\":{{", sealed.digest())));
    // Printed in another way it is the same plan.
    let value: Value = serde_json::from_str(&json).unwrap();
    let printed = serde_json::to_string_pretty(&value).unwrap();
    assert_eq!(SealedPlan::open(&printed).unwrap(), sealed);
}

/// Every leaf of the plan is under the seal.
#[test]
fn any_change_is_noticed() {
    fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => map
                .iter()
                .for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found)),
            Value::Array(list) => list
                .iter()
                .enumerate()
                .for_each(|(at, value)| leaves(value, &format!("{path}/{at}"), found)),
            _ => found.push(path.to_owned()),
        }
    }
    let value: Value = serde_json::from_str(&sealed().to_json()).unwrap();
    let mut found = Vec::new();
    leaves(&value["plan"], "/plan", &mut found);
    assert!(found.len() > 30, "{found:?}");
    for path in found {
        let mut changed = value.clone();
        let leaf = changed.pointer_mut(&path).unwrap();
        *leaf = match leaf {
            Value::Number(number) => json!(number.as_f64().unwrap() + 1.0),
            Value::String(text) => json!(format!("{text}0")),
            Value::Bool(flag) => json!(!*flag),
            other => panic!("{path}: {other}"),
        };
        let error = SealedPlan::open(&changed.to_string()).unwrap_err();
        assert!(matches!(error, PlanError::Digest { .. }), "{path}: {error}");
    }
    let mut changed = value.clone();
    changed["plan"]["more"] = json!(1);
    let error = SealedPlan::open(&changed.to_string()).unwrap_err();
    assert!(matches!(error, PlanError::Digest { .. }), "{error}");
    changed["plan"].as_object_mut().unwrap().remove("more");
    assert!(SealedPlan::open(&changed.to_string()).is_ok());
}

#[test]
fn what_is_no_sealed_plan() {
    let value: Value = serde_json::from_str(&sealed().to_json()).unwrap();
    let with = |field: &str, new: Value| {
        let mut changed = value.clone();
        changed[field] = new;
        SealedPlan::open(&changed.to_string()).unwrap_err()
    };
    assert_eq!(
        SealedPlan::open(&plan().to_json()).unwrap_err(),
        PlanError::NotSealed
    );
    assert_eq!(
        Plan::from_json(&sealed().to_json()).unwrap_err(),
        PlanError::Sealed
    );
    for (error, word) in [
        (with("type", json!("watermark.report")), "watermark.report"),
        (with("type", json!(7)), "`type`"),
        (with("schema", json!(2)), "`schema`"),
        (with("sealedAt", json!("yesterday")), "`sealedAt`"),
        (with("digest", json!("AB")), "`digest`"),
        (with("signature", json!("AB")), "signature"),
        (SealedPlan::open("{").unwrap_err(), "line 1"),
    ] {
        assert!(error.to_string().contains(word), "{error} lacks {word}");
    }
    // A digest over what is no plan makes it none.
    let plan = json!({"type": "watermark.plan", "schema": 1});
    let digest = crate::hex(&crate::evidence::canonical::digest(&plan));
    let mut changed = value.clone();
    changed["plan"] = plan;
    changed["digest"] = json!(digest);
    let error = SealedPlan::open(&changed.to_string()).unwrap_err();
    assert!(error.to_string().contains("missing field"), "{error}");
}

#[test]
fn fields_that_no_plan_can_have() {
    type Change = fn(&mut Plan);
    let cases: [(&str, Change); 24] = [
        ("schema", |p| p.schema = 2),
        ("tokenizer.sha256", |p| p.tokenizer.sha256 = "x".into()),
        ("profile.vocabulary", |p| {
            p.profile.vocabulary = Some(Vocabulary {
                size: 1,
                sha256: "ab".repeat(32),
            });
        }),
        ("key.id", |p| p.key.id = "0123".into()),
        ("key.epoch", |p| p.key.epoch = "Q/4".into()),
        ("key.slot", |p| p.key.slot = 33),
        ("key.commitment", |p| {
            p.key.commitment = Some("CD".repeat(32));
        }),
        ("tests", |p| p.tests.clear()),
        ("tests", |p| p.tests.push(TestId::NeverEmitted)),
        ("tests", |p| p.tests.push(TestId::ClosedSqrt)),
        ("primary", |p| p.primary = TestId::OpenSoft),
        ("alpha", |p| p.alpha = 0.0),
        ("looks", |p| p.looks = Looks::Anytime),
        ("twoSided", |p| {
            p.looks = Looks::Anytime;
            p.tests = vec![TestId::ClosedCells];
            p.primary = TestId::ClosedCells;
            p.two_sided = true;
        }),
        ("controls", |p| {
            p.looks = Looks::Anytime;
            p.tests = vec![TestId::ClosedCells];
            p.primary = TestId::ClosedCells;
        }),
        ("decoys", |p| p.decoys = 4064),
        ("supervisedCells", |p| p.supervised_cells = Some(9)),
        ("supervisedCells", |p| p.tests.push(TestId::Supervised)),
        ("prompts.sha256", |p| p.prompts.sha256.clear()),
        ("request.temperature", |p| p.request.temperature = -1.0),
        ("request.topP", |p| p.request.top_p = 0.0),
        ("budget.answers", |p| p.budget.answers = 11),
        ("budget.tokens", |p| p.budget.tokens = 0),
        ("profile", |p| p.profile.min_entropy = -1.0),
    ];
    for (field, change) in cases {
        let mut plan = plan();
        change(&mut plan);
        let error = plan.check().unwrap_err().to_string();
        assert!(error.starts_with(&format!("field `{field}`")), "{error}");
        assert!(SealedPlan::seal(plan, UNIX_EPOCH).is_err());
    }
}

#[test]
fn prompts_by_their_bytes() {
    let prompts = plan().prompts;
    assert_eq!(prompts.count, 2);
    prompts.check(PROMPTS).unwrap();
    let error = prompts.check(&[PROMPTS, b"\n"].concat()).unwrap_err();
    assert!(matches!(error, PromptError::Changed { .. }), "{error}");
    for (bytes, word) in [
        (&b"\n"[..], "no prompt"),
        (
            b"{\"id\":\"a\",\"prompt\":\"x\"}\n{\"id\":\"a\",\"prompt\":\"y\"}",
            "line 2: the id `a`",
        ),
        (b"{\"id\":\"a\"}", "one of `prompt` and `messages`"),
        (b"{\"id\":\"a\",\"messages\":[]}", "`messages` is empty"),
        (b"{\"prompt\":\"x\"}", "missing field `id`"),
        (b"{\"id\":\"a\",\"prompt\":\"x\",\"seed\":1}", "seed"),
        (b"[]", "line 1"),
    ] {
        let error = Prompts::of("p", bytes).unwrap_err().to_string();
        assert!(error.contains(word), "{error} lacks {word}");
    }
}
