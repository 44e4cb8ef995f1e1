//! Where launchers of several hosts meet: `--rdzv-endpoint`, through c10d's TCPStore.
//!
//! A run is a sequence of rounds. In a round hosts take seats in the order in which they come; the one in seat 0 closes the round
//! when the last allowed host has come, or, with enough of them, after a last call. Ranks count on over the seats. A failure
//! anywhere, a host that falls silent, or a newcomer while seats are free ends the round for all, and they meet for the next.
//!
//! The store lives in the launcher that can bind the endpoint's address. Hosts that lose it wait for another one there, whose rounds begin anew.

use std::net::{IpAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use native::c10d::{C10dError, own_address};
use native::store::{Limits, Store};
use serde::{Deserialize, Serialize};

use crate::LaunchError;
use crate::plan::{Place, free_port};

/// Time between two looks at the store.
pub(crate) const POLL: Duration = Duration::from_millis(200);

/// Where and how hosts meet.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendezvous {
    /// Host of the endpoint; the launcher with this address serves the store.
    pub host: String,
    /// Port of the endpoint.
    pub port: u16,
    /// Name of the run; launchers with another one do not meet.
    pub id: String,
    /// Hosts without which nothing starts, at least 1.
    pub min_nodes: usize,
    /// Hosts at most.
    pub max_nodes: usize,
    /// How long a host waits for `min_nodes`.
    pub join_timeout: Duration,
    /// How long `min_nodes` hosts wait for more.
    pub last_call: Duration,
    /// After how long without a word a host is lost.
    pub keep_alive: Duration,
}

/// What a host says when it takes a seat.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Seat {
    /// Its address, as the endpoint's host sees it.
    pub host: String,
    /// A free port there, for the ranks' own store.
    pub port: u16,
    /// Its processes.
    pub nproc_per_node: usize,
}

/// A closed round.
#[derive(Debug, Clone)]
pub(crate) struct Round {
    /// From 0.
    pub number: u64,
    /// This host's seat.
    pub seat: usize,
    /// All hosts, by seat.
    pub seats: Vec<Seat>,
    /// Whether another host may still come.
    pub may_grow: bool,
}

impl Round {
    /// What the ranks of this host are told.
    pub fn place(&self) -> Place {
        let before = |seats: &[Seat]| seats.iter().map(|seat| seat.nproc_per_node).sum();
        Place {
            node_rank: self.seat,
            first_rank: before(&self.seats[..self.seat]),
            world_size: before(&self.seats),
            master_addr: self.seats[0].host.clone(),
            master_port: self.seats[0].port,
            start: self.number as usize,
        }
    }
}

/// A connection to the store of a run.
#[derive(Debug, Clone)]
pub(crate) struct Meeting {
    rendezvous: Rendezvous,
    store: Arc<Mutex<Store>>,
    serves: bool,
    address: String,
    /// Of the store: one that was begun anew knows no earlier rounds.
    store_id: String,
}

impl Meeting {
    /// Serves the store, or connects to it.
    pub fn open(rendezvous: &Rendezvous) -> Result<Self, LaunchError> {
        let (host, port) = (rendezvous.host.as_str(), rendezvous.port);
        check_reachable(rendezvous)?;
        let listener = TcpListener::bind((host, port)).ok();
        let serves = listener.is_some();
        let limits = Limits { connect: rendezvous.join_timeout, answer: rendezvous.keep_alive };
        let store = match listener {
            Some(listener) => Store::serve(host, listener, limits),
            None => Store::connect(host, port, limits),
        };
        let store = store.map_err(|source| lost(rendezvous, source))?;
        let address = own_address(host, port).unwrap_or_else(|| host.to_owned());
        let (rendezvous, store) = (rendezvous.clone(), Arc::new(Mutex::new(store)));
        let mut meeting = Self { rendezvous, store, serves, address, store_id: String::new() };
        let own = format!("{}-{:?}", std::process::id(), std::time::SystemTime::now());
        meeting.replace("store", "", &own)?;
        meeting.store_id = meeting.get("store")?.unwrap_or_default();
        meeting.replace("round", "", "0")?;
        Ok(meeting)
    }

