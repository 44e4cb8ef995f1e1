//! Prepared sets: parquet with a card.
