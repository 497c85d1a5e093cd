//! Protobuf where it lies: fields are read from the bytes, and nothing is copied.
//!
//! A message of two bytes can become a value of a hundred: decoded as a whole, a batch of 64 MB would need gigabytes.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Field<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
    /// Of 32 bits: nothing that is read here.
    Other,
}

impl<'a> Field<'a> {
    pub(super) fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn number(self) -> Option<u64> {
        match self {
            Self::Number(n) | Self::Fixed(n) => Some(n),
            _ => None,
        }
    }
}

/// The fields of a message, in their order. Ends at the first mistake.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
    broken: bool,
}

pub(super) fn fields(message: &[u8]) -> Fields<'_> {
    Fields { rest: message, broken: false }
}

/// Whether the bytes are a message. What is inside of its fields is not looked at.
pub(super) fn is_message(bytes: &[u8]) -> bool {
    let mut all = fields(bytes);
    while all.next().is_some() {}
    !all.broken
}

/// The last field of that number, as protobuf wants it.
pub(super) fn field(message: &[u8], number: u32) -> Option<Field<'_>> {
    fields(message).filter(|(n, _)| *n == number).last().map(|(_, field)| field)
}

/// All messages, texts or bytes of that number.
pub(super) fn each(message: &[u8], number: u32) -> impl Iterator<Item = &[u8]> {
    fields(message).filter(move |(n, _)| *n == number).filter_map(|(_, field)| field.bytes())
}

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<(u32, Field<'a>)> {
        let (number, kind) = decode_key(&mut self.rest).ok()?;
        let field = match kind {
            WireType::Varint => Field::Number(decode_varint(&mut self.rest).ok()?),
            WireType::SixtyFourBit => {
                let (bytes, rest) = self.rest.split_first_chunk::<8>()?;
                self.rest = rest;
                Field::Fixed(u64::from_le_bytes(*bytes))
            }
            WireType::ThirtyTwoBit => {
                let (_, rest) = self.rest.split_first_chunk::<4>()?;
                self.rest = rest;
                Field::Other
            }
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut self.rest).ok()?).ok()?;
                let (bytes, rest) = self.rest.split_at_checked(length)?;
                self.rest = rest;
                Field::Bytes(bytes)
            }
            // Groups: no message that is read here has one.
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        Some((number, field))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_none() {
            self.broken = true;
            self.rest = &[];
        }
        read
    }
}

/// Copies a message. `change` may replace a field of bytes, or leave it out.
pub(super) fn copy(
    message: &[u8],
    mut change: impl FnMut(u32, &[u8]) -> Option<Vec<u8>>,
) -> Vec<u8> {
    let mut to = Vec::with_capacity(message.len());
    let mut all = fields(message);
    loop {
        let before = all.rest;
        let Some((number, field)) = all.next() else { return to };
        match field {
            Field::Bytes(bytes) => {
                if let Some(changed) = change(number, bytes) {
                    encode_key(number, WireType::LengthDelimited, &mut to);
                    encode_varint(changed.len() as u64, &mut to);
                    to.extend_from_slice(&changed);
                }
            }
            _ => to.extend_from_slice(&before[..before.len() - all.rest.len()]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    #[derive(Clone, PartialEq, Message)]
    struct Sample {
        #[prost(string, tag = "1")]
        text: String,
        #[prost(int64, tag = "2")]
        number: i64,
        #[prost(fixed64, tag = "3")]
        time: u64,
        #[prost(float, tag = "4")]
        small: f32,
        #[prost(bytes = "vec", repeated, tag = "500")]
        parts: Vec<Vec<u8>>,
    }

    proptest! {
        #[test]
        fn what_prost_writes_is_read(text in ".*", number: i64, time: u64, small in -1.0f32..1.0, parts: Vec<Vec<u8>>) {
            let sample = Sample { text, number, time, small, parts };
            let bytes = sample.encode_to_vec();
            prop_assert!(is_message(&bytes));
            let text = field(&bytes, 1).and_then(Field::text).unwrap_or_default();
            prop_assert_eq!(text, &sample.text);
            let number = field(&bytes, 2).and_then(Field::number).unwrap_or_default();
            prop_assert_eq!(number, sample.number.cast_unsigned());
            prop_assert_eq!(field(&bytes, 3).and_then(Field::number).unwrap_or_default(), sample.time);
            let parts: Vec<&[u8]> = each(&bytes, 500).collect();
            prop_assert_eq!(parts, sample.parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(copy(&bytes, |_, bytes| Some(bytes.to_vec())), bytes.clone());
            let without = copy(&bytes, |number, bytes| (number != 500).then(|| bytes.to_vec()));
            prop_assert_eq!(Sample::decode(&*without).unwrap(), Sample { parts: vec![], ..sample });
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            let read = fields(&bytes).count();
            prop_assert!(read <= bytes.len());
            copy(&bytes, |_, bytes| Some(bytes.to_vec()));
        }
    }
}
