//! What happens on the other hosts of a round, and telling them what happens here.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::LaunchError;
use crate::rendezvous::{Meeting, POLL, Round, key};

/// News of the round.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum News {
    /// A rank of another host failed, or the host is lost.
    Failed(HostFailure),
    /// A host waits for a seat, and there is one.
    Newcomer,
}

/// Why a round ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HostFailure {
    /// Seat that says so.
    seat: usize,
    /// Address of the host that failed.
    pub host: String,
    /// What happened there.
    pub message: String,
    /// Whether starting again would only fail again.
    pub hopeless: bool,
}

/// What the launcher tells its watcher.
enum Word {
    Failed { message: String, hopeless: bool },
}

/// A thread that keeps this host's count going and looks at the others' until it is dropped.
#[derive(Debug)]
pub(crate) struct RoundWatch {
    words: Option<Sender<Word>>,
    pub news: UnboundedReceiver<News>,
    thread: Option<JoinHandle<()>>,
}

impl RoundWatch {
    /// Begins to watch.
    pub fn start(meeting: Meeting, round: Round) -> Self {
        let (words, heard) = channel();
        let (tell, news) = unbounded_channel();
        let watcher = Watcher { others: others(&round), meeting, round };
        let thread = std::thread::spawn(move || watcher.run(&heard, &tell));
        Self { words: Some(words), news, thread: Some(thread) }
    }

    /// Tells the other hosts that a rank failed here.
    pub fn failed(&self, message: String, hopeless: bool) {
        if let Some(words) = &self.words {
            // The watcher only ends early when the store is gone.
            let _ = words.send(Word::Failed { message, hopeless });
        }
    }
}

impl Drop for RoundWatch {
    fn drop(&mut self) {
        self.words = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

/// Another host's count, and since when it has stood there.
struct Other {
    seat: usize,
    count: Option<String>,
    since: Instant,
}

fn others(round: &Round) -> Vec<Other> {
    let seats = (0..round.seats.len()).filter(|seat| *seat != round.seat);
    seats.map(|seat| Other { seat, count: None, since: Instant::now() }).collect()
}

struct Watcher {
    meeting: Meeting,
    round: Round,
    others: Vec<Other>,
}

impl Watcher {
    fn run(mut self, heard: &Receiver<Word>, tell: &UnboundedSender<News>) {
        let mut told = false;
        loop {
            let word = match heard.recv_timeout(POLL) {
                Ok(word) => Some(word),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match self.look(word) {
                Ok(Some(news)) if !told => {
                    told = true;
                    // Nobody listens when the ranks have just ended by themselves.
                    let _ = tell.send(news);
                }
                Ok(_) => {}
                Err(error) => {
                    // With the store, the host that serves it is gone.
                    let host = self.meeting.endpoint().to_owned();
                    let failure = HostFailure { seat: usize::MAX, host, message: error.to_string(), hopeless: false };
                    let _ = tell.send(News::Failed(failure));
                    return;
                }
            }
        }
        if self.leave().is_err() {
            tracing::debug!("the store was gone before the end of round {}", self.round.number);
        }
    }

    /// One look at the store.
    fn look(&mut self, word: Option<Word>) -> Result<Option<News>, LaunchError> {
        if let Some(Word::Failed { message, hopeless }) = word {
            self.say_failed(self.round.seat, message, hopeless)?;
        }
        self.meeting.add(&self.key(&format!("count/{}", self.round.seat)), 1)?;
        self.look_for_silence()?;
        if let Some(text) = self.meeting.get(&self.key("failed"))? {
            let failure = serde_json::from_str::<HostFailure>(&text).ok();
            return Ok(failure.filter(|failure| failure.seat != self.round.seat).map(News::Failed));
        }
        let waiting = self.round.may_grow && self.meeting.get(&self.key("waiting"))?.is_some();
        Ok(waiting.then_some(News::Newcomer))
    }

    fn look_for_silence(&mut self) -> Result<(), LaunchError> {
        let mut lost = None;
        for other in &mut self.others {
            let count = self.meeting.get(&key(self.round.number, &format!("count/{}", other.seat)))?;
            if count != other.count {
                (other.count, other.since) = (count, Instant::now());
            } else if other.since.elapsed() > self.meeting.keep_alive()
                && self.meeting.get(&key(self.round.number, &format!("left/{}", other.seat)))?.is_none()
            {
                lost = Some(other.seat);
            }
        }
        match lost {
            Some(seat) => self.say_failed(seat, format!("no word for {:?}", self.meeting.keep_alive()), false),
            None => Ok(()),
        }
    }

    /// The first failure of a round is the one that counts.
    fn say_failed(&self, of: usize, message: String, hopeless: bool) -> Result<(), LaunchError> {
        // One that reports another's silence has to hear of it as well.
        let seat = if of == self.round.seat { of } else { usize::MAX };
        let failure = HostFailure { seat, host: self.round.seats[of].host.clone(), message, hopeless };
        let text = serde_json::to_string(&failure).unwrap_or_default();
        self.meeting.replace(&self.key("failed"), "", &text)
    }

    /// Says goodbye; who serves the store waits for the others' goodbyes.
    fn leave(&mut self) -> Result<(), LaunchError> {
        self.meeting.set(&self.key(&format!("left/{}", self.round.seat)), "1")?;
        let began = Instant::now();
        while self.meeting.serves() && began.elapsed() < self.meeting.keep_alive() {
            let mut all = true;
            for other in &self.others {
                all &= self.meeting.get(&self.key(&format!("left/{}", other.seat)))?.is_some();
            }
            if all {
                break;
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn key(&self, what: &str) -> String {
        key(self.round.number, what)
    }
}
