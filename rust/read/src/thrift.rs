//! Thrift's compact protocol, as far as Parquet's headers and footer need it: a cursor over bytes that steps over
//! what it is not asked for. Nothing is allocated by a size that the bytes declare, and nesting is bounded.

/// Deepest nesting of structs, lists and maps: Parquet's own structs nest eight deep.
const MAX_DEPTH: usize = 32;

/// The type code of a 32-bit integer.
pub const I32: u8 = 5;
/// A list.
pub const LIST: u8 = 9;
/// A struct.
pub const STRUCT: u8 = 12;

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They end inside a value.
    Short,
    /// They are no compact Thrift.
    Broken(&'static str),
}

type Result<T> = std::result::Result<T, Fault>;

/// A place in bytes.
pub struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Structs in lists that were stepped over.
    pub structs: u64,
    /// Other elements of lists that were stepped over.
    pub scalars: u64,
}

enum Open {
    Struct { last: i16 },
    List { left: u64, kind: u8 },
    Map { left: u64, kinds: (u8, u8), key: bool },
}

impl<'a> Cursor<'a> {
    /// At the start of bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            structs: 0,
            scalars: 0,
        }
    }

    /// Bytes read.
    pub fn position(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Result<u8> {
        let byte = *self.bytes.get(self.at).ok_or(Fault::Short)?;
        self.at += 1;
        Ok(byte)
    }

    fn advance(&mut self, count: u64) -> Result<()> {
        let left = (self.bytes.len() - self.at) as u64;
        if count > left {
            return Err(Fault::Short);
        }
        self.at += count as usize;
        Ok(())
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            if shift < 64 {
                value |= u64::from(byte & 0x7F).wrapping_shl(shift);
            }
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Fault::Broken("a number of over ten bytes"))
    }

    /// A signed number.
    pub fn signed(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ (value & 1).wrapping_neg() as i64)
    }

    /// The next field of a struct: (id, type), `None` at its end. `last` is the id before it.
    pub fn field(&mut self, last: i16) -> Result<Option<(i16, u8)>> {
        let head = self.byte()?;
        if head & 0x0F == 0 {
            return Ok(None);
        }
        let id = if head >> 4 == 0 {
            i16::try_from(self.signed()?).map_err(|_| Fault::Broken("a field number out of range"))?
        } else {
            last.checked_add(i16::from(head >> 4))
                .ok_or(Fault::Broken("a field number out of range"))?
        };
        Ok(Some((id, head & 0x0F)))
    }

    /// The head of a list: (elements, their type).
    pub fn list(&mut self) -> Result<(u64, u8)> {
        let head = self.byte()?;
        let count = match head >> 4 {
            15 => self.varint()?,
            count => u64::from(count),
        };
        Ok((count, head & 0x0F))
    }

    /// A field that must be of a type.
    pub fn expect(&self, found: u8, wanted: u8) -> Result<()> {
        if found == wanted {
            Ok(())
        } else {
            Err(Fault::Broken("a field of another type than Parquet's"))
        }
    }

    /// Steps over a value of a type, as it stands in a field.
    pub fn skip(&mut self, kind: u8) -> Result<()> {
        let mut open: Vec<Open> = Vec::new();
        // Booleans of fields lie in their type; those of lists and maps take a byte.
        if kind > 2 {
            self.begin(kind, &mut open)?;
        }
        while let Some(top) = open.last_mut() {
            let next = match top {
                Open::Struct { last } => match self.field(*last)? {
                    Some((id, kind)) => {
                        *last = id;
                        (kind > 2).then_some(kind)
                    }
                    None => {
                        open.pop();
                        None
                    }
                },
                Open::List { left: 0, .. } | Open::Map { left: 0, .. } => {
                    open.pop();
                    None
                }
                Open::List { left, kind } => {
                    *left -= 1;
                    Some(*kind)
                }
                Open::Map { left, kinds, key } => {
                    let kind = if *key { kinds.0 } else { kinds.1 };
                    if !*key {
                        *left -= 1;
                    }
                    *key = !*key;
                    Some(kind)
                }
            };
            if let Some(kind) = next {
                let counted = !matches!(open.last(), Some(Open::Struct { .. }));
                if counted {
                    *(if kind == STRUCT {
                        &mut self.structs
                    } else {
                        &mut self.scalars
                    }) += 1;
                }
                self.begin(kind, &mut open)?;
            }
        }
        Ok(())
    }

    /// Steps over a plain value, or opens what holds others.
    fn begin(&mut self, kind: u8, open: &mut Vec<Open>) -> Result<()> {
        match kind {
            1..=3 => self.advance(1),
            4..=6 => self.varint().map(|_| ()),
            7 => self.advance(8),
            8 => {
                let length = self.varint()?;
                self.advance(length)
            }
            13 => self.advance(16),
            LIST..=STRUCT => {
                if open.len() >= MAX_DEPTH {
                    return Err(Fault::Broken("values nested too deep"));
                }
                open.push(match kind {
                    STRUCT => Open::Struct { last: 0 },
                    11 => {
                        let left = self.varint()?;
                        let kinds = if left == 0 { 0 } else { self.byte()? };
                        Open::Map {
                            left,
                            kinds: (kinds >> 4, kinds & 0x0F),
                            key: true,
                        }
                    }
                    _ => {
                        let (left, kind) = self.list()?;
                        Open::List { left, kind }
                    }
                });
                Ok(())
            }
            _ => Err(Fault::Broken("a type that there is not")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_over_all_types() {
        // A struct: i32 7, true, binary "ab", list of 2 structs (each empty), map {1: 2}, double, end.
        let bytes = [
            0x15, 14, 0x11, 0x18, 2, b'a', b'b', 0x19, 0x2C, 0, 0, 0x1B, 1, 0x55, 2, 4, 0x17, 0, 0, 0, 0, 0,
            0, 0, 0, 0,
        ];
        let mut cursor = Cursor::new(&bytes);
        cursor.skip(STRUCT).unwrap();
        assert_eq!(
            (cursor.position(), cursor.structs, cursor.scalars),
            (bytes.len(), 2, 2)
        );
        for cut in 0..bytes.len() {
            assert_eq!(
                Cursor::new(&bytes[..cut]).skip(STRUCT),
                Err(Fault::Short),
                "{cut}"
            );
        }
    }

    #[test]
    fn lies_and_towers_are_refused() {
        // A list that says it has 2^60 elements, and lists in lists.
        let lie = [0xF5, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10];
        assert_eq!(Cursor::new(&lie).skip(LIST), Err(Fault::Short));
        let tower = [0x19; 1000];
        assert!(matches!(Cursor::new(&tower).skip(LIST), Err(Fault::Broken(_))));
        assert!(matches!(
            Cursor::new(&[0xFF; 40]).skip(STRUCT),
            Err(Fault::Broken(_))
        ));
        assert_eq!(Cursor::new(&[3]).signed(), Ok(-2));
    }
}
