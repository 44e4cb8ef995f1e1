//! see the module's owner
