use super::*;

fn fields(line: &str) -> Result<Vec<(String, Kind, String)>> {
    let mut all = Vec::new();
    each_field(line, &Monitor::new(), |f| {
        assert!(f.span.starts_with('"') && line.contains(f.span));
        all.push((f.key.raw.to_string(), f.kind, f.value.raw.to_string()));
        Ok(())
    })?;
    Ok(all)
}

fn unescaped(raw: &str) -> Result<String> {
    let mut out = Vec::new();
    RawString {
        raw,
        escaped: raw.contains('\\'),
    }
    .unescape_into(&mut out, &Monitor::new())?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn fields_of_every_kind() {
    let line = r#" {"s":"a\"b" , "n":-1.5e+3,"t":true,"f" :false,"z":null,"o":{"a":[{}]},"l":[1,[2,"]"],{"b":"}"}]}
"#;
    let want = [
        ("s", Kind::String, r#"a\"b"#),
        ("n", Kind::Number, "-1.5e+3"),
        ("t", Kind::Bool, "true"),
        ("f", Kind::Bool, "false"),
        ("z", Kind::Null, "null"),
        ("o", Kind::Object, r#"{"a":[{}]}"#),
        ("l", Kind::Array, r#"[1,[2,"]"],{"b":"}"}]"#),
    ];
    let got = fields(line).unwrap();
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert_eq!((g.0.as_str(), g.1, g.2.as_str()), w);
    }
    assert!(fields(" {} \r").unwrap().is_empty());
    assert!(fields("{ }").unwrap().is_empty());
}

#[test]
fn what_is_not_json_is_refused() {
    let bad = [
        "",
        " ",
        "[]",
        "1",
        "null",
        "\"a\"",
        "{",
        "{}{}",
        "{} x",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{'a':1}",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":-}",
        "{\"a\":1e}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":-Infinity}",
        "{\"a\":tru}",
        "{\"a\":nul",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\0\"}",
        "{\"a\":\"b}",
        "{\"a\":\"\\",
        "{\"a\":[}",
        "{\"a\":[1,]}",
        "{\"a\":[1 2]}",
        "{\"a\":{]}",
        "{\"a\":{\"b\":1]}",
        "{\"a\":[1}}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":{,}}",
        "{\"a\":{\"b\"}}",
        "{\"a\":[,]}",
        "{\"a\":1}}",
        "{\"a\":\"\\u+123\"}",
        "\u{feff}{}",
        "{\"a\":1}\u{a0}",
    ];
    for line in bad {
        assert!(matches!(fields(line), Err(Error::Format { .. })), "{line:?}");
    }
}

#[test]
fn depth_is_bounded_without_recursion() {
    let nested = |n: usize| format!("{{\"a\":{}{}}}", "[".repeat(n), "]".repeat(n));
    assert!(fields(&nested(limits::MAX_JSON_DEPTH - 1)).is_ok());
    assert!(matches!(
        fields(&nested(limits::MAX_JSON_DEPTH)),
        Err(Error::Limit { .. })
    ));
    let objects = |n: usize| format!("{}1{}", "{\"a\":".repeat(n), "}".repeat(n));
    assert!(fields(&objects(limits::MAX_JSON_DEPTH)).is_ok());
    assert!(matches!(
        fields(&objects(limits::MAX_JSON_DEPTH + 1)),
        Err(Error::Limit { .. })
    ));
    let bomb = format!("{{\"a\":{}", "[".repeat(10_000_000));
    assert!(matches!(fields(&bomb), Err(Error::Limit { .. })));
}

#[test]
fn escapes() {
    let all = r#"\"\\\/\b\f\n\r\té\u00e9\u20AC\ud83e\uDDEC."#;
    assert_eq!(unescaped(all).unwrap(), "\"\\/\u{8}\u{c}\n\r\téé€🧬.");
    assert_eq!(unescaped("").unwrap(), "");
    assert_eq!(unescaped(r"\u0000").unwrap(), "\0");
    for lone in [
        r"\ud83e",
        r"\ud83ex",
        r"\ud83e\n",
        r"\ud83e\u0041",
        r"\uddec",
        r"\ud83e\ud83e\uddec",
    ] {
        assert!(matches!(unescaped(lone), Err(Error::Format { .. })), "{lone}");
    }
    let key = RawString {
        raw: r"t\u0065xt",
        escaped: true,
    };
    assert!(key.is("text") && !key.is("test"));
    assert!(
        !RawString {
            raw: r"\ud800",
            escaped: true
        }
        .is("x")
    );
}

#[test]
fn a_stopped_monitor_ends_long_lines() {
    let monitor = Monitor::new();
    monitor.stop();
    for value in [
        format!("\"{}\"", "x".repeat(3 << 20)),
        format!("[{}0]", "0,".repeat(3 << 20)),
    ] {
        let r = each_field(&format!("{{\"a\":{value}}}"), &monitor, |_| Ok(()));
        assert!(matches!(r, Err(Error::Stopped)));
    }
    let escapes = "\\n".repeat(1 << 20);
    let r = RawString {
        raw: &escapes,
        escaped: true,
    }
    .unescape_into(&mut Vec::new(), &monitor);
    assert!(matches!(r, Err(Error::Stopped)));
}

#[test]
fn long_strings_at_every_alignment() {
    for n in 0..100 {
        let text = "x".repeat(n);
        assert_eq!(fields(&format!("{{\"a\":\"{text}\"}}")).unwrap()[0].2, text);
        assert!(fields(&format!("{{\"a\":\"{text}\u{1f}\"}}")).is_err());
        assert_eq!(
            fields(&format!("{{\"a\":\"{text}\\\"é\"}}")).unwrap()[0].2,
            format!("{text}\\\"é")
        );
    }
}
