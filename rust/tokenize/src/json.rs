//! `tokenizer.json`, as Hugging Face's `tokenizers` writes it: what a byte-level BPE tokenizer needs is honoured
//! exactly, anything else is refused by its name.

use crate::added::AddedToken;
use crate::byte_level;
use crate::merges::Merges;
use crate::split::Pattern;
use crate::tokenizer::Tokenizer;
use crate::tokens::{MAX_VOCAB, Tokens};
use biollm_core::{Error, Monitor, Result};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::de::StrRead;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::marker::PhantomData;

/// Longest file taken; published ones have up to about 35 MB.
pub const MAX_FILE_BYTES: u64 = 1 << 28;
/// Items of a long list between two looks at the stop token.
const CHECK_ITEMS: usize = 1 << 14;

/// A file read as text: at most [`MAX_FILE_BYTES`] of UTF-8.
pub fn checked_text(bytes: &[u8]) -> Result<&str> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let hint = "this is no tokenizer";
        return Err(Error::limit(
            "bytes of the tokenizer file",
            bytes.len() as u64,
            MAX_FILE_BYTES,
            hint,
        ));
    }
    std::str::from_utf8(bytes).map_err(|e| Error::format(format!("the file is not UTF-8: {e}")))
}

/// Reads a `tokenizer.json`.
pub fn read(text: &str, monitor: &Monitor) -> Result<Tokenizer> {
    let fields: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(text).map_err(|e| json_error("the file", &e))?;
    let value = |name: &str| match fields.get(name) {
        None => Ok(Value::Null),
        Some(raw) => serde_json::from_str::<Value>(raw.get()).map_err(|e| json_error(name, &e)),
    };
    for name in ["truncation", "padding", "normalizer"] {
        let value = value(name)?;
        // An empty sequence of normalizers does nothing.
        let empty = kind(&value) == "Sequence" && value["normalizers"].as_array().is_some_and(Vec::is_empty);
        if !value.is_null() && !empty {
            let kind = if kind(&value).is_empty() {
                String::new()
            } else {
                format!(" ({})", kind(&value))
            };
            let way_out = if name == "normalizer" {
                ""
            } else {
                ": encode without it, and save it as null"
            };
            return Err(refused(name, format!("{name}{kind} is not supported{way_out}")));
        }
    }
    let pattern = pre_tokenizer(&value("pre_tokenizer")?)?;
    decoder(&value("decoder")?)?;
    let added = added_tokens(&value("added_tokens")?)?;
    let raw = fields
        .get("model")
        .ok_or_else(|| Error::format_field("model", "the file has no model"))?;
    let model: Model<'_> = serde_json::from_str(raw.get()).map_err(|e| json_error("model", &e))?;
    let (before, behind) = template(&value("post_processor")?, &added)?;
    let (tokens, merges) = model.check(&added, monitor)?;
    let mut tokenizer = Tokenizer::new(
        pattern,
        tokens,
        merges,
        model.ignore_merges.unwrap_or(false),
        added,
    )?;
    (tokenizer.before, tokenizer.behind) = (before, behind);
    Ok(tokenizer)
}

fn json_error(what: &str, error: &serde_json::Error) -> Error {
    let message = format!("{what} is not what a tokenizer.json holds: {error}");
    Error::Format {
        message,
        path: None,
        line: None,
        field: Some(what.to_string()),
    }
}

fn refused(field: &str, message: impl Into<String>) -> Error {
    Error::format_field(field, message)
}

fn kind(value: &Value) -> &str {
    value["type"].as_str().unwrap_or("")
}

/// `{"type": "BPE", ...}`: the two long fields are read apart.
#[derive(Deserialize)]
struct Model<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    dropout: Option<f64>,
    #[serde(borrow)]
    continuing_subword_prefix: Option<Cow<'a, str>>,
    #[serde(borrow)]
    end_of_word_suffix: Option<Cow<'a, str>>,
    ignore_merges: Option<bool>,
    #[serde(borrow)]
    vocab: Option<&'a RawValue>,
    #[serde(borrow)]
    merges: Option<&'a RawValue>,
}

