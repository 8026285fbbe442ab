//! Applications in processes of their own: what goes over between a web server's processes and the
//! worker processes of a process group, and both ends of it.

mod group;
mod settings;
mod wire;

pub use group::{
    Id, Identity, Owner, ProcessGroup, Python, Renewal, Resources, Response, Socket, Timeouts,
};
pub use settings::settings;
