//! DNS over UDP: asks a server on loopback, and answers as one.

use std::{str::FromStr, time::Duration};

use anyhow::{Context, Result, bail};
use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use tokio::net::UdpSocket;

/// Answers larger than this come by TCP, which nobody here needs.
const MAX_PAYLOAD: u16 = 1232;

/// One line of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub name: String,
    pub ttl: u32,
    pub rtype: String,
    pub content: String,
}

impl Line {
    fn record(&self) -> Result<Record> {
        // Read as they stand: the parser of records would write names in lower case.
        let name = || Name::from_ascii(&self.content);
        let data = match self.rtype.as_str() {
            "CNAME" => RData::CNAME(rdata::CNAME(name()?)),
            "NS" => RData::NS(rdata::NS(name()?)),
            "PTR" => RData::PTR(rdata::PTR(name()?)),
            other => RData::try_from_str(RecordType::from_str(other)?, &self.content)?,
        };
        Ok(Record::from_rdata(Name::from_ascii(&self.name)?, self.ttl, data))
    }
}

/// What a server has to say to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The name is in none of its zones.
    Elsewhere,
    Here {
        answers: Vec<Line>,
        /// Whether the name has anything, be it of other types.
        exists: bool,
        soa: Vec<Line>,
    },
}

/// Answers questions until the task is ended.
pub async fn serve(socket: UdpSocket, find: impl Fn(&str, &str) -> Found) {
    let mut buffer = vec![0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
        // What can't be read gets no answer.
        let Ok(asked) = Message::from_vec(buffer.get(..length).unwrap_or_default()) else { continue };
        if asked.metadata.message_type == MessageType::Query
            && let Ok(bytes) = answer(&asked, &find).and_then(|answer| Ok(answer.to_vec()?))
        {
            let _ = socket.send_to(&bytes, from).await;
        }
    }
}

fn answer(asked: &Message, find: &impl Fn(&str, &str) -> Found) -> Result<Message> {
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&asked.metadata);
    answer.add_queries(asked.queries.iter().cloned());
    if asked.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(MAX_PAYLOAD);
        answer.set_edns(edns);
    }
    let [query] = asked.queries.as_slice() else {
        answer.metadata.response_code = ResponseCode::FormErr;
        return Ok(answer);
    };
    if asked.metadata.op_code != OpCode::Query {
        answer.metadata.response_code = ResponseCode::NotImp;
        return Ok(answer);
    }
    match find(&query.name().to_ascii(), &query.query_type().to_string()) {
        Found::Elsewhere => answer.metadata.response_code = ResponseCode::Refused,
        Found::Here { answers, exists, soa } => {
            answer.metadata.authoritative = true;
            if !exists {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let empty = answers.is_empty();
            for line in answers {
                answer.add_answer(line.record()?);
            }
            for line in soa.iter().filter(|_| empty) {
                answer.add_authority(line.record()?);
            }
        }
    }
    Ok(answer)
}

/// Values of a name and type at a server on loopback, sorted: what `dig +short +norecurse` prints.
///
/// # Errors
/// No answer, or one that says that something went wrong. A name that is not there has no values.
pub async fn query(port: u16, name: &str, rtype: &str) -> Result<Vec<String>> {
    let mut message = Message::query();
    let name = Name::from_ascii(format!("{}.", name.trim_end_matches('.')))?;
    message.add_query(Query::query(name.clone(), RecordType::from_str(rtype)?));
    let bytes = message.to_vec()?;
    for _ in 0..2 {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(("127.0.0.1", port)).await?;
        socket.send(&bytes).await?;
        let mut buffer = vec![0; 4096];
        let Ok(got) = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut buffer)).await else { continue };
        let answer = Message::from_vec(buffer.get(..got?).context("an answer longer than its buffer")?)?;
        if answer.metadata.id != message.metadata.id {
            continue;
        }
        return match answer.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {
                let mut values: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
                values.sort();
                Ok(values)
            }
            code => bail!("{name} {rtype}: the server answers {code}"),
        };
    }
    bail!("{name} {rtype}: no answer from port {port}")
}
