//! One line of JSON Lines into one row of the columns.

use crate::columns::Batch;
use crate::options::{Options, RAISE_LIMIT};
use biollm_core::{Error, Monitor, Result};
use biollm_text::json::{self, Field, Kind, RawString};

/// The values picked from a line; of equal keys the last counts, as in Python's `json`.
struct Picked<'a> {
    texts: Vec<Option<(Kind, RawString<'a>)>>,
    id: Option<(Kind, RawString<'a>)>,
    source: Option<(Kind, RawString<'a>)>,
}

/// Appends the record on `line` as row number `row` of its file. On an error the open rows are the caller's to drop.
pub(crate) fn append(
    line: &str,
    row: u64,
    options: &Options,
    batch: &mut Batch,
    monitor: &Monitor,
) -> Result<()> {
    let mut picked = Picked {
        texts: vec![None; options.text.len()],
        id: None,
        source: None,
    };
    let meta = &mut batch.meta;
    meta.extend(b"{")?;
    json::each_field(line, monitor, |field: Field<'_>| {
        let value = Some((field.kind, field.value));
        if let Some(i) = options.text.iter().position(|name| field.key.is(name)) {
            picked.texts[i] = value;
            return Ok(());
        }
        // Columns nobody named are taken where they fit, and else left with the other fields.
        let (id_name, id_named) = options.id.as_ref().map_or(("id", false), |name| (name, true));
        if field.key.is(id_name) {
            let fits = matches!(field.kind, Kind::String | Kind::Number | Kind::Bool);
            picked.id = if id_named || fits { value } else { None };
            if picked.id.is_some() {
                return Ok(());
            }
        }
        let (source_name, source_named) = options
            .source
            .as_ref()
            .map_or(("source", false), |name| (name, true));
        if field.key.is(source_name) {
            let fits = field.kind == Kind::String;
            picked.source = if source_named || fits { value } else { None };
            if picked.source.is_some() {
                return Ok(());
            }
        }
        if meta.open_row().len() > 1 {
            meta.extend(b", ")?;
        }
        meta.extend(field.span.as_bytes())
    })?;
    meta.extend(b"}")?;
    append_text(&picked, options, batch, monitor)?;
    append_id(&picked, row, options, batch, monitor)?;
    let has_source = match (picked.source, &options.source) {
        (None | Some((Kind::Null, _)), _) => false,
        (Some((kind @ (Kind::Object | Kind::Array), _)), name) => {
            let name = name.as_deref().unwrap_or("source");
            return Err(Error::format_field(
                name,
                format!("field {name:?} is {}, not a string", kind.name()),
            ));
        }
        (Some((kind, value)), name) => {
            let name = name.as_deref().unwrap_or("source");
            write(name, kind, value, &mut batch.source.texts.data, monitor)?;
            true
        }
    };
    batch.id.end_row()?;
    batch.text.end_row()?;
    batch.meta.end_row()?;
    batch.source.end_row(has_source)?;
    batch.rows += 1;
    Ok(())
}

/// The text: one field, or several joined by a blank line, of which a null or an empty one is left out.
fn append_text(picked: &Picked<'_>, options: &Options, batch: &mut Batch, monitor: &Monitor) -> Result<()> {
    let joined = options.text.len() > 1;
    for (name, value) in options.text.iter().zip(&picked.texts) {
        match value {
            None => return Err(Error::format_field(name, format!("field {name:?} is missing"))),
            Some((Kind::Null, _)) if joined => {}
            Some((Kind::String, value)) => {
                if joined && !value.raw.is_empty() && !batch.text.open_row().is_empty() {
                    batch.text.extend(b"\n\n")?;
                }
                write(name, Kind::String, *value, &mut batch.text.data, monitor)?;
            }
            Some((kind, _)) => {
                return Err(Error::format_field(
                    name,
                    format!("field {name:?} is {}, not a string", kind.name()),
                ));
            }
        }
    }
    let bytes = batch.text.open_row().len();
    if bytes > options.max_document_bytes {
        let limit = options.max_document_bytes as u64;
        return Err(Error::limit(
            "bytes of the document",
            bytes as u64,
            limit,
            RAISE_LIMIT,
        ));
    }
    Ok(())
}

fn append_id(
    picked: &Picked<'_>,
    row: u64,
    options: &Options,
    batch: &mut Batch,
    monitor: &Monitor,
) -> Result<()> {
    match (picked.id, &options.id) {
        (Some((kind @ (Kind::String | Kind::Number | Kind::Bool), value)), name) => write(
            name.as_deref().unwrap_or("id"),
            kind,
            value,
            &mut batch.id.data,
            monitor,
        ),
        (Some((kind, _)), Some(name)) => {
            let message = format!("field {name:?} is {}: an id is a string or a number", kind.name());
            Err(Error::format_field(name, message))
        }
        (None, Some(name)) => Err(Error::format_field(name, format!("field {name:?} is missing"))),
        (_, None) => batch.id.extend(format!("{}{row}", options.id_prefix).as_bytes()),
    }
}

/// A string unescaped, anything else verbatim.
fn write(name: &str, kind: Kind, value: RawString<'_>, out: &mut Vec<u8>, monitor: &Monitor) -> Result<()> {
    if kind != Kind::String {
        biollm_core::limits::reserve(out, value.raw.len(), "a text column")?;
        out.extend_from_slice(value.raw.as_bytes());
        return Ok(());
    }
    value.unescape_into(out, monitor).map_err(|error| match error {
        Error::Format { message, .. } => Error::format_field(name, format!("field {name:?}: {message}")),
        other => other,
    })
}
