//! The small fields of a `tokenizer.json`: each is understood whole, or refused by its name.

use super::{kind, refused};
use crate::added::AddedToken;
use crate::split::Pattern;
use crate::tokens::MAX_VOCAB;
use biollm_core::{Error, Result};
use serde_json::Value;

pub(super) fn added_tokens(value: &Value) -> Result<Vec<AddedToken>> {
    let wrong = |i: usize, field: &str| {
        let field = format!("added_tokens[{i}].{field}");
        Error::format_field(field.clone(), format!("{field} is missing or of the wrong type"))
    };
    let empty = Vec::new();
    let items = match value {
        Value::Null => &empty,
        Value::Array(items) => items,
        _ => return Err(Error::format_field("added_tokens", "added_tokens is not a list")),
    };
    let mut added = Vec::new();
    for (i, item) in items.iter().enumerate() {
        let id = item["id"]
            .as_u64()
            .filter(|id| *id < MAX_VOCAB as u64)
            .ok_or_else(|| wrong(i, "id"))?;
        let content = item["content"]
            .as_str()
            .filter(|c| !c.is_empty())
            .ok_or_else(|| wrong(i, "content"))?;
        let flag = |name: &str| match &item[name] {
            Value::Null => Ok(false),
            Value::Bool(flag) => Ok(*flag),
            _ => Err(wrong(i, name)),
        };
        for name in ["single_word", "lstrip", "rstrip"] {
            if flag(name)? {
                let message = format!("added token {content:?} has {name}, which is not supported");
                return Err(refused(&format!("added_tokens[{i}].{name}"), message));
            }
        }
        let (special, normalized) = (flag("special")?, flag("normalized")?);
        added.push(AddedToken {
            id: id as u32,
            content: content.to_string(),
            special,
            normalized,
        });
    }
    Ok(added)
}

pub(super) fn pre_tokenizer(value: &Value) -> Result<Pattern> {
    const FIELD: &str = "pre_tokenizer";
    match kind(value) {
        "ByteLevel" => {
            if byte_level_uses_regex(value)? {
                Ok(Pattern::Gpt2)
            } else {
                Err(refused(
                    FIELD,
                    "pre_tokenizer ByteLevel without use_regex and without a Split is not supported",
                ))
            }
        }
        "Sequence" => match value["pretokenizers"].as_array().map(Vec::as_slice) {
            Some([split, byte_level]) if kind(split) == "Split" && kind(byte_level) == "ByteLevel" => {
                if byte_level_uses_regex(byte_level)? {
                    return Err(refused(
                        FIELD,
                        "pre_tokenizer with a Split and ByteLevel's use_regex is not supported",
                    ));
                }
                split_pattern(split)
            }
            _ => Err(refused(
                FIELD,
                "pre_tokenizer Sequence is supported as [Split, ByteLevel] only",
            )),
        },
        "" => Err(refused(FIELD, "the file has no pre_tokenizer: no byte-level BPE")),
        other => Err(refused(FIELD, format!("pre_tokenizer {other} is not supported"))),
    }
}

fn byte_level_uses_regex(value: &Value) -> Result<bool> {
    if value["add_prefix_space"].as_bool() != Some(false) {
        return Err(refused(
            "pre_tokenizer.add_prefix_space",
            "ByteLevel with add_prefix_space is not supported",
        ));
    }
    // `use_regex` is true where old files lack it.
    Ok(value["use_regex"].as_bool().unwrap_or(true))
}

fn split_pattern(split: &Value) -> Result<Pattern> {
    let invert = split["invert"].as_bool().unwrap_or(false);
    // The patterns cover every text, so keeping matches and gaps, or only matches, is the same.
    match (split["behavior"].as_str(), invert) {
        (Some("Isolated"), false) | (Some("Removed"), true) => {}
        (behavior, _) => {
            let message = format!("Split with behavior {behavior:?} and invert {invert} is not supported");
            return Err(refused("pre_tokenizer.behavior", message));
        }
    }
    let regex = split["pattern"]["Regex"].as_str().unwrap_or("");
    Pattern::from_regex(regex).ok_or_else(|| {
        let message = format!("split pattern {regex:?} is not one of those supported (gpt2, llama3, o200k)");
        refused("pre_tokenizer.pattern", message)
    })
}

pub(super) fn decoder(value: &Value) -> Result<()> {
    match kind(value) {
        "ByteLevel" => Ok(()),
        "" => Err(refused("decoder", "the file has no decoder: no byte-level BPE")),
        other => Err(refused("decoder", format!("decoder {other} is not supported"))),
    }
}

/// The ids that the template for one text puts before and behind it.
pub(super) fn template(value: &Value, added: &[AddedToken]) -> Result<(Vec<u32>, Vec<u32>)> {
    const FIELD: &str = "post_processor";
    let mut steps: Vec<&Value> = vec![];
    match (kind(value), &value["processors"]) {
        ("", _) if value.is_null() => {}
        ("Sequence", Value::Array(processors)) => steps.extend(processors),
        _ => steps.push(value),
    }
    let (mut before, mut behind) = (vec![], vec![]);
    let mut templates = 0;
    for step in steps {
        match kind(step) {
            "ByteLevel" => {} // changes offsets, not ids
            "TemplateProcessing" if templates == 0 => {
                templates += 1;
                let wrong =
                    || Error::format_field(FIELD, "the template for one text is not one that is supported");
                let mut seen_text = false;
                for piece in step["single"].as_array().ok_or_else(wrong)? {
                    if piece.get("Sequence").is_some() && !seen_text {
                        seen_text = true;
                        continue;
                    }
                    let name = piece["SpecialToken"]["id"].as_str().ok_or_else(wrong)?;
                    let ids = step["special_tokens"][name]["ids"].as_array().ok_or_else(wrong)?;
                    for id in ids {
                        let id = id
                            .as_u64()
                            .and_then(|id| u32::try_from(id).ok())
                            .ok_or_else(wrong)?;
                        if !added.iter().any(|token| token.id == id) {
                            let message = format!("the template names id {id}, which is no added token");
                            return Err(Error::format_field(FIELD, message));
                        }
                        if seen_text {
                            behind.push(id)
                        } else {
                            before.push(id)
                        }
                    }
                }
                if !seen_text {
                    return Err(wrong());
                }
            }
            other => return Err(refused(FIELD, format!("post_processor {other} is not supported"))),
        }
    }
    Ok((before, behind))
}
