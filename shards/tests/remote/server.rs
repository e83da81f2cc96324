//! A web server for a directory that can misbehave: HTTP/1.1 with ranges, one request a connection.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What goes wrong with an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The connection is reset before the answer.
    Reset,
    /// An error status.
    Status(u16),
    /// The connection ends in the middle of the body.
    Truncated,
    /// One byte of the body is wrong.
    Flipped,
    /// The body comes in small pieces with pauses.
    Slow,
    /// Nothing comes at all.
    Silent,
    /// Ranges are ignored.
    NoRanges,
}

/// A request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) range: Option<(u64, u64)>,
}

type Rule = Box<dyn FnMut(&Seen) -> Fault + Send>;

/// Serves until the process ends.
#[derive(Clone)]
pub(crate) struct Server {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    rule: Arc<Mutex<Rule>>,
    busy: Arc<AtomicUsize>,
    busiest: Arc<AtomicUsize>,
}

impl Server {
    pub(crate) fn start(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let rule: Rule = Box::new(|_| Fault::None);
        let server = Self {
            address,
            seen: Arc::default(),
            rule: Arc::new(Mutex::new(rule)),
            busy: Arc::default(),
            busiest: Arc::default(),
        };
        let (dir, serving) = (dir.to_path_buf(), server.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (dir, serving) = (dir.clone(), serving.clone());
                // A client that goes away is none of our business.
                std::thread::spawn(move || {
                    serving
                        .busiest
                        .fetch_max(1 + serving.busy.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                    let done = stream.map(|s| serving.answer(s, &dir));
                    serving.busy.fetch_sub(1, Ordering::SeqCst);
                    done
                });
            }
        });
        server
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// Sets what goes wrong from now on.
    pub(crate) fn misbehave(&self, rule: impl FnMut(&Seen) -> Fault + Send + 'static) {
        *self.rule.lock().unwrap() = Box::new(rule);
    }

    /// The requests since this was last asked.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// Most requests that were answered at the same time.
    pub(crate) fn busiest(&self) -> usize {
        self.busiest.load(Ordering::SeqCst)
    }

    fn answer(&self, mut stream: TcpStream, dir: &Path) -> std::io::Result<()> {
        let head = peek(&stream)?;
        let path = head.split_whitespace().nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
        let range =
            head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(parse));
        let seen = Seen { path, range };
        let fault = (self.rule.lock().unwrap())(&seen);
        self.seen.lock().unwrap().push(seen.clone());
        match fault {
            // The request was only peeked at: closing with unread bytes resets the connection.
            Fault::Reset => return Ok(()),
            Fault::Silent => {
                std::thread::sleep(Duration::from_secs(20));
                return Ok(());
            }
            Fault::Status(code) => {
                stream.read_exact(&mut vec![0; head.len()])?;
                return write!(
                    stream,
                    "HTTP/1.1 {code} Fault\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
            _ => {}
        }
        stream.read_exact(&mut vec![0; head.len()])?;
        let file: PathBuf = dir.join(&seen.path);
        let Ok(content) = fs::read(&file) else {
            return write!(
                stream,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        };
        send(&mut stream, &content, seen.range.filter(|_| fault != Fault::NoRanges), fault)
    }
}

fn parse(range: &str) -> (u64, u64) {
    let (start, end) = range.trim().split_once('-').unwrap();
    (start.parse().unwrap(), end.parse::<u64>().unwrap() + 1)
}

/// The head of a request, which stays unread.
fn peek(stream: &TcpStream) -> std::io::Result<String> {
    let mut bytes = [0; 8192];
    loop {
        let length = stream.peek(&mut bytes)?;
        let head = String::from_utf8_lossy(&bytes[..length]).into_owned();
        if length == 0 || length == bytes.len() || head.ends_with("\r\n\r\n") {
            return Ok(head);
        }
        std::thread::yield_now();
    }
}

fn send(
    stream: &mut TcpStream,
    content: &[u8],
    range: Option<(u64, u64)>,
    fault: Fault,
) -> std::io::Result<()> {
    let size = content.len() as u64;
    let mut body = match range {
        Some((start, _)) if start >= size => {
            return write!(
                stream,
                "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        }
        Some((start, end)) => content[start as usize..end.min(size) as usize].to_vec(),
        None => content.to_vec(),
    };
    let length = body.len();
    match range {
        Some((start, _)) => write!(
            stream,
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {start}-{}/{size}\r\n",
            start + length as u64 - 1
        )?,
        None => write!(stream, "HTTP/1.1 200 OK\r\n")?,
    }
    write!(stream, "Content-Length: {length}\r\nConnection: close\r\n\r\n")?;
    match fault {
        Fault::Truncated => stream.write_all(&body[..length / 2]),
        Fault::Flipped => {
            body[length / 2] ^= 0x10;
            stream.write_all(&body)
        }
        Fault::Slow => {
            for piece in body.chunks(length.div_ceil(10).max(1)) {
                std::thread::sleep(Duration::from_millis(2));
                stream.write_all(piece)?;
            }
            Ok(())
        }
        _ => stream.write_all(&body),
    }
}
