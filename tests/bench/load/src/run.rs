//! The loop: what is due is sent, what comes is counted.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

use crate::Plan;
use crate::conn::{Conn, Read};
use crate::histogram::Histogram;

/// How long after the last request was due answers are waited for. Nanoseconds.
const PATIENCE: u64 = 3_000_000_000;
/// What the timer's events carry in a connection's place.
const TIMER: u64 = u64::MAX;

/// What happened.
#[derive(Default)]
pub(crate) struct Outcome {
    /// How many by status.
    pub(crate) answers: BTreeMap<u16, u64>,
    /// Requests whose connection broke, or that had no answer at the end.
    pub(crate) broken: u64,
    /// Requests that were due, but no connection was ever free for them.
    pub(crate) unsent: u64,
    /// From the start to the last answer.
    pub(crate) seconds: f64,
    pub(crate) latencies: Histogram,
}

struct Load<'a> {
    plan: &'a Plan,
    epoll: OwnedFd,
    conns: Vec<Conn>,
    /// The places of those without a request, the one that waits longest first.
    free: VecDeque<usize>,
    outcome: Outcome,
}

pub(crate) fn run(plan: &Plan) -> io::Result<Outcome> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
    epoll::add(
        &epoll,
        &timer,
        EventData::new_u64(TIMER),
        EventFlags::IN | EventFlags::ET,
    )?;
    let mut load = Load {
        plan,
        epoll,
        conns: Vec::new(),
        free: (0..plan.connections).collect(),
        outcome: Outcome::default(),
    };
    for place in 0..plan.connections {
        let conn = load.open(place)?;
        load.conns.push(conn);
    }

    let (mut request, mut buffer) = (Vec::new(), vec![0; 256 * 1024]);
    let mut events: Vec<Event> = Vec::with_capacity(1024);
    let start = now();
    let end = match plan.seconds {
        seconds if seconds.is_finite() => start + (seconds * 1e9) as u64,
        _ => u64::MAX,
    };
    let due = |k: u64, now: u64| match plan.rate {
        Some(rate) => start + (k as f64 / rate * 1e9) as u64,
        None => now,
    };
    let (mut k, mut last) = (0, start);
    loop {
        let present = now();
        let is_more = |k| k < plan.count && due(k, present) < end;
        while is_more(k) && due(k, present) <= present && !load.free.is_empty() {
            plan.write(k, &mut request);
            load.send(&request, due(k, present))?;
            k += 1;
        }
        let in_flight = plan.connections - load.free.len();
        if !is_more(k) && in_flight == 0 || present > end.saturating_add(PATIENCE) {
            load.outcome.broken += in_flight as u64;
            break;
        }
        if is_more(k) && !load.free.is_empty() {
            wake_at(&timer, due(k, present))?;
        }
        events.clear();
        epoll::wait(
            &load.epoll,
            spare_capacity(&mut events),
            Some(&timespec(PATIENCE)),
        )?;
        for event in events.drain(..).filter(|event| event.data.u64() != TIMER) {
            if load.read(event.data.u64() as usize, &mut buffer)? {
                last = now();
            }
        }
    }
    if let Some(rate) = plan.rate {
        let wanted = ((plan.seconds * rate).ceil() as u64).min(plan.count);
        load.outcome.unsent = wanted.saturating_sub(k);
    }
    load.outcome.seconds = (last - start) as f64 / 1e9;
    Ok(load.outcome)
}

impl Load<'_> {
    fn open(&self, place: usize) -> io::Result<Conn> {
        let conn = Conn::open(self.plan.address)?;
        let place = EventData::new_u64(place as u64);
        epoll::add(&self.epoll, &conn.stream, place, EventFlags::IN)?;
        Ok(conn)
    }

    /// On the connection that is free for longest.
    fn send(&mut self, request: &[u8], due: u64) -> io::Result<()> {
        let Some(place) = self.free.pop_front() else {
            return Ok(());
        };
        match self.conns[place].send(request, due) {
            Ok(()) => Ok(()),
            Err(_) => self.replace(place),
        }
    }

    /// Whether an answer is complete.
    fn read(&mut self, place: usize, buffer: &mut [u8]) -> io::Result<bool> {
        let conn = &mut self.conns[place];
        match conn.read(buffer) {
            Read::More => Ok(false),
            Read::Closed => self.replace(place).map(|()| false),
            Read::Answer(status) => {
                let due = conn.due.take().unwrap_or_default();
                self.outcome.latencies.add(now() - due);
                *self.outcome.answers.entry(status).or_default() += 1;
                self.free.push_back(place);
                Ok(true)
            }
        }
    }

    fn replace(&mut self, place: usize) -> io::Result<()> {
        // Dropped, the old one leaves the epoll by itself.
        let conn = self.open(place)?;
        let old = std::mem::replace(&mut self.conns[place], conn);
        if old.due.is_some() {
            self.outcome.broken += 1;
            self.free.push_back(place);
        }
        Ok(())
    }
}

/// Nanoseconds.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn timespec(nanos: u64) -> Timespec {
    Timespec {
        tv_sec: (nanos / 1_000_000_000) as i64,
        tv_nsec: (nanos % 1_000_000_000) as i64,
    }
}

fn wake_at(timer: &OwnedFd, at: u64) -> io::Result<()> {
    let at = Itimerspec {
        it_interval: timespec(0),
        it_value: timespec(at),
    };
    timerfd_settime(timer, TimerfdTimerFlags::ABSTIME, &at)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::time::Duration;

    use super::*;

    /// Answers one connection; the first answer takes this long.
    fn server(stall: Duration) -> std::net::SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut pause = Some(stall);
            let mut buffer = [0; 4096];
            while stream.read(&mut buffer).is_ok_and(|got| got > 0) {
                std::thread::sleep(pause.take().unwrap_or_default());
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).expect("it is sent");
            }
        });
        address
    }

    fn plan(address: std::net::SocketAddr, rate: Option<f64>) -> Plan {
        Plan {
            address,
            connections: 1,
            rate,
            seconds: f64::INFINITY,
            count: 30,
            head: b"GET / HTTP/1.1\r\nhost: x\r\n".to_vec(),
            tokens: Vec::new(),
            from: 0,
        }
    }

    #[test]
    fn a_stall_is_charged_to_every_request_that_was_due_in_it() {
        let address = server(Duration::from_millis(300));
        let outcome = run(&plan(address, Some(100.0))).expect("it runs");
        assert_eq!(outcome.answers, BTreeMap::from([(200, 30)]));
        assert!(outcome.latencies.at(0.5) > 100_000_000);
    }

    #[test]
    fn without_a_rate_a_stall_is_one_requests_alone() {
        let address = server(Duration::from_millis(300));
        let outcome = run(&plan(address, None)).expect("it runs");
        assert_eq!(outcome.answers, BTreeMap::from([(200, 30)]));
        assert!(outcome.latencies.at(0.5) < 100_000_000);
        assert!(outcome.latencies.at(1.0) >= 300_000_000);
    }
}
