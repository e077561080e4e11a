//! Whole files and pushed streams through [`Reader`].

use super::*;
use biollm_core::decode::Compression;
use biollm_core::{Error, Monitor, Result};
use std::path::{Path, PathBuf};

fn options(format: Format) -> Options {
    Options {
        format,
        compression: Compression::None,
        text: vec!["text".into()],
        id: None,
        source: None,
        id_prefix: "f:".into(),
        max_document_bytes: 1 << 20,
        skip: false,
    }
}

/// (id, text, source, meta) of every row, and the rejected.
type Rows = (Vec<(String, String, Option<String>, String)>, Vec<Rejected>);

fn strings(column: &TextColumn) -> Vec<String> {
    let rows = column.offsets.windows(2);
    rows.map(|w| String::from_utf8(column.data[w[0] as usize..w[1] as usize].to_vec()).unwrap())
        .collect()
}

fn read(data: &[u8], options: Options, piece: usize) -> Result<Rows> {
    let monitor = Monitor::new();
    let mut reader = Reader::fed(Path::new("f"), options)?;
    let (mut rows, mut rejected) = (Vec::new(), Vec::new());
    let mut pieces = data.chunks(piece);
    while reader.xxh3_128_hex().is_none() {
        if let Some(batch) = reader.next_batch(&monitor)? {
            let (ids, texts) = (strings(&batch.id), strings(&batch.text));
            let (sources, metas) = (strings(&batch.source.texts), strings(&batch.meta));
            assert!(
                [ids.len(), texts.len(), sources.len(), metas.len()]
                    .iter()
                    .all(|&n| n == batch.rows)
            );
            for i in 0..batch.rows {
                let valid = batch.source.validity[i / 8] >> (i % 8) & 1 == 1;
                let source = valid.then(|| sources[i].clone());
                rows.push((ids[i].clone(), texts[i].clone(), source, metas[i].clone()));
            }
            rejected.extend(batch.rejected);
        } else if let Some(piece) = pieces.next() {
            reader.push(piece)?;
        } else {
            reader.finish();
        }
    }
    assert_eq!(
        reader.xxh3_128_hex().unwrap(),
        biollm_core::hash::xxh3_128_hex(data)
    );
    Ok((rows, rejected))
}

fn row(id: &str, text: &str, source: Option<&str>, meta: &str) -> (String, String, Option<String>, String) {
    (id.into(), text.into(), source.map(Into::into), meta.into())
}

