//! Tokenised samples, packed micro-batches, and the order they come in.
use tch::Tensor;
/// The list a ranking loss is computed on.
#[derive(Debug, Clone, PartialEq)]
pub struct RankTarget { /// row (position in the packed row) whose logits predict the first identifier
 pub row: i64, /// one token id per candidate
 pub identifier_ids: Vec<i64>, /// 1-based target rank per candidate
 pub ranks: Vec<i64> }
/// One prompt and its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenizedSample { /// id
 pub query_id: String, /// prompt + answer
 pub input_ids: Vec<i64>, /// first answer token; labels are `input_ids[label_start..]`
 pub label_start: usize, /// for ranking losses; row relative to the sample
 pub rank: Option<RankTarget> }
/// Several samples end to end in one row: one forward and backward.
#[derive(Debug)]
pub struct MicroBatch { /// `[1, tokens]` int64
 pub input_ids: Tensor, /// boundaries of the samples
 pub cu_seqlens: Vec<i64>, /// int64 `[labels]`: rows whose logits predict `labels`
 pub label_rows: Tensor, /// int64 `[labels]`
 pub labels: Tensor, /// absolute rows
 pub rankings: Vec<RankTarget>, /// ids of the samples
 pub query_ids: Vec<String> }
/// All micro-batches of one rank for one optimiser step.
#[derive(Debug)]
pub struct StepBatch { /// optimiser step, from 0
 pub step: u64, /// epoch, from 0
 pub epoch: u64, /// this rank's share
 pub micro_batches: Vec<MicroBatch> }
/// How samples become steps.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderConfig { /// shuffling
 pub seed: u64, /// this process
 pub rank: usize, /// processes
 pub world_size: usize, /// samples per optimiser step over all ranks
 pub global_batch_size: usize, /// samples per micro-batch at most
 pub micro_batch_size: usize, /// tokens per micro-batch at most
 pub max_micro_batch_tokens: usize, /// steps tokenised ahead
 pub prefetch_steps: usize, /// steps to produce in all
 pub num_steps: u64, /// shuffle each epoch
 pub shuffle: bool }