    /// Takes a seat in the next round that has one, and waits until it is closed.
    ///
    /// # Errors
    /// Too few hosts came in time, the store is gone, or `stop` was set.
    pub fn join(&self, nproc_per_node: usize, stop: &AtomicBool) -> Result<Round, LaunchError> {
        let wait = Wait { deadline: Instant::now() + self.rendezvous.join_timeout, stop };
        loop {
            let number = self.round()?;
            if let Some(round) = self.sit_down(number, nproc_per_node, &wait)? {
                return Ok(round);
            }
            self.add(&key(number, "waiting"), 1)?;
            wait.until(|| Ok((self.round()? > number).then_some(())))?.ok_or_else(|| LaunchError::HostsMissing {
                came: format!("round {number} began without this host and no other did"),
                seconds: self.rendezvous.join_timeout.as_secs(),
            })?;
        }
    }

    /// None when the round is full or closed.
    fn sit_down(&self, number: u64, nproc_per_node: usize, wait: &Wait<'_>) -> Result<Option<Round>, LaunchError> {
        let seat = self.add(&key(number, "seats"), 1)? as usize - 1;
        if seat >= self.rendezvous.max_nodes || self.get(&key(number, "closed"))?.is_some() {
            return Ok(None);
        }
        let mine = Seat { host: self.address.clone(), port: free_port()?, nproc_per_node };
        self.set(&seat_key(number, seat), &encode(&mine))?;
        let nodes = match seat {
            0 => Some(self.close(number, wait)?),
            _ => self.wait_until_closed(number, wait)?,
        };
        let Some(nodes) = nodes.filter(|nodes| seat < *nodes) else { return Ok(None) };
        let read = |seat| Ok(self.seat(number, seat)?.unwrap_or_else(|| mine.clone()));
        let seats = (0..nodes).map(read).collect::<Result<_, LaunchError>>()?;
        Ok(Some(Round { number, seat, seats, may_grow: nodes < self.rendezvous.max_nodes }))
    }

    /// Seat 0 waits for the others and says how many they are.
    fn close(&self, number: u64, wait: &Wait<'_>) -> Result<usize, LaunchError> {
        let Rendezvous { min_nodes, max_nodes, last_call, join_timeout, .. } = self.rendezvous;
        let (mut came, mut last) = (0, None);
        let nodes = wait.until(|| {
            self.add(&key(number, "closing"), 1)?;
            while came < max_nodes && self.seat(number, came)?.is_some() {
                came += 1;
                last = (came >= min_nodes).then(|| Instant::now() + last_call);
            }
            let over = came == max_nodes || last.is_some_and(|last| Instant::now() >= last);
            Ok(over.then_some(came))
        })?;
        let nodes = nodes.ok_or_else(|| LaunchError::HostsMissing {
            came: format!("{came} of at least {min_nodes} hosts came"),
            seconds: join_timeout.as_secs(),
        })?;
        self.set(&key(number, "closed"), &nodes.to_string())?;
        Ok(nodes)
    }

    /// None when seat 0 falls silent before it has closed the round; the round is over then.
    fn wait_until_closed(&self, number: u64, wait: &Wait<'_>) -> Result<Option<usize>, LaunchError> {
        let mut heard = (None, Instant::now());
        let closed = wait.until(|| {
            if let Some(nodes) = self.get(&key(number, "closed"))?.and_then(|text| text.parse().ok()) {
                return Ok(Some(Some(nodes)));
            }
            let beats = self.get(&key(number, "closing"))?;
            if beats != heard.0 {
                heard = (beats, Instant::now());
            }
            Ok((heard.1.elapsed() >= self.rendezvous.keep_alive).then_some(None))
        })?;
        let closed = closed.ok_or_else(|| LaunchError::HostsMissing {
            came: format!("fewer than {} hosts came", self.rendezvous.min_nodes),
            seconds: self.rendezvous.join_timeout.as_secs(),
        })?;
        if closed.is_none() {
            self.advance(number)?;
        }
        Ok(closed)
    }

