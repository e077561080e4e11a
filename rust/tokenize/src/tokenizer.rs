//! A byte-level BPE tokenizer: immutable, so any number of threads may use one.

use crate::added::{AddedToken, Allowed, Finders, Segment};
use crate::cache::{Shelf, WordCache};
use crate::merges::{Merges, Scratch};
use crate::split::Pattern;
use crate::tokens::Tokens;
use biollm_core::{Error, Monitor, Pool, Result, limits};
use biollm_text::Texts;

/// Below this many bytes of text a word cache costs more than it saves.
const CACHED_BYTES: usize = 1 << 14;
/// Bytes of text in a chunk of a batch: small enough to balance threads and to report progress.
const CHUNK_BYTES: u64 = 1 << 18;
/// Pieces between two looks at the stop token.
const CHECK_PIECES: u32 = 1 << 12;

/// A byte-level BPE tokenizer.
pub struct Tokenizer {
    pub(crate) pattern: Pattern,
    /// Tokens of the merges; special tokens are not among them.
    pub(crate) tokens: Tokens,
    pub(crate) merges: Merges,
    bytes_to_ids: [u32; 256],
    /// Whether a piece that is a token as a whole becomes that token whatever the merges say (tiktoken, Llama 3).
    pub(crate) whole_pieces: bool,
    /// In order of ids.
    pub(crate) added: Vec<AddedToken>,
    /// Ids that `add_special` puts before and behind a text.
    pub(crate) before: Vec<u32>,
    pub(crate) behind: Vec<u32>,
}

/// How a text is encoded.
pub struct Options<'a> {
    /// Whether the ids that the tokenizer's template names are put around each text.
    pub add_special: bool,
    /// Which special tokens are looked for in the text.
    pub allowed: Allowed<'a>,
    /// An id put at the very end of each text.
    pub append: Option<u32>,
}

/// A batch of texts as ids: text i is `ids[offsets[i]..offsets[i + 1]]`.
pub struct Encoded {
    /// All ids.
    pub ids: Vec<u32>,
    /// (texts + 1,)
    pub offsets: Vec<u64>,
}

/// What a worker keeps from text to text.
struct Worker {
    cache: Option<WordCache>,
    scratch: Scratch,
}

impl Worker {
    fn new(bytes: u64) -> Result<Self> {
        let cache = if bytes > CACHED_BYTES as u64 {
            Some(WordCache::new()?)
        } else {
            None
        };
        Ok(Self {
            cache,
            scratch: Scratch::default(),
        })
    }
}

impl Tokenizer {
    /// Checks that every byte is a token, so that every text can be encoded.
    pub fn new(
        pattern: Pattern,
        tokens: Tokens,
        merges: Merges,
        whole_pieces: bool,
        mut added: Vec<AddedToken>,
    ) -> Result<Self> {
        added.sort_by_key(|token| token.id);
        let mut bytes_to_ids = [0; 256];
        for (byte, id) in bytes_to_ids.iter_mut().enumerate() {
            *id = tokens.id(&[byte as u8]).ok_or_else(|| {
                let message =
                    format!("the vocabulary has no token for byte {byte:#04x}: not every text has ids");
                Error::format_field("vocab", message)
            })?;
        }
        Ok(Self {
            pattern,
            tokens,
            merges,
            bytes_to_ids,
            whole_pieces,
            added,
            before: vec![],
            behind: vec![],
        })
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.added
            .last()
            .map_or(0, |token| token.id as usize + 1)
            .max(self.tokens.size())
    }

    /// The added tokens, special ones among them.
    pub fn added(&self) -> &[AddedToken] {
        &self.added
    }

    /// The split pattern.
    pub fn pattern(&self) -> Pattern {
        self.pattern
    }

    /// The id of a token given by its bytes: an added token's, else one of the merges.
    pub fn token_to_id(&self, token: &[u8]) -> Option<u32> {
        let added = self.added.iter().find(|added| added.content.as_bytes() == token);
        added.map(|added| added.id).or_else(|| self.tokens.id(token))
    }

