//! Checks of values, and their error messages.

use std::str::FromStr;

use serde::{Deserialize as _, Deserializer};
use serde_spanned::Spanned;

/// What a check found wrong, and where.
pub(super) struct Fault {
    pub(super) span: std::ops::Range<usize>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

pub(super) fn fault<T>(value: &Spanned<T>, message: String, hint: impl Into<String>) -> Result<(), Fault> {
    Err(Fault { span: value.span(), message, hint: Some(hint.into()) })
}

pub(super) fn map<T, U>(value: &Spanned<T>, to: impl FnOnce(&T) -> U) -> Spanned<U> {
    Spanned::new(value.span(), to(value.get_ref()))
}

pub(super) fn is_origin(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    rest.is_some_and(|host| !host.is_empty() && !host.contains('/'))
}

pub(super) fn in_range(value: &Spanned<u64>, min: u64, max: u64, what: &str) -> Result<(), Fault> {
    match *value.get_ref() {
        given if given < min || given > max => fault(value, format!("{given} {what}"), format!("from {min} to {max}")),
        _ => Ok(()),
    }
}

pub(super) fn power_of_two(
    value: &Spanned<u64>,
    min: u64,
    max: u64,
    show: impl Fn(u64) -> String,
) -> Result<(), Fault> {
    let given = *value.get_ref();
    if given < min || given > max {
        return fault(
            value,
            format!("{} is out of range", show(given)),
            format!("from {} to {}", show(min), show(max)),
        );
    }
    if !given.is_power_of_two() {
        let above = given.next_power_of_two();
        let hint = format!("the nearest are {} and {}", show(above / 2), show(above));
        return fault(value, format!("{} is not a power of two", show(given)), hint);
    }
    Ok(())
}

pub(super) fn from_text<'de, T: FromStr<Err = String>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

pub(crate) fn unplaced<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}

/// How addresses are written.
pub(crate) const ADDRESS_HINT: &str = "127.0.0.1:7400, or [::1]:7400 for IPv6; [::]:7400 is everywhere";
pub(super) const ORIGIN_HINT: &str =
    "an origin is scheme and host, with the port if it is not the usual one: \"https://example.com:8443\"";
