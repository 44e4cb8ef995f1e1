//! Monopass trainer.