    /// The bytes of a token.
    pub fn id_to_token(&self, id: u32) -> Option<&[u8]> {
        self.tokens
            .get(id)
            .or_else(|| Some(self.added_token(id)?.content.as_bytes()))
    }

    fn added_token(&self, id: u32) -> Option<&AddedToken> {
        self.added
            .binary_search_by_key(&id, |added| added.id)
            .ok()
            .map(|i| &self.added[i])
    }

    /// The ids of one text.
    pub fn encode(&self, text: &str, options: &Options<'_>, monitor: &Monitor) -> Result<Vec<u32>> {
        let finders = Finders::new(&self.added, &options.allowed)?;
        let mut ids = limits::with_capacity(text.len() / 3 + 2, "token ids")?;
        let mut worker = Worker::new(text.len() as u64)?;
        self.encode_into(text, options, &finders, &mut worker, &mut ids, monitor)?;
        Ok(ids)
    }

    /// The ids of many texts, in their order whatever the number of threads.
    pub fn encode_batch(
        &self,
        texts: &Texts<'_>,
        options: &Options<'_>,
        pool: &Pool,
        monitor: &Monitor,
    ) -> Result<Encoded> {
        let finders = Finders::new(&self.added, &options.allowed)?;
        monitor.set_total(texts.len() as u64);
        let workers: Shelf<Worker> = Shelf::default();
        let bytes_per_text = (texts.total_bytes() / texts.len().max(1) as u64).max(1);
        let grain = usize::try_from(CHUNK_BYTES / bytes_per_text)
            .unwrap_or(1)
            .clamp(1, 1 << 16);
        let chunks = pool.map_chunks(texts.len(), grain, monitor, |rows| {
            let mut worker = workers.take(|| Worker::new(texts.total_bytes()))?;
            let (mut ids, mut ends) = (Vec::new(), limits::with_capacity(rows.len(), "offsets of texts")?);
            for row in rows {
                self.encode_into(texts.get(row), options, &finders, &mut worker, &mut ids, monitor)?;
                ends.push(ids.len() as u64);
                monitor.advance(1);
            }
            worker.scratch.shrink();
            workers.put(worker);
            Ok((ids, ends))
        })?;
        let total = chunks.iter().map(|chunk| chunk.0.len()).sum();
        let mut encoded = Encoded {
            ids: limits::with_capacity(total, "token ids")?,
            offsets: limits::with_capacity(texts.len() + 1, "offsets of texts")?,
        };
        encoded.offsets.push(0);
        for (ids, ends) in chunks {
            let base = encoded.ids.len() as u64;
            encoded.offsets.extend(ends.iter().map(|end| base + end));
            encoded.ids.extend_from_slice(&ids);
        }
        Ok(encoded)
    }

    fn encode_into(
        &self,
        text: &str,
        options: &Options<'_>,
        finders: &Finders,
        worker: &mut Worker,
        ids: &mut Vec<u32>,
        monitor: &Monitor,
    ) -> Result<()> {
        let (before, behind): (&[u32], &[u32]) = if options.add_special {
            (&self.before, &self.behind)
        } else {
            (&[], &[])
        };
        ids.extend_from_slice(before);
        finders.segments(text, |segment| match segment {
            Segment::Text(text) => self.encode_text(text, worker, ids, monitor),
            Segment::Token(id) => {
                limits::reserve(ids, 1, "token ids")?;
                ids.push(id);
                Ok(())
            }
        })?;
        ids.extend_from_slice(behind);
        ids.extend(options.append);
        Ok(())
    }

