use super::*;
use crate::cli::InputForm;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use watermark_core::text::ByteTokenizer;

fn form(requests: &[PathBuf]) -> FormArgs {
    FormArgs {
        input: InputForm::Auto,
        requests: requests.to_vec(),
    }
}

fn all(paths: &[PathBuf]) -> Inputs {
    read_all(paths, &form(&[]), &ByteTokenizer, &[]).unwrap()
}

fn bytes(text: &str) -> Vec<u32> {
    ByteTokenizer.encode(text)
}

/// Under the ids of bytes, `|` stands for a special token.
#[test]
fn special_tokens_part_the_answers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    let lines = [
        r#"{"token_ids": [124, 97, 98, 124, 124, 99, 124]}"#,
        r#"{"text": "ab|c", "reasoning": "d|"}"#,
        r#"{"token_ids": [124]}"#,
        r#"{"text": "x", "prompt": "p|q"}"#,
    ];
    std::fs::write(&path, lines.join("\n")).unwrap();
    let paths = [path];
    let inputs = read_all(&paths, &form(&[]), &ByteTokenizer, &[7, 124]).unwrap();
    let segments: Vec<_> = inputs.items.iter().map(|item| &item.segments).collect();
    assert_eq!(*segments[0], [bytes("ab"), bytes("c")]);
    assert_eq!(*segments[1], [bytes("d"), bytes("ab"), bytes("c")]);
    assert_eq!(*segments[2], [bytes("")]);
    assert_eq!(inputs.counts.special_tokens, 4 + 2 + 1);
    // Prompts stay whole.
    assert_eq!(inputs.items[3].contexts, [bytes("p|q")]);
    let plain = all(&paths);
    assert_eq!(plain.items[0].segments[0].len(), 7);
    assert_eq!(plain.counts.special_tokens, 0);
}

#[test]
fn answers_are_joined_with_their_requests() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let request = |id: &str, prompt: &str| {
        format!(
            r#"{{"custom_id":"{id}","method":"POST","url":"/v1/completions","body":{{"prompt":"{prompt}"}}}}"#
        )
    };
    let response = |id: &str, text: &str| {
        format!(
            r#"{{"id":"r","custom_id":"{id}","response":{{"status_code":200,"body":{{"choices":[{{"text":"{text}"}}]}}}},"error":null}}"#
        )
    };
    let failed =
        r#"{"id":"r","custom_id":"c","response":{"status_code":500,"body":{}},"error":null}"#;
    // Responses come in any order.
    let responses = [
        response("b", "B"),
        response("a", "A"),
        failed.to_owned(),
        response("d", "D"),
    ];
    let requests = [("a", "one"), ("b", "two"), ("c", "x"), ("d", "one")]
        .map(|(id, prompt)| request(id, prompt));
    std::fs::write(path("out.jsonl"), responses.join("\n")).unwrap();
    std::fs::write(path("requests.jsonl"), requests.join("\n")).unwrap();

    let alone = all(&[path("out.jsonl")]);
    assert!(alone.items.iter().all(|item| item.contexts.is_empty()));
    assert_eq!(alone.items[0].source.as_deref(), Some("custom_id:b"));

    let named = read_all(
        &[path("out.jsonl")],
        &form(&[path("requests.jsonl")]),
        &ByteTokenizer,
        &[],
    );
    // In a directory, requests are found among the answers.
    for joined in [named.unwrap(), all(&[directory.path().to_owned()])] {
        let contexts: Vec<_> = joined.items.iter().map(|item| &item.contexts[0]).collect();
        assert_eq!(contexts, [&bytes("two"), &bytes("one"), &bytes("one")]);
        let [b, a, d] = joined.items.as_slice() else {
            panic!("{joined:?}");
        };
        assert_eq!(a.source, d.source);
        assert_ne!(a.source, b.source);
        assert_eq!(
            joined.counts,
            Counts {
                answers: 3,
                answers_from_text: 3,
                skipped: 1,
                ..Counts::default()
            }
        );
    }
}

