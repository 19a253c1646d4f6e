//! A parsed document beside the very bytes it came from.
//!
//! A digest is a promise about bytes, not about values: what is copied must be copied as it came, so the
//! bytes stay with the parsed view.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Digest, Error};

/// A value, its JSON bytes and their digest.
#[derive(Clone, Debug)]
pub struct Raw<T> {
    bytes: Vec<u8>,
    digest: Digest,
    value: T,
}

impl<T> Raw<T> {
    /// The bytes as they came, or as they were written.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of [`Raw::bytes`].
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The same, called by another digest that the bytes have, as a registry may call them.
    pub fn called(self, digest: Digest) -> Raw<T> {
        Raw { digest, ..self }
    }

    /// How many bytes there are.
    pub fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The parsed view.
    pub fn value(&self) -> &T {
        &self.value
    }
}

impl<T: DeserializeOwned> Raw<T> {
    /// Parses `bytes`; `what` names the document in the error.
    pub fn parse(bytes: Vec<u8>, what: &'static str) -> Result<Raw<T>, Error> {
        let digest = Digest::of(&bytes);
        let value =
            serde_json::from_slice(&bytes).map_err(|source| Error::Document { what, digest, source })?;
        Ok(Raw { bytes, digest, value })
    }
}

impl<T: Serialize> Raw<T> {
    /// Writes `value` as compact JSON with ordered maps: equal values give equal bytes.
    pub fn write(value: T) -> Raw<T> {
        let bytes =
            serde_json::to_vec(&value).expect("image documents have string keys and no failing parts");
        Raw { digest: Digest::of(&bytes), bytes, value }
    }
}

/// Go writes an empty map or slice as `null` where the field is not `omitempty`.
pub(crate) fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
