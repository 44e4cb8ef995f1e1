//! First stage: tantivy's BM25 as it is (k1 1.2, b 0.75, lower case, English stemmer, no stop words).
//!
//! A run made elsewhere (Anserini, a dense retriever) is the first-class input; this one is at hand everywhere. Its
//! scores are not Anserini's (k1 0.9, b 0.4, Porter).

use std::collections::BTreeMap;

use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, Query, TermQuery};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, STRING, Schema, TextFieldIndexing, TextOptions};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{Index, IndexReader, SegmentReader, TantivyDocument, Term};

use crate::DataError;

/// Memory for building, in bytes; tantivy starts a new segment when it is full.
const WRITER_BYTES: usize = 64 << 20;

/// A document to index.
#[derive(Debug, Clone, Copy)]
pub struct Bm25Document<'a> {
    /// Unique id.
    pub doc_id: &'a str,
    /// Everything that is searched (title and body).
    pub text: &'a str,
    /// Searches can be kept to one group (an article); empty when unused.
    pub group: &'a str,
}

/// An index in memory.
pub struct Bm25Index {
    reader: IndexReader,
    analyzer: TextAnalyzer,
    text: Field,
    group: Field,
    /// Document ids in byte order; the ordinal stored with a document points here.
    doc_ids: Vec<String>,
}

impl std::fmt::Debug for Bm25Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bm25Index").field("documents", &self.doc_ids.len()).finish_non_exhaustive()
    }
}

