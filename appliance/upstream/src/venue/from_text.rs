//! What a text means, read from any format that has texts.

/// Reads types by what they are parsed from.
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