#[test]
fn a_sample_counts_under_its_first_filter_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("samples_gsm8k.jsonl");
    // lm-evaluation-harness 0.4.9 logs all documents under one filter, then under the next.
    let line = |document: u32, filter: &str| {
        format!(
            r#"{{"doc_id":{document},"filter":"{filter}","arguments":{{"gen_args_0":{{"arg_0":"Q{document}","arg_1":{{}}}}}},"resps":[["A{document}"]],"filtered_resps":["x"]}}"#
        )
    };
    let lines = [
        line(0, "strict-match"),
        line(1, "strict-match"),
        line(0, "flexible-extract"),
        line(1, "flexible-extract"),
    ];
    std::fs::write(&path, lines.join("\n")).unwrap();
    let inputs = all(&[path]);
    let answers: Vec<_> = inputs.items.iter().map(|item| &item.segments[0]).collect();
    assert_eq!(answers, [&bytes("A0"), &bytes("A1")]);
    assert_eq!((inputs.counts.answers, inputs.counts.repeated), (2, 2));
}

#[test]
fn several_answers_of_one_line_have_names_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.jsonl");
    std::fs::write(
        &path,
        "\n{\"choices\":[{\"text\":\"x\"},{\"message\":{\"content\":null}},{\"text\":\"\"}]}\n",
    )
    .unwrap();
    let inputs = all(&[path]);
    let ends: Vec<_> = inputs
        .items
        .iter()
        .map(|item| item.name.rsplit('/').next().unwrap())
        .collect();
    assert_eq!(ends, ["a.jsonl:2#1", "a.jsonl:2#2", "a.jsonl:2#3"]);
    // Empty answers are answers.
    assert_eq!(inputs.items[1].segments, [Vec::<u32>::new()]);
    assert_eq!(inputs.items[2].segments, [Vec::<u32>::new()]);
    assert_eq!(inputs.counts.answers, 3);
}

/// Two rows: text "ab" with ids, and text "c" without; and a column that no form reads.
fn write_table(path: &Path, compression: Compression) {
    let schema = "message schema {
        OPTIONAL BYTE_ARRAY text (UTF8);
        OPTIONAL group token_ids (LIST) { REPEATED group list { OPTIONAL INT64 element; } }
        OPTIONAL BYTE_ARRAY picture;
    }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_compression(compression)
        .set_encoding(Encoding::PLAIN)
        .build();
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let texts = [ByteArray::from("ab"), ByteArray::from("c")];
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&texts, Some(&[1, 1]), None)
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<Int64Type>()
        .write_batch(&[7, 8, 9], Some(&[3, 3, 3, 0]), Some(&[0, 1, 1, 0]))
        .unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column
        .typed::<ByteArrayType>()
        .write_batch(&[ByteArray::from(vec![0xff])], Some(&[1, 0]), None)
        .unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn rows_of_a_table_are_records_under_every_codec() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.parquet");
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
        Compression::GZIP(Default::default()),
    ] {
        write_table(&path, compression);
        let inputs = all(&[directory.path().to_owned()]);
        let segments: Vec<_> = inputs.items.iter().map(|item| &item.segments[0]).collect();
        assert_eq!(segments, [&vec![7, 8, 9], &bytes("c")], "{compression:?}");
        assert!(inputs.items[1].name.ends_with("a.parquet:2"));
        let counts = inputs.counts;
        assert_eq!((counts.answers_from_ids, counts.answers_from_text), (1, 1));
    }
}

#[test]
fn a_table_that_is_cut_off_is_refused_and_never_panics() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.parquet");
    write_table(&path, Compression::SNAPPY);
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error =
            read_all(std::slice::from_ref(&path), &form(&[]), &ByteTokenizer, &[]).unwrap_err();
        assert!(matches!(error, InputError::Table { .. }), "{error}");
        assert!(error.to_string().contains("a.parquet"), "{error}");
    }
}
