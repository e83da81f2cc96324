//! The last step's figures in Prometheus' text format, over HTTP on an address of this machine.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A request longer than this, or slower, is not answered.
const LONGEST: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(2);

/// A value with its name, what it means, and what it is of.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// Name without the prefix `jmp_`.
    pub name: &'static str,
    /// One sentence.
    pub help: &'static str,
    /// Task, for values that each task has.
    pub task: Option<String>,
    /// The value.
    pub value: f64,
}

/// A server of one page.
#[derive(Debug)]
pub struct Exporter {
    address: SocketAddr,
    page: Arc<Mutex<String>>,
    closing: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Listens at `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// The system's, for example when the port is taken.
    pub fn start(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let (page, closing) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicBool::new(false)));
        let (shown, ends) = (Arc::clone(&page), Arc::clone(&closing));
        let address = listener.local_addr()?;
        let thread = thread::Builder::new().name("prometheus".into()).spawn(move || {
            for stream in listener.incoming() {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                let text = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // A client that goes away is no matter of the run's.
                drop(stream.and_then(|stream| answer(stream, &text)));
            }
        })?;
        Ok(Self { address, page, closing, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces what is shown. Gauges of one name must be neighbours.
    pub fn show(&self, gauges: &[Gauge]) {
        *self.page.lock().unwrap_or_else(PoisonError::into_inner) = text(gauges);
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::Relaxed);
        // The thread waits for a connection; if none can be made it ends with the process.
        if TcpStream::connect_timeout(&self.address, PATIENCE).is_ok()
            && let Some(thread) = self.thread.take()
        {
            drop(thread.join());
        }
    }
}

fn answer(mut stream: TcpStream, page: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < LONGEST {
        match stream.read(&mut buffer)? {
            0 => break,
            n => request.extend(&buffer[..n]),
        }
    }
    let line = request.split(|b| *b == b'\r').next().unwrap_or_default();
    let (status, body) = match line {
        b"GET /metrics HTTP/1.1" | b"GET /metrics HTTP/1.0" => ("200 OK", page),
        _ => ("404 Not Found", "only GET /metrics is answered\n"),
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    )
}

fn text(gauges: &[Gauge]) -> String {
    let mut page = String::new();
    let mut before = "";
    for Gauge { name, help, task, value } in gauges {
        if before != *name {
            let _ = writeln!(page, "# HELP jmp_{name} {help}\n# TYPE jmp_{name} gauge");
            before = name;
        }
        let value = match value {
            v if v.is_nan() => "NaN".to_owned(),
            v if v.is_infinite() => if *v > 0.0 { "+Inf" } else { "-Inf" }.to_owned(),
            v => v.to_string(),
        };
        let _ = match task {
            Some(task) => writeln!(page, "jmp_{name}{{task=\"{}\"}} {value}", escaped(task)),
            None => writeln!(page, "jmp_{name} {value}"),
        };
    }
    page
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn the_last_values_are_served_and_nothing_else() {
        let exporter = Exporter::start("127.0.0.1:0".parse().unwrap()).unwrap();
        let gauge = |name, task: Option<&str>, value| Gauge {
            name,
            help: "Help.",
            task: task.map(Into::into),
            value,
        };
        exporter.show(&[gauge("step", None, 3.0)]);
        exporter.show(&[
            gauge("step", None, 4.0),
            gauge("loss", Some("oc20"), 0.5),
            gauge("loss", Some("ani1x"), f64::NAN),
        ]);
        let answer = get(exporter.address(), "/metrics");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head}");
        assert_eq!(
            body,
            "# HELP jmp_step Help.\n# TYPE jmp_step gauge\njmp_step 4\n# HELP jmp_loss Help.\n# TYPE jmp_loss gauge\n\
             jmp_loss{task=\"oc20\"} 0.5\njmp_loss{task=\"ani1x\"} NaN\n"
        );
        assert!(get(exporter.address(), "/").starts_with("HTTP/1.1 404"));
    }
}
