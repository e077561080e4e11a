//! `tokenizer.json`, as Hugging Face's `tokenizers` writes it: what a byte-level BPE tokenizer needs is honoured
//! exactly, anything else is refused by its name.

mod parts;
mod write;

pub use write::write;

use crate::added::AddedToken;
use crate::byte_level;
use crate::merges::Merges;
use crate::tokenizer::Tokenizer;
use crate::tokens::Tokens;
use biollm_core::{Error, Monitor, Result};
use parts::{added_tokens, decoder, pre_tokenizer, template};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Allowed, Options, Pattern};
    use biollm_core::Pool;
    use biollm_text::Texts;

    const TEXT: &str = "The cell's <|end|> naïve 中文 cells, 12345 the cells\n\n  \0🧬";

    fn trained(pattern: Pattern) -> Tokenizer {
        let (pool, monitor) = (Pool::new(Some(1)).unwrap(), Monitor::new());
        let offsets = [0, TEXT.len() as i64];
        let texts = Texts::new([(&offsets[..], TEXT.as_bytes())], 1 << 20, &pool, &monitor).unwrap();
        let words = crate::words::count_words(&texts, pattern, None, &pool, &monitor).unwrap();
        let column = Texts::new([(&words.offsets[..], &words.data[..])], 1 << 20, &pool, &monitor).unwrap();
        let special_tokens = ["<|end|>".to_string(), "<|pad|>".to_string()];
        let options = crate::train::Options {
            vocab_size: 270,
            special_tokens: &special_tokens,
            min_frequency: 1,
            pattern,
        };
        crate::train::train(&column, &words.counts, &options, &monitor).unwrap()
    }

    fn ids(tokenizer: &Tokenizer, allowed: Allowed<'_>) -> Vec<u32> {
        let options = Options {
            add_special: true,
            allowed,
            append: None,
        };
        tokenizer.encode(TEXT, &options, &Monitor::new()).unwrap()
    }

    #[test]
    fn what_is_written_reads_the_same_and_texts_come_back() {
        for pattern in [Pattern::Gpt2, Pattern::Llama3, Pattern::O200k] {
            let ours = trained(pattern);
            let text = write(&ours, &Monitor::new()).unwrap();
            let again = read(&text, &Monitor::new()).unwrap();
            assert_eq!(write(&again, &Monitor::new()).unwrap(), text);
            assert_eq!(
                (again.pattern(), again.vocab_size(), again.added()),
                (pattern, 270, ours.added())
            );
            for tokenizer in [&ours, &again] {
                let plain = ids(tokenizer, Allowed::None);
                assert_eq!(plain, ids(&ours, Allowed::None));
                assert!(!plain.contains(&0) && ids(tokenizer, Allowed::All).contains(&0));
                let mut bytes = vec![];
                tokenizer
                    .decode_into(&plain, false, &mut bytes, &Monitor::new())
                    .unwrap();
                assert_eq!(bytes, TEXT.as_bytes());
                assert!(
                    tokenizer
                        .decode_into(&[270], false, &mut bytes, &Monitor::new())
                        .is_err()
                );
            }
        }
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let text = write(&trained(Pattern::Llama3), &Monitor::new()).unwrap();
        for (from, to, field) in [
            (
                "\"normalizer\": null",
                "\"normalizer\": {\"type\": \"NFC\"}",
                "normalizer",
            ),
            ("\"type\": \"BPE\"", "\"type\": \"Unigram\"", "model.type"),
            ("\"dropout\": null", "\"dropout\": 0.5", "model.dropout"),
            ("Isolated", "Contiguous", "pre_tokenizer.behavior"),
            ("\"Ā\": ", "\"ĀĀĀ\": ", "vocab"),
            ("\"!\": 2", "\"!\": 3", "vocab"),
            ("\"merges\": [", "\"merges\": [\"zz q\",", "merges"),
        ] {
            assert!(text.contains(from), "{from}");
            match read(&text.replacen(from, to, 1), &Monitor::new()) {
                Err(Error::Format {
                    field: Some(found), ..
                }) => assert_eq!(found, field),
                _ => panic!("{field} was not refused"),
            }
        }
        assert!(matches!(read("[", &Monitor::new()), Err(Error::Format { .. })));
        let stopped = Monitor::new();
        stopped.stop();
        assert!(matches!(read(&text, &stopped), Err(Error::Stopped)));
    }
}
