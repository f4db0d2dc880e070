//! Requests. Input: a byte of choices, and what a client sends. However it is cut into reads, the same requests or
//! the same error come out, and nothing is asked for that is there already.

use resp::{Argv, Parser, ParserLimits, ProtocolError, Step};

type Outcome = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

pub fn run(input: &[u8]) {
    let Some((&choice, sent)) = input.split_first() else {
        return;
    };
    let limits = ParserLimits {
        bulk_bytes_max: if choice & 1 == 0 { 512 << 20 } else { 100 },
        authenticated: choice & 2 == 0,
    };
    let whole = requests(sent, sent.len().max(1), 0, &limits);
    for piece in [1, 2, 7, usize::from(choice >> 2) + 1] {
        let cut = requests(sent, piece, usize::from(choice), &limits);
        assert_eq!(whole, cut, "in pieces of {piece}");
    }
}

/// Parses as a connection does: what is complete leaves the front of a buffer, in which other bytes may stand before.
fn requests(sent: &[u8], piece: usize, before: usize, limits: &ParserLimits) -> Outcome {
    let (mut parser, mut buffer, mut found) = (Parser::default(), vec![b'x'; before], Vec::new());
    for chunk in sent.chunks(piece) {
        buffer.extend_from_slice(chunk);
        let mut done = before;
        loop {
            let mut spans = Vec::new();
            let len = match parser.next(&buffer[done..], done, limits, &mut spans) {
                Ok(Step::Command { len }) => {
                    let argv = Argv::new(&buffer, &spans);
                    found.push(argv.iter().map(<[u8]>::to_vec).collect());
                    len
                }
                Ok(Step::Inline { len, argv }) => {
                    found.push(argv.argv().iter().map(<[u8]>::to_vec).collect());
                    len
                }
                Ok(Step::Nothing { len }) => len,
                Ok(Step::Incomplete { wanted }) => {
                    assert!(wanted > buffer.len() - done);
                    assert!(spans.is_empty());
                    break;
                }
                Err(error) => return (found, Some(error)),
            };
            assert!(len > 0 && len <= buffer.len() - done);
            done += len;
        }
        buffer.drain(before..done);
    }
    (found, None)
}