    fn encode_text(
        &self,
        text: &str,
        worker: &mut Worker,
        ids: &mut Vec<u32>,
        monitor: &Monitor,
    ) -> Result<()> {
        let Worker { cache, scratch } = worker;
        let mut pieces = 0u32;
        self.pattern.split(text, |piece| {
            pieces = pieces.wrapping_add(1);
            if pieces.is_multiple_of(CHECK_PIECES) {
                monitor.check()?;
            }
            let piece = piece.as_bytes();
            let Some(cache) = cache else {
                return self.encode_piece(piece, scratch, ids, monitor);
            };
            let Some(place) = cache.place(piece) else {
                return self.encode_piece(piece, scratch, ids, monitor);
            };
            if let Some(known) = cache.get(&place) {
                limits::reserve(ids, known.len(), "token ids")?;
                ids.extend_from_slice(known);
                return Ok(());
            }
            let first = ids.len();
            self.encode_piece(piece, scratch, ids, monitor)?;
            cache.put(&place, &ids[first..]);
            Ok(())
        })
    }

    #[inline]
    fn encode_piece(
        &self,
        piece: &[u8],
        scratch: &mut Scratch,
        ids: &mut Vec<u32>,
        monitor: &Monitor,
    ) -> Result<()> {
        if self.whole_pieces
            && let Some(id) = self.tokens.id(piece)
        {
            limits::reserve(ids, 1, "token ids")?;
            ids.push(id);
            return Ok(());
        }
        self.merges
            .encode(piece, &self.bytes_to_ids, scratch, ids, monitor)
    }

    /// Appends the bytes of `ids` to `bytes`; without special tokens if `skip_special`.
    pub fn decode_into(
        &self,
        ids: &[u32],
        skip_special: bool,
        bytes: &mut Vec<u8>,
        monitor: &Monitor,
    ) -> Result<()> {
        for (i, &id) in ids.iter().enumerate() {
            if i.is_multiple_of(1 << 16) {
                monitor.check()?;
            }
            let token = match self.tokens.get(id) {
                Some(token) => token,
                None => match self.added_token(id) {
                    Some(added) if added.special && skip_special => continue,
                    Some(added) => added.content.as_bytes(),
                    None => {
                        let message = format!("ids[{i}] is {id}: no token of this vocabulary has this id");
                        return Err(Error::row("ids", i, message));
                    }
                },
            };
            limits::reserve(bytes, token.len(), "decoded text")?;
            bytes.extend_from_slice(token);
        }
        Ok(())
    }

    /// Many lists of ids at once: list i is `ids[offsets[i]..offsets[i + 1]]`; gives bytes and their offsets.
    pub fn decode_batch(
        &self,
        ids: &[u32],
        offsets: &[u64],
        skip_special: bool,
        pool: &Pool,
        monitor: &Monitor,
    ) -> Result<(Vec<u8>, Vec<i64>)> {
        let lists = offsets.len().saturating_sub(1);
        for i in 0..lists {
            if offsets[i] > offsets[i + 1] || offsets[i + 1] > ids.len() as u64 {
                return Err(Error::row(
                    "offsets",
                    i,
                    format!("offsets of list {i} do not rise inside the ids"),
                ));
            }
        }
        monitor.set_total(lists as u64);
        let per_list = (ids.len() / lists.max(1)).max(1);
        let grain = ((1 << 16) / per_list).clamp(1, 1 << 16);
        let chunks = pool.map_chunks(lists, grain, monitor, |rows| {
            let (mut bytes, mut ends) = (Vec::new(), limits::with_capacity(rows.len(), "offsets of texts")?);
            for row in rows {
                let list = &ids[offsets[row] as usize..offsets[row + 1] as usize];
                self.decode_into(list, skip_special, &mut bytes, monitor)?;
                ends.push(bytes.len() as i64);
                monitor.advance(1);
            }
            Ok((bytes, ends))
        })?;
        let total = chunks.iter().map(|chunk| chunk.0.len()).sum();
        let mut bytes = limits::with_capacity(total, "decoded texts")?;
        let mut ends = limits::with_capacity(lists + 1, "offsets of texts")?;
        ends.push(0);
        for (chunk, chunk_ends) in chunks {
            let base = bytes.len() as i64;
            bytes.extend_from_slice(&chunk);
            ends.extend(chunk_ends.iter().map(|end| base + end));
        }
        Ok((bytes, ends))
    }
}