/// Reads a long list or object item by item, looking at the stop token now and then. An object's key that is given
/// twice is kept twice, so that it is seen.
struct Items<'m, T> {
    monitor: &'m Monitor,
    what: &'static str,
    item: PhantomData<T>,
}

impl<T> Items<'_, T> {
    fn stopped<E: serde::de::Error>(&self, count: usize) -> std::result::Result<(), E> {
        if count.is_multiple_of(CHECK_ITEMS) && self.monitor.check().is_err() {
            return Err(E::custom("stopped"));
        }
        Ok(())
    }
}

impl<'de> Visitor<'de> for Items<'_, (String, u32)> {
    type Value = Vec<(String, u32)>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = map.next_entry()? {
            self.stopped(items.len())?;
            items.push(item);
        }
        Ok(items)
    }
}

impl<'de> Visitor<'de> for Items<'_, Merge> {
    type Value = Vec<Merge>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.what)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            self.stopped(items.len())?;
            items.push(item);
        }
        Ok(items)
    }
}

fn long_field<'a, T>(
    raw: Option<&'a RawValue>,
    field: &'static str,
    what: &'static str,
    monitor: &Monitor,
    read: impl FnOnce(&mut serde_json::Deserializer<StrRead<'a>>, Items<'_, T>) -> serde_json::Result<Vec<T>>,
) -> Result<Vec<T>> {
    let raw = raw.ok_or_else(|| Error::format_field(field, format!("the model has no {field}")))?;
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    let items = read(
        &mut deserializer,
        Items {
            monitor,
            what,
            item: PhantomData,
        },
    );
    monitor.check()?;
    items.map_err(|e| json_error(field, &e))
}

/// Two tokens: `["a", "b"]`, or `"a b"` as older files have it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Joined(String),
    Pair(String, String),
}

impl Merge {
    fn parts(&self) -> Result<(&str, &str)> {
        match self {
            Merge::Pair(left, right) => Ok((left, right)),
            Merge::Joined(both) => both
                .split_once(' ')
                .filter(|(_, right)| !right.contains(' '))
                .ok_or_else(|| Error::format_field("merges", format!("{both:?} is not two tokens"))),
        }
    }
}

impl Model<'_> {
    fn check(&self, added: &[AddedToken], monitor: &Monitor) -> Result<(Tokens, Merges)> {
        match self.kind.as_deref() {
            None | Some("BPE") => {}
            Some(other) => {
                let message = format!("model {other} is not supported: only byte-level BPE is");
                return Err(refused("model.type", message));
            }
        }
        if self.dropout.is_some_and(|p| p > 0.0) {
            return Err(refused(
                "model.dropout",
                "BPE dropout is not supported: ids would be random",
            ));
        }
        for (field, affix) in [
            ("model.continuing_subword_prefix", &self.continuing_subword_prefix),
            ("model.end_of_word_suffix", &self.end_of_word_suffix),
        ] {
            if affix.as_deref().is_some_and(|affix| !affix.is_empty()) {
                return Err(refused(
                    field,
                    format!("{field} is not supported: only byte-level BPE is"),
                ));
            }
        }
        let what = "an object of tokens and their ids";
        let vocab = long_field(
            self.vocab,
            "vocab",
            what,
            monitor,
            |de, items: Items<'_, (String, u32)>| de.deserialize_map(items),
        )?;
        let what = "a list of pairs of tokens";
        let merges = long_field(
            self.merges,
            "merges",
            what,
            monitor,
            |de, items: Items<'_, Merge>| de.deserialize_seq(items),
        )?;
        let mut ids: HashMap<&str, u32> = HashMap::with_capacity(vocab.len());
        for (token, id) in &vocab {
            if ids.insert(token, *id).is_some() {
                return Err(Error::format_field(
                    "vocab",
                    format!("token {token:?} is given twice"),
                ));
            }
        }
        monitor.check()?;
        let tokens = Tokens::new(plain_tokens(&vocab, &ids, added)?)?;
        let id_of = |token: &str| -> Result<u32> {
            let bytes = byte_level::decode(token).ok();
            bytes.and_then(|bytes| tokens.id(&bytes)).ok_or_else(|| {
                let message = format!("a merge has {token:?}, which the vocab does not have");
                Error::format_field("merges", message)
            })
        };
        let mut entries = biollm_core::limits::with_capacity(merges.len(), "merges")?;
        for (rank, merge) in merges.iter().enumerate() {
            if rank.is_multiple_of(CHECK_ITEMS) {
                monitor.check()?;
            }
            let (left, right) = merge.parts()?;
            let merged = id_of(&format!("{left}{right}"))?;
            entries.push((id_of(left)?, id_of(right)?, rank as u32, merged));
        }
        let merges = Merges::new(&entries, &tokens)?;
        Ok((tokens, merges))
    }
}

