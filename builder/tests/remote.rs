//! Fetching from outside, from servers on loopback: files of the web, repositories, archives.
//!
//! The web server is `registry::testing`, whose blobs are files like others; the git server is `git daemon`, and `web`
//! where it must be one that lies.

#[path = "remote/archive.rs"]
mod archive;
#[path = "remote/git.rs"]
mod git;
#[path = "remote/http.rs"]
mod http;
#[path = "remote/support.rs"]
mod support;
#[path = "remote/trust.rs"]
mod trust;
#[path = "remote/web.rs"]
mod web;
