//! The rules of the store protocol that a test can leave out, to see that an object is lost without them.
//!
//! What surprises: in a program that users get all rules hold, always; there is nothing to be switched.

/// Which rules hold.
#[derive(Debug, Default)]
pub struct Rules {
    #[cfg(test)]
    without: Option<&'static str>,
}

impl Rules {
    /// Leaves one out.
    #[cfg(test)]
    pub(crate) const fn without(rule: &'static str) -> Self {
        Self { without: Some(rule) }
    }

    /// Returns whether a rule holds.
    #[cfg(test)]
    pub(crate) fn hold(&self, rule: &str) -> bool {
        self.without != Some(rule)
    }

    /// Returns whether a rule holds.
    #[cfg(not(test))]
    pub(crate) const fn hold(&self, _rule: &str) -> bool {
        true
    }
}
