//! One line of the output of `doctor`.

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// The blade serves, but less well.
    Warn,
    /// A feature cannot be used.
    Missing,
}

/// One line of the table.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Finding {
    pub(crate) state: State,
    pub(crate) check: String,
    pub(crate) found: String,
    pub(crate) wanted: String,
    /// What goes wrong, and the command against it; empty when all is well.
    pub(crate) cost: String,
    pub(crate) fix: String,
}

impl Finding {
    pub(crate) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        let (cost, fix) = (String::new(), String::new());
        Finding { state: State::Ok, check: check.into(), found: found.into(), wanted: String::new(), cost, fix }
    }

    pub(crate) fn not_ok(
        state: State,
        check: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
        cost: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Finding {
            state,
            check: check.into(),
            found: found.into(),
            wanted: wanted.into(),
            cost: cost.into(),
            fix: fix.into(),
        }
    }
}