#[test]
fn fields_go_to_their_columns() {
    let data = br#"{"id": 7, "text": "a\u00e9\n", "label": [1, {"x": null}], "source": "pubmed"}

{"text": "b", "id": null, "source": {"name": 1}}
{"id": "x", "id": "y", "text": "dropped", "text": "kept", "k": 1, "k": 2}
{"text": "", "t\u0065xt": "escaped key", "id": true}"#;
    for piece in [1, 13, 1000] {
        let (rows, rejected) = read(data, options(Format::Jsonl), piece).unwrap();
        assert_eq!(
            rows,
            vec![
                row("7", "aé\n", Some("pubmed"), r#"{"label": [1, {"x": null}]}"#),
                row("f:1", "b", None, r#"{"id": null, "source": {"name": 1}}"#),
                row("y", "kept", None, r#"{"k": 1, "k": 2}"#),
                row("true", "escaped key", None, "{}"),
            ]
        );
        assert!(rejected.is_empty());
    }
}

#[test]
fn named_fields_are_needed_and_joined() {
    let mut o = options(Format::Jsonl);
    o.text = vec!["title".into(), "body".into()];
    o.id = Some("pmid".into());
    o.source = Some("journal".into());
    let data = br#"{"body": "B", "title": "T", "pmid": 12, "journal": 3, "id": "other"}
{"body": null, "title": "T", "pmid": "13"}
{"body": "B", "title": "", "pmid": "14", "journal": null}"#;
    let (rows, _) = read(data, o.clone(), 50).unwrap();
    assert_eq!(
        rows,
        vec![
            row("12", "T\n\nB", Some("3"), r#"{"id": "other"}"#),
            row("13", "T", None, "{}"),
            row("14", "B", None, "{}"),
        ]
    );
    for (bad, field) in [
        (r#"{"title": "T", "pmid": 1}"#, "body"),
        (r#"{"title": "T", "body": 5, "pmid": 1}"#, "body"),
        (r#"{"title": "T", "body": "B"}"#, "pmid"),
        (r#"{"title": "T", "body": "B", "pmid": null}"#, "pmid"),
        (r#"{"title": "T", "body": "B", "pmid": [1]}"#, "pmid"),
        (r#"{"title": "T", "body": "B\ud800", "pmid": 1}"#, "body"),
        (
            r#"{"title": "T", "body": "B", "pmid": 1, "journal": {}}"#,
            "journal",
        ),
    ] {
        match read(bad.as_bytes(), o.clone(), 100) {
            Err(Error::Format {
                field: Some(f),
                line: Some(1),
                path: Some(_),
                ..
            }) => assert_eq!(f, field),
            other => panic!("{bad}: {other:?}"),
        }
    }
    o.text.push("pmid".into());
    assert!(matches!(read(b"", o, 1), Err(Error::Input { .. })));
}

#[test]
fn skipping_loses_nothing_and_keeps_no_half_rows() {
    let mut o = options(Format::Jsonl);
    o.skip = true;
    o.max_document_bytes = 100;
    let long = "x".repeat(200);
    let data = format!(
        "{{\"id\": 1, \"text\": \"a\"}}\nnot json\n\n{{\"text\": 5, \"id\": 2, \"source\": \"s\"}}\n{{\"text\": \"{long}\"}}\n\
         {{\"text\": \"half \\ud800\", \"m\": 1}}\n{{\"text\": \"b\"}}\n{{\"text\": \"c\""
    );
    let mut data = data.into_bytes();
    data.extend_from_slice(b"\n{\"text\": \"\xff\"}\n{\"text\": \"d\", \"m\": 2}");
    for piece in [1, 7, 1000] {
        let (rows, rejected) = read(&data, o.clone(), piece).unwrap();
        let want = vec![
            row("1", "a", None, "{}"),
            row("f:5", "b", None, "{}"),
            row("f:8", "d", None, r#"{"m": 2}"#),
        ];
        assert_eq!(rows, want);
        assert_eq!(
            rejected.iter().map(|r| r.line).collect::<Vec<_>>(),
            vec![2, 4, 5, 6, 8, 9]
        );
        assert!(rejected[2].reason.contains("max_document_bytes"));
    }
}

#[test]
fn a_line_or_a_file_is_a_document() {
    let (rows, _) = read(
        "\u{feff}a\r\n\nb\u{2028}c\n  \nd".as_bytes(),
        options(Format::Lines),
        3,
    )
    .unwrap();
    let texts: Vec<&str> = rows.iter().map(|r| r.1.as_str()).collect();
    assert_eq!(texts, ["a", "b\u{2028}c", "d"]);
    assert_eq!(rows[2].0, "f:2");
    let (rows, _) = read("\u{feff}a\r\n\nb\0".as_bytes(), options(Format::Text), 2).unwrap();
    assert_eq!(rows, vec![row("f:0", "a\r\n\nb\0", None, "")]);
    assert_eq!(read(b"", options(Format::Text), 2).unwrap().0.len(), 1);
    let bad = read(b"one\ntwo\xff", options(Format::Text), 2);
    assert!(matches!(bad, Err(Error::Format { line: Some(2), .. })), "{bad:?}");
    for skip in [false, true] {
        let o = Options {
            skip,
            max_document_bytes: 10,
            ..options(Format::Text)
        };
        assert_eq!(read(b"0123456789", o.clone(), 4).unwrap().0.len(), 1);
        for n in [11, 3_000_000] {
            let r = read(&vec![b'x'; n], o.clone(), 100_000);
            match (skip, r) {
                (false, Err(Error::Limit { limit: 10, .. })) => {}
                (true, Ok((rows, rejected))) => assert!(rows.is_empty() && rejected.len() == 1),
                (_, other) => panic!("{n}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_broken_stream_is_an_error_even_when_skipping() {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for i in 0..1000 {
        writeln!(encoder, "{{\"text\": \"{i}\"}}").unwrap();
    }
    let gz = encoder.finish().unwrap();
    let o = Options {
        skip: true,
        compression: Compression::Gzip,
        ..options(Format::Jsonl)
    };
    assert_eq!(read(&gz, o.clone(), 100).unwrap().0.len(), 1000);
    assert!(matches!(
        read(&gz[..gz.len() - 5], o, 100),
        Err(Error::Format { path: Some(_), .. })
    ));
}

#[test]
fn files_and_their_failures() {
    let monitor = Monitor::new();
    let path = std::env::temp_dir().join(format!("biollm-read-{}.jsonl", std::process::id()));
    let data: String = (0..200_000)
        .map(|i| format!("{{\"text\": \"t{i}\"}}\n"))
        .collect();
    std::fs::write(&path, &data).unwrap();
    let mut reader = Reader::open(&path, options(Format::Jsonl)).unwrap();
    let mut sizes = Vec::new();
    while let Some(batch) = reader.next_batch(&monitor).unwrap() {
        sizes.push(batch.rows);
    }
    assert_eq!(sizes.iter().sum::<usize>(), 200_000);
    assert!(sizes.len() > 1);
    assert_eq!(reader.bytes_read(), data.len() as u64);
    assert!(reader.next_batch(&monitor).unwrap().is_none());
    assert!(reader.push(b"x").is_err());
    assert!(matches!(
        Reader::open(&std::env::temp_dir(), options(Format::Text)),
        Err(Error::Input { .. })
    ));
    std::fs::write(&path, "{").unwrap();
    let mut reader = Reader::open(&path, options(Format::Jsonl)).unwrap();
    assert!(matches!(reader.next_batch(&monitor), Err(Error::Format { .. })));
    assert!(matches!(reader.next_batch(&monitor), Err(Error::Input { .. })));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        Reader::open(&path, options(Format::Jsonl)),
        Err(Error::File { .. })
    ));
    let missing: PathBuf = "/nonexistent/x".into();
    assert!(matches!(
        Reader::open(&missing, options(Format::Jsonl)),
        Err(Error::File { .. })
    ));
}

#[test]
fn a_stop_loses_nothing() {
    let monitor = Monitor::new();
    let mut reader = Reader::fed(Path::new("f"), options(Format::Lines)).unwrap();
    reader.push(b"a\nb\n").unwrap();
    let stopped = Monitor::new();
    stopped.stop();
    assert!(matches!(reader.next_batch(&stopped), Err(Error::Stopped)));
    reader.finish();
    assert_eq!(reader.next_batch(&monitor).unwrap().unwrap().rows, 2);
}
