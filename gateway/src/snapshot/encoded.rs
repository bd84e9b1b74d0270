//! A message in its bytes. There can be very many keys and routes, and those that do not change are only looked at again as bytes:
//! so they take a third of the room.

use std::{marker::PhantomData, sync::Arc};

use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint},
};

/// One message; clones share it.
pub(super) struct Encoded<M> {
    bytes: Arc<[u8]>,
    of: PhantomData<fn() -> M>,
}

impl<M: Message + Default> Encoded<M> {
    /// The message in its bytes.
    pub(super) fn new(message: &M) -> Self {
        Self { bytes: message.encode_to_vec().into(), of: PhantomData }
    }

    /// The message. It was one when it was encoded, so that it always is.
    pub(super) fn message(&self) -> M {
        M::decode(&*self.bytes).unwrap_or_default()
    }

    /// Adds it to what is written of a message that has it in a field with this number.
    pub(super) fn write_field(&self, number: u32, bytes: &mut Vec<u8>) {
        encode_key(number, WireType::LengthDelimited, bytes);
        encode_varint(self.bytes.len() as u64, bytes);
        bytes.extend_from_slice(&self.bytes);
    }

    /// Whether it is the same one, not only an equal one.
    #[cfg(test)]
    pub(super) fn ptr_eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.bytes, &other.bytes)
    }
}

impl<M> Clone for Encoded<M> {
    fn clone(&self) -> Self {
        Self { bytes: self.bytes.clone(), of: PhantomData }
    }
}

impl<M> PartialEq for Encoded<M> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<M: Message + Default + std::fmt::Debug> std::fmt::Debug for Encoded<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.message().fmt(f)
    }
}
