//! Names that people get wrong: of interfaces, of keys in a configuration.

/// The name among `known` that `wrong` most probably stands for.
#[must_use]
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    let far = (wrong.len() / 3).max(1) + 1;
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(&wrong, &name.to_ascii_lowercase()), name))
        .filter(|(distance, name)| *distance <= far || name.contains(wrong.as_str()))
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word() {
        let known = ["listen", "workers", "engine", "allowed_origins"];
        assert_eq!(nearest("lisen", known), Some("listen"));
        assert_eq!(nearest("wrokers", known), Some("workers"));
        assert_eq!(nearest("origins", known), Some("allowed_origins"));
        assert_eq!(nearest("temperature", known), None);
    }
}
