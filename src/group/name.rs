//! What groups are called.
#![forbid(unsafe_code)]

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The name of an application group. The empty name, written `%{GLOBAL}`, is the main interpreter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupName(Arc<[u8]>);

impl GroupName {
    /// The group of this name.
    pub fn new(name: &[u8]) -> Self {
        Self(name.into())
    }

    /// Whether this is `%{GLOBAL}`, the main interpreter.
    pub fn is_main(&self) -> bool {
        self.0.is_empty()
    }

    /// The name as it was configured.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_main() {
            return f.write_str("%{GLOBAL}");
        }
        write!(f, "{}", String::from_utf8_lossy(&self.0))
    }
}
