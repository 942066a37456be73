//! Pointers into JSON (RFC 6901), as rules write them.

use std::fmt;
use std::str::FromStr;

use super::from_text::from_text;

/// The place of a value within another: `/data/0/symbol`. Empty: the whole value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(pub(super) Vec<String>);

/// A pointer of a rule, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Where the pointer begins.
    pub origin: Origin,
    pub(super) pointer: Pointer,
}

/// Where a pointer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// The current element.
    Element,
    /// `^`: the message as a whole.
    Message,
    /// `@`: the message that announced the channel of this message.
    Channel,
}

/// Where the elements of a message are: a pointer to an array for each level, so that `/events/*/tickers` has two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Each(pub(super) Vec<Pointer>);

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return match text {
                "" => Ok(Pointer(Vec::new())),
                _ => Err(format!("`{text}` is not a JSON pointer; it begins with `/`, as in \"/data/symbol\"")),
            };
        };
        let mut steps = Vec::new();
        for step in rest.split('/') {
            let is_escaped_well = step.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
            if !is_escaped_well {
                return Err(format!("`{text}` is not a JSON pointer; `~` is written `~0`, and `/` within a name `~1`"));
            }
            steps.push(step.replace("~1", "/").replace("~0", "~"));
        }
        match steps.len() {
            0..=STEPS_MAX => Ok(Pointer(steps)),
            len => Err(format!("`{text}` has {len} steps; at most {STEPS_MAX}")),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (origin, pointer) = match text.as_bytes().first() {
            Some(b'^') => (Origin::Message, &text[1..]),
            Some(b'@') => (Origin::Channel, &text[1..]),
            _ => (Origin::Element, text),
        };
        Ok(Place { origin, pointer: pointer.parse()? })
    }
}

impl FromStr for Each {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let levels = text.split("/*").map(str::parse).collect::<Result<Vec<Pointer>, String>>()?;
        match levels.len() {
            0..=EACH_LEVELS_MAX => Ok(Each(levels)),
            len => Err(format!("`{text}` names arrays within arrays, {len} deep; at most {EACH_LEVELS_MAX}")),
        }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "/{}", step.replace('~', "~0").replace('/', "~1")))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match self.origin {
            Origin::Element => "",
            Origin::Message => "^",
            Origin::Channel => "@",
        };
        write!(f, "{origin}{}", self.pointer)
    }
}

from_text!(Pointer, Place, Each);

/// Limits the depth of the recursion that follows pointers.
const STEPS_MAX: usize = 16;
const EACH_LEVELS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_read_as_rfc_6901_says() {
        let steps = |text: &str| text.parse::<Pointer>().map(|pointer| pointer.0);
        assert_eq!(steps(""), Ok(vec![]));
        assert_eq!(steps("/"), Ok(vec![String::new()]));
        assert_eq!(steps("/a~1b/m~0n/0"), Ok(vec!["a/b".to_owned(), "m~n".to_owned(), "0".to_owned()]));
        assert_eq!("/a~1b/m~0n/0".parse::<Pointer>().unwrap().to_string(), "/a~1b/m~0n/0");
        for wrong in ["a", "/a~", "/a~2", &"/x".repeat(17)] {
            assert!(steps(wrong).is_err(), "{wrong}");
        }
        for place in ["^/time", "@/symbol", "/-1"] {
            assert_eq!(place.parse::<Place>().unwrap().to_string(), place);
        }
        assert_eq!("/events/*/tickers".parse::<Each>().unwrap().0.len(), 2);
        assert_eq!("/data/*".parse::<Each>().unwrap().0[1], Pointer(vec![]), "an array of arrays");
        assert!("/a/*/b/*/c/*/d/*/e".parse::<Each>().is_err());
        assert!("data".parse::<Each>().is_err());
    }
}
