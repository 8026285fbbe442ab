//! How many descriptors this process may have open.
#![forbid(unsafe_code)]

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to what is wanted, as far as the hard one goes. A higher one stays.
///
/// # Errors
///
/// How many there may be, where that is less.
pub fn allow_descriptors(wanted: usize) -> Result<(), usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = wanted as u64;
    // `None` is without limit.
    let Some(current) = current.filter(|current| *current < wanted) else { return Ok(()) };
    let most = maximum.map_or(wanted, |maximum| maximum.min(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum });
    match if raised.is_ok() { most } else { current } {
        enough if enough >= wanted => Ok(()),
        less => Err(usize::try_from(less).unwrap_or(usize::MAX)),
    }
}
