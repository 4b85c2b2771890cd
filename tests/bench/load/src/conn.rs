//! One connection with at most one request on it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// A connection, and what has come of the answer that it waits for.
pub(crate) struct Conn {
    pub(crate) stream: TcpStream,
    /// When the request on it was due; `None`: there is none. Nanoseconds.
    pub(crate) due: Option<u64>,
    head: Vec<u8>,
    /// The status, and how much of the body is still to come.
    body: Option<(u16, usize)>,
}

/// What a read came to.
pub(crate) enum Read {
    /// The answer is not complete yet.
    More,
    /// It is.
    Answer(u16),
    /// The connection is of no use any more.
    Closed,
}

impl Conn {
    pub(crate) fn open(address: SocketAddr) -> io::Result<Conn> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Conn {
            stream,
            due: None,
            head: Vec::new(),
            body: None,
        })
    }

    /// Sends a request; they are small enough for the socket's buffer.
    pub(crate) fn send(&mut self, request: &[u8], due: u64) -> io::Result<()> {
        self.due = Some(due);
        match self.stream.write(request)? {
            sent if sent == request.len() => Ok(()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Read {
        let got = match self.stream.read(buffer) {
            Ok(0) => return Read::Closed,
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Read::More,
            Err(_) => return Read::Closed,
        };
        // Nobody asked for it.
        if self.due.is_none() {
            return Read::Closed;
        }
        let (status, left) = match self.body {
            Some((status, left)) => (status, left.checked_sub(got)),
            None => {
                self.head.extend_from_slice(&buffer[..got]);
                let Some(end) = self.head.windows(4).position(|four| four == b"\r\n\r\n") else {
                    return Read::More;
                };
                let Some((status, length)) = status_and_length(&self.head[..end]) else {
                    return Read::Closed;
                };
                let left = length.checked_sub(self.head.len() - end - 4);
                self.head.clear();
                (status, left)
            }
        };
        match left {
            None => Read::Closed,
            Some(0) => {
                self.body = None;
                Read::Answer(status)
            }
            Some(left) => {
                self.body = Some((status, left));
                Read::More
            }
        }
    }
}

/// Answers without a length are none: no server here gives them.
fn status_and_length(head: &[u8]) -> Option<(u16, usize)> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.eq_ignore_ascii_case("content-length")).then(|| value.trim().parse().ok())?
    })?;
    Some((status, length))
}
