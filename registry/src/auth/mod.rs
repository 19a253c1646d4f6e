//! Who the user is to a registry: challenges, credentials and tokens.

pub mod keychain;
