//! What the world sees of a name: asked at recursive resolvers, those that the operator names or those of the machine.
//!
//! Nothing is kept between two questions but what the resolvers keep themselves. An empty answer is told from one that did not come.
//! Bounded by [`TIMEOUT`] an attempt, [`ATTEMPTS`] a server and [`SERVERS`]; an answer that is cut off is fetched by TCP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use async_trait::async_trait;
use hickory_proto::{
    op::{Edns, Message, MessageType, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use super::names;

const TIMEOUT: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;
/// As in resolv.conf(5).
const SERVERS: usize = 3;
/// What fits through everywhere (DNS flag day 2020).
const PAYLOAD: u16 = 1_232;
/// Where the machine's resolvers stand.
const SYSTEM: &str = "/etc/resolv.conf";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    A,
    Aaaa,
    Ptr,
    Cname,
    Ns,
}

impl Kind {
    fn rtype(self) -> RecordType {
        match self {
            Self::A => RecordType::A,
            Self::Aaaa => RecordType::AAAA,
            Self::Ptr => RecordType::PTR,
            Self::Cname => RecordType::CNAME,
            Self::Ns => RecordType::NS,
        }
    }
}

/// What stands under a name. Both empty: there is nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Names in their one form, addresses as they are written; in order, each once.
    pub values: Vec<String>,
    /// Where CNAMEs led on the way, in their order.
    pub by: Vec<String>,
}

/// No answer came, or one that says that something went wrong there: nothing is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoAnswer(pub String);

/// Whoever can look a name up.
#[async_trait]
pub trait Look: Send + Sync {
    async fn look(&self, name: &str, kind: Kind) -> Result<Seen, NoAnswer>;
}

/// The host's resolvers, asked in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolvers(Vec<SocketAddr>);

impl Resolvers {
    /// Asks these servers; none = those of the machine.
    ///
    /// # Errors
    /// The machine names none that can be read.
    pub fn new(servers: &[SocketAddr]) -> Result<Self, NoAnswer> {
        if !servers.is_empty() {
            return Ok(Self(servers.iter().copied().take(SERVERS).collect()));
        }
        let text = std::fs::read_to_string(SYSTEM)
            .map_err(|error| NoAnswer(format!("can't read {SYSTEM} ({error}): name resolvers in `[dns] resolvers`")))?;
        let found = of_system(&text);
        if found.is_empty() {
            return Err(NoAnswer(format!("{SYSTEM} names no resolver: name some in `[dns] resolvers`")));
        }
        Ok(Self(found))
    }
}

/// `nameserver` lines of a resolv.conf(5). An address with a zone (`fe80::1%eth0`) is passed over.
fn of_system(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let ip = (words.next() == Some("nameserver")).then(|| words.next())??;
        Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, 53))
    });
    servers.take(SERVERS).collect()
}

#[async_trait]
impl Look for Resolvers {
    async fn look(&self, name: &str, kind: Kind) -> Result<Seen, NoAnswer> {
        // By labels: the text form knows no slash, which classless zones have.
        let labels = name.trim_end_matches('.').split('.').map(str::as_bytes);
        let mut owner = Name::from_labels(labels).map_err(|error| NoAnswer(format!("`{name}` is no name: {error}")))?;
        owner.set_fqdn(true);
        let mut why = NoAnswer("there is no resolver to ask".into());
        for server in &self.0 {
            for _ in 0..ATTEMPTS {
                match ask(*server, &owner, kind.rtype()).await {
                    Ok(answer) => match answer.metadata.response_code {
                        ResponseCode::NoError | ResponseCode::NXDomain => return Ok(seen(&answer, kind)),
                        code => {
                            why = NoAnswer(format!("{server} answers {code} for {name} {}", kind.rtype()));
                            // It would say so again.
                            break;
                        }
                    },
                    Err(error) => why = NoAnswer(format!("{server} does not answer for {name}: {error}")),
                }
            }
        }
        Err(why)
    }
}

fn seen(answer: &Message, kind: Kind) -> Seen {
    let mut seen = Seen::default();
    for record in &answer.answers {
        let one = |name: &Name| {
            let labels: Vec<_> = name.iter().map(String::from_utf8_lossy).collect();
            names::canonical(&labels.join("."))
        };
        let value = match (&record.data, kind) {
            (RData::CNAME(name), Kind::Cname) => one(name),
            (RData::CNAME(name), _) => {
                seen.by.push(one(name));
                continue;
            }
            (RData::A(ip), Kind::A) => ip.to_string(),
            (RData::AAAA(ip), Kind::Aaaa) => ip.to_string(),
            (RData::PTR(name), Kind::Ptr) => one(name),
            (RData::NS(name), Kind::Ns) => one(name),
            _ => continue,
        };
        if !seen.values.contains(&value) {
            seen.values.push(value);
        }
    }
    seen
}

