//! Deserializes types from their text form, in any format that has strings.

/// Implements `Deserialize` by parsing a string.
macro_rules! from_text {
    ($($name:ty),+) => {
        $(impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        })+
    };
}

pub(super) use from_text;
