//! The end-to-end tests: the `lbuild` program on a real kernel, as root, beside real peers.
//!
//! One binary, one module a feature. What each needs is made by five helpers: `harness` (a private
//! store, a context, a run of the program), `disk` (a file system for the store), `base` (images to build on),
//! `registry` (Debian's docker-registry on loopback) and `peers` (skopeo, umoci, buildah, podman). `layering` and `tidy`
//! read the source instead of running it. Every test owns its folder and leaves nothing behind, so all
//! of them run side by side.
#![allow(clippy::disallowed_methods, reason = "a test reads its environment; only the product must not")]

mod base;
mod disk;
mod harness;
mod layout;
mod peers;
mod registry;
mod source;
mod tree;

mod acl;
mod add;
mod archives;
mod attest;
mod build;
mod cache;
mod call;
mod conformance;
mod contain;
mod contexts;
mod copy_flags;
mod copy_points;
mod errors;
mod estargz;
mod examples;
mod faults;
mod files;
mod flags;
mod fsck;
mod heredoc;
mod history;
mod layering;
mod link;
mod look;
mod memory;
mod mounts;
mod onbuild;
mod output;
mod outputs;
mod owners;
mod parity;
mod peers_language;
mod peers_transfer;
mod platforms;
mod prune;
mod push;
mod referrers;
mod registries;
mod resume;
mod rpm;
mod run;
mod serve;
mod sha512;
mod snapshotters;
mod tidy;
mod variables;