impl Bm25Index {
    /// Indexes all documents. Ids must be unique (the sources check theirs).
    pub fn build<'a>(documents: impl IntoIterator<Item = Bm25Document<'a>>) -> Result<Self, DataError> {
        let mut documents: Vec<Bm25Document<'a>> = documents.into_iter().collect();
        documents.sort_unstable_by_key(|document| document.doc_id);
        let mut schema = Schema::builder();
        let indexing =
            TextFieldIndexing::default().set_tokenizer("en_stem").set_index_option(IndexRecordOption::WithFreqs);
        let text = schema.add_text_field("text", TextOptions::default().set_indexing_options(indexing));
        let group = schema.add_text_field("group", STRING);
        let ordinal = schema.add_u64_field("ordinal", FAST | INDEXED);
        let index = Index::create_in_ram(schema.build());
        let analyzer = index
            .tokenizers()
            .get("en_stem")
            .ok_or_else(|| tantivy::TantivyError::InternalError("tokenizer `en_stem` is not registered".to_owned()))?;
        // One thread: the same segments every time. Scores do not depend on segments, but nothing should.
        let mut writer = index.writer_with_num_threads(1, WRITER_BYTES)?;
        for (number, document) in documents.iter().enumerate() {
            let mut row = TantivyDocument::default();
            row.add_text(text, document.text);
            row.add_text(group, document.group);
            row.add_u64(ordinal, number as u64);
            writer.add_document(row)?;
        }
        writer.commit()?;
        writer.wait_merging_threads()?;
        let doc_ids = documents.iter().map(|document| document.doc_id.to_owned()).collect();
        Ok(Self { reader: index.reader()?, analyzer, text, group, doc_ids })
    }

    /// Number of documents.
    #[must_use]
    pub fn len(&self) -> usize {
        self.doc_ids.len()
    }

    /// True when nothing is indexed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.doc_ids.is_empty()
    }

    /// The `k` best documents for a free text, best first, with their scores; equal scores by document id (byte order).
    /// Documents that share no term with the query are not returned. A term that occurs n times in the query counts n
    /// times. With `group`, only that group's documents (statistics stay those of the whole index).
    pub fn search(&self, query: &str, k: usize, group: Option<&str>) -> Result<Vec<(&str, f32)>, DataError> {
        if k == 0 {
            return Ok(Vec::new());
        }
        let Some(words) = self.words_query(query) else { return Ok(Vec::new()) };
        let full: Box<dyn Query> = match group {
            None => words,
            Some(group) => {
                let term = Term::from_field_text(self.group, group);
                let filter: Box<dyn Query> =
                    Box::new(ConstScoreQuery::new(Box::new(TermQuery::new(term, IndexRecordOption::Basic)), 0.0));
                Box::new(BooleanQuery::new(vec![(Occur::Must, words), (Occur::Must, filter)]))
            }
        };
        // Ties decided by ordinal inside the collector, so that the cut at k is deterministic too.
        let collector = TopDocs::with_limit(k).tweak_score(|segment: &SegmentReader| {
            let ordinals = segment.fast_fields().u64("ordinal").map(|column| column.first_or_default_col(u64::MAX));
            move |doc: tantivy::DocId, score: tantivy::Score| {
                let ordinal = ordinals.as_ref().map_or(u64::MAX, |column| column.get_val(doc));
                (score, std::cmp::Reverse(ordinal))
            }
        });
        let found = self.reader.searcher().search(&full, &collector)?;
        Ok(found
            .into_iter()
            .map(|((score, std::cmp::Reverse(ordinal)), _)| (self.doc_ids[ordinal as usize].as_str(), score))
            .collect())
    }

    /// Any of the query's terms, weighted by how often they occur in it.
    fn words_query(&self, query: &str) -> Option<Box<dyn Query>> {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let mut analyzer = self.analyzer.clone();
        let mut tokens = analyzer.token_stream(query);
        tokens.process(&mut |token| *counts.entry(token.text.clone()).or_default() += 1);
        let clauses: Vec<(Occur, Box<dyn Query>)> = counts
            .into_iter()
            .map(|(word, count)| {
                let term = Term::from_field_text(self.text, &word);
                let mut clause: Box<dyn Query> = Box::new(TermQuery::new(term, IndexRecordOption::WithFreqs));
                if count > 1 {
                    clause = Box::new(BoostQuery::new(clause, count as f32));
                }
                (Occur::Should, clause)
            })
            .collect();
        (!clauses.is_empty()).then(|| Box::new(BooleanQuery::new(clauses)) as Box<dyn Query>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(rows: &[(&str, &str, &str)]) -> Bm25Index {
        Bm25Index::build(rows.iter().map(|&(doc_id, text, group)| Bm25Document { doc_id, text, group })).unwrap()
    }

    #[test]
    fn scores_are_the_formula_with_k1_1_2_and_b_0_75() {
        let index = index(&[("a", "fleas live long", ""), ("b", "a flea", ""), ("c", "nothing here at all", "")]);
        let found = index.search("Flea?", 10, None).unwrap();
        // idf = ln(1 + (N - n + 0.5) / (n + 0.5)), tf part = tf (k1 + 1) / (tf + k1 (1 - b + b |d| / avg)), avg = 3
        let idf = (1.0f32 + (3.0 - 2.0 + 0.5) / (2.0 + 0.5)).ln();
        let weight = |length: f32| idf * 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * length / 3.0));
        assert_eq!(found.iter().map(|hit| hit.0).collect::<Vec<_>>(), ["b", "a"]);
        assert!((found[0].1 - weight(2.0)).abs() < 1e-5 && (found[1].1 - weight(3.0)).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn ties_go_by_document_id_also_at_the_cut() {
        let rows: Vec<(String, &str)> = (0..50).rev().map(|i| (format!("d{i:02}"), "same words here")).collect();
        let rows: Vec<(&str, &str, &str)> = rows.iter().map(|(id, text)| (id.as_str(), *text, "")).collect();
        let index = index(&rows);
        let ids: Vec<_> = index.search("words", 3, None).unwrap().into_iter().map(|hit| hit.0).collect();
        assert_eq!(ids, ["d00", "d01", "d02"]);
    }

    #[test]
    fn groups_and_odd_queries() {
        let index = index(&[("a", "red fox", "one"), ("b", "red dog", "two")]);
        assert_eq!(index.search("red", 5, Some("two")).unwrap().len(), 1);
        assert!(index.search("(red AND \"", 5, None).is_ok(), "free text is not a query language");
        assert!(index.search(" ?! ", 5, None).unwrap().is_empty());
        assert!(index.search("red", 0, None).unwrap().is_empty());
    }
}