/// The tokens of the merges as bytes: the vocab without the special tokens, which no text may become by merging.
fn plain_tokens(
    vocab: &[(String, u32)],
    ids: &HashMap<&str, u32>,
    added: &[AddedToken],
) -> Result<Vec<(u32, Vec<u8>)>> {
    let mut contents = HashSet::new();
    let taken: HashMap<u32, &str> = vocab.iter().map(|(token, id)| (*id, token.as_str())).collect();
    // The id that `tokenizers` gives an added token that the vocab does not have, whatever the file says: the next
    // one. A file that says another cannot have equal ids everywhere, and is refused.
    let mut next_id = vocab.len() as u64;
    for token in added {
        let clash = match ids.get(token.content.as_str()) {
            Some(&id) => id != token.id,
            None => taken.contains_key(&token.id) || u64::from(token.id) != next_id,
        };
        if clash || !contents.insert(token.content.as_str()) {
            let message = format!(
                "added token {:?} has id {}, which does not agree with the vocab and the added tokens before it",
                token.content, token.id
            );
            return Err(Error::format_field("added_tokens", message));
        }
        next_id = next_id.max(u64::from(token.id) + 1);
    }
    let mut tokens = biollm_core::limits::with_capacity(vocab.len(), "tokens")?;
    for (token, id) in vocab {
        if contents.contains(token.as_str()) {
            continue;
        }
        let bytes = byte_level::decode(token).map_err(|c| {
            let message = format!(
                "token {token:?} has {c:?}, which is not of the byte-level alphabet: no byte-level BPE"
            );
            Error::format_field("vocab", message)
        })?;
        tokens.push((*id, bytes));
    }
    Ok(tokens)
}

fn added_tokens(value: &Value) -> Result<Vec<AddedToken>> {
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

fn pre_tokenizer(value: &Value) -> Result<Pattern> {
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

fn decoder(value: &Value) -> Result<()> {
    match kind(value) {
        "ByteLevel" => Ok(()),
        "" => Err(refused("decoder", "the file has no decoder: no byte-level BPE")),
        other => Err(refused("decoder", format!("decoder {other} is not supported"))),
    }
}

/// The ids that the template for one text puts before and behind it.
fn template(value: &Value, added: &[AddedToken]) -> Result<(Vec<u32>, Vec<u32>)> {
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

/// Writes a `tokenizer.json` that `tokenizers` and `transformers` load with equal ids, of a tokenizer that was trained
/// or read from a `.tiktoken` file (which have no template).
pub fn write(tokenizer: &Tokenizer, monitor: &Monitor) -> Result<String> {
    if tokenizer.pattern == Pattern::Cl100k && !crate::tiktoken::llama3_equals_cl100k(&tokenizer.tokens) {
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
    let special = tokenizer
        .added
        .iter()
        .map(|token| (token.id, token.content.clone()));
    let mut vocab: Vec<(u32, String)> = special.collect();
    vocab.extend(
        tokenizer
            .tokens
            .iter()
            .map(|(id, bytes)| (id, byte_level::encode(bytes))),
    );
    vocab.sort_unstable();
    for (i, (id, token)) in vocab.iter().enumerate() {
        if i.is_multiple_of(CHECK_ITEMS) {
            monitor.check()?;
        }
        out += if i == 0 { "\n" } else { ",\n" };
        out += &format!("      {}: {id}", quoted(token));
    }
    out += "\n    },\n    \"merges\": [";
    for (i, (_, left, right)) in tokenizer.merges.sorted().into_iter().enumerate() {
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
