//! The system calls that need `unsafe`, and nothing else. Everything rustix offers is called where it is used.
#![allow(unsafe_code)]