    fn seat(&self, number: u64, seat: usize) -> Result<Option<Seat>, LaunchError> {
        Ok(self.get(&seat_key(number, seat))?.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Number of the current round.
    fn round(&self) -> Result<u64, LaunchError> {
        Ok(self.get("round")?.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// Whether both are of one store, and count the same rounds.
    pub fn is_that_of(&self, other: &Self) -> bool {
        self.store_id == other.store_id
    }

    /// The round is over; whoever says so first begins the next one.
    pub fn advance(&self, number: u64) -> Result<(), LaunchError> {
        self.replace("round", &number.to_string(), &(number + 1).to_string())
    }

    /// After how long without a word a host is lost.
    pub fn keep_alive(&self) -> Duration {
        self.rendezvous.keep_alive
    }

    /// Host that serves the store.
    pub fn endpoint(&self) -> &str {
        &self.rendezvous.host
    }

    /// Whether the store still answers.
    pub fn answers(&self) -> bool {
        self.serves || self.round().is_ok()
    }

    /// Whether the store lives in this process.
    pub fn serves(&self) -> bool {
        self.serves
    }

    pub fn get(&self, key: &str) -> Result<Option<String>, LaunchError> {
        self.store().get(&self.named(key)).map_err(|source| self.lost(source))
    }

    pub fn set(&self, key: &str, value: &str) -> Result<(), LaunchError> {
        self.store().set(&self.named(key), value).map_err(|source| self.lost(source))
    }

    pub fn add(&self, key: &str, amount: i64) -> Result<i64, LaunchError> {
        self.store().add(&self.named(key), amount).map_err(|source| self.lost(source))
    }

    pub fn replace(&self, key: &str, old: &str, new: &str) -> Result<(), LaunchError> {
        self.store().replace(&self.named(key), old, new).map_err(|source| self.lost(source))
    }

    fn named(&self, key: &str) -> String {
        format!("monopass-launch/{}/{key}", self.rendezvous.id)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lost(&self, source: C10dError) -> LaunchError {
        lost(&self.rendezvous, source)
    }
}

/// How long to wait, and who may end it.
struct Wait<'a> {
    deadline: Instant,
    stop: &'a AtomicBool,
}

impl Wait<'_> {
    /// Asks again and again; None when time is up.
    fn until<T>(&self, mut ask: impl FnMut() -> Result<Option<T>, LaunchError>) -> Result<Option<T>, LaunchError> {
        loop {
            if let Some(value) = ask()? {
                return Ok(Some(value));
            }
            if self.stop.load(Ordering::SeqCst) || Instant::now() >= self.deadline {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        }
    }
}

/// A name that is the loopback address on its own host, as some systems have it, would be served to nobody else.
fn check_reachable(rendezvous: &Rendezvous) -> Result<(), LaunchError> {
    let host = rendezvous.host.as_str();
    let is_name = host.parse::<IpAddr>().is_err() && host != "localhost";
    if rendezvous.max_nodes < 2 || !is_name {
        return Ok(());
    }
    let address = TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr()).map(|address| address.ip());
    match address {
        Ok(address) if address.is_loopback() => Err(LaunchError::Plan {
            name: "rdzv_endpoint",
            got: format!("`{host}`, which is {address} on this host"),
            wanted: "an address at which the other hosts reach it, as `hostname -I` prints it",
        }),
        // Not this host's, or reachable.
        _ => Ok(()),
    }
}

fn lost(rendezvous: &Rendezvous, source: C10dError) -> LaunchError {
    LaunchError::Rendezvous { endpoint: format!("{}:{}", rendezvous.host, rendezvous.port), source }
}

/// A round's own key.
pub(crate) fn key(number: u64, what: &str) -> String {
    format!("{number}/{what}")
}

fn seat_key(number: u64, seat: usize) -> String {
    key(number, &format!("seat/{seat}"))
}

fn encode(seat: &Seat) -> String {
    serde_json::json!({"host": seat.host, "port": seat.port, "nproc_per_node": seat.nproc_per_node}).to_string()
}