/// One question. From a port of its own and with a number of its own, so that nobody who does not see it can answer in its place.
async fn ask(server: SocketAddr, name: &Name, rtype: RecordType) -> io::Result<Message> {
    let mut question = Message::query();
    question.metadata.id = rand::random();
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    question.set_edns(edns);
    let bytes = question.to_vec().map_err(io::Error::other)?;
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer came in time");
    let answer = tokio::time::timeout(TIMEOUT, by_udp(server, &question, &bytes)).await.map_err(|_| late())??;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    tokio::time::timeout(TIMEOUT, by_tcp(server, &question, &bytes)).await.map_err(|_| late())?
}

async fn by_udp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; usize::from(PAYLOAD)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What is no answer to this question is somebody else's, or a forgery.
        if let Some(answer) = answer_to(question, buffer.get(..length).unwrap_or_default()) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[length.to_be_bytes().as_slice(), bytes].concat()).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    answer_to(question, &buffer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it answers something else"))
}

fn answer_to(question: &Message, bytes: &[u8]) -> Option<Message> {
    let answer = Message::from_vec(bytes).ok()?;
    let fits = answer.metadata.message_type == MessageType::Response
        && answer.metadata.id == question.metadata.id
        && answer.queries == question.queries;
    fits.then_some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::{Record, rdata};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    #[test]
    fn resolvers_of_the_machine_are_read_in_their_order() {
        let text = "# a comment\nsearch example.com\nnameserver 192.0.2.53\nnameserver\tfe80::1%eth0\nnameserver 2001:db8::53 \noptions ndots:2\n";
        let servers: Vec<String> = of_system(text).iter().map(SocketAddr::to_string).collect();
        assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:53"]);
        let four = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\nnameserver 192.0.2.4\n";
        assert_eq!(of_system(four).len(), SERVERS);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let mut question = Message::query();
        question.metadata.id = 7;
        question.add_query(Query::query(name("vm.example."), RecordType::A));
        let mut good = question.clone();
        good.metadata.message_type = MessageType::Response;
        assert!(answer_to(&question, &good.to_vec().unwrap()).is_some());
        let mut forged = good.clone();
        forged.metadata.id = 8;
        assert!(answer_to(&question, &forged.to_vec().unwrap()).is_none());
        let mut other = good.clone();
        other.queries = vec![Query::query(name("other.example."), RecordType::A)];
        assert!(answer_to(&question, &other.to_vec().unwrap()).is_none());
        assert!(answer_to(&question, &question.to_vec().unwrap()).is_none(), "an echo");
        assert!(answer_to(&question, b"\0\x07").is_none());
    }

    #[tokio::test]
    async fn a_silent_server_is_passed_over_and_an_answer_that_is_cut_off_is_fetched_whole() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let answer = |question: &[u8], whole: bool| {
            let mut answer = Message::from_vec(question).unwrap();
            answer.metadata.message_type = MessageType::Response;
            answer.metadata.truncation = !whole;
            if whole {
                let asked = answer.queries[0].name().clone();
                let owner = name("70.part.example.");
                answer.add_answer(Record::from_rdata(asked, 60, RData::CNAME(rdata::CNAME(owner.clone()))));
                for target in ["VM.example.", "vm.example."] {
                    answer.add_answer(Record::from_rdata(owner.clone(), 60, RData::PTR(rdata::PTR(name(target)))));
                }
            }
            answer.to_vec().unwrap()
        };
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
            // Noise first.
            socket.send_to(b"nonsense", from).await.unwrap();
            socket.send_to(&answer(&buffer[..length], false), from).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            let bytes = answer(&question, true);
            stream.write_u16(u16::try_from(bytes.len()).unwrap()).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        });
        let resolvers = Resolvers::new(&[silent.local_addr().unwrap(), address]).unwrap();
        let seen = resolvers.look("70.2.0.192.in-addr.arpa.", Kind::Ptr).await.unwrap();
        assert_eq!(seen, Seen { values: vec!["vm.example.".into()], by: vec!["70.part.example.".into()] });
        let nobody = Resolvers::new(&[silent.local_addr().unwrap()]).unwrap();
        assert!(nobody.look("vm.example.", Kind::A).await.is_err());
    }
}
