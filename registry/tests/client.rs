//! The client against the registry in the process: one binary, a module for each room of the crate.

#[path = "client/attacks.rs"]
mod attacks;
#[path = "client/auth.rs"]
mod auth;
#[path = "client/download.rs"]
mod download;
#[path = "client/hosts.rs"]
mod hosts;
#[path = "client/lists.rs"]
mod lists;
#[path = "client/pull.rs"]
mod pull;
#[path = "client/push.rs"]
mod push;
#[path = "client/support.rs"]
mod support;
#[path = "client/tls.rs"]
mod tls;
