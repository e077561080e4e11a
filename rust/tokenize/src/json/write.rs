//! Writing a `tokenizer.json`.

use super::CHECK_ITEMS;
use crate::byte_level;
use crate::split::Pattern;
use crate::tiktoken;
use crate::tokenizer::Tokenizer;
use biollm_core::{Error, Monitor, Result};
use serde_json::Value;

/// Writes a `tokenizer.json` that `tokenizers` and `transformers` load with equal ids, of a tokenizer that was trained
/// or read from a `.tiktoken` file (which have no template).
pub fn write(tokenizer: &Tokenizer, monitor: &Monitor) -> Result<String> {
    if tokenizer.pattern == Pattern::Cl100k && !tiktoken::llama3_equals_cl100k(&tokenizer.tokens) {
        let message = "this vocabulary cannot be written as a tokenizer.json with equal ids: it has tokens with a \
                       newline before their last byte, and tiktoken's cl100k pattern has no equal there";
        return Err(Error::input("pattern", message));
    }
    let quoted = |text: &str| Value::from(text).to_string();
    let mut out = String::from("{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    out += "  \"added_tokens\": [";
    for (i, token) in tokenizer.added.iter().enumerate() {
        out += if i == 0 { "\n" } else { ",\n" };
        out += &format!(
            "    {{\"id\": {}, \"content\": {}, \"single_word\": false, \"lstrip\": false, \"rstrip\": false, \
             \"normalized\": {}, \"special\": {}}}",
            token.id,
            quoted(&token.content),
            token.normalized,
            token.special
        );
    }
    out += "\n  ],\n  \"normalizer\": null,\n";
    let byte_level = |use_regex: bool| {
        format!(
            "{{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": {use_regex}}}"
        )
    };
    let pre_tokenizer = match tokenizer.pattern {
        Pattern::Gpt2 => byte_level(true),
        Pattern::Cl100k => split_json(Pattern::Llama3, &byte_level(false)),
        pattern => split_json(pattern, &byte_level(false)),
    };
    out += &format!("  \"pre_tokenizer\": {pre_tokenizer},\n  \"post_processor\": null,\n");
    out += &format!("  \"decoder\": {},\n", byte_level(true));
    out += "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n    \"unk_token\": null,\n";
    out += "    \"continuing_subword_prefix\": null,\n    \"end_of_word_suffix\": null,\n";
    out += "    \"fuse_unk\": false,\n    \"byte_fallback\": false,\n";
    out += &format!(
        "    \"ignore_merges\": {},\n    \"vocab\": {{",
        tokenizer.whole_pieces
    );
    // The strings are made one at a time: a million of them would take long to make, to sort and to free.
    let mut vocab: Vec<(u32, Option<usize>)> = Vec::new();
    vocab.extend(
        tokenizer
            .added
            .iter()
            .enumerate()
            .map(|(i, token)| (token.id, Some(i))),
    );
    vocab.extend(tokenizer.tokens.iter().map(|(id, _)| (id, None)));
    vocab.sort_unstable();
    for (i, &(id, added)) in vocab.iter().enumerate() {
        if i.is_multiple_of(CHECK_ITEMS) {
            monitor.check()?;
        }
        let token = match added.and_then(|k| tokenizer.added.get(k)) {
            Some(token) => quoted(&token.content),
            None => quoted(&byte_level::encode(tokenizer.tokens.get(id).unwrap_or_default())),
        };
        out += if i == 0 { "\n" } else { ",\n" };
        out += &format!("      {token}: {id}");
    }
    out += "\n    },\n    \"merges\": [";
    for (i, &(_, left, right)) in tokenizer.merges.sorted(monitor)?.iter().flatten().enumerate() {
        if i.is_multiple_of(CHECK_ITEMS) {
            monitor.check()?;
        }
        let written = |id| byte_level::encode(tokenizer.tokens.get(id).unwrap_or_default());
        out += if i == 0 { "\n" } else { ",\n" };
        // The alphabet has no blank, so one parts the two.
        out += &format!(
            "      {}",
            quoted(&format!("{} {}", written(left), written(right)))
        );
    }
    out += "\n    ]\n  }\n}\n";
    Ok(out)
}

fn split_json(pattern: Pattern, byte_level: &str) -> String {
    let regex = Value::from(pattern.regex());
    format!(
        "{{\"type\": \"Sequence\", \"pretokenizers\": [{{\"type\": \"Split\", \"pattern\": {{\"Regex\": {regex}}}, \
         \"behavior\": \"Isolated\", \"invert\": false}}, {byte_level}]}}"
    )
}
